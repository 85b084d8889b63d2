/*
 * Words, their tokens, and what stands around them (words.h).
 */
#include "engine/text/words.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "engine/base/utf8.h"
#include "engine/text/internal.h"
#include "engine/text/steps.h"

#define LEAST_ROOM 8 /* tokens of a text beside its labels */

/* ---- where words are */

/* White space of Python's regular expressions: also four control characters. */
static bool is_space(uint32_t c)
{
    return slm_text_is_space(c) || (c >= 0x1C && c <= 0x1F);
}

static bool is_letter(uint32_t c)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t) c);
    return c == '_' || (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO) ||
        (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO);
}

/* Behind the letters that begin at `at`. */
static size_t skip_letters(const char *text, size_t length, size_t at)
{
    int n;
    while (at < length && is_letter(slm_utf8_decode(text + at, &n)))
        at += (size_t) n;
    return at;
}

bool slm_word_next(const char *text, size_t length, size_t from, slm_word *out)
{
    int n = 0;
    while (from < length && is_space(slm_utf8_decode(text + from, &n)))
        from += (size_t) n;
    if (from >= length)
        return false;
    out->begin = from;
    out->end = skip_letters(text, length, from);
    if (out->end == from) {
        slm_utf8_decode(text + from, &n);
        out->end = from + (size_t) n;
        return true;
    }
    while (out->end < length && text[out->end] == '-') {
        size_t end = skip_letters(text, length, out->end + 1);
        if (end == out->end + 1)
            break;
        out->end = end;
    }
    return true;
}

/* ---- their tokens */

/* Words of a text that have tokens: those of word i are ids[starts[i]] to ids[starts[i + 1] - 1]. */
typedef struct reading {
    slm_ids ids;
    slm_word *words; /* [n] */
    size_t *starts;  /* [n + 1] */
    size_t n, room;
} reading;

static void free_reading(reading *r)
{
    free(r->ids.ids);
    free(r->words);
    free(r->starts);
}

static slm_status grow(reading *r, slm_error *err)
{
    size_t room = r->room > 0 ? 2 * r->room : 64;
    if (r->n < r->room)
        return SLM_OK;
    slm_word *words = realloc(r->words, room * sizeof *words);
    r->words = words != NULL ? words : r->words;
    size_t *starts = realloc(r->starts, (room + 1) * sizeof *starts);
    r->starts = starts != NULL ? starts : r->starts;
    if (words == NULL || starts == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for the words of a text");
    r->room = room;
    return SLM_OK;
}

/* All of them, or as many as have `enough` tokens; *more: there are others behind those. */
static slm_status read_words(slm_tokenizer *tok, const char *text, size_t length, size_t enough, const volatile int *stop, reading *r,
                             bool *more, slm_error *err)
{
    slm_word word = {0, 0};
    *more = false;
    while (slm_word_next(text, length, word.end, &word)) {
        size_t before = r->ids.n;
        if (before >= enough) {
            *more = true;
            return SLM_OK;
        }
        SLM_TRY(grow(r, err));
        SLM_TRY(slm_tokenizer_encode(tok, text + word.begin, word.end - word.begin, false, true, stop, &r->ids, err));
        if (r->ids.n == before)
            continue;
        r->words[r->n] = word;
        r->starts[r->n++] = before;
        r->starts[r->n] = r->ids.n;
    }
    return SLM_OK;
}

/* How many words from `first` on fit into so many tokens; one at least. */
static size_t words_that_fit(const reading *r, size_t first, size_t room, size_t max_words)
{
    size_t n = 1;
    while (first + n < r->n && n < max_words && r->starts[first + n + 1] - r->starts[first] <= room)
        n++;
    return n;
}

/* ---- the prompt */

/* What stands before the words; rows of the labels to rows unless NULL. */
static slm_status put_labels(slm_tokenizer *tok, const slm_wording *how, const char *const *labels, size_t n_labels,
                             const volatile int *stop, slm_ids *ids, uint32_t *rows, slm_error *err)
{
    const slm_tok_frame *frame = &tok->h->frame;
    for (uint32_t i = 0; i < frame->n_before; i++)
        SLM_TRY(slm_ids_push(ids, frame->before[i], err));
    for (size_t i = 0; i < n_labels; i++) {
        if (ids->n >= how->max_tokens)
            break;
        if (rows != NULL)
            rows[i] = (uint32_t) ids->n + how->behind;
        SLM_TRY(slm_ids_push(ids, how->label_mark, err));
        SLM_TRY(slm_tokenizer_encode(tok, labels[i], strlen(labels[i]), false, true, stop, ids, err));
    }
    SLM_TRY(slm_ids_push(ids, how->text_mark, err));
    if (ids->n + frame->n_after + LEAST_ROOM <= how->max_tokens)
        return SLM_OK;
    slm_fail(err, SLM_LIMIT, "the labels have %zu tokens, which leaves no room for a text: the model reads %u", ids->n, how->max_tokens);
    return slm_hint(err, "Ask for fewer labels, or for shorter ones.");
}

void slm_worded_free(slm_worded *m)
{
    if (m == NULL)
        return;
    free(m->ids.ids);
    free(m->words);
    free(m->labels);
    free(m->places);
    *m = (slm_worded) {0};
}

static slm_status build(slm_tokenizer *tok, const slm_wording *how, const char *const *labels, const char *text, size_t length,
                        const volatile int *stop, slm_worded *m, reading *r, bool *cut, slm_error *err)
{
    const slm_tok_frame *frame = &tok->h->frame;
    m->labels = calloc(m->n_labels + 1, sizeof *m->labels);
    if (m->labels == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    SLM_TRY(put_labels(tok, how, labels, m->n_labels, stop, &m->ids, m->labels, err));
    size_t room = how->max_tokens - m->ids.n - frame->n_after;
    SLM_TRY(read_words(tok, text, length, room + 1, stop, r, cut, err));
    if (r->n == 0) {
        slm_fail(err, SLM_INVALID, "the text has no words");
        slm_blame(err, SLM_CAUSE_EMPTY);
        return SLM_INVALID;
    }
    m->n_words = (uint32_t) words_that_fit(r, 0, room, how->max_words);
    *cut = *cut || m->n_words < r->n;
    m->words = malloc(2 * (size_t) m->n_words * sizeof *m->words);
    m->places = malloc(m->n_words * sizeof *m->places);
    if (m->words == NULL || m->places == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for the words of a text");
    for (uint32_t i = 0; i < m->n_words; i++) {
        size_t n = r->starts[i + 1] - r->starts[i];
        m->words[2 * i] = (uint32_t) m->ids.n;
        m->words[2 * i + 1] = (uint32_t) (n < room ? n : room); /* a single word that is longer */
        m->places[i] = r->words[i];
        for (uint32_t k = 0; k < m->words[2 * i + 1]; k++)
            SLM_TRY(slm_ids_push(&m->ids, r->ids.ids[r->starts[i] + k], err));
    }
    for (uint32_t i = 0; i < frame->n_after; i++)
        SLM_TRY(slm_ids_push(&m->ids, frame->after[i], err));
    return SLM_OK;
}

slm_status slm_worded_build(slm_tokenizer *tok, const slm_wording *how, const char *const *labels, size_t n_labels, const char *text,
                            size_t length, const volatile int *stop, slm_worded *out, bool *cut, slm_error *err)
{
    slm_worded m = {.n_labels = (uint32_t) n_labels};
    reading r = {0};
    slm_status status = build(tok, how, labels, text, length, stop, &m, &r, cut, err);
    free_reading(&r);
    if (status != SLM_OK) {
        slm_worded_free(&m);
        return status;
    }
    *out = m;
    return SLM_OK;
}

slm_status slm_worded_windows(slm_tokenizer *tok, const slm_wording *how, const char *const *labels, size_t n_labels, const char *text,
                              size_t length, const volatile int *stop, size_t **offsets, size_t *n, slm_error *err)
{
    slm_ids ids = {0};
    reading r = {0};
    bool more;
    slm_status status = put_labels(tok, how, labels, n_labels, stop, &ids, NULL, err);
    size_t taken = ids.n + tok->h->frame.n_after;
    *n = 0;
    free(ids.ids);
    if (status == SLM_OK)
        status = read_words(tok, text, length, SIZE_MAX, stop, &r, &more, err);
    size_t *out = status == SLM_OK ? malloc(2 * (r.n + 1) * sizeof *out) : NULL;
    if (status == SLM_OK && out == NULL)
        status = slm_fail(err, SLM_NOMEM, "out of memory");
    for (size_t first = 0, fit; status == SLM_OK && first < r.n; first += fit > 1 ? fit - fit / 4 : 1) {
        fit = words_that_fit(&r, first, how->max_tokens - taken, how->max_words);
        out[2 * *n] = r.words[first].begin;
        out[2 * (*n)++ + 1] = r.words[first + fit - 1].end;
        if (first + fit == r.n)
            break;
    }
    free_reading(&r);
    if (status == SLM_OK)
        *offsets = out;
    return status;
}
