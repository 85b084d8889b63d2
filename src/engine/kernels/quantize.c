/*
 * Floats to the blocks of GGUF files: deterministic, by plain float operations.
 *
 * Simple types: the scale maps the largest magnitude (or the range) to the ends of the levels, every weight is rounded to nearest.
 * K types: each block finds scale and minimum by a search over slightly shrunk scales with least squares (weights by |x|), the blocks'
 * scales and minima are then rounded to the super-block's 6 or 8 bit integers, and the levels are chosen for the rounded scales.
 */
#include <math.h>
#include <string.h>

#include "engine/base/math.h"
#include "engine/kernels/formats.h"

static void put_f16(uint8_t *p, float value)
{
    uint16_t h = slm_f32_to_f16(value);
    p[0] = (uint8_t) h;
    p[1] = (uint8_t) (h >> 8);
}

static float f16_of(const uint8_t *p)
{
    return slm_f16_to_f32((uint16_t) (p[0] | p[1] << 8));
}

/* Rounds to nearest even within low..high (a NaN gives low). Adding 1.5 * 2^23 leaves no bits behind the point. */
static inline int clamp_round(float value, int low, int high)
{
    float bottom = (float) low, top = (float) high;
    value = value > bottom ? value : bottom;
    value = value < top ? value : top;
    return (int) ((value + 12582912.0f) - 12582912.0f);
}

static void put_nibbles(const uint8_t *level, uint8_t *q, int n)
{
    for (int i = 0; i < n / 2; i++)
        q[i] = (uint8_t) ((level[i] & 15) | (level[i + n / 2] & 15) << 4);
}

static void put_fifth(const uint8_t *level, uint8_t *qh)
{
    memset(qh, 0, 4);
    for (int i = 0; i < 32; i++)
        qh[i / 8] |= (uint8_t) ((level[i] >> 4 & 1) << (i % 8));
}

/* Q4_0, Q5_0: the value of largest magnitude becomes level 0 (that is, -offset). */
static void quantize_symmetric(const float *x, uint8_t *out, int bits)
{
    uint8_t level[32];
    int offset = 1 << (bits - 1);
    float extreme = 0;
    for (int i = 0; i < 32; i++)
        if (fabsf(x[i]) > fabsf(extreme))
            extreme = x[i];
    float d = extreme / (float) -offset, inverse = d != 0 ? 1.0f / d : 0;
    for (int i = 0; i < 32; i++)
        level[i] = (uint8_t) (clamp_round(x[i] * inverse, -offset, offset - 1) + offset);
    put_f16(out, d);
    if (bits == 5)
        put_fifth(level, out + 2);
    put_nibbles(level, out + (bits == 5 ? 6 : 2), 32);
}

static void quantize_with_minimum(const float *x, uint8_t *out, int bits)
{
    uint8_t level[32];
    int top = (1 << bits) - 1;
    float low = x[0], high = x[0];
    for (int i = 1; i < 32; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    float d = (high - low) / (float) top, inverse = d != 0 ? 1.0f / d : 0;
    for (int i = 0; i < 32; i++)
        level[i] = (uint8_t) clamp_round((x[i] - low) * inverse, 0, top);
    put_f16(out, d);
    put_f16(out + 2, low);
    if (bits == 5)
        put_fifth(level, out + 4);
    put_nibbles(level, out + (bits == 5 ? 8 : 4), 32);
}

/* The rounding errors of a block depend on its scale as if by chance: of a few scales from largest / 127 up, the one whose errors have the
 * smallest sum of squares loses about a quarter less than the first. */
static void quantize_q8_0(const float *x, uint8_t *out)
{
    const float round_to_int = 12582912.0f; /* 1.5 * 2^23: adding and subtracting it rounds to nearest */
    float largest = 0, best = INFINITY, level[32];
    for (int i = 0; i < 32; i++)
        largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    memset(out, 0, 34);
    for (int k = 0; k < 12; k++) {
        float d = slm_f16_to_f32(slm_f32_to_f16(largest / (127.0f - (float) k))), inverse = d > 0 ? 1.0f / d : 0, error = 0;
        for (int i = 0; i < 32; i++) {
            float l = x[i] * inverse;
            l = l > 127.0f ? 127.0f : l < -127.0f ? -127.0f : l;
            level[i] = (l + round_to_int) - round_to_int;
            error += (x[i] - d * level[i]) * (x[i] - d * level[i]);
        }
        if (!(error < best))
            continue;
        best = error;
        put_f16(out, d);
        for (int i = 0; i < 32; i++)
            out[2 + i] = (uint8_t) (int8_t) level[i];
    }
}

/* Sums over a block go by four lanes, which the compiler can keep in one register. */
#define LANES 4

static float lane_sum(const float *lane)
{
    return (lane[0] + lane[2]) + (lane[1] + lane[3]);
}

/* Levels of a block of 32 for a scale and a minimum, as floats. */
static void round_levels(const float *x, float scale, float minimum, int top, float *level)
{
    float inverse = scale > 0 ? 1.0f / scale : 0, highest = (float) top;
    for (int i = 0; i < 32; i++) {
        float value = (x[i] - minimum) * inverse;
        value = value > 0.0f ? value : 0.0f;
        value = value < highest ? value : highest;
        level[i] = (value + 12582912.0f) - 12582912.0f;
    }
}

/* Weighted squared error of x against scale * level + minimum after rounding. */
static float error_of(const float *x, const float *weight, float scale, float minimum, int top)
{
    float level[32], error[LANES] = {0};
    round_levels(x, scale, minimum, top, level);
    for (int i = 0; i < 32; i += LANES)
        for (int l = 0; l < LANES; l++) {
            float difference = scale * level[i + l] + minimum - x[i + l];
            error[l] += weight[i + l] * difference * difference;
        }
    return lane_sum(error);
}

/* Least squares for x = scale * level + minimum with the given levels; minimum is at most 0.  false: no positive scale fits. */
static bool solve(const float *x, const float *weight, const float *level, float *scale, float *minimum)
{
    float w[LANES] = {0}, wl[LANES] = {0}, wll[LANES] = {0}, wx[LANES] = {0}, wxl[LANES] = {0};
    for (int i = 0; i < 32; i += LANES)
        for (int l = 0; l < LANES; l++) {
            float weighted = weight[i + l] * level[i + l];
            w[l] += weight[i + l];
            wl[l] += weighted;
            wll[l] += weighted * level[i + l];
            wx[l] += weight[i + l] * x[i + l];
            wxl[l] += weighted * x[i + l];
        }
    float sw = lane_sum(w), sl = lane_sum(wl), sll = lane_sum(wll), sx = lane_sum(wx), sxl = lane_sum(wxl);
    float determinant = sw * sll - sl * sl;
    if (!(determinant > 0))
        return false;
    *scale = (sw * sxl - sx * sl) / determinant;
    *minimum = (sll * sx - sl * sxl) / determinant;
    if (*minimum > 0) {
        *minimum = 0;
        *scale = sxl / sll;
    }
    return *scale > 0;
}

/* Scale and minimum (<= 0) of one block of 32 for levels 0..top. */
static void fit_with_minimum(const float *x, int top, float *scale, float *minimum)
{
    float weight[32], level[32], low = 0, high = x[0], square = 0;
    for (int i = 0; i < 32; i++) {
        square += x[i] * x[i];
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    float mean = sqrtf(square / 32.0f);
    for (int i = 0; i < 32; i++)
        weight[i] = mean + fabsf(x[i]);
    *minimum = low;
    *scale = 0;
    if (!(high > low))
        return;
    *scale = (high - low) / (float) top;
    float best = error_of(x, weight, *scale, *minimum, top);
    for (int step = 0; step <= 20; step++) {
        float s, m;
        round_levels(x, (high - low) / ((float) top - 1.0f + 0.1f * (float) step), low, top, level);
        if (!solve(x, weight, level, &s, &m))
            continue;
        float error = error_of(x, weight, s, m, top);
        if (error < best) {
            best = error;
            *scale = s;
            *minimum = m;
        }
    }
}

static void put_k4_scales(const uint8_t *sub, const uint8_t *sub_min, uint8_t *p)
{
    for (int b = 0; b < 4; b++) {
        p[b] = (uint8_t) (sub[b] | (sub[b + 4] >> 4) << 6);
        p[b + 4] = (uint8_t) (sub_min[b] | (sub_min[b + 4] >> 4) << 6);
        p[b + 8] = (uint8_t) ((sub[b + 4] & 15) | (sub_min[b + 4] & 15) << 4);
    }
}

/* Q4_K, Q5_K. */
static void quantize_k4(const float *x, uint8_t *out, int bits)
{
    uint8_t level[256], sub[8], sub_min[8];
    float scale[8], minimum[8], largest = 0, lowest = 0;
    int top = (1 << bits) - 1;
    for (int b = 0; b < 8; b++) {
        fit_with_minimum(x + 32 * b, top, &scale[b], &minimum[b]);
        largest = scale[b] > largest ? scale[b] : largest;
        lowest = minimum[b] < lowest ? minimum[b] : lowest;
    }
    put_f16(out, largest / 63.0f);
    put_f16(out + 2, -lowest / 63.0f);
    float d = f16_of(out), m = f16_of(out + 2);
    for (int b = 0; b < 8; b++) {
        sub[b] = (uint8_t) clamp_round(largest > 0 ? scale[b] * (63.0f / largest) : 0, 0, 63);
        sub_min[b] = (uint8_t) clamp_round(lowest < 0 ? minimum[b] * (63.0f / lowest) : 0, 0, 63);
        float s = d * (float) sub[b], inverse = s > 0 ? 1.0f / s : 0, low = m * (float) sub_min[b];
        for (int i = 0; i < 32; i++)
            level[32 * b + i] = (uint8_t) clamp_round((x[32 * b + i] + low) * inverse, 0, top);
    }
    put_k4_scales(sub, sub_min, out + 4);
    if (bits == 5) {
        memset(out + 16, 0, 32);
        for (int k = 0; k < 256; k++)
            out[16 + k % 32] |= (uint8_t) ((level[k] >> 4 & 1) << (k / 32));
    }
    for (int i = 0; i < 4; i++)
        put_nibbles(level + 64 * i, out + (bits == 5 ? 48 : 16) + 32 * i, 64);
}

/* Scale of one block of 16 for levels -32..31, the sign chosen by the value of largest magnitude. */
static float fit_q6(const float *x)
{
    float extreme = 0, best_scale = 0, best = -1;
    for (int i = 0; i < 16; i++)
        if (fabsf(x[i]) > fabsf(extreme))
            extreme = x[i];
    if (!(fabsf(extreme) > 1e-15f))
        return 0;
    for (int step = -9; step <= 9; step++) {
        float inverse = -(32.0f + 0.1f * (float) step) / extreme, lane_xl[LANES] = {0}, lane_ll[LANES] = {0};
        for (int i = 0; i < 16; i += LANES)
            for (int l = 0; l < LANES; l++) {
                float value = x[i + l], weight = value * value, level = value * inverse;
                level = level > -32.0f ? level : -32.0f;
                level = level < 31.0f ? level : 31.0f;
                level = (level + 12582912.0f) - 12582912.0f;
                lane_xl[l] += weight * value * level;
                lane_ll[l] += weight * level * level;
            }
        float xl = lane_sum(lane_xl), ll = lane_sum(lane_ll);
        if (ll > 0 && xl * xl > best * ll) {
            best = xl * xl / ll;
            best_scale = xl / ll;
        }
    }
    return best_scale;
}

static void quantize_q6_k(const float *x, uint8_t *out)
{
    uint8_t level[256];
    float scale[16], extreme = 0;
    for (int b = 0; b < 16; b++) {
        scale[b] = fit_q6(x + 16 * b);
        if (fabsf(scale[b]) > fabsf(extreme))
            extreme = scale[b];
    }
    memset(out, 0, 210);
    float inverse = extreme != 0 ? -128.0f / extreme : 0;
    put_f16(out + 208, extreme / -128.0f);
    float d = f16_of(out + 208);
    for (int b = 0; b < 16; b++) {
        int sub = clamp_round(scale[b] * inverse, -128, 127);
        float s = d * (float) sub, s_inverse = s != 0 ? 1.0f / s : 0;
        out[192 + b] = (uint8_t) (int8_t) sub;
        for (int i = 0; i < 16; i++)
            level[16 * b + i] = (uint8_t) (clamp_round(x[16 * b + i] * s_inverse, -32, 31) + 32);
    }
    for (int half = 0; half < 2; half++) {
        put_nibbles(level + 128 * half, out + 64 * half, 128);
        for (int k = 0; k < 128; k++)
            out[128 + 32 * half + k % 32] |= (uint8_t) ((level[128 * half + k] >> 4) << (k / 32 * 2));
    }
}

static void quantize_block(slm_type type, const float *x, uint8_t *out)
{
    switch (type) {
    case SLM_TYPE_Q4_0: quantize_symmetric(x, out, 4); break;
    case SLM_TYPE_Q4_1: quantize_with_minimum(x, out, 4); break;
    case SLM_TYPE_Q5_0: quantize_symmetric(x, out, 5); break;
    case SLM_TYPE_Q5_1: quantize_with_minimum(x, out, 5); break;
    case SLM_TYPE_Q8_0: quantize_q8_0(x, out); break;
    case SLM_TYPE_Q4_K: quantize_k4(x, out, 4); break;
    case SLM_TYPE_Q5_K: quantize_k4(x, out, 5); break;
    case SLM_TYPE_Q6_K: quantize_q6_k(x, out); break;
    default: break;
    }
}

static void quantize_float(slm_type type, const float *x, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (type == SLM_TYPE_F32) {
            memcpy(out + 4 * i, x + i, 4);
        } else {
            uint16_t h = type == SLM_TYPE_F16 ? slm_f32_to_f16(x[i]) : slm_f32_to_bf16(x[i]);
            memcpy(out + 2 * i, &h, 2);
        }
    }
}

slm_status slm_quantize(slm_type type, const float *x, void *out, size_t n, slm_error *err)
{
    const slm_format *format = slm_format_of(type);
    switch (type) {
    case SLM_TYPE_F32: case SLM_TYPE_F16: case SLM_TYPE_BF16: case SLM_TYPE_Q4_0: case SLM_TYPE_Q4_1: case SLM_TYPE_Q5_0:
    case SLM_TYPE_Q5_1: case SLM_TYPE_Q8_0: case SLM_TYPE_Q4_K: case SLM_TYPE_Q5_K: case SLM_TYPE_Q6_K:
        break;
    default:
        return slm_fail(err, SLM_UNSUPPORTED, "cannot quantize to type %s", format ? format->info.name : "(unknown)");
    }
    if (n % format->info.block_weights)
        return slm_fail(err, SLM_INVALID, "%zu weights are not whole blocks of %u", n, format->info.block_weights);
    if (format->info.is_float) {
        quantize_float(type, x, out, n);
        return SLM_OK;
    }
    uint8_t *p = out;
    for (size_t i = 0; i < n; i += format->info.block_weights, p += format->info.block_bytes)
        quantize_block(type, x + i, p);
    return SLM_OK;
}
