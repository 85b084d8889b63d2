/*
 * Adapters for tasks: jina-embeddings-v3 as it is published, as a GGUF file with the adapter beside it, and as transformers saves it with
 * one of PEFT, whose tables of embeddings are adapted too.
 *
 * Each task gives the vectors of the reference, whose weights had the adapter merged, and its words before a text; texts of all tasks and
 * of none in one batch have the bits that each has alone.  What config.json says of tasks is refused where it does not add up.
 */
#include <math.h>

#include "engine/model/adapter.h"
#include "hf_dir.h"
#include "model_test.h"
#include "slm_test.h"

#define N_TASKS 5
#define N_TEXTS 12
#define WIDTH 64

static const char *const names[N_TASKS] = {"retrieval.query", "retrieval.passage", "separation", "classification", "text-matching"};

typedef struct text {
    int32_t *ids;
    uint32_t n;
    slm_adapter *adapter;
    const json_t *want;
} text;

/* An adapter, or NULL, with its prompt in *prompt where it is not NULL. */
static slm_adapter *load(const slm_model *base, const char *source, char *prompt, slm_status *status, slm_error *err)
{
    char image[64];
    slm_adapter *adapter = NULL;
    slm_adapter_info info;
    snprintf(image, sizeof image, "/tmp/slm_tasks_%d.slm", (int) getpid());
    unlink(image);
    *status = slm_adapter_import(source, base, image, NULL, NULL, &info, err);
    if (*status == SLM_OK)
        *status = slm_adapter_open(image, base, &adapter, err);
    if (*status == SLM_OK && prompt != NULL) {
        CHECK(strcmp(info.prompt, slm_adapter_get_info(adapter)->prompt) == 0, "%s: another prompt once opened", source);
        strcpy(prompt, info.prompt);
    }
    unlink(image);
    return adapter;
}

static slm_adapter *must_load(const slm_model *base, const char *source, char *prompt)
{
    slm_status status;
    slm_error err = {0};
    slm_adapter *adapter = load(base, source, prompt, &status, &err);
    if (adapter == NULL)
        test_die(source, err.message);
    return adapter;
}

static uint32_t take_texts(const json_t *cases, slm_adapter *adapter, text *out)
{
    uint32_t n = 0;
    for (size_t i = 0; i < json_array_size(cases) && n < N_TEXTS; i++, n++) {
        const json_t *c = json_array_get(cases, i);
        out[n] = (text) {.adapter = adapter, .want = json_object_get(c, "embedding")};
        out[n].ids = test_ids(json_object_get(c, "ids"), &out[n].n);
    }
    return n;
}

/* The texts first, first + step, ... around all n, in one batch: vectors in that order. */
static float *encode(const slm_model *model, slm_workspace *ws, const text *texts, uint32_t n, uint32_t first, uint32_t step,
                     uint32_t count, int n_threads)
{
    uint32_t lengths[(N_TASKS + 1) * N_TEXTS], at = 0;
    const slm_adapter *adapters[(N_TASKS + 1) * N_TEXTS];
    int32_t *tokens = test_alloc(count * 128 * sizeof *tokens);
    float *vectors, *copy = test_alloc(count * WIDTH * sizeof *copy);
    slm_error err = {0};
    for (uint32_t i = 0; i < count; i++) {
        const text *t = &texts[(first + i * step) % n];
        lengths[i] = t->n;
        adapters[i] = t->adapter;
        memcpy(tokens + at, t->ids, t->n * sizeof *tokens);
        at += t->n;
    }
    slm_encode_batch batch = {.n_sequences = count, .lengths = lengths, .tokens = tokens, .adapters = adapters};
    if (slm_encode(model, ws, &batch, n_threads, NULL, &vectors, &err) != SLM_OK)
        test_die("encode", err.message);
    memcpy(copy, vectors, count * WIDTH * sizeof *copy);
    free(tokens);
    return copy;
}

static void check_near(const char *what, const float *vector, const json_t *want, bool exact)
{
    double dot = 0, a = 0, b = 0;
    for (uint32_t k = 0; k < WIDTH; k++) {
        double x = json_number_value(json_array_get(want, k));
        dot += x * (double) vector[k];
        a += x * x;
        b += (double) vector[k] * (double) vector[k];
    }
    CHECK(dot / sqrt(a * b) >= (exact ? 0.99999 : 0.99), "%s: cosine %.7f", what, dot / sqrt(a * b));
}

/* Alone, and with all others of other tasks around. */
static void check_texts(const slm_model *model, const text *texts, uint32_t n, bool exact)
{
    static const char *const isas[] = {"ref", "auto"};
    slm_workspace *ws = slm_workspace_new();
    float *alone[(N_TASKS + 1) * N_TEXTS];
    slm_error err;
    for (uint32_t i = 0; i < n; i++) {
        alone[i] = encode(model, ws, texts, n, i, 1, 1, 1);
        check_near(texts[i].adapter != NULL ? slm_adapter_get_info(texts[i].adapter)->name : "none", alone[i], texts[i].want, exact);
    }
    for (int i = 0; i < 2; i++) {
        slm_kernels_select(isas[i], &err);
        for (uint32_t step = 1; step < (i == 0 ? 2 : 8); step += 6) { /* neighbours of one task; of different ones */
            float *all = encode(model, ws, texts, n, step, step, n, 1 + i);
            bool same = true;
            for (uint32_t k = 0; k < n; k++)
                same = same && memcmp(all + k * WIDTH, alone[(step + k * step) % n], WIDTH * sizeof *all) == 0;
            CHECK(same, "other bits in a batch of step %u with %s", step, isas[i]);
            free(all);
        }
    }
    for (uint32_t i = 0; i < n; i++)
        free(alone[i]);
    slm_workspace_free(ws);
}

static void free_texts(text *texts, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        free(texts[i].ids);
        if (i == 0 || texts[i].adapter != texts[i - 1].adapter)
            slm_adapter_close(texts[i].adapter);
    }
}

static void check_published(const char *dir, const char *type)
{
    char path[2200], prompt[256];
    text texts[(N_TASKS + 1) * N_TEXTS];
    json_t *golden = test_json("encoders/jina-v3/golden.json");
    slm_model *model = test_import(dir, type);
    CHECK(model != NULL, "jina-v3 as %s", type);
    if (model == NULL || golden == NULL)
        return;
    uint32_t n = take_texts(json_object_get(golden, "cases"), NULL, texts);
    for (int i = 0; i < N_TASKS; i++) {
        const json_t *task = json_object_get(json_object_get(golden, "tasks"), names[i]);
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        slm_adapter *adapter = must_load(model, path, prompt);
        CHECK(strcmp(prompt, json_string_value(json_object_get(task, "prompt"))) == 0, "%s: the prompt is \"%s\"", names[i], prompt);
        n += take_texts(json_object_get(task, "cases"), adapter, texts + n);
    }
    check_texts(model, texts, n, strcmp(type, "F32") == 0);
    free_texts(texts, n);
    slm_model_close(model);
    json_decref(golden);
}

/* The GGUF file with the adapter beside it gives the bits of the directory. */
static void check_gguf(const char *dir)
{
    char path[2200], prompt[256];
    text here[N_TEXTS], there[N_TEXTS];
    json_t *golden = test_json("encoders/jina-v3/golden.json");
    const json_t *task = json_object_get(json_object_get(golden, "tasks"), names[0]);
    snprintf(path, sizeof path, "%s/model.gguf", dir);
    slm_model *a = test_import(dir, "F16"), *b = test_import(path, NULL);
    CHECK(a != NULL && b != NULL, "model.gguf");
    if (a == NULL || b == NULL)
        return;
    snprintf(path, sizeof path, "%s/%s", dir, names[0]);
    uint32_t n = take_texts(json_object_get(task, "cases"), must_load(a, path, NULL), here);
    snprintf(path, sizeof path, "%s/lora-%s-model.gguf", dir, names[0]);
    take_texts(json_object_get(task, "cases"), must_load(b, path, prompt), there);
    CHECK(strcmp(prompt, json_string_value(json_object_get(task, "prompt"))) == 0, "GGUF: the prompt is \"%s\"", prompt);
    slm_workspace *ws = slm_workspace_new();
    float *x = encode(a, ws, here, n, 0, 1, n, 1), *y = encode(b, ws, there, n, 0, 1, n, 1);
    CHECK(memcmp(x, y, n * WIDTH * sizeof *x) == 0, "a GGUF file and its adapter have other bits than the directory");
    free(x);
    free(y);
    free_texts(here, n);
    free_texts(there, n);
    slm_workspace_free(ws);
    slm_model_close(a);
    slm_model_close(b);
    json_decref(golden);
}

static void check_peft(const char *dir)
{
    char path[2200], prompt[256];
    text texts[2 * N_TEXTS];
    json_t *golden = test_json("encoders/jina-v3-hf/golden.json");
    slm_model *model = test_import(dir, "F32");
    CHECK(model != NULL, "jina-v3-hf");
    if (model == NULL || golden == NULL)
        return;
    uint32_t n = take_texts(json_object_get(golden, "cases"), NULL, texts);
    snprintf(path, sizeof path, "%s/text_matching", dir);
    slm_adapter *adapter = must_load(model, path, prompt);
    CHECK(prompt[0] == '\0', "PEFT: the prompt is \"%s\"", prompt);
    n += take_texts(json_object_get(json_object_get(golden, "adapter"), "cases"), adapter, texts + n);
    check_texts(model, texts, n, true);
    slm_error err = {0};
    CHECK(slm_adapter_export(adapter, "base", "/tmp/slm_tasks_export", &err) == SLM_UNSUPPORTED && strstr(err.message, "tables") != NULL,
          "tables are exported: %s", err.message);
    free_texts(texts, n);
    slm_model_close(model);
    json_decref(golden);
}

/* What is refused, and with which words. */
static void check_refused(const char *dir)
{
    static const struct {
        const char *key, *value, *task;
        slm_status status;
        const char *word;
    } cases[] = {{NULL, NULL, "summary", SLM_INVALID, "retrieval.passage"},
                 {NULL, NULL, "", SLM_IO, "text-matching"},
                 {"lora_rank", "8", "separation", SLM_FORMAT, "ranks"},
                 {"lora_rank", "1025", "separation", SLM_FORMAT, "lora_rank"},
                 {"lora_alpha", "\"one\"", "separation", SLM_FORMAT, "lora_alpha"},
                 {"lora_adaptations", "[\"separation\"]", "separation", SLM_FORMAT, "task_instructions"},
                 {"lora_adaptations", "[\"separation\", 5]", "separation", SLM_FORMAT, "lora_adaptations"},
                 {"lora_adaptations", "[\"separation\", \"separation\"]", "separation", SLM_FORMAT, "lora_adaptations"},
                 {"lora_adaptations", "[]", "separation", SLM_INVALID, "no adapters"},
                 {"task_instructions", "null", "separation", SLM_FORMAT, "task_instructions"},
                 {"task_instructions", "{\"separation\": 7}", "separation", SLM_FORMAT, "task_instructions"}};
    slm_model *model = test_import(dir, "F32");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char copy[64], path[200], command[2600];
        slm_status status;
        slm_error err = {0};
        if (!hf_make_dir(copy, sizeof copy))
            test_die("mkdtemp", copy);
        snprintf(command, sizeof command, "cp '%s'/config.json '%s'/model.safetensors %s", dir, dir, copy);
        CHECK(system(command) == 0, "%s", command);
        snprintf(path, sizeof path, "%s/config.json", copy);
        json_t *config = json_load_file(path, 0, NULL);
        if (cases[i].key != NULL)
            json_object_set_new(config, cases[i].key, json_loads(cases[i].value, JSON_DECODE_ANY, NULL));
        json_dump_file(config, path, 0);
        json_decref(config);
        snprintf(path, sizeof path, "%s%s%s", copy, cases[i].task[0] != '\0' ? "/" : "", cases[i].task);
        slm_adapter *adapter = load(model, path, NULL, &status, &err);
        CHECK(adapter == NULL && status == cases[i].status && (strstr(err.message, cases[i].word) != NULL ||
                                                               strstr(err.hint, cases[i].word) != NULL),
              "%s %s: %d, %s (%s)", cases[i].key != NULL ? cases[i].key : cases[i].task, cases[i].value != NULL ? cases[i].value : "",
              (int) status, err.message, err.hint);
        slm_adapter_close(adapter);
        snprintf(command, sizeof command, "rm -r %s", copy);
        CHECK(system(command) == 0, "%s", command);
    }
    slm_model_close(model);
}

/* An image whose header says another length of its prompt. */
static void check_forged(const char *dir)
{
    static const uint32_t lengths[] = {255, 256, 100000, UINT32_MAX};
    const char *image = "/tmp/slm_tasks_forged.slm";
    char path[2200];
    slm_error err = {0};
    slm_adapter *adapter = NULL;
    slm_model *model = test_import(dir, "F32");
    unlink(image);
    snprintf(path, sizeof path, "%s/%s", dir, names[0]);
    CHECK(slm_adapter_import(path, model, image, NULL, NULL, NULL, &err) == SLM_OK, "%s", err.message);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        FILE *f = fopen(image, "r+b");
        CHECK(f != NULL && fseek(f, 20, SEEK_SET) == 0 && fwrite(&lengths[i], 4, 1, f) == 1 && fclose(f) == 0, "cannot forge");
        CHECK(slm_adapter_open(image, model, &adapter, &err) == SLM_FORMAT && strstr(err.message, "prompt") != NULL,
              "a prompt of %u bytes: %s", lengths[i], err.message);
    }
    unlink(image);
    slm_model_close(model);
}

int main(void)
{
    char published[1024], saved[1024];
    snprintf(published, sizeof published, "%s/encoders/jina-v3", golden_root());
    snprintf(saved, sizeof saved, "%s/encoders/jina-v3-hf", golden_root());
    check_published(published, "F32");
    check_published(published, "Q8_0");
    check_gguf(published);
    check_peft(saved);
    check_refused(published);
    check_forged(published);
    CHECK(slm_adapter_task("/tmp") == NULL && slm_adapter_task("relative") == NULL && slm_adapter_task("/no/such/folder/task") == NULL,
          "a task where there is no model");
    TEST_MAIN_END("tasks");
}
