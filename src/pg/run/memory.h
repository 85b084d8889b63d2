/*
 * memory.h: when the memory of this backend's sessions goes back to the system (memory.c).
 */
#ifndef SLM_PG_MEMORY_H
#define SLM_PG_MEMORY_H

#include "postgres.h"

void slm_pg_memory_used(void);    /* a session begins to work */
void slm_pg_memory_lowered(void); /* a limit may have been lowered */
/* release: called when the sessions go whole, for what else is kept beside them. */
void slm_pg_memory_init(void (*release)(void));

#endif
