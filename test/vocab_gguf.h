/*
 * The vocabulary of a trusted GGUF file, for tests: walks the key-value pairs and keeps what a tokenizer is built from.
 *
 * Strings point into the file's bytes, which live as long as the vocab_file.
 */
#ifndef SLM_TEST_VOCAB_GGUF_H
#define SLM_TEST_VOCAB_GGUF_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/text/tokenizer.h"

typedef struct vocab_file {
    char *data;
    size_t n, at;
    slm_vocab vocab;
    char *chat_template;
} vocab_file;

static uint64_t vocab_number(vocab_file *f, size_t bytes)
{
    uint64_t value = 0;
    if (bytes <= f->n - f->at)
        memcpy(&value, f->data + f->at, bytes);
    f->at += bytes;
    return value;
}

static slm_bytes vocab_string(vocab_file *f)
{
    size_t n = vocab_number(f, 8);
    slm_bytes s = {f->data + f->at, n};
    f->at += n;
    return s;
}

static size_t vocab_type_bytes(uint32_t type)
{
    static const size_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < 13 ? bytes[type] : 0;
}

static void vocab_array(vocab_file *f, const char *name)
{
    uint32_t type = (uint32_t) vocab_number(f, 4);
    size_t n = vocab_number(f, 8);
    if (type == 8) {
        slm_bytes *strings = calloc(n + 1, sizeof *strings);
        for (size_t i = 0; i < n; i++)
            strings[i] = vocab_string(f);
        if (strcmp(name, "tokenizer.ggml.tokens") == 0) {
            f->vocab.tokens = strings;
            f->vocab.n_tokens = n;
        } else if (strcmp(name, "tokenizer.ggml.merges") == 0) {
            f->vocab.merges = strings;
            f->vocab.n_merges = n;
        } else {
            free(strings);
        }
        return;
    }
    void *copy = malloc(n * vocab_type_bytes(type) + 1);
    memcpy(copy, f->data + f->at, n * vocab_type_bytes(type));
    f->at += n * vocab_type_bytes(type);
    if (strcmp(name, "tokenizer.ggml.scores") == 0)
        f->vocab.scores = copy;
    else if (strcmp(name, "tokenizer.ggml.token_type") == 0)
        f->vocab.types = copy;
    else
        free(copy);
}

static void vocab_pair(vocab_file *f)
{
    static const char *const ids[] = {"bos", "eos", "eot", "unknown", "seperator", "padding", "cls", "mask"};
    int32_t *const slots[] = {&f->vocab.bos, &f->vocab.eos, &f->vocab.eot, &f->vocab.unk, &f->vocab.sep, &f->vocab.pad, &f->vocab.cls,
        &f->vocab.mask};
    slm_bytes key = vocab_string(f);
    char name[200], want[200];
    snprintf(name, sizeof name, "%.*s", (int) key.length, key.data);
    uint32_t type = (uint32_t) vocab_number(f, 4);
    if (type == 9) {
        vocab_array(f, name);
    } else if (type == 8) {
        slm_bytes s = vocab_string(f);
        if (strcmp(name, "tokenizer.ggml.model") == 0)
            f->vocab.kind = s.length == 4 && memcmp(s.data, "gpt2", 4) == 0    ? SLM_TOK_BPE
                            : s.length == 4 && memcmp(s.data, "bert", 4) == 0 ? SLM_TOK_WORDPIECE
                                                                               : SLM_TOK_SPM;
        if (strcmp(name, "tokenizer.ggml.pre") == 0)
            snprintf(f->vocab.pre, sizeof f->vocab.pre, "%.*s", (int) s.length, s.data);
        if (strcmp(name, "tokenizer.chat_template") == 0)
            f->vocab.chat_template = f->chat_template = strndup(s.data, s.length);
    } else {
        uint64_t value = vocab_number(f, vocab_type_bytes(type));
        for (size_t i = 0; i < 8; i++) {
            snprintf(want, sizeof want, "tokenizer.ggml.%s_token_id", ids[i]);
            if (strcmp(name, want) == 0)
                *slots[i] = (int32_t) value;
        }
        if (strcmp(name, "tokenizer.ggml.add_bos_token") == 0)
            f->vocab.add_bos = value != 0;
        if (strcmp(name, "tokenizer.ggml.add_space_prefix") == 0)
            f->vocab.add_space_prefix = value != 0;
    }
}

/* false when the file is not there. */
static int vocab_read(const char *path, vocab_file *f)
{
    memset(f, 0, sizeof *f);
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return 0;
    size_t capacity = 16u << 20; /* vocabularies come before the weights */
    f->data = malloc(capacity);
    f->n = fread(f->data, 1, capacity, file);
    fclose(file);
    slm_vocab *v = &f->vocab;
    v->bos = v->eos = v->eot = v->unk = v->sep = v->pad = v->cls = v->mask = -1;
    f->at = 8 + 8;
    uint64_t pairs = vocab_number(f, 8);
    v->add_space_prefix = 1;
    for (uint64_t i = 0; i < pairs; i++)
        vocab_pair(f);
    v->add_space_prefix = v->add_space_prefix && v->kind == SLM_TOK_SPM;
    v->lowercase = v->strip_accents = v->kind == SLM_TOK_WORDPIECE;
    return 1;
}

static void vocab_free(vocab_file *f)
{
    free((void *) f->vocab.tokens);
    free((void *) f->vocab.merges);
    free((void *) f->vocab.scores);
    free((void *) f->vocab.types);
    free(f->chat_template);
    free(f->data);
    memset(f, 0, sizeof *f);
}

#endif
