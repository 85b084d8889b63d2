/*
 * An adapter as a PEFT directory: adapter_config.json and adapter_model.safetensors, as PEFT's save_pretrained writes them; or, where the
 * path ends in .gguf, as the file that llama.cpp takes (its convert_lora_to_gguf).
 *
 *   PEFT   base_model.model.MODULE.lora_A.weight [rank, cols], ...lora_B.weight [rows, rank], F32
 *   GGUF   general.type = adapter, adapter.type = lora, adapter.lora.alpha; NAME.lora_a, NAME.lora_b of the same shapes
 *
 * Query and key rows come out in the order of either, as they went in (lora.c).  A family whose source has fused projections gets one
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
    bool turned;    /* query and key rows have another order there */
    int fd;
} exporter;

/* A family whose projections are fused in the source cannot be written; every other adapted matrix is asked for by layer and target. */
static slm_status check_parts(const exporter *x, bool hf, slm_error *err)
{
    for (int i = 0; i < SLM_TABLES; i++)
        if (x->adapter->tables[i].a.data != NULL)
            return slm_fail(err, SLM_UNSUPPORTED, "an adapter that changes tables of embeddings cannot be exported");
    for (uint32_t layer = 0; layer < x->adapter->shape.n_layers; layer++)
        for (int i = 0; i < SLM_TARGETS; i++)
            if (x->adapter->layers[layer][i].a.data != NULL &&
                slm_family_need(x->family, slm_target_role((slm_target) i), false) == SLM_NEED_NEVER)
                return slm_fail(err, SLM_UNSUPPORTED,
                                "models of the family %s have fused projections, for which %s has one pair of matrices", x->family->name,
                                hf ? "PEFT" : "GGUF");
    return SLM_OK;
}

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
    SLM_TRY(check_parts(x, true, err));
    for (uint32_t layer = 0; layer < x->adapter->shape.n_layers; layer++)
        for (int i = 0; i < SLM_TARGETS; i++) {
            const slm_adapter_pair *p = &x->adapter->layers[layer][i];
            if (p->a.data == NULL)
                continue;
            module_name(x, layer, i, module, sizeof module);
            SLM_TRY(add_tensor(x, module, 'A', p->a.rows, p->a.cols, err));
            SLM_TRY(add_tensor(x, module, 'B', p->b.rows, p->b.cols, err));
        }
    return SLM_OK;
}

/* The rows of a packed matrix as floats at *at, turned into the order of the target where it is another. */
static slm_status write_matrix(const exporter *x, const slm_weight *w, bool turned, uint64_t *at, slm_error *err)
{
    size_t n = (size_t) w->rows * w->cols;
    float *values = malloc(n * sizeof *values);
    if (values == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (uint32_t r = 0; r < w->rows; r++)
        slm_kernels_get()->unpack_row(w, r, values + (size_t) r * w->cols);
    slm_status status = SLM_OK;
    if (turned)
        status = slm_lora_turn_rows(values, w->rows, w->cols, x->adapter->shape.head_dim, x->adapter->shape.rope_interleaved != 0, err);
    if (status == SLM_OK)
        status = slm_file_write(x->fd, values, n * sizeof *values, *at, err);
    *at += n * sizeof *values;
    free(values);
    return status;
}

/* All matrices one behind the other, each begun at a multiple of `align`. */
static slm_status write_matrices(const exporter *x, uint64_t at, uint64_t align, slm_error *err)
{
    const slm_adapter *a = x->adapter;
    for (uint32_t layer = 0; layer < a->shape.n_layers; layer++)
        for (int i = 0; i < SLM_TARGETS; i++) {
            const slm_adapter_pair *p = &a->layers[layer][i];
            if (p->a.data == NULL)
                continue;
            at = (at + align - 1) / align * align;
            SLM_TRY(write_matrix(x, &p->a, false, &at, err));
            at = (at + align - 1) / align * align;
            SLM_TRY(write_matrix(x, &p->b, x->turned && (i == SLM_TARGET_Q || i == SLM_TARGET_K), &at, err));
        }
    return SLM_OK;
}

static slm_status write_weights(exporter *x, slm_error *err)
{
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
    if (status == SLM_OK)
        status = write_matrices(x, at, 1, err);
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

/* ------------------------------------------------------------------ GGUF */

#define GGUF_ALIGN 32
enum { GGUF_FLOAT32 = 6, GGUF_STRING = 8 }; /* types of values */

/* What lies before the tensors, little-endian; data NULL: it is counted only. */
typedef struct gguf_head {
    unsigned char *data;
    size_t bytes;
} gguf_head;

static void put_number(gguf_head *h, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++, h->bytes++)
        if (h->data != NULL)
            h->data[h->bytes] = (unsigned char) (value >> (8 * i));
}

static void put_string(gguf_head *h, const char *text)
{
    size_t n = strlen(text);
    put_number(h, n, 8);
    if (h->data != NULL)
        memcpy(h->data + h->bytes, text, n);
    h->bytes += n;
}

static void put_text(gguf_head *h, const char *key, const char *value)
{
    put_string(h, key);
    put_number(h, GGUF_STRING, 4);
    put_string(h, value);
}

/* The entry of a matrix; *at: where its data begin, behind all that came before. */
static void put_matrix(gguf_head *h, const char *weight, const char *half, const slm_weight *w, uint64_t *at)
{
    char name[256];
    snprintf(name, sizeof name, "%s.%s", weight, half);
    put_string(h, name);
    put_number(h, 2, 4);
    put_number(h, w->cols, 8);
    put_number(h, w->rows, 8);
    put_number(h, 0, 4); /* F32 */
    put_number(h, *at, 8);
    *at = (*at + (uint64_t) w->rows * w->cols * sizeof(float) + GGUF_ALIGN - 1) / GGUF_ALIGN * GGUF_ALIGN;
}

static void put_head(const exporter *x, gguf_head *h, float alpha)
{
    const slm_adapter *a = x->adapter;
    uint64_t at = 0;
    uint32_t bits;
    char weight[192];
    memcpy(&bits, &alpha, sizeof bits);
    put_number(h, 0x46554747, 4); /* GGUF */
    put_number(h, 3, 4);
    put_number(h, 2 * (uint64_t) a->info.n_matrices, 8);
    put_number(h, 5, 8);
    put_text(h, "general.type", "adapter");
    put_text(h, "general.architecture", x->family->name);
    put_text(h, "general.name", a->info.name);
    put_text(h, "adapter.type", "lora");
    put_string(h, "adapter.lora.alpha");
    put_number(h, GGUF_FLOAT32, 4);
    put_number(h, bits, 4);
    for (uint32_t layer = 0; layer < a->shape.n_layers; layer++)
        for (int i = 0; i < SLM_TARGETS; i++) {
            const slm_adapter_pair *p = &a->layers[layer][i];
            if (p->a.data == NULL)
                continue;
            slm_family_tensor_name(x->family, slm_target_role((slm_target) i), false, layer, weight, sizeof weight);
            put_matrix(h, weight, "lora_a", &p->a, &at);
            put_matrix(h, weight, "lora_b", &p->b, &at);
        }
    while (h->bytes % GGUF_ALIGN != 0)
        put_number(h, 0, 1);
}

static slm_status write_gguf(exporter *x, slm_error *err)
{
    gguf_head head = {NULL, 0};
    uint32_t rank;
    float scale;
    SLM_TRY(check_parts(x, false, err));
    SLM_TRY(one_shape(x, &rank, &scale, err));
    put_head(x, &head, scale * (float) rank);
    head = (gguf_head){calloc(1, head.bytes), 0};
    if (head.data == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    put_head(x, &head, scale * (float) rank);
    slm_status status = slm_file_write(x->fd, head.data, head.bytes, 0, err);
    free(head.data);
    if (status == SLM_OK)
        status = write_matrices(x, head.bytes, GGUF_ALIGN, err);
    if (status == SLM_OK)
        status = slm_file_sync(x->fd, err);
    return status == SLM_OK ? slm_adapter_check(x->adapter, err) : status;
}

static bool is_gguf(const char *path)
{
    size_t n = strlen(path);
    return n > 5 && strcmp(path + n - 5, ".gguf") == 0;
}

static slm_status export_gguf(exporter *x, slm_error *err)
{
    x->turned = x->family->permuted != (x->adapter->shape.rope_interleaved != 0);
    SLM_TRY(slm_file_create(x->path, &x->fd, err));
    slm_status status = write_gguf(x, err);
    slm_file_close(x->fd);
    if (status != SLM_OK)
        unlink(x->path);
    return status;
}

slm_status slm_adapter_export(const slm_adapter *adapter, const char *base, const char *path, slm_error *err)
{
    exporter x = {.adapter = adapter, .family = slm_family_by_name(adapter->shape.family), .path = path, .header = json_pack("{}")};
    char file[4096];
    if (x.family == NULL || x.header == NULL || strlen(path) > sizeof file - 64) {
        json_decref(x.header);
        return slm_fail(err, SLM_INVALID, "the adapter cannot be written there");
    }
    x.turned = adapter->shape.rope_interleaved != 0;
    if (is_gguf(path)) {
        json_decref(x.header);
        return export_gguf(&x, err);
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
