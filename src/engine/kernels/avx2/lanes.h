/*
 * The 16-lane operations on AVX2, FMA and F16C: two registers each, lanes 0-7 and 8-15.  Meaning: ref/lanes.h.
 *
 * vpmaddubsw saturates at 16 bits: two products of levels up to 63 with activations up to 127 fit.  8-bit levels are therefore kept
 * signed, and their magnitude is multiplied with the activation that carries their sign: 2 x 128 x 127 fits as well.
 */
#ifndef SLM_KERNELS_AVX2_LANES_H
#define SLM_KERNELS_AVX2_LANES_H

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "engine/base/math.h"

#define SLM_NAME(op) slm_##op##_avx2
#define LANES_ISA avx2
#define LANES_SIGNED_WIDE 1
#define LANES_TILE_ROWS 4
#define LANES_TILE_ROWS_HALVES 4
#define LANES_TILE_PANELS 1
#define LANES_DOT_STEP 2
#define LANES_SCORE_BLOCKS 1
#define LANES_VALUE_LANES 1
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

typedef struct { __m256 a, b; } vf;
typedef struct { __m256i a, b; } vi;
typedef struct { __m256i a, b; } vb;
typedef struct { __m256d a, b; } vd;

#define BOTH(type, x, y) ((type){(x), (y)})

INLINE __m256i half_mask(int32_t first, int32_t last) /* lanes first..last, of 8, any integers */
{
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(first), lane),
                               _mm256_cmpgt_epi32(_mm256_set1_epi32(last + 1), lane));
}

INLINE vf vf_load(const float *p) { return BOTH(vf, _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)); }
INLINE void vf_store(float *p, vf v) { _mm256_storeu_ps(p, v.a); _mm256_storeu_ps(p + 8, v.b); }
INLINE vf vf_load_part(const float *p, uint32_t n)
{
    return BOTH(vf, _mm256_maskload_ps(p, half_mask(0, (int) n - 1)), _mm256_maskload_ps(p + 8, half_mask(0, (int) n - 9)));
}
INLINE void vf_store_part(float *p, vf v, uint32_t n)
{
    _mm256_maskstore_ps(p, half_mask(0, (int) n - 1), v.a);
    _mm256_maskstore_ps(p + 8, half_mask(0, (int) n - 9), v.b);
}
INLINE vf vf_load_f16(const uint16_t *p)
{
    const __m128i *h = (const __m128i *) (const void *) p;
    return BOTH(vf, _mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1)));
}
INLINE vf vf_load_f16_part(const uint16_t *p, uint32_t n)
{
    uint16_t whole[16] = {0};
    memcpy(whole, p, n * sizeof *p);
    return vf_load_f16(whole);
}
INLINE vf vf_load_bf16(const uint16_t *p)
{
    const __m128i *h = (const __m128i *) (const void *) p;
    return BOTH(vf, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(h)), 16)),
                _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(h + 1)), 16)));
}
INLINE void vf_store_f16_part(uint16_t *p, vf v, uint32_t n)
{
    uint16_t whole[16];
    _mm_storeu_si128((__m128i *) (void *) whole, _mm256_cvtps_ph(v.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    _mm_storeu_si128((__m128i *) (void *) (whole + 8), _mm256_cvtps_ph(v.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    memcpy(p, whole, n * sizeof *p);
}
INLINE vf vf_set(float x) { return BOTH(vf, _mm256_set1_ps(x), _mm256_set1_ps(x)); }
INLINE vf vf_add(vf x, vf y) { return BOTH(vf, _mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)); }
INLINE vf vf_sub(vf x, vf y) { return BOTH(vf, _mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)); }
INLINE vf vf_mul(vf x, vf y) { return BOTH(vf, _mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)); }
INLINE vf vf_div(vf x, vf y) { return BOTH(vf, _mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)); }
INLINE vf vf_fma(vf x, vf y, vf z) { return BOTH(vf, _mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)); }
INLINE vf vf_max(vf x, vf y) { return BOTH(vf, _mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)); }
INLINE vf vf_min(vf x, vf y) { return BOTH(vf, _mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)); }
INLINE vf vf_abs(vf x)
{
    __m256 sign = _mm256_set1_ps(-0.0f);
    return BOTH(vf, _mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b));
}
INLINE vf vf_neg(vf x)
{
    __m256 sign = _mm256_set1_ps(-0.0f);
    return BOTH(vf, _mm256_xor_ps(sign, x.a), _mm256_xor_ps(sign, x.b));
}
INLINE vf vf_if_less(vf x, vf y, vf yes, vf no)
{
    return BOTH(vf, _mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ)),
                _mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ)));
}
INLINE vf vf_lanes(vf x, vf y, int first, int last)
{
    return BOTH(vf, _mm256_blendv_ps(y.a, x.a, _mm256_castsi256_ps(half_mask(first, last))),
                _mm256_blendv_ps(y.b, x.b, _mm256_castsi256_ps(half_mask(first - 8, last - 8))));
}

INLINE vi vi_set(int32_t x) { return BOTH(vi, _mm256_set1_epi32(x), _mm256_set1_epi32(x)); }
INLINE vi vi_add(vi x, vi y) { return BOTH(vi, _mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)); }
INLINE vi vi_sub(vi x, vi y) { return BOTH(vi, _mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)); }
INLINE vi vi_and(vi x, int32_t y)
{
    return BOTH(vi, _mm256_and_si256(x.a, _mm256_set1_epi32(y)), _mm256_and_si256(x.b, _mm256_set1_epi32(y)));
}
INLINE vi vi_or(vi x, vi y) { return BOTH(vi, _mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)); }
INLINE vi vi_shl(vi x, int n) { return BOTH(vi, _mm256_slli_epi32(x.a, n), _mm256_slli_epi32(x.b, n)); }
INLINE vi vi_sar(vi x, int n) { return BOTH(vi, _mm256_srai_epi32(x.a, n), _mm256_srai_epi32(x.b, n)); }
INLINE vi vi_from_u8(const uint8_t *p)
{
    __m128i v = _mm_loadu_si128((const __m128i *) (const void *) p);
    return BOTH(vi, _mm256_cvtepu8_epi32(v), _mm256_cvtepu8_epi32(_mm_srli_si128(v, 8)));
}
INLINE vi vi_from_i8(const uint8_t *p)
{
    __m128i v = _mm_loadu_si128((const __m128i *) (const void *) p);
    return BOTH(vi, _mm256_cvtepi8_epi32(v), _mm256_cvtepi8_epi32(_mm_srli_si128(v, 8)));
}
INLINE vi vi_round(vf x)
{
    return BOTH(vi, _mm256_cvtps_epi32(_mm256_round_ps(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)),
                _mm256_cvtps_epi32(_mm256_round_ps(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)));
}
INLINE vf vi_to_vf(vi x) { return BOTH(vf, _mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)); }
INLINE vf vi_as_vf(vi x) { return BOTH(vf, _mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)); }
INLINE int32_t vi_store_sum(int8_t *p, vi x)
{
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xD8);
    __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128((__m128i *) (void *) p, bytes);
    __m128i sums = _mm_sad_epu8(_mm_xor_si128(bytes, _mm_set1_epi8((char) 0x80)), _mm_setzero_si128());
    return _mm_cvtsi128_si32(_mm_add_epi32(sums, _mm_unpackhi_epi64(sums, sums))) - 16 * 128;
}

INLINE vb vb_load(const void *p)
{
    const __m256i *v = p;
    return BOTH(vb, _mm256_loadu_si256(v), _mm256_loadu_si256(v + 1));
}
INLINE void vb_store(void *p, vb x)
{
    __m256i *v = p;
    _mm256_storeu_si256(v, x.a);
    _mm256_storeu_si256(v + 1, x.b);
}
INLINE vb vb_masked(vb x, int mask)
{
    __m256i m = _mm256_set1_epi8((char) mask);
    return BOTH(vb, _mm256_and_si256(x.a, m), _mm256_and_si256(x.b, m));
}
INLINE vb vb_low(vb x) { return vb_masked(x, 15); }
INLINE vb vb_high(vb x) { return vb_masked(BOTH(vb, _mm256_srli_epi16(x.a, 4), _mm256_srli_epi16(x.b, 4)), 15); }
INLINE vb vb_field(vb x, int f) { return vb_masked(BOTH(vb, _mm256_srli_epi16(x.a, 2 * f), _mm256_srli_epi16(x.b, 2 * f)), 3); }
INLINE vb vb_or_shifted(vb x, vb y, int n)
{
    return BOTH(vb, _mm256_or_si256(x.a, _mm256_slli_epi16(y.a, n)), _mm256_or_si256(x.b, _mm256_slli_epi16(y.b, n)));
}
INLINE __m256i plane_bytes(const uint8_t *plane, int value) /* bit i of 32 to byte i: value or 0 */
{
    int32_t bits;
    memcpy(&bits, plane, sizeof bits);
    __m256i which = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    __m256i one = _mm256_set1_epi64x((int64_t) 0x8040201008040201);
    __m256i bytes = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(bits), which), one);
    return _mm256_and_si256(_mm256_cmpeq_epi8(bytes, one), _mm256_set1_epi8((char) value));
}
INLINE vb vb_or_plane(vb x, const uint8_t *plane, int value)
{
    return BOTH(vb, _mm256_or_si256(x.a, plane_bytes(plane, value)), _mm256_or_si256(x.b, plane_bytes(plane + 4, value)));
}
INLINE vb vb_add(vb x, int y)
{
    __m256i v = _mm256_set1_epi8((char) y);
    return BOTH(vb, _mm256_add_epi8(x.a, v), _mm256_add_epi8(x.b, v));
}
INLINE vb vb_lookup(const uint8_t *table, vb x)
{
    __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *) (const void *) table));
    return BOTH(vb, _mm256_shuffle_epi8(t, x.a), _mm256_shuffle_epi8(t, x.b));
}
INLINE vb vb_wide(vb x)
{
    __m256i top = _mm256_set1_epi8((char) 0x80);
    return BOTH(vb, _mm256_xor_si256(x.a, top), _mm256_xor_si256(x.b, top));
}

INLINE __m256i dot_half(__m256i acc, __m256i w, __m256i a)
{
    return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(w, a), _mm256_set1_epi16(1)));
}
INLINE vi vi_dot(vi acc, vb w, const int8_t *a)
{
    int32_t four;
    memcpy(&four, a, sizeof four);
    __m256i x = _mm256_set1_epi32(four);
    return BOTH(vi, dot_half(acc.a, w.a, x), dot_half(acc.b, w.b, x));
}
/* Two steps of levels up to 63: the sums of four products still fit 16 bits. */
INLINE vi vi_dot_pair(vi acc, vb w0, vb w1, const int8_t *a)
{
    int32_t four[2];
    memcpy(four, a, sizeof four);
    __m256i x0 = _mm256_set1_epi32(four[0]), x1 = _mm256_set1_epi32(four[1]), one = _mm256_set1_epi16(1);
    __m256i low = _mm256_add_epi16(_mm256_maddubs_epi16(w0.a, x0), _mm256_maddubs_epi16(w1.a, x1));
    __m256i high = _mm256_add_epi16(_mm256_maddubs_epi16(w0.b, x0), _mm256_maddubs_epi16(w1.b, x1));
    return BOTH(vi, _mm256_add_epi32(acc.a, _mm256_madd_epi16(low, one)), _mm256_add_epi32(acc.b, _mm256_madd_epi16(high, one)));
}
INLINE vi vi_dot_wide(vi acc, vb w, const int8_t *a)
{
    int32_t four;
    memcpy(&four, a, sizeof four);
    __m256i x = _mm256_set1_epi32(four);
    return BOTH(vi, dot_half(acc.a, _mm256_abs_epi8(w.a), _mm256_sign_epi8(x, w.a)),
                dot_half(acc.b, _mm256_abs_epi8(w.b), _mm256_sign_epi8(x, w.b)));
}

INLINE void split_pairs(__m256 x, __m256 y, __m256 *even, __m256 *odd)
{
    __m256 e = _mm256_shuffle_ps(x, y, 0x88), o = _mm256_shuffle_ps(x, y, 0xDD);
    *even = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(e), 0xD8));
    *odd = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(o), 0xD8));
}
INLINE void vf_load_pairs(const float *p, vf *even, vf *odd)
{
    split_pairs(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8), &even->a, &odd->a);
    split_pairs(_mm256_loadu_ps(p + 16), _mm256_loadu_ps(p + 24), &even->b, &odd->b);
}
INLINE void join_pairs(float *p, __m256 even, __m256 odd)
{
    __m256 low = _mm256_unpacklo_ps(even, odd), high = _mm256_unpackhi_ps(even, odd);
    _mm256_storeu_ps(p, _mm256_permute2f128_ps(low, high, 0x20));
    _mm256_storeu_ps(p + 8, _mm256_permute2f128_ps(low, high, 0x31));
}
INLINE void vf_store_pairs(float *p, vf even, vf odd)
{
    join_pairs(p, even.a, odd.a);
    join_pairs(p + 16, even.b, odd.b);
}

INLINE float vf_sum(vf x)
{
    __m256 b = _mm256_add_ps(x.a, x.b);
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
INLINE float vf_largest(vf x)
{
    __m256 b = _mm256_max_ps(x.a, x.b);
    __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_max_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}

INLINE vd vd_zero(void) { return BOTH(vd, _mm256_setzero_pd(), _mm256_setzero_pd()); }
INLINE vd vd_load(const double *p) { return BOTH(vd, _mm256_loadu_pd(p), _mm256_loadu_pd(p + 4)); }
INLINE vd vd_load_part(const double *p, size_t n)
{
    double whole[8] = {0};
    memcpy(whole, p, n * sizeof *p);
    return vd_load(whole);
}
INLINE vd vd_from_floats(const float *p) { return BOTH(vd, _mm256_cvtps_pd(_mm_loadu_ps(p)), _mm256_cvtps_pd(_mm_loadu_ps(p + 4))); }
INLINE vd vd_from_floats_part(const float *p, size_t n)
{
    float whole[8] = {0};
    memcpy(whole, p, n * sizeof *p);
    return vd_from_floats(whole);
}
INLINE vd vd_add(vd x, vd y) { return BOTH(vd, _mm256_add_pd(x.a, y.a), _mm256_add_pd(x.b, y.b)); }
INLINE vd vd_sub(vd x, vd y) { return BOTH(vd, _mm256_sub_pd(x.a, y.a), _mm256_sub_pd(x.b, y.b)); }
INLINE vd vd_fma(vd x, vd y, vd z) { return BOTH(vd, _mm256_fmadd_pd(x.a, y.a, z.a), _mm256_fmadd_pd(x.b, y.b, z.b)); }
INLINE double vd_sum(vd x)
{
    __m256d b = _mm256_add_pd(x.a, x.b);
    __m128d c = _mm_add_pd(_mm256_castpd256_pd128(b), _mm256_extractf128_pd(b, 1));
    return _mm_cvtsd_f64(_mm_add_sd(c, _mm_unpackhi_pd(c, c)));
}

#endif
