/*
 * What EXPLAIN shows of an SLM Batch node.
 *
 * Counters of parallel workers come through the node's piece of dynamic shared memory: each worker adds its own when it shuts down, and
 * the leader takes the sum before the memory goes.
 */
#include "pg/batch/batch.h"

#include "commands/explain.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "storage/spin.h"
#include "utils/ruleutils.h"

#include "pg/batch/state.h"
#include "pg/compat.h"

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
    to->engine.requests += from->engine.requests;
    to->engine.prompt_tokens += from->engine.prompt_tokens;
    to->engine.reused_tokens += from->engine.reused_tokens;
    to->engine.output_tokens += from->engine.output_tokens;
    to->engine.label_tokens += from->engine.label_tokens;
    to->engine.prefill_ms += from->engine.prefill_ms;
    to->engine.decode_ms += from->engine.decode_ms;
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

/* The calls and quals as SQL. */
static void explain_expressions(CustomScanState *node, List *ancestors, ExplainState *es)
{
    CustomScan *scan = castNode(CustomScan, node->ss.ps.plan);
    List *context = set_deparse_context_plan(es->deparse_cxt, &scan->scan.plan, ancestors);
    bool prefix = es->verbose || list_length(es->rtable) > 1;
    List *calls = NIL;
    List *quals = lthird(scan->custom_exprs);
    ListCell *cell;

    foreach (cell, linitial(scan->custom_exprs))
        calls = lappend(calls, deparse_expression(lfirst(cell), context, prefix, false));
    ExplainPropertyList("Calls", calls, es);
    if (quals != NIL)
        ExplainPropertyText("Filter", deparse_expression((Node *) make_ands_explicit(quals), context, prefix, false), es);
}

void slm_pg_batch_explain(CustomScanState *node, List *ancestors, ExplainState *es)
{
    BatchState *state = (BatchState *) node;
    BatchCounters *c = &state->counters;
    uint64 computed = c->engine.prompt_tokens - c->engine.reused_tokens;
    uint64 written = c->engine.output_tokens + c->engine.label_tokens;
    double seconds = INSTR_TIME_GET_DOUBLE(c->engine_time);

    explain_expressions(node, ancestors, es);
    if (!es->analyze || node->ss.ps.instrument == NULL)
        return;
    if (state->n_quals > 0 && node->ss.ps.instrument->nfiltered1 > 0)
        ExplainPropertyFloat("Rows Removed by Filter", NULL, node->ss.ps.instrument->nfiltered1 / Max(node->ss.ps.instrument->nloops, 1),
                             0, es);
    ExplainPropertyUInteger("Rows Read", NULL, c->rows, es);
    ExplainPropertyUInteger("Calls Wanted", NULL, c->calls, es);
    ExplainPropertyUInteger("Calls Distinct", NULL, c->distinct, es);
    ExplainPropertyUInteger("Prompt Tokens Computed", NULL, computed, es);
    ExplainPropertyUInteger("Prompt Tokens Reused", NULL, c->engine.reused_tokens, es);
    ExplainPropertyUInteger("Output Tokens", NULL, c->engine.output_tokens, es);
    if (c->engine.label_tokens > 0 || es->format != EXPLAIN_FORMAT_TEXT)
        ExplainPropertyUInteger("Label Tokens Computed", NULL, c->engine.label_tokens, es);
    if (!es->timing)
        return;
    ExplainPropertyUInteger("Batches", NULL, c->steps, es);
    ExplainPropertyFloat("Mean Batch Rows", NULL, c->steps > 0 ? (double) c->step_rows / c->steps : 0, 1, es);
    ExplainPropertyFloat("Tokens per Second", NULL, seconds > 0 ? (computed + written) / seconds : 0, 1, es);
    ExplainPropertyFloat("Model Time", "ms", seconds * 1000, 3, es);
    ExplainPropertyFloat("Input Time", "ms", INSTR_TIME_GET_MILLISEC(c->input_time), 3, es);
}
