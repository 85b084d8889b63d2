/*
 * deberta: DeBERTa version 2 and 3, mDeBERTa, and what is made of them: classifiers of natural-language inference above all.
 *
 * A BERT without positions: queries and keys meet keys and queries of the distance between them, which are the layer's own projections of
 * one normed table (model/distance.c).  The head is a dense GELU layer on the first token.
 * Sources: arXiv 2006.03654, 2111.09543; transformers' DebertaV2Model.
 */
#include "engine/arch/family.h"

#include <math.h>

static const slm_tensor_role required[] = {
    SLM_TENSOR_TOKEN_EMBD,         SLM_TENSOR_EMBD_NORM,     SLM_TENSOR_EMBD_NORM_BIAS, SLM_TENSOR_ATTN_Q,
    SLM_TENSOR_ATTN_K,             SLM_TENSOR_ATTN_V,        SLM_TENSOR_ATTN_Q_BIAS,    SLM_TENSOR_ATTN_K_BIAS,
    SLM_TENSOR_ATTN_V_BIAS,        SLM_TENSOR_ATTN_OUT,      SLM_TENSOR_ATTN_OUT_BIAS,  SLM_TENSOR_ATTN_OUT_NORM,
    SLM_TENSOR_ATTN_OUT_NORM_BIAS, SLM_TENSOR_FFN_UP,        SLM_TENSOR_FFN_UP_BIAS,    SLM_TENSOR_FFN_DOWN,
    SLM_TENSOR_FFN_DOWN_BIAS,      SLM_TENSOR_LAYER_OUT_NORM, SLM_TENSOR_LAYER_OUT_NORM_BIAS, SLM_TENSOR_REL_KEY,
    SLM_TENSOR_REL_QUERY,          SLM_TENSOR_ROLES};
static const slm_tensor_role optional[] = {SLM_TENSOR_CLS_DENSE, SLM_TENSOR_CLS_DENSE_BIAS, SLM_TENSOR_CLS_OUT, SLM_TENSOR_CLS_OUT_BIAS,
                                           SLM_TENSOR_ROLES};

static const slm_role_name hf_names[] = {{SLM_TENSOR_TOKEN_EMBD, "embeddings.word_embeddings.weight"},
                                        {SLM_TENSOR_ATTN_Q, "encoder.layer.%u.attention.self.query_proj.weight"},
                                        {SLM_TENSOR_ATTN_K, "encoder.layer.%u.attention.self.key_proj.weight"},
                                        {SLM_TENSOR_ATTN_V, "encoder.layer.%u.attention.self.value_proj.weight"},
                                        {SLM_TENSOR_ATTN_Q_BIAS, "encoder.layer.%u.attention.self.query_proj.bias"},
                                        {SLM_TENSOR_ATTN_K_BIAS, "encoder.layer.%u.attention.self.key_proj.bias"},
                                        {SLM_TENSOR_ATTN_V_BIAS, "encoder.layer.%u.attention.self.value_proj.bias"},
                                        {SLM_TENSOR_ATTN_OUT, "encoder.layer.%u.attention.output.dense.weight"},
                                        {SLM_TENSOR_ATTN_OUT_BIAS, "encoder.layer.%u.attention.output.dense.bias"},
                                        {SLM_TENSOR_FFN_UP, "encoder.layer.%u.intermediate.dense.weight"},
                                        {SLM_TENSOR_FFN_DOWN, "encoder.layer.%u.output.dense.weight"},
                                        {SLM_TENSOR_CLS_DENSE, "pooler.dense.weight"},
                                        {SLM_TENSOR_CLS_DENSE_BIAS, "pooler.dense.bias"},
                                        {SLM_TENSOR_CLS_OUT, "classifier.weight"},
                                        {SLM_TENSOR_CLS_OUT_BIAS, "classifier.bias"},
                                        {SLM_TENSOR_ROLES, NULL}};

static slm_status read_deberta(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    SLM_TRY(slm_family_read_bert(meta, hp, err));
    SLM_TRY(slm_meta_u32(meta, "attention.relative_span", 1, 4096, NAN, &hp->relative_span, err));
    SLM_TRY(slm_meta_u32(meta, "attention.relative_far", 0, 1u << 24, 0, &hp->relative_far, err));
    hp->head_squash = SLM_SQUASH_GELU_ERF;
    hp->n_token_types = 0;
    hp->attn_scale = (float) (1 / sqrt(3.0 * hp->head_dim)); /* of three sums */
    return SLM_OK;
}

const slm_family slm_family_deberta = {.name = "deberta", .required = required, .optional = optional, .own_norms = true,
                                      .hf_names = hf_names, .read = read_deberta};
