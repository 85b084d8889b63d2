/*
 * Schema objects: their keywords in all drafts' spellings, and where references lead; see schema.h.
 */
#include <stdio.h>
#include <stdlib.h>

#include "engine/grammar/schema.h"

/* What can be written instead of a keyword that is refused: a schema that is taken, to be pasted. */
static const char *instead_of(const char *keyword)
{
    static const struct {
        const char *keyword, *hint;
    } table[] = {
        {"not", "Say what it may be: {\"enum\": [\"a\", \"b\"]}"},
        {"disallow", "Say what it may be: {\"type\": [\"string\", \"null\"]}"},
        {"extends", "Join schemas by allOf: {\"allOf\": [{\"type\": \"string\"}, {\"maxLength\": 20}]}"},
        {"format", "Give a pattern: {\"type\": \"string\", \"pattern\": \"^[A-Z]{2}[0-9]{4}$\"}"},
        {"multipleOf", "Give fewer digits: {\"type\": \"number\", \"multipleOf\": 0.01}"},
        {"minProperties", "Name the keys: {\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"string\"}}, \"required\": [\"a\"]}"},
        {"patternProperties", "Give one pattern: {\"type\": \"object\", \"patternProperties\": {\"^x_\": {\"type\": \"string\"}}, "
                              "\"additionalProperties\": false}"},
        {"unevaluatedProperties", "Name all keys at one place: {\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"string\"}}, "
                                  "\"additionalProperties\": false}"},
        {"unevaluatedItems", "Say of each place what it may be: {\"type\": \"array\", \"prefixItems\": [{\"type\": \"string\"}], "
                             "\"items\": false}"},
        {"contains", "Say of each place what it may be: {\"type\": \"array\", \"prefixItems\": [{\"const\": \"a\"}], "
                     "\"items\": {\"type\": \"string\"}}"},
        {"uniqueItems", "Let the items be of few values: {\"type\": \"array\", \"items\": {\"enum\": [\"a\", \"b\"]}, "
                        "\"uniqueItems\": true}"},
        {"minItems", "Ask for fewer items: {\"type\": \"array\", \"items\": {\"enum\": [\"a\", \"b\"]}, \"uniqueItems\": true, "
                     "\"minItems\": 2}"},
        {"$schema", "Name a draft that is read: {\"$schema\": \"https://json-schema.org/draft/2020-12/schema\", \"type\": \"string\"}"},
        {"$ref", "Refer to what the schema defines: {\"$defs\": {\"name\": {\"type\": \"string\"}}, \"$ref\": \"#/$defs/name\"}"},
        {"$dynamicRef", "Refer by $ref: {\"$defs\": {\"name\": {\"type\": \"string\"}}, \"$ref\": \"#/$defs/name\"}"},
        {"$recursiveRef", "Refer by $ref: {\"$defs\": {\"name\": {\"type\": \"string\"}}, \"$ref\": \"#/$defs/name\"}"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].keyword, keyword) == 0)
            return table[i].hint;
    return "";
}

static bool unsupported(slm_compiler *c, const char *keyword, const char *message)
{
    if (!c->b->failed) {
        slm_budget_fail(c->b, SLM_UNSUPPORTED, "%s", message);
        slm_hint(&c->b->err, "%s", instead_of(keyword));
    }
    return false;
}

bool slm_schema_refuse(slm_compiler *c, const char *keyword, const char *why)
{
    char message[300];
    snprintf(message, sizeof message, "the schema's \"%s\" cannot be honoured: %s", keyword, why);
    return unsupported(c, keyword, message);
}

static bool invalid(slm_compiler *c, const char *keyword, const char *why)
{
    return slm_budget_fail(c->b, SLM_INVALID, "the schema's \"%s\" %s", keyword, why);
}

uint32_t slm_node_of(slm_compiler *c, const slm_json *json, const slm_json *base)
{
    slm_node *n;
    if (json->node != 0)
        return json->node;
    if (json->type != JSON_OBJECT_ && json->type != JSON_TRUE_ && json->type != JSON_FALSE_)
        return invalid(c, json->key != NULL && json->n_key < 60 ? json->key : "schema", "is no schema (an object, true or false)");
    n = slm_budget_alloc(c->b, sizeof *n);
    if (n == NULL || !SLM_GROW(c->b, c->nodes, c->nodes_capacity, (uint64_t) c->n_nodes + 1) || !slm_budget_step(c->b, 2))
        return 0;
    n->json = json;
    n->base = base;
    c->nodes[c->n_nodes] = n;
    ((slm_json *) json)->node = c->n_nodes;
    return c->n_nodes++;
}

static bool is_true(const slm_json *v)
{
    return v->type == JSON_TRUE_;
}

static void read_nodes(slm_compiler *c, slm_node *n, const slm_json *v, slm_nodes *out)
{
    uint32_t i = 0;
    if (v->type != JSON_ARRAY_ || v->n == 0) {
        invalid(c, v->key, "is no list of schemas");
        return;
    }
    out->ids = slm_budget_alloc(c->b, v->n * sizeof *out->ids);
    if (out->ids == NULL)
        return;
    for (const slm_json *m = v->first; m != NULL; m = m->next)
        out->ids[i++] = slm_node_of(c, m, n->base);
    out->n = i;
}

/* A count: 3, or 3.0 as some write. */
static uint32_t read_count(slm_compiler *c, const slm_json *v, bool at_most)
{
    uint32_t d, count = 0;
    if (v->type != JSON_NUMBER_ || !slm_decimal_parse(c->p, v->text, v->n, &d) || c->p->decimals[d].negative ||
        c->p->decimals[d].n_frac > 0)
        return invalid(c, v->key, "is no count (an integer, 0 or more)");
    for (uint32_t i = 0; i < c->p->decimals[d].n_int; i++) {
        count = count * 10 + (uint32_t) (c->p->decimals[d].digits[i] - '0');
        if (count > 100000000) {
            if (!at_most)
                slm_budget_fail(c->b, SLM_LIMIT, "the schema's \"%s\" is too large to be fulfilled", v->key);
            return SLM_RX_MANY;
        }
    }
    return count;
}

static void read_types(slm_compiler *c, slm_node *n, const slm_json *v)
{
    static const struct {
        const char *name;
        uint8_t bits;
    } names[] = {{"null", TYPE_NULL}, {"boolean", TYPE_FALSE | TYPE_TRUE}, {"number", TYPE_NUMBER}, {"integer", TYPE_NUMBER},
                 {"string", TYPE_STRING}, {"array", TYPE_ARRAY}, {"object", TYPE_OBJECT}};
    bool number = false, integer = false;
    n->types = 0;
    for (const slm_json *m = v->type == JSON_ARRAY_ ? v->first : v; m != NULL; m = v->type == JSON_ARRAY_ ? m->next : NULL) {
        size_t i = 0;
        while (i < 7 && !slm_json_is(m, names[i].name))
            i++;
        if (i == 7) {
            invalid(c, "type", "names a type that JSON does not have");
            return;
        }
        n->types |= names[i].bits;
        number = number || i == 2;
        integer = integer || i == 3;
    }
    n->integer = integer && !number;
}

static slm_prop *read_props(slm_compiler *c, slm_node *n, const slm_json *v, uint32_t *count)
{
    slm_prop *props;
    uint32_t i = 0;
    if (v->type != JSON_OBJECT_)
        return invalid(c, v->key, "is no object of schemas"), NULL;
    props = slm_budget_alloc(c->b, (v->n + 1) * sizeof *props);
    if (props == NULL)
        return NULL;
    for (const slm_json *m = v->first; m != NULL; m = m->next)
        props[i++] = (slm_prop) {m->key, m->n_key, slm_node_of(c, m, n->base), SLM_RX_EMPTY, false};
    *count = i;
    return props;
}

static void read_properties(slm_compiler *c, slm_node *n, const slm_json *v)
{
    n->props = read_props(c, n, v, &n->n_props);
    for (n->prop_room = 16; n->prop_room < 2 * n->n_props;)
        n->prop_room *= 2;
    if (n->props == NULL || n->n_props < 8)
        return;
    n->prop_table = slm_budget_alloc(c->b, n->prop_room * sizeof *n->prop_table);
    for (uint32_t i = 0; n->prop_table != NULL && i < n->n_props; i++) {
        uint32_t h = slm_hash_text(n->props[i].key, n->props[i].n_key) & (n->prop_room - 1);
        while (n->prop_table[h] != 0)
            h = (h + 1) & (n->prop_room - 1);
        n->prop_table[h] = i + 1;
    }
}

const slm_prop *slm_node_prop(const slm_node *n, const char *key, uint32_t n_key)
{
    if (n->prop_table == NULL) {
        for (uint32_t i = 0; i < n->n_props; i++)
            if (n->props[i].n_key == n_key && memcmp(n->props[i].key, key, n_key) == 0)
                return &n->props[i];
        return NULL;
    }
    for (uint32_t h = slm_hash_text(key, n_key) & (n->prop_room - 1); n->prop_table[h] != 0; h = (h + 1) & (n->prop_room - 1)) {
        const slm_prop *p = &n->props[n->prop_table[h] - 1];
        if (p->n_key == n_key && memcmp(p->key, key, n_key) == 0)
            return p;
    }
    return NULL;
}

/* dependentRequired, dependentSchemas and, of old, dependencies: all of them are added up. */
static void read_depends(slm_compiler *c, slm_node *n, const slm_json *v)
{
    uint32_t before = n->n_depends;
    slm_prop *all;
    const slm_json **on;
    if (v->type != JSON_OBJECT_) {
        invalid(c, v->key, "is no object");
        return;
    }
    all = slm_budget_alloc(c->b, (before + v->n + 1) * sizeof *all);
    on = slm_budget_alloc(c->b, (before + v->n + 1) * sizeof *on);
    if (all == NULL || on == NULL)
        return;
    for (uint32_t i = 0; i < before; i++) {
        all[i] = n->depends[i];
        on[i] = n->depends_on[i];
    }
    for (const slm_json *m = v->first; m != NULL; m = m->next) {
        bool list = m->type == JSON_ARRAY_ || m->type == JSON_STRING_;
        all[n->n_depends] = (slm_prop) {m->key, m->n_key, list ? 0 : slm_node_of(c, m, n->base), SLM_RX_EMPTY, false};
        on[n->n_depends++] = m;
    }
    n->depends = all;
    n->depends_on = on;
}

static void read_items(slm_compiler *c, slm_node *n, const slm_json *v)
{
    n->has_items = true;
    if (v->type == JSON_ARRAY_) {
        if (v->n > 0)
            read_nodes(c, n, v, &n->prefix);
    } else {
        n->rest = slm_node_of(c, v, n->base);
    }
}

static bool word_is(const slm_json *m, const char *word)
{
    size_t n = strlen(word);
    return m->n_key == n && memcmp(m->key, word, n) == 0;
}

/* Keywords whose value is one schema. */
static bool read_single(slm_compiler *c, slm_node *n, const slm_json *m)
{
    const struct {
        const char *word;
        uint32_t *to;
    } words[] = {{"additionalProperties", &n->additional}, {"propertyNames", &n->names}, {"contains", &n->contains}, {"not", &n->no},
                 {"if", &n->condition}, {"then", &n->then}, {"else", &n->otherwise}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (word_is(m, words[i].word)) {
            *words[i].to = slm_node_of(c, m, n->base);
            return true;
        }
    return false;
}

static bool read_counts(slm_compiler *c, slm_node *n, const slm_json *m)
{
    const struct {
        const char *word;
        uint32_t *to;
        bool at_most;
    } words[] = {{"minLength", &n->min_length, false}, {"maxLength", &n->max_length, true}, {"minItems", &n->min_items, false},
                 {"maxItems", &n->max_items, true}, {"minProperties", &n->min_props, false}, {"maxProperties", &n->max_props, true},
                 {"minContains", &n->min_contains, false}, {"maxContains", &n->max_contains, true}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (word_is(m, words[i].word)) {
            *words[i].to = read_count(c, m, words[i].at_most);
            return true;
        }
    return false;
}

static bool read_number(slm_compiler *c, slm_node *n, const slm_json *m)
{
    const struct {
        const char *word;
        const slm_json **to;
    } words[] = {{"minimum", &n->minimum}, {"maximum", &n->maximum}, {"exclusiveMinimum", &n->above}, {"exclusiveMaximum", &n->below},
                 {"multipleOf", &n->multiple}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (word_is(m, words[i].word)) {
            *words[i].to = m;
            if (m->type != JSON_NUMBER_ && !((i == 2 || i == 3) && (m->type == JSON_TRUE_ || m->type == JSON_FALSE_)))
                invalid(c, words[i].word, "is no number");
            return true;
        }
    return false;
}

static void read_keyword(slm_compiler *c, slm_node *n, const slm_json *m)
{
    static const char *const refused[] = {"unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef", "extends",
                                          "disallow"};
    if (word_is(m, "type"))
        read_types(c, n, m);
    else if (word_is(m, "properties"))
        read_properties(c, n, m);
    else if (word_is(m, "patternProperties"))
        n->patterns = read_props(c, n, m, &n->n_patterns);
    else if (word_is(m, "required"))
        n->required = m;
    else if (word_is(m, "enum") || word_is(m, "const")) {
        n->enumeration = m;
        n->constant = m->n_key == 5;
        if (!n->constant && m->type != JSON_ARRAY_)
            invalid(c, "enum", "is no list");
    } else if (word_is(m, "pattern") || word_is(m, "format")) {
        *(m->key[0] == 'p' ? &n->pattern : &n->format) = m;
        if (m->type != JSON_STRING_)
            invalid(c, m->key, "is no string");
    } else if (word_is(m, "items") || word_is(m, "prefixItems"))
        read_items(c, n, m);
    else if (word_is(m, "uniqueItems"))
        n->unique = is_true(m);
    else if (word_is(m, "allOf") || word_is(m, "anyOf") || word_is(m, "oneOf"))
        read_nodes(c, n, m, m->key[1] == 'l' ? &n->all : m->key[1] == 'n' && m->key[0] == 'a' ? &n->any : &n->one);
    else if (word_is(m, "dependentRequired") || word_is(m, "dependentSchemas") || word_is(m, "dependencies"))
        read_depends(c, n, m);
    else if (word_is(m, "$ref") && m->type == JSON_STRING_)
        n->ref = slm_node_resolve(c, n->base, m->text, m->n);
    else if (!read_single(c, n, m) && !read_counts(c, n, m) && !read_number(c, n, m))
        for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
            if (word_is(m, refused[i]) && m->type != JSON_TRUE_ && !(m->type == JSON_OBJECT_ && m->n == 0))
                slm_schema_refuse(c, refused[i], "what has been evaluated elsewhere is not followed");
}

/* exclusiveMinimum: true beside minimum, as draft 4 writes; items as a list with additionalItems. */
static void settle(slm_compiler *c, slm_node *n)
{
    const slm_json *more = slm_json_member(n->json, "additionalItems");
    if (n->above != NULL && n->above->type != JSON_NUMBER_) {
        n->above = is_true(n->above) ? n->minimum : NULL;
        n->minimum = n->above != NULL ? NULL : n->minimum;
    }
    if (n->below != NULL && n->below->type != JSON_NUMBER_) {
        n->below = is_true(n->below) ? n->maximum : NULL;
        n->maximum = n->below != NULL ? NULL : n->maximum;
    }
    if (more != NULL && n->prefix.n > 0 && n->rest == 0)
        n->rest = slm_node_of(c, more, n->base);
    if (n->condition == 0)
        n->then = n->otherwise = 0;
    if (n->required != NULL && n->required->type != JSON_ARRAY_)
        invalid(c, "required", "is no list of keys");
    for (const slm_json *m = n->required != NULL ? n->required->first : NULL; m != NULL; m = m->next)
        if (m->type != JSON_STRING_)
            invalid(c, "required", "is no list of keys");
}

slm_node *slm_node_read(slm_compiler *c, uint32_t id)
{
    static slm_node nothing = {.parsed = true, .boolean = 0};
    slm_node *n = id == 0 || id >= c->n_nodes ? &nothing : c->nodes[id];
    const slm_json *ref;
    if (n->parsed)
        return n;
    n->parsed = true;
    n->types = TYPE_ALL;
    n->max_length = n->max_items = n->max_props = n->max_contains = SLM_RX_MANY;
    n->min_contains = 1;
    n->boolean = n->json->type == JSON_OBJECT_ ? -1 : is_true(n->json);
    if (n->boolean >= 0)
        return n;
    ref = slm_json_member(n->json, c->old_ids ? "id" : "$id");
    if (ref != NULL && ref->type == JSON_STRING_ && ref->n > 0 && ref->text[0] != '#')
        n->base = n->json;
    ref = slm_json_member(n->json, "$ref");
    if (ref != NULL && c->old_refs && ref->type == JSON_STRING_) {
        n->ref = slm_node_resolve(c, n->base, ref->text, ref->n);
        return n;
    }
    for (const slm_json *m = n->json->first; m != NULL && !c->b->failed; m = m->next)
        read_keyword(c, n, m);
    settle(c, n);
    return n;
}

/* ---- references */

/* One step of a JSON pointer: %xx, ~0 and ~1 are decoded into out. */
static uint32_t pointer_token(const char *text, uint32_t n, char *out, uint32_t max)
{
    uint32_t n_out = 0;
    for (uint32_t i = 0; i < n && n_out < max; i++) {
        char ch = text[i];
        if (ch == '%' && i + 2 < n) {
            char hex[3] = {text[i + 1], text[i + 2], 0};
            ch = (char) strtol(hex, NULL, 16);
            i += 2;
        }
        if (ch == '~' && i + 1 < n && (text[i + 1] == '0' || text[i + 1] == '1'))
            ch = text[++i] == '0' ? '~' : '/';
        out[n_out++] = ch;
    }
    return n_out;
}

static const slm_json *pointer(slm_compiler *c, const slm_json *at, const slm_json **base, const char *text, uint32_t n)
{
    while (at != NULL && n > 0) {
        char token[512];
        uint32_t length = 1, n_token, index = 0;
        const slm_json *id;
        while (length < n && text[length] != '/')
            length++;
        n_token = pointer_token(text + 1, length - 1, token, sizeof token);
        text += length;
        n -= length;
        if (at->type == JSON_OBJECT_) {
            const slm_json *m = at->first;
            while (m != NULL && !(m->n_key == n_token && memcmp(m->key, token, n_token) == 0))
                m = m->next;
            at = m;
        } else if (at->type == JSON_ARRAY_) {
            for (uint32_t i = 0; i < n_token && index < 100000; i++)
                index = token[i] >= '0' && token[i] <= '9' ? index * 10 + (uint32_t) (token[i] - '0') : UINT32_MAX;
            at = at->first;
            while (at != NULL && index-- > 0)
                at = at->next;
        } else {
            at = NULL;
        }
        id = at == NULL ? NULL : slm_json_member(at, c->old_ids ? "id" : "$id");
        if (id != NULL && id->type == JSON_STRING_ && n > 0 && id->n > 0 && id->text[0] != '#')
            *base = at;
        if (!slm_budget_step(c->b, 1))
            return NULL;
    }
    return at;
}

/* ref as seen from base, without a fragment; memory of the budget. */
static char *uri_join(slm_compiler *c, const char *base, const char *ref, uint32_t n)
{
    size_t keep = 0, n_base = strlen(base);
    const char *scheme = strstr(base, "://");
    char *out = slm_budget_alloc(c->b, n_base + n + 2);
    bool absolute = false;
    if (out == NULL)
        return NULL;
    for (uint32_t i = 0; i < n && ref[i] != '/' && ref[i] != '#' && ref[i] != '?'; i++)
        absolute = absolute || ref[i] == ':';
    if (!absolute && n == 0)
        keep = n_base;
    else if (!absolute && ref[0] == '/' && scheme != NULL)
        keep = strcspn(scheme + 3, "/") + (size_t) (scheme + 3 - base);
    else if (!absolute)
        for (size_t i = 0; i < n_base; i++)
            keep = base[i] == '/' ? i + 1 : keep;
    memcpy(out, base, keep);
    memcpy(out + keep, ref, n);
    return out;
}

static bool add_resource(slm_compiler *c, char *uri, const slm_json *json, const slm_json *base)
{
    if (uri == NULL || !SLM_GROW(c->b, c->resources, c->resources_capacity, (uint64_t) c->n_resources + 1))
        return false;
    c->resources[c->n_resources++] = (slm_resource) {uri, json, base};
    return true;
}

/* 1: the value of the keyword is a schema or a list of schemas; 2: an object of schemas; 0: it holds none. */
static int holds_schemas(const slm_json *m)
{
    static const char *const words[] = {"items", "prefixItems", "additionalItems", "additionalProperties", "propertyNames", "contains",
                                        "not", "if", "then", "else", "allOf", "anyOf", "oneOf", "unevaluatedItems", "unevaluatedProperties",
                                        "properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"};
    for (int i = 0; i < 21; i++)
        if (word_is(m, words[i]))
            return i < 15 ? 1 : 2;
    return 0;
}

/* Everything with an $id, id, $anchor or $dynamicAnchor below json. */
static void collect(slm_compiler *c, const slm_json *json, const slm_json *base, const char *uri, bool schema)
{
    static const char *const anchors[] = {"$anchor", "$dynamicAnchor"};
    for (int i = 0; schema && i < 2; i++) {
        const slm_json *id = slm_json_member(json, i == 0 ? "$id" : "id");
        uint32_t n = 0;
        if (id == NULL || id->type != JSON_STRING_)
            continue;
        while (n < id->n && id->text[n] != '#')
            n++;
        if (n > 0) {
            uri = uri_join(c, uri, id->text, n);
            base = json;
        }
        if (uri == NULL || !add_resource(c, n < id->n && id->n > n + 1 ? uri_join(c, "", id->text, id->n) : (char *) uri, json, base))
            return;
        if (n < id->n && n == 0) { /* id: "#name" is an anchor of old */
            char *whole = slm_budget_alloc(c->b, strlen(uri) + id->n + 1);
            if (whole == NULL)
                return;
            memcpy(whole, uri, strlen(uri));
            memcpy(whole + strlen(uri), id->text, id->n);
            add_resource(c, whole, json, base);
        }
    }
    for (int i = 0; schema && i < 2; i++) {
        const slm_json *anchor = slm_json_member(json, anchors[i]);
        char *whole;
        if (anchor == NULL || anchor->type != JSON_STRING_)
            continue;
        whole = slm_budget_alloc(c->b, strlen(uri) + anchor->n + 2);
        if (whole == NULL)
            return;
        memcpy(whole, uri, strlen(uri));
        whole[strlen(uri)] = '#';
        memcpy(whole + strlen(uri) + 1, anchor->text, anchor->n);
        add_resource(c, whole, json, base);
    }
    if (!slm_budget_step(c->b, 1))
        return;
    for (const slm_json *m = json->first; m != NULL; m = m->next) {
        int holds = schema ? holds_schemas(m) : 1; /* of a list or an object of schemas all are */
        if ((m->type == JSON_OBJECT_ || m->type == JSON_ARRAY_) && holds != 0)
            collect(c, m, base, uri, m->type == JSON_OBJECT_ && holds == 1);
    }
}

static const char *uri_of(const slm_compiler *c, const slm_json *base)
{
    for (uint32_t i = 0; i < c->n_resources; i++)
        if (c->resources[i].json == base && c->resources[i].base == base)
            return c->resources[i].uri;
    return "";
}

static const slm_resource *find_resource(const slm_compiler *c, const char *uri)
{
    for (uint32_t i = 0; i < c->n_resources; i++)
        if (strcmp(c->resources[i].uri, uri) == 0)
            return &c->resources[i];
    return NULL;
}

uint32_t slm_node_resolve(slm_compiler *c, const slm_json *base, const char *ref, uint32_t n)
{
    uint32_t n_uri = 0;
    const slm_json *at = base, *found;
    while (n_uri < n && ref[n_uri] != '#')
        n_uri++;
    if (n_uri > 0 || (n > 1 && ref[1] != '/')) {
        const slm_resource *r;
        char *uri;
        if (!c->collected) {
            c->collected = true;
            collect(c, c->root, c->root, "", true);
        }
        uri = uri_join(c, uri_of(c, base), ref, n_uri);
        if (uri == NULL)
            return 0;
        if (n > n_uri + 1 && ref[n_uri + 1] != '/') { /* an anchor */
            char *whole = slm_budget_alloc(c->b, strlen(uri) + n + 1);
            if (whole == NULL)
                return 0;
            memcpy(whole, uri, strlen(uri));
            memcpy(whole + strlen(uri), ref + n_uri, n - n_uri);
            uri = whole;
            n = n_uri;
        }
        r = find_resource(c, uri);
        at = r == NULL ? NULL : r->json;
        base = r == NULL ? base : r->base;
    }
    found = at == NULL || n <= n_uri + 1 ? at : pointer(c, at, &base, ref + n_uri + 1, n - n_uri - 1);
    if (found == NULL && n_uri == 0 && n > 1 && ref[1] == '/') {
        base = c->root;
        found = pointer(c, c->root, &base, ref + 1, n - 1);
    }
    if (found == NULL) {
        char message[300];
        snprintf(message, sizeof message, "the schema's \"$ref\": \"%.*s\" leads out of the schema or to nothing",
                 (int) (n < 150 ? n : 150), ref);
        return unsupported(c, "$ref", message);
    }
    return slm_node_of(c, found, base);
}
