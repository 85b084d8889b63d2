/*
 * typed.c: answers that are valid by construction: slm_generate_json, slm_generate_as, slm_generate_matching.
 *
 * Each writes under a constraint (run/constraints.h), made of its second argument, which is in general the same for all rows.  A schema is
 * also said to the model, in the system text, or a small one would be led where it does not want to go (show_schema).
 *
 * slm_generate_as has a name of its own because slm_generate(text, text) takes a model's name second: for a call with untyped literals or
 * parameters PostgreSQL would have to choose between the two, and would either refuse or take a value for a model.
 */
#include "postgres.h"

#include "fmgr.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/base/row_error.h"
#include "pg/functions/column_values.h"
#include "pg/functions/generate.h"
#include "pg/functions/kinds.h"
#include "pg/functions/prompts.h"
#include "pg/functions/type_schema.h"
#include "pg/run/constraints.h"
#include "pg/run/work.h"

PG_FUNCTION_INFO_V1(slm_pg_generate_json);
PG_FUNCTION_INFO_V1(slm_pg_generate_as);
PG_FUNCTION_INFO_V1(slm_pg_generate_matching);

enum { ARG_PROMPT, ARG_FORM, ARG_MODEL, ARG_SHOW = ARG_MODEL + 14, ARG_VALUES_OF };
enum { ARG_REGEX = 1, ARG_GRAMMAR, ARG_MATCHING_MODEL }; /* of slm_generate_matching */

typedef struct Wanted {
    const char *prefill; /* UTF-8: the answer begins with it */
    Oid type;            /* of slm_generate_as */
    int32 typmod;
} Wanted;

char *slm_pg_schema_instruction(const SlmOpenModel *entry, const char *schema)
{
    return slm_pg_prompt_with(SLM_PROMPT_SCHEMA, entry, "schema", schema);
}

/* Queues the request: an answer of the form (UTF-8) that is given.  The work's state is a Wanted. */
static void begin(SlmWork *work, FunctionCallInfo fcinfo, int model, slm_constraint_kind kind, const char *form, const char *shown)
{
    slm_segment segments[SLM_GENERATE_SEGMENTS];
    slm_request request;
    Wanted *wanted = slm_pg_work_state(work);
    SlmOpenModel *entry = slm_pg_generate_request(fcinfo, model, shown, &request, segments, &wanted->prefill);

    request.constraint = slm_pg_constraint(entry, kind, form);
    slm_pg_work_submit(work, entry, &request);
}

/* The same for JSON: the schema is said to the model, unless the call does not want that. */
static void begin_schema(SlmWork *work, FunctionCallInfo fcinfo, const char *schema)
{
    const char *utf8 = slm_pg_utf8_from_cstring(schema);

    begin(work, fcinfo, ARG_MODEL, SLM_CONSTRAINT_JSON_SCHEMA, utf8, slm_pg_bool_arg(fcinfo, ARG_SHOW, true) ? utf8 : NULL);
}

/* The answer, which is complete, in the server's encoding. */
static text *answer_of(SlmWork *work)
{
    const slm_result *result = slm_pg_work_result(work, 0);

    if (result->finish == SLM_FINISH_LENGTH)
        ereport(ERROR, (slm_pg_input_error(SLM_FAULT_NO_ANSWER), errcode(ERRCODE_DATA_EXCEPTION),
                        errmsg("the answer is not complete after max_tokens => %zu", result->n_tokens),
                        errhint("Raise max_tokens, or bound what may be written: maxLength, maxItems, {0,50}.")));
    if (result->finish == SLM_FINISH_CONTEXT)
        ereport(ERROR, (slm_pg_input_error(SLM_FAULT_LONG), errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("the answer is not complete at the end of the model's context"),
                        errhint("Shorten the text, or bound what may be written: maxLength, maxItems, {0,50}.")));
    return slm_pg_whole_answer(((const Wanted *) slm_pg_work_state(work))->prefill, result);
}

/* NULL: the answer is null. */
static Wanted *new_wanted(SlmWork *work, FunctionCallInfo fcinfo, bool form)
{
    Wanted *wanted = palloc0(sizeof *wanted);

    if (PG_ARGISNULL(ARG_PROMPT) || (form && PG_ARGISNULL(ARG_FORM))) {
        slm_pg_work_decide(work, (Datum) 0, true);
        return NULL;
    }
    slm_pg_work_set_state(work, wanted);
    return wanted;
}

/* ---- slm_generate_json */

static void begin_json(SlmWork *work, FunctionCallInfo fcinfo)
{
    Jsonb *schema;

    if (new_wanted(work, fcinfo, true) == NULL)
        return;
    schema = PG_GETARG_JSONB_P(ARG_FORM);
    begin_schema(work, fcinfo, JsonbToCString(NULL, &schema->root, (int) VARSIZE(schema)));
}

static Datum finish_json(SlmWork *work, bool *isnull)
{
    return DirectFunctionCall1(jsonb_in, CStringGetDatum(text_to_cstring(answer_of(work))));
}

const SlmWorkKind slm_pg_generate_json_kind = {
    .symbol = "slm_pg_generate_json", .task = SLM_TASK_GENERATE, .begin = begin_json, .finish = finish_json};

Datum slm_pg_generate_json(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_generate_json_kind, fcinfo);
}

/* ---- slm_generate_as */

/* numeric(8,2) of NULL::numeric(8,2): the type modifier is known of the call's expression only. */
static int32 argument_typmod(FunctionCallInfo fcinfo, int i)
{
    Node *expr = fcinfo->flinfo == NULL ? NULL : fcinfo->flinfo->fn_expr;
    List *args = expr != NULL && IsA(expr, FuncExpr) ? ((FuncExpr *) expr)->args : NIL;

    return i < list_length(args) ? exprTypmod(list_nth(args, i)) : -1;
}

/* Within the values of a column, where there is one. */
static const char *schema_of(FunctionCallInfo fcinfo, const Wanted *wanted)
{
    SlmColumnValues values;

    if (PG_ARGISNULL(ARG_VALUES_OF))
        return slm_pg_type_schema(wanted->type, wanted->typmod);
    slm_pg_column_values(text_to_cstring(PG_GETARG_TEXT_PP(ARG_VALUES_OF)), SLM_MAX_COLUMN_VALUES, &values);
    return slm_pg_values_schema(wanted->type, &values);
}

static void begin_as(SlmWork *work, FunctionCallInfo fcinfo)
{
    Wanted *wanted = new_wanted(work, fcinfo, false);

    if (wanted == NULL)
        return;
    wanted->type = get_fn_expr_argtype(fcinfo->flinfo, ARG_FORM);
    wanted->typmod = argument_typmod(fcinfo, ARG_FORM);
    if (!OidIsValid(wanted->type))
        elog(ERROR, "could not determine the type of the answer");
    begin_schema(work, fcinfo, schema_of(fcinfo, wanted));
}

static Datum finish_as(SlmWork *work, bool *isnull)
{
    const Wanted *wanted = slm_pg_work_state(work);

    return slm_pg_type_value(wanted->type, wanted->typmod, text_to_cstring(answer_of(work)), isnull);
}

const SlmWorkKind slm_pg_generate_as_kind = {
    .symbol = "slm_pg_generate_as", .task = SLM_TASK_GENERATE, .begin = begin_as, .finish = finish_as};

Datum slm_pg_generate_as(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_generate_as_kind, fcinfo);
}

/* ---- slm_generate_matching */

static void begin_matching(SlmWork *work, FunctionCallInfo fcinfo)
{
    bool regex = !PG_ARGISNULL(ARG_REGEX);

    if (new_wanted(work, fcinfo, false) == NULL)
        return;
    if (regex == !PG_ARGISNULL(ARG_GRAMMAR))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg(regex ? "both a regex and a grammar are given" : "neither a regex nor a grammar is given"),
                        errhint("Pass regex => '[A-Z]{2}[0-9]{4}', or grammar => 'root ::= \"yes\" | \"no\"'.")));
    begin(work, fcinfo, ARG_MATCHING_MODEL, regex ? SLM_CONSTRAINT_REGEX : SLM_CONSTRAINT_GBNF,
          slm_pg_utf8_from_text(PG_GETARG_TEXT_PP(regex ? ARG_REGEX : ARG_GRAMMAR), NULL), NULL);
}

static Datum finish_matching(SlmWork *work, bool *isnull)
{
    return PointerGetDatum(answer_of(work));
}

const SlmWorkKind slm_pg_generate_matching_kind = {
    .symbol = "slm_pg_generate_matching", .task = SLM_TASK_GENERATE, .begin = begin_matching, .finish = finish_matching};

Datum slm_pg_generate_matching(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_generate_matching_kind, fcinfo);
}
