/*
 * The prefix cache: keys and values of prompt beginnings that several requests share (DESIGN D8); which ones, admit.c decides.
 *
 * An entry is a token sequence and a snapshot of the KV blocks that hold it.  A request takes the longest common beginning with any
 * entry, to the token; what it takes is immutable, so answers have the same bits with and without reuse.  Least recently used
 * entries go first when blocks are wanted.  Entries belong to a session and outlive its requests.
 */
#ifndef SLM_SESSION_PREFIX_H
#define SLM_SESSION_PREFIX_H

#include "engine/session/kv.h"

typedef struct slm_prefix_cache slm_prefix_cache;

slm_prefix_cache *slm_prefix_cache_new(void);
/* Drops all entries; the pool must still exist when there are any. */
void slm_prefix_cache_free(slm_prefix_cache *cache, slm_kv_pool *pool);

/* What must be equal before token ids are compared. */
typedef struct slm_prefix_kind {
    uint64_t regime; /* whatever keys and values depend on beside the tokens */
    uint64_t realm;  /* whose tokens they are (slm_request) */
    bool is_public;  /* realm is a public one: it is never the same as a role's, whatever its number */
} slm_prefix_kind;

/* Longest common beginning of ids [n] with an entry of the same kind: its length, 0 = none.  *seq is the entry's sequence, valid until the
 * next call that can evict. */
uint32_t slm_prefix_find(slm_prefix_cache *cache, const int32_t *ids, uint32_t n, slm_prefix_kind kind, slm_seq **seq);
/* Keeps the first n positions of seq; entries of its kind that are a beginning of it are replaced.  Quietly does nothing when memory is
 * out. */
void slm_prefix_add(slm_prefix_cache *cache, slm_kv_pool *pool, const int32_t *ids, uint32_t n, slm_prefix_kind kind, const slm_seq *seq);
/* Drops the least recently used entry of those whose going frees memory (running requests do not use all of it), else of all; false when
 * there is none. */
bool slm_prefix_evict(slm_prefix_cache *cache, slm_kv_pool *pool);
size_t slm_prefix_count(const slm_prefix_cache *cache);

#endif
