/*
 * A background worker of jobs, which serves one database.
 *
 *   next job with due rows ──► one batch ──► ... ──► sleeps until the next is due, or leaves the database
 *
 * Invariant: a worker unmarks its slot before it looks for work, and leaves only under the lock that guards the mark, so that work that is
 * noted while it leaves wakes the launcher.  A batch is two transactions: one that claims rows, one that computes and writes them.
 *
 * It is a process with the rights of a superuser in databases that others own.  It looks at nothing unless the database has the extension
 * slm_pg and the tables are its members; settings of the database do not hold (settings.c); what code of users does is compute.c's.
 *
 * Owners take turns, and each owner's jobs: the turn is noted when it begins.  Nothing that a user holds locked is waited for longer than
 * a moment, the time of a batch is limited (deadline.c), and who pauses, alters or drops a job cancels its batch.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "pg/base/as_owner.h"
#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/base/failure.h"
#include "pg/jobs/jobs.h"
#include "pg/jobs/settings.h"
#include "pg/jobs/tune.h"
#include "pg/jobs/workers.h"

#define IDLE_MS 3000         /* a worker without due work leaves the database after this; DROP DATABASE waits for 5 s */
#define GATHER_MS 20         /* a look that found nothing is not repeated before, so that many small commits cost one look */
#define SHARED_MS 100        /* while others are at all rows that are due */
#define POSTPONE_SECONDS 30  /* a job that could not run is looked at again */
#define CONTENTION_SECONDS 2 /* the same, when somebody else was in the way */
#define PASSED_OVER 64
#define NICE 10
#define NICE_TEXT CppAsString2(NICE)
#define TURN_MS 30000        /* after this a fine-tuning has a turn though rows are due */

PGDLLEXPORT void slm_pg_job_worker_main(Datum arg);

/* Owners of jobs that could not be postponed, as somebody is changing them: they are passed over for a moment. */
static struct {
    Oid owner;
    TimestampTz until;
} passed_over[PASSED_OVER];
static int next_passed_over;
static TimestampTz last_turn; /* of a fine-tuning */

/* ---------------------------------------------------------------- transactions */

/* Acts as the extension until end_transaction. */
static void begin_transaction(SlmAs *saved)
{
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    PushActiveSnapshot(GetTransactionSnapshot());
    slm_pg_as_extension(saved);
}

static void end_transaction(const SlmAs *saved)
{
    slm_pg_as_end(saved);
    PopActiveSnapshot();
    CommitTransactionCommand();
    pgstat_report_stat(false);
    pgstat_report_activity(STATE_IDLE, NULL);
}

/* What code of a user can leave in a session beside settings, which end with the batch. */
static void forget_session(void)
{
    LockReleaseSession(USER_LOCKMETHOD);
    ResetSequenceCaches();
}

/* Has the database the extension, whose tables are looked at?  Not before it is updated. */
static bool has_extension(void)
{
    bool result;

    StartTransactionCommand();
    PushActiveSnapshot(GetTransactionSnapshot());
    result = OidIsValid(slm_pg_extension_relation("job_definition")) && OidIsValid(slm_pg_extension_relation("job_queue")) &&
             OidIsValid(slm_pg_extension_relation("job_done")) && !slm_pg_extension_is_earlier();
    PopActiveSnapshot();
    CommitTransactionCommand();
    return result;
}

/* ---------------------------------------------------------------- which job */

static void pass_over(Oid owner)
{
    passed_over[next_passed_over].owner = owner;
    passed_over[next_passed_over].until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), CONTENTION_SECONDS * 1000);
    next_passed_over = (next_passed_over + 1) % PASSED_OVER;
}

/* " AND d.owner NOT IN (...)". */
static char *not_passed_over(void)
{
    TimestampTz now = GetCurrentTimestamp();
    StringInfoData out;

    initStringInfo(&out);
    for (int i = 0; i < PASSED_OVER; i++)
        if (passed_over[i].until > now)
            appendStringInfo(&out, "%s%u", out.len == 0 ? " AND d.owner NOT IN (" : ", ", passed_over[i].owner);
    if (out.len > 0)
        appendStringInfoChar(&out, ')');
    return out.data;
}

typedef enum NextJob { NEXT_NONE, NEXT_LATER, NEXT_FOUND } NextJob;

/* A job whose tables are being restored from a dump has its triggers last: until then its rows may be missing. */
#define HAS_TRIGGERS                                                                                                           \
    "EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = d.source AND g.tgname = ('slm_job_' || d.id || '_truncate')::name)"     \
    " AND EXISTS (SELECT FROM pg_class c WHERE c.oid = d.target)"

/* When the first row of a job that may run comes due; sets *result to NEXT_LATER where there is any job.  Jobs whose owner was dropped
 * become nobody's. */
static TimestampTz next_due(NextJob *result)
{
    Datum first;

    slm_pg_spi("SELECT d.id FROM slm.job_definition d"
               " WHERE d.owner <> 0::oid AND NOT EXISTS (SELECT FROM pg_authid a WHERE a.oid = d.owner)"
               " FOR NO KEY UPDATE OF d SKIP LOCKED",
               SPI_OK_SELECT);
    if (SPI_processed > 0)
        slm_pg_job_disown(DatumGetInt32(slm_pg_job_datum(1, INT4OID)));
    slm_pg_spi("SELECT min(CASE WHEN NOT " HAS_TRIGGERS
               "                THEN clock_timestamp() + interval '5 s'"
               "                WHEN NOT d.backfill_done THEN d.not_before"
               "                ELSE (SELECT GREATEST(d.not_before, min(q.not_before)) FROM slm.job_queue q"
               "                      WHERE q.job_id = d.id AND NOT q.failed HAVING count(*) > 0) END)"
               " FROM slm.job_definition d"
               " WHERE NOT d.paused AND d.owner <> 0::oid AND EXISTS (SELECT FROM pg_class c WHERE c.oid = d.source)"
               " HAVING count(*) > 0",
               SPI_OK_SELECT);
    if (SPI_processed == 0)
        return DT_NOEND;
    *result = NEXT_LATER;
    first = slm_pg_job_datum(1, TIMESTAMPTZOID);
    return first == (Datum) 0 ? DT_NOEND : DatumGetTimestampTz(first);
}

/* The job with due rows whose owner, and then which itself, has waited longest; *activity is what pg_stat_activity shows.  For NEXT_LATER,
 * *due is lowered to when work comes due. */
static NextJob next_job(int32 *id, Oid *owner, char *activity, Size size, TimestampTz *due)
{
    static const Oid types[] = {INT4OID, TEXTOID, TEXTOID, INT4OID, OIDOID};
    NextJob result = NEXT_NONE;
    SlmAs saved;

    if (!has_extension())
        return NEXT_NONE;
    begin_transaction(&saved);
    SPI_connect();
    slm_pg_spi(psprintf("SELECT d.id, d.name, d.source::text, d.batch_size, d.owner::oid"
                        " FROM (SELECT j.*, max(j.last_run) OVER (PARTITION BY j.owner) AS turn FROM slm.job_definition j) d"
                        " WHERE NOT d.paused AND d.owner <> 0::oid AND d.not_before <= statement_timestamp() AND " HAS_TRIGGERS
                        "   AND (NOT d.backfill_done"
                        "        OR EXISTS (SELECT FROM slm.job_queue q"
                        "                   WHERE q.job_id = d.id AND NOT q.failed AND q.not_before <= statement_timestamp()))%s"
                        " ORDER BY d.turn, d.last_run, d.id LIMIT 1", not_passed_over()),
               SPI_OK_SELECT);
    slm_pg_job_check_types(lengthof(types), types);
    if (SPI_processed > 0) {
        *id = DatumGetInt32(slm_pg_job_value(0, 1));
        *owner = DatumGetObjectId(slm_pg_job_value(0, 5));
        snprintf(activity, size, "slm job \"%s\": up to %d rows of %s", TextDatumGetCString(slm_pg_job_value(0, 2)),
                 DatumGetInt32(slm_pg_job_value(0, 4)), TextDatumGetCString(slm_pg_job_value(0, 3)));
        result = NEXT_FOUND;
    } else {
        *due = Min(*due, next_due(&result));
    }
    SPI_finish();
    end_transaction(&saved);
    return result;
}

/* ---------------------------------------------------------------- a batch */

typedef struct Batch {
    int32 job;
    Oid owner;
    const char *activity;
    MemoryContext context;
    Datum ids;
    int n;
    char *failure; /* as slm.jobs.error shows it; NULL for a cancel */
    int seconds;   /* to wait after a failure or cancel; 0: neither */
} Batch;

/* Postpones a job whose batch failed as a whole: its table was changed or is locked, a privilege was lost, it was cancelled.  Its rows
 * were not at fault: the try does not count, but it was the owner's turn.  Waits for nobody. */
static void postpone(const Batch *b)
{
    const Oid types[1] = {TEXTOID};
    Datum values[1] = {b->failure == NULL ? (Datum) 0 : CStringGetTextDatum(b->failure)};
    SlmAs saved;

    begin_transaction(&saved);
    SPI_connect();
    if (b->ids != (Datum) 0)
        slm_pg_job_give_back(b->job, b->ids);
    slm_pg_spi_with(psprintf("UPDATE slm.job_definition d"
                             " SET not_before = clock_timestamp() + interval '%d s', last_run = clock_timestamp(),"
                             "     error = COALESCE($1, d.error)"
                             " WHERE d.id IN (SELECT j.id FROM slm.job_definition j WHERE j.id = %d FOR NO KEY UPDATE SKIP LOCKED)",
                             b->seconds, b->job),
                    1, types, values, b->failure == NULL ? "n" : NULL, SPI_OK_UPDATE);
    if (SPI_processed == 0)
        pass_over(b->owner);
    SPI_finish();
    end_transaction(&saved);
}

static void run_batch(Batch *b)
{
    SlmAs saved;
    MemoryContext old;

    begin_transaction(&saved);
    pgstat_report_activity(STATE_RUNNING, b->activity);
    b->ids = slm_pg_job_claim(b->job);
    if (b->ids != (Datum) 0) {
        old = MemoryContextSwitchTo(b->context);
        b->ids = datumCopy(b->ids, false, -1);
        MemoryContextSwitchTo(old);
    }
    end_transaction(&saved);
    begin_transaction(&saved);
    pgstat_report_activity(STATE_RUNNING, b->activity);
    b->n = slm_pg_job_run(b->job, b->ids);
    end_transaction(&saved);
}

/* After an error: undoes the transaction.  Why it failed (NULL: it was cancelled), and for how long it is to be left alone. */
static char *undo(MemoryContext context, int *seconds)
{
    ErrorData *data;
    bool passing, cancelled;

    MemoryContextSwitchTo(context);
    data = CopyErrorData();
    passing = slm_pg_failure(data->sqlerrcode) == SLM_FAILURE_PASSING;
    cancelled = data->sqlerrcode == ERRCODE_QUERY_CANCELED;
    *seconds = passing || cancelled ? CONTENTION_SECONDS : POSTPONE_SECONDS;
    if (!passing)
        EmitErrorReport();
    FlushErrorState();
    AbortCurrentTransaction();
    MemoryContextSwitchTo(context);
    return cancelled ? NULL : slm_pg_failure_text(data);
}

/* A batch: one transaction that claims, one that computes. An error that is not of a row postpones the job. False: others are at all of
 * its rows. */
static bool run_job(int32 id, Oid owner, const char *activity, MemoryContext context)
{
    Batch b = {.job = id, .owner = owner, .activity = activity, .context = context};

    PG_TRY();
    {
        run_batch(&b);
    }
    PG_CATCH();
    {
        b.failure = undo(context, &b.seconds);
    }
    PG_END_TRY();
    forget_session();
    if (b.seconds > 0)
        postpone(&b);
    MemoryContextReset(context);
    return b.n > 0 || b.ids != (Datum) 0 || b.seconds > 0;
}

/* ---------------------------------------------------------------- a turn of a fine-tuning */

/* The next one, when the database has the table. */
static SlmTuneDue next_tune(int32 *id, char *activity, Size size, TimestampTz *due)
{
    SlmTuneDue result = SLM_TUNE_NONE;
    SlmAs saved;

    StartTransactionCommand();
    PushActiveSnapshot(GetTransactionSnapshot());
    result = OidIsValid(slm_pg_extension_relation("tune_job")) && !slm_pg_extension_is_earlier() ? SLM_TUNE_NOW : SLM_TUNE_NONE;
    PopActiveSnapshot();
    CommitTransactionCommand();
    if (result == SLM_TUNE_NONE)
        return result;
    begin_transaction(&saved);
    SPI_connect();
    result = slm_pg_tune_next(id, activity, size, due);
    SPI_finish();
    end_transaction(&saved);
    return result;
}

static bool claim_tune(int32 id)
{
    SlmAs saved;
    bool claimed;

    begin_transaction(&saved);
    SPI_connect();
    claimed = slm_pg_tune_claim(id);
    SPI_finish();
    end_transaction(&saved);
    return claimed;
}

/* What it leaves to be removed, in the worker's context. */
static char *turn(int32 id, const char *activity, const volatile bool *wanted, MemoryContext context)
{
    SlmAs saved;
    char *file;

    begin_transaction(&saved);
    pgstat_report_activity(STATE_RUNNING, activity);
    file = slm_pg_tune_turn(id, wanted);
    if (file != NULL)
        file = MemoryContextStrdup(context, file);
    end_transaction(&saved);
    return file;
}

static void note_failed(int32 id, const char *error, int seconds)
{
    SlmAs saved;

    begin_transaction(&saved);
    SPI_connect();
    slm_pg_tune_failed(id, error, seconds);
    SPI_finish();
    end_transaction(&saved);
}

static void run_tune(int32 id, const char *activity, const volatile bool *wanted, MemoryContext context)
{
    char *volatile file = NULL, *volatile failure = NULL;
    int seconds = 0;

    PG_TRY();
    {
        if (claim_tune(id))
            file = turn(id, activity, wanted, context);
    }
    PG_CATCH();
    {
        failure = undo(context, &seconds);
    }
    PG_END_TRY();
    forget_session();
    if (seconds > 0)
        note_failed(id, failure, seconds);
    if (file != NULL)
        slm_pg_tune_remove(file);
    MemoryContextReset(context);
}

/* ---------------------------------------------------------------- the worker */

/* The place of this worker in its slot; needs the lock. */
static int my_place(const SlmJobSlot *slot)
{
    for (int w = 0; w < SLM_JOB_WORKERS; w++)
        if (slot->worker[w] == MyProcPid)
            return w;
    return -1;
}

/* Says whose batch this worker is at: who stops the job signals it.  false: another worker is at this fine-tuning, which one does alone. */
static bool set_job(SlmJobSlot *slot, int32 job)
{
    bool taken = false;
    int place;

    LWLockAcquire(slm_pg_jobs_shared->lock, LW_EXCLUSIVE);
    place = my_place(slot);
    for (int w = 0; w < SLM_JOB_WORKERS; w++)
        taken = taken || (job < 0 && w != place && slot->worker[w] > 0 && slot->job[w] == job);
    if (place >= 0 && !taken)
        slot->job[place] = job;
    LWLockRelease(slm_pg_jobs_shared->lock);
    return !taken;
}

static bool is_empty(const SlmJobSlot *slot)
{
    for (int w = 0; w < SLM_JOB_WORKERS; w++)
        if (slot->worker[w] != 0)
            return false;
    return true;
}

static void leave_slot(int code, Datum arg)
{
    LWLockAcquire(slm_pg_jobs_shared->lock, LW_EXCLUSIVE);
    for (int i = 0; i < slm_pg_jobs_shared->n_slots; i++) {
        SlmJobSlot *slot = &slm_pg_jobs_shared->slots[i];
        int place = my_place(slot);

        if (place < 0)
            continue;
        slot->worker[place] = 0;
        slot->job[place] = 0;
        slot->wanted = slot->wanted || code != 0; /* it did not end by itself */
        if (slot->failures >= SLM_JOB_FAILURES && is_empty(slot))
            slot->database = InvalidOid; /* nobody can connect: the next who commits work there asks for it again */
    }
    LWLockRelease(slm_pg_jobs_shared->lock);
}

/* wanted = false: what is asked for from now on is not seen yet. */
static void mark(SlmJobSlot *slot, bool wanted)
{
    LWLockAcquire(slm_pg_jobs_shared->lock, LW_EXCLUSIVE);
    slot->wanted = wanted;
    LWLockRelease(slm_pg_jobs_shared->lock);
}

/* Nothing is due: ends, unless something was asked for in the meantime.  The launcher looks again at wake_at; a database without jobs
 * gives its slot back. */
static bool retire(SlmJobSlot *slot, NextJob next, TimestampTz due)
{
    bool ends;

    LWLockAcquire(slm_pg_jobs_shared->lock, LW_EXCLUSIVE);
    ends = !slot->wanted;
    slot->wake_at = next == NEXT_NONE ? DT_NOEND : due;
    if (ends) {
        int place = my_place(slot);

        if (place >= 0)
            slot->worker[place] = 0; /* under the same lock: whoever marks the slot from now on wakes the launcher */
        slot->started = 0; /* it did not fail: the next one may start at once */
        if (next == NEXT_NONE && is_empty(slot))
            slot->database = InvalidOid;
    }
    LWLockRelease(slm_pg_jobs_shared->lock);
    return ends;
}

/* The work that is there now is due no sooner than this. */
static TimestampTz latest_look(void)
{
    return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), 60 * 1000);
}

/* While rows of jobs are due, a fine-tuning has a turn from time to time. */
static bool tune_waits(void)
{
    return TimestampDifferenceExceeds(last_turn, GetCurrentTimestamp(), TURN_MS);
}

/* A turn of a fine-tuning, where one is due; else *next and *due are those of row jobs and fine-tunings together. */
static bool look_tune(SlmJobSlot *slot, MemoryContext context, NextJob *next, TimestampTz *due)
{
    char activity[256];
    int32 id = 0;
    SlmTuneDue tune = next_tune(&id, activity, sizeof activity, due);

    if (tune != SLM_TUNE_NONE && *next == NEXT_NONE)
        *next = NEXT_LATER;
    if (tune != SLM_TUNE_NOW || !set_job(slot, SLM_TUNE_SLOT(id)))
        return false;
    run_tune(id, activity, &slot->wanted, context);
    last_turn = GetCurrentTimestamp();
    (void) set_job(slot, 0);
    return true;
}

/* One look for work, and a batch where there is some; false: the worker ends. *idle: the look before found nothing either. */
static bool look(SlmJobSlot *slot, MemoryContext context, bool *idle)
{
    char activity[256];
    int32 id = 0;
    Oid owner = InvalidOid;
    TimestampTz due = latest_look();
    bool may_work = slm_pg_job_may_work();
    NextJob next = may_work ? next_job(&id, &owner, activity, sizeof activity, &due) : NEXT_LATER;

    slot->failures = 0;
    if (may_work && (next != NEXT_FOUND || tune_waits()) && look_tune(slot, context, &next, &due)) {
        *idle = false;
        return true;
    }
    if (next == NEXT_FOUND) {
        bool worked;

        *idle = false;
        (void) set_job(slot, id);
        worked = run_job(id, owner, activity, context);
        (void) set_job(slot, 0);
        if (!worked)
            (void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, SHARED_MS, PG_WAIT_EXTENSION);
        return true;
    }
    if ((next == NEXT_NONE || *idle) && retire(slot, next, due))
        return false;
    *idle = (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, IDLE_MS, PG_WAIT_EXTENSION) & WL_TIMEOUT) != 0;
    if (!*idle)
        pg_usleep(GATHER_MS * 1000L);
    return true;
}

/*
 * Interactive sessions come first; threads of the engine inherit it.  Where the kernel weighs sessions against each other (autogroup), nice
 * weighs within a session only, and a worker is a session of its own: that is told to give way, too.  false: try again, the kernel takes
 * one such change of all users in a tenth of a second.
 */
static bool give_way(void)
{
    bool done = true;
    int fd;

    (void) setpriority(PRIO_PROCESS, 0, NICE);
    if (getsid(0) != getpid() || (fd = OpenTransientFile("/proc/self/autogroup", O_WRONLY | PG_BINARY)) < 0)
        return true;
    if (write(fd, NICE_TEXT, strlen(NICE_TEXT)) < 0)
        done = errno != EAGAIN;
    (void) CloseTransientFile(fd);
    return done;
}

void slm_pg_job_worker_main(Datum arg)
{
    int index = DatumGetInt32(arg);
    SlmJobSlot *slot = &slm_pg_jobs_shared->slots[index / SLM_JOB_WORKERS];
    MemoryContext context; /* of a failed batch's words */
    Oid database;
    bool idle = false, gives_way = false;

    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    LWLockAcquire(slm_pg_jobs_shared->lock, LW_EXCLUSIVE);
    slot->worker[index % SLM_JOB_WORKERS] = MyProcPid;
    database = slot->database;
    LWLockRelease(slm_pg_jobs_shared->lock);
    before_shmem_exit(leave_slot, (Datum) 0);
    slm_pg_job_remember_settings();
    BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
    slm_pg_job_restore_settings();

    context = AllocSetContextCreate(TopMemoryContext, "slm job worker", ALLOCSET_DEFAULT_SIZES);
    for (;;) {
        QueryCancelPending = false; /* it was meant for a batch */
        CHECK_FOR_INTERRUPTS();
        gives_way = gives_way || give_way();
        if (ConfigReloadPending) {
            ConfigReloadPending = false;
            ProcessConfigFile(PGC_SIGHUP);
            slm_pg_job_worker_session();
        }
        if (!slm_pg_job_worker_allowed(index % SLM_JOB_WORKERS)) {
            mark(slot, true); /* for whoever may look in its place, now or later */
            return;
        }
        ResetLatch(MyLatch);
        mark(slot, false);
        if (!look(slot, context, &idle))
            return;
    }
}
