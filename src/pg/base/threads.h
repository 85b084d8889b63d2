/*
 * threads.h: the cluster's budget of engine threads (threads.c).
 */
#ifndef SLM_PG_THREADS_H
#define SLM_PG_THREADS_H

#include "postgres.h"

#include "pg/base/shmem.h"

extern const SlmShmemPart slm_pg_threads_part;

bool slm_pg_preloaded(void);
int slm_pg_threads_in_use(void); /* cluster-wide when preloaded, else of this session */
int slm_pg_take_threads(void);   /* how many threads a call may use now; to be given back */
void slm_pg_give_threads(void);
void slm_pg_threads_init(void);

#endif
