/*
 * Puts SLM Batch nodes into a finished plan.
 *
 * For a node X whose target list or filter holds calls, the tree  X  becomes  Batch -> X':
 *
 *   X'     outputs leaves only: the columns, aggregates and window functions that the expressions of X use
 *   Batch  target list and quals of X with leaves and calls replaced by INDEX_VAR columns, at the same positions
 *
 * so the parent of X notices nothing.  Arguments of aggregates are computed by a Batch below the Agg, which appends a column per call
 * to the Agg's input; keys of hash joins likewise.  expression.c rewrites what is inside the nodes.
 *
 * Invariants: a qual moves up only together with every qual after it, so the order that the planner chose, with security barriers, stays;
 * volatile functions are evaluated in the order of plain execution (safety.c), so none of them ahead of its time; what is not understood
 * stays where it is.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pg_list.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/planmain.h"
#include "optimizer/tlist.h"
#include "utils/syscache.h"

#include "pg/batch/batch.h"
#include "pg/batch/expression.h"
#include "pg/batch/refusal.h"

typedef struct PlanWalk {
    SlmBatchPlan of;
    int next_plan_id;
    const Limit *limit;  /* of SLM_BATCH_LIMIT */
    bool volatile_above; /* a node above evaluates volatile functions, row by row */
    bool may_stop;       /* what is above may stop reading at any row and begin anew */
} PlanWalk;

/* ---------------------------------------------------------------- plan nodes */

/* How many rows a node wants of its child. */
static int child_demand(Plan *plan)
{
    if (IsA(plan, Sort) || IsA(plan, Agg) || IsA(plan, Hash) || IsA(plan, ModifyTable))
        return SLM_BATCH_ALL;
    return IsA(plan, Limit) && ((Limit *) plan)->limitOption == LIMIT_OPTION_COUNT ? SLM_BATCH_LIMIT : SLM_BATCH_UNKNOWN;
}

/* May calls of `plan` be computed above `child` before their rows are wanted, if what comes after them is evaluated by `later`
 * expressions?  If so, *flags are those of the node. */
static bool may_read_ahead(Plan *plan, Plan *child, void *later, PlanWalk *walk, int *flags)
{
    SlmBatchTraits after = slm_batch_traits_of(&walk->of, later), below = {0};

    slm_pg_batch_inspect_plan(&walk->of, child, &below);
    *flags = (below.modifies ? SLM_BATCH_MODIFIES : 0) | (slm_pg_batch_restartable(child) ? SLM_BATCH_RESTARTS : 0);
    if (below.wary)
        slm_pg_batch_refuse(plan, "rows are not read ahead through %s, because an error there could not be put aside",
                            slm_pg_batch_wary_name(&below));
    else if (bms_overlap(below.subplans, after.subplans))
        slm_pg_batch_refuse(plan, "a subquery is evaluated both below it and after it");
    else if (below.is_volatile && (walk->volatile_above || after.is_volatile))
        slm_pg_batch_refuse(plan, "volatile functions (%s) below it and above it are evaluated in turn",
                            slm_pg_batch_volatile_name(&below));
    else if (walk->may_stop && (*flags & SLM_BATCH_RESTARTS) == 0)
        slm_pg_batch_refuse(plan, "its reader stops at a first match, and this plan does not begin anew from any row");
    else
        return true;
    return false;
}

/* A Batch node over `child`; rw->leaves describes the child's output. tlist and quals are already in terms of INDEX_VAR. */
static CustomScan *make_batch(Plan *child, Rewrite *rw, List *tlist, List *quals, int demand, int flags, PlanWalk *walk)
{
    CustomScan *scan = makeNode(CustomScan);
    Plan *plan = &scan->scan.plan;
    int n_leaves = list_length(rw->leaves);
    List *calls = NIL, *guards = NIL, *stages = NIL, *levels = NIL, *limit = NIL;
    ListCell *cell;

    foreach (cell, rw->leaves) {
        TargetEntry *entry = lfirst_node(TargetEntry, cell);
        Var *var = makeVarFromTargetEntry(OUTER_VAR, entry);

        scan->custom_scan_tlist = lappend(scan->custom_scan_tlist, makeTargetEntry((Expr *) var, entry->resno, entry->resname, false));
    }
    foreach (cell, rw->calls) {
        PlannedCall *call = lfirst(cell);
        FuncExpr *expr = slm_batch_fix_calls(call->call, n_leaves);

        calls = lappend(calls, expr);
        guards = lappend(guards, slm_batch_fix_calls(call->guard, n_leaves));
        stages = lappend_int(stages, call->stage);
        levels = lappend_int(levels, call->level);
        scan->custom_scan_tlist =
            lappend(scan->custom_scan_tlist, makeTargetEntry((Expr *) expr, n_leaves + foreach_current_index(cell) + 1, NULL, false));
    }
    if ((flags & SLM_BATCH_LOWERED) != 0)
        scan->custom_scan_tlist = lappend(scan->custom_scan_tlist, makeTargetEntry((Expr *) makeBoolConst(true, false),
                                                                                  n_leaves + list_length(calls) + 1, NULL, false));
    if (slm_batch_traits_of(&walk->of, list_make3(calls, guards, quals)).wary)
        flags |= SLM_BATCH_WARY;
    if (demand == SLM_BATCH_LIMIT)
        limit = list_make2(copyObject(walk->limit->limitCount), copyObject(walk->limit->limitOffset));
    scan->custom_exprs = list_make4(calls, guards, slm_batch_fix_calls(quals, n_leaves), limit);
    scan->custom_private = list_make4(makeInteger(n_leaves), makeInteger(list_length(calls)), makeInteger(list_length(quals)),
                                      makeInteger(demand));
    scan->custom_private = lappend(scan->custom_private, stages);
    scan->custom_private = lappend(scan->custom_private, levels);
    scan->custom_private = lappend(scan->custom_private, makeInteger(flags));
    scan->methods = &slm_batch_scan_methods;

    plan->startup_cost = child->startup_cost;
    plan->total_cost = child->total_cost;
    plan->plan_rows = child->plan_rows;
    plan->plan_width = child->plan_width;
    plan->parallel_aware = false;
    plan->parallel_safe = child->parallel_safe;
    plan->async_capable = false;
    plan->plan_node_id = walk->next_plan_id++;
    plan->targetlist = slm_batch_fix_calls(tlist, n_leaves);
    plan->lefttree = child;
    plan->initPlan = child->initPlan;
    child->initPlan = NIL;
    plan->extParam = bms_copy(child->extParam);
    plan->allParam = bms_copy(child->allParam);
    return scan;
}

/* Lists of quals whose conjuncts may move above the node, at most two. */
static int movable_quals(Plan *plan, List ***lists)
{
    int n = 0;

    lists[n++] = &plan->qual;
    if ((IsA(plan, NestLoop) || IsA(plan, HashJoin) || IsA(plan, MergeJoin)) && ((Join *) plan)->jointype == JOIN_INNER)
        lists[n++] = &((Join *) plan)->joinqual;
    return n;
}

/* Takes the first conjunct with a call, and all after it, out of a qual list. */
static List *take_quals(List **quals)
{
    List *kept = NIL, *moved = NIL;
    ListCell *cell;

    foreach (cell, *quals) {
        if (moved != NIL || slm_batch_has_call(lfirst(cell)))
            moved = lappend(moved, lfirst(cell));
        else
            kept = lappend(kept, lfirst(cell));
    }
    *quals = kept;
    return moved;
}

static bool can_project(Plan *plan)
{
    switch (nodeTag(plan)) {
        case T_SeqScan:
        case T_SampleScan:
        case T_IndexScan:
        case T_IndexOnlyScan:
        case T_BitmapHeapScan:
        case T_TidScan:
        case T_TidRangeScan:
        case T_SubqueryScan:
        case T_FunctionScan:
        case T_ValuesScan:
        case T_TableFuncScan:
        case T_CteScan:
        case T_NamedTuplestoreScan:
        case T_WorkTableScan:
        case T_NestLoop:
        case T_MergeJoin:
        case T_HashJoin:
        case T_Agg:
        case T_WindowAgg:
        case T_Gather:
        case T_GatherMerge:
            return true;
        case T_Result:
            return plan->lefttree != NULL; /* without input there is one row */
        default:
            return false;
    }
}

/* No row holds so many columns and results. */
static bool too_wide(const Rewrite *rw)
{
    return list_length(rw->leaves) + list_length(rw->calls) + 1 > MaxTupleAttributeNumber;
}

/* The conjuncts that move above X with their calls, join conditions first; none where they evaluate volatile functions or subqueries. */
static List *take_movable(Plan *plan, PlanWalk *walk)
{
    List **lists[2], *kept[2];
    int n_lists = movable_quals(plan, lists);
    List *moved = NIL;

    for (int i = n_lists - 1; i >= 0; i--) {
        kept[i] = *lists[i];
        moved = list_concat(moved, take_quals(lists[i]));
    }
    if (moved == NIL || (!contain_subplans((Node *) moved) && !slm_batch_traits_of(&walk->of, moved).is_volatile))
        return moved;
    for (int i = 0; i < n_lists; i++)
        *lists[i] = kept[i];
    return NIL;
}

/* Batch -> X' for a node with calls in its target list or movable quals; X itself otherwise. */
static Plan *lift_calls(Plan *plan, int demand, PlanWalk *walk)
{
    Rewrite rw = {.of = &walk->of};
    List **lists[2], *kept[2];
    List *old_tlist = plan->targetlist;
    List *moved, *quals = NIL, *tlist = NIL;
    int n_lists = movable_quals(plan, lists), flags = 0;
    bool backward = ExecSupportsBackwardScan(plan);
    bool found = slm_batch_has_call((Node *) plan->targetlist);
    CustomScan *scan;
    ListCell *cell;

    for (int i = 0; i < n_lists; i++) {
        found = found || slm_batch_has_call((Node *) *lists[i]);
        kept[i] = *lists[i];
    }
    if (!found)
        return plan;
    if (IsA(plan, WindowAgg) && (((WindowAgg *) plan)->runCondition != NIL || slm_batch_has_call((Node *) plan->qual))) {
        slm_pg_batch_refuse(plan, "the condition of a window is evaluated by it"); /* it refers to the target list by position */
        return plan;
    }

    moved = take_movable(plan, walk);
    foreach (cell, moved) {
        rw.stage = foreach_current_index(cell);
        quals = lappend(quals, slm_batch_to_columns(lfirst(cell), &rw));
    }
    rw.stage = list_length(moved);
    foreach (cell, plan->targetlist) {
        TargetEntry *entry = flatCopyTargetEntry(lfirst_node(TargetEntry, cell));

        entry->expr = (Expr *) slm_batch_to_columns((Node *) entry->expr, &rw);
        tlist = lappend(tlist, entry);
    }
    plan->targetlist = rw.leaves;
    if (rw.calls == NIL || too_wide(&rw) || !may_read_ahead(plan, plan, list_make2(tlist, quals), walk, &flags)) {
        plan->targetlist = old_tlist;
        for (int i = 0; i < n_lists; i++)
            *lists[i] = kept[i];
        return plan;
    }
    if (n_lists == 2 && moved != NIL)
        ((Join *) plan)->inner_unique = false; /* the proof may have used what moved */
    scan = make_batch(plan, &rw, tlist, quals, demand, flags, walk);
    if (backward)
        scan->flags |= CUSTOMPATH_SUPPORT_BACKWARD_SCAN;
    return (Plan *) scan;
}

/* Does a window function see every row of the partition once and in order? Others take what they want of it. */
static bool takes_all_rows(WindowFunc *function, Rewrite *rw)
{
    return function->winagg && rw->whole_frames;
}

/* An argument that takes its calls from the row where they have been computed.  Where they could not be, it is evaluated as it was, in
 * its order among the other arguments. */
static Expr *lower_argument(Expr *arg, Rewrite *rw)
{
    CaseExpr *result = makeNode(CaseExpr);
    CaseWhen *when = makeNode(CaseWhen);

    if (!slm_batch_has_call((Node *) arg))
        return (Expr *) slm_batch_to_columns((Node *) arg, rw);
    when->expr = (Expr *) makeVar(INDEX_VAR, COMPUTED, BOOLOID, -1, InvalidOid, 0);
    when->result = (Expr *) slm_batch_to_columns((Node *) arg, rw);
    when->location = -1;
    result->casetype = exprType((Node *) arg);
    result->casecollid = exprCollation((Node *) arg);
    result->args = list_make1(when);
    result->defresult = copyObject(arg);
    result->location = LOWERED_CASE;
    return (Expr *) result;
}

/* Rewrites the arguments of aggregates or window functions: calls become columns of the input. */
static Node *lower_arguments(Node *node, Rewrite *rw)
{
    if (node == NULL)
        return NULL;
    if (IsA(node, Aggref) || (IsA(node, WindowFunc) && takes_all_rows((WindowFunc *) node, rw))) {
        Node *copy = copyObject(node);
        List **args = IsA(node, Aggref) ? &((Aggref *) copy)->args : &((WindowFunc *) copy)->args;
        Expr **filter = IsA(node, Aggref) ? &((Aggref *) copy)->aggfilter : &((WindowFunc *) copy)->aggfilter;
        List *saved = rw->guard;
        ListCell *cell;

        if (!slm_batch_has_call((Node *) *args) && !slm_batch_has_call((Node *) *filter))
            return copy;
        if (*filter != NULL) {
            Expr *original = *filter;

            /* as with CASE: the filter is evaluated twice where the arguments hold calls */
            if (contain_subplans((Node *) original) || slm_batch_traits_of(rw->of, original).is_volatile)
                return copy;
            *filter = lower_argument(original, rw);
            rw->guard = lappend(list_copy(saved), slm_batch_boolean_test((Expr *) slm_batch_to_columns((Node *) original, rw), IS_TRUE));
        }
        foreach (cell, *args) { /* expressions, or TargetEntry in an aggregate */
            if (IsA(lfirst(cell), TargetEntry))
                lfirst_node(TargetEntry, cell)->expr = lower_argument(lfirst_node(TargetEntry, cell)->expr, rw);
            else
                lfirst(cell) = lower_argument(lfirst(cell), rw);
        }
        rw->guard = saved;
        return copy;
    }
    return expression_tree_mutator(node, lower_arguments, rw);
}

/* Columns of lowered expressions refer to the input of their node again. */
typedef struct Input {
    int varno; /* OUTER_VAR or INNER_VAR */
    int computed;
} Input;

static Node *to_input_mutator(Node *node, Input *input)
{
    if (node == NULL)
        return NULL;
    if (IsA(node, Var) && ((Var *) node)->varno == INDEX_VAR) {
        Var *var = copyObject((Var *) node);

        var->varno = input->varno;
        if (var->varattno == COMPUTED)
            var->varattno = input->computed;
        var->varnosyn = 0;
        var->varattnosyn = 0;
        return (Node *) var;
    }
    return expression_tree_mutator(node, to_input_mutator, input);
}

static void *to_input(void *expr, int n_leaves, Input input)
{
    return to_input_mutator(slm_batch_fix_calls(expr, n_leaves), &input);
}

/* The child with a Batch above it that adds a column for each call and one, number `computed`, that says whether they were computed. */
static Plan *batch_below(Plan *child, Rewrite *rw, int demand, int flags, int *computed, PlanWalk *walk)
{
    int n_leaves = list_length(child->targetlist);
    List *tlist = NIL;
    ListCell *cell;

    foreach (cell, child->targetlist) {
        TargetEntry *entry = flatCopyTargetEntry(lfirst_node(TargetEntry, cell));

        entry->expr = (Expr *) makeVarFromTargetEntry(INDEX_VAR, entry);
        tlist = lappend(tlist, entry);
    }
    foreach (cell, rw->calls) {
        PlannedCall *call = lfirst(cell);
        Var *var = makeVar(INDEX_VAR, CALL_BASE + foreach_current_index(cell), call->call->funcresulttype, -1, call->call->funccollid, 0);

        tlist = lappend(tlist, makeTargetEntry((Expr *) var, n_leaves + foreach_current_index(cell) + 1, NULL, false));
    }
    *computed = list_length(tlist) + 1;
    tlist = lappend(tlist, makeTargetEntry((Expr *) makeVar(INDEX_VAR, *computed, BOOLOID, -1, InvalidOid, 0), *computed, NULL, false));
    return (Plan *) make_batch(child, rw, tlist, NIL, demand, SLM_BATCH_LOWERED | flags, walk);
}

/* Agg -> Y becomes Agg' -> Batch -> Y where arguments of aggregates hold calls. */
static void lower_calls(Plan *plan, PlanWalk *walk)
{
    Rewrite rw = {.fixed_leaves = true, .of = &walk->of};
    Plan *child = plan->lefttree;
    List *new_tlist, *new_qual;
    Plan *batch;
    int n_leaves, computed, flags;

    if (child == NULL)
        return;
    if (IsA(plan, Agg) && ((Agg *) plan)->chain != NIL) {
        slm_pg_batch_refuse(plan, "arguments are evaluated for several grouping sets");
        return;
    }
    if (IsA(plan, WindowAgg)) {
        int options = ((WindowAgg *) plan)->frameOptions;

        if (((WindowAgg *) plan)->runCondition != NIL) {
            slm_pg_batch_refuse(plan, "the condition of a window is evaluated by it");
            return;
        }
        rw.whole_frames = (options & FRAMEOPTION_START_UNBOUNDED_PRECEDING) != 0 && (options & FRAMEOPTION_EXCLUSION) == 0 &&
                          (options & (FRAMEOPTION_END_CURRENT_ROW | FRAMEOPTION_END_UNBOUNDED_FOLLOWING)) != 0;
    }
    rw.leaves = child->targetlist;
    new_tlist = (List *) lower_arguments((Node *) plan->targetlist, &rw);
    new_qual = (List *) lower_arguments((Node *) plan->qual, &rw);
    if (rw.calls == NIL || too_wide(&rw) || !may_read_ahead(plan, child, list_make2(plan->targetlist, plan->qual), walk, &flags))
        return;
    n_leaves = list_length(child->targetlist);
    batch = batch_below(child, &rw, child_demand(plan), flags, &computed, walk);
    plan->targetlist = to_input(new_tlist, n_leaves, (Input){OUTER_VAR, computed});
    plan->qual = to_input(new_qual, n_leaves, (Input){OUTER_VAR, computed});
    plan->lefttree = batch;
}

/* The keys of one side of a hash join, in the same way; `node` is what evaluates them for the rows of its input: the join, or its Hash.
 * A row is given up at its first key that is NULL, unless the join returns rows of this side without a match. */
static void lower_keys(HashJoin *join, Plan *node, List **keys, bool all, PlanWalk *walk)
{
    Rewrite rw = {.fixed_leaves = true, .of = &walk->of};
    Plan *child = node->lefttree, *batch;
    int side = IsA(node, Hash) ? 1 : 0, n_leaves = list_length(child->targetlist), computed, flags;
    List *new_keys = NIL, *new_operands = NIL;
    ListCell *key, *clause;

    if (!slm_batch_has_call((Node *) *keys) || contain_subplans((Node *) *keys))
        return;
    rw.leaves = child->targetlist;
    forboth (key, *keys, clause, join->hashclauses) {
        Expr *operand = list_nth(lfirst_node(OpExpr, clause)->args, side);

        new_keys = lappend(new_keys, lower_argument(lfirst(key), &rw));
        new_operands = lappend(new_operands, lower_argument(operand, &rw));
        if (!all)
            rw.guard = lappend(list_copy(rw.guard), slm_batch_null_test((Expr *) slm_batch_to_columns(lfirst(key), &rw), IS_NOT_NULL));
    }
    if (rw.calls == NIL || too_wide(&rw) ||
        !may_read_ahead(&join->join.plan, child, list_make4(node->targetlist, node->qual, join->join.joinqual, join->hashclauses), walk,
                        &flags))
        return;
    batch = batch_below(child, &rw, child_demand(node), flags, &computed, walk);
    *keys = to_input(new_keys, n_leaves, (Input){OUTER_VAR, computed});
    forboth (key, new_operands, clause, join->hashclauses)
        list_nth_cell(lfirst_node(OpExpr, clause)->args, side)->ptr_value =
            to_input(lfirst(key), n_leaves, (Input){side == 1 ? INNER_VAR : OUTER_VAR, computed});
    for (int i = n_leaves; side == 1 && i < computed; i++) { /* a Hash hands on all that it gets */
        Var *var = makeVarFromTargetEntry(OUTER_VAR, list_nth_node(TargetEntry, batch->targetlist, i));

        node->targetlist = lappend(node->targetlist, makeTargetEntry((Expr *) var, i + 1, NULL, false));
    }
    node->lefttree = batch;
}

static void lower_hash_join(HashJoin *join, PlanWalk *walk)
{
    JoinType type = join->join.jointype;
    Hash *hash = castNode(Hash, join->join.plan.righttree);

    lower_keys(join, &join->join.plan, &join->hashkeys, type == JOIN_LEFT || type == JOIN_ANTI || type == JOIN_FULL, walk);
    lower_keys(join, &hash->plan, &hash->hashkeys, type != JOIN_INNER && type != JOIN_LEFT && type != JOIN_SEMI && type != JOIN_ANTI, walk);
}

static Plan *rewrite_plan(Plan *plan, int demand, bool lift, PlanWalk *walk);

static void rewrite_list(List *plans, int demand, bool lift, PlanWalk *walk)
{
    ListCell *cell;

    foreach (cell, plans)
        lfirst(cell) = rewrite_plan(lfirst(cell), demand, lift, walk);
}

/* Is the right side of a nested loop left at the first match? */
static bool stops_at_match(Plan *plan)
{
    const Join *join = (Join *) plan;

    return IsA(plan, NestLoop) && (join->jointype == JOIN_SEMI || join->jointype == JOIN_ANTI || join->inner_unique);
}

/* Rewrites what is below a node. `lift` false where a child must keep its shape. */
static void rewrite_children(Plan *plan, int demand, bool lift, PlanWalk *walk)
{
    bool lift_right = lift, may_stop = walk->may_stop;
    int below = child_demand(plan);

    if (IsA(plan, MergeJoin) && !IsA(plan->righttree, Sort) && !IsA(plan->righttree, Material))
        lift_right = false; /* mark and restore */
    switch (nodeTag(plan)) {
        case T_Append:
            rewrite_list(((Append *) plan)->appendplans, demand == SLM_BATCH_ALL ? SLM_BATCH_UNKNOWN : demand, lift, walk);
            break;
        case T_MergeAppend:
            rewrite_list(((MergeAppend *) plan)->mergeplans, demand == SLM_BATCH_ALL ? SLM_BATCH_UNKNOWN : demand, lift, walk);
            break;
        case T_SubqueryScan:
            ((SubqueryScan *) plan)->subplan =
                rewrite_plan(((SubqueryScan *) plan)->subplan, plan->qual == NIL ? demand : SLM_BATCH_UNKNOWN, lift, walk);
            break;
        case T_Limit:
            walk->limit = (Limit *) plan;
            /* The limits are evaluated by the batch node too; a bound that it does not know would change how ties are sorted. */
            if (below == SLM_BATCH_LIMIT &&
                slm_batch_traits_of(&walk->of, list_make2(((Limit *) plan)->limitCount, ((Limit *) plan)->limitOffset)).is_volatile)
                lift = false;
            break;
        case T_Result:
            if (plan->lefttree != NULL)
                below = demand;
            break;
        default:
            break;
    }
    plan->lefttree = rewrite_plan(plan->lefttree, below, lift, walk);
    walk->may_stop = may_stop || stops_at_match(plan);
    plan->righttree = rewrite_plan(plan->righttree, SLM_BATCH_UNKNOWN, lift_right, walk);
    walk->may_stop = may_stop;
}

/* Children first. */
static Plan *rewrite_plan(Plan *plan, int demand, bool lift, PlanWalk *walk)
{
    const Limit *limit = walk->limit;
    bool volatile_above = walk->volatile_above;

    if (plan == NULL)
        return NULL;
    check_stack_depth();
    if (IsA(plan, ForeignScan) || IsA(plan, CustomScan))
        return plan;
    if (!IsA(plan, BitmapHeapScan)) {
        walk->volatile_above = volatile_above || slm_batch_traits_of(&walk->of, list_make2(plan->targetlist, plan->qual)).is_volatile ||
                               (IsA(plan, ModifyTable) &&
                                slm_batch_traits_of(&walk->of, ((ModifyTable *) plan)->returningLists).is_volatile);
        rewrite_children(plan, demand, lift, walk);
        walk->limit = limit;
        walk->volatile_above = volatile_above;
    }
    if (lift && (IsA(plan, Agg) || IsA(plan, WindowAgg)))
        lower_calls(plan, walk);
    if (lift && IsA(plan, ValuesScan))
        slm_batch_spread_values((ValuesScan *) plan, walk->of.stmt);
    if (lift && IsA(plan, HashJoin))
        lower_hash_join((HashJoin *) plan, walk);
    return lift && can_project(plan) ? lift_calls(plan, demand, walk) : plan;
}

/* ---------------------------------------------------------------- statements */

List *slm_pg_batch_child_plans(Plan *plan)
{
    switch (nodeTag(plan)) {
        case T_Append:
            return ((Append *) plan)->appendplans;
        case T_MergeAppend:
            return ((MergeAppend *) plan)->mergeplans;
        case T_BitmapAnd:
            return ((BitmapAnd *) plan)->bitmapplans;
        case T_BitmapOr:
            return ((BitmapOr *) plan)->bitmapplans;
        case T_CustomScan:
            return ((CustomScan *) plan)->custom_plans;
        case T_SubqueryScan:
            return list_make1(((SubqueryScan *) plan)->subplan);
        default:
            return NIL;
    }
}

/* Collects the subplans that are read to their end: all but EXISTS and the like, which stop when they are decided. */
static bool whole_subplan_walker(Node *node, Bitmapset **ids)
{
    if (node == NULL)
        return false;
    if (IsA(node, SubPlan)) {
        SubPlan *subplan = (SubPlan *) node;

        if (subplan->subLinkType == EXPR_SUBLINK || subplan->subLinkType == ARRAY_SUBLINK || subplan->subLinkType == CTE_SUBLINK ||
            subplan->subLinkType == MULTIEXPR_SUBLINK || subplan->useHashTable)
            *ids = bms_add_member(*ids, subplan->plan_id);
    }
    return expression_tree_walker(node, whole_subplan_walker, ids);
}

/* ... of a whole plan, and what safety.c wants to know of it. */
static void whole_subplans(Plan *plan, Bitmapset **ids, SlmBatchPlan *of)
{
    ListCell *cell;

    if (plan == NULL)
        return;
    of->init_plans = list_concat(of->init_plans, plan->initPlan);
    if (IsA(plan, CteScan))
        of->cte_readers = lappend_int(of->cte_readers, ((CteScan *) plan)->ctePlanId);
    whole_subplan_walker((Node *) plan->initPlan, ids);
    whole_subplan_walker((Node *) plan->targetlist, ids);
    whole_subplan_walker((Node *) plan->qual, ids);
    if (IsA(plan, NestLoop) || IsA(plan, MergeJoin) || IsA(plan, HashJoin))
        whole_subplan_walker((Node *) ((Join *) plan)->joinqual, ids);
    foreach (cell, slm_pg_batch_child_plans(plan))
        whole_subplans(lfirst(cell), ids, of);
    whole_subplans(plan->lefttree, ids, of);
    whole_subplans(plan->righttree, ids, of);
}

static void max_plan_id(Plan *plan, int *id)
{
    ListCell *cell;

    if (plan == NULL)
        return;
    *id = Max(*id, plan->plan_node_id);
    foreach (cell, slm_pg_batch_child_plans(plan))
        max_plan_id(lfirst(cell), id);
    max_plan_id(plan->lefttree, id);
    max_plan_id(plan->righttree, id);
}

/* Does the plan depend on any function but built-in ones? */
static bool uses_functions(PlannedStmt *stmt)
{
    ListCell *cell;

    foreach (cell, stmt->invalItems)
        if (lfirst_node(PlanInvalItem, cell)->cacheId == PROCOID)
            return true;
    return false;
}

void slm_pg_batch_rewrite(PlannedStmt *stmt)
{
    PlanWalk walk = {.of = {.stmt = stmt}};
    Bitmapset *whole = NULL;
    ListCell *cell;

    if (!uses_functions(stmt))
        return;
    max_plan_id(stmt->planTree, &walk.next_plan_id);
    foreach (cell, stmt->subplans)
        max_plan_id(lfirst(cell), &walk.next_plan_id);
    walk.next_plan_id++;

    whole_subplans(stmt->planTree, &whole, &walk.of);
    foreach (cell, stmt->subplans)
        whole_subplans(lfirst(cell), &whole, &walk.of);
    walk.volatile_above = true; /* who reads a subplan may do what it likes */
    foreach (cell, stmt->subplans) {
        walk.may_stop = !bms_is_member(foreach_current_index(cell) + 1, whole);
        lfirst(cell) = rewrite_plan(lfirst(cell), SLM_BATCH_UNKNOWN, true, &walk);
    }
    walk.volatile_above = walk.may_stop = false;
    stmt->planTree = rewrite_plan(stmt->planTree, SLM_BATCH_UNKNOWN, true, &walk);
    if (stmt->parallelModeNeeded)
        slm_pg_batch_mark_parallel(stmt);
}
