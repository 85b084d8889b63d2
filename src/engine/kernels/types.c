/*
 * The weight types: their table, and the blocks of GGUF files taken apart into plain numbers (formats.h has the picture).
 *
 * Block layouts are those of the GGUF specification: F16 scales are little-endian; a K super-block is 256 weights in 8 or 16 blocks
 * whose own scales are small integers.  slm_dequantize multiplies in the order that makes each value the correctly rounded product
 * of the exact scale (F16 times integer has no rounding error in F32) and the level.
 */
#include "engine/kernels/formats.h"

#include <string.h>
#include <strings.h>

#include "engine/base/math.h"

static const slm_format formats[SLM_TYPE_COUNT] = {
#define FLOAT_TYPE(name, number, bytes) [number] = {{#name, 1, bytes, true, true, {-1, -1}}, 0, 0, 0, 0, 0, 0},
#define TYPE(name, number, weights, bytes, bits, scales, halves, minimum, levels, offset, made, place0, place1) \
    [number] = {{#name, weights, bytes, false, made, {place0, place1}}, bits, scales, halves, minimum, levels, offset},
#include "engine/kernels/types.def"
#undef FLOAT_TYPE
#undef TYPE
};

const slm_format *slm_format_of(uint32_t type)
{
    return type < SLM_TYPE_COUNT && formats[type].info.name ? &formats[type] : NULL;
}

const slm_type_info *slm_type_get(uint32_t type)
{
    const slm_format *format = slm_format_of(type);
    return format ? &format->info : NULL;
}

int slm_type_by_name(const char *name)
{
    for (int type = 0; type < SLM_TYPE_COUNT; type++)
        if (formats[type].info.name && strcasecmp(name, formats[type].info.name) == 0)
            return type;
    return -1;
}

const char *slm_types_made(void)
{
    static const char names[] =
#define FLOAT_TYPE(name, number, bytes) ", " #name
#define TYPE(name, number, weights, bytes, bits, scales, halves, minimum, levels, offset, made, place0, place1) MADE_##made(name)
#define MADE_0(name)
#define MADE_1(name) ", " #name
#include "engine/kernels/types.def"
        ;
    return names + 2;
}

static uint16_t u16_at(const uint8_t *p)
{
    return (uint16_t) (p[0] | p[1] << 8);
}

/* n levels from n/2 bytes: low nibbles are the first half, high nibbles the second. */
static void nibbles(const uint8_t *q, uint8_t *level, int n)
{
    for (int i = 0; i < n / 2; i++) {
        level[i] = q[i] & 15;
        level[i + n / 2] = q[i] >> 4;
    }
}

static void fifth_bits(const uint8_t *qh, uint8_t *level)
{
    for (int i = 0; i < 32; i++)
        level[i] |= (uint8_t) (((qh[i / 8] >> (i % 8)) & 1) << 4);
}

/* Scales and minima of Q4_K and Q5_K: eight pairs of 6 bits in 12 bytes. */
static void k4_scales(const uint8_t *p, slm_group *out)
{
    for (int b = 0; b < 4; b++) {
        out->sub[b] = p[b] & 63;
        out->sub_min[b] = p[b + 4] & 63;
        out->sub[b + 4] = (int16_t) ((p[b + 8] & 15) | (p[b] >> 6) << 4);
        out->sub_min[b + 4] = (int16_t) ((p[b + 8] >> 4) | (p[b + 4] >> 6) << 4);
    }
}

static void explode_q2_k(const uint8_t *p, slm_group *out)
{
    for (int b = 0; b < 16; b++) {
        out->sub[b] = p[b] & 15;
        out->sub_min[b] = p[b] >> 4;
    }
    for (int k = 0; k < 256; k++)
        out->level[k] = (p[16 + k / 128 * 32 + k % 32] >> (k / 32 % 4 * 2)) & 3;
    out->d = u16_at(p + 80);
    out->m = u16_at(p + 82);
}

static void explode_q3_k(const uint8_t *p, slm_group *out)
{
    const uint8_t *s = p + 96;
    for (int b = 0; b < 16; b++) {
        int low = b < 8 ? s[b] & 15 : s[b - 8] >> 4;
        int high = (s[8 + b % 4] >> (b / 4 * 2)) & 3;
        out->sub[b] = (int16_t) ((low | high << 4) - 32);
    }
    for (int k = 0; k < 256; k++) {
        int low = (p[32 + k / 128 * 32 + k % 32] >> (k / 32 % 4 * 2)) & 3;
        out->level[k] = (uint8_t) (low | ((p[k % 32] >> (k / 32)) & 1) << 2);
    }
    out->d = u16_at(p + 108);
}

static void explode_q4_k(const uint8_t *p, slm_group *out)
{
    out->d = u16_at(p);
    out->m = u16_at(p + 2);
    k4_scales(p + 4, out);
    for (int i = 0; i < 4; i++)
        nibbles(p + 16 + 32 * i, out->level + 64 * i, 64);
}

static void explode_q5_k(const uint8_t *p, slm_group *out)
{
    out->d = u16_at(p);
    out->m = u16_at(p + 2);
    k4_scales(p + 4, out);
    for (int i = 0; i < 4; i++)
        nibbles(p + 48 + 32 * i, out->level + 64 * i, 64);
    for (int k = 0; k < 256; k++)
        out->level[k] |= (uint8_t) (((p[16 + k % 32] >> (k / 32)) & 1) << 4);
}

static void explode_q6_k(const uint8_t *p, slm_group *out)
{
    for (int half = 0; half < 2; half++) {
        nibbles(p + 64 * half, out->level + 128 * half, 128);
        for (int k = 0; k < 128; k++)
            out->level[128 * half + k] |= (uint8_t) (((p[128 + 32 * half + k % 32] >> (k / 32 * 2)) & 3) << 4);
    }
    for (int b = 0; b < 16; b++)
        out->sub[b] = (int8_t) p[192 + b];
    out->d = u16_at(p + 208);
}

static void explode_iq4_xs(const uint8_t *p, slm_group *out)
{
    uint16_t high = u16_at(p + 2);
    out->d = u16_at(p);
    for (int b = 0; b < 8; b++) {
        out->sub[b] = (int16_t) (((p[4 + b / 2] >> (b % 2 * 4) & 15) | (high >> (2 * b) & 3) << 4) - 32);
        nibbles(p + 8 + 16 * b, out->level + 32 * b, 32);
    }
}

/* Five ternary digits a byte, as a fraction of 256 in base 3: the n-th digit is the integer part after n multiplications. */
static void explode_tq1_0(const uint8_t *p, slm_group *out)
{
    static const uint8_t power[5] = {1, 3, 9, 27, 81};
    for (int k = 0; k < 256; k++) {
        uint8_t byte, digit;
        if (k < 160) {
            byte = p[k % 32];
            digit = (uint8_t) (k / 32);
        } else if (k < 240) {
            byte = p[32 + (k - 160) % 16];
            digit = (uint8_t) ((k - 160) / 16);
        } else {
            byte = p[48 + (k - 240) % 4];
            digit = (uint8_t) ((k - 240) / 4);
        }
        out->level[k] = (uint8_t) (((uint8_t) (byte * power[digit]) * 3) >> 8);
    }
    out->d = u16_at(p + 52);
}

static void explode_tq2_0(const uint8_t *p, slm_group *out)
{
    for (int k = 0; k < 256; k++)
        out->level[k] = (p[k / 128 * 32 + k % 32] >> (k / 32 % 4 * 2)) & 3;
    out->d = u16_at(p + 64);
}

void slm_explode(slm_type type, const uint8_t *p, slm_group *out)
{
    out->m = 0;
    for (int b = 0; b < 16; b++)
        out->sub[b] = out->sub_min[b] = 1;
    switch (type) {
    case SLM_TYPE_Q4_0:
    case SLM_TYPE_IQ4_NL:
        out->d = u16_at(p);
        nibbles(p + 2, out->level, 32);
        break;
    case SLM_TYPE_Q4_1:
        out->d = u16_at(p);
        out->m = u16_at(p + 2);
        nibbles(p + 4, out->level, 32);
        break;
    case SLM_TYPE_Q5_0:
        out->d = u16_at(p);
        nibbles(p + 6, out->level, 32);
        fifth_bits(p + 2, out->level);
        break;
    case SLM_TYPE_Q5_1:
        out->d = u16_at(p);
        out->m = u16_at(p + 2);
        nibbles(p + 8, out->level, 32);
        fifth_bits(p + 4, out->level);
        break;
    case SLM_TYPE_Q8_0:
        out->d = u16_at(p);
        for (int k = 0; k < 32; k++)
            out->level[k] = p[2 + k] ^ 0x80;
        break;
    case SLM_TYPE_MXFP4:
        out->d = p[0];
        nibbles(p + 1, out->level, 32);
        break;
    case SLM_TYPE_Q2_K: explode_q2_k(p, out); break;
    case SLM_TYPE_Q3_K: explode_q3_k(p, out); break;
    case SLM_TYPE_Q4_K: explode_q4_k(p, out); break;
    case SLM_TYPE_Q5_K: explode_q5_k(p, out); break;
    case SLM_TYPE_Q6_K: explode_q6_k(p, out); break;
    case SLM_TYPE_IQ4_XS: explode_iq4_xs(p, out); break;
    case SLM_TYPE_TQ1_0: explode_tq1_0(p, out); break;
    case SLM_TYPE_TQ2_0: explode_tq2_0(p, out); break;
    default: memset(out, 0, sizeof *out);
    }
}

static int level_value(const slm_format *format, uint8_t level)
{
    if (format->levels == LUT_NONE)
        return level - format->offset;
    return (format->levels == LUT_IQ4 ? slm_iq4_table : slm_fp4_table)[level] - 128;
}

static void dequantize_group(slm_type type, const slm_format *format, const uint8_t *source, float *out)
{
    slm_group group;
    slm_explode(type, source, &group);
    float d = format->scales == SCALE_E8M0 ? slm_e8m0_half((uint8_t) group.d) : slm_f16_to_f32(group.d);
    float m = slm_f16_to_f32(group.m);
    uint32_t per_scale = format->halves ? 16 : 32;
    if (format->scales != SCALE_F16_MIN)
        m = -m;
    for (uint32_t k = 0; k < format->info.block_weights; k++) {
        float value = d * (float) group.sub[k / per_scale % 16] * (float) level_value(format, group.level[k]);
        out[k] = format->minimum ? value + m * (float) group.sub_min[k / per_scale % 16] : value;
    }
}

void slm_dequantize(slm_type type, const void *source, float *out, size_t n)
{
    const slm_format *format = slm_format_of(type);
    const uint8_t *p = source;
    if (!format)
        return;
    if (format->info.is_float) {
        for (size_t i = 0; i < n; i++, p += format->info.block_bytes) {
            if (type == SLM_TYPE_F32)
                memcpy(out + i, p, sizeof *out);
            else
                out[i] = type == SLM_TYPE_F16 ? slm_f16_to_f32(u16_at(p)) : slm_bf16_to_f32(u16_at(p));
        }
        return;
    }
    for (size_t i = 0; i + format->info.block_weights <= n; i += format->info.block_weights, p += format->info.block_bytes)
        dequantize_group(type, format, p, out + i);
}
