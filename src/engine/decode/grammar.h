/*
 * Grammars as constraints: what src/engine/grammar says of bytes, said of the tokens of a tokenizer (constraint.h).
 */
#ifndef SLM_DECODE_GRAMMAR_H
#define SLM_DECODE_GRAMMAR_H

#include "engine/decode/constraint.h"
#include "engine/grammar/grammar.h"
#include "engine/text/tokenizer.h"

/* Compiles text [n] for a tokenizer whose model has n_vocab tokens; the tokenizer must outlive the constraint.  The first one for a
 * tokenizer also makes its vocabulary ready, which stays with it.  Status: of slm_grammar_compile, NOMEM. */
slm_status slm_grammar_constraint(slm_tokenizer *tok, uint32_t n_vocab, slm_grammar_kind kind, const char *text, size_t n,
                                  slm_constraint **out, slm_error *err);

#endif
