/*
 * What a tagger says of a text: its tokens' outputs become words with a label, and words entities.
 *
 *   text ─► tokens with their places ─► words ─ the label of each one's first token ─► runs of words of one kind ─► entities
 *
 * A word is what stands between white space, without the punctuation at its ends, which is words of its own; for WordPiece it is the word
 * that the vocabulary knows (a piece that goes on belongs to it).  Places are bytes of the text, at beginnings of characters.
 */
#ifndef SLM_TEXT_TAGS_H
#define SLM_TEXT_TAGS_H

#include "engine/slm.h"
#include "engine/text/tokenizer.h"

/* As slm_tag_words. */
slm_status slm_tags_read(slm_tokenizer *tok, const char *text, size_t length, uint32_t n_labels, const float *outputs, size_t n_outputs,
                         const volatile int *stop, slm_tagged **words, size_t *n_words, slm_error *err);
/* The entities of words in order of their places, at most as many: out [n]; labels as in slm_model_info. Returns their number. */
size_t slm_tags_join(const char *labels, size_t labels_bytes, uint32_t n_labels, const slm_tagged *words, size_t n, slm_entity *out);

#endif
