/*
 * albert: ALBERT 1 and 2, and embedders made of them (paraphrase-albert).
 *
 * A BERT whose layers all have the weights of the first, with tables of embeddings narrower than the model, projected behind their norm.
 * Version 2 takes the tanh form of GELU, version 1 the exact one.  Its head is BERT's by other names.
 * Sources: arXiv 1909.11942; transformers' AlbertModel.
 */
#include "engine/arch/family.h"

#define LAYER "encoder.albert_layer_groups.0.albert_layers.0."

static const slm_tensor_role optional[] = {SLM_TENSOR_CLS_DENSE, SLM_TENSOR_CLS_DENSE_BIAS, SLM_TENSOR_CLS_OUT, SLM_TENSOR_CLS_OUT_BIAS,
                                           SLM_TENSOR_EMBD_PROJ, SLM_TENSOR_EMBD_PROJ_BIAS, SLM_TENSOR_ROLES};

static const slm_role_name hf_names[] = {{SLM_TENSOR_TOKEN_EMBD, "embeddings.word_embeddings.weight"},
                                        {SLM_TENSOR_EMBD_PROJ, "encoder.embedding_hidden_mapping_in.weight"},
                                        {SLM_TENSOR_EMBD_PROJ_BIAS, "encoder.embedding_hidden_mapping_in.bias"},
                                        {SLM_TENSOR_ATTN_Q, LAYER "attention.query.weight"},
                                        {SLM_TENSOR_ATTN_K, LAYER "attention.key.weight"},
                                        {SLM_TENSOR_ATTN_V, LAYER "attention.value.weight"},
                                        {SLM_TENSOR_ATTN_Q_BIAS, LAYER "attention.query.bias"},
                                        {SLM_TENSOR_ATTN_K_BIAS, LAYER "attention.key.bias"},
                                        {SLM_TENSOR_ATTN_V_BIAS, LAYER "attention.value.bias"},
                                        {SLM_TENSOR_ATTN_OUT, LAYER "attention.dense.weight"},
                                        {SLM_TENSOR_ATTN_OUT_BIAS, LAYER "attention.dense.bias"},
                                        {SLM_TENSOR_ATTN_OUT_NORM, LAYER "attention.LayerNorm.weight"},
                                        {SLM_TENSOR_ATTN_OUT_NORM_BIAS, LAYER "attention.LayerNorm.bias"},
                                        {SLM_TENSOR_FFN_UP, LAYER "ffn.weight"},
                                        {SLM_TENSOR_FFN_UP_BIAS, LAYER "ffn.bias"},
                                        {SLM_TENSOR_FFN_DOWN, LAYER "ffn_output.weight"},
                                        {SLM_TENSOR_FFN_DOWN_BIAS, LAYER "ffn_output.bias"},
                                        {SLM_TENSOR_LAYER_OUT_NORM, LAYER "full_layer_layer_norm.weight"},
                                        {SLM_TENSOR_LAYER_OUT_NORM_BIAS, LAYER "full_layer_layer_norm.bias"},
                                        {SLM_TENSOR_CLS_DENSE, "pooler.weight"},
                                        {SLM_TENSOR_CLS_DENSE_BIAS, "pooler.bias"},
                                        {SLM_TENSOR_CLS_OUT, "classifier.weight"},
                                        {SLM_TENSOR_CLS_OUT_BIAS, "classifier.bias"},
                                        {SLM_TENSOR_ROLES, NULL}};

static slm_status read_albert(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    uint32_t exact;
    SLM_TRY(slm_family_read_bert(meta, hp, err));
    SLM_TRY(slm_family_read_lookup(meta, hp, err));
    SLM_TRY(slm_meta_u32(meta, "slm.gelu_exact", 0, 1, 0, &exact, err));
    hp->shared_layers = 1;
    hp->activation = exact ? SLM_ACT_GELU_ERF : SLM_ACT_GELU_TANH;
    return SLM_OK;
}

const slm_family slm_family_albert = {.name = "albert", .required = slm_bert_required, .optional = optional, .own_norms = true,
                                     .hf_names = hf_names, .read = read_albert};
