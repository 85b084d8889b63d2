/*
 * One batch of a job: claim, compute, write, note, in one transaction.
 *
 * Everything here runs as the job's owner under row-level security, inside a security-restricted operation, with the owner's search_path
 * as it was at creation.  The values are computed and written by one statement: a CTE that is materialized and sorted computes all rows (the
 * batch node sees them together) before the first row of the target is locked.  A row that changed meanwhile has another
 * hash and is left: its own change has queued it again.
 */
#include "pg/jobs/jobs.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#define BACKFILL_CHUNK 1000 /* keys queued at a time */

PG_FUNCTION_INFO_V1(slm_pg_job_run_batch);

/* What has been claimed: parallel arrays in the order of the queue. */
typedef struct Claim {
    Datum ids, keys;         /* bigint[], jsonb[] */
    Datum old_input, old_value; /* text[]: hashes of slm.job_done, NULL elements where unknown or of an older version */
    int n;
} Claim;

/* ---------------------------------------------------------------- definitions */

/* A name[] or text[] column of the first SPI row as a list of strings, quoted as identifiers where asked. */
static List *string_list(int column, bool quote)
{
    bool isnull;
    Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull);
    List *result = NIL;
    Datum *elements;
    int n;

    deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &n);
    for (int i = 0; i < n; i++) {
        char *s = TextDatumGetCString(elements[i]);

        result = lappend(result, quote ? pstrdup(quote_identifier(s)) : s);
    }
    return result;
}

static char *string_value(int column)
{
    return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);
}

SlmJob *slm_pg_job_read(int32 id, bool lock)
{
    const char *query = "SELECT d.name, d.owner::oid, d.source::oid, d.target::oid, d.source::text, d.target::text, d.target_column, "
                        "d.key_columns::text[], d.key_types, d.input_columns::text[], d.expression, d.search_path, d.version, d.batch_size, "
                        "d.max_attempts, d.overwrite, d.backfill, d.backfill_done "
                        "FROM slm.job_definition d WHERE d.id OPERATOR(pg_catalog.=) $1";
    Oid types[1] = {INT4OID};
    Datum values[1] = {Int32GetDatum(id)};
    SlmJob *job;
    int code;

    code = SPI_execute_with_args(lock ? psprintf("%s FOR KEY SHARE", query) : query, 1, types, values, NULL, !lock, 1);
    if (code != SPI_OK_SELECT)
        elog(ERROR, "could not read slm.job_definition");
    if (SPI_processed == 0)
        return NULL;
    job = palloc0(sizeof *job);
    job->id = id;
    job->name = string_value(1);
    job->owner = atooid(string_value(2));
    job->source = atooid(string_value(3));
    job->target = atooid(string_value(4));
    job->source_name = string_value(5);
    job->target_name = string_value(6);
    job->target_column = pstrdup(quote_identifier(string_value(7)));
    job->key_columns = string_list(8, true);
    job->key_types = string_list(9, false);
    job->input_columns = string_list(10, true);
    job->expression = string_value(11);
    job->search_path = string_value(12);
    job->version = pg_strtoint32(string_value(13));
    job->batch_size = pg_strtoint32(string_value(14));
    job->max_attempts = pg_strtoint32(string_value(15));
    job->overwrite = string_value(16)[0] == 't';
    job->newest_first = strcmp(string_value(17), "newest") == 0;
    job->backfill_done = string_value(18)[0] == 't';
    return job;
}

/* "t.k1 = (u.slm_key ->> 0)::type1 AND ..." */
static char *key_condition(const SlmJob *job, const char *table, const char *key)
{
    StringInfoData out;
    ListCell *column, *type;

    initStringInfo(&out);
    forboth(column, job->key_columns, type, job->key_types)
        appendStringInfo(&out, "%s%s.%s = (%s->>%d)::%s", out.len > 0 ? " AND " : "", table, (char *) lfirst(column), key,
                         foreach_current_index(column), (char *) lfirst(type));
    return out.data;
}

/* "k1, k2" */
static char *plain_columns(const List *columns)
{
    StringInfoData out;
    ListCell *cell;

    initStringInfo(&out);
    foreach (cell, columns)
        appendStringInfo(&out, "%s%s", out.len > 0 ? ", " : "", (char *) lfirst(cell));
    return out.data;
}

/* "(key ->> 0)::type1, ..." */
static char *key_values(const SlmJob *job, const char *key)
{
    StringInfoData out;
    ListCell *type;

    initStringInfo(&out);
    foreach (type, job->key_types)
        appendStringInfo(&out, "%s(%s->>%d)::%s", out.len > 0 ? ", " : "", key, foreach_current_index(type), (char *) lfirst(type));
    return out.data;
}

/* ---------------------------------------------------------------- the steps */

/* Queues the next keys of the existing rows; returns how many. */
static int queue_backfill(const SlmJob *job)
{
    char *keys = slm_pg_job_columns(job->key_columns, "t");
    const char *direction = job->newest_first ? "DESC" : "ASC";
    StringInfoData query, sort;
    ListCell *cell;
    char *position;

    initStringInfo(&sort);
    foreach (cell, job->key_columns)
        appendStringInfo(&sort, "%st.%s %s", sort.len > 0 ? ", " : "", (char *) lfirst(cell), direction);
    slm_pg_spi(psprintf("SELECT backfill_position FROM slm.job_definition WHERE id = %d AND NOT backfill_done FOR NO KEY UPDATE", job->id), SPI_OK_SELECT);
    if (SPI_processed == 0)
        return 0;
    position = string_value(1);
    initStringInfo(&query);
    appendStringInfo(&query,
                     "WITH slm_next AS MATERIALIZED (SELECT pg_catalog.jsonb_build_array(%s) AS key, pg_catalog.row_number() OVER (ORDER BY %s) AS n FROM %s t ",
                     keys, sort.data, job->source_name);
    if (position != NULL) /* a constant, so that the primary key's index is entered there */
        appendStringInfo(&query, "WHERE (%s) %s (%s) ", keys, job->newest_first ? "<" : ">",
                         key_values(job, psprintf("%s::jsonb", quote_literal_cstr(position))));
    appendStringInfo(&query,
                     "ORDER BY %s LIMIT %d), slm_queued AS (INSERT INTO slm.job_queue (job_id, key) SELECT %d, key FROM slm_next ORDER BY n) "
                     "UPDATE slm.job_definition SET backfill_position = COALESCE((SELECT key FROM slm_next ORDER BY n DESC LIMIT 1), backfill_position), "
                     "backfill_done = (SELECT pg_catalog.count(*) < %d FROM slm_next) WHERE id = %d RETURNING (SELECT pg_catalog.count(*) FROM slm_next)",
                     sort.data, BACKFILL_CHUNK, job->id, BACKFILL_CHUNK, job->id);
    slm_pg_spi(query.data, SPI_OK_UPDATE_RETURNING);
    return pg_strtoint32(string_value(1));
}

/* Takes the next due rows of the queue, and what was computed for them before. */
static bool claim(const SlmJob *job, Claim *out)
{
    bool isnull;

    slm_pg_spi(psprintf("WITH slm_due AS MATERIALIZED (SELECT id, key FROM slm.job_queue WHERE job_id = %d AND NOT failed AND not_before <= "
                        "pg_catalog.clock_timestamp() ORDER BY not_before, id LIMIT %d FOR UPDATE SKIP LOCKED) "
                        "SELECT pg_catalog.array_agg(q.id), pg_catalog.array_agg(q.key), pg_catalog.array_agg(CASE WHEN d.version = %d THEN d.input_hash END), "
                        "pg_catalog.array_agg(d.value_hash), pg_catalog.count(*) FROM slm_due q LEFT JOIN slm.job_done d ON d.job_id = %d AND d.key = q.key",
                        job->id, job->batch_size, job->version, job->id),
               SPI_OK_SELECT);
    out->n = pg_strtoint32(string_value(5));
    if (out->n == 0)
        return false;
    out->ids = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
    out->keys = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull);
    out->old_input = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3, &isnull);
    out->old_value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 4, &isnull);
    return true;
}

/* The statement that computes the claimed rows ($1 ids, $2 keys, $3 and $4 old hashes), writes them, and notes them. */
static char *compute_query(const SlmJob *job)
{
    char *hash = psprintf("pg_catalog.md5(ROW(%s)::text)", slm_pg_job_columns(job->input_columns, job->source_name));
    char *hash_t = psprintf("pg_catalog.md5(ROW(%s)::text)", slm_pg_job_columns(job->input_columns, "slm_t"));
    bool same = job->source == job->target;
    StringInfoData query;

    initStringInfo(&query);
    appendStringInfo(&query,
                     "WITH slm_u AS (SELECT DISTINCT ON (slm_key) * FROM ROWS FROM (pg_catalog.unnest($1::bigint[]), pg_catalog.unnest($2::jsonb[]), pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[])) "
                     "u(slm_id, slm_key, slm_old_input, slm_old_value)), "
                     "slm_c AS MATERIALIZED (SELECT slm_u.slm_key, slm_u.slm_old_value, %s AS slm_hash, (%s) AS slm_value FROM slm_u JOIN %s ON %s "
                     "WHERE %s IS DISTINCT FROM slm_u.slm_old_input",
                     hash, job->expression, job->source_name, key_condition(job, job->source_name, "slm_u.slm_key"), hash);
    if (same && !job->overwrite)
        appendStringInfo(&query, " AND (%s.%s IS NULL OR pg_catalog.md5(%s.%s::text) = slm_u.slm_old_value)", job->source_name, job->target_column,
                         job->source_name, job->target_column);
    appendStringInfoString(&query, " ORDER BY slm_u.slm_key), slm_w AS (");
    if (same) {
        appendStringInfo(&query, "UPDATE %s slm_t SET %s = slm_c.slm_value FROM slm_c WHERE %s AND %s = slm_c.slm_hash ", job->target_name,
                         job->target_column, key_condition(job, "slm_t", "slm_c.slm_key"), hash_t);
        if (!job->overwrite)
            appendStringInfo(&query, "AND (slm_t.%s IS NULL OR pg_catalog.md5(slm_t.%s::text) = slm_c.slm_old_value) ", job->target_column,
                             job->target_column);
        appendStringInfo(&query, "RETURNING slm_c.slm_key, slm_c.slm_hash, pg_catalog.md5(slm_t.%s::text) AS slm_value_hash)", job->target_column);
    } else {
        appendStringInfo(&query, "INSERT INTO %s AS slm_t (%s, %s) SELECT %s, slm_value FROM slm_c ON CONFLICT (%s) DO UPDATE SET %s = EXCLUDED.%s ",
                         job->target_name, plain_columns(job->key_columns), job->target_column, key_values(job, "slm_c.slm_key"),
                         plain_columns(job->key_columns), job->target_column, job->target_column);
        if (!job->overwrite)
            appendStringInfo(&query, "WHERE slm_t.%s IS NULL OR pg_catalog.md5(slm_t.%s::text) = ANY ($4) ", job->target_column, job->target_column);
        appendStringInfo(&query,
                         "RETURNING pg_catalog.jsonb_build_array(%s) AS slm_key, pg_catalog.md5(slm_t.%s::text) AS slm_value_hash), slm_x AS (SELECT slm_w.slm_key, "
                         "slm_c.slm_hash, slm_w.slm_value_hash FROM slm_w JOIN slm_c USING (slm_key))",
                         slm_pg_job_columns(job->key_columns, "slm_t"), job->target_column);
    }
    appendStringInfo(&query,
                     "INSERT INTO slm.job_done (job_id, key, version, input_hash, value_hash) SELECT %d, slm_key, %d, slm_hash, slm_value_hash FROM %s "
                     "ON CONFLICT (job_id, key) DO UPDATE SET version = EXCLUDED.version, input_hash = EXCLUDED.input_hash, value_hash = EXCLUDED.value_hash, "
                     "done_at = pg_catalog.clock_timestamp()",
                     job->id, job->version, same ? "slm_w" : "slm_x");
    return query.data;
}

/* Runs the compute statement for a claim; false with the error's words when it failed and was undone. */
static bool compute(const char *query, const Claim *c, char **error)
{
    Oid types[4] = {INT8ARRAYOID, JSONBARRAYOID, TEXTARRAYOID, TEXTARRAYOID};
    Datum values[4] = {c->ids, c->keys, c->old_input, c->old_value};
    MemoryContext context = CurrentMemoryContext;
    ResourceOwner owner = CurrentResourceOwner;
    volatile bool ok = false;

    BeginInternalSubTransaction(NULL);
    MemoryContextSwitchTo(context);
    PG_TRY();
    {
        if (SPI_execute_with_args(query, 4, types, values, NULL, false, 0) != SPI_OK_INSERT)
            elog(ERROR, "unexpected result of a job's statement");
        ReleaseCurrentSubTransaction();
        ok = true;
    }
    PG_CATCH();
    {
        ErrorData *data;

        MemoryContextSwitchTo(context);
        data = CopyErrorData();
        if (ERRCODE_TO_CATEGORY(data->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION ||
            ERRCODE_TO_CATEGORY(data->sqlerrcode) == ERRCODE_INSUFFICIENT_RESOURCES)
            PG_RE_THROW(); /* cancelled, shut down, or not the row's fault */
        FlushErrorState();
        RollbackAndReleaseCurrentSubTransaction();
        *error = psprintf("%s: %s", unpack_sql_state(data->sqlerrcode), data->message);
    }
    PG_END_TRY();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
    return ok;
}

/* Notes the failure of one queue row: again later, or never. */
static void note_failure(const SlmJob *job, Datum id, char *error)
{
    Oid types[2] = {INT8OID, TEXTOID};
    Datum values[2] = {id, CStringGetTextDatum(error)};
    char *query = psprintf("UPDATE slm.job_queue SET attempts = attempts + 1, error = $2, failed = attempts + 1 >= %d, not_before = pg_catalog.clock_timestamp() + "
                           "(SELECT retry_delay FROM slm.job_definition WHERE id = %d) * pg_catalog.power(2, LEAST(attempts, 12)) WHERE id = $1",
                           job->max_attempts, job->id);

    if (SPI_execute_with_args(query, 2, types, values, NULL, false, 0) != SPI_OK_UPDATE)
        elog(ERROR, "could not note a failed row");
}

static void delete_claimed(Datum ids)
{
    Oid types[1] = {INT8ARRAYOID};
    Datum values[1] = {ids};

    if (SPI_execute_with_args("DELETE FROM slm.job_queue WHERE id = ANY ($1)", 1, types, values, NULL, false, 0) != SPI_OK_DELETE)
        elog(ERROR, "could not empty the queue");
}

/* The i-th element of a claim as a claim of its own. */
static Claim claim_element(const Claim *c, int i)
{
    const struct {
        Datum array;
        Oid type;
        int length;
        bool by_value;
        char align;
    } parts[4] = {{c->ids, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE},
                  {c->keys, JSONBOID, -1, false, TYPALIGN_INT},
                  {c->old_input, TEXTOID, -1, false, TYPALIGN_INT},
                  {c->old_value, TEXTOID, -1, false, TYPALIGN_INT}};
    Datum single[4];

    for (int p = 0; p < 4; p++) {
        int one = 1, lower = 1, n;
        Datum *elements;
        bool *nulls;

        deconstruct_array(DatumGetArrayTypeP(parts[p].array), parts[p].type, parts[p].length, parts[p].by_value, parts[p].align, &elements, &nulls, &n);
        single[p] = PointerGetDatum(
            construct_md_array(&elements[i], &nulls[i], 1, &one, &lower, parts[p].type, parts[p].length, parts[p].by_value, parts[p].align));
    }
    return (Claim){single[0], single[1], single[2], single[3], 1};
}

static Datum claim_id(const Claim *c)
{
    Datum *elements;
    int n;

    deconstruct_array(DatumGetArrayTypeP(c->ids), INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &elements, NULL, &n);
    return elements[0];
}

/* All rows together; when that fails, one by one, so that a bad row holds back no other. */
static void run_claim(const SlmJob *job, const Claim *c)
{
    char *query = compute_query(job), *error = NULL;

    if (compute(query, c, &error)) {
        delete_claimed(c->ids);
        return;
    }
    for (int i = 0; i < c->n; i++) {
        Claim one = claim_element(c, i);

        CHECK_FOR_INTERRUPTS();
        if (c->n > 1 ? compute(query, &one, &error) : false)
            delete_claimed(one.ids);
        else
            note_failure(job, claim_id(&one), error);
    }
}

/* Tells who listens when nothing is pending any more. */
static void notify_if_idle(const SlmJob *job)
{
    slm_pg_spi(psprintf("SELECT pg_catalog.pg_notify(%s, '') WHERE NOT EXISTS (SELECT FROM slm.job_queue WHERE job_id = %d AND NOT failed) AND EXISTS "
                        "(SELECT FROM slm.job_definition WHERE id = %d AND backfill_done)",
                        quote_literal_cstr(psprintf("slm_job_%s", job->name)), job->id, job->id),
               SPI_OK_SELECT);
}

/* Settings that the hashes depend on, and the job's own search_path. */
static void set_job_settings(const SlmJob *job)
{
    const char *const settings[][2] = {{"search_path", job->search_path}, {"DateStyle", "ISO, YMD"}, {"IntervalStyle", "postgres"},
                                       {"TimeZone", "UTC"}, {"extra_float_digits", "1"}, {"bytea_output", "hex"}};

    for (int i = 0; i < (int) lengthof(settings); i++)
        (void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

int slm_pg_job_run(int32 id)
{
    int security, level, n = 0;
    Oid user;
    SlmJob *job;
    Claim c;

    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    job = slm_pg_job_read(id, true);
    if (job != NULL) {
        GetUserIdAndSecContext(&user, &security);
        SetUserIdAndSecContext(job->owner, security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
        level = NewGUCNestLevel();
        set_job_settings(job);
        if (claim(job, &c)) {
            run_claim(job, &c);
            n = c.n;
            notify_if_idle(job);
        } else if (!job->backfill_done) {
            n = queue_backfill(job);
            if (n == 0)
                notify_if_idle(job);
        }
        AtEOXact_GUC(true, level);
        SetUserIdAndSecContext(user, security);
    }
    SPI_finish();
    return n;
}

/* slm.job_run_batch(job int) -> int. Row-level security has the last word on who may see the job. */
Datum slm_pg_job_run_batch(PG_FUNCTION_ARGS)
{
    PG_RETURN_INT32(slm_pg_job_run(PG_GETARG_INT32(0)));
}
