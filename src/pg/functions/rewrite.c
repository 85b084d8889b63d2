/*
 * rewrite.c: slm_translate, slm_fix_grammar: the whole text said in another way by a generative model.
 *
 * The instruction is a prefix that all rows share.  What a model writes may be wrong, so nothing more is promised than that it is complete:
 * an answer that comes to the limit of its tokens, or of the context, is an error of the row.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/base/guc.h"
#include "pg/base/row_error.h"
#include "pg/functions/kinds.h"
#include "pg/functions/prompts.h"
#include "pg/models/catalog.h"
#include "pg/run/work.h"

PG_FUNCTION_INFO_V1(slm_pg_translate);
PG_FUNCTION_INFO_V1(slm_pg_fix_grammar);

/* Queues the request, by a prompt with at most one placeholder: model and max_tokens are the arguments `model` and the one behind it. */
static void begin_rewrite(SlmWork *work, FunctionCallInfo fcinfo, SlmPrompt prompt, SlmVariable *target, int model)
{
    slm_segment segments[2];
    slm_request request = {.mode = SLM_MODE_GENERATE,
                           .speculate = slm_guc_speculate,
                           .chat = true,
                           .segments = segments,
                           .n_segments = 2,
                           .sampling = {.top_p = 1, .repeat_penalty = 1}};
    SlmOpenModel *entry = slm_pg_work_model(work, slm_pg_text_arg(fcinfo, model));
    const char *words = slm_pg_prompt(prompt, entry);

    request.public_bytes = slm_pg_public_bytes(words);
    request.max_tokens = (uint32) slm_pg_int_arg(fcinfo, model + 1, "max_tokens", 1024, 1, 1000000);
    segments[0] = slm_pg_segment_utf8(SLM_ROLE_USER, SLM_SEG_PREFIX,
                                      slm_pg_fill_variables(words, target, target == NULL ? 0 : 1));
    segments[1] = slm_pg_segment(SLM_ROLE_USER, SLM_SEG_JOIN, PG_GETARG_TEXT_PP(0));
    if (slm_pg_work_submit_if_fits(work, entry, &request) == NULL)
        ereport(ERROR, (slm_pg_input_error(SLM_FAULT_LONG), errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("the text is longer than the model reads"),
                        errhint("Shorten the text, or take its pieces one by one: SELECT ... FROM slm_chunk(body, 500).")));
}

static Datum finish_rewrite(SlmWork *work, bool *isnull)
{
    const slm_result *result = slm_pg_work_result(work, 0);

    if (result->finish != SLM_FINISH_STOP)
        ereport(ERROR, (slm_pg_input_error(SLM_FAULT_NO_ANSWER), errcode(ERRCODE_DATA_EXCEPTION),
                        errmsg("the answer is not complete after %zu tokens", result->n_tokens),
                        errhint("Raise max_tokens, or shorten the text.")));
    return PointerGetDatum(slm_pg_text_from_utf8(result->text, result->text_length));
}

/* A NULL text, or one without a word. */
static bool decided_blank(SlmWork *work, FunctionCallInfo fcinfo)
{
    if (!slm_pg_blank_arg(fcinfo, 0))
        return false;
    slm_pg_work_decide(work, PointerGetDatum(cstring_to_text("")), PG_ARGISNULL(0));
    return true;
}

/* ---- slm_translate(input, target, model, max_tokens) */

static void begin_translate(SlmWork *work, FunctionCallInfo fcinfo)
{
    if (slm_pg_blank_arg(fcinfo, 1))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the target language is missing"),
                        errhint("For example: slm_translate(body, 'French')")));
    if (!decided_blank(work, fcinfo)) {
        SlmVariable target = {.name = "target", .value = slm_pg_utf8_from_text(PG_GETARG_TEXT_PP(1), NULL)};

        begin_rewrite(work, fcinfo, SLM_PROMPT_TRANSLATE, &target, 2);
    }
}

const SlmWorkKind slm_pg_translate_kind = {.symbol = "slm_pg_translate",
                                           .task = SLM_TASK_GENERATE,
                                           .begin = begin_translate,
                                           .finish = finish_rewrite};

Datum slm_pg_translate(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_translate_kind, fcinfo);
}

/* ---- slm_fix_grammar(input, model, max_tokens) */

static void begin_fix_grammar(SlmWork *work, FunctionCallInfo fcinfo)
{
    if (!decided_blank(work, fcinfo))
        begin_rewrite(work, fcinfo, SLM_PROMPT_FIX_GRAMMAR, NULL, 1);
}

const SlmWorkKind slm_pg_fix_grammar_kind = {.symbol = "slm_pg_fix_grammar",
                                             .task = SLM_TASK_GENERATE,
                                             .begin = begin_fix_grammar,
                                             .finish = finish_rewrite};

Datum slm_pg_fix_grammar(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_fix_grammar_kind, fcinfo);
}
