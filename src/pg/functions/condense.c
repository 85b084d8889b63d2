/*
 * condense.c: what a generative model writes about a text of any length (condense.h).
 *
 * The instruction is a prefix that all requests share.  A text that fits into the context is read by one request.  A longer one is read in
 * windows:
 *
 *   text ──► window | window | ... | window        some are under way at a time
 *               │        │             │  answers, each at most a quarter of a window
 *               ▼        ▼             ▼
 *            one text, at most half as long ──► fits? the last request : again
 */
#include "pg/functions/condense.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/encoding.h"
#include "pg/base/guc.h"
#include "pg/functions/windows.h"
#include "pg/run/backend.h"

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

size_t slm_pg_bounded_length(const char *s, size_t length, int max_words, bool whole)
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

/* ---- under way */

#define WINDOWS_UNDER_WAY 16
#define LEAST_WINDOW 32    /* tokens */
#define LEEWAY 4           /* tokens by which a window may be longer in its place */

typedef struct Condensing {
    SlmCondense what;
    uint32 part_tokens; /* of a window's answer */
    size_t window_tokens;
    SlmWindows *windows; /* of this round; NULL: the last request is under way */
    SlmRun *runs[WINDOWS_UNDER_WAY];
    int n_runs;
    StringInfoData text; /* that the windows are of; answers of the round before */
    StringInfoData next; /* the answers of this round */
} Condensing;

/* The request of a text; segments: [2] */
static slm_request request_of(const Condensing *s, slm_segment *segments, const char *text, size_t length, uint32 max_tokens)
{
    segments[0] = slm_pg_segment_utf8(SLM_ROLE_USER, SLM_SEG_PREFIX, s->what.instruction);
    segments[1] = (slm_segment){.role = SLM_ROLE_USER, .flags = SLM_SEG_JOIN, .text = text, .length = length};
    return (slm_request){.mode = SLM_MODE_GENERATE, .speculate = slm_guc_speculate, .chat = true, .segments = segments, .n_segments = 2,
                         .public_bytes = s->what.public_bytes, .max_tokens = max_tokens, .sampling = {.top_p = 1, .repeat_penalty = 1}};
}

/* What a window and its answer may have, so that each fits into the context and the KV cache; false where there is no room for any. */
static bool find_room(Condensing *s)
{
    const slm_model_info *info = slm_pg_info(s->what.entry);
    size_t cache = (size_t) slm_guc_kv_cache_kb * 1024 / Max(slm_pg_kv_bytes_per_token(info), 1) / 2, room = Min(info->n_context, cache);
    slm_segment segments[2];
    slm_request nothing = request_of(s, segments, "", 0, 1);
    size_t taken = slm_pg_prompt_tokens(s->what.entry, &nothing) + LEEWAY;

    s->part_tokens = (uint32) Min(s->what.answer_tokens, (room - Min(room, taken)) / 5);
    if (room < taken + s->part_tokens + LEAST_WINDOW || s->part_tokens == 0)
        return false;
    s->window_tokens = room - taken - s->part_tokens;
    return true;
}

static bool submit_windows(SlmWork *work, Condensing *s)
{
    const char *window;
    size_t length;

    while (s->n_runs < WINDOWS_UNDER_WAY && slm_pg_next_window(s->windows, &window, &length)) {
        slm_segment segments[2];
        slm_request request = request_of(s, segments, window, length, s->part_tokens);

        request.truncate = true; /* no more than the leeway */
        s->runs[s->n_runs++] = slm_pg_work_submit(work, s->what.entry, &request);
    }
    return s->n_runs > 0;
}

static void take_answers(SlmWork *work, Condensing *s)
{
    for (int i = 0; i < s->n_runs; i++) {
        const slm_result *result = slm_pg_poll(s->runs[i]);
        size_t length = slm_pg_bounded_length(result->text, result->text_length, s->what.max_words, result->finish == SLM_FINISH_STOP);

        length = length > 0 ? length : result->text_length;
        if (length > 0) {
            appendBinaryStringInfo(&s->next, result->text, (int) length);
            appendStringInfoChar(&s->next, '\n');
        }
        slm_pg_work_drop(work, s->runs[i]);
    }
    s->n_runs = 0;
}

/* The answers of a round are the text of the next. */
static void next_round(Condensing *s)
{
    StringInfoData read = s->text;

    pfree(s->windows);
    s->text = s->next;
    s->next = read;
    resetStringInfo(&s->next);
    s->windows = slm_pg_windows(s->what.entry, s->text.data, (size_t) s->text.len, s->window_tokens, 0, false);
}

static bool go_on(SlmWork *work, void *arg)
{
    Condensing *s = arg;
    slm_segment segments[2];
    slm_request request;

    if (s->windows == NULL)
        return false;
    take_answers(work, s);
    if (submit_windows(work, s))
        return true;
    if (s->next.len == 0) {
        slm_pg_work_decide(work, PointerGetDatum(cstring_to_text("")), false);
        return false;
    }
    request = request_of(s, segments, s->next.data, (size_t) s->next.len, s->what.answer_tokens);
    if (slm_pg_tokens_in(s->what.entry, s->next.data, (size_t) s->next.len) <= s->window_tokens &&
        slm_pg_work_submit_if_fits(work, s->what.entry, &request) != NULL) {
        s->windows = NULL;
        return true;
    }
    next_round(s);
    return submit_windows(work, s);
}

/* Submits the whole text where it fits, else its first windows. */
void slm_pg_condense(SlmWork *work, const SlmCondense *what)
{
    Condensing *s = palloc0(sizeof *s);
    SlmTruncate truncate = what->truncate;
    slm_segment segments[2];
    slm_request request;
    size_t reach;
    bool more;

    s->what = *what;
    reach = slm_pg_reach(s->what.entry, s->what.input, s->what.length, slm_pg_info(s->what.entry)->n_context, &more);
    request = request_of(s, segments, s->what.input, truncate == SLM_TRUNCATE_CUT ? reach : s->what.length, s->what.answer_tokens);
    request.truncate = truncate == SLM_TRUNCATE_CUT;
    if (truncate == SLM_TRUNCATE_DEFAULT && !more && slm_pg_work_submit_if_fits(work, s->what.entry, &request) != NULL)
        return;
    if (truncate != SLM_TRUNCATE_DEFAULT || !find_room(s)) {
        slm_pg_work_submit(work, s->what.entry, &request); /* raises an error where it does not fit */
        return;
    }
    if (s->what.notes)
        slm_pg_work_longer(work);
    initStringInfo(&s->text);
    initStringInfo(&s->next);
    s->windows = slm_pg_windows(s->what.entry, s->what.input, s->what.length, s->window_tokens, 0, false);
    slm_pg_work_go_on(work, go_on, s);
    (void) submit_windows(work, s);
}
