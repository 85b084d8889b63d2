/*
 * work.c: calls of slm_* functions as works (work.h).
 *
 *   begin ──► runs in the work's own memory context ──► step ... ──► all runs have results ──► finish
 *
 * A scalar call steps the sessions of its own runs only; the batch node steps all.  A work's error is raised by slm_pg_work_finish and
 * nowhere else, so that an error of row n is raised when row n would have been returned.
 */
#include "pg/work.h"

#include "pg/batch/progress.h"
#include "pg/row_error.h"
#include "pg/slm_pg.h"

#include "access/htup_details.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "funcapi.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/syscache.h"

#define LIBRARY "$libdir/slm_pg"

struct SlmWork {
    const SlmWorkKind *kind;
    MemoryContext context;
    List *runs; /* of SlmRun, in order of submission */
    void *state;
    TupleDesc row; /* of functions that return one */
    bool decided;
    bool decided_null;
    Datum value;
};

static const SlmWorkKind *const kinds[] = {&slm_pg_generate_kind,  &slm_pg_generate_details_kind, &slm_pg_chat_kind,
                                           &slm_pg_summarize_kind, &slm_pg_classify_kind,         &slm_pg_perplexity_kind,
                                           &slm_pg_embed_kind,     &slm_pg_embed_query_kind,      &slm_pg_similarity_kind,
                                           &slm_pg_classify_multi_kind, &slm_pg_classify_details_kind,
                                           &slm_pg_classify_scores_json_kind, &slm_pg_summarize_details_kind,
                                           &slm_pg_embed_details_kind};

/* ---- kinds by function */

typedef struct KindOfFunction {
    Oid function; /* hash key */
    const SlmWorkKind *kind;
} KindOfFunction;

static HTAB *kind_cache;

static void forget_kinds(Datum arg, int cache_id, uint32 hash)
{
    HASH_SEQ_STATUS scan;
    KindOfFunction *found;

    hash_seq_init(&scan, kind_cache);
    while ((found = hash_seq_search(&scan)) != NULL)
        hash_search(kind_cache, &found->function, HASH_REMOVE, NULL);
}

static void make_kind_cache(void)
{
    HASHCTL ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(KindOfFunction)};

    kind_cache = hash_create("slm_pg kinds", 64, &ctl, HASH_ELEM | HASH_BLOBS);
    CacheRegisterSyscacheCallback(PROCOID, forget_kinds, (Datum) 0);
}

static const SlmWorkKind *look_up_kind(Oid function)
{
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    const SlmWorkKind *result = NULL;
    bool isnull;
    Datum value;

    if (!HeapTupleIsValid(tuple))
        return NULL;
    value = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_probin, &isnull);
    if (((Form_pg_proc) GETSTRUCT(tuple))->prolang == ClanguageId && !isnull && strcmp(TextDatumGetCString(value), LIBRARY) == 0) {
        value = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &isnull);
        for (size_t i = 0; i < lengthof(kinds) && !isnull; i++) {
            if (strcmp(kinds[i]->symbol, TextDatumGetCString(value)) == 0)
                result = kinds[i];
        }
    }
    ReleaseSysCache(tuple);
    return result;
}

const SlmWorkKind *slm_pg_work_kind(Oid function)
{
    KindOfFunction *found;
    const SlmWorkKind *kind;

    if (kind_cache == NULL)
        make_kind_cache();
    found = hash_search(kind_cache, &function, HASH_FIND, NULL);
    if (found != NULL)
        return found->kind;
    kind = look_up_kind(function); /* may run callbacks that empty the cache */
    found = hash_search(kind_cache, &function, HASH_ENTER, NULL);
    found->kind = kind;
    return kind;
}

/* ---- a work */

SlmWork *slm_pg_work_begin(const SlmWorkKind *kind, FunctionCallInfo fcinfo)
{
    MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "slm_pg work", ALLOCSET_SMALL_SIZES);
    MemoryContext old = MemoryContextSwitchTo(context);
    SlmWork *work = palloc0(sizeof(SlmWork));

    work->kind = kind;
    work->context = context;
    (void) slm_pg_on_error(fcinfo);
    kind->begin(work, fcinfo);
    MemoryContextSwitchTo(old);
    return work;
}

void slm_pg_work_submit(SlmWork *work, SlmEntry *entry, const slm_request *request)
{
    MemoryContext old = MemoryContextSwitchTo(work->context);

    work->runs = lappend(work->runs, slm_pg_start(entry, request));
    MemoryContextSwitchTo(old);
}

void slm_pg_work_decide(SlmWork *work, Datum value, bool isnull)
{
    work->decided = true;
    work->value = value;
    work->decided_null = isnull;
}

void slm_pg_work_returns_row(SlmWork *work, FunctionCallInfo fcinfo)
{
    TupleDesc desc;

    if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    work->row = BlessTupleDesc(desc);
}

Datum slm_pg_work_row(const SlmWork *work, const Datum *values, const bool *nulls)
{
    return HeapTupleGetDatum(heap_form_tuple(work->row, unconstify(Datum *, values), unconstify(bool *, nulls)));
}

void slm_pg_work_set_state(SlmWork *work, void *state)
{
    work->state = state;
}

void *slm_pg_work_state(const SlmWork *work)
{
    return work->state;
}

const slm_result *slm_pg_work_result(const SlmWork *work, int n)
{
    return ((const SlmRun *) list_nth(work->runs, n))->result;
}

int slm_pg_work_n_requests(const SlmWork *work)
{
    return list_length(work->runs);
}

/* Neither finished nor ended by an error. */
static SlmRun *first_running(const SlmWork *work)
{
    ListCell *lc;

    foreach (lc, work->runs) {
        SlmRun *run = lfirst(lc);

        if (run->entry != NULL && run->result == NULL)
            return run;
    }
    return NULL;
}

bool slm_pg_work_done(const SlmWork *work)
{
    return work->decided || first_running(work) == NULL;
}

bool slm_pg_work_failed(const SlmWork *work)
{
    ListCell *lc;

    if (!slm_pg_work_done(work))
        return false;
    foreach (lc, work->runs) {
        const SlmRun *run = lfirst(lc);

        if (run->entry == NULL || run->result->status != SLM_OK)
            return true;
    }
    return false;
}

void slm_pg_works_step(void)
{
    slm_pg_step_all();
}

Datum slm_pg_work_finish(SlmWork *work, bool *isnull)
{
    ListCell *lc;

    *isnull = work->decided_null;
    if (work->decided)
        return work->value;
    foreach (lc, work->runs)
        (void) slm_pg_wait(lfirst(lc)); /* raises errors */
    return work->kind->finish(work, isnull);
}

void slm_pg_work_count(const SlmWork *work, SlmWorkCounters *counters)
{
    ListCell *lc;

    foreach (lc, work->runs) {
        const slm_result *result = ((const SlmRun *) lfirst(lc))->result;

        counters->requests++;
        if (result == NULL)
            continue;
        counters->prompt_tokens += result->prompt_tokens;
        counters->reused_tokens += result->reused_tokens;
        counters->output_tokens += result->output_tokens;
        counters->label_tokens += result->label_tokens;
        counters->prefill_ms += result->prefill_ms;
        counters->decode_ms += result->decode_ms;
    }
}

void slm_pg_work_free(SlmWork *work)
{
    MemoryContextDelete(work->context);
}

Datum slm_pg_work_call(const SlmWorkKind *kind, FunctionCallInfo fcinfo)
{
    SlmWork *work = slm_pg_work_begin(kind, fcinfo);
    SlmRun *run;
    bool isnull;
    Datum value;

    while (!work->decided && (run = first_running(work)) != NULL)
        slm_pg_advance(run);
    value = slm_pg_work_finish(work, &isnull);
    slm_pg_progress_call();
    if (!work->decided || isnull)
        slm_pg_work_free(work); /* else the value is in its context, which goes with the caller's */
    fcinfo->isnull = isnull;
    return value;
}
