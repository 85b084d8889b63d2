/*
 * Short convolutions (LFM2): what stands in a layer in place of attention.
 *
 *   one product gives B | C | x of each row;  y = C * sum over the last conv_length positions of kernel * (B * x)
 *
 * What later positions need of a row is B * x.  It is kept in the KV block of the row's position, as keys are, so that prefixes, branches
 * and guesses work as with attention: nothing but positions says what a row sees.  In F16 (also where keys are kept in eight bits), or in
 * F32 as keys are, and a row reads its own from there too: the same bits whether its neighbours are in the batch or not.
 *
 * In a block such a layer has [16][n_embd] elements where one with attention has its keys and values (attention.c).
 */
#include "engine/arch/family.h"
#include "engine/base/math.h"
#include "engine/model/run.h"

void slm_stage_remember(slm_lane *t, uint32_t layer)
{
    const slm_run *run = t->run;
    const slm_batch *batch = run->batch;
    uint32_t width = run->hp->n_embd, b, e;
    size_t plane = slm_conv_offset(run->hp, batch->kv_type, layer);
    while (slm_lane_next(t, run->n, 8, &b, &e))
        for (uint32_t i = b; i < e; i++) {
            const float *gates = (const float *) run->ws->conv.p + i * run->ld.conv, *x = gates + 2 * width;
            int32_t position = batch->positions[i];
            /* the table is read-only for the batch's owner, its blocks are what we write */
            uint16_t *to = (uint16_t *) (uintptr_t) batch->blocks[i][position / SLM_KV_BLOCK] + plane;
            size_t at = (uint32_t) position % SLM_KV_BLOCK * (size_t) width;
            float *wide = (float *) (void *) to + at;
            for (uint32_t c = 0; c < width && batch->kv_type == SLM_KV_F32; c++)
                wide[c] = gates[c] * x[c];
            for (uint32_t c = 0; c < width && batch->kv_type != SLM_KV_F32; c++)
                to[at + c] = slm_f32_to_f16(gates[c] * x[c]);
        }
}

/* Row `row` of the batch to y. */
static void convolve(const slm_run *run, uint32_t layer, uint32_t row, float *y)
{
    const slm_hparams *hp = run->hp;
    const slm_batch *batch = run->batch;
    const float *kernel = run->model->layers[layer].conv_kernel;
    const float *c_gate = (const float *) run->ws->conv.p + row * run->ld.conv + hp->n_embd;
    size_t plane = slm_conv_offset(hp, batch->kv_type, layer);
    for (uint32_t c = 0; c < hp->n_embd; c++)
        y[c] = 0;
    for (uint32_t k = 0; k < hp->conv_length; k++) {
        int64_t position = (int64_t) batch->positions[row] - hp->conv_length + 1 + k;
        if (position < 0)
            continue;
        const uint16_t *kept = batch->blocks[row][position / SLM_KV_BLOCK] + plane;
        size_t at = position % SLM_KV_BLOCK * (size_t) hp->n_embd;
        const float *wide = (const float *) (const void *) kept + at;
        for (uint32_t c = 0; c < hp->n_embd && batch->kv_type == SLM_KV_F32; c++)
            y[c] += kernel[c * hp->conv_length + k] * wide[c];
        for (uint32_t c = 0; c < hp->n_embd && batch->kv_type != SLM_KV_F32; c++)
            y[c] += kernel[c * hp->conv_length + k] * slm_f16_to_f32(kept[at + c]);
    }
    for (uint32_t c = 0; c < hp->n_embd; c++)
        y[c] *= c_gate[c];
}

void slm_stage_convolve(slm_lane *t, uint32_t layer, const uint32_t *rows, uint32_t m)
{
    const slm_run *run = t->run;
    const uint8_t *fine = rows == NULL ? run->fine : run->fine_out;
    bool quantize = !slm_type_get(run->model->layers[layer].o.type)->is_float;
    uint32_t b, e;
    while (slm_lane_next(t, m, 4, &b, &e))
        for (uint32_t i = b; i < e; i++) {
            convolve(run, layer, rows == NULL ? i : rows[i], (float *) run->ws->att.p + i * run->ld.q);
            if (quantize)
                slm_quantize_attention(run, t->s, i, run->hp->n_embd, 0, run->hp->n_embd, fine);
        }
}
