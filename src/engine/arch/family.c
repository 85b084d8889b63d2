/*
 * What all families share: the table of roles, reading and bounding hyper-parameters, finding every tensor of a model.
 *
 * Every number of a source passes through slm_meta_u32 or slm_meta_float with its range, and the whole struct through
 * slm_hparams_check, which the image calls too.  The bounds are chosen so that no product of hyper-parameters that the engine forms
 * (bytes of a KV block, widths of projections) can overflow 64 bits, nor 32 where the engine keeps 32.
 */
#include "engine/arch/family.h"

#include "engine/base/math.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const slm_role_info role_table[SLM_TENSOR_ROLES] = {
#define ROLE(name, gguf, hf, rows, cols, per_layer) {#name, gguf, hf, (slm_dim) (rows), (slm_dim) (cols), per_layer},
#include "engine/arch/roles.def"
#undef ROLE
};

#define FAMILY(name) &slm_family_##name,
static const slm_family *const families[] = {
#include "engine/arch/families.def"
};
#undef FAMILY

/* "llama, phi3, ...": for the hint. */
static const char family_names[] =
#define FAMILY(name) ", " #name
#include "engine/arch/families.def"
#undef FAMILY
    ;

const slm_family *slm_family_at(int i)
{
    return i >= 0 && (size_t) i < sizeof families / sizeof families[0] ? families[i] : NULL;
}

const slm_family *slm_family_by_name(const char *name)
{
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        if (strcmp(families[i]->name, name) == 0)
            return families[i];
    return NULL;
}

const slm_role_info *slm_role_get(slm_tensor_role role)
{
    return (unsigned) role < SLM_TENSOR_ROLES ? &role_table[role] : NULL;
}

static uint32_t dim_of(const slm_hparams *hp, slm_dim dim, uint32_t layer)
{
    uint32_t head_dim = slm_layer_head_dim(hp, layer), q = hp->n_heads * head_dim, kv = slm_layer_kv_heads(hp, layer) * head_dim;
    switch (dim) {
    case D_NONE: return 0;
    case D_VOCAB: return hp->n_vocab;
    case D_EMBD: return hp->n_embd;
    case D_Q: return q;
    case D_KV: return kv;
    case D_QKV: return q + 2 * kv;
    case D_QNORM: return hp->qk_norm_whole ? q : head_dim;
    case D_KNORM: return hp->qk_norm_whole ? kv : head_dim;
    case D_FF: return slm_layer_ff(hp, layer);
    case D_FF2: return 2 * hp->n_ff;
    case D_CONTEXT: return hp->n_context;
    case D_TYPES: return hp->n_token_types;
    case D_LABELS: return hp->n_labels;
    case D_BUCKETS: return hp->relative_buckets;
    case D_HEADS: return hp->n_heads;
    case D_POOLED: return hp->n_pools * hp->n_embd;
    case D_DENSE0: return hp->dense_rows[0];
    case D_DENSE1: return hp->dense_rows[1];
    case D_DENSE2: return hp->dense_rows[2];
    case D_AFTER: return hp->after_norm_dim;
    case D_LOOKUP: return hp->n_lookup > 0 ? hp->n_lookup : hp->n_embd;
    case D_RELATIVE: return hp->n_heads * slm_relative_rows(hp);
    case D_HEAD: return hp->head_dim;
    case D_EXPERTS: return hp->n_experts;
    case D_EXPERTS_FF: return hp->n_experts * hp->n_ff_expert;
    case D_EXPERTS_EMBD: return hp->n_experts * hp->n_embd;
    case D_FF_EXPERT: return hp->n_ff_expert;
    case D_CONV: return hp->delta_values > 0 ? slm_conv_width(hp) : 3 * hp->n_embd;
    case D_KERNEL: return slm_conv_width(hp) * hp->conv_length;
    case D_CONV_OUT: return slm_conv_out(hp);
    case D_DELTA: return hp->delta_values;
    case D_DELTA_HEAD: return hp->delta_value_dim;
    case D_LAYERS_EMBD: return hp->n_layers * hp->n_embd_layer;
    case D_LAYER_EMBD: return hp->n_embd_layer;
    case D_ONE: return 1;
    case D_JOINT: return hp->joint_width;
    case D_JOINT_MLP: return SLM_JOINT_MLP;
    case D_JOINT_MLP_HALF: return SLM_JOINT_MLP / 2;
    case D_JOINT_MLP_IN: return hp->joint_scorer == SLM_SCORER_MLP ? 2 * hp->n_embd : hp->n_embd;
    case D_EMBD_TWICE: return 2 * hp->n_embd;
    case D_EMBD_3: return 3 * hp->n_embd;
    case D_EMBD_4: return 4 * hp->n_embd;
    case D_SPAN: return hp->span_embd;
    case D_SPAN2: case D_GATES: return 2 * hp->span_embd;
    case D_SPAN3: return 3 * hp->span_embd;
    case D_SPAN4: return 4 * hp->span_embd;
    case D_STATE: return hp->span_embd / 2;
    case D_MARKS: return 3;
    }
    return 0;
}

void slm_role_shape(const slm_hparams *hp, slm_tensor_role role, uint32_t layer, uint32_t *rows, uint32_t *cols)
{
    *rows = dim_of(hp, role_table[role].rows, layer);
    *cols = dim_of(hp, role_table[role].cols, layer);
}

bool slm_layer_slides(const slm_hparams *hp, uint32_t layer)
{
    if (hp->window == 0 || slm_layer_decides(hp, layer))
        return false;
    if (hp->layered)
        return layer < SLM_MAX_LAYERS && (hp->slides[layer / 32] >> layer % 32 & 1) != 0;
    return hp->window_pattern < 2 || (layer + 1 - hp->window_phase) % hp->window_pattern != 0;
}

uint32_t slm_layer_keys(const slm_hparams *hp, uint32_t layer)
{
    uint32_t own = slm_layers_with_keys(hp), i = own;
    if (layer < own)
        return layer;
    while (i > 0 && slm_layer_slides(hp, i - 1) != slm_layer_slides(hp, layer))
        i--;
    return i > 0 ? i - 1 : hp->n_layers;
}

uint32_t slm_relative_rows(const slm_hparams *hp)
{
    return (2 * hp->relative_span + 15) / 16 * 16;
}

static bool role_of_keys(slm_tensor_role role)
{
    return role == SLM_TENSOR_ATTN_K || role == SLM_TENSOR_ATTN_V || role == SLM_TENSOR_ATTN_K_BIAS || role == SLM_TENSOR_ATTN_V_BIAS ||
        role == SLM_TENSOR_ATTN_K_NORM;
}

/* What only layers of a decision head have, in a model with one. */
static bool role_of_decision(slm_tensor_role role)
{
    return role == SLM_TENSOR_ATTN_NORM_BIAS || role == SLM_TENSOR_ATTN_QKV_BIAS ||
        (role >= SLM_TENSOR_ATTN_Q_BIAS && role <= SLM_TENSOR_ATTN_V_BIAS) || role == SLM_TENSOR_ATTN_OUT_BIAS ||
        role == SLM_TENSOR_FFN_NORM_BIAS || role == SLM_TENSOR_FFN_UP_BIAS || role == SLM_TENSOR_FFN_DOWN_BIAS;
}

bool slm_role_in_layer(const slm_hparams *hp, slm_tensor_role role, uint32_t layer)
{
    if (hp->n_decide > 0 && role_of_decision(role))
        return layer < hp->n_layers && slm_layer_decides(hp, layer);
    if (slm_layer_decides(hp, layer) && (role == SLM_TENSOR_FFN_GATE || role == SLM_TENSOR_FFN_GATE_UP ||
                                         role == SLM_TENSOR_ATTN_Q_NORM || role == SLM_TENSOR_ATTN_K_NORM))
        return false;
    bool dense = hp->n_experts == 0 || (layer < SLM_MAX_LAYERS && (hp->dense_layers[layer / 32] >> layer % 32 & 1) != 0);
    if (role == SLM_TENSOR_ROUTER || slm_role_of_experts(role))
        return layer < hp->n_layers && !dense;
    if (role >= SLM_TENSOR_CONV_IN && role <= SLM_TENSOR_CONV_OUT)
        return layer < hp->n_layers && slm_layer_convolves(hp, layer);
    if (role >= SLM_TENSOR_DELTA_GATE && role <= SLM_TENSOR_DELTA_NORM)
        return layer < hp->n_layers && slm_layer_convolves(hp, layer) && hp->delta_values > 0;
    if (((role >= SLM_TENSOR_ATTN_Q && role <= SLM_TENSOR_ATTN_OUT_BIAS) || role == SLM_TENSOR_ATTN_GATE) && slm_layer_convolves(hp, layer))
        return false;
    if (slm_role_of_joint(role))
        return layer == 0 && slm_joint_reads(hp, role);
    if (role == SLM_TENSOR_TYPE_EMBD)
        return layer == 0 && hp->n_token_types > 0;
    if (slm_role_of_spans(role))
        return layer == 0 && slm_spans_reads(hp, role);
    if (!role_table[role].per_layer || hp->shared_layers)
        return layer == 0;
    if (role_of_keys(role) && layer >= slm_layers_with_keys(hp))
        return false;
    if (role == SLM_TENSOR_FFN_GATE || role == SLM_TENSOR_FFN_UP || role == SLM_TENSOR_FFN_GATE_UP || role == SLM_TENSOR_FFN_DOWN)
        return layer < hp->n_layers && dense;
    return layer < hp->n_layers;
}

uint32_t slm_role_layers(const slm_hparams *hp, slm_tensor_role role, uint32_t before)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < before; i++)
        n += slm_role_in_layer(hp, role, i);
    return n;
}

uint32_t slm_hparams_kv_bytes(const slm_hparams *hp, bool wide)
{
    uint32_t conv = slm_role_layers(hp, SLM_TENSOR_CONV_IN, hp->n_layers), dims = 0;
    for (uint32_t i = 0; i < slm_layers_with_keys(hp); i++)
        dims += slm_layer_convolves(hp, i) ? 0 : slm_layer_head_dim(hp, i);
    return (wide ? 8 : 4) * hp->n_kv_heads * dims + (uint32_t) (conv * slm_conv_block(hp, wide) / 8);
}

uint32_t slm_hparams_outputs(const slm_hparams *hp)
{
    if (hp->pooling == SLM_POOL_RANK)
        return hp->n_labels;
    if (hp->pooling == SLM_POOL_SPANS)
        return 0; /* as many as the texts have words and labels */
    if (hp->cut > 0)
        return hp->cut;
    return hp->n_dense > 0 ? hp->dense_rows[hp->n_dense - 1] : hp->n_pools > 0 ? hp->n_pools * hp->n_embd : hp->n_embd;
}

void slm_hparams_from_layout_1(slm_hparams *hp)
{
    bool rank = hp->pooling == SLM_POOL_RANK;
    if (hp->causal)
        return;
    hp->norm_after_sum = 1;
    hp->head_squash = SLM_SQUASH_TANH;
    hp->head_pool = rank ? SLM_POOL_CLS : 0;
    hp->n_labels = rank;
    hp->n_pools = !rank;
    hp->pools[0] = rank ? 0 : hp->pooling;
    hp->n_after = hp->embed_normalize != 0;
    hp->after[0] = hp->embed_normalize ? SLM_AFTER_NORMALIZE : 0;
}

static bool role_in(const slm_tensor_role *list, slm_tensor_role role)
{
    for (; list != NULL && *list != SLM_TENSOR_ROLES; list++)
        if (*list == role)
            return true;
    return false;
}

/* Roles of what may stand behind any model that reads whole texts. */
static bool role_behind(slm_tensor_role role)
{
    return (role >= SLM_TENSOR_DENSE_0 && role <= SLM_TENSOR_AFTER_NORM_BIAS) || role == SLM_TENSOR_CLS_OUT ||
        role == SLM_TENSOR_CLS_OUT_BIAS || slm_role_of_joint(role);
}

slm_need slm_family_need(const slm_family *family, slm_tensor_role role, bool image)
{
    if (role_behind(role) || slm_role_of_spans(role))
        return SLM_NEED_OPTIONAL;
    if (!image && (role == SLM_TENSOR_REL_KEY || role == SLM_TENSOR_REL_QUERY))
        return SLM_NEED_NEVER; /* no source has them */
    if (image && (role == SLM_TENSOR_ATTN_QKV || role == SLM_TENSOR_FFN_GATE_UP || role == SLM_TENSOR_ATTN_QKV_BIAS))
        return SLM_NEED_NEVER;
    if (role_in(family->required, role))
        return SLM_NEED_ALWAYS;
    if (image && (role == SLM_TENSOR_ATTN_Q || role == SLM_TENSOR_ATTN_K || role == SLM_TENSOR_ATTN_V) &&
        role_in(family->required, SLM_TENSOR_ATTN_QKV))
        return SLM_NEED_ALWAYS;
    if (image && (role == SLM_TENSOR_ATTN_Q_BIAS || role == SLM_TENSOR_ATTN_K_BIAS || role == SLM_TENSOR_ATTN_V_BIAS) &&
        role_in(family->required, SLM_TENSOR_ATTN_QKV_BIAS))
        return SLM_NEED_ALWAYS;
    if (image && (role == SLM_TENSOR_FFN_GATE || role == SLM_TENSOR_FFN_UP) && role_in(family->required, SLM_TENSOR_FFN_GATE_UP))
        return SLM_NEED_ALWAYS;
    return role_in(family->optional, role) ? SLM_NEED_OPTIONAL : SLM_NEED_NEVER;
}

/* ------------------------------------------------------------------ numbers of the metadata */

static slm_status check_number(const slm_meta *meta, const char *key, double value, double min, double max, bool integer, slm_error *err)
{
    if (!isfinite(value) || value < min || value > max || (integer && value != floor(value)))
        return slm_fail(err, SLM_FORMAT, "%s.%s is %g, out of the range %g to %g", meta->architecture, key, value, min, max);
    return SLM_OK;
}

static slm_status read_number(const slm_meta *meta, const char *key, double min, double max, double def, bool integer, double *out,
                              slm_error *err)
{
    double value;
    if (!meta->number(meta->arg, key, 0, &value)) {
        if (isnan(def))
            return slm_fail(err, SLM_FORMAT, "the model file has no %s.%s", meta->architecture, key);
        *out = def;
        return SLM_OK;
    }
    SLM_TRY(check_number(meta, key, value, min, max, integer, err));
    *out = value;
    return SLM_OK;
}

slm_status slm_meta_u32(const slm_meta *meta, const char *key, uint32_t min, uint32_t max, double def, uint32_t *out, slm_error *err)
{
    double value = 0;
    SLM_TRY(read_number(meta, key, min, max, def, true, &value, err));
    *out = (uint32_t) value;
    return SLM_OK;
}

slm_status slm_meta_float(const slm_meta *meta, const char *key, double min, double max, double def, float *out, slm_error *err)
{
    double value = 0;
    SLM_TRY(read_number(meta, key, min, max, def, false, &value, err));
    *out = (float) value;
    return SLM_OK;
}

slm_status slm_meta_u32_layers(const slm_meta *meta, const char *key, uint32_t min, uint32_t max, uint32_t n_layers, double def,
                               uint32_t *out, slm_error *err)
{
    double first = 0, value;
    SLM_TRY(read_number(meta, key, min, max, def, true, &first, err));
    for (uint32_t i = 1; i < n_layers; i++) {
        if (!meta->number(meta->arg, key, i, &value))
            break;
        if (value != first)
            return slm_fail(err, SLM_UNSUPPORTED, "%s.%s differs from layer to layer, which is not supported", meta->architecture, key);
    }
    *out = (uint32_t) first;
    return SLM_OK;
}

slm_status slm_meta_pattern(const slm_meta *meta, const char *key, uint32_t n_layers, uint32_t def, uint32_t *out, slm_error *err)
{
    double value;
    uint32_t period = 0;
    *out = def;
    if (!meta->number(meta->arg, key, 0, &value))
        return SLM_OK;
    SLM_TRY(check_number(meta, key, value, 0, n_layers > 64 ? n_layers : 64, true, err));
    if (value > 1) {
        *out = (uint32_t) value;
        return SLM_OK;
    }
    /* flags per layer: the first that does not slide gives the period, the others must agree */
    for (uint32_t i = 0; i < n_layers; i++) {
        if (!meta->number(meta->arg, key, i, &value))
            return slm_fail(err, SLM_FORMAT, "%s.%s has fewer entries than the model has layers", meta->architecture, key);
        if (value == 0 && period == 0)
            period = i + 1;
        bool full = period != 0 && (i + 1) % period == 0;
        if ((value == 0) != full)
            return slm_fail(err, SLM_UNSUPPORTED, "%s.%s is not periodic, which is not supported", meta->architecture, key);
    }
    if (period == 1)
        return slm_fail(err, SLM_UNSUPPORTED, "%s.%s says that no layer slides", meta->architecture, key);
    *out = period;
    return SLM_OK;
}

void slm_meta_slides(const slm_meta *meta, slm_hparams *hp)
{
    double flag;
    for (uint32_t i = 0; i < hp->n_layers; i++) {
        if (hp->window == 0 || !meta->number(meta->arg, "attention.sliding_window_pattern", i, &flag))
            return;
        hp->layered = 1;
        hp->slides[i / 32] |= (uint32_t) (flag != 0) << i % 32;
    }
}

/* ------------------------------------------------------------------ the common part of all families */

static slm_status read_sizes(const slm_meta *meta, const slm_family *family, slm_hparams *hp, slm_error *err)
{
    uint32_t alike; /* layers that must be */
    SLM_TRY(slm_meta_u32(meta, "block_count", !family->no_layers, family->no_layers ? 0 : SLM_MAX_LAYERS, NAN, &hp->n_layers, err));
    SLM_TRY(slm_meta_u32(meta, "context_length", 1, 1u << 24, NAN, &hp->n_context, err));
    SLM_TRY(slm_meta_u32(meta, "embedding_length", 1, 65536, NAN, &hp->n_embd, err));
    alike = family->late_ff ? 1 : hp->n_layers;
    SLM_TRY(slm_meta_u32_layers(meta, "feed_forward_length", 1, 1u << 20, alike, NAN, &hp->n_ff, err));
    SLM_TRY(slm_meta_u32_layers(meta, "attention.head_count", 1, 1024, hp->n_layers, NAN, &hp->n_heads, err));
    if (family->own_kv)
        hp->n_kv_heads = hp->n_heads;
    else
        SLM_TRY(slm_meta_u32_layers(meta, "attention.head_count_kv", 1, 1024, hp->n_layers, hp->n_heads, &hp->n_kv_heads, err));
    uint32_t per_head = hp->n_embd / hp->n_heads, value_dim;
    SLM_TRY(slm_meta_u32(meta, "attention.key_length", 1, 1024, per_head, &hp->head_dim, err));
    SLM_TRY(slm_meta_u32(meta, "attention.value_length", 1, 1024, hp->head_dim, &value_dim, err));
    if (value_dim != hp->head_dim)
        return slm_fail(err, SLM_UNSUPPORTED, "key and value heads differ in width (%u, %u), which is not supported", hp->head_dim,
                        value_dim);
    return slm_meta_u32(meta, "rope.dimension_count", 0, SLM_MAX_ROT, hp->head_dim, &hp->n_rot, err);
}

/* Layers with one feed-forward: flags by layer where a source names them. */
slm_status slm_family_read_experts(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    double dense;
    SLM_TRY(slm_meta_u32(meta, "expert_count", 1, SLM_MAX_EXPERTS, NAN, &hp->n_experts, err));
    SLM_TRY(slm_meta_u32(meta, "expert_used_count", 1, hp->n_experts, NAN, &hp->n_experts_used, err));
    SLM_TRY(slm_meta_u32(meta, "expert_feed_forward_length", 1, 1u << 20, hp->n_ff, &hp->n_ff_expert, err));
    for (uint32_t i = 0; i < hp->n_layers; i++)
        if (meta->number(meta->arg, "slm.dense_layer", i, &dense) && dense != 0)
            hp->dense_layers[i / 32] |= 1u << i % 32;
    return SLM_OK;
}

/* Linear scaling is meant where a factor stands without a type (llama.cpp's default), and by the older key scale_linear; models with
 * factors for each pair name their type or have no common factor. */
static slm_status read_scaling(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    char type[32] = "";
    float factor, old;
    SLM_TRY(slm_meta_float(meta, "rope.scale_linear", 0, 1e6, 0, &old, err));
    SLM_TRY(slm_meta_float(meta, "rope.scaling.factor", 0, 1e6, (double) old, &factor, err));
    if (!meta->string(meta->arg, "rope.scaling.type", type, sizeof type) || strcmp(type, "linear") == 0)
        hp->rope_scale = factor > 0 ? factor : 1; /* 0 is how converters write none */
    else if (strcmp(type, "dynamic") == 0 && !meta->gguf)
        hp->rope_dynamic = factor;
    else if (strcmp(type, "none") != 0 && strcmp(type, "longrope") != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "RoPE scaling \"%s\" is not supported", type);
    return SLM_OK;
}

static slm_status read_rope(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    SLM_TRY(slm_meta_float(meta, "rope.freq_base", 1, 1e9, 10000, &hp->rope_base, err));
    SLM_TRY(slm_meta_u32(meta, "rope.scaling.original_context_length", 1, 1u << 24, hp->n_context, &hp->n_ctx_original, err));
    SLM_TRY(slm_meta_float(meta, "rope.scaling.attn_factor", 0.01, 100, 1, &hp->rope_attn_factor, err));
    SLM_TRY(slm_meta_u32(meta, "slm.rope_turns", 0, SLM_MAX_ROT / 2, 0, &hp->rope_turns, err));
    SLM_TRY(slm_meta_float(meta, "slm.query_growth", 0, 100, 0, &hp->query_growth, err));
    return read_scaling(meta, hp, err);
}

/* How many pairs turn: divisors at the end may be so large that theirs stand still (Gemma 4). */
static uint32_t turning_pairs(const float *factors, uint32_t n)
{
    while (n > 0 && factors[n - 1] >= 1e20f)
        n--;
    return n;
}

/* The first `turns` of n. */
static slm_status copy_factors(const float *from, uint32_t n, uint32_t turns, uint32_t n_rot, float *to, slm_error *err)
{
    if (n != n_rot / 2)
        return slm_fail(err, SLM_FORMAT, "%u RoPE factors, but %u rotated pairs", n, n_rot / 2);
    for (uint32_t i = 0; i < n; i++) {
        to[i] = i < turns || turns == 0 ? from[i] : 1;
        if (!(to[i] >= 1e-3f && to[i] <= 1e6f))
            return slm_fail(err, SLM_FORMAT, "RoPE factor %u is %g", i, (double) from[i]);
    }
    return SLM_OK;
}

static slm_status read_factors(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    if (meta->factors == NULL && meta->factors_long == NULL)
        return SLM_OK;
    if (meta->factors == NULL)
        return slm_fail(err, SLM_FORMAT, "long RoPE factors without short ones");
    uint32_t turns = turning_pairs(meta->factors, meta->n_factors);
    SLM_TRY(copy_factors(meta->factors, meta->n_factors, turns, hp->n_rot, hp->rope_factors_short, err));
    hp->rope_turns = turns < meta->n_factors ? turns : hp->rope_turns;
    hp->has_rope_factors = 1;
    if (meta->factors_long != NULL) {
        SLM_TRY(copy_factors(meta->factors_long, meta->n_factors_long, meta->n_factors_long, hp->n_rot, hp->rope_factors_long, err));
        hp->has_rope_factors = 2;
    }
    return SLM_OK;
}

/* GGUF's pooling_type: 0 none, 1 mean, 2 first, 3 last, 4 rank.  Directories name more (SLM_POOL_*, by place). */
static slm_status read_pools(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    static const uint32_t pooling_of[5] = {SLM_POOL_MEAN, SLM_POOL_MEAN, SLM_POOL_CLS, SLM_POOL_LAST, SLM_POOL_RANK};
    uint32_t pooling;
    if (hp->joint != SLM_JOINT_NONE) {
        hp->pooling = SLM_POOL_RANK;
        hp->n_labels = hp->tags = 1;
        hp->head_pool = SLM_POOL_CLS;
        return SLM_OK;
    }
    SLM_TRY(slm_meta_u32(meta, "slm.pools", 0, SLM_MAX_POOLS, 0, &hp->n_pools, err));
    for (uint32_t i = 0; i < hp->n_pools; i++) {
        double pool = 0;
        if (!meta->number(meta->arg, "slm.pool", i, &pool) || !(pool >= SLM_POOL_MEAN && pool <= SLM_POOL_LAST))
            return slm_fail(err, SLM_FORMAT, "pooling %u of the model is out of range", i + 1);
        hp->pools[i] = (uint32_t) pool;
    }
    SLM_TRY(slm_meta_u32(meta, "pooling_type", 0, 4, 1, &pooling, err));
    hp->pooling = hp->n_pools > 0 ? hp->pools[0] : pooling_of[pooling];
    SLM_TRY(slm_spans_read(meta, hp, err));
    if (hp->spans != SLM_SPANS_NONE)
        return SLM_OK;
    if (hp->pooling == SLM_POOL_RANK) {
        SLM_TRY(slm_meta_u32(meta, "slm.head.labels", 1, SLM_MAX_LABELS, 1, &hp->n_labels, err));
        SLM_TRY(slm_meta_u32(meta, "slm.head.tags", 0, 1, 0, &hp->tags, err));
        SLM_TRY(slm_meta_u32(meta, "slm.head.pool", SLM_POOL_MEAN, SLM_POOL_LAST, SLM_POOL_CLS, &hp->head_pool, err));
        SLM_TRY(slm_joint_read(meta, hp, err));
    } else if (hp->n_pools == 0) {
        hp->pools[hp->n_pools++] = hp->pooling;
    }
    return SLM_OK;
}

/* A projection of each row is one of what is pooled of them, unless that is their largest values. */
static slm_status read_projection(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    SLM_TRY(slm_meta_u32(meta, "embedding_length_out", 1, 65536, NAN, &hp->dense_rows[hp->n_dense++], err));
    hp->after[hp->n_after++] = SLM_AFTER_DENSE;
    if (hp->n_pools != 1 || hp->pooling == SLM_POOL_MAX || hp->pooling == SLM_POOL_RANK)
        return slm_fail(err, SLM_UNSUPPORTED, "the pooling of a model that projects every row is the largest value, or several");
    return SLM_OK;
}

/* Is a decoder made to embed texts or to classify them, and does it look both ways then?  Directories say so themselves; a GGUF file by a
 * pooling, of which it has none where the model answers. */
static slm_status read_purpose(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    uint32_t embedding, both_ways, pooling, causal;
    SLM_TRY(slm_meta_u32(meta, "slm.embedding", 0, 1, 0, &embedding, err));
    SLM_TRY(slm_meta_u32(meta, "slm.both_ways", 0, 1, 0, &both_ways, err));
    if (meta->gguf && hp->causal) {
        SLM_TRY(slm_meta_u32(meta, "pooling_type", 0, 4, 0, &pooling, err));
        SLM_TRY(slm_meta_u32(meta, "attention.causal", 0, 1, 1, &causal, err));
        if (pooling == 4) {
            slm_fail(err, SLM_UNSUPPORTED, "decoders that rank, in a GGUF file, are not supported (pooling_type 4)");
            return slm_hint(err, "Load the model's own directory.");
        }
        embedding = pooling != 0;
        both_ways = !causal;
    }
    if (embedding) {
        hp->mask_causal = hp->causal && !both_ways;
        hp->causal = hp->tied_head = 0;
    }
    return SLM_OK;
}

/* Dense modules of a GGUF file, if the model was published with any: two, numbered as sentence-transformers numbers modules. */
static slm_status read_dense(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    static const char *const keys[] = {"dense_2_feat_out", "dense_3_feat_out"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        uint32_t rows;
        SLM_TRY(slm_meta_u32(meta, keys[i], 0, 65536, 0, &rows, err));
        if (rows == 0)
            continue;
        hp->after[hp->n_after++] = SLM_AFTER_DENSE;
        hp->dense_rows[hp->n_dense++] = rows;
    }
    return SLM_OK;
}

/* What stands behind the layers of a model that reads whole texts. */
static slm_status read_behind(const slm_meta *meta, const slm_family *family, slm_hparams *hp, slm_error *err)
{
    uint32_t n_after, normalize;
    SLM_TRY(read_purpose(meta, hp, err));
    if (hp->causal)
        return SLM_OK;
    SLM_TRY(read_pools(meta, hp, err));
    SLM_TRY(family->projected ? read_projection(meta, hp, err) : meta->gguf ? read_dense(meta, hp, err) : SLM_OK);
    SLM_TRY(slm_meta_u32(meta, "slm.after_count", 0, SLM_MAX_AFTER - hp->n_after, 0, &n_after, err));
    SLM_TRY(slm_meta_u32(meta, "slm.after_norm", 0, 65536, 0, &hp->after_norm_dim, err));
    SLM_TRY(slm_meta_u32(meta, "slm.cut", 0, 65536, 0, &hp->cut, err));
    for (uint32_t i = 0, first = hp->n_dense; i < n_after; i++) {
        double after = 0, rows = 0, function = 0;
        if (!meta->number(meta->arg, "slm.after", i, &after))
            return slm_fail(err, SLM_FORMAT, "module %u behind the pooling is missing", i + 1);
        hp->after[hp->n_after++] = (uint32_t) after;
        if ((uint32_t) after != SLM_AFTER_DENSE)
            continue;
        if (hp->n_dense == SLM_MAX_DENSE || !meta->number(meta->arg, "slm.dense", hp->n_dense - first, &rows) ||
            !meta->number(meta->arg, "slm.squash", hp->n_dense - first, &function))
            return slm_fail(err, SLM_UNSUPPORTED, "more than %d dense modules behind the pooling", SLM_MAX_DENSE);
        hp->dense_rows[hp->n_dense] = (uint32_t) rows;
        hp->dense_squash[hp->n_dense++] = (uint32_t) function;
    }
    if (hp->spans != SLM_SPANS_NONE)
        return hp->n_after == 0 && hp->after_norm_dim == 0 && hp->cut == 0 && hp->n_pools == 0
            ? SLM_OK : slm_fail(err, SLM_UNSUPPORTED, "modules behind a head that finds spans are not supported");
    normalize = hp->pooling != SLM_POOL_RANK && (hp->n_after == 0 || hp->after[hp->n_after - 1] != SLM_AFTER_NORMALIZE);
    if (normalize && hp->n_after < SLM_MAX_AFTER)
        hp->after[hp->n_after++] = SLM_AFTER_NORMALIZE; /* vectors have length 1 here */
    hp->embed_normalize = hp->pooling != SLM_POOL_RANK;
    return SLM_OK;
}

/* By the architecture, and by the kind of decision head where there is one. */
static slm_status find_family(const slm_meta *meta, const slm_family **out, slm_error *err)
{
    char kind[32] = "";
    bool decides = meta->gguf && meta->string(meta->arg, "decision.type", kind, sizeof kind);
    for (int i = 0; (*out = slm_family_at(i)) != NULL; i++) {
        const char *name = meta->gguf && (*out)->gguf != NULL ? (*out)->gguf : (*out)->name;
        if (strcmp(name, meta->architecture) == 0 && ((*out)->decides != NULL) == decides &&
            (!decides || strcmp((*out)->decides, kind) == 0))
            return SLM_OK;
    }
    if (decides) {
        slm_fail(err, SLM_UNSUPPORTED, "decision models of the kind \"%s\" with the architecture \"%.40s\" are not supported", kind,
                 meta->architecture);
        return slm_hint(err, "Supported: laya with modern-bert, lfm2-d1-omni with lfm2.");
    }
    slm_fail(err, SLM_UNSUPPORTED, "models of the architecture \"%.40s\" are not supported", meta->architecture);
    return slm_hint(err, "Supported: %s.", family_names + 2);
}

slm_status slm_family_read(const slm_meta *meta, slm_hparams *out, slm_error *err)
{
    const slm_family *family;
    slm_hparams hp;
    memset(&hp, 0, sizeof hp);
    SLM_TRY(find_family(meta, &family, err));
    if (family->hf_only && meta->gguf)
        return slm_fail(err, SLM_UNSUPPORTED, "models of the architecture \"%s\" in a GGUF file are not supported", family->name);
    snprintf(hp.family, sizeof hp.family, "%s", family->name);
    hp.n_vocab = meta->n_vocab;
    hp.norm = SLM_NORM_RMS;
    hp.activation = SLM_ACT_SWIGLU;
    hp.causal = 1;
    hp.rope_scale = hp.embed_scale = hp.residual_scale = hp.logit_scale = 1;
    hp.rope_interleaved = meta->gguf && family->permuted;
    hp.tied_head = !meta->has_output;
    SLM_TRY(read_sizes(meta, family, &hp, err));
    SLM_TRY(read_rope(meta, &hp, err));
    if (!family->own_norms)
        SLM_TRY(slm_meta_float(meta, "attention.layer_norm_rms_epsilon", 1e-12, 1e-2, NAN, &hp.norm_eps, err));
    SLM_TRY(slm_meta_float(meta, "attention.scale", 1e-4, 10, 1 / sqrt(hp.head_dim), &hp.attn_scale, err));
    if (family->read != NULL)
        SLM_TRY(family->read(meta, &hp, err));
    SLM_TRY(read_behind(meta, family, &hp, err));
    SLM_TRY(read_factors(meta, &hp, err));
    if (hp.window >= hp.n_context && !hp.nope_full && hp.rope_base_local == 0)
        hp.window = 0;
    SLM_TRY(slm_hparams_check(&hp, err));
    *out = hp;
    return SLM_OK;
}

/* ------------------------------------------------------------------ the check */

static bool in_range(float x, double min, double max)
{
    return isfinite(x) && x >= min && x <= max;
}

static slm_status check_sizes(const slm_hparams *hp, slm_error *err)
{
    uint64_t q = (uint64_t) hp->n_heads * hp->head_dim, kv = (uint64_t) hp->n_kv_heads * hp->head_dim;
    const slm_family *family = memchr(hp->family, 0, sizeof hp->family) != NULL ? slm_family_by_name(hp->family) : NULL;
    if (family == NULL)
        return slm_fail(err, SLM_FORMAT, "unknown model family");
    if (hp->n_vocab < 1 || hp->n_vocab > 1u << 21)
        return slm_fail(err, SLM_FORMAT, "a vocabulary of %u tokens is out of range", hp->n_vocab);
    if (hp->n_context < 1 || hp->n_context > 1u << 24 || (hp->n_layers == 0) != family->no_layers || hp->n_layers > SLM_MAX_LAYERS)
        return slm_fail(err, SLM_FORMAT, "context length %u or number of layers %u is out of range", hp->n_context, hp->n_layers);
    if (hp->n_embd < 1 || hp->n_embd > 65536 || hp->n_ff < 1 || hp->n_ff > 1u << 20)
        return slm_fail(err, SLM_FORMAT, "embedding width %u or feed-forward width %u is out of range", hp->n_embd, hp->n_ff);
    if (hp->n_heads < 1 || hp->n_heads > 1024 || hp->n_kv_heads < 1 || hp->n_kv_heads > hp->n_heads || hp->n_heads % hp->n_kv_heads != 0)
        return slm_fail(err, SLM_FORMAT, "%u attention heads over %u key-value heads", hp->n_heads, hp->n_kv_heads);
    if (hp->head_dim < 8 || hp->head_dim > 1024 || hp->head_dim % 8 != 0 || q > 65536 || kv > 65536)
        return slm_fail(err, SLM_UNSUPPORTED, "attention heads of width %u are not supported", hp->head_dim);
    if (hp->n_embd % 32 != 0 || hp->n_ff % 32 != 0 || q % 32 != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "widths that are no multiple of 32 are not supported");
    if (hp->n_rot > hp->head_dim || hp->n_rot > SLM_MAX_ROT || hp->n_rot % 2 != 0)
        return slm_fail(err, SLM_FORMAT, "%u rotated dimensions in heads of width %u", hp->n_rot, hp->head_dim);
    return SLM_OK;
}

/* Convolutions give rows as wide as those of attention. */
static slm_status check_convolutions(const slm_hparams *hp, slm_error *err)
{
    if (hp->conv_length == 0)
        return SLM_OK;
    bool both_ways = !hp->causal && hp->n_decide > 0 && hp->conv_length == 3; /* d1-omni */
    if (hp->conv_length > 16 || !(hp->causal || both_ways) || hp->shared_layers || hp->post_norm_only || hp->parallel ||
        hp->norm != SLM_NORM_RMS || (both_ways && hp->delta_values > 0) ||
        (hp->delta_values == 0 && hp->n_heads * hp->head_dim != hp->n_embd))
        return slm_fail(err, SLM_UNSUPPORTED, "convolutions over %u positions in a model of width %u are not supported", hp->conv_length,
                        hp->n_embd);
    return SLM_OK;
}

/* Heads of values share those of keys evenly; a state has at most 4 MiB of F16. */
static slm_status check_delta(const slm_hparams *hp, slm_error *err)
{
    uint64_t keys = (uint64_t) hp->delta_keys * hp->delta_key_dim, values = (uint64_t) hp->delta_values * hp->delta_value_dim;
    if (hp->delta_keys == 0 && hp->delta_values == 0 && hp->delta_key_dim == 0 && hp->delta_value_dim == 0)
        return SLM_OK;
    if (hp->delta_keys < 1 || hp->delta_values < 1 || hp->delta_key_dim < 1 || hp->delta_value_dim < 1 || hp->delta_keys > 1024 ||
        hp->delta_values > 1024 || hp->delta_key_dim > 1024 || hp->delta_value_dim > 1024 || hp->delta_values % hp->delta_keys != 0 ||
        keys > 65536 || values > 65536 || values * hp->delta_key_dim > 1u << 21 || hp->conv_length == 0 || hp->n_experts > 0)
        return slm_fail(err, SLM_FORMAT, "a delta rule of %u heads of keys of %u and %u heads of values of %u", hp->delta_keys,
                        hp->delta_key_dim, hp->delta_values, hp->delta_value_dim);
    if (values % 32 != 0 || hp->delta_key_dim % 8 != 0 || hp->delta_value_dim % 8 != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "heads of a delta rule whose widths are no multiples of 8, or of 32 together, are not "
                                              "supported");
    return SLM_OK;
}

bool slm_layers_alike(const slm_hparams *hp)
{
    return hp->head_dim_local == 0 && hp->n_rot_local == 0 && hp->rope_turns == 0 && hp->kv_shared == 0 && hp->n_ff_shared == 0 &&
        hp->value_norm == 0 && hp->n_embd_layer == 0 && hp->n_kv_heads_local == 0;
}

/* Layers of several shapes: heads of two widths, and layers that read the keys of others (Gemma 4). */
static slm_status check_shapes(const slm_hparams *hp, slm_error *err)
{
    uint64_t q = (uint64_t) hp->n_heads * hp->head_dim_local, beside = (uint64_t) hp->n_layers * hp->n_embd_layer;
    if (slm_layers_alike(hp))
        return SLM_OK;
    bool encoder_has = hp->kv_shared > 0 || hp->n_ff_shared > 0 || hp->rope_turns > 0 || hp->norm_after_sum;
    if ((!hp->causal && encoder_has) || hp->conv_length > 0 || hp->n_experts > 0 || hp->shared_layers || hp->post_norm_only ||
        hp->parallel || hp->attn_gate || hp->norm != SLM_NORM_RMS || hp->qk_norm_whole || hp->value_norm > 1 || hp->rope_interleaved)
        return slm_fail(err, SLM_FORMAT, "layers of several shapes in a model that cannot have them");
    if (hp->head_dim_local > hp->head_dim || hp->n_rot_local > hp->head_dim_local || hp->n_rot_local > hp->n_rot ||
        hp->n_rot_local % 2 != 0 || hp->rope_turns > hp->n_rot / 2 ||
        (hp->head_dim_local > 0 && (hp->rope_base_local == 0 || (hp->window > 0 && !hp->layered))))
        return slm_fail(err, SLM_FORMAT, "sliding layers with heads of width %u, %u of them rotated", hp->head_dim_local, hp->n_rot_local);
    if (hp->n_kv_heads_local > 0 && (hp->causal || hp->head_dim_local == 0 || hp->n_heads % hp->n_kv_heads_local != 0 ||
                                     (uint64_t) hp->n_kv_heads_local * hp->head_dim_local > 65536))
        return slm_fail(err, SLM_FORMAT, "%u heads over %u of keys in sliding layers", hp->n_heads, hp->n_kv_heads_local);
    if (hp->kv_shared >= hp->n_layers || hp->n_ff_shared > 1u << 20 || beside > 65536)
        return slm_fail(err, SLM_FORMAT, "%u layers that share keys, of inner width %u, with embeddings of width %u", hp->kv_shared,
                        hp->n_ff_shared, hp->n_embd_layer);
    for (uint32_t i = slm_layers_with_keys(hp); i < hp->n_layers; i++)
        if (slm_layer_keys(hp, i) == hp->n_layers)
            return slm_fail(err, SLM_FORMAT, "layer %u shares the keys of a layer of its kind, of which there is none", i);
    if (hp->head_dim_local % 8 != 0 || q % 32 != 0 || hp->n_ff_shared % 32 != 0 || hp->n_embd_layer % 32 != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "widths that are no multiple of 32 are not supported");
    return SLM_OK;
}

/* Rows of one expert are whole panels, and its inner rows whole blocks. */
static slm_status check_experts(const slm_hparams *hp, slm_error *err)
{
    uint64_t rows = (uint64_t) hp->n_experts * (hp->n_ff_expert > hp->n_embd ? hp->n_ff_expert : hp->n_embd);
    bool used = hp->n_experts > 0;
    if (!used && hp->n_experts_used == 0 && hp->n_ff_expert == 0 && hp->experts_scaled == 0)
        return SLM_OK;
    if (hp->n_experts > SLM_MAX_EXPERTS || hp->n_experts_used < used || hp->n_experts_used > hp->n_experts || hp->experts_scaled > 1 ||
        hp->n_ff_expert < 1 || hp->n_ff_expert > 1u << 20 || rows > 1u << 27 || !hp->causal || hp->shared_layers || hp->post_norm_only ||
        hp->parallel)
        return slm_fail(err, SLM_FORMAT, "%u experts of width %u, of which %u are used", hp->n_experts, hp->n_ff_expert,
                        hp->n_experts_used);
    if (hp->n_ff_expert % 32 != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "experts of a width that is no multiple of 32 are not supported");
    return SLM_OK;
}

static slm_status check_flags(const slm_hparams *hp, slm_error *err)
{
    bool good = hp->rope_interleaved <= 1 && hp->norm <= SLM_NORM_LAYER && hp->activation <= SLM_ACT_GELU_TANH &&
                hp->pooling <= SLM_POOL_SPANS && hp->causal <= 1 && hp->tied_head <= 1 && hp->post_norm_only <= 1 &&
                hp->qk_norm_whole <= 1 && hp->embed_normalize <= 1 && hp->has_rope_factors <= 2 && hp->nope_full <= 1 &&
                hp->parallel <= hp->causal && hp->attn_gate <= hp->causal;
    if (!good || hp->window > 1u << 24 || hp->window_pattern > 1024 || hp->nope_pattern > 1024 || hp->n_token_types > 1024 ||
        hp->n_ctx_original < 1 || hp->n_ctx_original > 1u << 24)
        return slm_fail(err, SLM_FORMAT, "a hyper-parameter is out of range");
    return SLM_OK;
}

static bool is_pool(uint32_t pool)
{
    return pool >= SLM_POOL_MEAN && pool <= SLM_POOL_LAST && pool != SLM_POOL_RANK;
}

/* What an encoder does behind its layers. */
static slm_status check_end(const slm_hparams *hp, slm_error *err)
{
    bool good = hp->norm_after_sum <= 1 && hp->mask_causal <= 1 && hp->skip_first_norm <= 1 && hp->window_phase <= 1 && hp->layered <= 1 &&
                hp->n_pools <= SLM_MAX_POOLS && hp->n_after <= SLM_MAX_AFTER && hp->n_dense <= SLM_MAX_DENSE &&
                hp->n_labels <= SLM_MAX_LABELS && hp->head_squash <= SLM_SQUASH_GELU_ERF && hp->relative_buckets <= 1024;
    uint32_t dense = 0, width = hp->n_pools * hp->n_embd;
    for (uint32_t i = 0; good && i < hp->n_pools; i++)
        good = is_pool(hp->pools[i]);
    for (uint32_t i = 0; good && i < hp->n_after; i++) {
        good = hp->after[i] >= SLM_AFTER_DENSE && hp->after[i] <= SLM_AFTER_NORMALIZE && hp->pooling != SLM_POOL_RANK;
        if (good && hp->after[i] == SLM_AFTER_DENSE) {
            good = dense < hp->n_dense && hp->dense_rows[dense] >= 1 && hp->dense_rows[dense] <= 65536 &&
                   hp->dense_squash[dense] <= SLM_SQUASH_GELU_ERF;
            width = good ? hp->dense_rows[dense++] : width;
        } else if (hp->after[i] == SLM_AFTER_NORM) {
            good = good && hp->after_norm_dim == width;
        }
    }
    good = good && dense == hp->n_dense && (hp->cut == 0 || (hp->cut <= width && !hp->causal && hp->pooling != SLM_POOL_RANK));
    if (good && hp->pooling == SLM_POOL_RANK)
        good = hp->n_labels >= 1 && is_pool(hp->head_pool) && hp->n_pools == 0;
    else if (good && hp->pooling == SLM_POOL_SPANS)
        good = hp->n_pools == 0 && hp->n_after == 0 && hp->n_dense == 0 && hp->cut == 0;
    else if (good && !hp->causal && hp->pooling != SLM_POOL_NONE)
        good = hp->n_pools >= 1 && hp->pools[0] == hp->pooling;
    if (good && hp->n_layers == 0)
        good = hp->n_pools == 1 && hp->pools[0] == SLM_POOL_MEAN && !hp->causal; /* tokens that do not count are zeros */
    if (good && hp->relative_buckets > 0)
        good = hp->relative_buckets % 2 == 0 && hp->n_context <= 1u << 16 && !hp->causal;
    if (good && hp->relative_span > 0)
        good = hp->relative_span <= 4096 && hp->n_context <= 1u << 16 && !hp->causal && hp->n_heads == hp->n_kv_heads &&
               hp->relative_buckets == 0 && (hp->relative_far == 0 || (hp->relative_span >= 4 && hp->relative_far > hp->relative_span));
    if (good && hp->alibi)
        good = hp->alibi == 1 && !hp->causal && !hp->mask_causal && hp->n_context <= 1u << 16 && hp->relative_buckets == 0 &&
               hp->relative_span == 0 && hp->n_rot == 0;
    if (good)
        good = hp->tags <= (hp->pooling == SLM_POOL_RANK) && hp->shared_layers <= 1 && hp->n_lookup <= hp->n_embd &&
               hp->n_lookup % 32 == 0 && (hp->n_lookup == 0 || !hp->causal);
    return good ? SLM_OK : slm_fail(err, SLM_FORMAT, "pooling, modules or head of the encoder are out of range");
}

slm_status slm_hparams_check(const slm_hparams *hp, slm_error *err)
{
    SLM_TRY(check_sizes(hp, err));
    SLM_TRY(check_flags(hp, err));
    SLM_TRY(check_end(hp, err));
    SLM_TRY(slm_joint_check(hp, err));
    SLM_TRY(slm_decide_check(hp, err));
    SLM_TRY(slm_spans_check(hp, err));
    SLM_TRY(check_experts(hp, err));
    SLM_TRY(check_convolutions(hp, err));
    SLM_TRY(check_delta(hp, err));
    SLM_TRY(check_shapes(hp, err));
    bool good = in_range(hp->norm_eps, 1e-13, 1e-1) && in_range(hp->rope_base, 1, 1e9) &&
                (hp->rope_base_local == 0 || in_range(hp->rope_base_local, 1, 1e9)) &&
                in_range(hp->rope_scale, 1e-2, 1e6) && in_range(hp->rope_dynamic, 0, 1e4) && in_range(hp->query_growth, 0, 100) &&
                in_range(hp->rope_attn_factor, 1e-2, 100) && in_range(hp->attn_scale, 1e-4, 10) &&
                in_range(hp->attn_softcap, 0, 1e6) && in_range(hp->final_softcap, 0, 1e6) && in_range(hp->embed_scale, 1e-6, 1e6) &&
                in_range(hp->residual_scale, 1e-6, 1e6) && in_range(hp->logit_scale, 1e-6, 1e6);
    for (uint32_t i = 0; good && hp->has_rope_factors >= 1 && i < hp->n_rot / 2; i++)
        good = in_range(hp->rope_factors_short[i], 1e-3, 1e6);
    for (uint32_t i = 0; good && hp->has_rope_factors >= 2 && i < hp->n_rot / 2; i++)
        good = in_range(hp->rope_factors_long[i], 1e-3, 1e6);
    return good ? SLM_OK : slm_fail(err, SLM_FORMAT, "a hyper-parameter is not a number in its range");
}

/* The wavelength of each pair is compared with the original context: short waves stay, long ones are slowed by factor, with a smooth
 * passage between (Llama 3.1 model card; transformers' rope type "llama3"). */
void slm_family_llama3_factors(double rope_base, uint32_t n_rot, double factor, double low_freq_factor, double high_freq_factor,
                               double original_context, float *out)
{
    for (uint32_t i = 0; i < n_rot / 2; i++) {
        double wavelength = 2 * 3.14159265358979323846 * slm_pow(rope_base, 2.0 * i / n_rot);
        if (wavelength < original_context / high_freq_factor) {
            out[i] = 1;
        } else if (wavelength > original_context / low_freq_factor) {
            out[i] = (float) factor;
        } else {
            double smooth = (original_context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
            out[i] = (float) (1 / ((1 - smooth) / factor + smooth));
        }
    }
}
