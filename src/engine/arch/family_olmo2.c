/*
 * olmo2 (Ai2's OLMo 2 and 3) and exaone4 (LG's EXAONE 4.0): families that norm what a block gives, not what it takes.
 *
 * No norm before a block: the outputs of attention and feed-forward are normed before they join the residual.  RoPE is on split halves.
 * olmo2: queries and keys are normed over their whole width (all heads together).  The head is not tied.  OLMo 3 adds a window in three
 * of four layers, whose RoPE is not scaled (YaRN is that of the full layers alone); from directories only.
 * exaone4: each head of query and key is normed.  The 32B model slides in three of four layers, and the others, which see everything,
 * have no RoPE; the 1.2B model has no window, and RoPE everywhere.
 * Sources: transformers' Olmo2Config, Olmo2DecoderLayer, Exaone4Config and Exaone4Attention.
 */
#include "engine/arch/family.h"

#include <math.h>

static const slm_tensor_role required[] = {
    SLM_TENSOR_TOKEN_EMBD, SLM_TENSOR_OUTPUT_NORM, SLM_TENSOR_ATTN_Q,   SLM_TENSOR_ATTN_K,         SLM_TENSOR_ATTN_V,
    SLM_TENSOR_ATTN_Q_NORM, SLM_TENSOR_ATTN_K_NORM, SLM_TENSOR_ATTN_OUT, SLM_TENSOR_ATTN_POST_NORM, SLM_TENSOR_FFN_GATE,
    SLM_TENSOR_FFN_UP,     SLM_TENSOR_FFN_DOWN,    SLM_TENSOR_FFN_POST_NORM, SLM_TENSOR_ROLES};
static const slm_tensor_role optional[] = {SLM_TENSOR_ROLES};

static slm_status read_olmo2(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    uint32_t window;
    SLM_TRY(slm_meta_u32(meta, "attention.sliding_window", 0, 1u << 24, 0, &window, err));
    if (window > 0 && meta->gguf)
        return slm_fail(err, SLM_UNSUPPORTED, "olmo2 with a sliding window (OLMo 3) in a GGUF file is not supported");
    if (window > 0)
        SLM_TRY(slm_meta_float(meta, "rope.freq_base_swa", 1, 1e9, (double) hp->rope_base, &hp->rope_base_local, err));
    hp->window = window;
    slm_meta_slides(meta, hp);
    hp->post_norm_only = 1;
    hp->qk_norm_whole = 1;
    return SLM_OK;
}

static slm_status read_exaone4(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    SLM_TRY(slm_meta_u32(meta, "attention.sliding_window", 0, 1u << 24, 0, &hp->window, err));
    SLM_TRY(slm_meta_pattern(meta, "attention.sliding_window_pattern", hp->n_layers, 4, &hp->window_pattern, err));
    slm_meta_slides(meta, hp);
    hp->nope_full = hp->window > 0;
    hp->post_norm_only = 1;
    return SLM_OK;
}

const slm_family slm_family_olmo2 = {.name = "olmo2", .required = required, .optional = optional, .read = read_olmo2};
const slm_family slm_family_exaone4 = {.name = "exaone4", .required = required, .optional = optional, .read = read_exaone4};
