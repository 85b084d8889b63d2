/*
 * Waking and stopping the workers of this database: asked for in a transaction, done at its commit.
 */
#ifndef SLM_PG_JOBS_WAKE_H
#define SLM_PG_JOBS_WAKE_H

#include "postgres.h"

/* Cheap; any number of times per transaction. */
void slm_pg_job_wake_at_commit(void);
/* Cancels the batches of a job, or (SLM_TUNE_SLOT) the turns of a fine-tuning, in workers. */
void slm_pg_job_stop_at_commit(int32 id);
/* The same at once. */
void slm_pg_job_stop_now(int32 id);

#endif
