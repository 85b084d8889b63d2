/*
 * granite: IBM's Granite 3 dense models.
 *
 * A llama with four multipliers: of the embedding, of every residual branch, of the attention scores (in place of
 * 1/sqrt(head_dim)) and of the logits.  The source gives the last as a divisor (logits_scaling); hparams hold its inverse.
 * Source: transformers' GraniteConfig.
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
