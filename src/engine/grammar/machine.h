/*
 * The machine that reads a text byte by byte: lexemes are automata, structure is a pushdown.
 *
 *   configuration = (state of the lexeme that is being read, stack of what comes after it)
 *   state         = a small set of configurations, sorted, with a number; several where alternatives run side by side
 *
 * Stacks are immutable and hash-consed: a stack is a number, and what can follow when a lexeme ends on it (its closure) is computed once.
 * A frame of a stack says in a few words where in an object, an array or a sequence the text is, so structure is never unrolled.
 *
 * Values (what a schema or a rule describes) are compiled elsewhere into: one lexeme for everything that has no inner structure, and
 * shapes for the rest.  No value that can match nothing is ever entered, so every state can be completed.
 */
#ifndef SLM_GRAMMAR_MACHINE_H
#define SLM_GRAMMAR_MACHINE_H

#include "engine/grammar/rx.h"
#include "engine/grammar/vocab.h"

/* Something that may stand where a value is due. */
typedef struct slm_value {
    slm_rx scalar;              /* EMPTY: none */
    uint32_t shapes, n_shapes;  /* in machine->shapes */
    bool live;                  /* matches some text */
} slm_value;

typedef struct slm_key {
    slm_text text; /* as written between the quotes */
    uint32_t value;
    bool required, allowed; /* not allowed: may not be said, and is no additional key either */
} slm_key;

typedef struct slm_key_class {
    slm_rx text;
    uint32_t value;
} slm_key_class;

/* Keys come in their order; then any number of others, by class. */
typedef struct slm_object {
    slm_key *keys;
    slm_key_class *classes;
    uint32_t n_keys, n_classes, min, max;
    uint32_t *sorted;        /* [n_keys] by text */
    uint32_t *required_from; /* [n_keys + 1] how many required keys stand at i or behind it */
    uint32_t *allowed_from;  /* ... allowed ones */
    bool distinct;           /* keys of classes are counted: remember them */
    bool few;                /* ... and there are finitely many */
} slm_object;

typedef struct slm_array {
    uint32_t *items, *counted; /* [n_items + 1] values by index, the last: all further ones; counted: those that contains counts, or NULL */
    uint32_t n_items, min, max, min_counted, max_counted;
    bool unique, few; /* few: some thousand different items at most */
    slm_rx distinct;  /* of unique ones: an item, in one spelling for each value */
} slm_array;

/* One alternative of a rule: lexemes and values in a row. */
typedef struct slm_symbol {
    bool is_value;
    uint32_t id; /* value or slm_rx */
} slm_symbol;

typedef struct slm_sequence {
    slm_symbol *symbols;
    uint32_t n;
} slm_sequence;

typedef struct slm_shape {
    enum { SHAPE_OBJECT, SHAPE_ARRAY, SHAPE_SEQUENCE } kind;
    union {
        slm_object object;
        slm_array array;
        slm_sequence sequence;
    };
} slm_shape;

/* KEY and ITEM: a lexeme whose text must not have been there before is being read; USED: a chain of such texts. */
typedef enum slm_frame_kind {
    FRAME_END, FRAME_VALUE, FRAME_OBJECT, FRAME_KEY, FRAME_ARRAY, FRAME_OPEN, FRAME_ITEM, FRAME_SEQUENCE, FRAME_USED
} slm_frame_kind;

/* In place of a text, while a mask is made: one text has ended within the token and is not known, so no other may. */
#define SLM_CROSSED UINT32_MAX

typedef struct slm_frame {
    uint32_t kind, parent, a, b, c; /* a: value or shape; b: place in it; c: count */
    uint32_t d, e; /* d: used texts (a stack of FRAME_USED); e: the text so far (a track), or SLM_CROSSED */
    uint32_t closure, n_closure;       /* in machine->configs; closure 0: not computed */
    bool busy;                         /* being computed */
    bool tracks, always; /* keeps the text that is read; always: even while a mask is made */
} slm_frame;

typedef struct slm_config {
    uint32_t state, stack;
} slm_config;

typedef struct slm_machine_state {
    uint32_t configs, n_configs;
    uint32_t mask; /* in machine->masks, 0 = none yet */
    bool accepting;
} slm_machine_state;

/* What is allowed in a state, kept: as ids where they are few. */
typedef struct slm_mask {
    uint32_t state, n_ids;
    int32_t *ids;   /* [n_ids] ascending, or NULL */
    uint64_t *bits; /* [n_words], or NULL */
    uint64_t used;  /* when, for the least recently used */
} slm_mask;

typedef struct slm_memo {
    uint32_t key[4], value;
} slm_memo;

typedef struct slm_member {
    uint32_t round, index;
} slm_member;

enum { SLM_FOUND = 512 };

typedef struct slm_machine {
    slm_budget budget;
    slm_rx_pool rx;
    const slm_token_vocab *vocab;
    slm_value *values;
    uint32_t n_values, values_capacity;
    slm_shape *shapes;
    uint32_t n_shapes, shapes_capacity;
    slm_frame *frames;
    uint32_t n_frames, frames_capacity;
    slm_ids_table frames_by_hash;
    slm_config *configs; /* closures and states */
    uint32_t n_configs, configs_capacity;
    slm_machine_state *states;
    uint32_t n_states, states_capacity; /* from 1 */
    slm_ids_table states_by_hash;
    slm_memo *memos; /* lexemes between keys and items */
    uint32_t n_memos, memos_capacity;
    slm_ids_table memos_by_hash;
    slm_config *work; /* sets that are being made, one behind the other */
    uint32_t n_work, work_capacity;
    slm_member *members; /* the members of the set that is being made, by hash; those of the round only */
    uint32_t round, members_base, members_end;
    uint32_t path[SLM_VOCAB_MAX_DEPTH + 1]; /* rows of the states of a lexeme along a token */
    uint32_t found[SLM_FOUND + 1];
    slm_mask *masks;
    uint32_t n_masks, masks_capacity, max_masks;
    uint64_t clock, *bits; /* [n_words] the mask that is being made */
    uint32_t start;
    bool exact; /* texts are kept: bytes are read for good, not to make a mask */
} slm_machine;

enum { SLM_MAX_IDS = 256 };

/* Twice the slots, all empty: the caller enters its records anew. */
bool slm_ids_table_widen(slm_machine *m, slm_ids_table *t);
bool slm_machine_init(slm_machine *m, const slm_token_vocab *vocab, size_t max_bytes, uint64_t max_steps);
void slm_machine_destroy(slm_machine *m);

/* The state at the beginning of value `root`; 0 after a failure. */
uint32_t slm_machine_start(slm_machine *m, uint32_t root);
/* The state after n more bytes; 0: they do not fit (or a failure). */
uint32_t slm_machine_advance(slm_machine *m, uint32_t state, const char *bytes, size_t n);
/* The tokens that fit; valid until the next call. NULL after a failure. */
const slm_mask *slm_machine_mask(slm_machine *m, uint32_t state);
/* Bytes that must follow, at most max; the state may not end before them. */
uint32_t slm_machine_forced(slm_machine *m, uint32_t state, char *out, uint32_t max);
/* May the text end here; must it? */
bool slm_machine_accepts(const slm_machine *m, uint32_t state);
bool slm_machine_is_done(const slm_machine *m, uint32_t state);

/* The lexeme of an object behind its opening (first) or behind a value: the keys that may come, or the end. */
slm_rx slm_object_lexeme(slm_machine *m, uint32_t shape, uint32_t place, uint32_t count, uint32_t used, bool first);
uint32_t slm_frame_make(slm_machine *m, slm_frame template);
/* The stack with one more byte in its text, where it keeps one. */
uint32_t slm_frame_read(slm_machine *m, uint32_t stack, unsigned byte);
/* Where a lexeme that has ended with a label leads: the stack that is due then; 0: nowhere. */
uint32_t slm_frame_after(slm_machine *m, uint32_t stack, uint32_t label);
/* Adds what may follow when `stack` is due to the set at the end of m->work (begun at base). */
void slm_frame_resume(slm_machine *m, uint32_t stack, uint32_t base);
void slm_work_add(slm_machine *m, uint32_t base, uint32_t state, uint32_t stack);
/* The number of the state whose set is work[from..n_work); 0 for the empty set and after a failure. */
uint32_t slm_work_state(slm_machine *m, uint32_t from);
/* work[0..n_work) is the set of a state. */
bool slm_work_load(slm_machine *m, uint32_t state);
/* Fits one byte to a set: reads work[from..to), writes behind n_work. */
void slm_work_step(slm_machine *m, uint32_t from, uint32_t to, unsigned byte);

/* How many texts does a lexeme match? min or more are counted as min. */
uint32_t slm_count_texts(slm_machine *m, slm_rx e, uint32_t min);
/* Are there at most some thousand, as far as is easily seen? */
bool slm_few_texts(slm_machine *m, slm_rx e);
/* Texts that were remembered, as an expression. */
slm_rx slm_used_texts(slm_machine *m, uint32_t used);

#endif
