/*
 * The text of an answer, put together from the bytes of its tokens.
 *
 * A token may end in the middle of a character: bytes wait until the character is complete; bytes that can form none become
 * U+FFFD, one for each maximal part (Unicode 15, section 3.9), and so does NUL, which PostgreSQL's text cannot hold.  Stop strings may
 * span tokens: text that may be the beginning of one is held back from streaming until it is decided.
 *
 *   text   [ taken by the stream | final | possible beginning of a stop ]  pending: 0-3 bytes of a character
 */
#ifndef SLM_DECODE_PIECES_H
#define SLM_DECODE_PIECES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

typedef struct slm_pieces {
    char *text; /* [n] + NUL once something was added; malloc'ed */
    size_t n, capacity;
    size_t final;  /* bytes that stay whatever comes */
    size_t taken;  /* bytes that the stream has handed out */
    unsigned char pending[4];
    unsigned n_pending;
    char **stops;  /* [n_stops] owned copies */
    size_t n_stops, longest_stop;
    bool stopped;  /* a stop string was found; text ends before it */
} slm_pieces;

/* Copies the stop strings. INVALID for an empty one. */
slm_status slm_pieces_init(slm_pieces *p, const char *const *stops, size_t n_stops, slm_error *err);
void slm_pieces_clear(slm_pieces *p);
/* Adds bytes; nothing happens after a stop. */
slm_status slm_pieces_add(slm_pieces *p, const char *bytes, size_t length, slm_error *err);
/* The answer is over: an unfinished character is left out, nothing is held back any more. */
slm_status slm_pieces_finish(slm_pieces *p, slm_error *err);

#endif
