/*
 * lfm2: Liquid AI's LFM2 (350M, 700M, 1.2B), from directories; d1_omni: a decision model of it, from GGUF files.
 *
 * A llama whose layers mostly have a short convolution in place of attention: one product gives three rows B, C and x; the convolution
 * over the last conv_length positions of B * x, for each column by itself, is multiplied by C and projected back.  The layers with
 * attention norm each head of query and key and have RoPE on split halves.  The last norm is named like one of the embeddings.
 *
 * d1_omni (decision.type lfm2-d1-omni; of d1-omni-600M the text): attention sees everything, convolutions the row before and the one
 * behind; then a decision head as Laya's (family_modernbert.c), whose norms are layer norms, over all heads.
 * Source: transformers' Lfm2Config and Lfm2ShortConv; llama.cpp's key names.
 */
#include "engine/arch/family.h"

#include <math.h>

#define D1_LONGEST 16384 /* max_length of the published model, which its file does not say */

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

/* How many key-value heads each layer has: none where it has a convolution, one for each head in the decision head. */
static slm_status read_kv_heads(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    double n = 0, kv = 0;
    for (uint32_t i = 0; i < hp->n_layers; i++) {
        bool known = meta->number(meta->arg, "attention.head_count_kv", i, &n), head = slm_layer_decides(hp, i);
        kv = known && kv == 0 && !head ? n : kv;
        if (!known || !(head ? n == hp->n_heads : n == 0 || n == kv) || kv > hp->n_heads)
            return slm_fail(err, SLM_UNSUPPORTED, "%s.attention.head_count_kv is not supported in layer %u", meta->architecture, i);
        if (n == 0)
            hp->conv_layers[i / 32] |= 1u << i % 32;
    }
    if (kv < 1)
        return slm_fail(err, SLM_UNSUPPORTED, "%s.attention.head_count_kv names no layer with attention", meta->architecture);
    hp->n_kv_heads = (uint32_t) kv;
    return SLM_OK;
}

static slm_status read_d1(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    uint32_t none;
    SLM_TRY(slm_meta_u32(meta, "attention.causal", 0, 0, NAN, &none, err));
    SLM_TRY(slm_meta_u32(meta, "attention.sliding_window", 0, 0, 0, &none, err));
    SLM_TRY(slm_meta_u32(meta, "shortconv.l_cache", 3, 3, NAN, &hp->conv_length, err));
    hp->causal = hp->tied_head = 0;
    hp->head_squash = SLM_SQUASH_GELU_ERF;
    hp->joint = SLM_JOINT_D1;
    hp->n_context = hp->n_context < D1_LONGEST ? hp->n_context : D1_LONGEST;
    SLM_TRY(slm_decide_read(meta, hp, err));
    return read_kv_heads(meta, hp, err);
}

static const slm_tensor_role d1_required[] = {
    SLM_TENSOR_TOKEN_EMBD, SLM_TENSOR_OUTPUT_NORM,    SLM_TENSOR_ATTN_NORM,   SLM_TENSOR_ATTN_NORM_BIAS, SLM_TENSOR_ATTN_Q,
    SLM_TENSOR_ATTN_K,     SLM_TENSOR_ATTN_V,         SLM_TENSOR_ATTN_QKV,    SLM_TENSOR_ATTN_QKV_BIAS,  SLM_TENSOR_ATTN_Q_NORM,
    SLM_TENSOR_ATTN_K_NORM, SLM_TENSOR_ATTN_OUT,      SLM_TENSOR_ATTN_OUT_BIAS, SLM_TENSOR_CONV_IN,      SLM_TENSOR_CONV_KERNEL,
    SLM_TENSOR_CONV_OUT,   SLM_TENSOR_FFN_NORM,       SLM_TENSOR_FFN_NORM_BIAS, SLM_TENSOR_FFN_GATE,     SLM_TENSOR_FFN_UP,
    SLM_TENSOR_FFN_UP_BIAS, SLM_TENSOR_FFN_DOWN,      SLM_TENSOR_FFN_DOWN_BIAS, SLM_TENSOR_TYPE_EMBD,    SLM_TENSOR_CLS_NORM,
    SLM_TENSOR_CLS_NORM_BIAS, SLM_TENSOR_CLS_DENSE,   SLM_TENSOR_CLS_DENSE_BIAS, SLM_TENSOR_CLS_OUT,     SLM_TENSOR_CLS_OUT_BIAS,
    SLM_TENSOR_ROLES};
static const slm_role_name d1_names[] = {{SLM_TENSOR_OUTPUT_NORM, "token_embd_norm.weight"}, {SLM_TENSOR_ROLES, NULL}};

const slm_family slm_family_lfm2 = {.name = "lfm2", .hf_only = true,
                                    .required = required, .optional = optional, .hf_names = hf_names, .read = read_lfm2};
const slm_family slm_family_d1_omni = {.name = "d1_omni", .gguf = "lfm2", .decides = "lfm2-d1-omni", .late_ff = true, .own_kv = true,
                                       .tag_dense = true, .required = d1_required, .gguf_names = d1_names, .read = read_d1};
