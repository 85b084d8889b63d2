/*
 * The forward pass of a model that reads whole texts, over packed sequences: BERT and its kin, ModernBERT, and decoders that embed.
 *
 *   token + type + position ─ norm ─┬─ per layer ─────────────────────────────────────────────────────────────────────────┬─ norm ─ pool
 *                                   │ BERT:  q,k,v ─ attend ─ o (+) ─ norm ─ up, act ─ down (+) ─ norm                     │
 *                                   │ others: norm ─ q,k,v ─ turn ─ attend ─ o [norm] (+) ─ norm ─ gate,up ─ down [norm] (+) │
 *
 * Sequences lie one after the other without padding; only attention knows where one ends.  Its unit is (head, sequence): the thread
 * stores the head's keys and values as F16 blocks in its own scratch (a few KiB, in the L1 cache) and attends at once, so that there is no
 * stage in between and no KV memory for the batch.
 *
 * Every row's bits depend on its own sequence alone: the same alone, in any batch and on any number of threads.
 *
 * Sources: Devlin et al. 2018 (arXiv 1810.04805), Reimers & Gurevych 2019 (arXiv 1908.10084), Warner et al. 2024 (arXiv 2412.13663).
 */
#include <string.h>

#include "engine/model/adapter.h"
#include "engine/model/run.h"

#define PART_ROWS 128    /* of a part of a batch of short sequences, at most about */
#define PART_ROWS_MIN 48 /* fewer rows make poor tiles */

typedef struct encode_job {
    slm_run run;
    const slm_encode_batch *batch;
    const uint32_t *starts; /* [n_sequences + 1] first row of each sequence */
    slm_batch rows;         /* with adapters: that of each row, for adapter.c; run.batch then */
} encode_job;

/* Row i of the stream as the next product takes it: normed (n.w NULL: as it is) in place or to ws->norm, multiplied by in_scale (may be
 * NULL), and its blocks. */
static void ready_row(const slm_run *run, slm_scratch *s, uint32_t i, slm_norm_of n, bool in_place, const float *in_scale)
{
    const slm_hparams *hp = run->hp;
    float *x = (float *) run->ws->x.p + i * run->ld.embd, *y = in_place || n.w == NULL ? x : (float *) run->ws->norm.p + i * run->ld.embd;
    if (n.w != NULL)
        slm_norm_row(run, n, x, y, hp->n_embd);
    if (run->model->quantized && in_scale != NULL) {
        float *scaled = s->norm.p;
        for (uint32_t c = 0; c < hp->n_embd; c++)
            scaled[c] = y[c] * in_scale[c];
        y = scaled;
    }
    if (run->model->quantized)
        run->kn->quantize(y, run->ld.embd, 1, hp->n_embd, (slm_qblock *) run->ws->normq.p + i * (size_t) (hp->n_embd / 32));
}

static void ready_stage(slm_lane *t, slm_norm_of n, bool in_place, const float *in_scale)
{
    const slm_run *run = t->run;
    uint32_t b, e;
    while (slm_lane_next(t, run->n, 4, &b, &e))
        for (uint32_t i = b; i < e; i++)
            ready_row(run, t->s, i, n, in_place, in_scale);
    slm_lane_end(t);
}

/* What ready_stage made, for the product that follows. */
static slm_act ready_act(const slm_run *run, bool normed)
{
    return (slm_act) {.q = run->ws->normq.p, .x = normed ? run->ws->norm.p : run->ws->x.p, .ldq = run->hp->n_embd / 32,
                      .ldx = run->ld.embd};
}

/* Row i of the tables of embeddings, summed and normed, and projected to the width of the model where it is another. */
static void look_up(const encode_job *job, slm_scratch *s, uint32_t i, float *out)
{
    const slm_run *run = &job->run;
    const slm_model *m = run->model;
    uint32_t width = m->token_embd.cols;
    float *scratch = s->norm.p, *x = m->embd_proj.data != NULL ? scratch + run->ld.embd : out;
    uint32_t type = job->batch->types == NULL ? 0 : (uint32_t) job->batch->types[i];
    run->kn->unpack_row(&m->token_embd, (uint32_t) job->batch->tokens[i], x);
    slm_adapt_table(run, s, i, SLM_TARGET_TOKEN, (uint32_t) job->batch->tokens[i], x);
    for (uint32_t c = 0; run->hp->embed_scale != 1.0f && c < width; c++)
        x[c] *= run->hp->embed_scale;
    if (m->type_embd.data != NULL && run->hp->n_decide == 0) {
        slm_add_row(run, &m->type_embd, type, x, scratch);
        slm_adapt_table(run, s, i, SLM_TARGET_TYPE, type, x);
    }
    if (m->position_embd.data != NULL)
        slm_add_row(run, &m->position_embd, (uint32_t) run->positions[i], x, scratch);
    if (m->embd_norm != NULL)
        slm_norm_row(run, (slm_norm_of) {m->embd_norm, m->embd_norm_bias}, x, x, width);
    if (m->embd_proj.data != NULL)
        slm_dense_row(run, s, &m->embd_proj, m->embd_proj_bias, x, out);
}

static void embed_stage(encode_job *job, slm_lane *t)
{
    slm_run *run = &job->run;
    const slm_model *m = run->model;
    slm_norm_of first = {m->layers[0].attn_norm, NULL};
    uint32_t b, e;
    while (slm_lane_next(t, run->n, 4, &b, &e)) {
        for (uint32_t i = b; i < e; i++) {
            float *x = (float *) run->ws->x.p + i * run->ld.embd;
            look_up(job, t->s, i, x);
            if (run->hp->n_embd_layer == 0)
                ready_row(run, t->s, i, first, false, m->layers[0].attn_in_scale);
        }
        slm_rope_fill(run, b, e);
    }
    slm_lane_end(t);
    if (run->hp->n_embd_layer > 0) { /* which read the rows as they are */
        slm_stages_layer_embd(t);
        ready_stage(t, first, false, NULL);
    }
}

/* Norms and rotations of queries and keys, and norms of values, where the family has them. */
static void turn_stage(slm_lane *t, uint32_t layer)
{
    slm_run *run = t->run;
    const slm_hparams *hp = run->hp;
    const slm_layer *l = &run->model->layers[layer];
    uint32_t kv_heads = slm_layer_kv_heads(hp, layer), head_dim = slm_layer_head_dim(hp, layer), b, e;
    if (l->q_norm == NULL && slm_rope_row(run, layer, 0) == NULL)
        return;
    while (slm_lane_next(t, run->n, 4, &b, &e))
        for (uint32_t i = b; i < e; i++) {
            float *v = (float *) run->ws->v.p + i * run->ld.kv;
            slm_turn_heads(run, l->q_norm, layer, i, hp->n_heads, (float *) run->ws->q.p + i * run->ld.q);
            slm_turn_heads(run, l->k_norm, layer, i, kv_heads, (float *) run->ws->k.p + i * run->ld.kv);
            for (uint32_t h = 0; hp->value_norm && h < kv_heads; h++)
                run->kn->rms_norm(v + h * head_dim, run->model->ones, v + h * head_dim, head_dim, hp->norm_eps);
        }
    slm_lane_end(t);
}

/* What position i of a sequence of this length sees in this layer. */
static void visible(const slm_hparams *hp, bool slides, uint32_t i, uint32_t length, int32_t *first, int32_t *last)
{
    uint32_t back = hp->mask_causal ? hp->window - 1 : hp->window, ahead = hp->mask_causal ? 0 : hp->window;
    *first = slides && i > back ? (int32_t) (i - back) : 0;
    *last = hp->mask_causal ? (int32_t) i : (int32_t) length - 1;
    if (slides && i + ahead < length - 1)
        *last = (int32_t) (i + ahead);
}

/* One head of one sequence: rows [begin, begin + length) of ws->q, k, v to ws->att. */
static void attend_unit(slm_run *run, slm_scratch *s, uint32_t layer, uint32_t head, uint32_t begin, uint32_t length)
{
    const slm_hparams *hp = run->hp;
    uint32_t head_dim = slm_layer_head_dim(hp, layer), group = hp->n_heads / slm_layer_kv_heads(hp, layer);
    size_t plane = (size_t) SLM_KV_BLOCK * head_dim, at = (size_t) head * head_dim, kv_at = (size_t) (head / group) * head_dim;
    bool slides = slm_layer_slides(hp, layer);
    uint16_t *kv = s->kv.p;
    const uint16_t **table = s->table.p;
    size_t *offset = s->queries.p;
    const uint16_t *const **blocks = (const uint16_t *const **) (offset + SLM_QUERIES);
    int32_t *first = (int32_t *) (blocks + SLM_QUERIES), *last = first + SLM_QUERIES;
    const float *bias[SLM_QUERIES];
    const float *relative = run->model->relative;

    for (uint32_t i = 0; i < length; i++) {
        uint16_t *block = kv + i / SLM_KV_BLOCK * 2 * plane;
        size_t row = (begin + i) * run->ld.kv + kv_at;
        if (i % SLM_KV_BLOCK == 0) {
            table[i / SLM_KV_BLOCK] = block;
            memset(block, 0, 2 * plane * sizeof *block);
        }
        run->kn->kv_store(block, 0, plane, i % SLM_KV_BLOCK, (const float *) run->ws->k.p + row, (const float *) run->ws->v.p + row,
                          head_dim);
    }
    if (hp->relative_span > 0)
        slm_distance_keys(run, s, layer, head, begin, length);
    slm_attend a = {.q = run->ws->q.p, .q_offset = offset, .out = run->ws->att.p, .blocks = blocks, .first = first, .last = last,
                    .k_offset = 0, .v_offset = plane, .head_dim = head_dim, .scale = hp->attn_scale, .softcap = hp->attn_softcap,
                    .bias = relative != NULL || hp->relative_span > 0 ? bias : NULL, .scratch = s->attend.p};
    for (uint32_t i = 0; i < length; i += a.n_q) {
        a.n_q = length - i < SLM_QUERIES ? length - i : SLM_QUERIES;
        if (hp->relative_span > 0)
            slm_distance_bias(run, s, layer, head, begin, length, i, a.n_q, bias);
        for (uint32_t k = 0; k < a.n_q; k++) {
            offset[k] = (begin + i + k) * run->ld.q + at;
            blocks[k] = table;
            visible(hp, slides, i + k, length, &first[k], &last[k]);
            if (relative != NULL)
                bias[k] = relative + head * slm_relative_stride(hp->n_context) + (hp->n_context - 1 - (i + k));
        }
        run->kn->attend(&a);
    }
}

/* A convolution over a row and its neighbours of ws->conv, which holds three gates B, C and x side by side: C * sum(kernel * B * x), to
 * ws->att and ws->attq; beyond the ends of a sequence there are zeros. */
static void convolve_stage(encode_job *job, slm_lane *t, uint32_t layer)
{
    slm_run *run = &job->run;
    const slm_layer *l = &run->model->layers[layer];
    uint32_t n = run->hp->n_embd, b, e;
    while (slm_lane_next(t, job->batch->n_sequences, 1, &b, &e))
        for (uint32_t i = job->starts[b]; i < job->starts[e]; i++) {
            const float *row = (const float *) run->ws->conv.p + i * run->ld.conv;
            bool first = run->positions[i] == 0, last = i + 1 == run->n || run->positions[i + 1] == 0;
            float *out = (float *) run->ws->att.p + i * run->ld.q;
            for (uint32_t c = 0; c < n; c++) {
                const float *x = row + 2 * n + c, *kernel = l->conv_kernel + 3 * (size_t) c;
                float sum = row[c] * *x * kernel[1];
                sum += first ? 0 : row[c - run->ld.conv] * x[-(ptrdiff_t) run->ld.conv] * kernel[0];
                sum += last ? 0 : row[c + run->ld.conv] * x[run->ld.conv] * kernel[2];
                out[c] = row[n + c] * sum;
            }
            if (!slm_type_get(l->o.type)->is_float)
                slm_quantize_attention(run, t->s, i, n, 0, n, NULL);
        }
    slm_lane_end(t);
}

static void attend_stage(encode_job *job, slm_lane *t, uint32_t layer)
{
    slm_run *run = &job->run;
    const slm_hparams *hp = run->hp;
    uint32_t head_dim = slm_layer_head_dim(hp, layer), width = hp->n_heads * head_dim;
    bool quantize = !slm_type_get(run->model->layers[layer].o.type)->is_float, split = head_dim % 32 == 0;
    uint32_t b, e, grain = hp->n_heads >= 4 ? 2 : 1;
    while (slm_lane_next(t, job->batch->n_sequences * hp->n_heads, grain, &b, &e)) {
        for (uint32_t u = b; u < e; u++) {
            uint32_t sequence = u / hp->n_heads, head = u % hp->n_heads, begin = job->starts[sequence];
            attend_unit(run, t->s, layer, head, begin, job->batch->lengths[sequence]);
            for (uint32_t i = begin; quantize && split && i < job->starts[sequence + 1]; i++)
                slm_quantize_attention(run, t->s, i, width, head * head_dim, head_dim, NULL);
        }
    }
    if (quantize && !split)
        slm_stage_quantize_attention(t, width, run->n, NULL);
    slm_lane_end(t);
}

/* What adapters add to finished products of the activations a; ends its stages. Nothing for batches without. */
static void adapt_stage(slm_lane *t, uint32_t layer, slm_target first, int n_products, const slm_product *products, float scale,
                        const slm_act *a)
{
    slm_adapted adapted[3];
    if (t->run->batch == NULL || first >= SLM_TARGETS)
        return;
    for (int i = 0; i < n_products; i++)
        adapted[i] = (slm_adapted) {(slm_target) (first + i), products[i].y, products[i].ldy};
    slm_stage_adapt(t, layer, adapted, n_products, a->x, a->ldx, NULL, scale, t->run->n);
}

/* x += scale * (a . w' + bias), with a norm of the product before the sum where the family has one there. */
static void join_stage(slm_lane *t, uint32_t layer, slm_target target, const slm_weight *w, const float *bias, const float *post,
                       const slm_act *a)
{
    slm_run *run = t->run;
    const slm_hparams *hp = run->hp;
    bool apart = post != NULL && !hp->norm_after_sum;
    slm_product product = {w, bias, apart ? run->ws->out.p : run->ws->x.p, run->ld.embd};
    uint32_t b, e;
    if (!apart) {
        slm_stage_residual(t, &product, a, hp->residual_scale, run->n);
        slm_lane_end(t);
        adapt_stage(t, layer, target, 1, &product, hp->residual_scale, a);
        return;
    }
    slm_stage_project(t, &product, 1, a, run->n);
    slm_lane_end(t);
    adapt_stage(t, layer, target, 1, &product, 1.0f, a);
    while (slm_lane_next(t, run->n, 4, &b, &e))
        for (uint32_t i = b; i < e; i++) {
            float *restrict x = (float *) run->ws->x.p + i * run->ld.embd, *restrict y = (float *) run->ws->out.p + i * run->ld.embd;
            slm_norm_row(run, (slm_norm_of) {post, NULL}, y, y, hp->n_embd);
            for (uint32_t c = 0; c < hp->n_embd; c++)
                x[c] += y[c] * hp->residual_scale;
        }
    slm_lane_end(t);
}

/* The layer's own embedding of each row, and its scale (layer_embd.c). */
static void layer_embd_stage(slm_lane *t, uint32_t layer)
{
    slm_run *run = t->run;
    const slm_layer *l = &run->model->layers[layer];
    slm_product gate = {&l->embd_gate, NULL, run->ws->ff.p, run->ld.ff};
    uint32_t b, e;
    ready_stage(t, (slm_norm_of) {NULL, NULL}, true, NULL);
    slm_act a = ready_act(run, false);
    slm_stage_project(t, &gate, 1, &a, run->n);
    slm_lane_end(t);
    slm_stage_open_embd(t, layer, NULL, NULL, run->n);
    slm_lane_end(t);
    a = slm_feed_act(run, l->embd_out.cols, NULL);
    join_stage(t, layer, SLM_TARGETS, &l->embd_out, NULL, l->embd_post_norm, &a);
    if (l->out_scale == NULL)
        return;
    while (slm_lane_next(t, run->n, 4, &b, &e))
        for (uint32_t i = b; i < e; i++)
            for (uint32_t c = 0; c < run->hp->n_embd; c++)
                ((float *) run->ws->x.p)[i * run->ld.embd + c] *= l->out_scale[0];
    slm_lane_end(t);
}

static void pool_stage(encode_job *job, slm_lane *t)
{
    slm_run *run = &job->run;
    size_t width = slm_hparams_outputs(run->hp);
    uint32_t b, e;
    while (slm_lane_next(t, job->batch->n_sequences, 1, &b, &e))
        if (job->batch->spans != NULL)
            slm_spans_score(run, t->s, (const float *) run->ws->x.p + job->starts[b] * run->ld.embd, job->batch->spans[b]);
        else
            slm_pool(run, t->s, (const float *) run->ws->x.p + job->starts[b] * run->ld.embd,
                     job->batch->marks == NULL ? NULL : job->batch->marks + job->starts[b], job->batch->lengths[b],
                     (float *) run->ws->hidden.p + (run->hp->tags ? job->starts[b] : b) * width);
    slm_lane_end(t);
}

/* Between the layers of the text and those of a decision head: the last norm, a row that says of which kind the question is, and what the
 * head's first layer takes. */
static void question_stage(const encode_job *job, slm_lane *t, const slm_layer *first)
{
    const slm_run *run = &job->run;
    uint32_t b, e;
    while (slm_lane_next(t, run->n, 4, &b, &e))
        for (uint32_t i = b; i < e; i++) {
            float *x = (float *) run->ws->x.p + i * run->ld.embd;
            uint32_t kind = job->batch->types == NULL ? 0 : (uint32_t) job->batch->types[i];
            slm_norm_row(run, (slm_norm_of) {run->model->output_norm, NULL}, x, x, run->hp->n_embd);
            slm_add_row(run, &run->model->type_embd, kind, x, t->s->norm.p);
            ready_row(run, t->s, i, (slm_norm_of) {first->attn_norm, first->attn_norm_bias}, false, NULL);
        }
    slm_lane_end(t);
}

static void encode_layer(encode_job *job, slm_lane *t, uint32_t i)
{
    slm_run *run = &job->run;
    slm_workspace *ws = run->ws;
    const slm_layer *l = &run->model->layers[i], *next = i + 1 < run->hp->n_layers ? l + 1 : NULL;
    bool after = run->hp->norm_after_sum != 0;
    slm_act a = ready_act(run, !after && l->attn_norm != NULL);
    slm_product qkv[3] = {
        {&l->q, l->q_bias, ws->q.p, run->ld.q}, {&l->k, l->k_bias, ws->k.p, run->ld.kv}, {&l->v, l->v_bias, ws->v.p, run->ld.kv}};
    if (slm_layer_convolves(run->hp, i)) {
        slm_product gates = {&l->conv_in, NULL, ws->conv.p, run->ld.conv};
        slm_stage_project(t, &gates, 1, &a, run->n);
        slm_lane_end(t);
        convolve_stage(job, t, i);
    } else {
        slm_stage_project(t, qkv, 3, &a, run->n);
        slm_lane_end(t);
        adapt_stage(t, i, SLM_TARGET_Q, 3, qkv, 1.0f, &a);
        turn_stage(t, i);
        attend_stage(job, t, i);
    }

    slm_act att = slm_attention_act(run, l->o.cols, NULL), ff = slm_feed_act(run, l->down.cols, NULL);
    join_stage(t, i, SLM_TARGET_O, &l->o, l->o_bias, l->attn_post_norm, &att);
    ready_stage(t, after ? (slm_norm_of) {l->attn_post_norm, l->attn_norm_bias} : (slm_norm_of) {l->ffn_norm, l->ffn_norm_bias}, after,
                l->ffn_in_scale);
    a = ready_act(run, !after && l->ffn_norm != NULL);
    if (run->batch != NULL) {
        slm_stage_feed_adapted(t, i, &a, NULL, run->n);
    } else {
        slm_stage_feed(t, l, &a, run->n);
        slm_lane_end(t);
    }
    join_stage(t, i, SLM_TARGET_DOWN, &l->down, l->down_bias, l->ffn_post_norm, &ff);
    if (run->hp->n_embd_layer > 0)
        layer_embd_stage(t, i);
    if (after)
        ready_stage(t, (slm_norm_of) {l->ffn_post_norm, l->ffn_norm_bias}, true, next != NULL ? next->attn_in_scale : NULL);
    else if (next != NULL && slm_layer_decides(run->hp, i + 1) && !slm_layer_decides(run->hp, i))
        question_stage(job, t, next);
    else if (next != NULL)
        ready_stage(t, (slm_norm_of) {next->attn_norm, next->attn_norm_bias}, false, next->attn_in_scale);
    else if (run->hp->n_decide == 0)
        ready_stage(t, (slm_norm_of) {run->model->output_norm, NULL}, true, NULL);
}

static void encode_region(void *arg, slm_team *team, int thread, int n_threads)
{
    encode_job *job = arg;
    slm_lane t = slm_lane_of(&job->run, team, thread);
    embed_stage(job, &t);
    for (uint32_t i = 0; i < job->run.hp->n_layers; i++)
        encode_layer(job, &t, i);
    pool_stage(job, &t);
}

/* Checks the batch; *n is its number of rows, *longest its longest sequence. */
static bool has_adapters(const slm_encode_batch *batch)
{
    for (uint32_t i = 0; batch->adapters != NULL && i < batch->n_sequences; i++)
        if (batch->adapters[i] != NULL)
            return true;
    return false;
}

static slm_status batch_check(const slm_model *model, const slm_encode_batch *batch, uint32_t *n, uint32_t *longest, slm_error *err)
{
    const slm_hparams *hp = &model->hp;
    uint64_t rows = 0;
    *longest = 0;
    if (hp->causal || hp->pooling == SLM_POOL_NONE)
        return slm_fail(err, SLM_INVALID, "this model is no encoder");
    if (batch->n_sequences == 0)
        return slm_fail(err, SLM_INVALID, "no sequence to encode");
    if (hp->joint && batch->marks == NULL)
        return slm_fail(err, SLM_INVALID, "the marks of labels are missing");
    for (uint32_t i = 0; i < batch->n_sequences; i++) {
        if (batch->lengths[i] == 0 || batch->lengths[i] > hp->n_context)
            return slm_fail(err, SLM_INVALID, "a sequence of %u tokens; the model takes 1 to %u", batch->lengths[i], hp->n_context);
        if (batch->lengths[i] > *longest)
            *longest = batch->lengths[i];
        if (batch->adapters != NULL && batch->adapters[i] != NULL && !slm_adapter_fits(batch->adapters[i], hp))
            return slm_fail(err, SLM_INVALID, "the adapter of a sequence was opened for another model");
        if (hp->spans != SLM_SPANS_NONE && (batch->spans == NULL || !slm_span_marks_good(batch->spans[i], batch->lengths[i])))
            return slm_fail(err, SLM_INVALID, "a sequence without words or labels, or with others than its own");
        rows += batch->lengths[i];
    }
    if (batch->spans != NULL && hp->spans == SLM_SPANS_NONE)
        return slm_fail(err, SLM_INVALID, "this model finds no spans");
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

static uint32_t most_labels(const slm_encode_batch *batch)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < batch->n_sequences; i++)
        most = batch->spans[i]->n_labels > most ? batch->spans[i]->n_labels : most;
    return most;
}

/* Room for n rows of n_sequences sequences. */
static slm_status whole_need(encode_job *job, const slm_model *model, slm_workspace *ws, uint32_t n, uint32_t n_sequences, uint32_t longest,
                             int n_threads, const volatile int *stop, slm_error *err)
{
    SLM_TRY(slm_run_init(&job->run, model, ws, NULL, n, 0, longest, n_threads, stop, err));
    SLM_TRY(slm_buffer_need(&ws->hidden, model->hp.tags ? n : n_sequences, slm_hparams_outputs(&model->hp) * sizeof(float), err));
    for (int i = 0; i < n_threads; i++)
        SLM_TRY(model->hp.spans != SLM_SPANS_NONE
                    ? slm_spans_need(&job->run, &ws->scratch[i], longest, most_labels(job->batch), err)
                    : slm_buffer_need(&ws->scratch[i].pool, slm_pool_floats(&model->hp), sizeof(float), err));
    return slm_buffer_need(&ws->rows, (size_t) n + n_sequences + 1, sizeof(uint32_t), err);
}

/* The adapter of each row, where one has any. */
static slm_status take_adapters(encode_job *job, uint32_t n, slm_error *err)
{
    slm_workspace *ws = job->run.ws;
    if (!has_adapters(job->batch))
        return SLM_OK;
    SLM_TRY(slm_buffer_need(&ws->adapters, n, sizeof(slm_adapter *), err));
    const slm_adapter **of = ws->adapters.p;
    for (uint32_t i = 0; i < job->batch->n_sequences; i++)
        for (uint32_t row = job->starts[i]; row < job->starts[i + 1]; row++)
            of[row] = job->batch->adapters[i];
    job->rows = (slm_batch) {.n = n, .adapters = of};
    job->run.batch = &job->rows;
    return slm_adapt_need(&job->run, err);
}

/* All sequences of the batch (n rows) in one run, every stage shared by the threads. */
static slm_status encode_whole(const slm_model *model, slm_workspace *ws, const slm_encode_batch *batch, uint32_t n, uint32_t longest,
                               int n_threads, const volatile int *stop, slm_error *err)
{
    encode_job job = {.batch = batch};
    SLM_TRY(whole_need(&job, model, ws, n, batch->n_sequences, longest, n_threads, stop, err));
    uint32_t *starts = ws->rows.p, row = 0;
    int32_t *places = (int32_t *) (starts + batch->n_sequences + 1);
    for (uint32_t i = 0; i < batch->n_sequences; i++) {
        starts[i] = row;
        for (uint32_t k = 0; k < batch->lengths[i]; k++)
            places[row++] = (int32_t) k;
    }
    starts[batch->n_sequences] = row;
    job.starts = starts;
    job.run.positions = places;
    SLM_TRY(take_adapters(&job, n, err));
    slm_parallel_stages(n_threads, encode_region, &job);
    return slm_run_cancelled(&job.run) ? slm_fail(err, SLM_CANCELLED, "cancelled") : SLM_OK;
}

/* ------------------------------------------------------------------ many short sequences */

typedef struct parts_job {
    const slm_model *model;
    slm_workspace *ws; /* its parts, one a thread, have room */
    const slm_encode_batch *batch;
    const volatile int *stop;
    uint32_t n, n_parts, rows, longest; /* rows of all; of a part, about */
    atomic_int failure;
} parts_job;

/* Part i of the sequences, from row *row on; *rows of it.  A sequence belongs to the part in which its first row is. */
static slm_encode_batch part_of(const parts_job *job, uint32_t i, uint32_t *row, uint32_t *rows, uint32_t *sequence)
{
    slm_encode_batch part = {0};
    uint64_t begin = (uint64_t) i * job->rows, end = i + 1 == job->n_parts ? UINT64_MAX : begin + job->rows, at = 0;
    *rows = *row = *sequence = 0;
    for (uint32_t k = 0; k < job->batch->n_sequences && at < end; at += job->batch->lengths[k++]) {
        if (at < begin)
            continue;
        if (part.n_sequences++ == 0) {
            *row = (uint32_t) at;
            *sequence = k;
        }
        *rows += job->batch->lengths[k];
    }
    part.lengths = job->batch->lengths + *sequence;
    part.tokens = job->batch->tokens + *row;
    part.types = job->batch->types == NULL ? NULL : job->batch->types + *row;
    part.marks = job->batch->marks == NULL ? NULL : job->batch->marks + *row;
    part.adapters = job->batch->adapters == NULL ? NULL : job->batch->adapters + *sequence;
    part.spans = job->batch->spans == NULL ? NULL : job->batch->spans + *sequence;
    return part;
}

static void parts_region(void *arg, slm_team *team, int thread, int n_threads)
{
    parts_job *job = arg;
    slm_workspace *own = job->ws->parts[thread];
    size_t width = slm_hparams_outputs(&job->model->hp);
    slm_error ignored;
    uint32_t b, e, row, rows, sequence;
    (void) n_threads;
    while (slm_take(team, job->n_parts, 1, &b, &e)) {
        slm_encode_batch part = part_of(job, b, &row, &rows, &sequence);
        slm_status status = SLM_OK;
        if (part.n_sequences > 0 && atomic_load(&job->failure) == SLM_OK)
            status = encode_whole(job->model, own, &part, rows, job->longest, 1, job->stop, &ignored);
        if (status != SLM_OK)
            atomic_store(&job->failure, (int) status);
        else if (part.n_sequences > 0)
            memcpy((float *) job->ws->hidden.p + (job->model->hp.tags ? row : sequence) * width, own->hidden.p,
                   (job->model->hp.tags ? rows : part.n_sequences) * width * sizeof(float));
    }
}

/* Many short sequences: each thread takes some of them through all layers alone.  No thread waits for another before the end, and
 * a part's activations stay in the second-level cache.  false: the batch is none of that kind. */
static bool cut_in_parts(parts_job *job, uint32_t n, int n_threads)
{
    uint32_t wave = (uint32_t) n_threads * PART_ROWS;
    job->n_parts = (n + wave - 1) / wave * (uint32_t) n_threads;
    job->rows = (n + job->n_parts - 1) / job->n_parts;
    return job->n_parts > 1 && job->rows >= PART_ROWS_MIN && job->longest <= job->rows / 3;
}

static slm_status encode_parts(parts_job *job, int n_threads, slm_error *err)
{
    encode_job room = {.batch = job->batch};
    size_t width = slm_hparams_outputs(&job->model->hp);
    SLM_TRY(slm_workspace_parts(job->ws, n_threads, err));
    for (int i = 0; i < n_threads; i++)
        SLM_TRY(whole_need(&room, job->model, job->ws->parts[i], job->rows + job->longest, job->rows + 1, job->longest, 1, job->stop, err));
    SLM_TRY(slm_buffer_need(&job->ws->hidden, job->model->hp.tags ? job->n : job->batch->n_sequences, width * sizeof(float), err));
    slm_parallel(n_threads, parts_region, job);
    switch (atomic_load(&job->failure)) {
    case SLM_OK: return SLM_OK;
    case SLM_CANCELLED: return slm_fail(err, SLM_CANCELLED, "cancelled");
    default: return slm_fail(err, SLM_INTERNAL, "a part of a batch had no room");
    }
}

slm_status slm_encode(const slm_model *model, slm_workspace *ws, const slm_encode_batch *batch, int n_threads, const volatile int *stop,
                      float **vectors, slm_error *err)
{
    parts_job parts = {.model = model, .ws = ws, .batch = batch, .stop = stop};
    uint32_t n = 0;
    if (n_threads < 1)
        n_threads = 1;
    SLM_TRY(batch_check(model, batch, &n, &parts.longest, err));
    parts.n = n;
    if (cut_in_parts(&parts, n, n_threads))
        SLM_TRY(encode_parts(&parts, n_threads, err));
    else
        SLM_TRY(encode_whole(model, ws, batch, n, parts.longest, n_threads, stop, err));
    *vectors = ws->hidden.p;
    return SLM_OK;
}
