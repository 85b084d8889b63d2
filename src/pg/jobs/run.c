/*
 * The work of a job: compute claimed rows, write and note them in one transaction.
 *
 * What code of users does is in compute.c; here everything acts as the extension, under a fixed search_path, and calls nothing of a user.
 * A batch that fails is halved until the bad row is alone.  Then its error says whose fault it is (failure.h):
 *
 *   ROW      the row is given up at once: it would fail again
 *   PASSING  again soon, uncounted
 *   WHOLE    kept until the end of the batch: where another row could be computed it is as UNKNOWN, else it ends the batch, and no row of
 *            it is charged
 *   UNKNOWN  again with back-off, up to max_attempts
 *
 * A batch that takes too long is given up as a whole, and its rows are taken one by one from then on.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "pg/base/as_owner.h"
#include "pg/base/compat.h"
#include "pg/base/failure.h"
#include "pg/jobs/compute.h"
#include "pg/jobs/deadline.h"
#include "pg/jobs/jobs.h"
#include "pg/jobs/queue.h"
#include "pg/run/accounts.h"
#include "pg/run/usage.h"

#define LOGGED 10 /* rows of a batch whose errors are told to the server log one by one */

/* A row that met an error which may be of all rows. */
typedef struct Doubtful {
    SlmJobRow *row;
    ErrorData *error;
} Doubtful;

typedef struct Run {
    const SlmJob *job;
    SlmMeter *meter;
    bool tried;     /* slm_pg_job_try has passed */
    bool overtime;  /* the time of the batch is over */
    int n_computed; /* rows */
    int n_failed;
    List *doubtful; /* of Doubtful */
} Run;

/* ---------------------------------------------------------------- computing */

/* Should the other rows go on? */
static bool is_row_error(int code)
{
    return !slm_pg_ends_work(code) && code != ERRCODE_DISK_FULL && code != ERRCODE_TOO_MANY_CONNECTIONS;
}

/* Runs rows in a subtransaction; false with the error when it failed and was undone. */
static bool compute(Run *r, SlmJobRow *rows, int n, ErrorData **error)
{
    MemoryContext context = CurrentMemoryContext;
    ResourceOwner resources = CurrentResourceOwner;
    volatile bool ok = false;

    BeginInternalSubTransaction(NULL);
    MemoryContextSwitchTo(context);
    PG_TRY();
    {
        slm_pg_job_compute(r->job, rows, n);
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
        r->overtime = data->sqlerrcode == ERRCODE_QUERY_CANCELED && slm_pg_deadline_passed();
        if (!is_row_error(data->sqlerrcode) && !r->overtime)
            ReThrowError(data);
        *error = data;
    }
    PG_END_TRY();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = resources;
    return ok;
}

/* ---------------------------------------------------------------- noting */

static Datum text_array(Datum *elements, bool *nulls, int n)
{
    int lower = 1;

    return PointerGetDatum(construct_md_array(elements, nulls, 1, &n, &lower, TEXTOID, -1, false, TYPALIGN_INT));
}

/* The SHA-256 digests of the models that ran, as text[]. */
static Datum used_models(const SlmMeter *meter)
{
    Datum elements[SLM_METER_MODELS];

    for (int i = 0; i < meter->n_models; i++)
        elements[i] = CStringGetTextDatum(meter->models[i]);
    return PointerGetDatum(construct_array(elements, meter->n_models, TEXTOID, -1, false, TYPALIGN_INT));
}

static void note_done(const Run *r, const SlmJobRow *rows, int n)
{
    const Oid types[4] = {JSONBARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID};
    Datum *keys = palloc(sizeof(Datum) * 3 * n), *inputs = keys + n, *hashes = inputs + n, values[4];
    bool *nulls = palloc0(sizeof(bool) * 2 * n), *no_value = nulls + n;
    int done = 0;

    for (int i = 0; i < n; i++) {
        if (!rows[i].written)
            continue;
        keys[done] = rows[i].key;
        inputs[done] = CStringGetTextDatum(rows[i].input);
        no_value[done] = rows[i].value == NULL;
        hashes[done] = no_value[done] ? (Datum) 0 : CStringGetTextDatum(rows[i].value);
        done++;
    }
    if (done == 0)
        return;
    values[0] = PointerGetDatum(construct_array(keys, done, JSONBOID, -1, false, TYPALIGN_INT));
    values[1] = text_array(inputs, nulls, done);
    values[2] = text_array(hashes, no_value, done);
    values[3] = used_models(r->meter);
    slm_pg_spi_with(psprintf("INSERT INTO slm.job_done (job_id, key, version, input_hash, value_hash, models, done_at) "
                             "SELECT %d, u.key, %d, u.input, u.value, $4, clock_timestamp() "
                             "FROM ROWS FROM (unnest($1), unnest($2), unnest($3)) u(key, input, value) "
                             "ON CONFLICT (job_id, key) DO UPDATE SET version = EXCLUDED.version, input_hash = EXCLUDED.input_hash, "
                             "value_hash = EXCLUDED.value_hash, models = EXCLUDED.models, kept = false, done_at = EXCLUDED.done_at",
                             r->job->id, r->job->version),
                    4, types, values, NULL, SPI_OK_INSERT);
}

/* Values of users that stay: so that they are counted, and computed when they are gone. What the job wrote before is not forgotten. */
static void note_kept(const Run *r, const SlmJobRow *rows, int n)
{
    const Oid types[1] = {JSONBARRAYOID};
    Datum *keys = palloc(sizeof(Datum) * n), values[1];
    int kept = 0;

    for (int i = 0; i < n; i++)
        if (rows[i].kept)
            keys[kept++] = rows[i].key;
    if (kept == 0)
        return;
    values[0] = PointerGetDatum(construct_array(keys, kept, JSONBOID, -1, false, TYPALIGN_INT));
    slm_pg_spi_with(psprintf("INSERT INTO slm.job_done (job_id, key, version, input_hash, kept, done_at) "
                             "SELECT %d, k, %d, '', true, clock_timestamp() FROM unnest($1) k "
                             "ON CONFLICT (job_id, key) DO UPDATE SET version = EXCLUDED.version, input_hash = EXCLUDED.input_hash, "
                             "kept = true, done_at = EXCLUDED.done_at",
                             r->job->id, r->job->version),
                    1, types, values, NULL, SPI_OK_INSERT);
}

/* Notes what became of computed rows. */
static void settle(Run *r, const SlmJobRow *rows, int n)
{
    const SlmJobRow **list = palloc(sizeof *list * 4 * n), **held = list, **refused = list + n, **changed = list + 2 * n;
    const SlmJobRow **settled = list + 3 * n;
    int n_held = 0, n_refused = 0, n_changed = 0, n_settled = 0;

    for (int i = 0; i < n; i++) {
        r->n_computed += rows[i].computed;
        if (rows[i].held)
            held[n_held++] = &rows[i];
        else if (rows[i].refused)
            refused[n_refused++] = &rows[i];
        else if (rows[i].computed && !rows[i].written && !rows[i].kept && r->job->source == r->job->target)
            changed[n_changed++] = &rows[i];
        else
            settled[n_settled++] = &rows[i];
    }
    note_done(r, rows, n);
    note_kept(r, rows, n);
    if (n_held > 0)
        slm_pg_job_note_failures(r->job, slm_pg_job_ids(held, n_held), "another transaction held the row locked", true);
    if (n_changed > 0) /* by a user, who has queued it again, or by what triggers made of another job's write */
        slm_pg_job_note_failures(r->job, slm_pg_job_ids(changed, n_changed), "the row changed while it was computed", true);
    if (n_refused > 0)
        slm_pg_job_note_failures(r->job, slm_pg_job_ids(refused, n_refused),
                                 "the row was not written: another transaction has just held it, or a trigger or policy refused", false);
    slm_pg_job_dequeue(r->job, slm_pg_job_ids(settled, n_settled));
}

static Datum ids_of(const SlmJobRow *rows, int n)
{
    const SlmJobRow **list = palloc(sizeof *list * n);

    for (int i = 0; i < n; i++)
        list[i] = &rows[i];
    return slm_pg_job_ids(list, n);
}

/* ---------------------------------------------------------------- a batch */

/* The server log tells of rows that fail, and what becomes of them; of many in a batch, how many they are. */
static void log_failure(Run *r, const SlmJobRow *row, const char *error, const char *then)
{
    char *key = JsonbToCString(NULL, &DatumGetJsonbP(row->key)->root, VARSIZE(DatumGetPointer(row->key)));

    if (++r->n_failed <= LOGGED)
        ereport(LOG, (errmsg("job \"%s\" could not compute row %s of %s: %s", r->job->name, key, r->job->source_name, error),
                      errdetail("%s", then), errhidestmt(true)));
}

static void charge_row(Run *r, const SlmJobRow *row, const ErrorData *error)
{
    char *text = slm_pg_failure_text(error);
    bool given_up = slm_pg_failure(error->sqlerrcode) == SLM_FAILURE_ROW;

    if (given_up)
        slm_pg_job_note_given_up(r->job, ids_of(row, 1), text);
    else
        slm_pg_job_note_failures(r->job, ids_of(row, 1), text, false);
    log_failure(r, row, text, given_up ? "The row is in slm.job_failures." : "The row is tried again, up to max_attempts times.");
}

/* A row alone has met an error. */
static void fail_row(Run *r, SlmJobRow *row, ErrorData *error)
{
    SlmFailure failure = slm_pg_failure(error->sqlerrcode);

    if (failure == SLM_FAILURE_PASSING) {
        slm_pg_job_note_failures(r->job, ids_of(row, 1), slm_pg_failure_text(error), true);
    } else if (failure == SLM_FAILURE_WHOLE) {
        Doubtful *doubtful = palloc(sizeof *doubtful);

        *doubtful = (Doubtful){row, error};
        r->doubtful = lappend(r->doubtful, doubtful);
    } else {
        charge_row(r, row, error);
    }
}

/* All rows together; when that fails, half by half, so that a bad row holds back no other. */
static void run_rows(Run *r, SlmJobRow *rows, int n)
{
    ErrorData *error = NULL;

    CHECK_FOR_INTERRUPTS();
    if (!r->overtime && compute(r, rows, n, &error)) {
        settle(r, rows, n);
        return;
    }
    if (r->overtime) {
        slm_pg_deadline_end(); /* no cancel comes from now on */
        if (n == 1 && error != NULL) {
            char *text = psprintf("57014: the row took longer than %s", slm_pg_deadline_name());

            slm_pg_job_note_given_up(r->job, ids_of(rows, n), text);
            log_failure(r, rows, text, "The row is in slm.job_failures.");
        } else {
            slm_pg_job_note_suspects(r->job, ids_of(rows, n));
        }
        return;
    }
    if (!r->tried)
        slm_pg_job_try(r->job); /* raises what is no row's fault */
    r->tried = true;
    if (n == 1) {
        fail_row(r, rows, error);
    } else {
        run_rows(r, rows, n / 2);
        run_rows(r, rows + n / 2, n - n / 2);
    }
}

/* Errors that may be of all rows are of these rows where others could be computed; else they end the batch. */
static void settle_doubtful(Run *r)
{
    ListCell *cell;

    if (r->doubtful != NIL && r->n_computed == 0)
        ReThrowError(((Doubtful *) linitial(r->doubtful))->error);
    foreach (cell, r->doubtful)
        charge_row(r, ((Doubtful *) lfirst(cell))->row, ((Doubtful *) lfirst(cell))->error);
    if (r->n_failed > LOGGED)
        ereport(LOG, (errmsg("job \"%s\" could not compute %d more rows of this batch", r->job->name, r->n_failed - LOGGED),
                      errhidestmt(true)));
}

/* Adds what the batch took to the job, and tells who listens when nothing is pending any more. */
static void finish_batch(const SlmJob *job, const SlmMeter *meter)
{
    static const Oid types[] = {TEXTOID, INT4OID, TEXTOID};
    Datum values[] = {CStringGetTextDatum(slm_pg_usage_json(&meter->usage)), Int32GetDatum(job->id),
                      CStringGetTextDatum(psprintf("slm_job_%s", job->name))};

    slm_pg_spi_with("UPDATE slm.job_definition d"
                    " SET error = NULL, usage = d.usage ||"
                    "     (SELECT jsonb_object_agg(f.key, COALESCE((d.usage ->> f.key)::bigint, 0) + f.value::bigint)"
                    "      FROM jsonb_each_text($1::jsonb) f)"
                    " WHERE d.id = $2",
                    2, types, values, NULL, SPI_OK_UPDATE);
    slm_pg_spi_with("SELECT pg_notify($3, '')"
                    " WHERE NOT EXISTS (SELECT FROM slm.job_queue WHERE job_id = $2 AND NOT failed)"
                    "   AND EXISTS (SELECT FROM slm.job_definition WHERE id = $2 AND backfill_done)",
                    3, types, values, NULL, SPI_OK_SELECT);
}

/* Computes the claimed rows and remembers how fast that went. */
static int run_claim(const SlmJob *job, Datum ids, SlmMeter *meter)
{
    TimestampTz start = GetCurrentTimestamp();
    Run run = {.job = job, .meter = meter};
    SlmJobRow *rows;
    int n = slm_pg_job_lock_claimed(job, ids, &rows);

    if (n == 0)
        return 0;
    run_rows(&run, rows, n);
    settle_doubtful(&run);
    slm_pg_job_note_speed(job, n, (double) (GetCurrentTimestamp() - start) / USECS_PER_SEC);
    return n;
}

/* Within the time limit and with a meter; what it is late for outside of rows is the job's error, not a cancel. */
static int run_limited(const SlmJob *job, Datum ids, SlmMeter *meter)
{
    SlmMeter *outer = slm_pg_meter;
    MemoryContext context = CurrentMemoryContext;
    volatile int n = 0;

    PG_TRY();
    {
        slm_pg_meter = meter;
        slm_pg_payer_of_job = job->owner;
        slm_pg_deadline_begin();
        n = ids != (Datum) 0 ? run_claim(job, ids, meter) : job->backfill_done ? 0 : slm_pg_job_backfill(job);
        slm_pg_meter = outer;
        slm_pg_payer_of_job = InvalidOid;
        slm_pg_deadline_end();
    }
    PG_CATCH();
    {
        slm_pg_meter = outer;
        slm_pg_payer_of_job = InvalidOid;
        slm_pg_deadline_end();
        MemoryContextSwitchTo(context);
        if (geterrcode() == ERRCODE_QUERY_CANCELED && slm_pg_deadline_passed()) {
            FlushErrorState();
            ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                            errmsg("job \"%s\" took longer than %s", job->name, slm_pg_deadline_name())));
        }
        PG_RE_THROW();
    }
    PG_END_TRY();
    return n;
}

int slm_pg_job_run(int32 id, Datum ids)
{
    SlmMeter meter = {0};
    int n = 0;
    SlmAs saved;
    SlmJob *job;

    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    slm_pg_job_enter(&saved);
    job = slm_pg_job_read(id, true);
    if (job != NULL && !(job->paused && MyBackendType == B_BG_WORKER)) {
        slm_pg_job_check_parts(job);
        slm_pg_job_check_rights(job);
        slm_pg_job_settings(job);
        (void) DirectFunctionCall2(pg_try_advisory_xact_lock_shared_int4, Int32GetDatum(id), Int32GetDatum(MyProcPid));
        n = run_limited(job, ids, &meter);
        if (n > 0 || !job->backfill_done)
            finish_batch(job, &meter);
    }
    slm_pg_as_end(&saved);
    SPI_finish();
    return n;
}
