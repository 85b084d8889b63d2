/*
 * What keys and values in eight bits cost in quality, on the text of the perplexity test (4,096 tokens of Banking77).
 *
 *   bench_kv [MODEL.gguf] [--csv]        without a model: SmolLM2-135M-Instruct Q4_1 of the model cache
 *
 * perplexity: of 8 windows of 512 tokens, and of all 4,096 in one.  retrieval: a sentence that names a number is put into a text of 1,500
 * to 4,000 tokens, the beginning of that sentence is put behind it, and the model goes on: how many answers name the number, and
 * how probable its tokens are.  All with 8-bit activations, as generation has them.
 */
#include <math.h>

#include "engine/base/threads.h"
#include "model_test.h"

#define MODEL "SmolLM2-135M-Instruct.Q4_1.gguf"
#define N_TEXT 4096u
#define STEP 512u

static const char *const names[] = {"f16", "q8"};

typedef struct bench {
    slm_model *model;
    slm_workspace *ws;
    size_t stride;
    float *logits; /* [STEP, stride] */
    int32_t *text; /* [N_TEXT] */
    bool csv;
} bench;

static void report(const bench *b, const char *what, const char *type, double value, const char *unit)
{
    printf(b->csv ? "%s,%s,%.4f,%s\n" : "%-44s %-4s %10.4f %s\n", what, type, value, unit);
    fflush(stdout);
}

/* Tokens of a text, malloc'ed. */
static int32_t *tokens_of(const bench *b, const char *text, uint32_t *n)
{
    slm_tokens tokens = {0};
    slm_error err = {0};
    int32_t *ids;

    if (slm_tokenize(b->model, text, strlen(text), false, NULL, &tokens, &err) != SLM_OK)
        test_die("tokens", err.message);
    *n = (uint32_t) tokens.n;
    ids = test_alloc(tokens.n * sizeof *ids + 1);
    memcpy(ids, tokens.ids, tokens.n * sizeof *ids);
    slm_tokens_free(&tokens);
    return ids;
}

/* Computes a whole sequence; the sum of the log probabilities of its tokens from number `from` on, and the logits of its last in *last. */
static double run(bench *b, slm_kv_type type, const int32_t *ids, uint32_t n, uint32_t from, test_sequence *s, float **last)
{
    test_batch t = test_batch_new(STEP);
    double sum = 0;

    t.b.kv_type = type;
    for (uint32_t at = 0; at < n; at += STEP) {
        uint32_t count = n - at < STEP ? n - at : STEP;

        test_batch_clear(&t);
        test_batch_add(&t, s, ids + at, count, n, at + count >= from || at + count == n ? 2 : 0);
        test_run(b->model, b->ws, &t, slm_cpu_count(), b->logits);
        for (uint32_t i = 0; i < count && at + i + 1 < n; i++) {
            const float *row = b->logits + i * b->stride;

            if (at + i + 1 >= from)
                sum += (double) row[ids[at + i + 1]] - (double) slm_kernels_get()->logsumexp(row, b->model->hp.n_vocab);
        }
        *last = b->logits + (count - 1) * b->stride;
    }
    test_batch_free(&t);
    return sum;
}

static void bench_perplexity(bench *b, slm_kv_type type)
{
    double sum = 0;
    float *last;

    for (uint32_t window = STEP; window <= N_TEXT; window *= N_TEXT / STEP, sum = 0) {
        char what[64];

        for (uint32_t at = 0; at < N_TEXT; at += window) {
            test_sequence s = test_sequence_new(b->model, window);

            sum += run(b, type, b->text + at, window, 1, &s, &last);
            test_sequence_free(&s);
        }
        snprintf(what, sizeof what, "perplexity, windows of %u tokens", window);
        report(b, what, names[type], exp(-sum / (N_TEXT / window * (window - 1))), "");
    }
}

/* ---- retrieval */

typedef struct needle {
    const char *sentence, *question, *number;
} needle;

static const needle needles[] = {
    {"\nThe secret number of Anna's safe is 7304.\n", "\nThe secret number of Anna's safe is", " 7304"},
    {"\nThe password of the northern gate is 5918.\n", "\nThe password of the northern gate is", " 5918"},
    {"\nThe telephone number of the old harbour is 2467.\n", "\nThe telephone number of the old harbour is", " 2467"}};
static const uint32_t lengths[] = {1500, 2500, 4000};
static const double depths[] = {0.1, 0.5, 0.9};

static uint32_t put(int32_t *to, uint32_t at, const int32_t *ids, uint32_t n)
{
    memcpy(to + at, ids, n * sizeof *ids);
    return at + n;
}

/* The text with the needle and the question: *n tokens, malloc'ed. */
static int32_t *haystack(const bench *b, const needle *x, uint32_t length, double depth, uint32_t *n)
{
    uint32_t n_sentence, n_question, before;
    int32_t *sentence = tokens_of(b, x->sentence, &n_sentence), *question = tokens_of(b, x->question, &n_question);
    int32_t *ids = test_alloc((length + 1) * sizeof *ids);

    length -= n_sentence + n_question;
    before = (uint32_t) (length * depth);
    *n = put(ids, 0, b->text, before);
    *n = put(ids, *n, sentence, n_sentence);
    *n = put(ids, *n, b->text + before, length - before);
    *n = put(ids, *n, question, n_question);
    free(sentence);
    free(question);
    return ids;
}

/* Does the model say the number?  *probability: the sum of the log probabilities of its tokens. */
static bool retrieve(bench *b, slm_kv_type type, const needle *x, uint32_t length, double depth, double *probability)
{
    uint32_t n, n_number, right = 0;
    int32_t *ids = haystack(b, x, length, depth, &n), *number = tokens_of(b, x->number, &n_number);
    test_sequence s = test_sequence_new(b->model, n + n_number);
    test_batch t = test_batch_new(1);
    float *last;

    t.b.kv_type = type;
    *probability = 0;
    (void) run(b, type, ids, n, n, &s, &last);
    for (uint32_t i = 0; i < n_number; i++) {
        right += slm_kernels_get()->argmax(last, b->model->hp.n_vocab) == (uint32_t) number[i];
        *probability += (double) last[number[i]] - (double) slm_kernels_get()->logsumexp(last, b->model->hp.n_vocab);
        test_batch_clear(&t);
        test_batch_add(&t, &s, number + i, 1, n + n_number, 1);
        test_run(b->model, b->ws, &t, 1, b->logits);
        last = b->logits;
    }
    test_batch_free(&t);
    test_sequence_free(&s);
    free(ids);
    free(number);
    return right == n_number;
}

static void bench_retrieval(bench *b, slm_kv_type type)
{
    for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
        double sum = 0, probability;
        int found = 0, n = 0;
        char what[64];

        for (size_t d = 0; d < sizeof depths / sizeof *depths; d++)
            for (size_t i = 0; i < sizeof needles / sizeof *needles; i++, n++) {
                found += retrieve(b, type, &needles[i], lengths[l], depths[d], &probability);
                sum += probability;
            }
        snprintf(what, sizeof what, "retrieval from %u tokens: found", lengths[l]);
        report(b, what, names[type], found, "of 9");
        snprintf(what, sizeof what, "retrieval from %u tokens: log probability", lengths[l]);
        report(b, what, names[type], sum / n, "");
    }
}

int main(int argc, char **argv)
{
    char path[1024] = "";
    bench b = {0};
    uint32_t n;
    json_t *reference = test_json("smollm2/perplexity.json");

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--csv") == 0)
            b.csv = true;
        else
            snprintf(path, sizeof path, "%s", argv[i]);
    }
    if (reference == NULL || (path[0] == '\0' && !test_model_path("SLM_TEST_MODEL", MODEL, path, sizeof path))) {
        fprintf(stderr, "bench_kv: no model, or no text in %s\n", golden_root());
        return 1;
    }
    b.text = test_ids(json_object_get(reference, "ids"), &n);
    b.model = test_import(path, NULL);
    if (b.model == NULL || n < N_TEXT)
        return 1;
    b.ws = slm_workspace_new();
    b.stride = test_logit_stride(b.model);
    b.logits = test_alloc(STEP * b.stride * sizeof(float));
    if (b.csv)
        printf("metric,type,value,unit\n");
    for (int type = 0; type < SLM_KV_TYPES; type++)
        bench_perplexity(&b, (slm_kv_type) type);
    for (int type = 0; type < SLM_KV_TYPES; type++)
        bench_retrieval(&b, (slm_kv_type) type);
    free(b.logits);
    free(b.text);
    slm_workspace_free(b.ws);
    slm_model_close(b.model);
    json_decref(reference);
    slm_threads_release();
    return 0;
}
