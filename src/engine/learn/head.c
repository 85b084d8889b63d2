/*
 * The output head and the loss: only for rows whose next token is to be told, a few hundred at once, whatever the size of the vocabulary.
 *
 *   hidden = norm(x)    z = softcap(scale * hidden W')    loss = lse(z) - z[target]    dz = weight * (exp(z - lse) - [target])
 *
 * With a teacher's logits: lesson.c.
 */
#include "engine/learn/learn.h"

/* z to the gradient of the loss by z. */
static void gradient_row(slm_learn_lane *l, float *z, uint32_t out, float lse, const slm_learn_soft *soft)
{
    const slm_learn *t = l->t;
    uint32_t n = t->model->head.rows;
    int32_t target = l->batch->target[out];
    if (t->lesson.k > 0) {
        slm_learn_soft_gradient(t, z, n, l->batch->guesses[out], soft, lse, target);
        return;
    }
    t->kn->exp_below(z, lse, z, n);
    z[target] -= 1.0f;
}

/* Logits of row i of a chunk to their gradient; the loss into losses[out]. */
static void loss_row(slm_learn_lane *l, uint32_t i, uint32_t out)
{
    slm_learn *t = l->t;
    const slm_hparams *hp = t->hp;
    float *z = t->logits + i * t->ld.head, cap = hp->final_softcap > 0 ? 1 / hp->final_softcap : 0, weight = l->run->weight;
    uint32_t n = t->model->head.rows;
    int32_t target = l->batch->target[out];
    if (hp->logit_scale != 1.0f)
        for (uint32_t c = 0; c < n; c++)
            z[c] *= hp->logit_scale;
    if (cap > 0)
        t->kn->softcap(z, z, hp->final_softcap, n);
    float lse = t->kn->logsumexp(z, n), own = z[target];
    slm_learn_soft soft;
    t->losses[out] = (double) lse - (double) own;
    if (t->lesson.k > 0)
        t->losses[out] = (double) t->lesson.mix * t->losses[out] +
                         (1 - (double) t->lesson.mix) * slm_learn_soft_loss(t, z, n, l->batch->guesses[out], &soft);
    t->hits[out] = !l->run->backward && t->kn->argmax(z, n) == (uint32_t) target;
    if (!l->run->backward)
        return;
    weight *= hp->logit_scale;
    if (cap > 0) {
        float *slope = t->logits + (t->head_rows + i) * t->ld.head;
        for (uint32_t c = 0; c < n; c++)
            slope[c] = weight * (1 - z[c] * cap * (z[c] * cap));
        gradient_row(l, z, out, lse, &soft);
        for (uint32_t c = 0; c < n; c++)
            z[c] *= slope[c];
    } else {
        gradient_row(l, z, out, lse, &soft);
        for (uint32_t c = 0; c < n; c++)
            z[c] *= weight;
    }
    if (t->bf16 != NULL)
        t->bf16->from_floats(z, t->half_logits + i * t->ld.head, n);
}

static void head_chunk(slm_learn_lane *l, uint32_t first, uint32_t n)
{
    slm_learn *t = l->t;
    const slm_hparams *hp = t->hp;
    size_t ld = t->ld.embd;
    const float *x = t->x + (size_t) hp->n_layers * t->capacity * ld;
    const uint32_t *out = l->batch->out + first;
    slm_learn_product head = {.w = &t->model->head, .target = SLM_TARGETS, .y = t->logits, .ldy = t->ld.head};

    SLM_LEARN_EACH_ROWS(l, n, b, e)
    {
        for (uint32_t i = b; i < e; i++)
            t->kn->rms_norm(x + out[i] * ld, t->model->output_norm, t->hidden + i * ld, hp->n_embd, hp->norm_eps);
        slm_learn_enter(l, 0, NULL, &head, 1, t->hidden, ld, b, e);
    }
    slm_learn_end(l);
    slm_learn_forward(l, 0, NULL, &head, 1, t->hidden, ld, n);
    uint32_t b, e;
    while (slm_learn_next(l, n, 1, &b, &e))
        loss_row(l, b, first + b);
    slm_learn_end(l);
    if (!l->run->backward)
        return;
    slm_learn_backward(l, 0, NULL, &head, 1, t->hidden, ld, t->dhidden, ld, n);
    while (slm_learn_next(l, n, 1, &b, &e))
        t->kn->rms_norm_grad(x + out[b] * ld, t->model->output_norm, t->dhidden + b * ld, t->dx + out[b] * ld, hp->n_embd, hp->norm_eps);
    slm_learn_end(l);
}

void slm_learn_head(slm_learn_lane *l)
{
    slm_learn *t = l->t;
    uint32_t n = l->batch->n_out;
    if (l->run->backward) {
        SLM_LEARN_EACH_ROWS(l, l->batch->n, b, e)
        for (size_t i = b * t->ld.embd; i < e * t->ld.embd; i++)
            t->dx[i] = 0;
        slm_learn_end(l);
    }
    for (uint32_t first = 0; first < n; first += t->head_rows)
        head_chunk(l, first, n - first < t->head_rows ? n - first : t->head_rows);
}
