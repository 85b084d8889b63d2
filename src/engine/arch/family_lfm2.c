/*
 * lfm2: Liquid AI's LFM2 (350M, 700M, 1.2B), from directories.
 *
 * A llama whose layers mostly have a short convolution in place of attention: one product gives three rows B, C and x; the convolution
 * over the last conv_length positions of B * x, for each column by itself, is multiplied by C and projected back.  The layers with
 * attention norm each head of query and key and have RoPE on split halves.  The last norm is named like one of the embeddings.
 * Source: transformers' Lfm2Config and Lfm2ShortConv.
 */
#include "engine/arch/family.h"

#include <math.h>

/* A layer has either (slm_role_in_layer). */
static const slm_tensor_role required[] = {
    SLM_TENSOR_TOKEN_EMBD, SLM_TENSOR_OUTPUT_NORM, SLM_TENSOR_ATTN_NORM, SLM_TENSOR_ATTN_Q,   SLM_TENSOR_ATTN_K,
    SLM_TENSOR_ATTN_V,     SLM_TENSOR_ATTN_Q_NORM, SLM_TENSOR_ATTN_K_NORM, SLM_TENSOR_ATTN_OUT, SLM_TENSOR_CONV_IN,
    SLM_TENSOR_CONV_KERNEL, SLM_TENSOR_CONV_OUT,   SLM_TENSOR_FFN_NORM,  SLM_TENSOR_FFN_GATE, SLM_TENSOR_FFN_UP,
    SLM_TENSOR_FFN_DOWN,   SLM_TENSOR_ROLES};
static const slm_tensor_role optional[] = {SLM_TENSOR_ROLES};
static const slm_role_name hf_names[] = {{SLM_TENSOR_OUTPUT_NORM, "model.embedding_norm.weight"},
                                        {SLM_TENSOR_ATTN_NORM, "model.layers.%u.operator_norm.weight"},
                                        {SLM_TENSOR_ATTN_Q_NORM, "model.layers.%u.self_attn.q_layernorm.weight"},
                                        {SLM_TENSOR_ATTN_K_NORM, "model.layers.%u.self_attn.k_layernorm.weight"},
                                        {SLM_TENSOR_ATTN_OUT, "model.layers.%u.self_attn.out_proj.weight"},
                                        {SLM_TENSOR_FFN_NORM, "model.layers.%u.ffn_norm.weight"},
                                        {SLM_TENSOR_FFN_GATE, "model.layers.%u.feed_forward.w1.weight"},
                                        {SLM_TENSOR_FFN_UP, "model.layers.%u.feed_forward.w3.weight"},
                                        {SLM_TENSOR_FFN_DOWN, "model.layers.%u.feed_forward.w2.weight"},
                                        {SLM_TENSOR_ROLES, NULL}};

static slm_status read_lfm2(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    double flag;
    SLM_TRY(slm_meta_u32(meta, "shortconv.l_cache", 1, 16, NAN, &hp->conv_length, err));
    for (uint32_t i = 0; i < hp->n_layers; i++)
        if (meta->number(meta->arg, "slm.conv_layer", i, &flag) && flag != 0)
            hp->conv_layers[i / 32] |= 1u << i % 32;
    return SLM_OK;
}

const slm_family slm_family_lfm2 = {.name = "lfm2", .hf_only = true,
                                    .required = required, .optional = optional, .hf_names = hf_names, .read = read_lfm2};
