/*
 * Products in bfloat16 with sums in float, where the CPU has an instruction for them (AVX512-BF16): for gradients, which need no more.
 *
 * No entry of the tables of kernels: its bits are those of the instruction, and no answer of a model depends on them, only what a training
 * finds.  They do not depend on the cut of the work or the number of threads.
 */
#ifndef SLM_KERNELS_BF16_H
#define SLM_KERNELS_BF16_H

#include <stddef.h>
#include <stdint.h>

typedef struct slm_bf16 {
    /* n floats to bfloat16, round to nearest even. */
    void (*from_floats)(const float *x, uint16_t *out, size_t n);
    /* A block as slm_kernels.unpack_block leaves it, in[n_cols][16 rows], to pairs of rows: out[pair][ld][2], 8 pairs, columns
     * 0..n_cols - 1. */
    void (*pair_rows)(const float *in, uint32_t n_cols, uint16_t *out, size_t ld);
    /* c[i, j] = sum over l < k of a[i * lda + l] * b[l / 2][j][l % 2], for i < m and j < 64; b: [k / 2, 64, 2], k even.  Starts at c where
     * add is set, else at zero. */
    void (*matmul)(const uint16_t *a, size_t lda, const uint16_t *b, uint32_t m, uint32_t k, float *c, size_t ldc, int add);
} slm_bf16;

/* NULL: this machine has none, or a smaller instruction set than avx512 is in use. */
const slm_bf16 *slm_bf16_get(void);

#endif
