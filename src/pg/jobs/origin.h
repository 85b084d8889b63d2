/*
 * Whose writes are these: what a job's batch writes, and which jobs follow it; see origin.c.
 */
#ifndef SLM_PG_JOBS_ORIGIN_H
#define SLM_PG_JOBS_ORIGIN_H

#include "postgres.h"

#include "utils/rel.h"

#include "pg/jobs/compute.h"
#include "pg/jobs/jobs.h"

/* From here to slm_pg_job_origin_end, or to the end of the subtransaction, this session writes the computed rows of a batch.  Acts as the
 * extension; needs SPI. */
void slm_pg_job_origin_begin(const SlmJob *job, const SlmJobRow *rows, int n);
void slm_pg_job_origin_end(void);

/* Is a batch writing? Then a job's trigger asks about each key. */
bool slm_pg_job_origin_active(void);
/* The number of the column of this table that the batch fills; 0: it is of another table. */
AttrNumber slm_pg_job_origin_column(Relation table);

/* A row of a follower's table that changed in the course of the batch. */
typedef struct SlmJobChange {
    bool new_row;
    bool filled; /* the column that the batch fills has changed, and the follower's expression names it */
    bool other;  /* another input of the follower has changed */
} SlmJobChange;
/* Should the follower compute the row? *origin: int4[], what its queue row is to say. */
bool slm_pg_job_follows(const SlmJob *follower, Relation table, Datum key, const SlmJobChange *change, Datum *origin);

#endif
