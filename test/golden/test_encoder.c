/*
 * all-MiniLM-L6-v2 from its Hugging Face directory against sentence-transformers in float32: cosine of 16 texts, as F32 and as Q8_0; and to
 * the last bit: the same vectors alone, in one packed batch in any order, and on any number of threads.
 */
#include <math.h>

#include "model_test.h"
#include "slm_test.h"

#define MODEL "all-MiniLM-L6-v2"
#define MAX_CASES 64

typedef struct fixture {
    slm_model *model;
    slm_workspace *ws;
    uint32_t n, n_embd;
    uint32_t lengths[MAX_CASES];
    int32_t *ids[MAX_CASES];
    const json_t *cases;
} fixture;

static float *encode(const fixture *f, const slm_encode_batch *batch, int n_threads)
{
    slm_error err = {0};
    float *vectors, *copy = test_alloc(batch->n_sequences * f->n_embd * sizeof *copy);
    if (slm_encode(f->model, f->ws, batch, n_threads, NULL, &vectors, &err) != SLM_OK)
        test_die("slm_encode", err.message);
    memcpy(copy, vectors, batch->n_sequences * f->n_embd * sizeof *copy);
    return copy;
}

static float *encode_one(const fixture *f, uint32_t i, int n_threads)
{
    slm_encode_batch batch = {.n_sequences = 1, .lengths = &f->lengths[i], .tokens = f->ids[i]};
    return encode(f, &batch, n_threads);
}

/* All cases in one batch, `times` times, in the order first, first + step, ... */
static float *encode_all(const fixture *f, uint32_t first, uint32_t step, uint32_t times, int n_threads)
{
    uint32_t lengths[4 * MAX_CASES], at = 0, n = f->n * times;
    int32_t *tokens = test_alloc(4 * MAX_CASES * 512 * sizeof *tokens), *types = test_alloc(4 * MAX_CASES * 512 * sizeof *types);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = (first + i * step) % f->n;
        lengths[i] = f->lengths[k];
        memcpy(tokens + at, f->ids[k], f->lengths[k] * sizeof *tokens);
        at += f->lengths[k];
    }
    slm_encode_batch batch = {.n_sequences = n, .lengths = lengths, .tokens = tokens, .types = types};
    float *vectors = encode(f, &batch, n_threads);
    free(tokens);
    free(types);
    return vectors;
}

static void check_batches(const fixture *f, float *const single[])
{
    for (int n_threads = 1; n_threads <= 3; n_threads++)
        for (uint32_t step = 1; step < f->n; step += 2) {
            uint32_t times = 1 + step % 3;
            float *all = encode_all(f, step, step, times, n_threads);
            bool equal = true;
            for (uint32_t i = 0; i < f->n * times; i++)
                equal = equal && memcmp(all + i * f->n_embd, single[(step + i * step) % f->n], f->n_embd * sizeof *all) == 0;
            CHECK(equal, "batch of %u on %d threads differs from single texts", f->n * times, n_threads);
            free(all);
        }
}

static void check_refusals(const fixture *f)
{
    uint32_t length = f->model->hp.n_context + 1, none = 0, two = 2;
    int stop = 1;
    int32_t *tokens = test_alloc((length + 1) * sizeof *tokens), types[2] = {0, (int32_t) f->model->hp.n_token_types};
    float *vectors;
    slm_error err;
    slm_encode_batch b = {.n_sequences = 1, .lengths = &length, .tokens = tokens};
    CHECK(slm_encode(f->model, f->ws, &b, 1, NULL, &vectors, &err) == SLM_INVALID, "a sequence beyond the context");
    b.lengths = &none;
    CHECK(slm_encode(f->model, f->ws, &b, 1, NULL, &vectors, &err) == SLM_INVALID, "an empty sequence");
    b.lengths = &two;
    b.types = types;
    CHECK(slm_encode(f->model, f->ws, &b, 1, NULL, &vectors, &err) == SLM_INVALID, "a token type out of range");
    b.types = NULL;
    CHECK(slm_encode(f->model, f->ws, &b, 1, &stop, &vectors, &err) == SLM_CANCELLED, "a set stop flag");
    tokens[1] = -5;
    CHECK(slm_encode(f->model, f->ws, &b, 1, NULL, &vectors, &err) == SLM_INVALID, "a negative token");
    b.n_sequences = 0;
    CHECK(slm_encode(f->model, f->ws, &b, 1, NULL, &vectors, &err) == SLM_INVALID, "no sequence");
    free(tokens);
}

static void check_model(const char *path, const char *quantization, const json_t *cases, double cosine)
{
    fixture f = {.cases = cases, .n = (uint32_t) json_array_size(cases)};
    float *single[MAX_CASES];
    double worst = 1;
    f.model = test_import(path, quantization);
    CHECK(f.model != NULL && f.n >= 1 && f.n <= MAX_CASES, "%s as %s", path, quantization);
    if (f.model == NULL || f.n > MAX_CASES)
        return;
    f.ws = slm_workspace_new();
    f.n_embd = f.model->hp.n_embd;
    for (uint32_t i = 0; i < f.n; i++) {
        const json_t *c = json_array_get(cases, i), *want = json_object_get(c, "embedding");
        double dot = 0, a = 0, b = 0;
        f.ids[i] = test_ids(json_object_get(c, "ids"), &f.lengths[i]);
        single[i] = encode_one(&f, i, 1);
        CHECK(json_array_size(want) == f.n_embd, "%zu dimensions", json_array_size(want));
        for (uint32_t k = 0; k < f.n_embd; k++) {
            double x = json_number_value(json_array_get(want, k)), y = (double) single[i][k];
            dot += x * y;
            a += x * x;
            b += y * y;
        }
        if (!(dot / sqrt(a * b) >= worst))
            worst = dot / sqrt(a * b);
        CHECK(fabs(b - 1) < 1e-5, "text %u: squared length %.7f", i, b);
        CHECK(dot / sqrt(a * b) >= cosine, "text %u as %s: cosine %.7f", i, quantization, dot / sqrt(a * b));
    }
    printf("%s: smallest cosine %.7f\n", quantization, worst);
    check_batches(&f, single);
    check_refusals(&f);
    for (uint32_t i = 0; i < f.n; i++) {
        free(single[i]);
        free(f.ids[i]);
    }
    slm_workspace_free(f.ws);
    slm_model_close(f.model);
}

int main(void)
{
    char path[1024];
    json_t *reference = test_json("minilm/embeddings.json");
    if (!test_model_path("SLM_TEST_ENCODER", MODEL, path, sizeof path) || reference == NULL) {
        printf("skip encoder: %s or the reference values in %s are not there (make models; SLM_TEST_ENCODER, SLM_GOLDEN)\n", path,
               golden_root());
        return 0;
    }
    check_model(path, "F32", json_object_get(reference, "cases"), 0.99999);
    check_model(path, "Q8_0", json_object_get(reference, "cases"), 0.999);
    json_decref(reference);
    slm_threads_release();
    TEST_MAIN_END("encoder");
}
