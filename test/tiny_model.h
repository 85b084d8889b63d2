/*
 * A tiny random llama with a vocabulary of bytes, made on the spot: what tests of sessions run on when no real model is there.
 *
 * 2 layers, width 64, 4 heads over 2 key-value heads, 512 positions, 256 byte tokens and three control tokens, ChatML.  The weights
 * are a fixed function of their place, so every run and every machine has the same model.
 */
#ifndef SLM_TINY_MODEL_H
#define SLM_TINY_MODEL_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/rng.h"
#include "engine/image/image.h"
#include "engine/arch/family.h"
#include "engine/slm.h"
#include "engine/text/tokenizer.h"

#define TINY_VOCAB 259
#define TINY_CONTEXT 512

/* Writes the byte-level BPE's character for a byte (GPT-2's published mapping); returns its length. */
static inline size_t tiny_byte_char(int byte, char out[3])
{
    int n = 0, code = byte;

    if (!((byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174)) {
        for (int b = 0; b < byte; b++)
            n += !((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174);
        code = 256 + n;
    }
    if (code < 128) {
        out[0] = (char) code;
        return 1;
    }
    out[0] = (char) (0xc0 | code >> 6);
    out[1] = (char) (0x80 | (code & 63));
    return 2;
}

static inline slm_status tiny_tokenizer(void **blob, size_t *bytes, slm_error *err)
{
    static char text[256][3];
    static slm_bytes tokens[TINY_VOCAB];
    static int32_t types[TINY_VOCAB];
    slm_vocab v = {.kind = SLM_TOK_BPE, .pre = "gpt-2", .tokens = tokens, .types = types, .n_tokens = TINY_VOCAB, .bos = 256, .eos = 258,
                   .eot = 258, .unk = -1, .sep = -1, .pad = -1, .cls = -1, .mask = -1};

    for (int i = 0; i < 256; i++) {
        tokens[i] = (slm_bytes){text[i], tiny_byte_char(i, text[i])};
        types[i] = SLM_TOKEN_NORMAL;
    }
    tokens[256] = (slm_bytes){"<|endoftext|>", 13};
    tokens[257] = (slm_bytes){"<|im_start|>", 12};
    tokens[258] = (slm_bytes){"<|im_end|>", 10};
    types[256] = types[257] = types[258] = SLM_TOKEN_CONTROL;
    return slm_tokenizer_build(&v, "chatml", blob, bytes, err);
}

static inline float tiny_value(const slm_source_tensor *t, uint32_t row, uint32_t col)
{
    double u = slm_rng_uniform((uint64_t) t->role * 1000 + t->layer, (uint64_t) row * 100003 + col) - 0.5;

    if (t->cols == 0)
        return (float) (1.0 + 0.2 * u);
    return (float) (u * (t->role == SLM_TENSOR_TOKEN_EMBD ? 2.0 : 0.7));
}

static inline void tiny_rows(slm_source *source, const slm_source_tensor *t, uint32_t row, uint32_t n_rows, void *out, slm_status *status,
                             slm_error *err)
{
    float *p = out;

    (void) source;
    (void) err;
    for (uint32_t r = row; r < row + n_rows; r++)
        for (uint32_t c = 0; c < (t->cols == 0 ? 1 : t->cols); c++)
            *p++ = tiny_value(t, r, c);
    *status = SLM_OK;
}

static inline void tiny_close(slm_source *source)
{
    free(source->tokenizer);
}

/* The model with matrices of one type ("F32", "Q8_0", "Q4_0", ...), a context, and a sliding window in its first layer (0: none);
 * NULL and a message when it cannot be made. */
static inline slm_model *tiny_model_of(const char *type, uint32_t context, uint32_t window)
{
    static const slm_tensor_role per_layer[] = {SLM_TENSOR_ATTN_NORM, SLM_TENSOR_ATTN_Q,   SLM_TENSOR_ATTN_K,
                                                SLM_TENSOR_ATTN_V,    SLM_TENSOR_ATTN_OUT, SLM_TENSOR_FFN_NORM,
                                                SLM_TENSOR_FFN_GATE,  SLM_TENSOR_FFN_UP,   SLM_TENSOR_FFN_DOWN};
    slm_source_tensor tensors[2 + 2 * 9] = {{.role = SLM_TENSOR_TOKEN_EMBD}, {.role = SLM_TENSOR_OUTPUT_NORM}};
    slm_source s = {.tensors = tensors, .read_rows = tiny_rows, .close = tiny_close};
    slm_import_options options = {.quantization = type};
    slm_error err = {0};
    slm_model *model = NULL;
    char path[] = "/tmp/slm_tiny_XXXXXX";
    int fd = mkstemp(path);

    if (fd >= 0)
        close(fd);
    unlink(path);
    s.hparams = (slm_hparams){.family = "llama", .n_vocab = TINY_VOCAB, .n_context = context, .n_embd = 64, .n_layers = 2, .n_ff = 96,
                              .n_heads = 4, .n_kv_heads = 2, .head_dim = 16, .n_rot = 16, .rope_interleaved = 1, .causal = 1,
                              .tied_head = 1, .n_ctx_original = context, .window = window, .window_pattern = 2,
                              .norm_eps = 1e-5f, .rope_base = 10000.0f, .rope_base_local = 10000.0f, .rope_scale = 1,
                              .rope_attn_factor = 1, .attn_scale = 0.25f, .embed_scale = 1,
                              .residual_scale = 1, .logit_scale = 1};
    s.info = (slm_model_info){.family = "llama", .name = "tiny", .chat_format = "chatml", .tokenizer = "gpt-2"};
    s.n_tensors = 2;
    for (uint32_t layer = 0; layer < 2; layer++)
        for (size_t i = 0; i < 9; i++)
            tensors[s.n_tensors++] = (slm_source_tensor){.role = per_layer[i], .layer = layer};
    for (size_t i = 0; i < s.n_tensors; i++) {
        slm_role_shape(&s.hparams, tensors[i].role, tensors[i].layer, &tensors[i].rows, &tensors[i].cols);
        tensors[i].type = SLM_TYPE_F32;
    }
    if (tiny_tokenizer(&s.tokenizer, &s.tokenizer_bytes, &err) != SLM_OK ||
        slm_image_write(&s, path, &options, NULL, NULL, NULL, &err) != SLM_OK || slm_model_open(path, &model, &err) != SLM_OK)
        fprintf(stderr, "tiny model: %s\n", err.message);
    tiny_close(&s);
    unlink(path);
    return model;
}

static inline slm_model *tiny_model(const char *type)
{
    return tiny_model_of(type, TINY_CONTEXT, 0);
}

/* Computes until no request is left; false: an error, told. */
static inline bool tiny_drain(slm_session *s)
{
    size_t active = 1;
    slm_error err = {0};
    while (active > 0)
        if (slm_step(s, &active, &err) != SLM_OK) {
            fprintf(stderr, "step: %s\n", err.message);
            return false;
        }
    return true;
}

#endif
