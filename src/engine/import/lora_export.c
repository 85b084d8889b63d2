/*
 * An adapter as a PEFT directory: adapter_config.json and adapter_model.safetensors, as PEFT's save_pretrained writes them.
 *
 *   base_model.model.MODULE.lora_A.weight [rank, cols], ...lora_B.weight [rows, rank], F32
 *
 * Query and key rows come out in the order of Hugging Face, as they went in (lora.c).  A family whose source has fused projections gets one
 * pair for each fused matrix only where all parts have the same A, which a training of ours does not make: such are refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/file.h"
#include "engine/image/adapter_image.h"
#include "engine/import/import.h"
#include "engine/kernels/kernels.h"

#define CONFIG "adapter_config.json"
#define WEIGHTS "adapter_model.safetensors"

typedef struct exporter {
    const slm_adapter *adapter;
    const slm_family *family;
    const char *path;
    json_t *header; /* of the safetensors */
    uint64_t bytes; /* of the tensors */
    int fd;
} exporter;

static void module_name(const exporter *x, uint32_t layer, int target, char *out, size_t size)
{
    slm_family_tensor_name(x->family, slm_target_role((slm_target) target), true, layer, out, size);
    size_t n = strlen(out), cut = strlen(".weight");
    if (n > cut && strcmp(out + n - cut, ".weight") == 0)
        out[n - cut] = '\0';
}

static slm_status add_tensor(exporter *x, const char *module, char half, uint32_t rows, uint32_t cols, slm_error *err)
{
    char name[320];
    uint64_t size = (uint64_t) rows * cols * sizeof(float);
    snprintf(name, sizeof name, "base_model.model.%s.lora_%c.weight", module, half);
    json_t *entry = json_pack("{s:s, s:[I,I], s:[I,I]}", "dtype", "F32", "shape", (json_int_t) rows, (json_int_t) cols, "data_offsets",
                              (json_int_t) x->bytes, (json_int_t) (x->bytes + size));
    x->bytes += size;
    return entry != NULL && json_object_set_new(x->header, name, entry) == 0 ? SLM_OK : slm_fail(err, SLM_NOMEM, "out of memory");
}

static slm_status list_tensors(exporter *x, slm_error *err)
{
    char module[192];
    for (uint32_t layer = 0; layer < x->adapter->shape.n_layers; layer++)
        for (int i = 0; i < SLM_TARGETS; i++) {
            const slm_adapter_pair *p = &x->adapter->layers[layer][i];
            if (p->a.data == NULL)
                continue;
            if (slm_family_need(x->family, slm_target_role((slm_target) i), false) == SLM_NEED_NEVER)
                return slm_fail(err, SLM_UNSUPPORTED,
                                "models of the family %s have fused projections, for which PEFT has one pair of matrices", x->family->name);
            module_name(x, layer, i, module, sizeof module);
            SLM_TRY(add_tensor(x, module, 'A', p->a.rows, p->a.cols, err));
            SLM_TRY(add_tensor(x, module, 'B', p->b.rows, p->b.cols, err));
        }
    return SLM_OK;
}

/* The rows of a packed matrix as floats at *at, turned into the order of Hugging Face where it is another. */
static slm_status write_matrix(const exporter *x, const slm_weight *w, bool turned, uint64_t *at, slm_error *err)
{
    size_t n = (size_t) w->rows * w->cols;
    float *values = malloc(n * sizeof *values);
    if (values == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (uint32_t r = 0; r < w->rows; r++)
        slm_kernels_get()->unpack_row(w, r, values + (size_t) r * w->cols);
    slm_status status = turned ? slm_lora_turn_rows(values, w->rows, w->cols, x->adapter->shape.head_dim, true, err) : SLM_OK;
    if (status == SLM_OK)
        status = slm_file_write(x->fd, values, n * sizeof *values, *at, err);
    *at += n * sizeof *values;
    free(values);
    return status;
}

static slm_status write_weights(exporter *x, slm_error *err)
{
    const slm_adapter *a = x->adapter;
    char *text = json_dumps(x->header, JSON_COMPACT | JSON_PRESERVE_ORDER);
    if (text == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    uint64_t length = (strlen(text) + 7) / 8 * 8, at = 8 + length;
    unsigned char head[8];
    char *padded = malloc(length + 1);
    for (int i = 0; i < 8; i++)
        head[i] = (unsigned char) (length >> (8 * i));
    slm_status status = padded == NULL ? slm_fail(err, SLM_NOMEM, "out of memory") : SLM_OK;
    if (status == SLM_OK) {
        memset(padded, ' ', length);
        memcpy(padded, text, strlen(text));
        status = slm_file_write(x->fd, head, sizeof head, 0, err);
    }
    if (status == SLM_OK)
        status = slm_file_write(x->fd, padded, length, 8, err);
    for (uint32_t layer = 0; layer < a->shape.n_layers; layer++)
        for (int i = 0; i < SLM_TARGETS && status == SLM_OK; i++) {
            const slm_adapter_pair *p = &a->layers[layer][i];
            bool turned = a->shape.rope_interleaved != 0 && (i == SLM_TARGET_Q || i == SLM_TARGET_K);
            if (p->a.data == NULL)
                continue;
            status = write_matrix(x, &p->a, false, &at, err);
            if (status == SLM_OK)
                status = write_matrix(x, &p->b, turned, &at, err);
        }
    free(padded);
    free(text);
    return status == SLM_OK ? slm_file_sync(x->fd, err) : status;
}

/* rank and scale of all matrices, which a PEFT configuration has once. */
static slm_status one_shape(const exporter *x, uint32_t *rank, float *scale, slm_error *err)
{
    *rank = 0;
    *scale = 0;
    for (uint32_t layer = 0; layer < x->adapter->shape.n_layers; layer++)
        for (int i = 0; i < SLM_TARGETS; i++) {
            const slm_adapter_pair *p = &x->adapter->layers[layer][i];
            if (p->a.data == NULL)
                continue;
            if (*rank != 0 && (p->a.rows != *rank || p->scale != *scale))
                return slm_fail(err, SLM_UNSUPPORTED, "the adapter's matrices have several ranks or scales");
            *rank = p->a.rows;
            *scale = p->scale;
        }
    return SLM_OK;
}

static slm_status write_config(const exporter *x, const char *base, slm_error *err)
{
    char file[4096], module[192];
    uint32_t rank;
    float scale;
    int fd;
    bool seen[SLM_TARGETS] = {false};
    SLM_TRY(one_shape(x, &rank, &scale, err));
    json_t *targets = json_pack("[]"); /* not by json_array(): the server has functions of such names */
    for (uint32_t layer = 0; layer < x->adapter->shape.n_layers; layer++)
        for (int i = 0; i < SLM_TARGETS; i++)
            if (x->adapter->layers[layer][i].a.data != NULL && !seen[i]) {
                const char *dot;
                seen[i] = true;
                module_name(x, layer, i, module, sizeof module);
                dot = strrchr(module, '.');
                json_array_append_new(targets, json_string(dot == NULL ? module : dot + 1));
            }
    json_t *config = json_pack("{s:s, s:s, s:s, s:i, s:f, s:f, s:s, s:b, s:b, s:b, s:o}", "peft_type", "LORA", "task_type", "CAUSAL_LM",
                               "base_model_name_or_path", base, "r", (int) rank, "lora_alpha", (double) scale * rank, "lora_dropout", 0.0,
                               "bias", "none", "use_rslora", 0, "fan_in_fan_out", 0, "inference_mode", 1, "target_modules", targets);
    char *text = config == NULL ? NULL : json_dumps(config, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_decref(config);
    if (text == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    snprintf(file, sizeof file, "%s/" CONFIG, x->path);
    slm_status status = slm_file_create(file, &fd, err);
    if (status == SLM_OK) {
        status = slm_file_write(fd, text, strlen(text), 0, err);
        if (status == SLM_OK)
            status = slm_file_sync(fd, err);
        slm_file_close(fd);
    }
    free(text);
    return status;
}

static slm_status export_into(exporter *x, const char *base, slm_error *err)
{
    char file[4096];
    SLM_TRY(list_tensors(x, err));
    SLM_TRY(write_config(x, base, err));
    snprintf(file, sizeof file, "%s/" WEIGHTS, x->path);
    SLM_TRY(slm_file_create(file, &x->fd, err));
    slm_status status = write_weights(x, err);
    slm_file_close(x->fd);
    return status == SLM_OK ? slm_adapter_check(x->adapter, err) : status;
}

slm_status slm_adapter_export(const slm_adapter *adapter, const char *base, const char *path, slm_error *err)
{
    exporter x = {.adapter = adapter, .family = slm_family_by_name(adapter->shape.family), .path = path, .header = json_pack("{}")};
    char file[4096];
    if (x.family == NULL || x.header == NULL || strlen(path) > sizeof file - 64) {
        json_decref(x.header);
        return slm_fail(err, SLM_INVALID, "the adapter cannot be written there");
    }
    if (mkdir(path, 0700) != 0) {
        json_decref(x.header);
        slm_fail_os(err, errno, "cannot create directory \"%s\"", path);
        slm_hint(err, "Give it the path of a directory that does not exist, below one that the server may write to.");
        return err == NULL ? SLM_IO : err->status;
    }
    slm_status status = export_into(&x, base, err);
    json_decref(x.header);
    if (status == SLM_OK)
        return SLM_OK;
    snprintf(file, sizeof file, "%s/" CONFIG, path);
    unlink(file);
    snprintf(file, sizeof file, "%s/" WEIGHTS, path);
    unlink(file);
    rmdir(path);
    return status;
}
