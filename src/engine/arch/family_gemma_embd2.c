/*
 * gemma-embedding2: EmbeddingGemma 2 (its text part).
 *
 *   embedding ── layer 0 ── ... ── layer n - 1 ── norm ── projection ── mean        each layer: attention, feed-forward, its own embedding,
 *                                                                                   a scale
 *
 * A Gemma 4 that looks both ways: windows reach as far back as ahead; heads of layers that see everything are twice as wide and read half
 * as many keys; the embeddings of the layers come from the token's own alone, without a table.  What is pooled is projected by the model
 * itself, here behind the pooling, which gives the same.
 * Sources: transformers' EmbeddingGemma2TextConfig and EmbeddingGemma2TextModel; llama.cpp for the names in GGUF, whose window counts both
 * sides.
 */
#include "engine/arch/family.h"

#include <math.h>

static const slm_tensor_role required[] = {
    SLM_TENSOR_TOKEN_EMBD,  SLM_TENSOR_LAYER_EMBD_PROJ, SLM_TENSOR_LAYER_EMBD_NORM, SLM_TENSOR_OUTPUT_NORM,    SLM_TENSOR_ATTN_NORM,
    SLM_TENSOR_ATTN_Q,      SLM_TENSOR_ATTN_K,          SLM_TENSOR_ATTN_V,          SLM_TENSOR_ATTN_Q_NORM,    SLM_TENSOR_ATTN_K_NORM,
    SLM_TENSOR_ATTN_OUT,    SLM_TENSOR_ATTN_POST_NORM,  SLM_TENSOR_FFN_NORM,        SLM_TENSOR_FFN_GATE,       SLM_TENSOR_FFN_UP,
    SLM_TENSOR_FFN_DOWN,    SLM_TENSOR_FFN_POST_NORM,   SLM_TENSOR_LAYER_EMBD_GATE, SLM_TENSOR_LAYER_EMBD_OUT,
    SLM_TENSOR_LAYER_EMBD_POST_NORM, SLM_TENSOR_LAYER_SCALE, SLM_TENSOR_ROLES};
static const slm_tensor_role optional[] = {SLM_TENSOR_ROLES};
#define PLE "model.layers.%u.ple_block."
static const slm_role_name hf_names[] = {{SLM_TENSOR_FFN_NORM, "model.layers.%u.pre_feedforward_layernorm.weight"},
                                        {SLM_TENSOR_LAYER_EMBD_PROJ, "model.ple.per_layer_model_projection.weight"},
                                        {SLM_TENSOR_LAYER_EMBD_NORM, "model.ple.per_layer_projection_norm.weight"},
                                        {SLM_TENSOR_LAYER_EMBD_GATE, PLE "per_layer_input_gate.weight"},
                                        {SLM_TENSOR_LAYER_EMBD_OUT, PLE "per_layer_projection.weight"},
                                        {SLM_TENSOR_LAYER_EMBD_POST_NORM, PLE "post_per_layer_input_norm.weight"},
                                        {SLM_TENSOR_DENSE_0, "model.embedding_projection.weight"},
                                        {SLM_TENSOR_ROLES, NULL}};
static const slm_role_name gguf_names[] = {{SLM_TENSOR_DENSE_0, "output.weight"}, {SLM_TENSOR_ROLES, NULL}};

/* Which layers slide: flags, or all but every n-th, the sixth where nothing is said. */
static slm_status read_slides(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    double flag = 6;
    bool listed = meta->number(meta->arg, "attention.sliding_window_pattern", 0, &flag) && (flag == 0 || flag == 1);
    if (!listed && !(flag >= 2 && flag <= SLM_MAX_LAYERS && flag == floor(flag)))
        return slm_fail(err, SLM_FORMAT, "gemma-embedding2.attention.sliding_window_pattern is %g", flag);
    if (listed)
        slm_meta_slides(meta, hp);
    for (uint32_t i = 0; !listed && i < hp->n_layers; i++)
        hp->slides[i / 32] |= (uint32_t) ((i + 1) % (uint32_t) flag != 0) << i % 32;
    hp->layered = 1;
    return SLM_OK;
}

/* Layers of one kind have as many heads of keys. */
static slm_status read_kv_heads(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    uint32_t of[2] = {0, 0};
    for (uint32_t i = 0; i < hp->n_layers; i++) {
        double n = hp->n_kv_heads;
        bool slides = slm_layer_slides(hp, i);
        const char *key = slides && !meta->gguf ? "slm.head_count_kv_swa" : "attention.head_count_kv";
        if (!meta->number(meta->arg, key, i, &n) || !(n >= 1 && n <= 1024) || n != floor(n))
            return slm_fail(err, SLM_FORMAT, "gemma-embedding2.attention.head_count_kv of layer %u is %g", i, n);
        if (of[slides] != 0 && n != of[slides])
            return slm_fail(err, SLM_UNSUPPORTED, "gemma-embedding2.attention.head_count_kv is %g in layer %u, which is not supported",
                            n, i);
        of[slides] = (uint32_t) n;
    }
    hp->n_kv_heads = of[0] != 0 ? of[0] : of[1];
    hp->n_kv_heads_local = of[1] != 0 ? of[1] : of[0];
    return SLM_OK;
}

static slm_status read_gemma_embedding2(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    hp->activation = SLM_ACT_GEGLU;
    hp->embed_scale = sqrtf((float) hp->n_embd);
    hp->attn_scale = 1;
    hp->value_norm = 1;
    hp->causal = hp->tied_head = 0;
    SLM_TRY(slm_meta_u32(meta, "attention.key_length_swa", 8, 1024, hp->head_dim, &hp->head_dim_local, err));
    SLM_TRY(slm_meta_u32(meta, "attention.value_length_swa", hp->head_dim_local, hp->head_dim_local, hp->head_dim_local,
                         &hp->head_dim_local, err));
    SLM_TRY(slm_meta_u32(meta, "rope.dimension_count_swa", 2, SLM_MAX_ROT, hp->head_dim_local, &hp->n_rot_local, err));
    SLM_TRY(slm_meta_float(meta, "rope.freq_base", 1, 1e9, 1000000, &hp->rope_base, err));
    SLM_TRY(slm_meta_float(meta, "rope.freq_base_swa", 1, 1e9, 10000, &hp->rope_base_local, err));
    SLM_TRY(slm_meta_u32(meta, "attention.sliding_window", 1 + meta->gguf, 1u << 24, NAN, &hp->window, err));
    SLM_TRY(slm_meta_u32(meta, "embedding_length_per_layer_input", 1, 65536, NAN, &hp->n_embd_layer, err));
    hp->window = meta->gguf ? hp->window / 2 : hp->window;
    SLM_TRY(read_slides(meta, hp, err));
    return read_kv_heads(meta, hp, err);
}

const slm_family slm_family_gemma_embedding2 = {.name = "gemma-embedding2", .required = required, .optional = optional,
                                               .hf_names = hf_names, .gguf_names = gguf_names, .own_kv = true, .projected = true,
                                               .read = read_gemma_embedding2};
