/*
 * What launcher, workers and writers share; see launcher.c.
 */
#ifndef SLM_PG_JOBS_WORKERS_H
#define SLM_PG_JOBS_WORKERS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "storage/lwlock.h"

#define SLM_JOB_DATABASES 64
#define SLM_JOB_WORKERS 8 /* per database */

typedef struct SlmJobSlot {
    Oid database;
    TimestampTz wake_at; /* when sleeping work comes due, after the last worker has left */
    TimestampTz started; /* when a worker was last started: at most one a second */
    bool wanted;
    pid_t worker[SLM_JOB_WORKERS]; /* 0 = none; -1 = being started */
} SlmJobSlot;

typedef struct SlmJobShared {
    LWLock *lock;
    pid_t launcher;
    int n_slots;
    SlmJobSlot slots[SLM_JOB_DATABASES];
} SlmJobShared;

extern SlmJobShared *slm_pg_jobs_shared; /* NULL: the library was not preloaded */

/* Defines the settings that workers read. */
void slm_pg_job_worker_settings(void);

#endif
