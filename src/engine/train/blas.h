/*
 * Float matrix products for training: OpenBLAS (or any library with the CBLAS interface), behind this one door.
 *
 * The library is loaded at first use, in the process that trains, so that nothing that the server preloads can start threads (DESIGN D6).
 * Debian's serial variant has no locks: it is called from one thread at a time, the one that called the trainer.  Inference never
 * comes here.
 */
#ifndef SLM_TRAIN_BLAS_H
#define SLM_TRAIN_BLAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

/* Loads the library. UNSUPPORTED with a hint when there is none. */
slm_status slm_blas_load(slm_error *err);
/* c[m, n] (stride ldc) = a . b + beta * c, row-major; a is [m, k], or [k, m] when trans_a; b is [k, n], or [n, k] when trans_b. */
void slm_blas_gemm(bool trans_a, bool trans_b, uint32_t m, uint32_t n, uint32_t k, const float *a, size_t lda, const float *b, size_t ldb,
                   float beta, float *c, size_t ldc);
/* The inverse of a symmetric positive definite a[n, n], in place; false when it is not positive definite (a is then spoilt). */
bool slm_blas_invert(float *a, uint32_t n);

#endif
