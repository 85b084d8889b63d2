/*
 * Guessing the next tokens from what has been read and written already: answers that copy (summaries, extraction, corrections) repeat
 * whole phrases of their prompt.
 *
 * The longest end of the text so far that occurs earlier in it says what came next then.  How much is guessed follows how well guessing
 * went: more after every guess that held as a whole, a growing pause after guesses that failed at once.  Nothing here changes an
 * answer: the model verifies every token.
 */
#ifndef SLM_DECODE_DRAFT_H
#define SLM_DECODE_DRAFT_H

#include <stdint.h>

typedef struct slm_draft {
    uint32_t size;   /* tokens to guess next time; 0: not begun */
    uint32_t misses; /* guesses in a row that failed at once */
    uint32_t pause;  /* tokens to come before the next guess */
} slm_draft;

/* Of a guess of `guessed` tokens the first `accepted` were right. */
void slm_draft_learn(slm_draft *draft, uint32_t guessed, uint32_t accepted);

/* Where in ids [n] the continuation of its end begins; *available tokens of it are there and not more than `most`.  n when there is
 * nothing to guess from. */
uint32_t slm_draft_find(slm_draft *draft, const int32_t *ids, uint32_t n, uint32_t most, uint32_t *available);

#endif
