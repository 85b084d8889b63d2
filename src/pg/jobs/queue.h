/*
 * The queue of a job, for the run of a batch; see queue.c.  All functions need SPI and act as the extension.
 */
#ifndef SLM_PG_JOBS_QUEUE_H
#define SLM_PG_JOBS_QUEUE_H

#include "postgres.h"

#include "pg/base/as_owner.h"
#include "pg/jobs/compute.h"
#include "pg/jobs/jobs.h"

/* Acts as the extension, to be left with slm_pg_as_end.  A job that would wait for a lock gives way before the deadlock check of somebody
 * who waits for it could end it. */
void slm_pg_job_enter(SlmAs *saved);

/* Locks the claimed rows (bigint[]), drops older ones of the same keys, and fetches what was computed for them before; in the order of
 * their ids.  Returns how many there are. */
int slm_pg_job_lock_claimed(const SlmJob *job, Datum ids, SlmJobRow **rows);
/* Queues the next keys of the existing rows, read as the source's owner; returns how many. */
int slm_pg_job_backfill(const SlmJob *job);

/* What becomes of rows, all of the job's: again later with back-off or never, as they are not at fault (contention), ... */
void slm_pg_job_note_failures(const SlmJob *job, Datum ids, const char *error, bool contention);
/* ... never again, ... */
void slm_pg_job_note_given_up(const SlmJob *job, Datum ids, const char *error);
/* ... alone from now on, ... */
void slm_pg_job_note_suspects(const SlmJob *job, Datum ids);
/* ... or done: they leave the queue. */
void slm_pg_job_dequeue(const SlmJob *job, Datum ids);
/* Remembers how fast this session has run a job. */
void slm_pg_job_note_speed(const SlmJob *job, int rows, double seconds);

/* An array for SPI. */
Datum slm_pg_job_ids(const SlmJobRow *const *rows, int n);

#endif
