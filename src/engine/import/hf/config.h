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

#define SLM_HF_MAX_NUMBERS 40

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
    float factors[SLM_MAX_ROT / 2], factors_long[SLM_MAX_ROT / 2];
    bool tied_known, tied; /* what the configuration says about the output head */
    bool cross_encoder;    /* BertForSequenceClassification */
} slm_hf_config;

/* json must live as long as the configuration. meta.has_output is left to the caller, who knows the tensors. */
slm_status slm_hf_config_read(slm_hf_json json, slm_hf_config *out, slm_error *err);
/* Sets a number that config.json does not hold (pooling) or that another file overrides (the length). */
slm_status slm_hf_config_put(slm_hf_config *config, const char *key, double value, slm_error *err);
/* A number as set; def when absent. */
double slm_hf_config_number(const slm_hf_config *config, const char *key, double def);

#endif
