/*
 * engine.c: what is known of the engine process, its settings, and slm.engine_status.
 *
 *   backend: wanted ──► supervisor starts slm_engine ──► ready, life n ──► backends connect
 *                                     └── it dies ──► life n + 1 ...
 */
#include "pg/run/engine.h"

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/run/internal.h"

PG_FUNCTION_INFO_V1(slm_pg_engine_status);

SlmEngineShared *slm_pg_engine;
int slm_guc_engine = SLM_ENGINE_AUTO, slm_guc_engine_memory_kb = 1024 * 1024, slm_guc_engine_timeout_ms = 30000;
char *slm_guc_engine_program;

static const struct config_enum_entry modes[] = {
    {"auto", SLM_ENGINE_AUTO, false}, {"shared", SLM_ENGINE_SHARED, false}, {"local", SLM_ENGINE_LOCAL, false}, {NULL, 0, false}};

static Size shared_size(void)
{
    return sizeof(SlmEngineShared);
}

static void attach(void *memory, LWLock *lock)
{
    slm_pg_engine = memory;
    slm_pg_engine->lock = lock;
    ConditionVariableInit(&slm_pg_engine->changed);
}

const SlmShmemPart slm_pg_engine_part = {"slm_pg engine", shared_size, attach, true};

/* ---- for backends */

static void take(SlmEngineNow *out)
{
    const SlmEngineShared *e = slm_pg_engine;

    *out = (SlmEngineNow){.supervised = e->supervisor != 0, .ready = e->ready, .failing = e->failures > 2, .life = e->life,
                          .blamed = e->blamed};
}

void slm_pg_engine_now(SlmEngineNow *out)
{
    *out = (SlmEngineNow){0};
    if (slm_pg_engine == NULL)
        return;
    LWLockAcquire(slm_pg_engine->lock, LW_SHARED);
    take(out);
    LWLockRelease(slm_pg_engine->lock);
}

/* Wakes the supervisor where the process does not run. */
static void ask(SlmEngineNow *out)
{
    struct Latch *latch;

    LWLockAcquire(slm_pg_engine->lock, LW_EXCLUSIVE);
    slm_pg_engine->wanted = true;
    latch = slm_pg_engine->ready || slm_pg_engine->supervisor == 0 ? NULL : slm_pg_engine->latch;
    take(out);
    LWLockRelease(slm_pg_engine->lock);
    if (latch != NULL)
        SetLatch(latch);
}

bool slm_pg_engine_await(uint32 not_life, long ms, SlmEngineNow *out)
{
    TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
    static uint32 event;

    *out = (SlmEngineNow){0};
    if (slm_pg_engine == NULL)
        return false;
    if (event == 0)
        event = SLM_WAIT_EVENT("SlmEngineStart");
    ConditionVariablePrepareToSleep(&slm_pg_engine->changed);
    for (;;) {
        long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);

        ask(out);
        if ((out->ready && out->life != not_life) || !out->supervised || left <= 0)
            break;
        (void) ConditionVariableTimedSleep(&slm_pg_engine->changed, Min(left, 100), event); /* answers interrupts */
    }
    ConditionVariableCancelSleep();
    return out->ready && out->life != not_life;
}

/* ---- slm.engine_status */

enum { STATE, PID, STARTED, RESTARTS, BLAMED, HANGS, LAST_END, CONNECTIONS, QUEUED, RUNNING, REQUESTS, REFUSED, PROMPT_TOKENS,
       OUTPUT_TOKENS, REUSED_TOKENS, TOKENS_PER_SECOND, BUSY, MODELS, IMAGE_BYTES, KV_BYTES, SCRATCH_BYTES, PREFIXES, N_COLUMNS };

static Datum by_class(const uint64 *counts)
{
    return CStringGetTextDatum(psprintf("interactive " UINT64_FORMAT ", batch " UINT64_FORMAT ", job " UINT64_FORMAT, counts[0], counts[1],
                                        counts[2]));
}

static const char *state_of(const SlmEngineShared *e)
{
    if (e->supervisor == 0)
        return "not supervised";
    if (e->ready)
        return "running";
    if (e->pid != 0)
        return "starting";
    return e->failures > 2 ? "failing" : e->wanted ? "restarting" : "not started";
}

/* What anybody may see. */
static void put_state(const SlmEngineShared *e, Datum *values, bool *nulls)
{
    values[STATE] = CStringGetTextDatum(state_of(e));
    nulls[STATE] = false;
    values[RESTARTS] = Int64GetDatum(e->restarts);
    nulls[RESTARTS] = false;
}

/* What the server's watchers may: of all roles together. */
static void put_figures(const SlmEngineShared *e, Datum *values, bool *nulls)
{
    const slm_state_figures *f = &e->figures;
    uint64 image = 0, kv = 0, scratch = 0, prefixes = 0;
    uint32 n = Min(f->n_models, SLM_STATE_MODELS);

    for (uint32 i = 0; i < n; i++) {
        image += f->models[i].image_bytes;
        kv += f->models[i].kv_bytes;
        scratch += f->models[i].scratch_bytes;
        prefixes += f->models[i].prefixes;
    }
    memset(nulls, false, N_COLUMNS);
    values[PID] = Int32GetDatum(e->pid);
    nulls[PID] = e->pid == 0;
    values[STARTED] = TimestampTzGetDatum(e->started);
    nulls[STARTED] = e->pid == 0;
    values[BLAMED] = Int64GetDatum(e->blamed);
    values[HANGS] = Int64GetDatum(e->hangs);
    values[LAST_END] = CStringGetTextDatum(e->last_end);
    nulls[LAST_END] = e->last_end[0] == '\0';
    values[CONNECTIONS] = Int64GetDatum((int64) f->connections);
    values[QUEUED] = by_class(f->queued);
    values[RUNNING] = by_class(f->running);
    values[REQUESTS] = Int64GetDatum((int64) f->requests);
    values[REFUSED] = Int64GetDatum((int64) f->refused);
    values[PROMPT_TOKENS] = Int64GetDatum((int64) f->prompt_tokens);
    values[OUTPUT_TOKENS] = Int64GetDatum((int64) f->output_tokens);
    values[REUSED_TOKENS] = Int64GetDatum((int64) f->reused_tokens);
    values[TOKENS_PER_SECOND] = Float8GetDatum(e->tokens_per_second);
    values[BUSY] = Float8GetDatum(1e-9 * (double) f->busy_ns);
    values[MODELS] = Int32GetDatum((int32) n);
    values[IMAGE_BYTES] = Int64GetDatum((int64) image);
    values[KV_BYTES] = Int64GetDatum((int64) kv);
    values[SCRATCH_BYTES] = Int64GetDatum((int64) scratch);
    values[PREFIXES] = Int64GetDatum((int64) prefixes);
}

Datum slm_pg_engine_status(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
    SlmEngineShared *e = palloc(sizeof *e);
    Datum values[N_COLUMNS] = {0};
    bool nulls[N_COLUMNS];

    InitMaterializedSRF(fcinfo, 0);
    if (slm_pg_engine == NULL)
        return (Datum) 0;
    LWLockAcquire(slm_pg_engine->lock, LW_SHARED);
    *e = *slm_pg_engine;
    LWLockRelease(slm_pg_engine->lock);
    memset(nulls, true, sizeof nulls);
    if (has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS))
        put_figures(e, values, nulls);
    put_state(e, values, nulls);
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    return (Datum) 0;
}

/* ---- set-up */

static void define_settings(void)
{
    DefineCustomEnumVariable("slm.engine", "Where models run: auto, shared or local.",
                             "auto is in one process for all sessions where slm_pg is in shared_preload_libraries and that process can be "
                             "had, and in the session otherwise; shared in that process, or it is an error; local in the session. "
                             "Answers are the same.",
                             &slm_guc_engine, SLM_ENGINE_AUTO, modes, PGC_USERSET, 0, NULL, NULL, NULL);
    DefineCustomIntVariable("slm.engine_memory", "Memory of the engine process for the keys and values of all models.",
                            "Each model that generates has an equal part of it. It holds the running requests of all sessions, and the "
                            "instructions that were computed before and are used again.",
                            &slm_guc_engine_memory_kb, 1024 * 1024, 16 * 1024, MAX_KILOBYTES, PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
    DefineCustomIntVariable("slm.engine_timeout",
                            "How long the engine process may stand still before it is taken for hung and started anew.",
                            "Reading a model from a slow disk is no standstill. 0 waits for ever.", &slm_guc_engine_timeout_ms, 30000, 0,
                            INT_MAX, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
    DefineCustomStringVariable("slm.engine_program", "The program of the engine process; empty means slm_engine beside the library.", NULL,
                               &slm_guc_engine_program, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
}

void slm_pg_engine_init(void)
{
    BackgroundWorker worker = {.bgw_flags = BGWORKER_SHMEM_ACCESS, .bgw_start_time = BgWorkerStart_ConsistentState, .bgw_restart_time = 1};

    define_settings();
    if (!process_shared_preload_libraries_in_progress)
        return;
    snprintf(worker.bgw_name, BGW_MAXLEN, "slm engine supervisor");
    snprintf(worker.bgw_type, BGW_MAXLEN, "slm engine supervisor");
    snprintf(worker.bgw_library_name, BGW_MAXLEN, "slm_pg");
    snprintf(worker.bgw_function_name, BGW_MAXLEN, "slm_pg_engine_supervisor_main");
    RegisterBackgroundWorker(&worker);
}
