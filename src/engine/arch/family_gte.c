/*
 * gte, jina-bert-v2: BERTs for long texts, with gated feed-forwards (GELU of the gate, erf) and no table of positions.
 *
 *                  positions                            feed-forward                       tensors
 *   gte            RoPE, which NTK may stretch          up, then gate, in one; no biases   query, key and value in one, with biases
 *   jina-bert-v2   a slope by distance for each head    gate, then up, in one; no biases   as a BERT's
 *
 * gte is Alibaba's "new" BERT: gte-base and -large v1.5, gte-multilingual, Snowflake's arctic-embed-m v2.0; it may have no token types.
 * The jina-embeddings-v2 whose queries and keys are normed (those for code) are refused.
 * Sources: arXiv 2407.19669, 2310.19923; the modelling files that the models publish (new-impl, jina-bert-implementation); Press et al.
 * 2021 (ALiBi, arXiv 2108.12409).
 */
#include "engine/arch/family.h"

#include <math.h>

static const slm_tensor_role gte_required[] = {
    SLM_TENSOR_TOKEN_EMBD,    SLM_TENSOR_TYPE_EMBD,     SLM_TENSOR_EMBD_NORM,          SLM_TENSOR_EMBD_NORM_BIAS,
    SLM_TENSOR_ATTN_Q,        SLM_TENSOR_ATTN_K,        SLM_TENSOR_ATTN_V,             SLM_TENSOR_ATTN_Q_BIAS,
    SLM_TENSOR_ATTN_K_BIAS,   SLM_TENSOR_ATTN_V_BIAS,   SLM_TENSOR_ATTN_OUT,           SLM_TENSOR_ATTN_OUT_BIAS,
    SLM_TENSOR_ATTN_OUT_NORM, SLM_TENSOR_ATTN_OUT_NORM_BIAS, SLM_TENSOR_FFN_GATE,      SLM_TENSOR_FFN_UP,
    SLM_TENSOR_FFN_DOWN,      SLM_TENSOR_FFN_DOWN_BIAS, SLM_TENSOR_LAYER_OUT_NORM,     SLM_TENSOR_LAYER_OUT_NORM_BIAS, SLM_TENSOR_ROLES};
static const slm_tensor_role jina_required[] = {
    SLM_TENSOR_TOKEN_EMBD,    SLM_TENSOR_TYPE_EMBD,     SLM_TENSOR_EMBD_NORM,          SLM_TENSOR_EMBD_NORM_BIAS,
    SLM_TENSOR_ATTN_Q,        SLM_TENSOR_ATTN_K,        SLM_TENSOR_ATTN_V,             SLM_TENSOR_ATTN_Q_BIAS,
    SLM_TENSOR_ATTN_K_BIAS,   SLM_TENSOR_ATTN_V_BIAS,   SLM_TENSOR_ATTN_OUT,           SLM_TENSOR_ATTN_OUT_BIAS,
    SLM_TENSOR_ATTN_OUT_NORM, SLM_TENSOR_ATTN_OUT_NORM_BIAS, SLM_TENSOR_FFN_GATE_UP,   SLM_TENSOR_FFN_DOWN,
    SLM_TENSOR_FFN_DOWN_BIAS, SLM_TENSOR_LAYER_OUT_NORM, SLM_TENSOR_LAYER_OUT_NORM_BIAS, SLM_TENSOR_ROLES};
static const slm_tensor_role optional[] = {SLM_TENSOR_CLS_DENSE, SLM_TENSOR_CLS_DENSE_BIAS, SLM_TENSOR_CLS_OUT, SLM_TENSOR_CLS_OUT_BIAS,
                                           SLM_TENSOR_ROLES};

#define LAYER "encoder.layer.%u."
static const slm_role_name gte_names[] = {{SLM_TENSOR_TOKEN_EMBD, "embeddings.word_embeddings.weight"},
                                         {SLM_TENSOR_ATTN_Q, LAYER "attention.qkv_proj.weight#0/3"},
                                         {SLM_TENSOR_ATTN_K, LAYER "attention.qkv_proj.weight#1/3"},
                                         {SLM_TENSOR_ATTN_V, LAYER "attention.qkv_proj.weight#2/3"},
                                         {SLM_TENSOR_ATTN_Q_BIAS, LAYER "attention.qkv_proj.bias#0/3"},
                                         {SLM_TENSOR_ATTN_K_BIAS, LAYER "attention.qkv_proj.bias#1/3"},
                                         {SLM_TENSOR_ATTN_V_BIAS, LAYER "attention.qkv_proj.bias#2/3"},
                                         {SLM_TENSOR_ATTN_OUT, LAYER "attention.o_proj.weight"},
                                         {SLM_TENSOR_ATTN_OUT_BIAS, LAYER "attention.o_proj.bias"},
                                         {SLM_TENSOR_ATTN_OUT_NORM, LAYER "attn_ln.weight"},
                                         {SLM_TENSOR_ATTN_OUT_NORM_BIAS, LAYER "attn_ln.bias"},
                                         {SLM_TENSOR_FFN_UP, LAYER "mlp.up_gate_proj.weight#0/2"},
                                         {SLM_TENSOR_FFN_GATE, LAYER "mlp.up_gate_proj.weight#1/2"},
                                         {SLM_TENSOR_FFN_DOWN, LAYER "mlp.down_proj.weight"},
                                         {SLM_TENSOR_FFN_DOWN_BIAS, LAYER "mlp.down_proj.bias"},
                                         {SLM_TENSOR_LAYER_OUT_NORM, LAYER "mlp_ln.weight"},
                                         {SLM_TENSOR_LAYER_OUT_NORM_BIAS, LAYER "mlp_ln.bias"},
                                         {SLM_TENSOR_CLS_DENSE, "pooler.dense.weight"},
                                         {SLM_TENSOR_CLS_DENSE_BIAS, "pooler.dense.bias"},
                                         {SLM_TENSOR_CLS_OUT, "classifier.weight"},
                                         {SLM_TENSOR_CLS_OUT_BIAS, "classifier.bias"},
                                         {SLM_TENSOR_ROLES, NULL}};
static const slm_role_name jina_names[] = {{SLM_TENSOR_TOKEN_EMBD, "embeddings.word_embeddings.weight"},
                                          {SLM_TENSOR_ATTN_Q, LAYER "attention.self.query.weight"},
                                          {SLM_TENSOR_ATTN_K, LAYER "attention.self.key.weight"},
                                          {SLM_TENSOR_ATTN_V, LAYER "attention.self.value.weight"},
                                          {SLM_TENSOR_ATTN_Q_BIAS, LAYER "attention.self.query.bias"},
                                          {SLM_TENSOR_ATTN_K_BIAS, LAYER "attention.self.key.bias"},
                                          {SLM_TENSOR_ATTN_V_BIAS, LAYER "attention.self.value.bias"},
                                          {SLM_TENSOR_ATTN_OUT, LAYER "attention.output.dense.weight"},
                                          {SLM_TENSOR_ATTN_OUT_BIAS, LAYER "attention.output.dense.bias"},
                                          {SLM_TENSOR_FFN_GATE_UP, LAYER "mlp.gated_layers.weight"},
                                          {SLM_TENSOR_FFN_DOWN, LAYER "mlp.wo.weight"},
                                          {SLM_TENSOR_FFN_DOWN_BIAS, LAYER "mlp.wo.bias"},
                                          {SLM_TENSOR_LAYER_OUT_NORM, LAYER "mlp.layernorm.weight"},
                                          {SLM_TENSOR_LAYER_OUT_NORM_BIAS, LAYER "mlp.layernorm.bias"},
                                          {SLM_TENSOR_CLS_OUT, "classifier.weight"},
                                          {SLM_TENSOR_CLS_OUT_BIAS, "classifier.bias"},
                                          {SLM_TENSOR_ROLES, NULL}};

static slm_status read_gte(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    SLM_TRY(slm_family_read_bert(meta, hp, err));
    hp->activation = SLM_ACT_GEGLU_ERF;
    hp->n_rot = hp->head_dim;
    return slm_meta_u32(meta, "slm.types", 0, 1024, 0, &hp->n_token_types, err);
}

static slm_status read_jina(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    SLM_TRY(slm_family_read_bert(meta, hp, err));
    hp->activation = SLM_ACT_GEGLU_ERF;
    hp->alibi = 1;
    return SLM_OK;
}

const slm_family slm_family_gte = {.name = "gte", .hf_only = true, .required = gte_required, .optional = optional, .own_norms = true,
                                  .hf_names = gte_names, .read = read_gte};
const slm_family slm_family_jina_bert_v2 = {.name = "jina-bert-v2", .required = jina_required, .optional = optional, .own_norms = true,
                                           .hf_names = jina_names, .read = read_jina};
