/*
 * The table of kernels: what the forward pass calls.
 *
 * Each instruction set has a whole table (isa.def); dispatch.c takes the best that CPU and operating system support (DESIGN D5).  Every
 * entry gives the same bits on every ISA, for any split of the work over threads, calls and batch rows (D4): int32 block dots are exact,
 * floats are accumulated per output lane in block order by fused multiply-add, reductions over a row use 16 virtual lanes (element i goes
 * to lane i % 16, in order) and then the fixed tree (8, 4, 2, 1 apart).  kernels.def lists the entries.
 *
 * All float rows are 64-byte aligned where a buffer is the caller's own; row strides are in elements.
 */
#ifndef SLM_KERNELS_KERNELS_H
#define SLM_KERNELS_KERNELS_H

#include <stdbool.h>
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
 * K as F16 [head_dim][16 positions] at k_offset and V as F16 [16 positions][head_dim] at v_offset (in F16 elements).
 *
 * In eight bits the same planes hold int8, and behind each lie its scales as F16 [head_dim / 32, rounded up][16 positions]: a value is its
 * level times the scale of its position and its 32 dimensions. */
#define SLM_KV_BLOCK 16
#define SLM_KV_GROUP 32 /* dimensions of a scale */

/* What keys and values are kept as. */
typedef enum slm_kv_kind { SLM_KV_KIND_F16, SLM_KV_KIND_Q8, SLM_KV_KIND_F32 } slm_kv_kind;

/* One call: n_q queries of ONE kv head (all heads of its group, of one or more tokens of one or more sequences). */
typedef struct slm_attend {
    const float *q;                  /* query i is q + q_offset[i], [head_dim] floats */
    const size_t *q_offset;          /* [n_q] */
    float *out;                      /* result i goes to out + q_offset[i] */
    const uint16_t *const *const *blocks; /* [n_q] block table of each query's sequence */
    const int32_t *first, *last;     /* [n_q] visible positions first..last, both included */
    size_t k_offset, v_offset;
    uint32_t n_q, head_dim;          /* a multiple of 8; padded lanes are the kernel's business */
    float scale;                     /* multiplies q.k */
    float softcap;                   /* 0 = none; else softcap * tanh(score / softcap) */
    float *scratch;                  /* [slm_attend_scratch()] floats, per thread */
    const float *const *bias;        /* [n_q] or NULL: added to scores, that of position p is bias[i][p]; whole blocks are read */
    slm_kv_kind kind;
} slm_attend;

/* One instruction set's kernels; kernels.def documents each. */
typedef struct slm_kernels {
    const char *isa;
#define KERNEL(result, name, parameters) result(*name) parameters;
#define PART(result, name, parameters)
#include "engine/kernels/kernels.def"
#undef KERNEL
#undef PART
} slm_kernels;

/* The table in use. Never NULL; slm_kernels_select changes it (not while a region runs). */
const slm_kernels *slm_kernels_get(void);
/* The i-th instruction set that this machine can run, the best one last; NULL after it. */
const slm_kernels *slm_kernels_nth(int i);
/* The table of one of them; NULL when this machine cannot run it. */
const slm_kernels *slm_kernels_of(const char *isa);
slm_status slm_kernels_select(const char *isa, slm_error *err);

/* Bytes of scratch that gemm needs per thread for matrices of up to max_cols columns. */
size_t slm_gemm_scratch_bytes(uint32_t max_cols);
/* Floats of scratch that attend needs per thread for n_positions visible positions (its query tile included). */
size_t slm_attend_scratch(uint32_t n_positions);

#endif
