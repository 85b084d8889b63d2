/*
 * Makes LoRA adapters for a GGUF model, for tests: as a GGUF adapter, as a PEFT directory, and merged into a copy of the model.
 *
 * Values are a fixed function of a seed and their place.  Merging computes W + scale * B A in double precision and writes F32 matrices.
 */
#ifndef ADAPTER_MAKER_H
#define ADAPTER_MAKER_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/base/rng.h"
#include "engine/import/gguf/gguf.h"
#include "engine/arch/family.h"
#include "tools/gguf_copy.h"

typedef struct adapter_recipe {
    uint64_t seed;
    uint32_t rank;
    float alpha, size;  /* size: of the entries of B */
    const char *only;   /* adapt only tensors with this in their name, NULL: all */
} adapter_recipe;

/* Entry i of A (half 0) or B (half 1) of a tensor. */
static inline float maker_value(const adapter_recipe *r, const char *name, int half, uint64_t i, uint64_t cols)
{
    uint64_t place = r->seed * 1000003 + (uint64_t) half;
    for (const char *c = name; *c; c++)
        place = place * 31 + (unsigned char) *c;
    double u = 2 * slm_rng_uniform(place, i) - 1;
    return (float) (half ? u * (double) r->size : u * sqrt(3.0 / (double) cols));
}

static inline bool maker_adapts(const adapter_recipe *r, const slm_gguf_tensor *t)
{
    return t->n_dims == 2 && strncmp(t->name, "blk.", 4) == 0 && (r->only == NULL || strstr(t->name, r->only) != NULL);
}

static inline void maker_values(gw *w, const adapter_recipe *r, const slm_gguf_tensor *t, int half)
{
    uint64_t n = half ? t->dims[1] * r->rank : t->dims[0] * r->rank;
    for (uint64_t i = 0; i < n; i++)
        gw_f32(w, maker_value(r, t->name, half, i, t->dims[0]));
    gw_align(w, 32);
}

static inline int make_gguf_adapter(const slm_gguf *g, const char *architecture, const adapter_recipe *r, const char *path)
{
    gw w = {0};
    uint64_t n = 0, offset = 0;
    for (size_t i = 0; i < slm_gguf_n_tensors(g); i++)
        n += maker_adapts(r, slm_gguf_tensor_at(g, i)) ? 2 : 0;
    gw_begin(&w, 3, n, 5);
    gw_kv_string(&w, "general.architecture", architecture);
    gw_kv_string(&w, "general.type", "adapter");
    gw_kv_string(&w, "general.name", "made for a test");
    gw_kv_string(&w, "adapter.type", "lora");
    gw_kv_f32(&w, "adapter.lora.alpha", r->alpha);
    for (size_t i = 0; i < slm_gguf_n_tensors(g); i++) {
        const slm_gguf_tensor *t = slm_gguf_tensor_at(g, i);
        char name[256];
        if (!maker_adapts(r, t))
            continue;
        snprintf(name, sizeof name, "%s.lora_a", t->name);
        gw_tensor(&w, name, t->dims[0], r->rank, 0, offset);
        offset += (t->dims[0] * r->rank * 4 + 31) & ~(uint64_t) 31;
        snprintf(name, sizeof name, "%s.lora_b", t->name);
        gw_tensor(&w, name, r->rank, t->dims[1], 0, offset);
        offset += (t->dims[1] * r->rank * 4 + 31) & ~(uint64_t) 31;
    }
    gw_align(&w, 32);
    for (size_t i = 0; i < slm_gguf_n_tensors(g); i++)
        for (int half = 0; half < 2 && maker_adapts(r, slm_gguf_tensor_at(g, i)); half++)
            maker_values(&w, r, slm_gguf_tensor_at(g, i), half);
    int result = gw_save(&w, path);
    gw_free(&w);
    return result;
}

/* Row of B in Hugging Face's order for a row in GGUF's: heads of the llama family are interleaved there. */
static inline uint64_t maker_hf_row(uint64_t row, uint32_t head_dim, bool permuted)
{
    uint64_t i = row % head_dim;
    return permuted ? row - i + i % 2 * (head_dim / 2) + i / 2 : row;
}

/* adapter_config.json and adapter_model.safetensors into an existing directory; config: more members, ", \"use_dora\": true". */
static inline int make_peft_adapter(const slm_gguf *g, const slm_hparams *hp, const adapter_recipe *r, const char *dir, const char *config)
{
    static const slm_tensor_role roles[] = {SLM_TENSOR_ATTN_Q,   SLM_TENSOR_ATTN_K, SLM_TENSOR_ATTN_V,      SLM_TENSOR_ATTN_QKV,
            SLM_TENSOR_ATTN_OUT,
                                            SLM_TENSOR_FFN_GATE, SLM_TENSOR_FFN_UP, SLM_TENSOR_FFN_GATE_UP, SLM_TENSOR_FFN_DOWN};
    const slm_family *family = slm_family_by_name(hp->family);
    gw data = {0}, header = {0}, file = {0};
    char path[1024], text[1024];
    snprintf(path, sizeof path, "%s/adapter_config.json", dir);
    FILE *f = fopen(path, "wb");
    if (f == NULL)
        return -1;
    fprintf(f, "{\"peft_type\": \"LORA\", \"r\": %u, \"lora_alpha\": %g, \"target_modules\": [\"q_proj\"]%s}", r->rank,
            (double) r->alpha, config);
    fclose(f);
    gw_raw(&header, "{", 1);
    for (uint32_t k = 0; k < hp->n_layers * 9; k++) {
        slm_tensor_role role = roles[k % 9];
        char name[192], hf[192];
        if (slm_family_need(family, role, false) == SLM_NEED_NEVER)
            continue;
        slm_family_tensor_name(family, role, false, k / 9, name, sizeof name);
        slm_family_tensor_name(family, role, true, k / 9, hf, sizeof hf);
        const slm_gguf_tensor *t = slm_gguf_find_tensor(g, name);
        if (t == NULL || !maker_adapts(r, t))
            continue;
        bool turned = family->permuted && (role == SLM_TENSOR_ATTN_Q || role == SLM_TENSOR_ATTN_K);
        hf[strlen(hf) - strlen(".weight")] = '\0';
        for (int half = 0; half < 2; half++) {
            uint64_t rows = half ? t->dims[1] : r->rank, cols = half ? r->rank : t->dims[0], begin = data.n;
            float *x = malloc(rows * cols * sizeof *x);
            if (x == NULL)
                abort();
            for (uint64_t i = 0; i < rows * cols; i++)
                x[half ? maker_hf_row(i / cols, hp->head_dim, turned) * cols + i % cols : i] = maker_value(r, t->name, half, i, t->dims[0]);
            gw_raw(&data, x, rows * cols * sizeof *x);
            free(x);
            int n = snprintf(text, sizeof text,
                    "%s\"base_model.model.%s.lora_%c.weight\":{\"dtype\":\"F32\",\"shape\":[%llu,%llu],\"data_offsets\":[%llu,%llu]}",
                             begin == 0 ? "" : ",", hf, half ? 'B' : 'A', (unsigned long long) rows, (unsigned long long) cols,
                             (unsigned long long) begin, (unsigned long long) data.n);
            gw_raw(&header, text, (size_t) n);
        }
    }
    gw_raw(&header, "}", 1);
    gw_u64(&file, header.n);
    gw_raw(&file, header.bytes, header.n);
    gw_raw(&file, data.bytes, data.n);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir);
    int result = gw_save(&file, path);
    gw_free(&data);
    gw_free(&header);
    gw_free(&file);
    return result;
}

/* W + scale * B A of a tensor as floats appended to w. */
static inline void maker_merge(gw *w, const slm_gguf *g, const slm_gguf_tensor *t, const adapter_recipe *r)
{
    uint64_t rows = t->dims[1], cols = t->dims[0];
    unsigned char *bytes = malloc(t->bytes);
    float *x = malloc(rows * cols * sizeof *x);
    if (bytes == NULL || x == NULL || slm_gguf_read_tensor(g, t, 0, bytes, t->bytes, NULL) != SLM_OK)
        abort();
    slm_dequantize(t->type, bytes, x, rows * cols);
    for (uint64_t row = 0; row < rows; row++)
        for (uint64_t col = 0; col < cols; col++) {
            double sum = 0;
            for (uint32_t k = 0; k < r->rank; k++)
                sum += (double) maker_value(r, t->name, 1, row * r->rank + k, cols) * (double) maker_value(r, t->name, 0,
                        k * cols + col, cols);
            gw_f32(w, (float) ((double) x[row * cols + col] + sum * (double) (r->alpha / (float) r->rank)));
        }
    free(bytes);
    free(x);
}

/* A copy of the model with the adapter in its weights. */
static inline int make_merged(const slm_gguf *g, const adapter_recipe *r, const char *path)
{
    gw w = {0};
    uint64_t offset = 0;
    gw_begin(&w, 3, slm_gguf_n_tensors(g), slm_gguf_n_values(g));
    gw_copy_values(&w, g);
    for (size_t i = 0; i < slm_gguf_n_tensors(g); i++) {
        const slm_gguf_tensor *t = slm_gguf_tensor_at(g, i);
        bool merged = maker_adapts(r, t);
        gw_tensor(&w, t->name, t->dims[0], t->n_dims == 2 ? t->dims[1] : 0, merged ? 0 : t->type, offset);
        offset += ((merged ? t->dims[0] * t->dims[1] * 4 : t->bytes) + 31) & ~(uint64_t) 31;
    }
    gw_align(&w, 32);
    for (size_t i = 0; i < slm_gguf_n_tensors(g); i++) {
        const slm_gguf_tensor *t = slm_gguf_tensor_at(g, i);
        unsigned char *bytes = malloc(t->bytes);
        if (bytes == NULL)
            abort();
        if (maker_adapts(r, t)) {
            maker_merge(&w, g, t, r);
        } else if (slm_gguf_read_tensor(g, t, 0, bytes, t->bytes, NULL) == SLM_OK) {
            gw_raw(&w, bytes, t->bytes);
        }
        free(bytes);
        gw_align(&w, 32);
    }
    int result = gw_save(&w, path);
    gw_free(&w);
    return result;
}

#endif
