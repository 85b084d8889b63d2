/*
 * Objects and arrays: the ways to satisfy a conjunction of schemas, each as one shape; see schema.h.
 *
 * The formula is taken apart into facts ("key k must be there", "its value must satisfy +n", "node n says what its keys are") and choices.
 * A way is a list of facts without a choice left.  The negation of a schema is the choice of the keyword that fails.
 */
#include <stdlib.h>

#include "engine/grammar/schema.h"

typedef enum item_kind {
    LITERAL, REQUIRE, FORBID, EXTRA /* a key or index, and a literal for its value */, AT_LEAST, AT_MOST, NAMES, GROUP, UNIQUE, CONTAINS
} item_kind;

/* Immutable once made, so that ways share their beginnings. */
typedef struct item {
    item_kind kind;
    int32_t literal;
    uint32_t number, n_key;
    const char *key;
    const struct item *next;
} item;

typedef struct choice {
    const item **options;
    uint32_t n;
    const struct choice *next;
} choice;

typedef struct way {
    const item *facts;
    struct way *next;
} way;

typedef struct shaping {
    slm_compiler *c;
    uint32_t value;
    uint8_t type;
    slm_rx constants; /* whole values that enum or const gives */
    way *ways, **last;
    uint32_t n_ways;
} shaping;

enum { MAX_WAYS = 2000, MAX_CLASSES = 64 };

static const item *item_make(shaping *s, item template, const item *next)
{
    item *i = slm_budget_alloc(s->c->b, sizeof *i);
    if (i == NULL || !slm_budget_step(s->c->b, 1))
        return NULL;
    *i = template;
    i->next = next;
    return i;
}

static const item *literal_make(shaping *s, int32_t literal, const item *next)
{
    return item_make(s, (item) {.kind = LITERAL, .literal = literal}, next);
}

static const choice *choice_make(shaping *s, const item *const *options, uint32_t n, const choice *next)
{
    choice *ch = slm_budget_alloc(s->c->b, sizeof *ch);
    if (ch == NULL)
        return next;
    ch->options = slm_budget_alloc(s->c->b, (n + 1) * sizeof *ch->options);
    if (ch->options == NULL)
        return next;
    if (n > 0)
        memcpy(ch->options, options, n * sizeof *options);
    ch->n = n;
    ch->next = next;
    return ch;
}

/* What is being taken apart. */
typedef struct branch {
    const item *todo, *facts, *seen;
    const choice *choices;
    bool dead;
} branch;

static void add_todo(shaping *s, branch *b, item template)
{
    b->todo = item_make(s, template, b->todo);
}

static bool says_of_type(const slm_node *n, uint8_t type)
{
    if (type == TYPE_ARRAY)
        return n->has_items;
    return n->n_props > 0 || n->n_patterns > 0 || n->additional != 0;
}

/* Can a value of the type satisfy the node, as far as its `type` and those that it refers to say? */
static bool may_be(slm_compiler *c, uint32_t id, uint8_t type, int depth)
{
    slm_node *n = slm_node_read(c, id);
    if (n->boolean >= 0)
        return n->boolean == 1;
    if (!(n->types & type) || (n->ref != 0 && depth > 0 && !may_be(c, n->ref, type, depth - 1)))
        return false;
    for (uint32_t i = 0; depth > 0 && i < n->all.n; i++)
        if (!may_be(c, n->all.ids[i], type, depth - 1))
            return false;
    return true;
}

/* Are two schemas never true together for values of the type?  False where that is not seen. */
static bool disjoint(shaping *s, uint32_t a, uint32_t b)
{
    int32_t both[] = {(int32_t) a, (int32_t) b};
    uint32_t value;
    if (s->c->depth > 40)
        return false;
    value = slm_conjunction_of(s->c, both, 2);
    return !slm_conjunction_may(s->c, value, s->type);
}

/* oneOf: one branch and none of those that could be true with it. */
static void choose_one(shaping *s, branch *b, const slm_nodes *one)
{
    const item **options = slm_budget_alloc(s->c->b, (one->n + 1) * sizeof *options);
    uint32_t n = 0;
    if (options == NULL)
        return;
    for (uint32_t i = 0; i < one->n && !s->c->b->failed; i++) {
        const item *option = literal_make(s, (int32_t) one->ids[i], NULL);
        if (!may_be(s->c, one->ids[i], s->type, 8))
            continue;
        for (uint32_t k = 0; k < one->n && !s->c->b->failed; k++)
            if (k != i && may_be(s->c, one->ids[k], s->type, 8) && !disjoint(s, one->ids[i], one->ids[k]))
                option = literal_make(s, -(int32_t) one->ids[k], option);
        options[n++] = option;
    }
    b->choices = choice_make(s, options, n, b->choices);
}

static void choose_any(shaping *s, branch *b, const slm_nodes *any)
{
    const item **options = slm_budget_alloc(s->c->b, (any->n + 1) * sizeof *options);
    uint32_t n = 0;
    if (options == NULL)
        return;
    for (uint32_t i = 0; i < any->n; i++)
        if (may_be(s->c, any->ids[i], s->type, 8))
            options[n++] = literal_make(s, (int32_t) any->ids[i], NULL);
    b->choices = choice_make(s, options, n, b->choices);
}

/* A dependency: the key is not there, or what it asks for holds. */
static void choose_dependency(shaping *s, branch *b, const slm_prop *p, const slm_json *on)
{
    const item *options[2], *holds = item_make(s, (item) {.kind = REQUIRE, .key = p->key, .n_key = p->n_key}, NULL);
    options[0] = item_make(s, (item) {.kind = FORBID, .key = p->key, .n_key = p->n_key}, NULL);
    if (p->node != 0)
        holds = literal_make(s, (int32_t) p->node, holds);
    else if (on->type == JSON_STRING_)
        holds = item_make(s, (item) {.kind = REQUIRE, .key = on->text, .n_key = on->n}, holds);
    for (const slm_json *r = p->node == 0 && on->type == JSON_ARRAY_ ? on->first : NULL; r != NULL; r = r->next)
        holds = item_make(s, (item) {.kind = REQUIRE, .key = r->text, .n_key = r->n}, holds);
    options[1] = holds;
    b->choices = choice_make(s, options, 2, b->choices);
}

/* Values that enum or const gives are tried against the whole conjunction, once, and need no shape. */
static void take_constants(shaping *s, const slm_node *n)
{
    slm_compiler *c = s->c;
    slm_conjunction conj = c->conjunctions[s->value];
    uint32_t total = n->constant ? 1 : n->enumeration->n;
    const slm_json *v = n->constant ? n->enumeration : n->enumeration->first;
    slm_json_type type = s->type == TYPE_ARRAY ? JSON_ARRAY_ : JSON_OBJECT_;
    for (uint32_t i = 0; i < total && !c->b->failed; i++, v = v->next) {
        char *out = NULL;
        uint32_t length = 0, capacity = 0;
        bool valid = v->type == type;
        for (uint32_t k = 0; valid && k < conj.n; k++)
            valid = slm_literal_valid(c, c->literals[conj.literals + k], v);
        if (valid && slm_json_write(c->b, v, &out, &length, &capacity)) {
            s->constants = slm_rx_or(c->p, s->constants, slm_rx_literal(c->p, out, length, SLM_RX_EPS));
            c->conjunctions[s->value].has_constants = true;
        }
        free(out);
        c->b->bytes -= capacity;
    }
}

static void take_own(shaping *s, branch *b, uint32_t id, const slm_node *n)
{
    bool object = s->type == TYPE_OBJECT;
    uint32_t min = object ? n->min_props : n->min_items, max = object ? n->max_props : n->max_items;
    if (says_of_type(n, s->type))
        b->facts = item_make(s, (item) {.kind = GROUP, .number = id}, b->facts);
    if (min > 0)
        b->facts = item_make(s, (item) {.kind = AT_LEAST, .number = min}, b->facts);
    if (max != SLM_RX_MANY)
        b->facts = item_make(s, (item) {.kind = AT_MOST, .number = max}, b->facts);
    if (!object) {
        if (n->unique)
            b->facts = item_make(s, (item) {.kind = UNIQUE}, b->facts);
        if (n->contains != 0)
            b->facts = item_make(s, (item) {.kind = CONTAINS, .number = id}, b->facts);
        return;
    }
    if (n->names != 0)
        b->facts = item_make(s, (item) {.kind = NAMES, .literal = (int32_t) n->names}, b->facts);
    for (const slm_json *r = n->required != NULL ? n->required->first : NULL; r != NULL; r = r->next)
        add_todo(s, b, (item) {.kind = REQUIRE, .key = r->text, .n_key = r->n});
    for (uint32_t i = 0; i < n->n_depends; i++)
        choose_dependency(s, b, &n->depends[i], n->depends_on[i]);
}

static void take_positive(shaping *s, branch *b, uint32_t id)
{
    slm_node *n = slm_node_read(s->c, id);
    if (n->boolean >= 0) {
        b->dead = b->dead || n->boolean == 0;
        return;
    }
    if (!(n->types & s->type)) {
        b->dead = true;
        return;
    }
    if (n->enumeration != NULL) {
        take_constants(s, n);
        b->dead = true;
        return;
    }
    take_own(s, b, id, n);
    for (uint32_t i = n->all.n; i-- > 0;) /* put before each other, so read in their order */
        add_todo(s, b, (item) {.kind = LITERAL, .literal = (int32_t) n->all.ids[i]});
    if (n->ref != 0)
        add_todo(s, b, (item) {.kind = LITERAL, .literal = (int32_t) n->ref});
    if (n->no != 0)
        add_todo(s, b, (item) {.kind = LITERAL, .literal = -(int32_t) n->no});
    if (n->any.n > 0)
        choose_any(s, b, &n->any);
    if (n->one.n > 0)
        choose_one(s, b, &n->one);
    if (n->then != 0 || n->otherwise != 0) {
        const item *options[2];
        options[0] = literal_make(s, (int32_t) n->condition, n->then != 0 ? literal_make(s, (int32_t) n->then, NULL) : NULL);
        options[1] = literal_make(s, -(int32_t) n->condition,
                                  n->otherwise != 0 ? literal_make(s, (int32_t) n->otherwise, NULL) : NULL);
        b->choices = choice_make(s, options, 2, b->choices);
    }
}

/* ---- negation */

typedef struct options {
    const item **list;
    uint32_t n, capacity;
} options;

static void option_add(shaping *s, options *o, const item *option)
{
    if (SLM_GROW(s->c->b, o->list, o->capacity, (uint64_t) o->n + 1))
        o->list[o->n++] = option;
}

static bool is_anything(slm_compiler *c, uint32_t node)
{
    slm_node *n = slm_node_read(c, node);
    return n->boolean == 1 || (n->boolean < 0 && n->json->n == 0);
}

static void negate_object(shaping *s, const slm_node *n, options *o)
{
    slm_compiler *c = s->c;
    for (const slm_json *r = n->required != NULL ? n->required->first : NULL; r != NULL; r = r->next)
        option_add(s, o, item_make(s, (item) {.kind = FORBID, .key = r->text, .n_key = r->n}, NULL));
    for (uint32_t i = 0; i < n->n_props; i++) {
        const slm_prop *p = &n->props[i];
        item extra = {.kind = EXTRA, .key = p->key, .n_key = p->n_key, .literal = -(int32_t) p->node};
        if (!is_anything(c, p->node))
            option_add(s, o, item_make(s, extra, item_make(s, (item) {.kind = REQUIRE, .key = p->key, .n_key = p->n_key}, NULL)));
    }
    for (uint32_t i = 0; i < n->n_patterns; i++)
        if (!is_anything(c, n->patterns[i].node))
            slm_schema_refuse(c, "not", "the opposite of patternProperties (also by oneOf, if) is not expressed");
    if (n->additional != 0 && !is_anything(c, n->additional))
        slm_schema_refuse(c, "not", "the opposite of additionalProperties (also by oneOf, if) is not expressed");
    if (n->names != 0 && !is_anything(c, n->names))
        slm_schema_refuse(c, "not", "the opposite of propertyNames (also by oneOf, if) is not expressed");
    for (uint32_t i = 0; i < n->n_depends; i++) {
        const slm_json *on = n->depends_on[i];
        const item *has = item_make(s, (item) {.kind = REQUIRE, .key = n->depends[i].key, .n_key = n->depends[i].n_key}, NULL);
        if (n->depends[i].node != 0)
            option_add(s, o, literal_make(s, -(int32_t) n->depends[i].node, has));
        else if (on->type == JSON_STRING_)
            option_add(s, o, item_make(s, (item) {.kind = FORBID, .key = on->text, .n_key = on->n}, has));
        for (const slm_json *r = n->depends[i].node == 0 && on->type == JSON_ARRAY_ ? on->first : NULL; r != NULL; r = r->next)
            option_add(s, o, item_make(s, (item) {.kind = FORBID, .key = r->text, .n_key = r->n}, has));
    }
}

static void negate_array(shaping *s, const slm_node *n, options *o)
{
    slm_compiler *c = s->c;
    for (uint32_t i = 0; i < n->prefix.n; i++) {
        item extra = {.kind = EXTRA, .number = i, .literal = -(int32_t) n->prefix.ids[i]};
        if (!is_anything(c, n->prefix.ids[i]))
            option_add(s, o, item_make(s, extra, item_make(s, (item) {.kind = AT_LEAST, .number = i + 1}, NULL)));
    }
    if (n->rest != 0 && slm_node_read(c, n->rest)->boolean == 0)
        option_add(s, o, item_make(s, (item) {.kind = AT_LEAST, .number = n->prefix.n + 1}, NULL));
    else if (n->rest != 0 && !is_anything(c, n->rest))
        slm_schema_refuse(c, "not", "the opposite of items (also by oneOf, if) is not expressed");
    if (n->unique)
        slm_schema_refuse(c, "not", "the opposite of uniqueItems (also by oneOf, if) is not expressed");
    if (n->contains != 0)
        slm_schema_refuse(c, "not", "the opposite of contains (also by oneOf, if) is not expressed");
}

static void negate_applied(shaping *s, const slm_node *n, options *o)
{
    for (uint32_t i = 0; i < n->all.n; i++)
        option_add(s, o, literal_make(s, -(int32_t) n->all.ids[i], NULL));
    if (n->any.n > 0) {
        const item *none = NULL;
        for (uint32_t i = 0; i < n->any.n; i++)
            none = literal_make(s, -(int32_t) n->any.ids[i], none);
        option_add(s, o, none);
    }
    if (n->one.n > 0) { /* none, or two of them */
        const item *none = NULL;
        for (uint32_t i = 0; i < n->one.n; i++) {
            none = literal_make(s, -(int32_t) n->one.ids[i], none);
            for (uint32_t k = 0; k < i; k++)
                option_add(s, o, literal_make(s, (int32_t) n->one.ids[i], literal_make(s, (int32_t) n->one.ids[k], NULL)));
        }
        option_add(s, o, none);
    }
    if (n->no != 0)
        option_add(s, o, literal_make(s, (int32_t) n->no, NULL));
    if (n->ref != 0)
        option_add(s, o, literal_make(s, -(int32_t) n->ref, NULL));
    if (n->then != 0)
        option_add(s, o, literal_make(s, (int32_t) n->condition, literal_make(s, -(int32_t) n->then, NULL)));
    if (n->otherwise != 0)
        option_add(s, o, literal_make(s, -(int32_t) n->condition, literal_make(s, -(int32_t) n->otherwise, NULL)));
}

static void take_negative(shaping *s, branch *b, uint32_t id)
{
    slm_node *n = slm_node_read(s->c, id);
    bool object = s->type == TYPE_OBJECT;
    uint32_t min = object ? n->min_props : n->min_items, max = object ? n->max_props : n->max_items;
    options o = {0};
    if (n->boolean >= 0) {
        b->dead = b->dead || n->boolean == 1;
        return;
    }
    if (!(n->types & s->type))
        return;
    if (n->enumeration != NULL) {
        slm_json_type type = object ? JSON_OBJECT_ : JSON_ARRAY_;
        for (const slm_json *v = n->constant ? n->enumeration : n->enumeration->first; v != NULL; v = n->constant ? NULL : v->next)
            if (v->type == type)
                slm_schema_refuse(s->c, "not", "the opposite of an enum or const with objects or arrays is not expressed");
        return;
    }
    if (min > 0)
        option_add(s, &o, item_make(s, (item) {.kind = AT_MOST, .number = min - 1}, NULL));
    if (max != SLM_RX_MANY)
        option_add(s, &o, item_make(s, (item) {.kind = AT_LEAST, .number = max + 1}, NULL));
    if (object)
        negate_object(s, n, &o);
    else
        negate_array(s, n, &o);
    negate_applied(s, n, &o);
    b->choices = choice_make(s, o.list, o.n, b->choices);
    free(o.list);
    s->c->b->bytes -= o.capacity * sizeof *o.list;
}

static bool same_key(const item *a, const item *b)
{
    return a->n_key == b->n_key && memcmp(a->key, b->key, a->n_key) == 0;
}

/* A fact joins the others: known ones are left out, contradictions end the branch. */
static void take_fact(shaping *s, branch *b, const item *fact)
{
    for (const item *f = b->facts; f != NULL && (fact->kind == REQUIRE || fact->kind == FORBID); f = f->next)
        if ((f->kind == REQUIRE || f->kind == FORBID) && same_key(f, fact)) {
            b->dead = b->dead || f->kind != fact->kind;
            return;
        }
    b->facts = item_make(s, *fact, b->facts);
}

static void take_apart(shaping *s, branch b)
{
    const choice *ch;
    while (b.todo != NULL && !b.dead && !s->c->b->failed) {
        const item *at = b.todo, *seen = b.seen;
        b.todo = at->next;
        if (at->kind != LITERAL) {
            take_fact(s, &b, at);
            continue;
        }
        while (seen != NULL && seen->literal != at->literal) {
            b.dead = b.dead || seen->literal == -at->literal;
            seen = seen->next;
        }
        if (seen != NULL)
            continue;
        b.seen = literal_make(s, at->literal, b.seen);
        if (at->literal > 0)
            take_positive(s, &b, (uint32_t) at->literal);
        else
            take_negative(s, &b, (uint32_t) -at->literal);
    }
    if (b.dead || s->c->b->failed)
        return;
    ch = b.choices;
    if (ch == NULL) {
        way *w = slm_budget_alloc(s->c->b, sizeof *w);
        if (w == NULL)
            return;
        if (++s->n_ways > MAX_WAYS) {
            slm_budget_fail(s->c->b, SLM_LIMIT, "the schema has more than %d ways to satisfy one place (anyOf, oneOf, not, if)", MAX_WAYS);
            return;
        }
        w->facts = b.facts;
        *s->last = w;
        s->last = &w->next;
        return;
    }
    if (++s->c->depth > 400) {
        slm_budget_fail(s->c->b, SLM_LIMIT, "the schema's choices are nested deeper than 400");
        return;
    }
    b.choices = ch->next;
    for (uint32_t i = 0; i < ch->n && !s->c->b->failed; i++) {
        branch one = b;
        for (const item *o = ch->options[i]; o != NULL; o = o->next)
            one.todo = item_make(s, *o, one.todo);
        take_apart(s, one);
    }
    s->c->depth--;
}

/* ---- from facts to shapes */

typedef struct literals {
    int32_t *list;
    uint32_t n, capacity;
} literals;

static void literal_add(shaping *s, literals *l, int32_t literal)
{
    if (SLM_GROW(s->c->b, l->list, l->capacity, (uint64_t) l->n + 1))
        l->list[l->n++] = literal;
}

static slm_text escaped(slm_compiler *c, const char *text, uint32_t n)
{
    char *out = NULL, *kept;
    uint32_t length = 0, capacity = 0;
    slm_json_escape(c->b, text, n, &out, &length, &capacity);
    kept = slm_budget_alloc(c->b, length + 1);
    if (kept != NULL && length > 0)
        memcpy(kept, out, length);
    free(out);
    c->b->bytes -= capacity;
    return (slm_text) {kept, kept == NULL ? 0 : length};
}

/* What groups, extras and names say of a key: its literals; false where it may not be said at all. */
static bool key_literals(shaping *s, const item *facts, const char *key, uint32_t n_key, slm_text text, literals *l)
{
    slm_compiler *c = s->c;
    bool may = true;
    l->n = 0;
    for (const item *f = facts; f != NULL && !c->b->failed; f = f->next) {
        if (f->kind == GROUP) {
            slm_node *n = slm_node_read(c, f->number);
            const slm_prop *p = slm_node_prop(n, key, n_key);
            bool known = p != NULL;
            if (p != NULL)
                literal_add(s, l, (int32_t) p->node);
            for (uint32_t i = 0; i < n->n_patterns; i++)
                if (slm_rx_matches(c->p, slm_schema_pattern(c, n->patterns[i].key, n->patterns[i].n_key), text.data, text.length)) {
                    literal_add(s, l, (int32_t) n->patterns[i].node);
                    known = true;
                }
            if (!known && n->additional != 0)
                literal_add(s, l, (int32_t) n->additional);
        } else if (f->kind == EXTRA && f->n_key == n_key && memcmp(f->key, key, n_key) == 0) {
            literal_add(s, l, f->literal);
        } else if (f->kind == FORBID && f->n_key == n_key && memcmp(f->key, key, n_key) == 0) {
            may = false;
        } else if (f->kind == NAMES) {
            slm_lang names = slm_lang_of(c, (uint32_t) f->literal);
            may = may && slm_rx_matches(c->p, names.str, text.data, text.length);
        }
    }
    return may;
}

typedef struct keys {
    slm_key *list;
    uint32_t n, capacity;
    uint32_t *table, room;
    slm_text *decoded; /* [capacity] */
    uint32_t decoded_capacity;
} keys;

/* The key's place among the keys, added behind the others where it is new. */
static uint32_t key_add(shaping *s, keys *k, const char *key, uint32_t n_key)
{
    slm_budget *b = s->c->b;
    uint32_t h;
    if (2 * k->n >= k->room) {
        uint32_t room = k->room == 0 ? 32 : k->room * 2, *table = slm_budget_alloc(b, room * sizeof *table);
        if (table == NULL)
            return 0;
        for (uint32_t i = 0; i < k->n; i++) {
            for (h = slm_hash_text(k->decoded[i].data, k->decoded[i].length) & (room - 1); table[h] != 0; h = (h + 1) & (room - 1))
                ;
            table[h] = i + 1;
        }
        k->table = table;
        k->room = room;
    }
    for (h = slm_hash_text(key, n_key) & (k->room - 1); k->table[h] != 0; h = (h + 1) & (k->room - 1)) {
        slm_text *t = &k->decoded[k->table[h] - 1];
        if (t->length == n_key && memcmp(t->data, key, n_key) == 0)
            return k->table[h] - 1;
    }
    if (!SLM_GROW(b, k->list, k->capacity, (uint64_t) k->n + 1) || !SLM_GROW(b, k->decoded, k->decoded_capacity, (uint64_t) k->n + 1) ||
        !slm_budget_step(b, 2))
        return 0;
    k->decoded[k->n] = (slm_text) {key, n_key};
    k->list[k->n] = (slm_key) {.allowed = true};
    k->table[h] = k->n + 1;
    return k->n++;
}

/* A class of keys that no name lists: which patterns they match, and so what their values must be. */
typedef struct key_class {
    slm_rx text;
    bool known; /* by a pattern of the group at hand */
    literals l;
} key_class;

static void class_copy(shaping *s, key_class *to, const key_class *from)
{
    *to = (key_class) {from->text, from->known, {0}};
    for (uint32_t i = 0; i < from->l.n; i++)
        literal_add(s, &to->l, from->l.list[i]);
}

static uint32_t classes_of_group(shaping *s, const slm_node *n, key_class *classes, uint32_t n_classes)
{
    slm_compiler *c = s->c;
    for (uint32_t k = 0; k < n_classes; k++)
        classes[k].known = false;
    for (uint32_t i = 0; i < n->n_patterns && !c->b->failed; i++) {
        slm_rx pattern = slm_schema_pattern(c, n->patterns[i].key, n->patterns[i].n_key);
        for (uint32_t k = 0, end = n_classes; k < end && !c->b->failed; k++) {
            slm_rx in = slm_rx_and(c->p, classes[k].text, pattern), out = slm_rx_and(c->p, classes[k].text, slm_rx_not(c->p, pattern));
            bool has_in = slm_rx_is_live(c->p, in), has_out = slm_rx_is_live(c->p, out);
            key_class *to = &classes[k];
            if (!has_in)
                continue;
            if (has_out) {
                if (n_classes >= MAX_CLASSES) {
                    slm_schema_refuse(c, "patternProperties", "too many patterns that overlap");
                    return n_classes;
                }
                to = &classes[n_classes++];
                class_copy(s, to, &classes[k]);
                classes[k].text = out;
            }
            to->text = in;
            to->known = true;
            literal_add(s, &to->l, (int32_t) n->patterns[i].node);
        }
    }
    for (uint32_t k = 0; k < n_classes && n->additional != 0; k++)
        if (!classes[k].known)
            literal_add(s, &classes[k].l, (int32_t) n->additional);
    return n_classes;
}

/* Classes for the keys that are not listed; their texts do not yet leave out the listed ones. */
static void add_classes(shaping *s, const item *facts, slm_object *o)
{
    slm_compiler *c = s->c;
    key_class *classes = slm_budget_alloc(c->b, (MAX_CLASSES + 1) * sizeof *classes);
    uint32_t n = 1;
    if (classes == NULL)
        return;
    classes[0].text = c->p->json_text;
    for (const item *f = facts; f != NULL && !c->b->failed; f = f->next) {
        if (f->kind == GROUP)
            n = classes_of_group(s, slm_node_read(c, f->number), classes, n);
        for (uint32_t k = 0; f->kind == NAMES && k < n; k++)
            classes[k].text = slm_rx_and(c->p, classes[k].text, slm_lang_of(c, (uint32_t) f->literal).str);
    }
    o->classes = slm_budget_alloc(c->b, (n + 1) * sizeof *o->classes);
    for (uint32_t k = 0; k < n; k++) {
        uint32_t value = slm_conjunction_of(c, classes[k].l.list, classes[k].l.n);
        if (o->classes != NULL && value != 0 && slm_rx_is_live(c->p, classes[k].text))
            o->classes[o->n_classes++] = (slm_key_class) {classes[k].text, value};
        free(classes[k].l.list);
        c->b->bytes -= classes[k].l.capacity * sizeof(int32_t);
    }
}

/* Groups in the order of the schema: facts were put before each other. */
static uint32_t groups_of(shaping *s, const item *facts, const slm_node **groups, uint32_t max)
{
    uint32_t n = 0;
    for (const item *f = facts; f != NULL; f = f->next)
        if (f->kind == GROUP && n < max)
            groups[n++] = slm_node_read(s->c, f->number);
    for (uint32_t i = 0; i < n / 2; i++) {
        const slm_node *g = groups[i];
        groups[i] = groups[n - 1 - i];
        groups[n - 1 - i] = g;
    }
    return n;
}

static bool make_object(shaping *s, const item *facts, slm_object *o)
{
    slm_compiler *c = s->c;
    const slm_node *groups[256];
    keys k = {0};
    literals l = {0};
    bool possible = true;
    uint32_t n_groups = groups_of(s, facts, groups, 256);
    *o = (slm_object) {.max = SLM_RX_MANY};
    for (uint32_t g = 0; g < n_groups; g++)
        for (uint32_t i = 0; i < groups[g]->n_props; i++)
            key_add(s, &k, groups[g]->props[i].key, groups[g]->props[i].n_key);
    for (const item *f = facts; f != NULL && !c->b->failed; f = f->next) {
        if (f->kind == REQUIRE || f->kind == FORBID || f->kind == EXTRA) {
            uint32_t at = key_add(s, &k, f->key, f->n_key);
            if (!c->b->failed && f->kind == REQUIRE)
                k.list[at].required = true;
        }
        if (f->kind == AT_LEAST && f->number > o->min)
            o->min = f->number;
        if (f->kind == AT_MOST && f->number < o->max)
            o->max = f->number;
    }
    for (uint32_t i = 0; i < k.n && !c->b->failed; i++) {
        k.list[i].text = escaped(c, k.decoded[i].data, k.decoded[i].length);
        k.list[i].allowed = key_literals(s, facts, k.decoded[i].data, k.decoded[i].length, k.list[i].text, &l);
        k.list[i].value = k.list[i].allowed ? slm_conjunction_of(c, l.list, l.n) : 0;
        k.list[i].allowed = k.list[i].value != 0;
        possible = possible && (k.list[i].allowed || !k.list[i].required);
    }
    o->keys = slm_budget_alloc(c->b, (k.n + 1) * sizeof *o->keys);
    if (o->keys != NULL && k.n > 0)
        memcpy(o->keys, k.list, k.n * sizeof *o->keys);
    o->n_keys = k.n;
    free(k.list);
    free(k.decoded);
    free(l.list);
    c->b->bytes -= k.capacity * sizeof *k.list + k.decoded_capacity * sizeof *k.decoded + l.capacity * sizeof *l.list;
    if (possible && o->min <= o->max)
        add_classes(s, facts, o);
    return possible && o->min <= o->max && !c->b->failed;
}

/* The literals of item `index`; the last index stands for all further ones. */
static uint32_t item_of(shaping *s, const item *facts, uint32_t index, int32_t counted)
{
    literals l = {0};
    uint32_t value;
    for (const item *f = facts; f != NULL; f = f->next) {
        if (f->kind == GROUP) {
            slm_node *n = slm_node_read(s->c, f->number);
            uint32_t node = index < n->prefix.n ? n->prefix.ids[index] : n->rest;
            if (node != 0)
                literal_add(s, &l, (int32_t) node);
        }
        if (f->kind == EXTRA && f->number == index)
            literal_add(s, &l, f->literal);
    }
    if (counted != 0)
        literal_add(s, &l, counted);
    value = slm_conjunction_of(s->c, l.list, l.n);
    free(l.list);
    s->c->b->bytes -= l.capacity * sizeof *l.list;
    return value;
}

static bool make_array(shaping *s, const item *facts, slm_array *a)
{
    slm_compiler *c = s->c;
    const slm_node *contains = NULL;
    *a = (slm_array) {.max = SLM_RX_MANY, .max_counted = SLM_RX_MANY};
    for (const item *f = facts; f != NULL; f = f->next) {
        uint32_t n = f->kind == GROUP ? slm_node_read(c, f->number)->prefix.n : f->kind == EXTRA ? f->number + 1 : 0;
        a->n_items = n > a->n_items ? n : a->n_items;
        if (f->kind == AT_LEAST && f->number > a->min)
            a->min = f->number;
        if (f->kind == AT_MOST && f->number < a->max)
            a->max = f->number;
        a->unique = a->unique || f->kind == UNIQUE;
        if (f->kind == CONTAINS && contains != NULL && contains != c->nodes[f->number])
            return slm_schema_refuse(c, "contains", "more than one at the same place");
        if (f->kind == CONTAINS)
            contains = slm_node_read(c, f->number);
    }
    a->items = slm_budget_alloc(c->b, (a->n_items + 1) * sizeof *a->items);
    if (contains != NULL && contains->min_contains == 0 && contains->max_contains == SLM_RX_MANY)
        contains = NULL;
    if (contains != NULL) {
        a->min_counted = contains->min_contains;
        a->max_counted = contains->max_contains;
        a->counted = slm_budget_alloc(c->b, (a->n_items + 1) * sizeof *a->counted);
        if (a->unique)
            return slm_schema_refuse(c, "contains", "together with uniqueItems");
    }
    for (uint32_t i = 0; i <= a->n_items && !c->b->failed; i++) {
        a->items[i] = item_of(s, facts, i, contains == NULL || a->max_counted == SLM_RX_MANY ? 0 : -(int32_t) contains->contains);
        if (contains != NULL)
            a->counted[i] = item_of(s, facts, i, (int32_t) contains->contains);
    }
    if (a->max < 2)
        a->unique = false;
    return a->min <= a->max && a->min_counted <= a->max_counted && a->min_counted <= a->max && !c->b->failed;
}

static void find_ways(slm_compiler *c, uint32_t value, uint8_t type, shaping *s)
{
    slm_conjunction conj = c->conjunctions[value];
    branch b = {0};
    *s = (shaping) {.c = c, .value = value, .type = type, .constants = SLM_RX_EMPTY};
    s->last = &s->ways;
    for (uint32_t i = conj.n; i-- > 0;)
        b.todo = literal_make(s, c->literals[conj.literals + i], b.todo);
    take_apart(s, b);
}

static void make_shapes(slm_compiler *c, shaping *s)
{
    for (way *w = s->ways; w != NULL && !c->b->failed; w = w->next) {
        slm_shape shape = {.kind = s->type == TYPE_OBJECT ? SHAPE_OBJECT : SHAPE_ARRAY};
        bool possible = s->type == TYPE_OBJECT ? make_object(s, w->facts, &shape.object) : make_array(s, w->facts, &shape.array);
        if (possible && SLM_GROW(c->b, c->m->shapes, c->m->shapes_capacity, (uint64_t) c->m->n_shapes + 1))
            c->m->shapes[c->m->n_shapes++] = shape;
    }
}

/* Finding the ways may expand other conjunctions; the shapes of this one stand together. */
slm_rx slm_schema_shapes(slm_compiler *c, uint32_t value, uint32_t *first, uint32_t *n)
{
    shaping objects, arrays;
    find_ways(c, value, TYPE_OBJECT, &objects);
    find_ways(c, value, TYPE_ARRAY, &arrays);
    *first = c->m->n_shapes;
    make_shapes(c, &objects);
    make_shapes(c, &arrays);
    *n = c->m->n_shapes - *first;
    return slm_rx_or(c->p, objects.constants, arrays.constants);
}
