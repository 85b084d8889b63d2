/*
 * nomic-bert: nomic-embed-text v1 and v1.5.
 *
 * A BERT with RoPE in place of a table of positions, SwiGLU in place of GELU, and no biases but those of its norms.
 * Sources: arXiv 2402.01613; transformers' NomicBertModel.
 */
#include "engine/arch/family.h"

#include <math.h>

static const slm_tensor_role required[] = {
    SLM_TENSOR_TOKEN_EMBD,    SLM_TENSOR_TYPE_EMBD,          SLM_TENSOR_EMBD_NORM, SLM_TENSOR_EMBD_NORM_BIAS, SLM_TENSOR_ATTN_QKV,
    SLM_TENSOR_ATTN_OUT,      SLM_TENSOR_ATTN_OUT_NORM,      SLM_TENSOR_ATTN_OUT_NORM_BIAS, SLM_TENSOR_FFN_UP, SLM_TENSOR_FFN_GATE,
    SLM_TENSOR_FFN_DOWN,      SLM_TENSOR_LAYER_OUT_NORM,     SLM_TENSOR_LAYER_OUT_NORM_BIAS, SLM_TENSOR_ROLES};
static const slm_tensor_role optional[] = {SLM_TENSOR_ROLES};

static const slm_role_name hf_names[] = {{SLM_TENSOR_TOKEN_EMBD, "embeddings.word_embeddings.weight"},
                                        {SLM_TENSOR_EMBD_NORM, "emb_ln.weight"},
                                        {SLM_TENSOR_EMBD_NORM_BIAS, "emb_ln.bias"},
                                        {SLM_TENSOR_ATTN_QKV, "encoder.layers.%u.attn.Wqkv.weight"},
                                        {SLM_TENSOR_ATTN_OUT, "encoder.layers.%u.attn.out_proj.weight"},
                                        {SLM_TENSOR_ATTN_OUT_NORM, "encoder.layers.%u.norm1.weight"},
                                        {SLM_TENSOR_ATTN_OUT_NORM_BIAS, "encoder.layers.%u.norm1.bias"},
                                        {SLM_TENSOR_FFN_UP, "encoder.layers.%u.mlp.fc11.weight"},
                                        {SLM_TENSOR_FFN_GATE, "encoder.layers.%u.mlp.fc12.weight"},
                                        {SLM_TENSOR_FFN_DOWN, "encoder.layers.%u.mlp.fc2.weight"},
                                        {SLM_TENSOR_LAYER_OUT_NORM, "encoder.layers.%u.norm2.weight"},
                                        {SLM_TENSOR_LAYER_OUT_NORM_BIAS, "encoder.layers.%u.norm2.bias"},
                                        {SLM_TENSOR_ROLES, NULL}};

static slm_status read_nomic(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    SLM_TRY(slm_family_read_bert(meta, hp, err));
    hp->activation = SLM_ACT_SWIGLU;
    hp->n_rot = hp->head_dim;
    return slm_meta_float(meta, "rope.freq_base", 1, 1e9, 1000, &hp->rope_base, err);
}

const slm_family slm_family_nomic_bert = {.name = "nomic-bert", .required = required, .optional = optional, .own_norms = true,
                                         .hf_names = hf_names, .read = read_nomic};
