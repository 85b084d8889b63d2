/*
 * text.c: slm_summarize, slm_summarize_details.
 *
 * By sentences of the text (sentences.h), or written by a model: small ones write worse than the text's own sentences.
 *
 * What a model writes (condense.h): a small model does not count words, so the bound is kept here: an answer with more than max_words words
 * ends at its last full sentence within them; where none is so short, sentences of the text take its place.
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/base/guc.h"
#include "pg/base/row_error.h"
#include "pg/functions/condense.h"
#include "pg/functions/kinds.h"
#include "pg/functions/prompts.h"
#include "pg/functions/reading.h"
#include "pg/functions/sentences.h"
#include "pg/models/catalog.h"
#include "pg/run/backend.h"
#include "pg/run/use.h"
#include "pg/run/work.h"

PG_FUNCTION_INFO_V1(slm_pg_summarize);
PG_FUNCTION_INFO_V1(slm_pg_summarize_details);

enum { ARG_INPUT, ARG_MAX_WORDS, ARG_FOCUS, ARG_MODEL, ARG_TRUNCATE, ARG_METHOD };

typedef struct Summary {
    const char *input; /* UTF-8 [length] */
    size_t length;
    SlmSentences *sentences; /* of the text itself; NULL: a model writes */
    bool fell_back;          /* no sentence that was written is short enough */
    int max_words;
} Summary;

static void put_instruction(SlmCondense *what, const Summary *s, FunctionCallInfo fcinfo)
{
    SlmVariable variables[2] = {{.name = "max_words", .value = psprintf("%d", s->max_words)}, {.name = "focus"}};
    bool focused = !PG_ARGISNULL(ARG_FOCUS);
    const char *words = slm_pg_prompt(focused ? SLM_PROMPT_SUMMARIZE_FOCUS : SLM_PROMPT_SUMMARIZE, what->entry);

    if (focused)
        variables[1].value = slm_pg_utf8_from_text(PG_GETARG_TEXT_PP(ARG_FOCUS), NULL);
    what->instruction = slm_pg_fill_variables(words, variables, focused ? 2 : 1);
    what->public_bytes = slm_pg_public_bytes(words);
}

/* ---- which method */

#define SMALL_MODEL UINT64CONST(1000000000)

/* The model that the call names, or the default that writes; NULL: neither. */
static SlmOpenModel *named_model(SlmWork *work, FunctionCallInfo fcinfo)
{
    if (!PG_ARGISNULL(ARG_MODEL))
        return slm_pg_use_model(PG_GETARG_TEXT_PP(ARG_MODEL), SLM_TASK_ANY);
    return slm_pg_default_model(SLM_TASK_GENERATE) == NULL ? NULL : slm_pg_work_model(work, NULL);
}

/* auto: a model of a billion parameters may write; truncate speaks of a model's context, so who gives it wants one that writes. */
static bool writes(FunctionCallInfo fcinfo, const SlmOpenModel *model)
{
    const char *method = PG_ARGISNULL(ARG_METHOD) ? "auto" : text_to_cstring(PG_GETARG_TEXT_PP(ARG_METHOD));

    if (strcmp(method, "auto") == 0)
        return model != NULL && slm_pg_info(model)->can_generate &&
               (slm_pg_info(model)->n_parameters >= SMALL_MODEL || !PG_ARGISNULL(ARG_TRUNCATE));
    if (strcmp(method, "extract") != 0 && strcmp(method, "abstract") != 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown method \"%s\" of summaries", method),
                        errhint("The methods are extract (sentences of the text), abstract (a model writes) and auto.")));
    return strcmp(method, "abstract") == 0;
}

/* The model that reads sentences: the named one or the default, if it is an encoder; NULL: their words alone. */
static SlmOpenModel *encoder(SlmOpenModel *named)
{
    if (named != NULL && slm_pg_info(named)->can_embed)
        return named;
    return slm_pg_default_model(SLM_TASK_EMBED) == NULL ? NULL : slm_pg_use_model(NULL, SLM_TASK_EMBED);
}

/* ---- slm_summarize */

static Datum text_of(SlmWork *work, Summary *s)
{
    const slm_result *result;
    size_t length;

    if (s->sentences != NULL)
        return PointerGetDatum(slm_pg_chosen_sentences(s->sentences));
    result = slm_pg_work_result(work, 0);
    length = slm_pg_bounded_length(result->text, result->text_length, s->max_words, result->finish == SLM_FINISH_STOP);
    if (length > 0 || result->text_length == 0)
        return PointerGetDatum(slm_pg_text_from_utf8(result->text, length));
    s->fell_back = true;
    return PointerGetDatum(slm_pg_chosen_sentences(slm_pg_read_sentences(work, NULL, s->input, s->length, NULL, s->max_words)));
}

/* A row of details, or the text alone. */
static Datum result_of(SlmWork *work, const Summary *s, Datum summary, bool details)
{
    Datum values[3] = {summary};
    bool nulls[3] = {false, false, true};

    if (!details)
        return summary;
    values[1] = CStringGetTextDatum(s->sentences != NULL || s->fell_back ? "extract" : "abstract");
    return slm_pg_work_row(work, values, nulls);
}

static void extract_sentences(SlmWork *work, FunctionCallInfo fcinfo, Summary *s, SlmOpenModel *named, bool details)
{
    SlmOpenModel *reader = encoder(named);
    const char *focus = PG_ARGISNULL(ARG_FOCUS) ? NULL : slm_pg_utf8_from_text(PG_GETARG_TEXT_PP(ARG_FOCUS), NULL);

    s->sentences = slm_pg_read_sentences(work, reader, s->input, s->length, focus, s->max_words);
    if (reader == NULL)
        slm_pg_work_decide(work, result_of(work, s, text_of(work, s), details), false);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static Datum trimmed(const char *s, size_t length)
{
    while (length > 0 && is_space(s[length - 1]))
        length--;
    while (length > 0 && is_space(s[0])) {
        s++;
        length--;
    }
    return PointerGetDatum(slm_pg_text_from_utf8(s, length));
}

static void begin_summary(SlmWork *work, FunctionCallInfo fcinfo, bool details)
{
    Summary *s = palloc0(sizeof *s);
    SlmOpenModel *named;
    SlmCondense what;
    bool write;

    if (slm_pg_blank_arg(fcinfo, ARG_INPUT)) {
        s->fell_back = true;
        if (PG_ARGISNULL(ARG_INPUT) || !details)
            slm_pg_work_decide(work, PointerGetDatum(cstring_to_text("")), PG_ARGISNULL(ARG_INPUT));
        else
            slm_pg_work_decide(work, result_of(work, s, PointerGetDatum(cstring_to_text("")), details), false);
        return;
    }
    slm_pg_work_set_state(work, s);
    s->max_words = slm_pg_int_arg(fcinfo, ARG_MAX_WORDS, "max_words", 50, 1, 10000);
    named = named_model(work, fcinfo);
    write = writes(fcinfo, named);
    s->input = slm_pg_input_utf8(PG_GETARG_TEXT_PP(ARG_INPUT), &s->length);
    if (PG_ARGISNULL(ARG_FOCUS) && slm_pg_count_words(s->input, s->length) <= s->max_words) { /* nothing to be shortened */
        s->fell_back = true;
        slm_pg_work_decide(work, result_of(work, s, trimmed(s->input, s->length), details), false);
        return;
    }
    if (!write) {
        extract_sentences(work, fcinfo, s, named, details);
        return;
    }
    what = (SlmCondense){.entry = slm_pg_use_model(slm_pg_text_arg(fcinfo, ARG_MODEL), SLM_TASK_GENERATE),
                         .input = s->input,
                         .length = s->length,
                         .max_words = s->max_words,
                         .answer_tokens = (uint32) s->max_words * 3 + 16,
                         .truncate = slm_pg_truncate_arg(fcinfo, ARG_TRUNCATE),
                         .notes = true};
    put_instruction(&what, s, fcinfo);
    slm_pg_condense(work, &what);
}

static void begin_summarize(SlmWork *work, FunctionCallInfo fcinfo)
{
    begin_summary(work, fcinfo, false);
}

static Datum finish_summarize(SlmWork *work, bool *isnull)
{
    return text_of(work, slm_pg_work_state(work));
}

const SlmWorkKind slm_pg_summarize_kind = {.symbol = "slm_pg_summarize", .task = SLM_TASK_GENERATE, .may_need_no_model = true,
                                           .begin = begin_summarize, .finish = finish_summarize};

Datum slm_pg_summarize(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_summarize_kind, fcinfo);
}

/* ---- slm_summarize_details */

static void begin_summarize_details(SlmWork *work, FunctionCallInfo fcinfo)
{
    begin_summary(work, fcinfo, true);
}

static Datum finish_summarize_details(SlmWork *work, bool *isnull)
{
    Summary *s = slm_pg_work_state(work);
    Datum summary = text_of(work, s);

    return result_of(work, s, summary, true);
}

const SlmWorkKind slm_pg_summarize_details_kind = {
    .symbol = "slm_pg_summarize_details", .task = SLM_TASK_GENERATE, .details = true, .may_need_no_model = true,
    .begin = begin_summarize_details, .finish = finish_summarize_details};

Datum slm_pg_summarize_details(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_summarize_details_kind, fcinfo);
}
