/*
 * The header of a frame, and the body of PROGRESS (frame.h).
 */
#include "engine/wire/frame.h"

static void put(uint8_t *to, uint64_t x, int n)
{
    for (int i = 0; i < n; i++)
        to[i] = (uint8_t) (x >> (8 * i));
}

static uint64_t get(const uint8_t *from, int n)
{
    uint64_t x = 0;

    for (int i = n - 1; i >= 0; i--)
        x = x << 8 | from[i];
    return x;
}

void slm_frame_put(const slm_frame *frame, uint8_t to[SLM_FRAME_HEADER])
{
    put(to, frame->n_bytes, 4);
    to[4] = SLM_FRAME_VERSION;
    to[5] = (uint8_t) frame->type;
    to[6] = (uint8_t) frame->class;
    to[7] = 0;
    put(to + 8, frame->number, 8);
}

slm_status slm_frame_get(const uint8_t from[SLM_FRAME_HEADER], slm_frame *out, slm_error *err)
{
    uint64_t bytes = get(from, 4);

    if (from[4] != SLM_FRAME_VERSION)
        return slm_fail(err, SLM_FORMAT, "a frame has version %d, not %d", from[4], SLM_FRAME_VERSION);
    if (from[5] < SLM_FRAME_SUBMIT || from[5] > SLM_FRAME_PROGRESS || from[6] >= SLM_CLASSES || from[7] != 0)
        return slm_fail(err, SLM_FORMAT, "a frame of type %d and class %d is none", from[5], from[6]);
    if (bytes > SLM_FRAME_MOST)
        return slm_fail(err, SLM_FORMAT, "a frame of %llu bytes is too long", (unsigned long long) bytes);
    if (from[6] != 0 && from[5] != SLM_FRAME_SUBMIT)
        return slm_fail(err, SLM_FORMAT, "a frame of type %d has no class", from[5]);
    *out = (slm_frame){.type = (slm_frame_type) from[5], .class = (slm_class) from[6], .n_bytes = (size_t) bytes,
                       .number = get(from + 8, 8)};
    return SLM_OK;
}

void slm_frame_put_usage(const slm_usage *usage, uint8_t to[sizeof(slm_usage)])
{
#define FIGURE(name) put(to + offsetof(slm_usage, name), usage->name, 8);
#include "engine/base/usage.def"
#undef FIGURE
}

void slm_frame_get_usage(const uint8_t from[sizeof(slm_usage)], slm_usage *out)
{
#define FIGURE(name) out->name = get(from + offsetof(slm_usage, name), 8);
#include "engine/base/usage.def"
#undef FIGURE
}
