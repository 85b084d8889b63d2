/*
 * Messages of protocol buffers, read in place: tags, varints, spans.
 *
 *   tag = field << 3 | wire:  0 varint · 1 eight bytes · 2 length and bytes · 5 four bytes  (3 and 4, groups, are refused)
 *
 * Every length is compared with the bytes that are left before it is used.  Fields that the caller does not know it passes over.
 */
#ifndef SLM_HF_PROTOBUF_H
#define SLM_HF_PROTOBUF_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

typedef struct slm_proto {
    const char *at, *end;
    const char *file; /* for messages */
} slm_proto;

typedef struct slm_proto_field {
    uint32_t number, wire;
    uint64_t value;   /* of wires 0, 1 and 5 */
    slm_proto inside; /* of wire 2: the bytes, which may be a message */
} slm_proto_field;

/* The next field; number 0 at the end. FORMAT. */
slm_status slm_proto_next(slm_proto *p, slm_proto_field *field, slm_error *err);
/* Values of a field of the right wire; another wire is FORMAT. */
slm_status slm_proto_int(const slm_proto *p, const slm_proto_field *f, int64_t *value, slm_error *err);
slm_status slm_proto_float(const slm_proto *p, const slm_proto_field *f, float *value, slm_error *err);
slm_status slm_proto_span(const slm_proto *p, const slm_proto_field *f, const char **bytes, size_t *n, slm_error *err);

#endif
