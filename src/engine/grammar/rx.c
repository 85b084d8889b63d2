/*
 * Expressions, their normal form, derivatives; see rx.h.
 *
 * Normal form: OR and AND are flat, sorted, without equals; sets of bytes in an OR are one set; CAT leans to the right; REP of the same
 * expression in a row is one REP.  What is not in normal form is still right, it only makes more states.
 */
#include "engine/grammar/rx.h"

#include <stdlib.h>

enum { MAX_DEPTH = 3000 };

static bool same_node(const slm_rx_node *n, slm_rx_kind kind, uint32_t a, uint32_t b, uint32_t c)
{
    return n->kind == kind && n->a == a && n->b == b && n->c == c;
}

/* The part of the table for a hash, with room for one more; NULL after a failure. */
static slm_ids_table *part_of(slm_rx_pool *p, uint32_t hash)
{
    slm_ids_table *t = &p->by_hash[hash / (UINT32_MAX / SLM_RX_PARTS + 1)];
    uint32_t capacity = t->capacity == 0 ? 16 : t->capacity * 2, room = 0, *slots = NULL;
    if (2 * t->n < t->capacity)
        return t;
    if (!slm_budget_grow(p->budget, &slots, &room, sizeof *slots, capacity))
        return NULL;
    for (uint32_t i = 0; i < t->capacity; i++) {
        uint32_t h = p->hashes[t->slots[i]] & (capacity - 1);
        if (t->slots[i] == 0)
            continue;
        while (slots[h] != 0)
            h = (h + 1) & (capacity - 1);
        slots[h] = t->slots[i];
    }
    free(t->slots);
    p->budget->bytes -= t->capacity * sizeof *slots;
    t->slots = slots;
    t->capacity = capacity;
    return t;
}

static bool is_finite(const slm_rx_pool *p, const slm_rx_node *n)
{
    bool all = true, any = false;
    switch (n->kind) {
    case RX_CAT:
        return p->nodes[n->a].finite && p->nodes[n->b].finite;
    case RX_REP:
        return p->nodes[n->a].finite && n->c != SLM_RX_MANY;
    case RX_OR:
    case RX_AND:
    case RX_SWITCH:
        for (uint32_t i = 0; i < n->b; i++) {
            bool one = p->nodes[p->lists[n->kind == RX_SWITCH ? n->a + 2 * i + 1 : n->a + i]].finite;
            all = all && one;
            any = any || one;
        }
        return n->kind == RX_AND ? any : all;
    default:
        return n->kind <= RX_SET || n->kind == RX_LABEL;
    }
}

/* Characters that a JSON string holds as they are, of one byte. */
static bool is_json_byte(unsigned byte)
{
    return byte >= 32 && byte < 128 && byte != '"' && byte != '\\';
}

static bool is_json_set(const slm_byte_set *set)
{
    for (unsigned i = 0; i < 256; i++)
        if (slm_set_has(set, i) && !is_json_byte(i))
            return false;
    return true;
}

/* Does it match nothing but whole characters of a JSON string?  Escapes and characters of several bytes are known as json_char and what
 * slm_rx_chars has made. */
static bool is_json(const slm_rx_pool *p, const slm_rx_node *n)
{
    bool all = true, any = false;
    switch (n->kind) {
    case RX_SET:
        return is_json_set(&p->sets[n->a]);
    case RX_CAT:
        return p->nodes[n->a].json && p->nodes[n->b].json;
    case RX_REP:
        return p->nodes[n->a].json;
    case RX_SWITCH:
        for (uint32_t i = 0; i < n->b; i++)
            all = all && is_json_byte(p->lists[n->a + 2 * i]) && p->nodes[p->lists[n->a + 2 * i + 1]].json;
        return all;
    case RX_OR:
    case RX_AND:
        for (uint32_t i = 0; i < n->b; i++) {
            bool one = p->nodes[p->lists[n->a + i]].json;
            all = all && one;
            any = any || one;
        }
        return n->kind == RX_AND ? any : all;
    default:
        return n->kind <= RX_EPS;
    }
}

static slm_rx append(slm_rx_pool *p, slm_ids_table *t, uint32_t slot, uint32_t hash, slm_rx_node node)
{
    node.finite = is_finite(p, &node);
    node.json = is_json(p, &node);
    if (!SLM_GROW(p->budget, p->nodes, p->nodes_capacity, (uint64_t) p->n_nodes + 1) ||
        !SLM_GROW(p->budget, p->hashes, p->hashes_capacity, (uint64_t) p->n_nodes + 1) || !slm_budget_step(p->budget, 1))
        return SLM_RX_EMPTY;
    p->nodes[p->n_nodes] = node;
    p->hashes[p->n_nodes] = hash;
    t->slots[slot] = p->n_nodes;
    t->n++;
    return p->n_nodes++;
}

slm_rx slm_rx_make(slm_rx_pool *p, slm_rx_kind kind, uint32_t a, uint32_t b, uint32_t c, bool nullable, bool logic)
{
    uint32_t key[] = {kind, a, b, c}, hash = slm_hash_words(key, 4, 1), h;
    slm_ids_table *t = part_of(p, hash);
    if (t == NULL)
        return SLM_RX_EMPTY;
    for (h = hash & (t->capacity - 1); t->slots[h] != 0; h = (h + 1) & (t->capacity - 1))
        if (same_node(&p->nodes[t->slots[h]], kind, a, b, c))
            return t->slots[h];
    return append(p, t, h, hash, (slm_rx_node) {.kind = (uint8_t) kind, .nullable = nullable, .logic = logic, .a = a, .b = b, .c = c});
}

/* A node with a list of words behind it: OR and AND (their members), SWITCH (pairs of byte and expression). */
static slm_rx make_list(slm_rx_pool *p, slm_rx_kind kind, const uint32_t *words, uint32_t n)
{
    uint32_t n_words = kind == RX_SWITCH ? 2 * n : n, hash = slm_hash_words(words, n_words, kind), h;
    bool nullable = kind == RX_AND, logic = kind == RX_AND;
    slm_ids_table *t = part_of(p, hash);
    slm_rx made;
    if (t == NULL)
        return SLM_RX_EMPTY;
    for (h = hash & (t->capacity - 1); t->slots[h] != 0; h = (h + 1) & (t->capacity - 1)) {
        const slm_rx_node *o = &p->nodes[t->slots[h]];
        if (o->kind == kind && o->b == n && memcmp(p->lists + o->a, words, n_words * sizeof *words) == 0)
            return t->slots[h];
    }
    if (!SLM_GROW(p->budget, p->lists, p->lists_capacity, (uint64_t) p->n_lists + n_words) || !slm_budget_step(p->budget, n / 4))
        return SLM_RX_EMPTY;
    memcpy(p->lists + p->n_lists, words, n_words * sizeof *words);
    for (uint32_t i = 0; i < n; i++) {
        const slm_rx_node *m = &p->nodes[kind == RX_SWITCH ? words[2 * i + 1] : words[i]];
        logic = logic || m->logic;
        nullable = kind == RX_AND ? nullable && m->nullable : kind == RX_OR && (nullable || m->nullable);
    }
    made = append(p, t, h, hash, (slm_rx_node) {.kind = (uint8_t) kind, .nullable = nullable, .logic = logic, .a = p->n_lists, .b = n});
    if (made != SLM_RX_EMPTY)
        p->n_lists += n_words;
    return made;
}

slm_rx slm_rx_set(slm_rx_pool *p, const slm_byte_set *set)
{
    uint32_t i = 0;
    if ((set->bits[0] | set->bits[1] | set->bits[2] | set->bits[3]) == 0)
        return SLM_RX_EMPTY;
    while (i < p->n_sets && memcmp(&p->sets[i], set, sizeof *set) != 0)
        i++;
    if (i == p->n_sets) {
        if (!SLM_GROW(p->budget, p->sets, p->sets_capacity, (uint64_t) p->n_sets + 1) || !slm_budget_step(p->budget, i / 8))
            return SLM_RX_EMPTY;
        p->sets[p->n_sets++] = *set;
    }
    return slm_rx_make(p, RX_SET, i, 0, 0, false, false);
}

slm_rx slm_rx_byte(slm_rx_pool *p, unsigned byte)
{
    slm_byte_set set = {{0}};
    slm_set_add(&set, byte, byte);
    return slm_rx_set(p, &set);
}

slm_rx slm_rx_label(slm_rx_pool *p, uint32_t label)
{
    return slm_rx_make(p, RX_LABEL, label, 0, 0, true, false);
}

slm_rx slm_rx_literal(slm_rx_pool *p, const char *text, size_t n, slm_rx then)
{
    while (n-- > 0) {
        uint32_t pair[] = {(unsigned char) text[n], then};
        then = then == SLM_RX_EMPTY ? SLM_RX_EMPTY : make_list(p, RX_SWITCH, pair, 1);
    }
    return then;
}

int slm_text_compare(const void *a, const void *b)
{
    const slm_text *x = a, *y = b;
    uint32_t n = x->length < y->length ? x->length : y->length;
    int c = n == 0 ? 0 : memcmp(x->data, y->data, n);
    return c != 0 ? c : (x->length > y->length) - (x->length < y->length);
}

static bool push(slm_rx_pool *p, uint32_t word)
{
    if (!SLM_GROW(p->budget, p->scratch, p->scratch_capacity, (uint64_t) p->n_scratch + 1))
        return false;
    p->scratch[p->n_scratch++] = word;
    return true;
}

/* The texts from `begin` to `end` are equal up to `depth`. */
static slm_rx trie_part(slm_rx_pool *p, const slm_text *texts, const slm_rx *then, uint32_t begin, uint32_t end, uint32_t depth)
{
    uint32_t base = p->n_scratch, at = begin, run = depth;
    slm_rx here = SLM_RX_EMPTY, made;
    if (p->depth >= MAX_DEPTH) {
        slm_budget_fail(p->budget, SLM_LIMIT, "a list of texts shares too long beginnings");
        return SLM_RX_EMPTY;
    }
    if (begin + 1 == end)
        return slm_rx_literal(p, texts[begin].data + depth, texts[begin].length - depth, then[begin]);
    while (run < texts[begin].length && run < texts[end - 1].length && texts[begin].data[run] == texts[end - 1].data[run])
        run++;
    if (run > depth)
        return slm_rx_literal(p, texts[begin].data + depth, run - depth, trie_part(p, texts, then, begin, end, run));
    if (texts[at].length == depth)
        here = then[at++];
    p->depth++;
    while (at < end && !p->budget->failed) {
        uint32_t next = at;
        while (next < end && texts[next].data[depth] == texts[at].data[depth])
            next++;
        made = trie_part(p, texts, then, at, next, depth + 1);
        if (made != SLM_RX_EMPTY && (!push(p, (unsigned char) texts[at].data[depth]) || !push(p, made)))
            break;
        at = next;
    }
    p->depth--;
    made = p->n_scratch > base ? make_list(p, RX_SWITCH, p->scratch + base, (p->n_scratch - base) / 2) : SLM_RX_EMPTY;
    p->n_scratch = base;
    return slm_rx_or(p, here, made);
}

slm_rx slm_rx_trie(slm_rx_pool *p, const slm_text *texts, const slm_rx *then, uint32_t n)
{
    return n == 0 ? SLM_RX_EMPTY : trie_part(p, texts, then, 0, n, 0);
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;
    return (x > y) - (x < y);
}

/* Pushes what e adds to an OR or AND; false when it decides the whole (*all). */
static bool push_member(slm_rx_pool *p, slm_rx_kind kind, slm_rx e)
{
    slm_rx_node n = p->nodes[e];
    if (n.kind != kind)
        return push(p, e);
    for (uint32_t i = 0; i < n.b; i++)
        if (!push(p, p->lists[n.a + i]))
            return false;
    return true;
}

/* Joins the sets of bytes among scratch[base..): united for OR, common for AND. */
static void join_sets(slm_rx_pool *p, slm_rx_kind kind, uint32_t base)
{
    slm_byte_set joined = {{0}};
    uint32_t n_sets = 0, to = base;
    for (uint32_t i = base; i < p->n_scratch; i++)
        if (p->nodes[p->scratch[i]].kind == RX_SET) {
            const slm_byte_set *s = &p->sets[p->nodes[p->scratch[i]].a];
            for (int k = 0; k < 4; k++)
                joined.bits[k] = kind == RX_OR || n_sets == 0 ? joined.bits[k] | s->bits[k] : joined.bits[k] & s->bits[k];
            n_sets++;
        }
    if (n_sets < 2)
        return;
    for (uint32_t i = base; i < p->n_scratch; i++)
        if (p->nodes[p->scratch[i]].kind != RX_SET)
            p->scratch[to++] = p->scratch[i];
    p->n_scratch = to;
    push(p, slm_rx_set(p, &joined));
}

/* Is e among members [n], which ascend? */
static bool is_member(const slm_rx *members, uint32_t n, slm_rx e)
{
    uint32_t low = 0, high = n;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (members[mid] < e)
            low = mid + 1;
        else
            high = mid;
    }
    return low < n && members[low] == e;
}

/* Takes out of members [*n] what others make superfluous: J being all JSON texts and x some of them, J | x is J, J & x is x, and
 * not J & not x is not J.  True: the whole is everything (OR) or nothing (AND), since an expression stands beside its complement, or J
 * beside not x in an OR, or not J beside x in an AND. */
static bool absorb(const slm_rx_pool *p, slm_rx_kind kind, slm_rx *members, uint32_t *n)
{
    slm_rx all = p->json_text, none = p->not_json_text;
    bool has_all = all != 0 && is_member(members, *n, all), has_none = none != 0 && is_member(members, *n, none), json = false;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < *n; i++) {
        const slm_rx_node *m = &p->nodes[members[i]];
        if (m->kind == RX_NOT && (is_member(members, *n, m->a) || (kind == RX_OR && has_all && p->nodes[m->a].json)))
            return true;
        if (kind == RX_AND && has_none && m->json)
            return true;
        json = json || (m->json && members[i] != all);
    }
    for (uint32_t i = 0; (has_all || has_none) && i < *n; i++) {
        const slm_rx_node *m = &p->nodes[members[i]];
        bool drop = kind == RX_OR ? has_all && m->json && members[i] != all
                                  : (json && members[i] == all) ||
                                        (has_none && m->kind == RX_NOT && p->nodes[m->a].json && members[i] != none);
        if (!drop)
            members[kept++] = members[i];
    }
    if (has_all || has_none)
        *n = kept;
    return false;
}

/* scratch[base..) as an OR or AND, in normal form; the scratch is given back. */
static slm_rx finish(slm_rx_pool *p, slm_rx_kind kind, uint32_t base)
{
    slm_rx zero = kind == RX_OR ? SLM_RX_EMPTY : SLM_RX_ANY, all = kind == RX_OR ? SLM_RX_ANY : SLM_RX_EMPTY, made;
    uint32_t n = 0, *members;
    join_sets(p, kind, base);
    if (!slm_budget_step(p->budget, p->n_scratch - base)) {
        p->n_scratch = base;
        return SLM_RX_EMPTY;
    }
    members = p->scratch + base;
    if (p->n_scratch - base > 1)
        qsort(members, p->n_scratch - base, sizeof *members, by_number);
    for (uint32_t i = 0; i < p->n_scratch - base; i++) {
        if (members[i] == all || (kind == RX_AND && members[i] == SLM_RX_EMPTY)) {
            p->n_scratch = base;
            return all;
        }
        if (members[i] != zero && (n == 0 || members[n - 1] != members[i]))
            members[n++] = members[i];
    }
    if (n > 1 && absorb(p, kind, members, &n))
        made = all;
    else
        made = n == 0 ? zero : n == 1 ? members[0] : make_list(p, kind, members, n);
    p->n_scratch = base;
    return p->budget->failed ? SLM_RX_EMPTY : made;
}

slm_rx slm_rx_or_many(slm_rx_pool *p, const slm_rx *ids, uint32_t n)
{
    uint32_t base = p->n_scratch;
    for (uint32_t i = 0; i < n; i++)
        if (!push_member(p, RX_OR, ids[i]))
            break;
    return finish(p, RX_OR, base);
}

slm_rx slm_rx_or_scratch(slm_rx_pool *p, uint32_t from)
{
    uint32_t end = p->n_scratch;
    slm_rx made;
    for (uint32_t i = from; i < end; i++)
        if (!push_member(p, RX_OR, p->scratch[i])) /* which may move the scratch */
            break;
    made = finish(p, RX_OR, end);
    p->n_scratch = from;
    return made;
}

slm_rx slm_rx_or(slm_rx_pool *p, slm_rx a, slm_rx b)
{
    slm_rx both[] = {a, b};
    if (a == b || b == SLM_RX_EMPTY)
        return a;
    return a == SLM_RX_EMPTY ? b : slm_rx_or_many(p, both, 2);
}

slm_rx slm_rx_and(slm_rx_pool *p, slm_rx a, slm_rx b)
{
    uint32_t base = p->n_scratch;
    if (a == b || b == SLM_RX_ANY)
        return a;
    if (a == SLM_RX_ANY)
        return b;
    if (a == SLM_RX_EMPTY || b == SLM_RX_EMPTY || slm_rx_not(p, a) == b)
        return SLM_RX_EMPTY;
    if (a == SLM_RX_EPS || b == SLM_RX_EPS)
        return p->nodes[a].nullable && p->nodes[b].nullable ? SLM_RX_EPS : SLM_RX_EMPTY;
    if (push_member(p, RX_AND, a))
        push_member(p, RX_AND, b);
    return finish(p, RX_AND, base);
}

slm_rx slm_rx_not(slm_rx_pool *p, slm_rx a)
{
    slm_rx_node n = p->nodes[a];
    if (n.kind == RX_NOT)
        return n.a;
    return slm_rx_make(p, RX_NOT, a, 0, 0, !n.nullable, true);
}

/* The first factor of a CAT, and the rest. */
static void split(const slm_rx_pool *p, slm_rx e, slm_rx *head, slm_rx *rest)
{
    bool cat = p->nodes[e].kind == RX_CAT;
    *head = cat ? p->nodes[e].a : e;
    *rest = cat ? p->nodes[e].b : SLM_RX_EPS;
}

static uint32_t add_counts(uint32_t a, uint32_t b)
{
    return a == SLM_RX_MANY || b == SLM_RX_MANY || a > SLM_RX_MANY - b ? SLM_RX_MANY : a + b;
}

static slm_rx cat_one(slm_rx_pool *p, slm_rx a, slm_rx b)
{
    slm_rx head, rest;
    slm_rx_node x = p->nodes[a], y;
    if (a == SLM_RX_EMPTY || b == SLM_RX_EMPTY)
        return SLM_RX_EMPTY;
    if (a == SLM_RX_EPS)
        return b;
    if (b == SLM_RX_EPS)
        return a;
    split(p, b, &head, &rest);
    y = p->nodes[head];
    if (x.kind == RX_REP && y.kind == RX_REP && x.a == y.a)
        return cat_one(p, slm_rx_rep(p, x.a, add_counts(x.b, y.b), add_counts(x.c, y.c)), rest);
    return slm_rx_make(p, RX_CAT, a, b, 0, x.nullable && p->nodes[b].nullable, x.logic || p->nodes[b].logic);
}

slm_rx slm_rx_cat(slm_rx_pool *p, slm_rx a, slm_rx b)
{
    uint32_t base = p->n_scratch;
    while (p->nodes[a].kind == RX_CAT) {
        if (!push(p, p->nodes[a].a))
            return SLM_RX_EMPTY;
        a = p->nodes[a].b;
    }
    b = cat_one(p, a, b);
    while (p->n_scratch > base)
        b = cat_one(p, p->scratch[--p->n_scratch], b);
    return b;
}

slm_rx slm_rx_rep(slm_rx_pool *p, slm_rx a, uint32_t min, uint32_t max)
{
    slm_rx_node n = p->nodes[a];
    if (max == 0 || a == SLM_RX_EPS || (a == SLM_RX_EMPTY && min == 0))
        return SLM_RX_EPS;
    if (a == SLM_RX_EMPTY || (min == 1 && max == 1) || (a == SLM_RX_ANY && max > 0))
        return a;
    if (n.nullable)
        min = 0;
    if (n.kind == RX_REP && n.b <= 1 && n.c == SLM_RX_MANY)
        return slm_rx_rep(p, n.a, n.b == 0 ? 0 : min, SLM_RX_MANY); /* (x+){m,n} is x{m,} */
    return slm_rx_make(p, RX_REP, a, min, max, min == 0, n.logic);
}

static slm_rx derive_list(slm_rx_pool *p, const slm_rx_node *n, unsigned byte)
{
    uint32_t base = p->n_scratch;
    for (uint32_t i = 0; i < n->b && !p->budget->failed; i++) {
        slm_rx d = slm_rx_derive(p, p->lists[n->a + i], byte);
        if (d == SLM_RX_EMPTY && n->kind == RX_AND) {
            p->n_scratch = base;
            return SLM_RX_EMPTY;
        }
        if (d != SLM_RX_EMPTY && !push_member(p, n->kind, d))
            break;
    }
    return finish(p, n->kind, base);
}

static slm_rx switch_to(const slm_rx_pool *p, const slm_rx_node *n, unsigned byte)
{
    const uint32_t *pairs = p->lists + n->a;
    uint32_t low = 0, high = n->b;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (pairs[2 * mid] == byte)
            return pairs[2 * mid + 1];
        if (pairs[2 * mid] < byte)
            low = mid + 1;
        else
            high = mid;
    }
    return SLM_RX_EMPTY;
}

static bool tracks_rehash(slm_rx_pool *p)
{
    slm_ids_table *t = &p->tracks_by_hash;
    uint32_t capacity = t->capacity == 0 ? 64 : t->capacity * 2, room = 0, *slots = NULL;
    if (!slm_budget_grow(p->budget, &slots, &room, sizeof *slots, capacity))
        return false;
    free(t->slots);
    p->budget->bytes -= t->capacity * sizeof *slots;
    t->slots = slots;
    t->capacity = capacity;
    for (uint32_t i = 1; i < p->n_tracks; i++) {
        uint32_t h = slm_hash_words(p->tracks + 2 * i, 2, 9) & (capacity - 1);
        while (slots[h] != 0)
            h = (h + 1) & (capacity - 1);
        slots[h] = i;
    }
    return true;
}

uint32_t slm_track_next(slm_rx_pool *p, uint32_t track, unsigned byte)
{
    slm_ids_table *t = &p->tracks_by_hash;
    uint32_t key[] = {track, byte}, h;
    if (2 * p->n_tracks >= t->capacity && !tracks_rehash(p))
        return 0;
    for (h = slm_hash_words(key, 2, 9) & (t->capacity - 1); t->slots[h] != 0; h = (h + 1) & (t->capacity - 1))
        if (memcmp(p->tracks + 2 * t->slots[h], key, sizeof key) == 0)
            return t->slots[h];
    if (!SLM_GROW(p->budget, p->tracks, p->tracks_capacity, 2 * (uint64_t) p->n_tracks + 2))
        return 0;
    memcpy(p->tracks + 2 * p->n_tracks, key, sizeof key);
    t->slots[h] = p->n_tracks;
    return p->n_tracks++;
}

uint32_t slm_track_text(const slm_rx_pool *p, uint32_t track, char *out, uint32_t max)
{
    uint32_t n = 0;
    for (uint32_t t = track; t != 0; t = p->tracks[2 * t])
        n++;
    if (n > max)
        return n;
    for (uint32_t t = track, i = n; t != 0; t = p->tracks[2 * t])
        out[--i] = (char) p->tracks[2 * t + 1];
    return n;
}

static slm_rx derive_compound(slm_rx_pool *p, slm_rx_node n, unsigned byte)
{
    slm_rx d, rest;
    switch (n.kind) {
    case RX_CAT:
        d = slm_rx_cat(p, slm_rx_derive(p, n.a, byte), n.b);
        if (p->nodes[n.a].nullable)
            d = slm_rx_or(p, d, slm_rx_derive(p, n.b, byte));
        return d;
    case RX_OR:
    case RX_AND:
        return derive_list(p, &n, byte);
    case RX_NOT:
        return slm_rx_not(p, slm_rx_derive(p, n.a, byte));
    case RX_REP:
        d = slm_rx_derive(p, n.a, byte);
        if (d == SLM_RX_EMPTY)
            return d;
        rest = slm_rx_rep(p, n.a, n.b == 0 ? 0 : n.b - 1, n.c == SLM_RX_MANY ? SLM_RX_MANY : n.c - 1);
        return slm_rx_cat(p, d, rest);
    default:
        return slm_number_step(p, n, byte);
    }
}

slm_rx slm_rx_derive(slm_rx_pool *p, slm_rx e, unsigned byte)
{
    slm_rx_node n = p->nodes[e];
    slm_derived *known;
    slm_rx d;
    if (n.kind == RX_SWITCH)
        return switch_to(p, &n, byte);
    if (n.kind == RX_SET)
        return slm_set_has(&p->sets[n.a], byte) ? SLM_RX_EPS : SLM_RX_EMPTY;
    if (n.kind == RX_EMPTY || n.kind == RX_EPS || n.kind == RX_LABEL)
        return SLM_RX_EMPTY;
    if (e == SLM_RX_ANY)
        return e;
    known = &p->derived[(e * 131 + byte) % SLM_DERIVED];
    if (known->rx == e && known->byte == byte)
        return known->result;
    if (!slm_budget_step(p->budget, 1))
        return SLM_RX_EMPTY;
    if (p->depth >= MAX_DEPTH) {
        slm_budget_fail(p->budget, SLM_LIMIT, "a pattern is nested too deep");
        return SLM_RX_EMPTY;
    }
    p->depth++;
    d = derive_compound(p, n, byte);
    p->depth--;
    if (p->budget->failed)
        return SLM_RX_EMPTY;
    *known = (slm_derived) {e, d, byte};
    return d;
}

bool slm_rx_init(slm_rx_pool *p, slm_budget *b)
{
    static const uint32_t all[][2] = {{0, 0x10FFFF}};
    memset(p, 0, sizeof *p);
    p->budget = b;
    if (!SLM_GROW(b, p->nodes, p->nodes_capacity, 256) || !SLM_GROW(b, p->hashes, p->hashes_capacity, 256) ||
        !SLM_GROW(b, p->tracks, p->tracks_capacity, 2) ||
        !SLM_GROW(b, p->states, p->states_capacity, 16) || !SLM_GROW(b, p->next, p->next_capacity, 16) ||
        !SLM_GROW(b, p->lists, p->lists_capacity, 64))
        return false;
    p->derived = slm_budget_alloc(b, SLM_DERIVED * sizeof *p->derived);
    if (p->derived == NULL)
        return false;
    memcpy(p->helpful, "a0\" ", SLM_HELPFUL);
    p->n_nodes = 1; /* EMPTY */
    p->nodes[SLM_RX_EMPTY].finite = true;
    p->n_next = p->n_tracks = 1;
    p->n_states = SLM_STATE_FIRST;
    if (slm_rx_make(p, RX_EPS, 0, 0, 0, true, false) != SLM_RX_EPS || slm_rx_not(p, SLM_RX_EMPTY) != SLM_RX_ANY)
        return slm_budget_fail(b, SLM_INTERNAL, "the first expressions are not where they belong");
    p->nodes[SLM_RX_ANY].logic = false; /* known to be live */
    p->json_char = slm_rx_chars(p, all, 1, true);
    p->nodes[SLM_RX_ANY].json = false;
    p->json_text = slm_rx_rep(p, p->json_char, 0, SLM_RX_MANY);
    p->not_json_text = slm_rx_not(p, p->json_text);
    return !b->failed;
}

void slm_rx_destroy(slm_rx_pool *p)
{
    for (uint32_t i = 0; i < p->n_partitions; i++)
        free(p->partitions[i]);
    free(p->partitions);
    free(p->nodes);
    free(p->hashes);
    free(p->state_of);
    free(p->marks);
    free(p->hints);
    for (uint32_t i = 0; i < SLM_RX_PARTS; i++)
        free(p->by_hash[i].slots);
    free(p->lists);
    free(p->sets);
    free(p->decimals);
    free(p->tracks);
    free(p->tracks_by_hash.slots);
    free(p->scratch);
    free(p->states);
    free(p->next);
    memset(p, 0, sizeof *p);
}
