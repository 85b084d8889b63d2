/*
 * The door of the room: compiling with limits, and errors; see grammar.h.
 */
#include "engine/grammar/grammar.h"

#include <stdlib.h>
#include <string.h>

#include "engine/grammar/compile.h"

/* Compiling: 16 MiB, and steps of some 10 ns, for a text of up to 64 kB. */
enum { TEXT = 64 << 10, COMPILE_BYTES = 16 << 20, COMPILE_STEPS = 300000, USE_BYTES = 64 << 20, USE_STEPS = 20000000, MAX_TEXT = 16 << 20 };

struct slm_grammar {
    slm_machine m;
    slm_grammar_kind kind;
    char *text; /* kept to begin anew when memory is full */
    size_t n;
    uint32_t root;
};

static slm_status failure(const slm_grammar *g, slm_error *err)
{
    if (err != NULL)
        *err = g->m.budget.err;
    return g->m.budget.err.status;
}

static slm_status build(slm_grammar *g, const slm_token_vocab *vocab, slm_error *err)
{
    size_t parts = g->n / TEXT + 1;
    bool ready = slm_machine_init(&g->m, vocab, COMPILE_BYTES * parts, (uint64_t) COMPILE_STEPS * parts);
    if (ready && (g->kind == SLM_GRAMMAR_JSON_SCHEMA || g->kind == SLM_GRAMMAR_JSON_ANSWER))
        g->root = slm_schema_compile(&g->m, g->text, g->n, g->kind == SLM_GRAMMAR_JSON_ANSWER);
    else if (ready && g->kind == SLM_GRAMMAR_REGEX)
        g->root = slm_regex_compile(&g->m, g->text, g->n);
    else if (ready)
        g->root = slm_gbnf_compile(&g->m, g->text, g->n);
    if (g->m.budget.failed)
        return failure(g, err);
    g->m.budget.max_bytes += USE_BYTES;
    g->m.budget.steps = 0;
    g->m.budget.max_steps = USE_STEPS;
    return SLM_OK;
}

slm_status slm_grammar_compile(const slm_token_vocab *vocab, slm_grammar_kind kind, const char *text, size_t n, slm_grammar **out,
                               slm_error *err)
{
    slm_grammar *g = calloc(1, sizeof *g);
    slm_status status;
    if (n > MAX_TEXT) {
        free(g);
        return slm_fail(err, SLM_LIMIT, "the grammar has %zu bytes; at most %d are read", n, MAX_TEXT);
    }
    if (g == NULL || (g->text = malloc(n + 1)) == NULL) {
        free(g);
        return slm_fail(err, SLM_NOMEM, "out of memory for a grammar");
    }
    memcpy(g->text, text, n);
    g->text[n] = 0;
    g->n = n;
    g->kind = kind;
    status = build(g, vocab, err);
    if (status == SLM_OK)
        *out = g;
    else
        slm_grammar_free(g);
    return status;
}

void slm_grammar_free(slm_grammar *g)
{
    if (g == NULL)
        return;
    slm_machine_destroy(&g->m);
    free(g->text);
    free(g);
}

slm_status slm_grammar_start(slm_grammar *g, uint32_t *state, slm_error *err)
{
    if (g->m.start == 0 && !g->m.budget.failed)
        g->m.start = slm_machine_start(&g->m, g->root);
    if (g->m.start == 0)
        return g->m.budget.failed ? failure(g, err) : slm_fail(err, SLM_INTERNAL, "a grammar that was compiled matches nothing");
    *state = g->m.start;
    return SLM_OK;
}

slm_status slm_grammar_advance(slm_grammar *g, uint32_t state, const char *bytes, size_t n, uint32_t *to, slm_error *err)
{
    uint32_t next;
    g->m.budget.steps = 0;
    next = slm_machine_advance(&g->m, state, bytes, n);
    if (next == 0)
        return g->m.budget.failed ? failure(g, err) : slm_fail(err, SLM_INVALID, "the text does not fit the grammar");
    *to = next;
    return SLM_OK;
}

slm_status slm_grammar_mask(slm_grammar *g, uint32_t state, const int32_t **ids, uint32_t *n, const uint64_t **bits, slm_error *err)
{
    const slm_mask *mask;
    g->m.budget.steps = 0;
    mask = slm_machine_mask(&g->m, state);
    if (mask == NULL)
        return g->m.budget.failed ? failure(g, err) : slm_fail(err, SLM_INTERNAL, "no such state of a grammar");
    *ids = mask->ids;
    *n = mask->ids != NULL ? mask->n_ids : 0;
    *bits = mask->bits;
    return SLM_OK;
}

uint32_t slm_grammar_forced(slm_grammar *g, uint32_t state, char *out, uint32_t max)
{
    g->m.budget.steps = 0;
    return slm_machine_forced(&g->m, state, out, max);
}

bool slm_grammar_accepts(const slm_grammar *g, uint32_t state)
{
    return slm_machine_accepts(&g->m, state);
}

bool slm_grammar_is_done(const slm_grammar *g, uint32_t state)
{
    return slm_machine_is_done(&g->m, state);
}

size_t slm_grammar_trim(slm_grammar *g, size_t max)
{
    const slm_token_vocab *vocab = g->m.vocab;
    if (g->m.budget.bytes <= max && !g->m.budget.failed)
        return g->m.budget.bytes;
    slm_machine_destroy(&g->m);
    build(g, vocab, NULL);
    return g->m.budget.bytes;
}
