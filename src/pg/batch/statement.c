/*
 * What EXPLAIN shows of a whole statement, behind its plan: the calls that are not batched, and why; and, with ANALYZE, what the model did
 * outside of the nodes: for single calls, functions that run statements, triggers.
 *
 *   planner ──► plan, refusals ──► start ──► run ──► finish ──► the plan is made pretty and printed ──► our lines
 *
 * The server calls ExplainOneQuery_hook for EXPLAIN of a query, not of EXECUTE and not for auto_explain: there the nodes' own lines are
 * all that is shown.
 */
#include "pg/batch/statement.h"

#include "commands/explain.h"
#include "executor/executor.h"
#include "nodes/pg_list.h"

#include "engine/slm.h"
#include "pg/base/compat.h"
#include "pg/batch/pretty.h"
#include "pg/batch/refusal.h"
#include "pg/batch/state.h"
#include "pg/run/usage.h"
#include "pg/run/work.h"

/* The statement that is being explained; one in a function that it runs stands before it. */
typedef struct Explained {
    struct Explained *outer;
    PlannedStmt *stmt; /* NULL until it is planned */
    EState *estate;    /* NULL until it runs */
    List *refusals, *missed;
    bool analyze;
    slm_usage outside;
} Explained;

static Explained *explained;
static ExplainOneQuery_hook_type previous_explain_hook;
static ExecutorStart_hook_type previous_start_hook;
static ExecutorFinish_hook_type previous_finish_hook;

void slm_pg_batch_explain_planned(PlannedStmt *stmt)
{
    if (explained != NULL && explained->estate == NULL)
        explained->stmt = stmt; /* statements of functions that planning runs are planned before the one that is explained */
}

static void count_outside(const void *node, const slm_result *result)
{
    slm_usage *c = explained == NULL ? NULL : &explained->outside;

    if (c == NULL || explained->estate == NULL || node == explained->estate)
        return;
    slm_usage_add(c, &result->usage);
}

/* ---------------------------------------------------------------- hooks of the executor */

static bool is_explained(const QueryDesc *query)
{
    return explained != NULL && explained->stmt != NULL && query->plannedstmt == explained->stmt;
}

static void explain_start(QueryDesc *query, int eflags)
{
    if (previous_start_hook != NULL)
        previous_start_hook(query, eflags);
    else
        standard_ExecutorStart(query, eflags);
    if (!is_explained(query) || explained->estate != NULL)
        return;
    explained->estate = query->estate;
    explained->analyze = (eflags & EXEC_FLAG_EXPLAIN_ONLY) == 0;
    explained->missed = slm_pg_batch_missed(explained->stmt);
    if (!explained->analyze)
        slm_pg_batch_pretty_plan(explained->stmt);
}

static void explain_finish(QueryDesc *query)
{
    if (previous_finish_hook != NULL)
        previous_finish_hook(query);
    else
        standard_ExecutorFinish(query);
    if (is_explained(query) && explained->analyze)
        slm_pg_batch_pretty_plan(explained->stmt);
}

/* ---------------------------------------------------------------- the lines */

/* Takes back the end of the group "Query" that holds the plan, so that more of it can follow. */
static bool reopen(ExplainState *es)
{
    static const char *const ends[] = {[EXPLAIN_FORMAT_XML] = "</Query>\n", [EXPLAIN_FORMAT_JSON] = "}"};
    const char *end = es->format == EXPLAIN_FORMAT_XML || es->format == EXPLAIN_FORMAT_JSON ? ends[es->format] : "";
    int n = (int) strlen(end);

    if (es->format == EXPLAIN_FORMAT_TEXT)
        return true;
    if (es->str->len < n || strcmp(es->str->data + es->str->len - n, end) != 0)
        return false;
    es->str->len -= n;
    while (n > 0 && es->str->len > 0 && es->str->data[es->str->len - 1] == ' ')
        es->str->len--;
    if (es->format == EXPLAIN_FORMAT_JSON && es->str->len > 0 && es->str->data[es->str->len - 1] == '\n')
        es->str->len--;
    es->str->data[es->str->len] = '\0';
    es->indent++;
    if (es->format != EXPLAIN_FORMAT_XML)
        es->grouping_stack = lcons_int(1, es->grouping_stack);
    return true;
}

static void show_missed(List *missed, ExplainState *es)
{
    ListCell *cell;

    if (es->format == EXPLAIN_FORMAT_TEXT) {
        foreach (cell, missed) {
            const SlmBatchMissed *m = lfirst(cell);

            ExplainPropertyText("Not Batched", psprintf("%s in %s: %s", m->call, m->where, m->why), es);
        }
        return;
    }
    ExplainOpenGroup("Not Batched", "Not Batched", false, es);
    foreach (cell, missed) {
        const SlmBatchMissed *m = lfirst(cell);

        ExplainOpenGroup("Call", NULL, true, es);
        ExplainPropertyText("Call", m->call, es);
        ExplainPropertyText("Place", m->where, es);
        ExplainPropertyText("Reason", m->why, es);
        ExplainCloseGroup("Call", NULL, true, es);
    }
    ExplainCloseGroup("Not Batched", "Not Batched", false, es);
}

static void show_outside(const slm_usage *c, ExplainState *es)
{
    double ms = 1e-6 * (double) (c->prefill_ns + c->decode_ns);

    if (es->format == EXPLAIN_FORMAT_TEXT) {
        appendStringInfoString(es->str, "Outside of Batches:\n");
        es->indent++;
    } else {
        ExplainOpenGroup("Outside of Batches", "Outside of Batches", true, es);
    }
    ExplainPropertyUInteger("Requests", NULL, c->requests, es);
    slm_pg_batch_explain_tokens(c, es);
    if (es->timing) {
        slm_pg_batch_explain_ms("Model Time", ms, es);
        slm_pg_batch_explain_speed((double) slm_usage_tokens(c), ms / 1000, es);
    }
    if (es->format == EXPLAIN_FORMAT_TEXT)
        es->indent--;
    else
        ExplainCloseGroup("Outside of Batches", "Outside of Batches", true, es);
}

static void show(const Explained *of, ExplainState *es)
{
    if ((of->missed == NIL && of->outside.requests == 0) || !reopen(es))
        return;
    if (of->missed != NIL)
        show_missed(of->missed, es);
    if (of->outside.requests > 0)
        show_outside(&of->outside, es);
    if (es->format != EXPLAIN_FORMAT_TEXT)
        ExplainCloseGroup("Query", NULL, true, es);
}

static void explain_one_query(Query *query, int cursor_options, IntoClause *into, ExplainState *es, const char *query_string,
                              ParamListInfo params, QueryEnvironment *environment)
{
    Explained mine = {.outer = explained};
    List **outer_refusals = slm_pg_batch_refusals;

    explained = &mine;
    slm_pg_batch_refusals = &mine.refusals;
    PG_TRY();
    {
        if (previous_explain_hook != NULL)
            previous_explain_hook(query, cursor_options, into, es, query_string, params, environment);
        else
            slm_pg_standard_explain(query, cursor_options, into, es, query_string, params, environment);
        show(&mine, es);
    }
    PG_FINALLY();
    {
        explained = mine.outer;
        slm_pg_batch_refusals = outer_refusals;
    }
    PG_END_TRY();
}

void slm_pg_batch_statement_init(void)
{
    slm_pg_answered = count_outside;
    previous_explain_hook = ExplainOneQuery_hook;
    ExplainOneQuery_hook = explain_one_query;
    previous_start_hook = ExecutorStart_hook;
    ExecutorStart_hook = explain_start;
    previous_finish_hook = ExecutorFinish_hook;
    ExecutorFinish_hook = explain_finish;
}
