/*
 * n-gram drafts (prompt look-up); see draft.h.
 *
 * A match of three tokens begins a guess, one of two is enough while guesses hold.  A linear search backwards: a few microseconds for
 * thousands of tokens, against milliseconds of a forward pass.
 */
#include "engine/decode/draft.h"

#define FIRST_SIZE 3
#define MAX_SIZE 7
#define MATCH_ENOUGH 8 /* a longer match says nothing more */
#define MATCH_FIRST 3
#define MATCH_NEXT 2
#define PAUSE 8
#define MAX_DOUBLINGS 5

void slm_draft_learn(slm_draft *draft, uint32_t guessed, uint32_t accepted)
{
    if (guessed == 0)
        return;
    if (accepted == guessed)
        draft->size = draft->size * 2 > MAX_SIZE ? MAX_SIZE : draft->size * 2;
    else
        draft->size = accepted + 1 > FIRST_SIZE ? accepted + 1 : FIRST_SIZE;
    if (accepted > 0) {
        draft->misses = 0;
        return;
    }
    draft->misses++;
    draft->pause = PAUSE << (draft->misses < MAX_DOUBLINGS ? draft->misses : MAX_DOUBLINGS);
}

/* Tokens before position at (included) that equal the end of ids [n]. */
static uint32_t match_length(const int32_t *ids, uint32_t n, uint32_t at)
{
    uint32_t length = 0;

    while (length < MATCH_ENOUGH && length <= at && ids[at - length] == ids[n - 1 - length])
        length++;
    return length;
}

uint32_t slm_draft_find(slm_draft *draft, const int32_t *ids, uint32_t n, uint32_t most, uint32_t *available)
{
    uint32_t best = 0, from = n, need;

    *available = 0;
    if (draft->pause > 0) {
        draft->pause--;
        return n;
    }
    if (draft->size == 0)
        draft->size = FIRST_SIZE;
    need = draft->size > FIRST_SIZE ? MATCH_NEXT : MATCH_FIRST;
    for (uint32_t at = n - 1; at-- > 0 && best < MATCH_ENOUGH;) {
        uint32_t length = match_length(ids, n, at);

        if (length > best) {
            best = length;
            from = at + 1;
        }
    }
    if (best < need || from >= n)
        return n;
    *available = n - from < draft->size ? n - from : draft->size;
    *available = *available < most ? *available : most;
    return from;
}
