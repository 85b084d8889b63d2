/*
 * The 16-lane operations on NEON with its dot products (ARMv8.2 and the ASIMDDP feature): four registers each, lanes 0-3 to 12-15.
 * Meaning: ref/lanes.h.
 *
 * sdot multiplies signed bytes with signed bytes: levels up to 63 are the same signed or unsigned, 8-bit levels are kept signed.
 */
#ifndef SLM_KERNELS_NEON_LANES_H
#define SLM_KERNELS_NEON_LANES_H

#include <arm_neon.h>
#include <math.h>
#include <string.h>

#include "engine/base/math.h"

#define SLM_NAME(op) slm_##op##_neon
#define LANES_ISA neon
#define LANES_SIGNED_WIDE 1
#define LANES_TILE_ROWS 4
#define LANES_TILE_ROWS_HALVES 4
#define LANES_TILE_PANELS 1
#define LANES_DOT_STEP 1
#define LANES_SCORE_BLOCKS 1
#define LANES_VALUE_LANES 1
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

typedef struct { float32x4_t q[4]; } vf;
typedef struct { int32x4_t q[4]; } vi;
typedef struct { uint8x16_t q[4]; } vb;
typedef struct { float64x2_t q[4]; } vd;

/* Returns a value whose register i is the expression. */
#define EACH(type, expression) \
    type r_; \
    UNROLL \
    for (int i = 0; i < 4; i++) \
        r_.q[i] = (expression); \
    return r_

INLINE vf vf_load(const float *p) { EACH(vf, vld1q_f32(p + 4 * i)); }
INLINE void vf_store(float *p, vf a)
{
    for (int i = 0; i < 4; i++)
        vst1q_f32(p + 4 * i, a.q[i]);
}
INLINE vf vf_load_part(const float *p, uint32_t n)
{
    float whole[16] = {0};
    memcpy(whole, p, n * sizeof *p);
    return vf_load(whole);
}
INLINE void vf_store_part(float *p, vf a, uint32_t n)
{
    float whole[16];
    vf_store(whole, a);
    memcpy(p, whole, n * sizeof *p);
}
INLINE vf vf_load_f16(const uint16_t *p) { EACH(vf, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i)))); }
INLINE vf vf_load_f16_part(const uint16_t *p, uint32_t n)
{
    uint16_t whole[16] = {0};
    memcpy(whole, p, n * sizeof *p);
    return vf_load_f16(whole);
}
INLINE vf vf_load_bf16(const uint16_t *p) { EACH(vf, vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16))); }
INLINE void vf_store_f16_part(uint16_t *p, vf a, uint32_t n)
{
    uint16_t whole[16];
    for (int i = 0; i < 4; i++)
        vst1_u16(whole + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(a.q[i])));
    memcpy(p, whole, n * sizeof *p);
}
INLINE vf vf_set(float x) { EACH(vf, vdupq_n_f32(x)); }

INLINE vf vf_add(vf a, vf b) { EACH(vf, vaddq_f32(a.q[i], b.q[i])); }
INLINE vf vf_sub(vf a, vf b) { EACH(vf, vsubq_f32(a.q[i], b.q[i])); }
INLINE vf vf_mul(vf a, vf b) { EACH(vf, vmulq_f32(a.q[i], b.q[i])); }
INLINE vf vf_div(vf a, vf b) { EACH(vf, vdivq_f32(a.q[i], b.q[i])); }
INLINE vf vf_max(vf a, vf b) { EACH(vf, vbslq_f32(vcgtq_f32(a.q[i], b.q[i]), a.q[i], b.q[i])); }
INLINE vf vf_min(vf a, vf b) { EACH(vf, vbslq_f32(vcltq_f32(a.q[i], b.q[i]), a.q[i], b.q[i])); }
INLINE vf vf_abs(vf a) { EACH(vf, vabsq_f32(a.q[i])); }
INLINE vf vf_neg(vf a) { EACH(vf, vnegq_f32(a.q[i])); }
INLINE vf vf_fma(vf a, vf b, vf c) { EACH(vf, vfmaq_f32(c.q[i], a.q[i], b.q[i])); }
INLINE vf vf_if_less(vf a, vf b, vf yes, vf no) { EACH(vf, vbslq_f32(vcltq_f32(a.q[i], b.q[i]), yes.q[i], no.q[i])); }
INLINE uint32x4_t lanes_within(int first, int last, int quarter)
{
    static const int32_t lane[4] = {0, 1, 2, 3};
    int32x4_t n = vaddq_s32(vld1q_s32(lane), vdupq_n_s32(4 * quarter));
    return vandq_u32(vcgeq_s32(n, vdupq_n_s32(first)), vcleq_s32(n, vdupq_n_s32(last)));
}
INLINE vf vf_lanes(vf a, vf b, int first, int last) { EACH(vf, vbslq_f32(lanes_within(first, last, i), a.q[i], b.q[i])); }

INLINE vi vi_set(int32_t x) { EACH(vi, vdupq_n_s32(x)); }
INLINE vi vi_add(vi a, vi b) { EACH(vi, vaddq_s32(a.q[i], b.q[i])); }
INLINE vi vi_sub(vi a, vi b) { EACH(vi, vsubq_s32(a.q[i], b.q[i])); }
INLINE vi vi_or(vi a, vi b) { EACH(vi, vorrq_s32(a.q[i], b.q[i])); }
INLINE vi vi_and(vi a, int32_t b) { EACH(vi, vandq_s32(a.q[i], vdupq_n_s32(b))); }
INLINE vi vi_shl(vi a, int n) { EACH(vi, vshlq_s32(a.q[i], vdupq_n_s32(n))); }
INLINE vi vi_sar(vi a, int n) { return vi_shl(a, -n); }
INLINE vi vi_from_u8(const uint8_t *p)
{
    uint8x16_t bytes = vld1q_u8(p);
    uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_u8(vget_high_u8(bytes));
#define F(x) vreinterpretq_s32_u32(vmovl_u16(x))
    return (vi){{F(vget_low_u16(low)), F(vget_high_u16(low)), F(vget_low_u16(high)), F(vget_high_u16(high))}};
#undef F
}
INLINE vi vi_from_i8(const uint8_t *p)
{
    int8x16_t bytes = vreinterpretq_s8_u8(vld1q_u8(p));
    int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
    return (vi){{vmovl_s16(vget_low_s16(low)), vmovl_s16(vget_high_s16(low)), vmovl_s16(vget_low_s16(high)),
                 vmovl_s16(vget_high_s16(high))}};
}
INLINE vi vi_round(vf a) { EACH(vi, vcvtnq_s32_f32(a.q[i])); }
INLINE vf vi_to_vf(vi a) { EACH(vf, vcvtq_f32_s32(a.q[i])); }
INLINE vf vi_as_vf(vi a) { EACH(vf, vreinterpretq_f32_s32(a.q[i])); }
INLINE int32_t vi_store_sum(int8_t *p, vi a)
{
    int16x8_t low = vcombine_s16(vmovn_s32(a.q[0]), vmovn_s32(a.q[1])), high = vcombine_s16(vmovn_s32(a.q[2]), vmovn_s32(a.q[3]));
    int8x16_t bytes = vcombine_s8(vmovn_s16(low), vmovn_s16(high));
    vst1q_s8(p, bytes);
    return vaddlvq_s8(bytes);
}

INLINE vb vb_load(const void *p) { EACH(vb, vld1q_u8((const uint8_t *) p + 16 * i)); }
INLINE void vb_store(void *p, vb a)
{
    for (int i = 0; i < 4; i++)
        vst1q_u8((uint8_t *) p + 16 * i, a.q[i]);
}
INLINE vb vb_low(vb a) { EACH(vb, vandq_u8(a.q[i], vdupq_n_u8(15))); }
INLINE vb vb_high(vb a) { EACH(vb, vshrq_n_u8(a.q[i], 4)); }
INLINE vb vb_wide(vb a) { EACH(vb, veorq_u8(a.q[i], vdupq_n_u8(0x80))); }
INLINE vb vb_field(vb a, int f) { EACH(vb, vandq_u8(vshlq_u8(a.q[i], vdupq_n_s8((int8_t) (-2 * f))), vdupq_n_u8(3))); }
INLINE vb vb_or_shifted(vb a, vb b, int n) { EACH(vb, vorrq_u8(a.q[i], vshlq_u8(b.q[i], vdupq_n_s8((int8_t) n)))); }
INLINE vb vb_or_plane(vb a, const uint8_t *plane, int value)
{
    static const uint8_t bit[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t bits = vld1q_u8(bit), v = vdupq_n_u8((uint8_t) value);
    EACH(vb, vorrq_u8(a.q[i], vandq_u8(vtstq_u8(vcombine_u8(vdup_n_u8(plane[2 * i]), vdup_n_u8(plane[2 * i + 1])), bits), v)));
}
INLINE vb vb_add(vb a, int b) { EACH(vb, vaddq_u8(a.q[i], vdupq_n_u8((uint8_t) b))); }
INLINE vb vb_lookup(const uint8_t *table, vb a)
{
    uint8x16_t t = vld1q_u8(table);
    EACH(vb, vqtbl1q_u8(t, a.q[i]));
}

INLINE vi vi_dot(vi acc, vb w, const int8_t *a)
{
    int32_t four;
    memcpy(&four, a, sizeof four);
    int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(four));
    EACH(vi, vdotq_s32(acc.q[i], vreinterpretq_s8_u8(w.q[i]), x));
}
INLINE vi vi_dot_pair(vi acc, vb w0, vb w1, const int8_t *a) { return vi_dot(vi_dot(acc, w0, a), w1, a + 4); }
INLINE vi vi_dot_wide(vi acc, vb w, const int8_t *a) { return vi_dot(acc, w, a); }

INLINE void vf_load_pairs(const float *p, vf *even, vf *odd)
{
    for (int i = 0; i < 4; i++) {
        float32x4x2_t pairs = vld2q_f32(p + 8 * i);
        even->q[i] = pairs.val[0];
        odd->q[i] = pairs.val[1];
    }
}
INLINE void vf_store_pairs(float *p, vf even, vf odd)
{
    for (int i = 0; i < 4; i++)
        vst2q_f32(p + 8 * i, (float32x4x2_t){{even.q[i], odd.q[i]}});
}

INLINE float vf_sum(vf a)
{
    float32x4_t b = vaddq_f32(vaddq_f32(a.q[0], a.q[2]), vaddq_f32(a.q[1], a.q[3]));
    float32x2_t c = vadd_f32(vget_low_f32(b), vget_high_f32(b));
    return vget_lane_f32(c, 0) + vget_lane_f32(c, 1);
}
INLINE float vf_largest(vf a)
{
    vf b = {{a.q[2], a.q[3], a.q[0], a.q[1]}};
    b = vf_max(a, b);
    float32x4_t c = vbslq_f32(vcgtq_f32(b.q[0], b.q[1]), b.q[0], b.q[1]);
    float low[4], x, y;
    vst1q_f32(low, c);
    x = low[0] > low[2] ? low[0] : low[2];
    y = low[1] > low[3] ? low[1] : low[3];
    return x > y ? x : y;
}

INLINE vd vd_zero(void) { EACH(vd, vdupq_n_f64(0.0)); }
INLINE vd vd_load(const double *p) { EACH(vd, vld1q_f64(p + 2 * i)); }
INLINE vd vd_load_part(const double *p, size_t n)
{
    double whole[8] = {0};
    memcpy(whole, p, n * sizeof *p);
    return vd_load(whole);
}
INLINE vd vd_from_floats(const float *p) { EACH(vd, vcvt_f64_f32(vld1_f32(p + 2 * i))); }
INLINE vd vd_from_floats_part(const float *p, size_t n)
{
    float whole[8] = {0};
    memcpy(whole, p, n * sizeof *p);
    return vd_from_floats(whole);
}
INLINE vd vd_add(vd a, vd b) { EACH(vd, vaddq_f64(a.q[i], b.q[i])); }
INLINE vd vd_sub(vd a, vd b) { EACH(vd, vsubq_f64(a.q[i], b.q[i])); }
INLINE vd vd_fma(vd a, vd b, vd c) { EACH(vd, vfmaq_f64(c.q[i], a.q[i], b.q[i])); }
INLINE double vd_sum(vd a)
{
    float64x2_t b = vaddq_f64(vaddq_f64(a.q[0], a.q[2]), vaddq_f64(a.q[1], a.q[3]));
    return vgetq_lane_f64(b, 0) + vgetq_lane_f64(b, 1);
}

#endif
