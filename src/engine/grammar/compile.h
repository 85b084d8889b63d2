/*
 * The readers of grammars: each fills a machine and returns its root value, or 0 with the failure in the machine's budget.
 */
#ifndef SLM_GRAMMAR_COMPILE_H
#define SLM_GRAMMAR_COMPILE_H

#include "engine/grammar/machine.h"

/* bounded: numbers as SLM_GRAMMAR_JSON_ANSWER has them. */
uint32_t slm_schema_compile(slm_machine *m, const char *text, size_t n, bool bounded);
uint32_t slm_regex_compile(slm_machine *m, const char *text, size_t n);
uint32_t slm_gbnf_compile(slm_machine *m, const char *text, size_t n);

#endif
