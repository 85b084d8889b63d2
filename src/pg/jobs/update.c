/*
 * CALL slm_update(source, target_column, expression, where, on_error, restart): see update.h.
 *
 *   begin ──commit──► sample ──rollback──► window, batch, note ──commit──► ... ──► finished
 *                     forecast             as large as takes BATCH_SECONDS
 *
 * slm.update_run has one row for a role, table, column, expression and condition. While it is not finished, the next CALL with these
 * goes on behind its position; a finished one begins anew.  Two sessions do not work at one row: the second is refused when it begins.
 */
#include "pg/jobs/update.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "storage/latch.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"

#include "pg/base/as_owner.h"
#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/run/progress.h"

#define BATCH_SECONDS 5.0 /* a cancel loses no more work than this, about; long enough for the window of the batch node */
#define FIRST_BATCH 16    /* rows, when a sample told nothing */
#define LARGEST_BATCH 10000
#define TELL_SECONDS 10.0 /* between two notices */
#define PASSING_TRIES 10  /* of one batch that others were in the way of */
#define SHOWN_FAILURES 3

PG_FUNCTION_INFO_V1(slm_pg_update);

/* ---------------------------------------------------------------- what is noted */

/* Runs a statement over the extension's tables as their owner. */
static void note(const char *query, int n, const Oid *types, const Datum *values, const char *nulls, int expected)
{
    SlmAs as;

    if (!OidIsValid(slm_pg_extension_relation("update_run")) || !OidIsValid(slm_pg_extension_relation("update_failure")))
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("the tables of slm_update are not in this database"),
                        errhint("CREATE EXTENSION slm_pg makes them.")));
    slm_pg_as_extension(&as);
    if (SPI_execute_with_args(query, n, unconstify(Oid *, types), unconstify(Datum *, values), nulls, false, 0) != expected)
        elog(ERROR, "unexpected result of \"%s\"", query);
    slm_pg_as_end(&as);
}

static int64 noted_number(int column)
{
    bool isnull;

    return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull));
}

/* Rows of tables and roles that are gone, and the row of these arguments if there is none yet. */
static void make_run(const SlmUpdate *u)
{
    static const Oid types[6] = {OIDOID, OIDOID, NAMEOID, TEXTOID, TEXTOID, TEXTOID};
    NameData column = {0};
    Datum values[6] = {ObjectIdGetDatum(u->caller), ObjectIdGetDatum(u->source), NameGetDatum(&column), CStringGetTextDatum(u->expression),
                       u->condition == NULL ? (Datum) 0 : CStringGetTextDatum(u->condition), CStringGetTextDatum(u->path)};

    namestrcpy(&column, u->target_column);
    note("DELETE FROM slm.update_run r "
         "WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = r.source) OR NOT EXISTS (SELECT FROM pg_authid a WHERE a.oid = r.owner)",
         0, NULL, NULL, NULL, SPI_OK_DELETE);
    note("INSERT INTO slm.update_run (owner, source, target_column, expression, condition, search_path) "
         "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
         6, types, values, u->condition == NULL ? "    n " : NULL, SPI_OK_INSERT);
}

/* Locks the row of these arguments and sets u->run; whether its work has ended. */
static bool find_run(SlmUpdate *u)
{
    static const Oid types[5] = {OIDOID, OIDOID, NAMEOID, TEXTOID, TEXTOID};
    NameData column = {0};
    Datum values[5] = {ObjectIdGetDatum(u->caller), ObjectIdGetDatum(u->source), NameGetDatum(&column), CStringGetTextDatum(u->expression),
                       u->condition == NULL ? (Datum) 0 : CStringGetTextDatum(u->condition)};
    bool finished;

    namestrcpy(&column, u->target_column);
    note("SELECT r.id, CASE WHEN r.finished_at IS NULL THEN 0::bigint ELSE 1::bigint END "
         "FROM slm.update_run r "
         "WHERE r.owner = $1 AND r.source = $2 AND r.target_column = $3 AND r.expression = $4 AND r.condition IS NOT DISTINCT FROM $5 "
         "FOR NO KEY UPDATE SKIP LOCKED",
         5, types, values, u->condition == NULL ? "    n" : NULL, SPI_OK_SELECT);
    if (SPI_processed == 0)
        ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE), errmsg("the same slm_update of %s is under way in another session", u->table),
                        errhint("The view slm.progress shows how far it is.")));
    u->run = noted_number(1);
    finished = noted_number(2) != 0;
    SPI_freetuptable(SPI_tuptable);
    return finished;
}

static void reset_run(const SlmUpdate *u)
{
    static const Oid types[1] = {INT8OID};
    Datum values[1] = {Int64GetDatum(u->run)};

    note("DELETE FROM slm.update_failure WHERE run = $1", 1, types, values, NULL, SPI_OK_DELETE);
    note("UPDATE slm.update_run SET last_key = NULL, rows_seen = 0, rows_written = 0, rows_kept = 0, rows_failed = 0,"
         "    started_at = clock_timestamp(), updated_at = clock_timestamp(), finished_at = NULL "
         "WHERE id = $1",
         1, types, values, NULL, SPI_OK_UPDATE);
}

/* Locks the run for this transaction and reads how far it is. */
static void read_run(SlmUpdate *u)
{
    static const Oid types[2] = {INT8OID, TEXTOID};
    Datum values[2] = {Int64GetDatum(u->run), CStringGetTextDatum(u->key)}, position;
    MemoryContext old;
    bool isnull;

    note("SELECT r.rows_seen, r.rows_written, r.rows_kept, r.rows_failed, r.last_key,"
         "    CASE WHEN r.last_key IS NULL OR r.key = $2 THEN 0::bigint ELSE 1::bigint END "
         "FROM slm.update_run r WHERE r.id = $1 FOR NO KEY UPDATE",
         2, types, values, NULL, SPI_OK_SELECT);
    if (SPI_processed == 0)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("the notes of this slm_update are gone"),
                        errhint("CALL slm_update once more.")));
    if (noted_number(6) != 0)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("the primary key of table %s has changed since this "
                                                                                  "slm_update began", u->table),
                        errhint("Nobody can say where to go on. CALL it with restart => true.")));
    u->seen = noted_number(1);
    u->written = noted_number(2);
    u->kept = noted_number(3);
    u->failed = noted_number(4);
    position = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 5, &isnull);
    old = MemoryContextSwitchTo(u->transaction);
    u->position = isnull ? (Datum) 0 : datumCopy(position, false, -1);
    MemoryContextSwitchTo(old);
    SPI_freetuptable(SPI_tuptable);
}

/* A batch came to this; its rows count only with the commit. */
static void note_batch(SlmUpdate *u, const SlmUpdateWindow *window, const SlmUpdateOutcome *o, bool last)
{
    static const Oid types[8] = {INT8OID, TEXTARRAYOID, INT8OID, INT8OID, INT8OID, INT8OID, BOOLOID, TEXTOID};
    Datum values[8] = {Int64GetDatum(u->run), window->last, Int64GetDatum(window->rows), Int64GetDatum(o->written), Int64GetDatum(o->kept),
                       Int64GetDatum(list_length(o->failed)), BoolGetDatum(last), CStringGetTextDatum(u->key)};
    ListCell *cell;

    foreach (cell, o->failed) {
        static const Oid failed_types[3] = {INT8OID, TEXTOID, TEXTOID};
        const SlmUpdateFailed *failed = lfirst(cell);
        Datum failed_values[3] = {Int64GetDatum(u->run), CStringGetTextDatum(failed->key), CStringGetTextDatum(failed->error)};

        note("INSERT INTO slm.update_failure (run, key, error) VALUES ($1, $2::jsonb, $3)", 3, failed_types, failed_values, NULL,
             SPI_OK_INSERT);
    }
    note("UPDATE slm.update_run SET last_key = coalesce($2, last_key), rows_seen = rows_seen + $3, rows_written = rows_written + $4,"
         "    rows_kept = rows_kept + $5, rows_failed = rows_failed + $6, updated_at = clock_timestamp(),"
         "    finished_at = CASE WHEN $7 THEN clock_timestamp() END, key = $8 "
         "WHERE id = $1",
         8, types, values, window->last == (Datum) 0 ? " n      " : NULL, SPI_OK_UPDATE);
    u->seen += window->rows;
    u->written += o->written;
    u->kept += o->kept;
    u->failed += list_length(o->failed);
}

/* ---------------------------------------------------------------- what is told */

static char *duration(double seconds)
{
    if (seconds < 1)
        return pstrdup("less than a second");
    if (seconds < 90)
        return psprintf("%.0f s", seconds);
    if (seconds < 5400)
        return psprintf("%.0f min", seconds / 60);
    return psprintf(INT64_FORMAT " h " INT64_FORMAT " min", (int64) seconds / 3600, (int64) seconds % 3600 / 60);
}

static double seconds_since(const instr_time *start)
{
    instr_time now;

    INSTR_TIME_SET_CURRENT(now);
    INSTR_TIME_SUBTRACT(now, *start);
    return INSTR_TIME_GET_DOUBLE(now);
}

/* With any error: how far it came. */
static void update_context(void *arg)
{
    const SlmUpdate *u = arg;

    if (geterrcode() == ERRCODE_QUERY_CANCELED)
        errhint("The same CALL goes on behind the " INT64_FORMAT " rows that are done.", u->seen);
    errcontext("slm_update of %s, column \"%s\", after " INT64_FORMAT " rows", u->table, u->target_column, u->seen);
}

/* The loop's state. */
typedef struct Run {
    SlmProgressUse progress;
    instr_time start;
    int64 seen_before; /* rows of CALLs before */
    double rows;       /* of the table, about */
    double told;       /* seconds after start */
    int batch;         /* rows of the next window */
} Run;

static void tell_forecast(const SlmUpdate *u, const Run *r, const SlmUpdateSample *s)
{
    double left = Max(r->rows - (double) u->seen, 0) * (s->scanned > 0 ? (double) s->matching / (double) s->scanned : 1);
    char *behind = u->seen == 0 ? "" : psprintf(", going on behind " INT64_FORMAT " rows", u->seen);

    if (s->computed == 0)
        ereport(NOTICE, (errmsg("slm_update of %s%s: about %.0f rows", u->table, behind, left)));
    else
        ereport(NOTICE, (errmsg("slm_update of %s%s: about %.0f rows, %s", u->table, behind, left,
                                duration(left * s->seconds / s->computed)),
                         errdetail("%d rows took %.2f s.", s->computed, s->seconds)));
}

static void tell_progress(const SlmUpdate *u, Run *r)
{
    double seconds = seconds_since(&r->start), left = Max(r->rows - (double) u->seen, 0);

    if (seconds - r->told < TELL_SECONDS)
        return;
    r->told = seconds;
    ereport(NOTICE, (errmsg("slm_update of %s: %.0f %%, " INT64_FORMAT " of about %.0f rows, %s left", u->table,
                            Min(100.0 * (double) u->seen / Max(r->rows, 1), 99), u->seen, r->rows,
                            duration(left * seconds / (double) Max(u->seen - r->seen_before, 1)))));
}

static void tell_end(const SlmUpdate *u, const Run *r)
{
    const char *kept = u->kept == 0 ? "" : psprintf(", " INT64_FORMAT " kept by a trigger or policy", u->kept);
    static const Oid types[1] = {INT8OID};
    Datum values[1] = {Int64GetDatum(u->run)};
    StringInfoData first;

    if (u->failed == 0) {
        ereport(NOTICE, (errmsg("slm_update of %s: " INT64_FORMAT " rows looked at, " INT64_FORMAT " written%s, in %s", u->table, u->seen,
                                u->written, kept, duration(seconds_since(&r->start)))));
        return;
    }
    note(psprintf("SELECT f.key::text, f.error FROM slm.update_failure f WHERE f.run = $1 ORDER BY f.id LIMIT %d", SHOWN_FAILURES), 1,
         types, values, NULL, SPI_OK_SELECT);
    initStringInfo(&first);
    for (uint64 i = 0; i < SPI_processed; i++)
        appendStringInfo(&first, "%s%s %s", i > 0 ? "\n" : "", SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1),
                         SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2));
    ereport(WARNING, (errmsg("slm_update of %s: " INT64_FORMAT " rows failed and are as they were; " INT64_FORMAT " written%s", u->table,
                             u->failed, u->written, kept),
                      errdetail("%s", first.data), errhint("SELECT * FROM slm.update_failures; shows all of them.")));
}

/* ---------------------------------------------------------------- the loop */

/* After a commit or rollback. Deferred triggers fire with their statement: at the commit they would not run as the table's owner. */
static void begin_transaction(SlmUpdate *u)
{
    MemoryContextReset(u->transaction);
    if (SPI_execute("SET CONSTRAINTS ALL IMMEDIATE", false, 0) != SPI_OK_UTILITY)
        elog(ERROR, "could not make constraints immediate");
    slm_pg_update_table(u);
    read_run(u);
}

/* Others were in the way: everything of this transaction is undone, and after a while it begins anew. */
static void give_way(SlmUpdate *u, int tries)
{
    SPI_rollback();
    (void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 50L << Min(tries, 6), PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
}

/* Whether an error that may be of all rows is one: then it ends the CALL. One row alone, after others that were written, is a row. */
static void check_whole(const SlmUpdate *u, const SlmUpdateOutcome *o)
{
    if (o->whole != NULL && o->computed == 0 && (list_length(o->failed) > 1 || u->written == 0))
        ReThrowError(o->whole);
}

/* The next batch, committed; false: it was the last. */
static bool run_batch(SlmUpdate *u, Run *r)
{
    instr_time start;
    SlmUpdateWindow window;
    SlmUpdateOutcome outcome;
    double seconds;
    bool last;

    for (int tries = 0;; tries++) {
        begin_transaction(u);
        INSTR_TIME_SET_CURRENT(start);
        window = slm_pg_update_window(u, r->batch);
        if (window.rows == 0)
            outcome = (SlmUpdateOutcome){0};
        if (window.rows == 0 || slm_pg_update_batch(u, &window, &outcome))
            break;
        if (tries >= PASSING_TRIES)
            ReThrowError(outcome.whole);
        give_way(u, tries);
    }
    check_whole(u, &outcome);
    last = window.rows < r->batch;
    note_batch(u, &window, &outcome, last);
    SPI_commit();
    seconds = Max(seconds_since(&start), 0.001);
    r->batch = (int) Max(Min(Min(r->batch * Min(BATCH_SECONDS / seconds, 4), LARGEST_BATCH), 1e6), 1);
    slm_pg_progress_rows(&r->progress, (uint64) window.rows);
    return !last;
}

/* Looks at a few rows and says how long it will take; writes nothing. */
static void forecast(SlmUpdate *u, Run *r)
{
    SlmUpdateSample sample;

    begin_transaction(u);
    r->seen_before = u->seen;
    r->rows = slm_pg_update_rows(u);
    slm_pg_update_sample(u, r->rows, &sample);
    if (sample.computed > 0) {
        double per_second = sample.computed / Max(sample.seconds, 0.001) * (double) sample.scanned / (double) sample.matching;

        r->batch = (int) Max(Min(per_second * BATCH_SECONDS / 2, LARGEST_BATCH / 10), 1);
    }
    tell_forecast(u, r, &sample);
    SPI_rollback();
}

static void run(SlmUpdate *u, bool restart)
{
    Run *r = MemoryContextAllocZero(u->context, sizeof *r);
    ErrorContextCallback callback = {error_context_stack, update_context, u};

    r->batch = FIRST_BATCH;
    slm_pg_update_table(u);
    slm_pg_update_check(u);
    error_context_stack = &callback;
    make_run(u);
    if (find_run(u) || restart)
        reset_run(u);
    SPI_commit();
    INSTR_TIME_SET_CURRENT(r->start);
    forecast(u, r);
    slm_pg_progress_enter(&r->progress, u->context, NULL, Max(r->rows - (double) u->seen, 0), false);
    while (run_batch(u, r))
        tell_progress(u, r);
    slm_pg_progress_leave(&r->progress);
    begin_transaction(u);
    tell_end(u, r);
    error_context_stack = callback.previous;
}

static char *text_argument(FunctionCallInfo fcinfo, int n)
{
    return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

Datum slm_pg_update(PG_FUNCTION_ARGS)
{
    MemoryContext old;
    SlmUpdate u = {0};

    if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) || ((CallContext *) fcinfo->context)->atomic)
        ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION), errmsg("slm_update cannot run inside a transaction block or a function"),
                        errhint("It commits as it goes: CALL it alone, after COMMIT, and with autocommit.")));
    if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("source, target_column and expression must not be null"),
                        errhint("CALL slm_update('tickets', 'label', 'slm_classify(body, ARRAY[''billing'', ''delivery''])');")));
    if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    u.context = AllocSetContextCreate(PortalContext, "slm_update", ALLOCSET_DEFAULT_SIZES);
    u.transaction = AllocSetContextCreate(u.context, "slm_update, a transaction", ALLOCSET_DEFAULT_SIZES);
    old = MemoryContextSwitchTo(u.context);
    u.caller = GetUserId();
    u.source = PG_GETARG_OID(0);
    u.target_column = pstrdup(NameStr(*PG_GETARG_NAME(1)));
    u.expression = text_argument(fcinfo, 2);
    u.condition = text_argument(fcinfo, 3);
    u.on_error = text_argument(fcinfo, 4);
    u.path = slm_pg_current_path();
    MemoryContextSwitchTo(u.transaction);
    run(&u, !PG_ARGISNULL(5) && PG_GETARG_BOOL(5));
    MemoryContextSwitchTo(old);
    SPI_finish();
    PG_RETURN_VOID();
}
