/*
 * SmolLM2-135M-Instruct Q4_1 against a float32 reference of the same file: log probabilities of five prompts, the twenty likeliest next
 * tokens, the greedy path where its margin is clear, and the perplexity of 8 windows of 512 tokens.
 *
 * The engine rounds activations to int8 and keys and values to F16; llama.cpp on the same file is 0.05-0.08 away on average and 0.09-0.35 at most.
 */
#include <math.h>

#include "model_test.h"
#include "slm_test.h"

#define MODEL "SmolLM2-135M-Instruct.Q4_1.gguf"
#define MEAN_DIFFERENCE 0.08
#define LARGEST_DIFFERENCE 0.35
#define CLEAR_MARGIN 0.75
#define PERPLEXITY 13.822

typedef struct fixture {
    slm_model *model;
    slm_workspace *ws;
    size_t stride;
    float *logits; /* [512, stride] */
} fixture;

static double log_probability(const fixture *f, const float *logits, int32_t id)
{
    return (double) logits[id] - (double) slm_kernels_get()->logsumexp(logits, f->model->hp.n_vocab);
}

typedef struct difference {
    double sum, most;
    int n;
} difference;

static void note(difference *d, double ours, double reference)
{
    double diff = fabs(ours - reference);
    d->sum += diff;
    d->n++;
    if (!(diff <= d->most))
        d->most = diff;
}

static void check_case(fixture *f, const json_t *c)
{
    uint32_t n, n_greedy;
    int32_t *ids = test_ids(json_object_get(c, "ids"), &n), *greedy = test_ids(json_object_get(c, "greedy"), &n_greedy);
    const char *prompt = json_string_value(json_object_get(c, "prompt"));
    const json_t *next = json_object_get(c, "position_logprob_of_next"), *top = json_object_get(c, "last_top20");
    const json_t *margin = json_object_get(c, "greedy_margin");
    difference d = {0};
    test_sequence s = test_sequence_new(f->model, n + n_greedy);
    test_batch t = test_batch_new(n);

    test_batch_add(&t, &s, ids, n, n, 2);
    test_run(f->model, f->ws, &t, 2, f->logits);
    for (uint32_t i = 0; i + 1 < n; i++)
        note(&d, log_probability(f, f->logits + i * f->stride, ids[i + 1]), json_number_value(json_array_get(next, i)));
    const float *last = f->logits + (n - 1) * f->stride;
    for (size_t i = 0; i < json_array_size(top); i++) {
        const json_t *pair = json_array_get(top, i);
        note(&d, log_probability(f, last, (int32_t) json_integer_value(json_array_get(pair, 0))), json_number_value(json_array_get(pair, 1)));
    }
    CHECK(d.sum / d.n <= MEAN_DIFFERENCE, "mean difference %.4f: %s", d.sum / d.n, prompt);
    CHECK(d.most <= LARGEST_DIFFERENCE, "largest difference %.4f: %s", d.most, prompt);
    printf("%3d log probabilities: mean difference %.4f, largest %.4f\n", d.n, d.sum / d.n, d.most);

    memmove(f->logits, last, f->stride * sizeof(float));
    for (uint32_t i = 0; i < n_greedy; i++) {
        uint32_t best = slm_kernels_get()->argmax(f->logits, f->model->hp.n_vocab);
        if (json_number_value(json_array_get(margin, i)) >= CLEAR_MARGIN)
            CHECK((int32_t) best == greedy[i], "greedy token %u is %u, should be %d: %s", i, best, greedy[i], prompt);
        test_batch_clear(&t);
        test_batch_add(&t, &s, greedy + i, 1, n, 1);
        test_run(f->model, f->ws, &t, 2, f->logits);
    }
    test_batch_free(&t);
    test_sequence_free(&s);
    free(ids);
    free(greedy);
}

static void check_perplexity(fixture *f, const json_t *reference)
{
    uint32_t n, window = 512;
    int32_t *ids = test_ids(json_object_get(reference, "ids"), &n);
    double sum = 0;
    int count = 0;
    test_batch t = test_batch_new(window);
    for (uint32_t w = 0; w + window <= n; w += window) {
        test_sequence s = test_sequence_new(f->model, window);
        test_batch_clear(&t);
        test_batch_add(&t, &s, ids + w, window, window, 2);
        test_run(f->model, f->ws, &t, 2, f->logits);
        for (uint32_t i = 0; i + 1 < window; i++, count++)
            sum -= log_probability(f, f->logits + i * f->stride, ids[w + i + 1]);
        test_sequence_free(&s);
    }
    double perplexity = exp(sum / count);
    printf("perplexity %.4f (reference %.3f)\n", perplexity, PERPLEXITY);
    CHECK(count == 8 * 511, "%d log probabilities", count);
    CHECK(fabs(perplexity / PERPLEXITY - 1) <= 0.003, "perplexity %.4f", perplexity);
    test_batch_free(&t);
    free(ids);
}

int main(void)
{
    char path[1024];
    fixture f = {0};
    json_t *logprobs = test_json("smollm2/logprobs.json"), *perplexity = test_json("smollm2/perplexity.json");
    if (!test_model_path("SLM_TEST_MODEL", MODEL, path, sizeof path) || logprobs == NULL || perplexity == NULL) {
        printf("logprobs: skipped, %s or the reference values in %s are not there (make models; SLM_TEST_MODEL, SLM_GOLDEN)\n", path, test_golden());
        return 0;
    }
    f.model = test_import(path, NULL);
    CHECK(f.model != NULL, "%s does not load", path);
    if (f.model != NULL) {
        f.ws = slm_workspace_new();
        f.stride = test_logit_stride(f.model);
        f.logits = test_alloc(512 * f.stride * sizeof *f.logits);
        const json_t *cases = json_object_get(logprobs, "cases");
        for (size_t i = 0; i < json_array_size(cases); i++)
            check_case(&f, json_array_get(cases, i));
        check_perplexity(&f, perplexity);
        free(f.logits);
        slm_workspace_free(f.ws);
    }
    slm_model_close(f.model);
    json_decref(logprobs);
    json_decref(perplexity);
    slm_threads_release();
    TEST_MAIN_END("logprobs");
}
