/*
 * The end of an encoder: from the rows of a sequence to its vector, or to the outputs of a head.
 *
 *   rows ─ pool (one or several, side by side) ─ modules in their order: dense, layer norm, length 1 ─► vector
 *   rows ─ pool ─ dense, function ─ norm ─ out ─► logits
 *
 * Sums run over the tokens in order, in float, and lengths in double: the same bits alone, in any batch and on any number of threads.
 *
 * Sources: sentence-transformers' modules Pooling, Dense, LayerNorm, Normalize; the classification heads of transformers.
 */
#include <math.h>
#include <string.h>

#include "engine/base/math.h"
#include "engine/model/run.h"

static void sum_rows(const slm_run *run, const float *x, uint32_t length, bool weighted, float *out)
{
    uint32_t n = run->hp->n_embd;
    memcpy(out, x, n * sizeof(float));
    for (uint32_t i = 1; i < length; i++) {
        float w = weighted ? (float) (i + 1) : 1.0f;
        for (uint32_t c = 0; c < n; c++)
            out[c] += weighted ? w * x[i * run->ld.embd + c] : x[i * run->ld.embd + c];
    }
}

void slm_pool_rows(const slm_run *run, uint32_t pool, const float *x, uint32_t length, float *out)
{
    uint32_t n = run->hp->n_embd;
    float share = 1.0f / (float) length;
    switch (pool) {
    case SLM_POOL_CLS: memcpy(out, x, n * sizeof(float)); return;
    case SLM_POOL_LAST: memcpy(out, x + (length - 1) * run->ld.embd, n * sizeof(float)); return;
    case SLM_POOL_MAX:
        memcpy(out, x, n * sizeof(float));
        for (uint32_t i = 1; i < length; i++)
            for (uint32_t c = 0; c < n; c++)
                out[c] = x[i * run->ld.embd + c] > out[c] ? x[i * run->ld.embd + c] : out[c];
        return;
    case SLM_POOL_SQRT: share = (float) (1.0 / sqrt((double) length)); break;
    case SLM_POOL_WEIGHTED: share = (float) (2.0 / ((double) length * ((double) length + 1))); break;
    default: break;
    }
    sum_rows(run, x, length, pool == SLM_POOL_WEIGHTED, out);
    for (uint32_t c = 0; c < n; c++)
        out[c] *= share;
}

void slm_dense_row(const slm_run *run, slm_scratch *s, const slm_weight *w, const float *bias, const float *x, float *y)
{
    slm_qblock *blocks = s->normq.p;
    if (!slm_type_get(w->type)->is_float)
        run->kn->quantize(x, w->cols, 1, w->cols, blocks);
    run->kn->gemm(w, 0, w->n_panels, blocks, x, w->cols, 1, y, 16 * (size_t) w->n_panels, s->gemm.p);
    for (uint32_t c = 0; bias != NULL && c < w->rows; c++)
        y[c] += bias[c];
}

void slm_squash_row(const slm_run *run, uint32_t function, float *x, uint32_t n)
{
    switch (function) {
    case SLM_SQUASH_TANH: run->kn->softcap(x, x, 1.0f, n); break;
    case SLM_SQUASH_GELU_ERF: run->kn->gelu_erf(x, x, n); break;
    case SLM_SQUASH_RELU:
        for (uint32_t c = 0; c < n; c++)
            x[c] = x[c] > 0 ? x[c] : 0;
        break;
    default: break;
    }
}

/* x is overwritten; other is room for a second row. The outputs are not squashed. */
static void run_head(const slm_run *run, slm_scratch *s, float *x, float *other, float *out)
{
    const slm_model *m = run->model;
    uint32_t n = run->hp->n_embd;
    if (m->cls_dense.data != NULL) {
        slm_dense_row(run, s, &m->cls_dense, m->cls_dense_bias, x, other);
        slm_squash_row(run, run->hp->head_squash, other, n);
        float *swap = x;
        x = other;
        other = swap;
    }
    if (m->cls_norm != NULL)
        run->kn->layer_norm(x, m->cls_norm, m->cls_norm_bias != NULL ? m->cls_norm_bias : m->zeros, x, n, run->hp->norm_eps);
    slm_dense_row(run, s, &m->cls_out, m->cls_out_bias, x, other);
    memcpy(out, other, m->cls_out.rows * sizeof(float));
}

/* The modules over x[width]; returns where the vector is in the end. */
static const float *run_modules(const slm_run *run, slm_scratch *s, float *x, float *other, uint32_t width)
{
    const slm_model *m = run->model;
    const slm_hparams *hp = run->hp;
    uint32_t module = 0;
    for (uint32_t i = 0; i < hp->n_after; i++) {
        if (hp->after[i] == SLM_AFTER_NORMALIZE) {
            slm_normalize(x, width);
        } else if (hp->after[i] == SLM_AFTER_NORM) {
            run->kn->layer_norm(x, m->after_norm, m->after_norm_bias, x, width, 1e-5f);
        } else {
            slm_dense_row(run, s, &m->dense[module], m->dense_bias[module], x, other);
            width = hp->dense_rows[module];
            slm_squash_row(run, hp->dense_squash[module++], other, width);
            float *swap = x;
            x = other;
            other = swap;
        }
    }
    return x;
}

static size_t widest(const slm_hparams *hp)
{
    size_t n = (hp->n_pools > 1 ? hp->n_pools : 1) * (size_t) hp->n_embd;
    for (uint32_t i = 0; i < hp->n_dense; i++)
        n = hp->dense_rows[i] > n ? hp->dense_rows[i] : n;
    return slm_round_up(hp->n_labels > n ? hp->n_labels : n, 16);
}

size_t slm_pool_floats(const slm_hparams *hp)
{
    return hp->joint ? slm_joint_floats(hp) : 2 * widest(hp);
}

void slm_pool(const slm_run *run, slm_scratch *s, const float *x, const uint8_t *marks, uint32_t length, float *out)
{
    const slm_hparams *hp = run->hp;
    if (hp->joint) {
        slm_joint_scores(run, s, x, marks, length, out);
        return;
    }
    float *row = s->pool.p, *other = row + widest(hp);
    if (hp->tags) {
        for (uint32_t i = 0; i < length; i++) {
            memcpy(row, x + i * run->ld.embd, hp->n_embd * sizeof(float));
            run_head(run, s, row, other, out + (size_t) i * hp->n_labels);
        }
        return;
    }
    if (hp->pooling == SLM_POOL_RANK) {
        slm_pool_rows(run, hp->head_pool, x, length, row);
        run_head(run, s, row, other, out);
        return;
    }
    for (uint32_t i = 0; i < hp->n_pools; i++)
        slm_pool_rows(run, hp->pools[i], x, length, row + i * (size_t) hp->n_embd);
    const float *vector = run_modules(run, s, row, other, hp->n_pools * hp->n_embd);
    memcpy(out, vector, slm_hparams_outputs(hp) * sizeof(float));
    if (hp->cut > 0)
        slm_normalize(out, hp->cut);
}
