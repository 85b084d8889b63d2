/*
 * JSON Schema on its way to values of the machine; private to schema*.c.
 *
 * A schema object is a node, read when it is first needed.  What may stand at one place is a conjunction of literals: nodes that must hold
 * (+node) and nodes that must not (-node).  Every conjunction is a value of the machine (same number), made once, and expanded into
 *
 *   its scalars   null, booleans, numbers, strings: a Boolean formula over the nodes is the same formula over languages (schema_lang.c)
 *   its shapes    objects and arrays: the formula in disjunctive form, one shape for each way to satisfy it (schema_shape.c)
 *
 * whose parts are conjunctions again.  So allOf, anyOf, oneOf, not, if and $ref are exact, recursive ones too: there are finitely many sets
 * of nodes.  What has no such form is refused by the name of its keyword.
 */
#ifndef SLM_GRAMMAR_SCHEMA_H
#define SLM_GRAMMAR_SCHEMA_H

#include "engine/grammar/json.h"
#include "engine/grammar/machine.h"

/* Types as bits; integer is number with a condition. */
enum { TYPE_NULL = 1, TYPE_FALSE = 2, TYPE_TRUE = 4, TYPE_NUMBER = 8, TYPE_STRING = 16, TYPE_ARRAY = 32, TYPE_OBJECT = 64, TYPE_ALL = 127 };

typedef struct slm_prop {
    const char *key; /* decoded */
    uint32_t n_key, node;
    slm_rx pattern; /* of patternProperties, once compiled */
    bool compiled;
} slm_prop;

typedef struct slm_nodes {
    uint32_t *ids, n;
} slm_nodes;

/* What a node says of scalars. not_num: the numbers' complement (not simply NOT num: 1 and 1.0 are the same number). */
typedef struct slm_lang {
    uint8_t words; /* TYPE_NULL, TYPE_FALSE, TYPE_TRUE */
    slm_rx num, not_num, str; /* ANY: all numbers, all strings (as written between the quotes) */
} slm_lang;

typedef struct slm_node {
    const slm_json *json, *base; /* base: the root of the resource that it is part of */
    bool parsed, lang_known, lang_busy;
    signed char boolean; /* -1: an object */
    uint8_t types;
    bool integer, unique, has_items;
    const slm_json *enumeration; /* the array of enum, or const */
    bool constant;
    const slm_json *minimum, *maximum, *above, *below, *multiple, *pattern, *format;
    uint32_t min_length, max_length, min_items, max_items, min_contains, max_contains, min_props, max_props;
    slm_nodes prefix, all, any, one;
    uint32_t rest, contains, additional, names, no, condition, then, otherwise, ref; /* nodes, 0: none */
    slm_prop *props, *patterns, *depends; /* depends: key -> node; or, node 0, the required array in depends_on */
    const slm_json **depends_on;
    uint32_t n_props, n_patterns, n_depends;
    uint32_t *prop_table, prop_room; /* by hash, index + 1 */
    const slm_json *required;
    slm_lang lang;
} slm_node;

typedef struct slm_conjunction {
    uint32_t literals, n; /* in literals */
    enum { CONJ_NEW, CONJ_BUSY, CONJ_DONE } stage;
    bool has_constants; /* objects or arrays given by enum or const are among its scalars */
} slm_conjunction;

typedef struct slm_format {
    const char *name;
    slm_rx rx;
} slm_format;

typedef struct slm_resource {
    char *uri; /* absolute as far as the document says, without fragment; or "#anchor" behind it */
    const slm_json *json, *base;
} slm_resource;

typedef struct slm_compiler {
    slm_machine *m;
    slm_budget *b;
    slm_rx_pool *p;
    const slm_json *root;
    bool bounded; /* numbers of an answer */
    bool old_refs, old_ids, collected; /* drafts up to 7: $ref stands alone; draft 4: id */
    slm_node **nodes; /* from 1 */
    uint32_t n_nodes, nodes_capacity;
    slm_conjunction *conjunctions; /* by value */
    uint32_t n_conjunctions, conjunctions_capacity;
    int32_t *literals;
    uint32_t n_literals, literals_capacity;
    slm_ids_table by_literals;
    slm_format *formats;
    uint32_t n_formats, formats_capacity;
    slm_resource *resources;
    uint32_t n_resources, resources_capacity;
    slm_rx integer, plain, number; /* syntax of numbers: whole, without exponent, all */
    slm_rx maybe_integer; /* what an integer may look like: a number that is none looks otherwise */
    slm_prop *patterns; /* compiled ones by text */
    uint32_t n_patterns, patterns_capacity;
    uint32_t depth;
} slm_compiler;

/* schema_read.c */
uint32_t slm_node_of(slm_compiler *c, const slm_json *json, const slm_json *base);
slm_node *slm_node_read(slm_compiler *c, uint32_t id);
uint32_t slm_node_resolve(slm_compiler *c, const slm_json *base, const char *ref, uint32_t n);
const slm_prop *slm_node_prop(const slm_node *n, const char *key, uint32_t n_key);
/* UNSUPPORTED, with the name of the keyword. */
bool slm_schema_refuse(slm_compiler *c, const char *keyword, const char *why);

/* schema_lang.c */
slm_lang slm_lang_of(slm_compiler *c, uint32_t node);
slm_lang slm_lang_not(slm_compiler *c, slm_lang l);
slm_lang slm_lang_and(slm_compiler *c, slm_lang a, slm_lang b);
/* As one lexeme. */
slm_rx slm_lang_lexeme(slm_compiler *c, slm_lang l);
slm_rx slm_schema_pattern(slm_compiler *c, const char *text, uint32_t n);
/* EMPTY for a format that asserts nothing here (unknown names are annotations). */
slm_rx slm_schema_format(slm_compiler *c, const slm_json *name);
bool slm_schema_syntax(slm_compiler *c);
/* Numbers as they need not be written: 1.0, 1.50, -0, 1e2. */
slm_rx slm_second_spellings(slm_compiler *c);

/* schema_check.c: does a given value satisfy a node? */
bool slm_schema_valid(slm_compiler *c, uint32_t node, const slm_json *v);

/* schema_shape.c */
/* The shapes of a value, one behind the other in the machine; returns the objects and arrays that enum and const give. */
slm_rx slm_schema_shapes(slm_compiler *c, uint32_t value, uint32_t *first, uint32_t *n);
bool slm_literal_valid(slm_compiler *c, int32_t literal, const slm_json *v);

/* schema.c */
uint32_t slm_conjunction_of(slm_compiler *c, const int32_t *literals, uint32_t n);
void slm_conjunction_expand(slm_compiler *c, uint32_t value);
/* May a value of this type (TYPE_OBJECT, TYPE_ARRAY, or TYPE_ALL) match? True where that is not known yet. */
bool slm_conjunction_may(slm_compiler *c, uint32_t value, uint8_t type);



#endif
