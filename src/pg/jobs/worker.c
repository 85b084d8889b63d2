/*
 * The background processes of jobs: one launcher in the cluster, slm.job_workers workers in each database that has jobs.
 *
 *   COMMIT of a writer ──► wake: latch of the database's workers, or its slot marked wanted and the launcher's latch
 *   launcher (never in a database for long) ──► starts a worker for every wanted slot that has none
 *   worker: next job with due rows ──► one batch ──► ... ──► sleeps until the next is due, or leaves the database
 *
 * Shared memory: JobShared.  slots[] are guarded by `lock`; a slot belongs to one database until that is dropped.  After a crash of
 * any backend the memory is new.  The launcher asks every database that it does not know once whether it has jobs, and every database
 * that has some once a minute, as not every way of writing can wake (COMMIT PREPARED).
 */
#include "pg/jobs/jobs.h"

#include <stdlib.h>
#include <sys/resource.h>

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_database.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "pg/jobs/wake.h"

#define MAX_DATABASES 64
#define MAX_WORKERS 8 /* per database */
#define RESTART_MS 1000 /* a failing worker is started at most so often, and due work of a sleeping database is looked for */
#define IDLE_MS 3000    /* a worker without due work leaves the database after this; DROP DATABASE waits for 5 s */
#define GATHER_MS 20    /* a look that found nothing is not repeated before, so that many small commits cost one look */
#define POSTPONE_SECONDS 30 /* a job that could not run is looked at again */
#define CONTENTION_SECONDS 2 /* the same, when somebody else was in the way */
#define LOOK_MS 10000   /* between looks for databases that are new or gone */

typedef struct JobSlot {
    Oid database;
    TimestampTz wake_at; /* when sleeping work comes due, after the last worker has left */
    TimestampTz started; /* when a worker was last started: at most one a second */
    bool wanted;
    pid_t worker[MAX_WORKERS]; /* 0 = none; -1 = being started */
} JobSlot;

typedef struct JobShared {
    LWLock *lock;
    pid_t launcher;
    int n_slots;
    JobSlot slots[MAX_DATABASES];
} JobShared;

static JobShared *shared;
static bool wake_requested;
static int job_workers = 1, job_threads = 1;
static double job_max_load = 0;
static char *job_window = "";

static shmem_request_hook_type previous_request_hook;
static shmem_startup_hook_type previous_startup_hook;

PGDLLEXPORT void slm_pg_job_launcher_main(Datum arg);
PGDLLEXPORT void slm_pg_job_worker_main(Datum arg);
PG_FUNCTION_INFO_V1(slm_pg_job_wake);

/* ---------------------------------------------------------------- waking */

static void wake_process(pid_t pid)
{
    PGPROC *proc = pid > 0 ? BackendPidGetProc(pid) : NULL;

    if (proc != NULL)
        SetLatch(&proc->procLatch);
}

/* The slot of a database, made when it is new; NULL when there are too many. Needs the lock. */
static JobSlot *find_slot(Oid database)
{
    JobSlot *slot = NULL;

    for (int i = 0; i < shared->n_slots; i++) {
        if (shared->slots[i].database == database)
            return &shared->slots[i];
        if (shared->slots[i].database == InvalidOid)
            slot = &shared->slots[i];
    }
    if (slot == NULL && shared->n_slots < MAX_DATABASES)
        slot = &shared->slots[shared->n_slots++];
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
    static JobSlot *slot;
    pid_t pids[MAX_WORKERS] = {0}, launcher = 0;

    pg_memory_barrier(); /* what was committed is visible before the mark is read */
    if (slot != NULL && slot->database == MyDatabaseId && slot->wanted)
        return;
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    slot = find_slot(MyDatabaseId);
    if (slot != NULL) {
        slot->wanted = true;
        memcpy(pids, slot->worker, sizeof pids);
        launcher = shared->launcher;
    }
    LWLockRelease(shared->lock);
    for (int i = 0; i < Min(job_workers, MAX_WORKERS); i++) {
        wake_process(pids[i]);
        if (pids[i] == 0) {
            wake_process(launcher);
            break;
        }
    }
}

static void wake_at_xact_end(XactEvent event, void *arg)
{
    if (event == XACT_EVENT_COMMIT && wake_requested && shared != NULL)
        wake_now();
    if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
        wake_requested = false;
}

void slm_pg_job_wake_at_commit(void)
{
    wake_requested = shared != NULL;
}

Datum slm_pg_job_wake(PG_FUNCTION_ARGS)
{
    slm_pg_job_wake_at_commit();
    PG_RETURN_BOOL(shared != NULL);
}

/* ---------------------------------------------------------------- courtesy */

/* Minutes since midnight of "hh:mm", or -1. */
static int parse_minutes(const char *text, const char **end)
{
    char *rest;
    long hours = strtol(text, &rest, 10), minutes;

    if (rest == text || *rest != ':' || hours < 0 || hours > 24)
        return -1;
    minutes = strtol(rest + 1, &rest, 10);
    if (minutes < 0 || minutes > 59 || hours * 60 + minutes > 24 * 60)
        return -1;
    *end = rest;
    return (int) (hours * 60 + minutes);
}

static bool parse_window(const char *text, int *from, int *to)
{
    const char *end;

    *from = *to = 0;
    if (text == NULL || text[0] == '\0')
        return true;
    if ((*from = parse_minutes(text, &end)) < 0 || *end != '-')
        return false;
    return (*to = parse_minutes(end + 1, &end)) >= 0 && *end == '\0' && *from != *to;
}

static bool check_window(char **value, void **extra, GucSource source)
{
    int from, to;

    if (parse_window(*value, &from, &to))
        return true;
    GUC_check_errdetail("A window is written \"hh:mm-hh:mm\", such as \"22:00-06:00\", or empty for always.");
    return false;
}

/* Is it a time at which jobs may work, and is the machine not too busy? */
static bool may_work(void)
{
    int from, to, now;
    pg_time_t clock = (pg_time_t) time(NULL);
    struct pg_tm *local = pg_localtime(&clock, log_timezone);
    double load;

    (void) parse_window(job_window, &from, &to);
    now = local->tm_hour * 60 + local->tm_min;
    if (from < to ? now < from || now >= to : from > to && now < from && now >= to)
        return false;
    return job_max_load <= 0 || getloadavg(&load, 1) != 1 || load <= job_max_load;
}

/* ---------------------------------------------------------------- worker */

static void begin_transaction(void)
{
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    PushActiveSnapshot(GetTransactionSnapshot());
}

static void end_transaction(void)
{
    PopActiveSnapshot();
    CommitTransactionCommand();
    pgstat_report_stat(false);
    pgstat_report_activity(STATE_IDLE, NULL);
}

typedef enum NextJob { NEXT_NONE, NEXT_LATER, NEXT_FOUND } NextJob;

/* A job whose tables are being restored from a dump has its triggers last: until then its rows may be missing. */
#define HAS_TRIGGERS                                                                                                           \
    "EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = d.source AND g.tgname = ('slm_job_' || d.id || '_truncate')::name) "    \
    "AND EXISTS (SELECT FROM pg_class c WHERE c.oid = d.target)"

/* When the first row of a job that may run comes due; sets *result to NEXT_LATER where there is any job. */
static TimestampTz next_due(NextJob *result)
{
    bool isnull;
    Datum first;

    slm_pg_spi("SELECT min(CASE WHEN NOT " HAS_TRIGGERS " THEN clock_timestamp() + interval '5 s' "
               "WHEN NOT d.backfill_done THEN d.not_before "
               "ELSE (SELECT GREATEST(d.not_before, min(q.not_before)) FROM slm.job_queue q "
               "WHERE q.job_id = d.id AND NOT q.failed HAVING count(*) > 0) END) "
               "FROM slm.job_definition d WHERE NOT d.paused AND EXISTS (SELECT FROM pg_class c WHERE c.oid = d.source) "
               "HAVING count(*) > 0",
               SPI_OK_SELECT);
    if (SPI_processed == 0)
        return DT_NOEND;
    *result = NEXT_LATER;
    first = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
    return isnull ? DT_NOEND : DatumGetTimestampTz(first);
}

/* The job with due rows that has waited longest; *activity is what pg_stat_activity shows. For NEXT_LATER, *due is lowered to when work
 * comes due. */
static NextJob next_job(int32 *id, char *activity, Size size, TimestampTz *due)
{
    bool isnull;
    NextJob result = NEXT_NONE;

    begin_transaction();
    if (!OidIsValid(get_relname_relid("job_definition", get_namespace_oid("slm", true)))) {
        end_transaction();
        return NEXT_NONE;
    }
    SPI_connect();
    slm_pg_spi("SELECT d.id, d.name, d.source::text, d.batch_size FROM slm.job_definition d WHERE NOT d.paused AND d.not_before <= "
               "statement_timestamp() AND " HAS_TRIGGERS
               " AND (NOT d.backfill_done OR EXISTS (SELECT FROM slm.job_queue q WHERE q.job_id = d.id AND NOT q.failed AND q.not_before "
               "<= statement_timestamp())) "
               "ORDER BY d.last_run, d.id LIMIT 1",
               SPI_OK_SELECT);
    if (SPI_processed > 0) {
        *id = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
        snprintf(activity, size, "slm job \"%s\": up to %s rows of %s", SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2),
                 SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 4), SPI_getvalue(SPI_tuptable->vals[0],
                                                                                             SPI_tuptable->tupdesc, 3));
        result = NEXT_FOUND;
    } else {
        *due = Min(*due, next_due(&result));
    }
    SPI_finish();
    end_transaction();
    return result;
}

/* Postpones a job whose batch failed as a whole: its table was changed or is locked, a privilege was lost. Its rows (bigint[], 0: none)
 * were not at fault: the try does not count. */
static void postpone(int32 id, Datum ids, const char *message, int seconds)
{
    Oid types[1] = {INT8ARRAYOID};

    begin_transaction();
    SPI_connect();
    if (ids != (Datum) 0)
        (void) SPI_execute_with_args("UPDATE slm.job_queue SET tries = greatest(tries - 1, 0) WHERE id = ANY ($1)", 1, types, &ids, NULL,
                                     false, 0);
    slm_pg_spi(psprintf("UPDATE slm.job_definition SET not_before = clock_timestamp() + interval '%d s', error = %s WHERE id = %d", seconds,
                        quote_literal_cstr(message), id),
               SPI_OK_UPDATE);
    SPI_finish();
    end_transaction();
}

static bool passes_soon(int code)
{
    return code == ERRCODE_LOCK_NOT_AVAILABLE || ERRCODE_TO_CATEGORY(code) == ERRCODE_TO_CATEGORY(ERRCODE_T_R_SERIALIZATION_FAILURE);
}

/* A batch: one transaction that claims, one that computes. An error that is not of a row postpones the job. */
static void run_job(int32 id, const char *activity, MemoryContext context)
{
    char *volatile failure = NULL;
    volatile Datum ids = (Datum) 0;
    volatile int seconds = POSTPONE_SECONDS;

    PG_TRY();
    {
        begin_transaction();
        pgstat_report_activity(STATE_RUNNING, activity);
        ids = slm_pg_job_claim(id);
        if (ids != (Datum) 0) {
            MemoryContext old = MemoryContextSwitchTo(context);

            ids = datumCopy(ids, false, -1);
            MemoryContextSwitchTo(old);
        }
        end_transaction();
        begin_transaction();
        pgstat_report_activity(STATE_RUNNING, activity);
        (void) slm_pg_job_run(id, ids);
        end_transaction();
    }
    PG_CATCH();
    {
        ErrorData *data;

        MemoryContextSwitchTo(context);
        data = CopyErrorData();
        if (passes_soon(data->sqlerrcode))
            seconds = CONTENTION_SECONDS;
        else
            EmitErrorReport();
        FlushErrorState();
        AbortCurrentTransaction();
        failure = psprintf("%s: %s", unpack_sql_state(data->sqlerrcode), data->message);
    }
    PG_END_TRY();
    if (failure != NULL)
        postpone(id, ids, failure, seconds);
    MemoryContextReset(context);
}

static void leave_slot(int code, Datum arg)
{
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    for (int i = 0; i < shared->n_slots; i++)
        for (int w = 0; w < MAX_WORKERS; w++)
            if (shared->slots[i].worker[w] == MyProcPid) {
                shared->slots[i].worker[w] = 0;
                shared->slots[i].wanted = shared->slots[i].wanted || code != 0; /* it did not end by itself */
            }
    LWLockRelease(shared->lock);
}

/* What is asked for from now on is not seen yet. */
static void unmark(JobSlot *slot)
{
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    slot->wanted = false;
    LWLockRelease(shared->lock);
}

/* Nothing is due: ends, unless something was asked for in the meantime. The launcher looks again at wake_at. */
static bool retire(JobSlot *slot, TimestampTz wake_at)
{
    bool ends;

    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    ends = !slot->wanted;
    slot->wake_at = wake_at;
    if (ends)
        for (int w = 0; w < MAX_WORKERS; w++)
            if (slot->worker[w] == MyProcPid)
                slot->worker[w] = 0; /* under the same lock: whoever marks the slot from now on wakes the launcher */
    if (ends)
        slot->started = 0; /* it did not fail: the next one may start at once */
    LWLockRelease(shared->lock);
    return ends;
}

/* Whatever the cluster or the database's owner has set for sessions. */
static void set_worker_settings(void)
{
    static const char *const fixed[][2] = {{"application_name", "slm job worker"}, {"search_path", "pg_catalog, pg_temp"},
                                           {"default_transaction_isolation", "read committed"}, {"default_transaction_read_only", "off"},
                                           {"default_transaction_deferrable", "off"}, {"lock_timeout", "0"}, {"row_security", "on"}};

    SetConfigOption("slm.threads", psprintf("%d", job_threads), PGC_USERSET, PGC_S_SESSION);
    for (int i = 0; i < (int) lengthof(fixed); i++)
        SetConfigOption(fixed[i][0], fixed[i][1], PGC_USERSET, PGC_S_SESSION);
}

void slm_pg_job_worker_main(Datum arg)
{
    int index = DatumGetInt32(arg);
    JobSlot *slot = &shared->slots[index / MAX_WORKERS];
    MemoryContext context; /* of a failed batch's words */
    bool idle = false;

    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    slot->worker[index % MAX_WORKERS] = MyProcPid;
    LWLockRelease(shared->lock);
    before_shmem_exit(leave_slot, (Datum) 0);
    BackgroundWorkerInitializeConnectionByOid(slot->database, InvalidOid, 0);
    (void) setpriority(PRIO_PROCESS, 0, 10); /* interactive sessions come first; threads of the engine inherit it */
    set_worker_settings();

    context = AllocSetContextCreate(TopMemoryContext, "slm job worker", ALLOCSET_DEFAULT_SIZES);
    for (;;) {
        char activity[256];
        int32 id = 0;
        NextJob next;
        TimestampTz due;

        CHECK_FOR_INTERRUPTS();
        if (ConfigReloadPending) {
            ConfigReloadPending = false;
            ProcessConfigFile(PGC_SIGHUP);
            set_worker_settings();
        }
        ResetLatch(MyLatch);
        unmark(slot);
        due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), 60 * 1000);
        next = may_work() ? next_job(&id, activity, sizeof activity, &due) : NEXT_LATER;
        if (next == NEXT_FOUND) {
            run_job(id, activity, context);
            idle = false;
            continue;
        }
        if ((next == NEXT_NONE || idle) && retire(slot, next == NEXT_NONE ? DT_NOEND : due))
            return;
        idle = (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, IDLE_MS, PG_WAIT_EXTENSION) & WL_TIMEOUT) != 0;
        if (!idle)
            pg_usleep(GATHER_MS * 1000L);
    }
}

/* ---------------------------------------------------------------- launcher */

/* Frees the slots of databases that are gone. `present` are the databases that accept connections. */
static void free_slots(const List *present)
{
    for (int i = 0; i < shared->n_slots; i++) {
        JobSlot *slot = &shared->slots[i];
        bool busy = false;

        for (int w = 0; w < MAX_WORKERS; w++)
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
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    free_slots(present);
    foreach (cell, present) {
        bool known = false;
        JobSlot *slot;

        for (int i = 0; i < shared->n_slots; i++)
            known = known || shared->slots[i].database == lfirst_oid(cell);
        if (!known && (slot = find_slot(lfirst_oid(cell))) != NULL)
            slot->wanted = true;
    }
    LWLockRelease(shared->lock);
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
static bool begin_start(JobSlot *slot, int w, bool wanted)
{
    TimestampTz now = GetCurrentTimestamp();
    bool start;

    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    if (slot->worker[w] > 0 && kill(slot->worker[w], 0) != 0 && errno == ESRCH)
        slot->worker[w] = 0;
    start = slot->database != InvalidOid && slot->worker[w] == 0 && (wanted || (w == 0 && slot->wake_at <= now)) &&
            TimestampDifferenceExceeds(slot->started, now, w == 0 ? RESTART_MS : 0);
    if (start) {
        slot->worker[w] = -1;
        slot->started = now;
    }
    LWLockRelease(shared->lock);
    return start;
}

/* Starts what is wanted; a worker that has died is wanted still. */
static void start_workers(void)
{
    for (int i = 0; i < shared->n_slots; i++) {
        JobSlot *slot = &shared->slots[i];
        bool wanted = slot->wanted; /* the first worker unmarks the slot */

        for (int w = 0; w < Min(job_workers, MAX_WORKERS); w++) {
            if (begin_start(slot, w, wanted) && !start_worker(i * MAX_WORKERS + w)) {
                LWLockAcquire(shared->lock, LW_EXCLUSIVE);
                if (slot->worker[w] == -1)
                    slot->worker[w] = 0;
                LWLockRelease(shared->lock);
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
    shared->launcher = MyProcPid;
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
    RequestAddinShmemSpace(sizeof(JobShared));
    RequestNamedLWLockTranche("slm_pg jobs", 1);
}

static void startup_shared(void)
{
    bool found;

    if (previous_startup_hook != NULL)
        previous_startup_hook();
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    shared = ShmemInitStruct("slm_pg jobs", sizeof(JobShared), &found);
    if (!found) {
        memset(shared, 0, sizeof *shared);
        shared->lock = &GetNamedLWLockTranche("slm_pg jobs")->lock;
    }
    LWLockRelease(AddinShmemInitLock);
}

static void define_settings(void)
{
    DefineCustomIntVariable("slm.job_workers", "Background workers for jobs in each database that has jobs.",
                            "0 stops background work; CALL slm_run_job still does it in a session. Each worker takes a slot of "
                            "max_worker_processes.",
                            &job_workers, 1, 0, MAX_WORKERS, PGC_SIGHUP, 0, NULL, NULL, NULL);
    DefineCustomIntVariable("slm.job_threads", "Threads that a job worker may use.",
                            "0 means all. Workers run at lower priority than sessions.",
                            &job_threads, 1, 0, 1024, PGC_SIGHUP, 0, NULL, NULL, NULL);
    DefineCustomRealVariable("slm.job_max_load", "Jobs pause while the machine's one-minute load average is above this.", "0 means never.",
                             &job_max_load, 0, 0, 10000, PGC_SIGHUP, 0, NULL, NULL, NULL);
    DefineCustomStringVariable("slm.job_window", "The hours at which jobs may work, in log_timezone, such as 22:00-06:00.",
                               "Empty means always.",
                               &job_window, "", PGC_SIGHUP, 0, check_window, NULL, NULL);
}

void slm_pg_jobs_init(void)
{
    BackgroundWorker launcher = {.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
                                 .bgw_start_time = BgWorkerStart_RecoveryFinished,
                                 .bgw_restart_time = 5};

    define_settings();
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
