/*
 * LoRA adapters: low-rank changes of a model's projections, applied to the rows of a batch that ask for them (arXiv 2106.09685).
 *
 *   y = W x + bias + scale * B (A x)        A [rank, cols], B [rows, rank], both F32, x before it is quantized
 *
 * An adapter is an image file of its own, mapped read-only and shared like a model's; the base's weights are never touched, so one
 * session serves
 * rows with different adapters, and rows without, in one batch.  A row's bits depend on its own adapter only (DESIGN D4): A x and B t
 * are gemm
 * calls, whose rows are independent, and are added to the finished product in one order.
 *
 *   | header | entries: (target, layer, rank, rows, cols, scale, places) | panels of A and B, each 64-byte aligned |
 */
#ifndef SLM_MODEL_ADAPTER_H
#define SLM_MODEL_ADAPTER_H

#include "engine/base/map.h"
#include "engine/model/model.h"
#include "engine/model/run.h"

#define SLM_ADAPTER_MAX_RANK 1024

/* The projections that can be adapted, with the roles of their weights. */
typedef enum slm_target {
    SLM_TARGET_Q = 0, SLM_TARGET_K, SLM_TARGET_V, SLM_TARGET_O, SLM_TARGET_GATE, SLM_TARGET_UP, SLM_TARGET_DOWN, SLM_TARGETS
} slm_target;

slm_tensor_role slm_target_role(slm_target target);

typedef struct slm_adapter_pair {
    slm_weight a, b; /* [rank, cols], [rows, rank]; data NULL = this projection is not adapted */
    float scale;
} slm_adapter_pair;

struct slm_adapter {
    slm_adapter_info info;
    slm_map file;
    const void *map; /* its bytes */
    size_t bytes;
    int references;
    uint64_t serial;          /* of this opening, unique in the process: the key of cached prefixes */
    slm_hparams shape;        /* the model's that it was opened for */
    uint32_t max_rank;
    slm_adapter_pair (*layers)[SLM_TARGETS]; /* [n_layers] */
};

/* FORMAT once a page of its image was missing. */
slm_status slm_adapter_check(const slm_adapter *adapter, slm_error *err);
/* Can rows of this model use the adapter? */
bool slm_adapter_fits(const slm_adapter *adapter, const slm_model *model);

/* ---- building (adapter_file.c) ---- */

/* One pair as floats, on its way to a file. */
typedef struct slm_adapter_part {
    slm_target target;
    uint32_t layer, rank, rows, cols;
    float scale;
    float *a, *b; /* [rank, cols], [rows, rank]; malloc'ed */
} slm_adapter_part;

typedef struct slm_adapter_writer slm_adapter_writer;
/* Creates the file, which must not exist, with room for n_parts. */
slm_status slm_adapter_create(const char *path, const slm_model *base, uint32_t n_parts, const slm_adapter_info *info,
                              slm_adapter_writer **out, slm_error *err);
slm_status slm_adapter_write(slm_adapter_writer *w, const slm_adapter_part *part, slm_error *err);
/* Completes and flushes the file, or removes it when failed is not SLM_OK; *info (may be NULL) is what the file says. */
slm_status slm_adapter_finish(slm_adapter_writer *w, slm_status failed, slm_adapter_info *info, slm_error *err);

/* ---- the forward pass (adapter.c) ---- */

/* A product that has been computed, and the target that it belongs to. */
typedef struct slm_adapted {
    slm_target target;
    float *y;    /* [n, ldy] */
    size_t ldy;
} slm_adapted;

/* Sizes the buffers that adapted batches need besides. */
slm_status slm_adapt_need(const slm_run *run, slm_error *err);
/* y += scale * adapter for up to three products of the activations x [n, ldx]; rows: batch row of each (NULL: the same).  Two stages,
 * ended. */
void slm_stage_adapt(slm_lane *t, uint32_t layer, const slm_adapted *products, int n_products, const float *x, size_t ldx,
                     const uint32_t *rows, float scale, uint32_t n);
/* slm_stage_feed for batches with adapters, ended; leaves floats in ws->ff beside the blocks. */
void slm_stage_feed_adapted(slm_lane *t, uint32_t layer, const slm_act *a, const uint32_t *rows, uint32_t n);

#endif
