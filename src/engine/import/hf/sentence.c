/*
 * modules.json and its companions: whole, or refused by the name of what is not known.
 *
 * A pipeline of sentence-transformers is Transformer, Pooling, then any of Dense, LayerNorm, Normalize, and Dropout, which does nothing
 * outside of training.  Vectors are always scaled to length 1 in the end, whether the pipeline says so or not.
 */
#include "engine/import/hf/sentence.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/import/hf/keys.h"
#include "engine/import/hf/tasks.h"

#define MAX_LENGTH (1u << 24) /* no model here has more positions */
#define MAX_MODULES 32

/* UNSUPPORTED, naming the first key that is not among `keys` (ends with NULL). */
static slm_status only_keys(slm_hf_json j, const char *const *keys, slm_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(j.object, key, value)
    {
        size_t i = 0;
        while (keys[i] != NULL && strcmp(keys[i], key) != 0)
            i++;
        if (keys[i] == NULL)
            return slm_fail(err, SLM_UNSUPPORTED, "the key \"%.60s\" in \"%s\" is not known", key, j.file);
    }
    return SLM_OK;
}

/* ---- pooling ---- */

/* Poolings in the order in which their vectors are put side by side: the name, the older form's flag. */
static const struct {
    const char *name, *flag;
    uint32_t pool;
} poolings[SLM_MAX_POOLS] = {{"cls", "pooling_mode_cls_token", SLM_POOL_CLS},
                             {"max", "pooling_mode_max_tokens", SLM_POOL_MAX},
                             {"mean", "pooling_mode_mean_tokens", SLM_POOL_MEAN},
                             {"mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens", SLM_POOL_SQRT},
                             {"weightedmean", "pooling_mode_weightedmean_tokens", SLM_POOL_WEIGHTED},
                             {"lasttoken", "pooling_mode_lasttoken", SLM_POOL_LAST}};

/* "pooling_mode": "mean", or a list of names, whose order is the vectors': the form of sentence-transformers 5.4 and later. */
static slm_status named_pooling(json_t *mode, const char *file, slm_hf_config *config, slm_error *err)
{
    size_t n = json_is_array(mode) ? json_array_size(mode) : 1;
    bool set[SLM_MAX_POOLS] = {false};
    if (n == 0)
        return slm_fail(err, SLM_FORMAT, "\"pooling_mode\" in \"%s\" names none", file);
    for (size_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_is_array(mode) ? json_array_get(mode, i) : mode);
        size_t k = 0;
        if (name == NULL)
            return slm_fail(err, SLM_FORMAT, "\"pooling_mode\" in \"%s\" is not a name", file);
        while (k < SLM_MAX_POOLS && strcmp(poolings[k].name, name) != 0)
            k++;
        if (k == SLM_MAX_POOLS) {
            slm_fail(err, SLM_UNSUPPORTED, "pooling \"%.40s\" in \"%s\" is not supported", name, file);
            return slm_hint(err, "Supported: cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken.");
        }
        if (set[k])
            return slm_fail(err, SLM_UNSUPPORTED, "\"pooling_mode\" in \"%s\" names \"%s\" twice, which is not supported", file, name);
        set[k] = true;
        config->pools[config->n_pools++] = poolings[k].pool;
    }
    return SLM_OK;
}

/* The flags of older versions; none of them: the mean. */
static slm_status flagged_pooling(slm_hf_json j, slm_hf_config *config, slm_error *err)
{
    for (size_t i = 0; i < SLM_MAX_POOLS; i++) {
        bool set = false;
        SLM_TRY(slm_hf_bool(j, poolings[i].flag, &set, err));
        if (set)
            config->pools[config->n_pools++] = poolings[i].pool;
    }
    if (config->n_pools == 0)
        config->pools[config->n_pools++] = SLM_POOL_MEAN;
    return SLM_OK;
}

static slm_status read_pooling_file(slm_hf_json j, slm_hf_config *config, slm_error *err)
{
    static const char *const keys[] = {"word_embedding_dimension", "embedding_dimension", "pooling_mode", "include_prompt",
                                       "pooling_mode_cls_token", "pooling_mode_max_tokens", "pooling_mode_mean_tokens",
                                       "pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens", "pooling_mode_lasttoken",
                                           NULL};
    bool include = true;
    uint32_t width = 0;
    json_t *mode = json_object_get(j.object, "pooling_mode");
    SLM_TRY(only_keys(j, keys, err));
    SLM_TRY(mode != NULL ? named_pooling(mode, j.file, config, err) : flagged_pooling(j, config, err));
    SLM_TRY(slm_hf_bool(j, "include_prompt", &include, err));
    config->leaves_prompt_out = !include || json_is_null(json_object_get(j.object, "include_prompt"));
    SLM_TRY(slm_hf_u32(j, "word_embedding_dimension", 1, 65536, &width, err));
    SLM_TRY(slm_hf_u32(j, "embedding_dimension", 1, 65536, &width, err));
    if (width != 0 && width != slm_hf_config_number(config, "embedding_length_out", slm_hf_config_number(config, "embedding_length", 0)))
        return slm_fail(err, SLM_FORMAT, "\"%s\" pools vectors of %u, the model's states have another width", j.file, width);
    return slm_hf_config_put(config, "slm.pools", config->n_pools, err);
}

/* ---- what stands behind it ---- */

static slm_status add_after(slm_hf_config *config, slm_after what, slm_error *err)
{
    if (config->n_after == SLM_MAX_AFTER - 1) /* one is left for the last scaling */
        return slm_fail(err, SLM_UNSUPPORTED, "\"modules.json\" has more than %d modules behind the pooling", SLM_MAX_AFTER - 1);
    config->after[config->n_after++] = what;
    return slm_hf_config_put(config, "slm.after_count", config->n_after, err);
}

/* A module here goes from the text's vector to the text's vector. */
static slm_status check_ends(slm_hf_json j, slm_error *err)
{
    static const char *const ends[] = {"module_input_name", "module_output_name"};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        const char *end = slm_hf_string(j, ends[i]);
        if (slm_hf_has(j, ends[i]) && (end == NULL || strcmp(end, "sentence_embedding") != 0))
            return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" in \"%s\" is \"%.40s\", which is not supported", ends[i], j.file,
                            end != NULL ? end : "no text");
    }
    return SLM_OK;
}

/* What torch calls a function, in full or in short; of another module's the reference takes none. */
static uint32_t squash_of(const char *name)
{
    static const struct {
        const char *module, *name;
        uint32_t function;
    } functions[] = {{"linear", "Identity", SLM_SQUASH_NONE}, {"activation", "Tanh", SLM_SQUASH_TANH},
                     {"activation", "ReLU", SLM_SQUASH_RELU}, {"activation", "GELU", SLM_SQUASH_GELU_ERF}};
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        char whole[64], brief[64];
        snprintf(whole, sizeof whole, "torch.nn.modules.%s.%s", functions[i].module, functions[i].name);
        snprintf(brief, sizeof brief, "torch.nn.%s", functions[i].name);
        if (strcmp(name, whole) == 0 || strcmp(name, brief) == 0)
            return functions[i].function;
    }
    return UINT32_MAX;
}

static slm_status read_dense_file(slm_hf_json j, const char *path, slm_hf_config *config, slm_error *err)
{
    static const char *const keys[] = {"in_features", "out_features", "bias", "activation_function", "module_input_name",
                                       "module_output_name", "use_residual", NULL};
    const char *name = slm_hf_string(j, "activation_function");
    uint32_t rows = 0, function = name != NULL ? squash_of(name) : UINT32_MAX, i = config->n_dense;
    bool residual = false, biased = !json_is_null(json_object_get(j.object, "bias"));
    SLM_TRY(only_keys(j, keys, err));
    SLM_TRY(slm_hf_u32(j, "out_features", 1, 65536, &rows, err));
    SLM_TRY(slm_hf_bool(j, "use_residual", &residual, err));
    SLM_TRY(slm_hf_bool(j, "bias", &biased, err));
    if (residual)
        return slm_fail(err, SLM_UNSUPPORTED, "\"use_residual\" in \"%s\" is true, which is not supported", j.file);
    SLM_TRY(check_ends(j, err));
    if (rows == 0 || i == SLM_MAX_DENSE)
        return slm_fail(err, SLM_UNSUPPORTED, rows == 0 ? "\"%s\" has no out_features" : "\"%s\" is one dense module too many", j.file);
    if (function == UINT32_MAX)
        return slm_fail(err, SLM_UNSUPPORTED, "\"activation_function\" in \"%s\" is \"%.60s\", which is not supported", j.file,
                        name != NULL ? name : "missing");
    snprintf(config->dense_paths[i], sizeof config->dense_paths[0], "%s", path);
    config->dense_rows[i] = rows;
    config->dense_biased[i] = biased;
    config->dense_squash[i] = function;
    config->n_dense++;
    return add_after(config, SLM_AFTER_DENSE, err);
}

static slm_status read_norm_file(slm_hf_json j, const char *path, slm_hf_config *config, slm_error *err)
{
    static const char *const keys[] = {"dimension", NULL};
    uint32_t width = 0;
    SLM_TRY(only_keys(j, keys, err));
    SLM_TRY(slm_hf_u32(j, "dimension", 1, 65536, &width, err));
    if (width == 0 || config->norm_path[0] != '\0')
        return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" has no dimension, or is a second LayerNorm", j.file);
    snprintf(config->norm_path, sizeof config->norm_path, "%s", path);
    SLM_TRY(slm_hf_config_put(config, "slm.after_norm", width, err));
    return add_after(config, SLM_AFTER_NORM, err);
}

static slm_status read_scaling_file(slm_hf_json j, slm_hf_config *config, slm_error *err)
{
    static const char *const keys[] = {"module_input_name", "module_output_name", NULL};
    SLM_TRY(only_keys(j, keys, err));
    SLM_TRY(check_ends(j, err));
    return add_after(config, SLM_AFTER_NORMALIZE, err);
}

typedef enum module_kind { MODULE_POOLING, MODULE_DENSE, MODULE_NORM, MODULE_SCALING } module_kind;

static slm_status read_module_file(int dir, const char *path, module_kind kind, slm_hf_config *config, slm_error *err)
{
    char file[300];
    json_t *root;
    if (path[0] == '\0') /* there stands the transformer's */
        return slm_fail(err, SLM_FORMAT, "\"modules.json\" has a module without a folder behind the transformer");
    snprintf(file, sizeof file, "%s/config.json", path);
    SLM_TRY(slm_hf_load(dir, file, 1u << 20, kind == MODULE_SCALING, &root, err)); /* before version 5.5 it had no file */
    slm_hf_json j = {root, file};
    slm_status status = kind == MODULE_POOLING ? read_pooling_file(j, config, err)
                        : kind == MODULE_DENSE ? read_dense_file(j, path, config, err)
                        : kind == MODULE_NORM  ? read_norm_file(j, path, config, err)
                                               : read_scaling_file(j, config, err);
    json_decref(root);
    return status;
}

const char *slm_hf_module_folder(const json_t *module)
{
    const char *path = json_string_value(json_object_get(module, "path"));
    return path == NULL || strlen(path) > 200 || path[0] == '/' || strstr(path, "..") != NULL ? NULL : path;
}

/* The last word of a module's class, which is one of the library's own. */
static const char *kind_of(const json_t *module)
{
    return strrchr(json_string_value(json_object_get(module, "type")), '.') + 1;
}

/* Names are keys in the reference: of two modules with one name the later one takes the earlier one's place. */
static bool named_before(json_t *modules, size_t i)
{
    const char *name = json_string_value(json_object_get(json_array_get(modules, i), "name"));
    for (size_t k = 0; name != NULL && k < i; k++) {
        const char *other = json_string_value(json_object_get(json_array_get(modules, k), "name"));
        if (other != NULL && strcmp(name, other) == 0)
            return true;
    }
    return false;
}

static slm_status foreign_module(const char *type, slm_error *err)
{
    slm_fail(err, SLM_UNSUPPORTED, "the module \"%.100s\" in \"modules.json\" is none of sentence-transformers' own", type);
    return slm_hint(err, "What a class of somebody else does is not known here.");
}

slm_status slm_hf_sentence_check(json_t *modules, slm_error *err)
{
    if (modules != NULL && (!json_is_array(modules) || json_array_size(modules) == 0 || json_array_size(modules) > MAX_MODULES))
        return slm_fail(err, SLM_FORMAT, "\"modules.json\" is no list of 1 to %d modules", MAX_MODULES);
    for (size_t i = 0; i < json_array_size(modules); i++) {
        json_t *module = json_array_get(modules, i);
        const char *type = json_string_value(json_object_get(module, "type")), *path = slm_hf_module_folder(module);
        if (type == NULL || path == NULL)
            return slm_fail(err, SLM_FORMAT, "\"modules.json\" has a module without type or with a path outside of the directory");
        if (strncmp(type, "sentence_transformers.", 22) != 0 && strcmp(type, SLM_HF_TASK_MODULE) != 0)
            return foreign_module(type, err);
        const char *kind = kind_of(module);
        bool first = strcmp(kind, "Transformer") == 0 || strcmp(kind, "StaticEmbedding") == 0;
        if (first != (i == 0))
            return slm_fail(err, SLM_UNSUPPORTED, "the module \"%.60s\" in \"modules.json\" is not supported at its place", kind);
        if (strcmp(kind, "Transformer") == 0 && path[0] != '\0')
            return slm_fail(err, SLM_UNSUPPORTED, "\"modules.json\" keeps the transformer in \"%s\"", path);
        if (named_before(modules, i))
            return slm_fail(err, SLM_FORMAT, "\"modules.json\" has two modules of the same name");
    }
    return SLM_OK;
}

static slm_status read_module(int dir, json_t *module, slm_hf_config *config, slm_error *err)
{
    const char *path = slm_hf_module_folder(module), *kind = kind_of(module);
    bool pooled = config->n_pools > 0;
    if (config->kind->table && strcmp(kind, "StaticEmbedding") == 0 && !pooled) { /* hf/static.h has opened it */
        config->pools[config->n_pools++] = SLM_POOL_MEAN;
        return slm_hf_config_put(config, "slm.pools", config->n_pools, err);
    }
    if (!config->kind->table && strcmp(kind, "Transformer") == 0)
        return SLM_OK;
    if (strcmp(kind, "Dropout") == 0) /* drops in training only */
        return SLM_OK;
    if (strcmp(kind, "Pooling") == 0 && !pooled)
        return read_module_file(dir, path, MODULE_POOLING, config, err);
    if (pooled && strcmp(kind, "Normalize") == 0)
        return path[0] == '\0' ? add_after(config, SLM_AFTER_NORMALIZE, err) : read_module_file(dir, path, MODULE_SCALING, config, err);
    if (pooled && strcmp(kind, "Dense") == 0)
        return read_module_file(dir, path, MODULE_DENSE, config, err);
    if (pooled && strcmp(kind, "LayerNorm") == 0)
        return read_module_file(dir, path, MODULE_NORM, config, err);
    return slm_fail(err, SLM_UNSUPPORTED, "the module \"%.60s\" in \"modules.json\" is not supported at its place", kind);
}

/* ---- prompts ---- */

/* The first prompt of these names that says something. */
static slm_status copy_prompt(json_t *prompts, const char *const *names, char *out, size_t size, slm_error *err)
{
    for (; *names != NULL; names++) {
        json_t *prompt = json_object_get(prompts, *names);
        const char *text = json_string_value(prompt);
        if (prompt != NULL && text == NULL && !json_is_null(prompt))
            return slm_fail(err, SLM_FORMAT, "prompt \"%s\" in \"config_sentence_transformers.json\" is no text", *names);
        if (text == NULL || text[0] == '\0')
            continue;
        if (strlen(text) >= size)
            return slm_fail(err, SLM_UNSUPPORTED, "prompt \"%s\" in \"config_sentence_transformers.json\" is longer than %zu bytes", *names,
                            size - 1);
        snprintf(out, size, "%s", text);
        return SLM_OK;
    }
    return SLM_OK;
}

static slm_status read_prompts(slm_hf_json j, const slm_hf_config *config, slm_model_info *info, slm_error *err)
{
    const char *def = slm_hf_string(j, "default_prompt_name");
    const char *const query_names[] = {"query", "search_query", "s2p_query", def, NULL};
    const char *const document_names[] = {"document", "passage", "corpus", "search_document", def, NULL};
    json_t *prompts = json_object_get(j.object, "prompts");
    if (prompts != NULL && !json_is_object(prompts))
        return slm_fail(err, SLM_FORMAT, "\"prompts\" in \"%s\" is no object", j.file);
    if (def != NULL && json_object_get(prompts, def) == NULL)
        return slm_fail(err, SLM_FORMAT, "\"default_prompt_name\" in \"%s\" is \"%.40s\", which is none of its prompts", j.file, def);
    SLM_TRY(copy_prompt(prompts, query_names, info->query_prompt, sizeof info->query_prompt, err));
    SLM_TRY(copy_prompt(prompts, document_names, info->document_prompt, sizeof info->document_prompt, err));
    if (config->leaves_prompt_out && (info->query_prompt[0] != '\0' || info->document_prompt[0] != '\0'))
        return slm_fail(err, SLM_UNSUPPORTED,
                        "\"include_prompt\" of the pooling is false, and \"%s\" has prompts: that their tokens are left "
                        "out of the pooling is not supported", j.file);
    return SLM_OK;
}

static slm_status read_settings(int dir, slm_hf_config *config, slm_model_info *info, slm_error *err)
{
    static const char *const keys[] = {"__version__", "prompts", "default_prompt_name", "similarity_fn_name", "model_type", "truncate_dim",
                                       "activation_fn", "model_card_data", "requirements", NULL};
    json_t *root;
    SLM_TRY(slm_hf_load(dir, "config_sentence_transformers.json", 1u << 20, true, &root, err));
    slm_hf_json j = {root, "config_sentence_transformers.json"};
    const char *similarity = slm_hf_string(j, "similarity_fn_name"), *type = slm_hf_string(j, "model_type");
    slm_status status = only_keys(j, keys, err);
    uint32_t cut = 0;
    if (status == SLM_OK)
        status = slm_hf_u32(j, "truncate_dim", 1, 65536, &cut, err);
    if (status == SLM_OK)
        status = slm_hf_config_put(config, "slm.cut", cut, err);
    if (status == SLM_OK && json_object_get(root, "model_type") != NULL && (type == NULL || strcmp(type, "SentenceTransformer") != 0))
        status = slm_fail(err, SLM_UNSUPPORTED, "\"model_type\" in \"%s\" is \"%.40s\", which is not supported for a model that embeds",
                          j.file, type != NULL ? type : "no text");
    bool scaled = config->n_after > 0 && config->after[config->n_after - 1] == SLM_AFTER_NORMALIZE;
    config->other_similarity = similarity != NULL && strcmp(similarity, "cosine") != 0 && !scaled;
    if (status == SLM_OK)
        status = read_prompts(j, config, info, err);
    json_decref(root);
    return status;
}

/* ---- lengths ---- */

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

/* What goes to the tokenizer at each call, in one part of processing_kwargs: a length, and what is done anyway. */
static slm_status check_processing(slm_hf_json j, const char *part, slm_error *err)
{
    static const char *const keys[] = {"max_length", "padding", "pad_to_multiple_of", "truncation", "add_special_tokens", "return_tensors",
                                       NULL};
    slm_hf_json inside = slm_hf_member(j, part);
    json_t *cut = json_object_get(inside.object, "truncation"), *frame = json_object_get(inside.object, "add_special_tokens");
    const char *how = json_string_value(cut), *tensors = slm_hf_string(inside, "return_tensors");
    SLM_TRY(only_keys(inside, keys, err));
    bool cuts = cut == NULL || json_is_true(cut) || (how != NULL && strcmp(how, "longest_first") == 0);
    if (!cuts || (frame != NULL && !json_is_true(frame)) || (tensors != NULL && strcmp(tensors, "pt") != 0))
        return slm_fail(err, SLM_UNSUPPORTED, "\"processing_kwargs\" in \"%s\" has a \"%s\" that is not supported", j.file,
                        !cuts ? "truncation" : tensors != NULL ? "return_tensors" : "add_special_tokens");
    return SLM_OK;
}

/* How a text goes through the transformer: forward, whose result is what the model has always given. */
static slm_status check_modality(slm_hf_json j, bool classifies, slm_error *err)
{
    slm_hf_json all = slm_hf_member(j, "modality_config"), text = slm_hf_member(all, "text");
    const char *method = slm_hf_string(text, "method"), *output = slm_hf_string(text, "method_output_name");
    if (!slm_hf_has(j, "modality_config"))
        return SLM_OK;
    if (method == NULL || strcmp(method, "forward") != 0 || output == NULL ||
        strcmp(output, classifies ? "logits" : "last_hidden_state") != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "\"modality_config\" in \"%s\" does not send texts through \"forward\" to \"%s\", "
                                              "which is not supported",
                        j.file, classifies ? "logits" : "last_hidden_state");
    return SLM_OK;
}

/* Settings of other libraries' loaders: each of them may change everything. */
static slm_status check_empty(slm_hf_json j, slm_error *err)
{
    static const char *const keys[] = {"model_args", "tokenizer_args", "config_args", "model_kwargs", "processor_kwargs", "config_kwargs",
                                       "query_expansion", NULL};
    for (size_t i = 0; keys[i] != NULL; i++) {
        json_t *v = json_object_get(j.object, keys[i]);
        if (slm_hf_has(j, keys[i]) && !(json_is_object(v) && json_object_size(v) == 0))
            return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" in \"%s\" is not empty, which is not supported", keys[i], j.file);
    }
    return SLM_OK;
}

/* What describes how the transformer is called. */
static slm_status check_sentence_keys(slm_hf_json j, bool classifies, slm_error *err)
{
    static const char *const keys[] = {"max_seq_length", "do_lower_case", "transformer_task", "modality_config", "module_output_name",
                                       "processing_kwargs", "query_length", "document_length", "method", "unpad_inputs", "model_args",
                                       "tokenizer_args", "config_args", "model_kwargs", "processor_kwargs", "config_kwargs",
                                       "query_expansion", NULL};
    const char *task = slm_hf_string(j, "transformer_task"), *output = slm_hf_string(j, "module_output_name");
    SLM_TRY(only_keys(j, keys, err));
    SLM_TRY(check_empty(j, err));
    SLM_TRY(check_modality(j, classifies, err));
    SLM_TRY(check_processing(slm_hf_member(j, "processing_kwargs"), "common", err));
    SLM_TRY(check_processing(slm_hf_member(j, "processing_kwargs"), "text", err));
    if (json_is_real(json_object_get(j.object, "max_seq_length")))
        return slm_fail(err, SLM_FORMAT, "\"max_seq_length\" in \"%s\" is no integer", j.file);
    if (slm_hf_has(j, "query_length") || slm_hf_has(j, "document_length"))
        return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" describes a model with several vectors a text, which is not supported", j.file);
    if (task != NULL && strcmp(task, classifies ? "sequence-classification" : "feature-extraction") != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "\"transformer_task\" in \"%s\" is \"%.40s\", which is not supported", j.file, task);
    if (output != NULL && strcmp(output, classifies ? "scores" : "token_embeddings") != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "\"module_output_name\" in \"%s\" is \"%.40s\", which is not supported", j.file, output);
    return SLM_OK;
}

/* max_seq_length of the versions before 5.4 goes before the tokenizer's own length; what is given to each call of the tokenizer
 * (processing_kwargs) before both. */
static slm_status sentence_length(int dir, slm_hf_config *config, uint32_t *length, slm_error *err)
{
    static const char *const files[] = {"sentence_bert_config.json", "sentence_roberta_config.json", "sentence_distilbert_config.json",
                                        "sentence_camembert_config.json", "sentence_albert_config.json", "sentence_xlm-roberta_config.json",
                                        "sentence_xlnet_config.json"};
    json_t *root = NULL;
    size_t i = 0;
    while (root == NULL && i < sizeof files / sizeof files[0])
        SLM_TRY(slm_hf_load(dir, files[i++], 1u << 20, true, &root, err));
    slm_hf_json j = {root, files[i - 1]}, processing = slm_hf_member(j, "processing_kwargs");
    slm_status status = check_sentence_keys(j, config->classifies, err);
    if (status == SLM_OK)
        status = slm_hf_bool(j, "do_lower_case", &config->lowers, err);
    if (status == SLM_OK)
        status = take_length(j, "max_seq_length", length, err);
    if (status == SLM_OK)
        status = take_length(slm_hf_member(processing, "common"), "max_length", length, err);
    if (status == SLM_OK)
        status = take_length(slm_hf_member(processing, "text"), "max_length", length, err);
    json_decref(root);
    return status;
}

/* Texts longer than the reference reads were never seen in training: positions beyond are not imported.  A decoder goes on beyond its
 * tokenizer's length. */
static slm_status read_length(int dir, slm_hf_config *config, slm_error *err)
{
    json_t *root;
    uint32_t length = 0; /* none known */
    if (config->kind->encoder || slm_hf_config_number(config, "slm.embedding", 0) != 0) {
        SLM_TRY(slm_hf_load(dir, "tokenizer_config.json", 16u << 20, true, &root, err));
        slm_hf_json j = {root, "tokenizer_config.json"};
        slm_status status = take_length(j, slm_hf_has(j, "model_max_length") ? "model_max_length" : "max_len", &length, err);
        json_decref(root);
        SLM_TRY(status);
    }
    if (config->modules) /* without modules.json the reference does not look into the others */
        SLM_TRY(sentence_length(dir, config, &length, err));
    if (length == 0 || length >= slm_hf_config_number(config, "context_length", 0))
        return SLM_OK;
    return slm_hf_config_put(config, "context_length", length, err);
}

slm_status slm_hf_sentence_read(int dir, json_t *modules, slm_hf_config *config, slm_model_info *info, slm_error *err)
{
    const char *type = json_string_value(json_object_get(json_array_get(modules, 0), "type"));
    if (type != NULL && strcmp(type, SLM_HF_TASK_MODULE) == 0 && !config->kind->tasks)
        return foreign_module(type, err);
    if (!config->kind->table)
        SLM_TRY(read_length(dir, config, err));
    if (config->classifies || !(config->kind->encoder || slm_hf_config_number(config, "slm.embedding", 0) != 0))
        return SLM_OK;
    for (size_t i = 0; i < json_array_size(modules); i++)
        SLM_TRY(read_module(dir, json_array_get(modules, i), config, err));
    if (modules == NULL)
        return SLM_OK;
    if (config->n_pools == 0)
        return slm_fail(err, SLM_UNSUPPORTED, "\"modules.json\" has no Pooling module");
    return read_settings(dir, config, info, err);
}
