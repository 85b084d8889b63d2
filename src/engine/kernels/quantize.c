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

static int clamp_round(float value, int low, int high)
{
    if (!(value > (float) low))
        return low;
    return value >= (float) high ? high : (int) rintf(value);
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

/* Weighted squared error of x against scale * level + minimum after rounding; fills level. */
static float error_of(const float *x, const float *weight, int n, float scale, float minimum, int top, uint8_t *level)
{
    float inverse = scale > 0 ? 1.0f / scale : 0, error = 0;
    for (int i = 0; i < n; i++) {
        level[i] = (uint8_t) clamp_round((x[i] - minimum) * inverse, 0, top);
        float difference = scale * (float) level[i] + minimum - x[i];
        error += weight[i] * difference * difference;
    }
    return error;
}

/* Scale and minimum (<= 0) of one block of 32 for levels 0..top. */
static void fit_with_minimum(const float *x, int top, float *scale, float *minimum)
{
    uint8_t level[32];
    float weight[32], low = 0, high = x[0], square = 0;
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
    float best = error_of(x, weight, 32, *scale, *minimum, top, level);
    for (int step = 0; step <= 20; step++) {
        float trial = (high - low) / ((float) top - 1.0f + 0.1f * (float) step);
        float w = 0, wl = 0, wll = 0, wx = 0, wxl = 0;
        error_of(x, weight, 32, trial, low, top, level);
        for (int i = 0; i < 32; i++) {
            float l = (float) level[i];
            w += weight[i];
            wl += weight[i] * l;
            wll += weight[i] * l * l;
            wx += weight[i] * x[i];
            wxl += weight[i] * x[i] * l;
        }
        float determinant = w * wll - wl * wl;
        if (!(determinant > 0))
            continue;
        float s = (w * wxl - wx * wl) / determinant, m = (wll * wx - wl * wxl) / determinant;
        if (m > 0) {
            m = 0;
            s = wxl / wll;
        }
        if (!(s > 0))
            continue;
        float error = error_of(x, weight, 32, s, m, top, level);
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
        float inverse = -(32.0f + 0.1f * (float) step) / extreme, xl = 0, ll = 0;
        for (int i = 0; i < 16; i++) {
            float l = (float) clamp_round(x[i] * inverse, -32, 31), w = x[i] * x[i];
            xl += w * x[i] * l;
            ll += w * l * l;
        }
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
