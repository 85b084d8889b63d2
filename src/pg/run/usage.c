/*
 * usage.c: who hears of what requests took (usage.h).
 */
#include "pg/run/usage.h"

#include "engine/slm.h"

SlmMeter *slm_pg_meter;
const void *slm_pg_node_running;
void (*slm_pg_answered)(const void *node, const slm_result *result);

void slm_pg_meter_model(const char *name)
{
    SlmMeter *m = slm_pg_meter;
    int i = 0;

    if (m == NULL)
        return;
    while (i < m->n_models && strcmp(m->models[i], name) != 0)
        i++;
    if (i == m->n_models && i < SLM_METER_MODELS)
        strlcpy(m->models[m->n_models++], name, sizeof m->models[0]);
}
