/*
 * The pool of KV blocks and the sequences over it; see kv.h for the picture and the invariant.
 *
 * Slabs of about 8 MiB, mapped by themselves so that they go back to the system whatever the allocator thinks, and aligned to 2 MiB where
 * they are that large so that the kernel can back them with huge pages.  Free blocks are a stack, so that the block freed last, still
 * warm in the cache, is used first.  Promised allocations leave the promise: pinned + promised stays the same.
 *
 * Trimming unmaps slabs without a used block, and returns the pages of free blocks between used ones; those slabs get small pages from then
 * on, for the kernel's collector of huge pages would fill the holes again.
 */
#include "engine/session/kv.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLAB_BYTES ((size_t) 8 << 20)
#define HUGE_PAGE ((size_t) 2 << 20)
#define MAX_BLOCKS ((size_t) 1 << 30)

typedef struct kv_block {
    uint16_t *data;
    uint32_t refs;       /* all references */
    uint32_t cache_refs; /* of them, the prefix cache's */
    bool held;           /* has been written since its pages were last returned */
} kv_block;

typedef struct kv_slab {
    char *memory; /* NULL: returned to the system */
    bool punched; /* pages between used blocks were returned */
} kv_slab;

struct slm_kv_pool {
    size_t stride;         /* bytes per block, a multiple of 64 */
    uint32_t capacity;     /* blocks within the budget */
    uint32_t slab_blocks;  /* blocks per slab */
    uint32_t n_blocks;     /* blocks in slabs: ids 0..n_blocks-1 */
    uint32_t n_free, n_pinned, promised;
    uint32_t n_held;       /* blocks that are held */
    uint32_t room;         /* entries of blocks and free_ids */
    kv_block *blocks;      /* [room] */
    uint32_t *free_ids;    /* [room] */
    kv_slab *slabs;        /* [n_slabs] */
    uint32_t n_slabs, slab_room;
    slm_kv_evict_fn evict;
    void *evict_arg;
};

static bool set_budget(slm_kv_pool *pool, size_t bytes)
{
    size_t n = bytes / pool->stride;

    if (n == 0)
        return false;
    pool->capacity = n < MAX_BLOCKS ? (uint32_t) n : (uint32_t) MAX_BLOCKS;
    return true;
}

static slm_status budget_error(size_t stride, size_t bytes, slm_error *err)
{
    slm_fail(err, SLM_INVALID, "KV cache budget of %zu bytes is smaller than one block of %d positions (%zu bytes)", bytes, SLM_KV_BLOCK,
             stride);
    if (err != NULL)
        err->hint_code = SLM_HINT_KV_BUDGET;
    return slm_hint(err, "Raise the KV cache budget.");
}

/* ---- mappings */

static size_t slab_bytes(const slm_kv_pool *pool)
{
    return pool->stride * pool->slab_blocks;
}

/* Zeroed memory, aligned to a huge page where it is as large as one; NULL when memory is out. */
static char *map_slab(size_t bytes)
{
    size_t room = bytes >= HUGE_PAGE ? bytes + HUGE_PAGE : bytes, before;
    char *memory = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        return NULL;
    if (room == bytes)
        return memory;
    before = (HUGE_PAGE - (uintptr_t) memory % HUGE_PAGE) % HUGE_PAGE;
    if (before > 0)
        munmap(memory, before);
    bytes = (bytes + (size_t) sysconf(_SC_PAGESIZE) - 1) & ~((size_t) sysconf(_SC_PAGESIZE) - 1);
    if (room - before > bytes)
        munmap(memory + before + bytes, room - before - bytes);
    madvise(memory + before, bytes, MADV_HUGEPAGE);
    return memory + before;
}

static void unmap_slab(slm_kv_pool *pool, uint32_t slab)
{
    if (pool->slabs[slab].memory == NULL)
        return;
    for (uint32_t i = slab * pool->slab_blocks; i < (slab + 1) * pool->slab_blocks; i++)
        pool->n_held -= pool->blocks[i].held;
    munmap(pool->slabs[slab].memory, slab_bytes(pool));
    pool->slabs[slab].memory = NULL;
}

slm_status slm_kv_pool_new(size_t block_bytes, size_t bytes, slm_kv_evict_fn evict, void *arg, slm_kv_pool **out, slm_error *err)
{
    slm_kv_pool *pool;

    if (block_bytes == 0 || block_bytes > SIZE_MAX / 2)
        return slm_fail(err, SLM_INTERNAL, "KV block of %zu bytes", block_bytes);
    pool = calloc(1, sizeof *pool);
    if (pool == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for the KV cache");
    pool->stride = (block_bytes + 63) & ~(size_t) 63;
    pool->evict = evict;
    pool->evict_arg = arg;
    if (!set_budget(pool, bytes)) {
        size_t stride = pool->stride;

        slm_kv_pool_free(pool);
        return budget_error(stride, bytes, err);
    }
    pool->slab_blocks = pool->stride < SLAB_BYTES ? (uint32_t) (SLAB_BYTES / pool->stride) : 1;
    if (pool->slab_blocks > pool->capacity)
        pool->slab_blocks = pool->capacity;
    *out = pool;
    return SLM_OK;
}

void slm_kv_pool_free(slm_kv_pool *pool)
{
    if (pool == NULL)
        return;
    for (uint32_t i = 0; i < pool->n_slabs; i++)
        unmap_slab(pool, i);
    free(pool->slabs);
    free(pool->blocks);
    free(pool->free_ids);
    free(pool);
}

uint32_t slm_kv_capacity(const slm_kv_pool *pool)
{
    return pool->capacity;
}

uint32_t slm_kv_used(const slm_kv_pool *pool)
{
    uint32_t live = 0;

    for (uint32_t i = 0; i < pool->n_slabs; i++)
        live += pool->slabs[i].memory != NULL ? pool->slab_blocks : 0;
    return live - pool->n_free;
}

uint32_t slm_kv_pinned(const slm_kv_pool *pool)
{
    return pool->n_pinned;
}

uint32_t slm_kv_promised(const slm_kv_pool *pool)
{
    return pool->promised;
}

size_t slm_kv_block_stride(const slm_kv_pool *pool)
{
    return pool->stride;
}

bool slm_kv_promise(slm_kv_pool *pool, uint32_t n, uint32_t pins)
{
    if ((uint64_t) pool->n_pinned + pool->promised + n + pins > pool->capacity)
        return false;
    pool->promised += n;
    return true;
}

void slm_kv_unpromise(slm_kv_pool *pool, uint32_t n)
{
    pool->promised -= n < pool->promised ? n : pool->promised;
}

/* ---- slabs */

/* Room in the block arrays for `room` blocks. */
static bool grow_arrays(slm_kv_pool *pool, uint32_t room)
{
    kv_block *blocks;
    uint32_t *free_ids;

    if (room <= pool->room)
        return true;
    blocks = realloc(pool->blocks, (size_t) room * sizeof *blocks);
    if (blocks == NULL)
        return false;
    pool->blocks = blocks;
    free_ids = realloc(pool->free_ids, (size_t) room * sizeof *free_ids);
    if (free_ids == NULL)
        return false;
    pool->free_ids = free_ids;
    pool->room = room;
    return true;
}

/* The slab that gets new memory: one that was returned, or a new one at the end. UINT32_MAX when memory is out. */
static uint32_t slab_slot(slm_kv_pool *pool)
{
    for (uint32_t i = 0; i < pool->n_slabs; i++)
        if (pool->slabs[i].memory == NULL)
            return i;
    if (!grow_arrays(pool, (pool->n_slabs + 1) * pool->slab_blocks))
        return UINT32_MAX;
    if (pool->n_slabs == pool->slab_room) {
        uint32_t room = pool->slab_room == 0 ? 8 : pool->slab_room * 2;
        kv_slab *slabs = realloc(pool->slabs, room * sizeof *slabs);

        if (slabs == NULL)
            return UINT32_MAX;
        pool->slabs = slabs;
        pool->slab_room = room;
    }
    pool->slabs[pool->n_slabs] = (kv_slab){NULL, false};
    return pool->n_slabs++;
}

static bool add_slab(slm_kv_pool *pool)
{
    uint32_t slot = slab_slot(pool), first;
    char *memory = slot == UINT32_MAX ? NULL : map_slab(slab_bytes(pool));

    if (memory == NULL)
        return false;
    pool->slabs[slot] = (kv_slab){memory, false};
    first = slot * pool->slab_blocks;
    for (uint32_t i = pool->slab_blocks; i-- > 0;) {
        pool->blocks[first + i] = (kv_block){.data = (uint16_t *) (void *) (memory + i * pool->stride)};
        pool->free_ids[pool->n_free++] = first + i;
    }
    return true;
}

/* Returns the whole pages of blocks first .. end - 1 of a slab. */
static void return_pages(slm_kv_pool *pool, uint32_t first, uint32_t end)
{
    size_t page = (size_t) sysconf(_SC_PAGESIZE);
    uintptr_t from = ((uintptr_t) pool->blocks[first].data + page - 1) & ~(uintptr_t) (page - 1);
    uintptr_t to = ((uintptr_t) pool->blocks[end - 1].data + pool->stride) & ~(uintptr_t) (page - 1);

    if (from < to)
        madvise((void *) from, to - from, MADV_DONTNEED);
    for (uint32_t i = first; i < end; i++) {
        pool->n_held -= pool->blocks[i].held;
        pool->blocks[i].held = false;
    }
}

/* Free blocks between used ones: every run of them. */
static void punch_slab(slm_kv_pool *pool, uint32_t slab)
{
    uint32_t first = slab * pool->slab_blocks, end = first + pool->slab_blocks, begin;

    madvise(pool->slabs[slab].memory, slab_bytes(pool), MADV_NOHUGEPAGE);
    pool->slabs[slab].punched = true;
    for (uint32_t i = first; i < end; i++) {
        begin = i;
        while (i < end && pool->blocks[i].refs == 0)
            i++;
        if (i > begin)
            return_pages(pool, begin, i);
    }
}

/* Blocks of a slab that are in use, and those that are free but hold memory. */
static void count_slab(const slm_kv_pool *pool, uint32_t slab, uint32_t *used, uint32_t *idle)
{
    const kv_block *b = &pool->blocks[slab * pool->slab_blocks];

    *used = *idle = 0;
    for (uint32_t i = 0; pool->slabs[slab].memory != NULL && i < pool->slab_blocks; i++) {
        *used += b[i].refs != 0;
        *idle += b[i].refs == 0 && b[i].held;
    }
}

/* Returns the memory of free blocks, all but `keep` of them. */
static void trim_slabs(slm_kv_pool *pool, uint32_t keep)
{
    pool->n_free = 0;
    for (uint32_t s = 0; s < pool->n_slabs; s++) {
        uint32_t used, idle, first = s * pool->slab_blocks;

        if (pool->slabs[s].memory == NULL)
            continue;
        count_slab(pool, s, &used, &idle);
        if (used == 0 && (idle > keep || keep == 0 || pool->slabs[s].punched)) {
            unmap_slab(pool, s);
            continue;
        }
        if (idle > keep)
            punch_slab(pool, s);
        else
            keep -= idle;
        for (uint32_t i = first; i < first + pool->slab_blocks; i++)
            if (pool->blocks[i].refs == 0)
                pool->free_ids[pool->n_free++] = i;
    }
}

slm_status slm_kv_pool_resize(slm_kv_pool *pool, size_t bytes, slm_error *err)
{
    if (!set_budget(pool, bytes))
        return budget_error(pool->stride, bytes, err);
    while (slm_kv_used(pool) > pool->capacity && pool->evict != NULL && pool->evict(pool->evict_arg))
        continue;
    trim_slabs(pool, 0);
    return SLM_OK;
}

void slm_kv_pool_trim(slm_kv_pool *pool, size_t keep_bytes)
{
    size_t keep = keep_bytes / pool->stride, idle = 0;

    for (uint32_t i = 0; i < pool->n_free; i++)
        idle += pool->blocks[pool->free_ids[i]].held;
    if (idle > keep)
        trim_slabs(pool, (uint32_t) keep);
}

size_t slm_kv_held(const slm_kv_pool *pool)
{
    return pool->n_held * pool->stride;
}

/* ---- blocks */

static void block_ref(slm_kv_pool *pool, uint32_t id, bool cached)
{
    kv_block *b = &pool->blocks[id];

    if (!cached && b->refs == b->cache_refs)
        pool->n_pinned++;
    b->refs++;
    b->cache_refs += cached;
}

/* Returns 1 when the block became free. */
static uint32_t block_unref(slm_kv_pool *pool, uint32_t id, bool cached)
{
    kv_block *b = &pool->blocks[id];

    b->refs--;
    b->cache_refs -= cached;
    if (!cached && b->refs == b->cache_refs)
        pool->n_pinned--;
    if (b->refs != 0)
        return 0;
    pool->free_ids[pool->n_free++] = id;
    return 1;
}

/* A free block with one reference; UINT32_MAX when the budget or memory is out. Whoever has no promise leaves the promised blocks alone. */
static uint32_t block_new(slm_kv_pool *pool, bool promised)
{
    uint32_t id;

    if (promised ? pool->promised == 0 : (uint64_t) pool->n_pinned + pool->promised >= pool->capacity)
        return UINT32_MAX;
    while (slm_kv_used(pool) >= pool->capacity)
        if (pool->evict == NULL || !pool->evict(pool->evict_arg))
            break;
    while (pool->n_free == 0 && !add_slab(pool))
        if (pool->evict == NULL || !pool->evict(pool->evict_arg))
            return UINT32_MAX;
    id = pool->free_ids[--pool->n_free];
    pool->n_held += !pool->blocks[id].held;
    pool->blocks[id].held = true;
    block_ref(pool, id, false);
    pool->promised -= promised;
    return id;
}

/* ---- sequences */

slm_seq *slm_seq_new(uint32_t n_positions)
{
    uint32_t capacity = slm_kv_blocks_for(n_positions);
    slm_seq *seq = calloc(1, sizeof *seq);

    if (seq == NULL)
        return NULL;
    seq->table = malloc((capacity + 1) * sizeof *seq->table);
    seq->ids = malloc((capacity + 1) * sizeof *seq->ids);
    if (seq->table == NULL || seq->ids == NULL) {
        free(seq->table);
        free(seq->ids);
        free(seq);
        return NULL;
    }
    seq->capacity = capacity;
    seq->refs = 1;
    return seq;
}

static void append_block(slm_kv_pool *pool, slm_seq *seq, uint32_t id)
{
    seq->ids[seq->n_blocks] = id;
    seq->table[seq->n_blocks++] = pool->blocks[id].data;
}

slm_seq *slm_seq_fork(slm_kv_pool *pool, const slm_seq *from, uint32_t length, uint32_t n_positions, bool promised, uint32_t *taken)
{
    slm_seq *seq = slm_seq_new(n_positions > length ? n_positions : length);
    uint32_t full = length / SLM_KV_BLOCK;

    *taken = 0;
    if (seq == NULL)
        return NULL;
    for (uint32_t i = 0; i < full; i++) {
        block_ref(pool, from->ids[i], false);
        append_block(pool, seq, from->ids[i]);
    }
    if (length % SLM_KV_BLOCK != 0) {
        uint32_t id, source = from->ids[full];

        block_ref(pool, source, false); /* taking a block may evict `from` */
        id = block_new(pool, promised);
        if (id != UINT32_MAX) {
            memcpy(pool->blocks[id].data, pool->blocks[source].data, pool->stride);
            append_block(pool, seq, id);
            *taken = 1;
        }
        block_unref(pool, source, false);
        if (id == UINT32_MAX) {
            slm_seq_drop(pool, seq);
            return NULL;
        }
    }
    seq->length = length;
    return seq;
}

slm_seq *slm_seq_snapshot(slm_kv_pool *pool, const slm_seq *from, uint32_t length)
{
    slm_seq *seq = slm_seq_new(length);

    if (seq == NULL)
        return NULL;
    seq->cached = true;
    for (uint32_t i = 0; i < slm_kv_blocks_for(length); i++) {
        block_ref(pool, from->ids[i], true);
        append_block(pool, seq, from->ids[i]);
    }
    seq->length = length;
    return seq;
}

bool slm_seq_reserve(slm_kv_pool *pool, slm_seq *seq, uint32_t n_positions, bool promised, uint32_t *taken)
{
    uint32_t want = slm_kv_blocks_for(n_positions);

    *taken = 0;
    if (want > seq->capacity)
        return false;
    while (seq->n_blocks < want) {
        uint32_t id = block_new(pool, promised);

        if (id == UINT32_MAX)
            return false;
        append_block(pool, seq, id);
        (*taken)++;
    }
    return true;
}

uint32_t slm_seq_drop(slm_kv_pool *pool, slm_seq *seq)
{
    uint32_t freed = 0;

    if (seq == NULL || --seq->refs != 0)
        return 0;
    for (uint32_t i = seq->n_blocks; i-- > 0;)
        freed += block_unref(pool, seq->ids[i], seq->cached);
    free(seq->table);
    free(seq->ids);
    free(seq);
    return freed;
}

uint32_t slm_seq_unpinned(const slm_kv_pool *pool, const slm_seq *seq, uint32_t length)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < length / SLM_KV_BLOCK; i++) {
        const kv_block *b = &pool->blocks[seq->ids[i]];

        n += b->refs == b->cache_refs;
    }
    return n;
}

bool slm_seq_owns_block(const slm_kv_pool *pool, const slm_seq *seq)
{
    for (uint32_t i = seq->n_blocks; i-- > 0;)
        if (pool->blocks[seq->ids[i]].refs == 1)
            return true;
    return false;
}
