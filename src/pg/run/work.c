/*
 * work.c: calls of slm_* functions as works (work.h).
 *
 *   begin ──► runs in the work's own memory context ──► step ... ──► all runs have results ──► go_on ... ──► finish
 *
 * A scalar call steps the sessions of its own runs only; the batch node steps all.  A work's error is raised by slm_pg_work_finish and
 * nowhere else, so that an error of row n is raised when row n would have been returned.
 */
#include "pg/run/work.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/dependency.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "commands/extension.h"
#include "fmgr.h"
#include "funcapi.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/row_count.h"
#include "pg/base/row_error.h"
#include "pg/run/backend.h"
#include "pg/run/progress.h"
#include "pg/run/usage.h"
#include "pg/run/use.h"

#define LIBRARY "$libdir/slm_pg"
#define MAX_DETAILS 16 /* columns of a function that returns a row */

typedef struct GoOn {
    SlmGoOn function;
    void *arg;
} GoOn;

struct SlmWork {
    const SlmWorkKind *kind; /* NULL: of no function */
    MemoryContext context;
    List *runs;     /* of SlmRun, in order of submission, without those dropped */
    List *spare;    /* of SlmRun: those, for the next requests */
    List *going_on; /* of GoOn */
    slm_usage dropped; /* what these took */
    void *state;
    TupleDesc row; /* of details */
    bool catches;  /* errors of the input */
    const void *node; /* of the plan that counts its requests (usage.h) */
    SlmRowNote note;
    const char *function;
    SlmAccount *account;
    bool decided;
    bool decided_null;
    Datum value;
};

/* ---- kinds by function */

typedef struct KindOfFunction {
    Oid function; /* hash key */
    const SlmWorkKind *kind;
} KindOfFunction;

static const SlmWorkKind *const *kinds; /* [n_kinds] */
static size_t n_kinds;
static HTAB *kind_cache;

void slm_pg_work_init(const SlmWorkKind *const *all, size_t n)
{
    kinds = all;
    n_kinds = n;
}

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

static const SlmWorkKind *find_kind(const char *symbol, const char *name)
{
    for (size_t i = 0; i < n_kinds; i++) {
        if (symbol != NULL && kinds[i]->symbol != NULL && strcmp(kinds[i]->symbol, symbol) == 0)
            return kinds[i];
        if (name != NULL && kinds[i]->name != NULL && strcmp(kinds[i]->name, name) == 0)
            return kinds[i];
    }
    return NULL;
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
        result = isnull ? NULL : find_kind(TextDatumGetCString(value), NULL);
    } else if (function >= FirstNormalObjectId) {
        result = find_kind(NULL, NameStr(((Form_pg_proc) GETSTRUCT(tuple))->proname));
        if (result != NULL && getExtensionOfObject(ProcedureRelationId, function) != get_extension_oid("slm_pg", true))
            result = NULL;
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

/* An error of the input in place of the result. */
static void fail(SlmWork *work, SlmFault fault, const char *message)
{
    Datum values[MAX_DETAILS] = {0};
    bool nulls[MAX_DETAILS];

    work->note.fault = fault;
    work->decided = true;
    work->decided_null = !work->kind->details;
    if (!work->kind->details)
        return;
    memset(nulls, true, sizeof nulls);
    nulls[work->row->natts - 1] = false;
    values[work->row->natts - 1] = CStringGetTextDatum(message);
    work->value = slm_pg_work_row(work, values, nulls);
}

typedef struct Beginning {
    SlmWork *work;
    FunctionCallInfo fcinfo;
} Beginning;

static void begin_in_try(void *arg)
{
    Beginning *b = arg;

    b->work->kind->begin(b->work, b->fcinfo);
}

static TupleDesc row_type(FunctionCallInfo fcinfo)
{
    TupleDesc desc;

    if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts > MAX_DETAILS)
        elog(ERROR, "return type must be a row type");
    return BlessTupleDesc(desc);
}

SlmWork *slm_pg_work_new(const SlmWorkKind *kind)
{
    MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "slm_pg work", ALLOCSET_SMALL_SIZES);
    SlmWork *work = MemoryContextAllocZero(context, sizeof(SlmWork));

    work->context = context;
    work->function = kind == NULL ? NULL : kind->symbol;
    work->node = slm_pg_node_running;
    return work;
}

SlmWork *slm_pg_work_begin(const SlmWorkKind *kind, FunctionCallInfo fcinfo)
{
    SlmWork *work = slm_pg_work_new(kind);
    MemoryContext old = MemoryContextSwitchTo(work->context);
    SlmFault fault;
    char *message;

    work->kind = kind;
    if (kind->details) {
        work->row = row_type(fcinfo);
        work->catches = slm_pg_on_error_arg(fcinfo) != SLM_ON_ERROR_ERROR; /* it has a column for them */
        slm_pg_row_note(&work->note, fcinfo, false, 0, 0);
    } else {
        work->catches = slm_pg_gives_null(fcinfo);
        slm_pg_row_note(&work->note, fcinfo, work->catches, kind->first_input, Max(kind->n_inputs, 1));
    }
    slm_pg_account_function(work->function);
    if (!work->catches)
        kind->begin(work, fcinfo);
    else if ((fault = slm_pg_try_row(begin_in_try, &(Beginning){work, fcinfo}, &message)) != SLM_FAULT_NONE)
        fail(work, fault, message);
    slm_pg_account_calls(work->account, 1, 1);
    MemoryContextSwitchTo(old);
    return work;
}

SlmAccount *slm_pg_work_account(const SlmWork *work)
{
    return work->account;
}

SlmOpenModel *slm_pg_work_model(const SlmWork *work, const text *name)
{
    return slm_pg_use_model(name, work->kind->task);
}

static SlmRun *submit(SlmWork *work, SlmOpenModel *entry, const slm_request *request, bool if_it_fits)
{
    MemoryContext old = MemoryContextSwitchTo(work->context);
    SlmRun *run;

    if (work->spare == NIL)
        work->spare = lappend(work->spare, slm_pg_new_run());
    run = llast(work->spare);
    slm_pg_account_function(work->function);
    if (slm_pg_start_run(run, entry, request, if_it_fits)) {
        work->spare = list_delete_last(work->spare);
        work->runs = lappend(work->runs, run);
        work->account = work->account != NULL ? work->account : slm_pg_account_last();
    } else {
        run = NULL;
    }
    MemoryContextSwitchTo(old);
    return run;
}

SlmRun *slm_pg_work_submit(SlmWork *work, SlmOpenModel *entry, const slm_request *request)
{
    return submit(work, entry, request, false);
}

SlmRun *slm_pg_work_submit_if_fits(SlmWork *work, SlmOpenModel *entry, const slm_request *request)
{
    return submit(work, entry, request, true);
}

void slm_pg_work_go_on(SlmWork *work, SlmGoOn go_on, void *arg)
{
    MemoryContext old = MemoryContextSwitchTo(work->context);
    GoOn *g = palloc(sizeof *g);

    g->function = go_on;
    g->arg = arg;
    work->going_on = lappend(work->going_on, g);
    MemoryContextSwitchTo(old);
}

void slm_pg_work_decide(SlmWork *work, Datum value, bool isnull)
{
    work->decided = true;
    work->value = value;
    work->decided_null = isnull;
}

bool slm_pg_work_decided(const SlmWork *work)
{
    return work->decided;
}

bool slm_pg_decide_blank(SlmWork *work, FunctionCallInfo fcinfo, int arg)
{
    if (!slm_pg_blank_arg(fcinfo, arg))
        return false;
    if (work->catches && !PG_ARGISNULL(arg))
        fail(work, SLM_FAULT_EMPTY, "the text is empty");
    else
        slm_pg_work_decide(work, (Datum) 0, true);
    return true;
}

void slm_pg_work_longer(SlmWork *work)
{
    work->note.longer = true;
}

void slm_pg_work_went_up(SlmWork *work, const SlmCascadeNote *went)
{
    work->note.cascade = *went;
}

const SlmRowNote *slm_pg_work_note(const SlmWork *work)
{
    return &work->note;
}

Datum slm_pg_work_row(const SlmWork *work, const Datum *values, const bool *nulls)
{
    return HeapTupleGetDatum(heap_form_tuple(work->row, unconstify(Datum *, values), unconstify(bool *, nulls)));
}

MemoryContext slm_pg_work_context(const SlmWork *work)
{
    return work->context;
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
    return slm_pg_poll(list_nth(work->runs, n));
}

/* Neither finished nor ended by an error. */
static SlmRun *first_running(const SlmWork *work)
{
    ListCell *lc;

    foreach (lc, work->runs) {
        SlmRun *run = lfirst(lc);

        if (slm_pg_under_way(run))
            return run;
    }
    return NULL;
}

static bool has_failed_run(const SlmWork *work)
{
    ListCell *lc;

    foreach (lc, work->runs) {
        const slm_result *result = slm_pg_poll(lfirst(lc));

        if (!slm_pg_under_way(lfirst(lc)) && (result == NULL || result->status != SLM_OK))
            return true;
    }
    return false;
}

/* All requests have succeeded: lets those who asked for it take the answers and submit more.  Who asks meanwhile has its turn when these
 * have been answered. */
static void go_on(SlmWork *work)
{
    MemoryContext old = MemoryContextSwitchTo(work->context);
    const void *node = slm_pg_node_running;
    List *asked = work->going_on, *volatile stay = NIL;
    ListCell *lc;

    work->going_on = NIL;
    slm_pg_node_running = work->node;
    PG_TRY();
    {
        foreach (lc, asked) {
            GoOn *g = lfirst(lc);

            if (g->function(work, g->arg))
                stay = lappend(stay, g);
        }
    }
    PG_FINALLY();
    {
        slm_pg_node_running = node;
    }
    PG_END_TRY();
    work->going_on = list_concat(stay, work->going_on);
    list_free(asked);
    MemoryContextSwitchTo(old);
}

static void go_on_in_try(void *arg)
{
    go_on(arg);
}

bool slm_pg_work_waits(const SlmWork *work)
{
    return first_running(work) != NULL;
}

bool slm_pg_work_done(SlmWork *work)
{
    if (work->decided)
        return true;
    while (first_running(work) == NULL) {
        SlmFault fault;
        char *message;

        if (work->going_on == NIL || has_failed_run(work))
            return true;
        if (!work->catches) {
            go_on(work);
        } else if ((fault = slm_pg_try_row(go_on_in_try, work, &message)) != SLM_FAULT_NONE) {
            fail(work, fault, message);
            return true;
        }
    }
    return false;
}

bool slm_pg_work_failed(const SlmWork *work)
{
    return !work->decided && first_running(work) == NULL && has_failed_run(work);
}

static void wait_for_all(const SlmWork *work)
{
    ListCell *lc;

    foreach (lc, work->runs)
        (void) slm_pg_wait(lfirst(lc)); /* raises errors */
}

void slm_pg_work_wait(SlmWork *work)
{
    while (!slm_pg_work_done(work))
        slm_pg_step(first_running(work));
    wait_for_all(work);
}

typedef struct Finishing {
    SlmWork *work;
    bool *isnull;
    Datum value;
} Finishing;

static void finish_in_try(void *arg)
{
    Finishing *f = arg;

    slm_pg_work_wait(f->work); /* raises errors */
    f->value = f->work->kind->finish(f->work, f->isnull);
}

Datum slm_pg_work_finish(SlmWork *work, bool *isnull)
{
    Finishing finishing = {work, isnull, (Datum) 0};
    SlmFault fault;
    char *message;

    *isnull = work->decided_null;
    if (work->decided)
        return work->value;
    if (!work->catches) {
        finish_in_try(&finishing);
        return finishing.value;
    }
    fault = slm_pg_try_row(finish_in_try, &finishing, &message);
    if (fault == SLM_FAULT_NONE)
        return finishing.value;
    fail(work, fault, message);
    *isnull = work->decided_null;
    return work->value;
}

void slm_pg_work_drop(SlmWork *work, SlmRun *run)
{
    MemoryContext old = MemoryContextSwitchTo(work->context);

    if (slm_pg_poll(run) != NULL)
        slm_usage_add(&work->dropped, &slm_pg_poll(run)->usage);
    slm_pg_cancel(run);
    work->runs = list_delete_ptr(work->runs, run);
    work->spare = lappend(work->spare, run);
    MemoryContextSwitchTo(old);
}

void slm_pg_work_drop_all(SlmWork *work)
{
    while (work->runs != NIL)
        slm_pg_work_drop(work, llast(work->runs));
}

void slm_pg_work_count(const SlmWork *work, slm_usage *usage)
{
    ListCell *lc;

    slm_usage_add(usage, &work->dropped);
    foreach (lc, work->runs) {
        const slm_result *result = slm_pg_poll(lfirst(lc));

        if (result != NULL)
            slm_usage_add(usage, &result->usage);
    }
}

void slm_pg_work_free(SlmWork *work)
{
    MemoryContextDelete(work->context);
}

Datum slm_pg_work_call(const SlmWorkKind *kind, FunctionCallInfo fcinfo)
{
    SlmWork *work = slm_pg_work_begin(kind, fcinfo);
    bool isnull;
    Datum value;

    while (!slm_pg_work_done(work))
        slm_pg_step(first_running(work));
    value = slm_pg_work_finish(work, &isnull);
    slm_pg_progress_call();
    slm_pg_count_row(&work->note);
    if (!work->decided || isnull)
        slm_pg_work_free(work); /* else the value is in its context, which goes with the caller's */
    fcinfo->isnull = isnull;
    return value;
}

Datum slm_pg_work_set(const SlmWorkKind *kind, FunctionCallInfo fcinfo,
                      void (*put)(SlmWork *work, const void *answer, ReturnSetInfo *result))
{
    SlmWork *work;
    const void *answer;
    bool isnull;

    InitMaterializedSRF(fcinfo, 0);
    work = slm_pg_work_begin(kind, fcinfo);
    answer = DatumGetPointer(slm_pg_work_finish(work, &isnull));
    slm_pg_count_row(&work->note);
    if (!isnull)
        put(work, answer, (ReturnSetInfo *) fcinfo->resultinfo);
    slm_pg_work_free(work);
    return (Datum) 0;
}
