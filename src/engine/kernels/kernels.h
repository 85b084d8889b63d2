/*
 * The table of kernels: what the forward pass calls.
 *
 * dispatch.c fills it with ref/ and overlays what the CPU and the operating system support (DESIGN D5).  Every entry gives the
 * same bits on every ISA, for any split of the work over threads, calls and batch rows (D4): int32 block dots are exact, floats are
 * accumulated per output lane in block order by fused multiply-add, reductions over a row use 16 virtual lanes (element i goes to lane
 * i % 16, in order) and then the fixed tree (8, 4, 2, 1 apart).  kernels.def lists the entries.
 *
 * All float rows are 64-byte aligned where a buffer is the caller's own; row strides are in elements.
 */
#ifndef SLM_KERNELS_KERNELS_H
#define SLM_KERNELS_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/kernels/types.h"

/* 32 activations of one row as int8, with what the weight types need beside them. */
typedef struct slm_qblock {
    int8_t q[32];    /* round(x / d), in -127..127 */
    float d;         /* max |x| / 127, or 0 */
    float s;         /* d * sum(q), for types with a minimum */
    int32_t nsum[2]; /* -128 * sum(q) and -128 * sum(q[0..15]), for unsigned offsets and blocks of 16 */
} slm_qblock;        /* 48 bytes */

/* Where the keys and values of one sequence are: an array of KV blocks of 16 positions. For one layer and KV head a block holds
 * K as F16 [head_dim][16 positions] at k_offset and V as F16 [16 positions][head_dim] at v_offset (in F16 elements). */
#define SLM_KV_BLOCK 16

/* One call: n_q queries of ONE kv head (all heads of its group, of one or more tokens of one or more sequences). */
typedef struct slm_attend {
    const float *q;                  /* query i is q + q_offset[i], [head_dim] floats */
    const size_t *q_offset;          /* [n_q] */
    float *out;                      /* result i goes to out + q_offset[i] */
    const uint16_t *const *const *blocks; /* [n_q] block table of each query's sequence */
    const int32_t *first, *last;     /* [n_q] visible positions first..last, both included */
    size_t k_offset, v_offset;
    uint32_t n_q, head_dim;          /* head_dim a multiple of 16? no: of 8; padded lanes are the kernel's business */
    float scale;                     /* multiplies q.k */
    float softcap;                   /* 0 = none; else softcap * tanh(score / softcap) */
    float *scratch;                  /* [slm_attend_scratch()] floats, per thread */
} slm_attend;

typedef struct slm_kernels {
    const char *isa;

    /* x[n_rows, cols] (stride ldx) to blocks [n_rows, cols / 32]; cols a multiple of 32. */
    void (*quantize)(const float *x, size_t ldx, uint32_t n_rows, uint32_t cols, slm_qblock *out);

    /* y[r, 16 * p + lane] for panels p in [panel_begin, panel_end) and rows r < n_rows: y = a . W'.  y has stride ldy and room for whole
     * panels (lanes beyond w->rows are written).  Quantized types read a; float types (F32, F16, BF16) read x[n_rows, cols] (stride ldx).
     * scratch: slm_gemm_scratch_bytes() per thread, 64-byte aligned. */
    void (*gemm)(const slm_weight *w, uint32_t panel_begin, uint32_t panel_end, const slm_qblock *a, const float *x, size_t ldx,
                 uint32_t n_rows, float *y, size_t ldy, void *scratch);

    /* One row of a packed matrix as floats, [cols]: the embedding look-up. */
    void (*unpack_row)(const slm_weight *w, uint32_t row, float *out);

    /* y = x / sqrt(mean(x^2) + eps) * w  over n; y may be x. */
    void (*rms_norm)(const float *x, const float *w, float *y, uint32_t n, float eps);
    /* y = (x - mean) / sqrt(var + eps) * w + b */
    void (*layer_norm)(const float *x, const float *w, const float *b, float *y, uint32_t n, float eps);
    /* y += x * scale */
    void (*add_scaled)(float *y, const float *x, float scale, uint32_t n);
    /* y = silu(gate) * up ; y = gelu_tanh(gate) * up ; y = gelu_erf(x) ; y = silu... each over n, in place allowed */
    void (*swiglu)(const float *gate, const float *up, float *y, uint32_t n);
    void (*geglu)(const float *gate, const float *up, float *y, uint32_t n);
    void (*gelu_erf)(const float *x, float *y, uint32_t n);
    /* y = cap * tanh(x / cap) */
    void (*softcap)(const float *x, float *y, float cap, uint32_t n);
    /* Rotates pairs of one head in place: interleaved (x[2i], x[2i+1]) or split halves (x[i], x[i + n_rot/2]); cos, sin: [n_rot / 2]. */
    void (*rope)(float *x, const float *cos, const float *sin, uint32_t n_rot, int interleaved);

    /* Writes one position's key and value [head_dim] into lane `pos % 16` of a KV block. */
    void (*kv_store)(uint16_t *block, size_t k_offset, size_t v_offset, uint32_t lane, const float *k, const float *v,
                     uint32_t head_dim);
    /* Attention with softmax: two passes over positions in order, 16 virtual lanes by absolute position. */
    void (*attend)(const slm_attend *a);

    /* log(sum(exp(x))) over n, fixed order; and the index of the largest (the first of equals). */
    float (*logsumexp)(const float *x, uint32_t n);
    uint32_t (*argmax)(const float *x, uint32_t n);
    /* x = exp(x - max) / sum: softmax in place over n */
    void (*softmax)(float *x, uint32_t n);

    /* a.b, a.a and b.b over n, and the sum of (a - b)^2, in double precision: of floats, of doubles. */
    void (*products)(const float *a, const float *b, size_t n, double sums[3]);
    void (*products_double)(const double *a, const double *b, size_t n, double sums[3]);
    double (*squares)(const float *a, const float *b, size_t n);
    double (*squares_double)(const double *a, const double *b, size_t n);
} slm_kernels;

/* The table in use. Never NULL; slm_kernels_select changes it (not while a region runs). */
const slm_kernels *slm_kernels_get(void);
/* The table of one ISA for tests; NULL when this machine cannot run it. */
const slm_kernels *slm_kernels_of(const char *isa);
slm_status slm_kernels_select(const char *isa, slm_error *err);

/* Bytes of scratch that gemm needs per thread for matrices of up to max_cols columns. */
size_t slm_gemm_scratch_bytes(uint32_t max_cols);
/* Floats of scratch that attend needs per thread for n_positions visible positions (its query tile included). */
size_t slm_attend_scratch(uint32_t n_positions);

#endif
