/*
 * Tags and values of protocol buffers.
 */
#include "engine/import/hf/protobuf.h"

#include <string.h>

static slm_status broken(const slm_proto *p, slm_error *err)
{
    return slm_fail(err, SLM_FORMAT, "\"%s\" is damaged: it is no message of protocol buffers", p->file);
}

static slm_status varint(slm_proto *p, uint64_t *value, slm_error *err)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64 && p->at < p->end; shift += 7) {
        unsigned char c = (unsigned char) *p->at++;
        *value |= (uint64_t) (c & 127) << shift;
        if (c < 128)
            return SLM_OK;
    }
    return broken(p, err);
}

static slm_status fixed(slm_proto *p, size_t n, uint64_t *value, slm_error *err)
{
    if ((size_t) (p->end - p->at) < n)
        return broken(p, err);
    *value = 0;
    for (size_t i = 0; i < n; i++)
        *value |= (uint64_t) (unsigned char) p->at[i] << (8 * i);
    p->at += n;
    return SLM_OK;
}

slm_status slm_proto_next(slm_proto *p, slm_proto_field *field, slm_error *err)
{
    uint64_t tag;
    *field = (slm_proto_field){0};
    if (p->at == p->end)
        return SLM_OK;
    SLM_TRY(varint(p, &tag, err));
    if (tag >> 3 == 0 || tag >> 3 >= 1u << 29)
        return broken(p, err);
    field->number = (uint32_t) (tag >> 3);
    field->wire = tag & 7;
    switch (field->wire) {
    case 0: return varint(p, &field->value, err);
    case 1: return fixed(p, 8, &field->value, err);
    case 5: return fixed(p, 4, &field->value, err);
    case 2:
        SLM_TRY(varint(p, &field->value, err));
        if (field->value > (uint64_t) (p->end - p->at))
            return broken(p, err);
        field->inside = (slm_proto){p->at, p->at + field->value, p->file};
        p->at += field->value;
        return SLM_OK;
    default: return broken(p, err);
    }
}

slm_status slm_proto_int(const slm_proto *p, const slm_proto_field *f, int64_t *value, slm_error *err)
{
    if (f->wire != 0)
        return broken(p, err);
    *value = (int64_t) f->value;
    return SLM_OK;
}

slm_status slm_proto_float(const slm_proto *p, const slm_proto_field *f, float *value, slm_error *err)
{
    uint32_t bits = (uint32_t) f->value;
    if (f->wire != 5)
        return broken(p, err);
    memcpy(value, &bits, sizeof *value);
    return SLM_OK;
}

slm_status slm_proto_span(const slm_proto *p, const slm_proto_field *f, const char **bytes, size_t *n, slm_error *err)
{
    if (f->wire != 2)
        return broken(p, err);
    *bytes = f->inside.at;
    *n = (size_t) (f->inside.end - f->inside.at);
    return SLM_OK;
}
