/*
 * Hashed n-grams of a text: the sparse features beside an embedding.
 *
 * Words (runs of letters, digits and bytes above 127; ASCII lowercased) and pairs of neighbouring words; and 2 to 5 characters inside
 * each word with its borders marked.  Each is hashed to one of 2^bits buckets.  A bucket that too few rows of the training set have
 * is not kept; a kept one has an index, and a row's value in it is sqrt(count) * rarity, the row scaled to length 1.
 * The same code runs in training and prediction and uses no library function whose result may differ between machines.
 */
#ifndef SLM_TRAIN_NGRAM_H
#define SLM_TRAIN_NGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/train/watch.h"

#define SLM_NGRAM_MIN_BITS 10
#define SLM_NGRAM_MAX_BITS 22
#define SLM_NGRAM_MAX_TEXT (1u << 20) /* bytes of a text that are looked at */

/* Counts of one text's buckets; owned by one thread, reused from text to text. */
typedef struct slm_ngram_bag {
    uint32_t *buckets; /* [n] distinct, in order of first appearance */
    uint32_t *counts;  /* [n] */
    uint32_t n, capacity;
    uint32_t *table;   /* open addressing: index + 1 into buckets */
    uint32_t table_size;
    bool failed;       /* an allocation failed */
} slm_ngram_bag;

slm_status slm_ngram_count(slm_ngram_bag *bag, const char *text, size_t length, uint32_t bits, slm_error *err);
void slm_ngram_bag_free(slm_ngram_bag *bag);

/* The kept buckets. */
typedef struct slm_ngram_space {
    uint32_t bits, n;
    uint32_t *buckets; /* [n] ascending */
    float *rarity;     /* [n] */
    int32_t *index;    /* [2^bits] place of a bucket, -1 = not kept */
} slm_ngram_space;

/* Rows of sparse features. */
typedef struct slm_sparse {
    size_t n_rows;
    size_t *begin;     /* [n_rows + 1] */
    uint32_t *feature; /* [begin[n_rows]] */
    float *value;
} slm_sparse;

/* Counts all texts, keeps the buckets of at least 2 rows and makes the rows' features. */
slm_status slm_ngram_learn(const char *const *texts, const size_t *lengths, size_t n, uint32_t bits, slm_train_watch *watch,
                           slm_ngram_space *space, slm_sparse *rows, slm_error *err);
/* Fills index from buckets. */
slm_status slm_ngram_index(slm_ngram_space *space, slm_error *err);
/* Features of a counted text: writes at most bag->n of them, returns how many. */
uint32_t slm_ngram_features(const slm_ngram_space *space, const slm_ngram_bag *bag, uint32_t *feature, float *value);
void slm_ngram_space_free(slm_ngram_space *space);
void slm_sparse_free(slm_sparse *rows);

#endif
