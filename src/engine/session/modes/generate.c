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

static slm_status prepare(slm_session *s, const slm_request *r, slm_job *job, slm_error *err)
{
    uint32_t context = s->model->hp.n_context, answer = 1;
    slm_prompt prompt;
    uint64_t end;

    SLM_TRY(slm_sampling_check(&r->sampling, err));
    if (r->max_tokens == 0)
        return slm_fail(err, SLM_INVALID, "max_tokens is 0, but must be at least 1");
    SLM_TRY(slm_pieces_init(&job->gen.pieces, r->stops, r->n_stops, err));
    job->gen.sampling = r->sampling;
    job->gen.max_tokens = r->max_tokens;
    job->gen.speculate = r->speculate;
    job->stream = r->stream;
    if (r->truncate) /* a prompt that is cut leaves room for all of the answer, up to half of the context */
        answer = r->max_tokens < context / 2 ? r->max_tokens : context / 2;
    SLM_TRY(slm_job_read_prompt(s, r, job, answer, &prompt, err));
    job->gen.skip_space = prompt.answer_space;
    slm_prompt_free(&prompt);
    end = (uint64_t) job->n_prompt + r->max_tokens - 1;
    job->end = job->branch_end = end < context ? (uint32_t) end : context;
    return SLM_OK;
}

/* Rows decoded together up to which guessing pays: beyond, the batch is bound by arithmetic and a wrong guess costs what a right one
 * does. */
#define MAX_GUESSING 4
#define MAX_GUESSED_BATCH 8

/* Writes guesses behind the job's known tokens; returns how many. */
static uint32_t guess(slm_session *s, slm_job *job)
{
    uint32_t most = job->end - job->n_ids, n, from, left = slm_step_left(s) - 1;

    if (!job->gen.speculate || s->running.n > MAX_GUESSING || most == 0)
        return 0;
    most = most < left ? most : left;
    n = MAX_GUESSED_BATCH / (uint32_t) s->running.n - 1;
    from = slm_draft_find(&job->gen.draft, job->ids, job->n_ids, most < n ? most : n, &n);
    if (n == 0 || from >= job->n_ids || !slm_job_id_room(job, job->n_ids + n))
        return 0;
    memcpy(job->ids + job->n_ids, job->ids + from, n * sizeof *job->ids);
    return n;
}

static void plan(slm_session *s, slm_job *job)
{
    uint32_t n = job->n_ids - job->seq->length + guess(s, job), taken;
    bool ok;

    ok = slm_seq_reserve(s->pool, job->seq, job->seq->length + n, true, &taken);
    job->promise -= taken;
    if (ok)
        slm_step_add(s, job, job->seq, job->ids + job->seq->length, n, job->first_out, 0);
}

static void read_token(slm_session *s, slm_want *w, float *logits)
{
    const slm_job *job = w->job;
    uint32_t n_context = w->position + 1, begin = n_context > SLM_REPEAT_WINDOW ? n_context - SLM_REPEAT_WINDOW : 0;

    w->token = slm_sampler_pick(s->sampler, &job->gen.sampling, logits, job->ids + begin, n_context - begin, n_context - job->n_prompt);
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
    if (job->gen.skip_space && job->n_ids == job->n_prompt + 1 && piece.length > 0 && piece.data[0] == ' ')
        piece = (slm_bytes){piece.data + 1, piece.length - 1};
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

static slm_status commit(slm_session *s, slm_job *job, const slm_span *span, bool *done, slm_error *err)
{
    uint32_t taken = 0;

    if (span->n_wants == 0)
        return SLM_OK;
    while (taken < span->n_wants) {
        const slm_want *w = &s->step.wants[span->first_want + taken++];
        bool guessed = taken < span->n_wants && job->ids[w->position + 1] == w->token;

        job->seq->length = w->position + 1;
        SLM_TRY(take_token(s, job, w->token, done, err));
        if (*done || !guessed)
            break;
    }
    slm_draft_learn(&job->gen.draft, span->n_wants - 1, taken - 1);
    return SLM_OK;
}

static void clear(slm_session *s, slm_job *job, bool finished)
{
    (void) s;
    if (!finished || !job->stream)
        slm_pieces_clear(&job->gen.pieces);
}

const slm_mode_ops slm_mode_generate = {
    .name = "generate", .decodes = true, .prepare = prepare, .plan = plan, .read = read_token, .commit = commit, .clear = clear};
