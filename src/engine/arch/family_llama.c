/*
 * llama: Llama 2, 3, 3.1, 3.2, Mistral, SmolLM, SmolLM2, TinyLlama; and smollm3, which leaves RoPE out of every fourth layer.
 *
 * RMS norm before attention and before the SwiGLU feed-forward, grouped-query attention, RoPE on interleaved pairs (GGUF
 * permutes the rows of query and key so), head tied to the embedding or not.  Llama 3.1 and later scale RoPE: rope_freqs.weight
 * holds one divisor a pair. Mistral 7B v0.1 slides over 4,096 positions; GGUF files of later versions do not say a window.
 * Sources: the GGUF specification; transformers' LlamaConfig, MistralConfig and SmolLM3Config.
 */
#include "engine/arch/family.h"

#include <math.h>

static const slm_tensor_role required[] = {SLM_TENSOR_TOKEN_EMBD, SLM_TENSOR_OUTPUT_NORM, SLM_TENSOR_ATTN_NORM, SLM_TENSOR_ATTN_Q,
                                           SLM_TENSOR_ATTN_K,     SLM_TENSOR_ATTN_V,      SLM_TENSOR_ATTN_OUT,  SLM_TENSOR_FFN_NORM,
                                           SLM_TENSOR_FFN_GATE,   SLM_TENSOR_FFN_UP,      SLM_TENSOR_FFN_DOWN,  SLM_TENSOR_ROLES};
/* attention_bias = true in a few models of the family */
static const slm_tensor_role optional[] = {SLM_TENSOR_ATTN_Q_BIAS, SLM_TENSOR_ATTN_K_BIAS, SLM_TENSOR_ATTN_V_BIAS,
                                           SLM_TENSOR_ATTN_OUT_BIAS, SLM_TENSOR_ROLES};

static slm_status read_llama(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    uint32_t experts;
    SLM_TRY(slm_meta_u32(meta, "expert_count", 0, 1024, 0, &experts, err));
    if (experts > 0)
        return slm_fail(err, SLM_UNSUPPORTED, "mixtures of experts are not supported");
    SLM_TRY(slm_meta_u32(meta, "attention.sliding_window", 0, 1u << 24, 0, &hp->window, err));
    slm_meta_slides(meta, hp);
    return SLM_OK;
}

const slm_family slm_family_llama = {.name = "llama", .permuted = true, .required = required, .optional = optional, .read = read_llama};

/* GGUF does not say the pattern; config.json does (no_rope_layer_interval). */
static slm_status read_smollm3(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    SLM_TRY(slm_meta_u32(meta, "no_rope_layer_interval", 2, 1024, 4, &hp->nope_pattern, err));
    SLM_TRY(slm_meta_u32(meta, "attention.sliding_window", 0, 1u << 24, 0, &hp->window, err));
    slm_meta_slides(meta, hp);
    return SLM_OK;
}

const slm_family slm_family_smollm3 = {
    .name = "smollm3", .permuted = true, .required = required, .optional = optional, .read = read_smollm3};

/* EuroBERT: a Llama that looks both ways. */
static slm_status read_eurobert(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    hp->causal = hp->tied_head = 0;
    return SLM_OK;
}

const slm_family slm_family_eurobert = {.name = "eurobert", .required = required, .optional = optional, .read = read_eurobert};
