/*
 * gemma4: Gemma 4 E2B and E4B (text).
 *
 *   embedding ── layer 0 ── ... ── layer n - 1 ── norm ── head         each layer: attention, feed-forward, its own embedding, a scale
 *
 * A Gemma 3's norms and windows, and besides: heads of sliding layers are half as wide as the others', of which a quarter of the pairs
 * turn; scores are not scaled, values are normed; the last layers read the keys of the last one of their kind before them, and have wider
 * feed-forwards; and every token has a short embedding for each layer (per-layer embeddings), to which a product of its own embedding
 * is added: a layer multiplies a gate by it and adds the product of that to its row.
 * Those without embeddings of the layers (keys that are values, mixtures) are refused.
 * Sources: transformers' Gemma4TextConfig and Gemma4TextModel; llama.cpp's conversion for the names in GGUF.
 */
#include "engine/arch/family.h"

#include <math.h>

static const slm_tensor_role required[] = {
    SLM_TENSOR_TOKEN_EMBD,      SLM_TENSOR_LAYER_EMBD,     SLM_TENSOR_LAYER_EMBD_PROJ, SLM_TENSOR_LAYER_EMBD_NORM, SLM_TENSOR_OUTPUT_NORM,
    SLM_TENSOR_ATTN_NORM,       SLM_TENSOR_ATTN_Q,         SLM_TENSOR_ATTN_K,          SLM_TENSOR_ATTN_V,          SLM_TENSOR_ATTN_Q_NORM,
    SLM_TENSOR_ATTN_K_NORM,     SLM_TENSOR_ATTN_OUT,       SLM_TENSOR_ATTN_POST_NORM,  SLM_TENSOR_FFN_NORM,        SLM_TENSOR_FFN_GATE,
    SLM_TENSOR_FFN_UP,          SLM_TENSOR_FFN_DOWN,       SLM_TENSOR_FFN_POST_NORM,   SLM_TENSOR_LAYER_EMBD_GATE,
    SLM_TENSOR_LAYER_EMBD_OUT,  SLM_TENSOR_LAYER_EMBD_POST_NORM, SLM_TENSOR_ROLES};
static const slm_tensor_role optional[] = {SLM_TENSOR_LAYER_SCALE, SLM_TENSOR_ROLES};
static const slm_role_name hf_names[] = {{SLM_TENSOR_FFN_NORM, "model.layers.%u.pre_feedforward_layernorm.weight"},
                                        {SLM_TENSOR_ROLES, NULL}};

/* The inner width of the layers that share keys: those of GGUF files have a number for each layer, which must change there and nowhere
 * else. */
static slm_status read_late_ff(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    uint32_t own = slm_layers_with_keys(hp);
    double width, late = hp->n_ff;
    SLM_TRY(slm_meta_u32(meta, "slm.feed_forward_shared", 0, 1u << 20, 0, &hp->n_ff_shared, err));
    for (uint32_t i = 1; meta->gguf && i < hp->n_layers; i++) {
        if (!meta->number(meta->arg, "feed_forward_length", i, &width))
            return slm_fail(err, SLM_FORMAT, "gemma4.feed_forward_length has fewer entries than the model has layers");
        late = i == own ? width : late;
        if (!(late >= 1 && late <= 1u << 20) || late != floor(late) || width != (i < own ? hp->n_ff : late))
            return slm_fail(err, SLM_UNSUPPORTED, "gemma4.feed_forward_length is %g in layer %u, which is not supported", width, i);
    }
    if (meta->gguf)
        hp->n_ff_shared = late == hp->n_ff ? 0 : (uint32_t) late;
    return SLM_OK;
}

static slm_status read_gemma4(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    double flag;
    hp->activation = SLM_ACT_GEGLU;
    hp->embed_scale = sqrtf((float) hp->n_embd);
    hp->attn_scale = 1;
    hp->value_norm = 1;
    SLM_TRY(slm_meta_u32(meta, "attention.key_length_swa", 8, 1024, hp->head_dim, &hp->head_dim_local, err));
    SLM_TRY(slm_meta_u32(meta, "attention.value_length_swa", hp->head_dim_local, hp->head_dim_local, hp->head_dim_local,
                         &hp->head_dim_local, err));
    SLM_TRY(slm_meta_u32(meta, "rope.dimension_count_swa", 2, SLM_MAX_ROT, hp->head_dim_local, &hp->n_rot_local, err));
    SLM_TRY(slm_meta_float(meta, "rope.freq_base", 1, 1e9, 1000000, &hp->rope_base, err));
    SLM_TRY(slm_meta_float(meta, "rope.freq_base_swa", 1, 1e9, 10000, &hp->rope_base_local, err));
    SLM_TRY(slm_meta_float(meta, "final_logit_softcapping", 0, 1e6, 0, &hp->final_softcap, err));
    SLM_TRY(slm_meta_u32(meta, "attention.sliding_window", 0, 1u << 24, 512, &hp->window, err));
    SLM_TRY(slm_meta_u32(meta, "attention.shared_kv_layers", 0, hp->n_layers - 1, 0, &hp->kv_shared, err));
    SLM_TRY(slm_meta_u32(meta, "embedding_length_per_layer_input", 1, 65536, NAN, &hp->n_embd_layer, err));
    if (hp->window > 0 && (!meta->number(meta->arg, "attention.sliding_window_pattern", 0, &flag) || (flag != 0 && flag != 1)))
        return slm_fail(err, SLM_FORMAT, "gemma4.attention.sliding_window_pattern does not say of each layer whether it slides");
    slm_meta_slides(meta, hp);
    return read_late_ff(meta, hp, err);
}

const slm_family slm_family_gemma4 = {.name = "gemma4", .late_ff = true, .required = required, .optional = optional,
                                      .hf_names = hf_names, .read = read_gemma4};
