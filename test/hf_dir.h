/*
 * Writes Hugging Face directories for tests: files by name, safetensors from a list of tensors, and a tiny BERT and a tiny Llama.
 *
 * Weights are a fixed function of name and place, so that a test can say what a row must hold.
 */
#ifndef SLM_HF_DIR_H
#define SLM_HF_DIR_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct hf_tensor {
    char name[160];
    char dtype[8]; /* F32, F16, BF16, I64 */
    uint32_t rows, cols; /* cols 0: a vector */
} hf_tensor;

typedef struct hf_model {
    hf_tensor tensors[256];
    size_t n;
} hf_model;

/* A new directory under /tmp; its name is written to dir. */
static inline bool hf_make_dir(char *dir, size_t size)
{
    snprintf(dir, size, "/tmp/slm_hf_XXXXXX");
    return mkdtemp(dir) != NULL;
}

static inline void hf_write(const char *dir, const char *name, const void *data, size_t n)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(data, 1, n, f) != n) {
        perror(path);
        exit(2);
    }
    fclose(f);
}

static inline void hf_text(const char *dir, const char *name, const char *text)
{
    hf_write(dir, name, text, strlen(text));
}

static inline void hf_delete(const char *dir, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    unlink(path);
}

static inline void hf_remove_dir(const char *dir)
{
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    if (strncmp(dir, "/tmp/slm_hf_", 12) != 0 || system(command) != 0)
        fprintf(stderr, "could not remove %s\n", dir);
}

/* Weight i of a tensor: in -0.5..0.5, a multiple of 1/256 (exact in F16; BF16 keeps eight bits of it). */
static inline float hf_weight(const char *name, size_t i)
{
    uint32_t h = 2166136261u;
    for (const char *p = name; *p; p++)
        h = (h ^ (uint8_t) *p) * 16777619u;
    h = (h ^ (uint32_t) i) * 2654435761u;
    return (float) ((int) (h >> 24) - 128) / 256.0f;
}

static inline uint32_t hf_dtype_bytes(const char *dtype)
{
    return strcmp(dtype, "F32") == 0 ? 4 : strcmp(dtype, "I64") == 0 ? 8 : 2;
}

/* The 16 upper bits of a half or a bfloat of a weight as above; zero and normal numbers only. */
static inline uint16_t hf_half(float x, bool bfloat)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    if (bfloat)
        return (uint16_t) (u >> 16);
    return u << 1 == 0 ? 0 : (uint16_t) ((u >> 16 & 0x8000) | (((u >> 23 & 255) - 112) << 10) | (u >> 13 & 1023));
}

static inline void hf_add(hf_model *m, const char *name, const char *dtype, uint32_t rows, uint32_t cols)
{
    hf_tensor *t = &m->tensors[m->n++];
    snprintf(t->name, sizeof t->name, "%s", name);
    snprintf(t->dtype, sizeof t->dtype, "%s", dtype);
    t->rows = rows;
    t->cols = cols;
}

/* Tensors first..last - 1 as one safetensors file. */
static inline void hf_safetensors(const char *dir, const char *file, const hf_model *m, size_t first, size_t last)
{
    static char header[1 << 16];
    size_t length = 0, offset = 0;
    length += (size_t) sprintf(header + length, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = first; i < last; i++) {
        const hf_tensor *t = &m->tensors[i];
        size_t bytes = (size_t) t->rows * (t->cols ? t->cols : 1) * hf_dtype_bytes(t->dtype);
        length += (size_t) sprintf(header + length, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%u", t->name, t->dtype, t->rows);
        if (t->cols > 0)
            length += (size_t) sprintf(header + length, ",%u", t->cols);
        length += (size_t) sprintf(header + length, "],\"data_offsets\":[%zu,%zu]}", offset, offset + bytes);
        offset += bytes;
    }
    header[length++] = '}';
    uint8_t *data = calloc(1, 8 + length + offset), *at = data + 8 + length;
    for (int i = 0; i < 8; i++)
        data[i] = (uint8_t) (length >> (8 * i));
    memcpy(data + 8, header, length);
    for (size_t i = first; i < last; i++) {
        const hf_tensor *t = &m->tensors[i];
        size_t n = (size_t) t->rows * (t->cols ? t->cols : 1), size = hf_dtype_bytes(t->dtype);
        for (size_t k = 0; k < n; k++, at += size) {
            float w = hf_weight(t->name, k);
            uint16_t half = hf_half(w, t->dtype[0] == 'B');
            if (size == 4)
                memcpy(at, &w, 4);
            else if (size == 2)
                memcpy(at, &half, 2);
        }
    }
    hf_write(dir, file, data, 8 + length + offset);
    free(data);
}

/* ---- a tiny BERT: width 64, 2 layers, 2 heads, 32 tokens, 16 positions ---- */

#define HF_BERT_CONFIG                                                                                                        \
    "{\"architectures\":[\"BertModel\"],\"model_type\":\"bert\",\"hidden_act\":\"gelu\",\"hidden_size\":64,"                   \
    "\"intermediate_size\":96,\"layer_norm_eps\":1e-12,\"max_position_embeddings\":16,\"num_attention_heads\":2,"              \
    "\"num_hidden_layers\":2,\"position_embedding_type\":\"absolute\",\"type_vocab_size\":2,\"vocab_size\":32}"

static inline void hf_bert_tensors(hf_model *m, const char *prefix, const char *dtype)
{
    static const struct { const char *name; uint32_t rows, cols; } whole[] = {
        {"embeddings.word_embeddings.weight", 32, 64}, {"embeddings.position_embeddings.weight", 16, 64},
        {"embeddings.token_type_embeddings.weight", 2, 64}, {"embeddings.LayerNorm.weight", 64, 0}, {"embeddings.LayerNorm.bias", 64, 0}};
    static const struct { const char *name; uint32_t rows, cols; } layer[] = {
        {"attention.self.query", 64, 64}, {"attention.self.key", 64, 64}, {"attention.self.value", 64, 64},
        {"attention.output.dense", 64, 64}, {"attention.output.LayerNorm", 64, 0}, {"intermediate.dense", 96, 64},
        {"output.dense", 64, 96}, {"output.LayerNorm", 64, 0}};
    char name[160];
    m->n = 0;
    snprintf(name, sizeof name, "%sembeddings.position_ids", prefix);
    hf_add(m, name, "I64", 1, 16);
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++) {
        snprintf(name, sizeof name, "%s%s", prefix, whole[i].name);
        hf_add(m, name, dtype, whole[i].rows, whole[i].cols);
    }
    for (unsigned l = 0; l < 2; l++)
        for (size_t i = 0; i < sizeof layer / sizeof layer[0]; i++) {
            snprintf(name, sizeof name, "%sencoder.layer.%u.%s.weight", prefix, l, layer[i].name);
            hf_add(m, name, dtype, layer[i].rows, layer[i].cols);
            snprintf(name, sizeof name, "%sencoder.layer.%u.%s.bias", prefix, l, layer[i].name);
            hf_add(m, name, dtype, layer[i].rows, 0);
        }
}

static inline void hf_bert_vocab(const char *dir)
{
    hf_text(dir, "vocab.txt",
            "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\ncat\nsat\non\nmat\n##s\n##ing\n"
            "a\nb\nc\nd\ne\n##a\n##b\n##c\n##d\n##e\n.\n,\n!\n?\ndog\nran\n");
}

static inline void hf_bert(const char *dir)
{
    hf_model m;
    hf_text(dir, "config.json", HF_BERT_CONFIG);
    hf_bert_vocab(dir);
    hf_bert_tensors(&m, "", "F32");
    hf_safetensors(dir, "model.safetensors", &m, 0, m.n);
}

/* ---- a tiny Llama: width 64, 2 layers, 4 heads over 2, 40 tokens ---- */

#define HF_LLAMA_CONFIG                                                                                                          \
    "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_act\":\"silu\",\"hidden_size\":64,"              \
    "\"intermediate_size\":96,\"rms_norm_eps\":1e-5,\"max_position_embeddings\":128,\"num_attention_heads\":4,"                  \
    "\"num_key_value_heads\":2,\"num_hidden_layers\":2,\"rope_theta\":10000.0,\"tie_word_embeddings\":true,\"vocab_size\":40}"

static inline void hf_llama_tensors(hf_model *m, const char *dtype)
{
    static const struct { const char *name; uint32_t rows, cols; } layer[] = {
        {"input_layernorm", 64, 0}, {"self_attn.q_proj", 64, 64}, {"self_attn.k_proj", 32, 64}, {"self_attn.v_proj", 32, 64},
        {"self_attn.o_proj", 64, 64}, {"post_attention_layernorm", 64, 0}, {"mlp.gate_proj", 96, 64}, {"mlp.up_proj", 96, 64},
        {"mlp.down_proj", 64, 96}};
    char name[160];
    m->n = 0;
    hf_add(m, "model.embed_tokens.weight", dtype, 40, 64);
    for (unsigned l = 0; l < 2; l++)
        for (size_t i = 0; i < sizeof layer / sizeof layer[0]; i++) {
            snprintf(name, sizeof name, "model.layers.%u.%s.weight", l, layer[i].name);
            hf_add(m, name, dtype, layer[i].rows, layer[i].cols);
        }
    hf_add(m, "model.norm.weight", dtype, 64, 0);
}

#endif
