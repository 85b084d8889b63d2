/*
 * LOGPROBS: how likely each token of a text is after those before it.
 *
 * The prompt is all there is to feed; the hidden row before each scored token is wanted, of the whole head.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/kernels/kernels.h"
#include "engine/session/session.h"

static slm_status size(slm_job *job, const slm_prompt *prompt, slm_error *err)
{
    uint32_t n, begin = (uint32_t) prompt->scored_begin, end = (uint32_t) prompt->scored_end;

    if (prompt->scored_end <= prompt->scored_begin || prompt->scored_end > prompt->ids.n)
        return slm_fail(err, SLM_INVALID, "no segment of the request is marked to be scored, or it is empty");
    job->scored.begin = begin;
    job->end = job->branch_end = job->prompt_end = end - 1;
    job->first_out = begin > 0 ? begin - 1 : 0;
    job->trivial = job->end == 0; /* a single token has nothing before it */
    n = end - begin;
    job->result.scores = malloc(n * sizeof *job->result.scores);
    job->result.tokens = malloc(n * sizeof *job->result.tokens);
    if (job->result.scores == NULL || job->result.tokens == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for a request");
    for (uint32_t i = 0; i < n; i++)
        job->result.scores[i] = __builtin_nanf("");
    memcpy(job->result.tokens, job->ids + begin, n * sizeof *job->result.tokens);
    job->result.n_scores = job->result.n_tokens = n;
    return SLM_OK;
}

static slm_status prepare(slm_session *s, const slm_request *r, slm_job *job, slm_error *err)
{
    slm_prompt prompt;
    slm_status status;

    SLM_TRY(slm_job_read_prompt(s, r, job, 0, &prompt, err));
    status = size(job, &prompt, err);
    slm_prompt_free(&prompt);
    if (r->precise)
        job->regime |= SLM_REGIME_FINE;
    return status;
}

static void read_logprob(slm_session *s, slm_want *w, float *logits)
{
    w->logprob = logits[w->job->ids[w->position + 1]] - slm_kernels_get()->logsumexp(logits, s->model->hp.n_vocab);
}

static slm_status commit(slm_session *s, slm_job *job, const slm_span *span, bool *done, slm_error *err)
{
    (void) err;
    for (uint32_t i = 0; i < span->n_wants; i++) {
        const slm_want *w = &s->step.wants[span->first_want + i];

        job->result.scores[w->position + 1 - job->scored.begin] = w->logprob;
    }
    job->result.usage.scored_tokens += span->n_wants;
    s->stats.usage.scored_tokens += span->n_wants;
    *done = job->seq->length == job->end;
    return SLM_OK;
}

/* Log probabilities are wanted of several prompts for one row: grouped by prompt, all rows would end together. */
const slm_mode_ops slm_mode_logprobs = {.name = "logprobs", .in_order = true, .prepare = prepare, .read = read_logprob, .commit = commit};
