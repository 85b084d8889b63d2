/*
 * text.c: slm_summarize, slm_summarize_details.
 *
 * The instruction is a prefix that all rows share, the row's text follows it in the same turn.  A small model does not count words, so the
 * bound is kept here: an answer with more than max_words words ends at its last full sentence within them, or else at the word.
 *
 * A text that fits into the context is summarized by one request.  A longer one is read in windows:
 *
 *   text ──► window | window | ... | window        some are under way at a time
 *               │        │             │  summaries, each at most a quarter of a window
 *               ▼        ▼             ▼
 *            one text, at most half as long ──► fits? the last request : again
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
#include "pg/functions/kinds.h"
#include "pg/functions/reading.h"
#include "pg/functions/windows.h"
#include "pg/models/catalog.h"
#include "pg/run/backend.h"
#include "pg/run/use.h"
#include "pg/run/work.h"

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

/* ---- a summary under way */

#define WINDOWS_UNDER_WAY 16
#define LEAST_WINDOW 32    /* tokens */
#define LEEWAY 4           /* tokens by which a window may be longer in its place */

typedef struct Summary {
    SlmOpenModel *entry;
    int max_words;
    const char *instruction;
    /* of a text that is read in windows */
    uint32 part_tokens;  /* of a window's summary */
    size_t window_tokens;
    SlmWindows *windows; /* of this round; NULL: the last request is under way */
    SlmRun *runs[WINDOWS_UNDER_WAY];
    int n_runs;
    StringInfoData text; /* that the windows are of; summaries of the round before */
    StringInfoData next; /* the summaries of this round */
} Summary;

/* The request of a text; segments: [2] */
static slm_request summary_request(const Summary *s, slm_segment *segments, const char *text, size_t length, uint32 max_tokens)
{
    segments[0] = slm_pg_segment_utf8(SLM_ROLE_USER, SLM_SEG_PREFIX, s->instruction);
    segments[1] = (slm_segment){.role = SLM_ROLE_USER, .flags = SLM_SEG_JOIN, .text = text, .length = length};
    return (slm_request){.mode = SLM_MODE_GENERATE, .speculate = slm_guc_speculate, .chat = true, .segments = segments, .n_segments = 2,
                         .max_tokens = max_tokens, .sampling = {.top_p = 1, .repeat_penalty = 1}};
}

static uint32 answer_tokens(const Summary *s)
{
    return (uint32) s->max_words * 3 + 16;
}

/* What a window and its summary may have, so that each fits into the context and the KV cache; false where there is no room for any. */
static bool find_room(Summary *s)
{
    const slm_model_info *info = slm_pg_info(s->entry);
    size_t cache = (size_t) slm_guc_kv_cache_kb * 1024 / Max(info->kv_bytes_per_token, 1) / 2, room = Min(info->n_context, cache);
    slm_segment segments[2];
    slm_request nothing = summary_request(s, segments, "", 0, 1);
    size_t taken = slm_pg_prompt_tokens(s->entry, &nothing) + LEEWAY;

    s->part_tokens = (uint32) Min(answer_tokens(s), (room - Min(room, taken)) / 5);
    if (room < taken + s->part_tokens + LEAST_WINDOW || s->part_tokens == 0)
        return false;
    s->window_tokens = room - taken - s->part_tokens;
    return true;
}

static bool submit_windows(SlmWork *work, Summary *s)
{
    const char *window;
    size_t length;

    while (s->n_runs < WINDOWS_UNDER_WAY && slm_pg_next_window(s->windows, &window, &length)) {
        slm_segment segments[2];
        slm_request request = summary_request(s, segments, window, length, s->part_tokens);

        request.truncate = true; /* no more than the leeway */
        s->runs[s->n_runs++] = slm_pg_work_submit(work, s->entry, &request);
    }
    return s->n_runs > 0;
}

static void take_summaries(SlmWork *work, Summary *s)
{
    for (int i = 0; i < s->n_runs; i++) {
        const slm_result *result = slm_pg_poll(s->runs[i]);
        size_t length = bounded_length(result->text, result->text_length, s->max_words);

        if (length > 0) {
            appendBinaryStringInfo(&s->next, result->text, (int) length);
            appendStringInfoChar(&s->next, '\n');
        }
        slm_pg_work_drop(work, s->runs[i]);
    }
    s->n_runs = 0;
}

/* The summaries of a round are the text of the next. */
static void next_round(Summary *s)
{
    StringInfoData read = s->text;

    pfree(s->windows);
    s->text = s->next;
    s->next = read;
    resetStringInfo(&s->next);
    s->windows = slm_pg_windows(s->entry, s->text.data, (size_t) s->text.len, s->window_tokens, false);
}

static bool summarize_on(SlmWork *work, void *arg)
{
    Summary *s = arg;
    slm_segment segments[2];
    slm_request request;

    if (s->windows == NULL)
        return false;
    take_summaries(work, s);
    if (submit_windows(work, s))
        return true;
    if (s->next.len == 0) {
        slm_pg_work_decide(work, PointerGetDatum(cstring_to_text("")), false);
        return false;
    }
    request = summary_request(s, segments, s->next.data, (size_t) s->next.len, answer_tokens(s));
    if (slm_pg_tokens_in(s->entry, s->next.data, (size_t) s->next.len) <= s->window_tokens &&
        slm_pg_work_submit_if_fits(work, s->entry, &request) != NULL) {
        s->windows = NULL;
        return true;
    }
    next_round(s);
    return submit_windows(work, s);
}

/* Submits the whole text where it fits, else its first windows. */
static void submit_text(SlmWork *work, Summary *s, const text *input, SlmTruncate truncate)
{
    slm_segment segments[2];
    slm_request request;
    size_t length, reach;
    const char *utf8 = slm_pg_input_view(input, &length);
    bool more;

    reach = slm_pg_reach(s->entry, utf8, length, slm_pg_info(s->entry)->n_context, &more);
    request = summary_request(s, segments, utf8, truncate == SLM_TRUNCATE_CUT ? reach : length, answer_tokens(s));
    request.truncate = truncate == SLM_TRUNCATE_CUT;
    if (truncate == SLM_TRUNCATE_DEFAULT && !more && slm_pg_work_submit_if_fits(work, s->entry, &request) != NULL)
        return;
    if (truncate != SLM_TRUNCATE_DEFAULT || !find_room(s)) {
        slm_pg_work_submit(work, s->entry, &request); /* raises an error where it does not fit */
        return;
    }
    slm_pg_work_longer(work);
    initStringInfo(&s->text);
    initStringInfo(&s->next);
    utf8 = slm_pg_input_utf8(input, &length); /* of its own, for the rest of the work */
    s->windows = slm_pg_windows(s->entry, utf8, length, s->window_tokens, false);
    slm_pg_work_go_on(work, summarize_on, s);
    (void) submit_windows(work, s);
}

/* ---- slm_summarize */

static void begin_summarize(SlmWork *work, FunctionCallInfo fcinfo)
{
    Summary *s = palloc0(sizeof *s);
    char *instruction;

    if (slm_pg_blank_arg(fcinfo, ARG_INPUT)) {
        slm_pg_work_decide(work, PointerGetDatum(cstring_to_text("")), PG_ARGISNULL(ARG_INPUT));
        return;
    }
    s->max_words = slm_pg_int_arg(fcinfo, ARG_MAX_WORDS, "max_words", 50, 1, 10000);
    instruction = psprintf("Summarize the following text in at most %d words", s->max_words);
    if (!PG_ARGISNULL(ARG_FOCUS))
        instruction = psprintf("%s, with a focus on %s", instruction, text_to_cstring(PG_GETARG_TEXT_PP(ARG_FOCUS)));
    s->instruction = slm_pg_utf8_from_cstring(psprintf("%s.\n\nText: ", instruction));
    slm_pg_work_set_state(work, s);
    s->entry = slm_pg_work_model(work, slm_pg_text_arg(fcinfo, ARG_MODEL));
    submit_text(work, s, PG_GETARG_TEXT_PP(ARG_INPUT), slm_pg_truncate_arg(fcinfo, ARG_TRUNCATE));
}

static Datum finish_summarize(SlmWork *work, bool *isnull)
{
    const slm_result *result = slm_pg_work_result(work, 0);
    const Summary *s = slm_pg_work_state(work);

    return PointerGetDatum(slm_pg_text_from_utf8(result->text, bounded_length(result->text, result->text_length, s->max_words)));
}

const SlmWorkKind slm_pg_summarize_kind = {
    .symbol = "slm_pg_summarize", .task = SLM_TASK_GENERATE, .begin = begin_summarize, .finish = finish_summarize};

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
    .symbol = "slm_pg_summarize_details", .task = SLM_TASK_GENERATE, .details = true,
    .begin = begin_summarize, .finish = finish_summarize_details};

Datum slm_pg_summarize_details(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_summarize_details_kind, fcinfo);
}
