/*
 * runs.c: the door to whatever runs requests (backend.h): the life of a run, in a session of this backend (local.c) or in the engine
 * process (shared.c).
 *
 *   slm_pg_start ──► shared, where slm.engine says so and a process is there ──► RESULT ──┐
 *               └──► local ──► slm_step ... ─────────────────────────────────► result ────┴──► copied into the run
 *
 * A run lives at most as long as the memory context in which it was made: its reset callback is registered before the request exists.  An
 * error of the statement ends it earlier.  A run pins its model, so neither goes before it.
 *
 * Which of the two computes shows in no answer: a request is a function of its arguments.
 */
#include "postgres.h"

#include "access/xact.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "engine/slm.h"
#include "pg/base/errors.h"
#include "pg/base/guc.h"
#include "pg/run/accounts.h"
#include "pg/run/backend.h"
#include "pg/run/backends.h"
#include "pg/run/budget.h"
#include "pg/run/internal.h"
#include "pg/run/memory.h"
#include "pg/run/progress.h"
#include "pg/run/usage.h"

static int n_runs;

int slm_pg_n_runs(void)
{
    return n_runs;
}

/* ---- the life of a run */

void slm_pg_run_leave(SlmRun *run)
{
    slm_pg_count_pin(run->opened, -1);
    run->opened = NULL;
    run->local = NULL;
    run->sent = NULL;
    run->done = false;
    slm_pg_progress_requests(--n_runs);
}

void slm_pg_cancel(SlmRun *run)
{
    if (run->opened == NULL)
        return;
    if (run->local != NULL)
        slm_pg_local_release(run);
    else
        slm_pg_shared_release(run);
    slm_pg_run_leave(run);
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

/* Once a statement: a text in letters that the model has hardly seen, whose result is worth little. */
static void notice_script(const SlmOpenModel *opened, const slm_request *request)
{
    static TimestampTz noticed;
    const slm_model_info *info = slm_model_get_info(opened->base != NULL ? opened->base->model : opened->model);

    if (info->scripts == 0 || noticed == GetCurrentStatementStartTimestamp())
        return;
    for (size_t i = 0; i < request->n_segments; i++) {
        const slm_segment *segment = &request->segments[i];
        const char *script = (segment->flags & SLM_SEG_PREFIX) == 0 && segment->text != NULL
            ? slm_text_foreign(info, segment->text, segment->length) : NULL;

        if (script == NULL)
            continue;
        noticed = GetCurrentStatementStartTimestamp();
        ereport(NOTICE, (errmsg("a text is mostly in %s letters, and the vocabulary of model \"%s\" has no words of them", script,
                                opened->name),
                         errhint("What comes of it may be little better than chance. The column scripts of slm.models says what a model "
                                 "can read; multilingual models read most.")));
        return;
    }
}

bool slm_pg_start_run(SlmRun *run, SlmOpenModel *opened, const slm_request *request, bool if_it_fits)
{
    bool shared;

    if (slm_pg_before_request != NULL)
        slm_pg_before_request();
    run->node_of = slm_pg_node_running;
    run->subid = GetCurrentSubTransactionId();
    run->stream = request->stream;
    run->kv_type = slm_pg_kv_type();
    run->account = slm_pg_account_of(opened);
    notice_script(opened, request);
    slm_pg_budget_look();
    shared = slm_pg_budget_take(0) == UINT64_MAX && slm_pg_shared_wanted(); /* a budget is kept to step by step */
    slm_pg_memory_used();
    if (shared && !slm_pg_surely_fits(opened, request) && !slm_pg_local_check(opened, request, if_it_fits))
        return false;
    if (!(shared && slm_pg_shared_start(run, opened, request)) && !slm_pg_local_start(run, opened, request, if_it_fits))
        return false;
    run->opened = opened;
    slm_pg_count_pin(opened, 1);
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

static void meter(const SlmRun *run, const slm_result *result)
{
    char digest[65];

    slm_usage_add(&slm_pg_meter->usage, &result->usage);
    strlcpy(digest, run->opened->key, sizeof digest);
    slm_pg_meter_model(digest);
}

void slm_pg_run_answered(SlmRun *run, const slm_result *result)
{
    slm_pg_account_usage(run->account, &result->usage);
    if (slm_pg_meter != NULL)
        meter(run, result);
    if (slm_pg_answered != NULL)
        slm_pg_answered(run->node_of, result);
    copy_result(run, result);
}

static void must_be_there(const SlmRun *run)
{
    if (run->opened == NULL)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("the request was ended by an error of another statement"), errhint("Run the statement again.")));
}

bool slm_pg_under_way(const SlmRun *run)
{
    return run->opened != NULL && !run->done;
}

const slm_result *slm_pg_poll(const SlmRun *run)
{
    return run->done ? &run->result : NULL;
}

bool slm_pg_piece(SlmRun *run, const char **text, size_t *length)
{
    if (run->opened == NULL || !run->stream)
        return false;
    return run->local != NULL ? slm_pg_local_piece(run, text, length) : slm_pg_shared_piece(run, text, length);
}

void slm_pg_step(SlmRun *run)
{
    must_be_there(run);
    if (run->local != NULL)
        slm_pg_local_step(run->local);
    else
        slm_pg_shared_step(true);
}

void slm_pg_step_all(void)
{
    bool any = slm_pg_local_step_all();

    if (slm_pg_shared_busy())
        slm_pg_shared_step(!any);
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

/* ---- ends of transactions */

static void at_xact_end(XactEvent event, void *arg)
{
    bool failed = event == XACT_EVENT_ABORT || event == XACT_EVENT_PARALLEL_ABORT;

    if (!failed && event != XACT_EVENT_COMMIT && event != XACT_EVENT_PARALLEL_COMMIT && event != XACT_EVENT_PREPARE)
        return;
    slm_pg_local_end_all(failed);
    if (failed)
        slm_pg_shared_end_all();
    slm_pg_accounts_flush(true);
}

static void at_subxact_end(SubXactEvent event, SubTransactionId my, SubTransactionId parent, void *arg)
{
    if (event != SUBXACT_EVENT_ABORT_SUB)
        return;
    slm_pg_local_end_sub(my);
    slm_pg_shared_end_sub(my);
}

void slm_pg_sessions_init(void)
{
    RegisterXactCallback(at_xact_end, NULL);
    RegisterSubXactCallback(at_subxact_end, NULL);
}
