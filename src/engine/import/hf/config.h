/*
 * config.json of the transformers library as metadata of a model family.
 *
 * The keys of configuration classes (hidden_size, num_attention_heads, ...) are translated to those that model/family.h asks for; ranges
 * are checked there.  Defaults of missing keys are those of the library's classes.  What changes a result and is not understood
 * (another activation, an unknown RoPE scaling, a quantized checkpoint) is SLM_UNSUPPORTED, never ignored.
 */
#ifndef SLM_HF_CONFIG_H
#define SLM_HF_CONFIG_H

#include <stdbool.h>

#include "engine/import/hf/json.h"
#include "engine/arch/family.h"
#include "engine/slm.h"

#define SLM_HF_MAX_NUMBERS 64

typedef struct slm_hf_config {
    slm_hf_json json;
    slm_meta meta;         /* arg is this struct: it must not move while meta is used */
    struct {
        const char *key;   /* of family.h */
        double value;
    } numbers[SLM_HF_MAX_NUMBERS];
    uint32_t n_numbers, n_layers;
    char scaling[16];      /* rope.scaling.type */
    bool layered_window;   /* slides says which layers slide */
    uint8_t slides[SLM_MAX_LAYERS];
    uint8_t dense[SLM_MAX_LAYERS]; /* mixtures: layers with one feed-forward */
    uint8_t convolves[SLM_MAX_LAYERS]; /* LFM2, Qwen 3.5 */
    float factors[SLM_MAX_ROT / 2], factors_long[SLM_MAX_ROT / 2];
    bool tied;             /* the configuration says that the output head is the embedding */
    bool nested;           /* the text part of a model that sees pictures too, out of "text_config" */
    const struct slm_hf_kind *kind; /* keys.h */
    const char *prefix;    /* before the names of tensors: "bert." */
    struct {               /* of a head that reads labels (gliclass.h) */
        slm_joint kind;
        uint32_t scorer, pool, squash, flags, width, n_vocab, label, text, most;
    } joint;
    bool modules;          /* sentence-transformers has saved it: there is a modules.json */
    uint32_t n_positions;     /* rows of the table of positions */
    uint32_t position_offset; /* those that are never read */
    uint32_t n_pools, pools[SLM_MAX_POOLS], n_after, after[SLM_MAX_AFTER], n_dense, dense_rows[SLM_MAX_DENSE], dense_squash[SLM_MAX_DENSE];
    bool dense_biased[SLM_MAX_DENSE];
    char dense_paths[SLM_MAX_DENSE][208], norm_path[208]; /* folders of the modules with weights */
    bool leaves_prompt_out; /* the prompt's tokens are not pooled */
    bool lowers;           /* texts are lowercased before the tokenizer sees them */
    bool other_similarity; /* vectors that are not of length 1 are compared otherwise than by their cosine */
    bool classifies;       /* a head with labels */
    uint32_t n_labels;
    slm_head_kind head_kind;
    char labels[8192];     /* one after the other */
} slm_hf_config;

/* json must live as long as the configuration; modules: there is a modules.json. meta.has_output is left to the caller, who knows the
 * tensors. */
slm_status slm_hf_config_read(slm_hf_json json, bool modules, slm_hf_config *out, slm_error *err);
/* The first of "architectures", or "". */
const char *slm_hf_architecture(const slm_hf_config *config);
/* Sets a number that config.json does not hold (pooling) or that another file overrides (the length). */
slm_status slm_hf_config_put(slm_hf_config *config, const char *key, double value, slm_error *err);
/* A number as set; def when absent. */
double slm_hf_config_number(const slm_hf_config *config, const char *key, double def);

#endif
