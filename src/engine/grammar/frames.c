/*
 * Objects, arrays and sequences as frames of the stack: what may follow, and where it leads; see machine.h.
 *
 * Between two values of an object stands one lexeme, from the comma (or the opening brace) to the colon: a trie of the keys that may come
 * here and the classes of additional ones, each with a label, beside the closing brace.  A key may come when no required one is left out
 * by it and the counts can still be met.
 */
#include <stdlib.h>

#include "engine/grammar/machine.h"

enum { LABEL_CLOSE = 0, LABEL_COMMA = 1, LABEL_OPEN = 2, FRAME_WORDS = 7 /* that make a frame what it is */, FEW = 2000 };

static bool table_grow(slm_machine *m, slm_ids_table *t, uint32_t n_words, const void *records, size_t stride, uint32_t n)
{
    if (!slm_ids_table_widen(m, t))
        return false;
    for (uint32_t i = 1; i < n; i++) {
        uint32_t h = slm_hash_words((const uint32_t *) ((const char *) records + i * stride), n_words, 7) & (t->capacity - 1);
        while (t->slots[h] != 0)
            h = (h + 1) & (t->capacity - 1);
        t->slots[h] = i;
    }
    return true;
}

uint32_t slm_frame_make(slm_machine *m, slm_frame f)
{
    uint32_t h;
    slm_ids_table *t = &m->frames_by_hash;
    if (2 * m->n_frames >= t->capacity && !table_grow(m, t, FRAME_WORDS, m->frames, sizeof *m->frames, m->n_frames))
        return 0;
    for (h = slm_hash_words(&f.kind, FRAME_WORDS, 7) & (t->capacity - 1); t->slots[h] != 0; h = (h + 1) & (t->capacity - 1))
        if (memcmp(&m->frames[t->slots[h]], &f, FRAME_WORDS * sizeof f.kind) == 0)
            return t->slots[h];
    if (!SLM_GROW(&m->budget, m->frames, m->frames_capacity, (uint64_t) m->n_frames + 1))
        return 0;
    f.tracks = f.kind == FRAME_KEY || f.kind == FRAME_ITEM;
    f.always = (f.kind == FRAME_KEY && m->shapes[f.a].object.few) || (f.kind == FRAME_ITEM && m->shapes[f.a].array.few);
    m->frames[m->n_frames] = f;
    t->slots[h] = m->n_frames;
    return m->n_frames++;
}

uint32_t slm_frame_read(slm_machine *m, uint32_t stack, unsigned byte)
{
    slm_frame f = m->frames[stack];
    f.closure = f.n_closure = 0;
    f.e = slm_track_next(&m->rx, f.e, byte);
    return slm_frame_make(m, f);
}

static uint32_t value_on(slm_machine *m, uint32_t value, slm_frame rest)
{
    uint32_t parent = slm_frame_make(m, rest);
    return slm_frame_make(m, (slm_frame) {.kind = FRAME_VALUE, .parent = parent, .a = value});
}

/* A lexeme by what it depends on: computed once. */
static slm_memo *memo_find(slm_machine *m, const uint32_t key[4])
{
    slm_ids_table *t = &m->memos_by_hash;
    uint32_t h;
    if (2 * m->n_memos >= t->capacity && !table_grow(m, t, 4, m->memos, sizeof *m->memos, m->n_memos))
        return NULL;
    for (h = slm_hash_words(key, 4, 7) & (t->capacity - 1); t->slots[h] != 0; h = (h + 1) & (t->capacity - 1))
        if (memcmp(m->memos[t->slots[h]].key, key, 4 * sizeof *key) == 0)
            return &m->memos[t->slots[h]];
    if (!SLM_GROW(&m->budget, m->memos, m->memos_capacity, (uint64_t) m->n_memos + 1))
        return NULL;
    memcpy(m->memos[m->n_memos].key, key, 4 * sizeof *key);
    m->memos[m->n_memos].value = SLM_RX_EMPTY;
    t->slots[h] = m->n_memos;
    return &m->memos[m->n_memos++];
}

/* The texts that a chain of FRAME_USED holds, as an expression; of a key's lexeme ({"key": or ,"key":) the key. */
slm_rx slm_used_texts(slm_machine *m, uint32_t used)
{
    slm_rx all = SLM_RX_EMPTY;
    for (; used != 0 && !m->budget.failed; used = m->frames[used].parent) {
        uint32_t n = slm_track_text(&m->rx, m->frames[used].a, NULL, 0), around = m->frames[used].b;
        char *text = slm_budget_alloc(&m->budget, n + 1);
        if (text == NULL || n < 2 * around)
            break;
        slm_track_text(&m->rx, m->frames[used].a, text, n);
        all = slm_rx_or(&m->rx, all, slm_rx_literal(&m->rx, text + around, n - 2 * around, SLM_RX_EPS));
    }
    return all;
}

/* No fewer than the texts that e matches, `limit` + 1 where they may be more than limit. */
static uint32_t texts_at_most(slm_machine *m, slm_rx e, uint32_t limit)
{
    const slm_rx_pool *p = &m->rx;
    slm_rx_node n = p->nodes[e];
    uint64_t all = 1;
    if (!n.finite || !slm_budget_step(&m->budget, 1))
        return limit + 1;
    switch (n.kind) {
    case RX_SET:
        return 256 > limit ? limit + 1 : 256;
    case RX_CAT:
        all = (uint64_t) texts_at_most(m, n.a, limit) * texts_at_most(m, n.b, limit);
        break;
    case RX_REP:
        for (uint32_t i = 0; i < n.c && all <= limit; i++)
            all = all * texts_at_most(m, n.a, limit) + 1;
        break;
    case RX_OR:
    case RX_SWITCH:
        all = 0;
        for (uint32_t i = 0; i < n.b && all <= limit; i++)
            all += texts_at_most(m, p->lists[n.kind == RX_SWITCH ? n.a + 2 * i + 1 : n.a + i], limit);
        break;
    case RX_AND:
        all = limit + 1;
        for (uint32_t i = 0; i < n.b; i++) {
            uint32_t one = texts_at_most(m, p->lists[n.a + i], limit);
            all = one < all ? one : all;
        }
        break;
    default:
        break;
    }
    return all > limit ? limit + 1 : (uint32_t) all;
}

bool slm_few_texts(slm_machine *m, slm_rx e)
{
    return texts_at_most(m, e, FEW) <= FEW;
}

/* Endless, also when finitely many texts are taken away?  False where that is not easily seen. */
static bool is_endless(const slm_rx_pool *p, slm_rx e)
{
    slm_rx_node n = p->nodes[e];
    uint32_t n_positive = 0, n_endless = 0;
    if (!n.finite && !n.logic)
        return true; /* nothing in it can be empty */
    if (n.kind != RX_AND && n.kind != RX_OR)
        return n.kind == RX_NOT && p->nodes[n.a].finite;
    for (uint32_t i = 0; i < n.b; i++) {
        slm_rx one = p->lists[n.a + i];
        bool taken_away = p->nodes[one].kind == RX_NOT && p->nodes[p->nodes[one].a].finite;
        n_positive += !taken_away;
        n_endless += taken_away ? 0 : is_endless(p, one);
    }
    return n.kind == RX_OR ? n_endless > 0 : n_positive <= 1 && n_positive == n_endless;
}

/* One text of e, which is live, by the way that was found to its end; SLM_RX_MANY: there are endlessly many. */
static uint32_t one_text(slm_rx_pool *p, slm_rx e, char *text, uint32_t max)
{
    uint32_t length = 0;
    while (!p->nodes[e].nullable && length < max && !p->budget->failed) {
        slm_rx next = SLM_RX_EMPTY;
        if (is_endless(p, e))
            return SLM_RX_MANY;
        for (unsigned byte = slm_rx_hint(p, e); byte < 256 && next == SLM_RX_EMPTY; byte++) {
            next = slm_rx_derive(p, e, byte);
            if (next != SLM_RX_EMPTY && !slm_rx_is_live(p, next))
                next = SLM_RX_EMPTY;
            text[length] = (char) byte;
        }
        length++;
        e = next;
    }
    return length;
}

uint32_t slm_count_texts(slm_machine *m, slm_rx e, uint32_t min)
{
    slm_rx_pool *p = &m->rx;
    uint32_t n = 0;
    if (is_endless(p, e))
        return min;
    if (min == 1)
        return slm_rx_is_live(p, e);
    while (n < min && slm_rx_is_live(p, e) && !p->budget->failed) {
        char text[512];
        uint32_t length = one_text(p, e, text, sizeof text);
        if (length == SLM_RX_MANY)
            return min;
        n++;
        e = slm_rx_and(p, e, slm_rx_not(p, slm_rx_literal(p, text, length, SLM_RX_EPS)));
    }
    return n;
}

/* ---- objects */

static bool key_may_come(const slm_object *o, uint32_t key, uint32_t place, uint32_t count)
{
    uint32_t behind = o->required_from[key + 1];
    if (key < place || !o->keys[key].allowed || o->required_from[place] - o->required_from[key] > 0)
        return false;
    if (o->max != SLM_RX_MANY && count + 1 + behind > o->max)
        return false;
    return o->n_classes > 0 || count + 1 + o->allowed_from[key + 1] >= o->min;
}

static slm_rx key_end(slm_machine *m, uint32_t label)
{
    return slm_rx_literal(&m->rx, "\":", 2, slm_rx_label(&m->rx, label));
}

static slm_rx keys_lexeme(slm_machine *m, const slm_object *o, uint32_t place, uint32_t count, uint32_t used)
{
    slm_budget *b = &m->budget;
    slm_text *texts = slm_budget_alloc(b, (o->n_keys + 1) * sizeof *texts);
    slm_rx *then = slm_budget_alloc(b, (o->n_keys + 1) * sizeof *then), made, old;
    uint32_t n = 0;
    if (texts == NULL || then == NULL || !slm_budget_step(b, o->n_keys / 4))
        return SLM_RX_EMPTY;
    for (uint32_t i = 0; i < o->n_keys; i++)
        if (key_may_come(o, o->sorted[i], place, count)) {
            texts[n] = o->keys[o->sorted[i]].text;
            then[n++] = key_end(m, 1 + o->sorted[i]);
        }
    made = slm_rx_trie(&m->rx, texts, then, n);
    if (o->required_from[place] > 0 || (o->max != SLM_RX_MANY && count >= o->max))
        return made;
    old = o->distinct ? slm_rx_not(&m->rx, slm_used_texts(m, used)) : SLM_RX_ANY;
    for (uint32_t i = 0; i < o->n_classes; i++) {
        slm_rx text = slm_rx_and(&m->rx, o->classes[i].text, old);
        made = slm_rx_or(&m->rx, made, slm_rx_cat(&m->rx, text, key_end(m, 1 + o->n_keys + i)));
    }
    return made;
}

slm_rx slm_object_lexeme(slm_machine *m, uint32_t shape, uint32_t place, uint32_t count, uint32_t used, bool first)
{
    const slm_object *o = &m->shapes[shape].object;
    uint32_t key[] = {shape, 2 * place + first, count, used}, n = 0;
    slm_memo *memo = memo_find(m, key);
    slm_text texts[2] = {{",", 1}, {"}", 1}};
    slm_rx then[2], keys, end, made;
    if (memo == NULL || memo->value != SLM_RX_EMPTY)
        return memo == NULL ? SLM_RX_EMPTY : memo->value;
    keys = keys_lexeme(m, o, place, count, used);
    if (keys != SLM_RX_EMPTY)
        keys = slm_rx_literal(&m->rx, "\"", 1, keys);
    end = o->required_from[place] == 0 && count >= o->min ? slm_rx_label(&m->rx, LABEL_CLOSE) : SLM_RX_EMPTY;
    if (first) {
        made = slm_rx_literal(&m->rx, "{", 1, slm_rx_or(&m->rx, keys, slm_rx_literal(&m->rx, "}", 1, end)));
    } else {
        if (keys != SLM_RX_EMPTY)
            then[n++] = keys;
        else
            texts[0] = texts[1];
        if (end != SLM_RX_EMPTY)
            then[n++] = end;
        made = slm_rx_trie(&m->rx, texts, then, n);
    }
    memo = memo_find(m, key);
    if (memo != NULL)
        memo->value = made;
    return made;
}

/* A key has been read, or the end. */
static uint32_t after_object(slm_machine *m, slm_frame f, uint32_t label)
{
    const slm_object *o = &m->shapes[f.a].object;
    slm_frame rest = {.kind = FRAME_OBJECT, .parent = f.parent, .a = f.a, .c = f.c, .d = f.d, .e = f.e == SLM_CROSSED ? SLM_CROSSED : 0};
    uint32_t most = o->max != SLM_RX_MANY ? o->max : o->min;
    if (label == LABEL_CLOSE)
        return f.parent;
    if (f.c < most)
        rest.c++;
    if (label <= o->n_keys) {
        rest.b = label;
        return value_on(m, o->keys[label - 1].value, rest);
    }
    if (o->distinct && f.e == SLM_CROSSED)
        return 0;
    if (o->distinct && (m->exact || o->few))
        rest.d = slm_frame_make(m, (slm_frame) {.kind = FRAME_USED, .parent = f.d, .a = f.e, .b = 2});
    else if (o->distinct)
        rest.e = SLM_CROSSED;
    rest.b = o->n_keys;
    return value_on(m, o->classes[label - 1 - o->n_keys].value, rest);
}

/* Behind the opening brace (place 0, first) or behind a value. */
static void resume_object(slm_machine *m, slm_frame f, uint32_t stack, bool first, uint32_t base)
{
    uint32_t state = slm_rx_state(&m->rx, slm_object_lexeme(m, f.a, f.b, f.c, f.d, first));
    if (m->shapes[f.a].object.distinct) {
        f.kind = FRAME_KEY;
        f.closure = f.n_closure = 0;
        f.busy = false;
        stack = slm_frame_make(m, f);
    }
    slm_work_add(m, base, state, stack);
}

/* ---- arrays: b is how many items have been read, c how many of them were counted by contains */

static uint32_t item_value(const slm_array *a, const uint32_t *values, uint32_t index)
{
    return values[index < a->n_items ? index : a->n_items];
}

/* The number of items read, no longer told apart where nothing depends on it. */
static uint32_t clamp_index(const slm_array *a, uint32_t index)
{
    uint32_t most = a->min > a->n_items ? a->min : a->n_items;
    return a->max == SLM_RX_MANY && index > most ? most : index;
}

/* The lexeme of an item where texts may not repeat. */
static slm_rx unique_lexeme(slm_machine *m, const slm_array *a, uint32_t used)
{
    return slm_rx_and(&m->rx, a->distinct, slm_rx_not(&m->rx, slm_used_texts(m, used)));
}

/* May an item come that contains does not count, with room behind it for those that it still must? */
static bool uncounted_may_come(const slm_machine *m, const slm_array *a, slm_frame f)
{
    uint32_t missing = f.c < a->min_counted ? a->min_counted - f.c : 0;
    return m->values[item_value(a, a->items, f.b)].live && (a->max == SLM_RX_MANY || a->max - f.b > missing);
}

static bool item_may_come(slm_machine *m, const slm_array *a, slm_frame f)
{
    if (f.b >= a->max)
        return false;
    if (a->unique) /* a text that is not known yet leaves one fewer */
        return slm_count_texts(m, unique_lexeme(m, a, f.d), f.e == SLM_CROSSED ? 2 : 1) >= (f.e == SLM_CROSSED ? 2 : 1);
    if (a->counted != NULL && m->values[item_value(a, a->counted, f.b)].live && f.c < a->max_counted)
        return true;
    return uncounted_may_come(m, a, f);
}

static bool array_may_end(const slm_array *a, slm_frame f)
{
    return f.b >= a->min && f.c >= a->min_counted;
}

/* An item is due: what it may be. */
static void add_item(slm_machine *m, slm_frame f, uint32_t base)
{
    const slm_array *a = &m->shapes[f.a].array;
    uint32_t most = a->max_counted != SLM_RX_MANY ? a->max_counted : a->min_counted;
    slm_frame rest = {.kind = FRAME_ARRAY, .parent = f.parent, .a = f.a, .b = clamp_index(a, f.b + 1), .c = f.c};
    if (a->unique) {
        slm_frame item = {.kind = FRAME_ITEM, .parent = f.parent, .a = f.a, .b = f.b, .d = f.d, .e = f.e};
        uint32_t state = slm_rx_state(&m->rx, unique_lexeme(m, a, f.d));
        slm_work_add(m, base, state, slm_frame_make(m, item));
        return;
    }
    if (uncounted_may_come(m, a, f))
        slm_frame_resume(m, value_on(m, item_value(a, a->items, f.b), rest), base);
    if (a->counted == NULL || f.c >= a->max_counted || !m->values[item_value(a, a->counted, f.b)].live)
        return;
    rest.c = f.c < most ? f.c + 1 : f.c;
    slm_frame_resume(m, value_on(m, item_value(a, a->counted, f.b), rest), base);
}

static void resume_array(slm_machine *m, slm_frame f, uint32_t stack, uint32_t base)
{
    slm_text texts[2] = {{",", 1}, {"]", 1}};
    slm_rx then[2];
    uint32_t n = 0;
    const slm_array *a = &m->shapes[f.a].array;
    if (item_may_come(m, a, f))
        then[n++] = slm_rx_label(&m->rx, LABEL_COMMA);
    else
        texts[0] = texts[1];
    if (array_may_end(&m->shapes[f.a].array, f))
        then[n++] = slm_rx_label(&m->rx, LABEL_CLOSE);
    slm_work_add(m, base, slm_rx_state(&m->rx, slm_rx_trie(&m->rx, texts, then, n)), stack);
}

static uint32_t after_array(slm_machine *m, uint32_t stack, slm_frame f, uint32_t label)
{
    return label == LABEL_CLOSE ? f.parent : slm_frame_make(m, (slm_frame) {.kind = FRAME_OPEN, .parent = stack, .a = label});
}

/* An item has been read that must not come again. */
static uint32_t after_item(slm_machine *m, slm_frame f)
{
    const slm_array *a = &m->shapes[f.a].array;
    slm_frame rest = {.kind = FRAME_ARRAY, .parent = f.parent, .a = f.a, .b = clamp_index(a, f.b + 1), .d = f.d};
    if (f.e == SLM_CROSSED)
        return 0;
    if (m->exact || a->few)
        rest.d = slm_frame_make(m, (slm_frame) {.kind = FRAME_USED, .parent = f.d, .a = f.e});
    else
        rest.e = SLM_CROSSED;
    return slm_frame_make(m, rest);
}

/* Behind '[' (an item or the end) or ',' (an item). */
static void resume_open(slm_machine *m, slm_frame f, uint32_t base)
{
    slm_frame array = m->frames[f.parent];
    const slm_array *a = &m->shapes[array.a].array;
    slm_rx end = slm_rx_literal(&m->rx, "]", 1, slm_rx_label(&m->rx, LABEL_CLOSE));
    if (f.a == LABEL_OPEN && array_may_end(a, array))
        slm_work_add(m, base, slm_rx_state(&m->rx, end), f.parent);
    if (f.a == LABEL_COMMA || item_may_come(m, a, array))
        add_item(m, array, base);
}

/* ---- values and sequences */

static void lexeme_or_after(slm_machine *m, slm_rx e, uint32_t stack, uint32_t base)
{
    uint32_t state = slm_rx_state(&m->rx, e);
    if (state == SLM_STATE_DEAD)
        return;
    if (!m->rx.states[state].final)
        slm_work_add(m, base, state, stack);
    if (m->rx.states[state].accepting)
        slm_frame_resume(m, slm_frame_after(m, stack, m->rx.states[state].label), base);
}

static void resume_value(slm_machine *m, slm_frame f, uint32_t base)
{
    slm_value v = m->values[f.a];
    if (v.scalar != SLM_RX_EMPTY)
        lexeme_or_after(m, v.scalar, f.parent, base);
    for (uint32_t i = v.shapes; i < v.shapes + v.n_shapes && !m->budget.failed; i++) {
        slm_frame inner;
        slm_rx open;
        switch (m->shapes[i].kind) {
        case SHAPE_OBJECT:
            inner = (slm_frame) {.kind = FRAME_OBJECT, .parent = f.parent, .a = i};
            resume_object(m, inner, slm_frame_make(m, inner), true, base);
            break;
        case SHAPE_ARRAY:
            open = slm_rx_literal(&m->rx, "[", 1, slm_rx_label(&m->rx, LABEL_OPEN));
            inner = (slm_frame) {.kind = FRAME_ARRAY, .parent = f.parent, .a = i};
            slm_work_add(m, base, slm_rx_state(&m->rx, open), slm_frame_make(m, inner));
            break;
        default:
            slm_frame_resume(m, slm_frame_make(m, (slm_frame) {.kind = FRAME_SEQUENCE, .parent = f.parent, .a = i}), base);
        }
    }
}

/* The symbol at place b is due; the last one is read on the parent's stack. */
static void resume_sequence(slm_machine *m, slm_frame f, uint32_t base)
{
    const slm_sequence *s = &m->shapes[f.a].sequence;
    slm_symbol symbol;
    uint32_t rest = f.parent;
    if (f.b >= s->n) {
        slm_frame_resume(m, f.parent, base);
        return;
    }
    symbol = s->symbols[f.b];
    if (f.b + 1 < s->n)
        rest = slm_frame_make(m, (slm_frame) {.kind = FRAME_SEQUENCE, .parent = f.parent, .a = f.a, .b = f.b + 1});
    if (!symbol.is_value)
        lexeme_or_after(m, symbol.id, rest, base);
    else if (m->values[symbol.id].live)
        slm_frame_resume(m, slm_frame_make(m, (slm_frame) {.kind = FRAME_VALUE, .parent = rest, .a = symbol.id}), base);
}

static void resume_new(slm_machine *m, uint32_t stack, uint32_t base)
{
    slm_frame f = m->frames[stack];
    switch (f.kind) {
    case FRAME_VALUE:
        resume_value(m, f, base);
        break;
    case FRAME_OBJECT:
        resume_object(m, f, stack, false, base);
        break;
    case FRAME_ARRAY:
        resume_array(m, f, stack, base);
        break;
    case FRAME_OPEN:
        resume_open(m, f, base);
        break;
    case FRAME_SEQUENCE:
        resume_sequence(m, f, base);
        break;
    default:
        slm_work_add(m, base, SLM_STATE_END, 0);
    }
}

void slm_frame_resume(slm_machine *m, uint32_t stack, uint32_t base)
{
    uint32_t inner = m->n_work, n;
    slm_frame *f = &m->frames[stack];
    if (stack == 0)
        return;
    if (f->closure == 0) {
        if (f->busy) /* on the way back to itself without reading: adds nothing */
            return;
        f->busy = true;
        resume_new(m, stack, inner);
        f = &m->frames[stack];
        f->busy = false;
        n = m->n_work - inner;
        if (!SLM_GROW(&m->budget, m->configs, m->configs_capacity, (uint64_t) m->n_configs + n + 1) || !slm_budget_step(&m->budget, 2 + n))
            return;
        memcpy(m->configs + m->n_configs, m->work + inner, n * sizeof *m->work);
        f->closure = m->n_configs;
        f->n_closure = n;
        m->n_configs += n + 1;
        m->n_work = inner;
    }
    n = f->closure;
    for (uint32_t i = n; i < n + m->frames[stack].n_closure && !m->budget.failed; i++)
        slm_work_add(m, base, m->configs[i].state, m->configs[i].stack);
}

uint32_t slm_frame_after(slm_machine *m, uint32_t stack, uint32_t label)
{
    slm_frame f = m->frames[stack];
    if (f.kind == FRAME_ITEM)
        return after_item(m, f);
    if (label == SLM_NO_LABEL)
        return stack;
    return f.kind == FRAME_OBJECT || f.kind == FRAME_KEY ? after_object(m, f, label) : after_array(m, stack, f, label);
}
