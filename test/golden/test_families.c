/*
 * The 14 tiny models of golden/families against the reference implementation's logits, for a sequence of 96 tokens and its first 32
 * (phi4-mini: the long RoPE factors serve the first, the short ones the second).  And for each of them, to the last bit: the same
 * logits for any number of threads, any cut of the prompt into batches, with other sequences beside, and from the head for some tokens.
 */
#include "model_test.h"
#include "slm_test.h"

#define TOLERANCE 0.02

static const char *const families[] = {"llama", "llama-3.2", "mistral", "phi3",  "phi4-mini", "gemma", "gemma2", "gemma3", "qwen2",
                                       "qwen3", "smollm3",   "granite", "olmo2", "gemma4", NULL};

typedef struct fixture {
    const char *name;
    slm_model *model;
    slm_workspace *ws;
    size_t stride;
    int32_t *ids;
    uint32_t n_ids;
} fixture;

/* Logits of the first n tokens in one batch: [n, stride]. */
static float *whole(const fixture *f, uint32_t n, int n_threads)
{
    float *logits = test_alloc(n * f->stride * sizeof *logits);
    test_sequence s = test_sequence_new(f->model, n);
    test_batch t = test_batch_new(n);
    test_batch_add(&t, &s, f->ids, n, n, 2);
    test_run(f->model, f->ws, &t, n_threads, logits);
    test_batch_free(&t);
    test_sequence_free(&s);
    return logits;
}

/* The same from batches of `cut` tokens, each beside `others` sequences of other tokens. */
static float *pieces(const fixture *f, uint32_t n, uint32_t cut, uint32_t others, int n_threads)
{
    float *logits = test_alloc(n * f->stride * sizeof *logits), *batch_logits = test_alloc((cut + others) * f->stride * sizeof *logits);
    test_sequence s = test_sequence_new(f->model, n), other[8];
    test_batch t = test_batch_new(cut + others);
    for (uint32_t i = 0; i < others; i++)
        other[i] = test_sequence_new(f->model, n);
    for (uint32_t at = 0; at < n; at += cut) {
        uint32_t count = n - at < cut ? n - at : cut;
        test_batch_clear(&t);
        for (uint32_t i = 0; i < others / 2; i++)
            test_batch_add(&t, &other[i], f->ids + (at + 7 * i + 3) % f->n_ids, 1, n, 0);
        test_batch_add(&t, &s, f->ids + at, count, n, 2);
        for (uint32_t i = others / 2; i < others; i++)
            test_batch_add(&t, &other[i], f->ids + (at + 5 * i + 1) % f->n_ids, 1, n, 0);
        test_run(f->model, f->ws, &t, n_threads, batch_logits);
        memcpy(logits + at * f->stride, batch_logits, count * f->stride * sizeof *logits);
    }
    for (uint32_t i = 0; i < others; i++)
        test_sequence_free(&other[i]);
    test_batch_free(&t);
    test_sequence_free(&s);
    free(batch_logits);
    return logits;
}

static void compare(const fixture *f, const json_t *reference, const char *part, const float *logits)
{
    const json_t *run = json_object_get(reference, part), *positions = json_object_get(run, "positions");
    double worst = 0;
    for (size_t i = 0; i < json_array_size(positions); i++) {
        size_t position = (size_t) json_integer_value(json_array_get(positions, i));
        const json_t *row = json_array_get(json_object_get(run, "logits"), i);
        const float *ours = logits + position * f->stride;
        size_t best = 0, our_best = 0;
        for (size_t k = 0; k < json_array_size(row); k++) {
            double want = json_number_value(json_array_get(row, k)), diff = want - (double) ours[k];
            if (!(diff < 0 ? -diff <= worst : diff <= worst))
                worst = diff < 0 ? -diff : diff;
            if (want > json_number_value(json_array_get(row, best)))
                best = k;
            if (ours[k] > ours[our_best])
                our_best = k;
        }
        CHECK(json_array_size(row) == f->model->hp.n_vocab, "%s %s: %zu logits", f->name, part, json_array_size(row));
        CHECK(best == our_best, "%s %s position %zu: largest logit is %zu, should be %zu", f->name, part, position, our_best, best);
    }
    CHECK(worst <= TOLERANCE, "%s %s: largest difference %.4f", f->name, part, worst);
    if (getenv("SLM_TEST_VERBOSE") != NULL)
        printf("%-10s %-5s largest difference %.4f\n", f->name, part, worst);
}

/* Padding beyond the vocabulary is not compared. */
static bool same(const fixture *f, const float *a, const float *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (memcmp(a + i * f->stride, b + i * f->stride, f->model->hp.n_vocab * sizeof *a) != 0)
            return false;
    return true;
}

static void check_pieces(const fixture *f, const float *want, uint32_t n, uint32_t cut, uint32_t others, int n_threads)
{
    float *got = pieces(f, n, cut, others, n_threads);
    CHECK(same(f, want, got, n), "%s: batches of %u beside %u others on %d threads differ", f->name, cut, others, n_threads);
    free(got);
}

/* The last position alone, as generation wants it: hidden states of the other rows are never computed. */
static void check_last(const fixture *f, const float *want, uint32_t n, int n_threads)
{
    float *logits = test_alloc(f->stride * sizeof *logits), some[5], *hidden;
    int32_t ids[5] = {(int32_t) f->model->hp.n_vocab - 1, 0, 17, 16, 17};
    slm_error err = {0};
    test_sequence s = test_sequence_new(f->model, n);
    test_batch t = test_batch_new(n);
    test_batch_add(&t, &s, f->ids, n - 40, n, 0);
    test_run(f->model, f->ws, &t, n_threads, NULL);
    test_batch_clear(&t);
    test_batch_add(&t, &s, f->ids + n - 40, 40, n, 1);
    test_run(f->model, f->ws, &t, n_threads, logits);
    CHECK(same(f, want + (n - 1) * f->stride, logits, 1), "%s: last position alone on %d threads", f->name, n_threads);

    s.n = n - 1;
    test_batch_clear(&t);
    test_batch_add(&t, &s, f->ids + n - 1, 1, n, 1);
    slm_status status = slm_forward(f->model, f->ws, &t.b, n_threads, NULL, &hidden, &err);
    if (status == SLM_OK)
        status = slm_head_some(f->model, f->ws, hidden, ids, 5, some, &err);
    CHECK(status == SLM_OK, "%s: %s", f->name, err.message);
    for (int i = 0; i < 5; i++)
        CHECK(memcmp(&some[i], &logits[ids[i]], sizeof some[i]) == 0, "%s: logit of token %d alone differs", f->name, ids[i]);
    ids[2] = (int32_t) f->model->hp.n_vocab;
    CHECK(slm_head_some(f->model, f->ws, hidden, ids, 5, some, &err) == SLM_INVALID, "%s: a token beyond the vocabulary", f->name);
    test_batch_free(&t);
    test_sequence_free(&s);
    free(logits);
}

static void check_refusals(const fixture *f)
{
    slm_error err;
    float *hidden;
    int stop = 1;
    test_sequence s = test_sequence_new(f->model, 32);
    test_batch t = test_batch_new(32);
    test_batch_add(&t, &s, f->ids, 32, 32, 2);
    CHECK(slm_forward(f->model, f->ws, &t.b, 2, &stop, &hidden, &err) == SLM_CANCELLED, "%s: a set stop flag", f->name);
    t.tokens[31] = (int32_t) f->model->hp.n_vocab;
    CHECK(slm_forward(f->model, f->ws, &t.b, 2, NULL, &hidden, &err) == SLM_INVALID, "%s: id beyond the vocabulary", f->name);
    t.tokens[31] = -1;
    CHECK(slm_forward(f->model, f->ws, &t.b, 2, NULL, &hidden, &err) == SLM_INVALID, "%s: negative id", f->name);
    t.tokens[31] = 1;
    t.positions[3] = -1;
    CHECK(slm_forward(f->model, f->ws, &t.b, 2, NULL, &hidden, &err) == SLM_INVALID, "%s: negative position", f->name);
    t.positions[3] = 3;
    t.out[31] = 32;
    CHECK(slm_forward(f->model, f->ws, &t.b, 2, NULL, &hidden, &err) == SLM_INVALID, "%s: wanted row that is not there", f->name);
    t.b.n = 0;
    CHECK(slm_forward(f->model, f->ws, &t.b, 2, NULL, &hidden, &err) == SLM_INVALID, "%s: empty batch", f->name);
    test_batch_free(&t);
    test_sequence_free(&s);
}

static void test_family(const char *name)
{
    char path[1024];
    fixture f = {.name = name};
    snprintf(path, sizeof path, "%s/families/%s.gguf", golden_root(), name);
    char reference_path[256];
    snprintf(reference_path, sizeof reference_path, "families/%s.json", name);
    json_t *reference = test_json(reference_path);
    f.model = test_import(path, NULL);
    CHECK(reference != NULL && f.model != NULL, "%s does not load", name);
    if (reference != NULL && f.model != NULL) {
        f.ws = slm_workspace_new();
        f.stride = test_logit_stride(f.model);
        f.ids = test_ids(json_object_get(reference, "ids"), &f.n_ids);
        float *full = whole(&f, f.n_ids, 2), *brief = whole(&f, 32, 1);
        compare(&f, reference, "full", full);
        compare(&f, reference, "short", brief);
        float *one = whole(&f, f.n_ids, 1), *three = whole(&f, f.n_ids, 3);
        CHECK(same(&f, full, one, f.n_ids) && same(&f, full, three, f.n_ids), "%s: threads change the result", name);
        check_pieces(&f, full, f.n_ids, 1, 0, 2);
        check_pieces(&f, full, f.n_ids, 1, 7, 2);
        check_pieces(&f, full, f.n_ids, 2, 0, 1);
        check_pieces(&f, full, f.n_ids, 23, 4, 2);
        check_last(&f, full, f.n_ids, 1);
        check_last(&f, full, f.n_ids, 2);
        check_refusals(&f);
        free(full);
        free(brief);
        free(one);
        free(three);
        free(f.ids);
        slm_workspace_free(f.ws);
    }
    slm_model_close(f.model);
    json_decref(reference);
}

int main(void)
{
    for (int i = 0; families[i] != NULL; i++)
        test_family(families[i]);
    slm_threads_release();
    TEST_MAIN_END("families");
}
