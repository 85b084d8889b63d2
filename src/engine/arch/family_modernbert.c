/*
 * modernbert: ModernBERT, mmBERT, and embedders made of them (gte-modernbert, nomic modernbert-embed).
 *
 * Norms of weights alone, before each block, but not before the first attention, whose input is the normed embedding; RoPE with two bases;
 * every third layer, beginning with the first, sees everything, the others a window to both sides; GeGLU (erf) with gate and up in one
 * matrix; one norm at the end.  No biases.  The head: mean or first row, dense, GELU, norm, output.
 * Sources: arXiv 2412.13663; transformers' ModernBertModel.
 */
#include "engine/arch/family.h"

#include <math.h>

static const slm_tensor_role required[] = {SLM_TENSOR_TOKEN_EMBD,  SLM_TENSOR_EMBD_NORM, SLM_TENSOR_OUTPUT_NORM, SLM_TENSOR_ATTN_NORM,
                                           SLM_TENSOR_ATTN_QKV,    SLM_TENSOR_ATTN_OUT,  SLM_TENSOR_FFN_NORM,
                                           SLM_TENSOR_FFN_GATE_UP, SLM_TENSOR_FFN_DOWN,  SLM_TENSOR_ROLES};
static const slm_tensor_role optional[] = {SLM_TENSOR_CLS_DENSE, SLM_TENSOR_CLS_DENSE_BIAS, SLM_TENSOR_CLS_NORM, SLM_TENSOR_CLS_NORM_BIAS,
                                           SLM_TENSOR_CLS_OUT,   SLM_TENSOR_CLS_OUT_BIAS,   SLM_TENSOR_ROLES};

static const slm_role_name hf_names[] = {{SLM_TENSOR_TOKEN_EMBD, "embeddings.tok_embeddings.weight"},
                                        {SLM_TENSOR_EMBD_NORM, "embeddings.norm.weight"},
                                        {SLM_TENSOR_OUTPUT_NORM, "final_norm.weight"},
                                        {SLM_TENSOR_ATTN_NORM, "layers.%u.attn_norm.weight"},
                                        {SLM_TENSOR_ATTN_QKV, "layers.%u.attn.Wqkv.weight"},
                                        {SLM_TENSOR_ATTN_OUT, "layers.%u.attn.Wo.weight"},
                                        {SLM_TENSOR_FFN_NORM, "layers.%u.mlp_norm.weight"},
                                        {SLM_TENSOR_FFN_GATE_UP, "layers.%u.mlp.Wi.weight"},
                                        {SLM_TENSOR_FFN_DOWN, "layers.%u.mlp.Wo.weight"},
                                        {SLM_TENSOR_CLS_DENSE, "head.dense.weight"},
                                        {SLM_TENSOR_CLS_DENSE_BIAS, "head.dense.bias"},
                                        {SLM_TENSOR_CLS_OUT, "classifier.weight"},
    {SLM_TENSOR_CLS_OUT_BIAS, "classifier.bias"},
    {SLM_TENSOR_ROLES, NULL}};

static slm_status read_modernbert(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    SLM_TRY(slm_family_read_bert(meta, hp, err));
    hp->norm_after_sum = hp->post_norm_only = 0;
    hp->skip_first_norm = 1;
    hp->activation = SLM_ACT_GEGLU_ERF;
    hp->n_token_types = 0;
    hp->n_rot = hp->head_dim;
    hp->head_squash = SLM_SQUASH_GELU_ERF;
    hp->window_phase = 1;
    SLM_TRY(slm_meta_float(meta, "rope.freq_base", 1, 1e9, 160000, &hp->rope_base, err));
    SLM_TRY(slm_meta_float(meta, "rope.freq_base_swa", 1, 1e9, 10000, &hp->rope_base_local, err));
    SLM_TRY(slm_meta_u32(meta, "attention.sliding_window", 0, 1u << 24, 64, &hp->window, err));
    return slm_meta_u32(meta, "attention.full_every", 1, 1024, 3, &hp->window_pattern, err);
}

const slm_family slm_family_modernbert = {.name = "modernbert", .required = required, .optional = optional, .first_without_norm = true,
                                         .tag_dense = true,
                                         .own_norms = true, .hf_names = hf_names, .read = read_modernbert};
