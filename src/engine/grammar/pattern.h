/*
 * Regular expressions of ECMA-262 (what JSON Schema calls pattern) as expressions over bytes.
 *
 * Honoured: literals and escapes, classes, . \d \w \s and their complements, \p{general category} with the u spelling, groups (named ones
 * and non-capturing ones as well), alternatives, all counted repetitions (lazy ones match the same texts), ^ and $ wherever they can be
 * decided, lookahead outside of endless repetitions.  Refused by name: back-references, lookbehind, \b and \B, inline flags, possessive
 * and atomic groups, lookahead inside an endless repetition.
 */
#ifndef SLM_GRAMMAR_PATTERN_H
#define SLM_GRAMMAR_PATTERN_H

#include "engine/grammar/rx.h"

enum {
    SLM_PATTERN_JSON = 1, /* characters as a JSON string writes them */
    SLM_PATTERN_WHOLE = 2 /* the whole text must match; else a part of it is enough */
};

/* EMPTY after a failure (UNSUPPORTED names what is refused, INVALID what is no pattern). */
slm_rx slm_pattern_compile(slm_rx_pool *p, const char *pattern, size_t n, int flags);

/* The class of a GBNF grammar or pattern that begins behind '[' at text[*at]; *at is left behind ']'. */
slm_rx slm_pattern_class(slm_rx_pool *p, const char *text, size_t n, size_t *at, int flags);

#endif
