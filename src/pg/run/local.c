/*
 * local.c: requests that run in this backend: one engine session for each model, and the runs in it (backend.h).
 *
 * A run lives at most as long as the memory context in which it was made: its reset callback is registered before the request exists.  An
 * error of the statement ends it earlier: at abort every session is reset, at the abort of a subtransaction its own runs.  A run pins its
 * model, so neither goes before it.
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

#include "access/xact.h"
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
#include "pg/run/memory.h"
#include "pg/run/progress.h"
#include "pg/run/usage.h"

/* A model's session. */
typedef struct SlmLocal {
    dlist_node node;
    SlmOpenModel *opened;
    slm_session *session; /* NULL: given back */
    slm_limits limits;    /* as the session has them */
    dlist_head runs;      /* of SlmRun */
    int n_running;        /* runs without a result */
    uint64 n_requests;
    slm_usage charged;    /* of what the session has computed */
    SlmAccount *account;  /* of the run that was started last */
} SlmLocal;

struct SlmRun {
    dlist_node node;
    SlmLocal *local;      /* NULL once it has ended */
    SlmOpenModel *opened; /* then pinned: the one that the caller named, maybe with an adapter */
    uint64 id;            /* 0: released, the engine knows it no more */
    bool stream;
    bool done;            /* the result is there */
    slm_result result;    /* what it points to is in `data` */
    void *data;           /* in the run's context */
    const void *node_of;  /* the batch node's statement that it was made for, or NULL */
    SlmAccount *account;
    SubTransactionId subid;
    MemoryContextCallback callback;
};

static dlist_head locals = DLIST_STATIC_INIT(locals);
static int n_runs; /* of all sessions */

/* ---- sessions */

static SlmLocal *local_of(SlmOpenModel *opened)
{
    SlmOpenModel *owner = opened->base != NULL ? opened->base : opened;
    SlmLocal *local = owner->local;

    if (local == NULL) {
        local = MemoryContextAllocZero(TopMemoryContext, sizeof *local);
        local->opened = owner;
        dlist_init(&local->runs);
        dlist_push_head(&locals, &local->node);
        owner->local = local;
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
    SlmLocal *local = opened->local;

    if (local == NULL)
        return;
    end_session(local);
    dlist_delete(&local->node);
    pfree(local);
    opened->local = NULL;
}

void slm_pg_local_figures(const SlmOpenModel *opened, SlmLocalFigures *out)
{
    const SlmLocal *local = opened->local;

    memset(out, 0, sizeof *out);
    if (local == NULL)
        return;
    if (local->session != NULL)
        slm_session_get_stats(local->session, &out->stats);
    out->n_requests = local->n_requests;
    out->n_running = local->n_running;
}

bool slm_pg_kv_bytes(const SlmOpenModel *opened, uint64 *bytes)
{
    SlmLocalFigures figures;

    slm_pg_local_figures(opened, &figures);
    *bytes = figures.stats.kv_bytes_held;
    return opened->local != NULL && opened->local->session != NULL;
}

static void apply_limits(SlmLocal *local)
{
    slm_limits limits = {.kv_cache_bytes = slm_pg_kv_cache_bytes(), .n_threads = slm_pg_take_threads(), .stop = SLM_STOP};
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
    SlmLocal *local = local_of(opened);
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

/* The run is in no session any more. */
static void leave(SlmRun *run)
{
    slm_pg_count_pin(run->opened, -1);
    run->local = NULL;
    run->opened = NULL;
    run->done = false;
}

void slm_pg_cancel(SlmRun *run)
{
    SlmLocal *local = run->local;

    if (local == NULL)
        return;
    slm_release(local->session, run->id);
    local->n_running -= !run->done;
    dlist_delete(&run->node);
    slm_pg_progress_requests(--n_runs);
    leave(run);
    if (run->data != NULL)
        pfree(run->data);
    run->data = NULL;
    slm_pg_backends_update();
}

static void cancel_callback(void *arg)
{
    slm_pg_cancel(arg);
}

SlmRun *slm_pg_new_run(void)
{
    SlmRun *run = palloc0(sizeof *run);

    run->callback.func = cancel_callback;
    run->callback.arg = run;
    MemoryContextRegisterResetCallback(CurrentMemoryContext, &run->callback);
    return run;
}

SlmRun *slm_pg_start(SlmOpenModel *opened, const slm_request *request)
{
    SlmRun *run = slm_pg_new_run();

    (void) slm_pg_start_run(run, opened, request, false);
    return run;
}

bool slm_pg_start_run(SlmRun *run, SlmOpenModel *opened, const slm_request *request, bool if_it_fits)
{
    SlmLocal *local = local_of(opened);
    slm_request whole = *request;
    slm_status status;
    slm_error err;

    whole.tag = run;
    whole.adapter = opened->adapter;
    whole.realm = GetUserId();
    run->node_of = slm_pg_node_running;
    run->subid = GetCurrentSubTransactionId();
    run->stream = request->stream;
    run->account = local->account = slm_pg_account_of(opened);
    slm_pg_budget_look();
    slm_pg_memory_used();
    apply_limits(local);
    while ((status = slm_submit(local->session, &whole, &run->id, &err)) == SLM_CANCELLED)
        slm_pg_interrupted();
    slm_pg_give_threads();
    if (status != SLM_OK && if_it_fits && err.cause == SLM_CAUSE_LONG)
        return false;
    if (status != SLM_OK)
        slm_pg_error(&err, NULL);
    run->local = local;
    run->opened = opened;
    slm_pg_count_pin(opened, 1);
    dlist_push_tail(&local->runs, &run->node);
    local->n_running++;
    local->n_requests++;
    slm_pg_progress_requests(++n_runs);
    slm_pg_backends_update();
    return true;
}

/* ---- results */

static void *put(char **to, const void *from, size_t bytes)
{
    void *at = *to;

    if (from == NULL)
        return NULL;
    memcpy(at, from, bytes);
    *to += MAXALIGN(bytes);
    return at;
}

/* Raises no error: the engine has handed the result over, and somebody must have it. */
static void copy_result(SlmRun *run, const slm_result *result)
{
    size_t text = result->text == NULL ? 0 : result->text_length + 1, scores = result->n_scores * sizeof *result->scores;
    size_t tokens = result->n_tokens * sizeof *result->tokens;
    char *to;

    run->result = *result;
    run->done = true;
    run->data = MemoryContextAllocExtended(GetMemoryChunkContext(run), MAXALIGN(text) + MAXALIGN(scores) + MAXALIGN(tokens) + 1,
                                           MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
    to = run->data;
    run->result.text = to == NULL ? NULL : put(&to, result->text, text);
    run->result.scores = to == NULL ? NULL : put(&to, result->scores, scores);
    run->result.tokens = to == NULL ? NULL : put(&to, result->tokens, tokens);
    if (to == NULL) {
        run->result.status = SLM_NOMEM;
        run->result.error = (slm_error){.status = SLM_NOMEM, .message = "out of memory for an answer"};
    }
}

static void meter_model(const SlmOpenModel *opened)
{
    char digest[65];

    strlcpy(digest, opened->key, sizeof digest);
    slm_pg_meter_model(digest);
}

/* Hands finished results to their runs. */
static void collect(SlmLocal *local)
{
    const slm_result *result;

    while ((result = slm_poll(local->session)) != NULL) {
        SlmRun *run = result->tag; /* one that is gone has released its request */

        slm_usage_add(&local->charged, &result->usage);
        slm_pg_account_usage(run->account, &result->usage);
        if (slm_pg_meter != NULL) {
            slm_usage_add(&slm_pg_meter->usage, &result->usage);
            meter_model(local->opened);
        }
        if (slm_pg_answered != NULL)
            slm_pg_answered(run->node_of, result);
        copy_result(run, result);
        local->n_running--;
        if (!run->stream) {
            slm_release(local->session, run->id);
            run->id = 0;
        }
    }
}

static void end_runs(SlmLocal *local)
{
    while (!dlist_is_empty(&local->runs)) {
        leave(dlist_container(SlmRun, node, dlist_pop_head_node(&local->runs)));
        n_runs--;
    }
    local->n_running = 0;
    slm_pg_progress_requests(n_runs);
    if (local->session != NULL)
        slm_session_reset(local->session);
    slm_pg_backends_update();
}

static void must_be_there(const SlmRun *run)
{
    if (run->local == NULL)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("the request was ended by an error of another statement"), errhint("Run the statement again.")));
}

bool slm_pg_under_way(const SlmRun *run)
{
    return run->local != NULL && !run->done;
}

const slm_result *slm_pg_poll(const SlmRun *run)
{
    return run->done ? &run->result : NULL;
}

bool slm_pg_piece(SlmRun *run, const char **text, size_t *length)
{
    return run->local != NULL && run->stream && slm_next_piece(run->local->session, run->id, text, length) && *length > 0;
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

static void step_session(SlmLocal *local)
{
    CHECK_FOR_INTERRUPTS();
    apply_limits(local);
    step(local);
    slm_pg_give_threads();
}

void slm_pg_step(SlmRun *run)
{
    must_be_there(run);
    step_session(run->local);
}

void slm_pg_step_all(void)
{
    dlist_iter it;

    dlist_foreach(it, &locals) {
        SlmLocal *local = dlist_container(SlmLocal, node, it.cur);

        if (local->n_running > 0)
            step_session(local);
    }
}

const slm_result *slm_pg_wait(SlmRun *run)
{
    must_be_there(run);
    while (!run->done)
        slm_pg_step(run);
    if (run->result.status != SLM_OK) {
        slm_error err = run->result.error;

        slm_pg_cancel(run);
        slm_pg_error(&err, NULL);
    }
    return &run->result;
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

static void at_xact_end(XactEvent event, void *arg)
{
    bool failed = event == XACT_EVENT_ABORT || event == XACT_EVENT_PARALLEL_ABORT;
    dlist_iter it;

    if (!failed && event != XACT_EVENT_COMMIT && event != XACT_EVENT_PARALLEL_COMMIT && event != XACT_EVENT_PREPARE)
        return;
    dlist_foreach(it, &locals) {
        SlmLocal *local = dlist_container(SlmLocal, node, it.cur);

        if (failed)
            end_runs(local);
        charge_rest(local, false);
    }
    slm_pg_accounts_flush(true);
}

static void at_subxact_end(SubXactEvent event, SubTransactionId my, SubTransactionId parent, void *arg)
{
    dlist_iter it;
    dlist_mutable_iter run_it;

    if (event != SUBXACT_EVENT_ABORT_SUB)
        return;
    dlist_foreach(it, &locals) {
        SlmLocal *local = dlist_container(SlmLocal, node, it.cur);

        dlist_foreach_modify(run_it, &local->runs) {
            SlmRun *run = dlist_container(SlmRun, node, run_it.cur);

            if (run->subid >= my)
                slm_pg_cancel(run);
        }
    }
}

void slm_pg_sessions_init(void)
{
    RegisterXactCallback(at_xact_end, NULL);
    RegisterSubXactCallback(at_subxact_end, NULL);
}
