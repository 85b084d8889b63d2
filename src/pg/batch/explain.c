/*
 * What EXPLAIN shows of an SLM Batch node.
 *
 * Counters of parallel workers come through the node's piece of dynamic shared memory: each worker adds its own when it shuts down, and
 * the leader takes the sum before the memory goes.
 */
#include "postgres.h"

#include "commands/explain.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pg_list.h"
#include "storage/spin.h"
#include "utils/ruleutils.h"

#include "pg/base/compat.h"
#include "pg/batch/batch.h"
#include "pg/batch/pretty.h"
#include "pg/batch/state.h"
#include "pg/batch/votes.h"
#include "pg/run/work.h"

struct BatchShared {
    slock_t lock; /* guards counters */
    BatchCounters counters;
};

static void add_counters(BatchCounters *to, const BatchCounters *from)
{
    to->rows += from->rows;
    to->calls += from->calls;
    to->distinct += from->distinct;
    to->steps += from->steps;
    to->step_rows += from->step_rows;
    INSTR_TIME_ADD(to->engine_time, from->engine_time);
    INSTR_TIME_ADD(to->input_time, from->input_time);
    slm_usage_add(&to->engine, &from->engine);
}

Size slm_pg_batch_estimate_dsm(CustomScanState *node, ParallelContext *pcxt)
{
    return sizeof(BatchShared);
}

void slm_pg_batch_initialize_dsm(CustomScanState *node, ParallelContext *pcxt, void *coordinate)
{
    BatchState *state = (BatchState *) node;

    state->shared = coordinate;
    memset(state->shared, 0, sizeof *state->shared);
    SpinLockInit(&state->shared->lock);
}

void slm_pg_batch_reinitialize_dsm(CustomScanState *node, ParallelContext *pcxt, void *coordinate)
{
    slm_pg_batch_shutdown(node); /* keeps what the workers of the last scan counted */
    ((BatchState *) node)->shared = coordinate;
}

void slm_pg_batch_initialize_worker(CustomScanState *node, shm_toc *toc, void *coordinate)
{
    ((BatchState *) node)->shared = coordinate;
}

void slm_pg_batch_shutdown(CustomScanState *node)
{
    BatchState *state = (BatchState *) node;

    if (state->shared == NULL)
        return;
    SpinLockAcquire(&state->shared->lock);
    if (IsParallelWorker()) {
        add_counters(&state->shared->counters, &state->counters);
        memset(&state->counters, 0, sizeof state->counters);
    } else {
        add_counters(&state->counters, &state->shared->counters);
        memset(&state->shared->counters, 0, sizeof state->shared->counters);
    }
    SpinLockRelease(&state->shared->lock);
    state->shared = NULL;
}

/* ---------------------------------------------------------------- the node's lines */

static bool is_text(const ExplainState *es)
{
    return es->format == EXPLAIN_FORMAT_TEXT;
}

/* Is the call among the columns that the node returns, which VERBOSE shows anyway? */
static bool in_output(const CustomScan *scan, int call)
{
    int column = intVal(list_nth(scan->custom_private, SLM_BATCH_N_LEAVES)) + call + 1;
    ListCell *cell;

    foreach (cell, scan->scan.plan.targetlist) {
        Var *var = (Var *) lfirst_node(TargetEntry, cell)->expr;

        if (IsA(var, Var) && var->varno == INDEX_VAR && var->varattno == column)
            return true;
    }
    return false;
}

/* Columns of calls become the calls again. */
static Node *with_calls_mutator(Node *node, const CustomScan *scan)
{
    int n_leaves = intVal(list_nth(scan->custom_private, SLM_BATCH_N_LEAVES));

    if (node == NULL)
        return NULL;
    if (IsA(node, Var) && ((Var *) node)->varno == INDEX_VAR && ((Var *) node)->varattno > n_leaves)
        return with_calls_mutator(list_nth(linitial(scan->custom_exprs), ((Var *) node)->varattno - n_leaves - 1), scan);
    return expression_tree_mutator(node, with_calls_mutator, unconstify(CustomScan *, scan));
}

static char *as_sql(const CustomScan *scan, void *expression, List *context, bool prefix)
{
    return deparse_expression(slm_pg_batch_pretty(with_calls_mutator(expression, scan)), context, prefix, false);
}

/* May what is computed of a call's text serve the others of its row? An encoder reads it once; questions branch off behind it. */
static bool shares_input(FuncExpr *call, const char *model)
{
    const SlmWorkKind *kind = slm_pg_work_kind(call->funcid);

    return kind->decides || strstr(model, "(described)") != NULL ||
           (kind->task != SLM_TASK_GENERATE && (strstr(model, "(embedding)") != NULL || strchr(model, '(') == NULL));
}

/* A model's name as model_of says it, without the method. */
static size_t name_length(const char *model)
{
    return strcspn(model, "(");
}

/* Calls with the same text and the same model. */
static int count_sharing(List *calls, FuncExpr *call)
{
    const char *model = slm_pg_batch_model_of(call);
    Node *input = list_nth(call->args, slm_pg_work_kind(call->funcid)->first_input);
    ListCell *cell;
    int n = 0;

    foreach (cell, calls) {
        FuncExpr *other = lfirst(cell);
        const char *other_model = slm_pg_batch_model_of(other);

        n += shares_input(other, other_model) && name_length(model) == name_length(other_model)
            && strncmp(model, other_model, name_length(model)) == 0
            && equal(input, list_nth(other->args, slm_pg_work_kind(other->funcid)->first_input));
    }
    return n;
}

static void explain_sharing(List *calls, ExplainState *es)
{
    ListCell *cell;
    int most = 0;

    foreach (cell, calls)
        if (shares_input(lfirst(cell), slm_pg_batch_model_of(lfirst(cell))))
            most = Max(most, count_sharing(calls, lfirst(cell)));
    if (most > 1)
        ExplainPropertyInteger("Shared Input", "calls", most, es);
}

/* The calls and quals as SQL, and what computes them. */
static void explain_expressions(CustomScanState *node, List *ancestors, ExplainState *es)
{
    CustomScan *scan = castNode(CustomScan, node->ss.ps.plan);
    List *context = set_deparse_context_plan(es->deparse_cxt, &scan->scan.plan, ancestors);
    bool prefix = es->verbose || slm_pg_many_tables(es->rtable);
    List *calls = NIL, *models = NIL;
    List *quals = lthird(scan->custom_exprs);
    ListCell *cell, *known;

    foreach (cell, linitial(scan->custom_exprs)) {
        char *model = slm_pg_batch_model_of(lfirst(cell));
        bool found = false;

        if (!is_text(es) || !es->verbose || !in_output(scan, foreach_current_index(cell)))
            calls = lappend(calls, as_sql(scan, lfirst(cell), context, prefix));
        foreach (known, models)
            found = found || strcmp(lfirst(known), model) == 0;
        if (!is_text(es) || !found)
            models = lappend(models, model);
    }
    if (calls != NIL)
        ExplainPropertyList("Calls", calls, es);
    ExplainPropertyList(is_text(es) && list_length(models) == 1 ? "Model" : "Models", models, es);
    explain_sharing(linitial(scan->custom_exprs), es);
    if (quals != NIL)
        ExplainPropertyText("Filter", as_sql(scan, make_ands_explicit(quals), context, prefix), es);
}

void slm_pg_batch_explain_ms(const char *label, double ms, ExplainState *es)
{
    ExplainPropertyFloat(label, "ms", ms, ms < 10 ? 3 : 1, es);
}

void slm_pg_batch_explain_speed(double tokens, double seconds, ExplainState *es)
{
    double speed = seconds > 0 ? tokens / seconds : 0;

    if (is_text(es))
        ExplainPropertyFloat("Speed", "tokens/s", speed, speed < 10 ? 1 : 0, es);
    else
        ExplainPropertyFloat("Tokens per Second", NULL, speed, 1, es);
}

/* Every figure by its name, for programs. */
static void explain_usage(const slm_usage *usage, ExplainState *es)
{
    const char *name;
    uint64_t value;

    ExplainOpenGroup("Usage", "Usage", true, es);
    for (size_t i = 0; (name = slm_usage_figure(usage, i, &value)) != NULL; i++)
        if (es->timing || strcmp(name + strlen(name) - 3, "_ns") != 0)
            ExplainPropertyUInteger(name, NULL, value, es);
    ExplainCloseGroup("Usage", "Usage", true, es);
}

void slm_pg_batch_explain_tokens(const slm_usage *c, ExplainState *es)
{
    ExplainPropertyUInteger("Prompt Tokens Computed", NULL, c->prompt_tokens - c->reused_tokens, es);
    ExplainPropertyUInteger("Prompt Tokens Reused", NULL, c->reused_tokens, es);
    ExplainPropertyUInteger("Output Tokens", NULL, c->output_tokens, es);
    if (c->label_tokens > 0 || !is_text(es))
        ExplainPropertyUInteger("Label Tokens Computed", NULL, c->label_tokens, es);
    if (!is_text(es))
        explain_usage(c, es);
}

/* How many calls were computed after equal ones were merged, and which share that is. */
static void explain_distinct(const BatchCounters *c, ExplainState *es)
{
    double percent = c->calls > 0 ? 100.0 * (double) c->distinct / (double) c->calls : 100;

    if (is_text(es)) {
        ExplainPropertyText("Calls Distinct", psprintf(UINT64_FORMAT " (%.*f %%)", c->distinct, percent < 10 ? 1 : 0, percent), es);
    } else {
        ExplainPropertyUInteger("Calls Distinct", NULL, c->distinct, es);
        ExplainPropertyFloat("Calls Distinct Percent", NULL, percent, 1, es);
    }
}

void slm_pg_batch_explain(CustomScanState *node, List *ancestors, ExplainState *es)
{
    BatchState *state = (BatchState *) node;
    BatchCounters *c = &state->counters;
    double seconds = INSTR_TIME_GET_DOUBLE(c->engine_time);

    explain_expressions(node, ancestors, es);
    if (es->costs)
        slm_pg_batch_explain_forecast(state, es);
    if (state->votes != NULL)
        slm_pg_votes_explain(state, es);
    if (!es->analyze || node->ss.ps.instrument == NULL)
        return;
    if (state->n_quals > 0 && node->ss.ps.instrument->nfiltered1 > 0)
        ExplainPropertyFloat("Rows Removed by Filter", NULL, node->ss.ps.instrument->nfiltered1 / Max(node->ss.ps.instrument->nloops, 1),
                             0, es);
    ExplainPropertyUInteger("Rows Read", NULL, c->rows, es);
    ExplainPropertyUInteger("Calls Wanted", NULL, c->calls, es);
    explain_distinct(c, es);
    slm_pg_batch_explain_tokens(&c->engine, es);
    if (!es->timing)
        return;
    ExplainPropertyUInteger("Batches", NULL, c->steps, es);
    ExplainPropertyFloat("Mean Batch Rows", NULL, c->steps > 0 ? (double) c->step_rows / c->steps : 0, 1, es);
    slm_pg_batch_explain_ms("Model Time", seconds * 1000, es);
    slm_pg_batch_explain_speed((double) slm_usage_tokens(&c->engine), seconds, es);
    slm_pg_batch_explain_ms("Input Time", INSTR_TIME_GET_MILLISEC(c->input_time), es);
}
