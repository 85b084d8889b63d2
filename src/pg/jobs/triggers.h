/*
 * The triggers of a job on its source table; see triggers.c.
 */
#ifndef SLM_PG_JOBS_TRIGGERS_H
#define SLM_PG_JOBS_TRIGGERS_H

#include "postgres.h"

#include "utils/rel.h"

/* Makes them as the table's owner; needs SPI.  A table that was restored without its jobs may have triggers of these names. */
void slm_pg_job_make_triggers(int32 job, Oid source);
/* Drops those that are there, as the table's owner; needs SPI. */
void slm_pg_job_drop_triggers(int32 job, Oid source);
/* Is it one of these, in everything that decides what it sees?  On the source or a partition of it. */
bool slm_pg_job_trigger_is_ours(const Trigger *trigger, int32 job, Oid source);

#endif
