/*
 * text.c: slm_summarize, slm_summarize_details.
 *
 * By sentences of the text (sentences.h), or written by a model: small ones write worse than the text's own sentences.
 *
 * What a model writes: the instruction is a prefix that all rows share, the row's text follows it in the same turn.  A small model does not
 * count words, so the bound is kept here: an answer with more than max_words words ends at its last full sentence within them; where none
 * is so short, sentences of the text take its place.
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
#include "pg/functions/prompts.h"
#include "pg/functions/reading.h"
#include "pg/functions/sentences.h"
#include "pg/functions/windows.h"
#include "pg/models/catalog.h"
#include "pg/run/backend.h"
#include "pg/run/use.h"
#include "pg/run/work.h"

PG_FUNCTION_INFO_V1(slm_pg_summarize);
PG_FUNCTION_INFO_V1(slm_pg_summarize_details);

enum { ARG_INPUT, ARG_MAX_WORDS, ARG_FOCUS, ARG_MODEL, ARG_TRUNCATE, ARG_METHOD };

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* Bytes of s to keep: all of it where it is whole, its own end and not a limit's, and has at most max_words words; else it ends with the
 * last sentence within them; 0 when none is short enough. */
static size_t bounded_length(const char *s, size_t length, int max_words, bool whole)
{
    size_t end = 0, sentence = 0;
    int words = 0;

    for (size_t i = 0; i < length;) {
        while (i < length && is_space(s[i]))
            i++;
        if (i == length)
            break;
        if (words++ == max_words)
            return sentence;
        while (i < length && !is_space(s[i]))
            i++;
        end = i;
        if (s[i - 1] == '.' || s[i - 1] == '!' || s[i - 1] == '?')
            sentence = end;
    }
    return whole ? end : sentence;
}

/* ---- a summary under way */

#define WINDOWS_UNDER_WAY 16
#define LEAST_WINDOW 32    /* tokens */
#define LEEWAY 4           /* tokens by which a window may be longer in its place */

typedef struct Summary {
    const char *input; /* UTF-8 [length] */
    size_t length;
    SlmSentences *sentences; /* of the text itself; NULL: a model writes */
    bool fell_back;          /* no sentence that was written is short enough */
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
        size_t length = bounded_length(result->text, result->text_length, s->max_words, result->finish == SLM_FINISH_STOP);

        length = length > 0 ? length : result->text_length;
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
    s->windows = slm_pg_windows(s->entry, s->text.data, (size_t) s->text.len, s->window_tokens, 0, false);
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
static void submit_text(SlmWork *work, Summary *s, SlmTruncate truncate)
{
    slm_segment segments[2];
    slm_request request;
    size_t reach;
    bool more;

    reach = slm_pg_reach(s->entry, s->input, s->length, slm_pg_info(s->entry)->n_context, &more);
    request = summary_request(s, segments, s->input, truncate == SLM_TRUNCATE_CUT ? reach : s->length, answer_tokens(s));
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
    s->windows = slm_pg_windows(s->entry, s->input, s->length, s->window_tokens, 0, false);
    slm_pg_work_go_on(work, summarize_on, s);
    (void) submit_windows(work, s);
}

static const char *instruction_of(const Summary *s, FunctionCallInfo fcinfo)
{
    SlmVariable variables[2] = {{.name = "max_words", .value = psprintf("%d", s->max_words)}, {.name = "focus"}};
    bool focused = !PG_ARGISNULL(ARG_FOCUS);

    if (focused)
        variables[1].value = slm_pg_utf8_from_text(PG_GETARG_TEXT_PP(ARG_FOCUS), NULL);
    return slm_pg_fill_variables(slm_pg_prompt(focused ? SLM_PROMPT_SUMMARIZE_FOCUS : SLM_PROMPT_SUMMARIZE, s->entry), variables,
                                 focused ? 2 : 1);
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
    length = bounded_length(result->text, result->text_length, s->max_words, result->finish == SLM_FINISH_STOP);
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
    s->entry = slm_pg_use_model(slm_pg_text_arg(fcinfo, ARG_MODEL), SLM_TASK_GENERATE);
    s->instruction = instruction_of(s, fcinfo);
    submit_text(work, s, slm_pg_truncate_arg(fcinfo, ARG_TRUNCATE));
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
