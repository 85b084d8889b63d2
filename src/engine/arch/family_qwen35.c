/*
 * qwen3_5: Qwen 3.5 (text), from directories.
 *
 * In three of four layers a gated delta rule (model/delta.c) stands in place of attention.  The others are a Qwen 3's with RoPE on a part
 * of each head, and with a gate: the product of the query gives, head by head, a query and what opens the head's output.  Norms are kept
 * minus one, but for that of the delta rule.
 * Sources: transformers' Qwen3_5TextConfig and Qwen3_5GatedDeltaNet; Yang et al. 2024 (arXiv 2412.06464).
 */
#include "engine/arch/family.h"

#include <math.h>

/* A layer has either (slm_role_in_layer). */
static const slm_tensor_role required[] = {
    SLM_TENSOR_TOKEN_EMBD,  SLM_TENSOR_OUTPUT_NORM, SLM_TENSOR_ATTN_NORM,   SLM_TENSOR_ATTN_Q,      SLM_TENSOR_ATTN_K,
    SLM_TENSOR_ATTN_V,      SLM_TENSOR_ATTN_Q_NORM, SLM_TENSOR_ATTN_K_NORM, SLM_TENSOR_ATTN_OUT,    SLM_TENSOR_ATTN_GATE,
    SLM_TENSOR_CONV_IN,     SLM_TENSOR_CONV_KERNEL, SLM_TENSOR_CONV_OUT,    SLM_TENSOR_DELTA_GATE,  SLM_TENSOR_DELTA_DECAY,
    SLM_TENSOR_DELTA_SHARE, SLM_TENSOR_DELTA_DECAY_LOG, SLM_TENSOR_DELTA_DECAY_BIAS, SLM_TENSOR_DELTA_NORM, SLM_TENSOR_FFN_NORM,
    SLM_TENSOR_FFN_GATE,    SLM_TENSOR_FFN_UP,      SLM_TENSOR_FFN_DOWN,    SLM_TENSOR_ROLES};
static const slm_tensor_role optional[] = {SLM_TENSOR_ROLES};
static const slm_role_name hf_names[] = {{SLM_TENSOR_ATTN_Q, "model.layers.%u.self_attn.q_proj.weight#h0/2"},
                                        {SLM_TENSOR_CONV_IN, "model.layers.%u.linear_attn.in_proj_qkv.weight"},
                                        {SLM_TENSOR_CONV_KERNEL, "model.layers.%u.linear_attn.conv1d.weight"},
                                        {SLM_TENSOR_CONV_OUT, "model.layers.%u.linear_attn.out_proj.weight"},
                                        {SLM_TENSOR_ROLES, NULL}};

static slm_status read_qwen35(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    double flag;
    hp->attn_gate = 1;
    SLM_TRY(slm_meta_u32(meta, "shortconv.l_cache", 1, 16, NAN, &hp->conv_length, err));
    SLM_TRY(slm_meta_u32(meta, "slm.delta.keys", 1, 1024, NAN, &hp->delta_keys, err));
    SLM_TRY(slm_meta_u32(meta, "slm.delta.values", 1, 1024, NAN, &hp->delta_values, err));
    SLM_TRY(slm_meta_u32(meta, "slm.delta.key_dim", 1, 1024, NAN, &hp->delta_key_dim, err));
    SLM_TRY(slm_meta_u32(meta, "slm.delta.value_dim", 1, 1024, NAN, &hp->delta_value_dim, err));
    for (uint32_t i = 0; i < hp->n_layers; i++)
        if (meta->number(meta->arg, "slm.conv_layer", i, &flag) && flag != 0)
            hp->conv_layers[i / 32] |= 1u << i % 32;
    return SLM_OK;
}

const slm_family slm_family_qwen3_5 = {.name = "qwen3_5", .hf_only = true, .hf_norm_plus_one = true, .required = required,
                                      .optional = optional, .hf_names = hf_names, .read = read_qwen35};
