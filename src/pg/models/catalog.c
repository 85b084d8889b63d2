/*
 * catalog.c: the registered models, as rows of slm.model_registry, and who may use them.
 *
 * The rows, and those of slm.model_grant, are read by a heap scan that needs no privilege on the table, as for a system catalog, and kept
 * for the rest of the transaction.  A relation-cache invalidation of the registry, sent by everything that changes either, drops them
 * earlier, in every backend.
 *
 * Privilege: the owner (and members of that role), superusers, and the roles that were granted the model, PUBLIC among them.  When the
 * owner was dropped, superusers only: his number may become another role's.
 */

#include "pg/models/catalog.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "pg/base/as_owner.h"
#include "pg/base/compat.h"
#include "pg/base/guc.h"
#include "pg/base/nearest.h"
#include "pg/models/store.h"

static MemoryContext rows_context; /* holds rows and what they point to */
static SlmModelRow *rows;          /* [n_rows] */
static int n_rows;
static bool rows_valid;
static void (*rows_changed)(void);
static uint64 n_invalidations;
static Oid registry_oid; /* of the table that rows was read from */

/* InvalidOid when the extension is not (or no longer) there. */
static Oid find_registry(void)
{
    return slm_pg_extension_relation("model_registry");
}

static Oid need_registry(void)
{
    Oid oid = find_registry();

    if (!OidIsValid(oid))
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("table slm.model_registry does not exist"),
                        errhint("Run CREATE EXTENSION slm_pg in this database.")));
    return oid;
}

static Datum get_column(HeapTuple tuple, TupleDesc desc, const char *name, bool *isnull)
{
    for (int i = 0; i < desc->natts; i++)
        if (strcmp(NameStr(TupleDescAttr(desc, i)->attname), name) == 0)
            return heap_getattr(tuple, i + 1, desc, isnull);
    *isnull = true;
    return (Datum) 0;
}

static char *get_text(HeapTuple tuple, const char *name, TupleDesc desc)
{
    bool isnull;
    Datum value = get_column(tuple, desc, name, &isnull);

    return isnull ? pstrdup("") : TextDatumGetCString(value);
}

static char *options_text(Jsonb *options)
{
    return JsonbToCString(NULL, &options->root, (int) VARSIZE(options));
}

static void read_row(HeapTuple tuple, TupleDesc desc, SlmModelRow *row)
{
    const char *key;
    bool isnull;
    Datum value;

    strlcpy(row->name, get_text(tuple, "name", desc), sizeof row->name);
    key = get_text(tuple, "image", desc);
    if (slm_pg_key_valid(key)) /* it becomes the name of a file */
        strlcpy(row->key, key, sizeof row->key);
    row->source = get_text(tuple, "source", desc);
    value = get_column(tuple, desc, "options", &isnull);
    row->options = isnull ? pstrdup("{}") : options_text(DatumGetJsonbP(value));
    strlcpy(row->base, get_text(tuple, "base", desc), sizeof row->base);
    value = get_column(tuple, desc, "image_bytes", &isnull);
    row->image_bytes = isnull ? 0 : DatumGetInt64(value);
    value = get_column(tuple, desc, "parameters", &isnull);
    row->parameters = isnull ? 0 : (uint64) DatumGetInt64(value);
    value = get_column(tuple, desc, "can_generate", &isnull);
    row->can_generate = !isnull && DatumGetBool(value);
    value = get_column(tuple, desc, "can_embed", &isnull);
    row->can_embed = !isnull && DatumGetBool(value);
    value = get_column(tuple, desc, "owner", &isnull);
    row->owner = isnull ? InvalidOid : DatumGetObjectId(value);
}

static int compare_rows(const void *a, const void *b)
{
    return strcmp(((const SlmModelRow *) a)->name, ((const SlmModelRow *) b)->name);
}

static SlmModelRow *find_row(const char *name)
{
    for (int i = 0; i < n_rows; i++) {
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    }
    return NULL;
}

/* Adds the roles that were granted them to the rows. */
static void load_grants(void)
{
    Oid table = slm_pg_extension_relation("model_grant");
    Relation rel;
    SysScanDesc scan;
    HeapTuple tuple;

    if (!OidIsValid(table))
        return;
    rel = table_open(table, AccessShareLock);
    scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
    while (HeapTupleIsValid(tuple = systable_getnext(scan))) {
        char *name = get_text(tuple, "name", RelationGetDescr(rel));
        SlmModelRow *row = find_row(name);
        bool isnull;
        Datum role = get_column(tuple, RelationGetDescr(rel), "role", &isnull);

        if (row != NULL && !isnull)
            row->roles = lappend_oid(row->roles, DatumGetObjectId(role));
        pfree(name);
    }
    systable_endscan(scan);
    table_close(rel, AccessShareLock);
}

static void load_rows(void)
{
    uint64 invalidations = n_invalidations;

    if (rows_valid)
        return;
    registry_oid = need_registry();
    Relation rel = table_open(registry_oid, AccessShareLock);

    if (rows_context == NULL)
        rows_context = AllocSetContextCreate(TopMemoryContext, "slm_pg models", ALLOCSET_SMALL_SIZES);
    MemoryContextReset(rows_context);
    n_rows = 0;
    MemoryContext old = MemoryContextSwitchTo(rows_context);
    int capacity = 16;
    rows = palloc(sizeof(SlmModelRow) * (Size) capacity);
    SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
    HeapTuple tuple;

    while (HeapTupleIsValid(tuple = systable_getnext(scan))) {
        if (n_rows == capacity) {
            capacity *= 2;
            rows = repalloc(rows, sizeof(SlmModelRow) * (Size) capacity);
        }
        memset(&rows[n_rows], 0, sizeof rows[0]);
        read_row(tuple, RelationGetDescr(rel), &rows[n_rows]);
        n_rows++;
    }
    systable_endscan(scan);
    qsort(rows, (size_t) n_rows, sizeof(SlmModelRow), compare_rows); /* messages name the same row wherever the rows lie */
    load_grants();
    MemoryContextSwitchTo(old);
    table_close(rel, AccessShareLock);
    rows_valid = invalidations == n_invalidations;
    if (rows_valid)
        rows_changed();
}

const SlmModelRow *slm_pg_nth_model(int i)
{
    load_rows();
    return i < n_rows ? &rows[i] : NULL;
}

const SlmModelRow *slm_pg_find_model(const char *name)
{
    load_rows();
    return find_row(name);
}

bool slm_pg_registry_reread(void)
{
    rows_valid = false;
    if (!OidIsValid(find_registry()))
        return false; /* dropped with the extension, maybe by this transaction */
    load_rows();
    return true;
}

bool slm_pg_key_in_use(const char *key)
{
    if (!slm_pg_registry_reread())
        return false;
    for (int i = 0; i < n_rows; i++) {
        if (strcmp(rows[i].key, key) == 0)
            return true;
    }
    return false;
}

/* ---- names and privileges */

void slm_pg_check_name(const char *what, const char *name)
{
    size_t n = strlen(name);
    bool ok = n > 0 && n <= SLM_NAME_MAX && strchr("._-:", name[0]) == NULL;

    for (size_t i = 0; i < n && ok; i++) {
        char c = name[i];

        ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("._-:", c) != NULL;
    }
    if (!ok)
        ereport(ERROR, (errcode(ERRCODE_INVALID_NAME), errmsg("invalid %s name \"%s\"", what, name),
                        errhint("A name has 1 to %d characters: letters, digits, \".\", \"_\", \"-\" and \":\", and begins with a letter "
                                "or a digit.",
                                SLM_NAME_MAX)));
}

static bool owner_exists(const SlmModelRow *row)
{
    return OidIsValid(row->owner) && SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(row->owner));
}

bool slm_pg_owns_model(const SlmModelRow *row)
{
    return superuser() || (owner_exists(row) && has_privs_of_role(GetUserId(), row->owner));
}

bool slm_pg_may_use_model(const SlmModelRow *row)
{
    ListCell *lc;

    if (slm_pg_owns_model(row))
        return true;
    if (!owner_exists(row))
        return false;
    foreach (lc, row->roles) {
        if (!OidIsValid(lfirst_oid(lc)) || has_privs_of_role(GetUserId(), lfirst_oid(lc)))
            return true;
    }
    return false;
}

/* The known name that is like an unknown one, for models or for adapters. */
static const char *like(const char *name, bool adapters)
{
    SlmNearest nearest;
    const SlmModelRow *row;

    slm_pg_nearest_begin(&nearest, name);
    for (int i = 0; (row = slm_pg_nth_model(i)) != NULL; i++) {
        if ((row->base[0] != '\0') == adapters && slm_pg_may_use_model(row))
            slm_pg_nearest_try(&nearest, row->name);
    }
    return slm_pg_did_you_mean(&nearest);
}

void slm_pg_unknown_model(const char *name)
{
    const char *similar = like(name, false), *elsewhere = slm_pg_store_databases_with(name);

    if (similar[0] == '\0' && elsewhere != NULL)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("model \"%s\" does not exist", name),
                        errdetail("Models belong to a database; %s has one of that name.", elsewhere),
                        errhint("Load it here too, which takes no more disk: slm_load_model(). The view slm.models lists the models.")));
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("model \"%s\" does not exist", name),
                    errhint("%sThe view slm.models lists the loaded models; slm_load_model() loads one.", similar)));
    pg_unreachable();
}

/* In place of a refusal: what the owner could do, there is no owner to do. */
static void refuse_without_owner(const SlmModelRow *row, const char *what)
{
    if (owner_exists(row))
        return;
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                    errmsg("permission denied for %s \"%s\": its owner was dropped", what, row->name),
                    errhint("A superuser can run: SELECT slm_set_model_owner('%s', %s);", row->name,
                            quote_literal_cstr(GetUserNameFromId(GetUserId(), true)))));
}

const SlmModelRow *slm_pg_owned_model(const char *name)
{
    const SlmModelRow *row = slm_pg_find_model(name);
    const char *what;

    if (row == NULL)
        slm_pg_unknown_model(name);
    if (slm_pg_owns_model(row))
        return row;
    what = row->base[0] != '\0' ? "adapter" : "model";
    refuse_without_owner(row, what);
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be owner of %s \"%s\"", what, name),
                    errhint("Its owner is \"%s\".", GetUserNameFromId(row->owner, true))));
    pg_unreachable();
}

static bool is_set(const char *setting)
{
    return setting != NULL && setting[0] != '\0';
}

SlmTask slm_pg_deciding_task(SlmTask task)
{
    if (task != SLM_TASK_CHUNK)
        return task;
    return is_set(slm_guc_embed_model) ? SLM_TASK_EMBED : SLM_TASK_ANY;
}

const char *slm_pg_default_model(SlmTask task)
{
    const char *name = slm_guc_generate_model;

    task = slm_pg_deciding_task(task);
    if (task == SLM_TASK_CLASSIFY && is_set(slm_guc_embed_model)) /* the better classifier (DESIGN D19) */
        name = slm_guc_embed_model;
    if (task == SLM_TASK_CLASSIFY && is_set(slm_guc_classify_model))
        name = slm_guc_classify_model;
    if (task == SLM_TASK_EMBED || task == SLM_TASK_RERANK)
        name = slm_guc_embed_model;
    if (task == SLM_TASK_ENTITIES)
        name = slm_guc_entity_model;
    return is_set(name) ? name : NULL;
}

/* Of the models that the user may use, the first that does a task; NULL.  Encoders label better than they who write. */
static const char *fitting_model(SlmTask task)
{
    const char *second = NULL;
    const SlmModelRow *row;

    for (int i = 0; (row = slm_pg_nth_model(i)) != NULL; i++) {
        bool embeds = task != SLM_TASK_GENERATE && task != SLM_TASK_ANY && row->can_embed;

        if (row->base[0] != '\0' || task == SLM_TASK_ENTITIES || !slm_pg_may_use_model(row))
            continue;
        if (embeds || (task != SLM_TASK_CLASSIFY && row->can_generate && task != SLM_TASK_EMBED && task != SLM_TASK_RERANK))
            return row->name;
        if (task == SLM_TASK_CLASSIFY && row->can_generate && second == NULL)
            second = row->name;
    }
    return second;
}

static pg_noreturn void no_model(SlmTask task, const char *setting);

static void no_model(SlmTask task, const char *setting)
{
    const char *fits = fitting_model(task), *hint;
    bool usable = false;

    for (int i = 0; slm_pg_nth_model(i) != NULL; i++)
        usable = usable || slm_pg_may_use_model(slm_pg_nth_model(i));
    if (usable)
        hint = psprintf("Pass model => '%s', or SET %s = '%s'. The view slm.models lists the loaded models.", fits == NULL ? "name" : fits,
                        setting, fits == NULL ? "name" : fits);
    else if (slm_pg_nth_model(0) != NULL)
        hint = psprintf("None of the loaded models may be used by you: their owner, or a superuser, can run slm_grant_model('model', %s).",
                        quote_literal_cstr(GetUserNameFromId(GetUserId(), false)));
    else
        hint = "No model is loaded in this database: slm_load_model() loads one from a file of the server.";
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("no model was named and %s is not set", setting),
                    errhint("%s", hint)));
    pg_unreachable();
}

const char *slm_pg_need_default_model(SlmTask task)
{
    const char *name = slm_pg_default_model(task);
    const char *setting = task == SLM_TASK_CLASSIFY                           ? "slm.classify_model"
                          : task == SLM_TASK_EMBED || task == SLM_TASK_RERANK ? "slm.embed_model"
                          : task == SLM_TASK_ENTITIES                         ? "slm.entity_model"
                                                                              : "slm.generate_model";

    if (name == NULL)
        no_model(task, setting);
    return name;
}

/* Has the row the first n bytes of key as its own? */
static bool has_key(const SlmModelRow *row, const char *key, size_t n)
{
    return n > 0 && strncmp(row->key, key, n) == 0 && row->key[n] == '\0';
}

const char *slm_pg_nth_of_key(const char *key, int i, bool *may_use)
{
    const char *plus = strchr(key, '+');
    size_t n = plus == NULL ? strlen(key) : (size_t) (plus - key);
    const SlmModelRow *base, *row;

    for (int b = 0; (base = slm_pg_nth_model(b)) != NULL; b++) {
        if (!has_key(base, key, n) || base->base[0] != '\0')
            continue;
        *may_use = slm_pg_may_use_model(base);
        if (plus == NULL && i-- == 0)
            return pstrdup(base->name);
        for (int a = 0; plus != NULL && (row = slm_pg_nth_model(a)) != NULL; a++)
            if (has_key(row, plus + 1, strlen(plus + 1)) && strcmp(row->base, base->name) == 0 && i-- == 0) {
                *may_use = *may_use && slm_pg_may_use_model(row);
                return psprintf("%s+%s", base->name, row->name);
            }
    }
    return NULL;
}

void slm_pg_unknown_adapter(const char *name)
{
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("adapter \"%s\" does not exist", name),
                    errhint("%sThe view slm.adapters lists the loaded adapters; slm_load_adapter() loads one.", like(name, true))));
    pg_unreachable();
}

void slm_pg_check_may_use(const SlmModelRow *row, const char *what)
{
    if (slm_pg_may_use_model(row))
        return;
    refuse_without_owner(row, what);
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for %s \"%s\"", what, row->name),
                    errhint("Its owner or a superuser can run: SELECT slm_grant_model('%s', %s);", row->name,
                            quote_literal_cstr(GetUserNameFromId(GetUserId(), true)))));
}

/* ---- staying current */

void slm_pg_registry_changed(void)
{
    CacheInvalidateRelcacheByRelid(need_registry());
}

static void at_relcache_inval(Datum arg, Oid relid)
{
    if (relid == InvalidOid || relid == registry_oid) {
        rows_valid = false;
        n_invalidations++;
    }
}

static void at_xact_end(XactEvent event, void *arg)
{
    if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE || event == XACT_EVENT_PARALLEL_COMMIT ||
        event == XACT_EVENT_PARALLEL_ABORT)
        rows_valid = false;
}

void slm_pg_catalog_init(void (*changed)(void))
{
    rows_changed = changed;
    CacheRegisterRelcacheCallback(at_relcache_inval, (Datum) 0);
    RegisterXactCallback(at_xact_end, NULL);
}
