/*
 * A turn of a worker at a fine-tuning.
 *
 *   waiting, trained ──query, enough new rows──► training ──turn, checkpoint──► ... ──► a version of the adapter, trained
 *
 * A turn makes the training anew from the rows that are kept and goes on from its checkpoint; it ends after checkpoint_seconds, or sooner
 * when rows of jobs wait, and is one transaction.  Its version is written in the transaction of the last turn, as slm_finetune writes one.
 *
 * Each turn asks anew what the owner may: to fine-tune, to use the base, to change the adapter.
 */
#include "pg/jobs/tune.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "pg/base/as_owner.h"
#include "pg/functions/finetune.h"
#include "pg/jobs/deadline.h"
#include "pg/jobs/jobs.h"
#include "pg/models/digest.h"
#include "pg/models/load.h"
#include "pg/models/loading.h"
#include "pg/models/store.h"

#define MOST_TRIES 10      /* turns without a checkpoint that did not end by themselves */
#define LEAST_SECONDS 5    /* of a turn, when rows of jobs wait */
#define LAST_DELAY 3600    /* seconds between tries that fail */

/* A row of slm.tune_job, and what this turn makes of it. */
typedef struct Turn {
    int32 id;
    char *name, *base, *query, *path;
    Jsonb *options;
    Oid owner, function; /* slm_create_finetune, whose EXECUTE is needed */
    int memory_kb, checkpoint_seconds;
    int64 retrain_rows; /* 0: it is done once */
    bool begun;         /* there are rows kept */
    int32 run;          /* number of the training */
    bytea *rows, *known;
    char digest[SLM_TUNE_DIGEST];
    SlmTuning *tuning;
    double seconds, cpu; /* of the training before this turn */
    TimestampTz begin, work;
    const volatile bool *wanted;
    /* outcome */
    bool ended, active;
    int64 new_rows; /* -1: it was not looked for any */
    int32 version;
} Turn;

/* ---------------------------------------------------------------- which */

#define MAY_RUN                                                                                               \
    " NOT j.paused AND j.owner <> 0::oid AND EXISTS (SELECT FROM pg_authid a WHERE a.oid = j.owner)"           \
    " AND (j.stage <> 'trained' OR j.retrain_rows IS NOT NULL)"

SlmTuneDue slm_pg_tune_next(int32 *id, char *activity, Size size, TimestampTz *due)
{
    static const Oid types[] = {INT4OID, TEXTOID, TIMESTAMPTZOID, BOOLOID};

    slm_pg_spi("UPDATE slm.tune_job j SET owner = 0, error = 'its owner was dropped'"
               " WHERE j.owner <> 0::oid AND NOT EXISTS (SELECT FROM pg_authid a WHERE a.oid = j.owner)",
               SPI_OK_UPDATE);
    slm_pg_spi("SELECT j.id, j.name::text, j.not_before, j.not_before <= statement_timestamp() FROM slm.tune_job j WHERE" MAY_RUN
               " ORDER BY j.not_before > statement_timestamp(),"
               "          CASE WHEN j.not_before <= statement_timestamp() THEN j.last_run ELSE j.not_before END, j.id LIMIT 1",
               SPI_OK_SELECT);
    slm_pg_job_check_types(lengthof(types), types);
    if (SPI_processed == 0)
        return SLM_TUNE_NONE;
    if (!DatumGetBool(slm_pg_job_value(0, 4))) {
        *due = Min(*due, DatumGetTimestampTz(slm_pg_job_value(0, 3)));
        return SLM_TUNE_LATER;
    }
    *id = DatumGetInt32(slm_pg_job_value(0, 1));
    snprintf(activity, size, "slm fine-tuning \"%s\"", TextDatumGetCString(slm_pg_job_value(0, 2)));
    return SLM_TUNE_NOW;
}

bool slm_pg_tune_claim(int32 id)
{
    slm_pg_spi(psprintf("UPDATE slm.tune_job j SET tries = j.tries + 1, last_run = clock_timestamp(), paused = j.tries >= %d,"
                        " error = CASE WHEN j.tries >= %d THEN 'the server ended during %d turns in a row; slm_resume_finetune tries again'"
                        "         ELSE j.error END"
                        " WHERE j.id = %d AND" MAY_RUN " RETURNING j.paused",
                        MOST_TRIES, MOST_TRIES, MOST_TRIES, id),
               SPI_OK_UPDATE_RETURNING);
    return SPI_processed > 0 && !DatumGetBool(slm_pg_job_datum(1, BOOLOID));
}

void slm_pg_tune_failed(int32 id, const char *error, int seconds)
{
    const Oid types[1] = {TEXTOID};
    Datum values[1] = {error == NULL ? (Datum) 0 : CStringGetTextDatum(error)};

    slm_pg_spi_with(psprintf("UPDATE slm.tune_job j SET tries = 0, failures = CASE WHEN $1 IS NULL THEN j.failures ELSE j.failures + 1 END,"
                             " error = COALESCE($1, j.error), last_run = clock_timestamp(),"
                             " not_before = clock_timestamp() + make_interval(secs => LEAST(%d * 2 ^ LEAST(j.failures, 12), %d))"
                             " WHERE j.id = %d",
                             seconds, error == NULL ? seconds : LAST_DELAY, id),
                    1, types, values, error == NULL ? "n" : NULL, SPI_OK_UPDATE);
}

/* ---------------------------------------------------------------- the row */

static char *text_at(int column)
{
    return TextDatumGetCString(slm_pg_job_value(0, column));
}

static bytea *bytes_at(int column)
{
    Datum value = slm_pg_job_value(0, column);

    return value == (Datum) 0 ? NULL : (bytea *) PG_DETOAST_DATUM_COPY(value);
}

/* false: it is gone, or may not run any more. */
static bool read_turn(Turn *t)
{
    static const Oid types[] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, OIDOID,    INT4OID,
                                INT4OID, INT8OID, INT4OID, BYTEAOID, BYTEAOID, FLOAT8OID, FLOAT8OID, TEXTOID, OIDOID};
    MemoryContext keep = CurrentMemoryContext;

    slm_pg_spi(psprintf("SELECT j.name::text, j.base, j.query, j.search_path, j.options, j.owner::oid, j.memory_kb, j.checkpoint_seconds,"
                        "       COALESCE(j.retrain_rows, 0::bigint), j.runs, j.rows, j.known, j.seconds, j.cpu_seconds, j.stage,"
                        "       (SELECT p.oid FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid"
                        "        WHERE p.prosrc = 'slm_pg_create_finetune' AND d.refclassid = 'pg_extension'::regclass"
                        "          AND d.refobjid = (SELECT e.oid FROM pg_extension e WHERE e.extname = 'slm_pg') LIMIT 1)"
                        " FROM slm.tune_job j WHERE j.id = %d AND" MAY_RUN " FOR KEY SHARE OF j",
                        t->id),
               SPI_OK_SELECT);
    slm_pg_job_check_types(lengthof(types), types);
    if (SPI_processed == 0)
        return false;
    MemoryContextSwitchTo(keep);
    t->name = text_at(1), t->base = text_at(2), t->query = text_at(3), t->path = text_at(4);
    t->options = (Jsonb *) bytes_at(5);
    t->owner = DatumGetObjectId(slm_pg_job_value(0, 6));
    t->memory_kb = DatumGetInt32(slm_pg_job_value(0, 7));
    t->checkpoint_seconds = DatumGetInt32(slm_pg_job_value(0, 8));
    t->retrain_rows = DatumGetInt64(slm_pg_job_value(0, 9));
    t->run = DatumGetInt32(slm_pg_job_value(0, 10));
    t->rows = bytes_at(11);
    t->known = bytes_at(12);
    t->seconds = DatumGetFloat8(slm_pg_job_value(0, 13));
    t->cpu = DatumGetFloat8(slm_pg_job_value(0, 14));
    t->begun = strcmp(text_at(15), "training") == 0 && t->rows != NULL;
    t->function = DatumGetObjectId(slm_pg_job_value(0, 16));
    return true;
}

/* ---------------------------------------------------------------- training */

/* Called by the engine before each pass. */
static bool enough(void *arg)
{
    const Turn *t = arg;
    double seconds = slm_pg_seconds_since(t->work);

    return seconds >= t->checkpoint_seconds || (seconds >= LEAST_SECONDS && *t->wanted) || ConfigReloadPending;
}

/* Rows that a new training learns from; false: too few of them are new. */
static bool read_rows(Turn *t)
{
    SlmTuneSet *set = slm_pg_tuning_rows(t->tuning);

    slm_pg_tuning_read(t->tuning);
    if (t->known != NULL) {
        t->new_rows = slm_pg_finetune_new_rows(set, t->known);
        if (t->new_rows < t->retrain_rows)
            return false;
    }
    t->known = slm_pg_finetune_hashes(set);
    t->rows = slm_pg_finetune_pack(set);
    t->run++;
    t->seconds = t->cpu = 0;
    return true;
}

/* What the result depends on. */
static void bind(Turn *t)
{
    char *all = psprintf("%u %d %d %d\n%s\n%s\n%s", MyDatabaseId, t->id, t->run, t->memory_kb, slm_pg_tuning_base_key(t->tuning),
                         slm_pg_tuning_rows(t->tuning)->digest,
                         JsonbToCString(NULL, &t->options->root, (int) VARSIZE(t->options)));

    slm_pg_sha256_hex(all, strlen(all), t->digest);
}

static void go_on(Turn *t)
{
    const char *reason;
    Size bytes;
    char *data = slm_pg_tune_read(t->id, t->digest, &bytes, &reason);

    if (data != NULL && !slm_pg_tuning_resume(t->tuning, data, bytes, &reason)) {
        pfree(data);
        data = NULL;
    }
    if (data == NULL && reason != NULL)
        ereport(LOG, (errmsg("the checkpoint of fine-tuning \"%s\" is not used: %s", t->name, reason),
                      errdetail("The training begins again, and ends with the same result.")));
    if (data != NULL)
        pfree(data);
}

static void save(Turn *t)
{
    void *data = NULL;
    size_t bytes;

    slm_pg_tuning_save(t->tuning, &data, &bytes);
    PG_TRY();
    {
        slm_pg_tune_write(t->id, t->digest, data, bytes);
    }
    PG_FINALLY();
    {
        free(data);
    }
    PG_END_TRY();
}

/* As the owner. */
static void train(Turn *t)
{
    double cpu = slm_pg_cpu_seconds();

    if (t->begun)
        slm_pg_finetune_unpack(slm_pg_tuning_rows(t->tuning), t->rows);
    else if (!read_rows(t))
        return;
    slm_pg_tuning_begin(t->tuning);
    bind(t);
    go_on(t);
    t->work = GetCurrentTimestamp();
    t->ended = slm_pg_tuning_work(t->tuning, enough, t);
    t->seconds += slm_pg_seconds_since(t->begin);
    t->cpu += slm_pg_cpu_seconds() - cpu;
    if (t->ended)
        t->version = slm_pg_tuning_keep(t->tuning, t->seconds, t->cpu, &t->active);
    else
        save(t);
}

static void train_as_owner(Turn *t)
{
    SlmAs saved;

    slm_pg_as(&saved, t->owner, t->path);
    (void) set_config_option("slm.train_memory", psprintf("%d", t->memory_kb), PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    slm_pg_check_may_load_by(t->function, "fine-tune a model", false);
    t->tuning = slm_pg_tuning_new(t->name, t->base, t->query, t->options);
    slm_pg_finetune_refuse_teacher(slm_pg_tuning_rows(t->tuning));
    slm_pg_store_make_directory();
    slm_pg_loading_begin(t->name);
    PG_TRY();
    {
        train(t);
    }
    PG_FINALLY();
    {
        slm_pg_loading_end();
    }
    PG_END_TRY();
    slm_pg_as_end(&saved);
}

/* ---------------------------------------------------------------- noting */

static char *progress_of(const Turn *t)
{
    const slm_finetune_report *r = slm_pg_tuning_report(t->tuning);
    StringInfoData out;

    initStringInfo(&out);
    appendStringInfo(&out, "{\"step\": %u, \"steps\": %u", r->n_steps, r->n_planned);
    if (r->n_steps > 0)
        appendStringInfo(&out, ", \"loss\": %.6g", r->points[r->n_steps - 1].loss);
    if (!isnan(r->after.loss))
        appendStringInfo(&out, ", \"held_out_loss\": %.6g", r->after.loss);
    appendStringInfoChar(&out, '}');
    return out.data;
}

/* The query was looked at and has too few new rows. */
static void note_look(const Turn *t)
{
    slm_pg_spi(psprintf("UPDATE slm.tune_job j SET tries = 0, failures = 0, error = NULL, new_rows = " INT64_FORMAT ","
                        " not_before = clock_timestamp() + j.check_every WHERE j.id = %d",
                        t->new_rows, t->id),
               SPI_OK_UPDATE);
}

static void note_turn(const Turn *t)
{
    static const Oid types[] = {JSONBOID, BYTEAOID, BYTEAOID, FLOAT8OID, FLOAT8OID, INT4OID, INT4OID, BOOLOID, INT8OID};
    Datum values[] = {DirectFunctionCall1(jsonb_in, CStringGetDatum(progress_of(t))),
                      PointerGetDatum(t->rows),
                      PointerGetDatum(t->known),
                      Float8GetDatum(t->seconds),
                      Float8GetDatum(t->cpu),
                      Int32GetDatum(t->run),
                      Int32GetDatum(t->version),
                      BoolGetDatum(t->active),
                      Int64GetDatum(t->new_rows)};
    char nulls[lengthof(types) + 1] = "         ";

    if (t->begun || t->ended)
        nulls[1] = 'n';
    if (t->begun)
        nulls[2] = 'n';
    if (!t->ended)
        nulls[6] = nulls[7] = 'n';
    if (t->new_rows < 0)
        nulls[8] = 'n';
    slm_pg_spi_with(psprintf("UPDATE slm.tune_job j SET tries = 0, failures = 0, error = NULL, progress = $1,"
                             " rows = CASE WHEN %s THEN NULL ELSE COALESCE($2, j.rows) END, known = COALESCE($3, j.known), seconds = $4,"
                             " cpu_seconds = $5, runs = $6, version = COALESCE($7, j.version), activated = COALESCE($8, j.activated),"
                             " new_rows = COALESCE($9, j.new_rows), stage = '%s',"
                             " not_before = CASE WHEN %s THEN clock_timestamp() + j.check_every ELSE '-infinity' END WHERE j.id = %d",
                             t->ended ? "true" : "false", t->ended ? "trained" : "training", t->ended ? "true" : "false", t->id),
                    lengthof(types), types, values, nulls, SPI_OK_UPDATE);
    if (t->ended)
        slm_pg_spi(psprintf("SELECT pg_notify(left('slm_finetune_' || j.name, 63), j.version::text) FROM slm.tune_job j WHERE j.id = %d",
                            t->id),
                   SPI_OK_SELECT);
}

/* Within the time limit of a batch, which is longer than a turn takes but for its query. */
static void run(Turn *t)
{
    MemoryContext context = CurrentMemoryContext;

    PG_TRY();
    {
        slm_pg_deadline_begin();
        train_as_owner(t);
        slm_pg_deadline_end();
    }
    PG_CATCH();
    {
        slm_pg_deadline_end();
        MemoryContextSwitchTo(context);
        if (geterrcode() == ERRCODE_QUERY_CANCELED && slm_pg_deadline_passed()) {
            FlushErrorState();
            ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                            errmsg("a turn of fine-tuning \"%s\" took longer than %s", t->name, slm_pg_deadline_name())));
        }
        PG_RE_THROW();
    }
    PG_END_TRY();
}

char *slm_pg_tune_turn(int32 id, const volatile bool *wanted)
{
    char *file = slm_pg_tune_file(id);
    Turn *t = palloc0(sizeof *t);

    t->id = id;
    t->wanted = wanted;
    t->new_rows = -1;
    t->begin = GetCurrentTimestamp();
    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    PG_TRY();
    {
        if (read_turn(t)) {
            run(t);
            if (t->work == 0)
                note_look(t);
            else
                note_turn(t);
        }
    }
    PG_FINALLY();
    {
        if (t->tuning != NULL)
            slm_pg_tuning_free(t->tuning);
    }
    PG_END_TRY();
    SPI_finish();
    return t->ended ? file : NULL;
}
