/*
 * status.c: slm_prewarm, slm_model_status (the view slm.model_status), slm_version, slm_system_info.
 *
 * Nothing here changes anything: the status of a model that this session has not mapped is read by mapping it for a moment.  What a role
 * sees is what it may use and what it loads itself; members of pg_read_all_stats see all.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "engine/slm.h"
#include "pg/base/earlier.h"
#include "pg/base/errors.h"
#include "pg/base/guc.h"
#include "pg/base/threads.h"
#include "pg/models/catalog.h"
#include "pg/models/loading.h"
#include "pg/models/store.h"
#include "pg/run/backend.h"
#include "pg/run/use.h"

PG_FUNCTION_INFO_V1(slm_pg_prewarm);
PG_FUNCTION_INFO_V1(slm_pg_model_status);
PG_FUNCTION_INFO_V1(slm_pg_version);
PG_FUNCTION_INFO_V1(slm_pg_system_info);

Datum slm_pg_prewarm(PG_FUNCTION_ARGS)
{
    SlmOpenModel *entry;
    slm_status status;
    slm_error err;

    if (PG_ARGISNULL(0))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the name of a model must not be null")));
    entry = slm_pg_use_model(PG_GETARG_TEXT_PP(0), SLM_TASK_ANY);
    while ((status = slm_model_prewarm(slm_pg_opened_model(entry), slm_pg_loading_report, NULL, SLM_STOP, &err)) == SLM_CANCELLED)
        slm_pg_loading_interrupted();
    if (status != SLM_OK)
        slm_pg_error(&err, psprintf("could not read the image of model \"%s\"", text_to_cstring(PG_GETARG_TEXT_PP(0))));
    PG_RETURN_INT64((int64) slm_pg_info(entry)->image_bytes);
}

enum { STATUS_NAME, STATUS_STATE, STATUS_MAPPED, STATUS_IMAGE_BYTES, STATUS_RESIDENT, STATUS_KV, STATUS_LAST_USE, STATUS_PROGRESS,
       STATUS_PID, STATUS_COLUMNS };

/* State and resident bytes of an image that this session has not mapped. */
static const char *look_at_image(const char *key, Datum *bytes, Datum *resident, bool *nulls)
{
    char *path = slm_pg_store_image(key);
    struct stat st;
    slm_model *model;
    slm_error err;

    nulls[STATUS_IMAGE_BYTES] = nulls[STATUS_RESIDENT] = true;
    if (stat(path, &st) != 0)
        return "image missing";
    nulls[STATUS_IMAGE_BYTES] = false;
    *bytes = Int64GetDatum((int64) st.st_size);
    if (slm_model_open(path, &model, &err) != SLM_OK)
        return err.hint_code == SLM_HINT_OLD_IMAGE ? "image of an earlier version" : "image damaged";
    nulls[STATUS_RESIDENT] = false;
    *resident = Int64GetDatum((int64) slm_model_resident_bytes(model));
    slm_model_close(model);
    return "ready";
}

static void put_model(ReturnSetInfo *rsinfo, const char *name, const char *key)
{
    const SlmOpenModel *entry = slm_pg_find_opened(key);
    Datum values[STATUS_COLUMNS] = {0};
    bool nulls[STATUS_COLUMNS] = {false};
    const char *state = "ready";
    uint64 kv_bytes;

    nulls[STATUS_PROGRESS] = nulls[STATUS_PID] = true;
    nulls[STATUS_KV] = true;
    nulls[STATUS_LAST_USE] = entry == NULL;
    if (entry == NULL) {
        state = look_at_image(key, &values[STATUS_IMAGE_BYTES], &values[STATUS_RESIDENT], nulls);
    } else {
        values[STATUS_IMAGE_BYTES] = Int64GetDatum((int64) slm_pg_info(entry)->image_bytes);
        values[STATUS_RESIDENT] = Int64GetDatum((int64) slm_model_resident_bytes(slm_pg_opened_model(entry)));
        values[STATUS_LAST_USE] = TimestampTzGetDatum(slm_pg_opened_last_use(entry));
        state = slm_model_damaged(slm_pg_opened_model(entry)) ? "image damaged" : state;
        nulls[STATUS_KV] = !slm_pg_kv_bytes(entry, &kv_bytes);
        values[STATUS_KV] = Int64GetDatum((int64) kv_bytes);
    }
    values[STATUS_NAME] = CStringGetTextDatum(name);
    values[STATUS_STATE] = CStringGetTextDatum(state);
    values[STATUS_MAPPED] = BoolGetDatum(entry != NULL);
    tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static void put_load(ReturnSetInfo *rsinfo, const SlmLoading *load)
{
    Datum values[STATUS_COLUMNS] = {0};
    bool nulls[STATUS_COLUMNS];

    memset(nulls, true, sizeof nulls);
    nulls[STATUS_NAME] = nulls[STATUS_STATE] = nulls[STATUS_MAPPED] = nulls[STATUS_PROGRESS] = nulls[STATUS_PID] = false;
    values[STATUS_NAME] = CStringGetTextDatum(load->name);
    values[STATUS_STATE] = CStringGetTextDatum(load->phase);
    values[STATUS_MAPPED] = BoolGetDatum(false);
    values[STATUS_PROGRESS] = Float8GetDatum(load->total > 0 ? (double) load->done / (double) load->total : 0);
    values[STATUS_PID] = Int32GetDatum(load->pid);
    tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

Datum slm_pg_model_status(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
    bool sees_all = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
    const SlmModelRow *row;
    SlmLoading *loads;
    int n_loads;

    InitMaterializedSRF(fcinfo, 0);
    for (int i = 0; (row = slm_pg_nth_model(i)) != NULL; i++)
        if (row->base[0] == '\0' && (sees_all || slm_pg_may_use_model(row)))
            put_model(rsinfo, pstrdup(row->name), pstrdup(row->key));
    loads = slm_pg_loading_list(&n_loads);
    for (int i = 0; i < n_loads; i++)
        if (sees_all || has_privs_of_role(GetUserId(), loads[i].role))
            put_load(rsinfo, &loads[i]);
    return (Datum) 0;
}

Datum slm_pg_version(PG_FUNCTION_ARGS)
{
    PG_RETURN_TEXT_P(cstring_to_text(SLM_VERSION));
}

static void put_info(ReturnSetInfo *rsinfo, const char *item, const char *value)
{
    Datum values[2] = {CStringGetTextDatum(item), CStringGetTextDatum(value)};
    bool nulls[2] = {false, false};

    tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* Of the models that this session has mapped. */
static char *weights_in_huge_pages(void)
{
    const SlmModelRow *row;
    uint64 huge = 0, all = 0;

    for (int i = 0; (row = slm_pg_nth_model(i)) != NULL; i++) {
        const SlmOpenModel *entry = row->base[0] == '\0' ? slm_pg_find_opened(row->key) : NULL;

        if (entry == NULL)
            continue;
        huge += slm_model_huge_bytes(slm_pg_opened_model(entry));
        all += slm_pg_info(entry)->image_bytes;
    }
    return psprintf(UINT64_FORMAT " of " UINT64_FORMAT " MB that this session has mapped", huge / 1000000, all / 1000000);
}

static char *weights_fetched(void)
{
    slm_tuning tuning = slm_tuning_get();

    if (tuning.gigabytes_per_second <= 0)
        return psprintf("%u bytes (not measured)", tuning.ahead);
    return psprintf("%u bytes (measured at %.1f GB/s a core)", tuning.ahead, tuning.gigabytes_per_second);
}

Datum slm_pg_system_info(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
    const char *name, *version;
    char *available = pstrdup(""), cpu[128];

    InitMaterializedSRF(fcinfo, 0);
    for (int i = 0; (name = slm_isa_available(i)) != NULL; i++)
        available = psprintf("%s%s%s", available, i > 0 ? ", " : "", name);
    put_info(rsinfo, "version", SLM_VERSION);
    put_info(rsinfo, "engine version", slm_engine_version());
    put_info(rsinfo, "instruction set", slm_isa());
    put_info(rsinfo, "instruction sets available", available);
    slm_cpu_name(cpu, sizeof cpu);
    put_info(rsinfo, "cpu", cpu);
    put_info(rsinfo, "cpus", psprintf("%d", slm_cpu_count()));
    put_info(rsinfo, "threads of a call", psprintf("%d", slm_guc_threads > 0 ? slm_guc_threads : slm_cpu_count()));
    put_info(rsinfo, "threads of the cluster", psprintf("%d", slm_guc_max_threads > 0 ? slm_guc_max_threads : slm_cpu_count()));
    put_info(rsinfo, "threads running now", psprintf("%d", slm_pg_threads_in_use()));
    put_info(rsinfo, "preloaded", slm_pg_preloaded() ? "yes" : "no");
    put_info(rsinfo, "kv cache memory", GetConfigOptionByName("slm.kv_cache_memory", NULL, false));
    put_info(rsinfo, "model directory", slm_guc_model_directory);
    put_info(rsinfo, "huge pages", GetConfigOptionByName("slm.huge_pages", NULL, false));
    put_info(rsinfo, "weights in huge pages", weights_in_huge_pages());
    put_info(rsinfo, "weights fetched ahead", weights_fetched());
    put_info(rsinfo, "image layout", psprintf("%d", SLM_IMAGE_LAYOUT));
    for (int i = 0; slm_library_info(i, &name, &version); i++)
        put_info(rsinfo, psprintf("library %s", name), version);
    return (Datum) 0;
}
