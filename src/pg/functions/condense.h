/*
 * condense.h: what a generative model writes about a text of any length (condense.c).
 */
#ifndef SLM_PG_CONDENSE_H
#define SLM_PG_CONDENSE_H

#include "postgres.h"

#include "pg/functions/reading.h"
#include "pg/run/opened.h"
#include "pg/run/work.h"

typedef struct SlmCondense {
    SlmOpenModel *entry;
    const char *instruction; /* UTF-8, stands before the text; the prefix of all requests */
    size_t public_bytes;     /* of it (slm_request) */
    const char *input;       /* UTF-8 [length], lives as long as the work */
    size_t length;
    int max_words;           /* of what is written of a part; more is cut at a sentence */
    uint32 answer_tokens;
    SlmTruncate truncate;
    bool notes; /* a longer text is counted in a NOTICE */
} SlmCondense;

/* Bytes of s to keep: all of it where it is whole, its own end and not a limit's, and has at most max_words words; else it ends with the
 * last sentence within them; 0 when none is short enough. */
size_t slm_pg_bounded_length(const char *s, size_t length, int max_words, bool whole);
/* For begin: queues what is needed; the answer is the work's result 0, or the work is decided to be '' where nothing was written. */
void slm_pg_condense(SlmWork *work, const SlmCondense *what);

#endif
