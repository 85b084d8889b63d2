/*
 * filter.c: slm_filter, slm_filter_details, slm_score: one question about a text (asking.h).
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "pg/base/args.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/base/row_error.h"
#include "pg/functions/asking.h"
#include "pg/functions/cascade.h"
#include "pg/functions/classification.h"
#include "pg/functions/kinds.h"
#include "pg/functions/reading.h"
#include "pg/run/work.h"

PG_FUNCTION_INFO_V1(slm_pg_filter);
PG_FUNCTION_INFO_V1(slm_pg_filter_details);
PG_FUNCTION_INFO_V1(slm_pg_score);

static const char *yes_no[2] = {"yes", "no"};

/* An argument that must say something, in UTF-8. */
static const char *words(FunctionCallInfo fcinfo, int arg, const char *name, const char *example)
{
    if (slm_pg_blank_arg(fcinfo, arg))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must not be empty", name),
                        errhint("For example: %s => '%s'.", name, example)));
    return slm_pg_utf8_from_text(PG_GETARG_TEXT_PP(arg), NULL);
}

/* Nothing to ask, or nothing to ask it about. */
static bool decided(SlmWork *work, FunctionCallInfo fcinfo, int input, int asked)
{
    if (PG_ARGISNULL(asked))
        slm_pg_work_decide(work, (Datum) 0, true);
    return PG_ARGISNULL(asked) || slm_pg_decide_blank(work, fcinfo, input);
}

/* Asks one question; method and instruction are the arguments behind model. example: of an instruction, for a hint. */
static SlmAsking *ask(SlmWork *work, FunctionCallInfo fcinfo, const SlmQuestion *question, int input, int model, int truncate,
                     const char *example, SlmAskedRow row)
{
    row.entry = slm_pg_work_model(work, slm_pg_text_arg(fcinfo, model));

    row.method = slm_pg_text_arg(fcinfo, model + 1);
    row.instruction = PG_ARGISNULL(model + 2) ? NULL : words(fcinfo, model + 2, "instruction", example);
    row.input = slm_pg_input_utf8(PG_GETARG_TEXT_PP(input), &row.length);
    row.truncate = slm_pg_truncate_arg(fcinfo, truncate);
    return slm_pg_ask(work, &row, question, 1);
}

/* ---- slm_filter */

typedef struct Filter {
    SlmQuestion question;
    SlmAsking *asked;
    SlmCascadeRun *run; /* of a cascade, in place of the question */
    double threshold;
} Filter;

/* A cascade was learned for one condition: the call says it, and it is the same. */
static SlmCascade *cascade_of(FunctionCallInfo fcinfo)
{
    SlmCascade *cascade = slm_pg_use_cascade(PG_GETARG_TEXT_PP(SLM_FILTER_CASCADE));
    const text *condition = slm_pg_cascade_condition(cascade->steps, cascade->n);

    if (condition == NULL)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("cascade \"%s\" answers with labels, not whether a condition fits",
                                                                    cascade->kept.name),
                        errhint("Use it as SELECT slm_classify(input, cascade => %s), or make one whose last step is "
                                "{\"condition\": \"asks for a refund\"}.", quote_literal_cstr(cascade->kept.name))));
    if (!DatumGetBool(DirectFunctionCall2Coll(texteq, C_COLLATION_OID, PointerGetDatum(condition), PG_GETARG_DATUM(SLM_FILTER_CONDITION))))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("cascade \"%s\" was learned for another condition", cascade->kept.name),
                        errhint("Write its condition: slm_filter(%s, ..., cascade => %s).", quote_literal_cstr(text_to_cstring(condition)),
                                quote_literal_cstr(cascade->kept.name))));
    return cascade;
}

static void begin_cascade(SlmWork *work, Filter *f, FunctionCallInfo fcinfo)
{
    static const SlmArgument others[] = {{SLM_FILTER_MODEL, "model"}, {SLM_FILTER_INSTRUCTION, "instruction"}};

    slm_pg_refuse_beside(fcinfo, "cascade", others, lengthof(others), SLM_FILTER_METHOD, "A cascade has its own steps",
                         "A cascade has its own steps");
    f->threshold = slm_pg_float_arg(fcinfo, SLM_FILTER_THRESHOLD, "threshold", 0.5, 0.5, false, 1, false);
    f->run = slm_pg_cascade_begin(work, cascade_of(fcinfo), PG_GETARG_TEXT_PP(SLM_FILTER_INPUT),
                                  PG_ARGISNULL(SLM_FILTER_EMBEDDING) ? NULL : PG_GETARG_ARRAYTYPE_P(SLM_FILTER_EMBEDDING),
                                  slm_pg_truncate_arg(fcinfo, SLM_FILTER_TRUNCATE));
}

static void begin_filter(SlmWork *work, FunctionCallInfo fcinfo)
{
    Filter *f = palloc0(sizeof *f);

    slm_pg_work_set_state(work, f);
    if (decided(work, fcinfo, SLM_FILTER_INPUT, SLM_FILTER_CONDITION))
        return;
    if (!PG_ARGISNULL(SLM_FILTER_CASCADE)) {
        begin_cascade(work, f, fcinfo);
        return;
    }
    f->question = (SlmQuestion){.type = SLM_QUESTION_YES_NO, .n = 2, .names = yes_no,
                                .text = words(fcinfo, SLM_FILTER_CONDITION, "condition", "asks for a refund")};
    f->threshold = slm_pg_float_arg(fcinfo, SLM_FILTER_THRESHOLD, "threshold", 0.6, 0.5, false, 1, false);
    f->asked = ask(work, fcinfo, &f->question, SLM_FILTER_INPUT, SLM_FILTER_MODEL, SLM_FILTER_TRUNCATE, "Say what the writer wants.",
                   (SlmAskedRow){.calibrated = true,
                                 .embedding = PG_ARGISNULL(SLM_FILTER_EMBEDDING) ? NULL : PG_GETARG_ARRAYTYPE_P(SLM_FILTER_EMBEDDING)});
}

/* Whether it fits; *sure: with enough probability, which *fits is. */
static bool does_fit(SlmWork *work, double *fits, bool *sure)
{
    const Filter *f = slm_pg_work_state(work);
    double probability;
    bool yes;

    if (f->run != NULL) {
        const char *answer = slm_pg_cascade_answer(f->run, &probability);

        yes = strcmp(answer, "true") == 0;
        if (!yes && strcmp(answer, "false") != 0)
            ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("a step of the cascade answers \"%s\", not true or false", answer),
                            errhint("Train its classifier on labels true and false.")));
        *fits = yes ? probability : 1 - probability;
    } else {
        const double *p = slm_pg_asked(work, f->asked, 0);

        yes = p[0] >= p[1];
        probability = Max(p[0], p[1]);
        *fits = p[0];
    }
    *sure = probability >= f->threshold;
    return yes;
}

static Datum finish_filter(SlmWork *work, bool *isnull)
{
    double fits;
    bool sure, yes = does_fit(work, &fits, &sure);

    *isnull = !sure;
    return BoolGetDatum(yes);
}

const SlmWorkKind slm_pg_filter_kind = {
    .symbol = "slm_pg_filter", .task = SLM_TASK_CLASSIFY, .decides = true, .first_input = SLM_FILTER_INPUT,
    .begin = begin_filter, .finish = finish_filter};

Datum slm_pg_filter(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_filter_kind, fcinfo);
}

static Datum finish_filter_details(SlmWork *work, bool *isnull)
{
    double fits;
    bool sure, yes = does_fit(work, &fits, &sure);
    Datum values[3] = {BoolGetDatum(yes), Float8GetDatum(fits)};
    bool nulls[3] = {!sure, false, true};

    return slm_pg_work_row(work, values, nulls);
}

const SlmWorkKind slm_pg_filter_details_kind = {
    .symbol = "slm_pg_filter_details", .task = SLM_TASK_CLASSIFY, .decides = true, .details = true, .first_input = SLM_FILTER_INPUT,
    .begin = begin_filter, .finish = finish_filter_details};

Datum slm_pg_filter_details(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_filter_details_kind, fcinfo);
}

/* ---- slm_score */

enum { SCORE_INPUT, SCORE_RUBRIC, SCORE_LOW, SCORE_HIGH, SCORE_LEVELS, SCORE_MODEL, SCORE_METHOD, SCORE_INSTRUCTION, SCORE_TRUNCATE };

typedef struct Score {
    SlmQuestion question;
    SlmAsking *asked;
    double low, high;
} Score;

static void read_scale(Score *s, FunctionCallInfo fcinfo)
{
    SlmQuestion *q = &s->question;

    q->text = words(fcinfo, SCORE_RUBRIC, "rubric", "the writer is angry");
    if (PG_ARGISNULL(SCORE_LEVELS)) {
        q->type = SLM_QUESTION_YES_NO;
        q->n = 2;
        q->names = yes_no;
        return;
    }
    q->type = SLM_QUESTION_SCALE;
    q->names = slm_pg_strings_arg(fcinfo, SCORE_LEVELS, "levels", SLM_MAX_LEVELS, &q->n);
    if (q->n < 2)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("levels has fewer than 2 elements"),
                        errhint("Pass from 2 to %d levels, the lowest first, such as levels => ARRAY['calm', 'annoyed', 'angry'].",
                                SLM_MAX_LEVELS)));
    for (int i = 1; i < q->n; i++)
        for (int k = 0; k < i; k++)
            if (strcmp(q->names[i], q->names[k]) == 0)
                ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                                errmsg("level \"%s\" is there twice", slm_pg_cstring_from_utf8(q->names[i])),
                                errhint("Levels must be distinct.")));
}

static void begin_score(SlmWork *work, FunctionCallInfo fcinfo)
{
    Score *s = palloc0(sizeof *s);

    slm_pg_work_set_state(work, s);
    if (decided(work, fcinfo, SCORE_INPUT, SCORE_RUBRIC))
        return;
    read_scale(s, fcinfo);
    s->low = slm_pg_float_arg(fcinfo, SCORE_LOW, "low", 0, -1e9, false, 1e9, false);
    s->high = slm_pg_float_arg(fcinfo, SCORE_HIGH, "high", 1, -1e9, false, 1e9, false);
    if (s->low >= s->high)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("low is %g, not below high, %g", s->low, s->high),
                        errhint("For example: low => 1, high => 5.")));
    s->asked = ask(work, fcinfo, &s->question, SCORE_INPUT, SCORE_MODEL, SCORE_TRUNCATE, "How does the writer feel?",
                   (SlmAskedRow){0});
}

static Datum finish_score(SlmWork *work, bool *isnull)
{
    const Score *s = slm_pg_work_state(work);
    const SlmQuestion *q = &s->question;
    const double *p = slm_pg_asked(work, s->asked, 0);
    double expected = 0; /* 0 to 1 */

    if (q->type == SLM_QUESTION_YES_NO)
        expected = p[0];
    for (int i = 1; i < q->n && q->type == SLM_QUESTION_SCALE; i++)
        expected += p[i] * i / (q->n - 1);
    return Float8GetDatum(Min(s->low + (s->high - s->low) * expected, s->high));
}

const SlmWorkKind slm_pg_score_kind = {
    .symbol = "slm_pg_score", .task = SLM_TASK_CLASSIFY, .decides = true, .begin = begin_score, .finish = finish_score};

Datum slm_pg_score(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_score_kind, fcinfo);
}
