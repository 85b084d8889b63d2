/* The KV pool: sharing, copies of partial blocks, promises, eviction, and that nothing is lost. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/rng.h"
#include "engine/session/kv.h"
#include "engine/session/prefix.h"
#include "slm_test.h"

#define BLOCK_BYTES 1000

typedef struct fixture {
    slm_kv_pool *pool;
    slm_prefix_cache *cache;
} fixture;

static bool evict(void *arg)
{
    fixture *f = arg;

    return slm_prefix_evict(f->cache, f->pool);
}

static void open_fixture(fixture *f, uint32_t blocks)
{
    slm_error err;

    f->cache = slm_prefix_cache_new();
    CHECK(slm_kv_pool_new(BLOCK_BYTES, blocks * 1024, evict, f, &f->pool, &err) == SLM_OK, "%s", err.message);
}

static void close_fixture(fixture *f)
{
    slm_prefix_cache_free(f->cache, f->pool);
    CHECK(slm_kv_used(f->pool) == 0 && slm_kv_pinned(f->pool) == 0, "%u blocks are still used", slm_kv_used(f->pool));
    slm_kv_pool_free(f->pool);
}

static void test_budget(void)
{
    fixture f;
    slm_error err;
    slm_kv_pool *none;
    slm_seq *seq = slm_seq_new(200);
    uint32_t taken;

    CHECK(slm_kv_pool_new(BLOCK_BYTES, 500, NULL, NULL, &none, &err) == SLM_INVALID, "a pool of no block");
    open_fixture(&f, 10);
    CHECK(slm_kv_capacity(f.pool) == 10, "capacity %u", slm_kv_capacity(f.pool));
    CHECK(slm_kv_promise(f.pool, 6, 0) && !slm_kv_promise(f.pool, 5, 0) && slm_kv_promise(f.pool, 4, 0), "promises add up to the budget");
    slm_kv_unpromise(f.pool, 4);
    CHECK(slm_seq_reserve(f.pool, seq, 33, true, &taken) && taken == 3 && slm_kv_promised(f.pool) == 3, "3 blocks for 33 positions");
    CHECK(!slm_seq_reserve(f.pool, seq, 200, false, &taken) && taken == 4, "the others' promise is not touched: %u", taken);
    CHECK(slm_kv_pinned(f.pool) == 7, "pinned %u", slm_kv_pinned(f.pool));
    slm_kv_unpromise(f.pool, 3);
    CHECK(slm_seq_drop(f.pool, seq) == 7, "all come back");
    close_fixture(&f);
}

static void test_sharing(void)
{
    fixture f;
    slm_seq *a = slm_seq_new(40), *b, *c;
    uint32_t taken;

    open_fixture(&f, 20);
    CHECK(slm_seq_reserve(f.pool, a, 40, false, &taken) && taken == 3, "3 blocks");
    a->length = 40;
    for (int i = 0; i < 3; i++)
        memset(a->table[i], 'a' + i, BLOCK_BYTES);
    b = slm_seq_fork(f.pool, a, 20, 60, false, &taken);
    CHECK(b != NULL && taken == 1 && b->length == 20 && b->table[0] == a->table[0] && b->table[1] != a->table[1], "shared and copied");
    CHECK(memcmp(b->table[1], a->table[1], BLOCK_BYTES) == 0, "the copy is one");
    c = slm_seq_fork(f.pool, a, 32, 60, false, &taken);
    CHECK(c != NULL && taken == 0 && slm_kv_used(f.pool) == 4, "full blocks cost nothing");
    memset(b->table[1], 'x', BLOCK_BYTES);
    CHECK(((char *) a->table[1])[0] == 'b', "the source is untouched");
    CHECK(slm_seq_drop(f.pool, a) == 1, "only the last block of a was its own");
    CHECK(((char *) c->table[1])[5] == 'b', "c still reads what a wrote");
    slm_seq_drop(f.pool, b);
    slm_seq_drop(f.pool, c);
    close_fixture(&f);
}

static void test_prefixes(void)
{
    fixture f;
    int32_t ids[64];
    slm_seq *seq = slm_seq_new(64), *found = NULL;
    uint32_t taken;

    open_fixture(&f, 8);
    for (int i = 0; i < 64; i++)
        ids[i] = i;
    CHECK(slm_seq_reserve(f.pool, seq, 40, false, &taken), "room");
    seq->length = 40;
    slm_prefix_add(f.cache, f.pool, ids, 30, (slm_prefix_kind){0}, seq);
    slm_prefix_add(f.cache, f.pool, ids, 40, (slm_prefix_kind){0}, seq);
    CHECK(slm_prefix_count(f.cache) == 1, "a longer entry replaces its beginning");
    slm_seq_drop(f.pool, seq);
    CHECK(slm_kv_used(f.pool) == 3 && slm_kv_pinned(f.pool) == 0, "cached blocks are not pinned");
    CHECK(slm_prefix_find(f.cache, ids, 64, (slm_prefix_kind){0}, &found) == 40, "longest beginning");
    CHECK(slm_prefix_find(f.cache, ids, 25, (slm_prefix_kind){0}, &found) == 25, "no more than is asked for");
    CHECK(slm_prefix_find(f.cache, ids, 64, (slm_prefix_kind){.regime = 1}, &found) == 0, "another regime shares nothing");
    CHECK(slm_prefix_find(f.cache, ids, 64, (slm_prefix_kind){.realm = 1}, &found) == 0, "another realm shares nothing");
    ids[20] = 99;
    CHECK(slm_prefix_find(f.cache, ids, 64, (slm_prefix_kind){0}, &found) == 20, "up to the first difference");
    CHECK(slm_kv_promise(f.pool, 8, 0), "the cache does not stand in the way of a promise");
    seq = slm_seq_new(128);
    CHECK(slm_seq_reserve(f.pool, seq, 128, true, &taken) && taken == 8 && slm_prefix_count(f.cache) == 0, "evicted when blocks are "
                                                                                                           "wanted");
    slm_seq_drop(f.pool, seq);
    close_fixture(&f);
}

/* Random life: contents stay what their owner wrote, and everything comes back. */
static void test_random(void)
{
    enum { N = 12 };
    fixture f;
    slm_seq *seqs[N] = {0};
    uint8_t mark[N][40] = {{0}};
    uint32_t taken;
    int wrong = 0;

    open_fixture(&f, 40);
    for (uint32_t step = 0; step < 20000; step++) {
        uint32_t i = slm_rng_at(5, step) % N, j = slm_rng_at(6, step) % N, what = slm_rng_at(7, step) % 4;

        if (seqs[i] == NULL && what == 0) {
            seqs[i] = slm_seq_new(160);
        } else if (seqs[i] == NULL && seqs[j] != NULL) {
            uint32_t length = seqs[j]->length == 0 ? 0 : slm_rng_at(8, step) % (seqs[j]->length + 1);

            seqs[i] = slm_seq_fork(f.pool, seqs[j], length, 160, false, &taken);
            memcpy(mark[i], mark[j], sizeof mark[i]);
        } else if (seqs[i] != NULL && what < 3 && seqs[i]->length < 150) {
            uint32_t to = seqs[i]->length + 1 + slm_rng_at(9, step) % 8;

            if (!slm_seq_reserve(f.pool, seqs[i], to, false, &taken))
                continue;
            for (; seqs[i]->length < to; seqs[i]->length++) {
                uint32_t at = seqs[i]->length;
                uint8_t value = (uint8_t) (at % 16 == 0 ? step | 1 : mark[i][at / 16]);

                mark[i][at / 16] = value;
                ((uint8_t *) seqs[i]->table[at / 16])[at % 16] = value;
            }
            if (slm_rng_at(10, step) % 8 == 0)
                slm_prefix_add(f.cache, f.pool, &(int32_t){(int32_t) step}, 1, (slm_prefix_kind){0}, seqs[i]);
        } else if (seqs[i] != NULL && what == 3) {
            slm_seq_drop(f.pool, seqs[i]);
            seqs[i] = NULL;
        }
        for (uint32_t p = 0; seqs[i] != NULL && p < seqs[i]->length; p++)
            wrong += ((uint8_t *) seqs[i]->table[p / 16])[p % 16] != mark[i][p / 16];
        wrong += slm_kv_used(f.pool) > slm_kv_capacity(f.pool) || slm_kv_pinned(f.pool) > slm_kv_used(f.pool);
    }
    CHECK(wrong == 0, "%d wrong bytes or counts", wrong);
    for (int i = 0; i < N; i++)
        slm_seq_drop(f.pool, seqs[i]);
    close_fixture(&f);
}

static void test_resize(void)
{
    fixture f;
    slm_seq *seq = slm_seq_new(320);
    uint32_t taken;
    slm_error err;

    open_fixture(&f, 20);
    CHECK(slm_seq_reserve(f.pool, seq, 320, false, &taken), "all blocks");
    seq->length = 320;
    slm_prefix_add(f.cache, f.pool, &(int32_t){1}, 1, (slm_prefix_kind){0}, seq);
    slm_seq_drop(f.pool, seq);
    CHECK(slm_kv_used(f.pool) == 1, "only the cached block is left");
    slm_kv_pool_trim(f.pool, 0);
    CHECK(slm_kv_used(f.pool) == 1 && slm_prefix_count(f.cache) == 1, "trimming touches nothing that is used");
    CHECK(slm_kv_pool_resize(f.pool, 3 * 1024, &err) == SLM_OK && slm_kv_capacity(f.pool) == 3, "smaller");
    CHECK(slm_kv_pool_resize(f.pool, 10, &err) == SLM_INVALID, "too small");
    close_fixture(&f);
}

/* KiB of this process that are in memory and no file's. */
static long anonymous_kib(void)
{
    char line[256];
    long value = -1;
    FILE *f = fopen("/proc/self/smaps_rollup", "r");

    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, "Anonymous:", 10) == 0)
            value = atol(line + 10);
    if (f != NULL)
        fclose(f);
    return value;
}

/* Trimming gives the memory of free blocks back, between those that are kept too, and no block that is used changes. */
static void test_trim(void)
{
    enum { STRIDE = 300 * 1024, BLOCKS = 100 };
    fixture f = {.cache = slm_prefix_cache_new()};
    slm_error err;
    slm_seq *seqs[BLOCKS], *kept[BLOCKS] = {0};
    uint32_t taken, n_kept = 0;
    long before, full, after;

    CHECK(slm_kv_pool_new(STRIDE, (size_t) STRIDE * BLOCKS, evict, &f, &f.pool, &err) == SLM_OK, "%s", err.message);
    before = anonymous_kib();
    for (int i = 0; i < BLOCKS; i++) {
        seqs[i] = slm_seq_new(SLM_KV_BLOCK);
        CHECK(slm_seq_reserve(f.pool, seqs[i], SLM_KV_BLOCK, false, &taken) && taken == 1, "block %d", i);
        seqs[i]->length = SLM_KV_BLOCK;
        memset(seqs[i]->table[0], i + 1, STRIDE);
    }
    full = anonymous_kib();
    CHECK(slm_kv_held(f.pool) == (size_t) STRIDE * BLOCKS, "all is held");
    for (int i = 0; i < BLOCKS; i++) { /* one of 27: some slabs keep a block or two, one keeps none */
        if (i % 27 == 5)
            kept[n_kept++] = seqs[i];
        else
            slm_seq_drop(f.pool, seqs[i]);
    }
    CHECK(slm_kv_held(f.pool) == (size_t) STRIDE * BLOCKS, "free blocks are still held");
    slm_kv_pool_trim(f.pool, (size_t) STRIDE * BLOCKS);
    CHECK(slm_kv_held(f.pool) == (size_t) STRIDE * BLOCKS, "and stay when so much may");
    slm_kv_pool_trim(f.pool, (size_t) STRIDE * 40);
    CHECK(slm_kv_held(f.pool) <= (size_t) STRIDE * (40 + n_kept), "%zu blocks are held, not 40 and the used", slm_kv_held(f.pool) / STRIDE);
    slm_kv_pool_trim(f.pool, 0);
    after = anonymous_kib();
    CHECK(slm_kv_held(f.pool) == (size_t) STRIDE * n_kept, "%zu blocks are held, not %u", slm_kv_held(f.pool) / STRIDE, n_kept);
    CHECK(full - before > (long) STRIDE * BLOCKS / 1024 - 4096 && after - before < (long) STRIDE * n_kept / 1024 + 1024,
          "%ld KiB at first, %ld full, %ld after trimming", before, full, after);
    for (uint32_t k = 0; k < n_kept; k++) {
        const uint8_t *data = (const uint8_t *) kept[k]->table[0];
        uint32_t wrong = 0;

        for (size_t i = 0; i < STRIDE; i++)
            wrong += data[i] != data[0];
        CHECK(wrong == 0 && data[0] == 27 * k + 6, "block %u has changed", k);
    }
    for (int i = 0; i < BLOCKS - (int) n_kept; i++) { /* what was returned serves again */
        seqs[i] = slm_seq_new(SLM_KV_BLOCK);
        CHECK(slm_seq_reserve(f.pool, seqs[i], SLM_KV_BLOCK, false, &taken) && taken == 1, "block %d anew", i);
        memset(seqs[i]->table[0], 0xEE, STRIDE);
    }
    for (int i = 0; i < BLOCKS - (int) n_kept; i++)
        slm_seq_drop(f.pool, seqs[i]);
    for (uint32_t k = 0; k < n_kept; k++)
        slm_seq_drop(f.pool, kept[k]);
    slm_kv_pool_trim(f.pool, 0);
    CHECK(slm_kv_held(f.pool) == 0 && slm_kv_used(f.pool) == 0, "nothing is left");
    close_fixture(&f);
}

int main(void)
{
    test_budget();
    test_sharing();
    test_prefixes();
    test_random();
    test_resize();
    test_trim();
    TEST_MAIN_END("test_kv");
}
