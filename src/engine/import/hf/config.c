/*
 * config.json to metadata: a table of families with their defaults, and what each adds.
 *
 * Invariant: numbers are finite when they are put; their ranges are the business of slm_family_read.
 */
#include "engine/import/hf/config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* What a family's configuration class assumes for missing keys. */
typedef struct hf_family {
    const char *model_type, *name; /* of transformers, of model/family.h */
    double n_kv_heads;             /* 0: as many as heads */
    double head_dim;               /* 0: n_embd / n_heads */
    double rope_base, norm_eps;
    bool tied, gelu;
} hf_family;

static const hf_family families[] = {
    {"llama", "llama", 0, 0, 1e4, 1e-6, false, false},     {"mistral", "llama", 8, 0, 1e4, 1e-6, false, false},
    {"phi3", "phi3", 0, 0, 1e4, 1e-5, false, false},       {"gemma", "gemma", 16, 256, 1e4, 1e-6, true, true},
    {"gemma2", "gemma2", 4, 256, 1e4, 1e-6, true, true},   {"gemma3_text", "gemma3", 4, 256, 1e6, 1e-6, true, true},
    {"qwen2", "qwen2", 32, 0, 1e4, 1e-6, false, false},    {"qwen3", "qwen3", 32, 128, 1e4, 1e-6, false, false},
    {"granite", "granite", 0, 0, 1e4, 1e-6, false, false}, {"olmo2", "olmo2", 0, 0, 1e4, 1e-5, false, false},
    {"smollm3", "smollm3", 4, 0, 2e6, 1e-6, true, false},
};

slm_status slm_hf_config_put(slm_hf_config *c, const char *key, double value, slm_error *err)
{
    uint32_t i = 0;
    while (i < c->n_numbers && strcmp(c->numbers[i].key, key) != 0)
        i++;
    if (!isfinite(value) || i == SLM_HF_MAX_NUMBERS)
        return slm_fail(err, SLM_FORMAT, "\"%s\" gives no finite value for %s", c->json.file, key);
    c->numbers[i].key = key;
    c->numbers[i].value = value;
    c->n_numbers += i == c->n_numbers;
    return SLM_OK;
}

double slm_hf_config_number(const slm_hf_config *c, const char *key, double def)
{
    for (uint32_t i = 0; i < c->n_numbers; i++)
        if (strcmp(c->numbers[i].key, key) == 0)
            return c->numbers[i].value;
    return def;
}

static bool meta_number(void *arg, const char *key, uint32_t index, double *out)
{
    const slm_hf_config *c = arg;
    if (c->layered_window && strcmp(key, "attention.sliding_window_pattern") == 0) {
        if (index >= c->n_layers)
            return false;
        *out = c->slides[index];
        return true;
    }
    *out = slm_hf_config_number(c, key, NAN);
    return !isnan(*out);
}

static bool meta_string(void *arg, const char *key, char *out, size_t size)
{
    const slm_hf_config *c = arg;
    if (strcmp(key, "rope.scaling.type") != 0 || c->scaling[0] == '\0')
        return false;
    snprintf(out, size, "%s", c->scaling);
    return true;
}

/* Takes a number of config.json over, or def where it is missing (NAN: nothing is put). */
static slm_status take(slm_hf_config *c, slm_hf_json j, const char *hf_key, const char *key, double def, slm_error *err)
{
    json_t *v = json_object_get(j.object, hf_key);
    if (v != NULL && !json_is_null(v)) {
        if (!json_is_number(v))
            return slm_fail(err, SLM_FORMAT, "\"%s\" in \"%s\" is not a number", hf_key, j.file);
        def = json_number_value(v);
    }
    return isnan(def) ? SLM_OK : slm_hf_config_put(c, key, def, err);
}

static slm_status want_activation(slm_hf_json j, const char *key, const char *expected, const char *also, slm_error *err)
{
    const char *name = slm_hf_string(j, key);
    if (name == NULL || strcmp(name, expected) == 0 || strcmp(name, also) == 0)
        return SLM_OK;
    return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" in \"%s\" is \"%.40s\"; this family is served with \"%s\"", key, j.file, name, expected);
}

static slm_status take_sizes(slm_hf_config *c, slm_error *err)
{
    static const char *const names[][2] = {{"hidden_size", "embedding_length"},        {"num_hidden_layers", "block_count"},
                                           {"num_attention_heads", "attention.head_count"}, {"intermediate_size", "feed_forward_length"},
                                           {"max_position_embeddings", "context_length"}};
    SLM_TRY(slm_hf_u32(c->json, "vocab_size", 1, 1u << 21, &c->meta.n_vocab, err));
    SLM_TRY(slm_hf_u32(c->json, "num_hidden_layers", 1, SLM_MAX_LAYERS, &c->n_layers, err));
    if (c->meta.n_vocab == 0)
        return slm_fail(err, SLM_FORMAT, "\"vocab_size\" is missing in \"%s\"", c->json.file);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (!slm_hf_has(c->json, names[i][0]))
            return slm_fail(err, SLM_FORMAT, "\"%s\" is missing in \"%s\"", names[i][0], c->json.file);
        SLM_TRY(take(c, c->json, names[i][0], names[i][1], NAN, err));
    }
    return SLM_OK;
}

/* ---- RoPE ---- */

static slm_status factor_array(slm_hf_json s, const char *key, float *out, uint32_t *n, slm_error *err)
{
    json_t *a = json_object_get(s.object, key);
    if (json_array_size(a) == 0 || json_array_size(a) > SLM_MAX_ROT / 2)
        return slm_fail(err, SLM_FORMAT, "\"%s\" in \"%s\" is not an array of 1 to %d numbers", key, s.file, SLM_MAX_ROT / 2);
    *n = (uint32_t) json_array_size(a);
    for (uint32_t i = 0; i < *n; i++)
        out[i] = (float) json_number_value(json_array_get(a, i)); /* 0 for what is no number: out of range there */
    return SLM_OK;
}

/* Phi-3: measured divisors for each pair, one set for short and one for long sequences. */
static slm_status take_longrope(slm_hf_config *c, slm_hf_json s, slm_error *err)
{
    uint32_t original = 0;
    double context = slm_hf_config_number(c, "context_length", 0);
    SLM_TRY(slm_hf_u32(s, "original_max_position_embeddings", 2, 1u << 24, &original, err));
    SLM_TRY(slm_hf_u32(c->json, "original_max_position_embeddings", 2, 1u << 24, &original, err));
    if (original == 0)
        return slm_fail(err, SLM_FORMAT, "\"original_max_position_embeddings\" is missing in \"%s\"", s.file);
    SLM_TRY(factor_array(s, "short_factor", c->factors, &c->meta.n_factors, err));
    SLM_TRY(factor_array(s, "long_factor", c->factors_long, &c->meta.n_factors_long, err));
    c->meta.factors = c->factors;
    c->meta.factors_long = c->factors_long;
    SLM_TRY(slm_hf_config_put(c, "rope.scaling.original_context_length", original, err));
    return take(c, s, "attention_factor", "rope.scaling.attn_factor",
                context > original ? sqrt(1 + log(context / original) / log(original)) : 1, err);
}

/* Llama 3.1: low frequencies are divided by factor, high ones kept, those between blended. */
static slm_status take_llama3(slm_hf_config *c, slm_hf_json s, slm_error *err)
{
    float factor = 8, low = 1, high = 4, original = 8192;
    double n_rot = slm_hf_config_number(c, "rope.dimension_count", 0);
    SLM_TRY(slm_hf_f32(s, "factor", 1, 1e4, &factor, err));
    SLM_TRY(slm_hf_f32(s, "low_freq_factor", 1e-3, 1e4, &low, err));
    SLM_TRY(slm_hf_f32(s, "high_freq_factor", 1e-3, 1e4, &high, err));
    SLM_TRY(slm_hf_f32(s, "original_max_position_embeddings", 1, 1u << 24, &original, err));
    if (high <= low)
        return slm_fail(err, SLM_FORMAT, "\"high_freq_factor\" in \"%s\" is not above \"low_freq_factor\"", s.file);
    c->meta.n_factors = (uint32_t) n_rot / 2;
    c->meta.factors = c->factors;
    slm_family_llama3_factors(slm_hf_config_number(c, "rope.freq_base", 1e4), (uint32_t) n_rot, factor, low, high, original, c->factors);
    return slm_hf_config_put(c, "rope.scaling.original_context_length", original, err);
}

/* What a scaling may hold that is none: newer versions keep all of RoPE's parameters in one object. */
static slm_status refuse_untyped(slm_hf_json s, slm_error *err)
{
    static const char *const harmless[] = {"rope_theta", "partial_rotary_factor", "original_max_position_embeddings"};
    const char *key;
    json_t *value;
    json_object_foreach(s.object, key, value)
    {
        bool known = json_is_null(value) || json_is_object(value); /* objects: parameters of kinds of layers */
        for (size_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++)
            known = known || strcmp(key, harmless[i]) == 0;
        if (!known)
            return slm_fail(err, SLM_UNSUPPORTED, "RoPE scaling in \"%s\" has the parameter \"%.40s\" but no type", s.file, key);
    }
    return SLM_OK;
}

static slm_status take_scaling(slm_hf_config *c, slm_hf_json s, slm_error *err)
{
    const char *type = slm_hf_string(s, "rope_type");
    if (type == NULL)
        type = slm_hf_string(s, "type");
    if (type == NULL)
        return refuse_untyped(s, err);
    if (strcmp(type, "default") == 0)
        return SLM_OK;
    if (strcmp(type, "llama3") == 0)
        return take_llama3(c, s, err);
    if (strcmp(type, "longrope") == 0 || strcmp(type, "su") == 0) {
        snprintf(c->scaling, sizeof c->scaling, "longrope");
        return take_longrope(c, s, err);
    }
    if (strcmp(type, "linear") == 0) {
        snprintf(c->scaling, sizeof c->scaling, "linear");
        SLM_TRY(take(c, s, "factor", "rope.scaling.factor", NAN, err));
        if (slm_hf_config_number(c, "rope.scaling.factor", 0) > 0)
            return SLM_OK;
        return slm_fail(err, SLM_FORMAT, "linear RoPE scaling in \"%s\" has no factor above 0", s.file);
    }
    return slm_fail(err, SLM_UNSUPPORTED, "RoPE scaling \"%.40s\" in \"%s\" is not supported", type, s.file);
}

/* rope_theta and rope_scaling, or rope_parameters as newer versions write them (by layer type for Gemma 3). */
static slm_status take_rope(slm_hf_config *c, const hf_family *f, slm_error *err)
{
    slm_hf_json p = slm_hf_member(c->json, "rope_parameters");
    slm_hf_json full = slm_hf_member(p, "full_attention"), local = slm_hf_member(p, "sliding_attention");
    slm_hf_json scaling = slm_hf_member(c->json, "rope_scaling");
    float partial = 1;
    if (full.object != NULL)
        p = full;
    SLM_TRY(take(c, c->json, "rope_theta", "rope.freq_base", f->rope_base, err));
    SLM_TRY(take(c, p, "rope_theta", "rope.freq_base", NAN, err));
    if (strcmp(f->name, "gemma3") == 0) {
        SLM_TRY(take(c, c->json, "rope_local_base_freq", "rope.freq_base_swa", 1e4, err));
        SLM_TRY(take(c, local, "rope_theta", "rope.freq_base_swa", NAN, err));
    }
    SLM_TRY(slm_hf_f32(c->json, "partial_rotary_factor", 1e-3, 1, &partial, err));
    SLM_TRY(slm_hf_f32(p, "partial_rotary_factor", 1e-3, 1, &partial, err));
    double head_dim = slm_hf_config_number(c, "attention.key_length", 0), n_rot = floor(head_dim * partial + 1e-6);
    if (!(n_rot >= 2 && n_rot <= SLM_MAX_ROT))
        return slm_fail(err, SLM_FORMAT, "\"%s\" asks to rotate %g dimensions of a head, not 2 to %d", c->json.file, n_rot, SLM_MAX_ROT);
    SLM_TRY(slm_hf_config_put(c, "rope.dimension_count", n_rot, err));
    return take_scaling(c, scaling.object != NULL ? scaling : p, err);
}

/* ---- layer patterns ---- */

static slm_status take_layer_types(slm_hf_config *c, slm_error *err)
{
    json_t *types = json_object_get(c->json.object, "layer_types");
    bool any = false;
    if (!json_is_array(types))
        return SLM_OK;
    if (json_array_size(types) != c->n_layers)
        return slm_fail(err, SLM_FORMAT, "\"layer_types\" in \"%s\" does not name %u layers", c->json.file, c->n_layers);
    for (uint32_t i = 0; i < c->n_layers; i++) {
        const char *type = json_string_value(json_array_get(types, i));
        if (type == NULL || (strcmp(type, "full_attention") != 0 && strcmp(type, "sliding_attention") != 0))
            return slm_fail(err, SLM_UNSUPPORTED, "\"layer_types\" in \"%s\" names an unknown kind of layer", c->json.file);
        c->slides[i] = strcmp(type, "sliding_attention") == 0;
        any = any || c->slides[i];
    }
    c->layered_window = any;
    return any ? SLM_OK : slm_hf_config_put(c, "attention.sliding_window", 0, err);
}

static slm_status take_window(slm_hf_config *c, const hf_family *f, slm_error *err)
{
    bool use = strncmp(f->name, "qwen", 4) != 0; /* Qwen names a window that it does not use */
    SLM_TRY(slm_hf_bool(c->json, "use_sliding_window", &use, err));
    if (!use)
        return SLM_OK;
    SLM_TRY(take(c, c->json, "sliding_window", "attention.sliding_window", 0, err));
    if (strcmp(f->name, "gemma2") != 0 && strcmp(f->name, "gemma3") != 0)
        return SLM_OK;
    SLM_TRY(take(c, c->json, "sliding_window_pattern", "attention.sliding_window_pattern", NAN, err));
    return take_layer_types(c, err);
}

/* SmolLM3: every n-th layer attends without positions. The array says 1 for layers with RoPE, in spite of its name. */
static slm_status take_nope(slm_hf_config *c, slm_error *err)
{
    json_t *layers = json_object_get(c->json.object, "no_rope_layers");
    uint32_t step = 0;
    if (!json_is_array(layers))
        return take(c, c->json, "no_rope_layer_interval", "no_rope_layer_interval", 4, err);
    if (json_array_size(layers) != c->n_layers)
        return slm_fail(err, SLM_FORMAT, "\"no_rope_layers\" in \"%s\" does not name %u layers", c->json.file, c->n_layers);
    for (uint32_t i = 0; i < c->n_layers; i++) {
        bool nope = json_integer_value(json_array_get(layers, i)) == 0;
        if (nope && step == 0)
            step = i + 1;
        if (nope != (step != 0 && (i + 1) % step == 0))
            return slm_fail(err, SLM_UNSUPPORTED, "\"no_rope_layers\" in \"%s\" follows no regular pattern", c->json.file);
    }
    return slm_hf_config_put(c, "no_rope_layer_interval", step == 0 ? SLM_MAX_LAYERS * 2 : step, err);
}

/* ---- families ---- */

static slm_status take_multipliers(slm_hf_config *c, const hf_family *f, slm_error *err)
{
    if (strcmp(f->name, "granite") == 0) {
        SLM_TRY(take(c, c->json, "embedding_multiplier", "embedding_scale", 1, err));
        SLM_TRY(take(c, c->json, "residual_multiplier", "residual_scale", 1, err));
        SLM_TRY(take(c, c->json, "attention_multiplier", "attention.scale", 1, err));
        return take(c, c->json, "logits_scaling", "logit_scale", 1, err);
    }
    if (strcmp(f->name, "gemma2") == 0 || strcmp(f->name, "gemma3") == 0) {
        float scalar = 256;
        double cap = strcmp(f->name, "gemma2") == 0;
        /* a null cap means none, not the default */
        SLM_TRY(take(c, c->json, "attn_logit_softcapping", "attn_logit_softcapping",
                     json_object_get(c->json.object, "attn_logit_softcapping") ? 0 : 50 * cap, err));
        SLM_TRY(take(c, c->json, "final_logit_softcapping", "final_logit_softcapping",
                     json_object_get(c->json.object, "final_logit_softcapping") ? 0 : 30 * cap, err));
        SLM_TRY(slm_hf_f32(c->json, "query_pre_attn_scalar", 1e-3, 1e6, &scalar, err));
        return slm_hf_config_put(c, "attention.scale", 1 / sqrt(scalar), err);
    }
    return SLM_OK;
}

static slm_status take_causal(slm_hf_config *c, const hf_family *f, slm_error *err)
{
    double heads = slm_hf_config_number(c, "attention.head_count", 1), embd = slm_hf_config_number(c, "embedding_length", 0);
    const char *arch = json_string_value(json_array_get(json_object_get(c->json.object, "architectures"), 0));
    if (arch != NULL && strstr(arch, "ForCausalLM") == NULL)
        return slm_fail(err, SLM_UNSUPPORTED, "the architecture \"%.60s\" in \"%s\" is not supported: it is no ForCausalLM", arch,
                        c->json.file);
    SLM_TRY(take(c, c->json, "num_key_value_heads", "attention.head_count_kv", f->n_kv_heads != 0 ? f->n_kv_heads : heads, err));
    double head_dim = f->head_dim != 0 ? f->head_dim : heads >= 1 ? floor(embd / heads) : 0;
    SLM_TRY(take(c, c->json, "head_dim", "attention.key_length", head_dim, err));
    SLM_TRY(take(c, c->json, "rms_norm_eps", "attention.layer_norm_rms_epsilon", f->norm_eps, err));
    c->tied = f->tied;
    SLM_TRY(slm_hf_bool(c->json, "tie_word_embeddings", &c->tied, err));
    c->tied_known = slm_hf_has(c->json, "tie_word_embeddings");
    SLM_TRY(want_activation(c->json, slm_hf_has(c->json, "hidden_activation") ? "hidden_activation" : "hidden_act",
                            f->gelu ? "gelu_pytorch_tanh" : "silu", f->gelu ? "gelu" : "swish", err));
    SLM_TRY(take_rope(c, f, err));
    SLM_TRY(take_window(c, f, err));
    if (strcmp(f->name, "smollm3") == 0)
        SLM_TRY(take_nope(c, err));
    return take_multipliers(c, f, err);
}

static slm_status take_bert(slm_hf_config *c, slm_error *err)
{
    const char *positions = slm_hf_string(c->json, "position_embedding_type");
    const char *arch = json_string_value(json_array_get(json_object_get(c->json.object, "architectures"), 0));
    c->cross_encoder = arch != NULL && strcmp(arch, "BertForSequenceClassification") == 0;
    if (positions != NULL && strcmp(positions, "absolute") != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "\"position_embedding_type\" in \"%s\" is \"%.40s\", not \"absolute\"", c->json.file,
                        positions);
    SLM_TRY(want_activation(c->json, "hidden_act", "gelu", "gelu", err));
    SLM_TRY(take(c, c->json, "layer_norm_eps", "attention.layer_norm_epsilon", 1e-12, err));
    SLM_TRY(take(c, c->json, "type_vocab_size", "tokenizer.ggml.token_type_count", 2, err));
    return slm_hf_config_put(c, "pooling_type", c->cross_encoder ? 4 : 1, err);
}

slm_status slm_hf_config_read(slm_hf_json json, slm_hf_config *c, slm_error *err)
{
    const char *type = slm_hf_string(json, "model_type");
    const hf_family *f = NULL;
    memset(c, 0, sizeof *c);
    c->json = json;
    if (type == NULL)
        return slm_fail(err, SLM_FORMAT, "\"model_type\" is missing in \"%s\"", json.file);
    if (slm_hf_has(json, "quantization_config")) {
        slm_fail(err, SLM_UNSUPPORTED, "\"%s\" describes a checkpoint that is already quantized", json.file);
        return slm_hint(err, "Import the original model: it is quantized here, see the option \"quantization\".");
    }
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        if (strcmp(families[i].model_type, type) == 0)
            f = &families[i];
    if (f == NULL && strcmp(type, "bert") != 0) {
        slm_fail(err, SLM_UNSUPPORTED, "model type \"%.60s\" in \"%s\" is not supported", type, json.file);
        return slm_hint(err, "Supported: bert, llama, mistral, phi3, gemma, gemma2, gemma3_text, qwen2, qwen3, granite, olmo2, smollm3.");
    }
    c->meta.architecture = f != NULL ? f->name : "bert";
    c->meta.number = meta_number;
    c->meta.string = meta_string;
    c->meta.arg = c;
    SLM_TRY(take_sizes(c, err));
    return f != NULL ? take_causal(c, f, err) : take_bert(c, err);
}
