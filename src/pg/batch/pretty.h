/*
 * Expressions as EXPLAIN shows them (pretty.c).
 */
#ifndef SLM_PG_BATCH_PRETTY_H
#define SLM_PG_BATCH_PRETTY_H

#include "postgres.h"

#include "nodes/plannodes.h"

/* A copy to be shown, never to be run: calls without the arguments that are left at their default, long constants cut, what plan.c put
 * around calls left out.  A node, or a List of them. */
void *slm_pg_batch_pretty(void *expression);
/* The same for all that EXPLAIN prints of a plan, in place. */
void slm_pg_batch_pretty_plan(PlannedStmt *stmt);
/* Which model a call uses, and by which method where there is a choice: "smollm2 (channel)". */
char *slm_pg_batch_model_of(FuncExpr *call);

#endif
