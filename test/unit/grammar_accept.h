/*
 * Does a grammar accept a text?  For the tests of src/engine/grammar: by bytes, without a vocabulary.
 */
#ifndef SLM_TEST_GRAMMAR_ACCEPT_H
#define SLM_TEST_GRAMMAR_ACCEPT_H

#include <string.h>

#include "engine/grammar/grammar.h"
#include "slm_test.h"

/* 1: accepted, 0: refused, -1: the grammar is refused (err). */
static inline int grammar_accepts(slm_grammar_kind kind, const char *grammar, const char *text, slm_error *err)
{
    slm_grammar *g = NULL;
    uint32_t state = 0;
    int result = -1;
    if (slm_grammar_compile(NULL, kind, grammar, strlen(grammar), &g, err) == SLM_OK && slm_grammar_start(g, &state, err) == SLM_OK)
        result = slm_grammar_advance(g, state, text, strlen(text), &state, err) == SLM_OK && slm_grammar_accepts(g, state);
    slm_grammar_free(g);
    return result;
}

/* good and bad: texts that must be accepted and refused, each list ended by NULL. */
typedef struct grammar_case {
    const char *grammar;
    const char *good[8], *bad[8];
} grammar_case;

static inline void grammar_run(slm_grammar_kind kind, const grammar_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        slm_error err = {0};
        for (int k = 0; k < 8 && cases[i].good[k] != NULL; k++)
            CHECK(grammar_accepts(kind, cases[i].grammar, cases[i].good[k], &err) == 1, "%s refuses %s: %s", cases[i].grammar,
                  cases[i].good[k], err.message);
        for (int k = 0; k < 8 && cases[i].bad[k] != NULL; k++)
            CHECK(grammar_accepts(kind, cases[i].grammar, cases[i].bad[k], &err) == 0, "%s accepts %s: %s", cases[i].grammar,
                  cases[i].bad[k], err.message);
    }
}

/* A schema that a hint gives is one that is taken. */
static inline void grammar_check_hint(slm_grammar_kind kind, const char *grammar, const slm_error *refusal)
{
    const char *form = strchr(refusal->hint, '{');
    slm_grammar *g = NULL;
    slm_error err = {0};
    CHECK(form != NULL || kind != SLM_GRAMMAR_JSON_SCHEMA || refusal->status != SLM_UNSUPPORTED ||
              strncmp(refusal->message, "the schema's", 12) != 0, "%.80s: no hint", grammar);
    if (form != NULL)
        CHECK(slm_grammar_compile(NULL, kind, form, strlen(form), &g, &err) == SLM_OK, "%s: %s", form, err.message);
    slm_grammar_free(g);
}

/* Grammars that must be refused, with a word of the message. */
typedef struct grammar_refusal {
    const char *grammar;
    slm_status status;
    const char *word;
} grammar_refusal;

static inline void grammar_run_refusals(slm_grammar_kind kind, const grammar_refusal *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        slm_error err = {0};
        slm_grammar *g = NULL;
        slm_status status = slm_grammar_compile(NULL, kind, cases[i].grammar, strlen(cases[i].grammar), &g, &err);
        CHECK(status == cases[i].status && strstr(err.message, cases[i].word) != NULL, "%.80s: status %d, %s", cases[i].grammar, status,
              err.message);
        slm_grammar_free(g);
        grammar_check_hint(kind, cases[i].grammar, &err);
    }
}

#endif
