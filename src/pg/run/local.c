/*
 * local.c: requests that run in this backend: one engine session for each model, and the runs in it (runs.c).  A change of slm.kv_type
 * makes another one beside it, while requests of the first go on; without requests that goes when the statement ends.
 *
 * At the abort of a transaction every session is reset, at that of a subtransaction its own runs end.
 *
 * The result is copied from the engine the moment it is there, into the run's own context, and the request is released; one that streams is
 * kept until its last piece has been taken.
 *
 * What a request took is charged to its account with the answer.  The session counts everything that it computes, so what was computed for
 * requests without an answer is the rest, charged at the end of the transaction.
 *
 * Invariants: slm_poll is called in one place only, which hands each result to its run, so that a stream and an ordinary call can share a
 * session; the engine is never called from inside the engine.
 */
#include "postgres.h"

#include "lib/ilist.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "engine/slm.h"
#include "pg/base/errors.h"
#include "pg/base/guc.h"
#include "pg/base/threads.h"
#include "pg/run/accounts.h"
#include "pg/run/backend.h"
#include "pg/run/backends.h"
#include "pg/run/budget.h"
#include "pg/run/constraints.h"
#include "pg/run/internal.h"
#include "pg/run/progress.h"

/* A model's session. */
typedef struct SlmLocal {
    dlist_node node;
    SlmOpenModel *opened;
    slm_kv_type kv_type;
    slm_session *session; /* NULL: given back */
    slm_limits limits;    /* as the session has them */
    dlist_head runs;      /* of SlmRun */
    int n_running;        /* runs without a result */
    uint64 n_requests;
    slm_usage charged;    /* of what the session has computed */
    SlmAccount *account;  /* of the run that was started last */
} SlmLocal;

static dlist_head locals = DLIST_STATIC_INIT(locals);

/* ---- sessions */

static SlmLocal *local_of(SlmOpenModel *opened, slm_kv_type kv_type)
{
    SlmOpenModel *owner = opened->base != NULL ? opened->base : opened;
    SlmLocal *local;

    if (slm_pg_info(owner)->kv_bytes_per_token == 0)
        kv_type = SLM_KV_F16; /* it keeps none */
    local = owner->locals[kv_type];

    if (local == NULL) {
        local = MemoryContextAllocZero(TopMemoryContext, sizeof *local);
        local->opened = owner;
        local->kv_type = kv_type;
        dlist_init(&local->runs);
        dlist_push_head(&locals, &local->node);
        owner->locals[kv_type] = local;
    }
    return local;
}

/* Charges what was computed and is in no answer; ends: nor will be. Raises no error. */
static void charge_rest(SlmLocal *local, bool ends)
{
    slm_session_stats stats;
    slm_usage owed = {0}, rest;

    if (local->session == NULL)
        return;
    slm_session_get_stats(local->session, &stats);
    if (!ends)
        slm_session_owed(local->session, &owed);
    slm_usage_add(&owed, &local->charged);
    rest = slm_usage_beyond(&stats.usage, &owed);
    if (memcmp(&rest, &(slm_usage){0}, sizeof rest) == 0)
        return;
    slm_usage_add(&local->charged, &rest);
    slm_pg_account_usage(local->account, &rest);
}

static void end_session(SlmLocal *local)
{
    charge_rest(local, true);
    slm_session_free(local->session);
    local->session = NULL;
    local->charged = (slm_usage){0};
}

void slm_pg_local_close(SlmOpenModel *opened)
{
    for (int type = 0; type < SLM_KV_TYPES; type++) {
        SlmLocal *local = opened->locals[type];

        if (local == NULL)
            continue;
        end_session(local);
        dlist_delete(&local->node);
        pfree(local);
        opened->locals[type] = NULL;
    }
}

void slm_pg_local_figures(const SlmOpenModel *opened, SlmLocalFigures *out)
{
    memset(out, 0, sizeof *out);
    for (int type = 0; type < SLM_KV_TYPES; type++) {
        const SlmLocal *local = opened->locals[type];
        slm_session_stats stats;

        if (local == NULL)
            continue;
        out->n_requests += local->n_requests;
        out->n_running += local->n_running;
        if (local->session == NULL)
            continue;
        slm_session_get_stats(local->session, &stats);
        out->any = true;
        out->kv_bytes += stats.kv_bytes_held;
        out->scratch_bytes += stats.scratch_bytes;
        out->prefixes += stats.cached_prefixes;
    }
}

bool slm_pg_kv_bytes(const SlmOpenModel *opened, uint64 *bytes)
{
    SlmLocalFigures figures;

    slm_pg_local_figures(opened, &figures);
    *bytes = figures.kv_bytes;
    return figures.any;
}

static void apply_limits(SlmLocal *local)
{
    slm_limits limits = {.kv_cache_bytes = slm_pg_kv_cache_bytes(), .n_threads = slm_pg_take_threads(), .stop = SLM_STOP,
                         .kv_type = local->kv_type};
    slm_status status = SLM_OK;
    slm_error err;

    if (local->session == NULL)
        status = slm_session_new(local->opened->model, &limits, &local->session, &err);
    else if (local->limits.kv_cache_bytes != limits.kv_cache_bytes || local->limits.n_threads != limits.n_threads)
        status = slm_session_set_limits(local->session, &limits, &err);
    if (status != SLM_OK)
        slm_pg_error(&err, NULL);
    local->limits = limits;
}

size_t slm_pg_prompt_tokens(SlmOpenModel *opened, const slm_request *request)
{
    SlmLocal *local = local_of(opened, slm_pg_kv_type());
    slm_status status;
    slm_error err;
    size_t n;

    apply_limits(local);
    while ((status = slm_prompt_tokens(local->session, request, &n, &err)) == SLM_CANCELLED)
        slm_pg_interrupted();
    slm_pg_give_threads();
    if (status != SLM_OK)
        slm_pg_error(&err, NULL);
    return n;
}

/* ---- the life of a run */

void slm_pg_local_release(SlmRun *run)
{
    SlmLocal *local = run->local;

    slm_release(local->session, run->id);
    local->n_running -= !run->done;
    dlist_delete(&run->node);
}

/* What a session says of a request: false where it does not fit and that is an answer; any other refusal is an ERROR. */
static bool accepted(slm_status status, const slm_error *err, bool if_it_fits)
{
    slm_pg_give_threads();
    if (status != SLM_OK && if_it_fits && err->cause == SLM_CAUSE_LONG)
        return false;
    if (status != SLM_OK)
        slm_pg_error(err, NULL);
    return true;
}

bool slm_pg_local_start(SlmRun *run, SlmOpenModel *opened, const slm_request *request, bool if_it_fits)
{
    SlmLocal *local = local_of(opened, run->kv_type);
    slm_request whole = *request;
    slm_status status;
    slm_error err;

    whole.tag = run;
    whole.adapter = opened->adapter;
    whole.realm = GetUserId();
    local->account = run->account;
    apply_limits(local);
    while ((status = slm_submit(local->session, &whole, &run->id, &err)) == SLM_CANCELLED)
        slm_pg_interrupted();
    if (!accepted(status, &err, if_it_fits))
        return false;
    run->local = local;
    dlist_push_tail(&local->runs, &run->node);
    local->n_running++;
    local->n_requests++;
    return true;
}

bool slm_pg_local_check(SlmOpenModel *opened, const slm_request *request, bool if_it_fits)
{
    SlmLocal *local = local_of(opened, slm_pg_kv_type());
    slm_request whole = *request;
    slm_status status;
    slm_error err;

    whole.adapter = opened->adapter;
    whole.realm = GetUserId();
    apply_limits(local);
    while ((status = slm_check_request(local->session, &whole, &err)) == SLM_CANCELLED)
        slm_pg_interrupted();
    return accepted(status, &err, if_it_fits);
}

/* ---- results */

/* Hands finished results to their runs. */
static void collect(SlmLocal *local)
{
    const slm_result *result;

    while ((result = slm_poll(local->session)) != NULL) {
        SlmRun *run = result->tag; /* one that is gone has released its request */

        slm_usage_add(&local->charged, &result->usage);
        slm_pg_run_answered(run, result);
        local->n_running--;
        if (!run->stream) {
            slm_release(local->session, run->id);
            run->id = 0;
        }
    }
}

static void end_runs(SlmLocal *local)
{
    while (!dlist_is_empty(&local->runs))
        slm_pg_run_leave(dlist_container(SlmRun, node, dlist_pop_head_node(&local->runs)));
    local->n_running = 0;
    if (local->session != NULL)
        slm_session_reset(local->session);
    slm_pg_backends_update();
}

bool slm_pg_local_piece(const SlmRun *run, const char **text, size_t *length)
{
    return slm_next_piece(run->local->session, run->id, text, length) && *length > 0;
}

/* ---- steps */

/* Tokens that a session has computed or written since it began. */
static uint64 tokens_of(const SlmLocal *local)
{
    slm_session_stats stats;

    slm_session_get_stats(local->session, &stats);
    return slm_usage_tokens(&stats.usage);
}

#define STEP_TOKENS 1024 /* what a step computes at most, but for a longer text of an encoder */

static void step(SlmLocal *local)
{
    uint64 before = tokens_of(local), taken = slm_pg_budget_take(Max(STEP_TOKENS, slm_pg_info(local->opened)->n_context));
    slm_error err;
    slm_status status;

    slm_session_allow(local->session, taken);
    status = slm_step(local->session, NULL, &err);
    slm_pg_budget_settle(taken, tokens_of(local) - before);
    slm_pg_progress_tokens(tokens_of(local) - before);
    slm_pg_backends_update();
    if (status == SLM_CANCELLED) {
        slm_pg_interrupted();
        return;
    }
    if (status != SLM_OK) {
        bool used = slm_allowance_used(local->session);

        end_runs(local);
        if (used)
            slm_pg_budget_error();
        slm_pg_error(&err, NULL);
    }
    collect(local);
    slm_pg_accounts_flush(false);
}

void slm_pg_local_step(SlmLocal *local)
{
    CHECK_FOR_INTERRUPTS();
    apply_limits(local);
    step(local);
    slm_pg_give_threads();
}

bool slm_pg_local_step_all(void)
{
    bool any = false;
    dlist_iter it;

    dlist_foreach(it, &locals) {
        SlmLocal *local = dlist_container(SlmLocal, node, it.cur);

        if (local->n_running == 0)
            continue;
        slm_pg_local_step(local);
        any = true;
    }
    return any;
}

/* ---- giving memory back */

size_t slm_pg_trim_sessions(size_t keep_bytes)
{
    size_t freed = 0;
    dlist_iter it;

    dlist_foreach(it, &locals) {
        SlmLocal *local = dlist_container(SlmLocal, node, it.cur);

        if (local->session != NULL)
            freed += slm_session_trim(local->session, keep_bytes);
    }
    return freed;
}

static void free_session(SlmLocal *local)
{
    if (!dlist_is_empty(&local->runs))
        return;
    end_session(local);
}

int slm_pg_free_sessions(void)
{
    int n = 0;
    dlist_iter it;

    slm_pg_forget_constraints(NULL);
    dlist_foreach(it, &locals) {
        SlmLocal *local = dlist_container(SlmLocal, node, it.cur);

        free_session(local);
        n += local->session != NULL;
    }
    return n;
}

void slm_pg_lower_limits(void)
{
    dlist_iter it;

    dlist_foreach(it, &locals) {
        SlmLocal *local = dlist_container(SlmLocal, node, it.cur);
        slm_limits limits = local->limits;

        if (local->opened->locals[slm_pg_kv_type()] != local && slm_pg_info(local->opened)->kv_bytes_per_token != 0)
            free_session(local); /* slm.kv_type is another one now */
        limits.kv_cache_bytes = Min(limits.kv_cache_bytes, (size_t) slm_guc_kv_cache_kb * 1024);
        if (local->session == NULL || limits.kv_cache_bytes == local->limits.kv_cache_bytes)
            continue;
        if (slm_session_set_limits(local->session, &limits, NULL) == SLM_OK)
            local->limits = limits;
        else
            free_session(local); /* less than one block: the next call says so */
    }
}

/* ---- ends of transactions */

void slm_pg_local_end_all(bool failed)
{
    dlist_iter it;

    dlist_foreach(it, &locals) {
        SlmLocal *local = dlist_container(SlmLocal, node, it.cur);

        if (failed)
            end_runs(local);
        charge_rest(local, false);
    }
}

void slm_pg_local_end_sub(SubTransactionId subid)
{
    dlist_iter it;
    dlist_mutable_iter run_it;

    dlist_foreach(it, &locals) {
        SlmLocal *local = dlist_container(SlmLocal, node, it.cur);

        dlist_foreach_modify(run_it, &local->runs) {
            SlmRun *run = dlist_container(SlmRun, node, run_it.cur);

            if (run->subid >= subid)
                slm_pg_cancel(run);
        }
    }
}
