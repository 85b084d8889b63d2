/*
 * Decoders with layer norms, from directories: stablelm (Stable LM 2), phi (Phi 1, 1.5 and 2), gpt_neox (Pythia), gpt2.
 *
 *              norm       positions           attention, feed-forward                 tensors
 *   stablelm   weight, b  RoPE on a part      one after the other, gated SiLU         as a llama's; maybe biases of q, k, v
 *   phi        weight, b  RoPE on a part      side by side behind one norm, GELU      biases everywhere, of the output head too
 *   gpt_neox   weight, b  RoPE on a part      side by side, a norm each, GELU         query, key and value in one, head by head
 *   gpt2       weight, b  a table             one after the other, GELU               matrices as [in, out], query, key and value in one
 *
 * Sources: transformers' StableLmConfig, PhiConfig, GPTNeoXConfig, GPT2Config; Biderman et al. 2023 (arXiv 2304.01373).
 */
#include "engine/arch/family.h"

#include <math.h>

#define BOTH(name) SLM_TENSOR_##name, SLM_TENSOR_##name##_BIAS

static const slm_tensor_role stablelm_required[] = {
    SLM_TENSOR_TOKEN_EMBD, BOTH(OUTPUT_NORM),    BOTH(ATTN_NORM),     SLM_TENSOR_ATTN_Q,  SLM_TENSOR_ATTN_K, SLM_TENSOR_ATTN_V,
    SLM_TENSOR_ATTN_OUT,   BOTH(FFN_NORM),       SLM_TENSOR_FFN_GATE, SLM_TENSOR_FFN_UP,  SLM_TENSOR_FFN_DOWN, SLM_TENSOR_ROLES};
static const slm_tensor_role stablelm_optional[] = {SLM_TENSOR_ATTN_Q_BIAS, SLM_TENSOR_ATTN_K_BIAS, SLM_TENSOR_ATTN_V_BIAS,
                                                    SLM_TENSOR_ROLES};
static const slm_tensor_role phi_required[] = {SLM_TENSOR_TOKEN_EMBD, BOTH(OUTPUT_NORM), BOTH(ATTN_NORM), BOTH(ATTN_Q), BOTH(ATTN_K),
                                               BOTH(ATTN_V),          BOTH(ATTN_OUT),    BOTH(FFN_UP),    BOTH(FFN_DOWN), SLM_TENSOR_ROLES};
static const slm_tensor_role phi_optional[] = {SLM_TENSOR_OUTPUT_BIAS, SLM_TENSOR_ROLES};
static const slm_tensor_role neox_required[] = {SLM_TENSOR_TOKEN_EMBD, BOTH(OUTPUT_NORM), BOTH(ATTN_NORM), BOTH(ATTN_Q), BOTH(ATTN_K),
                                                BOTH(ATTN_V), BOTH(ATTN_OUT), BOTH(FFN_NORM), BOTH(FFN_UP), BOTH(FFN_DOWN),
                                                SLM_TENSOR_ROLES};
static const slm_tensor_role gpt2_required[] = {SLM_TENSOR_TOKEN_EMBD, SLM_TENSOR_POSITION_EMBD, BOTH(OUTPUT_NORM), BOTH(ATTN_NORM),
                                                BOTH(ATTN_Q), BOTH(ATTN_K), BOTH(ATTN_V), BOTH(ATTN_OUT), BOTH(FFN_NORM), BOTH(FFN_UP),
                                                BOTH(FFN_DOWN), SLM_TENSOR_ROLES};
static const slm_tensor_role no_more[] = {SLM_TENSOR_ROLES};

static const slm_role_name phi_names[] = {{SLM_TENSOR_OUTPUT_NORM, "model.final_layernorm.weight"},
                                         {SLM_TENSOR_OUTPUT_NORM_BIAS, "model.final_layernorm.bias"},
                                         {SLM_TENSOR_ATTN_OUT, "model.layers.%u.self_attn.dense.weight"},
                                         {SLM_TENSOR_ATTN_OUT_BIAS, "model.layers.%u.self_attn.dense.bias"},
                                         {SLM_TENSOR_FFN_UP, "model.layers.%u.mlp.fc1.weight"},
                                         {SLM_TENSOR_FFN_UP_BIAS, "model.layers.%u.mlp.fc1.bias"},
                                         {SLM_TENSOR_FFN_DOWN, "model.layers.%u.mlp.fc2.weight"},
                                         {SLM_TENSOR_FFN_DOWN_BIAS, "model.layers.%u.mlp.fc2.bias"},
                                         {SLM_TENSOR_ROLES, NULL}};

#define NEOX "gpt_neox.layers.%u."
static const slm_role_name neox_names[] = {{SLM_TENSOR_TOKEN_EMBD, "gpt_neox.embed_in.weight"},
                                          {SLM_TENSOR_OUTPUT, "embed_out.weight"},
                                          {SLM_TENSOR_OUTPUT_NORM, "gpt_neox.final_layer_norm.weight"},
                                          {SLM_TENSOR_OUTPUT_NORM_BIAS, "gpt_neox.final_layer_norm.bias"},
                                          {SLM_TENSOR_ATTN_NORM, NEOX "input_layernorm.weight"},
                                          {SLM_TENSOR_ATTN_NORM_BIAS, NEOX "input_layernorm.bias"},
                                          {SLM_TENSOR_ATTN_Q, NEOX "attention.query_key_value.weight#h0/3"},
                                          {SLM_TENSOR_ATTN_K, NEOX "attention.query_key_value.weight#h1/3"},
                                          {SLM_TENSOR_ATTN_V, NEOX "attention.query_key_value.weight#h2/3"},
                                          {SLM_TENSOR_ATTN_Q_BIAS, NEOX "attention.query_key_value.bias#h0/3"},
                                          {SLM_TENSOR_ATTN_K_BIAS, NEOX "attention.query_key_value.bias#h1/3"},
                                          {SLM_TENSOR_ATTN_V_BIAS, NEOX "attention.query_key_value.bias#h2/3"},
                                          {SLM_TENSOR_ATTN_OUT, NEOX "attention.dense.weight"},
                                          {SLM_TENSOR_ATTN_OUT_BIAS, NEOX "attention.dense.bias"},
                                          {SLM_TENSOR_FFN_NORM, NEOX "post_attention_layernorm.weight"},
                                          {SLM_TENSOR_FFN_NORM_BIAS, NEOX "post_attention_layernorm.bias"},
                                          {SLM_TENSOR_FFN_UP, NEOX "mlp.dense_h_to_4h.weight"},
                                          {SLM_TENSOR_FFN_UP_BIAS, NEOX "mlp.dense_h_to_4h.bias"},
                                          {SLM_TENSOR_FFN_DOWN, NEOX "mlp.dense_4h_to_h.weight"},
                                          {SLM_TENSOR_FFN_DOWN_BIAS, NEOX "mlp.dense_4h_to_h.bias"},
                                          {SLM_TENSOR_ROLES, NULL}};

#define GPT2 "h.%u."
static const slm_role_name gpt2_names[] = {{SLM_TENSOR_TOKEN_EMBD, "wte.weight"},
                                          {SLM_TENSOR_POSITION_EMBD, "wpe.weight"},
                                          {SLM_TENSOR_OUTPUT_NORM, "ln_f.weight"},
                                          {SLM_TENSOR_OUTPUT_NORM_BIAS, "ln_f.bias"},
                                          {SLM_TENSOR_ATTN_NORM, GPT2 "ln_1.weight"},
                                          {SLM_TENSOR_ATTN_NORM_BIAS, GPT2 "ln_1.bias"},
                                          {SLM_TENSOR_ATTN_Q, GPT2 "attn.c_attn.weight#0/3"},
                                          {SLM_TENSOR_ATTN_K, GPT2 "attn.c_attn.weight#1/3"},
                                          {SLM_TENSOR_ATTN_V, GPT2 "attn.c_attn.weight#2/3"},
                                          {SLM_TENSOR_ATTN_Q_BIAS, GPT2 "attn.c_attn.bias#0/3"},
                                          {SLM_TENSOR_ATTN_K_BIAS, GPT2 "attn.c_attn.bias#1/3"},
                                          {SLM_TENSOR_ATTN_V_BIAS, GPT2 "attn.c_attn.bias#2/3"},
                                          {SLM_TENSOR_ATTN_OUT, GPT2 "attn.c_proj.weight"},
                                          {SLM_TENSOR_ATTN_OUT_BIAS, GPT2 "attn.c_proj.bias"},
                                          {SLM_TENSOR_FFN_NORM, GPT2 "ln_2.weight"},
                                          {SLM_TENSOR_FFN_NORM_BIAS, GPT2 "ln_2.bias"},
                                          {SLM_TENSOR_FFN_UP, GPT2 "mlp.c_fc.weight"},
                                          {SLM_TENSOR_FFN_UP_BIAS, GPT2 "mlp.c_fc.bias"},
                                          {SLM_TENSOR_FFN_DOWN, GPT2 "mlp.c_proj.weight"},
                                          {SLM_TENSOR_FFN_DOWN_BIAS, GPT2 "mlp.c_proj.bias"},
                                          {SLM_TENSOR_ROLES, NULL}};

static slm_status read_stablelm(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    hp->norm = SLM_NORM_LAYER;
    return slm_meta_float(meta, "attention.layer_norm_epsilon", 1e-13, 1e-2, NAN, &hp->norm_eps, err);
}

static slm_status read_phi(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    hp->activation = SLM_ACT_GELU_TANH;
    hp->parallel = 1;
    return read_stablelm(meta, hp, err);
}

static slm_status read_neox(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    hp->activation = SLM_ACT_GELU_ERF;
    SLM_TRY(slm_meta_u32(meta, "slm.parallel", 0, 1, 1, &hp->parallel, err));
    return read_stablelm(meta, hp, err);
}

static slm_status read_gpt2(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    hp->activation = SLM_ACT_GELU_TANH;
    hp->n_rot = 0;
    return read_stablelm(meta, hp, err);
}

const slm_family slm_family_stablelm = {.name = "stablelm", .hf_only = true, .own_norms = true, .required = stablelm_required,
                                       .optional = stablelm_optional, .read = read_stablelm};
const slm_family slm_family_phi = {.name = "phi", .hf_only = true, .own_norms = true, .required = phi_required, .optional = phi_optional,
                                  .hf_names = phi_names, .read = read_phi};
const slm_family slm_family_gpt_neox = {.name = "gpt_neox", .hf_only = true, .own_norms = true, .required = neox_required,
                                       .optional = no_more, .hf_names = neox_names, .read = read_neox};
const slm_family slm_family_gpt2 = {.name = "gpt2", .hf_only = true, .hf_transposed = true, .own_norms = true, .required = gpt2_required,
                                   .optional = no_more, .hf_names = gpt2_names, .read = read_gpt2};
