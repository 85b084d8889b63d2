/*
 * EMBED: whole texts through an encoder, packed without padding.
 *
 * A step takes queued texts in order of arrival until max_batch_tokens are reached (one at least).  An encoder keeps nothing between steps,
 * but a text that is there again shortly behind itself, as calls of one row leave it, is computed once in a step.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/session/session.h"

static slm_status prepare(slm_session *s, const slm_request *request, slm_job *job, slm_error *err)
{
    const slm_model_info *info = slm_model_get_info(s->model);
    slm_prompt prompt;
    bool rank = info->can_rerank, pairs = s->model->hp.pooling == SLM_POOL_RANK && !info->can_tag;

    if (request->n_segments > 2 || (rank && request->n_segments != 2) || (!pairs && request->n_segments != 1))
        return slm_fail(err, SLM_INVALID, "model \"%s\" takes %s, but the request has %zu texts", info->name,
                        rank ? "a pair of texts" : "one text", request->n_segments);
    SLM_TRY(slm_job_read_prompt(s, request, job, 0, &prompt, err));
    job->n_prefix = prompt.pair_begin > 0 ? (uint32_t) prompt.pair_begin : job->n_ids;
    job->row_begin = (uint32_t) prompt.row_begin;
    job->row_end = (uint32_t) prompt.row_end;
    slm_prompt_free(&prompt);
    return SLM_OK;
}

/* Copies a job's tokens into the batch; its second text has the token type that the tokenizer says. */
static void pack(slm_session *s, const slm_job *job, uint32_t at)
{
    slm_step_state *b = &s->step;

    int32_t second = (int32_t) slm_tokenizer_second_type(s->model->tokenizer);

    memcpy(b->tokens + at, job->ids, job->n_ids * sizeof *job->ids);
    for (uint32_t i = 0; i < job->n_ids; i++)
        b->positions[at + i] = i >= job->n_prefix ? second : (int32_t) job->question;
    if (job->marks != NULL)
        memcpy(b->marks + at, job->marks, job->n_ids);
}

#define LOOK_BACK 16 /* texts: the calls of a row are submitted one after the other */

/* An earlier job of the step with the same tokens, of the same realm; NULL: there is none. */
static const slm_job *find_same(const slm_session *s, const slm_job *job)
{
    const slm_job *other = job->prev;

    for (int i = 0; other != NULL && i < LOOK_BACK; i++, other = other->prev)
        if (other->last_step == s->n_steps && other->n_ids == job->n_ids && other->n_prefix == job->n_prefix &&
            other->row_begin == job->row_begin && other->realm == job->realm && other->adapter == job->adapter &&
            other->n_labels == job->n_labels && memcmp(other->ids, job->ids, job->n_ids * sizeof *job->ids) == 0 &&
            (job->marks == NULL || memcmp(other->marks, job->marks, job->n_ids) == 0))
            return other;
    return NULL;
}

/* Numbers of a job's result, and where they begin in what the encoder gave: its vector, or of a tagger those of the text's own tokens; of
 * labels, where the prompt's begin. */
static size_t result_of(const slm_session *s, const slm_job *job, size_t *at)
{
    size_t dims = slm_hparams_outputs(&s->model->hp);

    if (job->marks != NULL) {
        *at = job->embed.row;
        return job->n_labels;
    }
    *at = dims * (s->model->hp.tags ? job->embed.row + job->row_begin : job->embed.sequence);
    return s->model->hp.tags ? dims * (job->row_end - job->row_begin) : dims;
}

/* Room for n positions: a text longer than the batch goes alone. */
static slm_status grow(slm_session *s, uint32_t n, slm_error *err)
{
    slm_step_state *b = &s->step;
    int32_t *tokens, *types;
    uint8_t *marks;

    if (n <= b->room)
        return SLM_OK;
    tokens = realloc(b->tokens, n * sizeof *tokens);
    b->tokens = tokens != NULL ? tokens : b->tokens;
    types = realloc(b->positions, n * sizeof *types);
    b->positions = types != NULL ? types : b->positions;
    marks = realloc(b->marks, n);
    b->marks = marks != NULL ? marks : b->marks;
    if (tokens == NULL || types == NULL || marks == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for a batch");
    return SLM_OK;
}

/* Has the step, some of whose texts are not urgent, room for this one? One text always fits. */
static bool has_room(const slm_session *s, const slm_job *job, uint32_t beside)
{
    uint32_t n = s->step.n;

    if ((uint64_t) n + job->n_ids > s->allowance)
        return false;
    return n == 0 || (n + job->n_ids <= slm_step_limit(s) && (job->urgent || s->beside == 0 || beside + job->n_ids <= s->beside));
}

/* Packs the next texts of the queue into the step; some share a sequence. */
static slm_status gather(slm_session *s, slm_encode_batch *batch, slm_error *err)
{
    slm_step_state *b = &s->step;
    uint32_t beside = 0, passed_over = 0;
    size_t at;

    b->n = 0;
    b->held = false;
    s->n_steps++;
    for (slm_job *job = s->queued.head; job != NULL && passed_over < LOOK_BACK; job = job->next) {
        const slm_job *same = job->embed.spans == NULL ? find_same(s, job) : NULL;

        b->held = b->held || job->held;
        if (job->held)
            continue;
        if (same == NULL && (passed_over > 0 || !has_room(s, job, beside))) {
            passed_over++; /* a full step still answers what it computes anyway */
            continue;
        }
        if (job->result.scores == NULL && job->embed.spans == NULL)
            job->result.scores = malloc((result_of(s, job, &at) + 1) * sizeof *job->result.scores);
        if (job->result.scores == NULL && job->embed.spans == NULL)
            return slm_fail(err, SLM_NOMEM, "out of memory for a vector");
        job->embed = (slm_embed_state){.spans = job->embed.spans, .shares = same != NULL,
                                       .sequence = same != NULL ? same->embed.sequence : batch->n_sequences,
                                       .row = same != NULL ? same->embed.row : b->n};
        slm_step_count(s, job, same != NULL ? 0 : job->n_ids);
        if (same != NULL)
            continue;
        beside += job->urgent ? 0 : job->n_ids;
        SLM_TRY(grow(s, b->n + job->n_ids, err));
        pack(s, job, b->n);
        if (job->adapter != NULL) {
            SLM_TRY(slm_adapter_check(job->adapter, err));
            batch->adapters = b->adapters;
        }
        if (job->embed.spans != NULL && (b->span_marks[batch->n_sequences] = slm_spans_ready(s, job, err)) == NULL)
            return SLM_NOMEM;
        b->adapters[batch->n_sequences] = job->adapter;
        b->out[batch->n_sequences++] = job->n_ids;
        b->n += job->n_ids;
    }
    return SLM_OK;
}

/* A job of the step has its vector; begin: positions of the step before its own, where it has any. */
static void answer(slm_session *s, slm_job *job, const float *vectors, uint32_t *begin, const slm_stopwatch *watch)
{
    size_t at;

    job->result.usage.steps = 1;
    if (job->embed.shares) {
        job->result.usage.reused_tokens = job->n_ids;
        s->stats.usage.reused_tokens += job->n_ids;
    } else {
        slm_usage_share(s, job, *begin, job->n_ids, s->step.n, false, watch);
        *begin += job->n_ids;
    }
    s->stats.usage.prompt_tokens += job->n_ids;
    if (job->embed.spans != NULL) {
        slm_error error;
        bool done = slm_spans_answer(s, job, &error) == SLM_OK;

        slm_job_finish(s, &s->queued, job, done ? NULL : &error);
        return;
    }
    job->result.n_scores = result_of(s, job, &at);
    for (size_t i = 0, k = 0; job->marks != NULL && i < job->n_ids; i++)
        if (job->marks[i] == SLM_MARK_LABEL && k < job->n_labels)
            job->result.scores[k++] = vectors[at + i];
    if (job->marks == NULL)
        memcpy(job->result.scores, vectors + at, job->result.n_scores * sizeof *vectors);
    slm_job_finish(s, &s->queued, job, NULL);
}

slm_status slm_embed_step(slm_session *s, slm_error *err)
{
    slm_step_state *b = &s->step;
    slm_encode_batch batch = {.lengths = b->out};
    uint32_t begin = 0;
    slm_stopwatch watch = slm_stopwatch_start();
    slm_job *next;
    float *vectors = NULL;

    SLM_TRY(gather(s, &batch, err));
    s->allowance_used = b->n == 0 && s->queued.head != NULL && !b->held;
    if (s->allowance_used)
        return slm_fail(err, SLM_LIMIT, "no more tokens are allowed");
    if (b->n == 0)
        return SLM_OK;
    batch.tokens = b->tokens;
    batch.spans = s->model->hp.spans != SLM_SPANS_NONE ? b->span_marks : NULL;
    batch.types = s->model->hp.n_token_types > 1 ? b->positions : NULL;
    batch.marks = s->model->hp.joint ? b->marks : NULL;
    SLM_TRY(slm_encode(s->model, s->ws, &batch, s->limits.n_threads, s->limits.stop, &vectors, err));
    slm_stopwatch_stop(&watch);
    for (slm_job *job = s->queued.head; job != NULL; job = next) {
        next = job->next;
        if (job->last_step == s->n_steps)
            answer(s, job, vectors, &begin, &watch);
    }
    s->stats.usage.steps++;
    s->stats.positions += b->n;
    return SLM_OK;
}

const slm_mode_ops slm_mode_embed = {.name = "embed", .encoder = true, .in_order = true, .prepare = prepare};
