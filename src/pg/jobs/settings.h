/*
 * The settings of workers: when they may work, and what holds in their sessions; see settings.c.
 */
#ifndef SLM_PG_JOBS_SETTINGS_H
#define SLM_PG_JOBS_SETTINGS_H

#include "postgres.h"

/* Is it a time at which jobs may work, and is the machine not too busy? */
bool slm_pg_job_may_work(void);

/* To be called before a worker connects, and after it has: nothing holds that the database's owner or an ALTER ROLE has set. */
void slm_pg_job_remember_settings(void);
void slm_pg_job_restore_settings(void);
/* After the configuration was read anew. */
void slm_pg_job_worker_session(void);

/* Defines the settings that workers read. */
void slm_pg_job_worker_settings(void);

#endif
