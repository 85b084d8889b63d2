/*
 * What an answer may be, as one interface (DESIGN D10): label tries, grammars, SQL types and copied spans stand behind it, and the session
 * that decodes under a constraint knows nothing else of them.
 *
 *   start ─► allowed ─sample─► advance ─► forced ─feed, advance each─► allowed ...                     until done
 *
 * A constraint is compiled once for a vocabulary and shared by any number of sequences; each has a state.  What allowed() and forced() say
 * is a function of the constraint and of the tokens advanced over since start(), never of a neighbour, of a cache or of what was asked
 * before: answers keep their bits in any batch.  Every state that can be reached can be completed: what would lead to a dead end is not
 * allowed, and what cannot be honoured at all was refused when the constraint was compiled.
 *
 * Tokens that end an answer (slm_tokenizer_is_end) are tokens like others here: they are allowed where the text may end, and done() holds
 * behind them.  No other control token is ever allowed.
 *
 * Thread rule: one thread at a time for a constraint and all its states, since the caches in it are filled while it is used.
 */
#ifndef SLM_DECODE_CONSTRAINT_H
#define SLM_DECODE_CONSTRAINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

typedef struct slm_constraint slm_constraint;

/* At most so many tokens are handed on as ids: only their rows of the head are computed.  More are a mask. */
#define SLM_ALLOWED_IDS 256

/* The tokens that may come next, never none.  Valid until the next call with the same constraint, whatever the state. */
typedef struct slm_allowed {
    const int32_t *ids;   /* [n_ids] ascending, at most SLM_ALLOWED_IDS (a label trie: of its branching); NULL: see mask */
    uint32_t n_ids;
    const uint64_t *mask; /* [(n_vocab + 63) / 64] bit id % 64 of word id / 64, none at n_vocab or above; NULL where ids are given */
} slm_allowed;

typedef struct slm_constraint_ops {
    const char *name; /* "grammar", "labels", ... */
    /* Writes the state at the beginning of an answer into memory of state_bytes, aligned for any type.  skip_space: the tokenizer writes
     * a space before the answer's first word that is not part of it (chat formats over SentencePiece), so one leading space of the first
     * token does not count. */
    slm_status (*start)(slm_constraint *c, void *state, bool skip_space, slm_error *err);
    /* NOMEM, LIMIT (what the state would need), UNSUPPORTED (the vocabulary has no token for what must come). */
    slm_status (*allowed)(slm_constraint *c, const void *state, slm_allowed *out, slm_error *err);
    /* Tokens that come next whatever would be sampled, as the tokenizer writes them: a run of bytes without a choice, up to the last token
     * that no continuation could change.  Returns how many of ids [max] were written; 0 when there is a choice, or none can be had cheaply.
     * They are fed unsampled, each advanced over.  NULL: never any. */
    uint32_t (*forced)(slm_constraint *c, const void *state, int32_t *ids, uint32_t max);
    /* The token joins the text.  INVALID: it is not allowed, and the state is as before; NOMEM and LIMIT likewise. */
    slm_status (*advance)(slm_constraint *c, void *state, int32_t id, slm_error *err);
    /* Behind start(): the answer begins with n bytes of valid UTF-8 that are part of it and were not sampled.  INVALID, with *fit: of them
     * only so many fit.  NULL: it takes none. */
    slm_status (*begin_with)(slm_constraint *c, void *state, const char *bytes, size_t n, size_t *fit, slm_error *err);
    /* Nothing may follow: the answer is complete. */
    bool (*done)(const slm_constraint *c, const void *state);
    /* A second state that goes its own way (a draft that may be wrong), false when memory is out; NULL: its bytes are copied. */
    bool (*copy)(slm_constraint *c, void *to, const void *from);
    /* Drops what a state holds of the constraint; NULL: nothing. */
    void (*clear)(slm_constraint *c, void *state);
    /* Frees the constraint; no state is left. */
    void (*destroy)(slm_constraint *c);
} slm_constraint_ops;

/* The head of every constraint; what its kind needs stands behind it.  What is compiled does not change, the caches do. */
struct slm_constraint {
    const slm_constraint_ops *ops;
    size_t state_bytes;       /* of one state; fixed when it was compiled */
    uint32_t n_vocab;         /* token ids are below */
    const void *vocabulary;   /* identity of the tokenizer that it was compiled for: used with no other */
    uint32_t references;      /* the maker's is the first */
    void *owner;              /* what it needs to live (the model), released behind it */
    void (*release)(void *owner); /* or NULL */
};

/* A reference more or less; the last one destroys it. NULL is fine for both. */
slm_constraint *slm_constraint_share(slm_constraint *c);
void slm_constraint_drop(slm_constraint *c);

/* A state in memory of its own, at the beginning of an answer. */
slm_status slm_constraint_begin(slm_constraint *c, bool skip_space, void **state, slm_error *err);
/* A copy of a state in memory of its own; NULL when memory is out. */
void *slm_constraint_fork(slm_constraint *c, const void *state);
void slm_constraint_end(slm_constraint *c, void *state);

#endif
