/*
 * granite: IBM's Granite 3 dense models; granitehybrid: Granite 4 where all layers attend and none has experts.
 *
 * A llama with four multipliers: of the embedding, of every residual branch, of the attention scores (in place of
 * 1/sqrt(head_dim)) and of the logits.  The source gives the last as a divisor (logits_scaling); hparams hold its inverse.
 * Granite 4 keeps gate and up in one matrix, and may do without positions.  Its files in GGUF say "granite" where no layer is a Mamba's.
 * Sources: transformers' GraniteConfig and GraniteMoeHybridConfig.
 */
#include "engine/arch/family.h"

#include <math.h>

static const slm_tensor_role required[] = {SLM_TENSOR_TOKEN_EMBD, SLM_TENSOR_OUTPUT_NORM, SLM_TENSOR_ATTN_NORM, SLM_TENSOR_ATTN_Q,
                                           SLM_TENSOR_ATTN_K,     SLM_TENSOR_ATTN_V,      SLM_TENSOR_ATTN_OUT,  SLM_TENSOR_FFN_NORM,
                                           SLM_TENSOR_FFN_GATE,   SLM_TENSOR_FFN_UP,      SLM_TENSOR_FFN_DOWN,  SLM_TENSOR_ROLES};
static const slm_tensor_role optional[] = {SLM_TENSOR_ATTN_Q_BIAS, SLM_TENSOR_ATTN_K_BIAS, SLM_TENSOR_ATTN_V_BIAS,
                                           SLM_TENSOR_ATTN_OUT_BIAS, SLM_TENSOR_ROLES};

static slm_status read_granite(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    float divisor;
    SLM_TRY(slm_meta_float(meta, "embedding_scale", 1e-6, 1e6, 1, &hp->embed_scale, err));
    SLM_TRY(slm_meta_float(meta, "residual_scale", 1e-6, 1e6, 1, &hp->residual_scale, err));
    SLM_TRY(slm_meta_float(meta, "logit_scale", 1e-6, 1e6, 1, &divisor, err));
    hp->logit_scale = 1 / divisor;
    return SLM_OK;
}

const slm_family slm_family_granite = {
    .name = "granite", .permuted = true, .required = required, .optional = optional, .read = read_granite};

static const slm_tensor_role required4[] = {SLM_TENSOR_TOKEN_EMBD, SLM_TENSOR_OUTPUT_NORM, SLM_TENSOR_ATTN_NORM, SLM_TENSOR_ATTN_Q,
                                            SLM_TENSOR_ATTN_K,     SLM_TENSOR_ATTN_V,      SLM_TENSOR_ATTN_OUT,  SLM_TENSOR_FFN_NORM,
                                            SLM_TENSOR_FFN_GATE_UP, SLM_TENSOR_FFN_DOWN,   SLM_TENSOR_ROLES};
static const slm_role_name names4[] = {{SLM_TENSOR_FFN_GATE_UP, "model.layers.%u.shared_mlp.input_linear.weight"},
                                       {SLM_TENSOR_FFN_DOWN, "model.layers.%u.shared_mlp.output_linear.weight"},
                                       {SLM_TENSOR_ROLES, NULL}};

static slm_status read_granitehybrid(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    if (meta->gguf)
        return slm_fail(err, SLM_UNSUPPORTED, "models of the architecture \"granitehybrid\" in a GGUF file are not supported");
    return read_granite(meta, hp, err);
}

const slm_family slm_family_granitehybrid = {
    .name = "granitehybrid", .required = required4, .optional = optional, .hf_names = names4, .read = read_granitehybrid};
