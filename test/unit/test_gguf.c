/*
 * Hostile GGUF files: each class of loader bug that was ever published (LOADER_BUGS) is built here and must be refused with the
 * right status, within 100 ms and 8 MiB; and every bit of a small valid file is flipped, and the file cut at every byte,
 * through import, open and two tokens.
 */
#include <math.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "engine/import/gguf/gguf.h"
#include "engine/text/tokenizer.h"
#include "slm_test.h"
#include "tools/smallest_gguf.h"
#include "tools/try_model.h"

#ifdef SLM_SANITIZE
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

/* A field of /proc/self/status in KiB. */
static long status_kib(const char *field)
{
    char line[256];
    long value = -1;
    FILE *f = fopen("/proc/self/status", "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, field, strlen(field)) == 0)
            value = atol(line + strlen(field) + 1);
    if (f != NULL)
        fclose(f);
    return value;
}

static void reset_peak(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "w");
    if (f != NULL) {
        fputs("5", f);
        fclose(f);
    }
}

/* The fuzzer's corpus is made of these files: SLM_WRITE_CORPUS=folder keeps each small one. */
static void keep_for_corpus(const char *name, const gw *w)
{
    char path[512];
    const char *folder = getenv("SLM_WRITE_CORPUS");
    static unsigned number;
    if (folder == NULL || w->n > 8192)
        return;
    snprintf(path, sizeof path, "%s/%03u_%s.gguf", folder, number++, name);
    for (char *p = path + strlen(folder) + 1; *p != '\0'; p++)
        if (strchr("abcdefghijklmnopqrstuvwxyz0123456789_.", *p) == NULL)
            *p = '_';
    CHECK(gw_save(w, path) == 0, "cannot write %s", path);
}

/* Offers the bytes; checks the status and, outside of sanitizers, what the refusal cost. A byte string in `word` must be in the
 * message. */
static void expect(const char *name, const gw *w, slm_status wanted, const char *word)
{
    slm_error err = {0};
    try_stage stage;
    keep_for_corpus(name, w);
    reset_peak();
    long before = status_kib("VmRSS:");
    double took = 0;
    slm_status status = try_model(w->bytes, w->n, &err, &stage, &took);
    long grown = status_kib("VmHWM:") - before;
    CHECK(status == wanted, "%s: status %d (%s), wanted %d", name, status, status != SLM_OK ? err.message : "accepted", wanted);
    if (status != SLM_OK)
        CHECK(word == NULL || strstr(err.message, word) != NULL, "%s: message \"%s\" lacks \"%s\"", name, err.message, word);
    if (wanted != SLM_OK && !SANITIZED) {
        CHECK(took < 0.1, "%s: refused after %.0f ms", name, took * 1e3);
        CHECK(grown < 8 * 1024, "%s: the refusal took %ld KiB", name, grown);
    }
    if (wanted != SLM_OK)
        CHECK(stage == TRY_IMPORT, "%s: refused only after the import", name);
}

static void expect_tiny(const char *name, const tiny *t, slm_status wanted, const char *word)
{
    gw w = {0};
    tiny_write(t, &w);
    expect(name, &w, wanted, word);
    gw_free(&w);
}

/* One field of the tiny model falsified. */
#define TINY_CASE(name, wanted, word, ...)                                                                         \
    do {                                                                                                           \
        tiny t;                                                                                                    \
        tiny_default(&t);                                                                                          \
        __VA_ARGS__;                                                                                               \
        expect_tiny(name, &t, wanted, word);                                                                       \
        gw_free(&t.extra);                                                                                         \
    } while (0)

static void test_valid(void)
{
    TINY_CASE("valid", SLM_OK, NULL, (void) t);
    TINY_CASE("version 2", SLM_OK, NULL, t.version = 2);
    TINY_CASE("alignment 64", SLM_FORMAT, "align", t.alignment = 64); /* offsets are for 32 */
    TINY_CASE("no vocabulary", SLM_OK, NULL, t.tokenizer = "none");
    TINY_CASE("an unknown key", SLM_OK, NULL, gw_kv_string(&t.extra, "general.author", "nobody"), t.n_extra = 1);
}

/* CVE-2024-21802, -21825, -21836, -23496, -23605; ollama #17042: counts and lengths that are multiplied or allocated by. */
static void test_counts(void)
{
    static const uint64_t big[] = {UINT64_MAX, INT64_MAX, 1ull << 63, 1ull << 61, 1ull << 32, 0xFFFFFFFF, 8193, (1ull << 60) + 1};
    for (size_t i = 0; i < sizeof big / sizeof big[0]; i++) {
        TINY_CASE("n_tensors", SLM_FORMAT, "tensors", t.n_tensors = big[i]);
        TINY_CASE("n_kv", SLM_FORMAT, "metadata keys", t.n_kv = big[i]);
        TINY_CASE("n_tokens", SLM_FORMAT, NULL, t.n_tokens = big[i]);
        TINY_CASE("n_types", SLM_FORMAT, NULL, t.n_types = big[i]);
        for (uint32_t type = 0; type < 14; type++) { /* the 43-byte file: an array of so many entries of each type */
            gw w = {0};
            gw_begin(&w, 3, 0, 1);
            gw_kv_array(&w, "a", type, big[i]);
            expect("array length", &w, SLM_FORMAT, NULL);
            gw_free(&w);
        }
        gw w = {0};
        gw_begin(&w, 3, 0, 1);
        gw_u64(&w, big[i]); /* the length of a key */
        gw_raw(&w, "key", 3);
        expect("key length", &w, SLM_FORMAT, NULL);
        gw_free(&w);
        gw_begin(&w, 3, 0, 1);
        gw_key(&w, "general.architecture", 8);
        gw_u64(&w, big[i]); /* CVE-2025-49847: the length of a string */
        gw_raw(&w, "llama", 5);
        expect("string length", &w, SLM_FORMAT, NULL);
        gw_free(&w);
    }
    TINY_CASE("fewer tensors than said", SLM_FORMAT, NULL, t.written_tensors = 11);
    TINY_CASE("one tensor less", SLM_FORMAT, "lacks the tensor", t.n_tensors = t.written_tensors = 10);
}

/* CVE-2025-53630, CVE-2026-27940, #27203, #15711, PR 26318, CVE-2026-7482: sizes that wrap, tensors outside the file. */
static void test_sizes(void)
{
    static const uint64_t dims[][4] = {
        {INT64_MAX, 2, 1, 1}, {UINT64_MAX, 1, 1, 1}, {1ull << 32, 1ull << 32, 1, 1}, {1ull << 31, 1ull << 31, 4, 1},
        {0, 40, 1, 1}, {32, 0, 1, 1}, {1ull << 16, 1ull << 16, 1ull << 16, 1ull << 16}, {32, 1ull << 58, 1, 1},
        {0x100000020ull, 40, 1, 1}};
    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++)
        for (uint32_t type = 0; type < 3; type++)
            TINY_CASE("dimensions", SLM_FORMAT, "token_embd", memcpy(t.tensors[0].dims, dims[i], sizeof dims[i]), t.tensors[0].n_dims = 4,
                      t.tensors[0].type = type);
    static const uint64_t offsets[] = {UINT64_MAX, UINT64_MAX - 31, INT64_MAX, 1ull << 63, 1ull << 40, 8192, 5120};
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++)
        TINY_CASE("offset", SLM_FORMAT, NULL, t.tensors[5].offset = offsets[i]);
    TINY_CASE("offset not aligned", SLM_FORMAT, "aligned", t.tensors[5].offset += 16);
    TINY_CASE("overlap", SLM_FORMAT, "overlap", t.tensors[5].offset = t.tensors[4].offset);
    TINY_CASE("overlap by a part", SLM_FORMAT, "overlap", t.tensors[5].offset -= 32);
    TINY_CASE("five dimensions", SLM_FORMAT, "dimensions", t.tensors[3].n_dims = 5);
    TINY_CASE("no dimension", SLM_FORMAT, "dimensions", t.tensors[3].n_dims = 0);
    TINY_CASE("rows of 33", SLM_FORMAT, "blocks", t.tensors[3].dims[0] = 33);
    static const uint32_t alignments[] = {0, 1, 2, 4, 31, 33, 8192, 0x80000000u, UINT32_MAX};
    for (size_t i = 0; i < sizeof alignments / sizeof alignments[0]; i++)
        TINY_CASE("alignment", SLM_FORMAT, "general.alignment", t.alignment = alignments[i]);
}

static void test_types(void)
{
    TINY_CASE("unknown tensor type", SLM_FORMAT, "unknown type", t.tensors[2].type = 1000);
    TINY_CASE("negative tensor type", SLM_FORMAT, "unknown type", t.tensors[2].type = UINT32_MAX);
    TINY_CASE("removed tensor type", SLM_FORMAT, "unknown type", t.tensors[2].type = 4);
    TINY_CASE("type not served", SLM_UNSUPPORTED, "IQ2_XS", t.tensors[2].type = 17);
    TINY_CASE("quantized norm", SLM_UNSUPPORTED, "attn_norm", t.tensors[1].type = 2);
    /* PR 26690: the element type of an array must be checked before its entries are used */
    TINY_CASE("tokens of numbers", SLM_FORMAT, NULL, t.tokens_type = 4);
    TINY_CASE("token types as F32", SLM_FORMAT, "token_type", t.types_type = 6);
    TINY_CASE("token types as U32", SLM_FORMAT, "token_type", t.types_type = 4);
    TINY_CASE("array of arrays", SLM_FORMAT, "array of arrays", gw_kv_array(&t.extra, "x", 9, 1), t.n_extra = 1);
    TINY_CASE("value of type 13", SLM_FORMAT, "unknown type", gw_key(&t.extra, "x", 13), t.n_extra = 1);
    TINY_CASE("boolean 2", SLM_FORMAT, "boolean", gw_kv_bool(&t.extra, "x", 2), t.n_extra = 1);
    TINY_CASE("scores as U8", SLM_FORMAT, "scores", gw_kv_array(&t.extra, "tokenizer.ggml.scores", 0, TINY_VOCAB),
              gw_raw(&t.extra, (const char[TINY_VOCAB]){0}, TINY_VOCAB), t.n_extra = 1);
    TINY_CASE("version 1", SLM_UNSUPPORTED, "version", t.version = 1);
    TINY_CASE("version 4", SLM_UNSUPPORTED, "version", t.version = 4);
    TINY_CASE("big endian", SLM_UNSUPPORTED, "big-endian", t.version = 0x03000000);
}

static void test_names(void)
{
    TINY_CASE("duplicate key", SLM_FORMAT, "twice", gw_kv_u32(&t.extra, "llama.block_count", 1), t.n_extra = 1);
    TINY_CASE("duplicate tensor", SLM_FORMAT, "twice", t.tensors[3].name = "blk.0.attn_v.weight");
    TINY_CASE("unknown tensor", SLM_UNSUPPORTED, "blk.0.attn_sinks", t.tensors[11].name = "blk.0.attn_sinks.weight");
    TINY_CASE("layer 1 of 1", SLM_UNSUPPORTED, "blk.1", t.tensors[11].name = "blk.1.attn_norm.weight");
    TINY_CASE("control bytes in a name", SLM_FORMAT, "printable", t.tensors[11].name = "rope\n\x1b[31m");
    TINY_CASE("unknown architecture", SLM_UNSUPPORTED, "mamba", t.architecture = "mamba");
    TINY_CASE("empty architecture", SLM_UNSUPPORTED, NULL, t.architecture = "");
    TINY_CASE("format string", SLM_UNSUPPORTED, "%n", t.architecture = "%n%n%s");
}

/* PR 25821 and everything else that the metadata may say about the model. */
static void test_metadata(void)
{
    static const uint32_t wrong[] = {0, 513, 1u << 20, 1u << 31, UINT32_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        TINY_CASE("block_count", SLM_FORMAT, NULL, t.block_count = wrong[i]);
        TINY_CASE("embedding_length", SLM_FORMAT, NULL, t.embd = wrong[i] == 513 ? 544 : wrong[i]);
        TINY_CASE("feed_forward_length", SLM_FORMAT, NULL, t.ff = wrong[i] == 513 ? 544 : wrong[i]);
        TINY_CASE("head_count", SLM_FORMAT, NULL, t.heads = wrong[i] == 513 ? 3 : wrong[i]);
        TINY_CASE("head_count_kv", SLM_FORMAT, NULL, t.kv_heads = wrong[i] == 513 ? 3 : wrong[i]);
        if (i > 0)
            TINY_CASE("rope dimensions", SLM_FORMAT, NULL, t.rot = wrong[i]);
    }
    TINY_CASE("block_count 2", SLM_FORMAT, "blk.1", t.block_count = 2);
    TINY_CASE("context 0", SLM_FORMAT, "context_length", t.context = 0);
    TINY_CASE("context 2^32-1", SLM_FORMAT, "context_length", t.context = UINT32_MAX);
    TINY_CASE("odd rope dimensions", SLM_FORMAT, NULL, t.rot = 7);
    static const float floats[] = {0, -1, NAN, INFINITY, -INFINITY, 1e30f, 1e-40f};
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++) {
        TINY_CASE("eps", SLM_FORMAT, "epsilon", t.eps = floats[i]);
        TINY_CASE("rope base", SLM_FORMAT, "freq_base", t.rope_base = floats[i]);
    }
    TINY_CASE("rope scaling", SLM_UNSUPPORTED, "yarn", gw_kv_string(&t.extra, "llama.rope.scaling.type", "yarn"), t.n_extra = 1);
    TINY_CASE("experts", SLM_UNSUPPORTED, "experts", gw_kv_u32(&t.extra, "llama.expert_count", 8), t.n_extra = 1);
    TINY_CASE("one of three files", SLM_UNSUPPORTED, "3 parts", gw_kv_u32(&t.extra, "split.count", 3), t.n_extra = 1);
    TINY_CASE("a number as a string", SLM_FORMAT, "attention.key_length",
              gw_kv_string(&t.extra, "llama.attention.key_length", "8"), t.n_extra = 1);
}

/* PR 25258, #27226, CVE-2025-52566 and the other ways of a vocabulary. */
static void test_vocabulary(void)
{
    static const uint32_t ids[] = {TINY_VOCAB, 1u << 20, 1u << 31, UINT32_MAX - 1};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        TINY_CASE("bos", SLM_FORMAT, "bos_token_id", t.bos = ids[i]);
        TINY_CASE("eos", SLM_FORMAT, "eos_token_id", t.eos = ids[i]);
    }
    TINY_CASE("bos none", SLM_OK, NULL, t.bos = UINT32_MAX);
    TINY_CASE("token type 0", SLM_FORMAT, "type of token 7", t.type_of_7 = 0);
    TINY_CASE("token type 7", SLM_FORMAT, "type of token 7", t.type_of_7 = 7);
    TINY_CASE("token type -1", SLM_FORMAT, "type of token 7", t.type_of_7 = -1);
    TINY_CASE("merge without space", SLM_FORMAT, "merge", t.merge_0 = "ab");
    TINY_CASE("merge of unknown tokens", SLM_FORMAT, "merge", t.merge_0 = "1 2");
    TINY_CASE("unknown kind", SLM_UNSUPPORTED, "rwkv", t.tokenizer = "rwkv");
    TINY_CASE("unknown pre-tokenizer", SLM_UNSUPPORTED, "what-is-this", t.pre = "what-is-this");
    TINY_CASE("long pre-tokenizer", SLM_UNSUPPORTED, "pre-tokenizer",
              t.pre = "a-very-long-name-of-a-pre-tokenizer-that-no-one-has-ever-heard-of");
    TINY_CASE("byte token <0x-1>", SLM_FORMAT, NULL, t.tokenizer = "llama", t.token_7 = "<0x-1>", t.type_of_7 = 6);
    TINY_CASE("byte token <0x100>", SLM_FORMAT, NULL, t.tokenizer = "llama", t.token_7 = "<0x100>", t.type_of_7 = 6);
    TINY_CASE("byte token <0xZZ>", SLM_FORMAT, NULL, t.tokenizer = "llama", t.token_7 = "<0xZZ>", t.type_of_7 = 6);
    TINY_CASE("empty token", SLM_FORMAT, "merge", t.token_7 = "");
    TINY_CASE("charsmap of 1 byte", SLM_OK, NULL, gw_kv_array(&t.extra, "tokenizer.ggml.precompiled_charsmap", 0, 1), gw_u8(&t.extra, 255),
              t.n_extra = 1);
}

/* Weights that are no numbers. */
static void test_floats(void)
{
    tiny t;
    gw w = {0};
    tiny_default(&t);
    tiny_write(&t, &w);
    uint64_t data = w.n - (t.tensors[11].offset + 32);
    const struct { const char *name; uint64_t at; unsigned char bytes[4]; size_t n; } cases[] = {
        {"norm NaN", data + t.tensors[1].offset + 4, {0, 0, 0xC0, 0x7F}, 4},
        {"norm infinite", data + t.tensors[6].offset, {0, 0, 0x80, 0xFF}, 4},
        {"scale infinite", data + t.tensors[2].offset + 18, {0, 0x7C}, 2},
        {"F16 weight NaN", data + t.tensors[4].offset + 6, {1, 0x7E}, 2},
        {"embedding's scale NaN", data + 18 * 39, {1, 0xFC}, 2},
        {"rope factor 0", data + t.tensors[11].offset, {0, 0, 0, 0}, 4},
        {"rope factor NaN", data + t.tensors[11].offset + 12, {1, 0, 0xC0, 0x7F}, 4}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unsigned char old[4];
        memcpy(old, w.bytes + cases[i].at, cases[i].n);
        memcpy(w.bytes + cases[i].at, cases[i].bytes, cases[i].n);
        expect(cases[i].name, &w, SLM_FORMAT, NULL);
        memcpy(w.bytes + cases[i].at, old, cases[i].n);
    }
    expect("restored", &w, SLM_OK, NULL);
    gw_free(&w);
}

/* The slowest headers that the bounds allow. */
static void test_cost(void)
{
    gw w = {0};
    gw_begin(&w, 3, 0, 3);
    for (int k = 0; k < 3; k++) { /* the third array is one too many */
        gw_kv_array(&w, k == 0 ? "a" : k == 1 ? "b" : "c", 8, 1u << 21);
        for (uint32_t i = 0; i < 1u << 21; i++)
            gw_u64(&w, 0);
    }
    expect("three arrays of 2^21 strings", &w, SLM_FORMAT, "entries");
    gw_free(&w);
    gw_begin(&w, 3, 8192, 4096);
    for (uint32_t i = 0; i < 4096; i++) {
        char key[128];
        snprintf(key, sizeof key, "%0120u", i / 2); /* the last two are equal */
        gw_kv_u32(&w, i == 4095 ? "zz" : i % 2 ? key : key + 1, i);
    }
    for (uint32_t i = 0; i < 8192; i++) {
        char name[128];
        snprintf(name, sizeof name, "%0126u", i);
        gw_tensor(&w, name, 32, 1, 0, 0);
    }
    gw_align(&w, 32);
    gw_raw(&w, w.bytes, 4096);
    expect("4096 keys, 8192 tensors", &w, SLM_FORMAT, NULL);
    gw_free(&w);
    gw_begin(&w, 3, 0, 200);
    for (uint32_t i = 0; i < 200; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%u", i);
        gw_kv_array(&w, key, 0, 1u << 21);
        for (uint32_t k = 0; k < 1u << 18; k++)
            gw_u64(&w, 0);
    }
    expect("header of 400 MB", &w, SLM_FORMAT, NULL);
    gw_free(&w);
}

static void test_not_files(void)
{
    static const char *const paths[] = {"/dev/null", "/dev/zero", "/nonexistent/model.gguf", "/proc/self/mem"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        slm_error err = {0};
        slm_status status = slm_import(paths[i], "/tmp/slm_never_written.img", NULL, NULL, NULL, NULL, NULL, &err);
        CHECK(status == SLM_IO || status == SLM_INVALID || status == SLM_FORMAT, "%s: status %d", paths[i], status);
        CHECK(access("/tmp/slm_never_written.img", F_OK) != 0, "%s left an image", paths[i]);
    }
    gw w = {0};
    expect("empty file", &w, SLM_FORMAT, "too short");
    gw_raw(&w, "version https://git-lfs.github.com/spec/v1\noid sha256:0123456789", 64);
    expect("Git LFS pointer", &w, SLM_FORMAT, "Git LFS pointer");
    gw_free(&w);
}

/* Files by names that tell what they are: the hint says what to name instead. */
static void test_other_files(void)
{
    static const struct {
        const char *name, *content;
        slm_status status;
        const char *message, *hint;
    } files[] = {
        {"model.safetensors", "\x10\0\0\0\0\0\0\0{}", SLM_FORMAT, "directory", "Name the directory: \"/tmp/slm_other_"},
        {"Model.SafeTensors", "", SLM_FORMAT, "directory", "Name the directory"},
        {"model.safetensors.index.json", "{}", SLM_FORMAT, "directory", "Name the directory"},
        {"config.json", "{\"model_type\": \"llama\"}", SLM_FORMAT, "directory", "Name the directory"},
        {"model.onnx", "\x08\x07\x12\x07pytorch", SLM_UNSUPPORTED, "ONNX", "GGUF file"},
        {"pytorch_model.bin", "PK\3\4 and so on and so on", SLM_UNSUPPORTED, "pickled", "safe_serialization"},
        {"weights.pt", "PK\3\4", SLM_UNSUPPORTED, "pickled", "GGUF"},
        {"model.gguf", "<!doctype html><html><head></head></html>", SLM_FORMAT, "no GGUF model", "web page"},
        {"model.gguf", "just some text that is long enough", SLM_FORMAT, "no GGUF model", "letters GGUF"},
        {"model.gguf", "GGUF", SLM_FORMAT, "too short", ""},
        {"model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:01\nsize 3\n", SLM_FORMAT, "Git LFS pointer",
         "git lfs pull"},
    };
    char dir[] = "/tmp/slm_other_XXXXXX", path[300];
    CHECK(mkdtemp(dir) != NULL, "mkdtemp");
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        slm_gguf *g = NULL;
        slm_error err = {0};
        snprintf(path, sizeof path, "%s/%s", dir, files[i].name);
        FILE *f = fopen(path, "wb");
        CHECK(f != NULL && fputs(files[i].content, f) >= 0 && fclose(f) == 0, "write %s", path);
        slm_status status = slm_gguf_open(path, &g, &err);
        CHECK(status == files[i].status && strstr(err.message, files[i].message) != NULL && strstr(err.hint, files[i].hint) != NULL,
              "%s: %d, \"%s\" (%s)", files[i].name, (int) status, err.message, err.hint);
        unlink(path);
        slm_gguf_close(g);
    }
    rmdir(dir);
}

/* The source of a tiny file, or NULL and the error. */
static slm_source *open_tiny(const tiny *t, const slm_import_options *options, slm_error *err)
{
    char path[64];
    gw w = {0};
    slm_source *s = NULL;
    tiny_write(t, &w);
    int fd = try_file(w.bytes, w.n, path, sizeof path);
    if (slm_gguf_source(path, options, NULL, &s, err) != SLM_OK)
        s = NULL;
    close(fd);
    gw_free(&w);
    return s;
}

/* Linear RoPE scaling in each of its spellings gives the same hyper-parameter. */
static void test_rope_scaling(void)
{
    static const struct {
        const char *type; /* NULL: no such key */
        float factor, linear; /* 0: no such key */
        float scale;
    } cases[] = {{NULL, 0, 0, 1}, {"linear", 4, 0, 4}, {NULL, 4, 0, 4}, {NULL, 0, 4, 4}, {"linear", 0, 4, 4}, {NULL, 2, 4, 2},
                 {"none", 4, 0, 1}, {"longrope", 4, 0, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tiny t;
        slm_error err = {0};
        tiny_default(&t);
        if (cases[i].type != NULL && ++t.n_extra > 0)
            gw_kv_string(&t.extra, "llama.rope.scaling.type", cases[i].type);
        if (cases[i].factor > 0 && ++t.n_extra > 0)
            gw_kv_f32(&t.extra, "llama.rope.scaling.factor", cases[i].factor);
        if (cases[i].linear > 0 && ++t.n_extra > 0)
            gw_kv_f32(&t.extra, "llama.rope.scale_linear", cases[i].linear);
        slm_source *s = open_tiny(&t, NULL, &err);
        CHECK(s != NULL && s->hparams.rope_scale == cases[i].scale, "case %zu: %s", i, s != NULL ? "another scale" : err.message);
        if (s != NULL)
            s->close(s);
        gw_free(&t.extra);
    }
    TINY_CASE("yarn's parameters without its name", SLM_UNSUPPORTED, "rope.scaling.yarn_log_multiplier",
              gw_kv_f32(&t.extra, "llama.rope.scaling.yarn_log_multiplier", 0.1f), t.n_extra = 1);
    TINY_CASE("a dynamic scaling", SLM_UNSUPPORTED, "rope.scaling.alpha", gw_kv_f32(&t.extra, "llama.rope.scaling.alpha", 1000),
              t.n_extra = 1);
    TINY_CASE("a type that is no string", SLM_UNSUPPORTED, "rope.scaling.type", gw_kv_u32(&t.extra, "llama.rope.scaling.type", 1),
              t.n_extra = 1);
    TINY_CASE("a negative factor", SLM_FORMAT, "rope.scaling.factor", gw_kv_f32(&t.extra, "llama.rope.scaling.factor", -4), t.n_extra = 1);
}

/* A vocabulary without its rule loads with a warning, unless the caller names one; without merges never. */
static void test_pre_tokenizer(void)
{
    static const struct {
        const char *pre, *option;
        uint32_t warnings;
        const char *name;
    } cases[] = {{"gpt-2", NULL, 0, "gpt-2"}, {NULL, NULL, 1, "default"}, {"default", NULL, 1, "default"}, {NULL, "qwen2", 0, "qwen2"},
                 {"gpt-2", "llama-bpe", 0, "llama-bpe"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tiny t;
        slm_warnings warnings = {0};
        slm_import_options options = {.pre = cases[i].option, .warnings = &warnings};
        slm_error err = {0};
        slm_tokenizer *tok = NULL;
        tiny_default(&t);
        t.pre = cases[i].pre;
        t.n_kv -= t.pre == NULL;
        slm_source *s = open_tiny(&t, &options, &err);
        CHECK(s != NULL && warnings.n == cases[i].warnings, "case %zu: %u warnings, %s", i, warnings.n, err.message);
        CHECK(warnings.n == 0 ||
                  (strstr(warnings.warnings[0].message, "words") != NULL && strstr(warnings.warnings[0].hint, "qwen2") != NULL),
              "\"%s\" (%s)", warnings.warnings[0].message, warnings.warnings[0].hint);
        if (s != NULL && slm_tokenizer_open(s->tokenizer, s->tokenizer_bytes, &tok, &err) == SLM_OK)
            CHECK(strcmp(slm_tokenizer_name(tok), cases[i].name) == 0, "case %zu: %s", i, slm_tokenizer_name(tok));
        slm_tokenizer_free(tok);
        if (s != NULL)
            s->close(s);
    }
    TINY_CASE("no merges", SLM_FORMAT, "tokenizer.ggml.merges", t.no_merges = true);
    tiny t;
    slm_error err = {0};
    tiny_default(&t);
    CHECK(open_tiny(&t, &(slm_import_options){.pre = "no such rule"}, &err) == NULL && err.status == SLM_UNSUPPORTED, "%s", err.message);
    CHECK(strstr(err.message, "no such rule") != NULL && strstr(err.hint, "qwen2") != NULL, "\"%s\" (%s)", err.message, err.hint);
    /* the end of a message that calls a tool ends an answer */
    gw_kv_u32(&t.extra, "tokenizer.ggml.eom_token_id", 9);
    t.n_extra = 1;
    slm_source *s = open_tiny(&t, NULL, &err);
    slm_tokenizer *tok = NULL;
    CHECK(s != NULL && slm_tokenizer_open(s->tokenizer, s->tokenizer_bytes, &tok, &err) == SLM_OK && slm_tokenizer_is_end(tok, 9) &&
              slm_tokenizer_is_end(tok, 1) && !slm_tokenizer_is_end(tok, 8),
          "ends: %s", err.message);
    slm_tokenizer_free(tok);
    if (s != NULL)
        s->close(s);
    gw_free(&t.extra);
}

/* What the workers of test_flips found, in shared memory. */
typedef struct flip_counts {
    unsigned long tries, accepted, broken, wrong_cuts;
} flip_counts;

/* Bits and lengths number `worker`, `worker` + n_workers ... of every `step`-th. */
static void flip_share(gw *w, size_t worker, size_t n_workers, size_t step, flip_counts *c)
{
    slm_error err = {0};
    try_stage stage;
    for (size_t bit = worker * step; bit < 8 * w->n; bit += n_workers * step, c->tries++) {
        w->bytes[bit / 8] ^= (unsigned char) (1u << bit % 8);
        slm_status status = try_model(w->bytes, w->n, &err, &stage, NULL);
        w->bytes[bit / 8] ^= (unsigned char) (1u << bit % 8);
        c->accepted += status == SLM_OK;
        c->broken += status == SLM_INTERNAL || status == SLM_NOMEM || (status != SLM_OK && err.message[0] == '\0');
    }
    for (size_t n = worker * step; n < w->n; n += n_workers * step, c->tries++) {
        slm_status status = try_model(w->bytes, n, &err, &stage, NULL);
        c->broken += status == SLM_INTERNAL || status == SLM_NOMEM;
        c->wrong_cuts += status != SLM_FORMAT && n + 32 <= w->n; /* the last bytes are padding */
    }
}

/* Every bit flipped, every length cut, by two processes: any status but a broken invariant, no crash, nothing left behind. */
static void test_flips(void)
{
    enum { WORKERS = 2 };
    tiny t;
    gw w = {0};
    pid_t child[WORKERS];
    size_t step = SANITIZED || getenv("SLM_TEST_LONG") != NULL ? 1 : 11;
    flip_counts *c = mmap(NULL, WORKERS * sizeof *c, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    tiny_default(&t);
    tiny_write(&t, &w);
    for (size_t k = 0; k < WORKERS; k++) {
        child[k] = fork();
        if (child[k] == 0) {
            char image[96];
            flip_share(&w, k, WORKERS, step, &c[k]);
            try_image_path(image, sizeof image);
            gw_free(&w);
            exit(access(image, F_OK) == 0);
        }
    }
    flip_counts sum = {0, 0, 0, 0};
    for (size_t k = 0; k < WORKERS; k++) {
        int status = -1;
        CHECK(waitpid(child[k], &status, 0) == child[k] && status == 0, "worker %zu ended with status %d after %lu tries", k, status,
              c[k].tries);
        sum.tries += c[k].tries;
        sum.accepted += c[k].accepted;
        sum.broken += c[k].broken;
        sum.wrong_cuts += c[k].wrong_cuts;
    }
    CHECK(sum.tries >= 9 * w.n / step - 2 * WORKERS, "only %lu tries for %zu bytes", sum.tries, w.n);
    CHECK(sum.broken == 0, "%lu of %lu tries broke an invariant", sum.broken, sum.tries);
    CHECK(sum.wrong_cuts == 0, "%lu cut files were not refused as such", sum.wrong_cuts);
    CHECK(sum.accepted > 0 && sum.accepted < sum.tries, "%lu of %lu flips were accepted", sum.accepted, sum.tries);
    munmap(c, WORKERS * sizeof *c);
    gw_free(&w);
}

int main(void)
{
    test_valid();
    test_counts();
    test_sizes();
    test_types();
    test_names();
    test_metadata();
    test_vocabulary();
    test_floats();
    test_cost();
    test_not_files();
    test_other_files();
    test_rope_scaling();
    test_pre_tokenizer();
    test_flips();
    TEST_MAIN_END("gguf");
}
