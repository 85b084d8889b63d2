/*
 * Attention of whole sequences in float, forward and backward.
 *
 *   unit = (sequence, KV head), so that all sums of a key or value are made by one thread, head after head, tile after tile of queries
 *
 *   forward    S = scale Q K', soft cap, mask;  P = exp(S - lse);  O = P V        lse is kept
 *   backward   dV += P' dO;  dS = P (dO V' - D), D = dO . O;  through the cap and the scale;  dQ = dS K;  dK += dS' Q
 *
 * Nothing of the size of positions x positions is kept: scores of a tile of 64 queries are made again.  Sequences of a micro-batch never
 * see each other.
 */
#include <string.h>

#include "engine/base/math.h"
#include "engine/learn/learn.h"

enum { TABLE_SHORT = 0, TABLE_LONG = 1, TABLE_LOCAL = 2 };

size_t slm_learn_attend_floats(const slm_hparams *hp, uint32_t longest)
{
    return slm_round_up(longest, 16) * (2 * (size_t) hp->head_dim + 2 * SLM_LEARN_QUERIES);
}

void slm_learn_angles(slm_learn *t)
{
    const slm_hparams *hp = t->hp;
    uint32_t half = hp->n_rot / 2;
    for (uint32_t table = 0; table < 3; table++)
        for (uint32_t position = 0; position < t->longest; position++) {
            float *row = t->angles + ((size_t) table * t->longest + position) * 2 * half;
            float factor = table == TABLE_LOCAL ? 1.0f : hp->rope_attn_factor;
            for (uint32_t i = 0; i < half; i++) {
                double sine, cosine;
                slm_sincos((double) position * t->model->rope_freq[table * half + i], &sine, &cosine);
                row[i] = (float) cosine * factor;
                row[half + i] = (float) sine * factor;
            }
        }
}

uint32_t slm_learn_position(const slm_learn_batch *batch, uint32_t row, uint32_t *length)
{
    uint32_t low = 0, high = batch->n_sequences;
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        if (batch->first[middle] <= row)
            low = middle;
        else
            high = middle;
    }
    *length = batch->first[low + 1] - batch->first[low];
    return row - batch->first[low];
}

/* cos of a row of the micro-batch in a layer, sin behind it; NULL: the layer does not rotate. */
static const float *angles_of(const slm_learn_lane *l, uint32_t layer, uint32_t row)
{
    const slm_learn *t = l->t;
    const slm_hparams *hp = t->hp;
    uint32_t length, position = slm_learn_position(l->batch, row, &length);
    if (!slm_layer_turns(hp, layer))
        return NULL;
    bool is_long = hp->has_rope_factors >= 2 && length > hp->n_ctx_original;
    uint32_t table = hp->rope_base_local > 0 && slm_layer_slides(hp, layer) ? TABLE_LOCAL : is_long ? TABLE_LONG : TABLE_SHORT;
    return t->angles + ((size_t) table * t->longest + position) * 2 * (hp->n_rot / 2);
}

static void turn_row(const slm_learn *t, const float *raw, const float *norm, float *x, uint32_t n_heads, const float *cosine)
{
    const slm_hparams *hp = t->hp;
    uint32_t width = t->model->qk_norm_rows ? n_heads * hp->head_dim : hp->head_dim;
    for (uint32_t at = 0; norm != NULL && at < n_heads * hp->head_dim; at += width)
        t->kn->rms_norm(raw + at, norm, x + at, width, hp->norm_eps);
    for (uint32_t h = 0; cosine != NULL && h < n_heads; h++)
        t->kn->rope(x + h * hp->head_dim, cosine, cosine + hp->n_rot / 2, hp->n_rot, (int) hp->rope_interleaved);
}

static void turn_row_back(const slm_learn *t, const float *raw, const float *norm, float *dx, uint32_t n_heads, const float *cosine)
{
    const slm_hparams *hp = t->hp;
    uint32_t width = t->model->qk_norm_rows ? n_heads * hp->head_dim : hp->head_dim, half = hp->n_rot / 2;
    float sine[SLM_MAX_ROT / 2];
    for (uint32_t i = 0; cosine != NULL && i < half; i++)
        sine[i] = -cosine[half + i];
    for (uint32_t h = 0; cosine != NULL && h < n_heads; h++)
        t->kn->rope(dx + h * hp->head_dim, cosine, sine, hp->n_rot, (int) hp->rope_interleaved);
    for (uint32_t at = 0; norm != NULL && at < n_heads * hp->head_dim; at += width)
        t->kn->rms_norm_grad(raw + at, norm, dx + at, dx + at, width, hp->norm_eps);
}

void slm_learn_turn_rows(slm_learn_lane *l, uint32_t layer, const slm_learn_kept *kept, uint32_t b, uint32_t e)
{
    slm_learn *t = l->t;
    const slm_layer *w = &t->model->layers[layer];
    for (uint32_t i = b; i < e; i++) {
        const float *cosine = angles_of(l, layer, i);
        turn_row(t, kept->q_raw + i * t->ld.q, w->q_norm, kept->q + i * t->ld.q, t->hp->n_heads, cosine);
        turn_row(t, kept->k_raw + i * t->ld.kv, w->k_norm, kept->k + i * t->ld.kv, t->hp->n_kv_heads, cosine);
    }
}

void slm_learn_turn_back(slm_learn_lane *l, uint32_t layer, const slm_learn_kept *kept, uint32_t b, uint32_t e)
{
    slm_learn *t = l->t;
    const slm_layer *w = &t->model->layers[layer];
    for (uint32_t i = b; i < e; i++) {
        const float *cosine = angles_of(l, layer, i);
        turn_row_back(t, kept->q_raw + i * t->ld.q, w->q_norm, t->dq + i * t->ld.q, t->hp->n_heads, cosine);
        turn_row_back(t, kept->k_raw + i * t->ld.kv, w->k_norm, t->dk + i * t->ld.kv, t->hp->n_kv_heads, cosine);
    }
}

/* One unit, and a tile of its queries. */
typedef struct attend_unit {
    uint32_t first, length, kv_head, window; /* window 0: none */
    bool ahead;                              /* an encoder's: each position sees those behind it too */
    size_t ld;
    float *keys, *values;  /* [head_dim, ld], turned */
    float *scores, *other; /* [SLM_LEARN_QUERIES, ld] */
} attend_unit;

static attend_unit unit_of(slm_learn_lane *l, uint32_t layer, uint32_t index)
{
    const slm_hparams *hp = l->t->hp;
    attend_unit u = {.kv_head = index % hp->n_kv_heads};
    uint32_t sequence = index / hp->n_kv_heads;
    u.first = l->batch->first[sequence];
    u.length = l->batch->first[sequence + 1] - u.first;
    u.ld = slm_round_up(u.length, 16);
    u.window = slm_layer_slides(hp, layer) ? hp->window : 0;
    u.ahead = !hp->causal;
    u.keys = l->s->attend;
    u.values = u.keys + hp->head_dim * u.ld;
    u.scores = u.values + hp->head_dim * u.ld;
    u.other = u.scores + SLM_LEARN_QUERIES * u.ld;
    return u;
}

/* Rows x [length, ldx] of one head to out [head_dim, ld]. */
static void turn_head(const attend_unit *u, const float *x, size_t ldx, uint32_t head_dim, float *out)
{
    for (uint32_t i = 0; i < u->length; i++)
        for (uint32_t d = 0; d < head_dim; d++)
            out[d * u->ld + i] = x[i * ldx + d];
}

static uint32_t first_seen(const attend_unit *u, uint32_t position)
{
    return u->window > 0 && position >= u->window ? position - u->window + 1 : 0;
}

/* Behind the last position that one sees. */
static uint32_t end_seen(const attend_unit *u, uint32_t position)
{
    return u->ahead ? u->length : position + 1;
}

/* Scores of queries [q0, q0 + n) of a head: scaled and capped where they are seen; with MPNet's biases by distance. */
static void tile_scores(slm_learn_lane *l, const attend_unit *u, const float *q, uint32_t head, uint32_t q0, uint32_t n)
{
    const slm_hparams *hp = l->t->hp;
    const float *relative = l->t->model->relative;
    l->t->kn->matmul(q, l->t->ld.q, 1, u->keys, u->ld, n, end_seen(u, q0 + n - 1), hp->head_dim, u->scores, u->ld, 0);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t from = first_seen(u, q0 + i), count = end_seen(u, q0 + i) - from;
        float *s = u->scores + i * u->ld + from;
        for (uint32_t j = 0; j < count; j++)
            s[j] *= hp->attn_scale;
        const float *bias = relative == NULL ? NULL
                                             : relative + head * slm_relative_stride(hp->n_context) + (hp->n_context - 1 - (q0 + i)) + from;
        for (uint32_t j = 0; bias != NULL && j < count; j++)
            s[j] += bias[j];
        if (hp->attn_softcap > 0)
            l->t->kn->softcap(s, s, hp->attn_softcap, count);
    }
}

/* Zeros where a row of a tile sees nothing. */
static void clear_unseen(const attend_unit *u, float *rows, uint32_t q0, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        float *row = rows + i * u->ld;
        uint32_t end = end_seen(u, q0 + i);
        memset(row, 0, first_seen(u, q0 + i) * sizeof *row);
        memset(row + end, 0, (end_seen(u, q0 + n - 1) - end) * sizeof *row);
    }
}

static void attend_tile(slm_learn_lane *l, const attend_unit *u, const slm_learn_kept *kept, uint32_t head, uint32_t q0, uint32_t n)
{
    slm_learn *t = l->t;
    const slm_hparams *hp = t->hp;
    size_t at = (u->first + q0) * t->ld.q + (size_t) head * hp->head_dim;
    tile_scores(l, u, kept->q + at, head, q0, n);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t from = first_seen(u, q0 + i), count = end_seen(u, q0 + i) - from;
        float *s = u->scores + i * u->ld + from, lse = t->kn->logsumexp(s, count);
        kept->lse[(size_t) (u->first + q0 + i) * hp->n_heads + head] = lse;
        t->kn->exp_below(s, lse, s, count);
    }
    clear_unseen(u, u->scores, q0, n);
    t->kn->matmul(u->scores, u->ld, 1, kept->v + u->first * t->ld.kv + (size_t) u->kv_head * hp->head_dim, t->ld.kv, n, hp->head_dim,
                  end_seen(u, q0 + n - 1), kept->att + at, t->ld.q, 0);
}

void slm_learn_attend(slm_learn_lane *l, uint32_t layer, const slm_learn_kept *kept)
{
    slm_learn *t = l->t;
    const slm_hparams *hp = t->hp;
    uint32_t group = hp->n_heads / hp->n_kv_heads, b, e;
    while (slm_learn_next(l, l->batch->n_sequences * hp->n_kv_heads, 1, &b, &e)) {
        attend_unit u = unit_of(l, layer, b);
        turn_head(&u, kept->k + u.first * t->ld.kv + (size_t) u.kv_head * hp->head_dim, t->ld.kv, hp->head_dim, u.keys);
        for (uint32_t g = 0; g < group; g++)
            for (uint32_t q0 = 0; q0 < u.length; q0 += SLM_LEARN_QUERIES)
                attend_tile(l, &u, kept, u.kv_head * group + g, q0, u.length - q0 < SLM_LEARN_QUERIES ? u.length - q0 : SLM_LEARN_QUERIES);
    }
    slm_learn_end(l);
}

/* scores: P to dS, with the scores' own capped values made again; other: dP. */
static void tile_slopes(slm_learn_lane *l, const attend_unit *u, const slm_learn_kept *kept, uint32_t head, uint32_t q0, uint32_t n)
{
    slm_learn *t = l->t;
    const slm_hparams *hp = t->hp;
    float cap = hp->attn_softcap > 0 ? 1 / hp->attn_softcap : 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t row = u->first + q0 + i, from = first_seen(u, q0 + i), count = end_seen(u, q0 + i) - from;
        size_t at = row * t->ld.q + (size_t) head * hp->head_dim;
        float *s = u->scores + i * u->ld + from, *d = u->other + i * u->ld + from, sum = 0;
        float lse = kept->lse[(size_t) row * hp->n_heads + head];
        for (uint32_t c = 0; c < hp->head_dim; c++)
            sum += t->datt[at + c] * kept->att[at + c];
        for (uint32_t j = 0; j < count; j++) /* what follows P in dS */
            d[j] = (d[j] - sum) * hp->attn_scale * (1 - s[j] * cap * (s[j] * cap));
        t->kn->exp_below(s, lse, s, count);
        for (uint32_t j = 0; j < count; j++)
            d[j] *= s[j];
    }
    clear_unseen(u, u->scores, q0, n);
    clear_unseen(u, u->other, q0, n);
}

static void back_tile(slm_learn_lane *l, const attend_unit *u, const slm_learn_kept *kept, uint32_t head, uint32_t q0, uint32_t n)
{
    slm_learn *t = l->t;
    const slm_kernels *kn = t->kn;
    uint32_t dim = t->hp->head_dim, seen = end_seen(u, q0 + n - 1);
    size_t at = (u->first + q0) * t->ld.q + (size_t) head * dim, kv = u->first * t->ld.kv + (size_t) u->kv_head * dim;
    tile_scores(l, u, kept->q + at, head, q0, n);
    kn->matmul(t->datt + at, t->ld.q, 1, u->values, u->ld, n, seen, dim, u->other, u->ld, 0);
    tile_slopes(l, u, kept, head, q0, n);
    kn->matmul(u->scores, 1, u->ld, t->datt + at, t->ld.q, seen, dim, n, t->dv + kv, t->ld.kv, 1);
    kn->matmul(u->other, u->ld, 1, kept->k + kv, t->ld.kv, n, dim, seen, t->dq + at, t->ld.q, 0);
    kn->matmul(u->other, 1, u->ld, kept->q + at, t->ld.q, seen, dim, n, t->dk + kv, t->ld.kv, 1);
}

void slm_learn_attend_back(slm_learn_lane *l, uint32_t layer, const slm_learn_kept *kept)
{
    slm_learn *t = l->t;
    const slm_hparams *hp = t->hp;
    uint32_t group = hp->n_heads / hp->n_kv_heads, b, e;
    while (slm_learn_next(l, l->batch->n_sequences * hp->n_kv_heads, 1, &b, &e)) {
        attend_unit u = unit_of(l, layer, b);
        size_t kv = u.first * t->ld.kv + (size_t) u.kv_head * hp->head_dim;
        turn_head(&u, kept->k + kv, t->ld.kv, hp->head_dim, u.keys);
        turn_head(&u, kept->v + kv, t->ld.kv, hp->head_dim, u.values);
        for (uint32_t i = 0; i < u.length; i++) {
            memset(t->dk + kv + i * t->ld.kv, 0, hp->head_dim * sizeof(float));
            memset(t->dv + kv + i * t->ld.kv, 0, hp->head_dim * sizeof(float));
        }
        for (uint32_t g = 0; g < group; g++)
            for (uint32_t q0 = 0; q0 < u.length; q0 += SLM_LEARN_QUERIES)
                back_tile(l, &u, kept, u.kv_head * group + g, q0, u.length - q0 < SLM_LEARN_QUERIES ? u.length - q0 : SLM_LEARN_QUERIES);
    }
    slm_learn_end(l);
}
