/*
 * qwen2 (Qwen 2 and 2.5) and qwen3 (dense).
 *
 * A llama with RoPE on split halves.  Qwen 2 adds biases to query, key and value; Qwen 3 drops them and norms each head of
 * query and key instead, with heads wider than n_embd / n_heads.  Qwen's sliding window is switched off in all published dense
 * models, and GGUF files do not carry it; a source that asks for one is refused rather than answered differently. Sources:
 * transformers' Qwen2Config and Qwen3Config.
 */
#include "engine/arch/family.h"

#include <math.h>

static const slm_tensor_role required2[] = {
    SLM_TENSOR_TOKEN_EMBD,  SLM_TENSOR_OUTPUT_NORM, SLM_TENSOR_ATTN_NORM, SLM_TENSOR_ATTN_Q,   SLM_TENSOR_ATTN_K,
    SLM_TENSOR_ATTN_V,      SLM_TENSOR_ATTN_Q_BIAS, SLM_TENSOR_ATTN_K_BIAS, SLM_TENSOR_ATTN_V_BIAS, SLM_TENSOR_ATTN_OUT,
    SLM_TENSOR_FFN_NORM,    SLM_TENSOR_FFN_GATE,    SLM_TENSOR_FFN_UP,    SLM_TENSOR_FFN_DOWN, SLM_TENSOR_ROLES};
static const slm_tensor_role required3[] = {
    SLM_TENSOR_TOKEN_EMBD, SLM_TENSOR_OUTPUT_NORM, SLM_TENSOR_ATTN_NORM,   SLM_TENSOR_ATTN_Q,   SLM_TENSOR_ATTN_K,
    SLM_TENSOR_ATTN_V,     SLM_TENSOR_ATTN_Q_NORM, SLM_TENSOR_ATTN_K_NORM, SLM_TENSOR_ATTN_OUT, SLM_TENSOR_FFN_NORM,
    SLM_TENSOR_FFN_GATE,   SLM_TENSOR_FFN_UP,      SLM_TENSOR_FFN_DOWN,    SLM_TENSOR_ROLES};
static const slm_tensor_role optional2[] = {SLM_TENSOR_ATTN_OUT_BIAS, SLM_TENSOR_ROLES};
static const slm_tensor_role optional3[] = {SLM_TENSOR_ROLES};

static slm_status read_qwen(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    uint32_t window;
    SLM_TRY(slm_meta_u32(meta, "attention.sliding_window", 0, 1u << 24, 0, &window, err));
    if (window > 0 && window < hp->n_context)
        return slm_fail(err, SLM_UNSUPPORTED, "%s with a sliding window is not supported", meta->architecture);
    return SLM_OK;
}

const slm_family slm_family_qwen2 = {.name = "qwen2", .required = required2, .optional = optional2, .read = read_qwen};
const slm_family slm_family_qwen3 = {.name = "qwen3", .required = required3, .optional = optional3, .read = read_qwen};
