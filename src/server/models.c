/*
 * models.c: requests in sessions: admission by turn, steps, results.
 *
 * Each model has one session for each kind of keys and values (slm_kv_type), in which all clients' requests of that kind run together.
 * Batches and jobs take up to MOST_TOGETHER of their places, so that those for whom somebody waits (interactive) always find one, and are
 * put before the others (slm_urgent).  Who takes part in a step is a
 * matter of turns (turns.c).  While somebody waits, or has waited a moment ago, the others' part of a step is short (part_of).
 *
 * A request that may have killed an earlier engine runs in the model's second session, one at a time, in turn with the first: whatever
 * happens, it is known who was being computed.
 *
 * Keys and values of all models together stay below the limit: each session of one that generates has an equal part of it.
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
#define SLICE_NS 20e6         /* of prompts for which somebody waits */
#define STEP_NS 100e6         /* no step is planned to last longer, if LEAST_POSITIONS do not: somebody may come */
#define RECENT_NS 1000000000u
#define LONGEST_NS 50e6       /* parts of a step of batches and jobs */
#define USUAL_NS 20e6         /* an interactive request, before one was seen */
#define IDLE_NS 60000000000u

static slm_state_figures figures;

void slm_models_init(const char *directory)
{
    slm_images_init(directory);
}

/* The session that a request is for; of a model without keys and values there is one. */
static lane *lane_of(const request *r)
{
    return &r->model->main[r->model->info->kv_bytes_per_token == 0 ? SLM_KV_F16 : r->wire.names.kv_type];
}

/* What all sessions of a model run. */
static size_t running(const served *m)
{
    size_t n = 0;

    for (int type = 0; type < SLM_KV_TYPES; type++)
        n += m->main[type].running.n;
    return n;
}

/* ---- the end of a request */

static void forget(request *r)
{
    if (r->id != 0) {
        lane *l = r->suspect ? &r->model->alone : lane_of(r);

        slm_release(l->session, r->id);
        r->model->by_class[r->class] -= !r->suspect;
        slm_turns_leave(r);
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

/* What an interactive request takes where nothing is computed for those who do not wait. */
static void measure_interactive(const request *r)
{
    served *m = r->model;
    uint64_t now = slm_server_now_ns();
    double own = (double) (now - r->came_ns);

    m->last_interactive_ns = now;
    if (slm_turns_others_ns() == r->others_ns)
        m->interactive_ns = m->interactive_ns <= 0 ? own : 0.8 * m->interactive_ns + 0.2 * own;
}

static void answer(request *r, const slm_result *result)
{
    if (r->class == SLM_CLASS_INTERACTIVE && r->id != 0)
        measure_interactive(r);
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
    r->came_ns = slm_server_now_ns();
    r->others_ns = slm_turns_others_ns();
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
        if (m->info->kv_bytes_per_token > 0 && !m->stale)
            n += m->main[SLM_KV_F16].session != NULL && m->main[SLM_KV_Q8].session != NULL ? 2 : 1;
    return (size_t) atomic_load(&slm_server_state->memory_bytes) / (n > 0 ? n : 1);
}

static uint32_t power_of_two(double x)
{
    uint32_t n = LEAST_POSITIONS;

    while (n < BATCH_POSITIONS && 1.5 * n <= x)
        n = n == LEAST_POSITIONS ? 128 : 2 * n;
    return n;
}

/* The part of a step that others may have beside interactive requests that take `waits` alone.  What is had at once is made up for by
 * time without (turns.c), twice as much for batches, eight times for jobs: a long part meets few requests, and where these are short fewer
 * than one in twenty; longer ones are met by a part that is short beside them. */
static double part_of(double waits, bool batch)
{
    double part = batch ? 1.5 * waits : 0.125 * waits, met = waits / ((batch ? 2 : 8) * LONGEST_NS);

    return met < 0.04 || part > LONGEST_NS ? LONGEST_NS : part;
}

/* The shortest such part, of the models that have had an interactive request lately; 0: none has. */
static double shortest_part(bool batch)
{
    uint64_t now = slm_server_now_ns();
    double least = 0;

    for (const served *m = slm_images_first(); m != NULL; m = m->next) {
        bool runs = m->by_class[SLM_CLASS_INTERACTIVE] > 0;
        double part = part_of(m->interactive_ns > 0 ? m->interactive_ns : USUAL_NS, batch);

        if ((runs || (m->last_interactive_ns > 0 && now - m->last_interactive_ns < RECENT_NS)) &&
            (least <= 0 || part < least))
            least = part;
    }
    return least;
}

/* How many positions a step may have, and of them those for whom nobody waits. */
static void limit_step(const served *m, const lane *l, bool has_batch)
{
    double part = shortest_part(has_batch);
    bool sliced = l != &m->alone && m->by_class[SLM_CLASS_INTERACTIVE] > 0 && running(m) > 1;
    uint32_t beside = 0;

    if (part > 0 && m->ns_per_position > 0 && part / m->ns_per_position < BATCH_POSITIONS)
        beside = 1 + (uint32_t) (part / m->ns_per_position);
    slm_session_set_beside(l->session, beside);
    slm_session_set_slice(l->session, m->ns_per_position <= 0 ? BATCH_POSITIONS
                                                              : power_of_two((sliced ? SLICE_NS : STEP_NS) / m->ns_per_position));
}

/* Makes the session, or brings its limits up to date. */
static slm_status ready(lane *l, slm_model *model, slm_kv_type kv_type, slm_error *err)
{
    slm_limits limits = {.kv_cache_bytes = memory_of_model(), .max_batch_tokens = BATCH_POSITIONS, .max_sequences = MOST_SEQUENCES,
                         .n_threads = (int) atomic_load(&slm_server_state->n_threads), .kv_type = kv_type};
    slm_status status = SLM_OK;

    if (l->session != NULL && l->limits.kv_type != kv_type && l->running.n == 0) { /* of the one that was alone before */
        slm_session_free(l->session);
        l->session = NULL;
    }
    if (l->session == NULL)
        status = slm_session_new(model, &limits, &l->session, err);
    else if (memcmp(&limits, &l->limits, sizeof limits) != 0)
        status = slm_session_set_limits(l->session, &limits, err);
    if (status == SLM_OK)
        l->limits = limits;
    return status;
}

static slm_status begin(request *r, lane *l, slm_error *err)
{
    slm_request asked = r->wire.request;

    SLM_TRY(ready(l, r->model->model, r->wire.names.kv_type, err));
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
    if (l != &r->model->alone) {
        r->model->by_class[r->class]++;
        slm_turns_enter(r);
    }
    r->model->last_use_ns = l->last_use_ns = slm_server_now_ns();
}

/* Is there a place for it? */
static bool may_start(const request *r)
{
    const served *m = r->model;
    size_t others = m->by_class[SLM_CLASS_BATCH] + m->by_class[SLM_CLASS_JOB];

    if (r->class == SLM_CLASS_JOB && m->by_class[SLM_CLASS_JOB] >= JOBS_BESIDE && running(m) > m->by_class[SLM_CLASS_JOB])
        return false;
    if (m->info->kv_bytes_per_token == 0)
        return running(m) < MOST_TEXTS;
    return r->class == SLM_CLASS_INTERACTIVE ? running(m) < MOST_SEQUENCES : others < MOST_TOGETHER;
}

static void admit(void)
{
    request *r;

    for (int c = 0; c < SLM_CLASSES; c++)
        while ((r = slm_flows_next((slm_class) c, may_start)) != NULL)
            start(r, lane_of(r));
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

    if (positions < 16)
        return;
    each = (double) ns / (double) positions;
    m->ns_per_position = m->ns_per_position <= 0 ? each : 0.8 * m->ns_per_position + 0.2 * each;
}

/* Lets those take part whose turn it is; false: nobody's. everybody: whoever is there. */
static bool choose(lane *l, bool everybody, bool *has_batch)
{
    bool any = false;

    *has_batch = false;
    for (request *r = l->running.head; r != NULL; r = r->next) {
        bool held = !everybody && !slm_turns_may(r);

        if (held != r->held)
            slm_hold(l->session, r->id, held);
        r->held = held;
        any = any || !held;
        *has_batch = *has_batch || (!held && r->class == SLM_CLASS_BATCH);
    }
    return any;
}

/* A step's CPU time as that of all threads at once: what else the machine does meanwhile is nobody's fault. */
static uint64_t of_all_threads(const lane *l, uint64_t cpu_ns)
{
    long n = l->limits.n_threads > 0 ? l->limits.n_threads : sysconf(_SC_NPROCESSORS_ONLN);

    return cpu_ns / (uint64_t) (n > 0 ? n : 1);
}

/* A step's time to those who had a part in it.  One position of a request is a token of an answer, several are of a prompt: near enough for
 * one that is cancelled; the result of one that ends has the exact figures. */
static void charge(lane *l, uint64_t positions, uint64_t ns, uint64_t cpu_ns)
{
    for (request *r = l->running.head; r != NULL && positions > 0; r = r->next) {
        uint64_t own = slm_step_positions(l->session, r->id);
        bool answers = own == 1 && r->wire.request.mode == SLM_MODE_GENERATE;

        if (own == 0)
            continue;
        slm_turns_charge(r, of_all_threads(l, cpu_ns) * own / positions);
        r->so_far.requests = 1;
        r->so_far.steps++;
        *(answers ? &r->so_far.output_tokens : &r->so_far.prompt_tokens) += own;
        *(answers ? &r->so_far.decode_ns : &r->so_far.prefill_ns) += ns * own / positions;
        r->so_far.cpu_ns += cpu_ns * own / positions;
    }
}

/* Returns whether anything was computed. */
static bool step(served *m, lane *l, bool everybody)
{
    slm_session_stats before, after;
    uint64_t began = slm_server_now_ns();
    const slm_result *result;
    slm_error err = {0};
    slm_status status;
    bool has_batch;

    if (!choose(l, everybody, &has_batch))
        return false;
    /* what is set now may be too little for what runs: then it goes on with what it has */
    (void) ready(l, m->model, l->limits.kv_type, &err);
    limit_step(m, l, has_batch);
    slm_session_get_stats(l->session, &before);
    slm_flight_begin(m->name, &l->running, NULL);
    test_hooks(l);
    status = slm_step(l->session, NULL, &err);
    slm_flight_end();
    if (status != SLM_OK) {
        fail_all(l, &err);
        return true;
    }
    slm_session_get_stats(l->session, &after);
    measure(m, after.positions - before.positions, slm_server_now_ns() - began);
    charge(l, after.positions - before.positions, slm_server_now_ns() - began, after.usage.cpu_ns - before.usage.cpu_ns);
    figures.steps++;
    figures.busy_ns += slm_server_now_ns() - began;
    for (const request *r = l->running.head; r != NULL; r = r->next)
        send_pieces(l, r);
    while ((result = slm_poll(l->session)) != NULL) {
        send_pieces(l, result->tag);
        answer(result->tag, result);
    }
    return after.positions > before.positions;
}

int slm_models_step(void)
{
    static bool everybody; /* who was left out is what the others wait for: keys and values, or room for theirs */
    bool more = false, advanced = false;

    admit();
    slm_turns_begin();
    for (served *m = slm_images_first(); m != NULL; m = m->next) {
        for (int type = 0; type < SLM_KV_TYPES; type++)
            if (m->main[type].running.n > 0)
                advanced = step(m, &m->main[type], everybody) || advanced;
        if (m->alone.running.n > 0)
            advanced = step(m, &m->alone, everybody) || advanced;
        more = more || running(m) > 0 || m->alone.running.n > 0 || m->suspects.n > 0;
    }
    everybody = false;
    slm_images_sweep();
    if (!more && slm_flows_waiting(SLM_CLASS_INTERACTIVE) + slm_flows_waiting(SLM_CLASS_BATCH) + slm_flows_waiting(SLM_CLASS_JOB) == 0)
        return -1;
    if (advanced || !more)
        return 0;
    if (slm_turns_expected())
        return 1;
    everybody = true;
    return 0;
}

/* ---- memory and figures */

/* Frees what a session that has been idle for long keeps; where the model has two, the session, and so its part of the limit. */
static size_t rest(served *m, lane *l, uint64_t now)
{
    if (l->session == NULL || l->running.n > 0 || now - l->last_use_ns <= IDLE_NS)
        return 0;
    if (m->main[SLM_KV_F16].session == NULL || m->main[SLM_KV_Q8].session == NULL)
        return slm_session_trim(l->session, 0);
    slm_session_free(l->session);
    l->session = NULL;
    return 1;
}

void slm_models_idle(void)
{
    uint64_t now = slm_server_now_ns();
    size_t freed = 0;

    slm_images_idle();
    for (served *m = slm_images_first(); m != NULL; m = m->next) {
        if (m->alone.session != NULL && m->alone.running.n + m->suspects.n == 0) {
            slm_session_free(m->alone.session);
            m->alone.session = NULL;
        }
        for (int type = 0; type < SLM_KV_TYPES; type++)
            freed += rest(m, &m->main[type], now);
    }
    if (freed > 0)
        slm_memory_trim();
}

static void add_model(slm_state_figures *out, const served *m)
{
    slm_state_model *row = &out->models[out->n_models++];
    slm_session_stats stats;

    *row = (slm_state_model){.image_bytes = m->info->image_bytes, .requests = m->n_requests};
    for (int type = 0; type < SLM_KV_TYPES; type++) {
        if (m->main[type].session == NULL)
            continue;
        slm_session_get_stats(m->main[type].session, &stats);
        row->kv_bytes += stats.kv_bytes_held;
        row->scratch_bytes += stats.scratch_bytes;
        row->prefixes += stats.cached_prefixes;
    }
    memcpy(row->name, m->name, sizeof row->name);
    for (int c = 0; c < SLM_CLASSES; c++)
        out->running[c] += m->by_class[c];
}

static void tell(const lane *l)
{
    for (const request *r = l->running.head; r != NULL; r = r->next)
        if (r->so_far.requests > 0)
            slm_client_progress(r);
}

void slm_models_progress(void)
{
    for (const served *m = slm_images_first(); m != NULL; m = m->next) {
        for (int type = 0; type < SLM_KV_TYPES; type++)
            tell(&m->main[type]);
        tell(&m->alone);
    }
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
