/*
 * usage.h: who hears of what requests took (usage.c).
 */
#ifndef SLM_PG_USAGE_H
#define SLM_PG_USAGE_H

#include "postgres.h"

#include "engine/slm.h"
#include "pg/models/catalog.h"

/* What the requests of a stretch of work took: points to an SlmMeter while somebody counts, else NULL. */
#define SLM_METER_MODELS 8
typedef struct SlmMeter {
    slm_usage usage;
    int n_models; /* distinct; those beyond the limit are not named */
    char models[SLM_METER_MODELS][SLM_NAME_MAX + 16]; /* SHA-256 of the source in hex, or name@version of a classifier */
} SlmMeter;
extern SlmMeter *slm_pg_meter;
/* As JSON: {"requests": 1, ...}, every figure. */
char *slm_pg_usage_json(const slm_usage *usage);
/* Notes what was used, where somebody counts. */
void slm_pg_meter_model(const char *name);

/* Set while a batch node begins a call, to its EState: what the call requests belongs to that node. */
extern const void *slm_pg_node_running;
/* Called for each request that has its answer; node: slm_pg_node_running when it was made. NULL: nobody listens. */
extern void (*slm_pg_answered)(const void *node, const slm_result *result);
/* Called before each request, which an error of it keeps from being made. NULL: nobody listens. */
extern void (*slm_pg_before_request)(void);

#endif
