/*
 * SLM Batch: the executor node that computes slm_* calls for many rows at once (DESIGN D9, docs/BATCH.md).
 *
 *   plan.c       after the planner: finds calls, puts a CustomScan above their node, or below it for arguments of aggregates and keys of
 *                joins
 *   expression.c what of an expression the child computes, what is a call, and when it is wanted
 *   sample.c     a node of a statement that is estimated; estimate.c: slm_estimate
 *   values.c     calls in VALUES lists
 *   safety.c     where reading ahead would show
 *   parallel.c   marks nodes that run in workers
 *   exec.c       reads rows ahead, runs the calls stage by stage, emits rows in order
 *   hooks.c      which SQL functions can be batched, and the planner hook
 *   support.c    what calls cost, for the planner
 *   expect.c     how many rows a node will do
 *   explain.c    counters for EXPLAIN
 *   forecast.c   the tokens and minutes that EXPLAIN expects
 *   stream.c     before the planner: a stream in FROM is read row by row
 *   statement.c  what EXPLAIN shows of the whole statement
 *   refusal.c    why calls are not batched
 *   pretty.c     expressions as people read them
 *
 * A planned node in the plan tree (everything survives nodeToString, for parallel workers):
 *
 *   custom_scan_tlist   leaves 1..n_leaves: the child's output columns; then one column per call
 *   custom_exprs        [(calls), (guards), (quals), (limit: count, offset)], in terms of INDEX_VAR
 *   custom_private      [n_leaves, n_calls, n_quals, bound, (stage of each call), (level of each call), flags]
 *
 * A call of stage s is wanted before qual s can be evaluated (s = n_quals: for the target list); within a stage a
 * call of level l has arguments that need results of lower levels.  A guard, where there is one, says for which rows plain execution
 * would have evaluated the call.
 */
#ifndef SLM_PG_BATCH_H
#define SLM_PG_BATCH_H

#include "postgres.h"

#include "nodes/execnodes.h"
#include "nodes/extensible.h"
#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"
#include "nodes/plannodes.h"

/* Settings. */
extern bool slm_enable_batch; /* slm.enable_batch */
extern int slm_batch_size;    /* slm.batch_size: rows read ahead at most */

/* Positions in custom_private. */
enum {
    SLM_BATCH_N_LEAVES,
    SLM_BATCH_N_CALLS,
    SLM_BATCH_N_QUALS,
    SLM_BATCH_BOUND, /* how many rows are wanted: SLM_BATCH_... below */
    SLM_BATCH_STAGES,
    SLM_BATCH_LEVELS,
    SLM_BATCH_FLAGS
};

/* How many rows the node above wants. */
enum { SLM_BATCH_LIMIT = -2, SLM_BATCH_ALL = -1, SLM_BATCH_UNKNOWN = 0 };

/* Flags. */
#define SLM_BATCH_WARY 1     /* arguments or conditions run code of users: only in a subtransaction ahead of their time */
#define SLM_BATCH_MODIFIES 2 /* the plan below writes: its error may not be forgotten */
#define SLM_BATCH_LOWERED 4  /* below its node: one more column says whether the calls of the row have been computed */
#define SLM_BATCH_RESTARTS 8 /* the plan below can begin anew after an error that has been put aside */

/* A statement whose plan is inspected (safety.c). */
typedef struct SlmBatchPlan {
    PlannedStmt *stmt;
    List *init_plans;  /* of SubPlan, wherever they hang */
    List *cte_readers; /* of int: the ctePlanId of every CteScan */
} SlmBatchPlan;

typedef struct SlmBatchTraits {
    bool is_volatile, wary, modifies;
    Bitmapset *subplans; /* their ids */
    Oid volatile_function, wary_function; /* the first of them, for EXPLAIN */
    const char *wary_because;             /* where it is no function */
} SlmBatchTraits;

/* Add to the traits what a plan does between its rows, or an expression (a List of them, of TargetEntry) does. */
void slm_pg_batch_inspect_plan(const SlmBatchPlan *of, Plan *plan, SlmBatchTraits *traits);
void slm_pg_batch_inspect_expression(const SlmBatchPlan *of, void *expression, SlmBatchTraits *traits);

/* Does a plan that has raised an error, which was put aside, begin anew as if it had not? */
bool slm_pg_batch_restartable(Plan *plan);

extern const CustomScanMethods slm_batch_scan_methods;

/* Tokens of a text that has not been read (support.c). */
#define SLM_BYTES_PER_TOKEN 4.0
#define SLM_TEMPLATE_TOKENS 20.0 /* of the chat format and what of the instruction is not reused */
/* Tokens that a call may write, as its arguments say. */
double slm_pg_batch_written(FuncExpr *call);

/* Installs the planner hook and registers the node. Called once from _PG_init. */
void slm_pg_batch_init(void);

/* Makes a query that reads from a stream get its rows as they come (stream.c). */
void slm_pg_batch_stream(Query *query);

/* Puts batch nodes into a finished plan (plan.c). */
void slm_pg_batch_rewrite(PlannedStmt *stmt);

/* Children of a plan node that are not its left or right tree (plan.c). */
List *slm_pg_batch_child_plans(Plan *plan);

/* Does the plan have batch nodes already? (parallel.c) */
bool slm_pg_batch_planned(PlannedStmt *stmt);
/* Marks the batch nodes that run in workers (parallel.c). */
void slm_pg_batch_mark_parallel(PlannedStmt *stmt);

/* Can calls of this function be batched? (hooks.c) */
bool slm_pg_batchable(Oid function);
/* Does a function of ours that returns a set run a model? (hooks.c) */
bool slm_pg_batch_answers_set(Oid function);

#endif
