/*
 * bert: encoders such as all-MiniLM, BGE, E5 (sentence embeddings) and MiniLM cross-encoders (rerankers).
 *
 * Token, position and type embeddings are summed and layer-normed; every layer is attention over all positions (no mask but the
 * sequence's end), residual, layer norm, GELU (erf) feed-forward with biases, residual, layer norm.  No RoPE, no output norm, no head.
 * Pooling: mean over the tokens or the first one, then L2 normalization; a cross-encoder puts a dense tanh layer and one output row
 * on the first token instead.
 * Sources: transformers' BertModel; sentence-transformers' modules.json; the GGUF specification for the names.
 */
#include "engine/arch/family.h"

#include <math.h>

const slm_tensor_role slm_bert_required[] = {SLM_TENSOR_TOKEN_EMBD,
                                           SLM_TENSOR_POSITION_EMBD,
                                           SLM_TENSOR_TYPE_EMBD,
                                           SLM_TENSOR_EMBD_NORM,
                                           SLM_TENSOR_EMBD_NORM_BIAS,
                                           SLM_TENSOR_ATTN_Q,
                                           SLM_TENSOR_ATTN_K,
                                           SLM_TENSOR_ATTN_V,
                                           SLM_TENSOR_ATTN_Q_BIAS,
                                           SLM_TENSOR_ATTN_K_BIAS,
                                           SLM_TENSOR_ATTN_V_BIAS,
                                           SLM_TENSOR_ATTN_OUT,
                                           SLM_TENSOR_ATTN_OUT_BIAS,
                                           SLM_TENSOR_ATTN_OUT_NORM,
                                           SLM_TENSOR_ATTN_OUT_NORM_BIAS,
                                           SLM_TENSOR_FFN_UP,
                                           SLM_TENSOR_FFN_UP_BIAS,
                                           SLM_TENSOR_FFN_DOWN,
                                           SLM_TENSOR_FFN_DOWN_BIAS,
                                           SLM_TENSOR_LAYER_OUT_NORM,
                                           SLM_TENSOR_LAYER_OUT_NORM_BIAS,
                                           SLM_TENSOR_ROLES};
const slm_tensor_role slm_bert_optional[] = {SLM_TENSOR_CLS_DENSE, SLM_TENSOR_CLS_DENSE_BIAS, SLM_TENSOR_CLS_OUT, SLM_TENSOR_CLS_OUT_BIAS,
                                           SLM_TENSOR_ATTN_IN_SCALE, SLM_TENSOR_FFN_IN_SCALE, SLM_TENSOR_ROLES};

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
    {SLM_TENSOR_CLS_OUT, "classifier.weight"},
    {SLM_TENSOR_CLS_OUT_BIAS, "classifier.bias"},
    {SLM_TENSOR_ROLES, NULL}};

slm_status slm_family_read_bert(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    SLM_TRY(slm_meta_float(meta, "attention.layer_norm_epsilon", 1e-13, 1e-2, NAN, &hp->norm_eps, err));
    SLM_TRY(slm_meta_u32(meta, "tokenizer.ggml.token_type_count", 1, 1024, 2, &hp->n_token_types, err));
    hp->head_squash = SLM_SQUASH_TANH;
    hp->norm_after_sum = 1;
    hp->norm = SLM_NORM_LAYER;
    hp->activation = SLM_ACT_GELU_ERF;
    hp->post_norm_only = 1;
    hp->causal = 0;
    hp->n_rot = 0;
    hp->tied_head = 0;
    return SLM_OK;
}

slm_status slm_family_read_lookup(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    uint32_t width;
    SLM_TRY(slm_meta_u32(meta, "slm.lookup", 1, hp->n_embd, hp->n_embd, &width, err));
    hp->n_lookup = width == hp->n_embd ? 0 : width;
    if (width % 32 != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "embeddings of a width that is no multiple of 32 are not supported");
    return SLM_OK;
}

const slm_family slm_family_bert = {.name = "bert", .required = slm_bert_required, .optional = slm_bert_optional, .own_norms = true,
                                   .hf_names = hf_names, .read = slm_family_read_bert};
