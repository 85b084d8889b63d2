/*
 * A text as words, and labels in front of it, for models that find spans (GLiNER).
 *
 *   before | mark label mark label ... text mark | word word word ... | after
 *
 * A word is a run of letters, digits and underscores, with hyphens inside, or any other character that is no white space: the gliner
 * package's whitespace splitter, \w+(?:[-_]\w+)*|\S as Python reads it (combining marks are no letters).  Each is tokenized alone, as the
 * tokenizers library does with texts that are split already.  What gives no token (a character of no width) is no word here; in the
 * package it is one, and all words behind it have the vector of their neighbour.
 */
#ifndef SLM_TEXT_WORDS_H
#define SLM_TEXT_WORDS_H

#include "engine/text/tokenizer.h"

typedef struct slm_word {
    size_t begin, end; /* bytes of the text */
} slm_word;

/* The first word at or behind `from`; false: there is none. text is valid UTF-8. */
bool slm_word_next(const char *text, size_t length, size_t from, slm_word *out);

/* How a model reads them. */
typedef struct slm_wording {
    int32_t label_mark, text_mark;
    bool behind;        /* a label's row is the one behind its mark */
    uint32_t max_words; /* of a text */
    uint32_t max_tokens; /* of all */
} slm_wording;

typedef struct slm_worded {
    slm_ids ids;
    uint32_t n_words, n_labels;
    uint32_t *words;  /* [n_words, 2] the first of a word's ids, and how many it has */
    uint32_t *labels; /* [n_labels] */
    slm_word *places; /* [n_words] */
} slm_worded;

/* The ids of labels and text; *cut: some words had no room and are left out.  The last word keeps as many tokens as fit when it is the
 * only one.  INVALID: no word; LIMIT: the labels leave no room; CANCELLED.  Free with slm_worded_free. */
slm_status slm_worded_build(slm_tokenizer *tok, const slm_wording *how, const char *const *labels, size_t n_labels, const char *text,
                            size_t length, const volatile int *stop, slm_worded *out, bool *cut, slm_error *err);
void slm_worded_free(slm_worded *marked);

/* Windows of a text that slm_worded_build takes whole, each beginning with the last quarter of the words of the one before: *offsets is
 * malloc'ed, [2 * *n] bytes; none for a text without words. */
slm_status slm_worded_windows(slm_tokenizer *tok, const slm_wording *how, const char *const *labels, size_t n_labels, const char *text,
                              size_t length, const volatile int *stop, size_t **offsets, size_t *n, slm_error *err);

#endif
