/*
 * GENERATE: tokens become an answer.
 *
 * The job's ids are the prompt and the answer so far; the last one has not been fed yet.  Each step feeds it (and guesses
 * behind it, when the request allows them) and samples at every position fed; a guess holds as long as it equals what was sampled
 * before it, so the answer is the one that feeding token by token gives.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/session/session.h"

void slm_generate_plan(slm_session *s, slm_job *job)
{
    uint32_t n = job->n_ids - job->seq->length, taken;
    bool ok;

    ok = slm_seq_reserve(s->pool, job->seq, job->seq->length + n, true, &taken);
    job->promise -= taken;
    if (ok)
        slm_step_add(s, job, job->seq, job->ids + job->seq->length, n, job->first_out, SLM_WANT_TOKEN, 0);
}

/* The answer is complete: its text and tokens go into the result. */
static slm_status finish(slm_job *job, slm_finish reason, slm_error *err)
{
    slm_result *r = &job->result;
    uint32_t n = job->n_ids - job->n_prompt;

    SLM_TRY(slm_pieces_finish(&job->gen.pieces, err));
    r->tokens = malloc((n + 1) * sizeof *r->tokens);
    r->text = malloc(job->gen.pieces.n + 1);
    if (r->tokens == NULL || r->text == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for an answer");
    memcpy(r->tokens, job->ids + job->n_prompt, n * sizeof *r->tokens);
    memcpy(r->text, job->gen.pieces.text, job->gen.pieces.n + 1);
    r->text_length = job->gen.pieces.n;
    r->n_tokens = r->output_tokens = n;
    r->finish = reason;
    return SLM_OK;
}

/* One sampled token joins the answer. */
static slm_status take_token(slm_session *s, slm_job *job, int32_t token, bool *done, slm_error *err)
{
    slm_bytes piece;

    s->stats.output_tokens++;
    *done = true;
    if (slm_tokenizer_is_end(s->model->tokenizer, token))
        return finish(job, SLM_FINISH_STOP, err);
    if (!slm_job_push_id(job, token))
        return slm_fail(err, SLM_NOMEM, "out of memory for an answer");
    piece = slm_tokenizer_piece(s->model->tokenizer, token, false);
    SLM_TRY(slm_pieces_add(&job->gen.pieces, piece.data, piece.length, err));
    if (job->gen.pieces.stopped)
        return finish(job, SLM_FINISH_STOP, err);
    if (job->n_ids - job->n_prompt == job->gen.max_tokens)
        return finish(job, SLM_FINISH_LENGTH, err);
    if (job->n_ids > s->model->hp.n_context)
        return finish(job, SLM_FINISH_CONTEXT, err);
    *done = false;
    return SLM_OK;
}

slm_status slm_generate_commit(slm_session *s, slm_job *job, const slm_span *span, bool *done, slm_error *err)
{
    if (span->n_wants == 0) {
        job->seq->length += span->n;
        return SLM_OK;
    }
    for (uint32_t i = 0; i < span->n_wants; i++) {
        const slm_want *w = &s->step.wants[span->first_want + i];
        bool guessed = i + 1 < span->n_wants && job->ids[w->position + 1] == w->token;

        job->seq->length = w->position + 1;
        SLM_TRY(take_token(s, job, w->token, done, err));
        if (*done || !guessed)
            break;
    }
    return SLM_OK;
}
