/*
 * Which calls the batch node takes, and the planner hook that puts it in.
 */
#include "pg/batch/batch.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "optimizer/planner.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

#include "pg/batch/progress.h"
#include "pg/work.h"

bool slm_enable_batch = true;
int slm_batch_size = 64;

static planner_hook_type previous_planner_hook;

/* A function that runs a model and whose result depends on its arguments alone. */
bool slm_pg_batchable(Oid function)
{
    return function >= FirstNormalObjectId && slm_pg_work_kind(function) != NULL && func_volatile(function) != PROVOLATILE_VOLATILE;
}

static PlannedStmt *batch_planner(Query *parse, const char *query_string, int cursor_options, ParamListInfo params)
{
    PlannedStmt *stmt;

    if (previous_planner_hook != NULL)
        stmt = previous_planner_hook(parse, query_string, cursor_options, params);
    else
        stmt = standard_planner(parse, query_string, cursor_options, params);
    if (slm_enable_batch && stmt->commandType != CMD_UTILITY)
        slm_pg_batch_rewrite(stmt);
    return stmt;
}

/* A statement that fails does not end its nodes. */
static void end_progress(XactEvent event, void *arg)
{
    if (event == XACT_EVENT_ABORT)
        slm_pg_progress_done();
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
    slm_pg_progress_init();
    RegisterXactCallback(end_progress, NULL);
    RegisterCustomScanMethods(&slm_batch_scan_methods);
    previous_planner_hook = planner_hook;
    planner_hook = batch_planner;
}
