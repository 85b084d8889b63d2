/*
 * The vocabulary of a tokenizer as a trie over bytes, walked to find the tokens that a grammar allows.
 *
 * The trie is one array in depth-first order: a node whose byte does not fit is left by its skip.  A second one holds only the tokens
 * that are not plain, where plain is what may stand inside any JSON string: whole characters, no quote, no backslash, no control; and no
 * separator of lines or paragraphs (U+2028, U+2029), which the dot of a pattern leaves out.  Of plain tokens there are masks by their
 * length in characters, so that inside a free string the mask is one of those and a short walk.
 *
 * Built once for a tokenizer (some 50 ms for 128,000 tokens), never changed, shared by all grammars.
 */
#ifndef SLM_GRAMMAR_VOCAB_H
#define SLM_GRAMMAR_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

enum { SLM_VOCAB_MAX_DEPTH = 256, SLM_PLAIN_LENGTHS = 32 };

typedef struct slm_vocab_node {
    uint32_t skip;  /* the node behind all that begin with this one */
    int32_t token;  /* the first token that ends here, -1 = none; others by vocab->same */
    uint8_t byte;
    uint8_t depth;  /* 0 for first bytes */
    bool shared;    /* other tokens have the same text: vocab->same */
} slm_vocab_node;

typedef struct slm_token_text {
    const char *data;
    uint32_t length; /* 0: not to be generated (control tokens) */
} slm_token_text;

typedef struct slm_token_vocab {
    uint32_t n_tokens, n_words; /* n_words: 64-bit words of a mask */
    uint32_t longest;           /* bytes of the longest token */
    slm_vocab_node *all, *other; /* the trie of all tokens, and of those that are not plain */
    uint32_t n_all, n_other;
    int32_t *same;    /* [n_tokens] the next token of the same text, -1 */
    uint64_t *plain;  /* [SLM_PLAIN_LENGTHS + 1][n_words] plain tokens of at most 1, 2, ... characters; the last: of any length */
    uint32_t (*longer)[2]; /* [n_longer] plain tokens of more than SLM_PLAIN_LENGTHS characters, and how many */
    uint32_t n_longer;
} slm_token_vocab;

/* texts [n]; tokens longer than SLM_VOCAB_MAX_DEPTH bytes are never allowed. */
slm_status slm_token_vocab_build(const slm_token_text *texts, uint32_t n, slm_token_vocab **out, slm_error *err);
void slm_token_vocab_free(slm_token_vocab *v);

/* Plain tokens of at most n characters, n > 0; UINT32_MAX: of any length.  Those of `longer` are missing between. */
static inline const uint64_t *slm_vocab_plain(const slm_token_vocab *v, uint32_t n)
{
    return v->plain + (size_t) (n == UINT32_MAX ? SLM_PLAIN_LENGTHS : n > SLM_PLAIN_LENGTHS ? SLM_PLAIN_LENGTHS - 1 : n - 1) * v->n_words;
}

#endif
