/*
 * Calls in a VALUES list: one expression for all rows.
 *
 *   VALUES ('a', slm_generate('x')), ('b', slm_generate('y', max_tokens => 9))
 *   becomes  VALUES ('a', NULL, 'x', 256), ('b', NULL, 'y', 9)  with  slm_generate(#3, max_tokens => #4) in place of column 2
 *
 * so that the calls stand in the target list of the scan, where plan.c finds them.  A scan of VALUES computes all columns of a row, from
 * left to right; so only where each such column is returned, nothing is filtered, and nothing that is computed after a call can fail.
 */
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pg_list.h"
#include "optimizer/clauses.h"
#include "parser/parsetree.h"

#include "pg/batch/batch.h"
#include "pg/batch/expression.h"
#include "pg/batch/refusal.h"

typedef struct Spread {
    Index relid;
    List *rows;    /* of List: what the scan is to compute; grows by columns */
    int n_columns; /* now */
    bool after_call; /* a call has been met, in the order of evaluation */
    bool failed;
} Spread;

static Node *common(List *nodes, Spread *spread);

/* The expressions of all rows become a new column. */
static Node *new_column(List *nodes, Spread *spread)
{
    Node *first = linitial(nodes);
    ListCell *cell, *row;

    forboth (cell, nodes, row, spread->rows) {
        Node *node = lfirst(cell);

        if (slm_batch_has_call(node) || exprType(node) != exprType(first) || exprCollation(node) != exprCollation(first) ||
            (spread->after_call && !IsA(node, Const) && !IsA(node, Param)))
            spread->failed = true;
        lfirst(row) = lappend(lfirst(row), node);
    }
    spread->n_columns++;
    return (Node *) makeVar(spread->relid, (AttrNumber) spread->n_columns, exprType(first), exprTypmod(first), exprCollation(first), 0);
}

/* What the n-th argument of all these nodes has in common, for each n. */
static List *common_args(List *nodes, List *(*args_of)(Node *), Spread *spread)
{
    int n = list_length(args_of(linitial(nodes)));
    List *result = NIL;

    for (int i = 0; i < n; i++) {
        List *args = NIL;
        ListCell *cell;

        foreach (cell, nodes)
            args = lappend(args, list_nth(args_of(lfirst(cell)), i));
        result = lappend(result, common(args, spread));
    }
    return result;
}

static List *function_args(Node *node)
{
    return ((FuncExpr *) node)->args;
}

static List *operator_args(Node *node)
{
    return ((OpExpr *) node)->args;
}

/* Do two nodes differ in their arguments only? */
static bool same_head(Node *a, Node *b)
{
    if (nodeTag(a) != nodeTag(b))
        return false;
    if (IsA(a, FuncExpr)) {
        FuncExpr *x = (FuncExpr *) a, *y = (FuncExpr *) b;

        return x->funcid == y->funcid && x->funcresulttype == y->funcresulttype && x->inputcollid == y->inputcollid &&
               list_length(x->args) == list_length(y->args);
    }
    return IsA(a, OpExpr) && ((OpExpr *) a)->opno == ((OpExpr *) b)->opno && ((OpExpr *) a)->inputcollid == ((OpExpr *) b)->inputcollid &&
           list_length(((OpExpr *) a)->args) == list_length(((OpExpr *) b)->args);
}

/* One expression that gives the values of `nodes`, a node of each row. */
static Node *common(List *nodes, Spread *spread)
{
    Node *first = linitial(nodes);
    bool same = true;
    ListCell *cell;
    Node *result;

    if (IsA(first, Const)) {
        foreach (cell, nodes)
            same = same && equal(lfirst(cell), first);
        if (same)
            return first;
    }
    if (!slm_batch_has_call((Node *) nodes))
        return new_column(nodes, spread);
    foreach (cell, nodes)
        same = same && same_head(first, lfirst(cell));
    if (!same) {
        spread->failed = true;
        return first;
    }
    result = copyObject(first);
    if (IsA(first, FuncExpr)) {
        ((FuncExpr *) result)->args = common_args(nodes, function_args, spread);
        spread->after_call = spread->after_call || slm_pg_batchable(((FuncExpr *) first)->funcid);
    } else {
        ((OpExpr *) result)->args = common_args(nodes, operator_args, spread);
    }
    return result;
}

/* Is column `column` returned as it is? */
static bool is_returned(const ValuesScan *scan, int column)
{
    ListCell *cell;

    foreach (cell, scan->scan.plan.targetlist) {
        Var *var = (Var *) lfirst_node(TargetEntry, cell)->expr;

        if (IsA(var, Var) && var->varno == (int) scan->scan.scanrelid && var->varattno == column)
            return true;
    }
    return false;
}

typedef struct Columns {
    Index relid;
    List *expressions; /* of the old columns; NULL: as before */
} Columns;

static Node *replace_mutator(Node *node, Columns *columns)
{
    if (node == NULL)
        return NULL;
    if (IsA(node, Var) && ((Var *) node)->varno == (int) columns->relid && ((Var *) node)->varattno > 0) {
        Node *expression = list_nth(columns->expressions, ((Var *) node)->varattno - 1);

        return expression != NULL ? copyObject(expression) : node;
    }
    return expression_tree_mutator(node, replace_mutator, columns);
}

/* Names for the new columns, for EXPLAIN. */
static void name_columns(PlannedStmt *stmt, Index relid, int n)
{
    RangeTblEntry *entry = rt_fetch(relid, stmt->rtable);

    entry->eref = copyObject(entry->eref);
    while (list_length(entry->eref->colnames) < n)
        entry->eref->colnames =
            lappend(entry->eref->colnames, makeString(psprintf("column%d", list_length(entry->eref->colnames) + 1)));
}

void slm_batch_spread_values(ValuesScan *scan, PlannedStmt *stmt)
{
    Plan *plan = &scan->scan.plan;
    Spread spread = {.relid = scan->scan.scanrelid, .n_columns = list_length(linitial(scan->values_lists))};
    Columns columns = {.relid = spread.relid};
    int n_columns = spread.n_columns;
    ListCell *cell;

    if (!slm_batch_has_call((Node *) scan->values_lists))
        return;
    foreach (cell, scan->values_lists)
        spread.rows = lappend(spread.rows, list_copy(lfirst(cell)));
    for (int i = 0; i < n_columns; i++) {
        List *nodes = NIL;
        Node *expression = NULL;

        foreach (cell, scan->values_lists)
            nodes = lappend(nodes, list_nth(lfirst(cell), i));
        if (slm_batch_has_call((Node *) nodes)) {
            if (!is_returned(scan, i + 1))
                spread.failed = true;
            expression = common(nodes, &spread);
            foreach (cell, spread.rows)
                list_nth_cell(lfirst(cell), i)->ptr_value =
                    makeNullConst(exprType(linitial(nodes)), exprTypmod(linitial(nodes)), exprCollation(linitial(nodes)));
        } else if (spread.after_call) {
            foreach (cell, nodes)
                spread.failed = spread.failed || !(IsA(lfirst(cell), Const) || IsA(lfirst(cell), Param));
        }
        columns.expressions = lappend(columns.expressions, expression);
    }
    if (spread.failed || plan->qual != NIL || contain_subplans((Node *) scan->values_lists)) {
        slm_pg_batch_refuse(plan, "%s", spread.failed
                                            ? "rows of VALUES differ in more than the arguments of calls, or compute something after them"
                                            : "conditions or subqueries stand beside calls in VALUES");
        return;
    }
    scan->values_lists = spread.rows;
    plan->targetlist = (List *) replace_mutator((Node *) plan->targetlist, &columns);
    name_columns(stmt, spread.relid, spread.n_columns);
}
