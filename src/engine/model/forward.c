/*
 * The forward pass of a decoder over a batch of positions: one parallel region, every thread runs the same code.
 *
 *   embed ─┬─ per layer ──────────────────────────────────────────────────────────────────────────────┬─ final norm ─► hidden
 *          │ norm ─ q,k,v ─ rotate, store ─ attend ─ o ─(+)─ norm ─ gate,up,act ─ down ─(+)─           │
 *          │ (post norms where the family has them, before each (+))                                   │
 *
 * "─" is the end of a stage, except where each thread repeats a small norm for itself (batches of SLM_SOLO_ROWS), and where
 * attention stores its own keys (slm_run.own_kv).  A decode step of the llama family has five stages per layer.
 *
 * After the last keys are stored, only rows whose hidden state is wanted go on; a batch that wants none ends there.
 *
 * Families differ in data alone (hparams.h): which norms exist, scales, soft caps, windows, tables of angles.
 */
#include <string.h>

#include "engine/arch/family.h"
#include "engine/model/adapter.h"
#include "engine/model/run.h"

/* The residual stream and its rows at some point of the pass. */
typedef struct stream {
    float *x;             /* [n, ld.embd] */
    uint32_t n;
    const uint32_t *rows; /* [n] batch row of each, NULL: the same */
    const uint8_t *fine;  /* [n] or NULL */
} stream;

static void embed_stage(slm_lane *t)
{
    const slm_run *run = t->run;
    const slm_hparams *hp = run->hp;
    uint32_t b, e;
    while (slm_lane_next(t, run->n, 4, &b, &e)) {
        for (uint32_t i = b; i < e; i++) {
            float *x = (float *) run->ws->x.p + i * run->ld.embd;
            run->kn->unpack_row(&run->model->token_embd, (uint32_t) run->batch->tokens[i], x);
            if (hp->embed_scale != 1.0f)
                for (uint32_t c = 0; c < hp->n_embd; c++)
                    x[c] *= hp->embed_scale;
            if (run->model->position_embd.data != NULL)
                slm_add_row(run, &run->model->position_embd, (uint32_t) run->positions[i], x, (float *) run->ws->out.p + i * run->ld.embd);
        }
        slm_rope_fill(t->run, b, e);
    }
    slm_lane_end(t);
}

/* Rows [b, e) of the stream: normed to `norm`, blocks to `normq`, second terms of fine rows to `lo`. */
static void norm_range(const slm_lane *t, const stream *st, slm_norm_of by, uint32_t b, uint32_t e, float *norm, slm_qblock *normq,
                       slm_qblock *lo)
{
    const slm_run *run = t->run;
    const slm_hparams *hp = run->hp;
    size_t ld = run->ld.embd, ldq = hp->n_embd / 32;
    for (uint32_t i = b; i < e; i++) {
        const float *y = st->x + i * ld;
        if (by.w != NULL) {
            slm_norm_row(run, by, y, norm + i * ld, hp->n_embd);
            y = norm + i * ld;
        }
        if (run->model->quantized)
            slm_quantize_row(run, t->s, y, hp->n_embd, normq + i * ldq, st->fine != NULL && st->fine[i] ? lo + i * ldq : NULL);
    }
}

/* The normalized stream as activations. Small batches: by every thread for itself; else shared, a stage. */
static slm_act norm_stage(slm_lane *t, const stream *st, slm_norm_of by)
{
    slm_run *run = t->run;
    /* Adapters and experts read the norm in later stages. */
    bool solo = st->n <= SLM_SOLO_ROWS && run->batch->adapters == NULL && run->hp->n_experts == 0;
    float *norm = solo ? t->s->norm.p : run->ws->norm.p;
    slm_qblock *normq = solo ? t->s->normq.p : run->ws->normq.p;
    size_t ldq = run->hp->n_embd / 32;
    slm_qblock *lo = normq + (solo ? SLM_SOLO_ROWS : run->n) * ldq;
    uint32_t b, e;
    if (solo) {
        if (!slm_stage_passed(t->team, &t->stage))
            norm_range(t, st, by, 0, st->n, norm, normq, lo);
    } else {
        while (slm_lane_next(t, st->n, 4, &b, &e))
            norm_range(t, st, by, b, e, norm, normq, lo);
        slm_lane_end(t);
    }
    return (slm_act) {.q = normq, .x = by.w != NULL ? norm : st->x, .ldq = ldq, .ldx = run->ld.embd, .lo = st->fine != NULL ? lo : NULL,
                      .fine = st->fine};
}

/* What adapters add to finished products of the activations a (first SLM_TARGETS: nothing); ends its stages. Nothing for batches without.
 */
static void adapt_stage(slm_lane *t, const stream *st, uint32_t layer, slm_target first, int n_products, const slm_product *products,
                        float scale, const slm_act *a)
{
    slm_adapted adapted[3];
    if (t->run->batch->adapters == NULL || first == SLM_TARGETS)
        return;
    for (int i = 0; i < n_products; i++)
        adapted[i] = (slm_adapted) {(slm_target) (first + i), products[i].y, products[i].ldy};
    slm_stage_adapt(t, layer, adapted, n_products, a->x, a->ldx, st->rows, scale, st->n);
}

/* x += scale * (a . w'), with a norm of the product before the sum where post is set, and x times a number after it unless NULL. */
static void join_stage(slm_lane *t, const stream *st, uint32_t layer, slm_target target, const slm_weight *w, const float *bias,
                       const float *post, const float *times, const slm_act *a)
{
    slm_run *run = t->run;
    const slm_hparams *hp = run->hp;
    size_t ld = run->ld.embd;
    uint32_t b, e;
    if (post == NULL) {
        slm_product product = {w, bias, st->x, ld};
        slm_stage_residual(t, &product, a, hp->residual_scale, st->n);
        slm_lane_end(t);
        adapt_stage(t, st, layer, target, 1, &product, hp->residual_scale, a);
        return;
    }
    slm_product product = {w, bias, run->ws->out.p, ld};
    slm_stage_project(t, &product, 1, a, st->n);
    slm_lane_end(t);
    adapt_stage(t, st, layer, target, 1, &product, 1.0f, a);
    while (slm_lane_next(t, st->n, 2, &b, &e)) {
        for (uint32_t i = b; i < e; i++) {
            float *restrict x = st->x + i * ld, *restrict y = (float *) run->ws->out.p + i * ld;
            run->kn->rms_norm(y, post, y, hp->n_embd, hp->norm_eps);
            for (uint32_t c = 0; c < hp->n_embd; c++)
                x[c] += hp->residual_scale == 1.0f ? y[c] : y[c] * hp->residual_scale;
            for (uint32_t c = 0; times != NULL && c < hp->n_embd; c++)
                x[c] *= *times;
        }
    }
    slm_lane_end(t);
}

/* Copies the wanted rows to ws->compact: what follows the last layer's keys works on them alone. */
static void compact_stage(slm_lane *t, stream *st)
{
    slm_run *run = t->run;
    const slm_batch *batch = run->batch;
    float *compact = run->ws->compact.p;
    uint32_t b, e;
    while (slm_lane_next(t, batch->n_out, 16, &b, &e))
        for (uint32_t i = b; i < e; i++)
            memcpy(compact + i * run->ld.embd, st->x + batch->out[i] * run->ld.embd, run->ld.embd * sizeof(float));
    slm_lane_end(t);
    *st = (stream) {.x = compact, .n = batch->n_out, .rows = batch->out, .fine = run->fine_out};
}

/* Attention of one layer up to `o`; on the last layer with keys the stream shrinks to the wanted rows. false: no row is left. */
static bool attention_block(slm_lane *t, stream *st, uint32_t layer)
{
    slm_run *run = t->run;
    slm_workspace *ws = run->ws;
    const slm_layer *l = &run->model->layers[layer];
    uint32_t keyed = slm_layers_with_keys(run->hp);
    bool shrink = layer + 1 == keyed && run->batch->n_out < run->n, keyless = layer >= keyed;
    bool with_keys = run->own_kv && !shrink && !keyless && !run->model->qk_norm_rows;
    slm_norm_of by = {l->attn_norm, l->attn_norm_bias};
    bool gated = run->hp->attn_gate != 0;
    slm_product all[4] = {{&l->attn_gate, NULL, ws->open.p, run->ld.gate},
                          {&l->q, l->q_bias, ws->q.p, run->ld.q},
                          {&l->k, l->k_bias, ws->k.p, run->ld.kv},
                          {&l->v, l->v_bias, ws->v.p, run->ld.kv}};
    slm_product *qkv = all + 1, *first = shrink ? qkv + 1 : gated ? all : qkv, *end = keyless ? qkv + 1 : all + 4;

    slm_act a = norm_stage(t, st, by);
    slm_stage_project(t, first, (int) (end - first), &a, st->n);
    slm_lane_end(t);
    adapt_stage(t, st, layer, shrink ? SLM_TARGET_K : SLM_TARGET_Q, keyless ? 1 : shrink ? 2 : 3,
                shrink ? qkv + 1 : qkv, 1.0f, &a);
    if (!with_keys && !keyless) {
        slm_stage_keys(t, layer);
        slm_lane_end(t);
    }
    if (shrink) {
        if (run->batch->n_out == 0)
            return false;
        compact_stage(t, st);
        a = norm_stage(t, st, by);
        slm_stage_project(t, gated ? all : qkv, gated ? 2 : 1, &a, st->n);
        slm_lane_end(t);
        adapt_stage(t, st, layer, SLM_TARGET_Q, 1, qkv, 1.0f, &a);
    }
    slm_stage_fetch(t, &l->o, 1, st->n);
    slm_stage_attend(t, layer, st->rows, st->n, with_keys);
    slm_lane_end(t);
    return true;
}

/* The same of a layer with a convolution: what all rows leave for later ones, then that of the wanted rows. */
static bool convolution_block(slm_lane *t, stream *st, uint32_t layer)
{
    slm_run *run = t->run;
    const slm_layer *l = &run->model->layers[layer];
    bool shrink = layer + 1 == run->hp->n_layers && run->batch->n_out < run->n;
    slm_product gates = {&l->conv_in, NULL, run->ws->conv.p, run->ld.conv};
    slm_act a = norm_stage(t, st, (slm_norm_of) {l->attn_norm, NULL});
    slm_stage_project(t, &gates, 1, &a, st->n);
    slm_lane_end(t);
    slm_stage_remember(t, layer);
    slm_lane_end(t);
    if (shrink && run->batch->n_out == 0)
        return false;
    if (shrink)
        compact_stage(t, st);
    slm_stage_convolve(t, layer, st->rows, st->n);
    slm_lane_end(t);
    return true;
}

/* The same of a layer with a delta rule.  Its state goes over all rows, whichever are wanted. */
static bool delta_block(slm_lane *t, stream *st, uint32_t layer)
{
    slm_run *run = t->run;
    const slm_layer *l = &run->model->layers[layer];
    bool shrink = layer + 1 == run->hp->n_layers && run->batch->n_out < run->n;
    size_t ld = slm_round_up(run->hp->delta_values, 16);
    slm_norm_of by = {l->attn_norm, NULL};
    float *decay = run->ws->decay.p;
    slm_product products[4] = {{&l->conv_in, NULL, run->ws->conv.p, run->ld.conv},
                               {&l->delta_decay, NULL, decay, ld},
                               {&l->delta_share, NULL, decay + run->n * ld, ld},
                               {&l->delta_gate, NULL, run->ws->open.p, run->ld.gate}};
    slm_act a = norm_stage(t, st, by);
    slm_stage_project(t, products, shrink ? 3 : 4, &a, st->n);
    slm_lane_end(t);
    slm_stage_note(t, layer);
    slm_lane_end(t);
    if (shrink && run->batch->n_out > 0) {
        compact_stage(t, st);
        a = norm_stage(t, st, by);
        slm_stage_project(t, products + 3, 1, &a, st->n);
        slm_lane_end(t);
    }
    uint32_t wanted = shrink ? run->batch->n_out : st->n;
    slm_stage_delta(t, layer, st->rows, wanted);
    slm_lane_end(t);
    return wanted > 0;
}

static void output_stage(slm_lane *t, const stream *st)
{
    slm_run *run = t->run;
    const slm_hparams *hp = run->hp;
    uint32_t b, e;
    while (slm_lane_next(t, st->n, 4, &b, &e))
        for (uint32_t i = b; i < e; i++)
            slm_norm_row(run, (slm_norm_of) {run->model->output_norm, run->model->output_norm_bias}, st->x + i * run->ld.embd,
                         (float *) run->ws->hidden.p + i * (size_t) hp->n_embd, hp->n_embd);
}

/* The inside of a layer's feed-forward, to ws->ff or ws->ffq. */
static void feed_block(slm_lane *t, const stream *st, uint32_t layer)
{
    const slm_layer *l = &t->run->model->layers[layer];
    slm_stage_fetch(t, &l->up, 2, st->n);
    slm_act a = norm_stage(t, st, (slm_norm_of) {l->ffn_norm, l->ffn_norm_bias});
    if (t->run->batch->adapters != NULL) {
        slm_stage_feed_adapted(t, layer, &a, st->rows, st->n);
        return;
    }
    slm_stage_feed(t, l, &a, st->n);
    slm_stage_fetch(t, &l->down, 1, st->n);
    slm_lane_end(t);
}

/* A layer's own embedding of each token: x = (x + norm(out . (gelu(gate . x) * embedding))) * scale. */
static void layer_embd_block(slm_lane *t, const stream *st, uint32_t layer)
{
    slm_run *run = t->run;
    const slm_layer *l = &run->model->layers[layer];
    slm_product gate = {&l->embd_gate, NULL, run->ws->ff.p, run->ld.ff};
    slm_act a = norm_stage(t, st, (slm_norm_of) {NULL, NULL});
    slm_stage_project(t, &gate, 1, &a, st->n);
    slm_lane_end(t);
    slm_stage_open_embd(t, layer, st->rows, st->fine, st->n);
    slm_lane_end(t);
    a = slm_feed_act(run, l->embd_out.cols, st->fine);
    join_stage(t, st, layer, SLM_TARGETS, &l->embd_out, NULL, l->embd_post_norm, l->out_scale, &a);
}

static void forward_region(void *arg, slm_team *team, int thread, int n_threads)
{
    slm_run *run = arg;
    const slm_hparams *hp = run->hp;
    slm_lane t = slm_lane_of(run, team, thread);
    stream st = {.x = run->ws->x.p, .n = run->n, .fine = run->fine};

    embed_stage(&t);
    if (hp->n_embd_layer > 0)
        slm_stages_layer_embd(&t);
    for (uint32_t layer = 0; layer < hp->n_layers; layer++) {
        const slm_layer *l = &run->model->layers[layer];
        bool (*block)(slm_lane *, stream *, uint32_t) = l->conv_kernel == NULL ? attention_block
            : hp->delta_values > 0 ? delta_block : convolution_block;
        if (!block(&t, &st, layer))
            return;
        if (hp->parallel) /* reads what attention has read */
            feed_block(&t, &st, layer);
        slm_act a = slm_attention_act(run, l->o.cols, st.fine);
        join_stage(&t, &st, layer, SLM_TARGET_O, &l->o, l->o_bias, l->attn_post_norm, NULL, &a);
        if (l->router.data != NULL) {
            slm_stage_fetch(&t, &l->up, 2, st.n);
            a = norm_stage(&t, &st, (slm_norm_of) {l->ffn_norm, l->ffn_norm_bias});
            slm_stages_experts(&t, l, &a, st.x, st.n);
            continue;
        }
        if (!hp->parallel)
            feed_block(&t, &st, layer);
        a = slm_feed_act(run, l->down.cols, st.fine);
        join_stage(&t, &st, layer, SLM_TARGET_DOWN, &l->down, l->down_bias, l->ffn_post_norm, NULL, &a);
        if (hp->n_embd_layer > 0)
            layer_embd_block(&t, &st, layer);
        if (layer + 1 < hp->n_layers)
            slm_stage_fetch(&t, &l[1].q, 1, st.n);
    }
    output_stage(&t, &st);
    slm_lane_end(&t);
}

static slm_status batch_check(const slm_model *model, const slm_batch *batch, int32_t *longest, slm_error *err)
{
    *longest = 0;
    if (!model->hp.causal)
        return slm_fail(err, SLM_INVALID, "this model is an encoder");
    for (uint32_t i = 0; i < batch->n; i++) {
        if (batch->tokens[i] < 0 || (uint32_t) batch->tokens[i] >= model->hp.n_vocab)
            return slm_fail(err, SLM_INVALID, "token id %d is outside the vocabulary of %u", batch->tokens[i], model->hp.n_vocab);
        if (batch->positions[i] < 0)
            return slm_fail(err, SLM_INVALID, "position %d is negative", batch->positions[i]);
        if (model->position_embd.data != NULL && (uint32_t) batch->positions[i] >= model->position_embd.rows)
            return slm_fail(err, SLM_INVALID, "position %d is beyond the %u that the model has", batch->positions[i],
                            model->position_embd.rows);
        if (batch->positions[i] > *longest)
            *longest = batch->positions[i];
    }
    for (uint32_t i = 0; i < batch->n_out; i++)
        if (batch->out[i] >= batch->n || (i > 0 && batch->out[i] <= batch->out[i - 1]))
            return slm_fail(err, SLM_INVALID, "wanted rows of a batch must ascend and exist");
    for (uint32_t i = 0; batch->adapters != NULL && i < batch->n; i++)
        if (batch->adapters[i] != NULL && (i == 0 || batch->adapters[i] != batch->adapters[i - 1]) &&
            !slm_adapter_fits(batch->adapters[i], &model->hp))
            return slm_fail(err, SLM_INVALID, "the adapter of a row was opened for another model");
    return SLM_OK;
}

/* Does no row see a key that another row of this batch writes?  Block b of a table always holds positions 16 b to 16 b + 15, so two rows
 * share keys only through equal block pointers at the same index. */
static bool rows_are_apart(const slm_batch *batch)
{
    if (batch->n > 64)
        return false;
    for (uint32_t i = 0; i < batch->n; i++) {
        int32_t block = batch->positions[i] / SLM_KV_BLOCK;
        for (uint32_t j = 0; j < batch->n; j++)
            if (j != i && batch->positions[j] / SLM_KV_BLOCK >= block && batch->blocks[j][block] == batch->blocks[i][block])
                return false;
    }
    return true;
}

/* Which rows are fine, into fine[n]: those that the batch names, and the first of each sequence, where the models keep their outliers
 * (attention sinks): what eight bits lose there, every later position sees. */
static bool fine_rows(const slm_batch *batch, uint8_t *fine)
{
    bool any = false;
    for (uint32_t i = 0; i < batch->n; i++) {
        fine[i] = batch->positions[i] < SLM_SINK_POSITIONS || (batch->fine != NULL && batch->fine[i]);
        any = any || fine[i];
    }
    return any;
}

slm_status slm_forward(const slm_model *model, slm_workspace *ws, const slm_batch *batch, int n_threads, const volatile int *stop,
                       float **hidden, slm_error *err)
{
    slm_run run;
    int32_t longest;
    if (batch->n == 0 || batch->n_out > batch->n)
        return slm_fail(err, SLM_INVALID, "a batch of %u positions with %u wanted", batch->n, batch->n_out);
    if (n_threads < 1)
        n_threads = 1;
    SLM_TRY(batch_check(model, batch, &longest, err));
    SLM_TRY(slm_buffer_need(&ws->fine, batch->n + batch->n_out + 1, 1, err));
    uint8_t *fine = fine_rows(batch, ws->fine.p) ? ws->fine.p : NULL;
    SLM_TRY(slm_run_init(&run, model, ws, fine, batch->n, batch->n_out, (uint32_t) longest + 1, n_threads, stop, err));
    if (fine != NULL) {
        run.fine_out = fine + batch->n;
        for (uint32_t i = 0; i < batch->n_out; i++)
            fine[batch->n + i] = fine[batch->out[i]];
    }
    run.batch = batch;
    run.positions = batch->positions;
    if (batch->adapters != NULL)
        SLM_TRY(slm_adapt_need(&run, err));
    run.own_kv = rows_are_apart(batch);
    slm_parallel_stages(n_threads, forward_region, &run);
    if (slm_run_cancelled(&run))
        return slm_fail(err, SLM_CANCELLED, "cancelled");
    *hidden = ws->hidden.p;
    return SLM_OK;
}
