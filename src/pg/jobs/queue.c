/*
 * The queue of a job: which rows are taken next, which existing rows are queued, and what becomes of rows that are done or failed.
 *
 * All statements here run as the bootstrap superuser under a fixed search_path and call nothing of a user, but for the one that reads the
 * keys of existing rows, which runs as the job's owner.
 *
 * Queue and notes grow faster than their statistics: conditions are written so that only the index that was meant can serve them.
 */
#include "pg/jobs/queue.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"

#define BACKFILL_CHUNK 1000 /* keys queued at a time */
#define LOCK_MS 1000        /* a job waits no longer for a lock */
#define BATCH_SECONDS 10.0  /* a batch is sized to take about so long: short for who waits for it, long for the window of the batch node */
#define FIRST_BATCH 16      /* rows, while the speed of a job is not known */
#define CLAIM_SECONDS 2     /* a claim that was committed and whose worker has not come to lock it is void after this */
#define SUSPECT_TRIES 4     /* a row that was tried so often without an outcome (the server ended) is tried alone */

/* A row's job where rows are found by id. */
#define OF_JOB(alias) "(" alias ".job_id = %d) IS TRUE"

PG_FUNCTION_INFO_V1(slm_pg_job_claim_rows);

static struct {
    int32 job, version;
    double rows_per_second;
} speed; /* of the job that this session ran last */

/* ---------------------------------------------------------------- on whose behalf */

void slm_pg_job_become(Oid user)
{
    SetUserIdAndSecContext(user, SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
}

void slm_pg_job_set(const char *name, const char *value)
{
    (void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/* From here to leave_owner: user and search_path of the job; outside of it, those of nobody's choice. */
int slm_pg_job_enter_owner(const SlmJob *job)
{
    int level = NewGUCNestLevel();

    slm_pg_job_set("search_path", job->search_path);
    slm_pg_job_become(job->owner);
    return level;
}

/* Settings of all work on jobs. A job that would wait gives way before the deadlock check of somebody who waits for it can hit him. */
int slm_pg_job_enter(void)
{
    int level = NewGUCNestLevel();

    slm_pg_job_set("search_path", "pg_catalog, pg_temp");
    slm_pg_job_set("lock_timeout", psprintf("%d", Max(Min(DeadlockTimeout / 2, LOCK_MS), 1)));
    return level;
}

void slm_pg_job_leave_owner(int level)
{
    AtEOXact_GUC(false, level); /* also what was set inside by set_config(..., false) */
    slm_pg_job_become(BOOTSTRAP_SUPERUSERID);
}

Datum slm_pg_job_datum(int column, Oid type)
{
    bool isnull;
    Datum value;

    if (SPI_processed == 0)
        elog(ERROR, "a statement of a job has no result");
    if (SPI_gettypeid(SPI_tuptable->tupdesc, column) != type)
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("column %d of a job's statement is of type %s instead of %s", column,
                                                                   format_type_be(SPI_gettypeid(SPI_tuptable->tupdesc, column)),
                                                                   format_type_be(type)),
                        errhint("A function or an operator on the job's search_path stands before the server's own.")));
    value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull);

    return isnull ? (Datum) 0 : value;
}

/* ---------------------------------------------------------------- claiming */

static int batch_limit(const SlmJob *job)
{
    if (speed.job != job->id || speed.version != job->version)
        return Min(job->batch_size, FIRST_BATCH);
    return (int) Min((double) job->batch_size, Max(speed.rows_per_second * BATCH_SECONDS, 1.0));
}

/* Due rows, the first of each key only: two workers never compute the same row. Those that were tried too often are taken alone. */
static Datum claim_rows(const SlmJob *job, bool suspect)
{
    slm_pg_spi(psprintf("WITH slm_due AS MATERIALIZED (SELECT q.id FROM slm.job_queue q WHERE q.job_id = %d AND NOT q.failed AND "
                        "q.not_before <= (SELECT clock_timestamp()) AND q.tries %s %d AND (q.worker = %d OR q.claimed_at IS NULL OR "
                        "q.claimed_at < clock_timestamp() - interval '%d s') AND NOT EXISTS (SELECT 1 FROM slm.job_queue o WHERE "
                        "o.job_id = q.job_id AND jsonb_hash_extended(o.key, 0) = jsonb_hash_extended(q.key, 0) AND o.key = q.key AND "
                        "o.id < q.id AND NOT o.failed AND o.not_before <= clock_timestamp() OFFSET 0) ORDER BY q.not_before, q.id "
                        "LIMIT %d FOR UPDATE OF q SKIP LOCKED), "
                        "slm_tried AS (UPDATE slm.job_queue q SET tries = q.tries + 1, worker = %d, claimed_at = clock_timestamp() FROM "
                        "slm_due WHERE q.id = slm_due.id RETURNING q.id) "
                        "SELECT array_agg(id ORDER BY id) FROM slm_tried",
                        job->id, suspect ? ">=" : "<", SUSPECT_TRIES, MyProcPid, CLAIM_SECONDS, suspect ? 1 : batch_limit(job), MyProcPid),
               SPI_OK_SELECT);
    return slm_pg_job_datum(1, INT8ARRAYOID);
}

/* Gives up rows during which the server ended again and again although they were alone. */
static void fail_suspects(const SlmJob *job)
{
    slm_pg_spi(psprintf("WITH slm_failed AS (UPDATE slm.job_queue SET failed = true, attempts = tries, error = 'the server or the worker "
                        "ended each time while "
                        "this row was computed' WHERE job_id = %d AND NOT failed AND tries >= %d RETURNING id, key) "
                        "DELETE FROM slm.job_queue o USING slm_failed f WHERE o.job_id = %d AND jsonb_hash_extended(o.key, 0) = "
                        "jsonb_hash_extended(f.key, 0) "
                        "AND o.key = f.key AND o.id < f.id AND o.failed",
                        job->id, SUSPECT_TRIES + job->max_attempts, job->id),
               SPI_OK_DELETE);
}

Datum slm_pg_job_claim(int32 id)
{
    int security, level;
    Oid user;
    SlmJob *job;
    Datum ids = (Datum) 0;

    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    level = slm_pg_job_enter();
    job = slm_pg_job_read(id, true);
    if (job != NULL) {
        GetUserIdAndSecContext(&user, &security);
        slm_pg_job_become(BOOTSTRAP_SUPERUSERID);
        ids = claim_rows(job, false);
        if (ids == (Datum) 0) {
            fail_suspects(job);
            ids = claim_rows(job, true);
        }
        if (ids != (Datum) 0)
            ids = SPI_datumTransfer(ids, false, -1);
        SetUserIdAndSecContext(user, security);
    }
    AtEOXact_GUC(false, level);
    SPI_finish();
    return ids;
}

/* Locks the claimed rows, drops older ones of the same keys, and fetches what was computed for them before. */
bool slm_pg_job_lock_claimed(const SlmJob *job, Datum ids, SlmJobClaim *out)
{
    Oid types[1] = {INT8ARRAYOID};
    char *query;

    query = psprintf("WITH slm_due AS MATERIALIZED (SELECT q.id, q.key FROM slm.job_queue q WHERE q.id = ANY ($1) AND " OF_JOB("q")
                     " AND NOT q.failed AND q.worker = %d ORDER BY q.id FOR UPDATE SKIP LOCKED), "
                     "slm_older AS (DELETE FROM slm.job_queue WHERE id = ANY (ARRAY(SELECT o.id FROM slm_due q CROSS JOIN LATERAL "
                     "(SELECT o.id FROM slm.job_queue o WHERE o.job_id = %d AND jsonb_hash_extended(o.key, 0) = "
                     "jsonb_hash_extended(q.key, 0) AND o.key = q.key AND o.id < q.id AND (o.failed OR o.not_before > clock_timestamp()) "
                     "OFFSET 0) o)) AND " OF_JOB("job_queue") ") "
                     "SELECT array_agg(q.id), array_agg(q.key), array_agg(CASE WHEN d.version = %d THEN d.input_hash END), "
                     "array_agg(d.value_hash), count(*)::int FROM slm_due q LEFT JOIN LATERAL (SELECT * FROM slm.job_done s WHERE "
                     "s.job_id = %d AND s.key = q.key OFFSET 0) d ON true",
                     job->id, MyProcPid, job->id, job->id, job->version, job->id);
    if (SPI_execute_with_args(query, 1, types, &ids, NULL, false, 0) != SPI_OK_SELECT)
        elog(ERROR, "could not lock the queue");
    out->n = DatumGetInt32(slm_pg_job_datum(5, INT4OID));
    out->ids = slm_pg_job_datum(1, INT8ARRAYOID);
    out->keys = slm_pg_job_datum(2, JSONBARRAYOID);
    out->old_input = slm_pg_job_datum(3, TEXTARRAYOID);
    out->old_value = slm_pg_job_datum(4, TEXTARRAYOID);
    return out->n > 0;
}

/* slm.job_claim(job int) -> bigint[]. Row-level security has the last word on who may see the job. */
Datum slm_pg_job_claim_rows(PG_FUNCTION_ARGS)
{
    Datum ids = slm_pg_job_claim(PG_GETARG_INT32(0));

    if (ids == (Datum) 0)
        PG_RETURN_NULL();
    PG_RETURN_DATUM(ids);
}

/* Remembers how fast this session has run a job. */
void slm_pg_job_note_speed(const SlmJob *job, int rows, double seconds)
{
    speed.job = job->id;
    speed.version = job->version;
    speed.rows_per_second = rows / Max(seconds, 0.001);
}

/* ---------------------------------------------------------------- backfill */

/* Queues the next keys of the existing rows, read as the owner; returns how many. */
int slm_pg_job_backfill(const SlmJob *job)
{
    const char *direction = job->newest_first ? " DESC" : "";
    char *sort = slm_pg_job_key_columns(job, "t.", direction);
    Oid types[1] = {JSONBARRAYOID};
    StringInfoData query;
    char *position;
    Datum keys;
    int n, level;

    slm_pg_spi(psprintf("SELECT backfill_position FROM slm.job_definition WHERE id = %d AND NOT backfill_done FOR NO KEY UPDATE",
                        job->id), SPI_OK_SELECT);
    if (SPI_processed == 0)
        return 0;
    position = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
    initStringInfo(&query);
    appendStringInfo(&query, "SELECT pg_catalog.array_agg(key ORDER BY n), pg_catalog.count(*)::pg_catalog.int4 FROM (SELECT %s AS key, "
                             "pg_catalog.row_number() OVER (ORDER BY %s) AS n "
                             "FROM %s t ", slm_pg_job_key(job, "t"), sort, job->source_name);
    if (position != NULL) /* a constant, so that the primary key's index is entered there */
        appendStringInfo(&query, "WHERE (%s) %s (%s) ", slm_pg_job_key_columns(job, "t.", ""), job->newest_first ? "<" : ">",
                         slm_pg_job_key_values(job, psprintf("%s::jsonb", quote_literal_cstr(position))));
    appendStringInfo(&query, "ORDER BY %s LIMIT %d) s", sort, BACKFILL_CHUNK);
    level = slm_pg_job_enter_owner(job);
    slm_pg_spi(query.data, SPI_OK_SELECT);
    slm_pg_job_leave_owner(level);
    keys = slm_pg_job_datum(1, JSONBARRAYOID);
    n = DatumGetInt32(slm_pg_job_datum(2, INT4OID));
    if (n > 0 && SPI_execute_with_args(psprintf("INSERT INTO slm.job_queue (job_id, key) SELECT %d, k FROM unnest($1) WITH ORDINALITY "
                                                "u(k, n) WHERE NOT EXISTS (SELECT 1 FROM "
                                                "slm.job_queue q WHERE q.job_id = %d AND jsonb_hash_extended(q.key, 0) = "
                                                "jsonb_hash_extended(k, 0) AND q.key = k "
                                                "OFFSET 0) ORDER BY n",
                                                job->id, job->id),
                                       1, types, &keys, NULL, false, 0) != SPI_OK_INSERT)
        elog(ERROR, "could not queue existing rows");
    if (SPI_execute_with_args(psprintf("UPDATE slm.job_definition SET backfill_position = COALESCE($1[%d], backfill_position), "
                                       "backfill_done = %s WHERE id = %d", n,
                                       n < BACKFILL_CHUNK ? "true" : "false", job->id),
                              1, types, &keys, n > 0 ? NULL : "n", false, 0) != SPI_OK_UPDATE)
        elog(ERROR, "could not note the progress of a backfill");
    return n;
}

/* ---------------------------------------------------------------- outcomes */

/* Again later with back-off, or never. A row that lost against other transactions is not at fault and never given up. */
void slm_pg_job_note_failures(const SlmJob *job, Datum ids, const char *error, bool contention)
{
    Oid types[2] = {INT8ARRAYOID, TEXTOID};
    Datum values[2] = {ids, CStringGetTextDatum(error)};
    char *query;

    if (contention)
        query = psprintf("UPDATE slm.job_queue SET error = $2, tries = 0, waits = waits + 1, not_before = clock_timestamp() + "
                        "interval '1 s' * power(2, LEAST(waits, 6)) WHERE id = ANY ($1) AND " OF_JOB("job_queue"), job->id);
    else
        query = psprintf("UPDATE slm.job_queue SET attempts = attempts + 1, error = $2, tries = 0, failed = attempts + 1 >= %d, "
                         "not_before = "
                         "clock_timestamp() + (SELECT retry_delay FROM slm.job_definition WHERE id = %d) * power(2, LEAST(attempts, 12)) "
                         "WHERE id = ANY ($1) AND " OF_JOB("job_queue"),
                         job->max_attempts, job->id, job->id);
    if (SPI_execute_with_args(query, 2, types, values, NULL, false, 0) != SPI_OK_UPDATE)
        elog(ERROR, "could not note failed rows");
}

/* Empties the queue of a claim, but for the rows in `keep` (bigint[], 0 = none). */
void slm_pg_job_dequeue(const SlmJob *job, Datum ids, Datum keep)
{
    Oid types[2] = {INT8ARRAYOID, INT8ARRAYOID};
    Datum values[2] = {ids, keep};

    if (SPI_execute_with_args(psprintf("DELETE FROM slm.job_queue WHERE id = ANY ($1) AND ($2 IS NULL OR id <> ALL ($2)) AND "
                                       OF_JOB("job_queue"), job->id),
                              2, types, values, keep == (Datum) 0 ? " n" : NULL, false, 0) != SPI_OK_DELETE)
        elog(ERROR, "could not empty the queue");
}
