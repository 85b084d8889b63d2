/*
 * Progress of the batch nodes of this backend's statement, shown in slm.progress.  Does nothing unless slm_pg is preloaded.
 */
#ifndef SLM_PG_BATCH_PROGRESS_H
#define SLM_PG_BATCH_PROGRESS_H

#include "postgres.h"

/* A batch node begins; rows_planned is the planner's estimate, kept from the first node of a statement. */
void slm_pg_progress_statement(double rows_planned);
/* Rows emitted and tokens computed since the last call. */
void slm_pg_progress_rows(uint64 rows, uint64 tokens);
/* The statement's batch node has ended, or its transaction was aborted. */
void slm_pg_progress_done(void);
/* Called once from _PG_init. */
void slm_pg_progress_init(void);

#endif
