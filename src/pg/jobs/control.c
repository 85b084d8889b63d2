/*
 * Running jobs by hand, and stopping them: slm_run_job, slm_drop_job, slm_pause_job, slm_resume_job, slm_retry_failed.
 *
 * Who may: whoever has the rights of the job's owner.  His own rights are never lent to the job: a batch runs as the owners of the
 * tables whoever calls slm_run_job, and so does what slm_drop_job takes back.
 *
 * A batch that is under way holds the definition's row; who wants to change it cancels the batch instead of waiting for its end.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/pquery.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/queryenvironment.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"
#include "utils/wait_event.h"

#include "pg/base/as_owner.h"
#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/jobs/admin.h"
#include "pg/jobs/jobs.h"
#include "pg/jobs/triggers.h"
#include "pg/jobs/wake.h"
#include "pg/jobs/workers.h"

#define POLL_MS 100
#define SOFT_POLLS 50  /* cancels before a worker that does not listen is ended */
#define HARD_POLLS 100 /* polls before the lock is waited for as any other */

PG_FUNCTION_INFO_V1(slm_pg_run_job);
PG_FUNCTION_INFO_V1(slm_pg_drop_job);
PG_FUNCTION_INFO_V1(slm_pg_pause_job);
PG_FUNCTION_INFO_V1(slm_pg_resume_job);
PG_FUNCTION_INFO_V1(slm_pg_retry_failed);

/* ---------------------------------------------------------------- whose job */

int32 slm_pg_job_find(const char *statement, const char *name)
{
    const Oid types[1] = {TEXTOID}, results[2] = {INT4OID, OIDOID};
    Datum values[1] = {CStringGetTextDatum(name)};
    Oid owner = InvalidOid;
    int32 id = 0;
    SlmAs saved;

    slm_pg_as_extension(&saved);
    slm_pg_spi_with(statement, 1, types, values, NULL, SPI_OK_SELECT);
    slm_pg_job_check_types(lengthof(results), results);
    if (SPI_processed > 0) {
        id = DatumGetInt32(slm_pg_job_value(0, 1));
        owner = DatumGetObjectId(slm_pg_job_value(0, 2));
    }
    slm_pg_as_end(&saved);
    return id != 0 && has_privs_of_role(GetUserId(), owner) ? id : 0;
}

int32 slm_pg_job_id(const char *name)
{
    int32 id = slm_pg_job_find("SELECT d.id, d.owner::oid FROM slm.job_definition d WHERE d.name = $1", name);

    if (id == 0)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("job \"%s\" does not exist", name),
                        errhint("SELECT name FROM slm.jobs lists the jobs that you may use.")));
    return id;
}

static char *name_argument(FunctionCallInfo fcinfo)
{
    if (PG_ARGISNULL(0))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the name of a job must not be null")));
    return text_to_cstring(PG_GETARG_TEXT_PP(0));
}

/* ---------------------------------------------------------------- stopping a batch */

static bool is_worker(pid_t pid)
{
    bool found = false;

    if (slm_pg_jobs_shared == NULL)
        return false;
    LWLockAcquire(slm_pg_jobs_shared->lock, LW_SHARED);
    for (int i = 0; i < slm_pg_jobs_shared->n_slots; i++)
        for (int w = 0; w < SLM_JOB_WORKERS; w++)
            found = found || slm_pg_jobs_shared->slots[i].worker[w] == pid;
    LWLockRelease(slm_pg_jobs_shared->lock);
    return found;
}

/* Cancels the batches of a job that are under way in other sessions; `hard`: ends workers that do not listen.  A batch holds the advisory
 * lock (job, its own process).  Whoever else takes such a lock asks to be cancelled himself. */
static void cancel_workers(int32 id, bool hard)
{
    LockData *locks = GetLockStatusData();

    for (int i = 0; i < locks->nelements; i++) {
        const LockInstanceData *lock = &locks->locks[i];
        const LOCKTAG *tag = &lock->locktag;

        if (tag->locktag_type != LOCKTAG_ADVISORY || tag->locktag_field1 != MyDatabaseId || tag->locktag_field2 != (uint32) id ||
            tag->locktag_field3 != (uint32) lock->pid || tag->locktag_field4 != 2 || lock->holdMask == 0 || lock->pid == MyProcPid ||
            BackendPidGetProc(lock->pid) == NULL)
            continue;
        (void) kill(lock->pid, hard && is_worker(lock->pid) ? SIGTERM : SIGINT);
    }
}

void slm_pg_job_lock(int32 id, const char *name)
{
    for (int polls = 0;; polls++) {
        bool wait = polls >= HARD_POLLS;

        slm_pg_spi(psprintf("SELECT FROM slm.job_definition d WHERE d.id = %d FOR UPDATE%s", id, wait ? "" : " SKIP LOCKED"),
                   SPI_OK_SELECT);
        if (SPI_processed > 0)
            return;
        slm_pg_spi(psprintf("SELECT FROM slm.job_definition d WHERE d.id = %d", id), SPI_OK_SELECT);
        if (SPI_processed == 0)
            ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("job \"%s\" was dropped just now", name)));
        cancel_workers(id, polls >= SOFT_POLLS);
        (void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, POLL_MS, PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
}

/* ---------------------------------------------------------------- pause, resume, retry */

uint64 slm_pg_job_retry(int32 id)
{
    slm_pg_spi(psprintf("UPDATE slm.job_queue q SET attempts = 0, waits = 0, not_before = '-infinity' "
                        "WHERE q.job_id = %d AND NOT q.failed AND q.not_before > clock_timestamp()", id),
               SPI_OK_UPDATE);
    slm_pg_spi(psprintf("UPDATE slm.job_queue q SET failed = false, attempts = 0, tries = 0, not_before = '-infinity' "
                        "WHERE q.job_id = %d AND q.failed", id),
               SPI_OK_UPDATE);
    return SPI_processed;
}

/* Sets the pause of a job that the caller may control; returns its id. */
static int32 set_paused(char *name, const char *assignments)
{
    SlmAs saved;
    int32 id;

    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    id = slm_pg_job_id(name);
    slm_pg_as_extension(&saved);
    slm_pg_spi(psprintf("UPDATE slm.job_definition d SET %s WHERE d.id = %d", assignments, id), SPI_OK_UPDATE);
    slm_pg_as_end(&saved);
    SPI_finish();
    return id;
}

/* slm_pause_job(name text): workers begin no batch, and leave the one that they are at. */
Datum slm_pg_pause_job(PG_FUNCTION_ARGS)
{
    slm_pg_job_stop_at_commit(set_paused(name_argument(fcinfo), "paused = true"));
    PG_RETURN_VOID();
}

/* slm_resume_job(name text) */
Datum slm_pg_resume_job(PG_FUNCTION_ARGS)
{
    (void) set_paused(name_argument(fcinfo), "paused = false, not_before = '-infinity'");
    slm_pg_job_wake_at_commit();
    PG_RETURN_VOID();
}

/* slm_retry_failed(name text) -> bigint */
Datum slm_pg_retry_failed(PG_FUNCTION_ARGS)
{
    char *name = name_argument(fcinfo);
    uint64 n;
    SlmAs saved;
    int32 id;

    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    id = slm_pg_job_id(name);
    slm_pg_as_extension(&saved);
    n = slm_pg_job_retry(id);
    slm_pg_as_end(&saved);
    SPI_finish();
    slm_pg_job_wake_at_commit();
    PG_RETURN_INT64((int64) n);
}

/* ---------------------------------------------------------------- drop */

/* May the caller, or the job, act as the owner of a table that is there? */
static bool may_act(Oid caller, const SlmJob *job, Oid table_owner)
{
    return OidIsValid(table_owner) && (slm_pg_may_become(caller, table_owner) ||
                                       (slm_pg_job_owner_exists(job->owner) && slm_pg_may_become(job->owner, table_owner)));
}

/* Names what the job has noted as slm_d (key jsonb, value_hash text), read as the extension. */
static void name_done(const SlmJob *job)
{
    static const Oid types[] = {JSONBOID, TEXTOID};
    EphemeralNamedRelation relation = palloc0(sizeof *relation);
    Tuplestorestate *store = tuplestore_begin_heap(true, false, work_mem);

    slm_pg_spi(psprintf("SELECT d.key, d.value_hash FROM slm.job_done d WHERE d.job_id = %d", job->id), SPI_OK_SELECT);
    slm_pg_job_check_types(lengthof(types), types);
    for (uint64 i = 0; i < SPI_processed; i++)
        tuplestore_puttuple(store, SPI_tuptable->vals[i]);
    relation->md.name = pstrdup("slm_d");
    relation->md.tupdesc = CreateTupleDescCopy(SPI_tuptable->tupdesc);
    relation->md.enrtype = ENR_NAMED_TUPLESTORE;
    relation->md.enrtuples = SPI_processed;
    relation->reldata = store;
    if (SPI_register_relation(relation) != SPI_OK_REL_REGISTER)
        elog(ERROR, "could not name what a job has computed");
}

/* Takes back the values that the job wrote and nobody has changed since, as the target's owner: its triggers, casts and checks run. */
static void drop_values_of(const SlmJob *job, Oid caller)
{
    char *hash = slm_pg_job_value_hash(job, "t"), *key = slm_pg_job_key(&job->target_keys, "t");
    SlmAs saved;

    if (!may_act(caller, job, job->target_owner))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("you may not change table %s", job->target_name),
                        errhint("Drop the job without drop_values, or as a role that can SET ROLE to the table's owner.")));
    name_done(job);
    slm_pg_as(&saved, job->target_owner, job->search_path);
    slm_pg_job_text_settings();
    if (job->target == job->source)
        slm_pg_spi(psprintf("UPDATE %s t SET %s = NULL FROM slm_d WHERE slm_d.key OPERATOR(pg_catalog.=) %s "
                            "AND %s OPERATOR(pg_catalog.=) slm_d.value_hash",
                            job->target_name, job->target_column, key, hash),
                   SPI_OK_UPDATE);
    else
        slm_pg_spi(psprintf("DELETE FROM %s t USING slm_d WHERE slm_d.key OPERATOR(pg_catalog.=) %s "
                            "AND ((%s) IS NULL OR %s OPERATOR(pg_catalog.=) slm_d.value_hash)",
                            job->target_name, key, hash, hash),
                   SPI_OK_DELETE);
    slm_pg_as_end(&saved);
}

/* slm_drop_job(name text, drop_values bool) */
Datum slm_pg_drop_job(PG_FUNCTION_ARGS)
{
    char *name = name_argument(fcinfo);
    bool drop_values = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
    Oid caller = GetUserId();
    SlmAs saved;
    SlmJob *job;
    int32 id;

    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    id = slm_pg_job_id(name);
    slm_pg_as_extension(&saved);
    slm_pg_job_lock(id, name); /* before any lock on the table */
    job = slm_pg_job_read(id, true);
    if (may_act(caller, job, job->source_owner))
        slm_pg_job_drop_triggers(id, job->source);
    if (drop_values && job->source_name != NULL && job->target_name != NULL && job->target_keys.n > 0 && job->has_target_column)
        drop_values_of(job, caller);
    slm_pg_spi(psprintf("DELETE FROM slm.job_queue WHERE job_id = %d", id), SPI_OK_DELETE);
    slm_pg_spi(psprintf("DELETE FROM slm.job_done WHERE job_id = %d", id), SPI_OK_DELETE);
    slm_pg_spi(psprintf("DELETE FROM slm.job_definition WHERE id = %d", id), SPI_OK_DELETE);
    slm_pg_as_end(&saved);
    SPI_finish();
    PG_RETURN_VOID();
}

/* ---------------------------------------------------------------- run */

/* Runs one batch in a subtransaction; NULL, or the error after it was undone. */
static ErrorData *run_batch(int32 id, Datum ids, int *n)
{
    MemoryContext context = CurrentMemoryContext;
    ResourceOwner resources = CurrentResourceOwner;
    ErrorData *volatile error = NULL;

    BeginInternalSubTransaction(NULL);
    MemoryContextSwitchTo(context);
    PG_TRY();
    {
        *n = slm_pg_job_run(id, ids);
        ReleaseCurrentSubTransaction();
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(context);
        error = CopyErrorData();
        FlushErrorState();
        RollbackAndReleaseCurrentSubTransaction();
    }
    PG_END_TRY();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = resources;
    return error;
}

static void give_back(int32 id, Datum ids)
{
    SlmAs saved;

    slm_pg_as_extension(&saved);
    slm_pg_job_give_back(id, ids);
    slm_pg_as_end(&saved);
}

/* CALL slm_run_job(name text): a transaction that claims, one that computes, and so on until nothing is due. */
Datum slm_pg_run_job(PG_FUNCTION_ARGS)
{
    bool atomic = fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) || ((CallContext *) fcinfo->context)->atomic;
    char *name = name_argument(fcinfo);
    int64 total = 0;

    if (SPI_connect_ext(atomic ? 0 : SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    for (;;) {
        int32 id;
        int n = 0;
        Datum ids;
        ErrorData *error;

        EnsurePortalSnapshotExists();
        id = slm_pg_job_id(name); /* anew: rights may have changed */
        ids = slm_pg_job_claim(id);
        SPI_commit(); /* the try counts, should this be the end of the server */
        EnsurePortalSnapshotExists();
        error = run_batch(id, ids, &n);
        if (error != NULL && ids != (Datum) 0)
            give_back(id, ids); /* not the fault of a row: the try does not count */
        SPI_commit();
        if (error != NULL) {
            if (error->hint == NULL)
                error->hint = psprintf("Batches before this one are done; CALL slm_run_job(%s) goes on.", quote_literal_cstr(name));
            ThrowErrorData(error);
        }
        if (ids == (Datum) 0 && n == 0)
            break;
        if (ids == (Datum) 0)
            continue;
        total += n;
        ereport(NOTICE, (errmsg("job \"%s\": " INT64_FORMAT " rows", name, total)));
    }
    SPI_finish();
    PG_RETURN_VOID();
}
