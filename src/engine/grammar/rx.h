/*
 * Regular languages over bytes as expressions that are their own automata: the derivative of an expression by a byte is the expression of
 * what may follow (Brzozowski 1964; Owens, Reppy, Turon 2009).  So intersection and complement cost nothing to write, and only states that
 * a text visits are ever made.
 *
 * Expressions are immutable, normalized and hash-consed: equal expressions have equal numbers (slm_rx), and an expression that has become
 * a state of an automaton (slm_rx_state) keeps its transitions, by classes of bytes that it does not tell apart.
 *
 *   EMPTY nothing · EPS the empty text · SET one byte · CAT a b · OR, AND of many · NOT a · REP a{m,n} · SWITCH byte -> expression (tries)
 *   LABEL the empty text, and which alternative it was · COMPARE, DIVIDE a decimal number and a bound or divisor (number.c)
 *
 * A state of which no text can come any more is dead and never handed out: AND and NOT are searched for that, within the budget.
 */
#ifndef SLM_GRAMMAR_RX_H
#define SLM_GRAMMAR_RX_H

#include "engine/grammar/budget.h"

typedef uint32_t slm_rx;

enum { SLM_RX_EMPTY = 0, SLM_RX_EPS = 1, SLM_RX_ANY = 2 /* every text: NOT EMPTY */ };
#define SLM_RX_MANY UINT32_MAX /* {m,} */
#define SLM_NO_LABEL UINT32_MAX

typedef enum slm_rx_kind {
    RX_EMPTY, RX_EPS, RX_SET, RX_CAT, RX_OR, RX_AND, RX_NOT, RX_REP, RX_LABEL, RX_SWITCH, RX_COMPARE, RX_DIVIDE
} slm_rx_kind;

typedef struct slm_rx_node {
    uint8_t kind;
    bool nullable;
    uint8_t logic : 1;  /* holds an AND or a NOT: may be empty without looking so */
    uint8_t finite : 1; /* seen to match finitely many texts */
    uint8_t json : 1;   /* seen to match nothing but what may stand in a JSON string */
    uint8_t wide : 2;   /* matches each plain character of a JSON string: 0 unknown, 1 yes, 2 no (state.c) */
    uint8_t live;       /* of those with logic: 0 unknown, 1 live, 2 dead */
    uint32_t a, b, c;
} slm_rx_node;

/* One of the 256-bit sets of bytes. */
typedef struct slm_byte_set {
    uint64_t bits[4];
} slm_byte_set;

static inline bool slm_set_has(const slm_byte_set *s, unsigned byte)
{
    return s->bits[byte >> 6] >> (byte & 63) & 1;
}
static inline void slm_set_add(slm_byte_set *s, unsigned low, unsigned high)
{
    for (unsigned i = low; i <= high; i++)
        s->bits[i >> 6] |= UINT64_C(1) << (i & 63);
}

/* Bytes that a family of expressions does not tell apart. */
typedef struct slm_partition {
    uint8_t of[256];     /* byte -> class */
    uint8_t example[256]; /* class -> a byte of it */
    uint32_t n;
    uint32_t n_tried, n_free; /* of its states: whether a string stays free there, and where it does (mask.c) */
} slm_partition;

/* A state of an automaton.  Its row: [partition->n] states by class, 0 = not yet known; then as many rows, for walks that only want to know
 * how to go on: of states of the same partition (plus SLM_ROW_ENDS where the state accepts), SLM_ROW_DEAD, or 0 where a walk has to look;
 * before both, the state. */
typedef struct slm_state {
    slm_rx rx;
    uint32_t partition;
    uint32_t next; /* in pool->next, behind the state; 0 = none yet */
    uint32_t label; /* of what has been read, where accepting */
    uint32_t free_chars; /* so many characters of a JSON string may follow whatever they are; SLM_RX_MANY: any number */
    bool accepting, final; /* final: accepting, and nothing may follow */
    bool tried;            /* whether free_chars is more than it looks like */
} slm_state;

enum { SLM_STATE_DEAD = 1, SLM_STATE_END = 2, SLM_STATE_FIRST = 3, SLM_ROW_DEAD = 1 };
#define SLM_ROW_ENDS (UINT32_C(1) << 31)

/* A bound of a number: |value| as digits without leading (int) or trailing (frac) zeros. */
typedef struct slm_decimal {
    bool negative;
    uint32_t n_int, n_frac;
    const char *digits; /* [n_int + n_frac] */
} slm_decimal;

typedef struct slm_derived {
    slm_rx rx, result;
    uint32_t byte;
} slm_derived;

/* PARTS: of the table of expressions, which grow one by one, so that no mask waits for all of it. */
enum { SLM_DERIVED = 4096, SLM_HELPFUL = 4, SLM_RX_PARTS = 32 };

typedef struct slm_rx_pool {
    slm_budget *budget;
    slm_rx_node *nodes;
    uint32_t n_nodes, nodes_capacity;
    uint32_t *hashes; /* [nodes] */
    uint32_t hashes_capacity;
    uint32_t *state_of; /* [nodes] */
    uint32_t state_of_capacity;
    uint32_t *marks; /* [nodes] for walks: the number of the walk that was here */
    uint32_t marks_capacity, walk;
    uint8_t *hints; /* [nodes] of live ones with logic: a byte that leads on to the end */
    uint32_t hints_capacity;
    uint8_t helpful[SLM_HELPFUL]; /* bytes that led to an end, the last one first */
    slm_ids_table by_hash[SLM_RX_PARTS];
    uint32_t *lists; /* members of OR, AND; pairs of SWITCH */
    uint32_t n_lists, lists_capacity;
    slm_byte_set *sets;
    uint32_t n_sets, sets_capacity;
    slm_decimal *decimals;
    uint32_t n_decimals, decimals_capacity;
    uint32_t *tracks; /* texts as a tree: pairs of parent and byte */
    uint32_t n_tracks, tracks_capacity;
    slm_ids_table tracks_by_hash;
    uint32_t *scratch; /* a stack */
    uint32_t n_scratch, scratch_capacity;
    slm_partition **partitions;
    uint32_t n_partitions, partitions_capacity;
    slm_state *states;
    uint32_t n_states, states_capacity;
    uint32_t *next;
    uint32_t n_next, next_capacity;
    uint32_t depth;
    slm_rx continuations[4]; /* so many continuation bytes of UTF-8 */
    slm_rx json_char, json_text; /* one character of a JSON string as it is written, and any number of them */
    slm_rx not_json_text, plain_char; /* a plain character (vocab.h); made when it is asked for */
    slm_derived *derived; /* [SLM_DERIVED] what was derived last */
} slm_rx_pool;

bool slm_rx_init(slm_rx_pool *p, slm_budget *b);
void slm_rx_destroy(slm_rx_pool *p);

slm_rx slm_rx_set(slm_rx_pool *p, const slm_byte_set *set);
slm_rx slm_rx_byte(slm_rx_pool *p, unsigned byte);
slm_rx slm_rx_cat(slm_rx_pool *p, slm_rx a, slm_rx b);
slm_rx slm_rx_or(slm_rx_pool *p, slm_rx a, slm_rx b);
slm_rx slm_rx_and(slm_rx_pool *p, slm_rx a, slm_rx b);
slm_rx slm_rx_or_many(slm_rx_pool *p, const slm_rx *ids, uint32_t n); /* ids: not in the scratch */
/* Joins what stands in the scratch from `from` on, and takes it away. */
slm_rx slm_rx_or_scratch(slm_rx_pool *p, uint32_t from);
slm_rx slm_rx_not(slm_rx_pool *p, slm_rx a);
slm_rx slm_rx_rep(slm_rx_pool *p, slm_rx a, uint32_t min, uint32_t max);
slm_rx slm_rx_label(slm_rx_pool *p, uint32_t label);
/* text[n] and then `then`. */
slm_rx slm_rx_literal(slm_rx_pool *p, const char *text, size_t n, slm_rx then);

/* One of many texts: texts sorted by bytes (memcmp, shorter first) without equals; then[i] follows texts[i]. */
typedef struct slm_text {
    const char *data;
    uint32_t length;
} slm_text;
int slm_text_compare(const void *a, const void *b);
slm_rx slm_rx_trie(slm_rx_pool *p, const slm_text *texts, const slm_rx *then, uint32_t n);

/* The characters (code points, both ends included, ascending, apart) as UTF-8; json: as a JSON string writes them, escapes in one way
 * only: \" \\ \b \f \n \r \t, \u00xx for other controls, everything else as it is. */
slm_rx slm_rx_chars(slm_rx_pool *p, const uint32_t (*ranges)[2], uint32_t n, bool json);
/* A text as a JSON string writes it, without the quotes, appended to out. */
bool slm_json_escape(slm_budget *b, const char *text, size_t n, char **out, uint32_t *n_out, uint32_t *capacity);

/* A decimal number's text (plain: -?digits[.digits]) against a bound: op is '<', '>', 'l' (<=), 'g' (>=). */
slm_rx slm_rx_compare(slm_rx_pool *p, uint32_t decimal, char op);
/* ... is a multiple of m / 10^scale, 0 < m < 2^31. */
slm_rx slm_rx_multiple(slm_rx_pool *p, uint32_t m, uint32_t scale);
/* A JSON number's text as a decimal; false (and a failure unless quiet) when its exponent is beyond 400. */
bool slm_decimal_parse(slm_rx_pool *p, const char *text, size_t n, uint32_t *decimal);
slm_rx slm_number_step(slm_rx_pool *p, slm_rx_node e, unsigned byte);
slm_rx slm_rx_make(slm_rx_pool *p, slm_rx_kind kind, uint32_t a, uint32_t b, uint32_t c, bool nullable, bool logic);

/* Texts that are remembered have numbers, 0 the empty one: the number of one that is a byte longer, and its bytes (the length is returned,
 * nothing written where there is no room). */
uint32_t slm_track_next(slm_rx_pool *p, uint32_t track, unsigned byte);
uint32_t slm_track_text(const slm_rx_pool *p, uint32_t track, char *out, uint32_t max);

slm_rx slm_rx_derive(slm_rx_pool *p, slm_rx e, unsigned byte);
/* Does any text match? */
bool slm_rx_is_live(slm_rx_pool *p, slm_rx e);
/* A byte from which a search for the end of e, which is live, may begin. */
static inline unsigned slm_rx_hint(const slm_rx_pool *p, slm_rx e)
{
    return p->nodes[e].logic && p->nodes[e].live == 1 ? p->hints[e] : 0;
}
bool slm_rx_matches(slm_rx_pool *p, slm_rx e, const char *text, size_t n);

/* One plain character of a JSON string (vocab.h). */
slm_rx slm_rx_plain_char(slm_rx_pool *p);
/* Of an expression that any number of plain characters may begin, up to a bound: may it end behind them? */
bool slm_rx_ends_plain(const slm_rx_pool *p, slm_rx e);

/* Whatever e has read, so many bytes or less lead to its end; SLM_RX_MANY: more than can be said.  Of expressions without AND and NOT. */
uint32_t slm_rx_ends_within(const slm_rx_pool *p, slm_rx e);

/* The state that begins an automaton; SLM_STATE_DEAD when its language is empty. */
uint32_t slm_rx_state(slm_rx_pool *p, slm_rx e);
uint32_t slm_state_step_new(slm_rx_pool *p, uint32_t state, unsigned byte);
/* The row of a state that is neither dead nor an end, made where there is none; 0 after a failure. */
uint32_t slm_state_row(slm_rx_pool *p, uint32_t state);
static inline uint32_t slm_state_step(slm_rx_pool *p, uint32_t state, unsigned byte)
{
    const slm_state *s = &p->states[state];
    if (s->next != 0) {
        uint32_t to = p->next[s->next + p->partitions[s->partition]->of[byte]];
        if (to != 0)
            return to;
    }
    return slm_state_step_new(p, state, byte);
}

#endif
