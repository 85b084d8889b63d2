/*
 * The forward pass of an encoder (BERT: MiniLM, bge, e5, gte, cross-encoders) over packed sequences.
 *
 *   token + type + position ─ layer norm ─┬─ per layer ──────────────────────────────────────────────┬─ pool ─► vectors
 *                                         │ q,k,v ─ attend ─ o (+) ─ layer norm ─ up, GELU ─ down (+) ─ layer norm │
 *
 * Sequences lie one after the other without padding; only attention knows where one ends.  Its unit is (head, sequence): the thread
 * stores the head's keys and values as F16 blocks in its own scratch (a few KiB, in the L1 cache) and attends at once, so that there is no
 * stage in between and no KV memory for the batch.
 *
 * Pooling sums tokens in order and normalizes in double precision in order: the same bits alone, in any batch and on any number of
 * threads.
 *
 * Sources: Devlin et al. 2018 (arXiv 1810.04805), Reimers & Gurevych 2019 (arXiv 1908.10084).
 */
#include <math.h>
#include <string.h>

#include "engine/base/math.h"
#include "engine/model/run.h"

typedef struct encode_job {
    slm_run run;
    const slm_encode_batch *batch;
    const uint32_t *starts; /* [n_sequences + 1] first row of each sequence */
    const uint32_t *places; /* [n] position of each row in its sequence */
} encode_job;

/* Layer norm of row i of x in place, and its blocks for the next product, which takes it multiplied by in_scale (may be NULL). */
static void norm_row(const slm_run *run, slm_scratch *s, uint32_t i, const float *w, const float *b, const float *in_scale)
{
    const slm_hparams *hp = run->hp;
    float *x = (float *) run->ws->x.p + i * run->ld.embd;
    run->kn->layer_norm(x, w, b, x, hp->n_embd, hp->norm_eps);
    if (run->model->quantized && in_scale != NULL) {
        float *scaled = s->norm.p;
        for (uint32_t c = 0; c < hp->n_embd; c++)
            scaled[c] = x[c] * in_scale[c];
        x = scaled;
    }
    if (run->model->quantized)
        run->kn->quantize(x, run->ld.embd, 1, hp->n_embd, (slm_qblock *) run->ws->normq.p + i * (size_t) (hp->n_embd / 32));
}

static void norm_stage(slm_lane *t, const float *w, const float *bias, const float *in_scale)
{
    const slm_run *run = t->run;
    uint32_t b, e;
    while (slm_lane_next(t, run->n, 4, &b, &e))
        for (uint32_t i = b; i < e; i++)
            norm_row(run, t->s, i, w, bias, in_scale);
    slm_lane_end(t);
}

static void add_row(const slm_run *run, const slm_weight *w, uint32_t row, float *x, float *scratch)
{
    run->kn->unpack_row(w, row, scratch);
    for (uint32_t c = 0; c < run->hp->n_embd; c++)
        x[c] += scratch[c];
}

static void embed_stage(encode_job *job, slm_lane *t)
{
    slm_run *run = &job->run;
    const slm_model *m = run->model;
    uint32_t b, e;
    while (slm_lane_next(t, run->n, 4, &b, &e)) {
        for (uint32_t i = b; i < e; i++) {
            float *x = (float *) run->ws->x.p + i * run->ld.embd;
            run->kn->unpack_row(&m->token_embd, (uint32_t) job->batch->tokens[i], x);
            if (m->type_embd.data != NULL)
                add_row(run, &m->type_embd, job->batch->types == NULL ? 0 : (uint32_t) job->batch->types[i], x, t->s->norm.p);
            add_row(run, &m->position_embd, job->places[i], x, t->s->norm.p);
            norm_row(run, t->s, i, m->embd_norm, m->embd_norm_bias, m->layers[0].attn_in_scale);
        }
    }
    slm_lane_end(t);
}

/* One head of one sequence: rows [begin, begin + length) of ws->q, k, v to ws->att. */
static void attend_unit(slm_run *run, slm_scratch *s, uint32_t head, uint32_t begin, uint32_t length)
{
    const slm_hparams *hp = run->hp;
    size_t plane = (size_t) SLM_KV_BLOCK * hp->head_dim, at = (size_t) head * hp->head_dim;
    uint16_t *kv = s->kv.p;
    const uint16_t **table = s->table.p;
    size_t *offset = s->queries.p;
    const uint16_t *const **blocks = (const uint16_t *const **) (offset + SLM_QUERIES);
    int32_t *first = (int32_t *) (blocks + SLM_QUERIES), *last = first + SLM_QUERIES;

    for (uint32_t i = 0; i < length; i++) {
        uint16_t *block = kv + i / SLM_KV_BLOCK * 2 * plane;
        size_t row = (begin + i) * run->ld.kv + at;
        if (i % SLM_KV_BLOCK == 0) {
            table[i / SLM_KV_BLOCK] = block;
            memset(block, 0, 2 * plane * sizeof *block);
        }
        run->kn->kv_store(block, 0, plane, i % SLM_KV_BLOCK, (const float *) run->ws->k.p + row, (const float *) run->ws->v.p + row,
                          hp->head_dim);
    }
    slm_attend a = {.q = run->ws->q.p, .q_offset = offset, .out = run->ws->att.p, .blocks = blocks, .first = first, .last = last,
                    .k_offset = 0, .v_offset = plane, .head_dim = hp->head_dim, .scale = hp->attn_scale, .scratch = s->attend.p};
    for (uint32_t i = 0; i < length; i += a.n_q) {
        a.n_q = length - i < SLM_QUERIES ? length - i : SLM_QUERIES;
        for (uint32_t k = 0; k < a.n_q; k++) {
            offset[k] = (begin + i + k) * run->ld.q + at;
            blocks[k] = table;
            first[k] = 0;
            last[k] = (int32_t) length - 1;
        }
        run->kn->attend(&a);
    }
}

static void attend_stage(encode_job *job, slm_lane *t, const slm_layer *layer)
{
    slm_run *run = &job->run;
    const slm_hparams *hp = run->hp;
    bool quantize = !slm_type_get(layer->o.type)->is_float, split = hp->head_dim % 32 == 0;
    uint32_t b, e, grain = hp->n_heads >= 4 ? 2 : 1;
    while (slm_lane_next(t, job->batch->n_sequences * hp->n_heads, grain, &b, &e)) {
        for (uint32_t u = b; u < e; u++) {
            uint32_t sequence = u / hp->n_heads, head = u % hp->n_heads, begin = job->starts[sequence];
            attend_unit(run, t->s, head, begin, job->batch->lengths[sequence]);
            for (uint32_t i = begin; quantize && split && i < job->starts[sequence + 1]; i++)
                slm_quantize_attention(run, t->s, i, head * hp->head_dim, hp->head_dim, NULL);
        }
    }
    if (quantize && !split)
        slm_stage_quantize_attention(t, run->n, NULL);
    slm_lane_end(t);
}

/* ---- from rows to vectors ---- */

static void pool_mean(const slm_run *run, const float *x, uint32_t length, float *out)
{
    uint32_t n = run->hp->n_embd;
    float share = 1.0f / (float) length;
    memcpy(out, x, n * sizeof(float));
    for (uint32_t i = 1; i < length; i++)
        for (uint32_t c = 0; c < n; c++)
            out[c] += x[i * run->ld.embd + c];
    for (uint32_t c = 0; c < n; c++)
        out[c] *= share;
}

/* One row through a small dense layer: y [16 * n_panels]. */
static void dense_row(const slm_run *run, slm_scratch *s, const slm_weight *w, const float *bias, const float *x, float *y)
{
    slm_qblock *blocks = s->normq.p;
    if (!slm_type_get(w->type)->is_float)
        run->kn->quantize(x, w->cols, 1, w->cols, blocks);
    run->kn->gemm(w, 0, w->n_panels, blocks, x, w->cols, 1, y, 16 * (size_t) w->n_panels, s->gemm.p);
    for (uint32_t c = 0; bias != NULL && c < w->rows; c++)
        y[c] += bias[c];
}

/* The classification head of a cross-encoder on the first token: a score, not squashed. */
static float rank_score(const slm_run *run, slm_scratch *s, const float *x)
{
    const slm_model *m = run->model;
    float *dense = s->tile.p, *score = dense + slm_round_up(run->ld.embd, 16);
    if (m->cls_dense.data != NULL) {
        dense_row(run, s, &m->cls_dense, m->cls_dense_bias, x, dense);
        run->kn->softcap(dense, dense, 1.0f, m->cls_dense.rows); /* tanh */
        x = dense;
    }
    dense_row(run, s, &m->cls_out, m->cls_out_bias, x, score);
    return score[0];
}

static void pool_stage(encode_job *job, slm_lane *t)
{
    slm_run *run = &job->run;
    const slm_hparams *hp = run->hp;
    float *vectors = run->ws->hidden.p;
    uint32_t b, e;
    while (slm_lane_next(t, job->batch->n_sequences, 1, &b, &e)) {
        const float *x = (const float *) run->ws->x.p + job->starts[b] * run->ld.embd;
        float *out = vectors + b * (size_t) hp->n_embd;
        if (hp->pooling == SLM_POOL_RANK) {
            vectors[b] = rank_score(run, t->s, x);
            continue;
        }
        if (hp->pooling == SLM_POOL_CLS)
            memcpy(out, x, hp->n_embd * sizeof(float));
        else
            pool_mean(run, x, job->batch->lengths[b], out);
        if (hp->embed_normalize)
            slm_normalize(out, hp->n_embd);
    }
}

static void encode_region(void *arg, slm_team *team, int thread, int n_threads)
{
    encode_job *job = arg;
    slm_run *run = &job->run;
    slm_workspace *ws = run->ws;
    slm_lane t = slm_lane_of(run, team, thread);
    slm_act a = {.q = ws->normq.p, .x = ws->x.p, .ldq = run->hp->n_embd / 32, .ldx = run->ld.embd};

    embed_stage(job, &t);
    for (uint32_t i = 0; i < run->hp->n_layers; i++) {
        const slm_layer *l = &run->model->layers[i];
        slm_product qkv[3] = {
            {&l->q, l->q_bias, ws->q.p, run->ld.q}, {&l->k, l->k_bias, ws->k.p, run->ld.kv}, {&l->v, l->v_bias, ws->v.p, run->ld.kv}};
        slm_stage_project(&t, qkv, 3, &a, run->n);
        slm_lane_end(&t);
        attend_stage(job, &t, l);

        slm_act att = slm_attention_act(run, NULL), ff = slm_feed_act(run, NULL);
        slm_product o = {&l->o, l->o_bias, ws->x.p, run->ld.embd}, down = {&l->down, l->down_bias, ws->x.p, run->ld.embd};
        slm_stage_residual(&t, &o, &att, 1.0f, run->n);
        slm_lane_end(&t);
        norm_stage(&t, l->attn_post_norm, l->attn_norm_bias, l->ffn_in_scale);
        slm_stage_feed(&t, l, &a, run->n);
        slm_lane_end(&t);
        slm_stage_residual(&t, &down, &ff, 1.0f, run->n);
        slm_lane_end(&t);
        norm_stage(&t, l->ffn_post_norm, l->ffn_norm_bias, i + 1 < run->hp->n_layers ? l[1].attn_in_scale : NULL);
    }
    pool_stage(job, &t);
    slm_lane_end(&t);
}

/* Checks the batch; *n is its number of rows, *longest its longest sequence. */
static slm_status batch_check(const slm_model *model, const slm_encode_batch *batch, uint32_t *n, uint32_t *longest, slm_error *err)
{
    const slm_hparams *hp = &model->hp;
    uint64_t rows = 0;
    *longest = 0;
    if (hp->causal || hp->pooling == SLM_POOL_NONE)
        return slm_fail(err, SLM_INVALID, "this model is no encoder");
    if (batch->n_sequences == 0)
        return slm_fail(err, SLM_INVALID, "no sequence to encode");
    for (uint32_t i = 0; i < batch->n_sequences; i++) {
        if (batch->lengths[i] == 0 || batch->lengths[i] > hp->n_context)
            return slm_fail(err, SLM_INVALID, "a sequence of %u tokens; the model takes 1 to %u", batch->lengths[i], hp->n_context);
        if (batch->lengths[i] > *longest)
            *longest = batch->lengths[i];
        rows += batch->lengths[i];
    }
    if (rows > INT32_MAX)
        return slm_fail(err, SLM_LIMIT, "a batch of too many tokens");
    for (uint64_t i = 0; i < rows; i++) {
        if (batch->tokens[i] < 0 || (uint32_t) batch->tokens[i] >= hp->n_vocab)
            return slm_fail(err, SLM_INVALID, "token id %d is outside the vocabulary of %u", batch->tokens[i], hp->n_vocab);
        if (batch->types != NULL && (batch->types[i] < 0 || (uint32_t) batch->types[i] >= hp->n_token_types))
            return slm_fail(err, SLM_INVALID, "token type %d; the model has %u", batch->types[i], hp->n_token_types);
    }
    *n = (uint32_t) rows;
    return SLM_OK;
}

slm_status slm_encode(const slm_model *model, slm_workspace *ws, const slm_encode_batch *batch, int n_threads, const volatile int *stop,
                      float **vectors, slm_error *err)
{
    encode_job job = {.batch = batch};
    uint32_t n = 0, longest = 0;
    if (n_threads < 1)
        n_threads = 1;
    SLM_TRY(batch_check(model, batch, &n, &longest, err));
    SLM_TRY(slm_run_init(&job.run, model, ws, NULL, n, batch->n_sequences, longest, n_threads, stop, err));
    SLM_TRY(slm_buffer_need(&ws->rows, (size_t) n + batch->n_sequences + 1, sizeof(uint32_t), err));
    uint32_t *starts = ws->rows.p, *places = starts + batch->n_sequences + 1, row = 0;
    for (uint32_t i = 0; i < batch->n_sequences; i++) {
        starts[i] = row;
        for (uint32_t k = 0; k < batch->lengths[i]; k++)
            places[row++] = k;
    }
    starts[batch->n_sequences] = row;
    job.starts = starts;
    job.places = places;
    slm_parallel_stages(n_threads, encode_region, &job);
    if (slm_run_cancelled(&job.run))
        return slm_fail(err, SLM_CANCELLED, "cancelled");
    *vectors = ws->hidden.p;
    return SLM_OK;
}
