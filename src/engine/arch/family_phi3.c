/*
 * phi3: Phi-3, Phi-3.5, Phi-4 (14B) and Phi-4-mini.
 *
 * A llama whose projections are fused: query, key and value in one matrix, gate and up in another (gate's rows first); both are
 * split by rows at import.  RoPE on split halves, of the first n_rot dimensions only in Phi-4-mini (partial rotary).
 * Long-context models carry two sets of divisors ("longrope") and a factor that multiplies cos and sin; transformers takes the
 * long set for sequences that go beyond the original context, and so do we (llama.cpp decides by the size of the context
 * instead). Sliding window: 2,047 in Phi-3-mini-4k; a window as large as the context is none. Sources: transformers' Phi3Config
 * and Phi3RotaryEmbedding; the LongRoPE paper (arXiv 2402.13753).
 */
#include "engine/arch/family.h"

#include <math.h>

static const slm_tensor_role required[] = {SLM_TENSOR_TOKEN_EMBD,  SLM_TENSOR_OUTPUT_NORM, SLM_TENSOR_ATTN_NORM,
                                           SLM_TENSOR_ATTN_QKV,    SLM_TENSOR_ATTN_OUT,    SLM_TENSOR_FFN_NORM,
                                           SLM_TENSOR_FFN_GATE_UP, SLM_TENSOR_FFN_DOWN,    SLM_TENSOR_ROLES};
static const slm_tensor_role optional[] = {SLM_TENSOR_ROLES};

static slm_status read_phi3(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    if (meta->factors != NULL && meta->factors_long == NULL)
        return slm_fail(err, SLM_FORMAT, "longrope needs long factors beside the short ones");
    return slm_meta_u32(meta, "attention.sliding_window", 0, 1u << 24, 0, &hp->window, err);
}

const slm_family slm_family_phi3 = {.name = "phi3", .required = required, .optional = optional, .read = read_phi3};
