/*
 * Mixtures of experts: qwen3moe (Qwen 3 30B-A3B and its kin), olmoe (OLMoE 7B-A1B), granitemoe (Granite 3 1B-A400M, 3B-A800M).
 *
 * The feed-forward of a layer is one of many small ones: a router gives each expert a share by softmax, the first few by share work on
 * the position, and their outputs are added by share.  qwen3moe and granitemoe let the shares of those few add up to 1; olmoe leaves
 * them as they are.  Some layers of qwen3moe may have one feed-forward instead (mlp_only_layers, decoder_sparse_step).
 *   qwen3moe    attention as qwen3: each head of query and key normed, RoPE on split halves
 *   olmoe       query and key normed over their whole width, like olmo2, but norms before the blocks
 *   granitemoe  a granite with experts; in directories gate and up of all experts are one tensor
 * Shared experts, which work on every position (Qwen 2 MoE, Granite 4), are not done here.
 * Sources: transformers' Qwen3MoeConfig, OlmoeConfig and GraniteMoeConfig.
 */
#include "engine/arch/family.h"

#define ATTENTION                                                                                                                          \
    SLM_TENSOR_TOKEN_EMBD, SLM_TENSOR_OUTPUT_NORM, SLM_TENSOR_ATTN_NORM, SLM_TENSOR_ATTN_Q, SLM_TENSOR_ATTN_K, SLM_TENSOR_ATTN_V,          \
        SLM_TENSOR_ATTN_OUT, SLM_TENSOR_FFN_NORM
#define EXPERTS SLM_TENSOR_ROUTER, SLM_TENSOR_EXPERT_GATE, SLM_TENSOR_EXPERT_UP, SLM_TENSOR_EXPERT_DOWN

/* Layers have either (slm_role_in_layer). */
static const slm_tensor_role required_qwen3[] = {ATTENTION, SLM_TENSOR_ATTN_Q_NORM, SLM_TENSOR_ATTN_K_NORM, EXPERTS, SLM_TENSOR_FFN_GATE,
                                                 SLM_TENSOR_FFN_UP, SLM_TENSOR_FFN_DOWN, SLM_TENSOR_ROLES};
static const slm_tensor_role required_olmoe[] = {ATTENTION, SLM_TENSOR_ATTN_Q_NORM, SLM_TENSOR_ATTN_K_NORM, EXPERTS, SLM_TENSOR_ROLES};
static const slm_tensor_role required_granite[] = {ATTENTION, EXPERTS, SLM_TENSOR_ROLES};
static const slm_tensor_role optional[] = {SLM_TENSOR_ROLES};
static const slm_tensor_role optional_granite[] = {SLM_TENSOR_ATTN_Q_BIAS, SLM_TENSOR_ATTN_K_BIAS, SLM_TENSOR_ATTN_V_BIAS,
                                                   SLM_TENSOR_ATTN_OUT_BIAS, SLM_TENSOR_ROLES};
static const slm_role_name names_granite[] = {
    {SLM_TENSOR_ROUTER, "model.layers.%u.block_sparse_moe.router.layer.weight"},
    {SLM_TENSOR_EXPERT_GATE, "model.layers.%u.block_sparse_moe.input_linear.weight#0"},
    {SLM_TENSOR_EXPERT_UP, "model.layers.%u.block_sparse_moe.input_linear.weight#1"},
    {SLM_TENSOR_EXPERT_DOWN, "model.layers.%u.block_sparse_moe.output_linear.weight"},
    {SLM_TENSOR_ROLES, NULL}};

static slm_status read_qwen3moe(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    SLM_TRY(slm_family_read_experts(meta, hp, err));
    return slm_meta_u32(meta, "slm.experts_scaled", 0, 1, 1, &hp->experts_scaled, err);
}

static slm_status read_olmoe(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    SLM_TRY(slm_family_read_experts(meta, hp, err));
    hp->qk_norm_whole = 1;
    return slm_meta_u32(meta, "slm.experts_scaled", 0, 1, 0, &hp->experts_scaled, err);
}

static slm_status read_granitemoe(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    uint32_t shared;
    SLM_TRY(slm_meta_u32(meta, "expert_shared_feed_forward_length", 0, 1u << 20, 0, &shared, err));
    if (shared > 0)
        return slm_fail(err, SLM_UNSUPPORTED, "experts that all positions share (%u wide) are not supported", shared);
    SLM_TRY(slm_family_read_experts(meta, hp, err));
    hp->experts_scaled = 1;
    return slm_family_granite.read(meta, hp, err);
}

const slm_family slm_family_qwen3moe = {.name = "qwen3moe", .required = required_qwen3, .optional = optional, .read = read_qwen3moe};
const slm_family slm_family_olmoe = {.name = "olmoe", .required = required_olmoe, .optional = optional, .read = read_olmoe};
const slm_family slm_family_granitemoe = {.name = "granitemoe", .permuted = true, .required = required_granite,
                                          .optional = optional_granite, .hf_names = names_granite, .read = read_granitemoe};
