/*
 * gemma, gemma2, gemma3 (text), gemma-embedding (EmbeddingGemma): Google's small models.
 *
 * All: embeddings times sqrt(n_embd), GEGLU (tanh form), head tied to the embedding, RoPE on split halves, heads wider or
 * narrower than n_embd / n_heads.  RMS norm weights are stored minus one by Hugging Face; GGUF files already contain weight +
 * 1. Gemma 2 adds norms after attention and after the feed-forward, soft caps on scores (50) and logits (30), and a window of
 * 4,096 in every other layer, beginning with the first.  Gemma 3 drops the caps, norms queries and keys per head, slides (512
 * or 1,024) in five of six layers with RoPE base 10,000, and looks at everything with base 1,000,000 (linear scaling 8 from 4B
 * on) in every sixth. The 27B models scale scores by sqrt(n_embd / n_heads); GGUF does not say so, they are known by their
 * number of layers. Sources: transformers' Gemma, Gemma2 and Gemma3 configurations; arXiv 2403.08295, 2408.00118, 2503.19786.
 */
#include "engine/arch/family.h"

#include <math.h>

static const slm_tensor_role required1[] = {SLM_TENSOR_TOKEN_EMBD, SLM_TENSOR_OUTPUT_NORM, SLM_TENSOR_ATTN_NORM, SLM_TENSOR_ATTN_Q,
                                            SLM_TENSOR_ATTN_K,     SLM_TENSOR_ATTN_V,      SLM_TENSOR_ATTN_OUT,  SLM_TENSOR_FFN_NORM,
                                            SLM_TENSOR_FFN_GATE,   SLM_TENSOR_FFN_UP,      SLM_TENSOR_FFN_DOWN,  SLM_TENSOR_ROLES};
static const slm_tensor_role required2[] = {
    SLM_TENSOR_TOKEN_EMBD, SLM_TENSOR_OUTPUT_NORM, SLM_TENSOR_ATTN_NORM,     SLM_TENSOR_ATTN_Q,   SLM_TENSOR_ATTN_K,
    SLM_TENSOR_ATTN_V,     SLM_TENSOR_ATTN_OUT,    SLM_TENSOR_ATTN_POST_NORM, SLM_TENSOR_FFN_NORM, SLM_TENSOR_FFN_GATE,
    SLM_TENSOR_FFN_UP,     SLM_TENSOR_FFN_DOWN,    SLM_TENSOR_FFN_POST_NORM, SLM_TENSOR_ROLES};
static const slm_tensor_role required3[] = {
    SLM_TENSOR_TOKEN_EMBD,  SLM_TENSOR_OUTPUT_NORM, SLM_TENSOR_ATTN_NORM, SLM_TENSOR_ATTN_Q,         SLM_TENSOR_ATTN_K,
    SLM_TENSOR_ATTN_V,      SLM_TENSOR_ATTN_Q_NORM, SLM_TENSOR_ATTN_K_NORM, SLM_TENSOR_ATTN_OUT,     SLM_TENSOR_ATTN_POST_NORM,
    SLM_TENSOR_FFN_NORM,    SLM_TENSOR_FFN_GATE,    SLM_TENSOR_FFN_UP,    SLM_TENSOR_FFN_DOWN,       SLM_TENSOR_FFN_POST_NORM,
    SLM_TENSOR_ROLES};
/* Dense modules of EmbeddingGemma behind the pooling. */
static const slm_role_name embedding_names[] = {{SLM_TENSOR_DENSE_0, "dense_2.weight"}, {SLM_TENSOR_DENSE_1, "dense_3.weight"},
                                                {SLM_TENSOR_ROLES, NULL}};
static const slm_tensor_role optional[] = {SLM_TENSOR_ROLES};

/* With four norms a layer, "post_attention_layernorm" is what its name says; the one before the feed-forward has its own name. */
static const slm_role_name hf_names[] = {{SLM_TENSOR_FFN_NORM, "model.layers.%u.pre_feedforward_layernorm.weight"},
                                        {SLM_TENSOR_ROLES, NULL}};

static slm_status read_gemma(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    hp->activation = SLM_ACT_GEGLU;
    hp->embed_scale = sqrtf((float) hp->n_embd);
    return SLM_OK;
}

/* Scores of the 27B models are scaled by sqrt(n_embd / n_heads) unless the source says the scale. */
static slm_status read_scale(const slm_meta *meta, slm_hparams *hp, uint32_t layers_of_27b, slm_error *err)
{
    double def = hp->n_layers == layers_of_27b ? (double) hp->n_embd / hp->n_heads : hp->head_dim;
    return slm_meta_float(meta, "attention.scale", 1e-4, 10, 1 / sqrt(def), &hp->attn_scale, err);
}

static slm_status read_gemma2(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    SLM_TRY(read_gemma(meta, hp, err));
    SLM_TRY(slm_meta_float(meta, "attn_logit_softcapping", 0, 1e6, 50, &hp->attn_softcap, err));
    SLM_TRY(slm_meta_float(meta, "final_logit_softcapping", 0, 1e6, 30, &hp->final_softcap, err));
    SLM_TRY(slm_meta_u32(meta, "attention.sliding_window", 0, 1u << 24, 4096, &hp->window, err));
    SLM_TRY(slm_meta_pattern(meta, "attention.sliding_window_pattern", hp->n_layers, 2, &hp->window_pattern, err));
    return read_scale(meta, hp, 46, err);
}

static slm_status read_gemma3(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    SLM_TRY(read_gemma(meta, hp, err));
    SLM_TRY(slm_meta_float(meta, "rope.freq_base", 1, 1e9, 1000000, &hp->rope_base, err));
    SLM_TRY(slm_meta_float(meta, "rope.freq_base_swa", 1, 1e9, 10000, &hp->rope_base_local, err));
    SLM_TRY(slm_meta_float(meta, "attn_logit_softcapping", 0, 1e6, 0, &hp->attn_softcap, err));
    SLM_TRY(slm_meta_float(meta, "final_logit_softcapping", 0, 1e6, 0, &hp->final_softcap, err));
    SLM_TRY(slm_meta_u32(meta, "attention.sliding_window", 0, 1u << 24, 1024, &hp->window, err));
    SLM_TRY(slm_meta_pattern(meta, "attention.sliding_window_pattern", hp->n_layers, 6, &hp->window_pattern, err));
    return read_scale(meta, hp, 62, err);
}

/* EmbeddingGemma in a GGUF file, whose window counts both sides; a directory is a Gemma 3 that looks both ways. */
static slm_status read_gemma_embedding(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    SLM_TRY(read_gemma3(meta, hp, err));
    hp->causal = hp->tied_head = 0;
    hp->window /= 2;
    return SLM_OK;
}

const slm_family slm_family_gemma = {
    .name = "gemma", .hf_norm_plus_one = true, .required = required1, .optional = optional, .read = read_gemma};
const slm_family slm_family_gemma2 = {
    .name = "gemma2", .hf_norm_plus_one = true, .required = required2, .optional = optional, .hf_names = hf_names, .read = read_gemma2};
const slm_family slm_family_gemma3 = {
    .name = "gemma3", .hf_norm_plus_one = true, .required = required3, .optional = optional, .hf_names = hf_names, .read = read_gemma3};
const slm_family slm_family_gemma_embedding = {.name = "gemma-embedding", .required = required3, .optional = optional,
                                              .gguf_names = embedding_names, .read = read_gemma_embedding};
