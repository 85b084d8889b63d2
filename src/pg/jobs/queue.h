/*
 * The queue of a job, for the run of a batch; see queue.c.  All functions need SPI.
 */
#ifndef SLM_PG_JOBS_QUEUE_H
#define SLM_PG_JOBS_QUEUE_H

#include "pg/jobs/jobs.h"

/* What has been claimed: parallel arrays in the order of the queue. */
typedef struct SlmJobClaim {
    Datum ids, keys;            /* bigint[], jsonb[] */
    Datum old_input, old_value; /* text[]: hashes of slm.job_done, NULL elements where unknown or of an older version */
    int n;
} SlmJobClaim;

void slm_pg_job_become(Oid user);
/* Sets a setting until the end of the innermost level made by NewGUCNestLevel, or of the subtransaction. */
void slm_pg_job_set(const char *name, const char *value);
/* Column of the first SPI row; (Datum) 0 for null.  ERROR unless it is of the type: a statement under a user's search_path need not mean
 * what it says. */
Datum slm_pg_job_datum(int column, Oid type);

/* Settings of all work on jobs, to be left with AtEOXact_GUC(false, level). A job that would wait for a lock gives way before the deadlock
 * check of somebody who waits for it can hit him. */
int slm_pg_job_enter(void);
/* From here to slm_pg_job_leave_owner: user and search_path of the job; outside of it, those of nobody's choice. */
int slm_pg_job_enter_owner(const SlmJob *job);
void slm_pg_job_leave_owner(int level);

/* Locks the claimed rows, drops older ones of the same keys, and fetches what was computed for them before; false: none is left. */
bool slm_pg_job_lock_claimed(const SlmJob *job, Datum ids, SlmJobClaim *out);
/* Queues the next keys of the existing rows, read as the owner; returns how many. */
int slm_pg_job_backfill(const SlmJob *job);
/* Again later with back-off, or never. A row that lost against other transactions is not at fault and never given up. */
void slm_pg_job_note_failures(const SlmJob *job, Datum ids, const char *error, bool contention);
/* Empties the queue of a claim, but for the rows in `keep` (bigint[], 0 = none). */
void slm_pg_job_dequeue(const SlmJob *job, Datum ids, Datum keep);
/* Remembers how fast this session has run a job. */
void slm_pg_job_note_speed(const SlmJob *job, int rows, double seconds);

#endif
