/*
 * States and bytes; see machine.h.
 */
#include "engine/grammar/machine.h"

#include <stdlib.h>

enum { MAX_SET = 4096, SLOTS = 4 * MAX_SET, FEW = 16, MASK_BYTES = 8 << 20 };

static bool is_among_few(const slm_machine *m, uint32_t base, uint32_t state, uint32_t stack)
{
    for (uint32_t i = base; i < m->n_work; i++)
        if (m->work[i].state == state && m->work[i].stack == stack)
            return true;
    return false;
}

/* Notes work[index] in the table of the set that is being made; true when its equal is there already. */
static bool note_member(slm_machine *m, uint32_t state, uint32_t stack, uint32_t index)
{
    uint32_t h = (state * 0x9E3779B1u ^ stack * 0x85EBCA77u) >> 7;
    for (h &= SLOTS - 1; m->members[h].round == m->round; h = (h + 1) & (SLOTS - 1)) {
        slm_config c = m->work[m->members[h].index];
        if (c.state == state && c.stack == stack)
            return true;
    }
    m->members[h] = (slm_member) {m->round, index};
    return false;
}

/* The set has grown: its members are found by a table, which is made anew when another set was made in between.  (That one began behind
 * this one, or it has grown through FEW members again: so base and number tell.) */
static bool is_among_many(slm_machine *m, uint32_t base, uint32_t state, uint32_t stack)
{
    if (m->members == NULL && (m->members = slm_budget_alloc(&m->budget, SLOTS * sizeof *m->members)) == NULL)
        return true;
    if (m->n_work - base == FEW || m->members_base != base || m->members_end != m->n_work) {
        m->round++;
        for (uint32_t i = base; i < m->n_work; i++)
            note_member(m, m->work[i].state, m->work[i].stack, i);
        m->members_base = base;
    }
    m->members_end = m->n_work + 1;
    if (!note_member(m, state, stack, m->n_work))
        return false;
    m->members_end = m->n_work;
    return true;
}

void slm_work_add(slm_machine *m, uint32_t base, uint32_t state, uint32_t stack)
{
    if (state == SLM_STATE_DEAD)
        return;
    if (m->n_work - base < FEW ? is_among_few(m, base, state, stack) : is_among_many(m, base, state, stack))
        return;
    if (m->n_work - base >= MAX_SET) {
        slm_budget_fail(&m->budget, SLM_LIMIT, "more than %d alternatives run side by side", MAX_SET);
        return;
    }
    if (!SLM_GROW(&m->budget, m->work, m->work_capacity, (uint64_t) m->n_work + 1) || !slm_budget_step(&m->budget, 1))
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

uint32_t slm_work_state(slm_machine *m, uint32_t from)
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

bool slm_work_load(slm_machine *m, uint32_t state)
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
    return slm_work_state(m, 0);
}

uint32_t slm_machine_advance(slm_machine *m, uint32_t state, const char *bytes, size_t n)
{
    uint32_t from = 0;
    m->exact = true;
    if (m->budget.failed || state == 0 || state >= m->n_states || !slm_work_load(m, state))
        return 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t to = m->n_work;
        slm_work_step(m, from, to, (unsigned char) bytes[i]);
        memmove(m->work, m->work + to, (m->n_work - to) * sizeof *m->work);
        m->n_work -= to;
        if (m->n_work == 0 || m->budget.failed)
            return 0;
    }
    return slm_work_state(m, 0);
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
    if (m->budget.failed || state == 0 || state >= m->n_states || !slm_work_load(m, state))
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
