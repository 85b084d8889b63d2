/*
 * Embeddings of the layers (Gemma 4): what each layer adds to a token's row by the token itself.
 *
 *   of a layer = (norm(projection of the token's embedding / sqrt(n_embd)) + the token's row for the layer * sqrt(width)) / sqrt(2)
 *
 * EmbeddingGemma 2 has no rows for tokens: the norm is all of it.
 *
 * All layers' are made at once, before the first layer, for all rows; forward.c and encoder.c then take a row through
 *   x += norm(out . (gelu(gate . x) * of the layer))
 * Source: transformers' Gemma4TextModel.project_per_layer_inputs.
 */
#include <math.h>

#include "engine/model/run.h"

static void combine(const slm_run *run, slm_scratch *s, uint32_t i)
{
    const slm_hparams *hp = run->hp;
    uint32_t width = hp->n_embd_layer;
    float *restrict y = (float *) run->ws->embd.p + i * run->ld.beside, *restrict own = s->state.p;
    float to = 1 / sqrtf((float) hp->n_embd), times = sqrtf((float) width), half = (float) sqrt(0.5);
    bool by_token = run->model->layer_embd.data != NULL;
    if (by_token)
        run->kn->unpack_row(&run->model->layer_embd, (uint32_t) run->batch->tokens[i], own);
    for (uint32_t layer = 0; layer < hp->n_layers; layer++, y += width, own += width) {
        for (uint32_t c = 0; c < width; c++)
            y[c] *= to;
        run->kn->rms_norm(y, run->model->layer_embd_norm, y, width, hp->norm_eps);
        for (uint32_t c = 0; by_token && c < width; c++)
            y[c] = (y[c] + own[c] * times) * half;
    }
}

void slm_stages_layer_embd(slm_lane *t)
{
    slm_run *run = t->run;
    const slm_weight *w = &run->model->layer_embd_proj;
    size_t ldq = run->hp->n_embd / 32;
    slm_qblock *q = run->ws->normq.p, *lo = q + run->n * ldq;
    slm_act a = {.q = q, .x = run->ws->x.p, .ldq = ldq, .ldx = run->ld.embd, .lo = run->fine != NULL ? lo : NULL, .fine = run->fine};
    slm_product product = {w, NULL, run->ws->embd.p, run->ld.beside};
    uint32_t b, e;
    if (run->model->quantized) {
        while (slm_lane_next(t, run->n, 4, &b, &e))
            for (uint32_t i = b; i < e; i++)
                slm_quantize_row(run, t->s, a.x + i * a.ldx, run->hp->n_embd, q + i * ldq,
                                 run->fine != NULL && run->fine[i] ? lo + i * ldq : NULL);
        slm_lane_end(t);
    }
    slm_stage_project(t, &product, 1, &a, run->n);
    slm_lane_end(t);
    while (slm_lane_next(t, run->n, 1, &b, &e))
        for (uint32_t i = b; i < e; i++)
            combine(run, t->s, i);
    slm_lane_end(t);
}

void slm_stage_open_embd(slm_lane *t, uint32_t layer, const uint32_t *rows, const uint8_t *fine, uint32_t m)
{
    slm_run *run = t->run;
    uint32_t width = run->hp->n_embd_layer, b, e;
    size_t ldq = width / 32;
    bool quantize = !slm_type_get(run->model->layers[layer].embd_out.type)->is_float;
    while (slm_lane_next(t, m, 4, &b, &e)) {
        for (uint32_t i = b; i < e; i++) {
            float *x = (float *) run->ws->ff.p + i * run->ld.ff;
            const float *of_layer = (float *) run->ws->embd.p + (rows == NULL ? i : rows[i]) * run->ld.beside + (size_t) layer * width;
            slm_qblock *q = (slm_qblock *) run->ws->ffq.p + i * ldq;
            run->kn->geglu(x, of_layer, x, width);
            if (quantize)
                slm_quantize_row(run, t->s, x, width, q, fine != NULL && fine[i] ? q + run->n * ldq : NULL);
        }
    }
}
