/*
 * slm_step: admission (admit.c), the batch, one forward pass, and its results (see session.h for the stages).
 *
 * The batch takes decode positions first, then prompts in order of arrival, up to max_batch_tokens: a long prompt never holds back
 * running answers by more than one step, and what is left over goes on in the next step.  Urgent requests have both before the others.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/session/session.h"

/* Bytes of the logits buffer, at least one row. */
#define LOGITS_BYTES ((size_t) 16 << 20)
/* KV memory that an idle session keeps for the next request, beside cached prefixes. */
#define IDLE_BYTES ((size_t) 64 << 20)

/* ---- the batch */

uint32_t slm_step_limit(const slm_session *s)
{
    return s->slice > 0 && s->slice < s->step.limit ? s->slice : s->step.limit;
}

uint32_t slm_step_left(const slm_session *s)
{
    uint32_t left = s->step.cap > s->step.n ? s->step.cap - s->step.n : 0;
    uint64_t planned = (uint64_t) s->step.n + s->step.n_first, allowed = s->allowance > planned ? s->allowance - planned : 0;

    return allowed < left ? (uint32_t) allowed : left;
}

void slm_step_count(const slm_session *s, slm_job *job, uint32_t n)
{
    job->last_n = n + (job->last_step == s->n_steps ? job->last_n : 0);
    job->last_step = s->n_steps;
}

void slm_step_add(slm_session *s, slm_job *job, slm_seq *seq, const int32_t *tokens, uint32_t n, uint32_t want_from, uint32_t stage)
{
    slm_step_state *b = &s->step;
    slm_span *span = &b->spans[b->n_spans++];

    slm_step_count(s, job, n);
    *span = (slm_span){.job = job, .seq = seq, .begin = b->n, .n = n, .position = (int32_t) seq->length, .first_want = b->n_out,
                       .prompt = seq == job->seq && seq->length < job->prompt_end, .stage = stage};
    for (uint32_t i = 0; i < n; i++) {
        uint32_t position = seq->length + i;

        b->tokens[b->n] = tokens[i];
        b->positions[b->n] = (int32_t) position;
        b->lengths[b->n] = (int32_t) job->end;
        b->adapters[b->n] = job->adapter;
        b->fine[b->n] = (job->regime & SLM_REGIME_FINE) != 0;
        b->blocks[b->n] = (const uint16_t *const *) seq->table;
        if (position >= want_from) {
            b->out[b->n_out] = b->n;
            b->wants[b->n_out++] = (slm_want){.job = job, .position = position, .stage = stage};
            span->n_wants++;
        }
        b->n++;
    }
}

static bool in_prompt(const slm_job *job)
{
    return job->seq != NULL && job->seq->length < job->prompt_end;
}

/* The next tokens of a prompt (or of text to be scored), as many as fit. */
static void plan_prompt(slm_session *s, slm_job *job)
{
    uint32_t left = slm_step_left(s), n = job->prompt_end - job->seq->length, first = 0, taken;

    if (n <= left && job->mode == &slm_mode_generate && (uint64_t) s->step.n + s->step.n_first + n >= s->allowance)
        n--; /* the last token of a prompt brings the first of the answer */
    else if (n <= left && job->mode == &slm_mode_generate)
        first = 1;
    n = n < left ? n : left;
    if (n == 0 || !slm_seq_reserve(s->pool, job->seq, job->seq->length + n, true, &taken))
        return;
    job->promise -= taken;
    s->step.n_first += first;
    slm_step_add(s, job, job->seq, job->ids + job->seq->length, n, job->first_out, 0);
}

/* Answers that go on; where not all fit, those that had their turn go behind the others. */
static void plan_answers(slm_session *s, bool urgent)
{
    slm_job *job = s->running.head, *end = s->running.tail, *next;
    bool last = job == NULL;

    for (; job != NULL && slm_step_left(s) > 0; job = job->next)
        if (job->urgent == urgent && !job->held && !in_prompt(job) && job->mode->plan != NULL)
            job->mode->plan(s, job);
    if (job == NULL || s->beside == 0)
        return;
    for (job = s->running.head; !last; job = next) {
        next = job->next;
        last = job == end;
        if (job->last_step != s->n_steps || job->urgent != urgent || in_prompt(job))
            continue;
        slm_list_remove(&s->running, job);
        slm_list_append(&s->running, job);
    }
}

static void plan_prompts(slm_session *s, bool urgent)
{
    for (slm_job *job = s->running.head; job != NULL && slm_step_left(s) > 0; job = job->next)
        if (job->urgent == urgent && !job->held && in_prompt(job))
            plan_prompt(s, job);
}

static void plan(slm_session *s)
{
    slm_step_state *b = &s->step;

    b->n = b->n_out = b->n_spans = b->n_first = 0;
    b->n_some = b->n_masks = 0;
    b->held = false;
    b->cap = slm_step_limit(s);
    s->n_steps++;
    for (const slm_job *job = s->running.head; job != NULL && !b->held; job = job->next)
        b->held = job->held;
    plan_answers(s, true);
    plan_prompts(s, true);
    if (s->beside > 0)
        b->cap = b->n + s->beside < b->limit ? b->n + s->beside : b->limit;
    plan_answers(s, false);
    plan_prompts(s, false);
}

/* ---- evaluation: hidden rows to tokens, log probabilities and children's logits */

bool slm_step_mask(slm_session *s, slm_want *w, const uint64_t *mask)
{
    slm_step_state *b = &s->step;
    size_t bytes = ((size_t) s->model->hp.n_vocab + 63) / 64 * sizeof *mask;

    if (b->masks == NULL)
        b->masks = malloc(b->room * sizeof *b->masks);
    if (b->masks == NULL)
        return false;
    if (b->n_masks == b->masks_made) {
        b->masks[b->masks_made] = malloc(bytes);
        if (b->masks[b->masks_made] == NULL)
            return false;
        b->masks_made++;
    }
    memcpy(b->masks[b->n_masks], mask, bytes);
    w->mask = b->masks[b->n_masks++];
    return true;
}

static bool grow_floats(float **array, size_t *room, size_t want)
{
    float *p;

    if (want <= *room)
        return true;
    p = realloc(*array, want * 2 * sizeof *p);
    if (p == NULL)
        return false;
    *array = p;
    *room = want * 2;
    return true;
}

/* Makes room for the rows that go through the whole head, and for the logits of a bounded number of them. */
static slm_status head_buffers(slm_session *s, uint32_t n_rows, slm_error *err)
{
    slm_step_state *b = &s->step;
    size_t stride = ((size_t) s->model->hp.n_vocab + 15) & ~(size_t) 15, rows = LOGITS_BYTES / (stride * sizeof(float));

    if (!grow_floats(&b->rows, &b->rows_room, (size_t) n_rows * s->model->hp.n_embd))
        return slm_fail(err, SLM_NOMEM, "out of memory for a batch");
    rows = rows == 0 ? 1 : rows;
    rows = rows < n_rows ? rows : n_rows;
    if (rows > b->logit_rows) {
        void *memory;

        if (posix_memalign(&memory, 64, rows * stride * sizeof(float)) != 0)
            return slm_fail(err, SLM_NOMEM, "out of memory for logits");
        free(b->logits);
        b->logits = memory;
        b->logit_rows = rows;
        b->logit_stride = stride;
    }
    return SLM_OK;
}

/* The wants that need the whole vocabulary, in chunks. */
static slm_status eval_whole_head(slm_session *s, const float *hidden, slm_error *err)
{
    slm_step_state *b = &s->step;
    size_t n_embd = s->model->hp.n_embd;
    uint32_t n_rows = 0, next = 0;

    for (uint32_t i = 0; i < b->n_out; i++)
        n_rows += b->wants[i].ids == NULL;
    if (n_rows == 0)
        return SLM_OK;
    SLM_TRY(head_buffers(s, n_rows, err));
    n_rows = 0;
    for (uint32_t i = 0; i < b->n_out; i++)
        if (b->wants[i].ids == NULL) {
            b->rows_fine[n_rows] = (b->wants[i].job->regime & SLM_REGIME_FINE) != 0;
            memcpy(b->rows + n_embd * n_rows++, hidden + n_embd * i, n_embd * sizeof *hidden);
        }
    for (uint32_t row = 0; row < n_rows;) {
        uint32_t n = n_rows - row < b->logit_rows ? n_rows - row : (uint32_t) b->logit_rows;

        SLM_TRY(slm_head_logits(s->model, s->ws, b->rows + n_embd * row, b->rows_fine + row, n, s->limits.n_threads, s->limits.stop,
                                b->logits, b->logit_stride, err));
        for (uint32_t i = 0; i < n; next++)
            if (b->wants[next].ids == NULL)
                b->wants[next].job->mode->read(s, &b->wants[next], b->logits + b->logit_stride * i++);
        row += n;
    }
    return SLM_OK;
}

/* Asks what each want needs, and computes it where it is some tokens only (DESIGN D10). */
static slm_status eval_some(slm_session *s, const float *hidden, slm_error *err)
{
    slm_step_state *b = &s->step;

    for (uint32_t i = 0; i < b->n_out; i++) {
        slm_want *w = &b->wants[i];
        const slm_mode_ops *mode = w->job->mode;

        if (mode->ask != NULL)
            SLM_TRY(mode->ask(s, w, err));
        if (w->ids == NULL || w->n_ids == 0)
            continue;
        if (!grow_floats(&b->some, &b->some_room, b->n_some + w->n_ids))
            return slm_fail(err, SLM_NOMEM, "out of memory for logits");
        SLM_TRY(slm_head_some(s->model, s->ws, hidden + (size_t) s->model->hp.n_embd * i, w->ids, w->n_ids, b->some + b->n_some, err));
        w->logits = b->n_some;
        b->n_some += w->n_ids;
        if (mode->read != NULL)
            mode->read(s, w, b->some + w->logits);
    }
    return SLM_OK;
}

/* ---- commit */

uint32_t slm_span_prompt(const slm_span *span)
{
    uint32_t n_prompt = span->job->n_prompt, begin = (uint32_t) span->position, n = 0;

    if (span->prompt && begin < n_prompt)
        n = n_prompt - begin < span->n ? n_prompt - begin : span->n;
    return n;
}

/* Everything of this step has been computed: jobs move on. A job's own error ends that job alone. */
static void commit(slm_session *s)
{
    for (uint32_t i = 0; i < s->step.n_spans; i++) {
        const slm_span *span = &s->step.spans[i];
        slm_job *job = span->job;
        bool done = false;
        slm_error error = {0};
        slm_status status;

        if (job == NULL) /* an earlier span of it failed */
            continue;
        s->stats.usage.prompt_tokens += slm_span_prompt(span);
        s->stats.positions += span->n;
        if (span->prompt) {
            job->seq->length += span->n;
            slm_admit_keep(s, job);
        }
        status = job->mode->commit(s, job, span, &done, &error);
        for (uint32_t k = i + 1; status != SLM_OK && k < s->step.n_spans; k++)
            if (s->step.spans[k].job == job)
                s->step.spans[k].job = NULL;
        if (status != SLM_OK || done)
            slm_job_finish(s, &s->running, job, status != SLM_OK ? &error : NULL);
    }
}

/* Jobs of which all is known that they need leave the running list. */
static void settle(slm_session *s)
{
    slm_job *next;

    for (slm_job *job = s->running.head; job != NULL; job = next) {
        next = job->next;
        if (job->mode->settle != NULL)
            job->mode->settle(s, job);
    }
}

/* Nothing that was computed from a damaged image is committed. */
static slm_status check_images(const slm_session *s, slm_error *err)
{
    const slm_step_state *b = &s->step;

    for (uint32_t i = 0; i < b->n; i++)
        if (b->adapters[i] != NULL && (i == 0 || b->adapters[i] != b->adapters[i - 1]))
            SLM_TRY(slm_adapter_check(b->adapters[i], err));
    return slm_model_check(s->model, err);
}

/* The pass that took so long, to those who had a part in it. */
static void deal_out(slm_session *s, const slm_stopwatch *watch)
{
    const slm_step_state *b = &s->step;

    for (uint32_t i = 0; i < b->n_spans; i++) {
        const slm_span *span = &b->spans[i];

        slm_usage_share(s, span->job, span->begin, span->n, b->n, !span->prompt, watch);
        span->job->result.usage.steps += i == 0 || b->spans[i - 1].job != span->job;
    }
    s->stats.usage.steps++;
}

static slm_status run_batch(slm_session *s, slm_error *err)
{
    slm_step_state *b = &s->step;
    slm_batch batch = {.n = b->n,
                       .tokens = b->tokens,
                       .positions = b->positions,
                       .blocks = b->blocks,
                       .lengths = b->lengths,
                       .fine = b->fine,
                       .kv_type = s->limits.kv_type,
                       .n_out = b->n_out,
                       .out = b->out};
    float *hidden = NULL;
    slm_stopwatch watch = slm_stopwatch_start();

    for (uint32_t i = 0; i < b->n && batch.adapters == NULL; i++)
        batch.adapters = b->adapters[i] != NULL ? b->adapters : NULL;
    SLM_TRY(slm_forward(s->model, s->ws, &batch, s->limits.n_threads, s->limits.stop, &hidden, err));
    SLM_TRY(eval_some(s, hidden, err));
    SLM_TRY(eval_whole_head(s, hidden, err));
    SLM_TRY(check_images(s, err));
    slm_stopwatch_stop(&watch);
    deal_out(s, &watch);
    commit(s);
    settle(s);
    return SLM_OK;
}

static size_t jobs_left(const slm_session *s)
{
    return s->queued.n + s->running.n + s->waiting.n;
}

static slm_status step_decoder(slm_session *s, slm_error *err)
{
    size_t before;

    slm_admit_jobs(s);
    plan(s);
    if (slm_session_stopped(s))
        return slm_fail(err, SLM_CANCELLED, "cancelled");
    before = jobs_left(s);
    settle(s); /* those of which planning has ruled out all that was left */
    if (s->step.n > 0)
        return run_batch(s, err);
    if (before > 0 && jobs_left(s) == before && s->allowance != UINT64_MAX) {
        s->allowance_used = true;
        return slm_fail(err, SLM_LIMIT, "no more tokens are allowed");
    }
    if (before > 0 && jobs_left(s) == before && !s->step.held)
        return slm_fail(err, SLM_NOMEM, "out of memory for the KV cache");
    return SLM_OK;
}

/* A step that was stopped is planned anew. Were it as long as before, and were there always a reason to look up before its end (a timer of
 * the caller's, a large model), nothing would ever be done: so it is half as long, and twice as long again when one has been done. */
static void adapt(slm_session *s, slm_status status)
{
    slm_step_state *b = &s->step;

    if (status == SLM_CANCELLED)
        b->limit = b->n > 1 ? b->n / 2 : 1;
    else if (b->limit < b->room)
        b->limit = b->limit < b->room / 2 ? b->limit * 2 : b->room;
}

slm_status slm_step(slm_session *s, size_t *active, slm_error *err)
{
    slm_status status;

    s->allowance_used = false;
    if (slm_session_stopped(s))
        return slm_fail(err, SLM_CANCELLED, "cancelled");
    status = s->pool == NULL ? slm_embed_step(s, err) : step_decoder(s, err);
    if (status == SLM_OK)
        status = slm_model_check(s->model, err); /* planning and texts of tokens read it too */
    adapt(s, status);
    if (s->pool != NULL && jobs_left(s) == 0)
        slm_kv_pool_trim(s->pool, IDLE_BYTES);
    if (active != NULL)
        *active = jobs_left(s);
    return status;
}
