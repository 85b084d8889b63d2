/*
 * Masks: which tokens of the vocabulary fit a state; see machine.h.
 *
 * A mask is one walk over the trie of the vocabulary in depth-first order.  Most of a walk is inside one lexeme, whatever stacks lie under
 * it: there a node is a step of an automaton and no more (walk_lexeme).  Where a lexeme may end, the set of configurations is made, and
 * the nodes below are walked with it (walk_set).
 *
 * Where the state is inside a string that stays free whatever is said, only the tokens that are not plain are walked over; the plain ones
 * are a mask that stands ready.  Whether that is so is seen from the expression, or by going through the automaton (is_free).
 */
#include "engine/grammar/machine.h"

#include <stdlib.h>

/* States that is_free goes through, and what it may cost: much less than the walk that it may spare. */
enum { MAX_PAIRS = 64, FREE_STEPS = 3000 };

static void set_tokens(const slm_token_vocab *v, uint64_t *bits, const slm_vocab_node *node)
{
    uint32_t token = (uint32_t) node->token;
    bits[token / 64] |= UINT64_C(1) << token % 64;
    for (int32_t other = node->shared ? v->same[token] : -1; other >= 0; other = v->same[other])
        bits[other / 64] |= UINT64_C(1) << other % 64;
}

/* Does reading a byte of these lexemes change their stacks? */
static bool stack_reads(const slm_machine *m, uint32_t stack)
{
    return m->frames[stack].tracks && (m->exact || m->frames[stack].always);
}

/* Are all of work[from..to) inside the same lexeme, with stacks that stay as they are? */
static bool one_lexeme(const slm_machine *m, uint32_t from, uint32_t to)
{
    uint32_t state = m->work[from].state;
    if (state < SLM_STATE_FIRST)
        return false;
    for (uint32_t i = from; i < to; i++)
        if (m->work[i].state != state || stack_reads(m, m->work[i].stack))
            return false;
    return true;
}

/* The sets of depths behind each other lie one behind the other in m->work. */
static void walk_set(slm_machine *m, const slm_vocab_node *nodes, uint32_t i, uint32_t end, uint32_t from, uint32_t to);

/* A byte that may end the lexeme of work[from..to), which is in `state` now: the set behind it, and what lies below. */
static void walk_over_end(slm_machine *m, const slm_vocab_node *nodes, uint32_t i, uint32_t state, uint32_t from, uint32_t to)
{
    uint32_t n = to - from;
    if (!SLM_GROW(&m->budget, m->work, m->work_capacity, (uint64_t) to + n))
        return;
    for (uint32_t k = 0; k < n; k++)
        m->work[to + k] = (slm_config) {state, m->work[from + k].stack};
    m->n_work = to + n;
    slm_work_step(m, to, to + n, nodes[i].byte);
    if (m->n_work > to + n) {
        if (nodes[i].token >= 0)
            set_tokens(m->vocab, m->bits, &nodes[i]);
        if (i + 1 < nodes[i].skip)
            walk_set(m, nodes, i + 1, nodes[i].skip, to + n, m->n_work);
    }
    m->n_work = to;
}

/* Tokens that fit, by the list: bits are set in one go, so that a walk does not wait for them. */
static uint32_t set_found(slm_machine *m, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        m->bits[m->found[i] / 64] |= UINT64_C(1) << m->found[i] % 64;
    return 0;
}

/* Does nothing come behind the lexeme of work[from..to)? */
static bool is_last(const slm_machine *m, uint32_t from, uint32_t to)
{
    while (from < to && m->frames[m->work[from].stack].kind == FRAME_END)
        from++;
    return from == to;
}

/* The row behind nodes[i] for a walk that is at `row`; SLM_ROW_DEAD: none.  0: the lexeme may end here and something may follow (last:
 * never), what lies below has been walked. */
static uint32_t row_behind(slm_machine *m, const slm_vocab_node *nodes, uint32_t i, uint32_t row, uint32_t from, uint32_t to, bool last)
{
    slm_rx_pool *p = &m->rx;
    uint32_t state = p->next[row - 1], partition = p->states[state].partition, next = slm_state_step(p, state, nodes[i].byte), then;
    if (m->budget.failed)
        return 0;
    if (next == SLM_STATE_DEAD) {
        then = SLM_ROW_DEAD;
    } else if ((p->states[next].accepting && !last) || p->states[next].partition != partition || nodes[i].shared) {
        walk_over_end(m, nodes, i, state, from, to);
        return 0;
    } else if ((then = slm_state_row(p, next)) == 0) {
        return 0;
    } else if (p->states[next].accepting) {
        then |= SLM_ROW_ENDS;
    }
    p->next[row + p->partitions[partition]->n + p->partitions[partition]->of[nodes[i].byte]] = then;
    return then;
}

/* Nodes [i, end) of the trie below work[from..to), all of them inside one lexeme.  path[depth] is the row of the state before the depth;
 * what lies above nodes[i] belongs to others.  Half of the nodes end a token, at random: no branch depends on that. */
static void walk_lexeme(slm_machine *m, const slm_vocab_node *nodes, uint32_t i, uint32_t end, uint32_t from, uint32_t to)
{
    slm_rx_pool *p = &m->rx;
    const slm_partition *part = p->partitions[p->states[m->work[from].state].partition];
    bool last = is_last(m, from, to);
    uint32_t n_found = 0, *path = m->path, most = last ? UINT32_MAX : SLM_ROW_ENDS - 1;
    if ((path[nodes[i].depth] = slm_state_row(p, m->work[from].state)) == 0)
        return;
    while (i < end) {
        const slm_vocab_node *node = &nodes[i];
        uint32_t row = path[node->depth], then = p->next[row + part->n + part->of[node->byte]];
        if (then == 0 || then > most || (node->shared && then != SLM_ROW_DEAD)) {
            n_found = set_found(m, n_found);
            then = row_behind(m, nodes, i, row, from, to, last);
            if (m->budget.failed)
                return;
        }
        then &= SLM_ROW_ENDS - 1;
        if (then <= SLM_ROW_DEAD) {
            i = node->skip;
            continue;
        }
        path[node->depth + 1] = then;
        m->found[n_found] = (uint32_t) node->token;
        n_found += node->token >= 0;
        if (n_found == SLM_FOUND)
            n_found = set_found(m, n_found);
        i++;
    }
    set_found(m, n_found);
}

static void walk_set(slm_machine *m, const slm_vocab_node *nodes, uint32_t i, uint32_t end, uint32_t from, uint32_t to)
{
    if (one_lexeme(m, from, to)) {
        walk_lexeme(m, nodes, i, end, from, to);
        return;
    }
    while (i < end && !m->budget.failed) {
        m->n_work = to;
        slm_work_step(m, from, to, nodes[i].byte);
        if (m->n_work > to) {
            if (nodes[i].token >= 0)
                set_tokens(m->vocab, m->bits, &nodes[i]);
            if (i + 1 < nodes[i].skip)
                walk_set(m, nodes, i + 1, nodes[i].skip, to, m->n_work);
        }
        i = nodes[i].skip;
    }
}

/* Takes out of work[0..n_work) the text's own end, behind which nothing comes. */
static void drop_ends(slm_machine *m)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < m->n_work; i++)
        if (m->work[i].state != SLM_STATE_END)
            m->work[kept++] = m->work[i];
    m->n_work = kept;
}

/* Sets the bits of the tokens of a trie that fit the set work[0..n_work). */
static void walk(slm_machine *m, const slm_vocab_node *nodes, uint32_t n)
{
    if (n > 0 && m->n_work > 0)
        walk_set(m, nodes, 0, n, 0, m->n_work);
}

static void add_plain(slm_machine *m, uint32_t chars)
{
    const slm_token_vocab *v = m->vocab;
    const uint64_t *plain = slm_vocab_plain(v, chars);
    for (uint32_t i = 0; i < v->n_words; i++)
        m->bits[i] |= plain[i];
    for (uint32_t i = 0; chars > SLM_PLAIN_LENGTHS && chars != SLM_RX_MANY && i < v->n_longer; i++)
        if (v->longer[i][1] <= chars)
            m->bits[v->longer[i][0] / 64] |= UINT64_C(1) << v->longer[i][0] % 64;
}

typedef struct pair {
    uint32_t state, within; /* of the lexeme; of one plain character */
} pair;

static bool is_plain_byte(unsigned byte)
{
    return byte >= 32 && byte != '"' && byte != '\\';
}

/* Adds where the plain bytes lead from pairs[at]; false when one leads nowhere, or there are too many pairs. */
static bool add_pairs(slm_rx_pool *p, pair *pairs, uint32_t *n, uint32_t at, uint32_t begin)
{
    uint32_t last[2] = {UINT32_MAX, UINT32_MAX};
    for (unsigned byte = 32; byte < 256; byte++) {
        pair from = pairs[at], to;
        uint32_t classes[] = {p->partitions[p->states[from.state].partition]->of[byte],
                              p->partitions[p->states[from.within].partition]->of[byte]}, k = 0;
        if (!is_plain_byte(byte) || (classes[0] == last[0] && classes[1] == last[1]))
            continue;
        memcpy(last, classes, sizeof last);
        to.within = slm_state_step(p, from.within, byte);
        if (to.within == SLM_STATE_DEAD)
            continue; /* no character begins or goes on so */
        if (p->states[to.within].final)
            to.within = begin;
        to.state = slm_state_step(p, from.state, byte);
        if (to.state == SLM_STATE_DEAD || p->budget->failed)
            return false;
        while (k < *n && (pairs[k].state != to.state || pairs[k].within != to.within))
            k++;
        if (k == MAX_PAIRS)
            return false;
        pairs[k] = to;
        *n += k == *n;
    }
    return true;
}

/* May any plain characters follow, any number of them?  Goes through all that they lead to, where that is little. */
static bool is_free(slm_rx_pool *p, uint32_t state)
{
    uint32_t begin, n = 1;
    uint64_t steps = p->budget->steps;
    slm_partition *part;
    pair pairs[MAX_PAIRS];
    if (state < SLM_STATE_FIRST || p->states[state].tried || p->states[state].free_chars > 0)
        return state >= SLM_STATE_FIRST && p->states[state].free_chars == SLM_RX_MANY;
    part = p->partitions[p->states[state].partition];
    if (part->n_tried > 32 && part->n_free == 0)
        return false; /* not worth the search */
    part->n_tried++;
    begin = slm_rx_state(p, slm_rx_plain_char(p));
    p->states[state].tried = true;
    pairs[0] = (pair) {state, begin};
    for (uint32_t at = 0; at < n; at++)
        if (!add_pairs(p, pairs, &n, at, begin) || p->budget->steps > steps + FREE_STEPS)
            return false;
    for (uint32_t i = 0; i < n; i++)
        if (pairs[i].within == begin)
            p->states[pairs[i].state].free_chars = SLM_RX_MANY;
    part->n_free++;
    return true;
}

/* Plain tokens of so many characters fit the set, and no others; 0 where that is not so simple. */
static uint32_t free_chars_of_work(slm_machine *m)
{
    uint32_t most = 0, least = SLM_RX_MANY;
    for (uint32_t i = 0; i < m->n_work; i++) {
        uint32_t state = m->work[i].state, one = is_free(&m->rx, state) ? SLM_RX_MANY : m->rx.states[state].free_chars;
        if (one == SLM_RX_MANY)
            return one;
        if (one > 0 && m->frames[m->work[i].stack].kind != FRAME_END && slm_rx_ends_plain(&m->rx, m->rx.states[state].rx))
            one = 0; /* another lexeme may follow */
        most = one > most ? one : most;
        least = one < least ? one : least;
    }
    return least > 0 ? most : 0;
}

/* The expression of a string that need not count its characters while a mask is made: so many may follow that no token reaches the bound,
 * and what else is asked of the string can be brought to its end before it.  The same tokens fit both.  EMPTY: it has to count. */
static slm_rx without_bound(slm_machine *m, slm_rx e)
{
    slm_rx_pool *p = &m->rx;
    slm_rx_node cat = p->nodes[e], and;
    if (cat.kind != RX_CAT)
        return SLM_RX_EMPTY;
    and = p->nodes[cat.a];
    if (and.kind != RX_AND || and.b != 2)
        return SLM_RX_EMPTY;
    for (uint32_t i = 0; i < 2; i++) {
        slm_rx other = p->lists[and.a + 1 - i];
        slm_rx_node rep = p->nodes[p->lists[and.a + i]];
        uint32_t ends = slm_rx_ends_within(p, other);
        if (rep.kind == RX_REP && rep.a == p->json_char && rep.b == 0 && p->nodes[other].json && ends < SLM_RX_MANY &&
            rep.c >= (uint64_t) ends + m->vocab->longest)
            return slm_rx_cat(p, other, cat.b);
    }
    return SLM_RX_EMPTY;
}

/* The state of work[0..n_work) where strings do not count; 0: it is what it was, or a failure. */
static uint32_t state_without_bounds(slm_machine *m)
{
    bool any = false;
    for (uint32_t i = 0; i < m->n_work; i++) {
        uint32_t state = m->work[i].state;
        slm_rx e = state < SLM_STATE_FIRST ? SLM_RX_EMPTY : without_bound(m, m->rx.states[state].rx);
        if (e == SLM_RX_EMPTY)
            continue;
        m->work[i].state = slm_rx_state(&m->rx, e);
        any = true;
    }
    return any ? slm_work_state(m, 0) : 0;
}

/* The slot of a new mask: the least recently used one where there are enough. */
static slm_mask *mask_slot(slm_machine *m)
{
    uint32_t oldest = 1;
    if (m->n_masks < m->max_masks) {
        if (m->n_masks == 0)
            m->n_masks = 1;
        return SLM_GROW(&m->budget, m->masks, m->masks_capacity, (uint64_t) m->n_masks + 1) ? &m->masks[m->n_masks++] : NULL;
    }
    for (uint32_t i = 2; i < m->n_masks; i++)
        if (m->masks[i].used < m->masks[oldest].used)
            oldest = i;
    m->states[m->masks[oldest].state].mask = 0;
    free(m->masks[oldest].ids);
    free(m->masks[oldest].bits);
    m->masks[oldest].ids = NULL;
    m->masks[oldest].bits = NULL;
    return &m->masks[oldest];
}

static bool mask_fill(slm_machine *m, slm_mask *mask)
{
    const slm_token_vocab *v = m->vocab;
    uint32_t n = 0;
    for (uint32_t i = 0; i < v->n_words; i++)
        n += (uint32_t) __builtin_popcountll(m->bits[i]);
    mask->n_ids = n;
    if (n > SLM_MAX_IDS) {
        mask->bits = malloc(v->n_words * sizeof *mask->bits);
        if (mask->bits == NULL)
            return slm_budget_fail(&m->budget, SLM_NOMEM, "out of memory for a mask");
        memcpy(mask->bits, m->bits, v->n_words * sizeof *mask->bits);
        return true;
    }
    mask->ids = malloc((n + 1) * sizeof *mask->ids);
    if (mask->ids == NULL)
        return slm_budget_fail(&m->budget, SLM_NOMEM, "out of memory for a mask");
    n = 0;
    for (uint32_t i = 0; i < v->n_words; i++)
        for (uint64_t bits = m->bits[i]; bits != 0; bits &= bits - 1)
            mask->ids[n++] = (int32_t) (i * 64 + (uint32_t) __builtin_ctzll(bits));
    return true;
}

const slm_mask *slm_machine_mask(slm_machine *m, uint32_t state)
{
    slm_mask *mask;
    uint32_t chars, same;
    if (m->budget.failed || state == 0 || state >= m->n_states || m->vocab == NULL)
        return NULL;
    m->exact = false;
    m->clock++;
    if (m->states[state].mask != 0) {
        mask = &m->masks[m->states[state].mask];
        mask->used = m->clock;
        return mask;
    }
    if (!slm_work_load(m, state))
        return NULL;
    same = state_without_bounds(m);
    if (same != 0)
        return slm_machine_mask(m, same);
    drop_ends(m);
    memset(m->bits, 0, m->vocab->n_words * sizeof *m->bits);
    chars = free_chars_of_work(m);
    if (chars > 0) {
        add_plain(m, chars);
        walk(m, m->vocab->other, m->vocab->n_other);
    } else {
        walk(m, m->vocab->all, m->vocab->n_all);
    }
    mask = m->budget.failed ? NULL : mask_slot(m);
    if (mask == NULL || !mask_fill(m, mask))
        return NULL;
    mask->state = state;
    mask->used = m->clock;
    m->states[state].mask = (uint32_t) (mask - m->masks);
    return mask;
}
