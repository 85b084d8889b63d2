/*
 * What the vectors of a step's texts are to be to each other: losses of their cosines S = U U', U being the vectors at length 1.
 *
 *   LABELS  each text's loss: cross-entropy of scale * S over all other texts, the mean over those of its label
 *           (supervised contrastive learning, arXiv 2004.11362; SetFit, 2209.11055, learns from such pairs)
 *   PAIRS   query i's loss: cross-entropy of scale * S over all documents of the step, its own being the answer
 *           (multiple negatives ranking, arXiv 1705.00652)
 *   SCORES  pair i's loss: (S - score)^2, as sentence-transformers' CosineSimilarityLoss
 *
 *   dU = (dS + dS') U,  then through the length:  dv = (dU - (dU . u) u) / |v|
 *
 * A step's texts see each other, so they are one micro-batch.  Rows of S are units, each made by one thread: the same bits for any number.
 */
#include <math.h>
#include <string.h>

#include "engine/base/math.h"
#include "engine/learn/learn.h"

#define LEAST_LENGTH 1e-12f /* of a vector; a shorter one has no direction, and no gradient */

/* Vectors to length 1: rows of unit, columns of turned_units. */
static void unit_stage(slm_learn_lane *l)
{
    slm_learn *t = l->t;
    uint32_t n = t->hp->n_embd, s, e;
    while (slm_learn_next(l, l->batch->n_sequences, 1, &s, &e)) {
        const float *x = t->pooled + s * t->ld.embd;
        float *u = t->unit + s * t->ld.embd;
        double sums[3];
        t->kn->products(x, x, n, sums);
        float length = (float) sqrt(sums[0]);
        t->lengths[s] = length;
        for (uint32_t c = 0; c < n; c++) {
            u[c] = length > LEAST_LENGTH ? x[c] / length : 0.0f;
            t->turned_units[c * t->ld_texts + s] = u[c];
        }
    }
    slm_learn_end(l);
}

/* Cross-entropy of z[n] (logits of row i over columns [0, n), of which `skip` is none; UINT32_MAX: all are): z becomes
 * factor * (softmax - answer), answer[j] being the column's share; the loss. */
static double cross_entropy(const slm_learn *t, float *z, uint32_t n, uint32_t skip, const int32_t *labels, int32_t label, float factor)
{
    uint32_t n_right = 0;
    double right = 0;
    if (skip < n)
        z[skip] = -INFINITY;
    for (uint32_t j = 0; j < n; j++)
        if (j != skip && labels[j] == label) {
            right += (double) z[j];
            n_right++;
        }
    if (n_right == 0) {
        memset(z, 0, n * sizeof *z);
        return 0;
    }
    float lse = t->kn->logsumexp(z, n), share = 1.0f / (float) n_right;
    t->kn->exp_below(z, lse, z, n);
    for (uint32_t j = 0; j < n; j++)
        z[j] = factor * (z[j] - (j != skip && labels[j] == label ? share : 0.0f));
    if (skip < n)
        z[skip] = 0;
    return (double) lse - right / n_right;
}

/* Row i of S to its gradient; its loss. */
static double row_loss(const slm_learn *t, const slm_learn_batch *batch, uint32_t i, float weight, float *z)
{
    const slm_learn_aim *aim = batch->aim;
    uint32_t n = batch->n_sequences, first = aim->kind == SLM_CONTRAST_LABELS ? 0 : aim->n_queries;
    if (first > 0 && i >= first) {
        memset(z, 0, n * sizeof *z);
        return 0;
    }
    if (aim->kind == SLM_CONTRAST_SCORES) {
        float off = z[first + i] - aim->scores[i];
        memset(z, 0, n * sizeof *z);
        z[first + i] = 2 * weight * off;
        return (double) off * (double) off;
    }
    for (uint32_t j = 0; j < n; j++)
        z[j] *= aim->scale;
    if (aim->kind == SLM_CONTRAST_LABELS)
        return cross_entropy(t, z, n, i, aim->labels, aim->labels[i], weight * aim->scale);
    memset(z, 0, first * sizeof *z);
    return cross_entropy(t, z + first, n - first, UINT32_MAX, aim->labels, aim->labels[i], weight * aim->scale);
}

static void loss_stage(slm_learn_lane *l)
{
    slm_learn *t = l->t;
    uint32_t n = l->batch->n_sequences, i, e;
    while (slm_learn_next(l, n, 1, &i, &e)) {
        float *z = t->sims + i * t->ld_texts;
        t->kn->matmul(t->unit + i * t->ld.embd, t->ld.embd, 1, t->turned_units, t->ld_texts, 1, n, t->hp->n_embd, z, t->ld_texts, 0);
        t->losses[i] = row_loss(t, l->batch, i, l->run->weight, z);
    }
    slm_learn_end(l);
}

static void gradient_stage(slm_learn_lane *l)
{
    slm_learn *t = l->t;
    uint32_t n = l->batch->n_sequences, width = t->hp->n_embd, i, e;
    size_t ld = t->ld.embd, ldt = t->ld_texts;
    while (slm_learn_next(l, n, 1, &i, &e)) {
        float *d = t->dpooled + i * ld;
        const float *u = t->unit + i * ld;
        double sums[3];
        t->kn->matmul(t->sims + i * ldt, ldt, 1, t->unit, ld, 1, width, n, d, ld, 0);
        t->kn->matmul(t->sims + i, 1, ldt, t->unit, ld, 1, width, n, d, ld, 1);
        t->kn->products(d, u, width, sums);
        for (uint32_t c = 0; c < width; c++)
            d[c] = t->lengths[i] > LEAST_LENGTH ? (d[c] - (float) sums[0] * u[c]) / t->lengths[i] : 0.0f;
    }
    slm_learn_end(l);
}

void slm_learn_contrast(slm_learn_lane *l)
{
    slm_learn_pool(l);
    unit_stage(l);
    if (l->batch->aim == NULL)
        return;
    loss_stage(l);
    if (!l->run->backward)
        return;
    gradient_stage(l);
    slm_learn_pool_back(l);
}
