/*
 * Scripts: what letters a text is written in, and which of them a vocabulary knows.
 *
 * A vocabulary knows a script when one in 500 of its tokens has two letters of it or more: pieces of words, which a model had to see often
 * to have; single letters are in every vocabulary of bytes or characters.  Of Han a letter is a word: eight tokens of one count as one.
 * Measured on the vocabularies of test/golden/test_tokenizers.c.
 */
#ifndef SLM_TEXT_SCRIPT_H
#define SLM_TEXT_SCRIPT_H

#include <stdint.h>

#include "engine/slm.h"
#include "engine/text/tokenizer.h"

enum { SLM_SCRIPTS = 27 };

/* The script of a letter, or -1. */
int slm_script_of(uint32_t code);
/* Letters of each script in a text, counts[SLM_SCRIPTS]; what is no UTF-8 is passed over. */
void slm_script_count(const char *text, size_t length, uint32_t *counts);
/* The scripts that a vocabulary knows, as bits. */
uint64_t slm_script_known(slm_tokenizer *tok);

#endif
