/*
 * Products in bfloat16 by vdpbf16ps.
 *
 * A tile is 6 rows by 64 columns: 24 accumulators, four loads of b and six broadcasts of a pair of a for 24 multiplications of 32 pairs.
 * The functions carry their own target: the other files of this folder must run where the CPU lacks the instruction.
 */
#include "engine/kernels/bf16.h"

#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define ROWS 6
#define UNROLL _Pragma("GCC unroll 16")

TARGET static void from_floats(const float *x, uint16_t *out, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = n - i >= 16 ? (__mmask16) 0xFFFF : (__mmask16) ((1u << (n - i)) - 1);
        __m256bh half = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, x + i));
        _mm256_mask_storeu_epi16(out + i, mask, (__m256i) half);
    }
}

TARGET static void pair_rows(const float *in, uint32_t n_cols, uint16_t *out, size_t ld)
{
    uint32_t pairs[32][8];
    for (uint32_t c = 0; c < n_cols; c++) {
        __m256bh half = _mm512_cvtneps_pbh(_mm512_loadu_ps(in + 16 * c));
        memcpy(pairs[c], &half, sizeof pairs[c]);
    }
    for (uint32_t p = 0; p < 8; p++)
        for (uint32_t c = 0; c < n_cols; c++)
            memcpy(out + 2 * (p * ld + c), &pairs[c][p], sizeof pairs[c][p]);
}

INLINE void tile(const uint16_t *a, size_t lda, const uint16_t *b, uint32_t rows, uint32_t k, float *c, size_t ldc, int add)
{
    __m512 acc[ROWS][4];
    UNROLL
    for (uint32_t r = 0; r < rows; r++)
        UNROLL
    for (uint32_t v = 0; v < 4; v++)
        acc[r][v] = add ? _mm512_loadu_ps(c + r * ldc + 16 * v) : _mm512_setzero_ps();
    for (size_t l = 0; l < k; l += 2, b += 128) {
        __m512bh w[4];
        UNROLL
        for (uint32_t v = 0; v < 4; v++)
            w[v] = (__m512bh) _mm512_loadu_si512(b + 32 * v);
        UNROLL
        for (uint32_t r = 0; r < rows; r++) {
            int32_t pair;
            memcpy(&pair, a + r * lda + l, sizeof pair);
            __m512bh x = (__m512bh) _mm512_set1_epi32(pair);
            UNROLL
            for (uint32_t v = 0; v < 4; v++)
                acc[r][v] = _mm512_dpbf16_ps(acc[r][v], w[v], x);
        }
    }
    UNROLL
    for (uint32_t r = 0; r < rows; r++)
        UNROLL
    for (uint32_t v = 0; v < 4; v++)
        _mm512_storeu_ps(c + r * ldc + 16 * v, acc[r][v]);
}

#define CASE(rows)                             \
    case rows:                                 \
        tile(a, lda, b, rows, k, c, ldc, add); \
        break

TARGET static void matmul(const uint16_t *a, size_t lda, const uint16_t *b, uint32_t m, uint32_t k, float *c, size_t ldc, int add)
{
    uint32_t n_tiles = (m + ROWS - 1) / ROWS;
    for (uint32_t i = 0; i < n_tiles; i++) {
        uint32_t rows = m / n_tiles + (i < m % n_tiles);
        switch (rows) {
            CASE(1);
            CASE(2);
            CASE(3);
            CASE(4);
            CASE(5);
            default:
                tile(a, lda, b, ROWS, k, c, ldc, add);
        }
        a += rows * lda;
        c += rows * ldc;
    }
}

extern const slm_bf16 slm_bf16_avx512;
const slm_bf16 slm_bf16_avx512 = {from_floats, pair_rows, matmul};
