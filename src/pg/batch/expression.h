/*
 * Expressions of a plan node in terms of the columns of the Batch above (or below) it: expression.c, for plan.c.
 */
#ifndef SLM_PG_BATCH_EXPRESSION_H
#define SLM_PG_BATCH_EXPRESSION_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "nodes/primnodes.h"

#include "pg/batch/batch.h"

/* INDEX_VAR attribute numbers of calls begin here until the number of leaves is known; no tuple is so wide. */
#define CALL_BASE 10000
#define LOWERED_CASE (-7) /* location of the CASE that takes such a column where it has been computed */
#define COMPUTED (CALL_BASE - 1) /* the column of SLM_BATCH_LOWERED */

typedef struct PlannedCall {
    FuncExpr *call; /* arguments in terms of INDEX_VAR */
    Expr *guard;    /* or NULL: always evaluated */
    int stage, level;
} PlannedCall;

typedef struct Rewrite {
    List *leaves; /* of TargetEntry: what the child must output */
    List *calls;  /* of PlannedCall */
    List *guard;  /* of Expr: under which conditions the place at hand is evaluated */
    int stage;
    bool frozen;       /* nothing may be lifted here */
    bool fixed_leaves; /* leaves are the child's target list as it stands: OUTER_VAR n is leaf n */
    bool whole_frames; /* of a WindowAgg: they begin with the partition and end with the current row or later */
    const SlmBatchPlan *of;
} Rewrite;

/* Is there a call in the expression, but for arguments of aggregates and window functions, and subqueries? */
bool slm_batch_has_call(Node *node);

SlmBatchTraits slm_batch_traits_of(const SlmBatchPlan *of, void *expression);

Expr *slm_batch_boolean_test(Expr *arg, BoolTestType type);
Expr *slm_batch_null_test(Expr *arg, NullTestType type);

/* Rewrites an expression: leaves become columns of the child, calls are lifted and become columns too, numbered from CALL_BASE.
 * A mutator: every call of it with the same Rewrite adds to its leaves and calls. */
Node *slm_batch_to_columns(Node *node, Rewrite *rw);

/* Turns calls that differ from row to row in their arguments only into one in the target list (values.c). */
void slm_batch_spread_values(ValuesScan *scan, PlannedStmt *stmt);

/* Gives calls their final column numbers, behind n_leaves leaves. */
void *slm_batch_fix_calls(void *expr, int n_leaves);

#endif
