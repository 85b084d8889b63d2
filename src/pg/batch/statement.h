/*
 * EXPLAIN of a whole statement (statement.c).
 */
#ifndef SLM_PG_BATCH_STATEMENT_H
#define SLM_PG_BATCH_STATEMENT_H

#include "postgres.h"

#include "nodes/plannodes.h"

/* The planner has made a plan: the one that is being explained, or one before it. */
void slm_pg_batch_explain_planned(PlannedStmt *stmt);

/* Installs the hooks. Called once from _PG_init. */
void slm_pg_batch_statement_init(void);

#endif
