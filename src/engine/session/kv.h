/*
 * Keys and values: a pool of reference-counted blocks of 16 positions, and sequences that are tables of blocks.
 *
 *   pool    slab | slab | ...     a slab is one mapping of many blocks, made when first needed, within the byte budget
 *   seq     [b0][b1][b2]          blocks 0..n-1 hold positions 0..length-1; several sequences may share a block
 *
 * Invariant: positions below a sequence's length never change, so sharing a block that its owner still fills is
 * fine.  Only the owner writes at or beyond its length; a sequence that continues from another one shares the full blocks and gets its
 * own copy of the partial last one (slm_seq_fork).
 *
 * Budget: a block is pinned when anything but the prefix cache refers to it.  `promised` counts blocks that running
 * requests may still ask for.  pinned + promised <= capacity, kept by slm_kv_promise, makes every promised allocation succeed after
 * eviction of cached prefixes (the evict callback).
 */
#ifndef SLM_SESSION_KV_H
#define SLM_SESSION_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/kernels/kernels.h"

typedef struct slm_kv_pool slm_kv_pool;

/* Asked to give up one cached prefix; false when there is none left. */
typedef bool (*slm_kv_evict_fn)(void *arg);

/* A pool of blocks of block_bytes each within `bytes`; INVALID when not even one block fits. */
slm_status slm_kv_pool_new(size_t block_bytes, size_t bytes, slm_kv_evict_fn evict, void *arg, slm_kv_pool **out, slm_error *err);
void slm_kv_pool_free(slm_kv_pool *pool);
/* Changes the budget; cached prefixes beyond it are evicted and slabs without a used block are returned to the system. */
slm_status slm_kv_pool_resize(slm_kv_pool *pool, size_t bytes, slm_error *err);

/* Returns the memory of free blocks to the system, all but about keep_bytes of it. */
void slm_kv_pool_trim(slm_kv_pool *pool, size_t keep_bytes);
/* Bytes that the pool holds of the system's memory: blocks in use, and free ones that have not been returned. */
size_t slm_kv_held(const slm_kv_pool *pool);

uint32_t slm_kv_capacity(const slm_kv_pool *pool); /* blocks within the budget */
uint32_t slm_kv_used(const slm_kv_pool *pool);     /* blocks that are referred to, by sequences or cached prefixes */
uint32_t slm_kv_pinned(const slm_kv_pool *pool);   /* of them, those that eviction cannot free */
size_t slm_kv_block_stride(const slm_kv_pool *pool); /* bytes a block takes */

/* Sets n blocks (and `pins` blocks that are about to become pinned) aside; false when they do not fit now. */
bool slm_kv_promise(slm_kv_pool *pool, uint32_t n, uint32_t pins);
void slm_kv_unpromise(slm_kv_pool *pool, uint32_t n);
uint32_t slm_kv_promised(const slm_kv_pool *pool);

/* A sequence. Reference-counted, so that several continuations can wait for the same state. */
typedef struct slm_seq {
    uint16_t **table; /* [n_blocks] what kernels read */
    uint32_t *ids;    /* [n_blocks] block numbers in the pool */
    uint32_t n_blocks, capacity;
    uint32_t length;  /* positions computed */
    uint32_t refs;
    bool cached;      /* held by the prefix cache: its references do not pin */
} slm_seq;

/* An empty sequence with room in its table for n_positions; NULL when memory is out. */
slm_seq *slm_seq_new(uint32_t n_positions);
/* A new sequence with the first `length` positions of `from`, room for n_positions.  The partial last block is copied into a new one, taken
 * from the caller's promise when promised; *taken is 1 then. NULL when memory is out. */
slm_seq *slm_seq_fork(slm_kv_pool *pool, const slm_seq *from, uint32_t length, uint32_t n_positions, bool promised, uint32_t *taken);
/* A reference to the first `length` positions for the prefix cache: shares all blocks, the partial last one included. */
slm_seq *slm_seq_snapshot(slm_kv_pool *pool, const slm_seq *from, uint32_t length);
/* Makes room for positions below n_positions; *taken counts the new blocks. false when memory is out (what was taken stays). */
bool slm_seq_reserve(slm_kv_pool *pool, slm_seq *seq, uint32_t n_positions, bool promised, uint32_t *taken);
/* Drops a reference; returns the number of blocks that nobody refers to any more. NULL is fine. */
uint32_t slm_seq_drop(slm_kv_pool *pool, slm_seq *seq);
/* Number of blocks of the first `length` positions that are not pinned now (full ones only): the cost of sharing them. */
uint32_t slm_seq_unpinned(const slm_kv_pool *pool, const slm_seq *seq, uint32_t length);
/* Has it a block that nobody else refers to? */
bool slm_seq_owns_block(const slm_kv_pool *pool, const slm_seq *seq);

static inline uint32_t slm_kv_blocks_for(uint32_t n_positions)
{
    return n_positions / SLM_KV_BLOCK + (n_positions % SLM_KV_BLOCK != 0);
}

#endif
