/*
 * Evaluating a job's expression for rows and writing the values, each as the owner of the table; see compute.c.
 */
#ifndef SLM_PG_JOBS_COMPUTE_H
#define SLM_PG_JOBS_COMPUTE_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "pg/jobs/jobs.h"

/* A claimed row, and what became of it. Hashes are NULL for a value that is NULL, and where there is none. */
typedef struct SlmJobRow {
    int64 id;                    /* in slm.job_queue */
    Datum key;                   /* jsonb */
    char *old_input, *old_value; /* from slm.job_done; the input's is NULL where it is of an older version */
    char *current;               /* of the target's value before */
    char *input, *value;         /* of what was computed, and of what was written */
    bool computed, written;
    bool held;    /* computed; another transaction held the row locked */
    bool refused; /* computed; the row was free and was not written */
    bool kept;    /* its value is a user's and stays */
} SlmJobRow;

/* Computes and writes rows in the order of their ids: those whose inputs or version changed and whose value the job may replace.  Any
 * error of the expression and the tables is raised; call it in a subtransaction. */
void slm_pg_job_compute(const SlmJob *job, SlmJobRow *rows, int n);
/* Raises what a batch would raise that has no rows: the expression and the write are analysed, planned and checked for privileges, as
 * those who will run them. */
void slm_pg_job_try(const SlmJob *job);
/* The columns that the expression reads (List of char *), all but the target's where it reads the row as a whole or nothing of it
 * (*whole_row); ERROR where it reads the target. */
List *slm_pg_job_inputs(const SlmJob *job, bool *whole_row);

/* The settings of all work on a job, in a level of their own: to be called by who acts as the extension. */
void slm_pg_job_settings(const SlmJob *job);
/* jsonb: the settings of this session that a job keeps. */
Datum slm_pg_job_kept_settings(void);

#endif
