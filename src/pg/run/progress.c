/*
 * slm.progress: how far running statements with slm_* calls are, for every session.
 *
 * Shared memory, when slm_pg is preloaded: one slot per backend, written by its backend only, between two steps of the counter
 * `changes` (odd while a write is under way), read without locks by anyone.  A slot of a process that is gone is not shown.
 */
#include "pg/run/progress.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "pg/base/compat.h"
#include "pg/base/earlier.h"

PG_FUNCTION_INFO_V1(slm_pg_progress);

typedef struct ProgressSlot {
    pg_atomic_uint32 changes;
    int pid; /* 0 = nothing is running */
    Oid database, user, session_user;
    TimestampTz started;
    uint64 rows_done, tokens;
    double rows_total; /* < 0: not known */
    bool exact;
} ProgressSlot;

static ProgressSlot *slots; /* [n_slots()], by pgprocno */
static shmem_request_hook_type previous_request_hook;
static shmem_startup_hook_type previous_startup_hook;

static dlist_head uses = DLIST_STATIC_INIT(uses); /* of SlmProgressUse, the outermost first */
static int n_requests;                            /* running in this backend */
static TimestampTz counted;                       /* the top-level statement that is counted */
static uint64 ended_rows;                         /* of its uses and calls that have ended */

static int n_slots(void)
{
    return MaxBackends + NUM_AUXILIARY_PROCS;
}

static void request_slots(void)
{
    if (previous_request_hook != NULL)
        previous_request_hook();
    RequestAddinShmemSpace(mul_size(sizeof(ProgressSlot), (Size) n_slots()));
}

static void startup_slots(void)
{
    bool found;

    if (previous_startup_hook != NULL)
        previous_startup_hook();
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    slots = ShmemInitStruct("slm_pg progress", mul_size(sizeof(ProgressSlot), (Size) n_slots()), &found);
    if (!found)
        memset(slots, 0, mul_size(sizeof(ProgressSlot), (Size) n_slots()));
    LWLockRelease(AddinShmemInitLock);
}

static ProgressSlot *begin_write(void)
{
    ProgressSlot *slot = slots == NULL || MyProc == NULL ? NULL : &slots[SLM_MY_PROC_NUMBER];

    if (slot != NULL) {
        pg_atomic_write_u32(&slot->changes, pg_atomic_read_u32(&slot->changes) | 1); /* odd, even after one that died in the middle */
        pg_write_barrier();
    }
    return slot;
}

static void end_write(ProgressSlot *slot)
{
    pg_write_barrier();
    pg_atomic_fetch_add_u32(&slot->changes, 1);
}

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
    ProgressSlot *slot = begin_write();

    if (slot == NULL)
        return;
    if (outer == NULL && n_requests == 0) {
        slot->pid = 0;
        end_write(slot);
        return;
    }
    if (counted != GetCurrentStatementStartTimestamp() && (outer == NULL || outer->statement != outer || slot->pid != MyProcPid)) {
        counted = GetCurrentStatementStartTimestamp();
        ended_rows = slot->tokens = 0;
        slot->pid = 0;
    }
    if (slot->pid != MyProcPid) {
        slot->pid = MyProcPid;
        slot->database = MyDatabaseId;
        slot->user = GetUserId();
        slot->session_user = GetSessionUserId();
        slot->started = counted;
    }
    publish(outer, slot);
    end_write(slot);
}

static void leave_callback(void *arg)
{
    slm_pg_progress_leave(arg);
}

void slm_pg_progress_enter(SlmProgressUse *use, MemoryContext context, const void *statement, double total, bool exact)
{
    if (slots == NULL)
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

void slm_pg_progress_expect(SlmProgressUse *use, double total, bool exact)
{
    use->total = total;
    use->exact = exact;
    if (use->entered)
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

void slm_pg_progress_requests(int n_running)
{
    bool changed = (n_requests == 0) != (n_running == 0);

    n_requests = n_running;
    if (changed && slots != NULL)
        show();
}

void slm_pg_progress_call(void)
{
    if (slots == NULL || outermost() != NULL)
        return;
    ended_rows++;
    show();
}

void slm_pg_progress_tokens(uint64 tokens)
{
    ProgressSlot *slot = begin_write();

    if (slot == NULL)
        return;
    slot->tokens += tokens;
    end_write(slot);
}

/* A copy that no write has torn; false when there is none to be had. */
static bool read_slot(int i, ProgressSlot *out)
{
    for (int tries = 0; tries < 100; tries++) {
        uint32 before = pg_atomic_read_u32(&slots[i].changes);

        pg_read_barrier();
        memcpy(out, &slots[i], sizeof *out);
        pg_read_barrier();
        if (before % 2 == 0 && pg_atomic_read_u32(&slots[i].changes) == before)
            return out->pid != 0 && BackendPidGetProc(out->pid) != NULL;
    }
    return false;
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
    for (int i = 0; slots != NULL && i < n_slots(); i++) {
        ProgressSlot slot;
        Datum values[N_COLUMNS] = {0};
        bool nulls[N_COLUMNS];

        if (!read_slot(i, &slot))
            continue;
        memset(nulls, may_see(&slot) ? false : true, sizeof nulls);
        nulls[PID] = nulls[DATABASE] = nulls[USER] = false;
        values[PID] = Int32GetDatum(slot.pid);
        values[DATABASE] = ObjectIdGetDatum(slot.database);
        values[USER] = ObjectIdGetDatum(slot.user);
        if (may_see(&slot))
            put_figures(&slot, values, nulls);
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    return (Datum) 0;
}

void slm_pg_progress_init(void)
{
    if (!process_shared_preload_libraries_in_progress)
        return;
    previous_request_hook = shmem_request_hook;
    shmem_request_hook = request_slots;
    previous_startup_hook = shmem_startup_hook;
    shmem_startup_hook = startup_slots;
}
