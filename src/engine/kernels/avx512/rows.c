/* Generic kernels over the lanes of AVX-512 with VNNI: norms, activations, softmax and quantization. */
#include "engine/kernels/avx512/lanes.h"
#include "engine/kernels/entries.h"

/* Four blocks at a time: what quantize_block does, each operation on all four.  Halves are compared 8, 4, 2 and 1 lanes apart, the lower
 * first, as vf_largest does. */
#define LANES_QUANTIZE_FOURS quantize_fours

typedef struct four_blocks {
    const float *x[4];
    slm_qblock *out; /* [4] */
} four_blocks;

INLINE __m512 halves_max(__m512 a, __m512 b)
{
    return _mm512_max_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
}

/* The largest |x| of block b in all lanes 4 b to 4 b + 3. */
INLINE __m512 largest_of_four(const four_blocks *f)
{
    __m512 m[4];
    UNROLL
    for (int b = 0; b < 4; b++)
        m[b] = _mm512_max_ps(_mm512_abs_ps(_mm512_loadu_ps(f->x[b])), _mm512_abs_ps(_mm512_loadu_ps(f->x[b] + 16)));
    __m512 ab = halves_max(m[0], m[1]), cd = halves_max(m[2], m[3]);
    __m512 all = _mm512_max_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xDD));
    all = _mm512_max_ps(all, _mm512_permute_ps(all, 0xEE));
    all = _mm512_max_ps(all, _mm512_permute_ps(all, 0xF5));
    return _mm512_permute_ps(all, 0);
}

INLINE __m128i levels_of(const float *x, __m512 scale)
{
    __m512 y = _mm512_min_ps(_mm512_max_ps(_mm512_mul_ps(_mm512_loadu_ps(x), scale), _mm512_set1_ps(-127.0f)), _mm512_set1_ps(127.0f));
    return _mm512_cvtepi32_epi8(vi_round(y));
}

INLINE void quantize_four(const four_blocks *f, __m512 largest)
{
    __m512 scale = _mm512_maskz_div_ps(_mm512_cmp_ps_mask(largest, _mm512_setzero_ps(), _CMP_GT_OQ), _mm512_set1_ps(127.0f), largest);
    __m256i sum[4];
    UNROLL
    for (int b = 0; b < 4; b++) {
        __m512 by = _mm512_permutexvar_ps(_mm512_set1_epi32(4 * b), scale);
        __m256i q = _mm256_set_m128i(levels_of(f->x[b] + 16, by), levels_of(f->x[b], by));
        _mm256_storeu_si256((__m256i *) (void *) f->out[b].q, q);
        sum[b] = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), q);
    }
    __m256i all = _mm256_hadd_epi32(_mm256_hadd_epi32(sum[0], sum[1]), _mm256_hadd_epi32(sum[2], sum[3]));
    __m128i first = _mm256_castsi256_si128(all), both = _mm_add_epi32(first, _mm256_extracti128_si256(all, 1)), zero = _mm_setzero_si128();
    __m512i places = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 8, 4, 0);
    __m128 d = _mm_mul_ps(_mm512_castps512_ps128(_mm512_permutexvar_ps(places, largest)), _mm_set1_ps(1.0f / 127.0f));
    __m128 s = _mm_mul_ps(d, _mm_cvtepi32_ps(both));
    __m128 n0 = _mm_castsi128_ps(_mm_sub_epi32(zero, _mm_slli_epi32(both, 7)));
    __m128 n1 = _mm_castsi128_ps(_mm_sub_epi32(zero, _mm_slli_epi32(first, 7)));
    _MM_TRANSPOSE4_PS(d, s, n0, n1); /* now of each block, as slm_qblock has them */
    _mm_storeu_ps(&f->out[0].d, d);
    _mm_storeu_ps(&f->out[1].d, s);
    _mm_storeu_ps(&f->out[2].d, n0);
    _mm_storeu_ps(&f->out[3].d, n1);
}

typedef struct block_walk {
    const float *x;
    slm_qblock *out;
    size_t ldx;
    uint32_t across, at; /* blocks of a row, the next one */
} block_walk;

INLINE four_blocks next_four(block_walk *w)
{
    four_blocks f = {.out = w->out};
    for (int b = 0; b < 4; b++) {
        f.x[b] = w->x + 32 * (size_t) w->at;
        if (++w->at == w->across) {
            w->at = 0;
            w->x += w->ldx;
        }
    }
    w->out += 4;
    return f;
}

/* The first blocks of rows of `across` blocks, `blocks` of them, a multiple of 4.  The next four are compared while these are divided and
 * rounded: each four is one long chain. */
static void quantize_fours(const float *x, size_t ldx, uint32_t across, uint32_t blocks, slm_qblock *out)
{
    block_walk walk = {x, out, ldx, across, 0};
    four_blocks f = next_four(&walk);
    __m512 largest = largest_of_four(&f);
    for (uint32_t b = 4; b < blocks; b += 4) {
        four_blocks next = next_four(&walk);
        __m512 of_next = largest_of_four(&next);
        quantize_four(&f, largest);
        f = next;
        largest = of_next;
    }
    quantize_four(&f, largest);
}

#include "engine/kernels/generic/rows.inc"
