/*
 * GENERATE: tokens become an answer.
 *
 * The job's ids are the prompt and the answer so far; the last one has not been fed yet.  Each step feeds it (and guesses
 * behind it, when the request allows them) and samples at every position fed; a guess holds as long as it equals what was sampled
 * before it, so the answer is the one that feeding token by token gives.
 *
 * Under a constraint what may come next is asked before the head is computed, and what must come next joins the answer unsampled: with the
 * prompt, or behind a token that was sampled, to be fed with the next step.  Which tokens are forced depends on the answer so far alone, so
 * guesses stop where a forced run begins.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/session/session.h"

/* ---- guesses */

/* Rows decoded together up to which guessing pays: beyond, the batch is bound by arithmetic and a wrong guess costs what a right one
 * does. */
#define MAX_GUESSING 4
#define MAX_GUESSED_BATCH 8

/* How many of n guesses behind the known tokens the constraint lets stand: up to the first that it does not allow, and none behind one that
 * forces what follows, since that is fed without being sampled. */
static uint32_t allowed_guesses(slm_job *job, uint32_t n)
{
    slm_constraint *c = job->gen.constraint;
    void *state = slm_constraint_fork(c, job->gen.state);
    uint32_t kept = 0;
    bool forks = state != NULL;

    while (kept < n && forks && c->ops->advance(c, state, job->ids[job->n_ids + kept], NULL) == SLM_OK) {
        int32_t id;

        kept++;
        forks = !c->ops->done(c, state) && (c->ops->forced == NULL || c->ops->forced(c, state, &id, 1) == 0);
    }
    slm_constraint_end(c, state);
    return kept;
}

/* Writes guesses behind the job's known tokens, `left` at most; returns how many. */
static uint32_t guess(slm_session *s, slm_job *job, uint32_t left)
{
    uint32_t most = job->end - job->n_ids, n, from;

    if (!job->gen.speculate || s->running.n > MAX_GUESSING || most == 0)
        return 0;
    most = most < left ? most : left;
    n = MAX_GUESSED_BATCH / (uint32_t) s->running.n - 1;
    from = slm_draft_find(&job->gen.draft, job->ids, job->n_ids, most < n ? most : n, &n);
    if (n == 0 || from >= job->n_ids || !slm_job_id_room(job, job->n_ids + n))
        return 0;
    memcpy(job->ids + job->n_ids, job->ids + from, n * sizeof *job->ids);
    return job->gen.constraint == NULL ? n : allowed_guesses(job, n);
}

static void plan(slm_session *s, slm_job *job)
{
    uint32_t n = job->n_ids - job->seq->length, left = slm_step_left(s), taken;
    bool ok;

    n = n < left ? n + guess(s, job, left - n) : left; /* a long forced run takes several steps */
    ok = slm_seq_reserve(s->pool, job->seq, job->seq->length + n, true, &taken);
    job->promise -= taken;
    if (ok)
        slm_step_add(s, job, job->seq, job->ids + job->seq->length, n, job->n_ids - 1, 0);
}

/* ---- the next token */

/* The constraint's state behind the token at a wanted position: the job's own, or one that follows its guesses. */
static slm_status state_at(slm_job *job, uint32_t position, void **state, slm_error *err)
{
    slm_generate_state *g = &job->gen;

    if (position == job->n_ids - 1) {
        *state = g->state;
        return SLM_OK;
    }
    if (position == job->n_ids) {
        slm_constraint_end(g->constraint, g->ahead);
        g->ahead = slm_constraint_fork(g->constraint, g->state);
    }
    if (g->ahead == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for a constraint");
    *state = g->ahead;
    return g->constraint->ops->advance(g->constraint, g->ahead, job->ids[position], err);
}

/* What may come next, as ids or as a mask. What goes wrong is the job's own affair: it is told of at the commit. */
static slm_status ask(slm_session *s, slm_want *w, slm_error *err)
{
    static const int32_t nothing;
    slm_generate_state *g = &w->job->gen;
    slm_allowed allowed = {0};
    void *state = NULL;
    slm_status status;

    if (g->constraint == NULL)
        return SLM_OK;
    status = state_at(w->job, w->position, &state, &g->error);
    if (status == SLM_OK)
        status = g->constraint->ops->allowed(g->constraint, state, &allowed, &g->error);
    w->ids = status == SLM_OK ? allowed.ids : &nothing;
    w->n_ids = status == SLM_OK ? allowed.n_ids : 0;
    w->token = -1;
    if (w->ids == NULL && !slm_step_mask(s, w, allowed.mask))
        return slm_fail(err, SLM_NOMEM, "out of memory for a constraint");
    return SLM_OK;
}

static void read_token(slm_session *s, slm_want *w, float *logits)
{
    const slm_job *job = w->job;
    const slm_sampling *p = &job->gen.sampling;
    uint32_t n_context = w->position + 1, n = n_context < SLM_REPEAT_WINDOW ? n_context : SLM_REPEAT_WINDOW;
    const int32_t *recent = job->ids + n_context - n;
    uint64_t counter = n_context - job->n_prompt;

    if (w->ids != NULL)
        w->token = slm_sampler_pick_some(s->sampler, p, w->ids, logits, w->n_ids, recent, n, counter);
    else if (w->mask != NULL)
        w->token = slm_sampler_pick_masked(s->sampler, p, w->mask, logits, recent, n, counter);
    else
        w->token = slm_sampler_pick(s->sampler, p, logits, recent, n, counter);
}

/* ---- the answer */

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
    r->n_tokens = r->usage.output_tokens = n;
    r->finish = reason;
    return SLM_OK;
}

/* The constraint sees a token that has joined the answer; *done: nothing may follow. */
static slm_status follow(slm_job *job, int32_t token, bool *done, slm_error *err)
{
    slm_constraint *c = job->gen.constraint;

    *done = false;
    if (c == NULL)
        return SLM_OK;
    SLM_TRY(c->ops->advance(c, job->gen.state, token, err));
    *done = c->ops->done(c, job->gen.state);
    return SLM_OK;
}

/* One token, sampled or forced, joins the answer. */
static slm_status take_token(slm_session *s, slm_job *job, int32_t token, bool *done, slm_error *err)
{
    slm_bytes piece;
    bool complete;

    s->stats.usage.output_tokens++;
    *done = true;
    if (slm_tokenizer_is_end(s->model->tokenizer, token))
        return finish(job, SLM_FINISH_STOP, err);
    if (!slm_job_push_id(job, token))
        return slm_fail(err, SLM_NOMEM, "out of memory for an answer");
    piece = slm_tokenizer_piece(s->model->tokenizer, token, false);
    if (job->gen.skip_space && job->n_ids == job->n_prompt + 1 && piece.length > 0 && piece.data[0] == ' ')
        piece = (slm_bytes){piece.data + 1, piece.length - 1};
    SLM_TRY(slm_pieces_add(&job->gen.pieces, piece.data, piece.length, err));
    SLM_TRY(follow(job, token, &complete, err));
    if (job->gen.pieces.stopped || complete)
        return finish(job, SLM_FINISH_STOP, err);
    if (job->n_ids - job->n_prompt == job->gen.max_tokens)
        return finish(job, SLM_FINISH_LENGTH, err);
    if (job->n_ids > s->model->hp.n_context)
        return finish(job, SLM_FINISH_CONTEXT, err);
    *done = false;
    return SLM_OK;
}

/* What must come next joins the answer without having been sampled; it is fed with the next step. *any: there was something. */
static slm_status take_forced(slm_session *s, slm_job *job, bool *any, bool *done, slm_error *err)
{
    slm_constraint *c = job->gen.constraint;
    int32_t ids[32];
    uint32_t n;

    *any = false;
    if (c == NULL || c->ops->forced == NULL)
        return SLM_OK;
    while (!*done && (n = c->ops->forced(c, job->gen.state, ids, sizeof ids / sizeof *ids)) > 0) {
        *any = true;
        for (uint32_t i = 0; i < n && !*done; i++)
            SLM_TRY(take_token(s, job, ids[i], done, err));
    }
    return SLM_OK;
}

static slm_status commit(slm_session *s, slm_job *job, const slm_span *span, bool *done, slm_error *err)
{
    uint32_t taken = 0;
    bool forced = false;

    if (span->n_wants == 0) {
        if (!span->prompt) /* a part of a forced run */
            job->seq->length += span->n;
        return SLM_OK;
    }
    while (taken < span->n_wants) {
        const slm_want *w = &s->step.wants[span->first_want + taken++];
        bool guessed = taken < span->n_wants && job->ids[w->position + 1] == w->token;

        if (w->token < 0) {
            *err = job->gen.error;
            return err->status;
        }
        job->seq->length = w->position + 1;
        SLM_TRY(take_token(s, job, w->token, done, err));
        if (!*done)
            SLM_TRY(take_forced(s, job, &forced, done, err));
        if (*done || forced || !guessed)
            break;
    }
    slm_draft_learn(&job->gen.draft, span->n_wants - 1, taken - 1);
    return SLM_OK;
}

/* ---- the request */

/* Where the prompt ends in words of the assistant, the answer begins with them; *done: nothing may follow. */
static slm_status begin_with(slm_constraint *c, void *state, const slm_segment *said, bool *done, slm_error *err)
{
    slm_status status = SLM_UNSUPPORTED;
    size_t fit = 0;

    if (said->role != SLM_ROLE_ASSISTANT || said->length == 0)
        return SLM_OK;
    if (c->ops->begin_with == NULL)
        return slm_fail(err, status, "the answer cannot begin with a text under this constraint");
    status = c->ops->begin_with(c, state, said->text, said->length, &fit, err);
    if (status == SLM_INVALID) {
        slm_fail(err, status, "of the words that the answer is to begin with, the constraint allows only the first %zu bytes", fit);
        slm_hint(err, "Begin it as an answer begins: JSON has no spaces between its parts, and keys in the order of the schema.");
    }
    *done = status == SLM_OK && c->ops->done(c, state);
    return status;
}

/* The constraint at the beginning of the answer; what must come first is fed with the prompt. */
static slm_status constrain(slm_session *s, slm_job *job, const slm_request *r, slm_error *err)
{
    slm_constraint *constraint = r->constraint;
    slm_generate_state *g = &job->gen;
    bool any;

    if (constraint->vocabulary != s->model->tokenizer || constraint->n_vocab != s->model->hp.n_vocab)
        return slm_fail(err, SLM_INVALID, "the request's constraint was compiled for another model");
    SLM_TRY(slm_constraint_begin(constraint, g->skip_space, &g->state, err));
    g->constraint = slm_constraint_share(constraint);
    SLM_TRY(begin_with(constraint, g->state, &r->segments[r->n_segments - 1], &job->trivial, err));
    if (job->trivial)
        return finish(job, SLM_FINISH_STOP, err);
    SLM_TRY(take_forced(s, job, &any, &job->trivial, err));
    job->prompt_end = job->n_ids;
    job->first_out = job->n_ids - 1;
    return SLM_OK;
}

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
    return r->constraint != NULL ? constrain(s, job, r, err) : SLM_OK;
}

static void clear(slm_session *s, slm_job *job, bool finished)
{
    slm_generate_state *g = &job->gen;

    (void) s;
    if (!finished || !job->stream)
        slm_pieces_clear(&g->pieces);
    if (g->constraint == NULL)
        return;
    slm_constraint_end(g->constraint, g->state);
    slm_constraint_end(g->constraint, g->ahead);
    slm_constraint_drop(g->constraint);
    g->constraint = NULL;
    g->state = g->ahead = NULL;
}

const slm_mode_ops slm_mode_generate = {.name = "generate",
                                        .prepare = prepare,
                                        .plan = plan,
                                        .ask = ask,
                                        .read = read_token,
                                        .commit = commit,
                                        .clear = clear};
