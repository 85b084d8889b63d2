/*
 * EMBED: whole texts through an encoder, packed without padding.
 *
 * A step takes queued texts in order of arrival until max_batch_tokens are reached (one at least).  An encoder keeps nothing between steps.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/session/session.h"

static slm_status prepare(slm_session *s, const slm_request *request, slm_job *job, slm_error *err)
{
    const slm_model_info *info = slm_model_get_info(s->model);
    slm_prompt prompt;
    bool rank = info->can_rerank, pairs = s->model->hp.pooling == SLM_POOL_RANK;

    if (request->n_segments > 2 || (rank && request->n_segments != 2) || (!pairs && request->n_segments != 1))
        return slm_fail(err, SLM_INVALID, "model \"%s\" takes %s, but the request has %zu texts", info->name,
                        rank ? "a pair of texts" : "one text", request->n_segments);
    SLM_TRY(slm_job_read_prompt(s, request, job, 0, &prompt, err));
    job->n_prefix = prompt.pair_begin > 0 ? (uint32_t) prompt.pair_begin : job->n_ids;
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
        b->positions[at + i] = i >= job->n_prefix ? second : 0;
}

/* Room for n positions: a text longer than the batch goes alone. */
static slm_status grow(slm_session *s, uint32_t n, slm_error *err)
{
    slm_step_state *b = &s->step;
    int32_t *tokens, *types;

    if (n <= b->room)
        return SLM_OK;
    tokens = realloc(b->tokens, n * sizeof *tokens);
    b->tokens = tokens != NULL ? tokens : b->tokens;
    types = realloc(b->positions, n * sizeof *types);
    b->positions = types != NULL ? types : b->positions;
    if (tokens == NULL || types == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for a batch");
    return SLM_OK;
}

slm_status slm_embed_step(slm_session *s, slm_error *err)
{
    slm_step_state *b = &s->step;
    slm_encode_batch batch = {.lengths = b->out};
    uint32_t n = 0, done = 0, dims = slm_hparams_outputs(&s->model->hp);
    slm_stopwatch watch = slm_stopwatch_start();
    float *vectors = NULL;

    for (slm_job *job = s->queued.head; job != NULL && (n == 0 || n + job->n_ids <= b->limit) && (uint64_t) n + job->n_ids <= s->allowance;
         job = job->next) {
        SLM_TRY(grow(s, job->n_ids, err));
        if (job->result.scores == NULL)
            job->result.scores = malloc(dims * sizeof *job->result.scores);
        if (job->result.scores == NULL)
            return slm_fail(err, SLM_NOMEM, "out of memory for a vector");
        pack(s, job, n);
        b->out[batch.n_sequences++] = job->n_ids;
        n += job->n_ids;
    }
    b->n = n;
    s->allowance_used = n == 0 && s->queued.head != NULL;
    if (s->allowance_used)
        return slm_fail(err, SLM_LIMIT, "no more tokens are allowed");
    if (n == 0)
        return SLM_OK;
    batch.tokens = b->tokens;
    batch.types = s->model->hp.n_token_types > 1 ? b->positions : NULL;
    SLM_TRY(slm_encode(s->model, s->ws, &batch, s->limits.n_threads, s->limits.stop, &vectors, err));
    slm_stopwatch_stop(&watch);
    for (uint32_t i = 0; i < batch.n_sequences; i++) {
        slm_job *job = s->queued.head;

        job->result.usage.steps = 1;
        slm_usage_share(s, job, done, job->n_ids, n, false, &watch);
        done += job->n_ids;
        memcpy(job->result.scores, vectors + (size_t) dims * i, dims * sizeof *vectors);
        job->result.n_scores = dims;
        slm_job_finish(s, &s->queued, job, NULL);
    }
    s->stats.usage.steps++;
    s->stats.usage.prompt_tokens += n;
    s->stats.positions += n;
    return SLM_OK;
}

const slm_mode_ops slm_mode_embed = {.name = "embed", .encoder = true, .in_order = true, .prepare = prepare};
