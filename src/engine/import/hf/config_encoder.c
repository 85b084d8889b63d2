/*
 * config.json of encoders, and of the heads on top of any model.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/import/hf/keys.h"

/* The type of a scaling, by the key of older files too; NULL: it names none. */
const char *slm_hf_rope_type(slm_hf_json p)
{
    const char *type = slm_hf_string(p, "rope_type");
    return type != NULL ? type : slm_hf_string(p, "type");
}

/* The base of one kind of layers: version 5 writes rope_parameters by kind, version 4 a key for each. */
static slm_status take_base(slm_hf_config *c, const char *kind, const char *old_key, const char *key, double def, slm_error *err)
{
    slm_hf_json p = slm_hf_member(slm_hf_member(c->json, "rope_parameters"), kind);
    const char *type = slm_hf_rope_type(p);
    if (type != NULL && strcmp(type, "default") != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "RoPE scaling \"%.40s\" in \"%s\" is not supported for models of this type", type,
                        c->json.file);
    SLM_TRY(slm_hf_take(c, c->json, old_key, key, def, err));
    return slm_hf_take(c, p, "rope_theta", key, NAN, err);
}

slm_status slm_hf_take_modernbert(slm_hf_config *c, slm_error *err)
{
    uint32_t window = 128;
    json_t *types = json_object_get(c->json.object, "layer_types");
    double every = slm_hf_config_number(c, "attention.full_every", 3);
    SLM_TRY(take_base(c, "full_attention", "global_rope_theta", "rope.freq_base", 160000, err));
    SLM_TRY(take_base(c, "sliding_attention", "local_rope_theta", "rope.freq_base_swa", 10000, err));
    if (json_is_null(json_object_get(c->json.object, "local_attention")))
        return slm_fail(err, SLM_FORMAT, "\"local_attention\" in \"%s\" is null", c->json.file);
    SLM_TRY(slm_hf_u32(c->json, "local_attention", 2, 1u << 24, &window, err));
    SLM_TRY(slm_hf_config_put(c, "attention.sliding_window", window / 2, err));
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *type = json_string_value(json_array_get(types, i));
        bool full = (double) i - every * floor((double) i / every) == 0;
        if (type == NULL || strcmp(type, full ? "full_attention" : "sliding_attention") != 0)
            return slm_fail(err, SLM_UNSUPPORTED, "\"layer_types\" in \"%s\" is not the pattern of \"global_attn_every_n_layers\"",
                            c->json.file);
    }
    return SLM_OK;
}

/* The published model has keys of its own, transformers' class the usual ones. */
slm_status slm_hf_take_nomic(slm_hf_config *c, slm_error *err)
{
    static const char *const names[][3] = {{"hidden_size", "n_embd", "embedding_length"},
                                           {"num_hidden_layers", "n_layer", "block_count"},
                                           {"num_attention_heads", "n_head", "attention.head_count"},
                                           {"intermediate_size", "n_inner", "feed_forward_length"},
                                           {"max_position_embeddings", "n_positions", "context_length"},
                                           {"layer_norm_eps", "layer_norm_epsilon", "attention.layer_norm_epsilon"}};
    slm_hf_json rope = slm_hf_member(c->json, "rope_parameters");
    const char *type = slm_hf_rope_type(rope);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (!slm_hf_has(c->json, names[i][0]) && !slm_hf_has(c->json, names[i][1]))
            return slm_fail(err, SLM_FORMAT, "\"%s\" has neither \"%s\" nor \"%s\"", c->json.file, names[i][0], names[i][1]);
        SLM_TRY(slm_hf_take(c, c->json, names[i][1], names[i][2], NAN, err));
        double said = slm_hf_config_number(c, names[i][2], NAN);
        SLM_TRY(slm_hf_take(c, c->json, names[i][0], names[i][2], NAN, err));
        if (!isnan(said) && slm_hf_config_number(c, names[i][2], NAN) != said)
            return slm_fail(err, SLM_FORMAT, "\"%s\" and \"%s\" in \"%s\" are not the same", names[i][0], names[i][1], c->json.file);
    }
    double heads = slm_hf_config_number(c, "attention.head_count", 1), width = slm_hf_config_number(c, "embedding_length", 0), dim = 0;
    if (slm_hf_has(c->json, "head_dim")) {
        dim = json_number_value(json_object_get(c->json.object, "head_dim"));
        if (dim * heads != width)
            return slm_fail(err, SLM_UNSUPPORTED, "\"head_dim\" in \"%s\" is not the width of a head", c->json.file);
    }
    if (type != NULL && strcmp(type, "default") != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "RoPE scaling \"%.40s\" in \"%s\" is not supported for models of this type", type,
                        c->json.file);
    SLM_TRY(slm_hf_take(c, c->json, "rotary_emb_base", "rope.freq_base", 1000, err));
    return slm_hf_take(c, rope, "rope_theta", "rope.freq_base", NAN, err);
}

/* NTK: the model's code stretches the base and all waves by the factor, or (with "mixed_b") each pair a little more than the one before,
 * until the last has the whole factor. */
slm_status slm_hf_take_gte(slm_hf_config *c, slm_error *err)
{
    slm_hf_json s = slm_hf_member(c->json, "rope_scaling");
    const char *type = slm_hf_string(s, "type"), *key;
    double heads = slm_hf_config_number(c, "attention.head_count", 1), dim = slm_hf_config_number(c, "embedding_length", 0) / heads;
    float factor = 0, mixed = 0;
    json_t *value;
    if (!slm_hf_has(c->json, "rope_scaling"))
        return SLM_OK;
    json_object_foreach(s.object, key, value)
        if (strcmp(key, "type") != 0 && strcmp(key, "factor") != 0 && strcmp(key, "mixed_b") != 0)
            return slm_fail(err, SLM_UNSUPPORTED, "\"rope_scaling\" in \"%s\" has the parameter \"%.40s\", which is not supported", s.file,
                            key);
    SLM_TRY(slm_hf_f32(s, "factor", 1, 1e3, &factor, err));
    SLM_TRY(slm_hf_f32(s, "mixed_b", 1e-3, 10, &mixed, err));
    if (type == NULL || strcmp(type, "ntk") != 0 || factor < 1 || !(dim >= 2 && dim <= SLM_MAX_ROT))
        return slm_fail(err, SLM_UNSUPPORTED, "\"rope_scaling\" in \"%s\" is none of the type \"ntk\" with a factor of at least 1", s.file);
    if (slm_hf_has(s, "mixed_b")) {
        double rate = log((double) factor) / pow(dim / 2, (double) mixed);
        c->meta.factors = c->factors;
        c->meta.n_factors = (uint32_t) (dim / 2);
        for (uint32_t i = 0; i < c->meta.n_factors; i++)
            c->factors[i] = (float) exp(rate * pow(i + 1, (double) mixed));
        return SLM_OK;
    }
    snprintf(c->scaling, sizeof c->scaling, "linear");
    SLM_TRY(slm_hf_config_put(c, "rope.freq_base", slm_hf_config_number(c, "rope.freq_base", 1e4) * (double) factor, err));
    return slm_hf_config_put(c, "rope.scaling.factor", pow((double) factor, 2 / dim), err);
}

/* The class assumes a feed-forward without a gate, which no published model has. */
slm_status slm_hf_take_jina(slm_hf_config *c, slm_error *err)
{
    const char *type = slm_hf_string(c->json, "feed_forward_type");
    if (type == NULL || strcmp(type, "geglu") != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "\"feed_forward_type\" in \"%s\" is not \"geglu\", which is not supported", c->json.file);
    return SLM_OK;
}

/* A model of several vectors a text has the same keys (jina-colbert-v2). */
slm_status slm_hf_take_jina3(slm_hf_config *c, slm_error *err)
{
    const char *arch = slm_hf_architecture(c);
    double heads = slm_hf_config_number(c, "attention.head_count", 1), embd = slm_hf_config_number(c, "embedding_length", 0);
    if (arch[0] != '\0' && strncmp(arch, "XLMRoberta", 10) != 0 && strncmp(arch, "JinaEmbeddingsV3", 16) != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "\"architectures\" in \"%s\" names \"%.60s\", which is not supported", c->json.file, arch);
    SLM_TRY(slm_hf_config_put(c, "attention.key_length", floor(embd / heads), err));
    return slm_hf_take_rope(c, err);
}

slm_status slm_hf_take_eurobert(slm_hf_config *c, slm_error *err)
{
    double heads = slm_hf_config_number(c, "attention.head_count", 1), embd = slm_hf_config_number(c, "embedding_length", 0);
    SLM_TRY(slm_hf_take(c, c->json, "num_key_value_heads", "attention.head_count_kv", heads, err));
    SLM_TRY(slm_hf_take(c, c->json, "head_dim", "attention.key_length", floor(embd / heads), err));
    SLM_TRY(slm_hf_take(c, c->json, "rms_norm_eps", "attention.layer_norm_rms_epsilon", 1e-5, err));
    return slm_hf_take_rope(c, err);
}

slm_status slm_hf_take_albert(slm_hf_config *c, slm_error *err)
{
    uint32_t groups = 1, inner = 1;
    const char *act = slm_hf_string(c->json, "hidden_act");
    SLM_TRY(slm_hf_u32(c->json, "num_hidden_groups", 1, SLM_MAX_LAYERS, &groups, err));
    SLM_TRY(slm_hf_u32(c->json, "inner_group_num", 1, SLM_MAX_LAYERS, &inner, err));
    if (groups != 1 || inner != 1)
        return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" in \"%s\" is not 1, which is not supported",
                        groups != 1 ? "num_hidden_groups" : "inner_group_num", c->json.file);
    return slm_hf_config_put(c, "slm.gelu_exact", act != NULL && strcmp(act, "gelu") == 0, err);
}

/* The numbers of layers that are not there are the least that a model may have. */
slm_status slm_hf_take_static(slm_hf_config *c, slm_error *err)
{
    SLM_TRY(slm_hf_config_put(c, "block_count", 0, err));
    SLM_TRY(slm_hf_config_put(c, "attention.head_count", 1, err));
    SLM_TRY(slm_hf_config_put(c, "attention.key_length", 32, err));
    return slm_hf_config_put(c, "feed_forward_length", 32, err);
}

/* Words in a list, or in a text with "|" between them. */
static bool names_both(json_t *v, const char *a, const char *b)
{
    bool seen_a = false, seen_b = false;
    for (size_t i = 0; i < json_array_size(v); i++) {
        const char *word = json_string_value(json_array_get(v, i));
        seen_a = seen_a || (word != NULL && strcmp(word, a) == 0);
        seen_b = seen_b || (word != NULL && strcmp(word, b) == 0);
    }
    const char *text = json_string_value(v);
    return json_is_array(v) ? seen_a && seen_b && json_array_size(v) == 2
                            : text != NULL && strlen(text) == strlen(a) + strlen(b) + 1 && strstr(text, a) != NULL &&
                                  strstr(text, b) != NULL;
}

/* The one shape that is published: both kinds of distances, projected by the layer's own matrices from a normed table; no positions. */
slm_status slm_hf_take_deberta(slm_hf_config *c, slm_error *err)
{
    json_t *o = c->json.object;
    const char *norm = slm_hf_string(c->json, "norm_rel_ebd");
    float far = -1, buckets = -1;
    double width = slm_hf_config_number(c, "embedding_length", 0);
    const struct {
        const char *key;
        bool good;
    } demands[] = {{"relative_attention", json_is_true(json_object_get(o, "relative_attention"))},
                   {"share_att_key", json_is_true(json_object_get(o, "share_att_key"))},
                   {"position_biased_input", json_is_false(json_object_get(o, "position_biased_input"))},
                   {"pos_att_type", names_both(json_object_get(o, "pos_att_type"), "p2c", "c2p")},
                   {"norm_rel_ebd", norm != NULL && strcmp(norm, "layer_norm") == 0}};
    static const char *const widths[] = {"embedding_size", "pooler_hidden_size"};
    for (size_t i = 0; i < sizeof demands / sizeof demands[0]; i++)
        if (!demands[i].good)
            return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" in \"%s\" is not as published models of this type have it", demands[i].key,
                            c->json.file);
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        json_t *v = json_object_get(o, widths[i]);
        if (v != NULL && !json_is_null(v) && json_number_value(v) != width)
            return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" in \"%s\" is not \"hidden_size\", which is not supported", widths[i],
                            c->json.file);
    }
    SLM_TRY(slm_hf_config_put(c, "tokenizer.ggml.token_type_count", 1, err)); /* there is none */
    SLM_TRY(slm_hf_f32(c->json, "max_relative_positions", -1, 1u << 20, &far, err));
    SLM_TRY(slm_hf_f32(c->json, "position_buckets", -1, 4096, &buckets, err));
    if (far < 1)
        far = (float) slm_hf_config_number(c, "context_length", 0);
    SLM_TRY(slm_hf_config_put(c, "attention.relative_span", (double) (buckets > 0 ? buckets : far), err));
    return slm_hf_config_put(c, "attention.relative_far", buckets > 0 ? (double) far : 0, err);
}

/* ---- heads ---- */

/* "id2label": {"0": "name", ...}, all of 0 to n - 1; two labels without names where it is missing, as transformers assumes. */
static slm_status take_labels(slm_hf_config *c, slm_error *err)
{
    json_t *names = json_object_get(c->json.object, "id2label");
    size_t used = 0;
    char id[16];
    c->n_labels = json_is_object(names) ? (uint32_t) json_object_size(names) : 2;
    if (!json_is_object(names))
        SLM_TRY(slm_hf_u32(c->json, "num_labels", 1, SLM_MAX_LABELS, &c->n_labels, err));
    if (c->n_labels < 1 || c->n_labels > SLM_MAX_LABELS)
        return slm_fail(err, SLM_UNSUPPORTED, "\"id2label\" in \"%s\" has %u labels; 1 to %d are possible", c->json.file, c->n_labels,
                        SLM_MAX_LABELS);
    for (uint32_t i = 0; i < c->n_labels; i++) {
        char made[24];
        snprintf(id, sizeof id, "%u", i);
        snprintf(made, sizeof made, "LABEL_%u", i);
        json_t *v = json_object_get(names, id);
        const char *name = json_is_string(v) ? json_string_value(v) : names == NULL || json_is_null(names) ? made : NULL;
        if (name == NULL || name[0] == '\0')
            return slm_fail(err, SLM_FORMAT, "\"id2label\" in \"%s\" has no name for label %u", c->json.file, i);
        size_t n = strlen(name) + 1;
        if (n > sizeof c->labels - used)
            return slm_fail(err, SLM_UNSUPPORTED, "the names of the labels in \"%s\" are longer than %zu bytes together", c->json.file,
                            sizeof c->labels);
        memcpy(c->labels + used, name, n);
        used += n;
    }
    return SLM_OK;
}

static slm_status take_problem(slm_hf_config *c, slm_error *err)
{
    const char *problem = slm_hf_string(c->json, "problem_type");
    c->head_kind = c->n_labels == 1 ? SLM_HEAD_NUMBER : SLM_HEAD_SINGLE;
    if (problem == NULL || strcmp(problem, "single_label_classification") == 0)
        return SLM_OK;
    if (strcmp(problem, "multi_label_classification") == 0)
        c->head_kind = SLM_HEAD_MULTI;
    else if (strcmp(problem, "regression") == 0)
        c->head_kind = SLM_HEAD_NUMBER;
    else
        return slm_fail(err, SLM_UNSUPPORTED, "\"problem_type\" in \"%s\" is \"%.60s\", which is not supported", c->json.file, problem);
    return SLM_OK;
}

slm_status slm_hf_take_head(slm_hf_config *c, slm_error *err)
{
    const char *pooling = slm_hf_string(c->json, "classifier_pooling");
    uint32_t pool = c->kind->head_pool;
    bool tags = strstr(slm_hf_architecture(c), "ForTokenClassification") != NULL;
    c->classifies = tags || strstr(slm_hf_architecture(c), "ForSequenceClassification") != NULL;
    if (!c->classifies)
        return c->kind->encoder || slm_hf_config_number(c, "slm.embedding", 0) != 0 ? slm_hf_config_put(c, "pooling_type", 1, err) : SLM_OK;
    if (pool == 0 || (tags && !c->kind->encoder))
        return slm_fail(err, SLM_UNSUPPORTED,
                        "\"%.60s\" in \"%s\" has a classification head, which is not supported for models of this type",
                        slm_hf_architecture(c), c->json.file);
    SLM_TRY(take_labels(c, err));
    SLM_TRY(tags ? SLM_OK : take_problem(c, err));
    SLM_TRY(slm_hf_config_put(c, "slm.head.tags", tags, err));
    if (pooling != NULL && strcmp(pooling, "mean") == 0)
        pool = SLM_POOL_MEAN;
    else if (pooling != NULL && strcmp(pooling, "cls") != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "\"classifier_pooling\" in \"%s\" is \"%.40s\", which is not supported", c->json.file,
                        pooling);
    SLM_TRY(slm_hf_config_put(c, "slm.head.labels", c->n_labels, err));
    SLM_TRY(slm_hf_config_put(c, "slm.head.pool", pool, err));
    return slm_hf_config_put(c, "pooling_type", 4, err);
}
