/*
 * distilbert: a BERT of half the layers without token types; its head is a dense ReLU layer and an output on the first token.
 * Sources: arXiv 1910.01108; transformers' DistilBertModel.
 */
#include "engine/arch/family.h"

#include <math.h>

static const slm_tensor_role required[] = {
    SLM_TENSOR_TOKEN_EMBD,    SLM_TENSOR_POSITION_EMBD,      SLM_TENSOR_EMBD_NORM,     SLM_TENSOR_EMBD_NORM_BIAS,
    SLM_TENSOR_ATTN_Q,        SLM_TENSOR_ATTN_K,             SLM_TENSOR_ATTN_V,        SLM_TENSOR_ATTN_Q_BIAS,
    SLM_TENSOR_ATTN_K_BIAS,   SLM_TENSOR_ATTN_V_BIAS,        SLM_TENSOR_ATTN_OUT,      SLM_TENSOR_ATTN_OUT_BIAS,
    SLM_TENSOR_ATTN_OUT_NORM, SLM_TENSOR_ATTN_OUT_NORM_BIAS, SLM_TENSOR_FFN_UP,        SLM_TENSOR_FFN_UP_BIAS,
    SLM_TENSOR_FFN_DOWN,      SLM_TENSOR_FFN_DOWN_BIAS,      SLM_TENSOR_LAYER_OUT_NORM, SLM_TENSOR_LAYER_OUT_NORM_BIAS,
    SLM_TENSOR_ROLES};

static const slm_role_name hf_names[] = {
    {SLM_TENSOR_TOKEN_EMBD, "embeddings.word_embeddings.weight"},
    {SLM_TENSOR_ATTN_Q, "transformer.layer.%u.attention.q_lin.weight"},
    {SLM_TENSOR_ATTN_K, "transformer.layer.%u.attention.k_lin.weight"},
    {SLM_TENSOR_ATTN_V, "transformer.layer.%u.attention.v_lin.weight"},
    {SLM_TENSOR_ATTN_Q_BIAS, "transformer.layer.%u.attention.q_lin.bias"},
    {SLM_TENSOR_ATTN_K_BIAS, "transformer.layer.%u.attention.k_lin.bias"},
    {SLM_TENSOR_ATTN_V_BIAS, "transformer.layer.%u.attention.v_lin.bias"},
    {SLM_TENSOR_ATTN_OUT, "transformer.layer.%u.attention.out_lin.weight"},
    {SLM_TENSOR_ATTN_OUT_BIAS, "transformer.layer.%u.attention.out_lin.bias"},
    {SLM_TENSOR_ATTN_OUT_NORM, "transformer.layer.%u.sa_layer_norm.weight"},
    {SLM_TENSOR_ATTN_OUT_NORM_BIAS, "transformer.layer.%u.sa_layer_norm.bias"},
    {SLM_TENSOR_FFN_UP, "transformer.layer.%u.ffn.lin1.weight"},
    {SLM_TENSOR_FFN_UP_BIAS, "transformer.layer.%u.ffn.lin1.bias"},
    {SLM_TENSOR_FFN_DOWN, "transformer.layer.%u.ffn.lin2.weight"},
    {SLM_TENSOR_FFN_DOWN_BIAS, "transformer.layer.%u.ffn.lin2.bias"},
    {SLM_TENSOR_LAYER_OUT_NORM, "transformer.layer.%u.output_layer_norm.weight"},
    {SLM_TENSOR_LAYER_OUT_NORM_BIAS, "transformer.layer.%u.output_layer_norm.bias"},
    {SLM_TENSOR_CLS_DENSE, "pre_classifier.weight"},
    {SLM_TENSOR_CLS_DENSE_BIAS, "pre_classifier.bias"},
    {SLM_TENSOR_CLS_OUT, "classifier.weight"},
    {SLM_TENSOR_CLS_OUT_BIAS, "classifier.bias"},
    {SLM_TENSOR_ROLES, NULL}};

static slm_status read_distilbert(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    SLM_TRY(slm_family_read_bert(meta, hp, err));
    hp->head_squash = SLM_SQUASH_RELU;
    return SLM_OK;
}

const slm_family slm_family_distilbert = {.name = "distilbert", .required = required, .optional = slm_bert_optional, .own_norms = true,
                                         .hf_names = hf_names, .read = read_distilbert};
