/*
 * modules.json and its companions.
 *
 * A pipeline of sentence-transformers is Transformer, Pooling, maybe Normalize or Dropout; vectors are always normalized here, so Normalize
 * changes nothing.  Prompts: config_sentence_transformers.json "prompts": {"query": "...", "document": "..."}.
 */
#include "engine/import/hf/sentence.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define MAX_LENGTH (1u << 24) /* no model here has more positions */

/* GGUF's number of a pooling by the name that sentence-transformers gives it; 0 for those that are not done here. */
static uint32_t pooling_number(const char *name)
{
    return strcasecmp(name, "mean") == 0 ? 1 : strcasecmp(name, "cls") == 0 ? 2 : 0;
}

static slm_status refuse_pooling(const char *file, const char *name, slm_error *err)
{
    slm_fail(err, SLM_UNSUPPORTED, "pooling \"%.40s\" in \"%s\" is not supported", name, file);
    return slm_hint(err, "Supported are the mean of the tokens (\"mean\") and the first token (\"cls\").");
}

/* "pooling_mode": "mean", or a list of names whose vectors are put together: the form of sentence-transformers 5.4 and later. */
static slm_status named_pooling(json_t *mode, const char *file, const char **name, slm_error *err)
{
    if (json_array_size(mode) > 1)
        return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" asks for %zu poolings together, which is not supported", file, json_array_size(mode));
    *name = json_string_value(json_is_array(mode) ? json_array_get(mode, 0) : mode);
    return *name != NULL ? SLM_OK : slm_fail(err, SLM_FORMAT, "\"pooling_mode\" in \"%s\" is not a name", file);
}

/* The older form is a flag for each; none of them set means the mean. */
static slm_status flagged_pooling(slm_hf_json j, const char **name, slm_error *err)
{
    static const char prefix[] = "pooling_mode_";
    static const char *const flags[][2] = {{"cls_token", "cls"}, {"max_tokens", "max"}, {"mean_tokens", "mean"},
                                           {"mean_sqrt_len_tokens", "mean_sqrt_len_tokens"}, {"weightedmean_tokens", "weightedmean"},
                                           {"lasttoken", "lasttoken"}};
    const char *key;
    json_t *value;
    *name = NULL;
    json_object_foreach(j.object, key, value)
    {
        bool set = false;
        size_t i = 0;
        if (strncmp(key, prefix, sizeof prefix - 1) != 0)
            continue;
        SLM_TRY(slm_hf_bool(j, key, &set, err));
        while (i < sizeof flags / sizeof flags[0] && strcmp(key + sizeof prefix - 1, flags[i][0]) != 0)
            i++;
        if (set && i == sizeof flags / sizeof flags[0])
            return refuse_pooling(j.file, key, err);
        if (set && *name != NULL)
            return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" asks for the poolings \"%s\" and \"%s\" together, which is not supported", j.file,
                            *name, flags[i][1]);
        if (set)
            *name = flags[i][1];
    }
    if (*name == NULL)
        *name = "mean";
    return SLM_OK;
}

static slm_status read_pooling(int dir, const char *path, slm_hf_config *config, slm_error *err)
{
    char file[300];
    const char *name = NULL;
    json_t *root;
    snprintf(file, sizeof file, "%s/config.json", path);
    SLM_TRY(slm_hf_load(dir, file, 1u << 20, false, &root, err));
    slm_hf_json j = {root, file};
    slm_status status = slm_hf_has(j, "pooling_mode") ? named_pooling(json_object_get(root, "pooling_mode"), file, &name, err)
                                                      : flagged_pooling(j, &name, err);
    if (status == SLM_OK && pooling_number(name) == 0)
        status = refuse_pooling(file, name, err);
    if (status == SLM_OK)
        status = slm_hf_config_put(config, "pooling_type", pooling_number(name), err);
    json_decref(root);
    return status;
}

static slm_status read_module(int dir, json_t *module, slm_hf_config *config, slm_error *err)
{
    const char *type = json_string_value(json_object_get(module, "type")), *path = json_string_value(json_object_get(module, "path"));
    const char *kind = type != NULL ? strrchr(type, '.') : NULL;
    kind = kind != NULL ? kind + 1 : type;
    if (kind == NULL || path == NULL || strlen(path) > 200 || path[0] == '/' || strstr(path, "..") != NULL)
        return slm_fail(err, SLM_FORMAT, "\"modules.json\" has a module without type or with a path outside of the directory");
    if (strcmp(kind, "Transformer") == 0)
        return path[0] == '\0' ? SLM_OK : slm_fail(err, SLM_UNSUPPORTED, "\"modules.json\" keeps the transformer in \"%s\"", path);
    if (strcmp(kind, "Normalize") == 0 || strcmp(kind, "Dropout") == 0) /* which drops in training only */
        return SLM_OK;
    if (strcmp(kind, "Pooling") == 0)
        return read_pooling(dir, path, config, err);
    return slm_fail(err, SLM_UNSUPPORTED, "the module \"%.60s\" in \"modules.json\" is not supported", kind);
}

static slm_status copy_prompt(json_t *prompts, const char *const *names, char *out, size_t size, slm_error *err)
{
    for (; *names != NULL; names++) {
        const char *text = json_string_value(json_object_get(prompts, *names));
        if (text == NULL)
            continue;
        if (strlen(text) >= size)
            return slm_fail(err, SLM_UNSUPPORTED, "prompt \"%s\" in \"config_sentence_transformers.json\" is longer than %zu bytes", *names,
                            size - 1);
        snprintf(out, size, "%s", text);
        return SLM_OK;
    }
    return SLM_OK;
}

static slm_status read_prompts(int dir, slm_model_info *info, slm_error *err)
{
    static const char *const query_names[] = {"query", "search_query", "s2p_query", NULL};
    static const char *const document_names[] = {"document", "passage", "search_document", NULL};
    json_t *root;
    SLM_TRY(slm_hf_load(dir, "config_sentence_transformers.json", 1u << 20, true, &root, err));
    json_t *prompts = json_object_get(root, "prompts");
    slm_status status = copy_prompt(prompts, query_names, info->query_prompt, sizeof info->query_prompt, err);
    if (status == SLM_OK)
        status = copy_prompt(prompts, document_names, info->document_prompt, sizeof info->document_prompt, err);
    json_decref(root);
    return status;
}

/* A length that a file may bound: a missing one or one beyond any model's ("no limit" is written as 10^30) leaves *length. */
static slm_status take_length(slm_hf_json j, const char *key, uint32_t *length, slm_error *err)
{
    json_t *v = json_object_get(j.object, key);
    double x = json_number_value(v);
    if (v == NULL || json_is_null(v) || x > MAX_LENGTH)
        return SLM_OK;
    if (!json_is_number(v) || x < 2 || x != floor(x))
        return slm_fail(err, SLM_FORMAT, "\"%s\" in \"%s\" is no length in tokens of at least 2", key, j.file);
    *length = (uint32_t) x;
    return SLM_OK;
}

/* max_seq_length of the versions before 5.4 goes before the tokenizer's own length; what is given to each call of the tokenizer
 * (processing_kwargs) before both. */
static slm_status sentence_length(int dir, uint32_t *length, slm_error *err)
{
    static const char *const files[] = {"sentence_bert_config.json", "sentence_roberta_config.json", "sentence_distilbert_config.json",
                                        "sentence_camembert_config.json", "sentence_albert_config.json", "sentence_xlm-roberta_config.json",
                                        "sentence_xlnet_config.json"};
    json_t *root = NULL;
    size_t i = 0;
    while (root == NULL && i < sizeof files / sizeof files[0])
        SLM_TRY(slm_hf_load(dir, files[i++], 1u << 20, true, &root, err));
    slm_hf_json j = {root, files[i - 1]}, processing = slm_hf_member(j, "processing_kwargs");
    slm_status status = take_length(j, "max_seq_length", length, err);
    if (status == SLM_OK)
        status = take_length(slm_hf_member(processing, "common"), "max_length", length, err);
    if (status == SLM_OK)
        status = take_length(slm_hf_member(processing, "text"), "max_length", length, err);
    if (status == SLM_OK && (slm_hf_has(j, "query_length") || slm_hf_has(j, "document_length")))
        status = slm_fail(err, SLM_UNSUPPORTED, "\"%s\" describes a model with several vectors a text, which is not supported", j.file);
    json_decref(root);
    return status;
}

/* Texts longer than the reference reads were never seen in training: positions beyond are not imported.  A decoder goes on beyond its
 * tokenizer's length. */
static slm_status read_length(int dir, slm_hf_config *config, slm_error *err)
{
    json_t *root;
    uint32_t length = 0; /* none known */
    if (strcmp(config->meta.architecture, "bert") == 0) {
        SLM_TRY(slm_hf_load(dir, "tokenizer_config.json", 16u << 20, true, &root, err));
        slm_hf_json j = {root, "tokenizer_config.json"};
        slm_status status = take_length(j, slm_hf_has(j, "model_max_length") ? "model_max_length" : "max_len", &length, err);
        json_decref(root);
        SLM_TRY(status);
    }
    SLM_TRY(sentence_length(dir, &length, err));
    if (length == 0 || length >= slm_hf_config_number(config, "context_length", 0))
        return SLM_OK;
    return slm_hf_config_put(config, "context_length", length, err);
}

slm_status slm_hf_sentence_read(int dir, slm_hf_config *config, slm_model_info *info, slm_error *err)
{
    json_t *modules;
    slm_status status = SLM_OK;
    SLM_TRY(read_length(dir, config, err));
    if (config->cross_encoder)
        return SLM_OK;
    SLM_TRY(slm_hf_load(dir, "modules.json", 1u << 20, true, &modules, err));
    for (size_t i = 0; i < json_array_size(modules) && status == SLM_OK; i++)
        status = read_module(dir, json_array_get(modules, i), config, err);
    json_decref(modules);
    return status == SLM_OK ? read_prompts(dir, info, err) : status;
}
