/*
 * make_model OUT SHAPE TYPE: a GGUF file with random weights at the full shape of a well-known model, for benchmarks and for
 * imports of full size.
 *
 * Weights repeat from a pool of random blocks per type (scales chosen so that a weight's spread is about 1 / sqrt(n_embd)), so
 * that writing runs at the disk's speed; norms are 1.  The vocabulary has the right size and kind: bytes, letters, then all
 * strings of two, three ... letters with the merges or scores that build them, and the control tokens of the model's chat
 * format.  Answers are nonsense at true cost.
 */
#include <math.h>
#include <stdbool.h>

#include "engine/base/math.h"
#include "engine/kernels/types.h"
#include "tools/gguf_writer.h"
#include "tools/type_mix.h"

typedef struct shape {
    const char *name, *family, *chat_template;
    uint32_t layers, embd, ff, heads, kv_heads, head_dim, vocab, context;
    float rope_base;
    bool tied, spm;
    uint32_t window;
    const char *control[12]; /* bos, eos first */
} shape;

static const shape shapes[] = {
    {"tiny",
     "llama",
     "<|im_start|>",
     2,
     64,
     128,
     4,
     2,
     16,
     1024,
     2048,
     10000,
     false,
     false,
     0,
     {"<|im_start|>", "<|im_end|>", "<|endoftext|>"}}, /* tests of SQL */
    {"smollm2-135m",
     "llama",
     "<|im_start|>",
     30,
     576,
     1536,
     9,
     3,
     64,
     49152,
     8192,
     100000,
     true,
     false,
     0,
     {"<|im_start|>", "<|im_end|>", "<|endoftext|>"}},
    {"llama-3.2-1b",
     "llama",
     "<|start_header_id|>",
     16,
     2048,
     8192,
     32,
     8,
     64,
     128256,
     131072,
     500000,
     true,
     false,
     0,
     {"<|begin_of_text|>", "<|eot_id|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"}},
    {"llama-3.2-3b",
     "llama",
     "<|start_header_id|>",
     28,
     3072,
     8192,
     24,
     8,
     128,
     128256,
     131072,
     500000,
     true,
     false,
     0,
     {"<|begin_of_text|>", "<|eot_id|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"}},
    {"phi-3.5-mini",
     "phi3",
     "<|user|>\n<|end|>\n<|assistant|>\n",
     32,
     3072,
     8192,
     32,
     32,
     96,
     32064,
     131072,
     10000,
     false,
     true,
     0,
     {"<s>", "<|endoftext|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"}},
    {"mistral-7b",
     "llama",
     "[INST] [/INST]",
     32,
     4096,
     14336,
     32,
     8,
     128,
     32768,
     32768,
     1000000,
     false,
     true,
     0,
     {"<s>", "</s>", "[INST]", "[/INST]"}},
    {"gemma-2-2b",
     "gemma2",
     "<start_of_turn>",
     26,
     2304,
     9216,
     8,
     4,
     256,
     256000,
     8192,
     10000,
     true,
     true,
     4096,
     {"<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<pad>"}},
    {"gemma-3-270m",
     "gemma3",
     "<start_of_turn>",
     18,
     640,
     2048,
     4,
     1,
     256,
     262144,
     32768,
     1000000,
     true,
     true,
     512,
     {"<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<pad>"}}, /* a head of more weights than all layers */
};

/* ------------------------------------------------------------------ random numbers and blocks */

static uint64_t rng = 0x9E3779B97F4A7C15u;

static uint32_t random_u32(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (uint32_t) (rng >> 32);
}

static void put_f16(unsigned char *at, float x)
{
    uint16_t h = slm_f32_to_f16(x);
    memcpy(at, &h, 2);
}

/* One random block whose weights spread by about sigma. */
static void random_block(slm_type type, float sigma, unsigned char *out)
{
    const slm_type_info *info = slm_type_get(type);
    for (uint32_t i = 0; i < info->block_bytes; i++)
        out[i] = (unsigned char) random_u32();
    float wave = sigma * (0.8f + 0.4f * (float) (random_u32() % 1000) / 1000);
    switch (type) {
    case SLM_TYPE_Q4_0: put_f16(out, wave / 4.6f); break;
    case SLM_TYPE_Q8_0: put_f16(out, wave / 74); break;
    case SLM_TYPE_Q4_1: put_f16(out, wave / 4.6f), put_f16(out + 2, -7.5f * wave / 4.6f); break;
    case SLM_TYPE_Q5_0: put_f16(out, wave / 9.2f); break;
    case SLM_TYPE_Q5_1: put_f16(out, wave / 9.2f), put_f16(out + 2, -15.5f * wave / 9.2f); break;
    case SLM_TYPE_Q4_K: case SLM_TYPE_Q5_K: { /* scales and minima equal: weights scale * (level - 7.5 or 15.5) */
        float levels = type == SLM_TYPE_Q4_K ? 4.6f : 9.2f;
        put_f16(out, wave / levels / 40);
        put_f16(out + 2, wave / levels / 40 * (type == SLM_TYPE_Q4_K ? 7.5f : 15.5f));
        for (int i = 0; i < 4; i++) {
            out[4 + i] = out[8 + i] = (unsigned char) (0x80 | (32 + random_u32() % 16));
            unsigned low = random_u32() % 16;
            out[12 + i] = (unsigned char) (low | low << 4); /* with the two high bits above: 32..47 */
        }
        break;
    }
    case SLM_TYPE_Q6_K:
        put_f16(out + 208, wave / 18.5f / 64);
        for (int i = 0; i < 16; i++)
            out[192 + i] = (unsigned char) (48 + random_u32() % 32);
        break;
    default: /* floats */
        for (uint32_t i = 0; i < info->block_weights; i++) {
            float x = wave * ((float) (random_u32() % 2001) / 1000 - 1) * 1.7f;
            uint16_t h = type == SLM_TYPE_F16 ? slm_f32_to_f16(x) : slm_f32_to_bf16(x);
            memcpy(out + i * info->block_bytes, type == SLM_TYPE_F32 ? (void *) &x : (void *) &h, info->block_bytes);
        }
    }
}

/* `bytes` of blocks, from a pool of about 4 MiB that is entered at another block each time. */
static int write_blocks(FILE *f, slm_type type, float sigma, uint64_t bytes)
{
    static unsigned char *pools[SLM_TYPE_COUNT];
    uint32_t block = slm_type_get(type)->block_bytes;
    uint64_t pool_bytes = (4u << 20) / block * (uint64_t) block;
    if (pools[type] == NULL) {
        pools[type] = malloc(pool_bytes);
        if (pools[type] == NULL)
            return -1;
        for (uint64_t at = 0; at < pool_bytes; at += block)
            random_block(type, sigma, pools[type] + at);
    }
    uint64_t at = random_u32() % (pool_bytes / block) * block;
    while (bytes > 0) {
        uint64_t n = pool_bytes - at < bytes ? pool_bytes - at : bytes;
        if (fwrite(pools[type] + at, 1, n, f) != n)
            return -1;
        bytes -= n;
        at = 0;
    }
    return 0;
}

/* ------------------------------------------------------------------ vocabulary */

/* The i-th string over a..z: a, b, ..., z, aa, ab, ...; length in *n. */
static void letters(uint32_t i, char *out, size_t *n)
{
    uint32_t length = 1, count = 26;
    while (i >= count) {
        i -= count;
        count *= 26;
        length++;
    }
    for (uint32_t k = length; k-- > 0; i /= 26)
        out[k] = (char) ('a' + i % 26);
    out[length] = '\0';
    *n = length;
}

/* Byte-level BPE writes bytes as printable characters (GPT-2's table). */
static size_t byte_text(unsigned byte, char *out)
{
    unsigned code = byte;
    bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    if (!printable) {
        code = 256;
        for (unsigned b = 0; b < byte; b++)
            code += !((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174);
    }
    if (code < 128) {
        out[0] = (char) code;
        return 1;
    }
    out[0] = (char) (0xC0 | code >> 6);
    out[1] = (char) (0x80 | (code & 63));
    return 2;
}

static uint32_t n_control(const shape *s)
{
    uint32_t n = 0;
    while (n < 12 && s->control[n] != NULL)
        n++;
    return n;
}

/* 256 bytes, words of letters with and without a space before, control tokens at the end. A word comes of its front and its
 * last letter. */
static void put_bpe(gw *w, const shape *s)
{
    uint32_t control = n_control(s), words = s->vocab - 256 - control, merges = 0;
    char text[32];
    size_t n;
    gw tokens = {0}, pairs = {0};
    for (unsigned b = 0; b < 256; b++)
        gw_string_n(&tokens, text, byte_text(b, text));
    for (uint32_t i = 0; i < words; i++) {
        char token[40], pair[48];
        bool space = i % 2 == 0; /* pairs (" a", then "aa") so that each front has been made before */
        letters(i / 2 + (space ? 0 : 26), text, &n);
        snprintf(token, sizeof token, "%s%s", space ? "\xC4\xA0" : "", text);
        if (space && n == 1)
            snprintf(pair, sizeof pair, "\xC4\xA0 %s", text);
        else
            snprintf(pair, sizeof pair, "%s%.*s %s", space ? "\xC4\xA0" : "", (int) n - 1, text, text + n - 1);
        gw_string(&tokens, token);
        gw_string(&pairs, pair);
        merges++;
    }
    gw_kv_string(w, "tokenizer.ggml.model", "gpt2");
    gw_kv_string(w, "tokenizer.ggml.pre", strcmp(s->name, "smollm2-135m") == 0 ? "smollm" : "llama-bpe");
    gw_kv_array(w, "tokenizer.ggml.tokens", 8, s->vocab);
    gw_raw(w, tokens.bytes, tokens.n);
    for (uint32_t i = 0; i < control; i++)
        gw_string(w, s->control[i]);
    gw_kv_array(w, "tokenizer.ggml.token_type", 5, s->vocab);
    for (uint32_t i = 0; i < s->vocab; i++)
        gw_u32(w, i < s->vocab - control ? 1 : 3);
    gw_kv_array(w, "tokenizer.ggml.merges", 8, merges);
    gw_raw(w, pairs.bytes, pairs.n);
    gw_kv_u32(w, "tokenizer.ggml.bos_token_id", s->vocab - control);
    gw_kv_u32(w, "tokenizer.ggml.eos_token_id", s->vocab - control + 1);
    gw_free(&tokens);
    gw_free(&pairs);
}

/* <unk>, control tokens, 256 byte tokens, printable ASCII, then words by falling score. */
static void put_spm(gw *w, const shape *s)
{
    uint32_t control = n_control(s), first_word = 1 + control + 256 + 96;
    char text[40];
    size_t n;
    gw_kv_string(w, "tokenizer.ggml.model", "llama");
    gw_kv_array(w, "tokenizer.ggml.tokens", 8, s->vocab);
    gw_string(w, "<unk>");
    for (uint32_t i = 0; i < control; i++)
        gw_string(w, s->control[i]);
    for (unsigned b = 0; b < 256; b++) {
        snprintf(text, sizeof text, "<0x%02X>", b);
        gw_string(w, text);
    }
    gw_string(w, "\xE2\x96\x81");
    for (unsigned c = 32; c < 127; c++) {
        text[0] = (char) c;
        gw_string_n(w, c == 32 ? "\xE2\x96\x81\xE2\x96\x81" : text, c == 32 ? 6 : 1);
    }
    for (uint32_t i = 0; i < s->vocab - first_word; i++) {
        char word[32];
        letters(i / 2 + (i % 2 ? 26 : 0), word, &n);
        snprintf(text, sizeof text, "%s%s", i % 2 ? "" : "\xE2\x96\x81", word);
        gw_string(w, text);
    }
    gw_kv_array(w, "tokenizer.ggml.scores", 6, s->vocab);
    for (uint32_t i = 0; i < s->vocab; i++)
        gw_f32(w, i < first_word ? 0 : -(float) (i - first_word) - 1);
    gw_kv_array(w, "tokenizer.ggml.token_type", 5, s->vocab);
    for (uint32_t i = 0; i < s->vocab; i++)
        gw_u32(w, i == 0 ? 2 : i <= control ? 3 : i <= control + 256 ? 6 : 1);
    gw_kv_u32(w, "tokenizer.ggml.bos_token_id", 1);
    gw_kv_u32(w, "tokenizer.ggml.eos_token_id", 2);
    gw_kv_u32(w, "tokenizer.ggml.unknown_token_id", 0);
}

/* ------------------------------------------------------------------ tensors */

typedef struct tensor {
    char name[64];
    uint32_t cols, rows; /* rows 0: a vector of ones */
    slm_type type;
    uint64_t bytes, offset;
} tensor;

typedef struct plan {
    const shape *s;
    type_mix mix;
    tensor *tensors;
    uint32_t n;
    uint64_t offset;
} plan;

static void add(plan *p, int layer, const char *name, uint32_t cols, uint32_t rows)
{
    tensor *t = &p->tensors[p->n++];
    if (layer >= 0)
        snprintf(t->name, sizeof t->name, "blk.%d.%s.weight", layer, name);
    else
        snprintf(t->name, sizeof t->name, "%s.weight", name);
    t->cols = cols;
    t->rows = rows;
    t->type = rows ? mix_choose(&p->mix, t->name, cols, p->s->layers, p->s->tied) : SLM_TYPE_F32;
    t->bytes = (uint64_t) cols / slm_type_get(t->type)->block_weights * slm_type_get(t->type)->block_bytes * (rows ? rows : 1);
    t->offset = p->offset;
    p->offset += (t->bytes + 31) & ~(uint64_t) 31;
}

static void add_layer(plan *p, int i)
{
    const shape *s = p->s;
    uint32_t q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
    bool phi = strcmp(s->family, "phi3") == 0, gemma3 = strcmp(s->family, "gemma3") == 0;
    bool four_norms = gemma3 || strcmp(s->family, "gemma2") == 0;
    add(p, i, "attn_norm", s->embd, 0);
    if (phi) {
        add(p, i, "attn_qkv", s->embd, q + 2 * kv);
    } else {
        add(p, i, "attn_q", s->embd, q);
        add(p, i, "attn_k", s->embd, kv);
        add(p, i, "attn_v", s->embd, kv);
    }
    if (gemma3) {
        add(p, i, "attn_q_norm", s->head_dim, 0);
        add(p, i, "attn_k_norm", s->head_dim, 0);
    }
    add(p, i, "attn_output", q, s->embd);
    add(p, i, "ffn_norm", s->embd, 0);
    if (four_norms) {
        add(p, i, "post_attention_norm", s->embd, 0);
        add(p, i, "post_ffw_norm", s->embd, 0);
    }
    if (!phi)
        add(p, i, "ffn_gate", s->embd, s->ff);
    add(p, i, "ffn_up", s->embd, phi ? 2 * s->ff : s->ff);
    add(p, i, "ffn_down", s->ff, s->embd);
}

/* Divisors of the rotated pairs: Llama 3.2's scaling, Phi-3.5's two sets (here: 1 and slowly growing). */
static void add_factors(plan *p)
{
    const shape *s = p->s;
    if (s->rope_base == 500000)
        add(p, -1, "rope_freqs", s->head_dim / 2, 0);
    if (strcmp(s->family, "phi3") == 0) {
        add(p, -1, "rope_factors_long", s->head_dim / 2, 0);
        add(p, -1, "rope_factors_short", s->head_dim / 2, 0);
    }
}

static void make_plan(plan *p)
{
    add(p, -1, "token_embd", p->s->embd, p->s->vocab);
    add_factors(p);
    for (uint32_t i = 0; i < p->s->layers; i++)
        add_layer(p, (int) i);
    add(p, -1, "output_norm", p->s->embd, 0);
    if (!p->s->tied)
        add(p, -1, "output", p->s->embd, p->s->vocab);
}

static void kv_family(gw *w, const shape *s, const char *key, uint32_t x)
{
    char full[96];
    snprintf(full, sizeof full, "%s.%s", s->family, key);
    gw_kv_u32(w, full, x);
}

static void kv_family_f(gw *w, const shape *s, const char *key, float x)
{
    char full[96];
    snprintf(full, sizeof full, "%s.%s", s->family, key);
    gw_kv_f32(w, full, x);
}

/* Returns the number of keys. */
static uint64_t put_metadata(gw *w, const shape *s, const type_mix *mix)
{
    gw_kv_string(w, "general.architecture", s->family);
    gw_kv_string(w, "general.name", s->name);
    gw_kv_u32(w, "general.file_type", mix_file_type(mix));
    gw_kv_string(w, "tokenizer.chat_template", s->chat_template);
    kv_family(w, s, "block_count", s->layers);
    kv_family(w, s, "context_length", s->context);
    kv_family(w, s, "embedding_length", s->embd);
    kv_family(w, s, "feed_forward_length", s->ff);
    kv_family(w, s, "attention.head_count", s->heads);
    kv_family(w, s, "attention.head_count_kv", s->kv_heads);
    kv_family(w, s, "attention.key_length", s->head_dim);
    kv_family(w, s, "attention.value_length", s->head_dim);
    kv_family(w, s, "rope.dimension_count", s->head_dim);
    kv_family(w, s, "rope.scaling.original_context_length", strcmp(s->family, "phi3") == 0 ? 4096 : s->context);
    kv_family(w, s, "attention.sliding_window", s->window);
    kv_family_f(w, s, "rope.freq_base", s->rope_base);
    kv_family_f(w, s, "attention.layer_norm_rms_epsilon", 1e-5f);
    if (s->spm)
        put_spm(w, s);
    else
        put_bpe(w, s);
    return 17 + (s->spm ? 7 : 7);
}

static int write_tensor(FILE *f, const tensor *t, const shape *s)
{
    static const char zeros[32];
    uint64_t padding = ((t->bytes + 31) & ~(uint64_t) 31) - t->bytes;
    if (t->rows != 0) {
        if (write_blocks(f, t->type, 1 / sqrtf((float) s->embd), t->bytes) != 0)
            return -1;
    } else {
        for (uint32_t i = 0; i < t->cols; i++) {
            float x = strcmp(t->name, "rope_freqs.weight") == 0 ? (i < t->cols / 2 ? 1 : 32)
                      : strcmp(t->name, "rope_factors_long.weight") == 0 ? 1 + (float) i : 1;
            if (fwrite(&x, 4, 1, f) != 1)
                return -1;
        }
    }
    return fwrite(zeros, 1, padding, f) == padding ? 0 : -1;
}

int main(int argc, char **argv)
{
    plan p = {0};
    gw w = {0}, head = {0};
    for (size_t i = 0; argc == 4 && i < sizeof shapes / sizeof shapes[0]; i++)
        if (strcmp(shapes[i].name, argv[2]) == 0)
            p.s = &shapes[i];
    if (p.s == NULL || mix_parse(argv[3], &p.mix) != 0) {
        fprintf(stderr, "usage: make_model OUT.gguf SHAPE TYPE\nshapes:");
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
            fprintf(stderr, " %s", shapes[i].name);
        fprintf(stderr, "\ntypes: Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K_M Q5_K_M Q4_K Q5_K Q6_K F16 BF16 F32\n");
        return 1;
    }
    p.tensors = calloc(16 * p.s->layers + 8, sizeof *p.tensors);
    if (p.tensors == NULL)
        return 1;
    make_plan(&p);
    uint64_t n_kv = put_metadata(&w, p.s, &p.mix);
    gw_begin(&head, 3, p.n, n_kv);
    gw_raw(&head, w.bytes, w.n);
    for (uint32_t i = 0; i < p.n; i++)
        gw_tensor(&head, p.tensors[i].name, p.tensors[i].cols, p.tensors[i].rows, p.tensors[i].type, p.tensors[i].offset);
    gw_align(&head, 32);
    FILE *f = fopen(argv[1], "wb");
    int result = f == NULL || fwrite(head.bytes, 1, head.n, f) != head.n;
    for (uint32_t i = 0; result == 0 && i < p.n; i++)
        result = write_tensor(f, &p.tensors[i], p.s);
    if (f == NULL || fclose(f) != 0 || result != 0) {
        fprintf(stderr, "make_model: cannot write %s\n", argv[1]);
        return 1;
    }
    gw_free(&w);
    gw_free(&head);
    free(p.tensors);
    return 0;
}
