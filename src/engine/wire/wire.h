/*
 * Requests and results as flat bytes, for an engine that runs in another process.
 *
 *   message: magic, version, kind (8 bytes) | bytes of all of it (8) | number of the request (8) | fields in order
 *
 * Numbers are little-endian; a text is its length (8 bytes), its bytes and a NUL.  What a request points to goes by name: the reader opens
 * its own model and adapter and compiles its own constraint; request.adapter, request.constraint and the tags are not sent.
 *
 * A reader takes nothing on trust, as the bytes may lie in memory that others write: it copies them, checks the copy, and what it gives
 * points into that.
 *
 * A field that is added to slm_request or slm_result belongs in wire.c too, and changes the version.
 */
#ifndef SLM_WIRE_WIRE_H
#define SLM_WIRE_WIRE_H

#include "engine/slm.h"

#define SLM_WIRE_VERSION 5

/* What a request points to or needs around it, in words that both sides know. */
typedef struct slm_wire_names {
    const char *model;      /* key of its image */
    const char *adapter;    /* key of its image; NULL: none */
    const char *constraint; /* what it is compiled from; NULL: none */
    slm_kv_type kv_type;    /* of the session that it is for */
} slm_wire_names;

/* Bytes of the message; it is written to `to` when that has so much room (else nothing is). */
size_t slm_wire_pack_request(uint64_t number, const slm_wire_names *names, const slm_request *request, void *to, size_t room);
size_t slm_wire_pack_result(uint64_t number, const slm_result *result, void *to, size_t room);

typedef struct slm_wire_request {
    uint64_t number;
    slm_wire_names names;
    slm_request request;
    void *memory; /* that all of it points to */
    void *arrays;
} slm_wire_request;

typedef struct slm_wire_result {
    uint64_t number;
    slm_result result; /* id 0, tag NULL */
    void *memory;
    void *arrays;
} slm_wire_result;

/* FORMAT: it is no message of this version and kind, or one that breaks its own rules; NOMEM.  Free with slm_wire_..._free. Whether the
 * engine takes the request, slm_submit decides. */
slm_status slm_wire_read_request(const void *bytes, size_t n, slm_wire_request *out, slm_error *err);
void slm_wire_request_free(slm_wire_request *request);
slm_status slm_wire_read_result(const void *bytes, size_t n, slm_wire_result *out, slm_error *err);
void slm_wire_result_free(slm_wire_result *result);

#endif
