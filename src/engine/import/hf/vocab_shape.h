/*
 * The steps of a tokenizer.json as whole shapes: what a text goes through before and after the model's own cut.
 *
 * A shape is taken when every part of it, each with all of its settings, is known here; anything else is refused with the name of the part
 * or of the setting.  Never "one that I know is among them".
 */
#ifndef SLM_HF_VOCAB_SHAPE_H
#define SLM_HF_VOCAB_SHAPE_H

#include <jansson.h>

#include "engine/base/status.h"
#include "engine/text/tokenizer.h"

typedef struct slm_hf_shape {
    slm_text_step steps[SLM_VOCAB_MAX_STEPS + 1];
    size_t n_steps;
    void *owned[SLM_VOCAB_MAX_STEPS + 1]; /* decoded maps of characters, freed by slm_hf_shape_free */
    size_t n_owned;
    /* WordPiece */
    bool bert, lowercase, strip_accents, keep_cjk;
    /* SentencePiece's BPE and Unigram */
    bool space_prefix, prefix_first, split_white, split_marks;
    bool prepends;   /* the space prefix is a step of the normalizer */
    char pre[32];    /* byte-level BPE: the rule's name */
    slm_tok_frame frame;
    uint32_t second_type; /* of the second text of a pair and what follows it; UINT32_MAX: parts differ otherwise */
} slm_hf_shape;

/* Normalizer and pre-tokenizer for a kind of model. */
slm_status slm_hf_shape_read(json_t *tokenizer, slm_tok_kind kind, slm_hf_shape *out, slm_error *err);
/* The post-processor: what it puts around one text and two. */
slm_status slm_hf_shape_frame(json_t *tokenizer, slm_hf_shape *out, slm_error *err);
void slm_hf_shape_free(slm_hf_shape *shape);

/* UNSUPPORTED, naming the first setting of a part that is not among keys (ends with NULL). */
slm_status slm_hf_only(json_t *part, const char *what, const char *const *keys, slm_error *err);

#endif
