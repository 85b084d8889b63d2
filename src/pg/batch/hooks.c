/*
 * Which calls the batch node takes, and the planner hook that puts it in.
 *
 * Without preloading, the library comes in while the session's first statement with a call is planned, after its planner hook would have
 * been called.  So until the end of that transaction plans are looked at once more when they start.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "optimizer/planner.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/syscache.h"

#include "pg/batch/batch.h"
#include "pg/batch/votes.h"
#include "pg/batch/statement.h"
#include "pg/run/progress.h"
#include "pg/run/work.h"

bool slm_enable_batch = true;
int slm_batch_size = 64;

static planner_hook_type previous_planner_hook;
static ExecutorStart_hook_type previous_start_hook;
static bool just_loaded; /* plans of this transaction may be older than the planner hook */

/* A function that runs a model and whose result depends on its arguments alone, called as it is. */
bool slm_pg_batchable(Oid function)
{
    const SlmWorkKind *kind = function < FirstNormalObjectId ? NULL : slm_pg_work_kind(function);
    HeapTuple tuple;
    bool result;

    if (kind == NULL || kind->answers != SLM_ANSWERS_ROW || kind->begin == NULL)
        return false;
    tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    if (!HeapTupleIsValid(tuple))
        return false;
    result = ((Form_pg_proc) GETSTRUCT(tuple))->provolatile != PROVOLATILE_VOLATILE && !((Form_pg_proc) GETSTRUCT(tuple))->prosecdef &&
             heap_attisnull(tuple, Anum_pg_proc_proconfig, NULL);
    ReleaseSysCache(tuple);
    return result;
}

bool slm_pg_batch_answers_set(Oid function)
{
    const SlmWorkKind *kind = slm_pg_work_kind(function);

    return kind != NULL && kind->answers == SLM_ANSWERS_SET;
}

static PlannedStmt *batch_planner(Query *parse, const char *query_string, int cursor_options, ParamListInfo params)
{
    PlannedStmt *stmt;

    slm_pg_batch_stream(parse);
    if (previous_planner_hook != NULL)
        stmt = previous_planner_hook(parse, query_string, cursor_options, params);
    else
        stmt = standard_planner(parse, query_string, cursor_options, params);
    if (slm_enable_batch && stmt->commandType != CMD_UTILITY)
        slm_pg_batch_rewrite(stmt);
    slm_pg_batch_explain_planned(stmt);
    return stmt;
}

/* Gives a plan that was made before the library was there its nodes; one that has them is left alone. */
static void batch_start(QueryDesc *query, int eflags)
{
    if (just_loaded && slm_enable_batch && query->plannedstmt->commandType != CMD_UTILITY && !slm_pg_batch_planned(query->plannedstmt)) {
        MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(query));

        query->plannedstmt = copyObject(query->plannedstmt);
        slm_pg_batch_rewrite(query->plannedstmt);
        MemoryContextSwitchTo(old);
    }
    if (previous_start_hook != NULL)
        previous_start_hook(query, eflags);
    else
        standard_ExecutorStart(query, eflags);
}

static void end_transaction(XactEvent event, void *arg)
{
    just_loaded = false;
}

void slm_pg_batch_init(void)
{
    DefineCustomBoolVariable(
        "slm.enable_batch", "Computes slm_* calls of many rows together.",
        "Off: the planner adds no SLM Batch nodes, and those in cached plans take one row at a time. Answers are the same.",
        &slm_enable_batch, true, PGC_USERSET, 0, NULL, NULL, NULL);
    DefineCustomIntVariable("slm.batch_size", "Rows that an SLM Batch node reads ahead at most.",
                            "More rows make fuller batches and take more of slm.kv_cache_memory.", &slm_batch_size, 64, 1, 4096,
                            PGC_USERSET, 0, NULL, NULL, NULL);
    slm_pg_votes_init();
    RegisterXactCallback(end_transaction, NULL);
    RegisterCustomScanMethods(&slm_batch_scan_methods);
    previous_planner_hook = planner_hook;
    planner_hook = batch_planner;
    slm_pg_batch_statement_init();
    if (process_shared_preload_libraries_in_progress)
        return;
    just_loaded = true;
    previous_start_hook = ExecutorStart_hook;
    ExecutorStart_hook = batch_start;
}
