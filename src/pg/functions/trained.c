/*
 * trained.c: the versions of classifiers that this backend has opened (trained.h).
 *
 * Which version is active, and who may use it, is what slm.classifier_registry says by the snapshot of the statement: a statement that runs
 * goes on with what it began with.  The answer is remembered for the snapshot and the role for which it was found (asked.h), so the rows
 * of a statement look once.
 */
#include "pg/functions/trained.h"

#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "engine/slm.h"
#include "pg/base/compat.h"
#include "pg/base/errors.h"
#include "pg/models/catalog.h"
#include "pg/models/classifier_rows.h"
#include "pg/run/opened.h"
#include "pg/run/usage.h"
#include "pg/run/use.h"

static dlist_head opened = DLIST_STATIC_INIT(opened); /* most recently used first */

/* ---- opening */

static void free_classifier(void *arg)
{
    slm_classifier_free(arg);
}

slm_classifier *slm_pg_open_blob(const void *blob, size_t bytes, slm_error *err)
{
    MemoryContextCallback *callback = palloc(sizeof *callback);
    slm_classifier *classifier;

    if (slm_classifier_open(blob, bytes, &classifier, err) != SLM_OK)
        return NULL;
    callback->func = free_classifier;
    callback->arg = classifier;
    MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
    return classifier;
}

slm_classifier *slm_pg_open_classifier(const struct varlena *blob, slm_error *err)
{
    return slm_pg_open_blob(VARDATA_ANY(blob), VARSIZE_ANY_EXHDR(blob), err);
}

static void close_kept(SlmKept *kept)
{
    slm_classifier_free(((SlmTrained *) kept)->classifier);
    pfree(kept);
}

static SlmTrained *open_version(const SlmVersion *version)
{
    struct varlena *blob = slm_pg_version_value(version, Anum_slm_classifier_blob);
    slm_classifier *classifier;
    slm_error err;
    SlmTrained *trained;

    slm_pg_kept_room(&opened, version->name, close_kept);
    trained = MemoryContextAllocZero(TopMemoryContext, sizeof *trained);
    if (slm_classifier_open(VARDATA_ANY(blob), VARSIZE_ANY_EXHDR(blob), &classifier, &err) != SLM_OK) {
        pfree(trained);
        slm_pg_error(&err, psprintf("could not open classifier \"%s\"", version->name));
    }
    pfree(blob);
    trained->version = version->version;
    strlcpy(trained->key, version->key, sizeof trained->key);
    trained->classifier = classifier;
    slm_pg_keep(&opened, &trained->kept, version->name, version->tuple);
    return trained;
}

static SlmTrained *opened_from(const SlmVersion *version)
{
    SlmTrained *trained = (SlmTrained *) slm_pg_kept_row(&opened, version->name, version->tuple);

    return trained != NULL && trained->version == version->version ? trained : open_version(version);
}

/* ---- using */

static const SlmVersion *usable_version(const char *name, Snapshot snapshot)
{
    List *versions = slm_pg_versions(name, snapshot);
    const SlmVersion *active = slm_pg_active_version(versions), *any = versions == NIL ? NULL : linitial(versions);

    if (any == NULL)
        slm_pg_unknown_classifier(name, snapshot);
    if (!slm_pg_may_use_classifier(name, any->owner, snapshot))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for classifier \"%s\"", name),
                        errhint("Its owner or a superuser can run: SELECT slm_grant_classifier('%s', %s);", name,
                                quote_literal_cstr(GetUserNameFromId(GetUserId(), true)))));
    if (active == NULL)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("classifier \"%s\" has no active version", name),
                        errhint("Its owner or a superuser can run: SELECT slm_restore_classifier('%s', %d);", name,
                                ((SlmVersion *) llast(versions))->version)));
    return active;
}

SlmTrained *slm_pg_use_classifier(const text *name)
{
    char *wanted = text_to_cstring(name);
    Snapshot snapshot = GetActiveSnapshot();
    SlmAsked asked = slm_pg_asked_by(snapshot);
    SlmTrained *found = (SlmTrained *) slm_pg_kept_answer(&opened, wanted, &asked);

    if (found == NULL) {
        found = opened_from(usable_version(wanted, snapshot));
        found->kept.asked = asked;
        found->has_model = false;
    }
    if (slm_pg_meter != NULL) /* a job's rows say which version they were computed with */
        slm_pg_meter_model(psprintf("%s@%d", found->kept.name, found->version));
    slm_pg_use_kept(&opened, &found->kept);
    return found;
}

/* ---- its model */

/* Whatever a restored row says: no prediction reads beyond an embedding of the model. */
static SlmOpenModel *fitting_model(const SlmTrained *trained, const char *model)
{
    SlmOpenModel *entry = slm_pg_use_model(cstring_to_text(model), SLM_TASK_EMBED);

    if (slm_pg_info(entry)->n_embd != slm_classifier_n_dims(trained->classifier))
        ereport(ERROR, (errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
                        errmsg("classifier \"%s\" does not fit its model: it takes embeddings of %u numbers, \"%s\" makes %u",
                               trained->kept.name, slm_classifier_n_dims(trained->classifier), model, slm_pg_info(entry)->n_embd),
                        errhint("Its row was changed or damaged. Train it again, or restore an earlier version.")));
    return entry;
}

SlmOpenModel *slm_pg_classifier_model(SlmTrained *trained)
{
    SlmOpenModel *entry;
    const char *name, *forbidden = NULL;
    bool may_use;

    for (int i = 0; (name = slm_pg_nth_of_key(trained->key, i, &may_use)) != NULL; i++) {
        if (may_use) {
            entry = fitting_model(trained, name);
            trained->has_model = true;
            return entry;
        }
        forbidden = name;
    }
    if (trained->has_model && forbidden == NULL && (entry = slm_pg_find_opened(trained->key)) != NULL) {
        slm_pg_touch_opened(entry); /* dropped meanwhile: a statement that runs goes on with what it began with */
        slm_pg_pin(entry);
        return entry;
    }
    if (forbidden != NULL)
        return fitting_model(trained, forbidden); /* says what is missing */
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("the model of classifier \"%s\" is not loaded", trained->kept.name),
                    strchr(trained->key, '+') != NULL
                        ? errhint("It was trained on a model with an adapter: restore the adapter's version with slm_restore_finetune, or "
                                  "train the classifier anew.")
                        : errhint("Load the same file again with slm_load_model, or train the classifier anew. slm.classifiers shows the "
                                  "model's digest.")));
    pg_unreachable();
}
