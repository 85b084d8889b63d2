/*
 * backends.c: slm.sessions, what the sessions of every backend hold.
 *
 * Shared memory, when slm_pg is preloaded: one slot per backend, written by its backend only, between two steps of the counter `changes`
 * (odd while a write is under way), read without locks by anyone.  Without preloading a backend knows of itself alone.  A slot of a process
 * that is gone is not shown.
 */

#include "pg/run/backends.h"

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "engine/slm.h"
#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/models/catalog.h"
#include "pg/run/backend.h"

PG_FUNCTION_INFO_V1(slm_pg_backend_sessions);

#define SLOT_MODELS 8 /* shown of a backend; it keeps no more mapped, unless all are busy */

typedef struct SessionFigures {
    char model[SLM_NAME_MAX + 1];
    uint64 kv_bytes, scratch_bytes, total;
    int32 prefixes, running;
    TimestampTz last_use;
} SessionFigures;

typedef struct BackendSlot {
    pg_atomic_uint32 changes;
    int pid; /* 0 = nothing is held */
    int n_models;
    Oid database, role;
    SessionFigures models[SLOT_MODELS];
} BackendSlot;

static BackendSlot *slots; /* [n_slots()] */
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
    RequestAddinShmemSpace(mul_size(sizeof(BackendSlot), (Size) n_slots()));
}

static void startup_slots(void)
{
    bool found;

    if (previous_startup_hook != NULL)
        previous_startup_hook();
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    slots = ShmemInitStruct("slm_pg sessions", mul_size(sizeof(BackendSlot), (Size) n_slots()), &found);
    if (!found)
        memset(slots, 0, mul_size(sizeof(BackendSlot), (Size) n_slots()));
    LWLockRelease(AddinShmemInitLock);
}

static void read_entry(const SlmEntry *entry, SessionFigures *out)
{
    slm_session_stats stats = {0};

    memset(out, 0, sizeof *out);
    if (entry->session != NULL)
        slm_session_get_stats(entry->session, &stats);
    strlcpy(out->model, entry->name, sizeof out->model);
    out->kv_bytes = stats.kv_bytes_held;
    out->scratch_bytes = stats.scratch_bytes;
    out->prefixes = (int32) stats.cached_prefixes;
    out->total = entry->n_requests;
    out->last_use = entry->last_use;
    out->running = entry->n_running;
}

static void fill(BackendSlot *slot)
{
    const SlmEntry *entry;

    slot->n_models = 0;
    while (slot->n_models < SLOT_MODELS && (entry = slm_pg_nth_entry(slot->n_models)) != NULL)
        read_entry(entry, &slot->models[slot->n_models++]);
    slot->database = MyDatabaseId;
    slot->role = MyProc->roleId;
    slot->pid = slot->n_models > 0 ? MyProcPid : 0;
}

void slm_pg_backends_update(void)
{
    BackendSlot *slot = slots == NULL || MyProc == NULL ? NULL : &slots[SLM_MY_PROC_NUMBER];

    if (slot == NULL)
        return;
    pg_atomic_write_u32(&slot->changes, pg_atomic_read_u32(&slot->changes) | 1); /* odd, even after one that died in the middle */
    pg_write_barrier();
    fill(slot);
    pg_write_barrier();
    pg_atomic_fetch_add_u32(&slot->changes, 1);
}

/* A copy that no write has torn; false when there is none to be had, or none of a process that lives. */
static bool read_slot(int i, BackendSlot *out)
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

enum { PID, DATABASE, ROLE, MODEL, KV_BYTES, SCRATCH_BYTES, PREFIXES, RUNNING, TOTAL, LAST_USE, N_COLUMNS };

/* The rows of a backend, to those who may see its row of pg_stat_activity. */
static void put_slot(ReturnSetInfo *result, const BackendSlot *slot)
{
    if (!has_privs_of_role(GetUserId(), slot->role) && !has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS))
        return;
    for (int i = 0; i < Min(slot->n_models, SLOT_MODELS); i++) {
        const SessionFigures *m = &slot->models[i];
        Datum values[N_COLUMNS] = {
            [PID] = Int32GetDatum(slot->pid),
            [DATABASE] = ObjectIdGetDatum(slot->database),
            [ROLE] = ObjectIdGetDatum(slot->role),
            [MODEL] = CStringGetTextDatum(m->model),
            [KV_BYTES] = Int64GetDatum((int64) m->kv_bytes),
            [SCRATCH_BYTES] = Int64GetDatum((int64) m->scratch_bytes),
            [PREFIXES] = Int32GetDatum(m->prefixes),
            [RUNNING] = Int32GetDatum(m->running),
            [TOTAL] = Int64GetDatum((int64) m->total),
            [LAST_USE] = TimestampTzGetDatum(m->last_use),
        };
        bool nulls[N_COLUMNS] = {false};

        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
}

Datum slm_pg_backend_sessions(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
    BackendSlot *slot = palloc0(sizeof *slot);

    InitMaterializedSRF(fcinfo, 0);
    if (slots == NULL) {
        fill(slot);
        put_slot(result, slot);
    }
    for (int i = 0; slots != NULL && i < n_slots(); i++) {
        if (read_slot(i, slot))
            put_slot(result, slot);
    }
    return (Datum) 0;
}

void slm_pg_backends_init(void)
{
    if (!process_shared_preload_libraries_in_progress)
        return;
    previous_request_hook = shmem_request_hook;
    shmem_request_hook = request_slots;
    previous_startup_hook = shmem_startup_hook;
    shmem_startup_hook = startup_slots;
}
