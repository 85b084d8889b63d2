/*
 * The priority queue of possible merges: a binary heap in the tokenizer's scratch, smallest key first.
 *
 * Pairs are never removed when a neighbour changes; the reader recognizes stale ones by their length.  Each merge pushes
 * at most two pairs, so a word of n symbols sees at most 3 n pushes: O(n log n).
 */
#include "engine/text/internal.h"

slm_status slm_tok_heap_push(slm_tokenizer *tok, slm_tok_pair pair, slm_error *err)
{
    if (tok->heap_n == tok->heap_capacity)
        SLM_TRY(slm_tok_reserve((void **) &tok->heap, &tok->heap_capacity, tok->heap_n + 1, sizeof *tok->heap, err));
    slm_tok_pair *heap = tok->heap;
    size_t i = tok->heap_n++;
    while (i > 0 && heap[(i - 1) / 2].key > pair.key) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = pair;
    return SLM_OK;
}

bool slm_tok_heap_pop(slm_tokenizer *tok, slm_tok_pair *out)
{
    if (tok->heap_n == 0)
        return false;
    slm_tok_pair *heap = tok->heap;
    *out = heap[0];
    slm_tok_pair last = heap[--tok->heap_n];
    size_t n = tok->heap_n, i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= n)
            break;
        if (child + 1 < n && heap[child + 1].key < heap[child].key)
            child++;
        if (heap[child].key >= last.key)
            break;
        heap[i] = heap[child];
        i = child;
    }
    if (n > 0)
        heap[i] = last;
    return true;
}
