/*
 * The time limit of a batch, slm.job_batch_timeout; see deadline.c.
 */
#ifndef SLM_PG_JOBS_DEADLINE_H
#define SLM_PG_JOBS_DEADLINE_H

#include "postgres.h"

/* From here to slm_pg_deadline_end what runs is cancelled when the limit has passed. */
void slm_pg_deadline_begin(void);
/* Also after an error. */
void slm_pg_deadline_end(void);
/* Has the limit passed since slm_pg_deadline_begin? */
bool slm_pg_deadline_passed(void);
/* "slm.job_batch_timeout (600 s)". */
const char *slm_pg_deadline_name(void);

void slm_pg_deadline_settings(void);

#endif
