/*
 * models.c: requests in sessions: admission by turn, steps, results.
 *
 * Each model has one session in which all clients' requests run together.  Batches and jobs take up to MOST_TOGETHER of its places, so that
 * those for whom somebody waits (interactive) always find one, and are put before the others (slm_urgent).  While such a one runs beside
 * others, prompts are computed in slices, so that a step lasts about SLICE_NS.
 *
 * A request that may have killed an earlier engine runs in the model's second session, one at a time, in turn with the first: whatever
 * happens, it is known who was being computed.
 *
 * Keys and values of all models together stay below the limit: each model that generates has an equal part of it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/internal.h"

#define MOST_TOGETHER 64      /* batches and jobs in a decoder's session */
#define MOST_SEQUENCES 80     /* all */
#define JOBS_BESIDE 8         /* jobs while somebody else computes too */
#define MOST_TEXTS 512        /* in an encoder's */
#define BATCH_POSITIONS 512u
#define LEAST_POSITIONS 96u   /* more than sequences, or some would stand still */
#define SLICE_NS 20e6
#define STEP_NS 1e9           /* no step is planned to last longer: it would look like a hang */
#define IDLE_NS 60000000000u

static slm_state_figures figures;

void slm_models_init(const char *directory)
{
    slm_images_init(directory);
}

/* ---- the end of a request */

static void forget(request *r)
{
    if (r->id != 0) {
        lane *l = r->suspect ? &r->model->alone : &r->model->main;

        slm_release(l->session, r->id);
        r->model->by_class[r->class] -= !r->suspect;
    }
    slm_flows_take(r);
    slm_list_take(r);
    if (r->model != NULL)
        r->model->n_here--;
    slm_client_forget(r);
    slm_wire_request_free(&r->wire);
    free(r);
}

void slm_models_drop(request *r)
{
    forget(r);
}

static void answer(request *r, const slm_result *result)
{
    if (r->suspect)
        slm_flight_cleared(r->digest);
    figures.requests++;
    figures.prompt_tokens += result->usage.prompt_tokens;
    figures.output_tokens += result->usage.output_tokens;
    figures.reused_tokens += result->usage.reused_tokens;
    slm_client_result(r, result);
    forget(r);
}

static void refuse(request *r, const slm_error *err)
{
    slm_result result = {.status = err->status, .error = *err};

    answer(r, &result);
}

/* ---- the beginning */

static void refuse_poison(request *r)
{
    slm_error err;

    slm_fail(&err, SLM_INTERNAL, "the engine process has died of this request twice, and does not compute it again");
    err.cause = SLM_CAUSE_POISON;
    slm_hint(&err, "The server's log names it as %016llx%016llx. A restart of the server lets it be tried again.",
             (unsigned long long) r->digest.high, (unsigned long long) r->digest.low);
    figures.refused++;
    refuse(r, &err);
}

/* About what it will take: an answer's token costs as much as some of the prompt's, as the weights are read for it. */
static uint64_t cost_of(const slm_request *q)
{
    uint64_t bytes = 0, answers = q->mode == SLM_MODE_GENERATE ? (q->max_tokens < 4096 ? q->max_tokens : 4096) : q->n_labels;

    for (size_t i = 0; i < q->n_segments; i++)
        bytes += q->segments[i].length;
    return 16 + bytes / 4 + 4 * answers;
}

static slm_status prepare(request *r, slm_error *err)
{
    SLM_TRY(slm_images_find(r->wire.names.model, &r->model, err));
    r->model->n_here++;
    r->model->n_requests++;
    if (r->wire.names.adapter != NULL)
        SLM_TRY(slm_images_adapter(r->model, r->wire.names.adapter, &r->adapter, err));
    r->wire.request.tag = r;
    r->cost = cost_of(&r->wire.request);
    return SLM_OK;
}

void slm_models_take(request *r)
{
    slm_error err = {0};

    if (slm_flight_poison(r->digest)) {
        refuse_poison(r);
        return;
    }
    if (prepare(r, &err) != SLM_OK) {
        refuse(r, &err);
        return;
    }
    r->suspect = slm_flight_suspect(r->digest);
    if (r->suspect) {
        slm_list_put(&r->model->suspects, r);
    } else if (!slm_flows_put(r)) {
        slm_fail(&err, SLM_NOMEM, "out of memory for a request");
        refuse(r, &err);
    }
}

/* ---- sessions */

static size_t memory_of_model(void)
{
    size_t n = 0;

    for (const served *m = slm_images_first(); m != NULL; m = m->next)
        n += m->info->kv_bytes_per_token > 0 && !m->stale;
    return (size_t) atomic_load(&slm_server_state->memory_bytes) / (n > 0 ? n : 1);
}

static uint32_t power_of_two(double x)
{
    uint32_t n = LEAST_POSITIONS;

    while (n < BATCH_POSITIONS && 1.5 * n <= x)
        n = n == LEAST_POSITIONS ? 128 : 2 * n;
    return n;
}

/* How many positions a step may have. */
static uint32_t positions_of(const served *m, const lane *l)
{
    bool sliced = l == &m->main && m->by_class[SLM_CLASS_INTERACTIVE] > 0 && l->running.n > 1;

    if (m->ns_per_position <= 0)
        return BATCH_POSITIONS;
    return power_of_two((sliced ? SLICE_NS : STEP_NS) / m->ns_per_position);
}

/* Makes the session, or brings its limits up to date. */
static slm_status ready(served *m, lane *l, slm_error *err)
{
    slm_limits limits = {.kv_cache_bytes = memory_of_model(), .max_batch_tokens = BATCH_POSITIONS, .max_sequences = MOST_SEQUENCES,
                         .n_threads = (int) atomic_load(&slm_server_state->n_threads)};
    slm_status status = SLM_OK;

    if (l->session == NULL)
        status = slm_session_new(m->model, &limits, &l->session, err);
    else if (memcmp(&limits, &l->limits, sizeof limits) != 0)
        status = slm_session_set_limits(l->session, &limits, err);
    if (status == SLM_OK)
        l->limits = limits;
    return status;
}

static slm_status begin(request *r, lane *l, slm_error *err)
{
    slm_request asked = r->wire.request;

    SLM_TRY(ready(r->model, l, err));
    asked.adapter = r->adapter;
    if (r->wire.names.constraint != NULL)
        SLM_TRY(slm_images_constraint(r->model, asked.realm, r->wire.names.constraint, &asked.constraint, err));
    SLM_TRY(slm_submit(l->session, &asked, &r->id, err));
    if (r->class == SLM_CLASS_INTERACTIVE)
        slm_urgent(l->session, r->id);
    return SLM_OK;
}

/* Puts a request that is in no list into a session. */
static void start(request *r, lane *l)
{
    slm_error err = {0};
    slm_status status;

    slm_flight_begin(r->model->name, NULL, r);
    status = begin(r, l, &err);
    slm_flight_end();
    if (status != SLM_OK) {
        refuse(r, &err);
        return;
    }
    slm_list_put(&l->running, r);
    r->model->by_class[r->class] += l == &r->model->main;
    r->model->last_use_ns = slm_server_now_ns();
}

/* Is there a place for it? */
static bool may_start(const request *r)
{
    const served *m = r->model;
    size_t others = m->by_class[SLM_CLASS_BATCH] + m->by_class[SLM_CLASS_JOB];

    if (r->class == SLM_CLASS_JOB && m->by_class[SLM_CLASS_JOB] >= JOBS_BESIDE && m->main.running.n > m->by_class[SLM_CLASS_JOB])
        return false;
    if (m->info->kv_bytes_per_token == 0)
        return m->main.running.n < MOST_TEXTS;
    return r->class == SLM_CLASS_INTERACTIVE ? m->main.running.n < MOST_SEQUENCES : others < MOST_TOGETHER;
}

static void admit(void)
{
    request *r;

    for (int c = 0; c < SLM_CLASSES; c++)
        while ((r = slm_flows_next((slm_class) c, may_start)) != NULL)
            start(r, &r->model->main);
    for (served *m = slm_images_first(); m != NULL; m = m->next) {
        while (m->suspects.n > 0 && m->alone.running.n == 0) {
            r = m->suspects.head;
            slm_list_take(r);
            start(r, &m->alone);
        }
    }
}

/* ---- steps */

static void send_pieces(lane *l, const request *r)
{
    const char *text;
    size_t length;

    while (r->wire.request.stream && slm_next_piece(l->session, r->id, &text, &length) && length > 0)
        slm_client_piece(r, text, length);
}

/* The session cannot go on: everybody in it is told why. */
static void fail_all(lane *l, const slm_error *err)
{
    request *r;

    while ((r = l->running.head) != NULL)
        refuse(r, err);
    slm_session_reset(l->session);
}

#ifdef SLM_TEST_HOOKS
/* For tests of what happens when the engine dies: texts that kill it, or make it stand still. */
static void test_hooks(const lane *l)
{
    for (const request *r = l->running.head; r != NULL; r = r->next) {
        const slm_request *q = &r->wire.request;

        for (size_t i = 0; i < q->n_segments; i++) {
            if (strstr(q->segments[i].text, "slm-test-poison") != NULL)
                abort();
            while (strstr(q->segments[i].text, "slm-test-hang") != NULL)
                usleep(10000);
        }
    }
}
#else
#define test_hooks(l) ((void) (l))
#endif

static void measure(served *m, uint64_t positions, uint64_t ns)
{
    double each;

    if (positions < 32)
        return;
    each = (double) ns / (double) positions;
    m->ns_per_position = m->ns_per_position <= 0 ? each : 0.8 * m->ns_per_position + 0.2 * each;
}

static void step(served *m, lane *l)
{
    slm_session_stats before, after;
    uint64_t began = slm_server_now_ns();
    const slm_result *result;
    slm_error err = {0};
    slm_status status;

    (void) ready(m, l, &err); /* what is set now may be too little for what runs: then it goes on with what it has */
    slm_session_set_slice(l->session, positions_of(m, l));
    slm_session_get_stats(l->session, &before);
    slm_flight_begin(m->name, &l->running, NULL);
    test_hooks(l);
    status = slm_step(l->session, NULL, &err);
    slm_flight_end();
    if (status != SLM_OK) {
        fail_all(l, &err);
        return;
    }
    slm_session_get_stats(l->session, &after);
    measure(m, after.positions - before.positions, slm_server_now_ns() - began);
    figures.steps++;
    figures.busy_ns += slm_server_now_ns() - began;
    for (const request *r = l->running.head; r != NULL; r = r->next)
        send_pieces(l, r);
    while ((result = slm_poll(l->session)) != NULL) {
        send_pieces(l, result->tag);
        answer(result->tag, result);
    }
}

bool slm_models_step(void)
{
    bool more = false;

    admit();
    for (served *m = slm_images_first(); m != NULL; m = m->next) {
        if (m->main.running.n > 0)
            step(m, &m->main);
        if (m->alone.running.n > 0)
            step(m, &m->alone);
        more = more || m->main.running.n > 0 || m->alone.running.n > 0 || m->suspects.n > 0;
    }
    slm_images_sweep();
    return more || slm_flows_waiting(SLM_CLASS_INTERACTIVE) + slm_flows_waiting(SLM_CLASS_BATCH) + slm_flows_waiting(SLM_CLASS_JOB) > 0;
}

/* ---- memory and figures */

void slm_models_idle(void)
{
    uint64_t now = slm_server_now_ns();
    size_t freed = 0;

    for (served *m = slm_images_first(); m != NULL; m = m->next) {
        if (m->alone.session != NULL && m->alone.running.n + m->suspects.n == 0) {
            slm_session_free(m->alone.session);
            m->alone.session = NULL;
        }
        if (m->main.session != NULL && m->main.running.n == 0 && now - m->last_use_ns > IDLE_NS)
            freed += slm_session_trim(m->main.session, 0);
    }
    if (freed > 0)
        slm_memory_trim();
}

static void add_model(slm_state_figures *out, const served *m)
{
    slm_state_model *row = &out->models[out->n_models++];
    slm_session_stats stats = {0};

    if (m->main.session != NULL)
        slm_session_get_stats(m->main.session, &stats);
    *row = (slm_state_model){.image_bytes = m->info->image_bytes, .kv_bytes = stats.kv_bytes_held, .scratch_bytes = stats.scratch_bytes,
                             .prefixes = stats.cached_prefixes, .requests = m->n_requests};
    memcpy(row->name, m->name, sizeof row->name);
    for (int c = 0; c < SLM_CLASSES; c++)
        out->running[c] += m->by_class[c];
}

void slm_models_figures(slm_state_figures *out)
{
    *out = figures;
    for (int c = 0; c < SLM_CLASSES; c++)
        out->queued[c] = slm_flows_waiting((slm_class) c);
    for (const served *m = slm_images_first(); m != NULL; m = m->next)
        if (out->n_models < SLM_STATE_MODELS)
            add_model(out, m);
    slm_clients_figures(out);
}
