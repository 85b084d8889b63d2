/*
 * Hashing, counting and weighting of n-grams.
 *
 * Invariant: everything is a function of the text's bytes and of the training texts in their order; hash ties share a bucket, whose
 * sign is not flipped: with 2^18 buckets and some 10^5 n-grams collisions are rare, and the classifier learns around them.
 */
#include "engine/train/ngram.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/math.h"

#define MIN_ROWS 2 /* a bucket of a single row teaches nothing about others */
#define MIN_CHARS 2
#define MAX_CHARS 5

static uint64_t mix(uint64_t h, unsigned char byte)
{
    return (h ^ byte) * 0x100000001B3ull; /* FNV-1a */
}

static uint64_t finish(uint64_t h)
{
    h ^= h >> 33;
    h *= 0xFF51AFD7ED558CCDull;
    h ^= h >> 33;
    h *= 0xC4CEB9FE1A85EC53ull;
    return h ^ h >> 33;
}

static bool grow(slm_ngram_bag *bag)
{
    uint32_t capacity = bag->capacity ? 2 * bag->capacity : 512, size = 4 * capacity;
    uint32_t *buckets = realloc(bag->buckets, capacity * sizeof *buckets);
    if (buckets != NULL)
        bag->buckets = buckets;
    uint32_t *counts = realloc(bag->counts, capacity * sizeof *counts);
    if (counts != NULL)
        bag->counts = counts;
    uint32_t *table = malloc(size * sizeof *table);
    if (buckets == NULL || counts == NULL || table == NULL) {
        free(table);
        return false;
    }
    memset(table, 0, size * sizeof *table);
    for (uint32_t i = 0; i < bag->n; i++) {
        uint32_t at = (bag->buckets[i] * 2654435761u) & (size - 1);
        while (table[at] != 0)
            at = (at + 1) & (size - 1);
        table[at] = i + 1;
    }
    free(bag->table);
    bag->table = table;
    bag->table_size = size;
    bag->capacity = capacity;
    return true;
}

static void add(slm_ngram_bag *bag, uint64_t hash, uint32_t bits)
{
    uint32_t bucket = (uint32_t) (finish(hash) >> (64 - bits));
    if (bag->n == bag->capacity && !grow(bag)) {
        bag->failed = true;
        return;
    }
    uint32_t at = (bucket * 2654435761u) & (bag->table_size - 1);
    while (bag->table[at] != 0) {
        if (bag->buckets[bag->table[at] - 1] == bucket) {
            bag->counts[bag->table[at] - 1]++;
            return;
        }
        at = (at + 1) & (bag->table_size - 1);
    }
    bag->buckets[bag->n] = bucket;
    bag->counts[bag->n] = 1;
    bag->table[at] = ++bag->n;
}

static bool word_byte(unsigned char c)
{
    return c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static unsigned char lower(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned char) (c + 32) : c;
}

/* Characters of one word with a border mark on either side: every run of MIN_CHARS to MAX_CHARS of them. */
static void add_characters(slm_ngram_bag *bag, const unsigned char *word, size_t n, uint32_t bits)
{
    /* position -1 is the opening border, n the closing one; a character begins where a byte is no continuation */
    for (ptrdiff_t from = -1; from < (ptrdiff_t) n; from++) {
        if (from >= 0 && (word[from] & 0xC0) == 0x80)
            continue;
        uint64_t h = 0x9E3779B97F4A7C15ull;
        int count = 0;
        for (ptrdiff_t at = from; at <= (ptrdiff_t) n; at++) {
            bool border = at < 0 || at == (ptrdiff_t) n;
            if (border || (word[at] & 0xC0) != 0x80) {
                if (count >= MIN_CHARS)
                    add(bag, h, bits);
                if (++count > MAX_CHARS)
                    break;
            }
            h = mix(h, border ? 1 : lower(word[at]));
            if (at == (ptrdiff_t) n && count >= MIN_CHARS)
                add(bag, h, bits);
        }
    }
}

/* Last in, first out: what a bucket's probing passed by was there before it, so it is still found. */
static void empty(slm_ngram_bag *bag)
{
    while (bag->n > 0) {
        uint32_t at = (bag->buckets[--bag->n] * 2654435761u) & (bag->table_size - 1);
        while (bag->table[at] != bag->n + 1)
            at = (at + 1) & (bag->table_size - 1);
        bag->table[at] = 0;
    }
}

slm_status slm_ngram_count(slm_ngram_bag *bag, const char *text, size_t length, uint32_t bits, slm_error *err)
{
    const unsigned char *p = (const unsigned char *) text;
    uint64_t before = 0;
    if (length > SLM_NGRAM_MAX_TEXT)
        length = SLM_NGRAM_MAX_TEXT;
    empty(bag);
    bag->failed = false;
    for (size_t i = 0; i < length;) {
        if (!word_byte(p[i])) {
            i++;
            continue;
        }
        size_t begin = i;
        uint64_t h = 0xCBF29CE484222325ull;
        for (; i < length && word_byte(p[i]); i++)
            h = mix(h, lower(p[i]));
        add(bag, h, bits);
        if (before != 0)
            add(bag, mix(before, 2) ^ h * 31, bits);
        add_characters(bag, p + begin, i - begin < 64 ? i - begin : 64, bits);
        before = h;
    }
    return bag->failed ? slm_fail(err, SLM_NOMEM, "out of memory") : SLM_OK;
}

void slm_ngram_bag_free(slm_ngram_bag *bag)
{
    free(bag->buckets);
    free(bag->counts);
    free(bag->table);
    *bag = (slm_ngram_bag){0};
}

void slm_ngram_space_free(slm_ngram_space *space)
{
    free(space->buckets);
    free(space->rarity);
    free(space->index);
    *space = (slm_ngram_space){0};
}

void slm_sparse_free(slm_sparse *rows)
{
    free(rows->begin);
    free(rows->feature);
    free(rows->value);
    *rows = (slm_sparse){0};
}

slm_status slm_ngram_index(slm_ngram_space *space, slm_error *err)
{
    size_t size = (size_t) 1 << space->bits;
    space->index = malloc(size * sizeof *space->index);
    if (space->index == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (size_t i = 0; i < size; i++)
        space->index[i] = -1;
    for (uint32_t i = 0; i < space->n; i++)
        space->index[space->buckets[i]] = (int32_t) i;
    return SLM_OK;
}

uint32_t slm_ngram_features(const slm_ngram_space *space, const slm_ngram_bag *bag, uint32_t *feature, float *value)
{
    uint32_t n = 0;
    float square = 0;
    for (uint32_t i = 0; i < bag->n; i++) {
        int32_t at = space->index[bag->buckets[i]];
        if (at < 0)
            continue;
        feature[n] = (uint32_t) at;
        value[n] = sqrtf((float) bag->counts[i]) * space->rarity[at];
        square += value[n] * value[n];
        n++;
    }
    float scale = square > 0 ? 1.0f / sqrtf(square) : 0.0f;
    for (uint32_t i = 0; i < n; i++)
        value[i] *= scale;
    return n;
}

/* Rows a bucket occurs in, and how many distinct buckets all rows have together. */
static slm_status count_rows(const char *const *texts, const size_t *lengths, size_t n, uint32_t bits, slm_train_watch *watch,
                             slm_ngram_bag *bag, uint32_t *rows_of, size_t *total, slm_error *err)
{
    *total = 0;
    for (size_t r = 0; r < n; r++) {
        if (slm_watch_stopped(watch))
            return slm_fail(err, SLM_CANCELLED, "cancelled");
        SLM_TRY(slm_ngram_count(bag, texts[r], lengths[r], bits, err));
        for (uint32_t i = 0; i < bag->n; i++)
            rows_of[bag->buckets[i]]++;
        *total += bag->n;
    }
    return SLM_OK;
}

static slm_status keep_buckets(const uint32_t *rows_of, size_t n_rows, slm_ngram_space *space, slm_error *err)
{
    size_t size = (size_t) 1 << space->bits;
    uint32_t n = 0;
    for (size_t i = 0; i < size; i++)
        n += rows_of[i] >= MIN_ROWS;
    space->buckets = malloc((n + 1) * sizeof *space->buckets);
    space->rarity = malloc((n + 1) * sizeof *space->rarity);
    if (space->buckets == NULL || space->rarity == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (size_t i = 0; i < size; i++)
        if (rows_of[i] >= MIN_ROWS) {
            space->buckets[space->n] = (uint32_t) i;
            space->rarity[space->n++] = (float) (1 + slm_log((1.0 + (double) n_rows) / (1.0 + rows_of[i])));
        }
    return slm_ngram_index(space, err);
}

static slm_status fill_rows(const char *const *texts, const size_t *lengths, slm_train_watch *watch, const slm_ngram_space *space,
                            slm_ngram_bag *bag, slm_sparse *rows, slm_error *err)
{
    rows->begin[0] = 0;
    for (size_t r = 0; r < rows->n_rows; r++) {
        if (slm_watch_stopped(watch))
            return slm_fail(err, SLM_CANCELLED, "cancelled");
        SLM_TRY(slm_ngram_count(bag, texts[r], lengths[r], space->bits, err));
        size_t at = rows->begin[r];
        rows->begin[r + 1] = at + slm_ngram_features(space, bag, rows->feature + at, rows->value + at);
    }
    return SLM_OK;
}

slm_status slm_ngram_learn(const char *const *texts, const size_t *lengths, size_t n, uint32_t bits, slm_train_watch *watch,
                           slm_ngram_space *space, slm_sparse *rows, slm_error *err)
{
    slm_ngram_bag bag = {0};
    size_t total = 0;
    uint32_t *rows_of = calloc((size_t) 1 << bits, sizeof *rows_of);
    slm_status status = rows_of == NULL ? slm_fail(err, SLM_NOMEM, "out of memory") : SLM_OK;
    *space = (slm_ngram_space){.bits = bits};
    *rows = (slm_sparse){.n_rows = n};
    if (status == SLM_OK)
        status = count_rows(texts, lengths, n, bits, watch, &bag, rows_of, &total, err);
    if (status == SLM_OK)
        status = keep_buckets(rows_of, n, space, err);
    if (status == SLM_OK) {
        rows->begin = malloc((n + 1) * sizeof *rows->begin);
        rows->feature = malloc((total + 1) * sizeof *rows->feature);
        rows->value = malloc((total + 1) * sizeof *rows->value);
        if (rows->begin == NULL || rows->feature == NULL || rows->value == NULL)
            status = slm_fail(err, SLM_NOMEM, "out of memory");
    }
    if (status == SLM_OK)
        status = fill_rows(texts, lengths, watch, space, &bag, rows, err);
    free(rows_of);
    slm_ngram_bag_free(&bag);
    if (status != SLM_OK) {
        slm_ngram_space_free(space);
        slm_sparse_free(rows);
    }
    return status;
}
