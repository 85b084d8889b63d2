/*
 * decide.c: slm_decide, slm_decide_row, slm_decide_details: many typed questions about one state (questions.h, asking.h).
 *
 * The answer is written as the questions were: an object of named answers in the System One form, or a list of answers as the OpenAI
 * Decisions API gives it.  confidence is the probability of the likeliest option.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "pg/base/args.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/base/row_error.h"
#include "pg/functions/asking.h"
#include "pg/functions/kinds.h"
#include "pg/functions/questions.h"
#include "pg/functions/reading.h"
#include "pg/run/work.h"

PG_FUNCTION_INFO_V1(slm_pg_decide);
PG_FUNCTION_INFO_V1(slm_pg_decide_row);
PG_FUNCTION_INFO_V1(slm_pg_decide_details);

enum { ARG_STATE, ARG_QUESTIONS, ARG_MODEL, ARG_METHOD, ARG_INSTRUCTION, ARG_TRUNCATE };

typedef struct Decide {
    SlmQuestions *questions;
    SlmAsking *asked;
} Decide;

static void begin(SlmWork *work, FunctionCallInfo fcinfo, const char *input, size_t length)
{
    Decide *d = palloc0(sizeof *d);
    SlmAskedRow row = {.calibrated = true, .input = input, .length = length};

    d->questions = slm_pg_read_questions(PG_GETARG_JSONB_P(ARG_QUESTIONS));
    row.entry = slm_pg_work_model(work, slm_pg_text_arg(fcinfo, ARG_MODEL));
    row.method = slm_pg_text_arg(fcinfo, ARG_METHOD);
    if (!slm_pg_blank_arg(fcinfo, ARG_INSTRUCTION))
        row.instruction = slm_pg_utf8_from_text(PG_GETARG_TEXT_PP(ARG_INSTRUCTION), NULL);
    row.truncate = slm_pg_truncate_arg(fcinfo, ARG_TRUNCATE);
    d->asked = slm_pg_ask(work, &row, d->questions->questions, d->questions->n);
    slm_pg_work_set_state(work, d);
}

static void begin_text(SlmWork *work, FunctionCallInfo fcinfo)
{
    const char *input;
    size_t length;

    if (PG_ARGISNULL(ARG_QUESTIONS)) {
        slm_pg_work_decide(work, (Datum) 0, true);
        return;
    }
    if (slm_pg_decide_blank(work, fcinfo, ARG_STATE))
        return;
    input = slm_pg_input_utf8(PG_GETARG_TEXT_PP(ARG_STATE), &length);
    begin(work, fcinfo, input, length);
}

/* ---- a state that is no text: a line for each value that it has */

static void put_composite(StringInfo out, Datum state)
{
    HeapTupleHeader header = DatumGetHeapTupleHeader(state);
    TupleDesc desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header), HeapTupleHeaderGetTypMod(header));
    HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(header), .t_data = header};

    for (int i = 0; i < desc->natts; i++) {
        Form_pg_attribute column = TupleDescAttr(desc, i);
        Oid output;
        bool varlena, isnull;
        Datum value;

        if (column->attisdropped)
            continue;
        value = heap_getattr(&tuple, i + 1, desc, &isnull);
        if (isnull)
            continue;
        getTypeOutputInfo(column->atttypid, &output, &varlena);
        appendStringInfo(out, "%s: %s\n", NameStr(column->attname), OidOutputFunctionCall(output, value));
    }
    ReleaseTupleDesc(desc);
}

static char *words_of(const JsonbValue *value)
{
    switch (value->type) {
        case jbvString:
            return pnstrdup(value->val.string.val, value->val.string.len);
        case jbvBool:
            return value->val.boolean ? "true" : "false";
        case jbvNumeric:
            return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
        default:
            return JsonbToCString(NULL, value->val.binary.data, value->val.binary.len);
    }
}

static void put_jsonb(StringInfo out, Jsonb *json)
{
    JsonbIterator *it = JsonbIteratorInit(&json->root);
    JsonbValue key, value;
    int token;

    (void) JsonbIteratorNext(&it, &value, true);
    while ((token = JsonbIteratorNext(&it, &value, true)) == WJB_KEY || token == WJB_ELEM) {
        if (token == WJB_KEY) {
            key = value;
            (void) JsonbIteratorNext(&it, &value, true);
        }
        if (value.type == jbvNull)
            continue;
        if (token == WJB_KEY)
            appendStringInfo(out, "%.*s: ", key.val.string.len, key.val.string.val);
        appendStringInfo(out, "%s\n", words_of(&value));
    }
}

static void begin_row(SlmWork *work, FunctionCallInfo fcinfo)
{
    Oid type = get_fn_expr_argtype(fcinfo->flinfo, ARG_STATE);
    StringInfoData text;
    const char *utf8;

    if (PG_ARGISNULL(ARG_STATE) || PG_ARGISNULL(ARG_QUESTIONS)) {
        slm_pg_work_decide(work, (Datum) 0, true);
        return;
    }
    initStringInfo(&text);
    if (type == JSONBOID) {
        put_jsonb(&text, PG_GETARG_JSONB_P(ARG_STATE));
    } else if (type_is_rowtype(type)) {
        put_composite(&text, PG_GETARG_DATUM(ARG_STATE));
    } else {
        Oid output;
        bool varlena;

        getTypeOutputInfo(type, &output, &varlena);
        appendStringInfoString(&text, OidOutputFunctionCall(output, PG_GETARG_DATUM(ARG_STATE)));
    }
    while (text.len > 0 && text.data[text.len - 1] == '\n')
        text.data[--text.len] = '\0';
    if (text.data[strspn(text.data, " \t\r\n")] == '\0') {
        slm_pg_work_decide(work, (Datum) 0, true);
        return;
    }
    utf8 = slm_pg_input_utf8(cstring_to_text_with_len(text.data, text.len), NULL);
    begin(work, fcinfo, utf8, strlen(utf8));
}

/* ---- answers */

static void put_string(StringInfo out, const char *utf8)
{
    escape_json(out, slm_pg_cstring_from_utf8(utf8));
}

static void put_key(StringInfo out, const char *key)
{
    char last = out->data[out->len - 1];

    if (last != '{' && last != '[')
        appendStringInfoChar(out, ',');
    put_string(out, key);
    appendStringInfoChar(out, ':');
}

static void put_number(StringInfo out, double number)
{
    appendStringInfoString(out, float8out_internal(number));
}

static int likeliest(const double *p, int n)
{
    int best = 0;

    for (int i = 1; i < n; i++)
        if (p[i] > p[best])
            best = i;
    return best;
}

static const char *option_name(const SlmQuestion *q, const SlmAskedAs *as, int i)
{
    return i < q->n ? q->names[i] : as->none;
}

static void put_option(StringInfo out, const SlmQuestion *q, const SlmAskedAs *as, int i)
{
    if (i < q->n && as->boolean[i])
        appendStringInfoString(out, q->names[i]);
    else
        put_string(out, option_name(q, as, i));
}

static void put_yes_no(StringInfo out, const SlmAskedAs *as, const double *p)
{
    bool own = strcmp(as->type, "noul") != 0 && strcmp(as->type, "predicate") != 0;

    if (own) {
        put_key(out, "answer");
        appendStringInfoString(out, p[0] >= p[1] ? "true" : "false");
    }
    put_key(out, strcmp(as->type, "noul") == 0 ? "noul" : "probability");
    put_number(out, p[0]);
}

static void put_choice(StringInfo out, const SlmQuestion *q, const SlmAskedAs *as, const double *p, bool named)
{
    int n = q->n + q->none, best = likeliest(p, n);

    put_key(out, "choice");
    put_option(out, q, as, best);
    put_key(out, "confidence");
    put_number(out, p[best]);
    put_key(out, "probabilities");
    appendStringInfoChar(out, named ? '{' : '[');
    for (int i = 0; i < n; i++) {
        if (named) {
            put_key(out, option_name(q, as, i));
            put_number(out, p[i]);
            continue;
        }
        appendStringInfoString(out, i > 0 ? ",{" : "{");
        put_key(out, "value");
        put_option(out, q, as, i);
        put_key(out, "probability");
        put_number(out, p[i]);
        appendStringInfoChar(out, '}');
    }
    appendStringInfoChar(out, named ? '}' : ']');
}

static double expected_level(const SlmQuestion *q, const SlmAskedAs *as, const double *p)
{
    double expected = 0;

    for (int i = 1; i < q->n; i++)
        expected += p[i] * i;
    return as->lowest + Min(expected, q->n - 1);
}

static void put_scale(StringInfo out, const SlmQuestion *q, const SlmAskedAs *as, const double *p, bool named)
{
    put_key(out, "score");
    put_number(out, expected_level(q, as, p));
    put_key(out, "confidence");
    put_number(out, p[likeliest(p, q->n)]);
    put_key(out, "probabilities");
    appendStringInfoChar(out, named ? '{' : '[');
    for (int i = 0; i < q->n; i++) {
        if (named) {
            put_key(out, psprintf("%d", as->lowest + i));
            put_number(out, p[i]);
            continue;
        }
        appendStringInfo(out, "%s{\"value\":%d", i > 0 ? "," : "", as->lowest + i);
        put_key(out, "label");
        put_string(out, q->names[i]);
        put_key(out, "probability");
        put_number(out, p[i]);
        appendStringInfoChar(out, '}');
    }
    appendStringInfoChar(out, named ? '}' : ']');
    if (!named)
        return;
    put_key(out, "legend");
    appendStringInfoChar(out, '{');
    for (int i = 0; i < q->n; i++) {
        put_key(out, psprintf("%d", as->lowest + i));
        put_string(out, q->names[i]);
    }
    appendStringInfoChar(out, '}');
}

static Datum finish_decide(SlmWork *work, bool *isnull)
{
    const Decide *d = slm_pg_work_state(work);
    const SlmQuestions *all = d->questions;
    StringInfoData out;

    initStringInfo(&out);
    appendStringInfoChar(&out, all->named ? '{' : '[');
    for (int i = 0; i < all->n; i++) {
        const SlmQuestion *q = &all->questions[i];
        const SlmAskedAs *as = &all->as[i];
        const double *p = slm_pg_asked(work, d->asked, i);

        if (all->named)
            put_key(&out, as->name);
        else if (i > 0)
            appendStringInfoChar(&out, ',');
        appendStringInfo(&out, "{\"type\":\"%s\"", as->type);
        if (!all->named && as->name != NULL) {
            put_key(&out, "name");
            put_string(&out, as->name);
        }
        if (q->type == SLM_QUESTION_YES_NO)
            put_yes_no(&out, as, p);
        else if (q->type == SLM_QUESTION_CHOICE)
            put_choice(&out, q, as, p, all->named);
        else
            put_scale(&out, q, as, p, all->named);
        appendStringInfoChar(&out, '}');
    }
    appendStringInfoChar(&out, all->named ? '}' : ']');
    return DirectFunctionCall1(jsonb_in, CStringGetDatum(out.data));
}

const SlmWorkKind slm_pg_decide_kind = {
    .symbol = "slm_pg_decide", .task = SLM_TASK_CLASSIFY, .decides = true, .begin = begin_text, .finish = finish_decide};
const SlmWorkKind slm_pg_decide_row_kind = {
    .symbol = "slm_pg_decide_row", .task = SLM_TASK_CLASSIFY, .decides = true, .begin = begin_row, .finish = finish_decide};

Datum slm_pg_decide(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_decide_kind, fcinfo);
}

Datum slm_pg_decide_row(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_decide_row_kind, fcinfo);
}

/* ---- slm_decide_details */

static Datum finish_details(SlmWork *work, bool *isnull)
{
    return PointerGetDatum(slm_pg_work_state(work));
}

const SlmWorkKind slm_pg_decide_details_kind = {
    .symbol = "slm_pg_decide_details", .task = SLM_TASK_CLASSIFY, .decides = true, .answers = SLM_ANSWERS_SET, .begin = begin_text,
    .finish = finish_details};

static void put_rows(SlmWork *work, const void *answer, ReturnSetInfo *rsinfo)
{
    const Decide *d = answer;

    for (int i = 0; i < d->questions->n; i++) {
        const SlmQuestion *q = &d->questions->questions[i];
        const SlmAskedAs *as = &d->questions->as[i];
        const double *p = slm_pg_asked(work, d->asked, i);
        int n = q->n + q->none, best = likeliest(p, n);

        for (int k = 0; k < n; k++) {
            const char *option = option_name(q, as, k), *name = as->name == NULL ? psprintf("%d", i + 1) : as->name;
            Datum values[4] = {PointerGetDatum(slm_pg_text_from_utf8(name, strlen(name))),
                               PointerGetDatum(slm_pg_text_from_utf8(option, strlen(option))), Float8GetDatum(p[k]),
                               BoolGetDatum(k == best)};
            bool nulls[4] = {false, false, false, false};

            tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
        }
    }
}

Datum slm_pg_decide_details(PG_FUNCTION_ARGS)
{
    return slm_pg_work_set(&slm_pg_decide_details_kind, fcinfo, put_rows);
}
