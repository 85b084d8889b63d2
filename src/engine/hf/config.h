/*
 * config.json of the transformers library to hyper-parameters.
 *
 * Families: bert, and the causal ones llama, mistral, phi3, gemma, gemma2, gemma3_text, qwen2, qwen3, granite, olmo2, smollm3.  Defaults of
 * missing keys are those of the library's configuration classes.  What changes a result and is not understood (another activation, an
 * unknown RoPE scaling, quantized checkpoints) is SLM_UNSUPPORTED, never ignored.
 */
#ifndef SLM_HF_CONFIG_H
#define SLM_HF_CONFIG_H

#include <stdbool.h>

#include "engine/hf/json.h"
#include "engine/model/hparams.h"

typedef enum slm_hf_layout {
    SLM_HF_LLAMA = 0, /* input norm, q k v o, post-attention norm, gate up down */
    SLM_HF_PHI3,      /* the same with qkv and gate_up fused */
    SLM_HF_GEMMA,     /* llama's names, norms stored minus one */
    SLM_HF_GEMMA2,    /* four norms a layer, stored minus one */
    SLM_HF_OLMO2,     /* norms after attention and feed-forward */
    SLM_HF_BERT
} slm_hf_layout;

typedef struct slm_hf_config {
    slm_hparams hp;
    slm_hf_layout layout;
    bool tied_known;      /* config.json says whether the head is tied; else the weights do */
    bool qkv_bias, o_bias, qk_norm;
    bool norm_plus_one;   /* Gemma stores RMS norm weights minus one */
    bool cross_encoder;   /* BertForSequenceClassification */
} slm_hf_config;

slm_status slm_hf_config_read(slm_hf_json config, slm_hf_config *out, slm_error *err);

#endif
