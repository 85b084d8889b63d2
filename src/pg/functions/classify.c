/*
 * classify.c: slm_classify and the functions with the same arguments: _enum, _details, _scores, _scores_json.
 *
 * How the probabilities come about is in classification.c; here they become results.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/json.h"
#include "utils/jsonb.h"

#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/base/row_count.h"
#include "pg/functions/classification.h"
#include "pg/functions/kinds.h"
#include "pg/functions/scores.h"
#include "pg/run/work.h"

PG_FUNCTION_INFO_V1(slm_pg_classify);
PG_FUNCTION_INFO_V1(slm_pg_classify_details);
PG_FUNCTION_INFO_V1(slm_pg_classify_scores);
PG_FUNCTION_INFO_V1(slm_pg_classify_scores_json);

/* ---- slm_classify, slm_classify_enum */

static void begin_best(SlmWork *work, FunctionCallInfo fcinfo)
{
    slm_pg_classification_begin(work, fcinfo, true);
}

static void begin_all(SlmWork *work, FunctionCallInfo fcinfo)
{
    slm_pg_classification_begin(work, fcinfo, false);
}

static Datum finish_classify(SlmWork *work, bool *isnull)
{
    const SlmScores *s = slm_pg_classification_scores(work);

    *isnull = s->probabilities != NULL && s->probabilities[s->best] < s->threshold;
    return *isnull ? (Datum) 0 : slm_pg_classification_datum(work, s->best);
}

const SlmWorkKind slm_pg_classify_kind = {
    .symbol = "slm_pg_classify", .task = SLM_TASK_CLASSIFY, .begin = begin_best, .finish = finish_classify};

Datum slm_pg_classify(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_classify_kind, fcinfo);
}

/* ---- slm_classify_details */

static Datum finish_details(SlmWork *work, bool *isnull)
{
    const SlmScores *s = slm_pg_classification_scores(work);
    int second = -1;
    Datum values[5] = {0};
    bool nulls[5] = {false, false, false, false, true};

    for (int i = 0; i < s->n; i++)
        if (i != s->best && (second < 0 || s->probabilities[i] > s->probabilities[second]))
            second = i;
    nulls[0] = s->probabilities[s->best] < s->threshold;
    if (!nulls[0])
        values[0] = slm_pg_classification_datum(work, s->best);
    values[1] = Float8GetDatum(s->probabilities[s->best]);
    nulls[2] = nulls[3] = second < 0;
    if (second >= 0) {
        values[2] = slm_pg_classification_datum(work, second);
        values[3] = Float8GetDatum(s->probabilities[s->best] - s->probabilities[second]);
    }
    return slm_pg_work_row(work, values, nulls);
}

const SlmWorkKind slm_pg_classify_details_kind = {
    .symbol = "slm_pg_classify_details", .task = SLM_TASK_CLASSIFY, .details = true, .begin = begin_all, .finish = finish_details};

Datum slm_pg_classify_details(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_classify_details_kind, fcinfo);
}

/* ---- slm_classify_scores_json */

static Datum finish_json(SlmWork *work, bool *isnull)
{
    const SlmScores *s = slm_pg_classification_scores(work);
    StringInfoData json;

    initStringInfo(&json);
    for (int i = 0; i < s->n; i++) {
        if (s->probabilities[i] < s->threshold)
            continue;
        appendStringInfoChar(&json, json.len == 0 ? '{' : ',');
        escape_json(&json, slm_pg_cstring_from_utf8(slm_pg_classification_label(work, i)));
        appendStringInfo(&json, ":%s", float8out_internal(s->probabilities[i]));
    }
    appendStringInfoString(&json, json.len == 0 ? "{}" : "}");
    return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

const SlmWorkKind slm_pg_classify_scores_json_kind = {
    .symbol = "slm_pg_classify_scores_json", .task = SLM_TASK_CLASSIFY, .begin = begin_all, .finish = finish_json};

Datum slm_pg_classify_scores_json(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_classify_scores_json_kind, fcinfo);
}

/* ---- slm_classify_scores */

static int compare_scores(const void *a, const void *b, void *arg)
{
    const double *scores = arg;
    int i = *(const int *) a, j = *(const int *) b;

    if (scores[i] != scores[j])
        return scores[i] > scores[j] ? -1 : 1;
    return i < j ? -1 : 1;
}

void slm_pg_put_scores(ReturnSetInfo *rsinfo, const char *const *labels, const double *scores, int n, double threshold)
{
    int *order = palloc(sizeof(int) * (Size) Max(n, 1));

    for (int i = 0; i < n; i++)
        order[i] = i;
    qsort_arg(order, (size_t) n, sizeof(int), compare_scores, (void *) scores);
    for (int i = 0; i < n && scores[order[i]] >= threshold; i++) {
        const char *label = labels[order[i]];
        Datum values[2] = {PointerGetDatum(slm_pg_text_from_utf8(label, strlen(label))), Float8GetDatum(scores[order[i]])};
        bool nulls[2] = {false, false};

        tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
    }
}

static Datum finish_scores(SlmWork *work, bool *isnull)
{
    return PointerGetDatum(slm_pg_classification_scores(work));
}

const SlmWorkKind slm_pg_classify_scores_kind = {
    .symbol = "slm_pg_classify_scores", .task = SLM_TASK_CLASSIFY, .answers = SLM_ANSWERS_SET,
    .begin = begin_all, .finish = finish_scores};

static void put_all(SlmWork *work, const void *answer, ReturnSetInfo *result)
{
    const SlmScores *s = answer;
    const char **labels = palloc(sizeof(char *) * (Size) s->n);

    for (int i = 0; i < s->n; i++)
        labels[i] = slm_pg_classification_label(work, i);
    slm_pg_put_scores(result, labels, s->probabilities, s->n, s->threshold);
}

Datum slm_pg_classify_scores(PG_FUNCTION_ARGS)
{
    return slm_pg_work_set(&slm_pg_classify_scores_kind, fcinfo, put_all);
}
