/*
 * LoRA adapters in the forward pass: low-rank changes of a model's projections, applied to the rows of a batch that ask for them.
 *
 *   y = W x + bias + scale * B (A x)        A [rank, cols], B [rows, rank], both F32, x before it is quantized
 *   row of a table + scale * B A[row]       A [rows, rank], B [cols, rank]: of models that read whole texts
 *
 * The base's weights are never touched, so one session serves rows with different adapters, and rows without, in one batch.  A row's bits
 * depend on its own adapter only (DESIGN D4): A x and B t are gemm calls, whose rows are independent, and are added to the finished
 * product in one order.  image/adapter_image.h has the file.
 */
#ifndef SLM_MODEL_ADAPTER_H
#define SLM_MODEL_ADAPTER_H

#include "engine/image/adapter_image.h"
#include "engine/model/model.h"
#include "engine/model/run.h"

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
/* x, the table's row `index`, as the adapter of batch row `row` has it: + scale * B A[index].  Nothing without one.  Not in a stage that
 * slm_stage_adapt is in: it uses the same room. */
void slm_adapt_table(const slm_run *run, slm_scratch *s, uint32_t row, slm_target target, uint32_t index, float *x);
/* slm_stage_feed for batches with adapters, ended; leaves floats in ws->ff beside the blocks. */
void slm_stage_feed_adapted(slm_lane *t, uint32_t layer, const slm_act *a, const uint32_t *rows, uint32_t n);

#endif
