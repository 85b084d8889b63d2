/*
 * all-MiniLM-L6-v2 from its Hugging Face directory against sentence-transformers: token ids equal, embeddings close.
 *
 * Needs minilm/embeddings.json of the reference values (golden.h) and the model's directory all-MiniLM-L6-v2 in the model cache
 * ($SLM_MODEL_CACHE, default ~/.cache/slm_pg); skips, saying so, where one is missing.  Cosine >= 0.999 at Q8_0, >= 0.99999 at F32, and
 * every vector has the same bits alone and in one batch with the others, on one thread and on two.
 */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/slm.h"
#include "golden.h"
#include "slm_test.h"

#define MAX_CASES 64
#define DIMS 384

typedef struct cases {
    json_t *root, *list;
    size_t n;
    const char *text[MAX_CASES];
} cases;

static bool load_cases(const char *path, cases *c)
{
    c->root = json_load_file(path, 0, NULL);
    c->list = json_object_get(c->root, "cases");
    c->n = json_array_size(c->list);
    for (size_t i = 0; i < c->n && i < MAX_CASES; i++)
        c->text[i] = json_string_value(json_object_get(json_array_get(c->list, i), "text"));
    return c->n > 0 && c->n <= MAX_CASES;
}

static void check_ids(const slm_model *model, const cases *c)
{
    for (size_t i = 0; i < c->n; i++) {
        json_t *want = json_object_get(json_array_get(c->list, i), "ids");
        slm_tokens tokens;
        slm_error err;
        slm_status status = slm_tokenize(model, c->text[i], strlen(c->text[i]), false, NULL, &tokens, &err);
        CHECK(status == SLM_OK, "case %zu: %s", i, err.message);
        if (status != SLM_OK)
            continue;
        size_t n = json_array_size(want), kept = n - 2; /* CLS and SEP around */
        bool same = tokens.n >= kept && (tokens.n == kept || n == 256);
        for (size_t k = 0; same && k < kept; k++)
            same = tokens.ids[k] == json_integer_value(json_array_get(want, k + 1));
        CHECK(same, "case %zu: token ids differ (%zu, want %zu)", i, tokens.n, kept);
        slm_tokens_free(&tokens);
    }
}

/* Embeds texts [first, first + n) in one go; out: [n, DIMS]. */
static bool embed(slm_session *session, const cases *c, size_t first, size_t n, float *out)
{
    slm_error err;
    uint64_t ids[MAX_CASES];
    size_t active = 1, done = 0;
    for (size_t i = 0; i < n; i++) {
        slm_segment segment = {.role = SLM_ROLE_USER, .text = c->text[first + i], .length = strlen(c->text[first + i])};
        slm_request request = {.mode = SLM_MODE_EMBED, .truncate = true, .segments = &segment, .n_segments = 1};
        if (slm_submit(session, &request, &ids[i], &err) != SLM_OK) {
            fprintf(stderr, "%s\n", err.message);
            return false;
        }
    }
    while (active > 0)
        if (slm_step(session, &active, &err) != SLM_OK) {
            fprintf(stderr, "%s\n", err.message);
            return false;
        }
    for (const slm_result *r; (r = slm_poll(session)) != NULL; done++) {
        uint64_t id = r->id;
        for (size_t i = 0; i < n; i++)
            if (ids[i] == id && r->status == SLM_OK && r->n_scores == DIMS)
                memcpy(out + i * DIMS, r->scores, DIMS * sizeof *out);
        slm_release(session, id);
    }
    return done == n;
}

static void check_vectors(const cases *c, const float *got, double least, const char *what)
{
    double worst = 1;
    for (size_t i = 0; i < c->n; i++) {
        json_t *want = json_object_get(json_array_get(c->list, i), "embedding");
        double dot = 0, a = 0, b = 0;
        for (size_t d = 0; d < DIMS; d++) {
            double w = json_number_value(json_array_get(want, d)), g = got[i * DIMS + d];
            dot += w * g;
            a += w * w;
            b += g * g;
        }
        double cosine = dot / sqrt(a * b);
        worst = cosine < worst ? cosine : worst;
        CHECK(cosine >= least, "%s case %zu: cosine %.6f", what, i, cosine);
        CHECK(fabs(b - 1) < 1e-5, "%s case %zu: length %.6f", what, i, sqrt(b));
    }
    printf("# %s: worst cosine %.6f\n", what, worst);
}

static void check_quantization(const char *dir, const char *quantization, double least, const cases *c)
{
    char image[64];
    slm_error err;
    slm_model *model = NULL;
    slm_session *session = NULL;
    slm_model_info info;
    slm_import_options options = {.quantization = quantization};
    float *all = calloc(MAX_CASES * DIMS, sizeof *all), *one = calloc(DIMS, sizeof *one);
    snprintf(image, sizeof image, "/tmp/slm_minilm_%d.img", (int) getpid());
    slm_status status = slm_import(dir, image, &options, NULL, NULL, NULL, &info, &err);
    CHECK(status == SLM_OK, "import: %s (%s)", err.message, err.hint);
    if (status == SLM_OK)
        status = slm_model_open(image, &model, &err);
    CHECK(status == SLM_OK, "open: %s", err.message);
    if (status == SLM_OK) {
        CHECK(info.can_embed && !info.can_generate && info.n_embd == DIMS && info.n_context == 256, "what the model is");
        CHECK(strcmp(info.quantization, quantization) == 0, "quantization %s", info.quantization);
        check_ids(model, c);
    }
    for (int threads = 1; threads <= 2 && status == SLM_OK; threads++) {
        slm_limits limits = {.kv_cache_bytes = 1 << 24, .n_threads = threads};
        CHECK(slm_session_new(model, &limits, &session, &err) == SLM_OK, "session: %s", err.message);
        CHECK(embed(session, c, 0, c->n, all), "batch of all");
        check_vectors(c, all, least, quantization);
        for (size_t i = 0; i < c->n; i++)
            CHECK(embed(session, c, i, 1, one) && memcmp(one, all + i * DIMS, DIMS * sizeof *one) == 0, "case %zu alone differs", i);
        slm_session_free(session);
    }
    slm_model_close(model);
    unlink(image);
    free(all);
    free(one);
}

int main(void)
{
    char path[4096], dir[4096];
    const char *cache = getenv("SLM_MODEL_CACHE"), *home = getenv("HOME");
    cases c;
    snprintf(path, sizeof path, "%s/minilm/embeddings.json", golden_root());
    if (cache != NULL && cache[0] != '\0')
        snprintf(dir, sizeof dir, "%s/all-MiniLM-L6-v2", cache);
    else
        snprintf(dir, sizeof dir, "%s/.cache/slm_pg/all-MiniLM-L6-v2", home != NULL ? home : "");
    if (access(dir, R_OK) != 0) {
        printf("skip minilm: %s is not there (make models)\n", dir);
        return 0;
    }
    CHECK(load_cases(path, &c), "no cases in %s", path);
    if (c.n > 0) {
        check_quantization(dir, "Q8_0", 0.999, &c);
        check_quantization(dir, "F32", 0.99999, &c);
    }
    json_decref(c.root);
    TEST_MAIN_END("test_minilm");
}
