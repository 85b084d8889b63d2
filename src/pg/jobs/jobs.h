/*
 * Triggers and background jobs.
 *
 *   statement ──► job_enqueue (enqueue.c) ──► slm.job_queue ──► worker (worker.c) ──► batch (run.c) ──► target column
 *                 keys only, in the writer's transaction        wakes at COMMIT      one transaction
 *
 * Invariants: a batch claims queue rows by row locks, computes, writes, notes slm.job_done and deletes the queue rows in ONE
 * transaction, so a crash at any moment leaves everything as it was and the rows pending; no state says "running".  The queue is
 * append-only for writers: none ever waits for a row that is being computed.
 */
#ifndef SLM_PG_JOBS_H
#define SLM_PG_JOBS_H

#include "postgres.h"

#include "nodes/pg_list.h"

/* A row of slm.job_definition. Strings live in the context of the caller of slm_pg_job_read. */
typedef struct SlmJob {
    int32 id;
    char *name;
    Oid owner, source, target;
    char *source_name, *target_name; /* quoted and qualified */
    char *target_column;             /* quoted */
    List *key_columns, *key_types;   /* of char *, columns quoted */
    List *input_columns;             /* of char *, quoted */
    char *expression, *search_path;
    int32 version, batch_size, max_attempts;
    bool overwrite, newest_first, backfill_done;
} SlmJob;

/* Reads a job through SPI as the current user; NULL when there is none. lock: FOR KEY SHARE, so that it is not dropped meanwhile. */
SlmJob *slm_pg_job_read(int32 id, bool lock);
/* "prefix.col1, prefix.col2" of a list of quoted columns. */
char *slm_pg_job_columns(const List *columns, const char *prefix);
/* Runs a query through SPI with text parameters as their types; ERROR unless the result code is `expected`. */
void slm_pg_spi(const char *query, int expected);

/* One batch of a job, as its owner, inside the current transaction: rows that it looked at. */
int slm_pg_job_run(int32 id);

/* Defines settings, shared memory and the launcher. Called once from _PG_init. */
void slm_pg_jobs_init(void);

#endif
