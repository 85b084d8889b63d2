/*
 * DeBERTa's attention: what a query and a key say about the distance between them, beside what they say about each other.
 *
 *   score of query i and key j = scale * (q_i . k_j  +  q_i . key[d]  +  k_j . query[d])        d: the row of the distance i - j
 *
 * The keys and queries of distances are the same for every text, so an import has made them: a layer's tables hold 2 * span rows for each
 * head.  Distances up to span / 2 have a row each, farther ones share rows that widen by the logarithm, and all beyond the last one
 * have it; two texts of a batch never meet, so only distances below a sequence's length are computed: panels first to last of a table.
 *
 * The two sums behind the first go to the kernel of attention as biases, row by row, computed in float: bits do not depend on the batch.
 *
 * Source: He et al. 2020 (arXiv 2006.03654), 2021 (arXiv 2111.09543); the arithmetic is that of transformers' DebertaV2Model.
 */
#include <math.h>
#include <stdlib.h>

#include "engine/arch/family.h"
#include "engine/base/math.h"
#include "engine/model/run.h"

/* The row of a distance (query minus key). */
static uint32_t place_of(const slm_hparams *hp, int32_t distance)
{
    int32_t span = (int32_t) hp->relative_span, mid = span / 2, far = distance < 0 ? -distance : distance;
    if (hp->relative_far > 0 && far > mid) {
        float share = (float) slm_log((double) ((float) far / (float) mid)) /
                      (float) slm_log((double) ((float) ((double) (hp->relative_far - 1) / mid)));
        float steps = ceilf(share * (float) (mid - 1));
        far = steps < (float) span ? (int32_t) steps + mid : span;
    }
    int32_t row = span + (distance < 0 ? -far : far);
    return (uint32_t) (row < 0 ? 0 : row > 2 * span - 1 ? 2 * span - 1 : row);
}

uint16_t *slm_distance_places(const slm_hparams *hp)
{
    uint16_t *places = malloc(2 * (size_t) hp->n_context * sizeof *places);
    for (uint32_t i = 0; places != NULL && i < 2 * hp->n_context; i++)
        places[i] = (uint16_t) place_of(hp, (int32_t) hp->n_context - 1 - (int32_t) i);
    return places;
}

/* The panels of a head's table that sequences of this length need. */
typedef struct reach {
    uint32_t first, panels, ld; /* ld: floats of a row of products */
} reach;

static reach reach_of(const slm_run *run, uint32_t length)
{
    const uint16_t *places = run->model->places + (run->hp->n_context - 1);
    uint32_t low = places[length - 1], high = *(places - (length - 1)), first = low / 16;
    return (reach) {first, high / 16 - first + 1, 16 * (high / 16 - first + 1)};
}

/* y[n, ld] = rows x[n] of a head . its rows of distances */
static void multiply(const slm_run *run, slm_scratch *s, const slm_weight *table, uint32_t head, reach r, const float *x, size_t ldx,
                     uint32_t n, float *y)
{
    slm_weight part = *table;
    uint32_t panel = head * (slm_relative_rows(run->hp) / 16) + r.first;
    part.data = (const char *) table->data + panel * table->panel_bytes;
    part.rows = 16 * r.panels;
    part.n_panels = r.panels;
    run->kn->gemm(&part, 0, r.panels, NULL, x, ldx, n, y, r.ld, s->gemm.p);
}

static size_t bias_stride(uint32_t length)
{
    return slm_round_up(length, SLM_KV_BLOCK);
}

size_t slm_distance_floats(const slm_hparams *hp, uint32_t length)
{
    size_t ld = slm_relative_rows(hp);
    return (length + (size_t) SLM_QUERIES) * ld + SLM_QUERIES * bias_stride(length);
}

void slm_distance_keys(slm_run *run, slm_scratch *s, uint32_t layer, uint32_t head, uint32_t begin, uint32_t length)
{
    const float *k = (const float *) run->ws->k.p + begin * run->ld.kv + (size_t) head * run->hp->head_dim;
    multiply(run, s, &run->model->layers[layer].rel_query, head, reach_of(run, length), k, run->ld.kv, length, s->distance.p);
}

void slm_distance_bias(slm_run *run, slm_scratch *s, uint32_t layer, uint32_t head, uint32_t begin, uint32_t length, uint32_t i, uint32_t n,
                       const float **bias)
{
    reach r = reach_of(run, length);
    const float *keys = s->distance.p;
    const float *q = (const float *) run->ws->q.p + (begin + i) * run->ld.q + (size_t) head * run->hp->head_dim;
    float *queries = (float *) s->distance.p + (size_t) length * r.ld, *rows = queries + SLM_QUERIES * (size_t) r.ld;
    float scale = run->hp->attn_scale;
    size_t stride = bias_stride(length);
    multiply(run, s, &run->model->layers[layer].rel_key, head, r, q, run->ld.q, n, queries);
    for (uint32_t k = 0; k < n; k++) {
        const uint16_t *places = run->model->places + (run->hp->n_context - 1 - (i + k));
        const float *query = queries + k * (size_t) r.ld;
        float *out = rows + k * stride;
        for (uint32_t j = 0; j < length; j++) {
            uint32_t place = places[j] - 16 * r.first;
            out[j] = scale * (query[place] + keys[j * (size_t) r.ld + place]);
        }
        for (uint32_t j = length; j < stride; j++)
            out[j] = 0;
        bias[k] = out;
    }
}
