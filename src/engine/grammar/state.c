/*
 * Expressions as states of automata: classes of bytes, transitions made when they are first taken, and the search for emptiness.
 *
 * The classes of an automaton's first expression serve all its states: a derivative holds no set of bytes that its origin did not.
 *
 * Emptiness is asked of every new state, so it has to be cheap where the answer is no.  An expression that is found to be live keeps the
 * byte that leads on to its end (its hint).  A new one is tried with the bytes that helped last, then along the hints of the state before
 * it, and only then searched breadth first.
 */
#include <stdlib.h>

#include "engine/grammar/rx.h"

/* Bytes of a way that is tried again. */
enum { MAX_WAY = 64 };

/* A walk over everything that e is made of marks what it has seen with its number. */
static bool walk_begin(slm_rx_pool *p)
{
    if (!SLM_GROW(p->budget, p->marks, p->marks_capacity, p->nodes_capacity))
        return false;
    p->walk++;
    return true;
}

static bool walk_push(slm_rx_pool *p, slm_rx e)
{
    if (p->marks[e] == p->walk)
        return true;
    p->marks[e] = p->walk;
    if (!SLM_GROW(p->budget, p->scratch, p->scratch_capacity, (uint64_t) p->n_scratch + 1))
        return false;
    p->scratch[p->n_scratch++] = e;
    return true;
}

/* Splits the classes by a set of bytes. */
static void refine(slm_partition *part, const slm_byte_set *set)
{
    uint8_t twin[256];
    bool has_in[256] = {false}, has_out[256] = {false};
    uint32_t n = part->n;
    for (unsigned i = 0; i < 256; i++) {
        if (slm_set_has(set, i))
            has_in[part->of[i]] = true;
        else
            has_out[part->of[i]] = true;
    }
    for (uint32_t c = 0; c < part->n; c++)
        twin[c] = (uint8_t) (has_in[c] && has_out[c] ? n++ : c);
    for (unsigned i = 0; i < 256; i++)
        if (slm_set_has(set, i))
            part->of[i] = twin[part->of[i]];
    part->n = n;
}

/* Bytes that one node of an expression tells apart: whole sets refine at once, single bytes are gathered. */
static void refine_by_node(slm_rx_pool *p, const slm_rx_node *n, slm_partition *part, slm_byte_set *singles)
{
    if (n->kind == RX_SET) {
        refine(part, &p->sets[n->a]);
    } else if (n->kind == RX_SWITCH) {
        for (uint32_t i = 0; i < n->b; i++)
            slm_set_add(singles, p->lists[n->a + 2 * i], p->lists[n->a + 2 * i]);
    } else if (n->kind == RX_COMPARE || n->kind == RX_DIVIDE) {
        slm_set_add(singles, '0', '9');
        slm_set_add(singles, '-', '.');
    }
}

static void walk_children(slm_rx_pool *p, slm_rx_node n)
{
    uint32_t step = n.kind == RX_SWITCH ? 2 : 1;
    switch (n.kind) {
    case RX_CAT:
        walk_push(p, n.b);
        walk_push(p, n.a);
        break;
    case RX_NOT:
    case RX_REP:
        walk_push(p, n.a);
        break;
    case RX_OR:
    case RX_AND:
    case RX_SWITCH:
        for (uint32_t i = 0; i < n.b; i++)
            walk_push(p, p->lists[n.a + i * step + step - 1]);
        break;
    default:
        break;
    }
}

static void partition_finish(slm_partition *part, const slm_byte_set *singles)
{
    for (unsigned i = 0; i < 256; i++) {
        slm_byte_set one = {{0}};
        if (!slm_set_has(singles, i))
            continue;
        slm_set_add(&one, i, i);
        refine(part, &one);
    }
    for (unsigned i = 256; i-- > 0;)
        part->example[part->of[i]] = (uint8_t) i;
}

/* The number of the partition that serves e and all that is derived from it. */
static uint32_t partition_of(slm_rx_pool *p, slm_rx e)
{
    slm_partition *part = calloc(1, sizeof *part);
    slm_byte_set singles = {{0}};
    uint32_t base = p->n_scratch, i;
    if (part == NULL)
        return slm_budget_fail(p->budget, SLM_NOMEM, "out of memory for a grammar");
    part->n = 1;
    if (walk_begin(p))
        walk_push(p, e);
    while (p->n_scratch > base && slm_budget_step(p->budget, 1)) {
        slm_rx_node n = p->nodes[p->scratch[--p->n_scratch]];
        refine_by_node(p, &n, part, &singles);
        walk_children(p, n);
    }
    p->n_scratch = base;
    partition_finish(part, &singles);
    for (i = 0; i < p->n_partitions; i++)
        if (memcmp(p->partitions[i]->of, part->of, sizeof part->of) == 0)
            break;
    if (i < p->n_partitions || !SLM_GROW(p->budget, p->partitions, p->partitions_capacity, (uint64_t) p->n_partitions + 1)) {
        free(part);
        return i < p->n_partitions ? i : 0;
    }
    p->budget->bytes += sizeof *part;
    p->partitions[p->n_partitions] = part;
    return p->n_partitions++;
}

static bool hints_grow(slm_rx_pool *p)
{
    return SLM_GROW(p->budget, p->hints, p->hints_capacity, p->nodes_capacity);
}

/* e is live: by this byte. */
static void mark_live(slm_rx_pool *p, slm_rx e, unsigned byte)
{
    p->nodes[e].live = 1;
    p->hints[e] = (uint8_t) byte;
}

/* A byte that has led to an end goes before those that did so earlier. */
static void note_helpful(slm_rx_pool *p, unsigned byte)
{
    uint32_t at = 0;
    while (at < SLM_HELPFUL - 1 && p->helpful[at] != byte)
        at++;
    memmove(p->helpful + 1, p->helpful, at);
    p->helpful[0] = (uint8_t) byte;
}

/* Marks those from which the search came to scratch[base + 3 at], from which `byte` leads on: triples (expression, index of its origin,
 * byte from there) in scratch[base..). */
static void mark_way(slm_rx_pool *p, uint32_t base, uint32_t at, unsigned byte)
{
    note_helpful(p, byte);
    for (;;) {
        mark_live(p, p->scratch[base + 3 * at], byte);
        if (at == 0)
            return;
        byte = p->scratch[base + 3 * at + 2];
        at = p->scratch[base + 3 * at + 1];
    }
}

static bool known_live(const slm_rx_pool *p, slm_rx e)
{
    const slm_rx_node *n = &p->nodes[e];
    return e != SLM_RX_EMPTY && (!n->logic || n->nullable || n->live == 1);
}

static bool search_push(slm_rx_pool *p, slm_rx e, uint32_t from, unsigned byte)
{
    if (!SLM_GROW(p->budget, p->marks, p->marks_capacity, p->nodes_capacity) ||
        !SLM_GROW(p->budget, p->scratch, p->scratch_capacity, (uint64_t) p->n_scratch + 3))
        return false;
    p->marks[e] = p->walk;
    p->scratch[p->n_scratch++] = e;
    p->scratch[p->n_scratch++] = from;
    p->scratch[p->n_scratch++] = byte;
    return true;
}

/* Breadth first: is there a way from e to an expression that matches the empty text? */
static bool search(slm_rx_pool *p, slm_rx e, const slm_partition *part)
{
    uint32_t base = p->n_scratch;
    bool found = false;
    if (!walk_begin(p) || !search_push(p, e, 0, 0))
        return false;
    for (uint32_t at = 0; base + 3 * at < p->n_scratch && !found && !p->budget->failed; at++) {
        slm_rx from = p->scratch[base + 3 * at];
        for (uint32_t c = 0; c < part->n && !found; c++) {
            slm_rx d = slm_rx_derive(p, from, part->example[c]);
            if (d == SLM_RX_EMPTY || p->nodes[d].live == 2 || !slm_budget_step(p->budget, 1) || !hints_grow(p))
                continue;
            if (known_live(p, d)) {
                mark_way(p, base, at, part->example[c]);
                found = true;
            } else if (d >= p->marks_capacity || p->marks[d] != p->walk) {
                search_push(p, d, at, part->example[c]);
            }
        }
    }
    for (uint32_t i = base; !found && !p->budget->failed && i < p->n_scratch; i += 3)
        p->nodes[p->scratch[i]].live = 2;
    p->n_scratch = base;
    return found;
}

/* Does one of the bytes that helped last lead from e to a live expression? */
static bool try_helpful(slm_rx_pool *p, slm_rx e)
{
    for (uint32_t i = 0; i < SLM_HELPFUL; i++) {
        unsigned byte = p->helpful[i];
        slm_rx d = slm_rx_derive(p, e, byte);
        if (!slm_budget_step(p->budget, 1) || !hints_grow(p))
            return false;
        if (!known_live(p, d))
            continue;
        mark_live(p, e, byte);
        note_helpful(p, byte);
        return true;
    }
    return false;
}

/* Does the way from `like` to its end, byte by byte, end what e begins too? */
static bool try_like(slm_rx_pool *p, slm_rx e, slm_rx like)
{
    uint32_t base = p->n_scratch;
    bool found = false;
    for (uint32_t n = 0; n < MAX_WAY && e != SLM_RX_EMPTY && p->nodes[e].live != 2; n++) {
        if (!p->nodes[like].logic || p->nodes[like].live != 1)
            break;
        unsigned byte = p->hints[like];
        if (!slm_budget_step(p->budget, 1) || !SLM_GROW(p->budget, p->scratch, p->scratch_capacity, (uint64_t) p->n_scratch + 2))
            break;
        p->scratch[p->n_scratch++] = e;
        p->scratch[p->n_scratch++] = byte;
        e = slm_rx_derive(p, e, byte);
        like = slm_rx_derive(p, like, byte);
        if (!p->budget->failed && hints_grow(p) && known_live(p, e)) {
            found = true;
            break;
        }
    }
    for (uint32_t i = base; found && i < p->n_scratch; i += 2)
        mark_live(p, p->scratch[i], p->scratch[i + 1]);
    p->n_scratch = base;
    return found;
}

/* like: an expression that is much like e, known to be live; EMPTY for none. */
static bool is_live(slm_rx_pool *p, slm_rx e, uint32_t partition, slm_rx like)
{
    if (known_live(p, e))
        return true;
    if (e == SLM_RX_EMPTY || p->nodes[e].live == 2)
        return false;
    return try_helpful(p, e) || try_like(p, e, like) || search(p, e, p->partitions[partition]);
}

bool slm_rx_is_live(slm_rx_pool *p, slm_rx e)
{
    if (known_live(p, e))
        return !p->budget->failed;
    if (e == SLM_RX_EMPTY || p->nodes[e].live == 2)
        return false;
    uint32_t partition = partition_of(p, e);
    return !p->budget->failed && is_live(p, e, partition, SLM_RX_EMPTY);
}

bool slm_rx_matches(slm_rx_pool *p, slm_rx e, const char *text, size_t n)
{
    for (size_t i = 0; i < n && e != SLM_RX_EMPTY; i++)
        e = slm_rx_derive(p, e, (unsigned char) text[i]);
    return p->nodes[e].nullable;
}

/* What an accepting expression has read: the label of the first alternative that is at its end. */
static uint32_t label_of(const slm_rx_pool *p, slm_rx e)
{
    const slm_rx_node *n = &p->nodes[e];
    while (n->kind == RX_CAT)
        n = &p->nodes[n->b];
    if (n->kind == RX_LABEL)
        return n->a;
    for (uint32_t i = 0; n->kind == RX_OR && i < n->b; i++)
        if (p->nodes[p->lists[n->a + i]].nullable)
            return label_of(p, p->lists[n->a + i]);
    return SLM_NO_LABEL;
}

/* Any JSON text but for finitely many: whatever has been read, there is a way on. */
static bool all_but_some(const slm_rx_pool *p, const slm_rx_node *n)
{
    if (n->kind != RX_AND)
        return false;
    for (uint32_t i = 0; i < n->b; i++) {
        const slm_rx_node *m = &p->nodes[p->lists[n->a + i]];
        if (!(m->kind == RX_NOT && p->nodes[m->a].finite) && !(m->kind == RX_REP && m->a == p->json_char && m->c == SLM_RX_MANY))
            return false;
    }
    return true;
}

slm_rx slm_rx_plain_char(slm_rx_pool *p)
{
    static const uint32_t ranges[][2] = {{32, 33}, {35, 91}, {93, 0x2027}, {0x202A, 0x10FFFF}};
    if (p->plain_char == 0)
        p->plain_char = slm_rx_chars(p, ranges, 4, false);
    return p->plain_char;
}

/* May e begin with a byte of a plain character, as far as is easily seen? */
static bool begins_plain(const slm_rx_pool *p, slm_rx e)
{
    const slm_rx_node *n = &p->nodes[e];
    bool any = false;
    switch (n->kind) {
    case RX_SET:
        for (unsigned byte = 32; byte < 256; byte++)
            any = any || (byte != '"' && byte != '\\' && slm_set_has(&p->sets[n->a], byte));
        return any;
    case RX_SWITCH:
        for (uint32_t i = 0; i < n->b; i++)
            any = any || (p->lists[n->a + 2 * i] >= 32 && p->lists[n->a + 2 * i] != '"' && p->lists[n->a + 2 * i] != '\\');
        return any;
    case RX_CAT:
        return begins_plain(p, n->a) || (p->nodes[n->a].nullable && begins_plain(p, n->b));
    default:
        return n->kind != RX_EMPTY && n->kind != RX_EPS && n->kind != RX_LABEL;
    }
}

/* Does e match whatever is left of a plain character, `within`, and nothing plain behind it?  The pairs are few: leading bytes, and what
 * may follow them. */
static bool covers(slm_rx_pool *p, slm_rx e, slm_rx within)
{
    if (p->nodes[within].nullable)
        return p->nodes[e].nullable && !begins_plain(p, e);
    for (unsigned byte = 32; byte < 256; byte++) {
        slm_rx left = slm_rx_derive(p, within, byte), then;
        if (left == SLM_RX_EMPTY)
            continue;
        then = slm_rx_derive(p, e, byte);
        if (then == SLM_RX_EMPTY || (left != then && !covers(p, then, left)))
            return false;
    }
    return !p->budget->failed;
}

static bool is_wide(slm_rx_pool *p, slm_rx e)
{
    if (p->nodes[e].wide == 0) {
        bool wide = e == p->json_char || covers(p, e, slm_rx_plain_char(p));
        p->nodes[e].wide = wide ? 1 : 2;
    }
    return p->nodes[e].wide == 1;
}

/* How many plain characters may follow, whatever they are, and no more than those?  0: it is not so simple. */
static uint32_t free_chars_of(slm_rx_pool *p, slm_rx e)
{
    slm_rx_node n = p->nodes[e];
    slm_rx rest = SLM_RX_EPS;
    uint32_t most = 0;
    bool others = false;
    if (n.kind == RX_OR) {
        for (uint32_t i = 0; i < n.b; i++) {
            slm_rx member = p->lists[n.a + i];
            uint32_t one = free_chars_of(p, member);
            if (one == SLM_RX_MANY)
                return one;
            others = others || (one == 0 && begins_plain(p, member));
            most = one > most ? one : most;
        }
        return others ? 0 : most;
    }
    if (n.kind == RX_CAT) {
        rest = n.b;
        n = p->nodes[n.a];
    }
    if (all_but_some(p, &n))
        return SLM_RX_MANY;
    if (n.kind != RX_REP || !is_wide(p, n.a))
        return 0;
    return n.c == SLM_RX_MANY || !begins_plain(p, rest) ? n.c : 0;
}

/* Of one that free_chars_of has counted: may it end behind plain characters, so that something else may follow them? */
bool slm_rx_ends_plain(const slm_rx_pool *p, slm_rx e)
{
    const slm_rx_node *n = &p->nodes[e];
    bool any = false;
    for (uint32_t i = 0; n->kind == RX_OR && i < n->b; i++)
        any = any || slm_rx_ends_plain(p, p->lists[n->a + i]);
    return n->kind == RX_OR ? any : n->kind != RX_CAT || p->nodes[n->b].nullable;
}

/* left: so many nodes may be looked at. */
static uint32_t ends_within(const slm_rx_pool *p, slm_rx e, uint32_t *left)
{
    const slm_rx_node *n = &p->nodes[e];
    uint32_t step = n->kind == RX_SWITCH ? 2 : 1;
    uint64_t most = 0;
    if (*left == 0 || n->logic)
        return SLM_RX_MANY;
    --*left;
    switch (n->kind) {
    case RX_EMPTY:
    case RX_EPS:
    case RX_LABEL:
        return 0;
    case RX_SET:
        return 1;
    case RX_CAT:
        most = (uint64_t) ends_within(p, n->a, left) + ends_within(p, n->b, left);
        break;
    case RX_REP: /* what is left of one, and those that must come */
        most = (uint64_t) ends_within(p, n->a, left) * (1 + (uint64_t) n->b);
        break;
    case RX_OR:
    case RX_SWITCH:
        for (uint32_t i = 0; i < n->b; i++) {
            uint32_t one = ends_within(p, p->lists[n->a + i * step + step - 1], left);
            most = one > most ? one : most;
        }
        most += n->kind == RX_SWITCH;
        break;
    default:
        return SLM_RX_MANY;
    }
    return most < SLM_RX_MANY ? (uint32_t) most : SLM_RX_MANY;
}

uint32_t slm_rx_ends_within(const slm_rx_pool *p, slm_rx e)
{
    uint32_t left = 1000; /* deep enough for any pattern, and no mask waits for it */
    return ends_within(p, e, &left);
}

static bool nothing_follows(const slm_rx_pool *p, slm_rx e)
{
    const slm_rx_node *n = &p->nodes[e];
    return e == SLM_RX_EPS || n->kind == RX_LABEL;
}

/* like: see is_live. */
static uint32_t state_make(slm_rx_pool *p, slm_rx e, uint32_t partition, slm_rx like)
{
    slm_state *s;
    uint32_t free_chars;
    if (p->budget->failed || e == SLM_RX_EMPTY || !is_live(p, e, partition, like) ||
        !SLM_GROW(p->budget, p->state_of, p->state_of_capacity, p->nodes_capacity) ||
        !SLM_GROW(p->budget, p->states, p->states_capacity, (uint64_t) p->n_states + 1))
        return SLM_STATE_DEAD;
    if (p->state_of[e] != 0)
        return p->state_of[e];
    free_chars = free_chars_of(p, e);
    if (p->budget->failed)
        return SLM_STATE_DEAD;
    s = &p->states[p->n_states];
    *s = (slm_state) {e, partition, 0, SLM_NO_LABEL, free_chars, p->nodes[e].nullable, false, false};
    if (s->accepting) {
        s->label = label_of(p, e);
        s->final = nothing_follows(p, e);
    }
    p->state_of[e] = p->n_states;
    return p->n_states++;
}

uint32_t slm_rx_state(slm_rx_pool *p, slm_rx e)
{
    if (e < p->state_of_capacity && p->state_of[e] != 0)
        return p->state_of[e];
    return e == SLM_RX_EMPTY ? SLM_STATE_DEAD : state_make(p, e, partition_of(p, e), SLM_RX_EMPTY);
}

uint32_t slm_state_row(slm_rx_pool *p, uint32_t state)
{
    uint32_t n = p->partitions[p->states[state].partition]->n;
    if (p->states[state].next != 0)
        return p->states[state].next;
    if (!SLM_GROW(p->budget, p->next, p->next_capacity, (uint64_t) p->n_next + 1 + 2 * n))
        return 0;
    p->next[p->n_next] = state;
    p->states[state].next = p->n_next + 1;
    p->n_next += 1 + 2 * n;
    return p->states[state].next;
}

uint32_t slm_state_step_new(slm_rx_pool *p, uint32_t state, unsigned byte)
{
    uint32_t partition = p->states[state].partition, to, row;
    if (state < SLM_STATE_FIRST || p->states[state].final || (row = slm_state_row(p, state)) == 0)
        return SLM_STATE_DEAD;
    to = state_make(p, slm_rx_derive(p, p->states[state].rx, byte), partition, p->states[state].rx);
    if (p->budget->failed)
        return SLM_STATE_DEAD;
    p->next[row + p->partitions[partition]->of[byte]] = to;
    return to;
}
