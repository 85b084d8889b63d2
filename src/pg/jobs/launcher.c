/*
 * Starting and waking the workers of jobs: one launcher in the cluster, slm.job_workers workers in each database that has jobs.
 *
 *   COMMIT of a writer ──► wake: latch of the database's workers, or its slot marked wanted and the launcher's latch
 *   launcher (never in a database for long) ──► starts a worker for every wanted slot that has none
 *
 * Shared memory: SlmJobShared.  slots[] are guarded by `lock`; a slot belongs to one database while that has jobs: a worker that finds
 * none gives it back, and so do databases to which nobody can connect.  When all are taken, who commits work takes that of a database that
 * sleeps longest.  After a crash of any backend the memory is new.  The launcher asks every database once whether it has jobs, a few at a
 * time, and every database that has some once a minute, as not every way of writing can wake (COMMIT PREPARED in another session).
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "pg/jobs/jobs.h"
#include "pg/jobs/settings.h"
#include "pg/jobs/wake.h"
#include "pg/jobs/workers.h"
#include "pg/run/ledger.h"

#define RESTART_MS 1000 /* a failing worker is started at most so often, and due work of a sleeping database is looked for */
#define LOOK_MS 10000   /* between looks for databases that are new or gone */
#define ASK_AT_ONCE 4   /* databases */
#define ASK_AGAIN_MS (60 * 60 * 1000)
#define INVALID_DATABASE (-2) /* datconnlimit of one whose DROP was interrupted */

SlmJobShared *slm_pg_jobs_shared;
static bool wake_requested;
static List *stop_requested; /* of job ids; in the transaction's memory */
static List *asked;          /* databases, in the launcher: known, or without jobs when they were asked */
static int job_workers = 1;


PGDLLEXPORT void slm_pg_job_launcher_main(Datum arg);

/* ---------------------------------------------------------------- waking */

static void wake_process(pid_t pid)
{
    PGPROC *proc = pid > 0 ? BackendPidGetProc(pid) : NULL;

    if (proc != NULL)
        SetLatch(&proc->procLatch);
}

/* The slot whose database can best do without it: it sleeps, until later than all others. NULL: all are at work. */
static SlmJobSlot *sleeping_slot(void)
{
    SlmJobSlot *result = NULL;

    for (int i = 0; i < slm_pg_jobs_shared->n_slots; i++) {
        SlmJobSlot *slot = &slm_pg_jobs_shared->slots[i];
        bool busy = slot->wanted;

        for (int w = 0; w < SLM_JOB_WORKERS; w++)
            busy = busy || slot->worker[w] != 0;
        if (!busy && (result == NULL || slot->wake_at > result->wake_at))
            result = slot;
    }
    if (result != NULL)
        slm_pg_jobs_shared->ask_again = slm_pg_jobs_shared->ask_again || result->wake_at != DT_NOEND;
    return result;
}

/* The slot of a database, made when it is new; NULL when there are too many.  take: from one that sleeps. Needs the lock. */
static SlmJobSlot *find_slot(Oid database, bool take)
{
    SlmJobSlot *slot = NULL;

    for (int i = 0; i < slm_pg_jobs_shared->n_slots; i++) {
        if (slm_pg_jobs_shared->slots[i].database == database)
            return &slm_pg_jobs_shared->slots[i];
        if (slm_pg_jobs_shared->slots[i].database == InvalidOid)
            slot = &slm_pg_jobs_shared->slots[i];
    }
    if (slot == NULL && slm_pg_jobs_shared->n_slots < SLM_JOB_DATABASES)
        slot = &slm_pg_jobs_shared->slots[slm_pg_jobs_shared->n_slots++];
    if (slot == NULL && take)
        slot = sleeping_slot();
    if (slot == NULL)
        return NULL;
    memset(slot, 0, sizeof *slot);
    slot->database = database;
    slot->wake_at = DT_NOEND;
    return slot;
}

/* Marks this database as wanted and wakes who can serve it, unless it was marked already: workers unmark before they look. */
static void wake_now(void)
{
    static SlmJobSlot *slot;
    pid_t pids[SLM_JOB_WORKERS] = {0}, launcher = 0;

    pg_memory_barrier(); /* what was committed is visible before the mark is read */
    if (slot != NULL && slot->database == MyDatabaseId && slot->wanted)
        return;
    LWLockAcquire(slm_pg_jobs_shared->lock, LW_EXCLUSIVE);
    slot = find_slot(MyDatabaseId, true);
    if (slot != NULL) {
        slot->wanted = true;
        memcpy(pids, slot->worker, sizeof pids);
        launcher = slm_pg_jobs_shared->launcher;
    }
    LWLockRelease(slm_pg_jobs_shared->lock);
    for (int i = 0; i < Min(job_workers, SLM_JOB_WORKERS); i++) {
        wake_process(pids[i]);
        if (pids[i] == 0) {
            wake_process(launcher);
            break;
        }
    }
}

void slm_pg_job_stop_now(int32 job)
{
    if (slm_pg_jobs_shared == NULL)
        return;
    LWLockAcquire(slm_pg_jobs_shared->lock, LW_SHARED);
    for (int i = 0; i < slm_pg_jobs_shared->n_slots; i++) {
        const SlmJobSlot *slot = &slm_pg_jobs_shared->slots[i];

        for (int w = 0; w < SLM_JOB_WORKERS; w++)
            if (slot->database == MyDatabaseId && slot->job[w] == job && slot->worker[w] > 0)
                (void) kill(slot->worker[w], SIGINT);
    }
    LWLockRelease(slm_pg_jobs_shared->lock);
}

static void at_xact_end(XactEvent event, void *arg)
{
    ListCell *cell;

    if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT)
        return;
    if (event == XACT_EVENT_COMMIT && slm_pg_jobs_shared != NULL) {
        foreach (cell, stop_requested)
            slm_pg_job_stop_now(lfirst_int(cell));
        if (wake_requested)
            wake_now();
    }
    wake_requested = false;
    stop_requested = NIL;
}

void slm_pg_job_wake_at_commit(void)
{
    wake_requested = slm_pg_jobs_shared != NULL;
}

void slm_pg_job_stop_at_commit(int32 id)
{
    MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

    stop_requested = lappend_int(stop_requested, id);
    MemoryContextSwitchTo(old);
}

/* ---------------------------------------------------------------- launcher */

/* Frees the slots of databases that are gone. `present` are the databases that accept connections. */
static void free_slots(const List *present)
{
    for (int i = 0; i < slm_pg_jobs_shared->n_slots; i++) {
        SlmJobSlot *slot = &slm_pg_jobs_shared->slots[i];
        bool busy = false;

        for (int w = 0; w < SLM_JOB_WORKERS; w++)
            busy = busy || slot->worker[w] != 0;
        if (!busy && !list_member_oid(present, slot->database))
            slot->database = InvalidOid;
    }
}

/* The databases to which one can connect. */
static List *present_databases(void)
{
    Relation relation;
    TableScanDesc scan;
    HeapTuple tuple;
    List *present = NIL;
    MemoryContext context = CurrentMemoryContext, old;

    StartTransactionCommand();
    (void) GetTransactionSnapshot();
    relation = table_open(DatabaseRelationId, AccessShareLock);
    scan = table_beginscan_catalog(relation, 0, NULL);
    while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection))) {
        Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

        if (!database->datallowconn || database->datistemplate || database->datconnlimit == INVALID_DATABASE)
            continue;
        old = MemoryContextSwitchTo(context);
        present = lappend_oid(present, database->oid);
        MemoryContextSwitchTo(old);
    }
    table_endscan(scan);
    table_close(relation, AccessShareLock);
    CommitTransactionCommand();
    MemoryContextSwitchTo(context);
    return present;
}

/* Asks databases that were not asked yet whether they have jobs; true: more are to be asked. */
static bool look_for_databases(void)
{
    List *present = present_databases(), *still = NIL;
    int n = 0;
    ListCell *cell;

    LWLockAcquire(slm_pg_jobs_shared->lock, LW_EXCLUSIVE);
    if (slm_pg_jobs_shared->ask_again) {
        list_free(asked);
        asked = NIL;
        slm_pg_jobs_shared->ask_again = false;
    }
    free_slots(present);
    foreach (cell, present) {
        SlmJobSlot *slot;

        if (list_member_oid(asked, lfirst_oid(cell))) {
            still = lappend_oid(still, lfirst_oid(cell));
        } else if (n < ASK_AT_ONCE && (slot = find_slot(lfirst_oid(cell), false)) != NULL) {
            slot->wanted = true;
            still = lappend_oid(still, lfirst_oid(cell));
            n++;
        }
    }
    LWLockRelease(slm_pg_jobs_shared->lock);
    list_free(asked);
    asked = still;
    n = list_length(present) - list_length(asked);
    list_free(present);
    return n > 0;
}

/* Starts the worker of a slot; false when the server has no room for one more process. */
static bool start_worker(int index)
{
    BackgroundWorker worker = {.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
                               .bgw_start_time = BgWorkerStart_RecoveryFinished,
                               .bgw_restart_time = BGW_NEVER_RESTART,
                               .bgw_main_arg = Int32GetDatum(index),
                               .bgw_notify_pid = MyProcPid};
    BackgroundWorkerHandle *handle;
    pid_t pid;

    snprintf(worker.bgw_name, BGW_MAXLEN, "slm job worker");
    snprintf(worker.bgw_type, BGW_MAXLEN, "slm job worker");
    snprintf(worker.bgw_library_name, BGW_MAXLEN, "slm_pg");
    snprintf(worker.bgw_function_name, BGW_MAXLEN, "slm_pg_job_worker_main");
    if (!RegisterDynamicBackgroundWorker(&worker, &handle))
        return false;
    return WaitForBackgroundWorkerStartup(handle, &pid) == BGWH_STARTED;
}

/* Should worker w of a slot be started now? Then it is marked as being started. */
static bool begin_start(SlmJobSlot *slot, int w, bool wanted)
{
    TimestampTz now = GetCurrentTimestamp();
    bool start;

    LWLockAcquire(slm_pg_jobs_shared->lock, LW_EXCLUSIVE);
    if (slot->worker[w] > 0 && kill(slot->worker[w], 0) != 0 && errno == ESRCH)
        slot->worker[w] = 0;
    start = slot->database != InvalidOid && slot->worker[w] == 0 && (wanted || (w == 0 && slot->wake_at <= now)) &&
            TimestampDifferenceExceeds(slot->started, now, w == 0 ? RESTART_MS << Min(slot->failures, SLM_JOB_FAILURES) : 0);
    if (start) {
        slot->worker[w] = -1;
        slot->started = now;
        if (w == 0)
            slot->failures++; /* until it has looked for work */
    }
    LWLockRelease(slm_pg_jobs_shared->lock);
    return start;
}

bool slm_pg_job_worker_allowed(int place)
{
    return place < job_workers;
}

/* Starts what is wanted; a worker that has died is wanted still. */
static void start_workers(void)
{
    for (int i = 0; i < slm_pg_jobs_shared->n_slots; i++) {
        SlmJobSlot *slot = &slm_pg_jobs_shared->slots[i];
        bool wanted = slot->wanted; /* the first worker unmarks the slot */

        for (int w = 0; w < Min(job_workers, SLM_JOB_WORKERS); w++) {
            if (begin_start(slot, w, wanted) && !start_worker(i * SLM_JOB_WORKERS + w)) {
                LWLockAcquire(slm_pg_jobs_shared->lock, LW_EXCLUSIVE);
                if (slot->worker[w] == -1)
                    slot->worker[w] = 0;
                LWLockRelease(slm_pg_jobs_shared->lock);
            }
        }
    }
}

void slm_pg_job_launcher_main(Datum arg)
{
    TimestampTz looked = 0, forgot = GetCurrentTimestamp();

    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnection(NULL, NULL, 0);
    slm_pg_jobs_shared->launcher = MyProcPid;
    while (!ShutdownRequestPending) {
        CHECK_FOR_INTERRUPTS();
        if (ConfigReloadPending) {
            ConfigReloadPending = false;
            ProcessConfigFile(PGC_SIGHUP);
        }
        ResetLatch(MyLatch);
        if (TimestampDifferenceExceeds(forgot, GetCurrentTimestamp(), ASK_AGAIN_MS)) {
            forgot = GetCurrentTimestamp();
            slm_pg_jobs_shared->ask_again = true;
        }
        if (TimestampDifferenceExceeds(looked, GetCurrentTimestamp(), LOOK_MS))
            looked = look_for_databases() ? 0 : GetCurrentTimestamp();
        start_workers();
        slm_pg_ledger_save(false);
        (void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, RESTART_MS, PG_WAIT_EXTENSION);
    }
    slm_pg_ledger_save(true);
    proc_exit(0);
}

/* ---------------------------------------------------------------- set-up */

static Size shared_size(void)
{
    return sizeof(SlmJobShared);
}

static void attach(void *memory, LWLock *lock)
{
    slm_pg_jobs_shared = memory;
    slm_pg_jobs_shared->lock = lock;
}

const SlmShmemPart slm_pg_jobs_part = {"slm_pg jobs", shared_size, attach, true};

static void define_settings(void)
{
    DefineCustomIntVariable("slm.job_workers", "Background workers for jobs in each database that has jobs.",
                            "0 stops background work; CALL slm_run_job still does it in a session. Each worker takes a slot of "
                            "max_worker_processes.",
                            &job_workers, 1, 0, SLM_JOB_WORKERS, PGC_SIGHUP, 0, NULL, NULL, NULL);
}

void slm_pg_jobs_init(void)
{
    BackgroundWorker launcher = {.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
                                 .bgw_start_time = BgWorkerStart_RecoveryFinished,
                                 .bgw_restart_time = 5};

    define_settings();
    slm_pg_job_worker_settings();
    RegisterXactCallback(at_xact_end, NULL);
    if (!process_shared_preload_libraries_in_progress)
        return;
    snprintf(launcher.bgw_name, BGW_MAXLEN, "slm job launcher");
    snprintf(launcher.bgw_type, BGW_MAXLEN, "slm job launcher");
    snprintf(launcher.bgw_library_name, BGW_MAXLEN, "slm_pg");
    snprintf(launcher.bgw_function_name, BGW_MAXLEN, "slm_pg_job_launcher_main");
    RegisterBackgroundWorker(&launcher);
}
