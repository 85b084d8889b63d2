/*
 * Does a value that is given, by enum or const, satisfy a schema?  The plain definition of every keyword, for trees.
 */
#include <stdlib.h>

#include "engine/grammar/schema.h"

static bool matches(slm_compiler *c, slm_rx rx, const char *text, uint32_t n)
{
    char *out = NULL;
    uint32_t length = 0, capacity = 0;
    bool yes = slm_json_escape(c->b, text, n, &out, &length, &capacity) && slm_rx_matches(c->p, rx, out, length);
    free(out);
    c->b->bytes -= capacity;
    return yes;
}

static bool scalar_valid(slm_compiler *c, uint32_t node, const slm_json *v)
{
    slm_lang l = slm_lang_of(c, node);
    if (v->type <= JSON_TRUE_)
        return l.words >> v->type & 1;
    if (v->type == JSON_STRING_)
        return matches(c, l.str, v->text, v->n);
    return slm_rx_matches(c->p, l.num, v->text, v->n);
}

static const slm_json *member(const slm_json *object, const char *key, uint32_t n)
{
    for (const slm_json *m = object->first; m != NULL; m = m->next)
        if (m->n_key == n && memcmp(m->key, key, n) == 0)
            return m;
    return NULL;
}

static bool has_all(const slm_json *v, const slm_json *required)
{
    if (required->type == JSON_STRING_)
        return member(v, required->text, required->n) != NULL;
    for (const slm_json *r = required->first; r != NULL; r = r->next)
        if (member(v, r->text, r->n) == NULL)
            return false;
    return true;
}

static bool object_valid(slm_compiler *c, slm_node *n, const slm_json *v)
{
    if (v->n < n->min_props || v->n > n->max_props || (n->required != NULL && !has_all(v, n->required)))
        return false;
    for (const slm_json *m = v->first; m != NULL; m = m->next) {
        const slm_prop *p = slm_node_prop(n, m->key, m->n_key);
        bool known = p != NULL;
        if (p != NULL && !slm_schema_valid(c, p->node, m))
            return false;
        for (uint32_t i = 0; i < n->n_patterns; i++)
            if (matches(c, slm_schema_pattern(c, n->patterns[i].key, n->patterns[i].n_key), m->key, m->n_key)) {
                known = true;
                if (!slm_schema_valid(c, n->patterns[i].node, m))
                    return false;
            }
        if (!known && n->additional != 0 && !slm_schema_valid(c, n->additional, m))
            return false;
        if (n->names != 0 && !matches(c, slm_lang_of(c, n->names).str, m->key, m->n_key))
            return false;
    }
    for (uint32_t i = 0; i < n->n_depends; i++)
        if (member(v, n->depends[i].key, n->depends[i].n_key) != NULL &&
            !(n->depends[i].node != 0 ? slm_schema_valid(c, n->depends[i].node, v) : has_all(v, n->depends_on[i])))
            return false;
    return true;
}

static bool array_valid(slm_compiler *c, slm_node *n, const slm_json *v)
{
    uint32_t i = 0, counted = 0;
    if (v->n < n->min_items || v->n > n->max_items)
        return false;
    for (const slm_json *m = v->first; m != NULL; m = m->next, i++) {
        uint32_t node = i < n->prefix.n ? n->prefix.ids[i] : n->rest;
        if (node != 0 && !slm_schema_valid(c, node, m))
            return false;
        if (n->contains != 0 && slm_schema_valid(c, n->contains, m))
            counted++;
        for (const slm_json *o = m->next; n->unique && o != NULL; o = o->next)
            if (slm_json_equal(c->p, m, o))
                return false;
    }
    return n->contains == 0 || (counted >= n->min_contains && counted <= n->max_contains);
}

static bool in_enumeration(slm_compiler *c, const slm_node *n, const slm_json *v)
{
    if (n->enumeration == NULL)
        return true;
    if (n->constant)
        return slm_json_equal(c->p, n->enumeration, v);
    for (const slm_json *m = n->enumeration->first; m != NULL; m = m->next)
        if (slm_json_equal(c->p, m, v))
            return true;
    return false;
}

bool slm_schema_valid(slm_compiler *c, uint32_t node, const slm_json *v)
{
    slm_node *n = slm_node_read(c, node);
    uint32_t count = 0;
    bool valid = true;
    if (n->boolean >= 0 || c->b->failed || !slm_budget_step(c->b, 1))
        return n->boolean == 1;
    if (v->type < JSON_ARRAY_)
        return scalar_valid(c, node, v);
    if (c->depth > 300)
        return slm_budget_fail(c->b, SLM_LIMIT, "the schema's references are nested deeper than 300");
    if (!(n->types & (v->type == JSON_ARRAY_ ? TYPE_ARRAY : TYPE_OBJECT)) || !in_enumeration(c, n, v))
        return false;
    c->depth++;
    valid = v->type == JSON_ARRAY_ ? array_valid(c, n, v) : object_valid(c, n, v);
    for (uint32_t i = 0; valid && i < n->all.n; i++)
        valid = slm_schema_valid(c, n->all.ids[i], v);
    for (uint32_t i = 0; valid && count == 0 && i < n->any.n; i++)
        count += slm_schema_valid(c, n->any.ids[i], v);
    valid = valid && (n->any.n == 0 || count > 0);
    count = 0;
    for (uint32_t i = 0; valid && i < n->one.n; i++)
        count += slm_schema_valid(c, n->one.ids[i], v);
    valid = valid && (n->one.n == 0 || count == 1) && (n->no == 0 || !slm_schema_valid(c, n->no, v)) &&
            (n->ref == 0 || slm_schema_valid(c, n->ref, v));
    if (valid && n->condition != 0) {
        uint32_t branch = slm_schema_valid(c, n->condition, v) ? n->then : n->otherwise;
        valid = branch == 0 || slm_schema_valid(c, branch, v);
    }
    c->depth--;
    return valid;
}

bool slm_literal_valid(slm_compiler *c, int32_t literal, const slm_json *v)
{
    return slm_schema_valid(c, (uint32_t) abs(literal), v) == (literal > 0);
}
