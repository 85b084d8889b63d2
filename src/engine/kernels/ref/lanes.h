/*
 * The 16-lane operations in plain C: the reference that the other instruction sets must equal bit for bit.
 *
 * vf: 16 floats, vd: 8 doubles, vi: 16 int32, vb: 64 bytes (byte 4r + i belongs to lane r).  max and min return the second operand when
 * one is a NaN, as the x86 instructions do.  A dot multiplies the four unsigned bytes of each lane with four signed bytes that all lanes
 * share.
 */
#ifndef SLM_KERNELS_REF_LANES_H
#define SLM_KERNELS_REF_LANES_H

#include <math.h>
#include <string.h>

#include "engine/base/math.h"

#define SLM_NAME(op) slm_##op##_ref
#define LANES_ISA ref
#define LANES_SIGNED_WIDE 0 /* 8-bit levels stay unsigned, offset 128 */
#define LANES_TILE_ROWS 2
#define LANES_TILE_ROWS_HALVES 2
#define LANES_TILE_PANELS 2
#define LANES_DOT_STEP 1
#define LANES_SCORE_BLOCKS 1
#define LANES_VALUE_LANES 1
#define INLINE static
#define UNROLL

typedef struct { float v[16]; } vf;
typedef struct { int32_t v[16]; } vi;
typedef struct { uint8_t v[64]; } vb;
typedef struct { double v[8]; } vd;

#define EACH(i) for (int i = 0; i < 16; i++)
#define VF_MAP(expression) \
    do { \
        vf r_; \
        EACH(i) r_.v[i] = (expression); \
        return r_; \
    } while (0)
#define VI_MAP(expression) \
    do { \
        vi r_; \
        EACH(i) r_.v[i] = (expression); \
        return r_; \
    } while (0)
#define VB_MAP(expression) \
    do { \
        vb r_; \
        for (int i = 0; i < 64; i++) \
            r_.v[i] = (uint8_t) (expression); \
        return r_; \
    } while (0)

static inline float float_bits(int32_t bits) { float f; memcpy(&f, &bits, 4); return f; }
static inline vf vf_load(const float *p) { VF_MAP(p[i]); }
static inline void vf_store(float *p, vf a) { EACH(i) p[i] = a.v[i]; }
static inline vf vf_load_part(const float *p, uint32_t n) { VF_MAP((uint32_t) i < n ? p[i] : 0.0f); }
static inline void vf_store_part(float *p, vf a, uint32_t n) { for (uint32_t i = 0; i < n; i++) p[i] = a.v[i]; }
static inline vf vf_load_f16(const uint16_t *p) { VF_MAP(slm_f16_to_f32(p[i])); }
static inline vf vf_load_f16_part(const uint16_t *p, uint32_t n) { VF_MAP((uint32_t) i < n ? slm_f16_to_f32(p[i]) : 0.0f); }
static inline vf vf_load_bf16(const uint16_t *p) { VF_MAP(slm_bf16_to_f32(p[i])); }
static inline void vf_store_f16_part(uint16_t *p, vf a, uint32_t n) { for (uint32_t i = 0; i < n; i++) p[i] = slm_f32_to_f16(a.v[i]); }
static inline vf vf_set(float x) { VF_MAP(x); }
static inline vf vf_add(vf a, vf b) { VF_MAP(a.v[i] + b.v[i]); }
static inline vf vf_sub(vf a, vf b) { VF_MAP(a.v[i] - b.v[i]); }
static inline vf vf_mul(vf a, vf b) { VF_MAP(a.v[i] * b.v[i]); }
static inline vf vf_div(vf a, vf b) { VF_MAP(a.v[i] / b.v[i]); }
static inline vf vf_fma(vf a, vf b, vf c) { VF_MAP(fmaf(a.v[i], b.v[i], c.v[i])); }
static inline vf vf_max(vf a, vf b) { VF_MAP(a.v[i] > b.v[i] ? a.v[i] : b.v[i]); }
static inline vf vf_min(vf a, vf b) { VF_MAP(a.v[i] < b.v[i] ? a.v[i] : b.v[i]); }
static inline vf vf_abs(vf a) { VF_MAP(fabsf(a.v[i])); }
static inline vf vf_neg(vf a) { VF_MAP(-a.v[i]); }
static inline vf vf_if_less(vf a, vf b, vf yes, vf no) { VF_MAP(a.v[i] < b.v[i] ? yes.v[i] : no.v[i]); }
/* Lanes first..last of a, the other lanes of b. */
static inline vf vf_lanes(vf a, vf b, int first, int last) { VF_MAP(i >= first && i <= last ? a.v[i] : b.v[i]); }

static inline vi vi_set(int32_t x) { VI_MAP(x); }
static inline vi vi_add(vi a, vi b) { VI_MAP((int32_t) ((uint32_t) a.v[i] + (uint32_t) b.v[i])); }
static inline vi vi_sub(vi a, vi b) { VI_MAP((int32_t) ((uint32_t) a.v[i] - (uint32_t) b.v[i])); }
static inline vi vi_and(vi a, int32_t b) { VI_MAP(a.v[i] & b); }
static inline vi vi_or(vi a, vi b) { VI_MAP(a.v[i] | b.v[i]); }
static inline vi vi_shl(vi a, int n) { VI_MAP((int32_t) ((uint32_t) a.v[i] << n)); }
static inline vi vi_sar(vi a, int n) { VI_MAP(a.v[i] >> n); }
static inline vi vi_from_u8(const uint8_t *p) { VI_MAP(p[i]); }
static inline vi vi_from_i8(const uint8_t *p) { VI_MAP((int8_t) p[i]); }
static inline vi vi_round(vf a) { VI_MAP((int32_t) rintf(a.v[i])); }
static inline vf vi_to_vf(vi a) { VF_MAP((float) a.v[i]); }
static inline vf vi_as_vf(vi a) { VF_MAP(float_bits(a.v[i])); }
/* Stores 16 values as int8 and returns their sum. */
static inline int32_t vi_store_sum(int8_t *p, vi a) { int32_t sum = 0; EACH(i) { p[i] = (int8_t) a.v[i]; sum += a.v[i]; } return sum; }

static inline vb vb_load(const void *p) { vb r; memcpy(&r, p, 64); return r; }
static inline void vb_store(void *p, vb a) { memcpy(p, &a, 64); }
static inline vb vb_low(vb a) { VB_MAP(a.v[i] & 15); }
static inline vb vb_high(vb a) { VB_MAP(a.v[i] >> 4); }
static inline vb vb_field(vb a, int f) { VB_MAP(a.v[i] >> (2 * f) & 3); }
static inline vb vb_or_shifted(vb a, vb b, int n) { VB_MAP(a.v[i] | b.v[i] << n); }
/* Ors value into the bytes whose bit in the 64-bit plane is set. */
static inline vb vb_or_plane(vb a, const uint8_t *plane, int value) { VB_MAP(a.v[i] | (plane[i / 8] >> (i % 8) & 1) * value); }
static inline vb vb_add(vb a, int b) { VB_MAP(a.v[i] + b); }
static inline vb vb_lookup(const uint8_t *table, vb a) { VB_MAP(table[a.v[i]]); }

static inline vi vi_dot(vi acc, vb w, const int8_t *a)
{
    EACH(r) acc.v[r] += w.v[4 * r] * a[0] + w.v[4 * r + 1] * a[1] + w.v[4 * r + 2] * a[2] + w.v[4 * r + 3] * a[3];
    return acc;
}
static inline vi vi_dot_pair(vi acc, vb w0, vb w1, const int8_t *a) { return vi_dot(vi_dot(acc, w0, a), w1, a + 4); }
static inline vi vi_dot_wide(vi acc, vb w, const int8_t *a) { return vi_dot(acc, w, a); }
static inline vb vb_wide(vb a) { return a; }

static inline void vf_load_pairs(const float *p, vf *even, vf *odd) { EACH(i) { even->v[i] = p[2 * i]; odd->v[i] = p[2 * i + 1]; } }
static inline void vf_store_pairs(float *p, vf even, vf odd) { EACH(i) { p[2 * i] = even.v[i]; p[2 * i + 1] = odd.v[i]; } }

/* The fixed tree: lanes 8, 4, 2, 1 apart. */
static inline float vf_sum(vf a)
{
    for (int n = 8; n; n /= 2)
        for (int i = 0; i < n; i++)
            a.v[i] += a.v[i + n];
    return a.v[0];
}
static inline float vf_largest(vf a)
{
    for (int n = 8; n; n /= 2)
        for (int i = 0; i < n; i++)
            a.v[i] = a.v[i] > a.v[i + n] ? a.v[i] : a.v[i + n];
    return a.v[0];
}

#define VD_MAP(expression) \
    do { \
        vd r_; \
        for (int i = 0; i < 8; i++) \
            r_.v[i] = (expression); \
        return r_; \
    } while (0)

static inline vd vd_zero(void) { VD_MAP(0.0); }
static inline vd vd_load(const double *p) { VD_MAP(p[i]); }
static inline vd vd_load_part(const double *p, size_t n) { VD_MAP((size_t) i < n ? p[i] : 0.0); }
static inline vd vd_from_floats(const float *p) { VD_MAP((double) p[i]); }
static inline vd vd_from_floats_part(const float *p, size_t n) { VD_MAP((size_t) i < n ? (double) p[i] : 0.0); }
static inline vd vd_add(vd a, vd b) { VD_MAP(a.v[i] + b.v[i]); }
static inline vd vd_sub(vd a, vd b) { VD_MAP(a.v[i] - b.v[i]); }
static inline vd vd_fma(vd a, vd b, vd c) { VD_MAP(fma(a.v[i], b.v[i], c.v[i])); }
/* The fixed tree: lanes 4, 2, 1 apart. */
static inline double vd_sum(vd a)
{
    for (int n = 4; n; n /= 2)
        for (int i = 0; i < n; i++)
            a.v[i] += a.v[i + n];
    return a.v[0];
}

#endif
