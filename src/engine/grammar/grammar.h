/*
 * Constraint grammars: JSON Schema, regular expressions and GBNF, compiled for a vocabulary.
 *
 * A grammar is compiled once and used for any number of answers; where an answer stands is a number (a state).  Masks, automata and states
 * are computed when they are first needed and kept, within limits.  What cannot be honoured is refused by name when it is compiled;
 * docs/CONSTRAINTS.md lists what is honoured.
 *
 * Thread rule: one thread at a time for a grammar.  The vocabulary must outlive it.
 */
#ifndef SLM_GRAMMAR_GRAMMAR_H
#define SLM_GRAMMAR_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/grammar/vocab.h"

typedef enum slm_grammar_kind {
    SLM_GRAMMAR_JSON_SCHEMA = 0, /* the answer is one JSON value, written without spaces */
    SLM_GRAMMAR_REGEX = 1,       /* the whole answer matches */
    SLM_GRAMMAR_GBNF = 2,        /* the answer is what the rule "root" derives */
    SLM_GRAMMAR_JSON_ANSWER = 3  /* JSON_SCHEMA for answers that are to end: numbers without an exponent, with at most 19 digits before the
                                    point and 15 behind, integers without any (as JSON, 1.0000... is one) */
} slm_grammar_kind;

typedef struct slm_grammar slm_grammar;

/* text [n]. INVALID: no schema, pattern or grammar, or one that nothing satisfies. UNSUPPORTED: names what is not honoured. LIMIT: takes
 * more than 16 MiB or some 10 ms for 64 kB of text (in proportion for more). */
slm_status slm_grammar_compile(const slm_token_vocab *vocab, slm_grammar_kind kind, const char *text, size_t n, slm_grammar **out,
                               slm_error *err);
void slm_grammar_free(slm_grammar *g);

/* The state at the beginning of an answer. States stay valid until the grammar is freed or slm_grammar_trim drops them. */
slm_status slm_grammar_start(slm_grammar *g, uint32_t *state, slm_error *err);
/* The state after n more bytes. INVALID: they do not fit; LIMIT: what has been kept takes too much memory. */
slm_status slm_grammar_advance(slm_grammar *g, uint32_t state, const char *bytes, size_t n, uint32_t *to, slm_error *err);
/* The tokens that may come next (without those that end an answer): ids [n] ascending where they are few, else NULL, n is 0, and
 * bits [(n_tokens + 63) / 64]. Valid until the next call. */
slm_status slm_grammar_mask(slm_grammar *g, uint32_t state, const int32_t **ids, uint32_t *n, const uint64_t **bits, slm_error *err);
/* The bytes that must come next, at most max, and 0 where there is a choice (ending the answer is one). */
uint32_t slm_grammar_forced(slm_grammar *g, uint32_t state, char *out, uint32_t max);
/* May the answer end here; must it? */
bool slm_grammar_accepts(const slm_grammar *g, uint32_t state);
bool slm_grammar_is_done(const slm_grammar *g, uint32_t state);
/* Memory in use; drops everything that was computed since it was compiled when it is more than max (states become invalid). */
size_t slm_grammar_trim(slm_grammar *g, size_t max);

#endif
