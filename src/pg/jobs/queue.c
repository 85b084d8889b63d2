/*
 * The queue of a job: which rows are taken next, which existing rows are queued, and what becomes of rows that are done or failed.
 *
 * All statements here run as the extension and call nothing of a user, but for the one that reads the keys of existing rows, which runs
 * as the source's owner.  Whatever ids they are given, they touch rows of the job only.
 *
 * Queue and notes grow faster than their statistics: conditions are written so that only the index that was meant can serve them.
 */
#include "pg/jobs/queue.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"

#include "pg/base/as_owner.h"
#include "pg/base/compat.h"
#include "pg/jobs/compute.h"
#include "pg/jobs/jobs.h"

#define BACKFILL_CHUNK 1000 /* keys queued at a time */
#define LOCK_MS 1000        /* a job waits no longer for a lock */
#define BATCH_SECONDS 10.0  /* a batch is sized to take about so long: short for who waits for it, long for the window of the batch node */
#define FIRST_BATCH 16      /* rows, while the speed of a job is not known */
#define CLAIM_SECONDS 2     /* a claim that was committed and whose worker has not come to lock it is void after this */
#define SUSPECT_TRIES 4     /* a row that was tried so often without an outcome (the server ended) is tried alone */

/* A row's job where rows are found by id. */
#define OF_JOB(alias) "(" alias ".job_id = %d) IS TRUE"
/* Two keys are one, found by the index of their hashes. */
#define SAME_KEY(a, b) "jsonb_hash_extended(" a ", 0) = jsonb_hash_extended(" b ", 0) AND " a " = " b

static struct {
    int32 job, version;
    double rows_per_second;
} speed; /* of the job that this session ran last */

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
    slm_pg_spi(psprintf("WITH slm_due AS MATERIALIZED ("
                        "    SELECT q.id FROM slm.job_queue q"
                        "    WHERE q.job_id = %d AND NOT q.failed AND q.not_before <= (SELECT clock_timestamp()) AND q.tries %s %d"
                        "      AND (q.worker = %d OR q.claimed_at IS NULL OR q.claimed_at < clock_timestamp() - interval '%d s')"
                        "      AND NOT EXISTS (SELECT 1 FROM slm.job_queue o"
                        "                      WHERE o.job_id = q.job_id AND " SAME_KEY("o.key", "q.key")
                        "                        AND o.id < q.id AND NOT o.failed AND o.not_before <= clock_timestamp() OFFSET 0)"
                        "    ORDER BY q.not_before, q.id LIMIT %d FOR UPDATE OF q SKIP LOCKED),"
                        " slm_tried AS ("
                        "    UPDATE slm.job_queue q SET tries = q.tries + 1, worker = %d, claimed_at = clock_timestamp()"
                        "    FROM slm_due WHERE q.id = slm_due.id RETURNING q.id)"
                        " SELECT array_agg(id ORDER BY id) FROM slm_tried",
                        job->id, suspect ? ">=" : "<", SUSPECT_TRIES, MyProcPid, CLAIM_SECONDS, suspect ? 1 : batch_limit(job), MyProcPid),
               SPI_OK_SELECT);
    return slm_pg_job_datum(1, INT8ARRAYOID);
}

/* Gives up rows during which the server ended again and again although they were alone. */
static void fail_suspects(const SlmJob *job)
{
    slm_pg_spi(psprintf("WITH slm_failed AS ("
                        "    UPDATE slm.job_queue"
                        "    SET failed = true, attempts = tries,"
                        "        error = 'the server or the worker ended each time while this row was computed'"
                        "    WHERE job_id = %d AND NOT failed AND tries >= %d RETURNING id, key)"
                        " DELETE FROM slm.job_queue o USING slm_failed f"
                        " WHERE o.job_id = %d AND " SAME_KEY("o.key", "f.key") " AND o.id < f.id AND o.failed",
                        job->id, SUSPECT_TRIES + job->max_attempts, job->id),
               SPI_OK_DELETE);
}

void slm_pg_job_disown(int32 id)
{
    slm_pg_spi(psprintf("UPDATE slm.job_definition SET owner = 0, error = 'its owner was dropped' WHERE id = %d AND owner <> 0::oid", id),
               SPI_OK_UPDATE);
}

void slm_pg_job_enter(SlmAs *saved)
{
    slm_pg_as_extension(saved);
    (void) set_config_option("lock_timeout", psprintf("%d", Max(Min(DeadlockTimeout / 2, LOCK_MS), 1)), PGC_USERSET, PGC_S_SESSION,
                             GUC_ACTION_SAVE, true, 0, false);
}

Datum slm_pg_job_claim(int32 id)
{
    SlmAs saved;
    SlmJob *job;
    Datum ids = (Datum) 0;

    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    slm_pg_job_enter(&saved);
    job = slm_pg_job_read(id, true);
    if (job != NULL && !slm_pg_job_owner_exists(job->owner)) {
        slm_pg_job_disown(id);
    } else if (job != NULL && !(job->paused && MyBackendType == B_BG_WORKER)) {
        ids = claim_rows(job, false);
        if (ids == (Datum) 0) {
            fail_suspects(job);
            ids = claim_rows(job, true);
        }
        if (ids != (Datum) 0)
            ids = SPI_datumTransfer(ids, false, -1);
        if (MyBackendType == B_BG_WORKER) /* whose turn it was, though the batch ends the worker */
            slm_pg_spi(psprintf("UPDATE slm.job_definition SET last_run = clock_timestamp() WHERE id = %d", id), SPI_OK_UPDATE);
    }
    slm_pg_as_end(&saved);
    SPI_finish();
    return ids;
}

/* Passes over rows that somebody is about to delete: a worker must not wait for him. */
void slm_pg_job_give_back(int32 id, Datum ids)
{
    const Oid types[1] = {INT8ARRAYOID};

    slm_pg_spi_with(psprintf("UPDATE slm.job_queue SET tries = GREATEST(tries - 1, 0), claimed_at = NULL"
                             " WHERE id IN (SELECT q.id FROM slm.job_queue q"
                             "              WHERE q.id = ANY ($1) AND " OF_JOB("q") " FOR UPDATE SKIP LOCKED)", id),
                    1, types, &ids, NULL, SPI_OK_UPDATE);
}

static char *text_or_null(uint64 row, int column)
{
    Datum value = slm_pg_job_value(row, column);

    return value == (Datum) 0 ? NULL : TextDatumGetCString(value);
}

int slm_pg_job_lock_claimed(const SlmJob *job, Datum ids, SlmJobRow **rows)
{
    static const Oid types[] = {INT8OID, JSONBOID, TEXTOID, TEXTOID};
    const Oid argument[1] = {INT8ARRAYOID};
    char *query;

    query = psprintf("WITH slm_due AS MATERIALIZED ("
                     "    SELECT q.id, q.key FROM slm.job_queue q"
                     "    WHERE q.id = ANY ($1) AND " OF_JOB("q") " AND NOT q.failed AND q.worker = %d"
                     "    ORDER BY q.id FOR UPDATE SKIP LOCKED),"
                     " slm_older AS ("
                     "    DELETE FROM slm.job_queue"
                     "    WHERE id = ANY (ARRAY("
                     "        SELECT o.id FROM slm_due q CROSS JOIN LATERAL ("
                     "            SELECT o.id FROM slm.job_queue o"
                     "            WHERE o.job_id = %d AND " SAME_KEY("o.key", "q.key")
                     "              AND o.id < q.id AND (o.failed OR o.not_before > clock_timestamp()) OFFSET 0) o))"
                     "      AND " OF_JOB("job_queue") ")"
                     " SELECT q.id, q.key, CASE WHEN d.version = %d THEN d.input_hash END, d.value_hash"
                     " FROM slm_due q"
                     " LEFT JOIN LATERAL (SELECT * FROM slm.job_done s WHERE s.job_id = %d AND s.key = q.key OFFSET 0) d ON true"
                     " ORDER BY q.id",
                     job->id, MyProcPid, job->id, job->id, job->version, job->id);
    slm_pg_spi_with(query, 1, argument, &ids, NULL, SPI_OK_SELECT);
    slm_pg_job_check_types(lengthof(types), types);
    *rows = palloc0(sizeof(SlmJobRow) * Max(SPI_processed, 1));
    for (uint64 i = 0; i < SPI_processed; i++)
        (*rows)[i] = (SlmJobRow){.id = DatumGetInt64(slm_pg_job_value(i, 1)), .key = slm_pg_job_value(i, 2),
                                 .old_input = text_or_null(i, 3), .old_value = text_or_null(i, 4)};
    return (int) SPI_processed;
}

/* Remembers how fast this session has run a job. */
void slm_pg_job_note_speed(const SlmJob *job, int rows, double seconds)
{
    speed.job = job->id;
    speed.version = job->version;
    speed.rows_per_second = rows / Max(seconds, 0.001);
}

/* ---------------------------------------------------------------- backfill */

/* The next keys of the existing rows after `position` (NULL: the first), as jsonb[], read as the source's owner; *n how many. */
static Datum read_keys(const SlmJob *job, const char *position, int *n)
{
    const char *direction = job->newest_first ? " DESC" : "";
    char *sort = slm_pg_job_key_columns(&job->keys, "t.", direction);
    static const Oid types[] = {JSONBOID};
    StringInfoData query;
    Datum *keys;
    SlmAs saved;

    initStringInfo(&query);
    appendStringInfo(&query, "SELECT %s FROM %s t ", slm_pg_job_key(&job->keys, "t"), job->source_name);
    if (position != NULL) /* a constant, so that the primary key's index is entered there */
        appendStringInfo(&query, "WHERE %s ", slm_pg_job_key_beyond(&job->keys, "t", psprintf("%s::pg_catalog.jsonb",
                                                                                             quote_literal_cstr(position)),
                                                                    job->newest_first));
    appendStringInfo(&query, "ORDER BY %s LIMIT %d", sort, BACKFILL_CHUNK);
    slm_pg_as(&saved, job->source_owner, job->search_path);
    slm_pg_spi(query.data, SPI_OK_SELECT);
    slm_pg_as_end(&saved);
    slm_pg_job_check_types(lengthof(types), types);
    *n = (int) SPI_processed;
    keys = palloc(sizeof(Datum) * Max(*n, 1));
    for (int i = 0; i < *n; i++)
        keys[i] = slm_pg_job_value(i, 1);
    return PointerGetDatum(construct_array(keys, *n, JSONBOID, -1, false, TYPALIGN_INT));
}

/* Rows that are queued, or were computed since the job was created or altered, are left out: what changes them from then on queues them
 * itself, and what other jobs' triggers have changed in them meanwhile is no change. */
int slm_pg_job_backfill(const SlmJob *job)
{
    const Oid types[1] = {JSONBARRAYOID};
    char *position;
    Datum keys;
    int n;

    slm_pg_spi(psprintf("SELECT backfill_position FROM slm.job_definition WHERE id = %d AND NOT backfill_done FOR NO KEY UPDATE",
                        job->id), SPI_OK_SELECT);
    if (SPI_processed == 0)
        return 0;
    position = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
    keys = read_keys(job, position, &n);
    if (n > 0)
        slm_pg_spi_with(psprintf("INSERT INTO slm.job_queue (job_id, key)"
                                 " SELECT %d, k FROM unnest($1) WITH ORDINALITY u(k, n)"
                                 " WHERE NOT EXISTS (SELECT 1 FROM slm.job_queue q"
                                 "                   WHERE q.job_id = %d AND " SAME_KEY("q.key", "k") " OFFSET 0)"
                                 "   AND NOT EXISTS (SELECT 1 FROM slm.job_done d"
                                 "                   WHERE d.job_id = %d AND " SAME_KEY("d.key", "k") " AND d.version = %d OFFSET 0)"
                                 " ORDER BY n",
                                 job->id, job->id, job->id, job->version),
                        1, types, &keys, NULL, SPI_OK_INSERT);
    slm_pg_spi_with(psprintf("UPDATE slm.job_definition"
                             " SET backfill_position = COALESCE($1[%d], backfill_position), backfill_done = %s"
                             " WHERE id = %d", n, n < BACKFILL_CHUNK ? "true" : "false", job->id),
                    1, types, &keys, NULL, SPI_OK_UPDATE);
    return n;
}

/* ---------------------------------------------------------------- outcomes */

Datum slm_pg_job_ids(const SlmJobRow *const *rows, int n)
{
    Datum *ids = palloc(sizeof(Datum) * Max(n, 1));

    for (int i = 0; i < n; i++)
        ids[i] = Int64GetDatum(rows[i]->id);
    return PointerGetDatum(construct_array(ids, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

void slm_pg_job_note_failures(const SlmJob *job, Datum ids, const char *error, bool contention)
{
    const Oid types[2] = {INT8ARRAYOID, TEXTOID};
    Datum values[2] = {ids, CStringGetTextDatum(error)};
    char *query;

    if (contention) /* a row that lost against other transactions is not at fault and never given up */
        query = psprintf("UPDATE slm.job_queue"
                         " SET error = $2, tries = 0, waits = waits + 1,"
                         "     not_before = clock_timestamp() + interval '1 s' * power(2, LEAST(waits, 6))"
                         " WHERE id = ANY ($1) AND " OF_JOB("job_queue"),
                         job->id);
    else
        query = psprintf("UPDATE slm.job_queue"
                         " SET attempts = attempts + 1, error = $2, tries = 0, failed = attempts + 1 >= %d,"
                         "     not_before = clock_timestamp()"
                         "         + (SELECT retry_delay FROM slm.job_definition WHERE id = %d) * power(2, LEAST(attempts, 12))"
                         " WHERE id = ANY ($1) AND " OF_JOB("job_queue"),
                         job->max_attempts, job->id, job->id);
    slm_pg_spi_with(query, 2, types, values, NULL, SPI_OK_UPDATE);
}

void slm_pg_job_note_given_up(const SlmJob *job, Datum ids, const char *error)
{
    const Oid types[2] = {INT8ARRAYOID, TEXTOID};
    Datum values[2] = {ids, CStringGetTextDatum(error)};

    slm_pg_spi_with(psprintf("UPDATE slm.job_queue SET attempts = attempts + 1, error = $2, tries = 0, failed = true"
                             " WHERE id = ANY ($1) AND " OF_JOB("job_queue"), job->id),
                    2, types, values, NULL, SPI_OK_UPDATE);
}

void slm_pg_job_note_suspects(const SlmJob *job, Datum ids)
{
    const Oid types[1] = {INT8ARRAYOID};

    slm_pg_spi_with(psprintf("UPDATE slm.job_queue SET tries = GREATEST(tries, %d), claimed_at = NULL"
                             " WHERE id = ANY ($1) AND " OF_JOB("job_queue"), SUSPECT_TRIES, job->id),
                    1, types, &ids, NULL, SPI_OK_UPDATE);
}

void slm_pg_job_dequeue(const SlmJob *job, Datum ids)
{
    const Oid types[1] = {INT8ARRAYOID};

    slm_pg_spi_with(psprintf("DELETE FROM slm.job_queue WHERE id = ANY ($1) AND " OF_JOB("job_queue"), job->id), 1, types, &ids, NULL,
                    SPI_OK_DELETE);
}
