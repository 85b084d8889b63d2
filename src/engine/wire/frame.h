/*
 * Frames: what goes over the socket between a client and slm_engine.
 *
 *   bytes of the body (4) | version (1) | type (1) | class (1) | 0 (1) | number of the request (8) | body
 *
 *   client ──► SUBMIT (body: a request, wire.h), CANCEL ───────────────────────────► engine
 *   client ◄── RESULT (body: a result), PIECE (body: the next bytes of a stream) ◄── engine
 *   client ◄── PROGRESS (body: what it has taken so far), now and then while it lasts ◄── engine
 *   client ──► PING ──► engine ──► PONG ──► client
 *
 * Numbers are little-endian.  The number is the client's: unique among those that it has under way on its connection.  A side that reads
 * what is no frame, or not one for it, closes the connection; the other connections notice nothing.
 */
#ifndef SLM_WIRE_FRAME_H
#define SLM_WIRE_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/base/usage.h"

#define SLM_FRAME_VERSION 1
#define SLM_FRAME_HEADER 16
#define SLM_FRAME_MOST ((size_t) 4 << 20) /* bytes of a body */

typedef enum slm_frame_type {
    SLM_FRAME_SUBMIT = 1,
    SLM_FRAME_CANCEL = 2,
    SLM_FRAME_RESULT = 3,
    SLM_FRAME_PIECE = 4,
    SLM_FRAME_PING = 5,
    SLM_FRAME_PONG = 6,
    SLM_FRAME_PROGRESS = 7
} slm_frame_type;

/* Who waits for the answer. */
typedef enum slm_class {
    SLM_CLASS_INTERACTIVE = 0, /* somebody, for this one alone */
    SLM_CLASS_BATCH = 1,       /* a statement with many */
    SLM_CLASS_JOB = 2,         /* nobody now */
    SLM_CLASSES = 3
} slm_class;

typedef struct slm_frame {
    slm_frame_type type;
    slm_class class; /* of SUBMIT; else 0 */
    uint64_t number;
    size_t n_bytes; /* of the body */
} slm_frame;

void slm_frame_put(const slm_frame *frame, uint8_t to[SLM_FRAME_HEADER]);
/* The body of PROGRESS. */
void slm_frame_put_usage(const slm_usage *usage, uint8_t to[sizeof(slm_usage)]);
void slm_frame_get_usage(const uint8_t from[sizeof(slm_usage)], slm_usage *out);
/* FORMAT: it is none. */
slm_status slm_frame_get(const uint8_t from[SLM_FRAME_HEADER], slm_frame *out, slm_error *err);

#endif
