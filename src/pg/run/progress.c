/*
 * slm.progress: how far running statements with slm_* calls are, for every session.
 *
 * When slm_pg is preloaded, every backend has a slot in shared memory (shmem.h).
 */
#include "pg/run/progress.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "pg/base/compat.h"
#include "pg/base/earlier.h"

PG_FUNCTION_INFO_V1(slm_pg_progress);

typedef struct ProgressSlot {
    SlmSlot slot; /* pid 0: nothing is running */
    Oid database, user, session_user;
    TimestampTz started;
    uint64 rows_done, tokens;
    double rows_total; /* < 0: not known */
    bool exact;
} ProgressSlot;

static SlmSlots slots = {.bytes = sizeof(ProgressSlot)};

static dlist_head uses = DLIST_STATIC_INIT(uses); /* of SlmProgressUse, the outermost first */
static int n_requests;                            /* running in this backend */
static TimestampTz counted;                       /* the top-level statement that is counted */
static uint64 ended_rows;                         /* of its uses and calls that have ended */

static Size slots_size(void)
{
    return slm_pg_slots_size(slots.bytes);
}

static void attach(void *memory, LWLock *lock)
{
    slots.first = memory;
}

const SlmShmemPart slm_pg_progress_part = {"slm_pg progress", slots_size, attach, false};

/* Does the use run now?  A cursor's does in the statements that fetch from it, a task's until it ends. */
static bool is_current(const SlmProgressUse *use)
{
    return use->statement == use || use->started == GetCurrentStatementStartTimestamp();
}

static SlmProgressUse *outermost(void)
{
    dlist_iter iter;

    dlist_foreach (iter, &uses)
        if (is_current(dlist_container(SlmProgressUse, node, iter.cur)))
            return dlist_container(SlmProgressUse, node, iter.cur);
    return NULL;
}

/* The rows of the outermost use's statement; what runs inside it is part of them. */
static void publish(const SlmProgressUse *outer, ProgressSlot *slot)
{
    dlist_iter iter;

    slot->rows_done = ended_rows;
    slot->rows_total = outer == NULL || ended_rows > 0 ? -1 : 0; /* after a part that has ended nobody knows how many follow */
    slot->exact = true;
    dlist_foreach (iter, &uses) {
        const SlmProgressUse *use = dlist_container(SlmProgressUse, node, iter.cur);

        if (outer == NULL || use->statement != outer->statement)
            continue;
        slot->rows_done += use->rows;
        slot->rows_total = use->total < 0 || slot->rows_total < 0 ? -1 : slot->rows_total + use->total;
        slot->exact = slot->exact && use->exact;
    }
}

/* Brings the slot up to date: it is shown while there is a use or a request. */
static void show(void)
{
    const SlmProgressUse *outer = outermost();
    ProgressSlot *slot = slm_pg_slot_begin(&slots);

    if (slot == NULL)
        return;
    if (outer == NULL && n_requests == 0) {
        slot->slot.pid = 0;
        slm_pg_slot_end(slot);
        return;
    }
    if (counted != GetCurrentStatementStartTimestamp() && (outer == NULL || outer->statement != outer || slot->slot.pid != MyProcPid)) {
        counted = GetCurrentStatementStartTimestamp();
        ended_rows = slot->tokens = 0;
        slot->slot.pid = 0;
    }
    if (slot->slot.pid != MyProcPid) {
        slot->slot.pid = MyProcPid;
        slot->database = MyDatabaseId;
        slot->user = GetUserId();
        slot->session_user = GetSessionUserId();
        slot->started = counted;
    }
    publish(outer, slot);
    slm_pg_slot_end(slot);
}

static void leave_callback(void *arg)
{
    slm_pg_progress_leave(arg);
}

void slm_pg_progress_enter(SlmProgressUse *use, MemoryContext context, const void *statement, double total, bool exact)
{
    if (slots.first == NULL)
        return;
    use->entered = true;
    use->statement = statement == NULL ? use : statement;
    use->total = total;
    use->exact = exact;
    use->callback.func = leave_callback;
    use->callback.arg = use;
    MemoryContextRegisterResetCallback(context, &use->callback);
    use->started = GetCurrentStatementStartTimestamp();
    dlist_push_tail(&uses, &use->node);
    show();
}

void slm_pg_progress_rows(SlmProgressUse *use, uint64 rows)
{
    use->rows += rows;
    use->started = GetCurrentStatementStartTimestamp();
    if (use->entered)
        show();
}

void slm_pg_progress_leave(SlmProgressUse *use)
{
    const SlmProgressUse *outer = outermost();

    if (!use->entered)
        return;
    if (outer != NULL && use->statement == outer->statement)
        ended_rows += use->rows;
    use->entered = false;
    dlist_delete(&use->node);
    show();
}

/* ---- who is waited for */

static pg_atomic_uint32 *waited_for; /* processes; shared memory */
static bool is_waited_for;           /* this one is counted there */

static Size waited_size(void)
{
    return sizeof *waited_for;
}

static void attach_waited(void *memory, LWLock *lock)
{
    waited_for = memory;
}

const SlmShmemPart slm_pg_waited_part = {"slm_pg waited for", waited_size, attach_waited, false};

bool slm_pg_in_background(void)
{
    return MyBackendType == B_BG_WORKER && !IsParallelWorker();
}

const volatile uint32 *slm_pg_waited_for(void)
{
    return waited_for == NULL ? NULL : &waited_for->value;
}

static void count_waited(bool now)
{
    if (now == is_waited_for)
        return;
    (void) pg_atomic_fetch_add_u32(waited_for, now ? 1 : -1);
    is_waited_for = now;
}

static void leave_waited(int code, Datum arg)
{
    count_waited(false);
}

static void wait_or_not(bool now)
{
    static bool exit_registered;

    if (slm_pg_in_background())
        return;
    if (!exit_registered)
        before_shmem_exit(leave_waited, (Datum) 0);
    exit_registered = true;
    count_waited(now);
}

void slm_pg_progress_requests(int n_running)
{
    bool changed = (n_requests == 0) != (n_running == 0);

    n_requests = n_running;
    if (!changed || slots.first == NULL)
        return;
    show();
    wait_or_not(n_running > 0);
}

void slm_pg_progress_call(void)
{
    if (slots.first == NULL || outermost() != NULL)
        return;
    ended_rows++;
    show();
}

void slm_pg_progress_tokens(uint64 tokens)
{
    ProgressSlot *slot = slm_pg_slot_begin(&slots);

    if (slot == NULL)
        return;
    slot->tokens += tokens;
    slm_pg_slot_end(slot);
}

/* As in pg_stat_activity: who may not see a statement of this role sees that there is one. */
static bool may_see(const ProgressSlot *slot)
{
    return has_privs_of_role(GetUserId(), slot->user) || has_privs_of_role(GetUserId(), slot->session_user) ||
           has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
}

enum { PID, DATABASE, USER, STARTED, DONE, TOTAL, EXACT, PERCENT, TOKENS, ROWS_PER_SECOND, TOKENS_PER_SECOND, SECONDS_LEFT, N_COLUMNS };

static void put_figures(const ProgressSlot *slot, Datum values[N_COLUMNS], bool nulls[N_COLUMNS])
{
    double seconds = Max((double) (GetCurrentTimestamp() - slot->started) / 1e6, 0.001);
    double done = (double) slot->rows_done, rate = done / seconds;
    bool known = slot->rows_total >= 0 && slot->rows_total >= done; /* else the estimate has been proved wrong */

    values[STARTED] = TimestampTzGetDatum(slot->started);
    values[DONE] = Int64GetDatum((int64) slot->rows_done);
    values[TOKENS] = Int64GetDatum((int64) slot->tokens);
    values[ROWS_PER_SECOND] = Float8GetDatum(rate);
    values[TOKENS_PER_SECOND] = Float8GetDatum((double) slot->tokens / seconds);
    nulls[TOTAL] = nulls[EXACT] = nulls[PERCENT] = !known;
    nulls[SECONDS_LEFT] = !known || done == 0;
    if (!known)
        return;
    values[TOTAL] = Int64GetDatum((int64) Min(slot->rows_total, 9e18));
    values[EXACT] = BoolGetDatum(slot->exact);
    values[PERCENT] = Float8GetDatum(slot->rows_total > 0 ? (double) (int64) (1000 * done / slot->rows_total) / 10 : 100);
    values[SECONDS_LEFT] = Float8GetDatum(done > 0 ? (slot->rows_total - done) / rate : 0);
}

Datum slm_pg_progress(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

    InitMaterializedSRF(fcinfo, 0);
    for (int i = 0; slots.first != NULL && i < slm_pg_n_slots(); i++) {
        ProgressSlot slot;
        Datum values[N_COLUMNS] = {0};
        bool nulls[N_COLUMNS];

        if (!slm_pg_slot_read(&slots, i, &slot))
            continue;
        memset(nulls, may_see(&slot) ? false : true, sizeof nulls);
        nulls[PID] = nulls[DATABASE] = nulls[USER] = false;
        values[PID] = Int32GetDatum(slot.slot.pid);
        values[DATABASE] = ObjectIdGetDatum(slot.database);
        values[USER] = ObjectIdGetDatum(slot.user);
        if (may_see(&slot))
            put_figures(&slot, values, nulls);
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    return (Datum) 0;
}
