/*
 * usage.c: who hears of what requests took (usage.h).
 */
#include "pg/run/usage.h"

#include "lib/stringinfo.h"

#include "engine/slm.h"

SlmMeter *slm_pg_meter;
const void *slm_pg_node_running;
void (*slm_pg_answered)(const void *node, const slm_result *result);
void (*slm_pg_before_request)(void);

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

char *slm_pg_usage_json(const slm_usage *usage)
{
    StringInfoData out;
    const char *name;
    uint64_t value;

    initStringInfo(&out);
    for (size_t i = 0; (name = slm_usage_figure(usage, i, &value)) != NULL; i++)
        appendStringInfo(&out, "%s\"%s\": " UINT64_FORMAT, i == 0 ? "{" : ", ", name, value);
    appendStringInfoChar(&out, '}');
    return out.data;
}
