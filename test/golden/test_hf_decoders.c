/*
 * Decoders of golden/families2 as they are saved: logits of whole sequences, and greedy continuations, against transformers in float.
 */
#include <math.h>

#include "model_test.h"
#include "slm_test.h"

/* Activations and keys are F16 where weights are: the reference itself moves by 0.003 to 0.03 when they are rounded. */
#define TOLERANCE 0.03

static const char *const served[] = {"smollm3-window", "qwen2-yarn", "ministral", "olmo3", "exaone4", "granite4",
    "llama-dynamic"};

static void check_sequence(const slm_model *model, slm_workspace *ws, const char *name, const json_t *s)
{
    uint32_t n, n_positions;
    int32_t *ids = test_ids(json_object_get(s, "ids"), &n), *positions = test_ids(json_object_get(s, "positions"), &n_positions);
    const json_t *logits = json_object_get(s, "logits"), *margins = json_object_get(s, "margins");
    const json_t *greedy = json_object_get(s, "greedy_cached"); /* where keys keep the angles of their time */
    greedy = greedy != NULL ? greedy : json_object_get(s, "greedy");
    size_t stride = test_logit_stride(model);
    float *out = test_alloc((size_t) (n + 1) * stride * sizeof *out);
    test_sequence sequence = test_sequence_new(model, n + 32);
    test_batch batch = test_batch_new(n + 32);
    double worst = 0;
    test_batch_add(&batch, &sequence, ids, n, n, 2);
    test_run(model, ws, &batch, 2, out);
    for (uint32_t i = 0; i < n_positions; i++)
        for (uint32_t v = 0; v < model->hp.n_vocab; v++) {
            double off = fabs(json_number_value(json_array_get(json_array_get(logits, i),
                                                               v)) - (double) out[(size_t) positions[i] * stride + v]);
            worst = off > worst || off != off ? off : worst;
        }
    printf("%s: %u tokens, a logit is at most %.5f away\n", name, n, worst);
    CHECK(worst <= TOLERANCE, "%s: %u tokens, a logit is %.5f away", name, n, worst);
    int32_t next = (int32_t) slm_kernels_get()->argmax(out + (size_t) (n - 1) * stride, model->hp.n_vocab);
    for (size_t i = 0; i < json_array_size(greedy); i++) {
        if (json_number_value(json_array_get(margins, i)) < 2 * TOLERANCE)
            break;
        CHECK(next == json_integer_value(json_array_get(greedy, i)), "%s: token %zu of the continuation is %d", name, i, next);
        test_batch_clear(&batch);
        test_batch_add(&batch, &sequence, &next, 1, sequence.n + 1, 1);
        test_run(model, ws, &batch, 1, out);
        next = (int32_t) slm_kernels_get()->argmax(out, model->hp.n_vocab);
    }
    test_batch_free(&batch);
    test_sequence_free(&sequence);
    free(ids);
    free(positions);
    free(out);
}

int main(void)
{
    for (size_t i = 0; i < sizeof served / sizeof served[0]; i++) {
        char path[1200], name[100];
        snprintf(path, sizeof path, "%s/families2/%s", golden_root(), served[i]);
        snprintf(name, sizeof name, "families2/%s/golden.json", served[i]);
        json_t *golden = test_json(name), *sequences = json_object_get(golden, "sequences");
        slm_model *model = test_import(path, "F32");
        CHECK(model != NULL && json_array_size(sequences) == 2, "%s", served[i]);
        slm_workspace *ws = slm_workspace_new();
        for (size_t k = 0; model != NULL && k < json_array_size(sequences); k++)
            check_sequence(model, ws, served[i], json_array_get(sequences, k));
        slm_workspace_free(ws);
        slm_model_close(model);
        json_decref(golden);
    }
    slm_threads_release();
    TEST_MAIN_END("hf_decoders");
}
