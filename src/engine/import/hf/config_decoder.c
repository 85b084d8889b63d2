/*
 * config.json of decoders: heads, RoPE and its scalings, patterns of layers, multipliers.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/import/hf/keys.h"

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
    uint32_t pairs = (uint32_t) slm_hf_config_number(c, "rope.dimension_count", 0) / 2;
    if (c->meta.n_factors != pairs || c->meta.n_factors_long != pairs)
        return slm_fail(err, SLM_FORMAT, "longrope in \"%s\" has %u and %u factors, not %u", s.file, c->meta.n_factors,
                        c->meta.n_factors_long, pairs);
    c->meta.factors = c->factors;
    c->meta.factors_long = c->factors_long;
    SLM_TRY(slm_hf_config_put(c, "rope.scaling.original_context_length", original, err));
    float factor = (float) (context / original);
    SLM_TRY(slm_hf_f32(s, "factor", 1e-3, 1e6, &factor, err)); /* stands for their ratio where it is given */
    return slm_hf_take(c, s, "attention_factor", "rope.scaling.attn_factor",
                       factor > 1 ? sqrt(1 + log((double) factor) / log(original)) : 1, err);
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
    static const char *const needed[] = {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"};
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
        if (!slm_hf_has(s, needed[i]))
            return slm_fail(err, SLM_FORMAT, "RoPE scaling \"llama3\" in \"%s\" has no \"%s\"", s.file, needed[i]);
    c->meta.n_factors = (uint32_t) n_rot / 2;
    c->meta.factors = c->factors;
    slm_family_llama3_factors(slm_hf_config_number(c, "rope.freq_base", 1e4), (uint32_t) n_rot, factor, low, high, original, c->factors);
    return slm_hf_config_put(c, "rope.scaling.original_context_length", original, err);
}

/* What a scaling may hold that is none: newer versions keep all of RoPE's parameters in one object. */
static slm_status refuse_untyped(slm_hf_json s, slm_error *err)
{
    static const char *const harmless_keys[] = {"rope_theta", "partial_rotary_factor", "original_max_position_embeddings",
                                                "mrope_section", "mrope_interleaved"}; /* of pictures: a text's positions are all one */
    const char *key;
    json_t *value;
    json_object_foreach(s.object, key, value)
    {
        bool known = json_is_null(value) || json_is_object(value); /* objects: parameters of kinds of layers */
        for (size_t i = 0; i < sizeof harmless_keys / sizeof harmless_keys[0]; i++)
            known = known || strcmp(key, harmless_keys[i]) == 0;
        if (!known)
            return slm_fail(err, SLM_UNSUPPORTED, "RoPE scaling in \"%s\" has the parameter \"%.40s\" but no type", s.file, key);
    }
    return SLM_OK;
}

/* The pair whose wave turns so often over the original context, as a place that need not be whole. */
static double yarn_place(double turns, double n_rot, double base, double original)
{
    return n_rot * log(original / (turns * 2 * 3.14159265358979323846)) / (2 * log(base));
}

/* How much longer its cosines and sines are. */
static double yarn_size(double factor, double scale)
{
    return factor > 1 ? 0.1 * scale * log(factor) + 1 : 1;
}

/* YaRN (arXiv 2309.00071): fast pairs stay, slow ones are divided by factor, with a ramp between; cos and sin grow a little. */
static slm_status take_yarn(slm_hf_config *c, slm_hf_json s, slm_error *err)
{
    static const char *const keys[] = {"rope_type", "type", "factor", "original_max_position_embeddings", "attention_factor", "beta_fast",
                                       "beta_slow", "rope_theta", "truncate", "partial_rotary_factor", "mscale", "mscale_all_dim",
                                       "llama_4_scaling_beta", "max_position_embeddings", NULL};
    double context = slm_hf_config_number(c, "context_length", 0), n_rot = slm_hf_config_number(c, "rope.dimension_count", 0);
    double base = slm_hf_config_number(c, "rope.freq_base", 1e4);
    float original = (float) context, factor = 0, fast = 32, slow = 1, growth = 0;
    bool truncate = true;
    const char *key;
    json_t *value;
    json_object_foreach(s.object, key, value)
    {
        size_t i = 0;
        while (keys[i] != NULL && strcmp(keys[i], key) != 0)
            i++;
        if (keys[i] == NULL && !json_is_null(value))
            return slm_fail(err, SLM_UNSUPPORTED, "YaRN in \"%s\" has the parameter \"%.40s\", which is not supported", s.file, key);
    }
    SLM_TRY(slm_hf_f32(s, "original_max_position_embeddings", 1, 1u << 24, &original, err));
    SLM_TRY(slm_hf_f32(s, "factor", 1, 1e4, &factor, err));
    SLM_TRY(slm_hf_f32(s, "beta_fast", 1e-3, 1e4, &fast, err));
    SLM_TRY(slm_hf_f32(s, "beta_slow", 1e-3, 1e4, &slow, err));
    SLM_TRY(slm_hf_bool(s, "truncate", &truncate, err));
    SLM_TRY(slm_hf_f32(s, "llama_4_scaling_beta", 0, 100, &growth, err));
    if (growth > 0 && strcmp(c->kind->model_type, "ministral3") != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "YaRN in \"%s\" has the parameter \"llama_4_scaling_beta\", which is not supported for "
                                              "models of this type", s.file);
    SLM_TRY(slm_hf_config_put(c, "slm.query_growth", (double) growth, err));
    if (factor < 1)
        return slm_fail(err, SLM_FORMAT, "YaRN in \"%s\" has no factor of at least 1", s.file);
    double low = yarn_place((double) fast, n_rot, base, (double) original), high = yarn_place((double) slow, n_rot, base,
                                                                                              (double) original);
    low = truncate ? floor(low) : low;
    high = truncate ? ceil(high) : high;
    low = low > 0 ? low : 0;
    high = high < n_rot - 1 ? high : n_rot - 1;
    high = high == low ? high + 0.001 : high;
    c->meta.n_factors = (uint32_t) n_rot / 2;
    c->meta.factors = c->factors;
    for (uint32_t i = 0; i < c->meta.n_factors; i++) {
        double ramp = ((double) i - low) / (high - low);
        ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        c->factors[i] = (float) (1 / (ramp / (double) factor + (1 - ramp)));
    }
    SLM_TRY(slm_hf_config_put(c, "rope.scaling.original_context_length", (double) original, err));
    float one = 0, all = 0;
    SLM_TRY(slm_hf_f32(s, "mscale", 0, 100, &one, err));
    SLM_TRY(slm_hf_f32(s, "mscale_all_dim", 0, 100, &all, err));
    bool scaled = one > 0 && all > 0;
    double grown = yarn_size((double) factor, scaled ? (double) one : 1) / (scaled ? yarn_size((double) factor, (double) all) : 1);
    return slm_hf_take(c, s, "attention_factor", "rope.scaling.attn_factor", grown, err);
}

/* Dynamic NTK: the model's context is the original one, which the factor lengthens. */
static slm_status take_dynamic(slm_hf_config *c, slm_hf_json s, slm_error *err)
{
    double context = slm_hf_config_number(c, "context_length", 0);
    float factor = 0, original = (float) context;
    SLM_TRY(slm_hf_f32(s, "original_max_position_embeddings", 1, 1u << 24, &original, err));
    SLM_TRY(slm_hf_f32(s, "factor", 1, 1e4, &factor, err));
    if (factor < 1 || (double) original != context)
        return slm_fail(err, SLM_UNSUPPORTED, "dynamic RoPE scaling in \"%s\" has no factor of at least 1, or an original context that is "
                                              "not \"max_position_embeddings\"", s.file);
    snprintf(c->scaling, sizeof c->scaling, "dynamic");
    SLM_TRY(slm_hf_config_put(c, "rope.scaling.factor", (double) factor, err));
    SLM_TRY(slm_hf_config_put(c, "rope.scaling.original_context_length", context, err));
    return slm_hf_config_put(c, "context_length", floor(context * (double) factor), err);
}

static slm_status take_scaling(slm_hf_config *c, slm_hf_json s, slm_error *err)
{
    const char *type = slm_hf_rope_type(s);
    if (type == NULL)
        return refuse_untyped(s, err);
    if (strcmp(type, "default") == 0)
        return SLM_OK;
    if (strcmp(type, "llama3") == 0)
        return take_llama3(c, s, err);
    if (c->kind->scalings != NULL && !slm_hf_among(type, c->kind->scalings))
        return slm_fail(err, SLM_UNSUPPORTED, "RoPE scaling \"%.40s\" in \"%s\" is not supported for models of this type", type, s.file);
    if (slm_hf_among(type, "longrope|su")) {
        snprintf(c->scaling, sizeof c->scaling, "longrope");
        return take_longrope(c, s, err);
    }
    if (strcmp(type, "yarn") == 0)
        return take_yarn(c, s, err);
    if (strcmp(type, "dynamic") == 0)
        return take_dynamic(c, s, err);
    if (strcmp(type, "linear") == 0) {
        snprintf(c->scaling, sizeof c->scaling, "linear");
        SLM_TRY(slm_hf_take(c, s, "factor", "rope.scaling.factor", NAN, err));
        if (slm_hf_config_number(c, "rope.scaling.factor", 0) > 0)
            return SLM_OK;
        return slm_fail(err, SLM_FORMAT, "linear RoPE scaling in \"%s\" has no factor above 0", s.file);
    }
    return slm_fail(err, SLM_UNSUPPORTED, "RoPE scaling \"%.40s\" in \"%s\" is not supported", type, s.file);
}

/* Gemma 4: of the layers that see everything the first pairs turn, as if all of the head did; without parameters a quarter. */
static slm_status take_proportional(slm_hf_config *c, slm_hf_json p, slm_error *err)
{
    float partial = p.object != NULL ? 1 : 0.25f, factor = 1;
    double head_dim = slm_hf_config_number(c, "attention.key_length", 0);
    SLM_TRY(slm_hf_f32(p, "partial_rotary_factor", 1e-3, 1, &partial, err));
    SLM_TRY(slm_hf_f32(p, "factor", 1e-3, 1e6, &factor, err));
    double turns = floor((double) partial * head_dim / 2);
    if (factor != 1 || !(turns >= 1 && turns <= SLM_MAX_ROT / 2))
        return slm_fail(err, SLM_UNSUPPORTED, "proportional RoPE in \"%s\" has a factor, or turns %g pairs of a head", c->json.file, turns);
    SLM_TRY(slm_hf_config_put(c, "rope.dimension_count", head_dim, err));
    return slm_hf_config_put(c, "slm.rope_turns", turns, err);
}

/* The parameters of sliding layers may differ by their base alone. */
static slm_status check_local(slm_hf_json local, slm_error *err)
{
    const char *type = slm_hf_rope_type(local);
    if (local.object == NULL || type == NULL || strcmp(type, "default") == 0)
        return local.object == NULL || type != NULL ? SLM_OK : refuse_untyped(local, err);
    return slm_fail(err, SLM_UNSUPPORTED, "RoPE scaling \"%.40s\" of sliding layers in \"%s\" is not supported", type, local.file);
}

/* rope_theta and rope_scaling, or rope_parameters as newer versions write them (by layer type for Gemma 3). */
slm_status slm_hf_take_rope(slm_hf_config *c, slm_error *err)
{
    slm_hf_json p = slm_hf_member(c->json, "rope_parameters");
    slm_hf_json full = slm_hf_member(p, "full_attention"), local = slm_hf_member(p, "sliding_attention");
    slm_hf_json scaling = slm_hf_member(c->json, "rope_scaling");
    float partial = c->kind->partial != 0 ? (float) c->kind->partial : 1;
    if ((full.object != NULL || local.object != NULL) && !c->kind->ropes)
        return slm_fail(err, SLM_UNSUPPORTED, "\"rope_parameters\" by kinds of layers in \"%s\" are not supported for models of this type",
                        c->json.file);
    if (full.object != NULL)
        p = full;
    if (scaling.object != NULL && p.object != NULL && (c->kind->partial != 0 || c->kind->answers_only))
        return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" has both \"rope_scaling\" and \"rope_parameters\"", c->json.file);
    if (full.object != NULL && !slm_hf_has(full, "rope_theta"))
        return slm_fail(err, SLM_FORMAT, "\"rope_parameters\" in \"%s\" have no \"rope_theta\" for the layers that see everything",
                        c->json.file);
    if (json_is_null(json_object_get(p.object, "rope_theta")) || json_is_null(json_object_get(p.object, "partial_rotary_factor")))
        return slm_fail(err, SLM_FORMAT, "\"rope_parameters\" in \"%s\" have a null for a number", c->json.file);
    const char *base = c->kind->base_key != NULL ? c->kind->base_key : "rope_theta";
    SLM_TRY(slm_hf_take(c, c->json, base, "rope.freq_base", c->kind->rope_base, err));
    SLM_TRY(slm_hf_take(c, p, "rope_theta", "rope.freq_base", NAN, err));
    if (c->kind->ropes) {
        double local_base = c->kind->gelu ? 1e4 : slm_hf_config_number(c, "rope.freq_base", 1e4); /* OLMo 3 scales its full layers alone */
        SLM_TRY(slm_hf_take(c, c->json, "rope_local_base_freq", "rope.freq_base_swa", local_base, err));
        SLM_TRY(slm_hf_take(c, local, "rope_theta", "rope.freq_base_swa", NAN, err));
        SLM_TRY(check_local(local, err));
    }
    const char *type = slm_hf_string(p, "rope_type");
    if (c->kind->proportional && scaling.object == NULL && (p.object == NULL || (type != NULL && strcmp(type, "proportional") == 0)))
        return take_proportional(c, p, err);
    SLM_TRY(slm_hf_f32(c->json, "rotary_pct", 1e-3, 1, &partial, err));
    SLM_TRY(slm_hf_f32(c->json, "partial_rotary_factor", 1e-3, 1, &partial, err));
    SLM_TRY(slm_hf_f32(p, "partial_rotary_factor", 1e-3, 1, &partial, err));
    if (partial != 1 && !c->kind->partial)
        return slm_fail(err, SLM_UNSUPPORTED, "\"partial_rotary_factor\" in \"%s\" is not 1, which models of this type do not know",
                        c->json.file);
    double head_dim = slm_hf_config_number(c, "attention.key_length", 0), n_rot = floor(head_dim * (double) partial + 1e-6);
    const char *kind = slm_hf_string(c->json, "position_embedding_type");
    if (kind == NULL && slm_hf_has(c->json, "position_embedding_type"))
        return slm_fail(err, SLM_FORMAT, "\"position_embedding_type\" in \"%s\" is no text", c->json.file);
    if (c->kind->layers == slm_hf_layers_granite4 && (kind == NULL || strcmp(kind, "rope") != 0))
        return slm_hf_config_put(c, "rope.dimension_count", 0, err); /* attention without positions */
    if (!(n_rot >= 2 && n_rot <= SLM_MAX_ROT))
        return slm_fail(err, SLM_FORMAT, "\"%s\" asks to rotate %g dimensions of a head, not 2 to %d", c->json.file, n_rot, SLM_MAX_ROT);
    SLM_TRY(slm_hf_config_put(c, "rope.dimension_count", n_rot, err));
    return take_scaling(c, scaling.object != NULL ? scaling : p, err);
}

/* ---- layer patterns ---- */

/* What "layer_types" says, *listed: there is one.  flags [n_layers]: which layers are of the type `marked`, which may be NULL; all others
 * must be of the type `plain`. */
static slm_status read_layer_types(const slm_hf_config *c, const char *plain, const char *marked, uint8_t *flags, bool *listed,
                                   slm_error *err)
{
    json_t *types = json_object_get(c->json.object, "layer_types");
    *listed = json_is_array(types);
    if (*listed && json_array_size(types) != c->n_layers)
        return slm_fail(err, SLM_FORMAT, "\"layer_types\" in \"%s\" does not name %u layers", c->json.file, c->n_layers);
    for (uint32_t i = 0; *listed && i < c->n_layers; i++) {
        const char *type = json_string_value(json_array_get(types, i));
        flags[i] = type != NULL && marked != NULL && strcmp(type, marked) == 0;
        if (type == NULL || (strcmp(type, plain) != 0 && !flags[i]))
            return slm_fail(err, SLM_UNSUPPORTED,
                            "\"layer_types\" in \"%s\" names \"%.40s\" for layer %u, which is not supported for models of "
                            "this type", c->json.file, type != NULL ? type : "?", i);
    }
    return SLM_OK;
}

static slm_status take_layer_types(slm_hf_config *c, const char *full, const char *sliding, slm_error *err)
{
    bool listed, any = false;
    SLM_TRY(read_layer_types(c, full, sliding, c->slides, &listed, err));
    for (uint32_t i = 0; listed && i < c->n_layers; i++)
        any = any || c->slides[i];
    c->layered_window = any;
    return any || !listed ? SLM_OK : slm_hf_config_put(c, "attention.sliding_window", 0, err);
}

/* Granite 4: "attention" as versions before 5 name it. A file without the list has a Mamba in every layer. */
slm_status slm_hf_layers_granite4(slm_hf_config *c, slm_error *err)
{
    json_t *types = json_object_get(c->json.object, "layer_types");
    if (!json_is_array(types))
        return slm_fail(err, SLM_UNSUPPORTED, "\"layer_types\" in \"%s\" is missing: all layers are Mambas, which are not supported",
                        c->json.file);
    const char *first = json_string_value(json_array_get(types, 0));
    return take_layer_types(c, first != NULL && strcmp(first, "attention") == 0 ? "attention" : "full_attention", NULL, err);
}

/* LFM2: the layers with a convolution, as "layer_types" names them, or all but those of "full_attn_idxs"; and the inner width, which is
 * computed from the one in the file. */
slm_status slm_hf_layers_lfm2(slm_hf_config *c, slm_error *err)
{
    json_t *full = json_object_get(c->json.object, "full_attn_idxs");
    bool listed, adjust = true;
    uint32_t multiple = 256;
    double width = slm_hf_config_number(c, "feed_forward_length", 0);
    float times = 1;
    SLM_TRY(read_layer_types(c, "full_attention", "conv", c->convolves, &listed, err));
    if (!listed && !json_is_array(full))
        return slm_fail(err, SLM_FORMAT, "neither \"layer_types\" nor \"full_attn_idxs\" is in \"%s\"", c->json.file);
    if (!listed)
        memset(c->convolves, 1, c->n_layers);
    for (size_t k = 0; !listed && k < json_array_size(full); k++) {
        json_int_t layer = json_integer_value(json_array_get(full, k));
        if (!json_is_integer(json_array_get(full, k)) || layer < 0 || layer >= (json_int_t) c->n_layers)
            return slm_fail(err, SLM_FORMAT, "\"full_attn_idxs\" in \"%s\" names a layer that is not there", c->json.file);
        c->convolves[layer] = 0;
    }
    SLM_TRY(slm_hf_take(c, c->json, "block_ff_dim", "feed_forward_length", width, err));
    SLM_TRY(slm_hf_bool(c->json, "block_auto_adjust_ff_dim", &adjust, err));
    SLM_TRY(slm_hf_f32(c->json, "block_ffn_dim_multiplier", 1e-3, 100, &times, err));
    SLM_TRY(slm_hf_u32(c->json, "block_multiple_of", 1, 65536, &multiple, err));
    width = floor(2 * slm_hf_config_number(c, "feed_forward_length", 0) / 3);
    width = floor(width * (double) times);
    width = multiple * ceil(width / multiple);
    return adjust ? slm_hf_config_put(c, "feed_forward_length", width, err) : SLM_OK;
}

/* The window, and the layers that slide. */
static slm_status take_window(slm_hf_config *c, bool pattern, slm_error *err)
{
    /* null says none, a key that is not there what the class assumes */
    SLM_TRY(slm_hf_take(c, c->json, "sliding_window", "attention.sliding_window",
                        json_object_get(c->json.object, "sliding_window") != NULL ? 0 : c->kind->window, err));
    if (slm_hf_config_number(c, "slm.both_ways", 0) != 0) {
        double width = slm_hf_config_number(c, "attention.sliding_window", 0); /* half of it to each side */
        SLM_TRY(slm_hf_config_put(c, "attention.sliding_window", floor(width / 2), err));
    }
    json_t *window = json_object_get(c->json.object, "sliding_window");
    if (json_is_real(window))
        return slm_fail(err, SLM_FORMAT, "\"sliding_window\" in \"%s\" is no integer", c->json.file);
    if ((pattern || (window != NULL && !json_is_null(window))) && slm_hf_config_number(c, "attention.sliding_window", 0) < 1)
        return slm_fail(err, SLM_FORMAT, "\"sliding_window\" in \"%s\" is no window", c->json.file);
    if (pattern)
        SLM_TRY(slm_hf_take(c, c->json, "sliding_window_pattern", "attention.sliding_window_pattern", NAN, err));
    if (slm_hf_config_number(c, "attention.sliding_window", 0) > 0)
        return take_layer_types(c, "full_attention", "sliding_attention", err);
    return take_layer_types(c, "full_attention", NULL, err);
}

/* Qwen 2 and 3 name a window that they do not use. */
slm_status slm_hf_layers_full(slm_hf_config *c, slm_error *err)
{
    return take_layer_types(c, "full_attention", NULL, err);
}

slm_status slm_hf_layers_gemma(slm_hf_config *c, slm_error *err)
{
    return take_window(c, true, err);
}

/* Ministral 3 has YaRN, and all of what the reference reads of it. */
slm_status slm_hf_layers_ministral3(slm_hf_config *c, slm_error *err)
{
    static const char *const needed[] = {"rope_theta", "factor", "original_max_position_embeddings", "llama_4_scaling_beta"};
    slm_hf_json p = slm_hf_member(c->json, "rope_parameters");
    const char *type = slm_hf_rope_type(p);
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
        if (!slm_hf_has(p, needed[i]))
            return slm_fail(err, SLM_FORMAT, "\"rope_parameters\" in \"%s\" have no \"%s\"", c->json.file, needed[i]);
    if (type == NULL || strcmp(type, "yarn") != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "RoPE scaling \"%.40s\" in \"%s\" is not supported for models of this type",
                        type != NULL ? type : "none", c->json.file);
    return take_window(c, false, err);
}

/* A number that "per_layer_config" says of each layer that does not slide, of all of them the same; where nothing is said, *value. */
static slm_status take_of_layers(slm_hf_config *c, const char *name, uint32_t most, uint32_t *value, slm_error *err)
{
    uint32_t n = 0, full = 0;
    const char *index;
    json_t *layers = json_object_get(c->json.object, "per_layer_config"), *layer;
    json_object_foreach(layers, index, layer)
    {
        const json_t *v = json_object_get(layer, name);
        char *end;
        unsigned long at = strtoul(index, &end, 10);
        bool good = json_is_integer(v) && json_integer_value(v) >= 1 && json_integer_value(v) <= most && *end == '\0' && end != index &&
                    at < c->n_layers && !c->slides[at] && (n == 0 || json_integer_value(v) == *value);
        if (!good)
            return slm_fail(err, SLM_UNSUPPORTED, "\"per_layer_config\" in \"%s\" says of layer %.20s what is not supported",
                            c->json.file, index);
        *value = (uint32_t) json_integer_value(v);
        n++;
    }
    for (uint32_t i = 0; i < c->n_layers; i++)
        full += !c->slides[i];
    if (layers != NULL && !json_is_null(layers) && n != full)
        return slm_fail(err, SLM_UNSUPPORTED, "\"per_layer_config\" in \"%s\" speaks of %u of %u layers", c->json.file, n, full);
    return SLM_OK;
}

/* Heads of layers that do not slide: their width, and (EmbeddingGemma 2) how many have keys. Nothing else may be said of single layers. */
static slm_status take_wide_heads(slm_hf_config *c, uint32_t *kv_heads, slm_error *err)
{
    uint32_t wide = 512;
    const char *index;
    json_t *layer;
    SLM_TRY(slm_hf_u32(c->json, "global_head_dim", 8, 1024, &wide, err));
    json_object_foreach(json_object_get(c->json.object, "per_layer_config"), index, layer)
        if (json_object_size(layer) != (kv_heads != NULL ? 2u : 1u))
            return slm_fail(err, SLM_UNSUPPORTED, "\"per_layer_config\" in \"%s\" says of layer %.20s what is not supported",
                            c->json.file, index);
    SLM_TRY(take_of_layers(c, "head_dim", 1024, &wide, err));
    if (kv_heads != NULL)
        SLM_TRY(take_of_layers(c, "num_key_value_heads", 1024, kv_heads, err));
    return slm_hf_config_put(c, "attention.key_length", wide, err);
}

/* Gemma 4: which layers slide (five of six where it is not said, and the last one never), heads, inner widths. */
slm_status slm_hf_layers_gemma4(slm_hf_config *c, slm_error *err)
{
    bool wide = false;
    uint32_t of_layers = c->meta.n_vocab;
    double width = slm_hf_config_number(c, "feed_forward_length", 0), head_dim = slm_hf_config_number(c, "attention.key_length", 0);
    SLM_TRY(slm_hf_take(c, c->json, "sliding_window", "attention.sliding_window", c->kind->window, err));
    SLM_TRY(slm_hf_take(c, c->json, "final_logit_softcapping", "final_logit_softcapping", 0, err));
    SLM_TRY(slm_hf_u32(c->json, "vocab_size_per_layer_input", 1, 1u << 21, &of_layers, err));
    if (of_layers != c->meta.n_vocab)
        return slm_fail(err, SLM_UNSUPPORTED, "\"vocab_size_per_layer_input\" in \"%s\" is not \"vocab_size\"", c->json.file);
    for (uint32_t i = 0; i < c->n_layers; i++)
        c->slides[i] = (i + 1) % 6 != 0;
    c->layered_window = true;
    SLM_TRY(take_layer_types(c, "full_attention", "sliding_attention", err));
    c->slides[c->n_layers - 1] = 0;
    SLM_TRY(slm_hf_config_put(c, "attention.key_length_swa", head_dim, err));
    SLM_TRY(take_wide_heads(c, NULL, err));
    SLM_TRY(slm_hf_bool(c->json, "use_double_wide_mlp", &wide, err));
    return slm_hf_config_put(c, "slm.feed_forward_shared", wide ? 2 * width : 0, err);
}

/* EmbeddingGemma 2: the same, but that any of n layers may not slide, and that windows reach as far to each side. */
slm_status slm_hf_take_gemma_embd2(slm_hf_config *c, slm_error *err)
{
    uint32_t wide_kv = 1, step = 6;
    if (json_is_null(json_object_get(c->json.object, "sliding_window")))
        return slm_fail(err, SLM_FORMAT, "\"sliding_window\" in \"%s\" is null", c->json.file);
    SLM_TRY(slm_hf_take(c, c->json, "head_dim", "attention.key_length_swa", c->kind->head_dim, err));
    SLM_TRY(slm_hf_take(c, c->json, "num_key_value_heads", "slm.head_count_kv_swa", c->kind->n_kv_heads, err));
    SLM_TRY(slm_hf_take(c, c->json, "rms_norm_eps", "attention.layer_norm_rms_epsilon", 1e-6, err));
    SLM_TRY(slm_hf_take(c, c->json, "sliding_window", "attention.sliding_window", c->kind->window, err));
    SLM_TRY(slm_hf_u32(c->json, "sliding_window_pattern", 1, SLM_MAX_LAYERS, &step, err));
    SLM_TRY(slm_hf_u32(c->json, "num_global_key_value_heads", 1, 1024, &wide_kv, err));
    for (uint32_t i = 0; i < c->n_layers; i++)
        c->slides[i] = (i + 1) % step != 0;
    c->layered_window = true;
    SLM_TRY(take_layer_types(c, "full_attention", "sliding_attention", err));
    c->slides[c->n_layers - 1] = 0;
    SLM_TRY(take_wide_heads(c, &wide_kv, err));
    SLM_TRY(slm_hf_config_put(c, "attention.head_count_kv", wide_kv, err));
    return slm_hf_take_rope(c, err);
}

/* SmolLM3: every n-th layer attends without positions. The array says 1 for layers with RoPE, in spite of its name. */
static slm_status take_nope(slm_hf_config *c, slm_error *err)
{
    json_t *layers = json_object_get(c->json.object, "no_rope_layers");
    uint32_t step = 0;
    if (!json_is_array(layers))
        return slm_hf_take(c, c->json, "no_rope_layer_interval", "no_rope_layer_interval", 4, err);
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

/* Where nothing names them, the layers without positions are those that slide. */
slm_status slm_hf_layers_smollm3(slm_hf_config *c, slm_error *err)
{
    bool use = false;
    SLM_TRY(slm_hf_bool(c->json, "use_sliding_window", &use, err));
    SLM_TRY(use ? take_window(c, false, err) : slm_hf_layers_full(c, err));
    SLM_TRY(take_nope(c, err));
    double step = slm_hf_config_number(c, "no_rope_layer_interval", 4);
    if (slm_hf_config_number(c, "attention.sliding_window", 0) <= 0 || slm_hf_has(c->json, "layer_types"))
        return SLM_OK;
    for (uint32_t i = 0; i < c->n_layers; i++)
        c->slides[i] = (double) (i + 1) == step * floor((double) (i + 1) / step);
    c->layered_window = true;
    return SLM_OK;
}

/* Where nothing names them, three of four slide. */
slm_status slm_hf_layers_olmo3(slm_hf_config *c, slm_error *err)
{
    SLM_TRY(take_window(c, false, err));
    if (slm_hf_config_number(c, "attention.sliding_window", 0) <= 0 || slm_hf_has(c->json, "layer_types"))
        return SLM_OK;
    for (uint32_t i = 0; i < c->n_layers; i++)
        c->slides[i] = (i + 1) % 4 != 0;
    c->layered_window = true;
    return SLM_OK;
}

/* EXAONE 4 may leave its layers to a pattern ("LLLG", or a number), which files with a window do not do. */
slm_status slm_hf_layers_exaone4(slm_hf_config *c, slm_error *err)
{
    json_t *window = json_object_get(c->json.object, "sliding_window");
    SLM_TRY(take_window(c, false, err));
    if (window != NULL && json_is_null(window))
        return SLM_OK;
    if (slm_hf_config_number(c, "attention.sliding_window", 0) <= 0)
        return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" has a window, but no layer that slides: no layer has positions then",
                        c->json.file);
    if (slm_hf_has(c->json, "layer_types"))
        return SLM_OK;
    return slm_fail(err, SLM_UNSUPPORTED, "\"layer_types\" is missing in \"%s\", which has a window", c->json.file);
}

/* Qwen 3.5: the layers with a delta rule, or all but every n-th. */
slm_status slm_hf_layers_qwen35(slm_hf_config *c, slm_error *err)
{
    uint32_t step = 4;
    bool listed;
    SLM_TRY(slm_hf_u32(c->json, "full_attention_interval", 1, SLM_MAX_LAYERS, &step, err));
    SLM_TRY(read_layer_types(c, "full_attention", "linear_attention", c->convolves, &listed, err));
    for (uint32_t i = 0; !listed && i < c->n_layers; i++)
        c->convolves[i] = (i + 1) % step != 0;
    return SLM_OK;
}

/* Qwen 3: the layers whose number divides by the step have experts, but for those that the list names.  Their number is num_experts
 * before version 5. */
slm_status slm_hf_more_qwen3_moe(slm_hf_config *c, slm_error *err)
{
    const char *count = slm_hf_has(c->json, "num_local_experts") ? "num_local_experts" : "num_experts";
    json_t *only = json_object_get(c->json.object, "mlp_only_layers");
    uint32_t step = 1;
    SLM_TRY(slm_hf_take(c, c->json, count, "expert_count", 128, err));
    SLM_TRY(slm_hf_u32(c->json, "decoder_sparse_step", 1, SLM_MAX_LAYERS, &step, err));
    for (uint32_t i = 0; i < c->n_layers; i++)
        c->dense[i] = (i + 1) % step != 0;
    for (size_t i = 0; i < json_array_size(only); i++) {
        json_int_t layer = json_integer_value(json_array_get(only, i));
        if (!json_is_integer(json_array_get(only, i)) || layer < 0 || layer >= (json_int_t) c->n_layers)
            return slm_fail(err, SLM_FORMAT, "\"mlp_only_layers\" in \"%s\" names a layer that is not there", c->json.file);
        c->dense[layer] = 1;
    }
    return slm_hf_more_olmoe(c, err);
}

/* Do the shares of the chosen experts add up to 1? */
slm_status slm_hf_more_olmoe(slm_hf_config *c, slm_error *err)
{
    bool scaled = false;
    if (json_is_null(json_object_get(c->json.object, "norm_topk_prob")))
        return slm_fail(err, SLM_FORMAT, "\"norm_topk_prob\" in \"%s\" is null", c->json.file);
    SLM_TRY(slm_hf_bool(c->json, "norm_topk_prob", &scaled, err));
    return slm_hf_config_put(c, "slm.experts_scaled", scaled, err);
}

slm_status slm_hf_more_gemma(slm_hf_config *c, slm_error *err)
{
    float scalar = 256;
    double cap = !c->kind->ropes; /* Gemma 3 has none */
    /* a null cap means none, not the default */
    if (c->kind->ropes && slm_hf_has(c->json, "attn_logit_softcapping")) /* the reference's Gemma 3 carries it along unused */
        return slm_fail(err, SLM_UNSUPPORTED, "\"attn_logit_softcapping\" in \"%s\" is not supported for models of this type",
                        c->json.file);
    if (c->nested && slm_hf_has(c->json, "final_logit_softcapping")) /* beside pictures its head leaves the cap out */
        return slm_fail(err, SLM_UNSUPPORTED, "\"final_logit_softcapping\" in \"%s\" is not supported in \"text_config\"",
                        c->json.file);
    SLM_TRY(slm_hf_take(c, c->json, "attn_logit_softcapping", "attn_logit_softcapping",
                        json_object_get(c->json.object, "attn_logit_softcapping") ? 0 : 50 * cap, err));
    SLM_TRY(slm_hf_take(c, c->json, "final_logit_softcapping", "final_logit_softcapping",
                        json_object_get(c->json.object, "final_logit_softcapping") ? 0 : 30 * cap, err));
    static const char *const caps[] = {"attn_logit_softcapping", "final_logit_softcapping"};
    for (size_t i = 0; i < sizeof caps / sizeof caps[0]; i++)
        if (slm_hf_has(c->json, caps[i]) && !(json_number_value(json_object_get(c->json.object, caps[i])) > 0))
            return slm_fail(err, SLM_FORMAT, "\"%s\" in \"%s\" is no cap above 0; none is null", caps[i], c->json.file);
    if (json_is_null(json_object_get(c->json.object, "query_pre_attn_scalar")))
        return slm_fail(err, SLM_FORMAT, "\"query_pre_attn_scalar\" in \"%s\" is null", c->json.file);
    SLM_TRY(slm_hf_f32(c->json, "query_pre_attn_scalar", 1e-3, 1e6, &scalar, err));
    return slm_hf_config_put(c, "attention.scale", 1 / sqrt((double) scalar), err);
}

/* A decoder answers, unless sentence-transformers pools its states or a head stands on top. */
static slm_status take_purpose(slm_hf_config *c, slm_error *err)
{
    const char *arch = slm_hf_architecture(c);
    bool both_ways = false;
    bool causal = strstr(arch, "ForCausalLM") != NULL || strstr(arch, "LMHeadModel") != NULL ||
        arch[0] == '\0';
    bool classifies = strstr(arch, "ForSequenceClassification") != NULL;
    SLM_TRY(slm_hf_bool(c->json, "use_bidirectional_attention", &both_ways, err));
    if ((classifies || c->modules) && c->kind->answers_only)
        return slm_fail(err, SLM_UNSUPPORTED, "models of the type \"%s\" that embed or classify are not supported", c->kind->model_type);
    if (classifies || c->modules) {
        SLM_TRY(slm_hf_config_put(c, "slm.both_ways", both_ways, err));
        return slm_hf_config_put(c, "slm.embedding", 1, err);
    }
    if (both_ways)
        return slm_fail(err, SLM_UNSUPPORTED, "\"use_bidirectional_attention\" in \"%s\" is set, but the model is no embedder",
                        c->json.file);
    if (causal)
        return SLM_OK;
    slm_fail(err, SLM_UNSUPPORTED, "the architecture \"%.60s\" in \"%s\" has no output head, and no \"modules.json\" says how it embeds "
                                   "texts", arch,
             c->json.file);
    return slm_hint(err, "Load a ForCausalLM, or a directory that sentence-transformers has saved.");
}

slm_status slm_hf_take_decoder(slm_hf_config *c, slm_error *err)
{
    const slm_hf_kind *k = c->kind;
    double heads = slm_hf_config_number(c, "attention.head_count", 1), embd = slm_hf_config_number(c, "embedding_length", 0);
    SLM_TRY(take_purpose(c, err));
    SLM_TRY(slm_hf_take(c, c->json, "num_key_value_heads", "attention.head_count_kv", k->n_kv_heads != 0 ? k->n_kv_heads : heads, err));
    double head_dim = k->head_dim != 0 ? k->head_dim : heads >= 1 ? floor(embd / heads) : 0;
    SLM_TRY(slm_hf_take(c, c->json, "head_dim", "attention.key_length", head_dim, err));
    if (!k->own_eps)
        SLM_TRY(slm_hf_take(c, c->json, "rms_norm_eps", "attention.layer_norm_rms_epsilon", k->eps != 0 ? k->eps : 1e-6, err));
    c->tied = k->tied;
    SLM_TRY(slm_hf_bool(c->json, "tie_embedding", &c->tied, err)); /* LFM2 before version 5 */
    SLM_TRY(slm_hf_bool(c->json, "tie_word_embeddings", &c->tied, err));
    SLM_TRY(k->layers != NULL ? k->layers(c, err) : take_window(c, false, err));
    if (k->rope_base != 0)
        SLM_TRY(slm_hf_take_rope(c, err));
    return k->more_of != NULL ? k->more_of(c, err) : SLM_OK;
}

/* GPT-NeoX: its feed-forward may also follow its attention. */
slm_status slm_hf_more_neox(slm_hf_config *c, slm_error *err)
{
    bool parallel = true;
    SLM_TRY(slm_hf_bool(c->json, "use_parallel_residual", &parallel, err));
    return slm_hf_config_put(c, "slm.parallel", parallel, err);
}

/* GPT-2: the inner width is four times the outer one where it is not said. */
slm_status slm_hf_take_gpt2(slm_hf_config *c, slm_error *err)
{
    SLM_TRY(slm_hf_take(c, c->json, "n_inner", "feed_forward_length", 4 * slm_hf_config_number(c, "embedding_length", 0), err));
    return slm_hf_take_decoder(c, err);
}
