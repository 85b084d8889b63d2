/*
 * Starting and waking the workers of jobs: one launcher in the cluster, slm.job_workers workers in each database that has jobs.
 *
 *   COMMIT of a writer ──► wake: latch of the database's workers, or its slot marked wanted and the launcher's latch
 *   launcher (never in a database for long) ──► starts a worker for every wanted slot that has none
 *
 * Shared memory: SlmJobShared.  slots[] are guarded by `lock`; a slot belongs to one database until that is dropped.  After a crash of
 * any backend the memory is new.  The launcher asks every database that it does not know once whether it has jobs, and every database
 * that has some once a minute, as not every way of writing can wake (COMMIT PREPARED in another session).
 */
#include "pg/jobs/jobs.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "pg/jobs/wake.h"
#include "pg/jobs/workers.h"

#define RESTART_MS 1000 /* a failing worker is started at most so often, and due work of a sleeping database is looked for */
#define LOOK_MS 10000   /* between looks for databases that are new or gone */

SlmJobShared *slm_pg_jobs_shared;
static bool wake_requested;
static int job_workers = 1;

static shmem_request_hook_type previous_request_hook;
static shmem_startup_hook_type previous_startup_hook;

PGDLLEXPORT void slm_pg_job_launcher_main(Datum arg);
PG_FUNCTION_INFO_V1(slm_pg_job_wake);

/* ---------------------------------------------------------------- waking */

static void wake_process(pid_t pid)
{
    PGPROC *proc = pid > 0 ? BackendPidGetProc(pid) : NULL;

    if (proc != NULL)
        SetLatch(&proc->procLatch);
}

/* The slot of a database, made when it is new; NULL when there are too many. Needs the lock. */
static SlmJobSlot *find_slot(Oid database)
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
    slot = find_slot(MyDatabaseId);
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

static void wake_at_xact_end(XactEvent event, void *arg)
{
    if (event == XACT_EVENT_COMMIT && wake_requested && slm_pg_jobs_shared != NULL)
        wake_now();
    if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
        wake_requested = false;
}

void slm_pg_job_wake_at_commit(void)
{
    wake_requested = slm_pg_jobs_shared != NULL;
}

Datum slm_pg_job_wake(PG_FUNCTION_ARGS)
{
    slm_pg_job_wake_at_commit();
    PG_RETURN_BOOL(slm_pg_jobs_shared != NULL);
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

/* Asks databases that were not known yet whether they have jobs. */
static void look_for_databases(void)
{
    Relation relation;
    TableScanDesc scan;
    HeapTuple tuple;
    List *present = NIL;
    ListCell *cell;

    StartTransactionCommand();
    (void) GetTransactionSnapshot();
    relation = table_open(DatabaseRelationId, AccessShareLock);
    scan = table_beginscan_catalog(relation, 0, NULL);
    while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection))) {
        Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

        if (database->datallowconn && !database->datistemplate)
            present = lappend_oid(present, database->oid);
    }
    table_endscan(scan);
    table_close(relation, AccessShareLock);
    LWLockAcquire(slm_pg_jobs_shared->lock, LW_EXCLUSIVE);
    free_slots(present);
    foreach (cell, present) {
        bool known = false;
        SlmJobSlot *slot;

        for (int i = 0; i < slm_pg_jobs_shared->n_slots; i++)
            known = known || slm_pg_jobs_shared->slots[i].database == lfirst_oid(cell);
        if (!known && (slot = find_slot(lfirst_oid(cell))) != NULL)
            slot->wanted = true;
    }
    LWLockRelease(slm_pg_jobs_shared->lock);
    CommitTransactionCommand();
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
            TimestampDifferenceExceeds(slot->started, now, w == 0 ? RESTART_MS : 0);
    if (start) {
        slot->worker[w] = -1;
        slot->started = now;
    }
    LWLockRelease(slm_pg_jobs_shared->lock);
    return start;
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
    TimestampTz looked = 0;

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
        if (TimestampDifferenceExceeds(looked, GetCurrentTimestamp(), LOOK_MS)) {
            looked = GetCurrentTimestamp();
            look_for_databases();
        }
        start_workers();
        (void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, RESTART_MS, PG_WAIT_EXTENSION);
    }
    proc_exit(0);
}

/* ---------------------------------------------------------------- set-up */

static void request_shared(void)
{
    if (previous_request_hook != NULL)
        previous_request_hook();
    RequestAddinShmemSpace(sizeof(SlmJobShared));
    RequestNamedLWLockTranche("slm_pg jobs", 1);
}

static void startup_shared(void)
{
    bool found;

    if (previous_startup_hook != NULL)
        previous_startup_hook();
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    slm_pg_jobs_shared = ShmemInitStruct("slm_pg jobs", sizeof(SlmJobShared), &found);
    if (!found) {
        memset(slm_pg_jobs_shared, 0, sizeof *slm_pg_jobs_shared);
        slm_pg_jobs_shared->lock = &GetNamedLWLockTranche("slm_pg jobs")->lock;
    }
    LWLockRelease(AddinShmemInitLock);
}

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
    RegisterXactCallback(wake_at_xact_end, NULL);
    if (!process_shared_preload_libraries_in_progress)
        return;
    previous_request_hook = shmem_request_hook;
    shmem_request_hook = request_shared;
    previous_startup_hook = shmem_startup_hook;
    shmem_startup_hook = startup_shared;
    snprintf(launcher.bgw_name, BGW_MAXLEN, "slm job launcher");
    snprintf(launcher.bgw_type, BGW_MAXLEN, "slm job launcher");
    snprintf(launcher.bgw_library_name, BGW_MAXLEN, "slm_pg");
    snprintf(launcher.bgw_function_name, BGW_MAXLEN, "slm_pg_job_launcher_main");
    RegisterBackgroundWorker(&launcher);
}
