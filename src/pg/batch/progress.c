/*
 * slm.progress: how far running statements with batch nodes are, for every session.
 *
 * Shared memory, when slm_pg is preloaded: one slot per backend, written by its backend only, between two steps of the counter
 * `changes` (odd while a write is under way), read without locks by anyone.  A slot of a process that is gone is not shown.
 */
#include "pg/batch/progress.h"

#include "access/xact.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "pg/compat.h"

PG_FUNCTION_INFO_V1(slm_pg_progress);

typedef struct ProgressSlot {
    pg_atomic_uint32 changes;
    int pid; /* 0 = no batch node is running */
    Oid database, user;
    TimestampTz started;
    uint64 rows_done, tokens;
    double rows_planned;
} ProgressSlot;

static ProgressSlot *slots; /* [n_slots()], by pgprocno */
static shmem_request_hook_type previous_request_hook;
static shmem_startup_hook_type previous_startup_hook;

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
        pg_atomic_fetch_add_u32(&slot->changes, 1);
        pg_write_barrier();
    }
    return slot;
}

static void end_write(ProgressSlot *slot)
{
    pg_write_barrier();
    pg_atomic_fetch_add_u32(&slot->changes, 1);
}

void slm_pg_progress_statement(double rows_planned)
{
    ProgressSlot *slot = begin_write();

    if (slot == NULL)
        return;
    if (slot->pid != MyProcPid || slot->started != GetCurrentStatementStartTimestamp()) {
        slot->rows_done = slot->tokens = 0;
        slot->rows_planned = rows_planned;
    }
    slot->pid = MyProcPid;
    slot->database = MyDatabaseId;
    slot->user = GetUserId();
    slot->started = GetCurrentStatementStartTimestamp();
    end_write(slot);
}

void slm_pg_progress_rows(uint64 rows, uint64 tokens)
{
    ProgressSlot *slot = begin_write();

    if (slot == NULL)
        return;
    slot->rows_done += rows;
    slot->tokens += tokens;
    end_write(slot);
}

void slm_pg_progress_done(void)
{
    ProgressSlot *slot = begin_write();

    if (slot == NULL)
        return;
    slot->pid = 0;
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

Datum slm_pg_progress(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

    InitMaterializedSRF(fcinfo, 0);
    for (int i = 0; slots != NULL && i < n_slots(); i++) {
        ProgressSlot slot;
        Datum values[9];
        bool nulls[9] = {false};
        double seconds;

        if (!read_slot(i, &slot))
            continue;
        seconds = Max((double) (GetCurrentTimestamp() - slot.started) / 1e6, 0.001);
        values[0] = Int32GetDatum(slot.pid);
        values[1] = ObjectIdGetDatum(slot.database);
        values[2] = ObjectIdGetDatum(slot.user);
        values[3] = TimestampTzGetDatum(slot.started);
        values[4] = Int64GetDatum((int64) slot.rows_done);
        values[5] = Int64GetDatum((int64) slot.tokens);
        values[6] = Float8GetDatum((double) slot.rows_done / seconds);
        values[7] = Float8GetDatum((double) slot.tokens / seconds);
        values[8] = Float8GetDatum(Max(slot.rows_planned - (double) slot.rows_done, 0) * seconds / Max((double) slot.rows_done, 1));
        nulls[8] = slot.rows_done == 0 || slot.rows_planned <= 1;
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
