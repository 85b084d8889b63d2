/*
 * The work of a job: compute claimed rows, write and note them in one transaction.
 *
 * The expression and the target are evaluated and written as the job's owner under row-level security, inside a security-restricted
 * operation, with the owner's search_path and model settings as they were at creation.  The queue is kept by the bootstrap superuser under
 * a fixed search_path: its statements call nothing of a user.
 *
 * The values are computed and written by one statement.  A CTE that is materialized and sorted computes all rows (the batch node sees
 * them together) before the next one locks the rows of the target, passing over those that others hold.  A row that has changed
 * meanwhile has another hash and is left: its own change has queued it again.
 */
#include "pg/jobs/queue.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "pg/slm_pg.h"

PG_FUNCTION_INFO_V1(slm_pg_job_run_batch);

/* What the compute statement says: parallel arrays of rows written, ids of those that it computed and could not write; 0 = none. */
typedef struct Outcome {
    Datum keys, inputs, values;           /* jsonb[], text[], text[] */
    Datum left_ids, left_keys, left_inputs, left_values; /* bigint[], jsonb[], text[]; text[] the value's hash of before */
} Outcome;

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
                     "(pg_catalog.unnest($1::pg_catalog.int8[]), pg_catalog.unnest($2::pg_catalog.jsonb[]), "
                     "pg_catalog.unnest($3::pg_catalog.text[]), pg_catalog.unnest($4::pg_catalog.text[])) "
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
static bool compute(const SlmJob *job, const char *query, const SlmJobClaim *c, Outcome *out, ErrorData **error)
{
    Oid types[4] = {INT8ARRAYOID, JSONBARRAYOID, TEXTARRAYOID, TEXTARRAYOID};
    Datum values[4] = {c->ids, c->keys, c->old_input, c->old_value};
    MemoryContext context = CurrentMemoryContext;
    ResourceOwner resources = CurrentResourceOwner;
    volatile bool ok = false;
    int level;

    slm_pg_job_become(job->owner);
    BeginInternalSubTransaction(NULL);
    MemoryContextSwitchTo(context);
    PG_TRY();
    {
        level = NewGUCNestLevel();
        slm_pg_job_set("search_path", job->search_path);
        if (SPI_execute_with_args(query, 4, types, values, NULL, false, 0) != SPI_OK_SELECT)
            elog(ERROR, "unexpected result of a job's statement");
        *out = (Outcome){slm_pg_job_datum(1, JSONBARRAYOID), slm_pg_job_datum(2, TEXTARRAYOID), slm_pg_job_datum(3, TEXTARRAYOID),
                         slm_pg_job_datum(4, INT8ARRAYOID), slm_pg_job_datum(5, JSONBARRAYOID), slm_pg_job_datum(6, TEXTARRAYOID),
                         slm_pg_job_datum(7, TEXTARRAYOID)};
        AtEOXact_GUC(false, level);
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
    slm_pg_job_become(BOOTSTRAP_SUPERUSERID);
    return ok;
}

/* ---------------------------------------------------------------- noting */

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
    level = slm_pg_job_enter_owner(job);
    if (SPI_execute_with_args(psprintf("SELECT pg_catalog.array_agg(slm_c.slm_id) %s", from), 4, types, values, NULL, false,
                              0) != SPI_OK_SELECT)
        elog(ERROR, "could not look at rows that were not written");
    waiting = slm_pg_job_datum(1, INT8ARRAYOID);
    if (SPI_execute_with_args(psprintf("SELECT pg_catalog.array_agg(slm_id) FROM (SELECT slm_c.slm_id %s FOR NO KEY UPDATE OF slm_t SKIP "
                                       "LOCKED) s", from), 4, types,
                              values, NULL, false, 0) != SPI_OK_SELECT)
        elog(ERROR, "could not look at rows that were not written");
    free_rows = slm_pg_job_datum(1, INT8ARRAYOID);
    slm_pg_job_leave_owner(level);
    if (waiting == (Datum) 0)
        return;
    *settled = waiting;
    slm_pg_job_note_failures(job, waiting, "another transaction held the row locked", true);
    if (free_rows != (Datum) 0)
        slm_pg_job_note_failures(job, free_rows,
                                 "the row was not written: another transaction has just held it, or a trigger or policy refused", false);
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
    level = slm_pg_job_enter_owner(r->job);
    if (SPI_execute_with_args(r->query, 4, types, none, NULL, false, 0) != SPI_OK_SELECT)
        elog(ERROR, "unexpected result of a job's statement");
    slm_pg_spi(psprintf("SELECT slm.job_check_models(%u, %s)", r->job->source, quote_literal_cstr(r->job->expression)), SPI_OK_SELECT);
    slm_pg_job_leave_owner(level);
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

static SlmJobClaim claim_part(const SlmJobClaim *c, int from, int n)
{
    return (SlmJobClaim){slice(c->ids, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, from, n), slice(c->keys, JSONBOID, -1, false,
                                                                                               TYPALIGN_INT, from, n),
                   slice(c->old_input, TEXTOID, -1, false, TYPALIGN_INT, from, n), slice(c->old_value, TEXTOID, -1, false, TYPALIGN_INT,
                                                                                         from, n), n};
}

static bool is_contention(int code)
{
    return ERRCODE_TO_CATEGORY(code) == ERRCODE_TO_CATEGORY(ERRCODE_T_R_SERIALIZATION_FAILURE) || code == ERRCODE_LOCK_NOT_AVAILABLE;
}

/* All rows together; when that fails, half by half, so that a bad row holds back no other. */
static void run_claim(Run *r, const SlmJobClaim *c)
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
        slm_pg_job_dequeue(r->job, c->ids, keep);
        return;
    }
    probe(r);
    if (c->n == 1) {
        slm_pg_job_note_failures(r->job, c->ids, psprintf("%s: %s", unpack_sql_state(error->sqlerrcode), error->message),
                      is_contention(error->sqlerrcode));
    } else {
        SlmJobClaim first = claim_part(c, 0, c->n / 2), second = claim_part(c, c->n / 2, c->n - c->n / 2);

        run_claim(r, &first);
        run_claim(r, &second);
    }
}

/* Settings on which hashes depend, and the model settings of the owner, which he may only choose as far as he could himself. */
static void set_job_settings(const SlmJob *job)
{
    slm_pg_job_text_settings();
    slm_pg_job_become(job->owner);
    slm_pg_spi(psprintf("SELECT set_config(key, value, true) FROM jsonb_each_text(%s::jsonb) WHERE key LIKE 'slm.%%'",
                        quote_literal_cstr(job->settings)),
               SPI_OK_SELECT);
    slm_pg_job_become(BOOTSTRAP_SUPERUSERID);
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
    SlmJobClaim c;

    if (!slm_pg_job_lock_claimed(job, ids, &c))
        return 0;
    run_claim(&(Run){job, compute_query(job), meter, false}, &c);
    slm_pg_job_note_speed(job, c.n, (double) (GetCurrentTimestamp() - start) / USECS_PER_SEC);
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
    level = slm_pg_job_enter();
    job = slm_pg_job_read(id, true);
    if (job != NULL) {
        check_job(job);
        GetUserIdAndSecContext(&user, &security);
        slm_pg_job_become(BOOTSTRAP_SUPERUSERID);
        set_job_settings(job);
        slm_pg_spi(psprintf("SELECT pg_try_advisory_xact_lock_shared(%d, %d)", id, MyProcPid), SPI_OK_SELECT); /* slm.job_status sees it */
        PG_TRY();
        {
            slm_pg_meter = &meter;
            n = ids != (Datum) 0 ? run_rows(job, ids, &meter) : job->backfill_done ? 0 : slm_pg_job_backfill(job);
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
    AtEOXact_GUC(false, level);
    SPI_finish();
    return n;
}

/* slm.job_run_batch(job int, ids bigint[]) -> int. */
Datum slm_pg_job_run_batch(PG_FUNCTION_ARGS)
{
    if (PG_ARGISNULL(0))
        PG_RETURN_INT32(0);
    PG_RETURN_INT32(slm_pg_job_run(PG_GETARG_INT32(0), PG_ARGISNULL(1) ? (Datum) 0 : PG_GETARG_DATUM(1)));
}
