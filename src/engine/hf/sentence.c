/*
 * modules.json and its companions.
 *
 * A pipeline of sentence-transformers is Transformer, Pooling, maybe Normalize; vectors are always normalized here, so Normalize changes
 * nothing.  Prompts: config_sentence_transformers.json "prompts": {"query": "...", "document": "..."}.
 */
#include "engine/hf/sentence.h"

#include <stdio.h>
#include <string.h>

/* Pooling of older files is a set of flags, of newer ones a name too. */
static slm_status read_pooling(int dir, const char *path, slm_hf_config *config, slm_error *err)
{
    char name[300];
    json_t *root;
    bool cls = false, mean = false, last = false, max = false, root_mean = false;
    snprintf(name, sizeof name, "%s/config.json", path);
    SLM_TRY(slm_hf_load(dir, name, 1u << 20, false, &root, err));
    slm_hf_json j = {root, name};
    slm_status status = slm_hf_bool(j, "pooling_mode_cls_token", &cls, err);
    if (status == SLM_OK)
        status = slm_hf_bool(j, "pooling_mode_mean_tokens", &mean, err);
    if (status == SLM_OK)
        status = slm_hf_bool(j, "pooling_mode_lasttoken", &last, err);
    if (status == SLM_OK)
        status = slm_hf_bool(j, "pooling_mode_max_tokens", &max, err);
    if (status == SLM_OK)
        status = slm_hf_bool(j, "pooling_mode_mean_sqrt_len_tokens", &root_mean, err);
    json_decref(root);
    if (status != SLM_OK)
        return status;
    if (last || max || root_mean || cls + mean != 1)
        return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" asks for a pooling that is neither the mean nor the first token", name);
    return slm_hf_config_put(config, "pooling_type", cls ? 2 : 1, err);
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
    if (strcmp(kind, "Normalize") == 0)
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

/* Texts longer than max_seq_length were never seen in training: positions beyond are not imported. */
static slm_status read_length(int dir, slm_hf_config *config, slm_error *err)
{
    json_t *root;
    uint32_t length = 0;
    SLM_TRY(slm_hf_load(dir, "sentence_bert_config.json", 1u << 20, true, &root, err));
    slm_status status = slm_hf_u32((slm_hf_json){root, "sentence_bert_config.json"}, "max_seq_length", 2, 1u << 24, &length, err);
    json_decref(root);
    if (status == SLM_OK && length != 0 && length < slm_hf_config_number(config, "context_length", 0))
        status = slm_hf_config_put(config, "context_length", length, err);
    return status;
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
