/*
 * States, bytes and masks; see machine.h.
 *
 * A mask is one walk over the trie of the vocabulary in depth-first order, with the set of configurations of every depth kept one behind
 * the other.  Where the state is inside a free string only the tokens that are not plain are walked over; the plain ones are a mask that
 * stands ready.
 */
#include "engine/grammar/machine.h"

#include <stdlib.h>

enum { MAX_SET = 4096, MASK_BYTES = 8 << 20 };

void slm_work_add(slm_machine *m, uint32_t base, uint32_t state, uint32_t stack)
{
    if (state == SLM_STATE_DEAD)
        return;
    for (uint32_t i = base; i < m->n_work; i++)
        if (m->work[i].state == state && m->work[i].stack == stack)
            return;
    if (m->n_work - base >= MAX_SET) {
        slm_budget_fail(&m->budget, SLM_LIMIT, "more than %d alternatives run side by side", MAX_SET);
        return;
    }
    if (!SLM_GROW(&m->budget, m->work, m->work_capacity, (uint64_t) m->n_work + 1) || !slm_budget_step(&m->budget, (m->n_work - base) / 16))
        return;
    m->work[m->n_work++] = (slm_config) {state, stack};
}

void slm_work_step(slm_machine *m, uint32_t from, uint32_t to, unsigned byte)
{
    uint32_t base = m->n_work;
    for (uint32_t i = from; i < to; i++) {
        slm_config c = m->work[i];
        uint32_t state = slm_state_step(&m->rx, c.state, byte);
        if (state == SLM_STATE_DEAD)
            continue;
        if (m->frames[c.stack].tracks && (m->exact || m->frames[c.stack].always))
            c.stack = slm_frame_read(m, c.stack, byte);
        if (!m->rx.states[state].final)
            slm_work_add(m, base, state, c.stack);
        if (m->rx.states[state].accepting)
            slm_frame_resume(m, slm_frame_after(m, c.stack, m->rx.states[state].label), base);
    }
}

static int by_config(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(slm_config));
}

bool slm_ids_table_widen(slm_machine *m, slm_ids_table *t)
{
    uint32_t capacity = t->capacity == 0 ? 64 : t->capacity * 2, room = 0, *slots = NULL;
    if (!slm_budget_grow(&m->budget, &slots, &room, sizeof *slots, capacity))
        return false;
    free(t->slots);
    m->budget.bytes -= t->capacity * sizeof *slots;
    t->slots = slots;
    t->capacity = capacity;
    return true;
}

static bool states_rehash(slm_machine *m)
{
    slm_ids_table *t = &m->states_by_hash;
    if (!slm_ids_table_widen(m, t))
        return false;
    for (uint32_t i = 1; i < m->n_states; i++) {
        uint32_t h = slm_hash_words((uint32_t *) (m->configs + m->states[i].configs), 2 * m->states[i].n_configs, 3) & (t->capacity - 1);
        while (t->slots[h] != 0)
            h = (h + 1) & (t->capacity - 1);
        t->slots[h] = i;
    }
    return true;
}

/* The number of the set work[from..); 0 for the empty set and after a failure. */
static uint32_t state_of_work(slm_machine *m, uint32_t from)
{
    uint32_t n = m->n_work - from, h;
    slm_config *set = m->work + from;
    slm_machine_state *s;
    if (n == 0 || m->budget.failed || (2 * m->n_states >= m->states_by_hash.capacity && !states_rehash(m)))
        return 0;
    if (n > 1)
        qsort(set, n, sizeof *set, by_config);
    for (h = slm_hash_words((uint32_t *) set, 2 * n, 3) & (m->states_by_hash.capacity - 1); m->states_by_hash.slots[h] != 0;
         h = (h + 1) & (m->states_by_hash.capacity - 1)) {
        s = &m->states[m->states_by_hash.slots[h]];
        if (s->n_configs == n && memcmp(m->configs + s->configs, set, n * sizeof *set) == 0)
            return m->states_by_hash.slots[h];
    }
    if (!SLM_GROW(&m->budget, m->configs, m->configs_capacity, (uint64_t) m->n_configs + n) ||
        !SLM_GROW(&m->budget, m->states, m->states_capacity, (uint64_t) m->n_states + 1))
        return 0;
    s = &m->states[m->n_states];
    *s = (slm_machine_state) {m->n_configs, n, 0, false};
    memcpy(m->configs + m->n_configs, set, n * sizeof *set);
    m->n_configs += n;
    for (uint32_t i = 0; i < n; i++)
        s->accepting = s->accepting || set[i].state == SLM_STATE_END;
    m->states_by_hash.slots[h] = m->n_states;
    return m->n_states++;
}

static bool work_load(slm_machine *m, uint32_t state)
{
    const slm_machine_state *s = &m->states[state];
    m->n_work = 0;
    if (!SLM_GROW(&m->budget, m->work, m->work_capacity, s->n_configs))
        return false;
    memcpy(m->work, m->configs + s->configs, s->n_configs * sizeof *m->work);
    m->n_work = s->n_configs;
    return true;
}

uint32_t slm_machine_start(slm_machine *m, uint32_t root)
{
    uint32_t end = slm_frame_make(m, (slm_frame) {.kind = FRAME_END});
    m->n_work = 0;
    m->exact = true;
    slm_frame_resume(m, slm_frame_make(m, (slm_frame) {.kind = FRAME_VALUE, .parent = end, .a = root}), 0);
    return state_of_work(m, 0);
}

uint32_t slm_machine_advance(slm_machine *m, uint32_t state, const char *bytes, size_t n)
{
    uint32_t from = 0;
    m->exact = true;
    if (m->budget.failed || state == 0 || state >= m->n_states || !work_load(m, state))
        return 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t to = m->n_work;
        slm_work_step(m, from, to, (unsigned char) bytes[i]);
        memmove(m->work, m->work + to, (m->n_work - to) * sizeof *m->work);
        m->n_work -= to;
        if (m->n_work == 0 || m->budget.failed)
            return 0;
    }
    return state_of_work(m, 0);
}

/* ---- masks */

static void set_tokens(const slm_token_vocab *v, uint64_t *bits, const slm_vocab_node *node)
{
    uint32_t token = (uint32_t) node->token;
    bits[token / 64] |= UINT64_C(1) << token % 64;
    for (int32_t other = node->shared ? v->same[token] : -1; other >= 0; other = v->same[other])
        bits[other / 64] |= UINT64_C(1) << other % 64;
}

/* Sets the bits of the tokens of a trie that fit the set work[0..n_work). */
static void walk(slm_machine *m, const slm_vocab_node *nodes, uint32_t n)
{
    uint32_t ends[SLM_VOCAB_MAX_DEPTH + 2]; /* of the set at a depth, in m->work */
    ends[0] = m->n_work;
    for (uint32_t i = 0; i < n && !m->budget.failed;) {
        const slm_vocab_node *node = &nodes[i];
        uint32_t depth = node->depth, from = depth == 0 ? 0 : ends[depth - 1], to = ends[depth];
        m->n_work = to;
        if (to - from == 1) { /* inside one lexeme, most of the time */
            slm_config c = m->work[from];
            uint32_t state = slm_state_step(&m->rx, c.state, node->byte);
            if (state == SLM_STATE_DEAD) {
                i = node->skip;
                continue;
            }
            if (!m->rx.states[state].accepting && !m->frames[c.stack].always) {
                if (to >= m->work_capacity && !SLM_GROW(&m->budget, m->work, m->work_capacity, (uint64_t) to + 1))
                    return;
                m->work[to] = (slm_config) {state, c.stack};
                m->n_work = to + 1;
            } else {
                slm_work_step(m, from, to, node->byte);
            }
        } else {
            slm_work_step(m, from, to, node->byte);
        }
        if (m->n_work == to) {
            i = node->skip;
            continue;
        }
        ends[depth + 1] = m->n_work;
        if (node->token >= 0)
            set_tokens(m->vocab, m->bits, node);
        i++;
    }
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

/* Plain tokens of so many characters fit the set, and no others; 0 where that is not so simple. */
static uint32_t free_chars_of_work(const slm_machine *m)
{
    uint32_t most = 0, least = SLM_RX_MANY;
    for (uint32_t i = 0; i < m->n_work; i++) {
        uint32_t one = m->rx.states[m->work[i].state].free_chars;
        most = one > most ? one : most;
        least = one < least ? one : least;
    }
    return most == SLM_RX_MANY || least > 0 ? most : 0;
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
    uint32_t chars;
    if (m->budget.failed || state == 0 || state >= m->n_states || m->vocab == NULL)
        return NULL;
    m->exact = false;
    m->clock++;
    if (m->states[state].mask != 0) {
        mask = &m->masks[m->states[state].mask];
        mask->used = m->clock;
        return mask;
    }
    if (!work_load(m, state))
        return NULL;
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

/* ---- what must follow */

/* The one byte that fits the set work[from..to); -1 when there are several. */
static int only_byte(slm_machine *m, uint32_t from, uint32_t to)
{
    int only = -1;
    for (uint32_t i = from; i < to; i++) {
        uint32_t state = m->work[i].state;
        if (state == SLM_STATE_END)
            return -1;
        for (unsigned byte = 0; byte < 256; byte++) {
            if ((int) byte == only || slm_state_step(&m->rx, state, byte) == SLM_STATE_DEAD)
                continue;
            if (only >= 0)
                return -1;
            only = (int) byte;
        }
    }
    return only;
}

uint32_t slm_machine_forced(slm_machine *m, uint32_t state, char *out, uint32_t max)
{
    uint32_t n = 0;
    m->exact = true;
    if (m->budget.failed || state == 0 || state >= m->n_states || !work_load(m, state))
        return 0;
    while (n < max) {
        uint32_t to = m->n_work;
        int byte = only_byte(m, 0, to);
        if (byte < 0 || m->budget.failed)
            break;
        slm_work_step(m, 0, to, (unsigned) byte);
        memmove(m->work, m->work + to, (m->n_work - to) * sizeof *m->work);
        m->n_work -= to;
        out[n++] = (char) byte;
    }
    return m->budget.failed ? 0 : n;
}

bool slm_machine_accepts(const slm_machine *m, uint32_t state)
{
    return state != 0 && state < m->n_states && m->states[state].accepting;
}

bool slm_machine_is_done(const slm_machine *m, uint32_t state)
{
    return slm_machine_accepts(m, state) && m->states[state].n_configs == 1;
}

bool slm_machine_init(slm_machine *m, const slm_token_vocab *vocab, size_t max_bytes, uint64_t max_steps)
{
    memset(m, 0, sizeof *m);
    m->budget.max_bytes = max_bytes;
    m->budget.max_steps = max_steps;
    m->vocab = vocab;
    if (!slm_rx_init(&m->rx, &m->budget))
        return false;
    m->n_frames = m->n_configs = m->n_states = m->n_memos = 1;
    if (vocab != NULL) {
        m->max_masks = 2 + (uint32_t) (MASK_BYTES / (vocab->n_words * sizeof(uint64_t) + 1));
        m->bits = slm_budget_alloc(&m->budget, (vocab->n_words + 1) * sizeof *m->bits);
    }
    return SLM_GROW(&m->budget, m->frames, m->frames_capacity, 64) && SLM_GROW(&m->budget, m->configs, m->configs_capacity, 64) &&
           SLM_GROW(&m->budget, m->states, m->states_capacity, 64) && SLM_GROW(&m->budget, m->memos, m->memos_capacity, 16) &&
           SLM_GROW(&m->budget, m->work, m->work_capacity, 64);
}

void slm_machine_destroy(slm_machine *m)
{
    slm_rx_destroy(&m->rx);
    for (uint32_t i = 1; i < m->n_masks; i++) {
        free(m->masks[i].ids);
        free(m->masks[i].bits);
    }
    free(m->masks);
    free(m->values);
    free(m->shapes);
    free(m->frames);
    free(m->frames_by_hash.slots);
    free(m->configs);
    free(m->states);
    free(m->states_by_hash.slots);
    free(m->memos);
    free(m->memos_by_hash.slots);
    free(m->work);
    slm_budget_release(&m->budget);
    memset(m, 0, sizeof *m);
}
