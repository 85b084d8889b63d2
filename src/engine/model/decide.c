/*
 * The end of a decision head: a number for each option of a question, read at its mark, behind the head's layers (encoder.c).
 *
 *   row of a mark ─ norm ─ dense, GELU ─ out ─► number / temperature
 *
 * An option's score is that; of a question that is answered by yes or no it is how far yes is before no.  Each is a logit: a softmax over
 * options, or a sigmoid of the yes, is the probability that the model was calibrated to.
 *
 * Source: arch/decide.c names it.
 */
#include <string.h>

#include "engine/model/run.h"

/* x and other: room for rows, x the option's. */
static float number_of(const slm_run *run, slm_scratch *s, float *x, float *other)
{
    const slm_model *m = run->model;
    slm_norm_row(run, (slm_norm_of) {m->cls_norm, m->cls_norm_bias}, x, x, run->hp->n_embd);
    slm_dense_row(run, s, &m->cls_dense, m->cls_dense_bias, x, other);
    slm_squash_row(run, run->hp->head_squash, other, run->hp->n_embd);
    slm_dense_row(run, s, &m->cls_out, m->cls_out_bias, other, x);
    return x[0];
}

/* The place of a number of options among temperatures. */
static uint32_t size_of(uint32_t n)
{
    return n <= 2 ? 0 : n <= 5 ? 1 : n <= 10 ? 2 : 3;
}

void slm_decide_scores(const slm_run *run, slm_scratch *s, const float *x, const uint8_t *marks, uint32_t length, float *out)
{
    const slm_hparams *hp = run->hp;
    float *row = s->pool.p, *other = row + slm_round_up(hp->n_embd, 16), no = 0;
    uint32_t n = 0, kind = SLM_DECIDE_CHOICE;
    for (uint32_t i = 0; i < length; i++) {
        out[i] = 0;
        if (marks[i] != SLM_MARK_LABEL && marks[i] != SLM_MARK_NO)
            continue;
        memcpy(row, x + i * run->ld.embd, hp->n_embd * sizeof(float));
        out[i] = number_of(run, s, row, other);
        n++;
        if (marks[i] == SLM_MARK_NO) {
            kind = SLM_DECIDE_YES_NO;
            no = out[i];
        }
    }
    for (uint32_t i = 0; i < length; i++)
        if (marks[i] == SLM_MARK_LABEL)
            out[i] = (out[i] - no) / hp->decide_temperature[kind][size_of(n)];
}
