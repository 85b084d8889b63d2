/*
 * modernbert: ModernBERT, mmBERT, and embedders made of them (gte-modernbert, nomic modernbert-embed); laya: decision models of it.
 *
 * Norms of weights alone, before each block, but not before the first attention, whose input is the normed embedding; RoPE with two bases;
 * every third layer, beginning with the first, sees everything, the others a window to both sides; GeGLU (erf) with gate and up in one
 * matrix; one norm at the end.  No biases.  The head: mean or first row, dense, GELU, norm, output.
 *
 * laya (GGUF files with a decision.type): behind the last norm a row is added that says of which kind the question is; the last
 * decision.block_count blocks are a transformer of PyTorch's kind (norms before, biases, ReLU, no positions, every row sees every other);
 * each option's mark then goes through norm, dense, GELU, output to one number.
 * Sources: arXiv 2412.13663; transformers' ModernBertModel; the Laya models' DecisionModel and llama.cpp's key names.
 */
#include "engine/arch/family.h"

#include <math.h>
#include <string.h>

static const slm_tensor_role required[] = {SLM_TENSOR_TOKEN_EMBD,  SLM_TENSOR_EMBD_NORM, SLM_TENSOR_OUTPUT_NORM, SLM_TENSOR_ATTN_NORM,
                                           SLM_TENSOR_ATTN_QKV,    SLM_TENSOR_ATTN_OUT,  SLM_TENSOR_FFN_NORM,
                                           SLM_TENSOR_FFN_GATE_UP, SLM_TENSOR_FFN_DOWN,  SLM_TENSOR_ROLES};
static const slm_tensor_role optional[] = {SLM_TENSOR_CLS_DENSE, SLM_TENSOR_CLS_DENSE_BIAS, SLM_TENSOR_CLS_NORM, SLM_TENSOR_CLS_NORM_BIAS,
                                           SLM_TENSOR_CLS_OUT,   SLM_TENSOR_CLS_OUT_BIAS,   SLM_TENSOR_ROLES};

static const slm_tensor_role laya_required[] = {
    SLM_TENSOR_TOKEN_EMBD, SLM_TENSOR_EMBD_NORM,     SLM_TENSOR_OUTPUT_NORM,   SLM_TENSOR_ATTN_NORM,     SLM_TENSOR_ATTN_NORM_BIAS,
    SLM_TENSOR_ATTN_QKV,   SLM_TENSOR_ATTN_QKV_BIAS, SLM_TENSOR_ATTN_OUT,      SLM_TENSOR_ATTN_OUT_BIAS, SLM_TENSOR_FFN_NORM,
    SLM_TENSOR_FFN_GATE_UP, SLM_TENSOR_FFN_NORM_BIAS, SLM_TENSOR_FFN_UP,       SLM_TENSOR_FFN_UP_BIAS,   SLM_TENSOR_FFN_DOWN,
    SLM_TENSOR_FFN_DOWN_BIAS, SLM_TENSOR_TYPE_EMBD,  SLM_TENSOR_CLS_NORM,      SLM_TENSOR_CLS_NORM_BIAS, SLM_TENSOR_CLS_DENSE,
    SLM_TENSOR_CLS_DENSE_BIAS, SLM_TENSOR_CLS_OUT,   SLM_TENSOR_CLS_OUT_BIAS,  SLM_TENSOR_ROLES};

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

/* What files say in another way than directories: the whole width of the window; which layers slide, by a period or by each. */
static slm_status read_file(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    char act[32] = "gelu";
    double flag;
    uint32_t causal;
    SLM_TRY(slm_meta_u32(meta, "attention.causal", 0, 0, 0, &causal, err));
    SLM_TRY(slm_meta_float(meta, "rope.freq_base", 1, 1e9, 10000, &hp->rope_base, err));
    SLM_TRY(slm_meta_u32(meta, "attention.sliding_window", 0, 1u << 24, 0, &hp->window, err));
    hp->window /= 2;
    if (hp->window > 0 && meta->number(meta->arg, "attention.sliding_window_pattern", hp->n_layers - 1, &flag) &&
        !meta->number(meta->arg, "attention.sliding_window_pattern", SLM_MAX_LAYERS, &flag))
        slm_meta_slides(meta, hp);
    else
        SLM_TRY(slm_meta_u32(meta, "attention.sliding_window_pattern", 2, 1024, 3, &hp->window_pattern, err));
    (void) meta->string(meta->arg, "hidden_activation", act, sizeof act);
    if (strcmp(act, "silu") == 0)
        hp->activation = SLM_ACT_SWIGLU;
    else if (strcmp(act, "gelu") != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "%s.hidden_activation is \"%s\", which is not supported", meta->architecture, act);
    SLM_TRY(slm_meta_u32(meta, "pooling_type", 0, 4, 1, &causal, err));
    if (causal == 4)
        return slm_fail(err, SLM_UNSUPPORTED, "a classification head of the architecture \"%s\" in a GGUF file is not supported",
                        meta->architecture);
    return SLM_OK;
}

static slm_status read_modernbert(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    uint32_t n_rot = hp->n_rot;
    SLM_TRY(slm_family_read_bert(meta, hp, err));
    hp->norm_after_sum = hp->post_norm_only = 0;
    hp->skip_first_norm = 1;
    hp->activation = SLM_ACT_GEGLU_ERF;
    hp->n_token_types = 0;
    hp->n_rot = meta->gguf ? n_rot : hp->head_dim;
    hp->head_squash = SLM_SQUASH_GELU_ERF;
    hp->window_phase = 1;
    SLM_TRY(slm_meta_float(meta, "rope.freq_base_swa", 1, 1e9, 10000, &hp->rope_base_local, err));
    if (meta->gguf)
        return read_file(meta, hp, err);
    SLM_TRY(slm_meta_float(meta, "rope.freq_base", 1, 1e9, 160000, &hp->rope_base, err));
    SLM_TRY(slm_meta_u32(meta, "attention.sliding_window", 0, 1u << 24, 64, &hp->window, err));
    return slm_meta_u32(meta, "attention.full_every", 1, 1024, 3, &hp->window_pattern, err);
}

static slm_status read_laya(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    SLM_TRY(read_modernbert(meta, hp, err));
    hp->joint = SLM_JOINT_LAYA;
    SLM_TRY(slm_meta_u32(meta, "decision.max_head_tokens", 1, 1u << 16, NAN, &hp->decide_tokens, err));
    SLM_TRY(slm_meta_u32(meta, "tokenizer.ggml.seperator_token_id", 0, hp->n_vocab - 1, NAN, &hp->joint_text, err));
    return slm_decide_read(meta, hp, err);
}

const slm_family slm_family_modernbert = {.name = "modernbert", .gguf = "modern-bert", .required = required, .optional = optional,
                                         .first_without_norm = true, .tag_dense = true, .own_norms = true, .hf_names = hf_names,
                                         .read = read_modernbert};
const slm_family slm_family_laya = {.name = "laya", .gguf = "modern-bert", .decides = "laya", .required = laya_required, .tag_dense = true,
                                   .first_without_norm = true, .own_norms = true, .late_ff = true, .read = read_laya};
