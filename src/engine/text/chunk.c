/*
 * Cutting a text into pieces of at most so many tokens (slm_chunk).
 *
 * The whole text is encoded once, with the byte where each token ends; cuts are made at those bytes.  A piece takes tokens up to the limit,
 * then gives back up to half of them to end at the best boundary there: a blank line, else a line or sentence, else a word, else wherever a
 * character begins.  The piece is then encoded alone, as its reader will; when that gives more tokens (a cut inside a word, a space
 * prefix) it is shortened by the excess and tried again.
 *
 * Invariant: pieces begin and end in ascending order, each begins at or before the end of the one before, and all together cover the text.
 * Work: each piece is encoded once or twice, so linear in length * max_tokens / (max_tokens - overlap).
 */
#include <stdlib.h>

#include "engine/text/internal.h"

typedef struct cutter {
    slm_tokenizer *tok;
    const char *text;
    size_t length, max_tokens, overlap;
    const volatile int *stop;
    const size_t *ends; /* [n] byte behind each token, ascending; ends[n - 1] <= length */
    size_t n;
    slm_ids alone; /* scratch */
    slm_error *err;
} cutter;

static bool is_white(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Does a sentence end before byte at, closing quotes and brackets included? */
static bool ends_sentence(const char *text, size_t at)
{
    while (at > 0 && (text[at - 1] == '"' || text[at - 1] == '\'' || text[at - 1] == ')' || text[at - 1] == ']'))
        at--;
    if (at > 0 && (text[at - 1] == '.' || text[at - 1] == '!' || text[at - 1] == '?'))
        return true;
    return at >= 3 && (memcmp(text + at - 3, "\xE3\x80\x82", 3) == 0 || memcmp(text + at - 3, "\xEF\xBC\x81", 3) == 0 ||
                       memcmp(text + at - 3, "\xEF\xBC\x9F", 3) == 0); /* the full stop, ! and ? of Chinese and Japanese */
}

/* How good a place to cut is the end of token i?  -1: inside a character, 0 anywhere, 1 word, 2 sentence or line, 3 paragraph or end. */
static int rank_cut(const cutter *c, size_t i)
{
    const char *t = c->text;
    size_t at = c->ends[i];
    if (i + 1 == c->n || at >= c->length)
        return 3;
    if (at == 0 || !slm_utf8_is_start(t[at]) || c->ends[i + 1] == at)
        return -1;
    if (t[at - 1] == '\n' && t[at] != '\n')
        return at >= 2 && t[at - 2] == '\n' ? 3 : 2;
    bool white = is_white(t[at]) || is_white(t[at - 1]);
    bool wide = (unsigned char) t[at - 1] >= 0x80; /* after an ideographic full stop no space follows */
    if ((white || wide) && ends_sentence(t, is_white(t[at - 1]) ? at - 1 : at))
        return 2;
    return white ? 1 : 0;
}

/* The token in [low, high] behind which to cut: the best rank, the latest of equals; high + 1 when all end inside characters. */
static size_t best_cut(const cutter *c, size_t low, size_t high)
{
    size_t best = high + 1;
    int best_rank = -1;
    for (size_t i = high + 1; i-- > low && best_rank < 3;) {
        int rank = rank_cut(c, i);
        if (rank > best_rank) {
            best = i;
            best_rank = rank;
        }
    }
    return best;
}

static slm_status count_alone(cutter *c, size_t begin, size_t end, size_t *n)
{
    c->alone.n = 0;
    bool want_ends = c->tok->want_ends;
    c->tok->want_ends = false;
    slm_status status = slm_tok_encode_valid(c->tok, c->text + begin, end - begin, false, true, c->stop, &c->alone, c->err);
    c->tok->want_ends = want_ends;
    *n = c->alone.n;
    return status;
}

/* The piece whose first token has index `first` and which begins at byte `begin`: the token behind which it ends, and that byte. */
static slm_status cut_piece(cutter *c, size_t first, size_t begin, size_t *last, size_t *end)
{
    size_t take = c->max_tokens, shrink = 1;
    while (take > 0) {
        size_t high = c->n - first <= take ? c->n - 1 : first + take - 1;
        size_t keep = take / 2 > c->overlap ? take / 2 : c->overlap; /* more than these, so that the next piece ends later */
        size_t low = keep < high - first ? first + keep : high;
        size_t cut = best_cut(c, low, high);
        if (cut > high)
            cut = best_cut(c, first, high);
        if (cut > high)
            break;
        size_t n, stop_at = cut == c->n - 1 ? c->length : c->ends[cut];
        SLM_TRY(count_alone(c, begin, stop_at, &n));
        if (n <= c->max_tokens) {
            *last = cut;
            *end = stop_at;
            return SLM_OK;
        }
        size_t excess = (n - c->max_tokens) * shrink, had = cut - first + 1;
        take = had > excess ? had - excess : had / 2;
        shrink *= 2;
    }
    slm_fail(c->err, SLM_INVALID, "a piece of %zu tokens cannot hold the character at byte offset %zu", c->max_tokens, begin);
    slm_hint(c->err, "Allow more tokens a piece.");
    return SLM_INVALID;
}

/* The token that the next piece begins with: `overlap` tokens before its predecessor's end, moved forward to a word's beginning
 * where there is one, never inside a character. */
static size_t next_first(const cutter *c, size_t first, size_t last)
{
    size_t from = last + 1 - first > c->overlap ? last + 1 - c->overlap : first + 1;
    for (int rank = 1; rank >= 0; rank--)
        for (size_t i = from; i <= last; i++)
            if (rank_cut(c, i - 1) >= rank)
                return i;
    return last + 1;
}

static slm_status cut_all(cutter *c, size_t **offsets, size_t *n_chunks)
{
    size_t capacity = 0, n = 0, first = 0, last = 0, end = 0;
    while (first < c->n) {
        size_t previous_last = last, previous_end = end, begin = first == 0 ? 0 : c->ends[first - 1];
        SLM_TRY(cut_piece(c, first, begin, &last, &end));
        if (end <= previous_end) { /* the overlap left no room for anything new: go on without it */
            first = first <= previous_last ? previous_last + 1 : last + 1;
            last = previous_last > last ? previous_last : last;
            end = previous_end;
            continue;
        }
        SLM_TRY(slm_tok_reserve((void **) offsets, &capacity, 2 * n + 2, sizeof **offsets, c->err));
        (*offsets)[2 * n] = begin;
        (*offsets)[2 * n + 1] = end;
        n++;
        if (last == c->n - 1)
            break;
        first = next_first(c, first, last);
        if (c->stop != NULL && *c->stop != 0)
            return slm_tok_cancelled(c->err);
    }
    *n_chunks = n;
    return SLM_OK;
}

slm_status slm_tokenizer_chunk(slm_tokenizer *tok, const char *text, size_t length, size_t max_tokens, size_t overlap,
                               const volatile int *stop, size_t **offsets, size_t *n_chunks, slm_error *err)
{
    if (max_tokens == 0)
        return slm_fail(err, SLM_INVALID, "a piece must have at least one token");
    if (overlap >= max_tokens)
        return slm_fail(err, SLM_INVALID, "an overlap of %zu tokens is not less than a piece of %zu", overlap, max_tokens);
    cutter c = {.tok = tok, .text = text, .length = length, .max_tokens = max_tokens, .overlap = overlap, .stop = stop, .err = err};
    slm_ids ids = {0};
    size_t *found = NULL, n = 0;
    tok->want_ends = true;
    slm_status status = slm_tokenizer_encode(tok, text, length, false, true, stop, &ids, err);
    tok->want_ends = false;
    c.n = tok->ends_n;
    c.ends = tok->ends;
    tok->ends = NULL;
    tok->ends_n = tok->ends_capacity = 0;
    free(ids.ids);
    if (status == SLM_OK)
        status = cut_all(&c, &found, &n);
    free((void *) c.ends);
    free(c.alone.ids);
    if (status != SLM_OK) {
        free(found);
        return status;
    }
    *offsets = found;
    *n_chunks = n;
    return SLM_OK;
}
