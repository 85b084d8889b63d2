/*
 * The work of a job: claim due rows; compute, write and note them in one transaction.
 *
 * The expression and the target are evaluated and written as the job's owner under row-level security, inside a security-restricted
 * operation, with the owner's search_path and model settings as they were at creation.  The queue is kept by the bootstrap superuser under
 * a fixed search_path: its statements call nothing of a user.
 *
 * The values are computed and written by one statement.  A CTE that is materialized and sorted computes all rows (the batch node sees
 * them together) before the next one locks the rows of the target, passing over those that others hold.  A row that has changed
 * meanwhile has another hash and is left: its own change has queued it again.
 */
#include "pg/jobs/jobs.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "pg/slm_pg.h"

#define BACKFILL_CHUNK 1000 /* keys queued at a time */
#define LOCK_MS 1000        /* a job waits no longer for a lock */
#define BATCH_SECONDS 5.0   /* a batch is sized to take about so long: locks on definitions are short, progress is seen */
#define FIRST_BATCH 16      /* rows, while the speed of a job is not known */
#define SUSPECT_TRIES 4     /* a row that was tried so often without an outcome (the server ended) is tried alone */

/* Queue and notes grow faster than their statistics: conditions are written so that only the index that was meant can serve them.
 * A row's job where rows are found by id: */
#define OF_JOB(alias) "(" alias ".job_id = %d) IS TRUE"

PG_FUNCTION_INFO_V1(slm_pg_job_claim_rows);
PG_FUNCTION_INFO_V1(slm_pg_job_run_batch);

/* What has been claimed: parallel arrays in the order of the queue. */
typedef struct Claim {
    Datum ids, keys;            /* bigint[], jsonb[] */
    Datum old_input, old_value; /* text[]: hashes of slm.job_done, NULL elements where unknown or of an older version */
    int n;
} Claim;

/* What the compute statement says: parallel arrays of rows written, ids of those that it computed and could not write; 0 = none. */
typedef struct Outcome {
    Datum keys, inputs, values;           /* jsonb[], text[], text[] */
    Datum left_ids, left_keys, left_inputs, left_values; /* bigint[], jsonb[], text[]; text[] the value's hash of before */
} Outcome;

static struct {
    int32 job, version;
    double rows_per_second;
} speed; /* of the job that this session ran last */

static void become(Oid user)
{
    SetUserIdAndSecContext(user, SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
}

static void set_local(const char *name, const char *value)
{
    (void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/* From here to leave_owner: user and search_path of the job; outside of it, those of nobody's choice. */
static int enter_owner(const SlmJob *job)
{
    int level = NewGUCNestLevel();

    set_local("search_path", job->search_path);
    become(job->owner);
    return level;
}

/* Settings of all work on jobs. A job that would wait gives way before the deadlock check of somebody who waits for it can hit him. */
static int enter_job(void)
{
    int level = NewGUCNestLevel();

    set_local("search_path", "pg_catalog, pg_temp");
    set_local("lock_timeout", psprintf("%d", Max(Min(DeadlockTimeout / 2, LOCK_MS), 1)));
    return level;
}

static void leave_owner(int level)
{
    become(BOOTSTRAP_SUPERUSERID);
    AtEOXact_GUC(true, level);
}

static Datum spi_datum(int column)
{
    bool isnull;
    Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull);

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
                        "q.not_before <= (SELECT clock_timestamp()) AND q.tries %s %d AND NOT EXISTS (SELECT 1 FROM slm.job_queue o WHERE o.job_id = q.job_id AND "
                        "jsonb_hash_extended(o.key, 0) = jsonb_hash_extended(q.key, 0) AND o.key = q.key AND o.id < q.id AND NOT "
                        "o.failed AND o.not_before <= clock_timestamp() OFFSET 0) ORDER BY q.not_before, q.id LIMIT %d FOR UPDATE OF q "
                        "SKIP LOCKED), "
                        "slm_tried AS (UPDATE slm.job_queue q SET tries = q.tries + 1, worker = %d FROM slm_due WHERE q.id = slm_due.id "
                        "RETURNING q.id) "
                        "SELECT array_agg(id ORDER BY id) FROM slm_tried",
                        job->id, suspect ? ">=" : "<", SUSPECT_TRIES, suspect ? 1 : batch_limit(job), MyProcPid),
               SPI_OK_SELECT);
    return spi_datum(1);
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
    level = enter_job();
    job = slm_pg_job_read(id, true);
    if (job != NULL) {
        GetUserIdAndSecContext(&user, &security);
        become(BOOTSTRAP_SUPERUSERID);
        ids = claim_rows(job, false);
        if (ids == (Datum) 0) {
            fail_suspects(job);
            ids = claim_rows(job, true);
        }
        if (ids != (Datum) 0)
            ids = SPI_datumTransfer(ids, false, -1);
        SetUserIdAndSecContext(user, security);
    }
    AtEOXact_GUC(true, level);
    SPI_finish();
    return ids;
}

/* Locks the claimed rows, drops older ones of the same keys, and fetches what was computed for them before. */
static bool lock_claimed(const SlmJob *job, Datum ids, Claim *out)
{
    Oid types[1] = {INT8ARRAYOID};
    char *query;

    query = psprintf("WITH slm_due AS MATERIALIZED (SELECT q.id, q.key FROM slm.job_queue q WHERE q.id = ANY ($1) AND " OF_JOB("q")
                     " AND NOT q.failed ORDER BY q.id FOR UPDATE SKIP LOCKED), "
                     "slm_older AS (DELETE FROM slm.job_queue WHERE id = ANY (ARRAY(SELECT o.id FROM slm_due q CROSS JOIN LATERAL "
                     "(SELECT o.id FROM slm.job_queue o WHERE o.job_id = %d AND jsonb_hash_extended(o.key, 0) = "
                     "jsonb_hash_extended(q.key, 0) AND o.key = q.key AND o.id < q.id AND (o.failed OR o.not_before > clock_timestamp()) "
                     "OFFSET 0) o)) AND " OF_JOB("job_queue") ") "
                     "SELECT array_agg(q.id), array_agg(q.key), array_agg(CASE WHEN d.version = %d THEN d.input_hash END), "
                     "array_agg(d.value_hash), count(*)::int FROM slm_due q LEFT JOIN LATERAL (SELECT * FROM slm.job_done s WHERE "
                     "s.job_id = %d AND s.key = q.key OFFSET 0) d ON true",
                     job->id, job->id, job->id, job->version, job->id);
    if (SPI_execute_with_args(query, 1, types, &ids, NULL, false, 0) != SPI_OK_SELECT)
        elog(ERROR, "could not lock the queue");
    out->n = DatumGetInt32(spi_datum(5));
    out->ids = spi_datum(1);
    out->keys = spi_datum(2);
    out->old_input = spi_datum(3);
    out->old_value = spi_datum(4);
    return out->n > 0;
}

/* ---------------------------------------------------------------- backfill */

/* Queues the next keys of the existing rows, read as the owner; returns how many. */
static int queue_backfill(const SlmJob *job)
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
    appendStringInfo(&query, "SELECT pg_catalog.array_agg(key ORDER BY n), pg_catalog.count(*)::int FROM (SELECT %s AS key, "
                             "pg_catalog.row_number() OVER (ORDER BY %s) AS n "
                             "FROM %s t ", slm_pg_job_key(job, "t"), sort, job->source_name);
    if (position != NULL) /* a constant, so that the primary key's index is entered there */
        appendStringInfo(&query, "WHERE (%s) %s (%s) ", slm_pg_job_key_columns(job, "t.", ""), job->newest_first ? "<" : ">",
                         slm_pg_job_key_values(job, psprintf("%s::jsonb", quote_literal_cstr(position))));
    appendStringInfo(&query, "ORDER BY %s LIMIT %d) s", sort, BACKFILL_CHUNK);
    level = enter_owner(job);
    slm_pg_spi(query.data, SPI_OK_SELECT);
    leave_owner(level);
    keys = spi_datum(1);
    n = DatumGetInt32(spi_datum(2));
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

/* ---------------------------------------------------------------- computing */

/* May a value of the target be replaced? old_value is the expression of the hash of the value that the job wrote last. */
static char *replaceable(const SlmJob *job, const char *current_hash, const char *old_value)
{
    return job->overwrite ? pstrdup("true") : psprintf("(%s IS NULL OR %s = %s)", current_hash, current_hash, old_value);
}

/* "slm_u ..., slm_c ...": the claimed rows ($1 ids, $2 keys, $3 and $4 old hashes) and the values of those that need one. */
static void append_compute(StringInfo query, const SlmJob *job)
{
    char *hash = psprintf("pg_catalog.md5(ROW(%s)::pg_catalog.text)", slm_pg_job_columns(job->input_columns, job->source_name));

    appendStringInfo(query,
                     "slm_u AS MATERIALIZED (SELECT u.*, (SELECT pg_catalog.md5(slm_o.%s::pg_catalog.text) FROM %s slm_o WHERE %s) AS "
                     "slm_current FROM ROWS FROM "
                     "(pg_catalog.unnest($1::bigint[]), pg_catalog.unnest($2::jsonb[]), pg_catalog.unnest($3::text[]), "
                     "pg_catalog.unnest($4::text[])) "
                     "u(slm_id, slm_key, slm_old_input, slm_old_value)), ",
                     job->target_column, job->target_name, slm_pg_job_key_condition(job, "slm_o", "u.slm_key"));
    appendStringInfo(query,
                     "slm_c AS MATERIALIZED (SELECT * FROM (SELECT slm_u.slm_id, slm_u.slm_key, slm_u.slm_old_value, %s AS slm_hash, (%s) "
                     "AS slm_value FROM slm_u "
                     "JOIN %s ON %s WHERE (%s IS DISTINCT FROM slm_u.slm_old_input OR (slm_u.slm_old_value IS NOT NULL AND "
                     "slm_u.slm_current IS NULL)%s) AND %s "
                     "OFFSET 0) slm_s ORDER BY slm_key)",
                     hash, job->expression, job->source_name, slm_pg_job_key_condition(job, job->source_name, "slm_u.slm_key"), hash,
                     job->overwrite ? " OR slm_u.slm_current IS DISTINCT FROM slm_u.slm_old_value" : "",
                     replaceable(job, "slm_u.slm_current", "slm_u.slm_old_value"));
}

/* The statement that computes the claimed rows and writes them; its one row is an Outcome. */
static char *compute_query(const SlmJob *job)
{
    char *hash_t = psprintf("pg_catalog.md5(ROW(%s)::pg_catalog.text)", slm_pg_job_columns(job->input_columns, "slm_t"));
    char *value_t = psprintf("pg_catalog.md5(slm_t.%s::pg_catalog.text)", job->target_column);
    char *condition = slm_pg_job_key_condition(job, "slm_t", "slm_c.slm_key");
    char *ours = replaceable(job, value_t, "slm_c.slm_old_value");
    char *keys = slm_pg_job_key_columns(job, "", "");
    StringInfoData query;

    initStringInfo(&query);
    appendStringInfoString(&query, "WITH ");
    append_compute(&query, job);
    if (job->source == job->target) {
        appendStringInfo(&query,
                         ", slm_l AS MATERIALIZED (SELECT slm_c.* FROM slm_c JOIN %s slm_t ON %s WHERE %s = slm_c.slm_hash AND %s FOR NO "
                         "KEY UPDATE OF slm_t "
                         "SKIP LOCKED), slm_w AS (UPDATE %s slm_t SET %s = slm_c.slm_value FROM slm_l slm_c WHERE %s AND %s = "
                         "slm_c.slm_hash AND %s "
                         "RETURNING slm_c.slm_key, %s AS slm_written)",
                         job->target_name, condition, hash_t, ours, job->target_name, job->target_column, condition, hash_t, ours, value_t);
    } else {
        char *old = psprintf("((SELECT pg_catalog.jsonb_object_agg(slm_u.slm_key::pg_catalog.text, slm_u.slm_old_value) FROM slm_u) "
                             "OPERATOR(pg_catalog.->>) (%s)::pg_catalog.text)", slm_pg_job_key(job, "slm_t"));

        appendStringInfo(&query,
                         ", slm_w AS (INSERT INTO %s AS slm_t (%s, %s) SELECT %s, slm_value FROM slm_c ON CONFLICT (%s) DO UPDATE SET %s "
                         "= EXCLUDED.%s WHERE %s "
                         "RETURNING %s AS slm_key, %s AS slm_written)",
                         job->target_name, keys, job->target_column, slm_pg_job_key_values(job, "slm_c.slm_key"), keys, job->target_column,
                         job->target_column, replaceable(job, value_t, old), slm_pg_job_key(job, "slm_t"), value_t);
    }
    appendStringInfoString(&query,
                           " SELECT pg_catalog.array_agg(c.slm_key) FILTER (WHERE w.slm_key IS NOT NULL), "
                           "pg_catalog.array_agg(c.slm_hash) FILTER (WHERE w.slm_key IS "
                           "NOT NULL), pg_catalog.array_agg(w.slm_written) FILTER (WHERE w.slm_key IS NOT NULL), "
                           "pg_catalog.array_agg(c.slm_id) FILTER (WHERE "
                           "w.slm_key IS NULL), pg_catalog.array_agg(c.slm_key) FILTER (WHERE w.slm_key IS NULL), "
                           "pg_catalog.array_agg(c.slm_hash) FILTER (WHERE "
                           "w.slm_key IS NULL), pg_catalog.array_agg(c.slm_old_value) FILTER (WHERE w.slm_key IS NULL) FROM slm_c c FULL "
                           "JOIN slm_w w ON w.slm_key OPERATOR(pg_catalog.=) c.slm_key"); /* FULL: never a nested loop; w is part of c */
    return query.data;
}

/* Is this the row's fault, so that the others should go on? */
static bool is_row_error(int code)
{
    return code != ERRCODE_QUERY_CANCELED && code != ERRCODE_DISK_FULL && code != ERRCODE_TOO_MANY_CONNECTIONS;
}

/* Runs the compute statement for a claim as the owner; false with the error when it failed and was undone. */
static bool compute(const SlmJob *job, const char *query, const Claim *c, Outcome *out, ErrorData **error)
{
    Oid types[4] = {INT8ARRAYOID, JSONBARRAYOID, TEXTARRAYOID, TEXTARRAYOID};
    Datum values[4] = {c->ids, c->keys, c->old_input, c->old_value};
    MemoryContext context = CurrentMemoryContext;
    ResourceOwner resources = CurrentResourceOwner;
    volatile bool ok = false;

    become(job->owner);
    BeginInternalSubTransaction(NULL);
    MemoryContextSwitchTo(context);
    PG_TRY();
    {
        set_local("search_path", job->search_path); /* until the end of the subtransaction */
        if (SPI_execute_with_args(query, 4, types, values, NULL, false, 0) != SPI_OK_SELECT)
            elog(ERROR, "unexpected result of a job's statement");
        *out = (Outcome){spi_datum(1), spi_datum(2), spi_datum(3), spi_datum(4), spi_datum(5), spi_datum(6), spi_datum(7)};
        ReleaseCurrentSubTransaction();
        ok = true;
    }
    PG_CATCH();
    {
        ErrorData *data;

        MemoryContextSwitchTo(context);
        data = CopyErrorData();
        FlushErrorState();
        RollbackAndReleaseCurrentSubTransaction();
        if (!is_row_error(data->sqlerrcode))
            ReThrowError(data);
        *error = data;
    }
    PG_END_TRY();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = resources;
    become(BOOTSTRAP_SUPERUSERID);
    return ok;
}

/* ---------------------------------------------------------------- noting */

/* Again later with back-off, or never. A row that lost against other transactions is not at fault and never given up. */
static void note_failures(const SlmJob *job, Datum ids, const char *error, bool contention)
{
    Oid types[2] = {INT8ARRAYOID, TEXTOID};
    Datum values[2] = {ids, CStringGetTextDatum(error)};
    char *query;

    if (contention)
        query = pstrdup("UPDATE slm.job_queue SET error = $2, tries = 0, waits = waits + 1, not_before = clock_timestamp() + "
                        "interval '1 s' * power(2, LEAST(waits, 6)) WHERE id = ANY ($1)");
    else
        query = psprintf("UPDATE slm.job_queue SET attempts = attempts + 1, error = $2, tries = 0, failed = attempts + 1 >= %d, "
                         "not_before = "
                         "clock_timestamp() + (SELECT retry_delay FROM slm.job_definition WHERE id = %d) * power(2, LEAST(attempts, 12)) "
                         "WHERE id = ANY ($1)",
                         job->max_attempts, job->id);
    if (SPI_execute_with_args(query, 2, types, values, NULL, false, 0) != SPI_OK_UPDATE)
        elog(ERROR, "could not note failed rows");
}

/* Sorts out rows that were computed and not written: held by others (later), refused by a trigger or policy (failed), or changed. */
static void note_left(const SlmJob *job, const Outcome *o, Datum *settled)
{
    Oid types[4] = {INT8ARRAYOID, JSONBARRAYOID, TEXTARRAYOID, TEXTARRAYOID};
    Datum values[4] = {o->left_ids, o->left_keys, o->left_inputs, o->left_values}, waiting, free_rows;
    char *hash_t = psprintf("pg_catalog.md5(ROW(%s)::pg_catalog.text)", slm_pg_job_columns(job->input_columns, "slm_t"));
    char *value_t = psprintf("pg_catalog.md5(slm_t.%s::pg_catalog.text)", job->target_column);
    char *from = psprintf("FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4)) "
                          "slm_c(slm_id, "
                          "slm_key, slm_hash, slm_old_value) JOIN %s slm_t ON %s WHERE %s = slm_c.slm_hash AND %s",
                          job->source_name, slm_pg_job_key_condition(job, "slm_t", "slm_c.slm_key"), hash_t,
                          replaceable(job, value_t, "slm_c.slm_old_value"));
    int level;

    if (job->source != job->target)
        return; /* the target holds a value of a user */
    level = enter_owner(job);
    if (SPI_execute_with_args(psprintf("SELECT pg_catalog.array_agg(slm_c.slm_id) %s", from), 4, types, values, NULL, false,
                              0) != SPI_OK_SELECT)
        elog(ERROR, "could not look at rows that were not written");
    waiting = spi_datum(1);
    if (SPI_execute_with_args(psprintf("SELECT pg_catalog.array_agg(slm_id) FROM (SELECT slm_c.slm_id %s FOR NO KEY UPDATE OF slm_t SKIP "
                                       "LOCKED) s", from), 4, types,
                              values, NULL, false, 0) != SPI_OK_SELECT)
        elog(ERROR, "could not look at rows that were not written");
    free_rows = spi_datum(1);
    leave_owner(level);
    if (waiting == (Datum) 0)
        return;
    *settled = waiting;
    note_failures(job, waiting, "another transaction held the row locked", true);
    if (free_rows != (Datum) 0)
        note_failures(job, free_rows, "the row was not written: another transaction has just held it, or a trigger or policy refused",
                      false);
}

/* The SHA-256 digests of the models that ran, as text[]. */
static Datum used_models(const SlmMeter *meter)
{
    Datum elements[SLM_METER_MODELS];

    for (int i = 0; i < meter->n_models; i++)
        elements[i] = CStringGetTextDatum(meter->models[i]);
    return PointerGetDatum(construct_array(elements, meter->n_models, TEXTOID, -1, false, TYPALIGN_INT));
}

static void note_done(const SlmJob *job, const Outcome *o, const SlmMeter *meter)
{
    Oid types[4] = {JSONBARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID};
    Datum values[4] = {o->keys, o->inputs, o->values, used_models(meter)};
    char *query = psprintf("INSERT INTO slm.job_done (job_id, key, version, input_hash, value_hash, models, done_at) SELECT %d, u.key, "
                           "%d, u.input, u.value, $4, "
                           "clock_timestamp() FROM ROWS FROM (unnest($1), unnest($2), unnest($3)) u(key, input, value) "
                           "ON CONFLICT (job_id, key) DO UPDATE SET version = EXCLUDED.version, input_hash = EXCLUDED.input_hash, "
                           "value_hash = EXCLUDED.value_hash, "
                           "models = EXCLUDED.models, done_at = EXCLUDED.done_at",
                           job->id, job->version);

    if (SPI_execute_with_args(query, 4, types, values, NULL, false, 0) != SPI_OK_INSERT)
        elog(ERROR, "could not note computed rows");
}

/* Empties the queue of a claim, but for the rows in `keep` (bigint[], 0 = none). */
static void dequeue(Datum ids, Datum keep)
{
    Oid types[2] = {INT8ARRAYOID, INT8ARRAYOID};
    Datum values[2] = {ids, keep};

    if (SPI_execute_with_args("DELETE FROM slm.job_queue WHERE id = ANY ($1) AND ($2 IS NULL OR id <> ALL ($2))", 2, types, values,
                              keep == (Datum) 0 ? " n" : NULL, false, 0) != SPI_OK_DELETE)
        elog(ERROR, "could not empty the queue");
}

/* ---------------------------------------------------------------- a batch */

typedef struct Run {
    const SlmJob *job;
    const char *query; /* compute_query */
    SlmMeter *meter;
    bool probed;
} Run;

/* After a first failure: raises an error when not even a batch without rows can be computed, as then no row is at fault. */
static void probe(Run *r)
{
    Oid types[4] = {INT8ARRAYOID, JSONBARRAYOID, TEXTARRAYOID, TEXTARRAYOID};
    Datum none[4];
    int level;

    if (r->probed)
        return;
    r->probed = true;
    none[0] = PointerGetDatum(construct_empty_array(INT8OID));
    none[1] = PointerGetDatum(construct_empty_array(JSONBOID));
    none[2] = none[3] = PointerGetDatum(construct_empty_array(TEXTOID));
    level = enter_owner(r->job);
    if (SPI_execute_with_args(r->query, 4, types, none, NULL, false, 0) != SPI_OK_SELECT)
        elog(ERROR, "unexpected result of a job's statement");
    slm_pg_spi(psprintf("SELECT slm.job_check_models(%u, %s)", r->job->source, quote_literal_cstr(r->job->expression)), SPI_OK_SELECT);
    leave_owner(level);
}

/* Elements from..from + n - 1 of an array. */
static Datum slice(Datum array, Oid type, int length, bool by_value, char align, int from, int n)
{
    int lower = 1, total;
    Datum *elements;
    bool *nulls;

    deconstruct_array(DatumGetArrayTypeP(array), type, length, by_value, align, &elements, &nulls, &total);
    return PointerGetDatum(construct_md_array(&elements[from], &nulls[from], 1, &n, &lower, type, length, by_value, align));
}

static Claim claim_part(const Claim *c, int from, int n)
{
    return (Claim){slice(c->ids, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, from, n), slice(c->keys, JSONBOID, -1, false,
                                                                                               TYPALIGN_INT, from, n),
                   slice(c->old_input, TEXTOID, -1, false, TYPALIGN_INT, from, n), slice(c->old_value, TEXTOID, -1, false, TYPALIGN_INT,
                                                                                         from, n), n};
}

static bool is_contention(int code)
{
    return ERRCODE_TO_CATEGORY(code) == ERRCODE_TO_CATEGORY(ERRCODE_T_R_SERIALIZATION_FAILURE) || code == ERRCODE_LOCK_NOT_AVAILABLE;
}

/* All rows together; when that fails, half by half, so that a bad row holds back no other. */
static void run_claim(Run *r, const Claim *c)
{
    Outcome outcome = {0};
    ErrorData *error = NULL;
    Datum keep = (Datum) 0;

    CHECK_FOR_INTERRUPTS();
    if (compute(r->job, r->query, c, &outcome, &error)) {
        if (outcome.keys != (Datum) 0)
            note_done(r->job, &outcome, r->meter);
        if (outcome.left_ids != (Datum) 0)
            note_left(r->job, &outcome, &keep);
        dequeue(c->ids, keep);
        return;
    }
    probe(r);
    if (c->n == 1) {
        note_failures(r->job, c->ids, psprintf("%s: %s", unpack_sql_state(error->sqlerrcode), error->message),
                      is_contention(error->sqlerrcode));
    } else {
        Claim first = claim_part(c, 0, c->n / 2), second = claim_part(c, c->n / 2, c->n - c->n / 2);

        run_claim(r, &first);
        run_claim(r, &second);
    }
}

/* Settings on which hashes depend, and the model settings of the owner, which he may only choose as far as he could himself. */
static void set_job_settings(const SlmJob *job)
{
    slm_pg_job_text_settings();
    become(job->owner);
    slm_pg_spi(psprintf("SELECT set_config(key, value, true) FROM jsonb_each_text(%s::jsonb) WHERE key LIKE 'slm.%%'",
                        quote_literal_cstr(job->settings)),
               SPI_OK_SELECT);
    become(BOOTSTRAP_SUPERUSERID);
}

/* Adds what the batch took to the job, and tells who listens when nothing is pending any more. */
static void finish_batch(const SlmJob *job, const SlmMeter *meter)
{
    slm_pg_spi(psprintf("UPDATE slm.job_definition SET prompt_tokens = prompt_tokens + " UINT64_FORMAT ", output_tokens = output_tokens + "
                        UINT64_FORMAT ", last_run = clock_timestamp(), error = NULL WHERE id = %d",
                        meter->prompt_tokens, meter->output_tokens, job->id),
               SPI_OK_UPDATE);
    slm_pg_spi(psprintf("SELECT pg_notify(%s, '') WHERE NOT EXISTS (SELECT FROM slm.job_queue WHERE job_id = %d AND NOT failed) AND EXISTS "
                        "(SELECT FROM slm.job_definition WHERE id = %d AND backfill_done)",
                        quote_literal_cstr(psprintf("slm_job_%s", job->name)), job->id, job->id),
               SPI_OK_SELECT);
}

static void check_job(const SlmJob *job)
{
    const char *missing = job->source_name == NULL ? "source table" : job->target_name == NULL ? "target table" : NULL;

    if (missing == NULL && !slm_pg_job_owner_exists(job->owner))
        missing = "owner";
    if (missing == NULL && job->n_keys == 0)
        missing = "primary key of the source table";
    if (missing == NULL && !job->has_target_column)
        missing = psprintf("target column %s", job->target_column);
    if (missing != NULL)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("the %s of job \"%s\" is gone", missing, job->name),
                        errhint("SELECT slm_drop_job(%s); ends the job.", quote_literal_cstr(job->name))));
}

/* Computes the claimed rows and remembers how fast that went. */
static int run_rows(const SlmJob *job, Datum ids, SlmMeter *meter)
{
    TimestampTz start = GetCurrentTimestamp();
    double seconds;
    Claim c;

    if (!lock_claimed(job, ids, &c))
        return 0;
    run_claim(&(Run){job, compute_query(job), meter, false}, &c);
    seconds = Max((double) (GetCurrentTimestamp() - start) / USECS_PER_SEC, 0.001);
    speed.job = job->id;
    speed.version = job->version;
    speed.rows_per_second = c.n / seconds;
    return c.n;
}

int slm_pg_job_run(int32 id, Datum ids)
{
    SlmMeter meter = {0}, *outer = slm_pg_meter;
    int security, level, n = 0;
    Oid user;
    SlmJob *job;

    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    level = enter_job();
    job = slm_pg_job_read(id, true);
    if (job != NULL) {
        check_job(job);
        GetUserIdAndSecContext(&user, &security);
        become(BOOTSTRAP_SUPERUSERID);
        set_job_settings(job);
        slm_pg_spi(psprintf("SELECT pg_try_advisory_xact_lock_shared(%d, %d)", id, MyProcPid), SPI_OK_SELECT); /* slm.job_status sees it */
        PG_TRY();
        {
            slm_pg_meter = &meter;
            n = ids != (Datum) 0 ? run_rows(job, ids, &meter) : job->backfill_done ? 0 : queue_backfill(job);
        }
        PG_FINALLY();
        {
            slm_pg_meter = outer;
        }
        PG_END_TRY();
        if (n > 0 || !job->backfill_done)
            finish_batch(job, &meter);
        SetUserIdAndSecContext(user, security);
    }
    AtEOXact_GUC(true, level);
    SPI_finish();
    return n;
}

/* slm.job_claim(job int) -> bigint[]. Row-level security has the last word on who may see the job. */
Datum slm_pg_job_claim_rows(PG_FUNCTION_ARGS)
{
    Datum ids = slm_pg_job_claim(PG_GETARG_INT32(0));

    if (ids == (Datum) 0)
        PG_RETURN_NULL();
    PG_RETURN_DATUM(ids);
}

/* slm.job_run_batch(job int, ids bigint[]) -> int. */
Datum slm_pg_job_run_batch(PG_FUNCTION_ARGS)
{
    if (PG_ARGISNULL(0))
        PG_RETURN_INT32(0);
    PG_RETURN_INT32(slm_pg_job_run(PG_GETARG_INT32(0), PG_ARGISNULL(1) ? (Datum) 0 : PG_GETARG_DATUM(1)));
}
