/*
 * The labels of a classification as a trie of token sequences, reduced to what a model must compute (DESIGN D10).
 *
 *   "card lost", "card stolen", "refund"       stage 0 (after the prompt):      card | refund
 *                                              stage 1 (path "card"):           lost | stolen
 *
 * A stage is a node with at least two children: the only places where something is to be decided.  Its path is the tokens that lead
 * from the parent stage to it: the parent's child and whatever is forced after it.  A child is either another stage or, when everything
 * after it is forced, a label.  Every sequence ends with the end-of-turn token, so none is the beginning of another.
 *
 * The same trie is a constraint (constraint.h) under which one of the labels is written: slm_labels_constraint.
 */
#ifndef SLM_DECODE_TRIE_H
#define SLM_DECODE_TRIE_H

#include <stddef.h>
#include <stdint.h>

#include "engine/decode/constraint.h"

typedef struct slm_trie_stage {
    uint32_t parent;                   /* UINT32_MAX for the first */
    uint32_t parent_child;             /* which child of the parent leads here, an index into child_ids */
    uint32_t path_begin, path_length;  /* in path: what to feed after the parent's path */
    uint32_t child_begin, n_children;  /* in child_ids and child_to */
} slm_trie_stage;

typedef struct slm_trie {
    uint32_t n_labels, n_stages, n_path, n_children;
    slm_trie_stage *stages; /* [n_stages] parents before children; none for a single label */
    int32_t *path;          /* [n_path] token ids */
    int32_t *child_ids;     /* [n_children] token ids, ascending within a stage */
    int32_t *child_to;      /* [n_children] >= 0: stage; < 0: label -1 - value */
    int32_t *tails;         /* [n_tails] what is forced after the last decision on the way to each label, its end included */
    uint32_t *tail_begin;   /* [n_labels + 1] in tails */
    uint32_t depth;         /* stages on the longest way */
    uint32_t max_feed;      /* path tokens on the longest way, without the first stage's */
} slm_trie;

typedef struct slm_token_span {
    const int32_t *ids; /* [n] n > 0 */
    uint32_t n;
} slm_token_span;

/* Builds the trie of n labels. Two labels of equal tokens: INVALID, and their numbers in *same. */
slm_status slm_trie_build(const slm_token_span *labels, uint32_t n, slm_trie **out, uint32_t same[2], slm_error *err);
void slm_trie_free(slm_trie *trie);

/* A constraint under which an answer is one of the labels; it owns the trie, and frees it where it fails too (NOMEM). */
slm_status slm_labels_constraint(slm_trie *trie, uint32_t n_vocab, const void *vocabulary, slm_constraint **out, slm_error *err);

#endif
