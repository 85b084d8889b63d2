/*
 * Fine-tunings in the background for their owners: slm_create_finetune, slm_pause_finetune, slm_resume_finetune, slm_drop_finetune.
 *
 * What a turn would refuse is refused here already, as far as it can be told without reading the rows.
 */
#include "pg/jobs/tune.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "pg/base/args.h"
#include "pg/base/as_owner.h"
#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/base/guc.h"
#include "pg/functions/finetune.h"
#include "pg/jobs/admin.h"
#include "pg/jobs/jobs.h"
#include "pg/jobs/wake.h"
#include "pg/jobs/workers.h"
#include "pg/models/load.h"

#define POLL_MS 100
#define MOST_POLLS 100 /* after which the lock is waited for as any other */

PG_FUNCTION_INFO_V1(slm_pg_create_finetune);
PG_FUNCTION_INFO_V1(slm_pg_pause_finetune);
PG_FUNCTION_INFO_V1(slm_pg_resume_finetune);
PG_FUNCTION_INFO_V1(slm_pg_drop_finetune);

/* ---------------------------------------------------------------- options */

typedef struct JobOptions {
    Jsonb *rest; /* the fine-tuning's own */
    int64 retrain_rows; /* 0: not given */
    Interval *check_every;  /* NULL: not given */
    int checkpoint_seconds; /* 0: not given */
    bool paused;
} JobOptions;

static int64 whole_number(const char *key, const JsonbValue *value, int64 least, int64 most)
{
    return (int64) slm_pg_option_number(key, value, (double) least, (double) most, true, psprintf("For example {\"%s\": 10}.", key));
}

static Interval *interval_of(const char *key, const JsonbValue *value)
{
    Interval *result, least = {.time = USECS_PER_SEC};

    if (value->type != jbvString)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"%s\" must be a string", key),
                        errhint("For example {\"check_every\": \"1 hour\"}.")));
    result = DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(pnstrdup(value->val.string.val, value->val.string.len)),
                                                   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
    if (DatumGetBool(DirectFunctionCall2(interval_lt, IntervalPGetDatum(result), IntervalPGetDatum(&least))))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"%s\" is shorter than a second", key)));
    return result;
}

/* Takes the job's own options out of the object. */
static void read_options(Jsonb *json, JobOptions *out)
{
    static const char *const own[] = {"retrain_rows", "check_every", "checkpoint_seconds", "paused"};

    *out = (JobOptions){.rest = json};
    if (!JB_ROOT_IS_OBJECT(json))
        return; /* slm_pg_finetune_options says it */
    for (int i = 0; i < (int) lengthof(own); i++) {
        JsonbValue key = {.type = jbvString}, *value;

        key.val.string.val = unconstify(char *, own[i]);
        key.val.string.len = (int) strlen(own[i]);
        value = findJsonbValueFromContainer(&json->root, JB_FOBJECT, &key);
        if (value == NULL)
            continue;
        out->rest = DatumGetJsonbP(DirectFunctionCall2(jsonb_delete, JsonbPGetDatum(out->rest), CStringGetTextDatum(own[i])));
        if (value->type == jbvNull)
            continue;
        if (i == 0)
            out->retrain_rows = whole_number(own[i], value, 1, INT64CONST(1000000000));
        else if (i == 1)
            out->check_every = interval_of(own[i], value);
        else if (i == 2)
            out->checkpoint_seconds = (int) whole_number(own[i], value, 1, 60);
        else if (value->type == jbvBool)
            out->paused = value->val.boolean;
        else
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"paused\" must be true or false")));
    }
}

/* ---------------------------------------------------------------- creation */

/* Refuses what a turn would; the rows are not read. */
static void check(const char *name, const char *base, const char *query, Jsonb *options)
{
    SlmTuning *tuning = slm_pg_tuning_new(name, base, query, options);

    slm_pg_finetune_refuse_teacher(slm_pg_tuning_rows(tuning));
    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    slm_pg_finetune_check_query(slm_pg_tuning_rows(tuning), query);
    SPI_finish();
    slm_pg_tuning_free(tuning);
}

static int32 insert(const char *name, const char *base, const char *query, const JobOptions *options, const char *path)
{
    static const Oid types[] = {TEXTOID, OIDOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID, INT4OID, INT8OID, INTERVALOID, INT4OID, BOOLOID};
    Datum values[] = {CStringGetTextDatum(name),
                      ObjectIdGetDatum(GetUserId()),
                      CStringGetTextDatum(base),
                      CStringGetTextDatum(query),
                      JsonbPGetDatum(options->rest),
                      CStringGetTextDatum(path),
                      Int32GetDatum(slm_guc_train_memory_kb),
                      Int64GetDatum(options->retrain_rows),
                      IntervalPGetDatum(options->check_every),
                      Int32GetDatum(options->checkpoint_seconds),
                      BoolGetDatum(options->paused)};
    char nulls[lengthof(types) + 1] = "           ";
    SlmAs saved;
    int32 id;

    nulls[7] = options->retrain_rows == 0 ? 'n' : ' ';
    nulls[8] = options->check_every == NULL ? 'n' : ' ';
    nulls[9] = options->checkpoint_seconds == 0 ? 'n' : ' ';
    slm_pg_as_extension(&saved);
    slm_pg_spi_with("INSERT INTO slm.tune_job (name, owner, base, query, options, search_path, memory_kb, retrain_rows, check_every,"
                    " checkpoint_seconds, paused)"
                    " VALUES ($1, $2::regrole, $3, $4, $5, $6, $7, $8, COALESCE($9, interval '10 min'), COALESCE($10, 30), $11)"
                    " ON CONFLICT (name) DO NOTHING RETURNING id",
                    lengthof(types), types, values, nulls, SPI_OK_INSERT_RETURNING);
    if (SPI_processed == 0)
        ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("a fine-tuning \"%s\" runs in the background already", name),
                        errhint("slm_drop_finetune ends it; what it has made stays.")));
    id = DatumGetInt32(slm_pg_job_datum(1, INT4OID));
    slm_pg_as_end(&saved);
    return id;
}

/* slm_create_finetune(name text, base_model text, query text, options jsonb) -> text */
Datum slm_pg_create_finetune(PG_FUNCTION_ARGS)
{
    char *name = slm_pg_name_argument(fcinfo, 0, "the name of an adapter"),
         *base = slm_pg_name_argument(fcinfo, 1, "the name of its model"),
         *query = slm_pg_name_argument(fcinfo, 2, "the query of a fine-tuning");
    char *path = slm_pg_current_path();
    JobOptions options;

    slm_pg_check_may_load(fcinfo, "fine-tune a model", false);
    slm_pg_refuse_read_only("slm_create_finetune()");
    read_options(PG_ARGISNULL(3) ? slm_pg_no_options() : PG_GETARG_JSONB_P(3), &options);
    check(name, base, query, options.rest);
    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    slm_pg_tune_remove(slm_pg_tune_file(insert(name, base, query, &options, path))); /* of another of this number */
    SPI_finish();
    slm_pg_job_wake_at_commit();
    if (slm_pg_jobs_shared == NULL)
        ereport(NOTICE, (errmsg("fine-tuning \"%s\" has no background worker", name),
                         errhint("Add slm_pg to shared_preload_libraries and restart the server, or call slm_finetune, which trains in the "
                                 "session.")));
    PG_RETURN_TEXT_P(cstring_to_text(name));
}

/* ---------------------------------------------------------------- pause, resume, drop */

/* The fine-tuning of this name; ERROR where there is none whose owner's rights the caller has. */
static int32 find(const char *name)
{
    int32 id = slm_pg_job_find("SELECT j.id, j.owner::oid FROM slm.tune_job j WHERE j.name = $1", name);

    if (id == 0)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("fine-tuning \"%s\" does not exist in the background", name),
                        errhint("SELECT name FROM slm.finetune_jobs lists those that you may change.")));
    return id;
}

/* Runs one statement on the caller's own fine-tuning, as the extension; its id. */
static int32 change(FunctionCallInfo fcinfo, const char *function, const char *assignments)
{
    char *name = slm_pg_name_argument(fcinfo, 0, "the name of a fine-tuning");
    SlmAs saved;
    int32 id;

    slm_pg_refuse_read_only(function);
    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    id = find(name);
    slm_pg_as_extension(&saved);
    slm_pg_spi(psprintf("UPDATE slm.tune_job j SET %s WHERE j.id = %d", assignments, id), SPI_OK_UPDATE);
    slm_pg_as_end(&saved);
    SPI_finish();
    return id;
}

/* slm_pause_finetune(name text) */
Datum slm_pg_pause_finetune(PG_FUNCTION_ARGS)
{
    slm_pg_job_stop_at_commit(SLM_TUNE_SLOT(change(fcinfo, "slm_pause_finetune()", "paused = true")));
    PG_RETURN_VOID();
}

/* slm_resume_finetune(name text) */
Datum slm_pg_resume_finetune(PG_FUNCTION_ARGS)
{
    (void) change(fcinfo, "slm_resume_finetune()", "paused = false, not_before = '-infinity', tries = 0, failures = 0, error = NULL");
    slm_pg_job_wake_at_commit();
    PG_RETURN_VOID();
}

/* Locks the row against turns, cancelling the one that is under way. */
static void lock_against_turns(int32 id)
{
    for (int polls = 0;; polls++) {
        slm_pg_spi(psprintf("SELECT FROM slm.tune_job j WHERE j.id = %d FOR UPDATE%s", id, polls < MOST_POLLS ? " SKIP LOCKED" : ""),
                   SPI_OK_SELECT);
        if (SPI_processed > 0 || polls >= MOST_POLLS)
            return;
        slm_pg_job_stop_now(SLM_TUNE_SLOT(id));
        (void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, POLL_MS, PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
}

/* slm_drop_finetune(name text) */
Datum slm_pg_drop_finetune(PG_FUNCTION_ARGS)
{
    char *name = slm_pg_name_argument(fcinfo, 0, "the name of a fine-tuning");
    SlmAs saved;
    int32 id;

    slm_pg_refuse_read_only("slm_drop_finetune()");
    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    id = find(name);
    slm_pg_as_extension(&saved);
    lock_against_turns(id);
    slm_pg_spi(psprintf("DELETE FROM slm.tune_job j WHERE j.id = %d", id), SPI_OK_DELETE);
    slm_pg_as_end(&saved);
    SPI_finish();
    slm_pg_tune_remove(slm_pg_tune_file(id)); /* a drop that is undone loses time, no more */
    PG_RETURN_VOID();
}
