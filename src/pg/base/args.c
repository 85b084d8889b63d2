/*
 * args.c: reading and checking arguments (args.h).
 */
#include "pg/base/args.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "nodes/primnodes.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "engine/slm.h"
#include "pg/base/compat.h"
#include "pg/base/encoding.h"
#include "pg/base/row_count.h"
#include "pg/base/row_error.h"
#include "pg/base/statement.h"

#define MAX_TOKENS 1000000
#define MAX_STOPS 64

bool slm_pg_blank_arg(FunctionCallInfo fcinfo, int i)
{
    const text *t = slm_pg_text_arg(fcinfo, i);
    const char *s = t == NULL ? NULL : VARDATA_ANY(t);
    size_t n = t == NULL ? 0 : VARSIZE_ANY_EXHDR(t);

    while (n > 0 && (*s == ' ' || (*s >= '\t' && *s <= '\r'))) {
        s++;
        if (--n % 65536 == 0)
            CHECK_FOR_INTERRUPTS();
    }
    return n == 0;
}

/* One element of an array as the server writes it, or NULL when s is none. */
static const char *array_element(const char *s, const char *end, bool *quoted)
{
    const char *begin = s;

    *quoted = s < end && *s == '"';
    if (!*quoted) {
        while (s < end && strchr(",{}\"\\", *s) == NULL)
            s++;
        return s > begin ? s : NULL;
    }
    for (s++; s < end && *s != '"'; s++)
        if (*s == '\\' && s + 1 < end)
            s++;
    return s < end ? s + 1 : NULL;
}

/* Elements of the array that the text is the server's form of: at least two, or one in quotes; else 0. */
static int array_elements(const char *s, size_t length)
{
    const char *end = s + length - 1;
    bool quoted;
    int n = 0;

    if (length < 3 || *s != '{' || *end != '}')
        return 0;
    for (s++;; s++) {
        s = array_element(s, end, &quoted);
        if (s == NULL || (s < end && *s != ','))
            return 0;
        n++;
        if (s == end)
            return n > 1 || quoted ? n : 0;
    }
}

void slm_pg_refuse_list(FunctionCallInfo fcinfo, int i, const char *hint)
{
    Node *call = fcinfo->flinfo->fn_expr, *arg;
    const text *t;
    int n;

    if (call == NULL || !IsA(call, FuncExpr) || list_length(((FuncExpr *) call)->args) <= i || PG_ARGISNULL(i))
        return;
    arg = list_nth(((FuncExpr *) call)->args, i);
    if (!IsA(arg, Const) || !slm_pg_client_statement())
        return;
    t = PG_GETARG_TEXT_PP(i);
    n = array_elements(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
    if (n > 0)
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("an array of %d %s was given where one text is expected", n,
                                                                    n == 1 ? "element" : "elements"),
                        errdetail("The text is %s, the form of an array that was sent without a type.", slm_pg_beginning(t)),
                        errhint("%s", hint)));
}

int slm_pg_int_arg(FunctionCallInfo fcinfo, int i, const char *name, int otherwise, int min, int max)
{
    int value = PG_ARGISNULL(i) ? otherwise : PG_GETARG_INT32(i);

    if (value < min || value > max)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s is %d, out of range", name, value),
                        errhint("%s must be from %d to %d.", name, min, max)));
    return value;
}

double slm_pg_float_arg(FunctionCallInfo fcinfo, int i, const char *name, double otherwise, double min, bool open_min, double max,
                        bool open_max)
{
    double value = PG_ARGISNULL(i) ? otherwise : PG_GETARG_FLOAT8(i);
    bool ok = (open_min ? value > min : value >= min) && (open_max ? value < max : value <= max); /* false for NaN */

    if (!ok)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s is %g, out of range", name, value),
                        errhint("%s must be %s %g and %s %g.", name, open_min ? "greater than" : "at least", min,
                                open_max ? "less than" : "at most", max)));
    return value;
}

double slm_pg_option_number(const char *key, const JsonbValue *value, double min, double max, bool whole, const char *hint)
{
    double number = value->type != jbvNumeric
                        ? 0
                        : DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(value->val.numeric)));
    bool in_range = number >= min && number <= max;

    if (value->type != jbvNumeric || (whole && in_range && number != (double) (int64) number))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("option \"%s\" must be a %s", key, value->type != jbvNumeric ? "number" : "whole number"),
                        errhint("%s", hint)));
    if (!in_range)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"%s\" is %.15g, out of range", key, number),
                        errhint("It must be from %.15g to %.15g.", min, max)));
    return number;
}

const char **slm_pg_strings_arg(FunctionCallInfo fcinfo, int i, const char *name, int max, int *n)
{
    ArrayType *array;
    Datum *elements;
    bool *nulls;
    const char **strings;

    *n = 0;
    if (PG_ARGISNULL(i))
        return NULL;
    array = PG_GETARG_ARRAYTYPE_P(i);
    if (ARR_NDIM(array) > 1)
        ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR), errmsg("%s must be a one-dimensional array", name)));
    deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, n);
    if (*n > max)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s has %d elements", name, *n),
                        errhint("At most %d are allowed.", max)));
    strings = palloc(sizeof(char *) * (Size) Max(*n, 1));
    for (int k = 0; k < *n; k++) {
        if (nulls[k])
            ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not contain nulls", name),
                            errhint("Use array_remove(array, NULL).")));
        strings[k] = slm_pg_utf8_from_text(DatumGetTextPP(elements[k]), NULL);
        if (strings[k][0] == '\0')
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must not contain empty strings", name)));
    }
    return strings;
}

void slm_pg_sampling_args(FunctionCallInfo fcinfo, int first, slm_request *request)
{
    slm_sampling *s = &request->sampling;
    int n_stops;

    request->max_tokens = (uint32_t) slm_pg_int_arg(fcinfo, first, "max_tokens", 256, 1, MAX_TOKENS);
    s->temperature = (float) slm_pg_float_arg(fcinfo, first + 1, "temperature", 0, 0, false, 10, false);
    s->top_k = slm_pg_int_arg(fcinfo, first + 2, "top_k", 0, 0, INT32_MAX);
    s->top_p = (float) slm_pg_float_arg(fcinfo, first + 3, "top_p", 1, 0, true, 1, false);
    s->min_p = (float) slm_pg_float_arg(fcinfo, first + 4, "min_p", 0, 0, false, 1, true);
    s->repeat_penalty = (float) slm_pg_float_arg(fcinfo, first + 5, "repeat_penalty", 1, 0, true, 10, false);
    s->seed = PG_ARGISNULL(first + 6) ? 0 : (uint64_t) PG_GETARG_INT64(first + 6);
    request->stops = slm_pg_strings_arg(fcinfo, first + 7, "stop", MAX_STOPS, &n_stops);
    request->n_stops = (size_t) n_stops;
}

slm_segment slm_pg_segment(slm_role role, unsigned flags, const text *t)
{
    slm_segment segment = {.role = role, .flags = flags};

    segment.text = (flags & SLM_SEG_PREFIX) != 0 ? slm_pg_utf8_view(t, &segment.length) : slm_pg_input_view(t, &segment.length);
    return segment;
}

slm_segment slm_pg_segment_utf8(slm_role role, unsigned flags, const char *s)
{
    return (slm_segment){.role = role, .flags = flags, .text = s, .length = strlen(s)};
}
