/*
 * What an expression or a plan may do when rows are read ahead: the traits that plan.c decides by.
 *
 *   volatile    evaluates volatile functions: the order of its evaluations beside others matters
 *   wary        runs code of users (procedural languages, SQL functions that are not inlined, SECURITY DEFINER, SET, domains): an error in
 *               it leaves the session in the middle of things, and only the end of a subtransaction cleans up; or reads what others read on
 *   modifies    writes: a statement runs it to its end, whoever reads it
 *   subplans    the subqueries in it: interrupted by an error they must not be evaluated again, wherever else they stand
 *
 * Of a plan only what runs between its rows counts: a Sort has read everything when its first row comes, and so has a hashed Agg; below
 * them anything is allowed, because the batch node asks for a first row with nothing in its window.  That does not hold where the node
 * is begun anew in the middle (the inner side of a nested loop, later members of an Append).
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pg_list.h"
#include "parser/parsetree.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "pg/batch/batch.h"

typedef struct Inspection {
    const SlmBatchPlan *of;
    SlmBatchTraits *traits;
} Inspection;

static void inspect_plan(Inspection *in, Plan *plan, bool once);

static bool function_checker(Oid function, void *context)
{
    SlmBatchTraits *traits = ((Inspection *) context)->traits;
    HeapTuple tuple;
    Form_pg_proc form;

    if (slm_pg_batchable(function))
        return false;
    tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    if (!HeapTupleIsValid(tuple))
        return false;
    form = (Form_pg_proc) GETSTRUCT(tuple);
    if (form->provolatile == PROVOLATILE_VOLATILE) {
        traits->is_volatile = true;
        traits->volatile_function = function;
    }
    if ((form->prolang != INTERNALlanguageId && form->prolang != ClanguageId) || form->prosecdef ||
        !heap_attisnull(tuple, Anum_pg_proc_proconfig, NULL) || (form->prokind != PROKIND_FUNCTION && function >= FirstNormalObjectId)) {
        traits->wary = true;
        traits->wary_function = function;
    }
    ReleaseSysCache(tuple);
    return false;
}

static void set_wary(Inspection *in, const char *because)
{
    in->traits->wary = true;
    in->traits->wary_because = because;
}

/* The plan that computes an executor parameter, where it is that of a subquery computed once. */
static void inspect_param(Inspection *in, int id)
{
    ListCell *cell;

    foreach (cell, in->of->init_plans) {
        SubPlan *subplan = lfirst_node(SubPlan, cell);

        if (list_member_int(subplan->setParam, id) && !bms_is_member(subplan->plan_id, in->traits->subplans)) {
            in->traits->subplans = bms_add_member(in->traits->subplans, subplan->plan_id);
            inspect_plan(in, list_nth(in->of->stmt->subplans, subplan->plan_id - 1), false);
        }
    }
}

static bool expression_walker(Node *node, Inspection *in)
{
    if (node == NULL)
        return false;
    check_stack_depth();
    (void) check_functions_in_node(node, function_checker, in);
    if (IsA(node, NextValueExpr))
        in->traits->is_volatile = true;
    else if (IsA(node, CoerceToDomain))
        set_wary(in, "the checks of a domain");
    else if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXEC)
        inspect_param(in, ((Param *) node)->paramid);
    else if (IsA(node, SubPlan)) {
        in->traits->subplans = bms_add_member(in->traits->subplans, ((SubPlan *) node)->plan_id);
        inspect_plan(in, list_nth(in->of->stmt->subplans, ((SubPlan *) node)->plan_id - 1), false);
    }
    return expression_tree_walker(node, expression_walker, in);
}

static void inspect(Inspection *in, void *expression)
{
    (void) expression_walker(expression, in);
}

static void inspect_list(Inspection *in, List *plans, bool once)
{
    ListCell *cell;

    foreach (cell, plans)
        inspect_plan(in, lfirst(cell), once);
}

/* A written relation runs code of users where it has triggers before the row, checks or generated columns. */
static void inspect_modify(Inspection *in, ModifyTable *modify)
{
    ListCell *cell;

    in->traits->modifies = true;
    foreach (cell, modify->resultRelations) {
        Relation relation = table_open(rt_fetch(lfirst_int(cell), in->of->stmt->rtable)->relid, NoLock);
        TriggerDesc *triggers = relation->trigdesc;
        TupleConstr *constraints = relation->rd_att->constr;

        if (relation->rd_rel->relkind != RELKIND_RELATION ||
            (triggers != NULL &&
             (triggers->trig_insert_before_row || triggers->trig_update_before_row || triggers->trig_delete_before_row)) ||
            (constraints != NULL && (constraints->num_check > 0 || constraints->has_generated_stored)))
            set_wary(in, "triggers, checks or generated columns of a table that is written");
        table_close(relation, NoLock);
    }
    inspect(in, modify->returningLists);
    inspect(in, modify->onConflictSet);
    inspect(in, modify->onConflictWhere);
    inspect(in, modify->mergeActionLists);
}

static bool shared_cte(const SlmBatchPlan *of, int id)
{
    ListCell *cell;
    int readers = 0;

    foreach (cell, of->cte_readers)
        readers += lfirst_int(cell) == id ? 1 : 0;
    return readers > 1;
}

/* Expressions that only nodes of this type have. */
static void inspect_scan(Inspection *in, Plan *plan)
{
    switch (nodeTag(plan)) {
        case T_SampleScan:
            inspect(in, ((SampleScan *) plan)->tablesample);
            break;
        case T_IndexScan:
            inspect(in, ((IndexScan *) plan)->indexqual);
            inspect(in, ((IndexScan *) plan)->indexqualorig);
            inspect(in, ((IndexScan *) plan)->indexorderby);
            break;
        case T_IndexOnlyScan:
            inspect(in, ((IndexOnlyScan *) plan)->indexqual);
            inspect(in, ((IndexOnlyScan *) plan)->recheckqual);
            break;
        case T_BitmapHeapScan:
            inspect(in, ((BitmapHeapScan *) plan)->bitmapqualorig);
            break;
        case T_TidScan:
            inspect(in, ((TidScan *) plan)->tidquals);
            break;
        case T_ValuesScan:
            inspect(in, ((ValuesScan *) plan)->values_lists);
            break;
        case T_CteScan:
            if (shared_cte(in->of, ((CteScan *) plan)->ctePlanId))
                set_wary(in, "a WITH query that is read in several places"); /* another reader would go on after an error */
            inspect_plan(in, list_nth(in->of->stmt->subplans, ((CteScan *) plan)->ctePlanId - 1), false);
            break;
        case T_FunctionScan: /* materialized: all calls come before the first row */
        default:
            break;
    }
}

/* `once`: the plan is begun once, when nothing has been read ahead. */
static void inspect_plan(Inspection *in, Plan *plan, bool once)
{
    if (plan == NULL)
        return;
    check_stack_depth();
    inspect(in, plan->targetlist);
    inspect(in, plan->qual);
    inspect_scan(in, plan);
    switch (nodeTag(plan)) {
        case T_Sort:
        case T_Hash:
            if (once)
                return;
            break;
        case T_Agg:
            if (once && (((Agg *) plan)->aggstrategy == AGG_PLAIN || ((Agg *) plan)->aggstrategy == AGG_HASHED) &&
                ((Agg *) plan)->chain == NIL)
                return;
            break;
        case T_FunctionScan:
            if (!once)
                inspect(in, ((FunctionScan *) plan)->functions);
            break;
        case T_NestLoop:
            inspect(in, ((Join *) plan)->joinqual);
            inspect_plan(in, plan->lefttree, once);
            inspect_plan(in, plan->righttree, false);
            return;
        case T_MergeJoin:
            inspect(in, ((MergeJoin *) plan)->mergeclauses);
            inspect(in, ((Join *) plan)->joinqual);
            break;
        case T_HashJoin:
            inspect(in, ((HashJoin *) plan)->hashclauses);
            inspect(in, ((Join *) plan)->joinqual);
            break;
        case T_Append:
            inspect_list(in, ((Append *) plan)->appendplans, false);
            break;
        case T_MergeAppend:
            inspect_list(in, ((MergeAppend *) plan)->mergeplans, once);
            break;
        case T_SubqueryScan:
            inspect_plan(in, ((SubqueryScan *) plan)->subplan, once);
            break;
        case T_ModifyTable:
            inspect_modify(in, (ModifyTable *) plan);
            once = false;
            break;
        case T_RecursiveUnion:
            once = false;
            break;
        case T_Result:
            inspect(in, ((Result *) plan)->resconstantqual);
            break;
        case T_Limit:
            break; /* its expressions come before its first row */
        case T_CustomScan:
            inspect(in, ((CustomScan *) plan)->custom_exprs);
            inspect_list(in, ((CustomScan *) plan)->custom_plans, once);
            break;
        case T_ForeignScan:
            inspect(in, ((ForeignScan *) plan)->fdw_exprs);
            break;
        default:
            break;
    }
    inspect_plan(in, plan->lefttree, once);
    inspect_plan(in, plan->righttree, once);
}

void slm_pg_batch_inspect_plan(const SlmBatchPlan *of, Plan *plan, SlmBatchTraits *traits)
{
    Inspection in = {of, traits};

    inspect_plan(&in, plan, true);
}

void slm_pg_batch_inspect_expression(const SlmBatchPlan *of, void *expression, SlmBatchTraits *traits)
{
    Inspection in = {of, traits};

    inspect(&in, expression);
}

/* Scans and what only hands their rows on: between two rows they hold nothing but their place, which beginning anew resets.  A hash table,
 * a sort or a materialized set may have been left half made. */
bool slm_pg_batch_restartable(Plan *plan)
{
    ListCell *cell;

    if (plan == NULL)
        return true;
    switch (nodeTag(plan)) {
        case T_SeqScan:
        case T_SampleScan:
        case T_IndexScan:
        case T_IndexOnlyScan:
        case T_BitmapIndexScan:
        case T_BitmapHeapScan:
        case T_TidScan:
        case T_TidRangeScan:
        case T_FunctionScan:
        case T_ValuesScan:
        case T_NamedTuplestoreScan:
        case T_Result:
        case T_NestLoop:
        case T_Append:
        case T_SubqueryScan:
            break;
        case T_CustomScan: /* a batch node begins anew when its own child does */
            break;
        default:
            return false;
    }
    foreach (cell, slm_pg_batch_child_plans(plan))
        if (!slm_pg_batch_restartable(lfirst(cell)))
            return false;
    return slm_pg_batch_restartable(plan->lefttree) && slm_pg_batch_restartable(plan->righttree);
}
