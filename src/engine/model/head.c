/*
 * The output head: hidden states to logits, for all tokens or for some.
 *
 * It is the largest matrix of a small model (21 % of SmolLM2-135M's arithmetic), so it is evaluated only for positions that are
 * sampled, and with constraints only for the panels of 16 rows that hold an allowed token.  A token's logit has the same bits either way.
 */
#include <string.h>

#include "engine/model/run.h"

typedef struct head_job {
    slm_run run;
    const float *hidden; /* [n, n_embd] */
    float *logits;       /* [n, ld] */
    size_t ld;
} head_job;

/* Hidden rows [b, e) as blocks in ws->normq. */
static void quantize_hidden(const head_job *job, slm_scratch *s, uint32_t b, uint32_t e)
{
    const slm_run *run = &job->run;
    size_t cols = run->hp->n_embd;
    if (!slm_type_get(run->model->head.type)->is_float)
        for (uint32_t i = b; i < e; i++) {
            slm_qblock *q = (slm_qblock *) run->ws->normq.p + i * (cols / 32);
            slm_qblock *lo = run->fine != NULL && run->fine[i] ? q + run->n * (cols / 32) : NULL;
            slm_quantize_row(run, s, job->hidden + i * cols, (uint32_t) cols, q, lo);
        }
}

static slm_act hidden_act(const head_job *job)
{
    size_t cols = job->run.hp->n_embd;
    slm_act a = {.q = job->run.ws->normq.p, .x = job->hidden, .ldq = cols / 32, .ldx = cols, .fine = job->run.fine};
    a.lo = a.fine == NULL ? NULL : a.q + job->run.n * a.ldq;
    return a;
}

static void logits_region(void *arg, slm_team *team, int thread, int n_threads)
{
    head_job *job = arg;
    slm_lane lane = slm_lane_of(&job->run, team, thread), *t = &lane;
    uint32_t b, e;
    while (slm_lane_next(t, job->run.n, 4, &b, &e))
        quantize_hidden(job, t->s, b, e);
    slm_lane_end(t);
    slm_act a = hidden_act(job);
    slm_stage_logits(t, &job->run.model->head, &a, job->run.n, job->logits, job->ld);
    slm_lane_end(t);
}

slm_status slm_head_logits(const slm_model *model, slm_workspace *ws, const float *hidden, const uint8_t *fine, uint32_t n, int n_threads,
                           const volatile int *stop, float *logits, size_t ld, slm_error *err)
{
    head_job job = {.hidden = hidden, .logits = logits, .ld = ld};
    if (n_threads < 1)
        n_threads = 1;
    if (model->head.data == NULL)
        return slm_fail(err, SLM_INVALID, "this model has no output head");
    if (ld < 16 * (size_t) model->head.n_panels)
        return slm_fail(err, SLM_INTERNAL, "rows of logits are too short");
    if (n == 0)
        return SLM_OK;
    SLM_TRY(slm_run_init(&job.run, model, ws, fine != NULL && memchr(fine, 1, n) != NULL ? fine : NULL, n, 0, 1, n_threads, stop, err));
    slm_parallel_stages(n_threads, logits_region, &job);
    if (slm_run_cancelled(&job.run))
        return slm_fail(err, SLM_CANCELLED, "cancelled");
    return SLM_OK;
}

/* Logits of panels [first, last) of one row, at their place in logits. */
static void some_panels(head_job *job, uint32_t first, uint32_t last)
{
    slm_run *run = &job->run;
    const slm_hparams *hp = run->hp;
    slm_act a = hidden_act(job);
    float *y = job->logits + 16 * (size_t) first;
    uint32_t count = 16 * (last - first);
    run->kn->gemm(&run->model->head, first, last, a.q, a.x, a.ldx, 1, job->logits, job->ld, run->ws->scratch[0].gemm.p);
    if (run->model->head_bias != NULL) {
        uint32_t left = run->model->head.rows - 16 * first;
        run->kn->add_bias(y, count, run->model->head_bias + 16 * (size_t) first, 1, left < count ? left : count);
    }
    if (hp->logit_scale != 1.0f)
        for (uint32_t c = 0; c < count; c++)
            y[c] *= hp->logit_scale;
    if (hp->final_softcap > 0)
        run->kn->softcap(y, y, hp->final_softcap, count);
}

slm_status slm_head_some(const slm_model *model, slm_workspace *ws, const float *hidden, const int32_t *ids, uint32_t n_ids, float *out,
                         slm_error *err)
{
    const slm_weight *w = &model->head;
    head_job job = {.hidden = hidden, .ld = 16 * (size_t) w->n_panels};
    if (w->data == NULL)
        return slm_fail(err, SLM_INVALID, "this model has no output head");
    for (uint32_t i = 0; i < n_ids; i++)
        if (ids[i] < 0 || (uint32_t) ids[i] >= w->rows)
            return slm_fail(err, SLM_INVALID, "token id %d is outside the vocabulary of %u", ids[i], w->rows);
    SLM_TRY(slm_run_init(&job.run, model, ws, NULL, 1, 0, 1, 1, NULL, err));
    SLM_TRY(slm_buffer_need(&ws->logits, job.ld, sizeof(float), err));
    SLM_TRY(slm_buffer_need(&ws->rows, w->n_panels, 1, err));
    job.logits = ws->logits.p;

    uint8_t *wanted = ws->rows.p;
    memset(wanted, 0, w->n_panels);
    for (uint32_t i = 0; i < n_ids; i++)
        wanted[ids[i] / 16] = 1;
    quantize_hidden(&job, &ws->scratch[0], 0, 1);
    for (uint32_t p = 0; p < w->n_panels;) {
        uint32_t first = p;
        while (p < w->n_panels && wanted[p])
            p++;
        if (p > first)
            some_panels(&job, first, p);
        else
            p++;
    }
    for (uint32_t i = 0; i < n_ids; i++)
        out[i] = job.logits[ids[i]];
    return SLM_OK;
}
