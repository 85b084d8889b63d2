/*
 * Adapters for tasks that a model's own directory holds (jina-embeddings-v3): all of them in one tensor beside each weight.
 *
 *   X.parametrizations.weight.original             the weight
 *   X.parametrizations.weight.0.lora_A, ..lora_B   a linear layer: [tasks, rank, cols], [tasks, rows, rank]
 *                                                  a table of embeddings: [tasks, rows, rank], [tasks, rank, cols]
 *
 * config.json: lora_adaptations names the tasks in their order, lora_rank, lora_alpha; task_instructions says what stands before a text.
 */
#ifndef SLM_HF_TASKS_H
#define SLM_HF_TASKS_H

#include "engine/import/hf/json.h"
#include "engine/import/hf/safetensors.h"
#include "engine/slm.h"

#define SLM_HF_TASK_MODULE "custom_st.Transformer" /* the type of the first module of such a model: a class that it brings */
#define SLM_HF_TASK_PLACE ".parametrizations.weight.0."

typedef struct slm_hf_task {
    uint32_t index, n; /* of how many */
    uint32_t rank;
    float alpha;
    char prompt[sizeof((slm_adapter_info *) NULL)->prompt];
} slm_hf_task;

/* Is this a tensor of adapters? */
bool slm_hf_of_tasks(const char *tensor);
/* A hint that names the tasks whose adapters the directory holds; false: it holds none. */
bool slm_hf_tasks_named(int dir, char *hint, size_t size);
/* What config.json says of a task, and the tensors of the directory.  INVALID: there is no such task. */
slm_status slm_hf_task_open(int dir, const char *task, slm_hf_task *out, slm_safetensors *st, slm_error *err);
/* The half ('A', 'B') of the pair beside a weight, "X.weight"; NULL: there is none, or not of 3 dimensions, the first as many as there are
 * tasks. */
const slm_st_tensor *slm_hf_task_half(const slm_safetensors *st, const slm_hf_task *task, const char *weight, char half);

#endif
