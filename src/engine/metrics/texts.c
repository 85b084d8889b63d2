/*
 * Texts against reference texts: ROUGE (Lin 2004, as the rouge-score package counts it) and SQuAD's exact match and F1
 * (Rajpurkar et al. 2016).
 *
 * A text becomes a list of words, a word a number: equal words have equal numbers, so that everything else compares numbers.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/metrics/metrics.h"
#include "engine/metrics/stem.h"

typedef struct words {
    uint32_t *ids;  /* [n] */
    bool *ends;     /* [n] a sentence (line) ends behind this word */
    size_t n;
} words;

typedef struct word {
    const char *at;
    uint32_t length, place; /* place: in the first text from 0, then in the second */
    bool ends;
} word;

/* The two texts' words in one array, with room for all there can be. */
typedef struct word_list {
    word *list;
    size_t n;
} word_list;

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
}

static bool in_word(char c)
{
    c = lower(c);
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static void split_rouge(word_list *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t end = i;
        while (end < n && in_word(text[end]))
            end++;
        if (end > i)
            out->list[out->n++] = (word) {text + i, (uint32_t) (end - i), 0, false};
        else if (text[end++] == '\n' && out->n > 0)
            out->list[out->n - 1].ends = true;
        i = end;
    }
}

static int compare_words(const void *a, const void *b)
{
    const word *x = a, *y = b;
    uint32_t least = x->length < y->length ? x->length : y->length;
    for (uint32_t i = 0; i < least; i++) {
        int d = lower(x->at[i]) - lower(y->at[i]);
        if (d != 0)
            return d;
    }
    return x->length < y->length ? -1 : x->length > y->length;
}

/* Numbers for the words of both texts; the list is reordered. */
static slm_status number(word_list *list, size_t n_first, words *first, words *second, slm_error *err)
{
    uint32_t id = 0;
    size_t n = list->n;
    first->n = n_first;
    second->n = n - n_first;
    first->ids = malloc(sizeof *first->ids * (n + 1));
    first->ends = malloc(sizeof *first->ends * (n + 1));
    if (first->ids == NULL || first->ends == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    second->ids = first->ids + n_first;
    second->ends = first->ends + n_first;
    for (size_t i = 0; i < n; i++) {
        list->list[i].place = (uint32_t) i;
        first->ends[i] = list->list[i].ends;
    }
    qsort(list->list, n, sizeof *list->list, compare_words);
    for (size_t i = 0; i < n; i++) {
        id += i > 0 && compare_words(&list->list[i - 1], &list->list[i]) != 0;
        first->ids[list->list[i].place] = id;
    }
    return SLM_OK;
}

/* ---- ROUGE-N */

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;
    return x < y ? -1 : x > y;
}

/* The text's n-grams (1 or 2 words), sorted, into out; returns how many. */
static size_t grams(const words *w, int n, uint64_t *out)
{
    size_t count = w->n >= (size_t) n ? w->n - (size_t) n + 1 : 0;
    for (size_t i = 0; i < count; i++)
        out[i] = n == 1 ? w->ids[i] : (uint64_t) w->ids[i] << 32 | w->ids[i + 1];
    qsort(out, count, sizeof *out, compare_u64);
    return count;
}

/* Elements that two sorted lists have in common, each as often as in both. */
static size_t common(const uint64_t *a, size_t n_a, const uint64_t *b, size_t n_b)
{
    size_t i = 0, k = 0, n = 0;
    while (i < n_a && k < n_b) {
        if (a[i] == b[k])
            n++;
        uint64_t x = a[i], y = b[k];
        i += x <= y;
        k += y <= x;
    }
    return n;
}

static slm_prf score(size_t hits, size_t n_reference, size_t n_candidate)
{
    slm_prf out = {.precision = n_candidate > 0 ? (double) hits / (double) n_candidate : 0,
                   .recall = n_reference > 0 ? (double) hits / (double) n_reference : 0};
    double sum = out.precision + out.recall;
    out.f1 = sum > 0 ? 2 * out.precision * out.recall / sum : 0;
    return out;
}

static slm_prf rouge_n(const words *reference, const words *candidate, int n, uint64_t *scratch)
{
    uint64_t *second = scratch + reference->n;
    size_t n_reference = grams(reference, n, scratch), n_candidate = grams(candidate, n, second);
    return score(common(scratch, n_reference, second, n_candidate), n_reference, n_candidate);
}

/* ---- ROUGE-L */

/* The longest common subsequence of a [n_a] and b [n_b]; table [(n_a + 1) * (n_b + 1)].  mark: sets hit[i] of the words of a in it. */
static size_t longest(const uint32_t *a, size_t n_a, const uint32_t *b, size_t n_b, uint32_t *table, bool *hit)
{
    const size_t width = n_b + 1;
    memset(table, 0, sizeof *table * width);
    for (size_t i = 1; i <= n_a; i++) {
        uint32_t *row = table + i * width, *above = row - width;
        row[0] = 0;
        for (size_t k = 1; k <= n_b; k++)
            row[k] = a[i - 1] == b[k - 1] ? above[k - 1] + 1 : above[k] > row[k - 1] ? above[k] : row[k - 1];
    }
    for (size_t i = n_a, k = n_b; hit != NULL && i > 0 && k > 0;) {
        if (a[i - 1] == b[k - 1]) {
            hit[--i] = true;
            k--;
        } else if (table[i * width + k - 1] > table[(i - 1) * width + k]) {
            k--;
        } else {
            i--;
        }
    }
    return table[n_a * width + n_b];
}

static size_t sentence_end(const words *w, size_t from)
{
    size_t end = from;
    while (end < w->n && !w->ends[end])
        end++;
    return end < w->n ? end + 1 : end;
}

/* Each sentence of the reference takes the words that it shares with any of the candidate's; no word counts more often than it occurs. */
static slm_prf rouge_lsum(const words *reference, const words *candidate, uint32_t *table, uint64_t *scratch, uint32_t *left)
{
    bool *hit = (bool *) scratch;
    size_t hits = 0;
    uint32_t *left_candidate = left + reference->n + candidate->n + 1;
    memset(left, 0, sizeof *left * 2 * (reference->n + candidate->n + 1));
    for (size_t i = 0; i < reference->n; i++)
        left[reference->ids[i]]++;
    for (size_t i = 0; i < candidate->n; i++)
        left_candidate[candidate->ids[i]]++;
    for (size_t r = 0, r_end; r < reference->n; r = r_end) {
        r_end = sentence_end(reference, r);
        memset(hit, 0, r_end - r);
        for (size_t c = 0, c_end; c < candidate->n; c = c_end) {
            c_end = sentence_end(candidate, c);
            longest(reference->ids + r, r_end - r, candidate->ids + c, c_end - c, table, hit);
        }
        for (size_t i = r; i < r_end; i++) {
            uint32_t id = reference->ids[i];
            if (hit[i - r] && left[id] > 0 && left_candidate[id] > 0) {
                hits++;
                left[id]--;
                left_candidate[id]--;
            }
        }
    }
    return score(hits, reference->n, candidate->n);
}

#define MAX_WORDS 20000 /* of a text: the table of a longest common subsequence grows with the product */

/* Puts stems in place of longer words; they lie in copy, which has room for all words. */
static void stem_words(word_list *list, char *copy)
{
    for (size_t i = 0; i < list->n; i++) {
        word *w = &list->list[i];
        if (w->length <= 3)
            continue;
        for (uint32_t k = 0; k < w->length; k++)
            copy[k] = lower(w->at[k]);
        w->at = copy;
        copy += w->length;
        w->length = (uint32_t) slm_stem(copy - w->length, w->length);
    }
}

slm_status slm_metrics_rouge(const char *reference, size_t n_reference, const char *candidate, size_t n_candidate, bool stemmed,
                             slm_rouge *out, slm_error *err)
{
    word_list list = {malloc(sizeof(word) * (n_reference / 2 + n_candidate / 2 + 3)), 0};
    words r = {0}, c = {0};
    uint64_t *scratch = NULL;
    uint32_t *table = NULL, *left = NULL;
    char *stems = stemmed ? malloc(n_reference + n_candidate + 1) : NULL;
    slm_status status = SLM_NOMEM;

    if (list.list == NULL || (stemmed && stems == NULL))
        goto done;
    split_rouge(&list, reference, n_reference);
    size_t n_first = list.n;
    split_rouge(&list, candidate, n_candidate);
    if (n_first > MAX_WORDS || list.n - n_first > MAX_WORDS) {
        status = slm_fail(err, SLM_INVALID, "a text of %zu words is too long for ROUGE", n_first > MAX_WORDS ? n_first : list.n - n_first);
        slm_hint(err, "At most %d words can be compared.", MAX_WORDS);
        goto done;
    }
    if (stemmed)
        stem_words(&list, stems);
    status = number(&list, n_first, &r, &c, err);
    scratch = malloc(sizeof *scratch * (list.n + 1));
    table = malloc(sizeof *table * (r.n + 1) * (c.n + 1));
    left = malloc(sizeof *left * 2 * (list.n + 1));
    if (status == SLM_OK && (scratch == NULL || table == NULL || left == NULL))
        status = SLM_NOMEM;
    if (status != SLM_OK)
        goto done;
    out->rouge1 = rouge_n(&r, &c, 1, scratch);
    out->rouge2 = rouge_n(&r, &c, 2, scratch);
    out->rouge_l = score(longest(r.ids, r.n, c.ids, c.n, table, NULL), r.n, c.n);
    out->rouge_lsum = rouge_lsum(&r, &c, table, scratch, left);
done:
    if (status == SLM_NOMEM)
        slm_fail(err, SLM_NOMEM, "out of memory");
    free(list.list);
    free(stems);
    free(r.ids);
    free(r.ends);
    free(scratch);
    free(table);
    free(left);
    return status;
}

/* ---- SQuAD */

static bool is_punctuation(char c)
{
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_article(const char *at, size_t n)
{
    return (n == 1 && at[0] == 'a') || (n == 2 && memcmp(at, "an", 2) == 0) || (n == 3 && memcmp(at, "the", 3) == 0);
}

/* The words of a text without case, punctuation and articles; bytes go to *buffer, which moves on. */
static void split_squad(word_list *out, char **buffer, const char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        char *begin = *buffer;
        while (i < n && is_space(text[i]))
            i++;
        for (; i < n && !is_space(text[i]); i++)
            if (!is_punctuation(text[i]))
                *(*buffer)++ = lower(text[i]);
        if (*buffer > begin && !is_article(begin, (size_t) (*buffer - begin)))
            out->list[out->n++] = (word) {begin, (uint32_t) (*buffer - begin), 0, false};
    }
}

slm_status slm_metrics_squad(const char *reference, size_t n_reference, const char *candidate, size_t n_candidate, bool *exact, double *f1,
                             slm_error *err)
{
    word_list list = {malloc(sizeof(word) * (n_reference / 2 + n_candidate / 2 + 3)), 0};
    char *bytes = malloc(n_reference + n_candidate + 1), *next = bytes;
    words r = {0}, c = {0};
    uint64_t *scratch = NULL;
    slm_status status = SLM_NOMEM;

    if (list.list == NULL || bytes == NULL)
        goto done;
    split_squad(&list, &next, reference, n_reference);
    size_t n_first = list.n;
    split_squad(&list, &next, candidate, n_candidate);
    status = number(&list, n_first, &r, &c, err);
    if (status == SLM_OK && (scratch = malloc(sizeof *scratch * (list.n + 1))) == NULL)
        status = SLM_NOMEM;
    if (status != SLM_OK)
        goto done;
    *exact = r.n == c.n && memcmp(r.ids, c.ids, sizeof *r.ids * r.n) == 0;
    *f1 = r.n == 0 || c.n == 0 ? (double) (r.n == c.n) : rouge_n(&r, &c, 1, scratch).f1;
done:
    if (status == SLM_NOMEM)
        slm_fail(err, SLM_NOMEM, "out of memory");
    free(list.list);
    free(bytes);
    free(r.ids);
    free(r.ends);
    free(scratch);
    return status;
}
