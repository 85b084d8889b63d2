/*
 * calibrate.c: slm_calibrate: learns how the probabilities of a model are to be corrected, from rows whose answer is known.
 *
 *   query ──a probability of every option for each row──► p [rows, options], truth ──► temperature, or rising line ──► registry
 *
 *   classify  (text, label)                 slm_classify_scores_json
 *   filter    (text, condition, boolean)    slm_filter_details: also yes or no of slm_decide
 *   decide    (text, question, answer)      slm_decide: choices and scales
 *
 * What is shown, and what decides between a temperature and a line, is measured on rows that were held out: FOLDS times a part is
 * corrected by what the others have taught.  A line has many numbers to learn, so it needs LINE_ROWS rows and an advantage.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "engine/metrics/metrics.h"
#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/earlier.h"
#include "pg/base/errors.h"
#include "pg/functions/asking.h"
#include "pg/functions/calibration.h"
#include "pg/functions/classification.h"
#include "pg/functions/joint.h"
#include "pg/measure/answers.h"
#include "pg/models/calibration_rows.h"
#include "pg/models/catalog.h"
#include "pg/models/load.h"
#include "pg/run/opened.h"
#include "pg/run/use.h"

PG_FUNCTION_INFO_V1(slm_pg_calibrate);

#define FOLDS 5
#define LEAST_ROWS 50
#define LINE_ROWS 500
#define ADVANTAGE 0.99 /* of the Brier score */

enum { C_MODEL, C_QUERY, C_KIND, C_LABELS, C_METHOD, C_INSTRUCTION, C_DESCRIPTIONS };
enum { R_VERSION, R_OPTIONS, R_ROWS, R_ACCURACY, R_TEMPERATURE, R_ECE, R_ECE_AFTER, R_LOSS, R_LOSS_AFTER, R_COLUMNS };
typedef enum Kind { CLASSIFY, FILTER, DECIDE } Kind;

/* A way to correct, with what it makes of rows that it has not seen. */
typedef struct Way {
    double *confidence; /* [n] of the answer */
    bool *right;        /* [n] */
    double loss, brier, ece;
} Way;

typedef struct Learning {
    Kind kind;
    const char *model, *method, *query;
    char key[SLM_KEY_SIZE];
    Oid schema;
    bool head;
    int64 n;
    int k;
    double *p;      /* [n, k] */
    int32_t *truth; /* [n] */
    int64 strangers; /* rows left out, as their answer is no option */
    Way ways[3];    /* as it is, by a temperature, by a line */
} Learning;

enum { RAW, TEMPERED, RISEN };

static const char *const kinds[] = {"classify", "filter", "decide"};
static const char *const examples[] = {"SELECT body, label FROM tickets WHERE label IS NOT NULL",
                                       "SELECT body, 'asks for a refund', wants_refund FROM tickets",
                                       "SELECT body, '{\"type\": \"choice\", \"choices\": [\"low\", \"high\"]}', urgency FROM tickets"};

/* ---- asking */

static void add_argument(StringInfo call, FunctionCallInfo fcinfo, int i, const char *name)
{
    Oid type = get_fn_expr_argtype(fcinfo->flinfo, i), output;
    bool varlena;

    if (PG_ARGISNULL(i))
        return;
    getTypeOutputInfo(type, &output, &varlena);
    appendStringInfo(call, ", %s => %s::pg_catalog.%s", name, quote_literal_cstr(OidOutputFunctionCall(output, PG_GETARG_DATUM(i))),
                     type == TEXTARRAYOID ? "text[]" : type == JSONBOID ? "jsonb" : "text");
}

/* What gives the probabilities, over the columns input and asked. */
static const char *expression_of(const Learning *l, FunctionCallInfo fcinfo)
{
    const char *schema = quote_identifier(get_namespace_name(l->schema));
    StringInfoData call;

    initStringInfo(&call);
    if (l->kind == CLASSIFY)
        appendStringInfo(&call, "%s.slm_classify_scores_json(input", schema);
    else if (l->kind == FILTER)
        appendStringInfo(&call, "(%s.slm_filter_details(asked, input", schema);
    else
        appendStringInfo(&call, "%s.slm_decide(input, pg_catalog.jsonb_build_object('q', asked::pg_catalog.jsonb)", schema);
    appendStringInfo(&call, ", model => %s", quote_literal_cstr(l->model));
    if (!l->head) {
        appendStringInfo(&call, ", method => %s", quote_literal_cstr(l->method));
        add_argument(&call, fcinfo, C_INSTRUCTION, "instruction");
    }
    if (l->kind == CLASSIFY) {
        add_argument(&call, fcinfo, C_LABELS, "labels");
        add_argument(&call, fcinfo, C_DESCRIPTIONS, "descriptions");
    }
    appendStringInfoString(&call, l->kind == FILTER ? ")).probability" : ")");
    return call.data;
}

/* The query with its columns by their names here. */
static const char *query_of(const Learning *l)
{
    const char *query = slm_pg_trimmed(l->query), **names;
    MemoryContext keep = CurrentMemoryContext;
    int wanted = l->kind == CLASSIFY ? 2 : 3;
    TupleDesc desc;
    char *result;

    SPI_connect();
    desc = slm_pg_look_at_query(query, 1);
    if (desc->natts != wanted)
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("the query gives %d columns, but kind \"%s\" takes %d", desc->natts, kinds[l->kind], wanted),
                        errhint("For example: %s", examples[l->kind])));
    names = slm_pg_query_columns(desc);
    result = psprintf("SELECT q.%s::pg_catalog.text AS input, q.%s::pg_catalog.text AS expected, q.%s::pg_catalog.text AS asked"
                      " FROM (%s\n) AS q (%s)",
                      names[0], names[wanted - 1], names[wanted - 2], query, slm_pg_joined(names, desc->natts));
    result = MemoryContextStrdup(keep, result);
    SPI_finish();
    MemoryContextSwitchTo(keep);
    return result;
}

/* ---- what came */

static double number_of(const JsonbValue *value)
{
    if (value->type != jbvNumeric)
        return NAN;
    return DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(value->val.numeric)));
}

/* The object of options and their probabilities in an answer. */
static JsonbContainer *options_in(const Learning *l, Jsonb *answer)
{
    JsonbValue *value, key = {.type = jbvString};
    JsonbContainer *at = &answer->root;

    for (int i = 0; i < (l->kind == DECIDE ? 2 : 0); i++) {
        key.val.string.val = pstrdup(i == 0 ? "q" : "probabilities");
        key.val.string.len = (int) strlen(key.val.string.val);
        value = findJsonbValueFromContainer(at, JB_FOBJECT, &key);
        if (value == NULL || value->type != jbvBinary)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a question is answered by yes or no"),
                            errhint("Calibrate those by kind => 'filter': %s", examples[FILTER])));
        at = value->val.binary.data;
    }
    return at;
}

/* Puts a row's options into p [k]; the number of the one that is expected, -1: none. */
static int read_options(const Learning *l, JsonbContainer *options, const char *expected, double *p)
{
    JsonbIterator *it = JsonbIteratorInit(options);
    JsonbValue key, value;
    int i = 0, truth = -1;

    (void) JsonbIteratorNext(&it, &key, true);
    while (JsonbIteratorNext(&it, &key, true) == WJB_KEY && i < l->k) {
        (void) JsonbIteratorNext(&it, &value, true);
        if ((Size) key.val.string.len == strlen(expected) && memcmp(key.val.string.val, expected, strlen(expected)) == 0)
            truth = i;
        p[i++] = number_of(&value);
    }
    return truth;
}

static int read_yes_no(const char *given, const char *expected, double *p)
{
    bool yes;

    if (!parse_bool(expected, &yes))
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("what is expected of a condition is true or false, not \"%s\"", expected),
                        errhint("For example: %s", examples[FILTER])));
    p[0] = DatumGetFloat8(DirectFunctionCall1(float8in, CStringGetDatum(given)));
    p[1] = 1 - p[0];
    return yes ? 0 : 1;
}

static void read_answers(Learning *l, const SlmAnswers *answers)
{
    MemoryContext row = AllocSetContextCreate(CurrentMemoryContext, "slm calibrated row", ALLOCSET_DEFAULT_SIZES);

    for (int64 i = 0; i < answers->n; i++) {
        MemoryContext old = MemoryContextSwitchTo(row);
        JsonbContainer *options = NULL;
        int n = 2;

        if (answers->given[i] != NULL && l->kind != FILTER) {
            options = options_in(l, DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(answers->given[i]))));
            n = (int) JsonContainerSize(options);
        }
        MemoryContextSwitchTo(old);
        if (answers->given[i] != NULL && l->p == NULL) {
            l->k = n;
            l->p = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(double) * (Size) answers->n * (Size) n);
            l->truth = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int32_t) * (Size) answers->n);
        }
        if (answers->given[i] != NULL && n != l->k)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("one question has %d options, another one %d", l->k, n),
                            errhint("Calibrate them one by one: each number of options has a calibration of its own.")));
        if (answers->given[i] != NULL) {
            double *p = l->p + l->n * l->k;
            int truth = l->kind == FILTER ? read_yes_no(answers->given[i], answers->expected[i], p)
                                          : read_options(l, options, answers->expected[i], p);

            if (truth >= 0)
                l->truth[l->n++] = truth;
            else
                l->strangers++;
        }
        MemoryContextReset(row);
        if (i % 1024 == 0)
            CHECK_FOR_INTERRUPTS();
    }
    MemoryContextDelete(row);
}

/* ---- learning */

/* What all rows teach but those of a fold (-1: all rows). */
static void learn(const Learning *l, int way, int fold, SlmCalibrationRow *out)
{
    double *p = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(double) * (Size) l->n * (Size) l->k);
    int32_t *truth = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int32_t) * (Size) l->n);
    bool *right = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(bool) * (Size) l->n);
    slm_isotonic *line = palloc0(sizeof *line);
    slm_error err;
    size_t n = 0;

    *out = (SlmCalibrationRow){0};
    for (int64 i = 0; i < l->n; i++) {
        const double *row = l->p + i * l->k;
        int best = 0;

        if (i % FOLDS == fold)
            continue;
        for (int c = 1; c < l->k && l->kind != FILTER; c++)
            best = row[c] > row[best] ? c : best;
        if (way == TEMPERED)
            memcpy(p + n * (Size) l->k, row, sizeof(double) * (Size) l->k);
        else
            p[n] = row[best];
        right[n] = l->truth[i] == best;
        truth[n++] = l->truth[i];
    }
    if ((way == TEMPERED ? slm_calibration_temperature(p, truth, n, (uint32_t) l->k, &out->temperature, &err)
                         : slm_calibration_isotonic(p, right, n, line, &err)) != SLM_OK)
        slm_pg_error(&err, NULL);
    out->n = line->n;
    out->from = line->from;
    out->to = line->to;
    pfree(p);
    pfree(truth);
    pfree(right);
}

/* Corrects the rows of a fold and notes what comes out. */
static void try_fold(const Learning *l, Way *w, const SlmCalibrationRow *calibration, int fold, double *corrected)
{
    for (int64 i = fold; i < l->n; i += FOLDS) {
        int best = 0;

        memcpy(corrected, l->p + i * l->k, sizeof(double) * (Size) l->k);
        slm_pg_calibrate_probabilities(calibration, l->kind == FILTER, corrected, l->k);
        for (int c = 1; c < l->k; c++)
            best = corrected[c] > corrected[best] ? c : best;
        w->confidence[i] = Max(0, Min(corrected[best], 1));
        w->right[i] = best == l->truth[i];
        w->loss -= log(Max(corrected[l->truth[i]], 1e-15));
        w->brier += (w->confidence[i] - w->right[i]) * (w->confidence[i] - w->right[i]);
    }
}

static void try_way(Learning *l, int way)
{
    Way *w = &l->ways[way];
    double *corrected = palloc(sizeof(double) * (Size) l->k);
    slm_calibration_bin bins[SLM_ECE_BINS];

    w->confidence = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(double) * (Size) l->n);
    w->right = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(bool) * (Size) l->n);
    for (int fold = 0; fold < FOLDS; fold++) {
        SlmCalibrationRow calibration;

        if (way != RAW)
            learn(l, way, fold, &calibration);
        try_fold(l, w, way == RAW ? NULL : &calibration, fold, corrected);
        CHECK_FOR_INTERRUPTS();
    }
    w->loss /= (double) l->n;
    w->brier /= (double) l->n;
    w->ece = slm_metrics_ece(w->confidence, w->right, (size_t) l->n, bins);
}

/* The way to take; RAW where none is better. */
static int choose(Learning *l)
{
    int best = TEMPERED;

    try_way(l, RAW);
    try_way(l, TEMPERED);
    if (l->n >= LINE_ROWS) {
        try_way(l, RISEN);
        if (l->ways[RISEN].brier < ADVANTAGE * l->ways[TEMPERED].brier)
            best = RISEN;
    }
    return l->ways[best].brier < l->ways[RAW].brier ? best : RAW;
}

/* ---- slm_calibrate */

static void read_call(Learning *l, FunctionCallInfo fcinfo)
{
    const char *kind = PG_ARGISNULL(C_KIND) ? "classify" : text_to_cstring(PG_GETARG_TEXT_PP(C_KIND));
    const slm_model_info *info;
    SlmOpenModel *entry;
    const char *beside;

    l->kind = CLASSIFY;
    while (l->kind <= DECIDE && strcmp(kinds[l->kind], kind) != 0)
        l->kind++;
    if (l->kind > DECIDE)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown kind of question \"%s\"", kind),
                        errhint("The kinds are classify, filter and decide.")));
    if (slm_pg_owned_model(l->model)->base[0] != '\0')
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is an adapter", l->model),
                        errhint("Models are calibrated, not their adapters.")));
    entry = slm_pg_use_model(cstring_to_text(l->model), SLM_TASK_CLASSIFY);
    info = slm_pg_info(entry);
    strlcpy(l->key, slm_pg_opened_key(entry), sizeof l->key);
    l->head = l->kind == CLASSIFY && PG_ARGISNULL(C_LABELS) && PG_ARGISNULL(C_DESCRIPTIONS);
    if (l->head && !info->can_classify)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("no labels are given"),
                        errhint("The labels to choose from: labels => ARRAY['billing', 'delivery'], or descriptions => "
                                "'{\"billing\": ...}'.")));
    beside = slm_pg_beside_method(entry);
    l->method = PG_ARGISNULL(C_METHOD) ? "auto" : text_to_cstring(PG_GETARG_TEXT_PP(C_METHOD));
    if (strcmp(l->method, "auto") == 0)
        l->method = l->head                       ? "head"
                    : beside != NULL ? beside
                    : l->kind == CLASSIFY ? slm_pg_auto_method(info->can_generate, info->n_parameters)
                                          : slm_pg_decision_method(info->can_generate, info->n_parameters);
}

static void ask(Learning *l, FunctionCallInfo fcinfo)
{
    SlmCandidate candidate = {.schema = l->schema, .name = "the model", .expression = expression_of(l, fcinfo)};
    int level = slm_pg_uncalibrated();
    SlmAnswers answers;

    slm_pg_gather_answers(query_of(l), &candidate, &answers);
    AtEOXact_GUC(true, level);
    read_answers(l, &answers);
    if (l->n < LEAST_ROWS)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("%ld rows are too few to calibrate by: at least %d are needed", (long) l->n, LEAST_ROWS),
                        l->strangers > 0 ? errdetail("%ld rows were left out, as what they expect is none of the options.",
                                                     (long) l->strangers) : 0,
                        errhint("Give rows whose answer is known: %s", examples[l->kind])));
}

static int store(const Learning *l, int way, const SlmCalibrationRow *row, double accuracy)
{
    SlmNewCalibration new = {.model = l->model, .key = l->key, .kind = kinds[l->kind], .method = l->method, .query = l->query,
                             .options = l->k, .row = *row, .rows = l->n,
                             .figures = {accuracy, l->ways[RAW].ece, l->ways[way].ece, l->ways[RAW].loss, l->ways[way].loss}};

    return slm_pg_store_calibration(&new);
}

static double accuracy_of(const Learning *l)
{
    int64 right = 0;

    for (int64 i = 0; i < l->n; i++)
        right += l->ways[RAW].right[i];
    return (double) right / (double) l->n;
}

Datum slm_pg_calibrate(PG_FUNCTION_ARGS)
{
    Learning *l = palloc0(sizeof *l);
    Datum values[R_COLUMNS];
    bool nulls[R_COLUMNS] = {false};
    SlmCalibrationRow row = {0};
    TupleDesc desc;
    int way;

    if (PG_ARGISNULL(C_MODEL) || PG_ARGISNULL(C_QUERY))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("model and query must not be null")));
    if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    slm_pg_refuse_read_only("slm_calibrate()");
    l->model = text_to_cstring(PG_GETARG_TEXT_PP(C_MODEL));
    l->query = text_to_cstring(PG_GETARG_TEXT_PP(C_QUERY));
    l->schema = get_func_namespace(fcinfo->flinfo->fn_oid);
    read_call(l, fcinfo);
    ask(l, fcinfo);
    way = choose(l);
    nulls[R_VERSION] = way == RAW;
    nulls[R_TEMPERATURE] = way != TEMPERED;
    if (way == RAW) {
        ereport(NOTICE, (errmsg("model \"%s\" is as sure as it is right: nothing was changed", l->model),
                         errdetail("On held-out rows no correction made its probabilities better.")));
    } else {
        learn(l, way, -1, &row);
        values[R_VERSION] = Int32GetDatum(store(l, way, &row, accuracy_of(l)));
    }
    values[R_OPTIONS] = Int32GetDatum(l->k);
    values[R_ROWS] = Int64GetDatum(l->n);
    values[R_ACCURACY] = Float8GetDatum(accuracy_of(l));
    values[R_TEMPERATURE] = Float8GetDatum(row.temperature);
    values[R_ECE] = Float8GetDatum(l->ways[RAW].ece);
    values[R_ECE_AFTER] = Float8GetDatum(l->ways[way].ece);
    values[R_LOSS] = Float8GetDatum(l->ways[RAW].loss);
    values[R_LOSS_AFTER] = Float8GetDatum(l->ways[way].loss);
    return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}
