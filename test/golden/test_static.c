/*
 * Tables of vectors (golden/static): each directory as model2vec or sentence-transformers saved it gives their token ids and their vectors,
 * scaled to length 1, in float and near enough in Q8_0; the same bits alone and in any batch on any number of threads; the same from an
 * image that was quantized again.  A text without a token has zeros.  Directories that are damaged or say what is not known are refused
 * by name.
 */
#include <dirent.h>
#include <math.h>

#include "engine/slm.h"
#include "hf_dir.h"
#include "model_test.h"
#include "slm_test.h"

#define MAX_CASES 64
#define MAX_WIDTH 96

static const char *const names[] = {"plain", "loose", "bytes", "weighted", "shared", "wide", "module", "module-folder", "module-dense"};

typedef struct cases {
    const json_t *list;
    size_t n;
    slm_session *session;
} cases;

static const char *text_of(const cases *c, size_t i)
{
    return json_string_value(json_object_get(json_array_get(c->list, i), "text"));
}

/* The texts i, i + step, ...: n of them; out [n, MAX_WIDTH]; the width. */
static size_t embed(const cases *c, size_t first, size_t step, size_t n, float *out)
{
    slm_error err = {0};
    uint64_t ids[MAX_CASES];
    size_t active = 1, width = 0;
    for (size_t i = 0; i < n; i++) {
        const char *text = text_of(c, (first + i * step) % c->n);
        slm_segment segment = {.role = SLM_ROLE_USER, .text = text, .length = strlen(text)};
        slm_request request = {.mode = SLM_MODE_EMBED, .truncate = true, .segments = &segment, .n_segments = 1};
        if (slm_submit(c->session, &request, &ids[i], &err) != SLM_OK)
            test_die(text, err.message);
    }
    while (active > 0)
        if (slm_step(c->session, &active, &err) != SLM_OK)
            test_die("step", err.message);
    for (const slm_result *r; (r = slm_poll(c->session)) != NULL;) {
        for (size_t i = 0; i < n; i++)
            if (ids[i] == r->id && r->status == SLM_OK && r->n_scores <= MAX_WIDTH) {
                width = r->n_scores;
                memcpy(out + i * MAX_WIDTH, r->scores, width * sizeof *out);
            }
        slm_release(c->session, r->id);
    }
    return width;
}

static void check_ids(const slm_model *model, const cases *c, const char *name)
{
    for (size_t i = 0; i < c->n; i++) {
        const json_t *want = json_object_get(json_array_get(c->list, i), "ids");
        slm_tokens tokens;
        slm_error err;
        if (strchr(text_of(c, i), '[') != NULL) /* control tokens in a text are text here */
            continue;
        slm_status status = slm_tokenize(model, text_of(c, i), strlen(text_of(c, i)), false, NULL, &tokens, &err);
        bool same = status == SLM_OK && tokens.n >= json_array_size(want); /* the reference may have cut it */
        for (size_t k = 0; same && k < json_array_size(want); k++)
            same = tokens.ids[k] == json_integer_value(json_array_get(want, k));
        CHECK(same, "%s, text %zu: other ids", name, i);
        if (status == SLM_OK)
            slm_tokens_free(&tokens);
    }
}

/* Length 1, or 0 where the reference has zeros; the direction of the reference. */
static void check_vectors(const cases *c, const float *got, size_t width, double least, const char *name, const char *type)
{
    double worst = 1;
    unsigned zeros = 0;
    for (size_t i = 0; i < c->n; i++) {
        const json_t *want = json_object_get(json_array_get(c->list, i), "vector");
        double dot = 0, a = 0, b = 0;
        if (strchr(text_of(c, i), '[') != NULL)
            continue;
        CHECK(json_array_size(want) == width, "%s: %zu dimensions", name, width);
        for (size_t d = 0; d < width; d++) {
            double w = json_number_value(json_array_get(want, d)), g = (double) got[i * MAX_WIDTH + d];
            dot += w * g;
            a += w * w;
            b += g * g;
        }
        zeros += a == 0;
        if (a == 0)
            CHECK(b == 0, "%s as %s, text %zu: not zeros", name, type, i);
        else
            CHECK(dot / sqrt(a * b) >= least && fabs(b - 1) < 1e-5, "%s as %s, text %zu: cosine %.7f, length %.6f", name, type, i,
                  dot / sqrt(a * b), sqrt(b));
        worst = a > 0 && dot / sqrt(a * b) < worst ? dot / sqrt(a * b) : worst;
    }
    printf("%s as %s: %zu texts, smallest cosine %.7f, zeros %u\n", name, type, c->n, worst, zeros);
    CHECK(zeros > 0 || strcmp(name, "module-dense") == 0, "%s: no text is without a token", name);
}

static void check_bits(const cases *c, const float *all, size_t width, const char *name)
{
    float *some = test_alloc(MAX_CASES * MAX_WIDTH * sizeof *some);
    for (size_t step = 1; step < c->n; step += 4) {
        bool same = embed(c, step, step, c->n, some) == width;
        for (size_t i = 0; same && i < c->n; i++)
            same = memcmp(some + i * MAX_WIDTH, all + (step + i * step) % c->n * MAX_WIDTH, width * sizeof *all) == 0;
        CHECK(same, "%s: other bits in a batch of step %zu", name, step);
    }
    for (size_t i = 0; i < c->n; i++)
        CHECK(embed(c, i, 1, 1, some) == width && memcmp(some, all + i * MAX_WIDTH, width * sizeof *all) == 0,
              "%s: text %zu alone has other bits", name, i);
    free(some);
}

static void check_image(const char *image, cases *c, const char *name, const char *type, double least)
{
    slm_model *model = NULL;
    slm_error err = {0};
    float *all = test_alloc(MAX_CASES * MAX_WIDTH * sizeof *all);
    CHECK(slm_model_open(image, &model, &err) == SLM_OK, "%s as %s: %s", name, type, err.message);
    for (int threads = 1; model != NULL && threads <= 2; threads++) {
        slm_limits limits = {.kv_cache_bytes = 1 << 24, .n_threads = threads, .max_batch_tokens = threads == 1 ? 0 : 64};
        CHECK(slm_session_new(model, &limits, &c->session, &err) == SLM_OK, "session: %s", err.message);
        size_t width = embed(c, 0, 1, c->n, all);
        if (threads == 1) {
            check_ids(model, c, name);
            check_vectors(c, all, width, least, name, type);
        }
        check_bits(c, all, width, name);
        slm_session_free(c->session);
    }
    slm_model_close(model);
    free(all);
}

static void check_name(const char *name)
{
    static const struct {
        const char *type;
        double least;
    } types[] = {{"F32", 0.999999}, {"Q8_0", 0.999}};
    char dir[1024], path[1100], image[64], again[64];
    slm_error err = {0};
    slm_model_info info = {0};
    snprintf(dir, sizeof dir, "%s/static/%s", golden_root(), name);
    snprintf(path, sizeof path, "%s/golden.json", dir);
    snprintf(image, sizeof image, "/tmp/slm_static_%d.slm", (int) getpid());
    snprintf(again, sizeof again, "/tmp/slm_static_%d.again", (int) getpid());
    json_t *golden = json_load_file(path, 0, NULL);
    cases c = {.list = json_object_get(golden, "cases")};
    c.n = json_array_size(c.list);
    CHECK(c.n >= 8 && c.n <= MAX_CASES, "%s: %zu cases", name, c.n);
    for (size_t i = 0; c.n > 0 && i < sizeof types / sizeof types[0]; i++) {
        slm_import_options options = {.quantization = types[i].type};
        unlink(image);
        slm_status status = slm_import(dir, image, &options, NULL, NULL, NULL, &info, &err);
        CHECK(status == SLM_OK, "%s as %s: %s (%s)", name, types[i].type, err.message, err.hint);
        if (status != SLM_OK)
            break;
        CHECK(info.can_embed && !info.can_generate && info.n_layers == 0 && info.kv_bytes_per_token == 0 &&
                  strcmp(info.family, "static") == 0 && strncmp(info.pooling, "mean", 4) == 0 &&
                  strcmp(info.quantization, types[i].type) == 0, "%s: what it is", name);
        CHECK(slm_kv_bytes_per_token(&info, SLM_KV_Q8) == 0, "%s: keys and values of nothing", name);
        check_image(image, &c, name, types[i].type, types[i].least);
        if (i > 0)
            continue;
        unlink(again);
        options.quantization = "Q8_0";
        slm_model *model = NULL;
        status = slm_model_open(image, &model, &err);
        if (status == SLM_OK)
            status = slm_quantize_image(model, again, &options, NULL, NULL, NULL, &info, &err);
        slm_model_close(model);
        CHECK(status == SLM_OK, "%s: quantized again: %s", name, err.message);
        check_image(again, &c, name, "F32, then Q8_0", 0.999);
        unlink(again);
    }
    unlink(image);
    json_decref(golden);
}

/* ---- what is damaged or not known ---- */

/* A file with a header and data: nine vectors of 32 as floats of 0.5, nine weights of 1, nine rows of 0; `odd` replaces the last eight
 * bytes. */
static void write_table(const char *dir, const char *header, const void *odd)
{
    static uint8_t file[4096];
    size_t n = strlen(header), at = 8 + n;
    const float half = 0.5f, one = 1;
    memset(file, 0, sizeof file);
    for (int i = 0; i < 8; i++)
        file[i] = (uint8_t) (n >> (8 * i));
    memcpy(file + 8, header, n);
    for (int i = 0; i < 9 * 32; i++, at += 4)
        memcpy(file + at, &half, 4);
    for (int i = 0; i < 9; i++, at += 4)
        memcpy(file + at, &one, 4);
    at += 9 * 8;
    if (odd != NULL)
        memcpy(file + at - 8, odd, 8);
    hf_write(dir, "model.safetensors", file, at);
}

#define TABLE "\"embeddings\":{\"dtype\":\"F32\",\"shape\":[9,32],\"data_offsets\":[0,1152]}"
#define WEIGHTS "\"weights\":{\"dtype\":\"F32\",\"shape\":[9],\"data_offsets\":[1152,1188]}"
#define MAPPING "\"mapping\":{\"dtype\":\"I64\",\"shape\":[9],\"data_offsets\":[1188,1260]}"
#define GOOD "{" TABLE "," WEIGHTS "," MAPPING "}"
#define CONFIG "{\"model_type\":\"model2vec\",\"normalize\":true,\"max_length\":8}"
#define TOKENIZER \
    "{\"added_tokens\":[],\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true," \
    "\"strip_accents\":null,\"lowercase\":true},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"post_processor\":null," \
    "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\"," \
    "\"max_input_chars_per_word\":100,\"vocab\":{\"[UNK]\":0,\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7,\"h\":8}}}"

typedef struct directory {
    const char *header, *config, *tokenizer, *modules; /* NULL: none */
    const void *odd;
} directory;

static slm_status load(const char *dir, const directory *d, slm_error *err)
{
    char image[64];
    slm_model_info info;
    snprintf(image, sizeof image, "/tmp/slm_static_%d.odd", (int) getpid());
    const struct {
        const char *name, *text;
    } files[] = {{"config.json", d->config}, {"tokenizer.json", d->tokenizer}, {"modules.json", d->modules}};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        hf_delete(dir, files[i].name);
        if (files[i].text != NULL)
            hf_text(dir, files[i].name, files[i].text);
    }
    write_table(dir, d->header, d->odd);
    slm_status status = slm_import(dir, image, NULL, NULL, NULL, NULL, &info, err);
    unlink(image);
    return status;
}

#define ST "sentence_transformers.models."

static void check_refused(void)
{
    static const int64_t beyond = 9, before = -1, far = INT64_MIN;
    static const uint32_t nan[2] = {0x7fc00000u, 0x7fc00000u};
    static const struct {
        directory d;
        slm_status status;
        const char *word;
    } bad[] = {
        {{GOOD, CONFIG, TOKENIZER, NULL, &beyond}, SLM_FORMAT, "leads token 8 to row 9 of 9"},
        {{GOOD, CONFIG, TOKENIZER, NULL, &before}, SLM_FORMAT, "leads token 8 to row -1 of 9"},
        {{GOOD, CONFIG, TOKENIZER, NULL, &far}, SLM_FORMAT, "mapping"},
        {{"{" TABLE "," WEIGHTS ",\"mapping\":{\"dtype\":\"F64\",\"shape\":[9],\"data_offsets\":[1188,1260]}}", CONFIG, TOKENIZER,
          NULL, NULL}, SLM_FORMAT, "mapping"},
        {{"{" TABLE ",\"weights\":{\"dtype\":\"F32\",\"shape\":[27],\"data_offsets\":[1152,1260]}}", CONFIG, TOKENIZER, NULL, NULL},
         SLM_FORMAT, "weights"},
        {{"{" TABLE ",\"weights\":{\"dtype\":\"BOOL\",\"shape\":[9],\"data_offsets\":[1152,1161]},\"x\":{\"dtype\":\"U8\","
          "\"shape\":[99],\"data_offsets\":[1161,1260]}}", CONFIG, TOKENIZER, NULL, NULL}, SLM_UNSUPPORTED, "\"x\""},
        {{"{\"embeddings\":{\"dtype\":\"F32\",\"shape\":[9,35],\"data_offsets\":[0,1260]}}", CONFIG, TOKENIZER, NULL, nan}, SLM_UNSUPPORTED,
         "multiple of 32"},
        {{"{\"embeddings\":{\"dtype\":\"F32\",\"shape\":[315],\"data_offsets\":[0,1260]}}", CONFIG, TOKENIZER, NULL, NULL}, SLM_FORMAT,
         "embeddings"},
        {{"{\"embeddings\":{\"dtype\":\"U8\",\"shape\":[315,4],\"data_offsets\":[0,1260]}}", CONFIG, TOKENIZER, NULL, NULL}, SLM_FORMAT,
         "U8"},
        {{"{\"embedding\":{\"dtype\":\"F32\",\"shape\":[315],\"data_offsets\":[0,1260]}}", CONFIG, TOKENIZER, NULL, NULL}, SLM_FORMAT,
         "lacks the tensor embeddings"},
        {{GOOD, "{\"model_type\":\"model2vec\",\"max_length\":0}", TOKENIZER, NULL, NULL}, SLM_FORMAT, "max_length"},
        {{GOOD, "{\"model_type\":\"model2vec\",\"max_length\":\"8\"}", TOKENIZER, NULL, NULL}, SLM_FORMAT, "max_length"},
        {{GOOD, "{\"model_type\":\"model2vec\",\"head_config\":{\"a\":1}}", TOKENIZER, NULL, NULL}, SLM_UNSUPPORTED, "head_config"},
        {{GOOD, "{\"model_type\":\"model2vec\",\"gate\":1}", TOKENIZER, NULL, NULL}, SLM_UNSUPPORTED, "gate"},
        {{GOOD, CONFIG, NULL, NULL, NULL}, SLM_IO, "tokenizer.json"},
        {{GOOD, NULL, TOKENIZER, NULL, NULL}, SLM_IO, "config.json"},
        {{GOOD, NULL, TOKENIZER, "[{\"path\":\"../x\",\"type\":\"" ST "StaticEmbedding\"}]", NULL}, SLM_FORMAT, "modules.json"},
        {{GOOD, NULL, TOKENIZER, "[{\"path\":\"0_S\",\"type\":\"" ST "StaticEmbedding\"}]", NULL}, SLM_IO, "0_S/model.safetensors"},
        {{GOOD, CONFIG, TOKENIZER, "[{\"path\":\"\",\"type\":\"" ST "Transformer\"}]", NULL}, SLM_UNSUPPORTED, "Transformer"},
        {{GOOD, NULL, "{\"truncation\":{\"direction\":\"Left\",\"max_length\":8}}", "[{\"path\":\"\",\"type\":\"" ST "StaticEmbedding\"}]",
          NULL}, SLM_UNSUPPORTED, "Left"},
        {{GOOD, CONFIG, "{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0},\"unk_token\":\"a\"}}", NULL, NULL}, SLM_UNSUPPORTED,
         "WordLevel"},
    };
    const directory good = {GOOD, CONFIG, TOKENIZER, NULL, NULL}, module = {GOOD, NULL, TOKENIZER,
        "[{\"path\":\".\",\"type\":\"" ST "StaticEmbedding\"}]", NULL};
    char dir[64];
    slm_error err = {0};
    if (!hf_make_dir(dir, sizeof dir))
        test_die("a directory", "it cannot be made");
    CHECK(load(dir, &good, &err) == SLM_OK, "%s (%s)", err.message, err.hint);
    CHECK(load(dir, &module, &err) == SLM_OK, "%s (%s)", err.message, err.hint);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        slm_status status = load(dir, &bad[i].d, &err);
        CHECK(status == bad[i].status && strstr(err.message, bad[i].word) != NULL, "case %zu: %d, \"%s\" lacks \"%s\"", i, (int) status,
              err.message, bad[i].word);
    }
    hf_remove_dir(dir);
}

int main(void)
{
    check_refused();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        check_name(names[i]);
    slm_threads_release();
    TEST_MAIN_END("static");
}
