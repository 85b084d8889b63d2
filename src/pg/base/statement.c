/*
 * statement.c: hooks of the executor and of utility statements (statement.h).
 *
 * depth counts executor runs and utility statements that are under way, so that a function, a procedure, a FETCH or EXPLAIN ANALYZE is one
 * statement with all that it runs; so is one in whose middle the library is loaded.  A SELECT has ended when its last row has been
 * computed, which is before a driver closes its portal.
 */
#include "pg/base/statement.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "tcop/pquery.h"
#include "tcop/utility.h"
#include "utils/portal.h"

#include "pg/base/compat.h"
#include "pg/base/row_count.h"

/* A plan that runs; the innermost first. */
typedef struct Running {
    struct Running *outer;
    const PlannedStmt *plan;
} Running;

static int depth;
static bool loaded_within; /* a statement that began before the hooks were there: it ends with its transaction */
static Running *running;

static ExecutorRun_hook_type previous_run;
static ExecutorFinish_hook_type previous_finish;
static ExecutorEnd_hook_type previous_end;
static ProcessUtility_hook_type previous_utility;

bool slm_pg_within_statement(void)
{
    return depth > 0;
}

bool slm_pg_client_statement(void)
{
    return depth == 1 && running != NULL && MyBackendType == B_BACKEND;
}

bool slm_pg_through_view_of_other(void)
{
    ListCell *cell;

    for (const Running *r = running; r != NULL; r = r->outer)
        foreach (cell, SLM_PLAN_PERMISSIONS(r->plan)) {
            Oid checked = ((const SlmPermission *) lfirst(cell))->checkAsUser;

            if (OidIsValid(checked) && checked != GetUserId())
                return true;
        }
    return false;
}

static void run_hook(QueryDesc *query, ScanDirection direction, uint64 count SLM_EXECUTE_ONCE_PARAM)
{
    Running here = {running, query->plannedstmt};
    bool last;

    depth++;
    running = &here;
    PG_TRY();
    {
        if (previous_run != NULL)
            previous_run(query, direction, count SLM_EXECUTE_ONCE_ARG);
        else
            standard_ExecutorRun(query, direction, count SLM_EXECUTE_ONCE_ARG);
    }
    PG_FINALLY();
    {
        running = here.outer;
        depth--;
    }
    PG_END_TRY();
    last = query->operation == CMD_SELECT && !query->plannedstmt->hasModifyingCTE && (count == 0 || query->estate->es_processed < count);
    if (depth == 0 && last && !IsParallelWorker())
        slm_pg_tell_rows(true);
}

static void finish_hook(QueryDesc *query)
{
    Running here = {running, query->plannedstmt};

    depth++;
    running = &here;
    PG_TRY();
    {
        if (previous_finish != NULL)
            previous_finish(query);
        else
            standard_ExecutorFinish(query);
    }
    PG_FINALLY();
    {
        running = here.outer;
        depth--;
    }
    PG_END_TRY();
}

static void end_hook(QueryDesc *query)
{
    if (previous_end != NULL)
        previous_end(query);
    else
        standard_ExecutorEnd(query);
    slm_pg_tell_rows(depth == 0);
}

static void utility_hook(PlannedStmt *stmt, const char *string, bool read_only, ProcessUtilityContext context, ParamListInfo params,
                         QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
    depth++;
    PG_TRY();
    {
        if (previous_utility != NULL)
            previous_utility(stmt, string, read_only, context, params, environment, dest, completion);
        else
            standard_ProcessUtility(stmt, string, read_only, context, params, environment, dest, completion);
    }
    PG_FINALLY();
    {
        depth--;
    }
    PG_END_TRY();
    if (depth == 0)
        slm_pg_tell_rows(true);
}

static void at_xact_end(XactEvent event, void *arg)
{
    if (!loaded_within)
        return;
    depth = 0;
    loaded_within = false;
}

void slm_pg_statement_init(void)
{
    RegisterXactCallback(at_xact_end, NULL);
    previous_run = ExecutorRun_hook;
    ExecutorRun_hook = run_hook;
    previous_finish = ExecutorFinish_hook;
    ExecutorFinish_hook = finish_hook;
    previous_end = ExecutorEnd_hook;
    ExecutorEnd_hook = end_hook;
    previous_utility = ProcessUtility_hook;
    ProcessUtility_hook = utility_hook;
    loaded_within = !process_shared_preload_libraries_in_progress && ActivePortal != NULL && ActivePortal->status == PORTAL_ACTIVE;
    depth = loaded_within ? 1 : 0;
}
