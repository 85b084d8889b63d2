/*
 * roberta: RoBERTa, XLM-RoBERTa (multilingual-e5, bge-m3, paraphrase-multilingual), CamemBERT.
 *
 * A BERT whose positions begin behind the padding token's: rows 0 to pad of the table are never read, so an import leaves them out and
 * the rest is BERT. Token types are one or none in use. The classification head is a dense tanh layer and an output on the first token.
 * Sources: arXiv 1907.11692, 1911.02116; transformers' RobertaModel, XLMRobertaModel.
 */
#include "engine/arch/family.h"

#include <math.h>

static const slm_role_name hf_names[] = {
    {SLM_TENSOR_TOKEN_EMBD, "embeddings.word_embeddings.weight"},
    {SLM_TENSOR_ATTN_Q, "encoder.layer.%u.attention.self.query.weight"},
    {SLM_TENSOR_ATTN_K, "encoder.layer.%u.attention.self.key.weight"},
    {SLM_TENSOR_ATTN_V, "encoder.layer.%u.attention.self.value.weight"},
    {SLM_TENSOR_ATTN_Q_BIAS, "encoder.layer.%u.attention.self.query.bias"},
    {SLM_TENSOR_ATTN_K_BIAS, "encoder.layer.%u.attention.self.key.bias"},
    {SLM_TENSOR_ATTN_V_BIAS, "encoder.layer.%u.attention.self.value.bias"},
    {SLM_TENSOR_ATTN_OUT, "encoder.layer.%u.attention.output.dense.weight"},
    {SLM_TENSOR_ATTN_OUT_BIAS, "encoder.layer.%u.attention.output.dense.bias"},
    {SLM_TENSOR_FFN_UP, "encoder.layer.%u.intermediate.dense.weight"},
    {SLM_TENSOR_FFN_DOWN, "encoder.layer.%u.output.dense.weight"},
    {SLM_TENSOR_CLS_DENSE, "classifier.dense.weight"},
    {SLM_TENSOR_CLS_DENSE_BIAS, "classifier.dense.bias"},
    {SLM_TENSOR_CLS_OUT, "classifier.out_proj.weight"},
    {SLM_TENSOR_CLS_OUT_BIAS, "classifier.out_proj.bias"},
    {SLM_TENSOR_ROLES, NULL}};

static slm_status read_roberta(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    SLM_TRY(slm_family_read_bert(meta, hp, err));
    return slm_meta_u32(meta, "tokenizer.ggml.token_type_count", 1, 1024, 1, &hp->n_token_types, err);
}

const slm_family slm_family_roberta = {.name = "roberta", .required = slm_bert_required, .optional = slm_bert_optional, .own_norms = true,
                                      .hf_names = hf_names, .read = read_roberta};

static const slm_tensor_role electra_optional[] = {
    SLM_TENSOR_CLS_DENSE,     SLM_TENSOR_CLS_DENSE_BIAS, SLM_TENSOR_CLS_OUT,   SLM_TENSOR_CLS_OUT_BIAS,
    SLM_TENSOR_ATTN_IN_SCALE, SLM_TENSOR_FFN_IN_SCALE,   SLM_TENSOR_EMBD_PROJ, SLM_TENSOR_EMBD_PROJ_BIAS, SLM_TENSOR_ROLES};

/* ELECTRA's discriminator is a BERT by another name; its head is RoBERTa's with GELU in place of tanh. */
static slm_status read_electra(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    SLM_TRY(slm_family_read_bert(meta, hp, err));
    SLM_TRY(slm_family_read_lookup(meta, hp, err));
    hp->head_squash = SLM_SQUASH_GELU_ERF;
    return SLM_OK;
}

const slm_family slm_family_electra = {.name = "electra", .required = slm_bert_required, .optional = electra_optional, .own_norms = true,
                                      .hf_names = hf_names, .read = read_electra};
