/*
 * summary.h: the sentences of a text, and those that say what it is about (summary.c).
 */
#ifndef SLM_EXTRACT_SUMMARY_H
#define SLM_EXTRACT_SUMMARY_H

#include "engine/extract/extract.h"

typedef struct slm_sentence {
    size_t begin, end; /* bytes, with its punctuation, without spaces around it */
    uint32_t n_words;
    uint32_t weight; /* how often it counts: 1 */
} slm_sentence;

/* The sentences of a text (valid UTF-8), in order; an empty line ends one too.  *out [*n] is freed by the caller.  NOMEM, CANCELLED. */
slm_status slm_sentences_find(const char *text, size_t length, const volatile int *stop, slm_sentence **out, size_t *n, slm_error *err);

#define SLM_LEXICAL_DIMS 256

/* Vectors [n, SLM_LEXICAL_DIMS] of the words of n sentences: how often and how rare among these they are, hashed; normalized.  Zeros for a
 * sentence without a word of meaning. */
slm_status slm_sentences_vectors(const char *text, const slm_sentence *sentences, size_t n, const volatile int *stop, float *vectors,
                                 slm_error *err);

/* Which of n sentences stand for all: near to the weighted mean of the vectors [n, n_dims] and to focus [n_dims], if that is given, and
 * unlike each other (maximal marginal relevance: Carbonell and Goldstein, 1998), as long as they have max_words words together.  in_order:
 * the first is the beginning of a text.  chosen [at least n]: best first.  Returns how many; 0 where none is short enough. */
size_t slm_sentences_choose(const float *vectors, size_t n_dims, const slm_sentence *sentences, size_t n, const float *focus, bool in_order,
                            uint32_t max_words, uint32_t *chosen);

/* Keeps at most `most` of the sentences, in order: the nearest to the mean of each thousand.  NOMEM, CANCELLED. */
slm_status slm_sentences_reduce(const char *text, slm_sentence *sentences, size_t *n, size_t most, const volatile int *stop,
                                slm_error *err);

#endif
