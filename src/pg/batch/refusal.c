/*
 * Why calls are not batched, for EXPLAIN.
 *
 * plan.c notes, plan by plan, why it has put no node there.  Of a finished plan every expression is looked through for calls that are
 * still evaluated in place, and each gets its reason: what stands around it in the expression, else what plan.c noted, else what kind of
 * place it is.
 */
#include "pg/batch/refusal.h"

#include "access/htup_details.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pg_list.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "pg/base/compat.h"
#include "pg/batch/batch.h"
#include "pg/batch/expression.h"
#include "pg/batch/pretty.h"

typedef struct Refusal {
    const Plan *plan;
    const char *why;
} Refusal;

List **slm_pg_batch_refusals;

void slm_pg_batch_refuse(const Plan *plan, const char *format, ...)
{
    Refusal *refusal;
    StringInfoData why;

    if (slm_pg_batch_refusals == NULL)
        return;
    initStringInfo(&why);
    for (;;) {
        va_list args;
        int needed;

        va_start(args, format);
        needed = appendStringInfoVA(&why, format, args);
        va_end(args);
        if (needed == 0)
            break;
        enlargeStringInfo(&why, needed);
    }
    refusal = palloc(sizeof *refusal);
    refusal->plan = plan;
    refusal->why = why.data;
    *slm_pg_batch_refusals = lappend(*slm_pg_batch_refusals, refusal);
}

static const char *noted(const Plan *plan)
{
    ListCell *cell;

    if (slm_pg_batch_refusals == NULL)
        return NULL;
    foreach (cell, *slm_pg_batch_refusals)
        if (((Refusal *) lfirst(cell))->plan == plan)
            return ((Refusal *) lfirst(cell))->why;
    return NULL;
}

/* ---------------------------------------------------------------- words */

const char *slm_pg_batch_wary_name(const SlmBatchTraits *traits)
{
    HeapTuple tuple = OidIsValid(traits->wary_function) ? SearchSysCache1(PROCOID, ObjectIdGetDatum(traits->wary_function)) : NULL;
    Form_pg_proc form;
    const char *result;

    if (!HeapTupleIsValid(tuple))
        return traits->wary_because != NULL ? traits->wary_because : "code of users";
    form = (Form_pg_proc) GETSTRUCT(tuple);
    result = psprintf("%s(), a function %s", NameStr(form->proname),
                      form->prosecdef                                        ? "with SECURITY DEFINER"
                      : !heap_attisnull(tuple, Anum_pg_proc_proconfig, NULL) ? "with SET"
                      : form->prolang == SQLlanguageId                       ? "in SQL that is not inlined"
                      : form->prokind != PROKIND_FUNCTION                    ? "over many rows"
                                                  : psprintf("in %s", get_language_name(form->prolang, false)));
    ReleaseSysCache(tuple);
    return result;
}

const char *slm_pg_batch_volatile_name(const SlmBatchTraits *traits)
{
    const char *name = OidIsValid(traits->volatile_function) ? get_func_name(traits->volatile_function) : NULL;

    return name == NULL ? "nextval" : name;
}

/* A node as EXPLAIN calls it. */
static const char *node_name(const Plan *plan)
{
    switch (nodeTag(plan)) {
        case T_SeqScan:
            return "Seq Scan";
        case T_SampleScan:
            return "Sample Scan";
        case T_IndexScan:
            return "Index Scan";
        case T_IndexOnlyScan:
            return "Index Only Scan";
        case T_BitmapHeapScan:
            return "Bitmap Heap Scan";
        case T_TidScan:
            return "Tid Scan";
        case T_TidRangeScan:
            return "Tid Range Scan";
        case T_SubqueryScan:
            return "Subquery Scan";
        case T_FunctionScan:
            return "Function Scan";
        case T_TableFuncScan:
            return "Table Function Scan";
        case T_ValuesScan:
            return "Values Scan";
        case T_CteScan:
            return "CTE Scan";
        case T_NamedTuplestoreScan:
            return "Named Tuplestore Scan";
        case T_WorkTableScan:
            return "WorkTable Scan";
        case T_ForeignScan:
            return "Foreign Scan";
        case T_CustomScan:
            return "Custom Scan";
        case T_NestLoop:
            return "Nested Loop";
        case T_MergeJoin:
            return "Merge Join";
        case T_HashJoin:
            return "Hash Join";
        case T_Hash:
            return "Hash";
        case T_Agg:
            return "Aggregate";
        case T_WindowAgg:
            return "WindowAgg";
        case T_Group:
            return "Group";
        case T_ProjectSet:
            return "ProjectSet";
        case T_ModifyTable:
            return ((const ModifyTable *) plan)->operation == CMD_INSERT   ? "Insert"
                   : ((const ModifyTable *) plan)->operation == CMD_UPDATE ? "Update"
                   : ((const ModifyTable *) plan)->operation == CMD_DELETE ? "Delete"
                                                                           : "Merge";
        case T_Result:
            return "Result";
        case T_Memoize:
            return "Memoize";
        case T_Limit:
            return "Limit";
        case T_Gather:
        case T_GatherMerge:
            return "Gather";
        default:
            return "this node";
    }
}

/* ---------------------------------------------------------------- what is left */

typedef struct Search {
    PlannedStmt *stmt;
    SlmBatchPlan of;
    Plan *plan;
    const char *part; /* of the node: "RETURNING", ...; NULL: its target list or condition */
    const char *why;  /* of the place; NULL: by the expression or the node */
    List *deparse;    /* context of the plan; made when needed */
    List *found;      /* of SlmBatchMissed */
} Search;

static bool search_walker(Node *node, Search *s);

static const char *where_of(const Search *s)
{
    Index relid = 0;
    const char *name = node_name(s->plan);

    if (IsA(s->plan, SeqScan) || IsA(s->plan, IndexScan) || IsA(s->plan, IndexOnlyScan) || IsA(s->plan, BitmapHeapScan) ||
        IsA(s->plan, FunctionScan) || IsA(s->plan, ValuesScan) || IsA(s->plan, CteScan) || IsA(s->plan, SubqueryScan) ||
        IsA(s->plan, SampleScan) || IsA(s->plan, ForeignScan))
        relid = ((Scan *) s->plan)->scanrelid;
    if (relid > 0)
        name = psprintf("%s on %s", name, rt_fetch(relid, s->stmt->rtable)->eref->aliasname);
    return s->part == NULL ? name : psprintf("%s of %s", s->part, name);
}

/* What the kind of node says, when nothing else does. */
static const char *why_of(const Search *s)
{
    const char *why = noted(s->plan);

    if (why != NULL)
        return why;
    switch (nodeTag(s->plan)) {
        case T_Result:
            return "it makes a single row";
        case T_ProjectSet:
            return "it is evaluated with functions that return sets";
        case T_ForeignScan:
            return "it is evaluated by a foreign scan";
        case T_FunctionScan:
            return "it is an argument of a function in FROM";
        case T_Agg:
            return "aggregates take their direct arguments once a group";
        case T_WindowAgg:
            return "the window function takes what it wants of its partition, or its frame leaves rows out";
        case T_Memoize:
            return "it is a key of Memoize";
        case T_CustomScan:
            return "it is left where it stands in its expression";
        default:
            return "it is not known how in this place";
    }
}

static void add_missed(Search *s, FuncExpr *call, const char *why)
{
    SlmBatchMissed *missed = palloc(sizeof *missed);
    ListCell *cell;

    if (s->deparse == NIL)
        s->deparse = deparse_context_for_plan_tree(s->stmt, select_rtable_names_for_explain(s->stmt->rtable, NULL));
    missed->call = deparse_expression(slm_pg_batch_pretty(call), set_deparse_context_plan(s->deparse, s->plan, NIL),
                                      slm_pg_many_tables(s->stmt->rtable), false);
    missed->where = where_of(s);
    missed->why = why;
    foreach (cell, s->found) {
        const SlmBatchMissed *other = lfirst(cell);

        if (strcmp(other->call, missed->call) == 0 && strcmp(other->where, missed->where) == 0 && strcmp(other->why, missed->why) == 0)
            return;
    }
    s->found = lappend(s->found, missed);
}

/* Why the calls in a node of an expression stay in place; NULL where that is not because of it. */
static const char *why_around(Node *node, Search *s)
{
    switch (nodeTag(node)) {
        case T_CaseExpr:
            if (((CaseExpr *) node)->arg != NULL)
                return "CASE x WHEN compares before it is known which branch is wanted";
            break;
        case T_BoolExpr:
        case T_CoalesceExpr:
            break;
        case T_SubPlan:
            return "it is compared with the rows of a subquery";
        case T_ArrayCoerceExpr:
        case T_FieldStore:
            return "it is evaluated for each element";
        case T_RowCompareExpr:
            return "a comparison of rows ends at the column that decides";
        case T_Aggref:
            if (((Aggref *) node)->aggfilter == NULL)
                return NULL;
            node = (Node *) ((Aggref *) node)->aggfilter;
            break;
        case T_WindowFunc:
            if (((WindowFunc *) node)->aggfilter == NULL)
                return NULL;
            node = (Node *) ((WindowFunc *) node)->aggfilter;
            break;
        default:
            return NULL;
    }
    /* conditions before a call would be evaluated twice */
    if (contain_subplans(node))
        return "a subquery decides whether it is wanted";
    return slm_batch_traits_of(&s->of, node).is_volatile ? "a volatile function decides whether it is wanted" : NULL;
}

static const char *why_of_call(FuncExpr *call, Search *s)
{
    if (slm_batch_traits_of(&s->of, call->args).is_volatile)
        return "its arguments are volatile";
    return contain_subplans((Node *) call->args) && IsA(s->plan, CustomScan) ? "a subquery is among its arguments" : NULL;
}

static bool search_walker(Node *node, Search *s)
{
    const char *saved = s->why;

    if (node == NULL)
        return false;
    if (IsA(node, CaseExpr) && ((CaseExpr *) node)->location == LOWERED_CASE)
        return false; /* computed below */
    if (IsA(node, FuncExpr) && slm_pg_batchable(((FuncExpr *) node)->funcid)) {
        const char *why = s->why != NULL ? s->why : why_of_call((FuncExpr *) node, s);

        add_missed(s, (FuncExpr *) node, why != NULL ? why : why_of(s));
    }
    if (IsA(node, FuncExpr) && slm_pg_batch_answers_set(((FuncExpr *) node)->funcid))
        add_missed(s, (FuncExpr *) node, "it returns a set, one call at a time");
    if (s->why == NULL)
        s->why = why_around(node, s);
    (void) expression_tree_walker(node, search_walker, s);
    s->why = saved;
    return false;
}

static void search(Search *s, Plan *plan, void *expression, const char *part, const char *why)
{
    s->plan = plan;
    s->part = part;
    s->why = slm_enable_batch ? why : "slm.enable_batch is off";
    (void) search_walker(expression, s);
}

static void search_joinqual(Search *s, Plan *plan)
{
    Join *join = (Join *) plan;
    bool inner = join->jointype == JOIN_INNER, semi = join->jointype == JOIN_SEMI || join->jointype == JOIN_ANTI;

    search(s, plan, join->joinqual, "the condition",
           inner ? NULL : semi ? "EXISTS stops at the first match" : "an outer join must know at once whether a row has a match");
}

static void search_modify(Search *s, ModifyTable *modify)
{
    const char *why = "it is evaluated as each row is written";

    search(s, &modify->plan, modify->returningLists, "RETURNING", why);
    search(s, &modify->plan, list_make2(modify->onConflictSet, modify->onConflictWhere), "ON CONFLICT", why);
    search(s, &modify->plan, modify->mergeActionLists, "MERGE", why);
}

static void search_plan(Search *s, Plan *plan)
{
    ListCell *cell;

    if (plan == NULL)
        return;
    if (!IsA(plan, ModifyTable)) /* its target list is that of RETURNING */
        search(s, plan, plan->targetlist, NULL, NULL);
    search(s, plan, plan->qual, NULL, NULL);
    switch (nodeTag(plan)) {
        case T_NestLoop:
            search_joinqual(s, plan);
            break;
        case T_MergeJoin:
            search(s, plan, ((MergeJoin *) plan)->mergeclauses, "a key", "it is a key of a merge join");
            search_joinqual(s, plan);
            break;
        case T_HashJoin:
            search(s, plan, ((HashJoin *) plan)->hashclauses, "a key", NULL);
            search_joinqual(s, plan);
            break;
        case T_IndexScan:
            search(s, plan, ((IndexScan *) plan)->indexqualorig, "the index condition", "it is computed once, before the scan");
            break;
        case T_BitmapHeapScan:
            search(s, plan, ((BitmapHeapScan *) plan)->bitmapqualorig, "the index condition", "it is computed once, before the scan");
            break;
        case T_IndexOnlyScan:
            search(s, plan, ((IndexOnlyScan *) plan)->indexqual, "the index condition", "it is computed once, before the scan");
            break;
        case T_FunctionScan:
            search(s, plan, ((FunctionScan *) plan)->functions, NULL, NULL);
            break;
        case T_ValuesScan:
            search(s, plan, ((ValuesScan *) plan)->values_lists, NULL, NULL);
            break;
        case T_Result:
            search(s, plan, ((Result *) plan)->resconstantqual, NULL, "it is evaluated once");
            break;
        case T_ModifyTable:
            search_modify(s, (ModifyTable *) plan);
            break;
        case T_CustomScan: { /* the calls are its own; quals may hold some that stay */
            CustomScan *scan = (CustomScan *) plan;

            if (scan->methods == &slm_batch_scan_methods)
                search(s, plan, lthird(scan->custom_exprs), NULL, NULL);
            else
                search(s, plan, scan->custom_exprs, NULL, NULL);
            break;
        }
        default:
            break;
    }
    foreach (cell, slm_pg_batch_child_plans(plan))
        search_plan(s, lfirst(cell));
    search_plan(s, plan->lefttree);
    search_plan(s, plan->righttree);
}

List *slm_pg_batch_missed(PlannedStmt *stmt)
{
    Search s = {.stmt = stmt, .of = {.stmt = stmt}};
    ListCell *cell;

    search_plan(&s, stmt->planTree);
    foreach (cell, stmt->subplans)
        search_plan(&s, lfirst(cell));
    return s.found;
}
