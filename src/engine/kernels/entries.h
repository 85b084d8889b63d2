/*
 * Inside the kernels only: the prototypes of every kernel of one instruction set, by name.
 *
 * generic/ holds each kernel once, written over the 16-lane operations of <isa>/lanes.h; <isa>/ compiles it with that ISA's flags under
 * the name slm_<kernel>_<isa>.  So every ISA performs the same operations in the same order: that is how their bits are equal (D4).
 */
#ifndef SLM_KERNELS_ENTRIES_H
#define SLM_KERNELS_ENTRIES_H

#include "engine/kernels/kernels.h"

#define SLM_ISA_PROTOTYPES(isa)                                                                                                     \
    void slm_quantize_##isa(const float *x, size_t ldx, uint32_t n_rows, uint32_t cols, slm_qblock *out);                          \
    void slm_gemm_##isa(const slm_weight *w, uint32_t panel_begin, uint32_t panel_end, const slm_qblock *a, const float *x,        \
                        size_t ldx, uint32_t n_rows, float *y, size_t ldy, void *scratch);                                         \
    void slm_gemm_float_##isa(const slm_weight *w, uint32_t panel_begin, uint32_t panel_end, const float *x, size_t ldx,           \
                              uint32_t n_rows, float *y, size_t ldy, void *scratch);                                               \
    void slm_unpack_row_##isa(const slm_weight *w, uint32_t row, float *out);                                                      \
    void slm_rms_norm_##isa(const float *x, const float *w, float *y, uint32_t n, float eps);                                      \
    void slm_layer_norm_##isa(const float *x, const float *w, const float *b, float *y, uint32_t n, float eps);                    \
    void slm_add_scaled_##isa(float *y, const float *x, float scale, uint32_t n);                                                  \
    void slm_swiglu_##isa(const float *gate, const float *up, float *y, uint32_t n);                                               \
    void slm_geglu_##isa(const float *gate, const float *up, float *y, uint32_t n);                                                \
    void slm_gelu_erf_##isa(const float *x, float *y, uint32_t n);                                                                 \
    void slm_softcap_##isa(const float *x, float *y, float cap, uint32_t n);                                                       \
    void slm_rope_##isa(float *x, const float *cos, const float *sin, uint32_t n_rot, int interleaved);                            \
    void slm_kv_store_##isa(uint16_t *block, size_t k_offset, size_t v_offset, uint32_t lane, const float *k, const float *v,      \
                            uint32_t head_dim);                                                                                    \
    void slm_attend_##isa(const slm_attend *a);                                                                                    \
    float slm_logsumexp_##isa(const float *x, uint32_t n);                                                                         \
    uint32_t slm_argmax_##isa(const float *x, uint32_t n);                                                                         \
    void slm_softmax_##isa(float *x, uint32_t n);                                                                                   \
    void slm_products_##isa(const float *a, const float *b, size_t n, double sums[3]);                                             \
    void slm_products_double_##isa(const double *a, const double *b, size_t n, double sums[3]);                                    \
    double slm_squares_##isa(const float *a, const float *b, size_t n);                                                            \
    double slm_squares_double_##isa(const double *a, const double *b, size_t n);

SLM_ISA_PROTOTYPES(ref)
SLM_ISA_PROTOTYPES(avx2)
SLM_ISA_PROTOTYPES(avx512)
SLM_ISA_PROTOTYPES(neon)

/* Queries that attend handles together; part of slm_attend_scratch. */
#define SLM_ATTEND_TILE 6
/* gemm works on chunks of at most so many blocks of 32 columns: two unpacked panels of a chunk stay in the first-level cache. */
#define SLM_GEMM_CHUNK 20
/* Bytes of one unpacked block at most: levels 512, scales and minima of both halves. */
#define SLM_GEMM_BLOCK 768
/* Rows of a block: their sums wait in scratch between chunks. A block's panels are unpacked anew, which 128 rows outweigh. */
#define SLM_GEMM_ROWS 128

#endif
