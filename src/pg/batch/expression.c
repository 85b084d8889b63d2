/*
 * Rewrites expressions for a Batch node: what the child computes (leaves), what is a call, and when plain execution evaluates it.
 *
 *   CASE WHEN a > 1 THEN slm_generate(b) END     leaves a, b; call 0 = slm_generate(#2), guard #1 > 1;     CASE WHEN #1 > 1 THEN #3 END
 *
 * Invariant: a call is lifted only if the batch evaluates it for exactly the rows for which plain execution would; guards stand for CASE,
 * COALESCE, AND and OR.  What is not understood is frozen: its leaves become columns, its calls stay calls.
 */
#include "pg/batch/expression.h"

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pg_list.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"

#include "pg/batch/batch.h"

static bool contains_call_walker(Node *node, void *context)
{
    if (node == NULL)
        return false;
    if (IsA(node, FuncExpr) && slm_pg_batchable(((FuncExpr *) node)->funcid))
        return true;
    if (IsA(node, Aggref) || IsA(node, WindowFunc) || IsA(node, SubPlan))
        return false; /* their own arguments are another matter */
    return expression_tree_walker(node, contains_call_walker, context);
}

bool slm_batch_has_call(Node *node)
{
    return contains_call_walker(node, NULL);
}

SlmBatchTraits slm_batch_traits_of(const SlmBatchPlan *of, void *expression)
{
    SlmBatchTraits traits = {0};

    slm_pg_batch_inspect_expression(of, expression, &traits);
    return traits;
}

/* The INDEX_VAR for a leaf expression, added to the child's output where it is new. */
static Var *leaf_var(Rewrite *rw, Expr *leaf)
{
    ListCell *cell;
    TargetEntry *entry;

    if (rw->fixed_leaves) {
        Var *var = castNode(Var, leaf);

        return makeVar(INDEX_VAR, var->varattno, var->vartype, var->vartypmod, var->varcollid, 0);
    }
    foreach (cell, rw->leaves) {
        entry = lfirst_node(TargetEntry, cell);
        if (equal(entry->expr, leaf))
            return makeVarFromTargetEntry(INDEX_VAR, entry);
    }
    entry = makeTargetEntry(copyObject(leaf), list_length(rw->leaves) + 1, NULL, false);
    rw->leaves = lappend(rw->leaves, entry);
    return makeVarFromTargetEntry(INDEX_VAR, entry);
}

typedef struct CallLevel {
    Rewrite *rw;
    int level;
} CallLevel;

static bool call_level_walker(Node *node, CallLevel *context)
{
    if (node == NULL)
        return false;
    if (IsA(node, Var) && ((Var *) node)->varno == INDEX_VAR && ((Var *) node)->varattno >= CALL_BASE) {
        PlannedCall *call = list_nth(context->rw->calls, ((Var *) node)->varattno - CALL_BASE);

        if (call->stage == context->rw->stage)
            context->level = Max(context->level, call->level + 1);
        return false;
    }
    return expression_tree_walker(node, call_level_walker, context);
}

/* The INDEX_VAR for the result of a call whose arguments are rewritten already.  Equal calls share one where the first is always
 * computed. */
static Var *call_var(Rewrite *rw, FuncExpr *call)
{
    Expr *guard = rw->guard == NIL ? NULL : list_length(rw->guard) == 1 ? linitial(rw->guard) : make_andclause(list_copy(rw->guard));
    CallLevel context = {rw, 0};
    PlannedCall *planned;
    ListCell *cell;
    int index = -1;

    foreach (cell, rw->calls) {
        planned = lfirst(cell);
        if (equal(planned->call, call) && (planned->guard == NULL || (planned->stage == rw->stage && equal(planned->guard, guard))))
            index = foreach_current_index(cell);
    }
    if (index < 0) {
        planned = palloc0(sizeof *planned);
        call_level_walker((Node *) call->args, &context);
        call_level_walker((Node *) guard, &context);
        planned->call = call;
        planned->guard = copyObject(guard);
        planned->stage = rw->stage;
        planned->level = context.level;
        index = list_length(rw->calls);
        rw->calls = lappend(rw->calls, planned);
    }
    return makeVar(INDEX_VAR, CALL_BASE + index, call->funcresulttype, -1, call->funccollid, 0);
}

Expr *slm_batch_boolean_test(Expr *arg, BoolTestType type)
{
    BooleanTest *test = makeNode(BooleanTest);

    test->arg = arg;
    test->booltesttype = type;
    test->location = -1;
    return (Expr *) test;
}

Expr *slm_batch_null_test(Expr *arg, NullTestType type)
{
    NullTest *test = makeNode(NullTest);

    test->arg = arg;
    test->nulltesttype = type;
    test->argisrow = false;
    test->location = -1;
    return (Expr *) test;
}

/* AND, OR: an argument is evaluated unless one before it has decided. */
static Node *rewrite_bool(BoolExpr *expr, Rewrite *rw)
{
    List *saved = rw->guard;
    List *args = NIL;
    ListCell *cell;

    foreach (cell, expr->args) {
        Expr *arg = (Expr *) slm_batch_to_columns(lfirst(cell), rw);

        args = lappend(args, arg);
        if (expr->boolop != NOT_EXPR)
            rw->guard = lappend(list_copy(rw->guard), slm_batch_boolean_test(arg, expr->boolop == AND_EXPR ? IS_NOT_FALSE : IS_NOT_TRUE));
    }
    rw->guard = saved;
    return (Node *) makeBoolExpr(expr->boolop, args, expr->location);
}

/* CASE WHEN: a condition is evaluated unless one before it was true, a result if its condition is. */
static Node *rewrite_case(CaseExpr *expr, Rewrite *rw)
{
    CaseExpr *result = makeNode(CaseExpr);
    List *saved = rw->guard;
    ListCell *cell;

    memcpy(result, expr, sizeof *result);
    result->args = NIL;
    foreach (cell, expr->args) {
        CaseWhen *when = lfirst_node(CaseWhen, cell);
        CaseWhen *copy = makeNode(CaseWhen);
        List *before = rw->guard;

        copy->location = when->location;
        copy->expr = (Expr *) slm_batch_to_columns((Node *) when->expr, rw);
        rw->guard = lappend(list_copy(before), slm_batch_boolean_test(copy->expr, IS_TRUE));
        copy->result = (Expr *) slm_batch_to_columns((Node *) when->result, rw);
        rw->guard = lappend(list_copy(before), slm_batch_boolean_test(copy->expr, IS_NOT_TRUE));
        result->args = lappend(result->args, copy);
    }
    result->defresult = (Expr *) slm_batch_to_columns((Node *) expr->defresult, rw);
    rw->guard = saved;
    return (Node *) result;
}

static Node *rewrite_coalesce(CoalesceExpr *expr, Rewrite *rw)
{
    CoalesceExpr *result = makeNode(CoalesceExpr);
    List *saved = rw->guard;
    ListCell *cell;

    memcpy(result, expr, sizeof *result);
    result->args = NIL;
    foreach (cell, expr->args) {
        Expr *arg = (Expr *) slm_batch_to_columns(lfirst(cell), rw);

        result->args = lappend(result->args, arg);
        rw->guard = lappend(list_copy(rw->guard), slm_batch_null_test(arg, IS_NULL));
    }
    rw->guard = saved;
    return (Node *) result;
}

/* Rewrites with nothing lifted: leaves become columns, calls stay calls. */
static Node *rewrite_frozen(Node *node, Rewrite *rw)
{
    bool saved = rw->frozen;
    Node *result;

    rw->frozen = true;
    result = expression_tree_mutator(node, slm_batch_to_columns, rw);
    rw->frozen = saved;
    return result;
}

/* A call becomes a column.  Arguments with subqueries are the child's to compute, which is right where every row wants the call. */
static Node *rewrite_call(FuncExpr *call, Rewrite *rw)
{
    FuncExpr *result = makeNode(FuncExpr);
    ListCell *cell;

    if (slm_batch_traits_of(rw->of, call->args).is_volatile)
        return rewrite_frozen((Node *) call, rw);
    foreach (cell, call->args)
        if (contain_subplans(lfirst(cell)) && (rw->guard != NIL || rw->stage > 0 || rw->fixed_leaves || slm_batch_has_call(lfirst(cell))))
            return rewrite_frozen((Node *) call, rw);

    memcpy(result, call, sizeof *result);
    result->args = NIL;
    foreach (cell, call->args) {
        Node *arg = lfirst(cell);

        result->args = lappend(result->args, contain_subplans(arg) ? (Node *) leaf_var(rw, (Expr *) arg) : slm_batch_to_columns(arg, rw));
    }
    return (Node *) call_var(rw, result);
}

/* x[i]: x is always evaluated, subscripts unless one before them was NULL. */
static Node *rewrite_subscript(SubscriptingRef *ref, Rewrite *rw)
{
    SubscriptingRef *result;
    SubscriptingRef subscripts = *ref;

    if (ref->refassgnexpr != NULL)
        return rewrite_frozen((Node *) ref, rw);
    subscripts.refexpr = NULL;
    result = (SubscriptingRef *) rewrite_frozen((Node *) &subscripts, rw);
    result->refexpr = (Expr *) slm_batch_to_columns((Node *) ref->refexpr, rw);
    return (Node *) result;
}

/* An expression of X in terms of Batch's columns. */
Node *slm_batch_to_columns(Node *node, Rewrite *rw)
{
    if (node == NULL)
        return NULL;
    switch (nodeTag(node)) {
        case T_Var:
        case T_Aggref:
        case T_WindowFunc:
        case T_GroupingFunc:
            return (Node *) leaf_var(rw, (Expr *) node);
        case T_FuncExpr:
            if (slm_pg_batchable(((FuncExpr *) node)->funcid) && !rw->frozen)
                return rewrite_call((FuncExpr *) node, rw);
            break;
        case T_BoolExpr:
        case T_CoalesceExpr:
        case T_CaseExpr:
            /* Conditions before a call are evaluated twice, for the guard and in place: only if that is the same. */
            if (rw->frozen || !slm_batch_has_call(node))
                break;
            if (contain_subplans(node) || slm_batch_traits_of(rw->of, node).is_volatile)
                return rewrite_frozen(node, rw);
            if (IsA(node, BoolExpr))
                return rewrite_bool((BoolExpr *) node, rw);
            if (IsA(node, CoalesceExpr))
                return rewrite_coalesce((CoalesceExpr *) node, rw);
            if (((CaseExpr *) node)->arg == NULL)
                return rewrite_case((CaseExpr *) node, rw);
            return rewrite_frozen(node, rw);
        case T_SubPlan:
        case T_ArrayCoerceExpr: /* their inner expressions are evaluated per element, or per row of another plan */
        case T_FieldStore:
        case T_RowCompareExpr: /* left where a column decides */
            if (!rw->frozen)
                return rewrite_frozen(node, rw);
            break;
        case T_SubscriptingRef:
            if (!rw->frozen)
                return rewrite_subscript((SubscriptingRef *) node, rw);
            break;
        default:
            break;
    }
    return expression_tree_mutator(node, slm_batch_to_columns, rw);
}

/* Gives calls their final column numbers. */
static Node *fix_mutator(Node *node, int *n_leaves)
{
    if (node == NULL)
        return NULL;
    if (IsA(node, Var) && ((Var *) node)->varno == INDEX_VAR && ((Var *) node)->varattno >= CALL_BASE) {
        Var *var = copyObject((Var *) node);

        var->varattno = var->varattno - CALL_BASE + *n_leaves + 1;
        var->varattnosyn = 0;
        var->varnosyn = 0;
        return (Node *) var;
    }
    return expression_tree_mutator(node, fix_mutator, n_leaves);
}

void *slm_batch_fix_calls(void *expr, int n_leaves)
{
    return fix_mutator(expr, &n_leaves);
}
