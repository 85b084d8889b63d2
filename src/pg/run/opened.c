/*
 * opened.c: the models that this backend has mapped, and their adapters (opened.h).
 *
 * A model is found by its image's key, so one that was dropped and loaded from another file is another one.  A model with an adapter stands
 * beside the model itself, without a session: its requests run in the model's session, in one batch with those of the model and of its
 * other adapters.
 *
 * Whoever holds one across code that may use other models, or look at a changed catalog, pins it: slm_pg_use_model() does so for the life
 * of its caller's memory context, and a request as long as it lives.  A model that was dropped is thus there until the last statement that
 * uses it has ended.
 *
 * Invariant: what is pinned is never closed, nor is the base of it.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "engine/slm.h"
#include "pg/base/errors.h"
#include "pg/base/guc.h"
#include "pg/models/catalog.h"
#include "pg/models/rebuild.h"
#include "pg/models/store.h"
#include "pg/models/stored.h"
#include "pg/models/tuning.h"
#include "pg/run/constraints.h"
#include "pg/run/backends.h"
#include "pg/run/internal.h"
#include "pg/run/opened.h"

#define MAX_MODELS 8   /* kept mapped per backend; those that nobody uses are closed, least recently used first */
#define MAX_ADAPTED 32 /* models with adapters */

static dlist_head models = DLIST_STATIC_INIT(models);
static dlist_head adapted = DLIST_STATIC_INIT(adapted); /* those with a base, most recently used first */
static int n_models, n_adapted;

/* ---- what it is */

SlmOpenModel *slm_pg_find_opened(const char *key)
{
    dlist_iter it;

    dlist_foreach(it, &models) {
        SlmOpenModel *opened = dlist_container(SlmOpenModel, node, it.cur);

        if (strcmp(opened->key, key) == 0)
            return opened;
    }
    return NULL;
}

SlmOpenModel *slm_pg_nth_opened(int i)
{
    dlist_iter it;

    dlist_foreach(it, &models) {
        if (i-- == 0)
            return dlist_container(SlmOpenModel, node, it.cur);
    }
    return NULL;
}

const char *slm_pg_opened_key(const SlmOpenModel *opened)
{
    return opened->key;
}

slm_model *slm_pg_opened_model(const SlmOpenModel *opened)
{
    return opened->model;
}

const slm_adapter *slm_pg_opened_adapter(const SlmOpenModel *opened)
{
    return opened->adapter;
}

const slm_model_info *slm_pg_info(const SlmOpenModel *opened)
{
    return slm_model_get_info(opened->model);
}

const char *slm_pg_text_prompt(const SlmOpenModel *opened, bool query)
{
    const slm_model_info *info = slm_pg_info(opened);
    const char *own = opened->adapter != NULL ? slm_adapter_get_info(opened->adapter)->prompt : "";

    return own[0] != '\0' ? own : query ? info->query_prompt : info->document_prompt;
}

TimestampTz slm_pg_opened_last_use(const SlmOpenModel *opened)
{
    return opened->last_use;
}

void slm_pg_touch_opened(SlmOpenModel *opened)
{
    opened->last_use = GetCurrentStatementStartTimestamp();
}

/* ---- pins */

typedef struct Pin {
    MemoryContextCallback callback;
    SlmOpenModel *opened;
} Pin;

void slm_pg_count_pin(SlmOpenModel *opened, int n)
{
    opened->n_pins += n;
    if (opened->base != NULL)
        opened->base->n_pins += n;
}

static void unpin(void *arg)
{
    slm_pg_count_pin(((Pin *) arg)->opened, -1);
}

void slm_pg_pin(SlmOpenModel *opened)
{
    Pin *pin = palloc(sizeof *pin);

    pin->opened = opened;
    pin->callback.func = unpin;
    pin->callback.arg = pin;
    MemoryContextRegisterResetCallback(CurrentMemoryContext, &pin->callback);
    slm_pg_count_pin(opened, 1);
}

/* ---- closing */

static void close_adapted(SlmOpenModel *opened)
{
    slm_adapter_close(opened->adapter);
    dlist_delete(&opened->node);
    n_adapted--;
    pfree(opened);
}

static void close_model(SlmOpenModel *opened)
{
    dlist_mutable_iter it;

    dlist_foreach_modify(it, &adapted) {
        if (dlist_container(SlmOpenModel, node, it.cur)->base == opened)
            close_adapted(dlist_container(SlmOpenModel, node, it.cur));
    }
    slm_pg_local_close(opened);
    slm_pg_forget_constraints(opened->model);
    slm_model_close(opened->model);
    dlist_delete(&opened->node);
    n_models--;
    pfree(opened);
    slm_pg_backends_update();
}

/* Where all are in use there is one more for now. */
static void make_room(void)
{
    while (n_models >= MAX_MODELS) {
        SlmOpenModel *oldest = NULL;
        dlist_iter it;

        dlist_foreach(it, &models) {
            SlmOpenModel *opened = dlist_container(SlmOpenModel, node, it.cur);

            if (opened->n_pins == 0 && (oldest == NULL || opened->last_use < oldest->last_use))
                oldest = opened;
        }
        if (oldest == NULL)
            return;
        close_model(oldest);
    }
}

static void close_oldest_adapted(void)
{
    SlmOpenModel *oldest = NULL;
    dlist_iter it;

    dlist_foreach(it, &adapted) {
        if (dlist_container(SlmOpenModel, node, it.cur)->n_pins == 0)
            oldest = dlist_container(SlmOpenModel, node, it.cur);
    }
    if (oldest != NULL)
        close_adapted(oldest);
}

/* Is there a row whose image has this key? */
static bool registered(const char *key)
{
    const SlmModelRow *row;

    for (int i = 0; (row = slm_pg_nth_model(i)) != NULL; i++) {
        if (strcmp(row->key, key) == 0)
            return true;
    }
    return false;
}

static const char *adapter_key(const SlmOpenModel *opened)
{
    return strchr(opened->key, '+') + 1;
}

void slm_pg_close_unused(void)
{
    dlist_mutable_iter it;

    dlist_foreach_modify(it, &adapted) {
        SlmOpenModel *opened = dlist_container(SlmOpenModel, node, it.cur);

        if (opened->n_pins == 0 && !registered(adapter_key(opened)))
            close_adapted(opened);
    }
    dlist_foreach_modify(it, &models) {
        SlmOpenModel *opened = dlist_container(SlmOpenModel, node, it.cur);

        if (opened->n_pins == 0 && !registered(opened->key))
            close_model(opened);
    }
}

/* Was the image written anew since it was mapped?  Asked once a statement. */
static bool replaced(SlmOpenModel *opened, const char *key)
{
    struct stat st;

    if (opened->looked == GetCurrentStatementStartTimestamp())
        return false;
    opened->looked = GetCurrentStatementStartTimestamp();
    return stat(slm_pg_store_path(key, ".img"), &st) == 0 && (st.st_dev != opened->device || st.st_ino != opened->inode);
}

void slm_pg_close_damaged(void)
{
    dlist_mutable_iter it;

    dlist_foreach_modify(it, &adapted) {
        SlmOpenModel *opened = dlist_container(SlmOpenModel, node, it.cur);

        if (opened->n_pins == 0 && (slm_adapter_damaged(opened->adapter) || replaced(opened, adapter_key(opened))))
            close_adapted(opened);
    }
    dlist_foreach_modify(it, &models) {
        SlmOpenModel *opened = dlist_container(SlmOpenModel, node, it.cur);

        if (opened->n_pins == 0 && (slm_model_damaged(opened->model) || replaced(opened, opened->key)))
            close_model(opened);
    }
}

/* ---- opening */

/* The call that makes it again. The source is a path of the server: for those who may load from it, and the owner. */
static char *call_again(const SlmModelRow *row)
{
    const char *name = quote_literal_cstr(row->name), *source = quote_literal_cstr(row->source);

    if (!slm_pg_owns_model(row) && !has_privs_of_role(GetUserId(), ROLE_PG_READ_SERVER_FILES))
        return NULL;
    if (strncmp(row->source, "slm_quantize_model(", 19) == 0)
        return pstrdup(row->source);
    if (row->base[0] != '\0')
        return psprintf("slm_load_adapter(%s, %s, %s)", name, quote_literal_cstr(row->base), source);
    if (strcmp(row->options, "{}") != 0)
        return psprintf("slm_load_model(%s, %s, %s)", name, source, quote_literal_cstr(row->options));
    return psprintf("slm_load_model(%s, %s)", name, source);
}

static pg_noreturn void image_missing(const SlmModelRow *row, const char *path);

static void image_missing(const SlmModelRow *row, const char *path)
{
    const char *again = call_again(row), *what = row->base[0] != '\0' ? "adapter" : "model";

    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FILE), errmsg("the image of %s \"%s\" is not on this server", what, row->name),
                    errdetail("There is no file \"%s\".", slm_pg_store_shown(path)),
                    again != NULL
                        ? errhint("After a restore or on a standby, run again what made it, with the same file: SELECT %s; after "
                                  "pg_upgrade, copy the directory \"%s\" of the old cluster into the new one. What slm_store_model() has "
                                  "stored needs neither.", again, slm_guc_model_directory)
                        : errhint("Its owner or a superuser can make it again from its source, as after a restore.")));
    pg_unreachable();
}

/* The image's file, made from what is stored with the data where it is missing; an ERROR when it is not there. */
static struct stat image_here(const SlmModelRow *row, const char *path)
{
    char *key = pstrdup(row->key), *name = pstrdup(row->name);
    struct stat st = {0};

    if (stat(path, &st) != 0 && errno == ENOENT) {
        if (!slm_pg_restore_image(key, name)) {
            row = slm_pg_find_model(name);
            if (row == NULL)
                slm_pg_unknown_model(name);
            image_missing(row, path);
        }
        (void) stat(path, &st);
    }
    return st;
}

SlmOpenModel *slm_pg_open_model(const SlmModelRow *row)
{
    char *path = slm_pg_store_image(row->key);
    char *key = pstrdup(row->key), *name = pstrdup(row->name); /* rows are read anew while we wait for a lock */
    struct stat st;
    SlmOpenModel *opened;
    slm_model *model;
    slm_error err;

    make_room();
    slm_pg_tune();
    st = image_here(row, path);
    if (slm_pg_open_image(key, name, &model, &err) != SLM_OK)
        slm_pg_error(&err, psprintf("could not open the image of model \"%s\"", name));
    opened = MemoryContextAllocExtended(TopMemoryContext, sizeof *opened, MCXT_ALLOC_ZERO | MCXT_ALLOC_NO_OOM);
    if (opened == NULL) {
        slm_model_close(model);
        ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
    }
    strlcpy(opened->key, key, sizeof opened->key);
    strlcpy(opened->name, name, sizeof opened->name);
    opened->device = st.st_dev;
    opened->inode = st.st_ino;
    opened->model = model;
    slm_pg_touch_opened(opened);
    dlist_push_head(&models, &opened->node);
    n_models++;
    slm_pg_store_mark_if_missing(opened->key);
    return opened;
}

static slm_adapter *open_adapter(const SlmOpenModel *base, const SlmModelRow *row, SlmOpenModel *opened)
{
    char *path = slm_pg_store_image(row->key), *name = pstrdup(row->name);
    struct stat st = image_here(row, path);
    slm_adapter *adapter;
    slm_error err;

    if (slm_adapter_open(path, base->model, &adapter, &err) != SLM_OK)
        slm_pg_error(&err, psprintf("could not open the image of adapter \"%s\"", name));
    opened->device = st.st_dev;
    opened->inode = st.st_ino;
    return adapter;
}

SlmOpenModel *slm_pg_open_adapted(SlmOpenModel *base, const SlmModelRow *row)
{
    dlist_iter it;
    SlmOpenModel *opened;
    char key[sizeof base->key], image[SLM_KEY_SIZE];

    strlcpy(image, row->key, sizeof image); /* rows are read anew while we wait */
    snprintf(key, sizeof key, "%s+%s", base->key, row->key);
    dlist_foreach(it, &adapted) {
        opened = dlist_container(SlmOpenModel, node, it.cur);
        if (opened->base == base && strcmp(opened->key, key) == 0) {
            dlist_move_head(&adapted, &opened->node);
            return opened;
        }
    }
    if (n_adapted >= MAX_ADAPTED)
        close_oldest_adapted();
    opened = MemoryContextAllocZero(TopMemoryContext, sizeof *opened);
    PG_TRY();
    {
        opened->adapter = open_adapter(base, row, opened);
    }
    PG_CATCH();
    {
        pfree(opened);
        PG_RE_THROW();
    }
    PG_END_TRY();
    strlcpy(opened->key, key, sizeof opened->key);
    strlcpy(opened->name, row->name, sizeof opened->name);
    opened->base = base;
    opened->model = base->model;
    dlist_push_head(&adapted, &opened->node);
    n_adapted++;
    slm_pg_store_mark_if_missing(image);
    return opened;
}
