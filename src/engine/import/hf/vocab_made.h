/*
 * Directories without tokenizer.json: the document that transformers builds of what is there instead, in the form of that file.
 *
 *   tekken.json | vocab.json + merges.txt | a SentencePiece .model | ranks of tiktoken
 *        └── model, normalizer, pre_tokenizer (a reader each) ── added_tokens, post_processor (here) ──► what vocab.c reads
 *
 * Which class reads the directory decides which file it is, and what it assumes: a row of vocab_made.c each.  Rule of the readers: what
 * the class makes of a file is reproduced or refused by name; nothing that a file says is taken for a size before it was compared with
 * the bytes that are there.
 */
#ifndef SLM_HF_VOCAB_MADE_H
#define SLM_HF_VOCAB_MADE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/base/status.h"

#define SLM_HF_MAX_VOCAB_BYTES (128u << 20) /* of a file that holds a vocabulary */

typedef struct slm_hf_class slm_hf_class;

typedef struct slm_hf_made {
    int dir;
    const slm_hf_class *class;
    const char *file;     /* that the vocabulary is in */
    json_t *config;       /* tokenizer_config.json, borrowed; what the class assumes is put into it */
    json_t *tokenizer;    /* the document */
    json_t *added;        /* tokens of the file that are looked for in texts: [{"content": ..., "special": ...}] */
    bool yields;          /* added gives way to lists of such tokens in other files */
    bool raw;             /* added tokens are looked for in the text as it is, whatever they say */
    const volatile int *stop;
} slm_hf_made;

/* *tokenizer NULL: none of these files is there that this model's class reads.  config is tokenizer_config.json, completed here, and set
 * where it was NULL; model is config.json.  *file: a name for messages, static. */
slm_status slm_hf_vocab_make(int dir, json_t *model, json_t **config, const volatile int *stop, json_t **tokenizer, const char **file,
                             slm_error *err);

/* A member of an object or a list, by a new reference; NULL, which the library returns without memory, is NOMEM. */
slm_status slm_hf_put(json_t *object, const char *key, json_t *value, slm_error *err);
slm_status slm_hf_append(json_t *list, json_t *value, slm_error *err);
/* {"type": type}, to be filled. */
json_t *slm_hf_part(const char *type);
/* A token that the file itself wants to have looked for. */
slm_status slm_hf_made_add(slm_hf_made *m, const char *content, bool special, slm_error *err);
/* Where the class says nothing of a special token ("bos_token", ...): what the file says. */
slm_status slm_hf_made_name(slm_hf_made *m, const char *key, const char *text, slm_error *err);
/* The text of a special token of tokenizer_config.json and of what the class assumes, or NULL. */
const char *slm_hf_made_text(const slm_hf_made *m, const char *key);
const char *slm_hf_made_class(const slm_hf_made *m);
/* Byte-level BPE: [NFC,] pre-tokenizer with the pattern, or NULL for the one of its own. */
slm_status slm_hf_byte_level(slm_hf_made *m, bool nfc, const char *pattern, bool prefix_space, slm_error *err);

/* ---- readers: each puts "model", and what a text goes through before, into the document ---- */
slm_status slm_hf_read_tekken(slm_hf_made *m, slm_error *err);    /* vocab_tekken.c */
slm_status slm_hf_read_merges(slm_hf_made *m, slm_error *err);    /* vocab_merges.c */
slm_status slm_hf_read_tiktoken(slm_hf_made *m, slm_error *err);  /* vocab_tiktoken.c */
slm_status slm_hf_read_spm(slm_hf_made *m, slm_error *err);       /* vocab_spm.c */

#endif
