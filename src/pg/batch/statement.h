/*
 * EXPLAIN of a whole statement (statement.c).
 */
#ifndef SLM_PG_BATCH_STATEMENT_H
#define SLM_PG_BATCH_STATEMENT_H

#include "postgres.h"

#include "nodes/plannodes.h"

#include "pg/work.h"

/* The planner has made a plan: the one that is being explained, or one before it. */
void slm_pg_batch_explain_planned(PlannedStmt *stmt);

/* Set while a batch node begins a call, to its EState: what the call requests belongs to that node. */
extern const void *slm_pg_batch_running;
/* A request has its answer. running: slm_pg_batch_running when it was made. */
void slm_pg_batch_count_outside(const void *running, const slm_result *result);

/* Installs the hooks. Called once from _PG_init. */
void slm_pg_batch_statement_init(void);

#endif
