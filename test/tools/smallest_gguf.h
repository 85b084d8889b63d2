/*
 * The smallest complete model: a one-layer llama of width 32 with 40 tokens, about 7 KB as a GGUF file, every part of which can
 * be falsified.
 *
 * tiny_default fills the fields with a valid model, a test changes some, tiny_write makes the file's bytes.
 */
#ifndef SMALLEST_GGUF_H
#define SMALLEST_GGUF_H

#include <stdbool.h>

#include "tools/gguf_writer.h"

#define TINY_TENSORS 12
#define TINY_VOCAB 40

typedef struct tiny_tensor {
    const char *name;
    uint32_t n_dims;
    uint64_t dims[4];
    uint32_t type;
    uint64_t offset, bytes; /* offset from the data, where the header says it; the data lie one after the other whatever it says */
} tiny_tensor;

typedef struct tiny {
    uint32_t version, alignment;
    uint64_t n_tensors, n_kv; /* as the header says */
    const char *architecture, *tokenizer, *pre;
    uint32_t block_count, context, embd, ff, heads, kv_heads, rot, vocab_size, bos, eos;
    float eps, rope_base;
    uint32_t tokens_type, scores_type, types_type; /* element types of arrays; scores_type 0: no such array */
    uint64_t n_tokens, n_types;
    int32_t type_of_7;      /* token type of token 7 */
    const char *token_7, *merge_0;
    bool no_merges;
    gw extra;               /* more keys, raw */
    uint32_t n_extra;
    tiny_tensor tensors[TINY_TENSORS];
    uint64_t written_tensors;
} tiny;

static inline void tiny_place(tiny *t)
{
    uint64_t offset = 0;
    for (size_t i = 0; i < TINY_TENSORS; i++) {
        tiny_tensor *x = &t->tensors[i];
        uint64_t n = x->dims[0] * x->dims[1];
        x->bytes = x->type == 0 ? 4 * n : x->type == 1 ? 2 * n : n / 32 * 18;
        x->offset = offset;
        offset += (x->bytes + 31) & ~(uint64_t) 31;
    }
}

static inline void tiny_default(tiny *t)
{
    static const struct { const char *name; uint32_t n_dims, cols, rows, type; } list[TINY_TENSORS] = {
        {"token_embd.weight", 2, 32, TINY_VOCAB, 2}, {"blk.0.attn_norm.weight", 1, 32, 1, 0},   {"blk.0.attn_q.weight", 2, 32, 32, 2},
        {"blk.0.attn_k.weight", 2, 32, 16, 2},       {"blk.0.attn_v.weight", 2, 32, 16, 1},     {"blk.0.attn_output.weight", 2, 32, 32, 2},
        {"blk.0.ffn_norm.weight", 1, 32, 1, 0},      {"blk.0.ffn_gate.weight", 2, 32, 32, 2},   {"blk.0.ffn_up.weight", 2, 32, 32, 2},
        {"blk.0.ffn_down.weight", 2, 32, 32, 2},     {"output_norm.weight", 1, 32, 1, 0},       {"rope_freqs.weight", 1, 4, 1, 0}};
    memset(t, 0, sizeof *t);
    t->version = 3;
    t->alignment = 32;
    t->n_tensors = t->written_tensors = TINY_TENSORS;
    t->architecture = "llama";
    t->tokenizer = "gpt2";
    t->pre = "gpt-2";
    t->block_count = 1;
    t->context = 64;
    t->embd = t->ff = 32;
    t->heads = 4;
    t->kv_heads = 2;
    t->rot = 8;
    t->vocab_size = TINY_VOCAB;
    t->eps = 1e-5f;
    t->rope_base = 10000;
    t->bos = 0;
    t->eos = 1;
    t->tokens_type = 8;
    t->types_type = 5;
    t->n_tokens = t->n_types = TINY_VOCAB;
    t->type_of_7 = 1;
    t->token_7 = "e";
    t->merge_0 = "a b";
    t->n_kv = 22;
    for (size_t i = 0; i < TINY_TENSORS; i++)
        t->tensors[i] = (tiny_tensor){.name = list[i].name, .n_dims = list[i].n_dims, .dims = {list[i].cols, list[i].rows, 1, 1},
                                       .type = list[i].type};
    tiny_place(t);
}

/* <s> </s> space a..z, then merged pairs: ab bc cd ... */
static inline void tiny_vocabulary(const tiny *t, gw *w)
{
    char text[8] = "";
    gw_kv_string(w, "tokenizer.ggml.model", t->tokenizer);
    if (t->pre != NULL) /* n_kv counts it */
        gw_kv_string(w, "tokenizer.ggml.pre", t->pre);
    gw_kv_array(w, "tokenizer.ggml.tokens", t->tokens_type, t->n_tokens);
    for (unsigned i = 0; i < TINY_VOCAB; i++) {
        text[0] = (char) ('a' + (i < 29 ? i - 3 : i - 29));
        text[1] = i < 29 ? '\0' : (char) (text[0] + 1);
        gw_string(w, i == 0 ? "<s>" : i == 1 ? "</s>" : i == 2 ? "\xC4\xA0" : i == 7 ? t->token_7 : text);
    }
    gw_kv_array(w, "tokenizer.ggml.token_type", t->types_type, t->n_types);
    for (unsigned i = 0; i < TINY_VOCAB; i++)
        gw_u32(w, i < 2 ? 3 : i == 7 ? (uint32_t) t->type_of_7 : 1);
    gw_kv_array(w, t->no_merges ? "tokenizer.ggml.nothing" : "tokenizer.ggml.merges", 8, TINY_VOCAB - 29);
    for (unsigned i = 29; i < TINY_VOCAB; i++) {
        char pair[8] = {(char) ('a' + i - 29), ' ', (char) ('a' + i - 28), '\0'};
        gw_string(w, i == 29 ? t->merge_0 : pair);
    }
    gw_kv_u32(w, "tokenizer.ggml.bos_token_id", t->bos);
    gw_kv_u32(w, "tokenizer.ggml.eos_token_id", t->eos);
}

/* Small numbers that differ from row to row; F16 and F32 finite, Q4_0 scales near 0.02. */
static inline void tiny_data(const tiny *t, gw *w)
{
    uint32_t rng = 12345;
    for (size_t i = 0; i < TINY_TENSORS; i++) {
        const tiny_tensor *x = &t->tensors[i];
        size_t begin = w->n;
        for (uint64_t k = 0; k < x->bytes && k < 65536; k++) {
            rng = rng * 1664525u + 1013904223u;
            gw_u8(w, (uint8_t) (rng >> 24));
        }
        unsigned char *p = w->bytes + begin;
        for (size_t k = 0; x->type == 0 && k + 4 <= w->n - begin; k += 4)
            memcpy(p + k, &(float){1.0f + 0.001f * (float) (k % 64)}, 4);
        for (size_t k = 0; x->type == 1 && k + 2 <= w->n - begin; k += 2)
            p[k + 1] = (unsigned char) (0x2C | (p[k + 1] & 0x83));
        for (size_t k = 0; x->type == 2 && k + 18 <= w->n - begin; k += 18)
            p[k + 1] = 0x28;
        gw_align(w, 32);
    }
}

static inline void tiny_write(const tiny *t, gw *w)
{
    char key[64];
    const struct { const char *key; uint32_t value; } numbers[] = {
        {"block_count", t->block_count}, {"context_length", t->context}, {"embedding_length", t->embd}, {"feed_forward_length", t->ff},
        {"attention.head_count", t->heads}, {"attention.head_count_kv", t->kv_heads}, {"rope.dimension_count", t->rot},
        {"vocab_size", t->vocab_size}};
    gw_begin(w, t->version, t->n_tensors, t->n_kv + t->n_extra);
    gw_kv_string(w, "general.architecture", t->architecture);
    gw_kv_string(w, "general.name", "tiny");
    gw_kv_u32(w, "general.alignment", t->alignment);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        snprintf(key, sizeof key, "llama.%s", numbers[i].key);
        gw_kv_u32(w, key, numbers[i].value);
    }
    gw_kv_f32(w, "llama.rope.freq_base", t->rope_base);
    gw_kv_f32(w, "llama.attention.layer_norm_rms_epsilon", t->eps);
    gw_kv_bool(w, "tokenizer.ggml.add_bos_token", 1);
    gw_kv_string(w, "tokenizer.chat_template", "<|im_start|>");
    tiny_vocabulary(t, w);
    gw_raw(w, t->extra.bytes, t->extra.n);
    for (size_t i = 0; i < t->written_tensors; i++) {
        gw_string(w, t->tensors[i].name);
        gw_u32(w, t->tensors[i].n_dims);
        for (uint32_t d = 0; d < t->tensors[i].n_dims && d < 4; d++)
            gw_u64(w, t->tensors[i].dims[d]);
        gw_u32(w, t->tensors[i].type);
        gw_u64(w, t->tensors[i].offset);
    }
    gw_align(w, 32);
    tiny_data(t, w);
}

#endif
