/*
 * The 16-lane operations on AVX-512 (F, BW, VL, DQ, VNNI): one register each.  Meaning: ref/lanes.h.
 *
 * Everything is static inline: no copy of a function compiled with these flags can be picked by the linker for other machines.
 */
#ifndef SLM_KERNELS_AVX512_LANES_H
#define SLM_KERNELS_AVX512_LANES_H

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "engine/base/math.h"

#define SLM_NAME(op) slm_##op##_avx512
#define LANES_ISA avx512
#define LANES_SIGNED_WIDE 0
#define LANES_TILE_ROWS 6
#define LANES_TILE_ROWS_HALVES 4 /* the first halves' sums need registers too */
#define LANES_TILE_PANELS 2
#define LANES_DOT_STEP 1
#define LANES_SCORE_BLOCKS 4
#define LANES_VALUE_LANES 4
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

typedef __m512 vf;
typedef __m512i vi;
typedef __m512i vb;
typedef __m512d vd;

INLINE __mmask16 lanes_below(uint32_t n) { return (__mmask16) ((1u << n) - 1); }

INLINE vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void vf_store(float *p, vf a) { _mm512_storeu_ps(p, a); }
INLINE vf vf_load_part(const float *p, uint32_t n) { return _mm512_maskz_loadu_ps(lanes_below(n), p); }
INLINE void vf_store_part(float *p, vf a, uint32_t n) { _mm512_mask_storeu_ps(p, lanes_below(n), a); }
INLINE vf vf_load_f16(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) (const void *) p)); }
INLINE vf vf_load_f16_part(const uint16_t *p, uint32_t n) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes_below(n), p)); }
INLINE vf vf_load_bf16(const uint16_t *p)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *) (const void *) p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
INLINE void vf_store_f16_part(uint16_t *p, vf a, uint32_t n)
{
    __m256i half = _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    if (n == 16) /* what a masked store wrote cannot be read back before it has retired */
        _mm256_storeu_si256((__m256i *) (void *) p, half);
    else
        _mm256_mask_storeu_epi16(p, lanes_below(n), half);
}
INLINE vf vf_set(float x) { return _mm512_set1_ps(x); }
INLINE vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
INLINE vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
INLINE vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
INLINE vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
INLINE vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
INLINE vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
INLINE vf vf_abs(vf a) { return _mm512_abs_ps(a); }
INLINE vf vf_neg(vf a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f)); }
INLINE vf vf_if_less(vf a, vf b, vf yes, vf no) { return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes); }
INLINE vf vf_lanes(vf a, vf b, int first, int last)
{
    return _mm512_mask_blend_ps((__mmask16) ((2u << last) - (1u << first)), b, a);
}

INLINE vi vi_set(int32_t x) { return _mm512_set1_epi32(x); }
INLINE vi vi_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
INLINE vi vi_sub(vi a, vi b) { return _mm512_sub_epi32(a, b); }
INLINE vi vi_and(vi a, int32_t b) { return _mm512_and_si512(a, _mm512_set1_epi32(b)); }
INLINE vi vi_or(vi a, vi b) { return _mm512_or_si512(a, b); }
INLINE vi vi_shl(vi a, int n) { return _mm512_slli_epi32(a, (unsigned) n); }
INLINE vi vi_sar(vi a, int n) { return _mm512_srai_epi32(a, (unsigned) n); }
INLINE vi vi_from_u8(const uint8_t *p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *) (const void *) p)); }
INLINE vi vi_from_i8(const uint8_t *p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *) (const void *) p)); }
INLINE vi vi_round(vf a) { return _mm512_cvt_roundps_epi32(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE vf vi_to_vf(vi a) { return _mm512_cvtepi32_ps(a); }
INLINE vf vi_as_vf(vi a) { return _mm512_castsi512_ps(a); }
INLINE int32_t vi_store_sum(int8_t *p, vi a)
{
    __m128i bytes = _mm512_cvtepi32_epi8(a);
    _mm_storeu_si128((__m128i *) (void *) p, bytes);
    __m128i sums = _mm_sad_epu8(_mm_xor_si128(bytes, _mm_set1_epi8((char) 0x80)), _mm_setzero_si128());
    return _mm_cvtsi128_si32(_mm_add_epi32(sums, _mm_unpackhi_epi64(sums, sums))) - 16 * 128;
}

INLINE vb vb_load(const void *p) { return _mm512_loadu_si512(p); }
INLINE void vb_store(void *p, vb a) { _mm512_storeu_si512(p, a); }
INLINE vb vb_low(vb a) { return _mm512_and_si512(a, _mm512_set1_epi8(15)); }
INLINE vb vb_high(vb a) { return _mm512_and_si512(_mm512_srli_epi16(a, 4), _mm512_set1_epi8(15)); }
INLINE vb vb_field(vb a, int f) { return _mm512_and_si512(_mm512_srli_epi16(a, (unsigned) (2 * f)), _mm512_set1_epi8(3)); }
INLINE vb vb_or_shifted(vb a, vb b, int n) { return _mm512_or_si512(a, _mm512_slli_epi16(b, (unsigned) n)); }
INLINE vb vb_or_plane(vb a, const uint8_t *plane, int value)
{
    uint64_t bits;
    memcpy(&bits, plane, sizeof bits);
    return _mm512_mask_add_epi8(a, _cvtu64_mask64(bits), a, _mm512_set1_epi8((char) value));
}
INLINE vb vb_add(vb a, int b) { return _mm512_add_epi8(a, _mm512_set1_epi8((char) b)); }
INLINE vb vb_lookup(const uint8_t *table, vb a)
{
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *) (const void *) table)), a);
}
INLINE vb vb_wide(vb a) { return a; }

INLINE vi vi_dot(vi acc, vb w, const int8_t *a)
{
    int32_t four;
    memcpy(&four, a, sizeof four);
    return _mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(four));
}
INLINE vi vi_dot_pair(vi acc, vb w0, vb w1, const int8_t *a) { return vi_dot(vi_dot(acc, w0, a), w1, a + 4); }
INLINE vi vi_dot_wide(vi acc, vb w, const int8_t *a) { return vi_dot(acc, w, a); }

INLINE void vf_load_pairs(const float *p, vf *even, vf *odd)
{
    __m512i index = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    vf a = vf_load(p), b = vf_load(p + 16);
    *even = _mm512_permutex2var_ps(a, index, b);
    *odd = _mm512_permutex2var_ps(a, _mm512_add_epi32(index, _mm512_set1_epi32(1)), b);
}
INLINE void vf_store_pairs(float *p, vf even, vf odd)
{
    __m512i index = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    vf_store(p, _mm512_permutex2var_ps(even, index, odd));
    vf_store(p + 16, _mm512_permutex2var_ps(even, _mm512_add_epi32(index, _mm512_set1_epi32(8)), odd));
}

INLINE float vf_sum(vf a)
{
    __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
INLINE float vf_largest(vf a)
{
    __m256 b = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_max_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}

INLINE vd vd_zero(void) { return _mm512_setzero_pd(); }
INLINE vd vd_load(const double *p) { return _mm512_loadu_pd(p); }
INLINE vd vd_load_part(const double *p, size_t n) { return _mm512_maskz_loadu_pd((__mmask8) ((1u << n) - 1), p); }
INLINE vd vd_from_floats(const float *p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
INLINE vd vd_from_floats_part(const float *p, size_t n)
{
    return _mm512_cvtps_pd(_mm256_maskz_loadu_ps((__mmask8) ((1u << n) - 1), p));
}
INLINE vd vd_add(vd a, vd b) { return _mm512_add_pd(a, b); }
INLINE vd vd_sub(vd a, vd b) { return _mm512_sub_pd(a, b); }
INLINE vd vd_fma(vd a, vd b, vd c) { return _mm512_fmadd_pd(a, b, c); }
INLINE double vd_sum(vd a)
{
    __m256d b = _mm256_add_pd(_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd(a, 1));
    __m128d c = _mm_add_pd(_mm256_castpd256_pd128(b), _mm256_extractf128_pd(b, 1));
    return _mm_cvtsd_f64(_mm_add_sd(c, _mm_unpackhi_pd(c, c)));
}

#endif
