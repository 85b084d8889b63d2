/*
 * What the functions of users share that make and change jobs: control.c, create.c, alter.c, options.c.
 */
#ifndef SLM_PG_JOBS_ADMIN_H
#define SLM_PG_JOBS_ADMIN_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"
#include "utils/rel.h"

#include "pg/jobs/jobs.h"

/* ---- control.c */
/* The id of what a statement gives for the name $1 as (id int, owner oid); 0 where there is none whose owner's rights the caller has.
 * Needs SPI. */
int32 slm_pg_job_find(const char *statement, const char *name);
/* The job of this name; ERROR where there is none whose owner's rights the caller has. Needs SPI. */
int32 slm_pg_job_id(const char *name);
/* Locks a job against batches and others who change it, cancelling the batches that are under way.  Needs SPI, acting as the
 * extension. */
void slm_pg_job_lock(int32 id, const char *name);
/* Failed rows are tried again; returns how many. Needs SPI, acting as the extension. */
uint64 slm_pg_job_retry(int32 id);

/* ---- options.c */
typedef struct SlmJobOptions {
    Oid target, owner;      /* InvalidOid: not given */
    const char *backfill;   /* NULL: not given */
    Interval *retry_delay;  /* NULL: not given */
    int batch_size, max_attempts; /* 0: not given */
    int overwrite, paused;        /* -1: not given */
} SlmJobOptions;

/* Reads the options of slm_create_job, or of slm_alter_job; NULL is none.  ERROR where one is unknown or out of bounds. */
void slm_pg_job_options(SlmJobOptions *out, Jsonb *options, bool alter);
/* Parameters for SPI and their nulls: 1 overwrite bool, 2 batch_size int4, 3 max_attempts int4, 4 retry_delay interval,
 * 5 backfill text, 6 paused bool. */
#define SLM_JOB_OPTION_VALUES 6
extern const Oid slm_pg_job_option_types[SLM_JOB_OPTION_VALUES];
void slm_pg_job_option_values(const SlmJobOptions *options, Datum *values, char *nulls);

/* ---- create.c */
/* ERROR where a job of this owner cannot have these tables, as they are now. */
void slm_pg_job_check_tables(const SlmJob *job);

#endif
