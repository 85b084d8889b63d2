/*
 * backends.h: slm.sessions (backends.c).
 */
#ifndef SLM_PG_BACKENDS_H
#define SLM_PG_BACKENDS_H

#include "postgres.h"

#include "pg/base/shmem.h"

void slm_pg_backends_update(void); /* something of this backend's sessions has changed */
extern const SlmShmemPart slm_pg_backends_part;

#endif
