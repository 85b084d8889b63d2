/*
 * A row of an SLM Batch node in the plain way.
 *
 * When anything goes wrong with a row that was read ahead (an argument, a condition, a call), nothing is decided then: once all rows
 * before it have been returned, its conditions and its target list are evaluated with the calls in their places, as plain execution
 * does.  So of several errors the first is raised, with its context, and none that plain execution would not have come to.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pg_list.h"

#include "pg/batch/state.h"

/* Columns of calls become the calls again. */
static Node *plain_mutator(Node *node, BatchState *state)
{
    if (node == NULL)
        return NULL;
    if (IsA(node, Var) && ((Var *) node)->varno == INDEX_VAR && ((Var *) node)->varattno > state->n_leaves) {
        CustomScan *scan = castNode(CustomScan, state->css.ss.ps.plan);

        return plain_mutator(list_nth(linitial(scan->custom_exprs), ((Var *) node)->varattno - state->n_leaves - 1), state);
    }
    return expression_tree_mutator(node, plain_mutator, state);
}

static void init_plain(BatchState *state)
{
    PlanState *ps = &state->css.ss.ps;
    CustomScan *scan = castNode(CustomScan, ps->plan);
    MemoryContext old = MemoryContextSwitchTo(ps->state->es_query_cxt);
    List *quals = (List *) plain_mutator(lthird(scan->custom_exprs), state);
    List *tlist = (List *) plain_mutator((Node *) scan->scan.plan.targetlist, state);

    state->plain_qual = ExecInitQual(quals, ps);
    state->plain_projection = ExecBuildProjectionInfo(tlist, ps->ps_ExprContext, ps->ps_ResultTupleSlot, ps,
                                                      state->css.ss.ss_ScanTupleSlot->tts_tupleDescriptor);
    MemoryContextSwitchTo(old);
}

bool slm_pg_batch_plain_row(BatchState *state, TupleTableSlot **slot)
{
    if (state->plain_projection == NULL)
        init_plain(state);
    if (!ExecQual(state->plain_qual, state->css.ss.ps.ps_ExprContext))
        return false;
    *slot = ExecProject(state->plain_projection);
    return true;
}
