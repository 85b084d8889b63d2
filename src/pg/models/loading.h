/*
 * loading.h: how far a load or a training is, visible to all sessions (loading.c).
 */
#ifndef SLM_PG_LOADING_H
#define SLM_PG_LOADING_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "pg/models/catalog.h"

typedef struct SlmLoading {
    int pid;
    Oid database, role;
    TimestampTz server_start;
    char phase[16];
    uint64 done, total;
    char name[SLM_NAME_MAX + 1];
} SlmLoading;
void slm_pg_loading_begin(const char *name);
bool slm_pg_loading_running(void);
void slm_pg_loading_phase(const char *phase);
void slm_pg_loading_report(void *arg, uint64_t done, uint64_t total); /* also answers interrupts that are no cancel, below the engine */
void slm_pg_loading_interrupted(void); /* in place of slm_pg_interrupted() after a call with slm_pg_loading_report */
void slm_pg_loading_end(void);
/* Those that are running now in the cluster: palloc'ed array. */
SlmLoading *slm_pg_loading_list(int *n);

#endif
