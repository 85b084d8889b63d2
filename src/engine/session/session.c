/*
 * Sessions and their public calls: slm_submit, slm_poll, slm_release and their like (slm.h); slm_step is in step.c.
 *
 * A session owns its KV pool, its caches and its jobs, and holds a reference to its model.  Nothing here is global: two sessions of
 * a process share the model's mapped image and nothing else.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/session/session.h"

#define DEFAULT_BATCH_TOKENS 512
#define MAX_BATCH_TOKENS 65536
#define DEFAULT_SEQUENCES 64

static bool evict_prefix(void *arg)
{
    slm_session *s = arg;

    return slm_prefix_evict(s->prefixes, s->pool);
}

static void free_masks(slm_step_state *b)
{
    for (uint32_t i = 0; i < b->masks_made; i++)
        free(b->masks[i]);
    free(b->masks);
    b->masks = NULL;
    b->n_masks = b->masks_made = 0;
}

static void step_free(slm_step_state *b)
{
    free(b->tokens);
    free(b->positions);
    free(b->lengths);
    free(b->blocks);
    free(b->fine);
    free(b->marks);
    free(b->adapters);
    free(b->span_marks);
    free(b->rows_fine);
    free(b->out);
    free(b->spans);
    free(b->wants);
    free(b->some);
    free_masks(b);
    free(b->rows);
    free(b->logits);
    memset(b, 0, sizeof *b);
}

/* Arrays of a batch of n positions. */
static slm_status step_room(slm_session *s, uint32_t n, slm_error *err)
{
    slm_step_state b = {.room = n, .limit = n};

    if (n == s->step.room)
        return SLM_OK;
    b.tokens = malloc(n * sizeof *b.tokens);
    b.positions = malloc(n * sizeof *b.positions);
    b.lengths = malloc(n * sizeof *b.lengths);
    b.blocks = malloc(n * sizeof *b.blocks);
    b.fine = malloc(n);
    b.marks = malloc(n);
    b.adapters = malloc(n * sizeof *b.adapters);
    b.span_marks = malloc(n * sizeof *b.span_marks);
    b.rows_fine = malloc(n);
    b.out = malloc(n * sizeof *b.out);
    b.spans = malloc(n * sizeof *b.spans);
    b.wants = malloc(n * sizeof *b.wants);
    if (b.tokens == NULL || b.positions == NULL || b.lengths == NULL || b.blocks == NULL || b.fine == NULL || b.marks == NULL ||
        b.adapters == NULL || b.span_marks == NULL || b.rows_fine == NULL || b.out == NULL || b.spans == NULL || b.wants == NULL) {
        step_free(&b);
        return slm_fail(err, SLM_NOMEM, "out of memory for a session");
    }
    step_free(&s->step);
    s->step = b;
    return SLM_OK;
}

/* Limits with defaults filled in. */
static slm_limits complete(const slm_limits *limits)
{
    slm_limits l = *limits;

    l.max_batch_tokens = l.max_batch_tokens == 0 ? DEFAULT_BATCH_TOKENS : l.max_batch_tokens;
    l.max_batch_tokens = l.max_batch_tokens > MAX_BATCH_TOKENS ? MAX_BATCH_TOKENS : l.max_batch_tokens;
    l.max_sequences = l.max_sequences == 0 ? DEFAULT_SEQUENCES : l.max_sequences;
    l.max_sequences = l.max_sequences > l.max_batch_tokens ? l.max_batch_tokens : l.max_sequences;
    l.n_threads = l.n_threads <= 0 ? slm_cpu_count() : l.n_threads;
    return l;
}

static slm_status session_init(slm_session *s, const slm_limits *limits, slm_error *err)
{
    const slm_hparams *hp = &s->model->hp;

    s->limits = complete(limits);
    s->limits.kv_type = slm_kv_type_of(s->model, limits->kv_type);
    s->next_id = 1;
    s->ws = slm_workspace_new();
    if (s->ws == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for a session");
    SLM_TRY(step_room(s, s->limits.max_batch_tokens, err));
    if (!hp->causal)
        return SLM_OK;
    s->prefixes = slm_prefix_cache_new();
    s->sampler = slm_sampler_new(hp->n_vocab);
    if (s->prefixes == NULL || s->sampler == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for a session");
    return slm_kv_pool_new(slm_kv_block_bytes_of(hp, s->limits.kv_type), limits->kv_cache_bytes, evict_prefix, s, &s->pool, err);
}

slm_status slm_session_new(slm_model *model, const slm_limits *limits, slm_session **out, slm_error *err)
{
    slm_session *s = calloc(1, sizeof *s);
    slm_status status;

    if (s == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for a session");
    s->model = model;
    s->allowance = UINT64_MAX;
    model->references++;
    status = session_init(s, limits, err);
    if (status != SLM_OK)
        slm_session_free(s);
    else
        *out = s;
    return status;
}

slm_status slm_session_set_limits(slm_session *s, const slm_limits *limits, slm_error *err)
{
    slm_limits l = complete(limits);

    SLM_TRY(step_room(s, l.max_batch_tokens, err));
    if (s->pool != NULL && l.kv_cache_bytes != s->limits.kv_cache_bytes)
        SLM_TRY(slm_kv_pool_resize(s->pool, l.kv_cache_bytes, err));
    l.kv_type = s->limits.kv_type;
    s->limits = l;
    return SLM_OK;
}

static void free_list(slm_session *s, slm_job_list *list)
{
    while (list->head != NULL) {
        slm_job *job = list->head;

        slm_list_remove(list, job);
        slm_job_free(s, job);
    }
}

void slm_session_reset(slm_session *s)
{
    free_list(s, &s->queued);
    free_list(s, &s->running);
    free_list(s, &s->waiting);
    free_list(s, &s->finished);
    free_list(s, &s->taken);
    slm_labels_forget(s, false);
}

void slm_session_free(slm_session *s)
{
    if (s == NULL)
        return;
    slm_session_reset(s);
    slm_labels_forget(s, true);
    slm_prefix_cache_free(s->prefixes, s->pool);
    slm_kv_pool_free(s->pool);
    slm_sampler_free(s->sampler);
    slm_workspace_free(s->ws);
    step_free(&s->step);
    free(s->by_id);
    slm_model_close(s->model);
    free(s);
}

/* ---- requests */

slm_status slm_submit(slm_session *s, const slm_request *request, uint64_t *id, slm_error *err)
{
    slm_job *job;
    slm_status status;

    SLM_TRY(slm_job_from_request(s, request, &job, err));
    status = slm_model_check(s->model, err);
    if (status == SLM_OK && !job->trivial && job->mode->enlist != NULL)
        status = job->mode->enlist(s, request, job, err);
    if (status == SLM_OK)
        status = slm_job_number(s, job, err);
    if (status != SLM_OK) {
        slm_job_free(s, job);
        return status;
    }
    job->result.tag = request->tag;
    if (job->trivial || s->pool == NULL)
        slm_list_append(&s->queued, job);
    else
        slm_admit_enqueue(s, job);
    *id = job->id;
    if (job->trivial)
        slm_job_finish(s, &s->queued, job, NULL);
    return SLM_OK;
}

void slm_session_allow(slm_session *s, uint64_t tokens)
{
    s->allowance = tokens;
}

bool slm_allowance_used(const slm_session *s)
{
    return s->allowance_used;
}

slm_status slm_check_request(slm_session *s, const slm_request *request, slm_error *err)
{
    slm_job *job;

    SLM_TRY(slm_job_from_request(s, request, &job, err));
    slm_job_free(s, job);
    return slm_model_check(s->model, err);
}

void slm_session_set_slice(slm_session *s, uint32_t positions)
{
    s->slice = positions;
}

void slm_session_set_beside(slm_session *s, uint32_t positions)
{
    s->beside = positions;
}

void slm_hold(slm_session *s, uint64_t id, bool held)
{
    slm_job *job = slm_job_find(s, id);

    if (job != NULL)
        job->held = held;
}

uint32_t slm_step_positions(const slm_session *s, uint64_t id)
{
    const slm_job *job = slm_job_find(s, id);

    return job != NULL && job->last_step == s->n_steps ? job->last_n : 0;
}

void slm_urgent(slm_session *s, uint64_t id)
{
    slm_job *job = slm_job_find(s, id), *behind = NULL;

    if (job == NULL)
        return;
    job->urgent = true;
    if (job->list != &s->queued)
        return;
    slm_list_remove(&s->queued, job);
    for (slm_job *other = s->queued.head; other != NULL && other->urgent; other = other->next)
        behind = other;
    slm_list_insert(&s->queued, behind, job);
}

const slm_result *slm_poll(slm_session *s)
{
    slm_job *job = s->finished.head;

    if (job == NULL)
        return NULL;
    slm_list_remove(&s->finished, job);
    slm_list_append(&s->taken, job);
    return &job->result;
}

bool slm_next_piece(slm_session *s, uint64_t id, const char **text, size_t *length)
{
    slm_job *job = slm_job_find(s, id);
    slm_pieces *p;

    if (job == NULL || !job->stream)
        return false;
    p = &job->gen.pieces;
    if (p->final <= p->taken)
        return false;
    *text = p->text + p->taken;
    *length = p->final - p->taken;
    p->taken = p->final;
    return true;
}

void slm_release(slm_session *s, uint64_t id)
{
    slm_job *job = slm_job_find(s, id);

    if (job == NULL)
        return;
    slm_list_remove(job->list, job);
    slm_job_free(s, job);
}

slm_status slm_prompt_tokens(slm_session *s, const slm_request *request, size_t *n, slm_error *err)
{
    slm_prompt prompt;

    if (s->model->tokenizer == NULL)
        return slm_fail(err, SLM_UNSUPPORTED, "model \"%s\" has no vocabulary", slm_model_get_info(s->model)->name);
    SLM_TRY(slm_job_prompt(s, request, 0, &prompt, err));
    *n = prompt.ids.n;
    slm_prompt_free(&prompt);
    return SLM_OK;
}

/* Scratch of the steps beside the workspace that grows with what was asked for. */
static size_t step_bytes(const slm_session *s)
{
    const slm_step_state *b = &s->step;

    return (b->some_room + b->rows_room + b->logit_rows * b->logit_stride) * sizeof(float) +
           (size_t) b->masks_made * (s->model->hp.n_vocab / 8);
}

size_t slm_session_trim(slm_session *s, size_t keep_bytes)
{
    slm_step_state *b = &s->step;
    size_t kv = s->pool == NULL ? 0 : slm_kv_held(s->pool), freed = 0;

    if (s->pool != NULL) {
        slm_kv_pool_trim(s->pool, keep_bytes);
        freed = kv - slm_kv_held(s->pool);
    }
    if (slm_workspace_bytes(s->ws) + step_bytes(s) <= keep_bytes)
        return freed;
    freed += slm_workspace_bytes(s->ws) + step_bytes(s);
    slm_workspace_clear(s->ws);
    free(b->some);
    free_masks(b);
    free(b->rows);
    free(b->logits);
    b->some = b->rows = b->logits = NULL;
    b->some_room = b->rows_room = b->logit_rows = b->logit_stride = 0;
    return freed;
}

void slm_session_owed(const slm_session *s, slm_usage *out)
{
    *out = (slm_usage){0};
    slm_labels_owed(s, out);
}

void slm_session_get_stats(const slm_session *s, slm_session_stats *out)
{
    *out = s->stats;
    out->scratch_bytes = slm_workspace_bytes(s->ws) + step_bytes(s);
    if (s->pool == NULL)
        return;
    out->kv_bytes_used = (size_t) slm_kv_used(s->pool) * slm_kv_block_stride(s->pool);
    out->kv_bytes_limit = (size_t) slm_kv_capacity(s->pool) * slm_kv_block_stride(s->pool);
    out->kv_bytes_held = slm_kv_held(s->pool);
    out->cached_prefixes = slm_prefix_count(s->prefixes);
}
