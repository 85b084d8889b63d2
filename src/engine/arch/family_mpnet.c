/*
 * mpnet: all-mpnet-base-v2 and its kin.
 *
 * A BERT without token types, whose positions begin behind the padding token's (as RoBERTa's), and whose scores get a bias by the distance
 * of query and key, in 32 buckets, one table for all layers.  Its head is that of RoBERTa.
 * Sources: arXiv 2004.09297; transformers' MPNetModel.
 */
#include "engine/arch/family.h"

#include <math.h>

static const slm_tensor_role required[] = {
    SLM_TENSOR_TOKEN_EMBD,    SLM_TENSOR_POSITION_EMBD,      SLM_TENSOR_EMBD_NORM,     SLM_TENSOR_EMBD_NORM_BIAS,
    SLM_TENSOR_ATTN_Q,        SLM_TENSOR_ATTN_K,             SLM_TENSOR_ATTN_V,        SLM_TENSOR_ATTN_Q_BIAS,
    SLM_TENSOR_ATTN_K_BIAS,   SLM_TENSOR_ATTN_V_BIAS,        SLM_TENSOR_ATTN_OUT,      SLM_TENSOR_ATTN_OUT_BIAS,
    SLM_TENSOR_ATTN_OUT_NORM, SLM_TENSOR_ATTN_OUT_NORM_BIAS, SLM_TENSOR_FFN_UP,        SLM_TENSOR_FFN_UP_BIAS,
    SLM_TENSOR_FFN_DOWN,      SLM_TENSOR_FFN_DOWN_BIAS,      SLM_TENSOR_LAYER_OUT_NORM, SLM_TENSOR_LAYER_OUT_NORM_BIAS,
    SLM_TENSOR_REL_BIAS,      SLM_TENSOR_ROLES};

static const slm_role_name hf_names[] = {
    {SLM_TENSOR_TOKEN_EMBD, "embeddings.word_embeddings.weight"},
    {SLM_TENSOR_ATTN_Q, "encoder.layer.%u.attention.attn.q.weight"},
    {SLM_TENSOR_ATTN_K, "encoder.layer.%u.attention.attn.k.weight"},
    {SLM_TENSOR_ATTN_V, "encoder.layer.%u.attention.attn.v.weight"},
    {SLM_TENSOR_ATTN_Q_BIAS, "encoder.layer.%u.attention.attn.q.bias"},
    {SLM_TENSOR_ATTN_K_BIAS, "encoder.layer.%u.attention.attn.k.bias"},
    {SLM_TENSOR_ATTN_V_BIAS, "encoder.layer.%u.attention.attn.v.bias"},
    {SLM_TENSOR_ATTN_OUT, "encoder.layer.%u.attention.attn.o.weight"},
    {SLM_TENSOR_ATTN_OUT_BIAS, "encoder.layer.%u.attention.attn.o.bias"},
    {SLM_TENSOR_ATTN_OUT_NORM, "encoder.layer.%u.attention.LayerNorm.weight"},
    {SLM_TENSOR_ATTN_OUT_NORM_BIAS, "encoder.layer.%u.attention.LayerNorm.bias"},
    {SLM_TENSOR_FFN_UP, "encoder.layer.%u.intermediate.dense.weight"},
    {SLM_TENSOR_FFN_DOWN, "encoder.layer.%u.output.dense.weight"},
    {SLM_TENSOR_CLS_DENSE, "classifier.dense.weight"},
    {SLM_TENSOR_CLS_DENSE_BIAS, "classifier.dense.bias"},
    {SLM_TENSOR_CLS_OUT, "classifier.out_proj.weight"},
    {SLM_TENSOR_CLS_OUT_BIAS, "classifier.out_proj.bias"},
    {SLM_TENSOR_ROLES, NULL}};

static slm_status read_mpnet(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    SLM_TRY(slm_family_read_bert(meta, hp, err));
    return slm_meta_u32(meta, "attention.relative_buckets_count", 4, 1024, 32, &hp->relative_buckets, err);
}

const slm_family slm_family_mpnet = {.name = "mpnet", .required = required, .optional = slm_bert_optional, .own_norms = true,
                                    .hf_names = hf_names, .read = read_mpnet};
