/*
 * config.json to hyper-parameters, one function a family.
 *
 * Invariant: everything in slm_hparams that comes from here was range-checked, so that products of any three of its counts fit 64 bits.
 */
#include "engine/hf/config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/math.h"

/* What a family's configuration class assumes for missing keys. */
typedef struct family {
    const char *model_type, *name;
    slm_hf_layout layout;
    slm_activation activation;
    uint32_t n_kv_heads; /* 0: as many as heads */
    uint32_t head_dim;   /* 0: n_embd / n_heads */
    float rope_base, norm_eps;
    bool tied, qkv_bias, qk_norm;
} family;

static const family families[] = {
    {"llama", "llama", SLM_HF_LLAMA, SLM_ACT_SWIGLU, 0, 0, 1e4f, 1e-6f, false, false, false},
    {"mistral", "llama", SLM_HF_LLAMA, SLM_ACT_SWIGLU, 8, 0, 1e4f, 1e-6f, false, false, false},
    {"phi3", "phi3", SLM_HF_PHI3, SLM_ACT_SWIGLU, 0, 0, 1e4f, 1e-5f, false, false, false},
    {"gemma", "gemma", SLM_HF_GEMMA, SLM_ACT_GEGLU, 16, 256, 1e4f, 1e-6f, true, false, false},
    {"gemma2", "gemma2", SLM_HF_GEMMA2, SLM_ACT_GEGLU, 4, 256, 1e4f, 1e-6f, true, false, false},
    {"gemma3_text", "gemma3", SLM_HF_GEMMA2, SLM_ACT_GEGLU, 4, 256, 1e6f, 1e-6f, true, false, true},
    {"qwen2", "qwen2", SLM_HF_LLAMA, SLM_ACT_SWIGLU, 32, 0, 1e4f, 1e-6f, false, true, false},
    {"qwen3", "qwen3", SLM_HF_LLAMA, SLM_ACT_SWIGLU, 32, 128, 1e4f, 1e-6f, false, false, true},
    {"granite", "granite", SLM_HF_LLAMA, SLM_ACT_SWIGLU, 0, 0, 1e4f, 1e-6f, false, false, false},
    {"olmo2", "olmo2", SLM_HF_OLMO2, SLM_ACT_SWIGLU, 0, 0, 1e4f, 1e-5f, false, false, true},
    {"smollm3", "smollm3", SLM_HF_LLAMA, SLM_ACT_SWIGLU, 4, 0, 2e6f, 1e-6f, true, false, false},
};

static slm_status require_u32(slm_hf_json j, const char *key, uint32_t min, uint32_t max, uint32_t *value, slm_error *err)
{
    if (!slm_hf_has(j, key))
        return slm_fail(err, SLM_FORMAT, "\"%s\" is missing in \"%s\"", key, j.file);
    return slm_hf_u32(j, key, min, max, value, err);
}

static slm_status read_sizes(slm_hf_json j, slm_hparams *hp, slm_error *err)
{
    SLM_TRY(require_u32(j, "vocab_size", 1, 1u << 21, &hp->n_vocab, err));
    SLM_TRY(require_u32(j, "hidden_size", 8, 1u << 16, &hp->n_embd, err));
    SLM_TRY(require_u32(j, "num_hidden_layers", 1, SLM_MAX_LAYERS, &hp->n_layers, err));
    SLM_TRY(require_u32(j, "num_attention_heads", 1, 1024, &hp->n_heads, err));
    SLM_TRY(require_u32(j, "intermediate_size", 8, 1u << 18, &hp->n_ff, err));
    return require_u32(j, "max_position_embeddings", 2, 1u << 24, &hp->n_context, err);
}

static slm_status want_activation(slm_hf_json j, const char *key, const char *expected, const char *also, slm_error *err)
{
    const char *name = slm_hf_string(j, key);
    if (name == NULL || strcmp(name, expected) == 0 || (also != NULL && strcmp(name, also) == 0))
        return SLM_OK;
    return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" in \"%s\" is \"%.40s\"; this family is served with \"%s\"", key, j.file, name, expected);
}

/* ---- RoPE ---- */

static slm_status factor_array(slm_hf_json j, const char *key, uint32_t n, float *out, slm_error *err)
{
    json_t *a = json_object_get(j.object, key);
    if (json_array_size(a) != n)
        return slm_fail(err, SLM_FORMAT, "\"%s\" in \"%s\" is not an array of %u numbers", key, j.file, n);
    for (uint32_t i = 0; i < n; i++) {
        double x = json_number_value(json_array_get(a, i));
        if (!(x > 0 && x < 1e6))
            return slm_fail(err, SLM_FORMAT, "\"%s\" in \"%s\" holds a factor out of range", key, j.file);
        out[i] = (float) x;
    }
    return SLM_OK;
}

/* Llama 3.1: low frequencies are divided by factor, high ones kept, those between blended. */
static slm_status scale_llama3(slm_hf_json s, slm_hparams *hp, slm_error *err)
{
    float factor = 8, low = 1, high = 4;
    hp->n_ctx_original = 8192;
    SLM_TRY(slm_hf_f32(s, "factor", 1, 1e4, &factor, err));
    SLM_TRY(slm_hf_f32(s, "low_freq_factor", 1e-3, 1e4, &low, err));
    SLM_TRY(slm_hf_f32(s, "high_freq_factor", 1e-3, 1e4, &high, err));
    SLM_TRY(slm_hf_u32(s, "original_max_position_embeddings", 1, 1u << 24, &hp->n_ctx_original, err));
    if (high <= low)
        return slm_fail(err, SLM_FORMAT, "\"high_freq_factor\" in \"%s\" is not above \"low_freq_factor\"", s.file);
    for (uint32_t i = 0; i < hp->n_rot / 2; i++) {
        double wavelength = 2 * 3.14159265358979323846 * slm_pow(hp->rope_base, 2.0 * i / hp->n_rot);
        double blend = ((double) hp->n_ctx_original / wavelength - low) / ((double) high - low);
        blend = blend < 0 ? 0 : blend > 1 ? 1 : blend;
        hp->rope_factors_short[i] = (float) (1 / ((1 - blend) / factor + blend));
    }
    hp->has_rope_factors = 1;
    return SLM_OK;
}

/* Phi-3: measured divisors for each pair, one set for short and one for long sequences. */
static slm_status scale_longrope(slm_hf_json config, slm_hf_json s, slm_hparams *hp, slm_error *err)
{
    hp->n_ctx_original = 0;
    SLM_TRY(slm_hf_u32(s, "original_max_position_embeddings", 2, 1u << 24, &hp->n_ctx_original, err));
    SLM_TRY(slm_hf_u32(config, "original_max_position_embeddings", 2, 1u << 24, &hp->n_ctx_original, err));
    if (hp->n_ctx_original == 0)
        return slm_fail(err, SLM_FORMAT, "\"original_max_position_embeddings\" is missing in \"%s\"", s.file);
    SLM_TRY(factor_array(s, "short_factor", hp->n_rot / 2, hp->rope_factors_short, err));
    SLM_TRY(factor_array(s, "long_factor", hp->n_rot / 2, hp->rope_factors_long, err));
    double stretch = (double) hp->n_context / hp->n_ctx_original;
    if (stretch > 1)
        hp->rope_attn_factor = (float) sqrt(1 + slm_log(stretch) / slm_log(hp->n_ctx_original));
    SLM_TRY(slm_hf_f32(s, "attention_factor", 1e-3, 1e3, &hp->rope_attn_factor, err));
    hp->has_rope_factors = 2;
    return SLM_OK;
}

static slm_status read_scaling(slm_hf_json config, slm_hf_json s, slm_hparams *hp, slm_error *err)
{
    const char *type = slm_hf_string(s, "rope_type");
    if (type == NULL)
        type = slm_hf_string(s, "type");
    if (type == NULL || strcmp(type, "default") == 0)
        return SLM_OK;
    if (strcmp(type, "linear") == 0)
        return slm_hf_f32(s, "factor", 1e-3, 1e4, &hp->rope_scale, err);
    if (strcmp(type, "llama3") == 0)
        return scale_llama3(s, hp, err);
    if (strcmp(type, "longrope") == 0 || strcmp(type, "su") == 0)
        return scale_longrope(config, s, hp, err);
    return slm_fail(err, SLM_UNSUPPORTED, "RoPE scaling \"%.40s\" in \"%s\" is not supported", type, s.file);
}

/* rope_theta and rope_scaling, or rope_parameters as newer versions write them (by layer type for Gemma 3). */
static slm_status read_rope(slm_hf_json j, slm_hparams *hp, slm_error *err)
{
    slm_hf_json p = slm_hf_member(j, "rope_parameters");
    slm_hf_json full = slm_hf_member(p, "full_attention"), local = slm_hf_member(p, "sliding_attention");
    float partial = 1;
    if (full.object != NULL)
        p = full;
    SLM_TRY(slm_hf_f32(j, "rope_theta", 1, 1e12, &hp->rope_base, err));
    SLM_TRY(slm_hf_f32(p, "rope_theta", 1, 1e12, &hp->rope_base, err));
    SLM_TRY(slm_hf_f32(j, "rope_local_base_freq", 1, 1e12, &hp->rope_base_local, err));
    SLM_TRY(slm_hf_f32(local, "rope_theta", 1, 1e12, &hp->rope_base_local, err));
    SLM_TRY(slm_hf_f32(j, "partial_rotary_factor", 1e-3, 1, &partial, err));
    SLM_TRY(slm_hf_f32(p, "partial_rotary_factor", 1e-3, 1, &partial, err));
    hp->n_rot = (uint32_t) ((double) hp->head_dim * partial + 1e-6);
    if (hp->n_rot == 0 || hp->n_rot % 2 != 0 || hp->n_rot > SLM_MAX_ROT)
        return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" asks to rotate %u dimensions of a head: an even number to %d is needed", j.file, hp->n_rot,
                        SLM_MAX_ROT);
    if (slm_hf_member(j, "rope_scaling").object != NULL)
        return read_scaling(j, slm_hf_member(j, "rope_scaling"), hp, err);
    return p.object != NULL ? read_scaling(j, p, hp, err) : SLM_OK;
}

/* ---- layer patterns ---- */

/* An array over the layers of which every n-th (n, 2n, ...) is true and no other: n in *pattern, 0 when none is true. */
static slm_status pattern_of(const uint8_t *flags, uint32_t n, const char *key, const char *file, uint32_t *pattern, slm_error *err)
{
    uint32_t step = 0;
    for (uint32_t i = 0; i < n && step == 0; i++)
        if (flags[i])
            step = i + 1;
    for (uint32_t i = 0; i < n; i++)
        if (flags[i] != (step != 0 && (i + 1) % step == 0))
            return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" in \"%s\" follows no regular pattern", key, file);
    *pattern = step;
    return SLM_OK;
}

static slm_status read_layer_types(slm_hf_json j, slm_hparams *hp, slm_error *err)
{
    json_t *types = json_object_get(j.object, "layer_types");
    uint8_t full[SLM_MAX_LAYERS];
    if (!json_is_array(types) || hp->window == 0)
        return SLM_OK;
    if (json_array_size(types) != hp->n_layers)
        return slm_fail(err, SLM_FORMAT, "\"layer_types\" in \"%s\" does not name %u layers", j.file, hp->n_layers);
    for (uint32_t i = 0; i < hp->n_layers; i++) {
        const char *type = json_string_value(json_array_get(types, i));
        if (type == NULL || (strcmp(type, "full_attention") != 0 && strcmp(type, "sliding_attention") != 0))
            return slm_fail(err, SLM_UNSUPPORTED, "\"layer_types\" in \"%s\" names an unknown kind of layer", j.file);
        full[i] = strcmp(type, "full_attention") == 0;
    }
    SLM_TRY(pattern_of(full, hp->n_layers, "layer_types", j.file, &hp->window_pattern, err));
    if (hp->window_pattern == 1) /* every layer is full */
        hp->window = hp->window_pattern = 0;
    return SLM_OK;
}

static slm_status read_window(slm_hf_json j, const char *family_name, slm_hparams *hp, slm_error *err)
{
    bool use = strncmp(family_name, "qwen", 4) != 0; /* Qwen names a window that it does not use */
    SLM_TRY(slm_hf_bool(j, "use_sliding_window", &use, err));
    if (!use)
        return SLM_OK;
    SLM_TRY(slm_hf_u32(j, "sliding_window", 1, 1u << 24, &hp->window, err));
    if (hp->window >= hp->n_context)
        hp->window = 0;
    if (hp->window != 0 && strncmp(family_name, "qwen", 4) == 0 && !slm_hf_has(j, "layer_types"))
        return slm_fail(err, SLM_UNSUPPORTED, "\"use_sliding_window\" in \"%s\" needs \"layer_types\"", j.file);
    if (strcmp(family_name, "gemma2") == 0)
        hp->window_pattern = 2;
    if (strcmp(family_name, "gemma3") == 0) {
        hp->window_pattern = 6;
        SLM_TRY(slm_hf_u32(j, "sliding_window_pattern", 1, SLM_MAX_LAYERS, &hp->window_pattern, err));
    }
    return read_layer_types(j, hp, err);
}

/* SmolLM3: every n-th layer attends without positions. */
static slm_status read_nope(slm_hf_json j, slm_hparams *hp, slm_error *err)
{
    json_t *layers = json_object_get(j.object, "no_rope_layers"); /* 1 = with RoPE, in spite of the name */
    uint8_t nope[SLM_MAX_LAYERS];
    hp->nope_pattern = 4;
    SLM_TRY(slm_hf_u32(j, "no_rope_layer_interval", 1, SLM_MAX_LAYERS, &hp->nope_pattern, err));
    if (!json_is_array(layers))
        return SLM_OK;
    if (json_array_size(layers) != hp->n_layers)
        return slm_fail(err, SLM_FORMAT, "\"no_rope_layers\" in \"%s\" does not name %u layers", j.file, hp->n_layers);
    for (uint32_t i = 0; i < hp->n_layers; i++)
        nope[i] = json_integer_value(json_array_get(layers, i)) == 0;
    return pattern_of(nope, hp->n_layers, "no_rope_layers", j.file, &hp->nope_pattern, err);
}

/* ---- families ---- */

static slm_status read_multipliers(slm_hf_json j, const char *family_name, slm_hparams *hp, slm_error *err)
{
    if (strcmp(family_name, "granite") == 0) {
        float logits = 1;
        SLM_TRY(slm_hf_f32(j, "embedding_multiplier", 1e-6, 1e6, &hp->embed_scale, err));
        SLM_TRY(slm_hf_f32(j, "residual_multiplier", 1e-6, 1e6, &hp->residual_scale, err));
        hp->attn_scale = 1;
        SLM_TRY(slm_hf_f32(j, "attention_multiplier", 1e-6, 1e6, &hp->attn_scale, err));
        SLM_TRY(slm_hf_f32(j, "logits_scaling", 1e-6, 1e6, &logits, err));
        hp->logit_scale = 1 / logits;
    }
    if (strncmp(family_name, "gemma", 5) == 0)
        hp->embed_scale = sqrtf((float) hp->n_embd);
    if (strcmp(family_name, "gemma2") == 0 || strcmp(family_name, "gemma3") == 0) {
        float scalar = 256;
        SLM_TRY(slm_hf_f32(j, "query_pre_attn_scalar", 1e-3, 1e6, &scalar, err));
        hp->attn_scale = 1 / sqrtf(scalar);
        if (strcmp(family_name, "gemma2") == 0) {
            hp->attn_softcap = 50;
            hp->final_softcap = 30;
        }
        SLM_TRY(slm_hf_f32(j, "attn_logit_softcapping", 1e-3, 1e6, &hp->attn_softcap, err));
        SLM_TRY(slm_hf_f32(j, "final_logit_softcapping", 1e-3, 1e6, &hp->final_softcap, err));
    }
    return SLM_OK;
}

static slm_status read_causal(slm_hf_json j, const family *f, slm_hf_config *c, slm_error *err)
{
    slm_hparams *hp = &c->hp;
    bool tied = f->tied, mlp_bias = false, attention_bias = false;
    c->layout = f->layout;
    c->qk_norm = f->qk_norm;
    c->norm_plus_one = strncmp(f->name, "gemma", 5) == 0;
    hp->activation = f->activation;
    hp->norm = SLM_NORM_RMS;
    hp->causal = 1;
    hp->post_norm_only = f->layout == SLM_HF_OLMO2;
    hp->norm_eps = f->norm_eps;
    hp->rope_base = f->rope_base;
    hp->rope_base_local = strcmp(f->name, "gemma3") == 0 ? 1e4f : 0;
    hp->n_kv_heads = f->n_kv_heads != 0 ? f->n_kv_heads : hp->n_heads;
    hp->head_dim = f->head_dim != 0 ? f->head_dim : hp->n_embd / hp->n_heads;
    SLM_TRY(slm_hf_u32(j, "num_key_value_heads", 1, 1024, &hp->n_kv_heads, err));
    SLM_TRY(slm_hf_u32(j, "head_dim", 8, 1024, &hp->head_dim, err));
    if (hp->n_heads % hp->n_kv_heads != 0)
        return slm_fail(err, SLM_FORMAT, "%u attention heads in \"%s\" are no multiple of %u key-value heads", hp->n_heads, j.file, hp->n_kv_heads);
    SLM_TRY(slm_hf_f32(j, "rms_norm_eps", 1e-12, 0.1, &hp->norm_eps, err));
    SLM_TRY(slm_hf_bool(j, "tie_word_embeddings", &tied, err));
    c->tied_known = slm_hf_has(j, "tie_word_embeddings");
    hp->tied_head = tied;
    SLM_TRY(slm_hf_bool(j, "mlp_bias", &mlp_bias, err));
    SLM_TRY(slm_hf_bool(j, "attention_bias", &attention_bias, err));
    if (mlp_bias)
        return slm_fail(err, SLM_UNSUPPORTED, "\"mlp_bias\" in \"%s\": biases in the feed-forward layers are not supported", j.file);
    c->qkv_bias = f->qkv_bias || attention_bias;
    c->o_bias = attention_bias;
    hp->attn_scale = 1 / sqrtf((float) hp->head_dim);
    SLM_TRY(want_activation(j, slm_hf_has(j, "hidden_activation") ? "hidden_activation" : "hidden_act",
                            f->activation == SLM_ACT_GEGLU ? "gelu_pytorch_tanh" : "silu", f->activation == SLM_ACT_GEGLU ? "gelu" : "swish", err));
    SLM_TRY(read_rope(j, hp, err));
    SLM_TRY(read_window(j, f->name, hp, err));
    if (strcmp(f->name, "smollm3") == 0)
        SLM_TRY(read_nope(j, hp, err));
    return read_multipliers(j, f->name, hp, err);
}

static slm_status read_bert(slm_hf_json j, slm_hf_config *c, slm_error *err)
{
    slm_hparams *hp = &c->hp;
    const char *positions = slm_hf_string(j, "position_embedding_type");
    const char *arch = json_string_value(json_array_get(json_object_get(j.object, "architectures"), 0));
    c->layout = SLM_HF_BERT;
    c->qkv_bias = c->o_bias = true;
    c->cross_encoder = arch != NULL && strcmp(arch, "BertForSequenceClassification") == 0;
    hp->norm = SLM_NORM_LAYER;
    hp->activation = SLM_ACT_GELU_ERF;
    hp->post_norm_only = 1;
    hp->norm_eps = 1e-12f;
    hp->n_token_types = 2;
    hp->n_kv_heads = hp->n_heads;
    if (hp->n_embd % hp->n_heads != 0)
        return slm_fail(err, SLM_FORMAT, "\"hidden_size\" in \"%s\" is no multiple of \"num_attention_heads\"", j.file);
    hp->head_dim = hp->n_embd / hp->n_heads;
    hp->attn_scale = 1 / sqrtf((float) hp->head_dim);
    hp->pooling = c->cross_encoder ? SLM_POOL_RANK : SLM_POOL_MEAN;
    hp->embed_normalize = !c->cross_encoder;
    if (positions != NULL && strcmp(positions, "absolute") != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "\"position_embedding_type\" in \"%s\" is \"%.40s\"; only absolute positions are supported", j.file,
                        positions);
    SLM_TRY(want_activation(j, "hidden_act", "gelu", NULL, err));
    SLM_TRY(slm_hf_u32(j, "type_vocab_size", 1, 64, &hp->n_token_types, err));
    return slm_hf_f32(j, "layer_norm_eps", 1e-14, 0.1, &hp->norm_eps, err);
}

slm_status slm_hf_config_read(slm_hf_json config, slm_hf_config *out, slm_error *err)
{
    slm_hf_config c = {0};
    const char *type = slm_hf_string(config, "model_type");
    const family *f = NULL;
    if (type == NULL)
        return slm_fail(err, SLM_FORMAT, "\"model_type\" is missing in \"%s\"", config.file);
    if (slm_hf_has(config, "quantization_config")) {
        slm_fail(err, SLM_UNSUPPORTED, "\"%s\" describes a checkpoint that is already quantized", config.file);
        return slm_hint(err, "Import the original model: it is quantized here, see the option \"quantization\".");
    }
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        if (strcmp(families[i].model_type, type) == 0)
            f = &families[i];
    if (f == NULL && strcmp(type, "bert") != 0) {
        slm_fail(err, SLM_UNSUPPORTED, "model type \"%.60s\" in \"%s\" is not supported", type, config.file);
        return slm_hint(err, "Supported: bert, llama, mistral, phi3, gemma, gemma2, gemma3_text, qwen2, qwen3, granite, olmo2, smollm3.");
    }
    snprintf(c.hp.family, sizeof c.hp.family, "%s", f != NULL ? f->name : "bert");
    c.hp.rope_scale = c.hp.rope_attn_factor = 1;
    c.hp.embed_scale = c.hp.residual_scale = c.hp.logit_scale = 1;
    for (uint32_t i = 0; i < SLM_MAX_ROT / 2; i++)
        c.hp.rope_factors_short[i] = c.hp.rope_factors_long[i] = 1;
    SLM_TRY(read_sizes(config, &c.hp, err));
    SLM_TRY(f != NULL ? read_causal(config, f, &c, err) : read_bert(config, &c, err));
    *out = c;
    return SLM_OK;
}
