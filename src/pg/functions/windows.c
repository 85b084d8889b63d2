/*
 * windows.c: cutting a text into windows (windows.h).
 *
 *   text   [ cut before | stretch: at most 64 kB ............ | not looked at ]
 *                         [ window | window | window | rest ] ──► the next stretch begins with the rest
 *
 * Only one stretch is tokenized at a time, so memory does not depend on the length of the text.  A stretch ends at white space where there
 * is some in its second half; its last window, which may be shorter than need be, is cut again as the beginning of the next.  Windows are
 * made by the engine's slm_chunk: they end at sentences, lines or words where they can and are counted alone.
 *
 * Windows of single sentences are parts of those.  What is made of a text depends on it and the model alone, so the same windows come in
 * any plan.
 */
#include "pg/functions/windows.h"

#include "engine/slm.h"
#include "pg/base/errors.h"
#include "pg/run/opened.h"

#define STRETCH_BYTES 65536
#define SENTENCE_BYTES 32 /* less is not looked at alone: "Yes.", "Dr." */

struct SlmWindows {
    const SlmOpenModel *entry;
    const char *text;
    size_t length, max_tokens, overlap;
    size_t begin, end;  /* the stretch that was cut last */
    size_t *offsets;    /* [2 * n] its windows, from its beginning */
    size_t n, next;     /* of them, and the first that has not been handed out */
    bool sentences;
    size_t done; /* bytes of window `next` that have been handed out */
};

static bool is_white(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Where a stretch that begins at `begin` ends. */
static size_t stretch_end(const char *text, size_t length, size_t begin)
{
    size_t end = begin + STRETCH_BYTES, space;

    if (end >= length)
        return length;
    for (space = end; space > begin + STRETCH_BYTES / 2; space--)
        if (is_white(text[space]))
            return space;
    while (end > begin + 1 && ((unsigned char) text[end] & 0xC0) == 0x80)
        end--; /* not inside a character */
    return end;
}

/* Does a sentence or a line end before byte i? */
static bool ends_before(const char *s, size_t i)
{
    if (s[i - 1] == '\n')
        return true;
    if (i >= 3 && (memcmp(s + i - 3, "\xE3\x80\x82", 3) == 0 || memcmp(s + i - 3, "\xEF\xBC\x81", 3) == 0 ||
                   memcmp(s + i - 3, "\xEF\xBC\x9F", 3) == 0)) /* the full stop, ! and ? of Chinese and Japanese */
        return true;
    if (!is_white(s[i - 1]))
        return false;
    for (i--; i > 0 && (s[i - 1] == '"' || s[i - 1] == '\'' || s[i - 1] == ')' || s[i - 1] == ']'); i--)
        ;
    return i > 0 && (s[i - 1] == '.' || s[i - 1] == '!' || s[i - 1] == '?');
}

/* Bytes of the first sentence of s[0, n), or all of them: neither it nor the rest is too short to be looked at alone. */
static size_t first_sentence(const char *s, size_t n)
{
    for (size_t i = SENTENCE_BYTES; i + SENTENCE_BYTES <= n; i++)
        if (ends_before(s, i))
            return i;
    return n;
}

SlmWindows *slm_pg_windows(const SlmOpenModel *entry, const char *text, size_t length, size_t max_tokens, size_t overlap,
                           bool sentences)
{
    SlmWindows *w = palloc0(sizeof *w);

    w->entry = entry;
    w->text = text;
    w->length = length;
    w->max_tokens = max_tokens;
    w->overlap = overlap;
    w->sentences = sentences;
    return w;
}

SlmWindows *slm_pg_windows_known(const char *text, size_t length, const size_t *offsets, size_t n)
{
    SlmWindows *w = palloc0(sizeof *w);

    w->text = text;
    w->length = w->end = length;
    w->n = n;
    w->offsets = MemoryContextAllocHuge(CurrentMemoryContext, sizeof *offsets * Max(2 * n, 1));
    memcpy(w->offsets, offsets, sizeof *offsets * 2 * n);
    return w;
}

/* Cuts the stretch [begin, end) into windows; its last one is kept back where more follows. */
static void cut_stretch(SlmWindows *w)
{
    size_t *offsets = NULL;
    slm_status status;
    slm_error err;

    while ((status = slm_chunk(slm_pg_opened_model(w->entry), w->text + w->begin, w->end - w->begin, w->max_tokens, w->overlap, SLM_STOP,
                               &offsets, &w->n, &err)) == SLM_CANCELLED)
        slm_pg_interrupted();
    if (status != SLM_OK)
        slm_pg_error(&err, NULL);
    w->next = 0;
    if (w->n > 1 && w->end < w->length) {
        w->n--;
        w->end = w->begin + offsets[2 * w->n];
    }
    if (w->offsets != NULL)
        pfree(w->offsets);
    w->offsets = MemoryContextAllocExtended(GetMemoryChunkContext(w), sizeof *offsets * Max(2 * w->n, 1), MCXT_ALLOC_NO_OOM);
    if (w->offsets != NULL && w->n > 0)
        memcpy(w->offsets, offsets, sizeof *offsets * 2 * w->n);
    free(offsets);
    if (w->offsets == NULL)
        ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
}

bool slm_pg_next_window(SlmWindows *w, const char **text, size_t *length)
{
    const size_t *window;

    while (w->next == w->n) {
        if (w->end == w->length)
            return false;
        w->begin = w->end;
        w->end = stretch_end(w->text, w->length, w->begin);
        cut_stretch(w);
    }
    window = w->offsets + 2 * w->next;
    *text = w->text + w->begin + window[0] + w->done;
    *length = window[1] - window[0] - w->done;
    if (w->sentences)
        *length = first_sentence(*text, *length);
    w->done += *length;
    if (w->done == window[1] - window[0]) {
        w->next++;
        w->done = 0;
    }
    return true;
}

size_t slm_pg_tokens_in(const SlmOpenModel *entry, const char *text, size_t length)
{
    slm_tokens tokens;
    slm_status status;
    slm_error err;
    size_t n;

    while ((status = slm_tokenize(slm_pg_opened_model(entry), text, length, false, SLM_STOP, &tokens, &err)) == SLM_CANCELLED)
        slm_pg_interrupted();
    if (status != SLM_OK)
        slm_pg_error(&err, NULL);
    n = tokens.n;
    slm_tokens_free(&tokens);
    return n;
}

size_t slm_pg_reach(const SlmOpenModel *entry, const char *text, size_t length, size_t max_tokens, bool *more)
{
    size_t at = 0, n = 0;

    *more = false;
    if (length <= max_tokens) /* a token has a byte or more */
        return length;
    while (at < length && n <= max_tokens) {
        size_t end = stretch_end(text, length, at);

        n += slm_pg_tokens_in(entry, text + at, end - at);
        at = end;
    }
    *more = n > max_tokens;
    return at;
}
