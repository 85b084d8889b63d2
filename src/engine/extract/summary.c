/*
 * summary.c: the sentences of a text, and those that say what it is about (summary.h).
 *
 * A sentence is a vector: of an encoder, or of its own words (weighted by how rare they are among the sentences, hashed to a fixed width).
 * What is central is near to the mean of all; each next one must differ from those that are chosen.  All sums run in the order of the
 * sentences, in double precision.
 */
#include "engine/extract/summary.h"

#include <stdlib.h>
#include <string.h>

#include "engine/extract/words.h"

#define BLOCK 1000    /* sentences that are compared at a time */
#define DIVERSITY 0.3 /* what likeness to a chosen sentence takes away */
#define BORDER 10     /* places between words that end a sentence: words.c */
#define SHORT 4       /* a sentence of fewer words is a greeting or a heading; so is a line of no more */
#define SHORT_PENALTY 0.3
#define FIRST_BONUS 0.08 /* texts begin with what they are about */

/* ---- sentences */

static slm_status add(slm_sentence s, slm_sentence **list, size_t *n, size_t *room, slm_error *err)
{
    if (*n == *room) {
        size_t more = *room == 0 ? 32 : *room * 2;
        slm_sentence *grown = realloc(*list, more * sizeof *grown);
        if (grown == NULL)
            return slm_fail(err, SLM_NOMEM, "out of memory");
        *list = grown;
        *room = more;
    }
    (*list)[(*n)++] = s;
    return SLM_OK;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static bool asks(char c)
{
    return c == '?' || c == '!';
}

/* Takes what stands beside the words without a space: quotation marks, brackets, full stops. */
static slm_sentence with_punctuation(const char *text, size_t from, size_t to, slm_sentence s)
{
    while (s.begin > from && !is_space(text[s.begin - 1]))
        s.begin--;
    while (s.end < to && !is_space(text[s.end]))
        s.end++;
    if (s.end + 1 < to && text[s.end] == ' ' && asks(text[s.end + 1])) /* as French has it */
        for (s.end++; s.end < to && asks(text[s.end]);)
            s.end++;
    return s;
}

slm_status slm_sentences_find(const char *text, size_t length, const volatile int *stop, slm_sentence **out, size_t *n, slm_error *err)
{
    slm_words words;
    slm_sentence *list = NULL;
    size_t room = 0, count = 0, behind = 0;
    slm_status status = slm_words_find(text, length, stop, &words, err);

    if (status != SLM_OK)
        return status;
    for (size_t i = 0, first = 0; i < words.n && status == SLM_OK; i++) {
        bool ends = i + 1 == words.n || words.list[i + 1].place - words.list[i].place >= BORDER ||
                    (i - first < SHORT && memchr(text + words.list[i].end, '\n', words.list[i + 1].begin - words.list[i].end) != NULL);
        slm_sentence s = {words.list[first].begin, words.list[i].end, (uint32_t) (i - first + 1), 1};
        if (!ends)
            continue;
        s = with_punctuation(text, behind, i + 1 == words.n ? length : words.list[i + 1].begin, s);
        status = add(s, &list, &count, &room, err);
        behind = s.end;
        first = i + 1;
    }
    slm_words_free(&words);
    if (status != SLM_OK) {
        free(list);
        return status;
    }
    *out = list;
    *n = count;
    return SLM_OK;
}

/* ---- vectors of words */

/* FNV-1a of the first letters, so that most forms of a word are one. */
static uint32_t hash_word(const char *lower)
{
    uint32_t h = 2166136261u;
    for (int i = 0; i < 7 && lower[i] != '\0'; i++)
        h = (h ^ (unsigned char) lower[i]) * 16777619u;
    return h ^ h >> 15;
}

#define COUNTS 8192

/* Calls the word's number for each word of meaning. */
typedef void (*taker)(void *arg, uint32_t hash);

static slm_status each_word(const char *text, const slm_sentence *s, const volatile int *stop, taker take, void *arg, slm_error *err)
{
    slm_words words;
    slm_status status = slm_words_find(text + s->begin, s->end - s->begin, stop, &words, err);
    if (status != SLM_OK)
        return status;
    for (size_t i = 0; i < words.n; i++)
        if (!words.list[i].function)
            take(arg, hash_word(words.list[i].lower));
    slm_words_free(&words);
    return SLM_OK;
}

static void count_word(void *arg, uint32_t hash)
{
    ((uint32_t *) arg)[hash % COUNTS]++;
}

typedef struct filling {
    const uint32_t *counts;
    float *vector;
} filling;

static void put_word(void *arg, uint32_t hash)
{
    const filling *f = arg;
    float rarity = 1.0f / (1.0f + (float) f->counts[hash % COUNTS] * 0.25f);
    f->vector[hash / 2 % SLM_LEXICAL_DIMS] += hash % 2 == 0 ? rarity : -rarity;
}

static double root(double x)
{
    double r = x > 1 ? x : 1;
    for (int i = 0; i < 40; i++)
        r = 0.5 * (r + x / r);
    return r;
}

static void normalize(float *v, size_t n_dims)
{
    double sum = 0, length;
    for (size_t k = 0; k < n_dims; k++)
        sum += (double) v[k] * (double) v[k];
    if (sum <= 0)
        return;
    length = root(sum);
    for (size_t k = 0; k < n_dims; k++)
        v[k] = (float) ((double) v[k] / length);
}

slm_status slm_sentences_vectors(const char *text, const slm_sentence *sentences, size_t n, const volatile int *stop, float *vectors,
                                 slm_error *err)
{
    uint32_t *counts = calloc(COUNTS, sizeof *counts);
    slm_status status = SLM_OK;
    if (counts == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    memset(vectors, 0, sizeof *vectors * n * SLM_LEXICAL_DIMS);
    for (size_t i = 0; i < n && status == SLM_OK; i++)
        status = each_word(text, &sentences[i], stop, count_word, counts, err);
    for (size_t i = 0; i < n && status == SLM_OK; i++) {
        filling f = {counts, vectors + i * SLM_LEXICAL_DIMS};
        status = each_word(text, &sentences[i], stop, put_word, &f, err);
        normalize(f.vector, SLM_LEXICAL_DIMS);
    }
    free(counts);
    return status;
}

/* ---- choosing */

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double) a[i] * (double) b[i];
    return sum;
}

/* The normalized weighted mean of the vectors; NULL when memory is out. */
static float *mean_of(const float *vectors, size_t n_dims, const slm_sentence *sentences, size_t n)
{
    float *mean = malloc(sizeof *mean * (n_dims + 1));
    double *sum = calloc(n_dims + 1, sizeof *sum);
    if (mean != NULL && sum != NULL) {
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < n_dims; k++)
                sum[k] += (double) sentences[i].weight * (double) vectors[i * n_dims + k];
        for (size_t k = 0; k < n_dims; k++)
            mean[k] = (float) (sum[k] / (double) (n + 1));
        normalize(mean, n_dims);
    } else {
        free(mean);
        mean = NULL;
    }
    free(sum);
    return mean;
}

size_t slm_sentences_choose(const float *vectors, size_t n_dims, const slm_sentence *sentences, size_t n, const float *focus, bool in_order,
                            uint32_t max_words, uint32_t *chosen)
{
    float *mean = mean_of(vectors, n_dims, sentences, n);
    double *score = malloc(sizeof *score * (n + 1)), *like = calloc(n + 1, sizeof *like);
    size_t n_chosen = 0;
    uint32_t words = 0, least = 0; /* words that a sentence must have: greetings fill no gap, unless there is nothing else */

    for (size_t i = 0; i < n; i++)
        least = sentences[i].n_words >= SHORT ? SHORT : least;

    for (size_t i = 0; mean != NULL && score != NULL && like != NULL && i < n; i++) {
        const float *v = vectors + i * n_dims;
        score[i] = dot(v, mean, n_dims) + (focus != NULL ? dot(v, focus, n_dims) : 0) - (sentences[i].n_words < SHORT ? SHORT_PENALTY : 0) +
                   (in_order && i == 0 ? FIRST_BONUS : 0);
    }
    while (mean != NULL && score != NULL && like != NULL && n_chosen < n) {
        size_t best = n;
        double most = 0;
        for (size_t i = 0; i < n; i++) {
            double s = score[i] - DIVERSITY * like[i];
            if (like[i] < 2 && sentences[i].n_words >= least && sentences[i].n_words <= max_words - words && (best == n || s > most)) {
                best = i;
                most = s;
            }
        }
        if (best == n)
            break;
        chosen[n_chosen++] = (uint32_t) best;
        words += sentences[best].n_words;
        for (size_t i = 0; i < n; i++) {
            double d = i == best ? 3 : dot(vectors + i * n_dims, vectors + best * n_dims, n_dims);
            d = d > 0.95 ? 3 : d; /* the same once more */
            like[i] = d > like[i] ? d : like[i];
        }
    }
    free(mean);
    free(score);
    free(like);
    return n_chosen;
}

/* ---- long texts */

typedef struct ranked {
    double score;
    size_t i;
} ranked;

static int by_score(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    return x->score != y->score ? (x->score > y->score ? -1 : 1) : (x->i > y->i) - (x->i < y->i);
}

static int by_place(const void *a, const void *b)
{
    const slm_sentence *x = a, *y = b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

/* Moves the `keep` nearest to the mean of n sentences to their front, in order. */
static slm_status keep_central(const char *text, slm_sentence *sentences, size_t n, size_t keep, const volatile int *stop, slm_error *err)
{
    float *vectors = malloc(sizeof *vectors * n * SLM_LEXICAL_DIMS), *mean = NULL;
    ranked *list = malloc(sizeof *list * n);
    slm_sentence *kept = malloc(sizeof *kept * (keep + 1));
    slm_status status = SLM_OK;
    if (vectors == NULL || list == NULL || kept == NULL)
        status = slm_fail(err, SLM_NOMEM, "out of memory");
    else
        status = slm_sentences_vectors(text, sentences, n, stop, vectors, err);
    if (status == SLM_OK && (mean = mean_of(vectors, SLM_LEXICAL_DIMS, sentences, n)) == NULL)
        status = slm_fail(err, SLM_NOMEM, "out of memory");
    if (status == SLM_OK) {
        for (size_t i = 0; i < n; i++)
            list[i] =
                (ranked){dot(vectors + i * SLM_LEXICAL_DIMS, mean, SLM_LEXICAL_DIMS) - (sentences[i].n_words < SHORT ? SHORT_PENALTY : 0),
                         i};
        qsort(list, n, sizeof *list, by_score);
        for (size_t i = 0; i < keep; i++)
            kept[i] = sentences[list[i].i];
        qsort(kept, keep, sizeof *kept, by_place);
        memcpy(sentences, kept, sizeof *kept * keep);
    }
    free(vectors);
    free(mean);
    free(list);
    free(kept);
    return status;
}

slm_status slm_sentences_reduce(const char *text, slm_sentence *sentences, size_t *n, size_t most, const volatile int *stop, slm_error *err)
{
    while (*n > most) {
        size_t blocks = (*n + BLOCK - 1) / BLOCK, left = 0;
        size_t of_each = blocks == 1 ? most : most / blocks > 50 ? most / blocks : 50;
        for (size_t b = 0; b < blocks; b++) {
            size_t from = b * BLOCK, count = *n - from < BLOCK ? *n - from : BLOCK, keep = count < of_each ? count : of_each;
            slm_status status = keep_central(text, sentences + from, count, keep, stop, err);
            if (status != SLM_OK)
                return status;
            memmove(sentences + left, sentences + from, sizeof *sentences * keep);
            left += keep;
        }
        *n = left;
    }
    return SLM_OK;
}
