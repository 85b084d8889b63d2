/*
 * adapters.c: slm_load_adapter, slm_drop_adapter, slm_export_adapter.  Used as model => 'base+adapter' (run/use.c, run/local.c).
 *
 * An adapter is a row of slm.model_registry with a base, so names, owner, privileges, image files and their locks are those of models;
 * the views slm.models and slm.adapters tell them apart.  Its image was made for the base's image, whose key is part of its own.
 *
 * Lock: loading an adapter and dropping its base both hold the base's lock to the end of their transactions, so no adapter is left
 * without a base.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "engine/slm.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/base/errors.h"
#include "pg/base/paths.h"
#include "pg/functions/adapters.h"
#include "pg/models/catalog.h"
#include "pg/models/digest.h"
#include "pg/models/load.h"
#include "pg/models/loading.h"
#include "pg/models/store.h"
#include "pg/models/uses.h"
#include "pg/run/opened.h"
#include "pg/run/use.h"

PG_FUNCTION_INFO_V1(slm_pg_load_adapter);
PG_FUNCTION_INFO_V1(slm_pg_drop_adapter);
PG_FUNCTION_INFO_V1(slm_pg_export_adapter);

typedef struct AdapterLoad {
    SlmLoad load; /* first: SlmLoad * is AdapterLoad * */
    const char *given; /* the path as the caller wrote it */
    char *path;        /* of what is imported: in a model's own directory, maybe the name of a task (slm_adapter_task) */
    char *files_path;  /* of the file or directory */
    const char *task;  /* or NULL */
    SlmSource *files;
    slm_seal seal;
    char sha256[65];
    SlmOpenModel *base;
} AdapterLoad;

static slm_status make_adapter(SlmLoad *load, const char *temporary, slm_error *err)
{
    AdapterLoad *a = (AdapterLoad *) load;

    return slm_adapter_import(slm_pg_utf8_from_cstring(a->path), slm_pg_opened_model(a->base), temporary, &a->seal, SLM_STOP, NULL, err);
}

slm_status slm_pg_probe_adapter(SlmLoad *load, const SlmOpenModel *base, const char *image, slm_error *err)
{
    slm_adapter *adapter;
    slm_adapter_info info;
    slm_status status = slm_adapter_open(image, slm_pg_opened_model(base), &adapter, err);

    if (status != SLM_OK)
        return status;
    info = *slm_adapter_get_info(adapter);
    slm_adapter_close(adapter);
    load->info = *slm_pg_info(base);
    load->info.n_parameters = info.n_parameters;
    load->info.image_bytes = info.image_bytes;
    strlcpy(load->info.name, info.name, sizeof load->info.name);
    load->options = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(psprintf("{\"rank\": %u, \"matrices\": %u}", info.rank,
                                                                                         info.n_matrices))));
    return SLM_OK;
}

static slm_status probe_adapter(SlmLoad *load, const char *image, slm_error *err)
{
    return slm_pg_probe_adapter(load, ((AdapterLoad *) load)->base, image, err);
}

static void load_work(AdapterLoad *a, bool registered)
{
    char *base_key;
    uint64_t weights;
    slm_error err;

    slm_pg_loading_begin(a->load.name);
    a->base = slm_pg_use_model(cstring_to_text(a->load.base), SLM_TASK_ANY);
    slm_pg_check_source(a->files_path, a->given);
    a->files = slm_pg_source_list(a->files_path);
    if (slm_adapter_look(slm_pg_utf8_from_cstring(a->path), slm_pg_opened_model(a->base), &weights, &err) != SLM_OK)
        slm_pg_load_refused(&a->load, registered, &err);
    slm_pg_source_check_size(a->files, a->files_path, weights);
    slm_pg_source_digest(a->files, a->sha256);
    a->seal = slm_pg_source_seal(a->files);
    base_key = pstrdup(slm_pg_opened_key(a->base));
    slm_pg_store_lock(base_key);
    if (!slm_pg_key_in_use(base_key)) /* dropped while we waited */
        slm_pg_unknown_model(a->load.base);
    a->base = slm_pg_use_model(cstring_to_text(a->load.base), SLM_TASK_ANY);
    slm_pg_load_key(&a->load, a->sha256,
                    a->task == NULL ? psprintf("adapter\n%s", base_key) : psprintf("adapter\n%s\n%s", base_key, a->task));
    slm_pg_load_register(&a->load, registered);
}

Datum slm_pg_load_adapter(PG_FUNCTION_ARGS)
{
    AdapterLoad a = {.load = {.verb = "load adapter", .phase = "importing", .make = make_adapter, .probe = probe_adapter}};
    bool registered;

    slm_pg_check_may_load(fcinfo, "load an adapter from a file of the server", true);
    a.load.name = slm_pg_name_argument(fcinfo, 0, "the name of an adapter");
    a.load.base = slm_pg_name_argument(fcinfo, 1, "the name of its model");
    a.given = slm_pg_name_argument(fcinfo, 2, "the path of an adapter");
    a.load.options = slm_pg_no_options();
    slm_pg_check_name("adapter", a.load.name);
    if (strchr(a.load.base, '+') != NULL)
        slm_pg_unknown_model(a.load.base);
    a.load.source = a.path = a.files_path = slm_pg_server_path(a.given);
    a.task = slm_adapter_task(a.path);
    if (a.task != NULL)
        a.files_path = pnstrdup(a.path, (Size) (a.task - 1 - a.path));
    registered = slm_pg_name_registered(a.load.name);
    if (!registered)
        slm_pg_refuse_read_only("slm_load_adapter()");
    slm_pg_store_make_directory();
    PG_TRY();
    {
        load_work(&a, registered);
    }
    PG_FINALLY();
    {
        slm_pg_source_close(a.files);
        slm_pg_loading_end();
    }
    PG_END_TRY();
    return slm_pg_registry_row("SELECT a FROM slm.adapters a WHERE a.name = $1", a.load.name);
}

Datum slm_pg_drop_adapter(PG_FUNCTION_ARGS)
{
    const char *name = slm_pg_name_argument(fcinfo, 0, "the name of an adapter");
    const SlmModelRow *row = slm_pg_find_model(name);

    slm_pg_refuse_read_only("slm_drop_adapter()");
    if (row == NULL || row->base[0] == '\0')
        slm_pg_unknown_adapter(name);
    slm_pg_drop_registered(SLM_ADAPTER, name, !PG_ARGISNULL(1) && PG_GETARG_BOOL(1));
    PG_RETURN_VOID();
}

/* ---- slm_export_adapter(name, path) */

/* Inside PG_TRY: the adapter is closed by the caller. */
static pg_noinline void export_adapter(const char *name, const char *path, slm_adapter **adapter)
{
    const SlmModelRow *row = slm_pg_find_model(name);
    char *base = pstrdup(row->base), *image = slm_pg_store_image(row->key);
    SlmOpenModel *opened;
    slm_error err;

    opened = slm_pg_use_model(cstring_to_text(base), SLM_TASK_ANY);
    if (slm_adapter_open(image, slm_pg_opened_model(opened), adapter, &err) != SLM_OK ||
        slm_adapter_export(*adapter, slm_pg_utf8_from_cstring(base), slm_pg_utf8_from_cstring(path), &err) != SLM_OK)
        slm_pg_error(&err, psprintf("could not export adapter \"%s\"", name));
}

Datum slm_pg_export_adapter(PG_FUNCTION_ARGS)
{
    const char *name = slm_pg_name_argument(fcinfo, 0, "the name of an adapter");
    const char *given = slm_pg_name_argument(fcinfo, 1, "the path of the directory to write"), *path;
    const SlmModelRow *row = slm_pg_find_model(name);
    slm_adapter *adapter = NULL;

    if (!superuser() && !has_privs_of_role(GetUserId(), ROLE_PG_WRITE_SERVER_FILES))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied to write an adapter to a file of the server"),
                        errhint("Only superusers and members of pg_write_server_files may.")));
    if (row == NULL || row->base[0] == '\0')
        slm_pg_unknown_adapter(name);
    (void) slm_pg_owned_model(name);
    path = slm_pg_server_path(given);
    PG_TRY();
    {
        export_adapter(name, path, &adapter);
    }
    PG_FINALLY();
    {
        slm_adapter_close(adapter);
    }
    PG_END_TRY();
    PG_RETURN_TEXT_P(cstring_to_text(path));
}
