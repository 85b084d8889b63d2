/*
 * The prefix cache; see prefix.h.
 *
 * A flat table of a few dozen entries, compared token by token: a comparison ends at the first difference, so a look-up costs
 * about the length of the match.
 */
#include "engine/session/prefix.h"

#include <stdlib.h>
#include <string.h>

#define MAX_ENTRIES 64

typedef struct prefix_entry {
    int32_t *ids; /* [n] */
    uint32_t n;
    slm_prefix_kind kind;
    uint64_t last_use;
    slm_seq *seq;
} prefix_entry;

struct slm_prefix_cache {
    prefix_entry entries[MAX_ENTRIES];
    size_t n;
    uint64_t clock;
};

slm_prefix_cache *slm_prefix_cache_new(void)
{
    return calloc(1, sizeof(slm_prefix_cache));
}

static void drop_entry(slm_prefix_cache *cache, slm_kv_pool *pool, size_t i)
{
    slm_seq_drop(pool, cache->entries[i].seq);
    free(cache->entries[i].ids);
    cache->entries[i] = cache->entries[--cache->n];
}

void slm_prefix_cache_free(slm_prefix_cache *cache, slm_kv_pool *pool)
{
    if (cache == NULL)
        return;
    while (cache->n > 0)
        drop_entry(cache, pool, cache->n - 1);
    free(cache);
}

static bool same_kind(slm_prefix_kind a, slm_prefix_kind b)
{
    return a.regime == b.regime && a.realm == b.realm && a.is_public == b.is_public;
}

static uint32_t common_length(const int32_t *a, uint32_t n_a, const int32_t *b, uint32_t n_b)
{
    uint32_t n = n_a < n_b ? n_a : n_b, i = 0;

    while (i < n && a[i] == b[i])
        i++;
    return i;
}

uint32_t slm_prefix_find(slm_prefix_cache *cache, const int32_t *ids, uint32_t n, slm_prefix_kind kind, slm_seq **seq)
{
    uint32_t best = 0;
    prefix_entry *found = NULL;

    for (size_t i = 0; i < cache->n; i++) {
        prefix_entry *e = &cache->entries[i];
        uint32_t length = same_kind(e->kind, kind) ? common_length(e->ids, e->n, ids, n) : 0;

        if (length > best) {
            best = length;
            found = e;
        }
    }
    if (found != NULL) {
        found->last_use = ++cache->clock;
        *seq = found->seq;
    }
    return best;
}

void slm_prefix_add(slm_prefix_cache *cache, slm_kv_pool *pool, const int32_t *ids, uint32_t n, slm_prefix_kind kind, const slm_seq *seq)
{
    prefix_entry e = {.n = n, .kind = kind, .last_use = ++cache->clock};

    e.ids = malloc((size_t) n * sizeof *e.ids);
    e.seq = slm_seq_snapshot(pool, seq, n);
    if (e.ids == NULL || e.seq == NULL) {
        free(e.ids);
        slm_seq_drop(pool, e.seq);
        return;
    }
    memcpy(e.ids, ids, (size_t) n * sizeof *ids);
    for (size_t i = cache->n; i-- > 0;) {
        const prefix_entry *old = &cache->entries[i];

        if (same_kind(old->kind, kind) && old->n <= n && common_length(old->ids, old->n, ids, n) == old->n)
            drop_entry(cache, pool, i);
    }
    if (cache->n == MAX_ENTRIES)
        slm_prefix_evict(cache, pool);
    cache->entries[cache->n++] = e;
}

bool slm_prefix_evict(slm_prefix_cache *cache, slm_kv_pool *pool)
{
    size_t oldest = 0;
    bool frees = false;

    if (cache->n == 0)
        return false;
    for (size_t i = 0; i < cache->n; i++) {
        bool owns = slm_seq_owns_block(pool, cache->entries[i].seq);

        if (owns == frees ? cache->entries[i].last_use < cache->entries[oldest].last_use : owns)
            oldest = i;
        frees = frees || owns;
    }
    drop_entry(cache, pool, oldest);
    return true;
}

size_t slm_prefix_count(const slm_prefix_cache *cache)
{
    return cache->n;
}
