/*
 * Chat formats: compiled in, recognized from the file's template, never interpreted (DESIGN D7).
 *
 * A format turns messages into token ids: its control tokens come from here, texts between them are tokenized with control-token
 * parsing off.
 */
#ifndef SLM_TEXT_CHAT_H
#define SLM_TEXT_CHAT_H

#include "engine/slm.h"
#include "engine/text/tokenizer.h"

/* The format of a template: "chatml", "llama3", "phi3", "gemma", ... ; NULL when it is none that we know. */
const char *slm_chat_recognize(const char *template_text);
/* The i-th format's name, NULL after the last. */
const char *slm_chat_format_name(int i);

/* A prompt as token ids. */
typedef struct slm_prompt {
    slm_ids ids;
    size_t n_prefix;          /* the first n_prefix ids come from the template and SLM_SEG_PREFIX segments alone */
    size_t n_public;          /* of them, so many depend on nothing but the template and public text */
    size_t scored_begin, scored_end; /* ids of the SLM_SEG_SCORED segments (contiguous) */
    size_t row_begin, row_end; /* ids of the last user or scored segment's text: what may be cut to fit (maybe inside a character) */
    bool answer_space;           /* the answer begins with a space that belongs to the encoding (SentencePiece), not to its text */
    size_t pair_begin;           /* encoders: first id of the second text of a pair, 0 = there is none */
    uint8_t *marks;              /* [ids.n] what a token marks (marked.h); NULL: none */
} slm_prompt;

/* chat: segments in their turns, then the opening of the assistant's turn unless the last segment's role is assistant (its text then
 * continues the answer).  Formats add their default system message when the segments have none and the format has one.
 * Not chat: BOS where the model has one, then the texts one after the other. Encoders: CLS text SEP (and a pair's second text SEP).
 * public_bytes: as in slm_request. */
slm_status slm_prompt_build(slm_tokenizer *tok, bool chat, const slm_segment *segments, size_t n_segments, size_t public_bytes,
                            const volatile int *stop, slm_prompt *out, slm_error *err);
/* Is slm_prompt.answer_space set for prompts that open the assistant's turn? Then labels and the like are encoded with `begin`. */
bool slm_chat_answer_space(slm_tokenizer *tok);
/* The token that ends an answer: what the chat format puts behind an assistant's text; EOS without a chat, or where the format has none.
 * -1: none. */
slm_status slm_chat_answer_end(slm_tokenizer *tok, bool chat, int32_t *end, slm_error *err);
void slm_prompt_free(slm_prompt *prompt);

#endif
