/*
 * One layer, forward and backward, as stages of a micro-batch's region.
 *
 *   x ─ norm ─ q,k,v ─ norm, rotate ─ attend ─ o ─ (norm) ─(+)─ mid ─ norm ─ gate,up ─ act ─ down ─ (norm) ─(+)─ next x
 *
 * Stages alternate: one that goes row by row (norms, activation, blocks, low = scale * x A'), one that multiplies with weights.  Inputs of
 * products that a row stage makes from kept values (norms, the gated row) are made again on the way back.
 */
#include "engine/learn/learn.h"

static float *stream(const slm_learn *t, uint32_t layer)
{
    return t->x + (size_t) layer * t->capacity * t->ld.embd;
}

static void norm_row(const slm_learn *t, const float *w, const float *x, float *y)
{
    uint32_t n = t->hp->n_embd;
    if (w != NULL)
        t->kn->rms_norm(x, w, y, n, t->hp->norm_eps);
    else
        for (uint32_t c = 0; c < n; c++)
            y[c] = x[c];
}

/* y = x + scale * norm(out) */
static void join_row(const slm_learn *t, const float *post, const float *x, float *out, float *normed, float *y)
{
    const slm_hparams *hp = t->hp;
    if (post != NULL) {
        t->kn->rms_norm(out, post, normed, hp->n_embd, hp->norm_eps);
        out = normed;
    }
    for (uint32_t c = 0; c < hp->n_embd; c++)
        y[c] = x[c] + hp->residual_scale * out[c];
}

/* dy = the gradient of out in join_row. */
static void part_row(const slm_learn *t, const float *post, const float *out, const float *dx, float *dy)
{
    const slm_hparams *hp = t->hp;
    for (uint32_t c = 0; c < hp->n_embd; c++)
        dy[c] = hp->residual_scale * dx[c];
    if (post != NULL)
        t->kn->rms_norm_grad(out, post, dy, dy, hp->n_embd, hp->norm_eps);
}

/* dx += the gradient of x in norm_row, dh being that of y; dh is overwritten. */
static void norm_back(const slm_learn *t, const float *w, const float *x, float *dh, float *dx)
{
    uint32_t n = t->hp->n_embd;
    if (w != NULL)
        t->kn->rms_norm_grad(x, w, dh, dh, n, t->hp->norm_eps);
    for (uint32_t c = 0; c < n; c++)
        dx[c] += dh[c];
}

static void act_row(const slm_learn *t, const slm_learn_kept *kept, uint32_t i)
{
    const float *gate = kept->gate + i * t->ld.ff, *up = kept->up + i * t->ld.ff;
    float *ff = t->ff + i * t->ld.ff;
    if (t->hp->activation == SLM_ACT_GEGLU)
        t->kn->geglu(gate, up, ff, t->hp->n_ff);
    else
        t->kn->swiglu(gate, up, ff, t->hp->n_ff);
}

static void attention_forward(slm_learn_lane *l, uint32_t layer, slm_learn_kept *kept)
{
    slm_learn *t = l->t;
    const slm_layer *w = &t->model->layers[layer];
    const float *x = stream(t, layer);
    uint32_t n = l->batch->n;
    slm_learn_product qkv[3] = {slm_learn_product_of(t, layer, SLM_TARGET_Q, kept->q_raw, t->ld.q),
                                slm_learn_product_of(t, layer, SLM_TARGET_K, kept->k_raw, t->ld.kv),
                                slm_learn_product_of(t, layer, SLM_TARGET_V, kept->v, t->ld.kv)};
    slm_learn_product o = slm_learn_product_of(t, layer, SLM_TARGET_O, w->attn_post_norm != NULL ? kept->o_out : t->out, t->ld.embd);

    SLM_LEARN_EACH_ROWS(l, n, b, e)
    {
        for (uint32_t i = b; i < e; i++)
            norm_row(t, w->attn_norm, x + i * t->ld.embd, t->h + i * t->ld.embd);
        slm_learn_enter(l, layer, kept, qkv, 3, t->h, t->ld.embd, b, e);
    }
    slm_learn_end(l);
    slm_learn_forward(l, layer, kept, qkv, 3, t->h, t->ld.embd, n);
    SLM_LEARN_EACH_ROWS(l, n, b, e)
    slm_learn_turn_rows(l, layer, kept, b, e);
    slm_learn_end(l);
    slm_learn_attend(l, layer, kept);
    SLM_LEARN_EACH_ROWS(l, n, b, e)
    slm_learn_enter(l, layer, kept, &o, 1, kept->att, t->ld.q, b, e);
    slm_learn_end(l);
    slm_learn_forward(l, layer, kept, &o, 1, kept->att, t->ld.q, n);
}

void slm_learn_layer(slm_learn_lane *l, uint32_t layer, slm_learn_kept *kept)
{
    slm_learn *t = l->t;
    const slm_layer *w = &t->model->layers[layer];
    size_t ld = t->ld.embd;
    float *x = stream(t, layer), *next = stream(t, layer + 1);
    float *o_out = w->attn_post_norm != NULL ? kept->o_out : t->out, *down_out = w->ffn_post_norm != NULL ? kept->down_out : t->out;
    uint32_t n = l->batch->n;
    slm_learn_product feed[2] = {slm_learn_product_of(t, layer, SLM_TARGET_GATE, kept->gate, t->ld.ff),
                                 slm_learn_product_of(t, layer, SLM_TARGET_UP, kept->up, t->ld.ff)};
    slm_learn_product down = slm_learn_product_of(t, layer, SLM_TARGET_DOWN, down_out, ld);

    attention_forward(l, layer, kept);
    SLM_LEARN_EACH_ROWS(l, n, b, e)
    {
        for (uint32_t i = b; i < e; i++) {
            join_row(t, w->attn_post_norm, x + i * ld, o_out + i * ld, t->h + i * ld, kept->mid + i * ld);
            norm_row(t, w->ffn_norm, kept->mid + i * ld, t->h + i * ld);
        }
        slm_learn_enter(l, layer, kept, feed, 2, t->h, ld, b, e);
    }
    slm_learn_end(l);
    slm_learn_forward(l, layer, kept, feed, 2, t->h, ld, n);
    SLM_LEARN_EACH_ROWS(l, n, b, e)
    {
        for (uint32_t i = b; i < e; i++)
            act_row(t, kept, i);
        slm_learn_enter(l, layer, kept, &down, 1, t->ff, t->ld.ff, b, e);
    }
    slm_learn_end(l);
    slm_learn_forward(l, layer, kept, &down, 1, t->ff, t->ld.ff, n);
    SLM_LEARN_EACH_ROWS(l, n, b, e)
    for (uint32_t i = b; i < e; i++)
        join_row(t, w->ffn_post_norm, kept->mid + i * ld, down_out + i * ld, t->h + i * ld, next + i * ld);
    slm_learn_end(l);
}

static void feed_back(slm_learn_lane *l, uint32_t layer, slm_learn_kept *kept)
{
    slm_learn *t = l->t;
    const slm_layer *w = &t->model->layers[layer];
    size_t ld = t->ld.embd, ldf = t->ld.ff;
    uint32_t n = l->batch->n, n_ff = t->hp->n_ff;
    slm_learn_product down = slm_learn_product_of(t, layer, SLM_TARGET_DOWN, t->dy, ld); /* backward, y is its gradient */
    slm_learn_product feed[2] = {slm_learn_product_of(t, layer, SLM_TARGET_GATE, kept->gate, ldf),
                                 slm_learn_product_of(t, layer, SLM_TARGET_UP, kept->up, ldf)};

    SLM_LEARN_EACH_ROWS(l, n, b, e)
    {
        for (uint32_t i = b; i < e; i++) {
            part_row(t, w->ffn_post_norm, kept->down_out + i * ld * (w->ffn_post_norm != NULL), t->dx + i * ld, t->dy + i * ld);
            act_row(t, kept, i);
        }
        slm_learn_leave(l, layer, &down, 1, b, e);
    }
    slm_learn_end(l);
    slm_learn_backward(l, layer, kept, &down, 1, t->ff, ldf, t->dff, ldf, n);
    SLM_LEARN_EACH_ROWS(l, n, b, e)
    {
        for (uint32_t i = b; i < e; i++) {
            float *gate = kept->gate + i * ldf, *up = kept->up + i * ldf; /* from here on their gradients */
            if (t->hp->activation == SLM_ACT_GEGLU)
                t->kn->geglu_grad(gate, up, t->dff + i * ldf, gate, up, n_ff);
            else
                t->kn->swiglu_grad(gate, up, t->dff + i * ldf, gate, up, n_ff);
            norm_row(t, w->ffn_norm, kept->mid + i * ld, t->h + i * ld);
        }
        slm_learn_leave(l, layer, feed, 2, b, e);
    }
    slm_learn_end(l);
    slm_learn_backward(l, layer, kept, feed, 2, t->h, ld, t->dh, ld, n);
}

static void attention_back(slm_learn_lane *l, uint32_t layer, slm_learn_kept *kept)
{
    slm_learn *t = l->t;
    const slm_layer *w = &t->model->layers[layer];
    size_t ld = t->ld.embd;
    uint32_t n = l->batch->n;
    const float *x = stream(t, layer);
    slm_learn_product o = slm_learn_product_of(t, layer, SLM_TARGET_O, t->dy, ld);
    slm_learn_product qkv[3] = {slm_learn_product_of(t, layer, SLM_TARGET_Q, t->dq, t->ld.q),
                                slm_learn_product_of(t, layer, SLM_TARGET_K, t->dk, t->ld.kv),
                                slm_learn_product_of(t, layer, SLM_TARGET_V, t->dv, t->ld.kv)};

    SLM_LEARN_EACH_ROWS(l, n, b, e)
    {
        for (uint32_t i = b; i < e; i++) {
            norm_back(t, w->ffn_norm, kept->mid + i * ld, t->dh + i * ld, t->dx + i * ld);
            part_row(t, w->attn_post_norm, kept->o_out + i * ld * (w->attn_post_norm != NULL), t->dx + i * ld, t->dy + i * ld);
        }
        slm_learn_leave(l, layer, &o, 1, b, e);
    }
    slm_learn_end(l);
    slm_learn_backward(l, layer, kept, &o, 1, kept->att, t->ld.q, t->datt, t->ld.q, n);
    slm_learn_attend_back(l, layer, kept);
    SLM_LEARN_EACH_ROWS(l, n, b, e)
    {
        slm_learn_turn_back(l, layer, kept, b, e);
        for (uint32_t i = b; i < e; i++)
            norm_row(t, w->attn_norm, x + i * ld, t->h + i * ld);
        slm_learn_leave(l, layer, qkv, 3, b, e);
    }
    slm_learn_end(l);
    slm_learn_backward(l, layer, kept, qkv, 3, t->h, ld, layer > t->first_layer ? t->dh : NULL, ld, n);
}

void slm_learn_layer_back(slm_learn_lane *l, uint32_t layer, slm_learn_kept *kept)
{
    slm_learn *t = l->t;
    const slm_layer *w = &t->model->layers[layer];
    size_t ld = t->ld.embd;
    feed_back(l, layer, kept);
    attention_back(l, layer, kept);
    if (layer == t->first_layer)
        return;
    SLM_LEARN_EACH_ROWS(l, l->batch->n, b, e)
    for (uint32_t i = b; i < e; i++)
        norm_back(t, w->attn_norm, stream(t, layer) + i * ld, t->dh + i * ld, t->dx + i * ld);
    slm_learn_end(l);
}
