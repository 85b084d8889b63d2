/*
 * Bytes, steps and the first failure of a grammar; see budget.h.
 */
#include "engine/grammar/budget.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* MAPPED: glibc maps what is larger than 32 MiB, whatever has been freed before. */
enum { BLOCK = 16384, BLOCK_OF_GROWTH = 128 << 10, APART = 128 << 10, MAPPED = 33 << 20 };

bool slm_budget_fail(slm_budget *b, slm_status status, const char *format, ...)
{
    if (!b->failed) {
        char text[sizeof b->err.message];
        va_list args;
        va_start(args, format);
        vsnprintf(text, sizeof text, format, args);
        va_end(args);
        slm_fail(&b->err, status, "%s", text);
        b->failed = true;
    }
    return false;
}

bool slm_budget_out_of_steps(slm_budget *b)
{
    return slm_budget_fail(b, SLM_LIMIT, "the grammar takes more work than is allowed (%llu steps)", (unsigned long long) b->max_steps);
}

static bool charge(slm_budget *b, size_t bytes)
{
    if (b->failed)
        return false;
    if (bytes > b->max_bytes - b->bytes)
        return slm_budget_fail(b, SLM_LIMIT, "the grammar takes more memory than is allowed (%zu kB)", b->max_bytes / 1024);
    b->bytes += bytes;
    return true;
}

/* realloc.  What becomes large is put into a mapping of its own, which grows without being copied: the allocator makes one for what is
 * large beyond doubt, and keeps it when that shrinks.  (It would not for some MiB, once others of that size have been freed.) */
static void *regrow(void *old, size_t old_bytes, size_t bytes)
{
    void *apart, *grown;
    if (old_bytes > APART || bytes <= APART || (apart = malloc(MAPPED)) == NULL)
        return realloc(old, bytes);
    grown = realloc(apart, bytes);
    if (grown == NULL) {
        free(apart);
        return realloc(old, bytes);
    }
    if (old_bytes > 0)
        memcpy(grown, old, old_bytes);
    free(old);
    return grown;
}

bool slm_budget_grow(slm_budget *b, void *array, uint32_t *capacity, size_t size, uint64_t need)
{
    uint64_t room = *capacity < 16 ? 16 : (uint64_t) *capacity * 2;
    void *old, *grown;
    if (need <= *capacity)
        return !b->failed;
    if (room * size > 2 * BLOCK_OF_GROWTH) /* no mask waits for pages that it does not need */
        room = *capacity + BLOCK_OF_GROWTH / size;
    if (room < need)
        room = need;
    if (room > UINT32_MAX / 2)
        return slm_budget_fail(b, SLM_LIMIT, "the grammar is too large");
    if (!charge(b, (size_t) (room - *capacity) * size))
        return false;
    memcpy(&old, array, sizeof old);
    grown = regrow(old, (size_t) *capacity * size, (size_t) room * size);
    if (grown == NULL) {
        b->bytes -= (size_t) (room - *capacity) * size;
        return slm_budget_fail(b, SLM_NOMEM, "out of memory for a grammar");
    }
    memset((char *) grown + (size_t) *capacity * size, 0, (size_t) (room - *capacity) * size);
    memcpy(array, &grown, sizeof grown);
    *capacity = (uint32_t) room;
    return true;
}

void *slm_budget_alloc(slm_budget *b, size_t bytes)
{
    char *at;
    bytes = (bytes + 7) & ~(size_t) 7;
    if (bytes > b->free_bytes) {
        size_t size = bytes > BLOCK / 4 ? bytes : BLOCK;
        slm_budget_block *block;
        if (!charge(b, size + sizeof *block))
            return NULL;
        block = calloc(1, sizeof *block + size);
        if (block == NULL) {
            slm_budget_fail(b, SLM_NOMEM, "out of memory for a grammar");
            return NULL;
        }
        block->next = b->blocks;
        b->blocks = block;
        if (size != BLOCK)
            return block + 1;
        b->free_at = (char *) (block + 1);
        b->free_bytes = size;
    }
    if (b->failed)
        return NULL;
    at = b->free_at;
    b->free_at += bytes;
    b->free_bytes -= bytes;
    return at;
}

void slm_budget_release(slm_budget *b)
{
    while (b->blocks != NULL) {
        slm_budget_block *next = b->blocks->next;
        free(b->blocks);
        b->blocks = next;
    }
    b->free_at = NULL;
    b->free_bytes = 0;
}
