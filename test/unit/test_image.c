/*
 * The packed image: lossless against its source, split where the source is fused, refused when any byte before the weights is
 * wrong (and harmless when the checksum is forged as well), removed when writing fails, and sound under truncation of the
 * source and cancel.
 */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "engine/import/gguf/gguf.h"
#include "engine/image/format.h"
#include "engine/kernels/kernels.h"
#include "engine/arch/family.h"
#include "engine/model/model.h"
#include "golden.h"
#include "slm_test.h"
#include "tools/smallest_gguf.h"
#include "tools/try_model.h"

static char image_path[96];

static void make_tiny(gw *w)
{
    tiny t;
    tiny_default(&t);
    tiny_write(&t, w);
}

static slm_status import_bytes(const gw *w, const slm_import_options *options, slm_model_info *info, slm_error *err)
{
    char path[64];
    int fd = try_file(w->bytes, w->n, path, sizeof path);
    unlink(image_path);
    slm_status status = slm_import(path, image_path, options, NULL, NULL, NULL, info, err);
    close(fd);
    return status;
}

static unsigned char *read_all(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return NULL;
    fseek(f, 0, SEEK_END);
    *n = (size_t) ftell(f);
    rewind(f);
    unsigned char *bytes = malloc(*n + 1);
    if (bytes == NULL || fread(bytes, 1, *n, f) != *n) {
        free(bytes);
        bytes = NULL;
    }
    fclose(f);
    return bytes;
}

static void write_all(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(bytes, 1, n, f) != n || fclose(f) != 0)
        abort();
}

/* ------------------------------------------------------------------ lossless */

/* Rows of the image against dequantized rows of the source, for every tensor of the file. Returns the number of rows compared. */
static unsigned long compare_rows(slm_source *source, const slm_image *image, const char *name)
{
    const slm_kernels *k = slm_kernels_get();
    const slm_hparams *hp = slm_image_hparams(image);
    unsigned long rows = 0;
    uint32_t q = hp->n_heads * hp->head_dim, kv = hp->n_kv_heads * hp->head_dim;
    for (size_t i = 0; i < source->n_tensors; i++) {
        const slm_source_tensor *t = &source->tensors[i];
        uint32_t n = t->cols ? t->cols : t->rows, n_rows = t->cols ? t->rows : 1, wrong = 0;
        float *want = malloc(n * sizeof *want), *have = malloc(n * sizeof *have);
        void *raw = malloc((size_t) n * 4);
        for (uint32_t row = 0; row < n_rows; row++, rows++) {
            slm_status status = SLM_OK;
            slm_tensor_role role = t->role;
            uint32_t at = row;
            if (role == SLM_TENSOR_ATTN_QKV) {
                role = row < q ? SLM_TENSOR_ATTN_Q : row < q + kv ? SLM_TENSOR_ATTN_K : SLM_TENSOR_ATTN_V;
                at = row < q ? row : row < q + kv ? row - q : row - q - kv;
            } else if (role == SLM_TENSOR_FFN_GATE_UP) {
                role = row < hp->n_ff ? SLM_TENSOR_FFN_GATE : SLM_TENSOR_FFN_UP;
                at = row < hp->n_ff ? row : row - hp->n_ff;
            }
            source->read_rows(source, t, t->cols ? row : 0, t->cols ? 1 : t->rows, raw, &status, NULL);
            slm_dequantize(t->type, raw, want, n);
            slm_weight weight;
            const float *vector = t->cols ? NULL : slm_image_vector(image, role, t->layer, t->rows);
            if (t->cols != 0 && slm_image_matrix(image, role, t->layer, &weight))
                k->unpack_row(&weight, at, have);
            else if (vector != NULL)
                memcpy(have, vector, n * sizeof *have);
            else
                status = SLM_INTERNAL;
            wrong += status != SLM_OK || memcmp(want, have, n * sizeof *want) != 0;
        }
        CHECK(wrong == 0, "%s: %s of layer %u: %u of %u rows differ", name, slm_role_get(t->role)->name, t->layer, wrong, n_rows);
        free(want);
        free(have);
        free(raw);
    }
    return rows;
}

static void check_lossless(const char *path, const char *name)
{
    slm_error err = {0};
    slm_source *source = NULL;
    slm_image *image = NULL;
    slm_model_info info;
    unlink(image_path);
    slm_status status = slm_import(path, image_path, NULL, NULL, NULL, NULL, &info, &err);
    CHECK(status == SLM_OK, "%s: import: %s", name, err.message);
    if (status != SLM_OK)
        return;
    CHECK(slm_image_open(image_path, &image, &err) == SLM_OK, "%s: open: %s", name, err.message);
    CHECK(slm_gguf_source(path, NULL, NULL, &source, &err) == SLM_OK, "%s: source: %s", name, err.message);
    if (image != NULL && source != NULL) {
        CHECK(compare_rows(source, image, name) > 0, "%s: nothing was compared", name);
        CHECK(memcmp(slm_image_info(image), &info, sizeof info) == 0, "%s: info differs", name);
        CHECK(slm_image_prewarm(image, NULL, NULL, NULL, &err) == SLM_OK, "%s: prewarm: %s", name, err.message);
        struct stat st = {0};
        stat(image_path, &st);
        CHECK(slm_image_resident_bytes(image) == (uint64_t) st.st_size && info.image_bytes == (uint64_t) st.st_size, "%s: sizes", name);
    }
    if (source != NULL)
        source->close(source);
    slm_image_close(image);
    unlink(image_path);
}

static void test_lossless(void)
{
    gw w = {0};
    char path[64];
    make_tiny(&w);
    int fd = try_file(w.bytes, w.n, path, sizeof path);
    check_lossless(path, "tiny");
    close(fd);
    gw_free(&w);
}

/* ------------------------------------------------------------------ families */

typedef struct expected {
    const char *file;
    slm_hparams hp; /* zero where set_defaults says the rest */
} expected;

/* What a family that says nothing has. */
static void set_defaults(slm_hparams *hp)
{
    float *const ones[] = {&hp->rope_scale, &hp->rope_attn_factor, &hp->embed_scale, &hp->residual_scale, &hp->logit_scale};
    for (size_t i = 0; i < sizeof ones / sizeof ones[0]; i++)
        if (*ones[i] == 0)
            *ones[i] = 1;
    if (hp->attn_scale == 0)
        hp->attn_scale = 0.17677669529663687f; /* 1 / sqrt(32) */
    if (hp->n_ctx_original == 0)
        hp->n_ctx_original = 512;
}

/* The tiny models of every family: read, imported without loss, and their numbers right. */
static void test_families(void)
{
#define COMMON .n_vocab = 320, .n_context = 512, .n_embd = 128, .n_ff = 256, .n_heads = 4, .head_dim = 32, .causal = 1
    static const expected table[] = {
        {"llama", {COMMON, .family = "llama", .n_layers = 4, .n_kv_heads = 2, .n_rot = 32, .rope_interleaved = 1, .norm_eps = 1e-5f,
                   .rope_base = 10000}},
        {"llama-3.2", {COMMON, .family = "llama", .n_layers = 4, .n_kv_heads = 2, .n_rot = 32, .rope_interleaved = 1, .norm_eps = 1e-5f,
                       .rope_base = 500000, .tied_head = 1, .has_rope_factors = 1}},
        {"mistral", {COMMON, .family = "llama", .n_layers = 4, .n_kv_heads = 2, .n_rot = 32, .rope_interleaved = 1, .norm_eps = 1e-5f,
                     .rope_base = 1000000}},
        {"phi3", {COMMON, .family = "phi3", .n_layers = 4, .n_kv_heads = 2, .n_rot = 32, .norm_eps = 1e-5f, .rope_base = 10000}},
        {"phi4-mini", {COMMON, .family = "phi3", .n_layers = 4, .n_kv_heads = 2, .n_rot = 24, .norm_eps = 1e-5f, .rope_base = 10000,
                       .tied_head = 1, .n_ctx_original = 64, .rope_attn_factor = 1.2247449159622192f, .has_rope_factors = 2}},
        {"gemma", {COMMON, .family = "gemma", .n_layers = 4, .n_kv_heads = 1, .n_rot = 32, .norm_eps = 1e-6f, .rope_base = 10000,
                   .embed_scale = 11.313708498984761f, .tied_head = 1, .activation = SLM_ACT_GEGLU}},
        {"gemma2", {COMMON, .family = "gemma2", .n_layers = 4, .n_kv_heads = 2, .n_rot = 32, .norm_eps = 1e-6f, .rope_base = 10000,
                    .embed_scale = 11.313708498984761f, .tied_head = 1, .activation = SLM_ACT_GEGLU, .window = 16, .window_pattern = 2,
                    .attn_softcap = 50, .final_softcap = 30}},
        {"gemma3", {COMMON, .family = "gemma3", .n_layers = 7, .n_kv_heads = 1, .n_rot = 32, .norm_eps = 1e-6f, .rope_base = 1000000,
                    .rope_base_local = 10000, .embed_scale = 11.313708498984761f, .tied_head = 1, .activation = SLM_ACT_GEGLU, .window = 16,
                    .window_pattern = 6}},
        {"qwen2", {COMMON, .family = "qwen2", .n_layers = 4, .n_kv_heads = 2, .n_rot = 32, .norm_eps = 1e-6f, .rope_base = 1000000,
                   .tied_head = 1}},
        {"qwen3", {COMMON, .family = "qwen3", .n_layers = 4, .n_kv_heads = 2, .n_rot = 32, .norm_eps = 1e-6f, .rope_base = 1000000,
                   .tied_head = 1}},
        {"smollm3", {COMMON, .family = "smollm3", .n_layers = 4, .n_kv_heads = 2, .n_rot = 32, .rope_interleaved = 1, .norm_eps = 1e-6f,
                     .rope_base = 2000000, .tied_head = 1, .nope_pattern = 4}},
        {"granite", {COMMON, .family = "granite", .n_layers = 4, .n_kv_heads = 2, .n_rot = 32, .rope_interleaved = 1, .norm_eps = 1e-5f,
                     .rope_base = 10000, .embed_scale = 12, .residual_scale = 0.2199999988079071f, .logit_scale = 0.125f,
                     .attn_scale = 0.03125f}},
        {"olmo2", {COMMON, .family = "olmo2", .n_layers = 4, .n_kv_heads = 2, .n_rot = 32, .norm_eps = 1e-5f, .rope_base = 500000,
                   .post_norm_only = 1, .qk_norm_whole = 1}}};
#undef COMMON
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        char path[512];
        slm_error err = {0};
        slm_source *source = NULL;
        snprintf(path, sizeof path, "%s/families/%s.gguf", golden_root(), table[i].file);
        CHECK(slm_gguf_source(path, NULL, NULL, &source, &err) == SLM_OK, "%s: %s", table[i].file, err.message);
        if (source == NULL)
            continue;
        slm_hparams want = table[i].hp, have = source->hparams;
        set_defaults(&want);
        CHECK(have.has_rope_factors == 0 || have.rope_factors_short[0] == 1, "%s: first factor %g", table[i].file,
              (double) have.rope_factors_short[0]);
        CHECK(have.has_rope_factors < 2 || have.rope_factors_long[11] > have.rope_factors_short[11], "%s: long factors", table[i].file);
        memset(have.rope_factors_short, 0, sizeof have.rope_factors_short);
        memset(have.rope_factors_long, 0, sizeof have.rope_factors_long);
        CHECK(memcmp(&want, &have, offsetof(slm_hparams, rope_factors_short)) == 0, "%s: hyper-parameters differ", table[i].file);
        source->close(source);
        check_lossless(path, table[i].file);
    }
}

/* ------------------------------------------------------------------ damage */

/* The image with a checksum of its first bytes that fits. */
static void write_forged(unsigned char *bytes, size_t n, uint64_t covered)
{
    slm_image_header *head = (slm_image_header *) (void *) bytes;
    head->head_checksum = 0;
    head->head_checksum = XXH3_64bits(bytes, (size_t) covered);
    write_all(image_path, bytes, n);
}

static void test_damage(void)
{
    gw w = {0};
    size_t n = 0;
    slm_error err = {0};
    slm_image *image = NULL;
    make_tiny(&w);
    CHECK(import_bytes(&w, NULL, NULL, &err) == SLM_OK, "import: %s", err.message);
    unsigned char *bytes = read_all(image_path, &n);
    CHECK(bytes != NULL, "no image");
    if (bytes == NULL)
        return;
    slm_image_header h;
    memcpy(&h, bytes, sizeof h);
    unsigned long undetected = 0, forged_open = 0, forged = 0, broken = 0;
    for (size_t i = 0; i < h.weights_offset; i++) {
        try_stage stage;
        unsigned char old = bytes[i];
        bytes[i] ^= (unsigned char) (1u << (i * 7 + i / 8) % 8);
        write_all(image_path, bytes, n);
        if (slm_image_open(image_path, &image, &err) == SLM_OK) {
            undetected++;
            slm_image_close(image);
        }
        /* the same with a checksum that fits: nothing may crash, whatever is said */
        slm_image_header *head = (slm_image_header *) (void *) bytes;
        uint64_t sum = head->head_checksum;
        write_forged(bytes, n, h.weights_offset);
        slm_status status = try_open(image_path, &err, &stage);
        forged++;
        forged_open += status == SLM_OK;
        broken += status == SLM_INTERNAL;
        head->head_checksum = sum;
        bytes[i] = old;
    }
    CHECK(undetected == 0, "%lu wrong bytes before the weights were not noticed", undetected);
    CHECK(broken == 0, "%lu of %lu forged images broke an invariant", broken, forged);
    CHECK(forged_open < forged, "no forged image was refused");
    bytes[n - 100] ^= 1;
    write_all(image_path, bytes, n);
    CHECK(slm_image_open(image_path, &image, &err) == SLM_OK, "open: %s", err.message);
    CHECK(slm_image_prewarm(image, NULL, NULL, NULL, &err) == SLM_FORMAT, "a wrong weight was not noticed");
    slm_image_close(image);
    bytes[n - 100] ^= 1;
    for (size_t cut = 0; cut < n; cut += 37) {
        write_all(image_path, bytes, cut);
        slm_status status = slm_image_open(image_path, &image, &err);
        CHECK(status == SLM_FORMAT, "cut at %zu: status %d", cut, status);
        if (status == SLM_OK)
            slm_image_close(image);
    }
    h.layout++;
    memcpy(bytes, &h, sizeof h);
    write_all(image_path, bytes, n);
    CHECK(slm_image_open(image_path, &image, &err) == SLM_UNSUPPORTED && strstr(err.message, "layout") != NULL, "another layout: %s",
              err.message);
    unlink(image_path);
    free(bytes);
    gw_free(&w);
}

static unsigned char *import_family(const char *name, size_t *n)
{
    char path[600];
    slm_import_options options = {.quantization = "F32"};
    slm_error err = {0};
    snprintf(path, sizeof path, "%s/%s", golden_root(), name);
    unlink(image_path);
    CHECK(slm_import(path, image_path, &options, NULL, NULL, NULL, NULL, &err) == SLM_OK, "%s: %s", name, err.message);
    unsigned char *bytes = read_all(image_path, n);
    if (bytes == NULL)
        abort();
    return bytes;
}

/* The image of a model with layers of several shapes, one number of its hyper-parameters another: refused, or good to be computed with. */
static void test_forged_shapes(const char *name)
{
    static const size_t fields[] = {offsetof(slm_hparams, head_dim), offsetof(slm_hparams, n_layers), offsetof(slm_hparams, n_ff),
        offsetof(slm_hparams, window), offsetof(slm_hparams, layered), offsetof(slm_hparams, slides), offsetof(slm_hparams, n_rot),
        offsetof(slm_hparams, rope_base_local), offsetof(slm_hparams, head_dim_local), offsetof(slm_hparams, n_rot_local),
        offsetof(slm_hparams, rope_turns), offsetof(slm_hparams, kv_shared), offsetof(slm_hparams, n_ff_shared),
        offsetof(slm_hparams, value_norm), offsetof(slm_hparams, n_embd_layer), offsetof(slm_hparams, alibi),
        offsetof(slm_hparams, causal), offsetof(slm_hparams, n_kv_heads), offsetof(slm_hparams, n_kv_heads_local),
        offsetof(slm_hparams, dense_rows)};
    static const uint32_t values[] = {0, 1, 2, 4, 5, 6, 8, 16, 24, 31, 32, 64, 1024, 65536, 1u << 20, UINT32_MAX / 2, UINT32_MAX};
    size_t n;
    unsigned refused = 0, tried = 0;
    unsigned char *bytes = import_family(name, &n);
    slm_image_header *head = (slm_image_header *) (void *) bytes;
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        for (size_t k = 0; k < sizeof values / sizeof values[0]; k++) {
            uint32_t old;
            try_stage stage;
            slm_error err = {0};
            unsigned char *field = bytes + head->hparams.offset + fields[i];
            memcpy(&old, field, sizeof old);
            memcpy(field, &values[k], sizeof old);
            write_forged(bytes, n, head->weights_offset);
            slm_status status = try_open(image_path, &err, &stage);
            CHECK(status != SLM_INTERNAL, "field %zu as %u: %s", i, values[k], err.message);
            tried++;
            refused += status != SLM_OK;
            memcpy(field, &old, sizeof old);
        }
    CHECK(refused > tried / 2 && refused < tried, "%u of %u refused", refused, tried);
    free(bytes);
    unlink(image_path);
}

/* What no source can make: a mixture whose layers run side by side, and a gate that is quantized in a model of floats. */
static void test_forged(void)
{
    size_t n;
    slm_error err = {0};
    slm_model *model = NULL;
    try_stage stage;
    unsigned char *bytes = import_family("families2/olmoe", &n);
    slm_image_header *head = (slm_image_header *) (void *) bytes;
    ((slm_hparams *) (void *) (bytes + head->hparams.offset))->parallel = 1;
    write_forged(bytes, n, head->weights_offset);
    CHECK(try_open(image_path, &err, &stage) == SLM_FORMAT && stage == TRY_OPEN, "a parallel mixture: %s", err.message);
    free(bytes);

    bytes = import_family("families2/qwen3_5", &n);
    head = (slm_image_header *) (void *) bytes;
    slm_image_entry *e = (slm_image_entry *) (void *) (bytes + head->directory.offset);
    for (uint32_t i = 0; i < head->n_tensors; i++)
        if (e[i].role == SLM_TENSOR_ATTN_GATE) {
            e[i].type = SLM_TYPE_Q8_0;
            e[i].bytes = slm_panel_bytes(SLM_TYPE_Q8_0, e[i].cols) * ((e[i].rows + 15) / 16);
        }
    write_forged(bytes, n, head->weights_offset);
    CHECK(slm_model_open(image_path, &model, &err) == SLM_OK && model->quantized, "a gate alone: %s", err.message);
    slm_model_close(model);

    slm_model_info *info = (slm_model_info *) (void *) (bytes + head->info.offset);
    memcpy(info->licence, "a\xE2\x82", 4);
    write_forged(bytes, n, head->weights_offset);
    model = NULL;
    CHECK(slm_model_open(image_path, &model, &err) == SLM_OK && strcmp(slm_model_get_info(model)->licence, "a??") == 0, "bytes of no text");
    slm_model_close(model);
    info->n_labels = 3;
    memset(info->labels, 'x', sizeof info->labels - 1);
    write_forged(bytes, n, head->weights_offset);
    CHECK(slm_model_open(image_path, &model, &err) == SLM_FORMAT && strstr(err.message, "labels") != NULL, "3 labels, 1 name: %s",
          err.message);
    free(bytes);
    unlink(image_path);
}

/* ------------------------------------------------------------------ failures while writing */

typedef struct saboteur {
    int fd;           /* truncated after the first batch, -1 = not */
    volatile int stop;
    bool set_stop, alarms; /* alarms: the flag is set, and when asked there is no reason */
    uint64_t calls, last_done, total;
    bool monotonous;
} saboteur;

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
    saboteur *s = arg;
    s->calls++;
    s->monotonous = s->monotonous && done >= s->last_done && done <= total;
    s->last_done = done;
    s->total = total;
    if (s->fd >= 0 && ftruncate(s->fd, 4096) != 0)
        abort();
    if (s->set_stop)
        s->stop = 1;
    if (s->alarms)
        s->stop = !s->stop;
}

static void test_failures(void)
{
    gw w = {0};
    char path[64];
    slm_error err = {0};
    make_tiny(&w);
    int fd = try_file(w.bytes, w.n, path, sizeof path);
    unlink(image_path);

    saboteur s = {.fd = -1, .monotonous = true};
    CHECK(slm_import(path, image_path, NULL, on_progress, &s, &s.stop, NULL, &err) == SLM_OK, "%s", err.message);
    CHECK(s.calls > 5 && s.monotonous && s.last_done == s.total, "progress: %lu calls, %lu of %lu", (unsigned long) s.calls,
          (unsigned long) s.last_done, (unsigned long) s.total);

    CHECK(slm_import(path, image_path, NULL, NULL, NULL, NULL, NULL, &err) == SLM_IO, "an image was overwritten");
    CHECK(access(image_path, F_OK) == 0, "an image that was there is gone");
    unlink(image_path);

    s = (saboteur){.fd = -1, .set_stop = true};
    CHECK(slm_import(path, image_path, NULL, on_progress, &s, &s.stop, NULL, &err) == SLM_CANCELLED, "cancel: %s", err.message);
    CHECK(access(image_path, F_OK) != 0, "a cancelled import left its file");
    s = (saboteur){.fd = -1, .stop = 1};
    CHECK(slm_import(path, image_path, NULL, NULL, NULL, &s.stop, NULL, &err) == SLM_CANCELLED, "cancel at once: %s", err.message);
    CHECK(access(image_path, F_OK) != 0, "a cancelled import left its file");

    s = (saboteur){.fd = -1, .alarms = true, .monotonous = true};
    CHECK(slm_import(path, image_path, NULL, on_progress, &s, &s.stop, NULL, &err) == SLM_OK, "no reason to stop: %s", err.message);
    CHECK(s.monotonous && s.last_done == s.total, "begun anew");
    unlink(image_path);

    /* the disk is full: here, files may not grow beyond 12 KiB */
    struct rlimit old, limit;
    getrlimit(RLIMIT_FSIZE, &old);
    limit = old;
    limit.rlim_cur = 12 * 1024;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    slm_status status = slm_import(path, image_path, NULL, NULL, NULL, NULL, NULL, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    CHECK(status == SLM_IO && strstr(err.message, "File too large") != NULL, "full disk: status %d, %s", status, err.message);
    CHECK(access(image_path, F_OK) != 0, "a failed import left its file");
    CHECK(slm_import(path, "/nonexistent/folder/x.img", NULL, NULL, NULL, NULL, NULL, &err) == SLM_IO, "a folder that is not there");

    s = (saboteur){.fd = fd};
    CHECK(slm_import(path, image_path, NULL, on_progress, &s, NULL, NULL, &err) == SLM_FORMAT && strstr(err.message, "truncated") != NULL,
          "source cut while it is read: %s", err.message);
    CHECK(access(image_path, F_OK) != 0, "a failed import left its file");
    close(fd);
    gw_free(&w);
}

/* ------------------------------------------------------------------ quantizing on import */

static void test_quantization(void)
{
    static const struct { const char *name; slm_type attn, down, head; double error; } cases[] = {
        {"F32", SLM_TYPE_F32, SLM_TYPE_F32, SLM_TYPE_F32, 0},     {"Q8_0", SLM_TYPE_Q8_0, SLM_TYPE_Q8_0, SLM_TYPE_Q8_0, 0.01},
        {"q4_k", SLM_TYPE_Q5_0, SLM_TYPE_Q4_K, SLM_TYPE_Q8_0, 0.12}, {"Q6_K", SLM_TYPE_Q8_0, SLM_TYPE_Q6_K, SLM_TYPE_Q8_0, 0.04},
        {"Q4_0", SLM_TYPE_Q4_0, SLM_TYPE_Q4_0, SLM_TYPE_Q8_0, 0.12}, {"BF16", SLM_TYPE_BF16, SLM_TYPE_BF16, SLM_TYPE_BF16, 0.01}};
    char path[512];
    slm_error err = {0};
    slm_source *source = NULL;
    snprintf(path, sizeof path, "%s/families/llama-3.2.gguf", golden_root());
    CHECK(slm_gguf_source(path, NULL, NULL, &source, &err) == SLM_OK, "%s", err.message);
    if (source == NULL)
        return;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        slm_image *image = NULL;
        slm_weight attn = {0}, down = {0}, head = {0};
        slm_import_options options = {.quantization = cases[i].name};
        unlink(image_path);
        CHECK(slm_import(path, image_path, &options, NULL, NULL, NULL, NULL, &err) == SLM_OK, "%s: %s", cases[i].name, err.message);
        if (slm_image_open(image_path, &image, &err) != SLM_OK)
            continue;
        slm_image_matrix(image, SLM_TENSOR_ATTN_Q, 1, &attn);
        slm_image_matrix(image, SLM_TENSOR_FFN_DOWN, 1, &down);
        slm_image_matrix(image, SLM_TENSOR_TOKEN_EMBD, 0, &head);
        CHECK(attn.type == cases[i].attn && down.type == cases[i].down && head.type == cases[i].head, "%s: types %d %d %d", cases[i].name,
              attn.type, down.type, head.type);
        double error = 0, power = 0;
        for (size_t k = 0; k < source->n_tensors; k++)
            if (source->tensors[k].role == SLM_TENSOR_FFN_DOWN && source->tensors[k].layer == 1) {
                float want[256], have[256];
                uint16_t raw[256];
                slm_status status = SLM_OK;
                for (uint32_t row = 0; row < 128; row++) {
                    source->read_rows(source, &source->tensors[k], row, 1, raw, &status, NULL);
                    slm_dequantize(SLM_TYPE_F16, raw, want, 256);
                    slm_kernels_get()->unpack_row(&down, row, have);
                    for (int c = 0; c < 256; c++) {
                        error += (double) (want[c] - have[c]) * (double) (want[c] - have[c]);
                        power += (double) want[c] * (double) want[c];
                    }
                }
            }
        CHECK(power > 0 && sqrt(error / power) <= cases[i].error, "%s: relative error %g", cases[i].name, sqrt(error / power));
        slm_image_close(image);
    }
    source->close(source);
    slm_import_options options = {.quantization = "Q9_X"};
    unlink(image_path);
    CHECK(slm_import(path, image_path, &options, NULL, NULL, NULL, NULL, &err) == SLM_INVALID, "Q9_X was accepted");
    CHECK(access(image_path, F_OK) != 0, "a failed import left its file");
}

int main(void)
{
    try_image_path(image_path, sizeof image_path);
    test_lossless();
    test_families();
    test_damage();
    test_forged();
    test_forged_shapes("families2/gemma4");
    test_forged_shapes("encoders/embeddinggemma2");
    test_failures();
    test_quantization();
    unlink(image_path);
    TEST_MAIN_END("image");
}
