/*
 * Triggers and background jobs.
 *
 *   statement ──► job_enqueue (enqueue.c) ──► slm.job_queue ──► claim ──► batch (run.c) ──► target column
 *                 keys only, in the writer's transaction         │          one transaction: compute, write, note, dequeue
 *                                                                └ one transaction: counts the try, so that a row that ends
 *                                                                  the server is found out
 *   definition.c reads slm.job_definition and says how keys are written; queue.c takes rows and keeps what failed; worker.c runs all this
 *   in the background, launcher.c starts and wakes workers.
 *
 * Invariants: a batch locks its queue rows, computes, writes, notes slm.job_done and deletes the queue rows in ONE transaction, so a
 * crash at any moment leaves everything as it was and the rows pending; a row counts as running only while its worker holds an
 * advisory lock.  The queue is append-only for writers: none ever waits for a row that is being computed, and no row of the target is
 * locked before all rows of the batch have been computed; rows that others hold locked are left for later.
 */
#ifndef SLM_PG_JOBS_H
#define SLM_PG_JOBS_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/rel.h"

/* A key column of the source table, as the table is now. */
typedef struct SlmJobKey {
    char *column; /* quoted */
    char *type;   /* as in a cast */
    bool simple;  /* of a built-in type whose jsonb form needs no setting and no function of a user */
} SlmJobKey;

/* A row of slm.job_definition. Strings live in the context of the caller of slm_pg_job_read. */
typedef struct SlmJob {
    int32 id;
    char *name;
    Oid owner, source, target;
    char *source_name, *target_name; /* quoted and qualified; NULL when the table was dropped */
    char *target_column;             /* quoted */
    bool has_target_column;          /* it exists */
    SlmJobKey *keys;
    int n_keys; /* 0: the table has lost its primary key */
    bool simple_keys;
    List *input_columns; /* of char *, quoted; those that exist, or all but the target when one does not */
    char *expression, *search_path, *settings;
    int32 version, batch_size, max_attempts;
    bool overwrite, newest_first, backfill_done, paused;
} SlmJob;

/* ---- definition.c: needs SPI */
/* Reads a job through SPI as the current user; NULL when there is none. lock: FOR KEY SHARE, so that it is not dropped meanwhile. */
SlmJob *slm_pg_job_read(int32 id, bool lock);
/* "prefix.col1, prefix.col2" of a list of quoted columns. */
char *slm_pg_job_columns(const List *columns, const char *prefix);
/* "pg_catalog.jsonb_build_array(prefix.key1, prefix.key2::text)": a row's key. */
char *slm_pg_job_key(const SlmJob *job, const char *prefix);
/* "table.key1 = (key ->> 0)::type1 AND ...". */
char *slm_pg_job_key_condition(const SlmJob *job, const char *table, const char *key);
/* "(key ->> 0)::type1, ...". */
char *slm_pg_job_key_values(const SlmJob *job, const char *key);
/* "key1, key2", each with the prefix ("t." or "") and the suffix (" DESC" or ""). */
char *slm_pg_job_key_columns(const SlmJob *job, const char *prefix, const char *suffix);
/* Settings on which the text of a value depends; in a level made by NewGUCNestLevel. */
void slm_pg_job_text_settings(void);
/* Runs a query through SPI; ERROR unless the result code is `expected`. */
void slm_pg_spi(const char *query, int expected);
bool slm_pg_job_owner_exists(Oid owner);

/* ---- queue.c and run.c: inside the current transaction */
/* Takes the next due rows, noting that they are tried: bigint[] of queue ids, (Datum) 0 when none is due. To be committed. */
Datum slm_pg_job_claim(int32 id);
/* Computes claimed rows; ids (Datum) 0: queues existing rows instead. Returns how many rows it looked at. */
int slm_pg_job_run(int32 id, Datum ids);

/* Defines settings, shared memory and the launcher. Called once from _PG_init. */
void slm_pg_jobs_init(void);

#endif
