/*
 * The tokenizer of a Hugging Face directory: tokenizer.json, or vocab.txt (WordPiece), to the blob of text/tokenizer.h.
 *
 * Kinds: WordPiece with the BertNormalizer; byte-level BPE, its pre-tokenizer known by its regular expression; BPE over characters with
 * byte fallback, as converted from SentencePiece; Unigram.  What is not recognized is SLM_UNSUPPORTED (vocab_shape.h).
 */
#ifndef SLM_HF_VOCAB_H
#define SLM_HF_VOCAB_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/arch/hparams.h"
#include "engine/base/status.h"
#include "engine/slm.h"

/* How a model has its texts read, where it is not as its tokenizer says. */
typedef struct slm_hf_reading {
    bool lowers;        /* lowercased before, which the tokenizer must do by itself */
    bool bare;          /* by tokenizer.json alone, and nothing is put around them */
    const char *folder; /* where the tokenizer is, with a slash; "": in the directory itself */
} slm_hf_reading;

/* Builds the blob (malloc'ed) for a model with these numbers: ids that the tokenizer does not name become unused tokens.  model: its
 * config.json. */
slm_status slm_hf_vocab_build(int dir, json_t *model, const slm_hparams *hp, slm_hf_reading reading, const slm_import_options *options,
                              const volatile int *stop, void **blob, size_t *bytes, slm_error *err);
/* tokenizer.json of a folder of the directory; *out NULL when it is missing and optional. json_decref it. */
slm_status slm_hf_tokenizer_load(int dir, const char *folder, bool optional, json_t **out, slm_error *err);

#endif
