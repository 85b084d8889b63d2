/*
 * What launcher, workers and writers share; see launcher.c.
 */
#ifndef SLM_PG_JOBS_WORKERS_H
#define SLM_PG_JOBS_WORKERS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "storage/lwlock.h"

#include "pg/base/shmem.h"

#define SLM_JOB_DATABASES 64
#define SLM_JOB_WORKERS 8  /* per database */
#define SLM_JOB_FAILURES 6 /* workers that could not look for work, after which a database gives its slot back */

typedef struct SlmJobSlot {
    Oid database;
    TimestampTz wake_at; /* when sleeping work comes due, after the last worker has left */
    TimestampTz started; /* when a worker was last started: at most one a second */
    int failures;        /* workers in a row that ended before they had looked for work */
    bool wanted;
    pid_t worker[SLM_JOB_WORKERS]; /* 0 = none; -1 = being started */
    int32 job[SLM_JOB_WORKERS];    /* whose batch each is at; 0 = none */
} SlmJobSlot;

typedef struct SlmJobShared {
    LWLock *lock;
    pid_t launcher;
    bool ask_again; /* a database with sleeping work has lost its slot */
    int n_slots;
    SlmJobSlot slots[SLM_JOB_DATABASES];
} SlmJobShared;

extern const SlmShmemPart slm_pg_jobs_part;
extern SlmJobShared *slm_pg_jobs_shared; /* NULL: the library was not preloaded */
/* Does slm.job_workers allow a worker at this place of a slot? */
bool slm_pg_job_worker_allowed(int place);

#endif
