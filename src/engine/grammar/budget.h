/*
 * What one grammar may cost: bytes and steps, counted where they are spent, and the first failure, which sticks.
 *
 * Everything in this room that grows grows through here.  After a failure every call returns at once with a harmless value, so that only
 * the doors (compile, advance, mask) need to look whether something went wrong.  A step is a unit of work of some ten nanoseconds (a
 * derivative, a choice, a test of emptiness): a bound in steps is a bound in time that is the same on every machine.
 */
#ifndef SLM_GRAMMAR_BUDGET_H
#define SLM_GRAMMAR_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "engine/base/status.h"

typedef struct slm_budget_block {
    struct slm_budget_block *next;
} slm_budget_block;

typedef struct slm_budget {
    size_t bytes, max_bytes;
    uint64_t steps, max_steps;
    bool failed;
    slm_error err;
    slm_budget_block *blocks; /* what slm_budget_alloc has given, freed at the end */
    char *free_at;
    size_t free_bytes;
} slm_budget;

bool slm_budget_out_of_steps(slm_budget *b);
/* Counts work; false when the bound is reached or something has failed before. */
static inline bool slm_budget_step(slm_budget *b, uint32_t n)
{
    b->steps += n;
    if (b->steps > b->max_steps)
        return slm_budget_out_of_steps(b);
    return !b->failed;
}

/* Sets the failure (the first one stays) and returns false. */
bool slm_budget_fail(slm_budget *b, slm_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Makes room for `need` elements of `size` bytes in *array (malloc'ed); new memory is zeroed. */
bool slm_budget_grow(slm_budget *b, void *array, uint32_t *capacity, size_t size, uint64_t need);
#define SLM_GROW(b, array, capacity, need) \
    ((need) <= (capacity) || slm_budget_grow(b, &(array), &(capacity), sizeof *(array), need))

/* Memory that lives as long as the budget, zeroed, aligned to 8; NULL after a failure. */
void *slm_budget_alloc(slm_budget *b, size_t bytes);
/* Frees what alloc has given. */
void slm_budget_release(slm_budget *b);

/* A table of ids by hash, open addressing: slots of 0 are free. */
typedef struct slm_ids_table {
    uint32_t *slots;
    uint32_t capacity, n; /* capacity: a power of two */
} slm_ids_table;

static inline uint32_t slm_hash_words(const uint32_t *words, size_t n, uint32_t seed)
{
    uint64_t h = seed * UINT64_C(0x9E3779B97F4A7C15) + n;
    for (size_t i = 0; i < n; i++)
        h = (h ^ words[i]) * UINT64_C(0xD6E8FEB86659FD93), h ^= h >> 32;
    return (uint32_t) (h ^ h >> 29);
}

static inline uint32_t slm_hash_text(const char *text, size_t n)
{
    uint64_t h = n * UINT64_C(0x9E3779B97F4A7C15);
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char) text[i]) * UINT64_C(0x100000001B3);
    return (uint32_t) (h ^ h >> 31);
}

#endif
