/*
 * Looks at finished plans that have their nodes: is there one, and which of them run in parallel workers?
 *
 * The executor gives a node shared memory only if its plan is marked as parallel-aware.  Nodes below a Gather need it, for their workers
 * to leave their counters; each worker's node is otherwise on its own.
 */
#include "postgres.h"

#include "nodes/bitmapset.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pg_list.h"

#include "pg/batch/batch.h"

static bool is_batch(Plan *plan)
{
    return IsA(plan, CustomScan) && ((CustomScan *) plan)->methods == &slm_batch_scan_methods;
}

static bool has_batch(Plan *plan)
{
    ListCell *cell;

    if (plan == NULL)
        return false;
    foreach (cell, slm_pg_batch_child_plans(plan))
        if (has_batch(lfirst(cell)))
            return true;
    return is_batch(plan) || has_batch(plan->lefttree) || has_batch(plan->righttree);
}

bool slm_pg_batch_planned(PlannedStmt *stmt)
{
    ListCell *cell;

    foreach (cell, stmt->subplans)
        if (has_batch(lfirst(cell)))
            return true;
    return has_batch(stmt->planTree);
}

static bool subplan_walker(Node *node, Bitmapset **ids)
{
    if (node == NULL)
        return false;
    if (IsA(node, SubPlan))
        *ids = bms_add_member(*ids, ((SubPlan *) node)->plan_id);
    return expression_tree_walker(node, subplan_walker, ids);
}

/* `below` a Gather or not; collects the subplans that run there. */
static void mark_plan(Plan *plan, bool below, Bitmapset **ids)
{
    ListCell *cell;

    if (plan == NULL)
        return;
    if (below && is_batch(plan)) {
        plan->parallel_aware = true;
        subplan_walker((Node *) ((CustomScan *) plan)->custom_exprs, ids);
    }
    if (below) {
        subplan_walker((Node *) plan->targetlist, ids);
        subplan_walker((Node *) plan->qual, ids);
    }
    below = below || IsA(plan, Gather) || IsA(plan, GatherMerge);
    foreach (cell, slm_pg_batch_child_plans(plan))
        mark_plan(lfirst(cell), below, ids);
    mark_plan(plan->lefttree, below, ids);
    mark_plan(plan->righttree, below, ids);
}

void slm_pg_batch_mark_parallel(PlannedStmt *stmt)
{
    Bitmapset *ids = NULL, *done = NULL;
    ListCell *cell;
    int id;

    mark_plan(stmt->planTree, false, &ids);
    foreach (cell, stmt->subplans)
        mark_plan(lfirst(cell), false, &ids);
    while ((id = bms_next_member(ids, -1)) >= 0) {
        ids = bms_del_member(ids, id);
        if (!bms_is_member(id, done))
            mark_plan(list_nth(stmt->subplans, id - 1), true, &ids);
        done = bms_add_member(done, id);
    }
}
