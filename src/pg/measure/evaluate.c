/*
 * evaluate.c: slm_evaluate and slm_compare.
 *
 * Both run candidates over the rows of a query that gives an input and the expected value (answers.c) and say how good the answers are and
 * what they took.  What two candidates differ by is told from chance by McNemar's test on the rows that only one of them has right.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/base/errors.h"
#include "pg/base/guc.h"
#include "pg/measure/answers.h"

PG_FUNCTION_INFO_V1(slm_pg_evaluate);
PG_FUNCTION_INFO_V1(slm_pg_compare);

#define WORST_CONFUSIONS 10
#define NOISE 0.05 /* p-values above are within it */

/* ---- JSON */

static Datum finish_json(StringInfo json)
{
    return DirectFunctionCall1(jsonb_in, CStringGetDatum(json->data));
}

static void add_number(StringInfo json, const char *key, double value)
{
    if (isfinite(value))
        appendStringInfo(json, "\"%s\": %.6g", key, value);
    else
        appendStringInfo(json, "\"%s\": null", key);
}

static Datum labels_json(const SlmLabelFigures *f)
{
    StringInfoData json;

    initStringInfo(&json);
    appendStringInfoChar(&json, '[');
    for (int i = 0; i < f->n_labels; i++) {
        const slm_label_score *l = &f->labels[i];

        appendStringInfoString(&json, i > 0 ? ", {\"label\": " : "{\"label\": ");
        escape_json(&json, f->names[i]);
        appendStringInfo(&json, ", \"rows\": %zu, \"given\": %zu, ", l->support, l->predicted);
        add_number(&json, "precision", l->prf.precision);
        appendStringInfoString(&json, ", ");
        add_number(&json, "recall", l->prf.recall);
        appendStringInfoString(&json, ", ");
        add_number(&json, "f1", l->prf.f1);
        appendStringInfoChar(&json, '}');
    }
    appendStringInfoChar(&json, ']');
    return finish_json(&json);
}

typedef struct Confusion {
    int32 truth, given;
    int64 rows;
} Confusion;

static int by_pair(const void *a, const void *b)
{
    const Confusion *x = a, *y = b;

    return x->truth != y->truth ? (x->truth < y->truth ? -1 : 1) : x->given < y->given ? -1 : x->given > y->given;
}

static int by_rows(const void *a, const void *b)
{
    const Confusion *x = a, *y = b;

    return x->rows != y->rows ? (x->rows > y->rows ? -1 : 1) : by_pair(a, b);
}

/* The pairs of labels that are taken for one another most often. */
static Datum confusions_json(const SlmLabelFigures *f, int64 n)
{
    Confusion *wrong = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Confusion) * (Size) n);
    StringInfoData json;
    size_t n_wrong = 0, n_pairs = 0;

    for (int64 i = 0; i < n; i++)
        if (f->given[i] >= 0 && f->given[i] != f->truth[i])
            wrong[n_wrong++] = (Confusion){f->truth[i], f->given[i], 1};
    qsort(wrong, n_wrong, sizeof *wrong, by_pair);
    for (size_t i = 0; i < n_wrong; i++) {
        if (n_pairs > 0 && by_pair(&wrong[n_pairs - 1], &wrong[i]) == 0)
            wrong[n_pairs - 1].rows++;
        else
            wrong[n_pairs++] = wrong[i];
    }
    qsort(wrong, n_pairs, sizeof *wrong, by_rows);
    initStringInfo(&json);
    appendStringInfoChar(&json, '[');
    for (size_t i = 0; i < n_pairs && i < WORST_CONFUSIONS; i++) {
        appendStringInfoString(&json, i > 0 ? ", {\"expected\": " : "{\"expected\": ");
        escape_json(&json, f->names[wrong[i].truth]);
        appendStringInfoString(&json, ", \"given\": ");
        escape_json(&json, f->names[wrong[i].given]);
        appendStringInfo(&json, ", \"rows\": " INT64_FORMAT "}", wrong[i].rows);
    }
    appendStringInfoChar(&json, ']');
    pfree(wrong);
    return finish_json(&json);
}

static Datum calibration_json(const SlmLabelFigures *f)
{
    StringInfoData json;
    bool first = true;

    initStringInfo(&json);
    appendStringInfoChar(&json, '[');
    for (int b = 0; b < SLM_ECE_BINS; b++) {
        if (f->bins[b].n == 0)
            continue;
        appendStringInfo(&json, "%s{\"above\": %.4g, \"rows\": %zu, ", first ? "" : ", ", (double) b / SLM_ECE_BINS, f->bins[b].n);
        add_number(&json, "confidence", f->bins[b].confidence);
        appendStringInfoString(&json, ", ");
        add_number(&json, "accuracy", f->bins[b].accuracy);
        appendStringInfoChar(&json, '}');
        first = false;
    }
    appendStringInfoChar(&json, ']');
    return finish_json(&json);
}

/* What is answered, and how well, when answers of less confidence are left to somebody else. */
static Datum coverage_json(const SlmAnswers *answers, const SlmLabelFigures *f)
{
    static const double thresholds[] = {0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99};
    StringInfoData json;

    initStringInfo(&json);
    appendStringInfoChar(&json, '[');
    for (int t = 0; t < (int) lengthof(thresholds); t++) {
        size_t answered = 0, right = 0;
        double low, high;

        for (int64 i = 0; i < answers->n; i++)
            if (answers->confidence[i] >= thresholds[t]) {
                answered++;
                right += f->given[i] == f->truth[i];
            }
        slm_metrics_wilson(right, answered, 0.95, &low, &high);
        appendStringInfo(&json, "%s{\"threshold\": %g, \"rows\": %zu, ", t > 0 ? ", " : "", thresholds[t], answered);
        add_number(&json, "answered", (double) answered / (double) answers->n);
        appendStringInfoString(&json, ", ");
        add_number(&json, "accuracy", answered > 0 ? (double) right / (double) answered : NAN);
        appendStringInfo(&json, ", \"low\": %.4g, \"high\": %.4g}", low, high);
    }
    appendStringInfoChar(&json, ']');
    return finish_json(&json);
}

/* ---- cost */

/* Of a million rows on this machine, in the currency of slm.machine_cost_per_hour; NaN where that is not set. */
static double cost_per_million(const SlmAnswers *answers)
{
    if (slm_guc_machine_cost_per_hour <= 0)
        return NAN;
    return answers->cpu_seconds / (double) answers->n * 1e6 / 3600 * slm_guc_machine_cost_per_hour / slm_cpu_count();
}

/* ---- slm_evaluate(query, expression, classifier, kind) */

enum { E_ROWS, E_ANSWERED, E_ACCURACY, E_LOW, E_HIGH, E_MACRO_F1, E_WEIGHTED_F1, E_KAPPA, E_ECE, E_EXACT, E_TOKEN_F1, E_ROUGE_1, E_ROUGE_2,
       E_ROUGE_L, E_SECONDS, E_RATE, E_CPU, E_COST, E_LABELS, E_CONFUSIONS, E_CALIBRATION, E_COVERAGE, E_COLUMNS };

static void set_number(Datum *values, bool *nulls, int column, double value)
{
    values[column] = Float8GetDatum(value);
    nulls[column] = !isfinite(value);
}

static void set_labels(const SlmAnswers *answers, Datum *values, bool *nulls)
{
    SlmLabelFigures f;

    slm_pg_label_figures(answers, &f);
    values[E_ANSWERED] = Int64GetDatum((int64) f.all.answered);
    set_number(values, nulls, E_ACCURACY, f.all.accuracy);
    set_number(values, nulls, E_LOW, f.low);
    set_number(values, nulls, E_HIGH, f.high);
    set_number(values, nulls, E_MACRO_F1, f.all.macro.f1);
    set_number(values, nulls, E_WEIGHTED_F1, f.all.weighted.f1);
    set_number(values, nulls, E_KAPPA, f.all.kappa);
    values[E_LABELS] = labels_json(&f);
    values[E_CONFUSIONS] = confusions_json(&f, answers->n);
    nulls[E_LABELS] = nulls[E_CONFUSIONS] = false;
    if (!answers->has_confidence)
        return;
    set_number(values, nulls, E_ECE, f.ece);
    values[E_CALIBRATION] = calibration_json(&f);
    values[E_COVERAGE] = coverage_json(answers, &f);
    nulls[E_CALIBRATION] = nulls[E_COVERAGE] = false;
}

/* No answer is as a text without words. */
static void set_texts(const SlmAnswers *answers, bool stemmed, Datum *values, bool *nulls)
{
    double sums[5] = {0}; /* exact, token F1, ROUGE-1, 2, L */
    int64 answered = 0;
    size_t exact = 0;
    double low, high;

    for (int64 i = 0; i < answers->n; i++) {
        const char *expected = slm_pg_utf8_from_cstring(answers->expected[i]);
        const char *given = answers->given[i] == NULL ? "" : slm_pg_utf8_from_cstring(answers->given[i]);
        slm_rouge rouge;
        slm_error err;
        bool same;
        double f1;

        if (slm_metrics_rouge(expected, strlen(expected), given, strlen(given), stemmed, &rouge, &err) != SLM_OK ||
            slm_metrics_squad(expected, strlen(expected), given, strlen(given), &same, &f1, &err) != SLM_OK)
            slm_pg_error(&err, psprintf("could not measure row " INT64_FORMAT, i + 1));
        answered += answers->given[i] != NULL;
        exact += same;
        sums[1] += f1;
        sums[2] += rouge.rouge1.f1;
        sums[3] += rouge.rouge2.f1;
        sums[4] += rouge.rouge_l.f1;
        CHECK_FOR_INTERRUPTS();
    }
    values[E_ANSWERED] = Int64GetDatum(answered);
    slm_metrics_wilson(exact, (size_t) answers->n, 0.95, &low, &high);
    set_number(values, nulls, E_LOW, low);
    set_number(values, nulls, E_HIGH, high);
    sums[0] = (double) exact;
    for (int i = 0; i < 5; i++)
        set_number(values, nulls, E_EXACT + i, sums[i] / (double) answers->n);
}

static Oid own_schema(FunctionCallInfo fcinfo)
{
    return get_func_namespace(fcinfo->flinfo->fn_oid);
}

static char *string_arg(FunctionCallInfo fcinfo, int i)
{
    return PG_ARGISNULL(i) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(i));
}

static char *query_arg(FunctionCallInfo fcinfo, int i)
{
    if (PG_ARGISNULL(i))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the query to measure by must not be null"),
                        errhint("Give a SELECT of an input and the expected value: SELECT body, label FROM tickets")));
    return text_to_cstring(PG_GETARG_TEXT_PP(i));
}

Datum slm_pg_evaluate(PG_FUNCTION_ARGS)
{
    SlmCandidate candidate = {.schema = own_schema(fcinfo),
                              .name = "the expression",
                              .expression = string_arg(fcinfo, 1),
                              .classifier = string_arg(fcinfo, 2)};
    const char *kind = PG_ARGISNULL(3) ? "label" : text_to_cstring(PG_GETARG_TEXT_PP(3));
    bool stemmed = strcmp(kind, "stems") == 0, texts = stemmed || strcmp(kind, "text") == 0;
    Datum values[E_COLUMNS];
    bool nulls[E_COLUMNS];
    SlmAnswers answers;
    TupleDesc desc;

    if (!texts && strcmp(kind, "label") != 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown kind of answers \"%s\"", kind),
                        errhint("Use kind => 'label', kind => 'text', or, for English texts by stems of words, kind => 'stems'.")));
    if (candidate.expression != NULL && candidate.classifier != NULL)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("an expression and a classifier cannot both be measured"),
                        errhint("Use slm_compare for several candidates.")));
    if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "slm_evaluate must return a row");
    memset(nulls, true, sizeof nulls);
    slm_pg_gather_answers(query_arg(fcinfo, 0), &candidate, &answers);
    slm_pg_say_trained_on(&candidate, &answers);
    nulls[E_ROWS] = nulls[E_ANSWERED] = false;
    values[E_ROWS] = Int64GetDatum(answers.n);
    if (texts)
        set_texts(&answers, stemmed, values, nulls);
    else
        set_labels(&answers, values, nulls);
    set_number(values, nulls, E_SECONDS, answers.seconds);
    set_number(values, nulls, E_RATE, answers.seconds > 0 ? (double) answers.n / answers.seconds : NAN);
    set_number(values, nulls, E_CPU, answers.cpu_seconds);
    set_number(values, nulls, E_COST, cost_per_million(&answers));
    return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* ---- slm_compare(query, candidates) */

typedef struct Compared {
    SlmCandidate candidate;
    SlmAnswers answers;
    SlmLabelFigures figures;
    double cost;
} Compared;

static char *string_of(const JsonbValue *value)
{
    return pnstrdup(value->val.string.val, value->val.string.len);
}

/* {"expression": ...}, {"classifier": ...} or {"column": ...} of one candidate. */
static void read_object(JsonbContainer *object, SlmCandidate *out)
{
    JsonbIterator *it = JsonbIteratorInit(object);
    JsonbIteratorToken token;
    JsonbValue key, value;
    int given = 0;

    while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE) {
        const char *what;

        if (token != WJB_KEY)
            continue;
        what = string_of(&key);
        (void) JsonbIteratorNext(&it, &value, true);
        if (value.type != jbvString)
            given = -1;
        else if (strcmp(what, "expression") == 0)
            out->expression = string_of(&value);
        else if (strcmp(what, "classifier") == 0)
            out->classifier = string_of(&value);
        else if (strcmp(what, "column") == 0)
            out->column = string_of(&value);
        else
            given = -1;
        if (given < 0)
            break;
        given++;
    }
    if (given != 1)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("candidate \"%s\" is not one expression, classifier or column",
                                                                         out->name),
                        errhint("Give {\"expression\": \"slm_classify(input, ARRAY['a', 'b'])\"}, {\"classifier\": \"name\"} or "
                                "{\"column\": \"name\"}; a string is an expression.")));
}

static List *read_candidates(Jsonb *candidates, Oid schema)
{
    JsonbIterator *it;
    JsonbIteratorToken token;
    JsonbValue key, value;
    List *list = NIL;

    it = JsonbIteratorInit(&candidates->root);
    while (JB_ROOT_IS_OBJECT(candidates) && (token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE) {
        Compared *c;

        if (token != WJB_KEY)
            continue;
        (void) JsonbIteratorNext(&it, &value, true);
        c = palloc0(sizeof *c);
        c->candidate.schema = schema;
        c->candidate.name = string_of(&key);
        if (value.type == jbvString)
            c->candidate.expression = string_of(&value);
        else if (value.type == jbvBinary && JsonContainerIsObject(value.val.binary.data))
            read_object(value.val.binary.data, &c->candidate);
        else {
            list = NIL;
            break;
        }
        list = lappend(list, c);
    }
    if (list == NIL)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("candidates must be a JSON object of names and what answers"),
                        errhint("For example: '{\"names\": \"slm_classify(input, ARRAY[''a'', ''b''])\", "
                                "\"trained\": {\"classifier\": \"c\"}, \"old\": {\"column\": \"answer\"}}'")));
    return list;
}

/* Is a to be listed before b? Better accuracy, then less cost. */
static int better_first(const ListCell *a, const ListCell *b)
{
    const Compared *x = lfirst(a), *y = lfirst(b);

    if (x->figures.all.right != y->figures.all.right)
        return x->figures.all.right > y->figures.all.right ? -1 : 1;
    return x->answers.cpu_seconds < y->answers.cpu_seconds ? -1 : x->answers.cpu_seconds > y->answers.cpu_seconds;
}

static int cheaper_first(const ListCell *a, const ListCell *b)
{
    const Compared *x = lfirst(a), *y = lfirst(b);

    return x->answers.cpu_seconds < y->answers.cpu_seconds ? -1 : x->answers.cpu_seconds > y->answers.cpu_seconds;
}

/* The chance of so unequal numbers of rows that only one of the two has right, were they equally good. */
static double difference(const Compared *a, const Compared *b)
{
    size_t only_a = 0, only_b = 0;

    for (int64 i = 0; i < a->answers.n; i++) {
        bool right_a = a->figures.given[i] == a->figures.truth[i], right_b = b->figures.given[i] == b->figures.truth[i];

        only_a += right_a && !right_b;
        only_b += right_b && !right_a;
    }
    return slm_metrics_mcnemar(only_a, only_b, NULL, NULL);
}

static void put_compared(ReturnSetInfo *result, const Compared *c, const Compared *best)
{
    Datum values[14];
    bool nulls[14] = {false};
    double p = c == best ? NAN : difference(c, best);

    values[0] = CStringGetTextDatum(c->candidate.name);
    values[1] = Int64GetDatum(c->answers.n);
    values[2] = Int64GetDatum((int64) c->figures.all.answered);
    set_number(values, nulls, 3, c->figures.all.accuracy);
    set_number(values, nulls, 4, c->figures.low);
    set_number(values, nulls, 5, c->figures.high);
    set_number(values, nulls, 6, c->figures.all.macro.f1);
    set_number(values, nulls, 7, c->answers.has_confidence ? c->figures.ece : NAN);
    set_number(values, nulls, 8, p);
    values[9] = BoolGetDatum(p > NOISE);
    nulls[9] = isnan(p);
    set_number(values, nulls, 10, c->answers.seconds);
    set_number(values, nulls, 11, c->answers.seconds > 0 ? (double) c->answers.n / c->answers.seconds : NAN);
    set_number(values, nulls, 12, c->answers.cpu_seconds);
    set_number(values, nulls, 13, c->cost);
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

Datum slm_pg_compare(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
    char *query = query_arg(fcinfo, 0);
    double min_accuracy = slm_pg_float_arg(fcinfo, 2, "min_accuracy", 0, 0, false, 1, false);
    double max_cost = slm_pg_float_arg(fcinfo, 3, "max_cost", get_float8_infinity(), 0, false, get_float8_infinity(), false);
    const Compared *best = NULL;
    List *candidates;
    ListCell *cell;

    if (PG_ARGISNULL(1))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the candidates must not be null")));
    if (isfinite(max_cost) && slm_guc_machine_cost_per_hour <= 0)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("what an hour of this machine costs is not set"),
                        errhint("SET slm.machine_cost_per_hour = 0.20;")));
    InitMaterializedSRF(fcinfo, 0);
    candidates = read_candidates(PG_GETARG_JSONB_P(1), own_schema(fcinfo));
    foreach (cell, candidates) {
        Compared *c = lfirst(cell);

        slm_pg_gather_answers(query, &c->candidate, &c->answers);
        slm_pg_say_trained_on(&c->candidate, &c->answers);
        slm_pg_label_figures(&c->answers, &c->figures);
        c->cost = cost_per_million(&c->answers);
        if (c->answers.n != ((Compared *) linitial(candidates))->answers.n)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the query to measure by gives other rows each time"),
                            errhint("Order it, and use no random sample: ... ORDER BY id LIMIT 500")));
    }
    list_sort(candidates, min_accuracy > 0 ? cheaper_first : better_first);
    foreach (cell, candidates) {
        const Compared *c = lfirst(cell);

        if (c->figures.all.accuracy < min_accuracy || c->cost > max_cost)
            continue;
        best = best == NULL || c->figures.all.right > best->figures.all.right ? c : best;
    }
    foreach (cell, candidates) {
        const Compared *c = lfirst(cell);

        if (c->figures.all.accuracy >= min_accuracy && !(c->cost > max_cost))
            put_compared(result, c, best);
    }
    return (Datum) 0;
}
