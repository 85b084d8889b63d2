/*
 * Encoders of BERT's kind, forward and backward: the embedding of tokens, one layer, and the pooling of a text's rows.
 *
 *   token + type + place ─ norm ─┬─ q,k,v ─ attend ─ o ─(+)─ norm ─ mid ─ up, gelu ─ down ─(+)─ norm ─ next x ─┬─ pool
 *
 * Sums before their norms are kept (o_out, down_out), for the gradients of the norms.  Matrices that were smoothed take their input times a
 * scale of each column (in_scale); an adapter is learned behind that scale, and is brought before it when it is written (params.c): what it
 * adds is the same.
 */
#include <string.h>

#include "engine/learn/learn.h"

static float *stream(const slm_learn *t, uint32_t layer)
{
    return t->x + (size_t) layer * t->capacity * t->ld.embd;
}

static void norm_row(const slm_learn *t, const float *w, const float *b, const float *x, float *y)
{
    t->kn->layer_norm(x, w, b != NULL ? b : t->model->zeros, y, t->hp->n_embd, t->hp->norm_eps);
}

/* y = x * scale (NULL: 1), the input of the next product. */
static void scale_row(const slm_learn *t, const float *scale, const float *x, float *y)
{
    for (uint32_t c = 0; c < t->hp->n_embd; c++)
        y[c] = scale != NULL ? x[c] * scale[c] : x[c];
}

/* x += y, y being multiplied by the scale. */
static void add_row(const slm_learn *t, const float *scale, const float *y, float *x)
{
    for (uint32_t c = 0; c < t->hp->n_embd; c++)
        x[c] += scale != NULL ? y[c] * scale[c] : y[c];
}

slm_status slm_learn_check_encoder(const slm_model *model, slm_error *err)
{
    const slm_hparams *hp = &model->hp;
    const char *why = NULL;
    if (!slm_hparams_embeds(hp) || hp->pooling == SLM_POOL_NONE) {
        slm_fail(err, SLM_UNSUPPORTED, "a model of the family %s with a head of its own makes no embeddings to be learned", hp->family);
        return slm_hint(err, "Fine-tune a model that slm_embed() can use.");
    }
    if (!hp->norm_after_sum || hp->norm != SLM_NORM_LAYER || hp->activation != SLM_ACT_GELU_ERF || hp->relative_span > 0 ||
        hp->n_rot > 0 || hp->window > 0 || hp->mask_causal || hp->residual_scale != 1.0f)
        why = "it is none of BERT's kind";
    else if (hp->shared_layers || model->embd_proj.data != NULL)
        why = "its layers share their weights, or its embeddings have another width";
    else if (hp->n_pools != 1 || (hp->pools[0] != SLM_POOL_MEAN && hp->pools[0] != SLM_POOL_CLS))
        why = "its pooling is neither the mean nor the first token";
    else if (hp->n_after > 1 || (hp->n_after == 1 && hp->after[0] != SLM_AFTER_NORMALIZE))
        why = "there are layers behind its pooling";
    if (why == NULL)
        return SLM_OK;
    slm_fail(err, SLM_UNSUPPORTED, "models of the family %s cannot be fine-tuned: %s", hp->family, why);
    return slm_hint(err, "MiniLM, BERT, RoBERTa, XLM-RoBERTa, MPNet, DistilBERT and their kin can be.");
}

static void look_up(const slm_learn *t, int32_t id, uint32_t position, float *x, float *other)
{
    const slm_model *m = t->model;
    uint32_t n = t->hp->n_embd;
    t->kn->unpack_row(&m->token_embd, (uint32_t) id, x);
    for (uint32_t c = 0; t->hp->embed_scale != 1.0f && c < n; c++)
        x[c] *= t->hp->embed_scale;
    if (m->type_embd.data != NULL) {
        t->kn->unpack_row(&m->type_embd, 0, other);
        add_row(t, NULL, other, x);
    }
    if (m->position_embd.data != NULL) {
        t->kn->unpack_row(&m->position_embd, position, other);
        add_row(t, NULL, other, x);
    }
    if (m->embd_norm != NULL)
        norm_row(t, m->embd_norm, m->embd_norm_bias, x, x);
}

void slm_learn_look_up(slm_learn_lane *l)
{
    slm_learn *t = l->t;
    uint32_t length;
    SLM_LEARN_EACH_ROWS(l, l->batch->n, b, e)
    for (uint32_t i = b; i < e; i++)
        look_up(t, l->batch->ids[i], slm_learn_position(l->batch, i, &length), t->x + i * t->ld.embd, t->h + i * t->ld.embd);
    slm_learn_end(l);
}

/* ------------------------------------------------------------------ a layer */

static void attention_forward(slm_learn_lane *l, uint32_t layer, slm_learn_kept *kept)
{
    slm_learn *t = l->t;
    const slm_layer *w = &t->model->layers[layer];
    size_t ld = t->ld.embd;
    uint32_t n = l->batch->n;
    slm_learn_product qkv[3] = {slm_learn_product_of(t, layer, SLM_TARGET_Q, kept->q, t->ld.q),
                                slm_learn_product_of(t, layer, SLM_TARGET_K, kept->k, t->ld.kv),
                                slm_learn_product_of(t, layer, SLM_TARGET_V, kept->v, t->ld.kv)};
    slm_learn_product o = slm_learn_product_of(t, layer, SLM_TARGET_O, kept->o_out, ld);

    SLM_LEARN_EACH_ROWS(l, n, b, e)
    {
        for (uint32_t i = b; i < e; i++)
            scale_row(t, w->attn_in_scale, stream(t, layer) + i * ld, t->h + i * ld);
        slm_learn_enter(l, layer, kept, qkv, 3, t->h, ld, b, e);
    }
    slm_learn_end(l);
    slm_learn_forward(l, layer, kept, qkv, 3, t->h, ld, n);
    slm_learn_attend(l, layer, kept);
    SLM_LEARN_EACH_ROWS(l, n, b, e)
    slm_learn_enter(l, layer, kept, &o, 1, kept->att, t->ld.q, b, e);
    slm_learn_end(l);
    slm_learn_forward(l, layer, kept, &o, 1, kept->att, t->ld.q, n);
}

void slm_learn_encoder_layer(slm_learn_lane *l, uint32_t layer, slm_learn_kept *kept)
{
    slm_learn *t = l->t;
    const slm_layer *w = &t->model->layers[layer];
    size_t ld = t->ld.embd, ldf = t->ld.ff;
    uint32_t n = l->batch->n;
    slm_learn_product up = slm_learn_product_of(t, layer, SLM_TARGET_UP, kept->up, ldf);
    slm_learn_product down = slm_learn_product_of(t, layer, SLM_TARGET_DOWN, kept->down_out, ld);

    attention_forward(l, layer, kept);
    SLM_LEARN_EACH_ROWS(l, n, b, e)
    {
        for (uint32_t i = b; i < e; i++) {
            add_row(t, NULL, stream(t, layer) + i * ld, kept->o_out + i * ld);
            norm_row(t, w->attn_post_norm, w->attn_norm_bias, kept->o_out + i * ld, kept->mid + i * ld);
            scale_row(t, w->ffn_in_scale, kept->mid + i * ld, t->h + i * ld);
        }
        slm_learn_enter(l, layer, kept, &up, 1, t->h, ld, b, e);
    }
    slm_learn_end(l);
    slm_learn_forward(l, layer, kept, &up, 1, t->h, ld, n);
    SLM_LEARN_EACH_ROWS(l, n, b, e)
    {
        for (uint32_t i = b; i < e; i++)
            t->kn->gelu_erf(kept->up + i * ldf, t->ff + i * ldf, t->hp->n_ff);
        slm_learn_enter(l, layer, kept, &down, 1, t->ff, ldf, b, e);
    }
    slm_learn_end(l);
    slm_learn_forward(l, layer, kept, &down, 1, t->ff, ldf, n);
    SLM_LEARN_EACH_ROWS(l, n, b, e)
    for (uint32_t i = b; i < e; i++) {
        add_row(t, NULL, kept->mid + i * ld, kept->down_out + i * ld);
        norm_row(t, w->ffn_post_norm, w->ffn_norm_bias, kept->down_out + i * ld, stream(t, layer + 1) + i * ld);
    }
    slm_learn_end(l);
}

/* dx and dy become the gradient of the sum before a norm, dx having been that of the normed row. */
static void norm_back(const slm_learn *t, const float *w, const float *sum, float *dx, float *dy)
{
    t->kn->layer_norm_grad(sum, w, dx, dy, t->hp->n_embd, t->hp->norm_eps);
    memcpy(dx, dy, t->hp->n_embd * sizeof *dx);
}

static void feed_back(slm_learn_lane *l, uint32_t layer, slm_learn_kept *kept)
{
    slm_learn *t = l->t;
    const slm_layer *w = &t->model->layers[layer];
    size_t ld = t->ld.embd, ldf = t->ld.ff;
    uint32_t n = l->batch->n;
    slm_learn_product down = slm_learn_product_of(t, layer, SLM_TARGET_DOWN, t->dy, ld); /* backward, y is its gradient */
    slm_learn_product up = slm_learn_product_of(t, layer, SLM_TARGET_UP, kept->up, ldf);

    SLM_LEARN_EACH_ROWS(l, n, b, e)
    {
        for (uint32_t i = b; i < e; i++) {
            norm_back(t, w->ffn_post_norm, kept->down_out + i * ld, t->dx + i * ld, t->dy + i * ld);
            t->kn->gelu_erf(kept->up + i * ldf, t->ff + i * ldf, t->hp->n_ff);
        }
        slm_learn_leave(l, layer, &down, 1, b, e);
    }
    slm_learn_end(l);
    slm_learn_backward(l, layer, kept, &down, 1, t->ff, ldf, t->dff, ldf, n);
    SLM_LEARN_EACH_ROWS(l, n, b, e)
    {
        for (uint32_t i = b; i < e; i++) {
            t->kn->gelu_erf_grad(kept->up + i * ldf, t->dff + i * ldf, kept->up + i * ldf, t->hp->n_ff); /* from here on its gradient */
            scale_row(t, w->ffn_in_scale, kept->mid + i * ld, t->h + i * ld);
        }
        slm_learn_leave(l, layer, &up, 1, b, e);
    }
    slm_learn_end(l);
    slm_learn_backward(l, layer, kept, &up, 1, t->h, ld, t->dh, ld, n);
}

void slm_learn_encoder_back(slm_learn_lane *l, uint32_t layer, slm_learn_kept *kept)
{
    slm_learn *t = l->t;
    const slm_layer *w = &t->model->layers[layer];
    size_t ld = t->ld.embd;
    uint32_t n = l->batch->n;
    slm_learn_product o = slm_learn_product_of(t, layer, SLM_TARGET_O, t->dy, ld);
    slm_learn_product qkv[3] = {slm_learn_product_of(t, layer, SLM_TARGET_Q, t->dq, t->ld.q),
                                slm_learn_product_of(t, layer, SLM_TARGET_K, t->dk, t->ld.kv),
                                slm_learn_product_of(t, layer, SLM_TARGET_V, t->dv, t->ld.kv)};

    feed_back(l, layer, kept);
    SLM_LEARN_EACH_ROWS(l, n, b, e)
    {
        for (uint32_t i = b; i < e; i++) {
            add_row(t, w->ffn_in_scale, t->dh + i * ld, t->dx + i * ld);
            norm_back(t, w->attn_post_norm, kept->o_out + i * ld, t->dx + i * ld, t->dy + i * ld);
        }
        slm_learn_leave(l, layer, &o, 1, b, e);
    }
    slm_learn_end(l);
    slm_learn_backward(l, layer, kept, &o, 1, kept->att, t->ld.q, t->datt, t->ld.q, n);
    slm_learn_attend_back(l, layer, kept);
    SLM_LEARN_EACH_ROWS(l, n, b, e)
    {
        for (uint32_t i = b; i < e; i++)
            scale_row(t, w->attn_in_scale, stream(t, layer) + i * ld, t->h + i * ld);
        slm_learn_leave(l, layer, qkv, 3, b, e);
    }
    slm_learn_end(l);
    slm_learn_backward(l, layer, kept, qkv, 3, t->h, ld, layer > t->first_layer ? t->dh : NULL, ld, n);
    if (layer == t->first_layer)
        return;
    SLM_LEARN_EACH_ROWS(l, n, b, e)
    for (uint32_t i = b; i < e; i++)
        add_row(t, w->attn_in_scale, t->dh + i * ld, t->dx + i * ld);
    slm_learn_end(l);
}

/* ------------------------------------------------------------------ a text's rows */

void slm_learn_pool(slm_learn_lane *l)
{
    slm_learn *t = l->t;
    const slm_learn_batch *batch = l->batch;
    uint32_t n = t->hp->n_embd, s, e;
    while (slm_learn_next(l, batch->n_sequences, 1, &s, &e)) {
        uint32_t length = t->hp->pools[0] == SLM_POOL_CLS ? 1 : batch->first[s + 1] - batch->first[s];
        const float *x = stream(t, t->hp->n_layers) + batch->first[s] * t->ld.embd;
        float *out = t->pooled + s * t->ld.embd, share = 1.0f / (float) length;
        memcpy(out, x, n * sizeof *out);
        for (uint32_t i = 1; i < length; i++)
            add_row(t, NULL, x + i * t->ld.embd, out);
        for (uint32_t c = 0; c < n; c++)
            out[c] *= share;
    }
    slm_learn_end(l);
}

void slm_learn_pool_back(slm_learn_lane *l)
{
    slm_learn *t = l->t;
    const slm_learn_batch *batch = l->batch;
    uint32_t n = t->hp->n_embd, s, e;
    while (slm_learn_next(l, batch->n_sequences, 1, &s, &e)) {
        uint32_t length = batch->first[s + 1] - batch->first[s], counted = t->hp->pools[0] == SLM_POOL_CLS ? 1 : length;
        const float *d = t->dpooled + s * t->ld.embd;
        float *dx = t->dx + batch->first[s] * t->ld.embd, share = 1.0f / (float) counted;
        for (uint32_t i = 0; i < length; i++, dx += t->ld.embd)
            for (uint32_t c = 0; c < n; c++)
                dx[c] = i < counted ? d[c] * share : 0.0f;
    }
    slm_learn_end(l);
}
