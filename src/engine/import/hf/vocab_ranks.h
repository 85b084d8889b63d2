/*
 * Merges that a vocabulary implies: every way to cut a token into two tokens, in the order in which transformers lists them.
 *
 * Files that give each token a rank or a score have no list of merges.  What is known of the order of such a list is who wrote it, so the
 * callers sort the tokens; here the cuts of one token are found and ordered.
 */
#ifndef SLM_HF_VOCAB_RANKS_H
#define SLM_HF_VOCAB_RANKS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

/* tokens [n] in order of their merges; halves: the tokens that may be merged, text -> rank.  by_rank: the cuts of one token by the rank of
 * their left half, else by its length.  Appends "left right" or ["left", "right"] to merges.  FORMAT, LIMIT, CANCELLED. */
slm_status slm_hf_merges_of(const char *const *tokens, size_t n, json_t *halves, bool by_rank, const volatile int *stop, json_t *merges,
                            slm_error *err);

/* A byte-level vocabulary of tokens given as bytes: {"text in the alphabet of bytes": id}, merges beside. */
typedef struct slm_hf_ranks {
    json_t *vocab, *merges; /* owned */
    json_t *order;          /* [texts], in order of rank; owned */
} slm_hf_ranks;

slm_status slm_hf_ranks_init(slm_hf_ranks *r, slm_error *err);
/* The next token by rank, as base 64, and its id.  FORMAT: no base 64, empty, or there already. */
slm_status slm_hf_ranks_add(slm_hf_ranks *r, const char *base64, size_t n, json_int_t id, const char *file, slm_error *err);
/* Finds the merges, and makes the BPE model of all (words that are tokens are not merged). */
slm_status slm_hf_ranks_model(slm_hf_ranks *r, const volatile int *stop, json_t **model, slm_error *err);
void slm_hf_ranks_free(slm_hf_ranks *r);

#endif
