/*
 * backends.c: slm.sessions, what the sessions of every backend hold.
 *
 * When slm_pg is preloaded, every backend has a slot in shared memory (shmem.h).  Without preloading a backend knows of itself alone.
 */

#include "pg/run/backends.h"

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "engine/slm.h"
#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/models/catalog.h"
#include "pg/run/internal.h"

PG_FUNCTION_INFO_V1(slm_pg_backend_sessions);

#define SLOT_MODELS 8 /* shown of a backend; it keeps no more mapped, unless all are busy */

typedef struct SessionFigures {
    char model[SLM_NAME_MAX + 1];
    uint64 kv_bytes, scratch_bytes, total;
    int32 prefixes, running;
    TimestampTz last_use;
} SessionFigures;

typedef struct BackendSlot {
    SlmSlot slot; /* pid 0: nothing is held */
    int n_models;
    Oid database, role;
    SessionFigures models[SLOT_MODELS];
} BackendSlot;

static SlmSlots slots = {.bytes = sizeof(BackendSlot)};

static Size slots_size(void)
{
    return slm_pg_slots_size(slots.bytes);
}

static void attach(void *memory, LWLock *lock)
{
    slots.first = memory;
}

const SlmShmemPart slm_pg_backends_part = {"slm_pg sessions", slots_size, attach, false};

static void read_model(const SlmOpenModel *opened, SessionFigures *out)
{
    SlmLocalFigures figures;

    slm_pg_local_figures(opened, &figures);
    memset(out, 0, sizeof *out);
    strlcpy(out->model, opened->name, sizeof out->model);
    out->kv_bytes = figures.kv_bytes;
    out->scratch_bytes = figures.scratch_bytes;
    out->prefixes = (int32) figures.prefixes;
    out->total = figures.n_requests;
    out->last_use = opened->last_use;
    out->running = figures.n_running;
}

static void fill(BackendSlot *slot)
{
    const SlmOpenModel *opened;

    slot->n_models = 0;
    while (slot->n_models < SLOT_MODELS && (opened = slm_pg_nth_opened(slot->n_models)) != NULL)
        read_model(opened, &slot->models[slot->n_models++]);
    slot->database = MyDatabaseId;
    slot->role = MyProc->roleId;
    slot->slot.pid = slot->n_models > 0 ? MyProcPid : 0;
}

void slm_pg_backends_update(void)
{
    BackendSlot *slot = slm_pg_slot_begin(&slots);

    if (slot == NULL)
        return;
    fill(slot);
    slm_pg_slot_end(slot);
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
            [PID] = Int32GetDatum(slot->slot.pid),
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
    if (slots.first == NULL) {
        fill(slot);
        put_slot(result, slot);
    }
    for (int i = 0; slots.first != NULL && i < slm_pg_n_slots(); i++) {
        if (slm_pg_slot_read(&slots, i, slot))
            put_slot(result, slot);
    }
    return (Datum) 0;
}
