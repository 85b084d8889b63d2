/*
 * jina-bert-v3: jina-embeddings-v3.
 *
 * An XLM-RoBERTa that turns queries and keys in place of a table of positions; query, key and value stand in one matrix.  It comes with
 * adapters for tasks (retrieval.query, text-matching, ...), which are loaded apart (import/hf/tasks.h) and change the tables of embeddings
 * too; without one it gives what it gave before it learned them, as the reference does.
 * Sources: arXiv 2409.10173; transformers' JinaEmbeddingsV3Model; the modelling files that the model publishes
 * (xlm-roberta-flash-implementation); llama.cpp's conversion for the names in GGUF.
 */
#include "engine/arch/family.h"

static const slm_tensor_role required[] = {
    SLM_TENSOR_TOKEN_EMBD,    SLM_TENSOR_TYPE_EMBD,     SLM_TENSOR_EMBD_NORM,          SLM_TENSOR_EMBD_NORM_BIAS,
    SLM_TENSOR_ATTN_QKV,      SLM_TENSOR_ATTN_QKV_BIAS, SLM_TENSOR_ATTN_OUT,           SLM_TENSOR_ATTN_OUT_BIAS,
    SLM_TENSOR_ATTN_OUT_NORM, SLM_TENSOR_ATTN_OUT_NORM_BIAS, SLM_TENSOR_FFN_UP,        SLM_TENSOR_FFN_UP_BIAS,
    SLM_TENSOR_FFN_DOWN,      SLM_TENSOR_FFN_DOWN_BIAS, SLM_TENSOR_LAYER_OUT_NORM,     SLM_TENSOR_LAYER_OUT_NORM_BIAS, SLM_TENSOR_ROLES};
static const slm_tensor_role optional[] = {SLM_TENSOR_CLS_DENSE, SLM_TENSOR_CLS_DENSE_BIAS, SLM_TENSOR_CLS_OUT, SLM_TENSOR_CLS_OUT_BIAS,
                                           SLM_TENSOR_ROLES};

#define LAYER "encoder.layers.%u."
static const slm_role_name hf_names[] = {{SLM_TENSOR_TOKEN_EMBD, "embeddings.word_embeddings.weight"},
                                        {SLM_TENSOR_EMBD_NORM, "emb_ln.weight"},
                                        {SLM_TENSOR_EMBD_NORM_BIAS, "emb_ln.bias"},
                                        {SLM_TENSOR_ATTN_QKV, LAYER "mixer.Wqkv.weight"},
                                        {SLM_TENSOR_ATTN_QKV_BIAS, LAYER "mixer.Wqkv.bias"},
                                        {SLM_TENSOR_ATTN_OUT, LAYER "mixer.out_proj.weight"},
                                        {SLM_TENSOR_ATTN_OUT_BIAS, LAYER "mixer.out_proj.bias"},
                                        {SLM_TENSOR_ATTN_OUT_NORM, LAYER "norm1.weight"},
                                        {SLM_TENSOR_ATTN_OUT_NORM_BIAS, LAYER "norm1.bias"},
                                        {SLM_TENSOR_FFN_UP, LAYER "mlp.fc1.weight"},
                                        {SLM_TENSOR_FFN_UP_BIAS, LAYER "mlp.fc1.bias"},
                                        {SLM_TENSOR_FFN_DOWN, LAYER "mlp.fc2.weight"},
                                        {SLM_TENSOR_FFN_DOWN_BIAS, LAYER "mlp.fc2.bias"},
                                        {SLM_TENSOR_LAYER_OUT_NORM, LAYER "norm2.weight"},
                                        {SLM_TENSOR_LAYER_OUT_NORM_BIAS, LAYER "norm2.bias"},
                                        {SLM_TENSOR_CLS_DENSE, "classifier.dense.weight"},
                                        {SLM_TENSOR_CLS_DENSE_BIAS, "classifier.dense.bias"},
                                        {SLM_TENSOR_CLS_OUT, "classifier.out_proj.weight"},
                                        {SLM_TENSOR_CLS_OUT_BIAS, "classifier.out_proj.bias"},
                                        {SLM_TENSOR_ROLES, NULL}};

/* As the modules of transformers' class are called. */
static const slm_role_name peft_names[] = {{SLM_TENSOR_TOKEN_EMBD, "embeddings.word_embeddings.weight"},
                                          {SLM_TENSOR_TYPE_EMBD, "embeddings.token_type_embeddings.weight"},
                                          {SLM_TENSOR_ATTN_Q, "layers.%u.self_attn.q_proj.weight"},
                                          {SLM_TENSOR_ATTN_K, "layers.%u.self_attn.k_proj.weight"},
                                          {SLM_TENSOR_ATTN_V, "layers.%u.self_attn.v_proj.weight"},
                                          {SLM_TENSOR_ATTN_OUT, "layers.%u.self_attn.o_proj.weight"},
                                          {SLM_TENSOR_FFN_UP, "layers.%u.mlp.fc1.weight"},
                                          {SLM_TENSOR_FFN_DOWN, "layers.%u.mlp.fc2.weight"},
                                          {SLM_TENSOR_ROLES, NULL}};

static slm_status read_jina3(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    SLM_TRY(slm_family_read_bert(meta, hp, err));
    hp->n_rot = hp->head_dim;
    return slm_meta_u32(meta, "tokenizer.ggml.token_type_count", 1, 1024, 1, &hp->n_token_types, err);
}

const slm_family slm_family_jina_bert_v3 = {.name = "jina-bert-v3", .required = required, .optional = optional, .own_norms = true,
                                           .hf_names = hf_names, .peft_names = peft_names, .read = read_jina3};
