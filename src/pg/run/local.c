/*
 * local.c: the models that this backend has mapped, one engine session for each, and the requests that run in them.
 *
 * An entry is found by the image's key, so a model that was dropped and loaded from another file is another entry.  A request (SlmRun)
 * lives at most as long as the memory context in which it was started: its reset callback is registered before the request exists.  An
 * error of the statement ends it earlier: at abort every session is reset, at the abort of a subtransaction its own requests.
 *
 * A model with an adapter is an entry beside the model's own, without a session: its requests run in the model's session, in one batch
 * with
 * those of the model and of its other adapters.
 *
 * Whoever holds an entry across code that may use other models, or look at a changed catalog, pins it: slm_pg_use_model() does so for the
 * life of its caller's memory context.  A model that was dropped is thus there until the last statement that uses it has ended.
 *
 * Invariants: an entry with runs or pins is never closed, nor is the base of one; slm_poll is called in one place only, which hands each
 * result to its run, so that a stream and an ordinary call can share a session; the engine is never called from inside the engine.
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
#include "pg/base/threads.h"
#include "pg/models/catalog.h"
#include "pg/models/rebuild.h"
#include "pg/models/store.h"
#include "pg/models/tuning.h"
#include "pg/run/backend.h"
#include "pg/run/backends.h"
#include "pg/run/memory.h"
#include "pg/run/progress.h"
#include "pg/run/usage.h"

#define MAX_OPEN_MODELS 8 /* kept mapped per backend; those without running requests are closed, least recently used first */

#define MAX_ADAPTED 32 /* models with adapters */

static dlist_head entries = DLIST_STATIC_INIT(entries);
static dlist_head adapted = DLIST_STATIC_INIT(adapted); /* entries with a base, most recently used first */
static int n_adapted;
static int n_entries;
static int n_runs; /* of all entries */

static void close_adapted(SlmEntry *entry)
{
    slm_adapter_close(entry->adapter);
    dlist_delete(&entry->node);
    n_adapted--;
    pfree(entry);
}

static void close_entry(SlmEntry *entry)
{
    dlist_mutable_iter it;

    dlist_foreach_modify(it, &adapted) {
        if (dlist_container(SlmEntry, node, it.cur)->base == entry)
            close_adapted(dlist_container(SlmEntry, node, it.cur));
    }
    slm_session_free(entry->session);
    slm_model_close(entry->model);
    dlist_delete(&entry->node);
    n_entries--;
    pfree(entry);
    slm_pg_backends_update();
}

SlmEntry *slm_pg_find_entry(const char *key)
{
    dlist_iter it;

    dlist_foreach(it, &entries) {
        SlmEntry *entry = dlist_container(SlmEntry, node, it.cur);

        if (strcmp(entry->key, key) == 0)
            return entry;
    }
    return NULL;
}

const slm_model_info *slm_pg_info(const SlmEntry *entry)
{
    return slm_model_get_info(entry->model);
}

static bool in_use(const SlmEntry *entry)
{
    return entry->n_pins > 0 || !dlist_is_empty(unconstify(dlist_head *, &entry->runs));
}

static void make_room(void)
{
    while (n_entries >= MAX_OPEN_MODELS) {
        SlmEntry *oldest = NULL;
        dlist_iter it;

        dlist_foreach(it, &entries) {
            SlmEntry *entry = dlist_container(SlmEntry, node, it.cur);

            if (!in_use(entry) && (oldest == NULL || entry->last_use < oldest->last_use))
                oldest = entry;
        }
        if (oldest == NULL)
            return; /* all are busy: one more for now */
        close_entry(oldest);
    }
}

static pg_noreturn void image_missing(const SlmModelRow *row, const char *path);

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

static void image_missing(const SlmModelRow *row, const char *path)
{
    const char *again = call_again(row), *what = row->base[0] != '\0' ? "adapter" : "model";

    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FILE), errmsg("the image of %s \"%s\" is not on this server", what, row->name),
                    errdetail("There is no file \"%s\".", slm_pg_store_shown(path)),
                    again != NULL
                        ? errhint("After a restore or on a standby, run again what made it, with the same file: SELECT %s;", again)
                        : errhint("Its owner or a superuser can make it again from its source, as after a restore.")));
    pg_unreachable();
}

SlmEntry *slm_pg_open_entry(const SlmModelRow *row)
{
    char *path = slm_pg_store_image(row->key), *key, *name;
    struct stat st = {0};
    slm_model *model;
    SlmEntry *entry;
    slm_error err;

    make_room();
    slm_pg_tune();
    if (stat(path, &st) != 0 && errno == ENOENT)
        image_missing(row, path);
    key = pstrdup(row->key); /* rows are read anew while we wait for a lock */
    name = pstrdup(row->name);
    if (slm_pg_open_image(key, name, &model, &err) != SLM_OK)
        slm_pg_error(&err, psprintf("could not open the image of model \"%s\"", name));
    entry = MemoryContextAllocExtended(TopMemoryContext, sizeof(SlmEntry), MCXT_ALLOC_ZERO | MCXT_ALLOC_NO_OOM);
    if (entry == NULL) {
        slm_model_close(model);
        ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
    }
    strlcpy(entry->key, key, sizeof entry->key);
    strlcpy(entry->name, name, sizeof entry->name);
    entry->device = st.st_dev;
    entry->inode = st.st_ino;
    entry->model = model;
    entry->last_use = GetCurrentStatementStartTimestamp();
    dlist_init(&entry->runs);
    dlist_push_head(&entries, &entry->node);
    n_entries++;
    slm_pg_store_mark_if_missing(entry->key);
    return entry;
}

static slm_adapter *open_adapter(const SlmEntry *base, const SlmModelRow *row, SlmEntry *entry)
{
    char *path = slm_pg_store_image(row->key);
    struct stat st = {0};
    slm_adapter *adapter;
    slm_error err;

    if (stat(path, &st) != 0 && errno == ENOENT)
        image_missing(row, path);
    if (slm_adapter_open(path, base->model, &adapter, &err) != SLM_OK)
        slm_pg_error(&err, psprintf("could not open the image of adapter \"%s\"", row->name));
    entry->device = st.st_dev;
    entry->inode = st.st_ino;
    return adapter;
}

/* All may be in use: one more for now. */
static void close_oldest_adapted(void)
{
    SlmEntry *oldest = NULL;
    dlist_iter it;

    dlist_foreach(it, &adapted) {
        if (dlist_container(SlmEntry, node, it.cur)->n_pins == 0)
            oldest = dlist_container(SlmEntry, node, it.cur);
    }
    if (oldest != NULL)
        close_adapted(oldest);
}

SlmEntry *slm_pg_adapted_entry(SlmEntry *base, const SlmModelRow *row)
{
    dlist_iter it;
    SlmEntry *entry;
    char key[sizeof base->key];

    snprintf(key, sizeof key, "%s+%s", base->key, row->key);
    dlist_foreach(it, &adapted) {
        entry = dlist_container(SlmEntry, node, it.cur);
        if (entry->base == base && strcmp(entry->key, key) == 0) {
            dlist_move_head(&adapted, &entry->node);
            return entry;
        }
    }
    if (n_adapted >= MAX_ADAPTED)
        close_oldest_adapted();
    entry = MemoryContextAllocZero(TopMemoryContext, sizeof(SlmEntry));
    PG_TRY();
    {
        entry->adapter = open_adapter(base, row, entry);
    }
    PG_CATCH();
    {
        pfree(entry);
        PG_RE_THROW();
    }
    PG_END_TRY();
    strlcpy(entry->key, key, sizeof entry->key);
    entry->base = base;
    entry->model = base->model;
    dlist_init(&entry->runs);
    dlist_push_head(&adapted, &entry->node);
    n_adapted++;
    slm_pg_store_mark_if_missing(row->key);
    return entry;
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

void slm_pg_close_unused(void)
{
    dlist_mutable_iter it;

    dlist_foreach_modify(it, &adapted) {
        SlmEntry *entry = dlist_container(SlmEntry, node, it.cur);

        if (!in_use(entry) && !registered(strchr(entry->key, '+') + 1))
            close_adapted(entry);
    }
    dlist_foreach_modify(it, &entries) {
        SlmEntry *entry = dlist_container(SlmEntry, node, it.cur);

        if (!in_use(entry) && !registered(entry->key))
            close_entry(entry);
    }
}

/* ---- pins */

typedef struct Pin {
    MemoryContextCallback callback;
    SlmEntry *entry;
} Pin;

static void unpin(void *arg)
{
    SlmEntry *entry = ((Pin *) arg)->entry;

    entry->n_pins--;
    if (entry->base != NULL)
        entry->base->n_pins--;
}

void slm_pg_pin(SlmEntry *entry)
{
    Pin *pin = palloc(sizeof *pin);

    pin->entry = entry;
    pin->callback.func = unpin;
    pin->callback.arg = pin;
    MemoryContextRegisterResetCallback(CurrentMemoryContext, &pin->callback);
    entry->n_pins++;
    if (entry->base != NULL)
        entry->base->n_pins++;
}

/* Was the image written anew since it was mapped?  Asked once a statement. */
static bool replaced(SlmEntry *entry, const char *key)
{
    struct stat st;

    if (entry->looked == GetCurrentStatementStartTimestamp())
        return false;
    entry->looked = GetCurrentStatementStartTimestamp();
    return stat(slm_pg_store_path(key, ".img"), &st) == 0 && (st.st_dev != entry->device || st.st_ino != entry->inode);
}

void slm_pg_close_damaged(void)
{
    dlist_mutable_iter it;

    dlist_foreach_modify(it, &adapted) {
        SlmEntry *entry = dlist_container(SlmEntry, node, it.cur);

        if (entry->n_pins == 0 && (slm_adapter_damaged(entry->adapter) || replaced(entry, strchr(entry->key, '+') + 1)))
            close_adapted(entry);
    }
    dlist_foreach_modify(it, &entries) {
        SlmEntry *entry = dlist_container(SlmEntry, node, it.cur);

        if (!in_use(entry) && (slm_model_damaged(entry->model) || replaced(entry, entry->key)))
            close_entry(entry);
    }
}

/* ---- sessions */

static void apply_limits(SlmEntry *entry)
{
    slm_limits limits = {.kv_cache_bytes = slm_pg_kv_cache_bytes(), .n_threads = slm_pg_take_threads(), .stop = SLM_STOP};
    slm_status status = SLM_OK;
    slm_error err;

    if (entry->session == NULL)
        status = slm_session_new(entry->model, &limits, &entry->session, &err);
    else if (entry->limits.kv_cache_bytes != limits.kv_cache_bytes || entry->limits.n_threads != limits.n_threads)
        status = slm_session_set_limits(entry->session, &limits, &err);
    if (status != SLM_OK)
        slm_pg_error(&err, NULL);
    entry->limits = limits;
}

void slm_pg_finish(SlmRun *run)
{
    if (run->entry == NULL)
        return;
    slm_release(run->entry->session, run->id);
    run->entry->n_running -= run->result == NULL;
    dlist_delete(&run->node);
    slm_pg_progress_requests(--n_runs);
    run->entry = NULL;
    run->result = NULL;
    slm_pg_backends_update();
}

static void finish_callback(void *arg)
{
    slm_pg_finish(arg);
}

SlmRun *slm_pg_new_run(void)
{
    SlmRun *run = palloc0(sizeof(SlmRun));

    run->callback.func = finish_callback;
    run->callback.arg = run;
    MemoryContextRegisterResetCallback(CurrentMemoryContext, &run->callback);
    return run;
}

SlmRun *slm_pg_start(SlmEntry *entry, const slm_request *request)
{
    SlmRun *run = slm_pg_new_run();

    (void) slm_pg_start_run(run, entry, request, false);
    return run;
}

bool slm_pg_start_run(SlmRun *run, SlmEntry *entry, const slm_request *request, bool if_it_fits)
{
    slm_request whole = *request;
    slm_status status;
    slm_error err;

    whole.tag = run;
    run->batch = slm_pg_node_running;
    run->subid = GetCurrentSubTransactionId();
    if (entry->base != NULL) {
        whole.adapter = entry->adapter;
        entry = entry->base;
    }
    whole.realm = GetUserId();
    slm_pg_memory_used();
    apply_limits(entry);
    while ((status = slm_submit(entry->session, &whole, &run->id, &err)) == SLM_CANCELLED)
        slm_pg_interrupted();
    slm_pg_give_threads();
    if (status != SLM_OK && if_it_fits && err.cause == SLM_CAUSE_LONG)
        return false;
    if (status != SLM_OK)
        slm_pg_error(&err, NULL);
    run->entry = entry;
    dlist_push_tail(&entry->runs, &run->node);
    entry->n_running++;
    entry->n_requests++;
    slm_pg_progress_requests(++n_runs);
    slm_pg_backends_update();
    return true;
}

size_t slm_pg_prompt_tokens(SlmEntry *entry, const slm_request *request)
{
    slm_status status;
    slm_error err;
    size_t n;

    if (entry->base != NULL)
        entry = entry->base;
    apply_limits(entry);
    while ((status = slm_prompt_tokens(entry->session, request, &n, &err)) == SLM_CANCELLED)
        slm_pg_interrupted();
    slm_pg_give_threads();
    if (status != SLM_OK)
        slm_pg_error(&err, NULL);
    return n;
}

static void count_model(const SlmEntry *entry)
{
    char digest[65];

    strlcpy(digest, entry->key, sizeof digest);
    slm_pg_meter_model(digest);
}

/* Hands finished results to their runs. */
static void collect(SlmEntry *entry)
{
    const slm_result *result;

    while ((result = slm_poll(entry->session)) != NULL) {
        SlmRun *run;

        if (slm_pg_meter != NULL) {
            slm_usage_add(&slm_pg_meter->usage, &result->usage);
            count_model(entry);
        }
        run = result->tag; /* one that is gone has released its request */
        run->result = result;
        if (slm_pg_answered != NULL)
            slm_pg_answered(run->batch, result);
        entry->n_running--;
    }
}

static void end_runs(SlmEntry *entry)
{
    while (!dlist_is_empty(&entry->runs)) {
        SlmRun *run = dlist_container(SlmRun, node, dlist_pop_head_node(&entry->runs));

        run->entry = NULL;
        run->result = NULL;
        n_runs--;
    }
    entry->n_running = 0;
    slm_pg_progress_requests(n_runs);
    if (entry->session != NULL)
        slm_session_reset(entry->session);
    slm_pg_backends_update();
}

/* Tokens that a session has computed or written since it began. */
static uint64 tokens_of(const SlmEntry *entry)
{
    slm_session_stats stats;

    slm_session_get_stats(entry->session, &stats);
    return slm_usage_tokens(&stats.usage);
}

static void step(SlmEntry *entry)
{
    uint64 before = tokens_of(entry);
    slm_error err;
    slm_status status;

    CHECK_FOR_INTERRUPTS();
    status = slm_step(entry->session, NULL, &err);
    slm_pg_progress_tokens(tokens_of(entry) - before);
    slm_pg_backends_update();
    if (status == SLM_CANCELLED) {
        slm_pg_interrupted();
        return;
    }
    if (status != SLM_OK) {
        end_runs(entry);
        slm_pg_error(&err, NULL);
    }
    collect(entry);
}

static SlmEntry *entry_of(const SlmRun *run)
{
    if (run->entry == NULL)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("the request was ended by an error of another statement"), errhint("Run the statement again.")));
    return run->entry;
}

void slm_pg_step_entry(SlmEntry *entry)
{
    apply_limits(entry);
    step(entry);
    slm_pg_give_threads();
}

void slm_pg_step_all(void)
{
    dlist_iter it;

    dlist_foreach(it, &entries) {
        SlmEntry *entry = dlist_container(SlmEntry, node, it.cur);

        if (entry->n_running > 0)
            slm_pg_step_entry(entry);
    }
}

void slm_pg_advance(SlmRun *run)
{
    slm_pg_step_entry(entry_of(run));
}

const slm_result *slm_pg_wait(SlmRun *run)
{
    while (entry_of(run) != NULL && run->result == NULL)
        slm_pg_advance(run);
    if (run->result->status != SLM_OK) {
        slm_error err = run->result->error;

        slm_pg_finish(run);
        slm_pg_error(&err, NULL);
    }
    return run->result;
}

/* ---- giving memory back */

const SlmEntry *slm_pg_nth_entry(int i)
{
    dlist_iter it;

    dlist_foreach(it, &entries) {
        if (i-- == 0)
            return dlist_container(SlmEntry, node, it.cur);
    }
    return NULL;
}

size_t slm_pg_trim_sessions(size_t keep_bytes)
{
    size_t freed = 0;
    dlist_iter it;

    dlist_foreach(it, &entries) {
        SlmEntry *entry = dlist_container(SlmEntry, node, it.cur);

        if (entry->session != NULL)
            freed += slm_session_trim(entry->session, keep_bytes);
    }
    return freed;
}

static void free_session(SlmEntry *entry)
{
    if (!dlist_is_empty(&entry->runs))
        return;
    slm_session_free(entry->session);
    entry->session = NULL;
}

int slm_pg_free_sessions(void)
{
    int n = 0;
    dlist_iter it;

    dlist_foreach(it, &entries) {
        SlmEntry *entry = dlist_container(SlmEntry, node, it.cur);

        free_session(entry);
        n += entry->session != NULL;
    }
    return n;
}

void slm_pg_lower_limits(void)
{
    dlist_iter it;

    dlist_foreach(it, &entries) {
        SlmEntry *entry = dlist_container(SlmEntry, node, it.cur);
        slm_limits limits = entry->limits;

        limits.kv_cache_bytes = Min(limits.kv_cache_bytes, (size_t) slm_guc_kv_cache_kb * 1024);
        if (entry->session == NULL || limits.kv_cache_bytes == entry->limits.kv_cache_bytes)
            continue;
        if (slm_session_set_limits(entry->session, &limits, NULL) == SLM_OK)
            entry->limits = limits;
        else
            free_session(entry); /* less than one block: the next call says so */
    }
}

/* ---- ends of transactions */

static void at_xact_end(XactEvent event, void *arg)
{
    dlist_iter it;

    if (event != XACT_EVENT_ABORT && event != XACT_EVENT_PARALLEL_ABORT)
        return;
    dlist_foreach(it, &entries)
        end_runs(dlist_container(SlmEntry, node, it.cur));
}

static void at_subxact_end(SubXactEvent event, SubTransactionId my, SubTransactionId parent, void *arg)
{
    dlist_iter it;
    dlist_mutable_iter run_it;

    if (event != SUBXACT_EVENT_ABORT_SUB)
        return;
    dlist_foreach(it, &entries) {
        SlmEntry *entry = dlist_container(SlmEntry, node, it.cur);

        dlist_foreach_modify(run_it, &entry->runs) {
            SlmRun *run = dlist_container(SlmRun, node, run_it.cur);

            if (run->subid >= my)
                slm_pg_finish(run);
        }
    }
}

void slm_pg_sessions_init(void)
{
    RegisterXactCallback(at_xact_end, NULL);
    RegisterSubXactCallback(at_subxact_end, NULL);
}
