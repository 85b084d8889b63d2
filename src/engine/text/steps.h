/*
 * Steps: what a tokenizer does to a text before it cuts it, in the order of its file.
 *
 *   text ──step──► text ──step──► text, and for each byte where its character ended in the caller's text
 *
 * Steps are those of the tokenizers library: Unicode's normal forms, Lowercase, StripAccents, Replace of a string, of runs of spaces,
 * Prepend, Strip, and Precompiled, SentencePiece's map of characters.  They are written into the tokenizer's blob as they stand:
 *
 *   | n entries {op, from at, from bytes, to at, to bytes} u32 | bytes |
 *
 * The blob is hostile: slm_steps_check looks at every entry before it is used, the map of characters is walked with bounds.
 */
#ifndef SLM_TEXT_STEPS_H
#define SLM_TEXT_STEPS_H

#include "engine/text/internal.h"

typedef struct slm_step_entry {
    uint32_t op, from_at, from_n, to_at, to_n; /* offsets from the beginning of the section */
} slm_step_entry;

/* Bytes of the section for these steps; and the section, written to out. */
size_t slm_steps_bytes(const slm_text_step *steps, size_t n);
void slm_steps_write(const slm_text_step *steps, size_t n, char *out);
/* Is a section of so many bytes sound? */
bool slm_steps_check(const char *section, size_t bytes, uint32_t n);
/* FORMAT or UNSUPPORTED when a step of a source cannot be taken. */
slm_status slm_steps_accept(const slm_text_step *steps, size_t n, slm_error *err);

/* Runs all steps over text[n], whose first byte is at `base` of the caller's text.  *out is the text itself where nothing changes, else
 * scratch of the tokenizer, valid until the next call; tok->origins is set for slm_tok_emit (NULL: unchanged). */
slm_status slm_steps_run(slm_tokenizer *tok, const char *text, size_t n, size_t base, const char **out, size_t *out_n, slm_error *err);
void slm_steps_free(slm_tokenizer *tok);

/* White space as Rust's char::is_whitespace has it. */
bool slm_text_is_space(uint32_t c);

#endif
