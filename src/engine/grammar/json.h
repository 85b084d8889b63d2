/*
 * A JSON text as a tree that forgets nothing a schema may depend on: numbers stay as they are written, members in their order, and a key
 * that comes twice is refused.
 */
#ifndef SLM_GRAMMAR_JSON_H
#define SLM_GRAMMAR_JSON_H

#include "engine/grammar/rx.h"

typedef enum slm_json_type { JSON_NULL_, JSON_FALSE_, JSON_TRUE_, JSON_NUMBER_, JSON_STRING_, JSON_ARRAY_, JSON_OBJECT_ } slm_json_type;

typedef struct slm_json {
    slm_json_type type;
    uint32_t n;           /* bytes of text, or members */
    const char *text;     /* number as written; string decoded, UTF-8, may hold NUL */
    struct slm_json *first, *next; /* members, in order; next: the sibling */
    const char *key;      /* of a member of an object, decoded */
    uint32_t n_key;
    uint32_t node;        /* for the reader's own use, 0 at first */
} slm_json;

/* NULL after a failure: INVALID names the place. Memory belongs to the budget. */
slm_json *slm_json_read(slm_budget *b, const char *text, size_t n);
/* The member of an object, NULL where there is none. */
slm_json *slm_json_member(const slm_json *object, const char *key);
/* Equal as JSON values: numbers by value, objects whatever their order. */
bool slm_json_equal(slm_rx_pool *p, const slm_json *a, const slm_json *b);
/* Appends the compact text of a value; strings as slm_json_escape writes them, numbers as they were written. */
bool slm_json_write(slm_budget *b, const slm_json *v, char **out, uint32_t *n, uint32_t *capacity);

static inline bool slm_json_is(const slm_json *v, const char *text)
{
    return v->type == JSON_STRING_ && v->n == strlen(text) && memcmp(v->text, text, v->n) == 0;
}

#endif
