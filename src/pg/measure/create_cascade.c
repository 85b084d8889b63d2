/*
 * create_cascade.c: slm_create_cascade: learns from which probability on a cheap step's answer may stand.
 *
 *   rows of the query ──every step answers all of them──► answer and probability ──► a threshold for each step but the last
 *
 * agreement  At most 1 - target of all rows may get another answer than the last step's.  Raising a threshold never makes more of them, so
 *            the lowest one above which the upper confidence bound of their share (Clopper and Pearson, exact, one-sided, failure) stays
 *            below 1 - target everywhere holds the target with a chance of 1 - failure: no correction for having searched is needed
 *            (Bates, Angelopoulos, Lei, Malik, Jordan, J. ACM 68, 2021).  Several early steps share 1 - target and failure evenly, each on
 *            all rows, whichever would reach it.
 * precision  Of the rows that an early step answers, 1 - target may be wrong by the query's labels.  This can rise with the threshold, so
 *            GRID thresholds are tried, failure is divided by their number (and by that of the ways to come to the step), and the one
 *            that answers most is taken.
 *
 * Where no threshold holds, the step answers nothing: more goes up, never less.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "engine/metrics/metrics.h"
#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/functions/cascade.h"
#include "pg/functions/trained.h"
#include "pg/measure/answers.h"
#include "pg/models/cascade_rows.h"
#include "pg/models/catalog.h"
#include "pg/models/load.h"
#include "pg/run/opened.h"
#include "pg/run/use.h"

PG_FUNCTION_INFO_V1(slm_pg_create_cascade);

#define GRID 20
#define NOTHING 2.0 /* a threshold that no probability reaches */

typedef struct Learning {
    const char *name, *query;
    Oid schema;
    int n_steps;
    SlmCascadeStep steps[SLM_MAX_STEPS];
    const char *stored[SLM_MAX_STEPS]; /* the query's column with its answers; NULL: it is asked */
    SlmAnswers answers[SLM_MAX_STEPS];
    bool precision;
    double target, failure, audit;
    int64 n;           /* rows that the last step answers */
    int64 *rows;       /* [n] their numbers among the answers */
    double thresholds[SLM_MAX_STEPS];
    int64 taken[SLM_MAX_STEPS]; /* rows that each step answers */
    double measured, bound, speedup;
} Learning;

/* ---- answers */

static void find_model(SlmCascadeStep *step)
{
    if (!step->nulls[SLM_CLASSIFY_CLASSIFIER]) {
        const SlmTrained *trained = slm_pg_use_classifier(DatumGetTextPP(step->values[SLM_CLASSIFY_CLASSIFIER]));

        strlcpy(step->key, trained->key, sizeof step->key);
        step->version = trained->version;
    } else {
        const text *model = step->nulls[SLM_CLASSIFY_MODEL] ? NULL : DatumGetTextPP(step->values[SLM_CLASSIFY_MODEL]);

        strlcpy(step->key, slm_pg_opened_key(slm_pg_use_model(model, SLM_TASK_CLASSIFY)), sizeof step->key);
    }
}

static void add_argument(StringInfo call, const SlmCascadeStep *step, int argument, const char *name, Oid type)
{
    Oid output;
    bool varlena;

    if (step->nulls[argument])
        return;
    getTypeOutputInfo(type, &output, &varlena);
    appendStringInfo(call, ", %s => %s::pg_catalog.%s", name, quote_literal_cstr(OidOutputFunctionCall(output, step->values[argument])),
                     type == TEXTARRAYOID ? "text[]" : type == JSONBOID ? "jsonb" : "text");
}

/* The step as an expression over the column input. */
static const char *expression_of(const Learning *l, const SlmCascadeStep *step)
{
    StringInfoData call;

    initStringInfo(&call);
    if (step->condition != NULL)
        appendStringInfo(&call, "%s.slm_filter_details(%s, input, threshold => 0.5", quote_identifier(get_namespace_name(l->schema)),
                         quote_literal_cstr(text_to_cstring(step->condition)));
    else
        appendStringInfo(&call, "%s.slm_classify_details(input", quote_identifier(get_namespace_name(l->schema)));
    add_argument(&call, step, SLM_CLASSIFY_LABELS, "labels", TEXTARRAYOID);
    add_argument(&call, step, SLM_CLASSIFY_MODEL, "model", TEXTOID);
    add_argument(&call, step, SLM_CLASSIFY_METHOD, "method", TEXTOID);
    add_argument(&call, step, SLM_CLASSIFY_INSTRUCTION, "instruction", TEXTOID);
    add_argument(&call, step, SLM_CLASSIFY_DESCRIPTIONS, "descriptions", JSONBOID);
    add_argument(&call, step, SLM_CLASSIFY_CLASSIFIER, "classifier", TEXTOID);
    appendStringInfoChar(&call, ')');
    return call.data;
}

/* The columns with stored answers, as further ones of the statement. */
static const char *stored_columns(const Learning *l, TupleDesc desc, const char *const *names)
{
    StringInfoData list;

    initStringInfo(&list);
    for (int s = 0; s < l->n_steps; s++) {
        int column = 0;

        for (int i = 0; l->stored[s] != NULL && i < desc->natts; i++)
            if (strcmp(NameStr(TupleDescAttr(desc, i)->attname), l->stored[s]) == 0)
                column = i + 1;
        if (l->stored[s] != NULL && column == 0)
            ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("the query has no column \"%s\"", l->stored[s]),
                            errhint("It gives: %s.", slm_pg_joined(names, desc->natts))));
        if (column != 0)
            appendStringInfo(&list, ", q.%s AS answers_%d", names[column - 1], s + 1);
    }
    return list.data;
}

/* For agreement the truth is not needed: the input stands in its place. */
static const char *query_of(const Learning *l)
{
    const char *query = slm_pg_trimmed(l->query), **names;
    MemoryContext keep = CurrentMemoryContext;
    TupleDesc desc;
    char *result;

    SPI_connect();
    desc = slm_pg_look_at_query(query, l->precision ? 2 : 1);
    names = slm_pg_query_columns(desc);
    result = psprintf("SELECT q.%s::pg_catalog.text AS input, q.%s::pg_catalog.text AS expected%s FROM (%s\n) AS q (%s)", names[0],
                      names[l->precision ? 1 : 0], stored_columns(l, desc, names), query, slm_pg_joined(names, desc->natts));
    result = MemoryContextStrdup(keep, result);
    SPI_finish();
    MemoryContextSwitchTo(keep);
    return result;
}

/* What is said of a condition is true or false, however it was written. */
static void unify_truth(SlmAnswers *a, bool precision)
{
    for (int64 r = 0; r < a->n; r++) {
        if (a->given[r] != NULL)
            a->given[r] = slm_pg_truth(a->given[r]);
        if (precision)
            a->expected[r] = slm_pg_truth(a->expected[r]);
    }
}

/* The steps' probabilities as the models give them, as the cascade will see them, whatever is learned of the models later. */
static void ask_steps(Learning *l)
{
    const char *query = query_of(l);
    const SlmAnswers *last = &l->answers[l->n_steps - 1];

    for (int i = 0; i < l->n_steps; i++) {
        SlmCandidate candidate = {.schema = l->schema, .name = "a step"};

        if (l->stored[i] != NULL)
            candidate.column = psprintf("answers_%d", i + 1);
        else
            candidate.expression = expression_of(l, &l->steps[i]);
        find_model(&l->steps[i]);
        slm_pg_gather_answers(query, &candidate, &l->answers[i]);
        if (l->answers[i].n != l->answers[0].n)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the query gives other rows each time"),
                            errhint("Order it, and use no random sample: ... ORDER BY id LIMIT 2000")));
        for (int64 r = 0; r < l->answers[i].n; r++)
            if (strcmp(l->answers[i].expected[r], l->answers[0].expected[r]) != 0)
                ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the query gives its rows in another order each time"),
                                errhint("Order it, and use no random sample: ... ORDER BY id LIMIT 2000")));
    }
    for (int i = 0; i < l->n_steps && slm_pg_cascade_condition(l->steps, l->n_steps) != NULL; i++)
        unify_truth(&l->answers[i], l->precision);
    l->rows = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int64) * (Size) Max(last->n, 1));
    for (int64 r = 0; r < last->n; r++)
        if (last->given[r] != NULL)
            l->rows[l->n++] = r;
    if (l->n == 0)
        ereport(ERROR, (errcode(ERRCODE_NO_DATA_FOUND), errmsg("the last step answers no row of the query")));
}

/* ---- thresholds */

typedef struct Answered {
    double confidence;
    bool wrong;
} Answered;

static int surest_first(const void *a, const void *b)
{
    const Answered *x = a, *y = b;

    return x->confidence > y->confidence ? -1 : x->confidence < y->confidence;
}

/* The upper bound of a share of which k of n were seen; it is missed with a chance of failure at most. */
static double upper_bound(int64 k, int64 n, double failure)
{
    double low, high;

    slm_metrics_clopper_pearson((size_t) k, (size_t) n, 1 - 2 * failure, &low, &high);
    return high;
}

/* Is the answer of a step to a row one that must not stand? */
static bool is_wrong(const Learning *l, int step, int64 row)
{
    const char *right = l->precision ? l->answers[step].expected[row] : l->answers[l->n_steps - 1].given[row];

    return strcmp(l->answers[step].given[row], right) != 0;
}

/* Rows that a step answers, the surest first: all, or those that have come to it. */
static int64 sorted_answers(const Learning *l, int step, const bool *gone, Answered *out)
{
    const SlmAnswers *a = &l->answers[step];
    int64 n = 0;

    for (int64 i = 0; i < l->n; i++) {
        int64 r = l->rows[i];

        if ((gone == NULL || !gone[r]) && a->given[r] != NULL && !isnan(a->confidence[r]))
            out[n++] = (Answered){a->confidence[r], is_wrong(l, step, r)};
    }
    qsort(out, (size_t) n, sizeof *out, surest_first);
    return n;
}

static double threshold_of_agreement(Learning *l, int step, Answered *sorted)
{
    int early = l->n_steps - 1;
    int64 n = sorted_answers(l, step, NULL, sorted), wrong = 0;
    double allowed = (1 - l->target) / early, failure = l->failure / early, threshold = NOTHING, bound = 0;

    for (int64 i = 0; i < n; i++) {
        wrong += sorted[i].wrong;
        if (i + 1 < n && sorted[i + 1].confidence == sorted[i].confidence)
            continue;
        if (upper_bound(wrong, l->n, failure) > allowed)
            break;
        threshold = sorted[i].confidence;
        bound = upper_bound(wrong, l->n, failure);
    }
    l->bound -= bound;
    return threshold;
}

static double threshold_of_precision(Learning *l, int step, const bool *gone, Answered *sorted)
{
    int64 n = sorted_answers(l, step, gone, sorted), wrong = 0;
    double failure = l->failure / (l->n_steps - 1) / pow(GRID, step + 1), threshold = NOTHING, bound = 1;
    int next = 1;

    for (int64 i = 0; i < n; i++) {
        wrong += sorted[i].wrong;
        if (i + 1 < n && (i + 1 < n * next / GRID || sorted[i + 1].confidence == sorted[i].confidence))
            continue;
        while (next <= GRID && i + 1 >= n * next / GRID)
            next++;
        if (upper_bound(wrong, i + 1, failure) <= 1 - l->target) {
            threshold = sorted[i].confidence;
            bound = 1 - upper_bound(wrong, i + 1, failure);
        }
    }
    l->bound = Min(l->bound, bound);
    return threshold;
}

static void learn(Learning *l)
{
    const SlmAnswers *last = &l->answers[l->n_steps - 1];
    bool *gone = palloc_extended(sizeof(bool) * (Size) last->n, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
    Answered *sorted = palloc_extended(sizeof(Answered) * (Size) l->n, MCXT_ALLOC_HUGE);
    int64 wrong = 0, early = 0;
    double cost = 0, left = (double) l->n;

    l->bound = 1;
    for (int s = 0; s < l->n_steps - 1; s++) {
        l->thresholds[s] = l->precision ? threshold_of_precision(l, s, gone, sorted) : threshold_of_agreement(l, s, sorted);
        cost += left * l->answers[s].cpu_seconds;
        for (int64 i = 0; i < l->n; i++) {
            int64 r = l->rows[i];

            if (gone[r] || l->answers[s].given[r] == NULL || !(l->answers[s].confidence[r] >= l->thresholds[s]))
                continue;
            gone[r] = true;
            l->taken[s]++;
            early++;
            wrong += is_wrong(l, s, r);
        }
        left = (double) (l->n - early);
    }
    l->taken[l->n_steps - 1] = l->n - early;
    cost += (left + l->audit * (double) early) * last->cpu_seconds;
    for (int s = 0; s < l->n_steps; s++)
        if (l->stored[s] != NULL)
            cost = 0; /* nobody has seen what it takes */
    l->speedup = cost > 0 ? (double) l->n * last->cpu_seconds / cost : NAN;
    l->measured = !l->precision ? 1 - (double) wrong / (double) l->n : early > 0 ? 1 - (double) wrong / (double) early : NAN;
}

/* ---- slm_create_cascade(name, steps, query, target, measure, failure, audit, answers) */

static Datum float_array(const double *x, int n)
{
    Datum *elements = palloc(sizeof(Datum) * (Size) n);

    for (int i = 0; i < n; i++)
        elements[i] = Float8GetDatum(x[i]);
    return PointerGetDatum(construct_array(elements, n, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

static Datum shares_of(const Learning *l)
{
    double shares[SLM_MAX_STEPS];

    for (int i = 0; i < l->n_steps; i++)
        shares[i] = (double) l->taken[i] / (double) l->n;
    return float_array(shares, l->n_steps);
}

static void store(const Learning *l, Jsonb *steps, const SlmCascadeRow *old)
{
    Datum images[SLM_MAX_STEPS], versions[SLM_MAX_STEPS];
    SlmNewCascade new = {.name = l->name, .measure = l->precision ? "precision" : "agreement", .query = l->query,
                         .steps = JsonbPGetDatum(steps), .target = l->target, .failure = l->failure, .audit = l->audit, .rows = l->n,
                         .measured = l->measured, .bound = l->bound, .speedup = l->speedup};

    for (int i = 0; i < l->n_steps; i++) {
        images[i] = CStringGetTextDatum(l->steps[i].key);
        versions[i] = Int32GetDatum(l->steps[i].version);
    }
    new.images = PointerGetDatum(construct_array(images, l->n_steps, TEXTOID, -1, false, TYPALIGN_INT));
    new.versions = PointerGetDatum(construct_array(versions, l->n_steps, INT4OID, sizeof(int32), true, TYPALIGN_INT));
    new.thresholds = float_array(l->thresholds, l->n_steps - 1);
    new.shares = shares_of(l);
    slm_pg_store_cascade(&new, old);
}

static void say_idle_steps(const Learning *l)
{
    for (int s = 0; s < l->n_steps - 1; s++)
        if (l->thresholds[s] > 1)
            ereport(NOTICE, (errmsg("step %d of cascade \"%s\" answers nothing: no threshold is sure to hold the target", s + 1, l->name),
                             errdetail("It was learned from %ld rows.", (long) l->n),
                             errhint("Give more rows, a better step, or a lower target.")));
}

static void read_stored(Learning *l, FunctionCallInfo fcinfo)
{
    Datum *names;
    bool *nulls;
    int n;

    if (PG_ARGISNULL(7))
        return;
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(7), TEXTOID, -1, false, TYPALIGN_INT, &names, &nulls, &n);
    if (n != l->n_steps)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("answers has %d elements for %d steps", n, l->n_steps),
                        errhint("Name a column of the query for each step, or NULL for a step that is to be asked: "
                                "answers => ARRAY[NULL, 'large_said'].")));
    for (int i = 0; i < n; i++)
        l->stored[i] = nulls[i] ? NULL : TextDatumGetCString(names[i]);
}

static void read_measure(Learning *l, FunctionCallInfo fcinfo)
{
    const char *measure = PG_ARGISNULL(4) ? "agreement" : text_to_cstring(PG_GETARG_TEXT_PP(4));

    l->precision = strcmp(measure, "precision") == 0;
    if (!l->precision && strcmp(measure, "agreement") != 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown measure \"%s\"", measure),
                        errhint("Use 'agreement' (with the last step), or 'precision' (of what is answered before it, by the labels "
                                "that the query gives in its second column).")));
    l->target = slm_pg_float_arg(fcinfo, 3, "target", 0.95, 0, true, 1, true);
    l->failure = slm_pg_float_arg(fcinfo, 5, "failure", 0.01, 0, true, 0.5, true);
    l->audit = slm_pg_float_arg(fcinfo, 6, "audit", 0.01, 0, false, 1, false);
    if (l->precision)
        l->audit = 0; /* the last step is not the truth */
}

Datum slm_pg_create_cascade(PG_FUNCTION_ARGS)
{
    Learning *l = palloc0(sizeof *l);
    Datum values[6];
    bool nulls[6] = {false};
    Jsonb *steps;
    TupleDesc desc;
    int level;

    if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("name, steps and query must not be null")));
    if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    slm_pg_refuse_read_only("slm_create_cascade()");
    l->name = text_to_cstring(PG_GETARG_TEXT_PP(0));
    slm_pg_check_name("cascade", l->name);
    l->query = text_to_cstring(PG_GETARG_TEXT_PP(2));
    l->schema = get_func_namespace(fcinfo->flinfo->fn_oid);
    steps = PG_GETARG_JSONB_P(1);
    l->n_steps = slm_pg_read_steps(steps, l->steps);
    read_measure(l, fcinfo);
    read_stored(l, fcinfo);
    (void) slm_pg_own_cascade(l->name, true);
    level = slm_pg_uncalibrated();
    ask_steps(l);
    AtEOXact_GUC(true, level);
    learn(l);
    store(l, steps, slm_pg_own_cascade(l->name, true)); /* the query may have changed it */
    say_idle_steps(l);
    values[0] = Int64GetDatum(l->n);
    values[1] = float_array(l->thresholds, l->n_steps - 1);
    values[2] = shares_of(l);
    values[3] = Float8GetDatum(l->measured);
    nulls[3] = isnan(l->measured);
    values[4] = Float8GetDatum(l->bound);
    values[5] = Float8GetDatum(l->speedup);
    nulls[5] = isnan(l->speedup);
    return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}
