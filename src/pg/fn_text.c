/*
 * fn_text.c: slm_summarize, slm_summarize_details.
 *
 * The instruction is a prefix that all rows share, the row's text follows it in the same turn.  A small model does not count words, so the
 * bound is kept here: an answer with more than max_words words ends at its last full sentence within them, or else at the word.
 */
#include "pg/args.h"
#include "pg/work.h"

#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(slm_pg_summarize);
PG_FUNCTION_INFO_V1(slm_pg_summarize_details);

enum { ARG_INPUT, ARG_MAX_WORDS, ARG_FOCUS, ARG_MODEL, ARG_TRUNCATE };

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* Bytes of s to keep, so that it has at most max_words words. */
static size_t bounded_length(const char *s, size_t length, int max_words)
{
    size_t end = 0, sentence = 0;
    int words = 0;

    for (size_t i = 0; i < length;) {
        while (i < length && is_space(s[i]))
            i++;
        if (i == length)
            return end;
        if (words == max_words)
            return sentence > 0 ? sentence : end;
        while (i < length && !is_space(s[i]))
            i++;
        end = i;
        words++;
        if (s[i - 1] == '.' || s[i - 1] == '!' || s[i - 1] == '?')
            sentence = end;
    }
    return end;
}

static void begin_summarize(SlmWork *work, FunctionCallInfo fcinfo)
{
    slm_segment segments[2];
    slm_request request = {.mode = SLM_MODE_GENERATE, .speculate = slm_guc_speculate, .chat = true, .segments = segments, .n_segments = 2,
                           .truncate = slm_pg_bool_arg(fcinfo, ARG_TRUNCATE, false), .sampling = {.top_p = 1, .repeat_penalty = 1}};
    char *instruction;
    int *max_words = palloc(sizeof(int));

    if (slm_pg_blank_arg(fcinfo, ARG_INPUT)) {
        slm_pg_work_decide(work, PointerGetDatum(cstring_to_text("")), PG_ARGISNULL(ARG_INPUT));
        return;
    }
    *max_words = slm_pg_int_arg(fcinfo, ARG_MAX_WORDS, "max_words", 50, 1, 10000);
    request.max_tokens = (uint32_t) *max_words * 3 + 16;
    instruction = psprintf("Summarize the following text in at most %d words", *max_words);
    if (!PG_ARGISNULL(ARG_FOCUS))
        instruction = psprintf("%s, with a focus on %s", instruction, text_to_cstring(PG_GETARG_TEXT_PP(ARG_FOCUS)));
    segments[0] = slm_pg_segment_utf8(SLM_ROLE_USER, SLM_SEG_PREFIX, slm_pg_utf8_from_cstring(psprintf("%s.\n\nText: ", instruction)));
    segments[1] = slm_pg_segment(SLM_ROLE_USER, SLM_SEG_JOIN, PG_GETARG_TEXT_PP(ARG_INPUT));
    slm_pg_work_set_state(work, max_words);
    slm_pg_work_submit(work, slm_pg_use_model(slm_pg_text_arg(fcinfo, ARG_MODEL), SLM_TASK_GENERATE), &request);
}

static Datum finish_summarize(SlmWork *work, bool *isnull)
{
    const slm_result *result = slm_pg_work_result(work, 0);
    const int *max_words = slm_pg_work_state(work);

    return PointerGetDatum(slm_pg_text_from_utf8(result->text, bounded_length(result->text, result->text_length, *max_words)));
}

const SlmWorkKind slm_pg_summarize_kind = {.symbol = "slm_pg_summarize", .begin = begin_summarize, .finish = finish_summarize};

Datum slm_pg_summarize(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_summarize_kind, fcinfo);
}

/* ---- slm_summarize_details */

static Datum finish_summarize_details(SlmWork *work, bool *isnull)
{
    Datum values[2] = {finish_summarize(work, isnull)};
    bool nulls[2] = {false, true};

    return slm_pg_work_row(work, values, nulls);
}

const SlmWorkKind slm_pg_summarize_details_kind = {
    .symbol = "slm_pg_summarize_details", .details = true, .begin = begin_summarize, .finish = finish_summarize_details};

Datum slm_pg_summarize_details(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_summarize_details_kind, fcinfo);
}
