/*
 * config.json's words on adapters for tasks, and their tensors by name.
 */
#include "engine/import/hf/tasks.h"

#include <stdio.h>
#include <string.h>

#define CONFIG "config.json"
#define MAX_CONFIG (4u << 20)
#define MAX_TASKS 64

bool slm_hf_of_tasks(const char *tensor)
{
    return strstr(tensor, SLM_HF_TASK_PLACE "lora_") != NULL;
}

static void list_names(const json_t *names, char *out, size_t size)
{
    size_t n = 0;
    out[0] = '\0';
    for (size_t i = 0; i < json_array_size(names) && i < MAX_TASKS && n + 1 < size; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        n += (size_t) snprintf(out + n, size - n, "%s%s", i > 0 ? ", " : "", name != NULL ? name : "?");
    }
}

bool slm_hf_tasks_named(int dir, char *hint, size_t size)
{
    json_t *root = NULL;
    char list[256];
    slm_error ignored;
    bool any = slm_hf_load(dir, CONFIG, MAX_CONFIG, true, &root, &ignored) == SLM_OK &&
               json_array_size(json_object_get(root, "lora_adaptations")) > 0;
    if (any) {
        list_names(json_object_get(root, "lora_adaptations"), list, sizeof list);
        snprintf(hint, size, "Load the adapter for a task with slm_load_adapter, its name behind the directory's path like a folder: %s.",
                 list);
    }
    json_decref(root);
    return any;
}

static slm_status read_task(slm_hf_json j, const char *task, slm_hf_task *out, slm_error *err)
{
    json_t *names = json_object_get(j.object, "lora_adaptations"), *prompts = json_object_get(j.object, "task_instructions");
    char list[256];
    *out = (slm_hf_task) {.index = UINT32_MAX, .n = (uint32_t) json_array_size(names), .rank = 4, .alpha = 1};
    if (out->n == 0)
        return slm_fail(err, SLM_INVALID, "there is no file \"%.60s\", and the model's \"%s\" names no adapters for tasks", task, j.file);
    if (json_array_size(names) > MAX_TASKS)
        return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" names more than %d adapters for tasks", j.file, MAX_TASKS);
    for (uint32_t i = 0; i < out->n; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        if (name == NULL || (strcmp(name, task) == 0 && out->index != UINT32_MAX))
            return slm_fail(err, SLM_FORMAT, "\"lora_adaptations\" in \"%s\" is no list of different names", j.file);
        if (strcmp(name, task) == 0)
            out->index = i;
    }
    list_names(names, list, sizeof list);
    if (out->index == UINT32_MAX) {
        slm_fail(err, SLM_INVALID, "\"lora_adaptations\" in \"%s\" has no adapter for \"%.60s\"", j.file, task);
        return slm_hint(err, "It has: %s.", list);
    }
    const char *prompt = json_string_value(json_object_get(prompts, task));
    if (!json_is_object(prompts) || json_object_size(prompts) != out->n || prompt == NULL)
        return slm_fail(err, SLM_FORMAT, "\"task_instructions\" in \"%s\" does not say what stands before a text for each task", j.file);
    if (strlen(prompt) >= sizeof out->prompt)
        return slm_fail(err, SLM_UNSUPPORTED, "\"task_instructions\" in \"%s\" has a text of more than %zu bytes", j.file,
                        sizeof out->prompt - 1);
    snprintf(out->prompt, sizeof out->prompt, "%s", prompt);
    SLM_TRY(slm_hf_u32(j, "lora_rank", 1, 1024, &out->rank, err));
    return slm_hf_f32(j, "lora_alpha", -1e6, 1e6, &out->alpha, err);
}

slm_status slm_hf_task_open(int dir, const char *task, slm_hf_task *out, slm_safetensors *st, slm_error *err)
{
    json_t *root = NULL;
    SLM_TRY(slm_hf_load(dir, CONFIG, MAX_CONFIG, false, &root, err));
    slm_status status = read_task((slm_hf_json) {json_is_object(root) ? root : NULL, CONFIG}, task, out, err);
    json_decref(root);
    SLM_TRY(status);
    return slm_safetensors_open(dir, st, err);
}

const slm_st_tensor *slm_hf_task_half(const slm_safetensors *st, const slm_hf_task *task, const char *weight, char half)
{
    static const char *const before[] = {"", "roberta."};
    const slm_st_tensor *t = NULL;
    char name[256];
    for (size_t i = 0; t == NULL && i < sizeof before / sizeof before[0]; i++) {
        snprintf(name, sizeof name, "%s%.*s" SLM_HF_TASK_PLACE "lora_%c", before[i], (int) (strlen(weight) - strlen(".weight")), weight,
                 half);
        t = slm_safetensors_find(st, name);
    }
    return t != NULL && t->n_dims == 3 && t->dims[0] == task->n ? t : NULL;
}
