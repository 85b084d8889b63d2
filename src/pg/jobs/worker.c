/*
 * A background worker of jobs, which serves one database.
 *
 *   next job with due rows ──► one batch ──► ... ──► sleeps until the next is due, or leaves the database
 *
 * Invariant: a worker unmarks its slot before it looks for work, and leaves only under the lock that guards the mark, so that work that is
 * noted while it leaves wakes the launcher.  A batch is two transactions: one that claims rows, one that computes and writes them.
 */
#include "pg/jobs/jobs.h"

#include <stdlib.h>
#include <sys/resource.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "pg/as_owner.h"
#include "pg/jobs/workers.h"

#define IDLE_MS 3000         /* a worker without due work leaves the database after this; DROP DATABASE waits for 5 s */
#define GATHER_MS 20         /* a look that found nothing is not repeated before, so that many small commits cost one look */
#define SHARED_MS 100        /* while others are at all rows that are due */
#define POSTPONE_SECONDS 30  /* a job that could not run is looked at again */
#define CONTENTION_SECONDS 2 /* the same, when somebody else was in the way */

static int job_threads = 1;
static double job_max_load = 0;
static char *job_window = "";

PGDLLEXPORT void slm_pg_job_worker_main(Datum arg);

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
    if (!OidIsValid(slm_pg_extension_relation("job_definition")) || !OidIsValid(slm_pg_extension_relation("job_queue"))) {
        end_transaction(); /* a schema of that name is not enough: nothing in it is looked at */
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
        (void) SPI_execute_with_args("UPDATE slm.job_queue SET tries = greatest(tries - 1, 0), claimed_at = NULL WHERE id = ANY ($1)", 1,
                                     types, &ids, NULL, false, 0);
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

/* A batch: one transaction that claims, one that computes. An error that is not of a row postpones the job. False: others are at all of
 * its rows. */
static bool run_job(int32 id, const char *activity, MemoryContext context)
{
    char *volatile failure = NULL;
    volatile Datum ids = (Datum) 0;
    volatile int seconds = POSTPONE_SECONDS, n = 0;

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
        n = slm_pg_job_run(id, ids);
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
    return n > 0 || ids != (Datum) 0 || failure != NULL;
}

static void leave_slot(int code, Datum arg)
{
    LWLockAcquire(slm_pg_jobs_shared->lock, LW_EXCLUSIVE);
    for (int i = 0; i < slm_pg_jobs_shared->n_slots; i++)
        for (int w = 0; w < SLM_JOB_WORKERS; w++)
            if (slm_pg_jobs_shared->slots[i].worker[w] == MyProcPid) {
                slm_pg_jobs_shared->slots[i].worker[w] = 0;
                slm_pg_jobs_shared->slots[i].wanted = slm_pg_jobs_shared->slots[i].wanted || code != 0; /* it did not end by itself */
            }
    LWLockRelease(slm_pg_jobs_shared->lock);
}

/* What is asked for from now on is not seen yet. */
static void unmark(SlmJobSlot *slot)
{
    LWLockAcquire(slm_pg_jobs_shared->lock, LW_EXCLUSIVE);
    slot->wanted = false;
    LWLockRelease(slm_pg_jobs_shared->lock);
}

/* Nothing is due: ends, unless something was asked for in the meantime. The launcher looks again at wake_at. */
static bool retire(SlmJobSlot *slot, TimestampTz wake_at)
{
    bool ends;

    LWLockAcquire(slm_pg_jobs_shared->lock, LW_EXCLUSIVE);
    ends = !slot->wanted;
    slot->wake_at = wake_at;
    if (ends)
        for (int w = 0; w < SLM_JOB_WORKERS; w++)
            if (slot->worker[w] == MyProcPid)
                slot->worker[w] = 0; /* under the same lock: whoever marks the slot from now on wakes the launcher */
    if (ends)
        slot->started = 0; /* it did not fail: the next one may start at once */
    LWLockRelease(slm_pg_jobs_shared->lock);
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
    SlmJobSlot *slot = &slm_pg_jobs_shared->slots[index / SLM_JOB_WORKERS];
    MemoryContext context; /* of a failed batch's words */
    bool idle = false;

    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    LWLockAcquire(slm_pg_jobs_shared->lock, LW_EXCLUSIVE);
    slot->worker[index % SLM_JOB_WORKERS] = MyProcPid;
    LWLockRelease(slm_pg_jobs_shared->lock);
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
            idle = false;
            if (!run_job(id, activity, context))
                (void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, SHARED_MS, PG_WAIT_EXTENSION);
            continue;
        }
        if ((next == NEXT_NONE || idle) && retire(slot, next == NEXT_NONE ? DT_NOEND : due))
            return;
        idle = (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, IDLE_MS, PG_WAIT_EXTENSION) & WL_TIMEOUT) != 0;
        if (!idle)
            pg_usleep(GATHER_MS * 1000L);
    }
}

void slm_pg_job_worker_settings(void)
{
    DefineCustomIntVariable("slm.job_threads", "Threads that a job worker may use.",
                            "0 means all. Workers run at lower priority than sessions.",
                            &job_threads, 1, 0, 1024, PGC_SIGHUP, 0, NULL, NULL, NULL);
    DefineCustomRealVariable("slm.job_max_load", "Jobs pause while the machine's one-minute load average is above this.", "0 means never.",
                             &job_max_load, 0, 0, 10000, PGC_SIGHUP, 0, NULL, NULL, NULL);
    DefineCustomStringVariable("slm.job_window", "The hours at which jobs may work, in log_timezone, such as 22:00-06:00.",
                               "Empty means always.",
                               &job_window, "", PGC_SIGHUP, 0, check_window, NULL, NULL);
}
