/*
 * Expressions as EXPLAIN shows them: for people.
 *
 *   planned   slm_classify(body, '{a,b}'::text[], NULL::text, 'auto'::text, NULL::text, '0.4'::double precision, NULL::jsonb, ...)
 *   shown     slm_classify(body, '{a,b}', threshold => 0.4)
 *
 * Deparsing is the server's own; what it is given is a copy that nobody runs: arguments at their default are gone, those after them are
 * named, constants are of type unknown, so that they carry no cast.  A whole plan is changed in place, when its execution has ended.
 */
#include "pg/batch/pretty.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pg_list.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "pg/batch/batch.h"
#include "pg/batch/expression.h"
#include "pg/functions/asking.h"
#include "pg/functions/classification.h"
#include "pg/models/catalog.h"
#include "pg/run/work.h"

#define SHOWN_BYTES 60 /* of a constant */

static Node *pretty_mutator(Node *node, void *context);

/* ---------------------------------------------------------------- constants */

static char *shortened(const char *s)
{
    int length = (int) strlen(s);

    return length <= SHOWN_BYTES ? pstrdup(s) : psprintf("%.*s...", pg_mbcliplen(s, length, SHOWN_BYTES - 3), s);
}

static char *output_of(const Const *c)
{
    Oid function;
    bool is_varlena;

    getTypeOutputInfo(c->consttype, &function, &is_varlena);
    return OidOutputFunctionCall(function, c->constvalue);
}

/* A constant beside an operator keeps its type, which the operator is found by. */
static Node *pretty_const(Const *c)
{
    char *s;

    if (c->constisnull || c->consttype != TEXTOID)
        return (Node *) c;
    s = output_of(c);
    if (strlen(s) <= SHOWN_BYTES)
        return (Node *) c;
    return (Node *) makeConst(TEXTOID, c->consttypmod, c->constcollid, -1, CStringGetTextDatum(shortened(s)), false, false);
}

/* An argument of a call: no cast is needed to read it. */
static Node *pretty_argument(Node *arg)
{
    Const *c = (Const *) arg;
    char *s;

    if (!IsA(arg, Const) || c->constisnull || c->consttype == INT4OID || c->consttype == BOOLOID)
        return pretty_mutator(arg, NULL);
    s = output_of(c);
    if (c->consttype == FLOAT8OID && strspn(s, "-.0123456789") == strlen(s)) {
        Datum number = DirectFunctionCall3(numeric_in, CStringGetDatum(s), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));

        return (Node *) makeConst(NUMERICOID, -1, InvalidOid, -1, number, false, false);
    }
    if (c->consttype == INT8OID && (int64) (int32) DatumGetInt64(c->constvalue) == DatumGetInt64(c->constvalue))
        return (Node *) makeConst(INT4OID, -1, InvalidOid, sizeof(int32), Int32GetDatum((int32) DatumGetInt64(c->constvalue)), false, true);
    return (Node *) makeConst(UNKNOWNOID, -1, InvalidOid, -2, CStringGetDatum(shortened(s)), false, false);
}

/* ---------------------------------------------------------------- calls */

/* The defaults of a function's last arguments, as the planner would put them into a call. */
static List *defaults_of(HeapTuple function)
{
    bool isnull;
    Datum value = SysCacheGetAttr(PROCOID, function, Anum_pg_proc_proargdefaults, &isnull);

    return isnull ? NIL : (List *) eval_const_expressions(NULL, stringToNode(TextDatumGetCString(value)));
}

static Node *named(Node *arg, char *name, int number)
{
    NamedArgExpr *result = makeNode(NamedArgExpr);

    result->arg = (Expr *) arg;
    result->name = pstrdup(name);
    result->argnumber = number;
    result->location = -1;
    return (Node *) result;
}

static Node *pretty_call(FuncExpr *call)
{
    HeapTuple function = SearchSysCache1(PROCOID, ObjectIdGetDatum(call->funcid));
    FuncExpr *result;
    List *defaults, *args = NIL;
    char **names, *modes;
    Oid *types;
    int n, first_default;
    bool left_out = false;
    ListCell *cell;

    if (!HeapTupleIsValid(function))
        return (Node *) call;
    n = get_func_arg_info(function, &types, &names, &modes);
    defaults = defaults_of(function);
    first_default = list_length(call->args) - list_length(defaults);
    ReleaseSysCache(function);
    if (names == NULL || n < list_length(call->args) || first_default < 0)
        return expression_tree_mutator((Node *) call, pretty_mutator, NULL);
    foreach (cell, call->args) {
        int i = foreach_current_index(cell);
        Node *arg = lfirst(cell);

        if (IsA(arg, NamedArgExpr)) /* shown already */
            return (Node *) call;
        if (i >= first_default && equal(arg, list_nth(defaults, i - first_default))) {
            left_out = true;
            continue;
        }
        arg = pretty_argument(arg);
        args = lappend(args, left_out ? named(arg, names[i], i) : arg);
    }
    result = makeNode(FuncExpr);
    memcpy(result, call, sizeof *result);
    result->args = args;
    return (Node *) result;
}

static bool runs_model(Oid function)
{
    const SlmWorkKind *kind = slm_pg_work_kind(function);

    return kind != NULL && kind->symbol != NULL && kind->answers != SLM_ANSWERS_NO_MODEL;
}

static Node *pretty_mutator(Node *node, void *context)
{
    if (node == NULL)
        return NULL;
    if (IsA(node, Const))
        return pretty_const((Const *) node);
    if (IsA(node, FuncExpr) && runs_model(((FuncExpr *) node)->funcid))
        return pretty_call((FuncExpr *) node);
    if (IsA(node, CaseExpr) && ((CaseExpr *) node)->location == LOWERED_CASE)
        return pretty_mutator((Node *) linitial_node(CaseWhen, ((CaseExpr *) node)->args)->result, context);
    return expression_tree_mutator(node, pretty_mutator, context);
}

void *slm_pg_batch_pretty(void *expression)
{
    return pretty_mutator(expression, NULL);
}

/* ---------------------------------------------------------------- plans */

/* Expressions that only nodes of this type have, as far as EXPLAIN prints them. */
static void pretty_own(Plan *plan)
{
#define PRETTY(type, field) ((type *) plan)->field = slm_pg_batch_pretty(((type *) plan)->field)
    switch (nodeTag(plan)) {
        case T_NestLoop:
            PRETTY(Join, joinqual);
            break;
        case T_MergeJoin:
            PRETTY(Join, joinqual);
            PRETTY(MergeJoin, mergeclauses);
            break;
        case T_HashJoin:
            PRETTY(Join, joinqual);
            PRETTY(HashJoin, hashclauses);
            break;
        case T_IndexScan:
            PRETTY(IndexScan, indexqualorig);
            PRETTY(IndexScan, indexorderbyorig);
            break;
        case T_IndexOnlyScan:
            PRETTY(IndexOnlyScan, indexqual);
            PRETTY(IndexOnlyScan, indexorderby);
            break;
        case T_BitmapIndexScan:
            PRETTY(BitmapIndexScan, indexqualorig);
            break;
        case T_BitmapHeapScan:
            PRETTY(BitmapHeapScan, bitmapqualorig);
            break;
        case T_FunctionScan:
            PRETTY(FunctionScan, functions);
            break;
        case T_Result:
            PRETTY(Result, resconstantqual);
            break;
        case T_ModifyTable:
            PRETTY(ModifyTable, onConflictWhere);
            break;
        case T_CustomScan:
            PRETTY(CustomScan, custom_scan_tlist);
            break;
        default:
            break;
    }
#undef PRETTY
}

static bool is_lowered(const Plan *plan)
{
    return plan != NULL && IsA(plan, CustomScan) && ((const CustomScan *) plan)->methods == &slm_batch_scan_methods &&
           (intVal(list_nth(((const CustomScan *) plan)->custom_private, SLM_BATCH_FLAGS)) & SLM_BATCH_LOWERED) != 0;
}

static void pretty_plan(Plan *plan)
{
    ListCell *cell;

    if (plan == NULL)
        return;
    if (is_lowered(plan) || (IsA(plan, Hash) && is_lowered(plan->lefttree))) /* the last column says whether calls were computed */
        plan->targetlist = list_delete_last(list_copy(plan->targetlist));
    plan->targetlist = slm_pg_batch_pretty(plan->targetlist);
    plan->qual = slm_pg_batch_pretty(plan->qual);
    pretty_own(plan);
    foreach (cell, slm_pg_batch_child_plans(plan))
        pretty_plan(lfirst(cell));
    pretty_plan(plan->lefttree);
    pretty_plan(plan->righttree);
}

void slm_pg_batch_pretty_plan(PlannedStmt *stmt)
{
    ListCell *cell;

    foreach (cell, stmt->subplans)
        pretty_plan(lfirst(cell));
    pretty_plan(stmt->planTree);
}

/* ---------------------------------------------------------------- models */

/* The text of a named argument: *known is false where it depends on the row; NULL where it is not given. */
static char *argument(FuncExpr *call, const char *name, bool *known)
{
    HeapTuple function = SearchSysCache1(PROCOID, ObjectIdGetDatum(call->funcid));
    char **names, *modes, *result = NULL;
    Oid *types;
    int n;

    *known = true;
    if (!HeapTupleIsValid(function))
        return NULL;
    n = get_func_arg_info(function, &types, &names, &modes);
    ReleaseSysCache(function);
    for (int i = 0; names != NULL && i < n && i < list_length(call->args); i++) {
        Const *c = list_nth(call->args, i);

        if (strcmp(names[i], name) != 0)
            continue;
        *known = IsA(c, Const);
        result = *known && !c->constisnull ? output_of(c) : NULL;
    }
    return result;
}

/* How slm_classify goes about it with a model ("base+adapter" is of the base's kind). NULL: there is one way, or the model's head says. */
static const char *method_of(FuncExpr *call, const SlmWorkKind *kind, const char *model)
{
    const SlmModelRow *row = slm_pg_find_model(pnstrdup(model, strcspn(model, "+")));
    bool known;
    const char *method = argument(call, "method", &known);

    if (!known)
        return "method by row";
    if (method == NULL || strcmp(method, "auto") != 0)
        return method;
    if (row == NULL || kind->task != SLM_TASK_CLASSIFY || (!row->can_generate && !row->can_embed))
        return NULL;
    return kind->decides ? slm_pg_decision_method(row->can_generate, row->parameters)
                         : slm_pg_auto_method(row->can_generate, row->parameters);
}

/* The encoder that leaves a few of the labels over, behind the model's name; nothing where there is none. */
static const char *shortlist_of(FuncExpr *call)
{
    bool known, model_known;
    const char *size = argument(call, "shortlist", &known), *model = argument(call, "shortlist_model", &model_known);

    if (known && size == NULL)
        return "";
    if (model_known && model == NULL)
        model = slm_pg_default_model(SLM_TASK_EMBED);
    return psprintf(" on a short list%s%s by %s", known ? " of " : "", known ? size : "",
                    !model_known ? "a model by row" : model == NULL ? "none that is set" : model);
}

char *slm_pg_batch_model_of(FuncExpr *call)
{
    const SlmWorkKind *kind = slm_pg_work_kind(call->funcid);
    bool known;
    const char *name = argument(call, "classifier", &known), *method;

    if (!known)
        return pstrdup("a classifier by row");
    if (name != NULL)
        return psprintf("classifier %s", name);
    name = argument(call, "cascade", &known);
    if (!known)
        return pstrdup("a cascade by row");
    if (name != NULL)
        return psprintf("cascade %s", name);
    name = argument(call, "model", &known);
    if (!known)
        return pstrdup("by row");
    if (name == NULL)
        name = slm_pg_default_model(kind->task);
    if (name == NULL)
        return pstrdup("none is set");
    method = method_of(call, kind, name);
    return method == NULL ? pstrdup(name) : psprintf("%s (%s)%s", name, method, shortlist_of(call));
}
