/*
 * From a schema to a machine: conjunctions as values, which of them can match, and the last checks; see schema.h.
 */
#include "engine/grammar/compile.h"
#include "engine/grammar/schema.h"

#include <stdlib.h>

static int by_literal(const void *a, const void *b)
{
    int32_t x = *(const int32_t *) a, y = *(const int32_t *) b;
    return (abs(x) > abs(y)) - (abs(x) < abs(y));
}

/* Leaves out what is always true and repeats; false where the conjunction can never hold. */
static bool normalize(slm_compiler *c, int32_t *l, uint32_t *n)
{
    uint32_t kept = 0;
    if (*n > 1)
        qsort(l, *n, sizeof *l, by_literal);
    for (uint32_t i = 0; i < *n; i++) {
        const slm_node *node = c->nodes[abs(l[i])];
        slm_json_type type = node->json->type;
        bool always = type == JSON_TRUE_ || (type == JSON_OBJECT_ && node->json->n == 0);
        if (always == (l[i] > 0) && (always || type == JSON_FALSE_))
            continue;
        if (always || type == JSON_FALSE_ || (kept > 0 && l[kept - 1] == -l[i]))
            return false;
        if (kept == 0 || l[kept - 1] != l[i])
            l[kept++] = l[i];
    }
    *n = kept;
    return true;
}

static bool table_grow(slm_compiler *c)
{
    slm_ids_table *t = &c->by_literals;
    uint32_t capacity = t->capacity == 0 ? 128 : t->capacity * 2, room = 0, *slots = NULL;
    if (!slm_budget_grow(c->b, &slots, &room, sizeof *slots, capacity))
        return false;
    free(t->slots);
    c->b->bytes -= t->capacity * sizeof *slots;
    t->slots = slots;
    t->capacity = capacity;
    for (uint32_t i = 1; i < c->n_conjunctions; i++) {
        const slm_conjunction *k = &c->conjunctions[i];
        uint32_t h = slm_hash_words((const uint32_t *) c->literals + k->literals, k->n, 5) & (capacity - 1);
        while (slots[h] != 0)
            h = (h + 1) & (capacity - 1);
        slots[h] = i;
    }
    return true;
}

uint32_t slm_conjunction_of(slm_compiler *c, const int32_t *literals, uint32_t n)
{
    slm_ids_table *t = &c->by_literals;
    slm_machine *m = c->m;
    int32_t *own;
    uint32_t h;
    if (c->b->failed || !SLM_GROW(c->b, c->literals, c->literals_capacity, (uint64_t) c->n_literals + n + 1) ||
        (2 * c->n_conjunctions >= t->capacity && !table_grow(c)) || !slm_budget_step(c->b, 1 + n))
        return 0;
    own = c->literals + c->n_literals;
    if (n > 0)
        memcpy(own, literals, n * sizeof *own);
    if (!normalize(c, own, &n))
        return 0;
    for (h = slm_hash_words((uint32_t *) own, n, 5) & (t->capacity - 1); t->slots[h] != 0; h = (h + 1) & (t->capacity - 1)) {
        const slm_conjunction *k = &c->conjunctions[t->slots[h]];
        if (k->n == n && memcmp(c->literals + k->literals, own, n * sizeof *own) == 0)
            return t->slots[h];
    }
    if (!SLM_GROW(c->b, c->conjunctions, c->conjunctions_capacity, (uint64_t) c->n_conjunctions + 1) ||
        !SLM_GROW(c->b, m->values, m->values_capacity, (uint64_t) c->n_conjunctions + 1))
        return 0;
    c->conjunctions[c->n_conjunctions] = (slm_conjunction) {c->n_literals, n, CONJ_NEW, false};
    c->n_literals += n;
    t->slots[h] = c->n_conjunctions;
    m->n_values = c->n_conjunctions + 1;
    return c->n_conjunctions++;
}

void slm_conjunction_expand(slm_compiler *c, uint32_t value)
{
    slm_conjunction conj = c->conjunctions[value];
    slm_lang l = {7, SLM_RX_ANY, SLM_RX_EMPTY, SLM_RX_ANY};
    slm_rx scalar;
    uint32_t first, n;
    if (conj.stage != CONJ_NEW || c->b->failed)
        return;
    c->conjunctions[value].stage = CONJ_BUSY;
    for (uint32_t i = 0; i < conj.n; i++) {
        int32_t literal = c->literals[conj.literals + i];
        slm_lang one = slm_lang_of(c, (uint32_t) abs(literal));
        l = slm_lang_and(c, l, literal > 0 ? one : slm_lang_not(c, one));
    }
    scalar = slm_lang_lexeme(c, l);
    scalar = slm_rx_or(c->p, scalar, slm_schema_shapes(c, value, &first, &n));
    if (c->b->failed)
        return;
    c->m->values[value] = (slm_value) {scalar, first, n, false};
    c->conjunctions[value].stage = CONJ_DONE;
}

/* Can a shape match, as far as a look of some depth says? */
static bool shape_may(slm_compiler *c, const slm_shape *shape)
{
    if (shape->kind == SHAPE_OBJECT) {
        for (uint32_t i = 0; i < shape->object.n_keys; i++)
            if (shape->object.keys[i].required && !slm_conjunction_may(c, shape->object.keys[i].value, TYPE_ALL))
                return false;
        return true;
    }
    for (uint32_t i = 0; i < shape->array.min && i <= shape->array.n_items; i++)
        if (!slm_conjunction_may(c, shape->array.items[i], TYPE_ALL))
            return false;
    return true;
}

bool slm_conjunction_may(slm_compiler *c, uint32_t value, uint8_t type)
{
    bool may = false;
    slm_value v;
    if (value == 0 || c->b->failed)
        return false;
    if (c->depth > 30 || c->conjunctions[value].stage == CONJ_BUSY)
        return true;
    c->depth++;
    slm_conjunction_expand(c, value);
    v = c->m->values[value];
    if (c->conjunctions[value].has_constants)
        may = true;
    else if (type == TYPE_ALL && v.scalar != SLM_RX_EMPTY)
        may = slm_rx_is_live(c->p, v.scalar);
    for (uint32_t i = v.shapes; i < v.shapes + v.n_shapes && !may && !c->b->failed; i++) {
        slm_shape shape = c->m->shapes[i];
        if (type == TYPE_ALL || (type == TYPE_OBJECT) == (shape.kind == SHAPE_OBJECT))
            may = shape_may(c, &shape);
    }
    c->depth--;
    return may;
}

/* ---- what can match: the least set of values that is closed under "a shape of it can be built from values that can" */

static bool array_is_live(const slm_machine *m, const slm_array *a)
{
    uint32_t first_dead = 0;
    bool counted = a->min_counted == 0;
    while (first_dead <= a->n_items && m->values[a->items[first_dead]].live)
        first_dead++;
    if (a->counted != NULL)
        for (uint32_t i = 0; i <= a->n_items && (i <= first_dead); i++)
            counted = counted || m->values[a->counted[i]].live;
    if (!counted || first_dead > a->n_items || first_dead >= a->min)
        return counted && (first_dead > a->n_items || a->min_counted <= a->max_counted);
    return a->counted != NULL && m->values[a->counted[first_dead]].live && a->max_counted >= a->min; /* all of them are counted */
}

static bool shape_is_live(const slm_machine *m, const slm_shape *shape)
{
    const slm_object *o = &shape->object;
    uint32_t required = 0, allowed = 0;
    bool more = false;
    if (shape->kind == SHAPE_ARRAY)
        return array_is_live(m, &shape->array);
    for (uint32_t i = 0; i < o->n_keys; i++) {
        bool live = o->keys[i].allowed && m->values[o->keys[i].value].live;
        if (o->keys[i].required && !live)
            return false;
        required += o->keys[i].required;
        allowed += live;
    }
    for (uint32_t i = 0; i < o->n_classes && !more; i++)
        more = m->values[o->classes[i].value].live;
    return required <= o->max && (more || allowed >= o->min);
}

static void find_live(slm_compiler *c)
{
    slm_machine *m = c->m;
    bool again = true;
    for (uint32_t i = 1; i < m->n_values && !c->b->failed; i++)
        m->values[i].live = m->values[i].scalar != SLM_RX_EMPTY && slm_rx_is_live(c->p, m->values[i].scalar);
    while (again && !c->b->failed) {
        again = false;
        for (uint32_t i = m->n_values; i-- > 1 && slm_budget_step(c->b, 1);)
            for (uint32_t k = 0; k < m->values[i].n_shapes && !m->values[i].live; k++)
                if (shape_is_live(m, &m->shapes[m->values[i].shapes + k]))
                    again = m->values[i].live = true;
    }
}

/* ---- the last touches */

/* Order by text, by insertion of runs: keys are few, and qsort takes no argument. */
static void sort_keys(const slm_key *keys, uint32_t *order, uint32_t *room, uint32_t n)
{
    uint32_t half = n / 2, i = 0, k = half, to = 0;
    if (n < 2)
        return;
    sort_keys(keys, order, room, half);
    sort_keys(keys, order + half, room, n - half);
    memcpy(room, order, n * sizeof *order);
    while (i < half || k < n) {
        bool left = k == n || (i < half && slm_text_compare(&keys[room[i]].text, &keys[room[k]].text) <= 0);
        order[to++] = left ? room[i++] : room[k++];
    }
}

static slm_rx all_keys(slm_compiler *c, const slm_object *o)
{
    slm_text *texts = slm_budget_alloc(c->b, (o->n_keys + 1) * sizeof *texts);
    slm_rx *then = slm_budget_alloc(c->b, (o->n_keys + 1) * sizeof *then);
    if (texts == NULL || then == NULL)
        return SLM_RX_EMPTY;
    for (uint32_t i = 0; i < o->n_keys; i++) {
        texts[i] = o->keys[o->sorted[i]].text;
        then[i] = SLM_RX_EPS;
    }
    return slm_rx_trie(c->p, texts, then, o->n_keys);
}

static void finish_object(slm_compiler *c, slm_object *o)
{
    slm_budget *b = c->b;
    uint32_t *room = slm_budget_alloc(b, (o->n_keys + 1) * sizeof *room), n = 0, supply = 0;
    slm_rx others, all = SLM_RX_EMPTY;
    o->sorted = slm_budget_alloc(b, (o->n_keys + 1) * sizeof *o->sorted);
    o->required_from = slm_budget_alloc(b, (o->n_keys + 1) * sizeof *o->required_from);
    o->allowed_from = slm_budget_alloc(b, (o->n_keys + 1) * sizeof *o->allowed_from);
    if (room == NULL || o->sorted == NULL || o->required_from == NULL || o->allowed_from == NULL || !slm_budget_step(b, o->n_keys / 2))
        return;
    for (uint32_t i = o->n_keys; i-- > 0;) {
        o->sorted[i] = i;
        o->keys[i].allowed = o->keys[i].allowed && c->m->values[o->keys[i].value].live;
        o->required_from[i] = o->required_from[i + 1] + o->keys[i].required;
        o->allowed_from[i] = o->allowed_from[i + 1] + o->keys[i].allowed;
    }
    sort_keys(o->keys, o->sorted, room, o->n_keys);
    for (uint32_t i = 0; i < o->n_classes; i++)
        if (c->m->values[o->classes[i].value].live)
            o->classes[n++] = o->classes[i];
    o->n_classes = n;
    if (n == 0)
        return;
    others = o->n_keys == 0 ? SLM_RX_ANY : slm_rx_not(c->p, all_keys(c, o));
    for (uint32_t i = 0; i < n; i++) {
        o->classes[i].text = slm_rx_and(c->p, o->classes[i].text, others);
        all = slm_rx_or(c->p, all, o->classes[i].text);
    }
    o->distinct = o->min > 1 && o->min > o->required_from[0];
    o->few = o->distinct && slm_few_texts(c->m, all);
    if (o->min > o->allowed_from[0]) {
        supply = slm_count_texts(c->m, all, o->min);
        if (supply < o->min)
            slm_schema_refuse(c, "minProperties", "more keys than there are texts for them");
    }
}

static void finish_array(slm_compiler *c, slm_array *a)
{
    const slm_value *values = c->m->values;
    slm_rx all;
    for (uint32_t i = 0; i <= a->n_items; i++)
        if (!values[a->items[i]].live && (a->counted == NULL || !values[a->counted[i]].live)) {
            a->max = i < a->max ? i : a->max;
            break;
        }
    if (a->counted != NULL && a->n_items > 0)
        slm_schema_refuse(c, "contains", "together with prefixItems");
    if (!a->unique || a->max < 2) {
        a->unique = false;
        return;
    }
    for (uint32_t i = 0; i <= a->n_items; i++)
        if (values[a->items[i]].n_shapes > 0 || values[a->items[i]].scalar != values[a->items[0]].scalar) {
            slm_schema_refuse(c, "uniqueItems", values[a->items[i]].n_shapes > 0 ? "the items may be objects or arrays"
                                                                                 : "the items have several schemas");
            return;
        }
    all = slm_rx_and(c->p, values[a->items[0]].scalar, slm_rx_not(c->p, slm_second_spellings(c)));
    a->distinct = all;
    if (!slm_rx_is_live(c->p, all)) {
        a->max = 0;
        return;
    }
    a->few = slm_few_texts(c->m, all);
    if (a->min > 1 && slm_count_texts(c->m, all, a->min) < a->min)
        slm_schema_refuse(c, "minItems", "more different items than there are values");
}

/* Shapes that cannot match leave; what is left is made ready. */
static void finish(slm_compiler *c)
{
    slm_machine *m = c->m;
    for (uint32_t i = 1; i < m->n_values && !c->b->failed; i++) {
        slm_value *v = &m->values[i];
        uint32_t kept = 0;
        for (uint32_t k = 0; k < v->n_shapes && v->live && slm_budget_step(c->b, 1); k++) {
            slm_shape *shape = &m->shapes[v->shapes + k];
            if (!shape_is_live(m, shape))
                continue;
            if (shape->kind == SHAPE_OBJECT)
                finish_object(c, &shape->object);
            else
                finish_array(c, &shape->array);
            m->shapes[v->shapes + kept++] = *shape;
        }
        v->n_shapes = kept;
    }
}

static void compiler_free(slm_compiler *c)
{
    free(c->nodes);
    free(c->conjunctions);
    free(c->literals);
    free(c->by_literals.slots);
    free(c->formats);
    free(c->resources);
    free(c->patterns);
    c->b->bytes -= c->nodes_capacity * sizeof *c->nodes + c->conjunctions_capacity * sizeof *c->conjunctions +
                   c->literals_capacity * sizeof *c->literals + c->by_literals.capacity * sizeof *c->by_literals.slots +
                   c->formats_capacity * sizeof *c->formats + c->resources_capacity * sizeof *c->resources +
                   c->patterns_capacity * sizeof *c->patterns;
}

static void drafts(slm_compiler *c)
{
    const slm_json *schema = slm_json_member(c->root, "$schema");
    char text[200] = "";
    if (schema == NULL || schema->type != JSON_STRING_)
        return;
    memcpy(text, schema->text, schema->n < sizeof text - 1 ? schema->n : sizeof text - 1);
    c->old_ids = strstr(text, "draft-04") != NULL || strstr(text, "draft-03") != NULL;
    c->old_refs = strstr(text, "draft-0") != NULL;
    if (strstr(text, "draft-03") != NULL)
        slm_schema_refuse(c, "$schema", "draft 3 is not read");
    if (strstr(text, "json-schema.org/") == NULL) /* whose vocabularies may mean anything */
        slm_schema_refuse(c, "$schema", "a metaschema of one's own is not read");
}

uint32_t slm_schema_compile(slm_machine *m, const char *text, size_t n, bool bounded)
{
    slm_compiler c = {.m = m, .b = &m->budget, .p = &m->rx, .n_nodes = 1, .n_conjunctions = 1, .bounded = bounded};
    uint32_t root = 0;
    int32_t literal;
    c.root = slm_json_read(&m->budget, text, n);
    if (c.root != NULL)
        drafts(&c);
    if (c.root != NULL && slm_schema_syntax(&c) && SLM_GROW(c.b, c.nodes, c.nodes_capacity, 16) &&
        SLM_GROW(c.b, c.conjunctions, c.conjunctions_capacity, 16) && SLM_GROW(c.b, m->values, m->values_capacity, 16)) {
        literal = (int32_t) slm_node_of(&c, c.root, c.root);
        root = slm_conjunction_of(&c, &literal, 1);
        for (uint32_t i = 1; i < c.n_conjunctions && !c.b->failed; i++)
            slm_conjunction_expand(&c, i);
        find_live(&c);
        finish(&c);
        if (!c.b->failed && (root == 0 || !m->values[root].live))
            slm_budget_fail(c.b, SLM_INVALID, "the schema contradicts itself: no value satisfies it");
    }
    compiler_free(&c);
    return m->budget.failed ? 0 : root;
}
