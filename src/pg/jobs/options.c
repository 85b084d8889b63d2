/*
 * The options of slm_create_job and slm_alter_job: a JSON object whose values are read as their type reads text.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "pg/jobs/admin.h"

const Oid slm_pg_job_option_types[SLM_JOB_OPTION_VALUES] = {BOOLOID, INT4OID, INT4OID, INTERVALOID, TEXTOID, BOOLOID};

/* The text of a scalar, as ->> gives it; NULL for null. */
static char *scalar_text(const char *name, JsonbValue *value)
{
    switch (value->type) {
    case jbvNull:
        return NULL;
    case jbvString:
        return pnstrdup(value->val.string.val, value->val.string.len);
    case jbvNumeric:
        return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
    case jbvBool:
        return pstrdup(value->val.boolean ? "true" : "false");
    default:
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"%s\" of a job is an object or an array", name),
                        errhint("Give a string, a number or a boolean.")));
    }
}

static int number_between(const char *name, const char *text, int low, int high)
{
    int value = pg_strtoint32(text);

    if (value < low || value > high)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("option \"%s\" of a job is %d, outside of %d to %d", name, value, low, high)));
    return value;
}

static int boolean(const char *text)
{
    return DatumGetBool(DirectFunctionCall1(boolin, CStringGetDatum(text))) ? 1 : 0;
}

static Interval *delay(const char *text)
{
    Interval *result = DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid),
                                                             Int32GetDatum(-1)));
    Interval zero = {0};

    if (DatumGetBool(DirectFunctionCall2(interval_lt, IntervalPGetDatum(result), IntervalPGetDatum(&zero))))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"retry_delay\" of a job is negative: %s", text)));
    return result;
}

static const char *backfill(const char *text)
{
    if (strcmp(text, "oldest") != 0 && strcmp(text, "newest") != 0 && strcmp(text, "none") != 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"backfill\" of a job is \"%s\"", text),
                        errhint("It is oldest, newest or none.")));
    return text;
}

static void unknown(const char *name, bool alter)
{
    if (alter)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option '%s' cannot be altered", name),
                        errhint("Options are overwrite, batch_size, max_attempts, retry_delay, backfill, owner. For another target, create "
                                "another job.")));
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown job option '%s'", name),
                    errhint("Options are target, overwrite, batch_size, max_attempts, retry_delay, backfill (oldest, newest, none), "
                            "paused.")));
}

/* text NULL: the option is named and null, which is as if it were not. */
static void set_option(SlmJobOptions *out, const char *name, char *text, bool alter)
{
    if (strcmp(name, "overwrite") == 0)
        out->overwrite = text == NULL ? -1 : boolean(text);
    else if (strcmp(name, "batch_size") == 0)
        out->batch_size = text == NULL ? 0 : number_between(name, text, 1, 10000);
    else if (strcmp(name, "max_attempts") == 0)
        out->max_attempts = text == NULL ? 0 : number_between(name, text, 1, 100);
    else if (strcmp(name, "retry_delay") == 0)
        out->retry_delay = text == NULL ? NULL : delay(text);
    else if (strcmp(name, "backfill") == 0)
        out->backfill = text == NULL ? NULL : backfill(text);
    else if (alter && strcmp(name, "owner") == 0)
        out->owner = text == NULL ? InvalidOid : DatumGetObjectId(DirectFunctionCall1(regrolein, CStringGetDatum(text)));
    else if (!alter && strcmp(name, "target") == 0)
        out->target = text == NULL ? InvalidOid : DatumGetObjectId(DirectFunctionCall1(regclassin, CStringGetDatum(text)));
    else if (!alter && strcmp(name, "paused") == 0)
        out->paused = text == NULL ? -1 : boolean(text);
    else
        unknown(name, alter);
}

void slm_pg_job_options(SlmJobOptions *out, Jsonb *options, bool alter)
{
    JsonbIterator *iterator;
    JsonbIteratorToken token;
    JsonbValue value;
    char *name = NULL;

    *out = (SlmJobOptions){.overwrite = -1, .paused = -1};
    if (options == NULL)
        return;
    if (!JB_ROOT_IS_OBJECT(options))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the options of a job are not a JSON object"),
                        errhint("Write them as '{\"batch_size\": 64}'.")));
    iterator = JsonbIteratorInit(&options->root);
    while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE) {
        if (token == WJB_KEY)
            name = pnstrdup(value.val.string.val, value.val.string.len);
        else if (token == WJB_VALUE)
            set_option(out, name, scalar_text(name, &value), alter);
    }
}

void slm_pg_job_option_values(const SlmJobOptions *options, Datum *values, char *nulls)
{
    bool absent[SLM_JOB_OPTION_VALUES] = {options->overwrite < 0, options->batch_size == 0, options->max_attempts == 0,
                                          options->retry_delay == NULL, options->backfill == NULL, options->paused < 0};

    values[0] = BoolGetDatum(options->overwrite > 0);
    values[1] = Int32GetDatum(options->batch_size);
    values[2] = Int32GetDatum(options->max_attempts);
    values[3] = options->retry_delay == NULL ? (Datum) 0 : IntervalPGetDatum(options->retry_delay);
    values[4] = options->backfill == NULL ? (Datum) 0 : CStringGetTextDatum(options->backfill);
    values[5] = BoolGetDatum(options->paused > 0);
    for (int i = 0; i < SLM_JOB_OPTION_VALUES; i++)
        nulls[i] = absent[i] ? 'n' : ' ';
}
