/*
 * classifiers.c: the cache of opened classifiers (classifiers.h).
 *
 * A change of slm.classifier_registry invalidates the table's relation cache entry, which reaches every backend with its transaction; then
 * all opened versions are stale and are looked up again.  A stale one is freed when its last user lets go.
 */
#include "pg/classifiers.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"

static dlist_head opened = DLIST_STATIC_INIT(opened);
static bool callback_registered;
static Oid registry_table;

static Oid find_registry(void)
{
    return get_relname_relid("classifier_registry", get_namespace_oid("slm", false));
}

void slm_pg_classifiers_changed(void)
{
    CacheInvalidateRelcacheByRelid(find_registry());
}

static void free_unused(void)
{
    dlist_mutable_iter it;

    dlist_foreach_modify (it, &opened) {
        SlmTrained *trained = dlist_container(SlmTrained, node, it.cur);

        if (trained->stale && trained->users == 0) {
            dlist_delete(&trained->node);
            slm_classifier_free(trained->classifier);
            pfree(trained);
        }
    }
}

static void at_relcache_inval(Datum arg, Oid relation)
{
    dlist_iter it;

    if (relation != InvalidOid && relation != registry_table)
        return;
    dlist_foreach (it, &opened)
        dlist_container(SlmTrained, node, it.cur)->stale = true;
}

/* Reads the active version through SPI and opens its blob. */
static SlmTrained *open_classifier(const char *name)
{
    Oid types[1] = {TEXTOID};
    Datum values[1] = {CStringGetTextDatum(name)};
    SlmTrained *trained;
    bytea *blob;
    bool isnull;
    slm_error err;

    if (SPI_connect() != SPI_OK_CONNECT ||
        SPI_execute_with_args(
            "SELECT r.version, r.image, r.blob FROM slm.classifier_registry r WHERE r.name OPERATOR(pg_catalog.=) $1 AND r.active", 1,
            types, values, NULL, true, 1) != SPI_OK_SELECT)
        elog(ERROR, "could not read slm.classifier_registry");
    if (SPI_processed == 0)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("classifier \"%s\" does not exist", name),
                        errhint("The view slm.classifiers lists them; slm_train_classifier() trains one.")));
    blob = DatumGetByteaPP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3, &isnull));
    trained = MemoryContextAllocZero(TopMemoryContext, sizeof *trained);
    strlcpy(trained->name, name, sizeof trained->name);
    trained->version = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
    strlcpy(trained->key, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2), sizeof trained->key);
    if (slm_classifier_open(VARDATA_ANY(blob), VARSIZE_ANY_EXHDR(blob), &trained->classifier, &err) != SLM_OK) {
        pfree(trained);
        slm_pg_error(&err, psprintf("could not open classifier \"%s\"", name));
    }
    SPI_finish();
    dlist_push_head(&opened, &trained->node);
    return trained;
}

static void release_callback(void *arg)
{
    ((SlmTrained *) arg)->users--;
}

SlmTrained *slm_pg_use_classifier(const text *name)
{
    char *wanted = text_to_cstring(name);
    MemoryContextCallback *callback = palloc(sizeof *callback);
    SlmTrained *found = NULL;
    dlist_iter it;

    if (!callback_registered) {
        CacheRegisterRelcacheCallback(at_relcache_inval, (Datum) 0);
        callback_registered = true;
    }
    registry_table = find_registry();
    AcceptInvalidationMessages();
    free_unused();
    dlist_foreach (it, &opened) {
        SlmTrained *trained = dlist_container(SlmTrained, node, it.cur);

        if (!trained->stale && strcmp(trained->name, wanted) == 0)
            found = trained;
    }
    if (found == NULL)
        found = open_classifier(wanted);
    found->users++;
    callback->func = release_callback;
    callback->arg = found;
    MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
    return found;
}

/* Whatever a restored row says: no prediction reads beyond an embedding of the model. */
static SlmEntry *fitting_model(const SlmTrained *trained, const char *model)
{
    SlmEntry *entry = slm_pg_use_model(cstring_to_text(model), SLM_TASK_EMBED);

    if (slm_pg_info(entry)->n_embd != slm_classifier_n_dims(trained->classifier))
        ereport(ERROR, (errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
                        errmsg("classifier \"%s\" does not fit its model: it takes embeddings of %u numbers, \"%s\" makes %u",
                               trained->name, slm_classifier_n_dims(trained->classifier), model, slm_pg_info(entry)->n_embd),
                        errhint("Its row was changed or damaged. Train it again, or restore an earlier version.")));
    return entry;
}

SlmEntry *slm_pg_classifier_model(const SlmTrained *trained)
{
    const SlmModelRow *row;

    for (int i = 0; (row = slm_pg_nth_model(i)) != NULL; i++)
        if (strcmp(row->key, trained->key) == 0)
            return fitting_model(trained, pstrdup(row->name));
    ereport(
        ERROR,
        (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("the model of classifier \"%s\" is not loaded", trained->name),
         errhint(
             "Load the same file again with slm_load_model, or train the classifier anew. slm.classifiers shows the model's digest.")));
    pg_unreachable();
}
