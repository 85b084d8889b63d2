/*
 * Decoders of golden/families2 as they are saved, in F32 and in Q8_0: logits of whole sequences, and greedy continuations, against
 * transformers in float; and the same bits position by position, in one batch with another sequence, on two threads and with the
 * reference kernels.
 *
 * How far logits may be away: in Q8_0 twice as far as the reference itself moves when matrices and their inputs are rounded as they are
 * here ("rounded" in golden.json); three times for mixtures, where the reference rounds nothing that goes into an expert.  In F32, where
 * what is kept of a position is F32 too, no logit of any position by more than 0.001 (0.00004 is seen; with keys and values in F16, 0.006).
 */
#include <math.h>

#include "model_test.h"
#include "slm_test.h"

static const char *const served[] = {"smollm3-window", "qwen2-yarn", "ministral", "olmo3", "exaone4", "granite4", "llama-dynamic",
                                     "qwen3_moe", "olmoe", "granitemoe", "lfm2",
                                     "ministral3", "stablelm", "phi", "gpt_neox", "gpt2", "qwen3_5", "gemma4"};

/* Mean and largest distance that are allowed. */
typedef struct allowed {
    double mean, most;
} allowed;

static allowed allowed_of(const json_t *golden, const char *how, double times)
{
    const json_t *pair = json_object_get(json_object_get(golden, "rounded"), how);
    return (allowed) {times * json_number_value(json_array_get(pair, 0)), times * json_number_value(json_array_get(pair, 1))};
}

static const allowed float_allowed = {1e-4, 1e-3};

/* Ids that follow until two of the reference's logits are too close to tell them apart. */
static void check_greedy(const slm_model *model, slm_workspace *ws, const char *name, const json_t *s, test_sequence *sequence,
                         const float *logits, allowed a)
{
    const json_t *margins = json_object_get(s, "margins");
    const json_t *greedy = json_object_get(s, "greedy_cached"); /* where keys keep the angles of their time */
    greedy = greedy != NULL ? greedy : json_object_get(s, "greedy");
    test_batch batch = test_batch_new(1);
    float *out = test_alloc(test_logit_stride(model) * sizeof *out);
    int32_t next = (int32_t) slm_kernels_get()->argmax(logits, model->hp.n_vocab);
    for (size_t i = 0; i < json_array_size(greedy); i++) {
        if (json_number_value(json_array_get(margins, i)) < 2 * a.most)
            break;
        CHECK(next == json_integer_value(json_array_get(greedy, i)), "%s: token %zu of the continuation is %d", name, i, next);
        test_batch_clear(&batch);
        test_batch_add(&batch, sequence, &next, 1, sequence->n + 1, 1);
        test_run(model, ws, &batch, 1, out);
        next = (int32_t) slm_kernels_get()->argmax(out, model->hp.n_vocab);
    }
    test_batch_free(&batch);
    free(out);
}

static void check_sequence(const slm_model *model, slm_workspace *ws, const char *name, const json_t *s, allowed a)
{
    uint32_t n, n_positions, vocab = model->hp.n_vocab;
    int32_t *ids = test_ids(json_object_get(s, "ids"), &n), *positions = test_ids(json_object_get(s, "positions"), &n_positions);
    const json_t *logits = json_object_get(s, "logits");
    size_t stride = test_logit_stride(model);
    float *out = test_alloc((size_t) n * stride * sizeof *out);
    test_sequence sequence = test_sequence_new(model, n + 32);
    test_batch batch = test_batch_new(n);
    double worst = 0, sum = 0;
    test_batch_add(&batch, &sequence, ids, n, n, 2);
    test_run(model, ws, &batch, 2, out);
    for (uint32_t i = 0; i < n_positions; i++)
        for (uint32_t v = 0; v < vocab; v++) {
            double want = json_number_value(json_array_get(json_array_get(logits, i), v));
            double off = fabs(want - (double) out[(size_t) positions[i] * stride + v]);
            worst = off > worst || off != off ? off : worst;
            sum += off;
        }
    sum /= (double) n_positions * vocab;
    printf("%s: %u tokens, a logit is %.5f away on average, %.5f at most (%.5f, %.5f)\n", name, n, sum, worst, a.mean, a.most);
    CHECK(worst <= a.most && sum <= a.mean, "%s: %u tokens, a logit is %.5f away on average, %.5f at most", name, n, sum, worst);
    check_greedy(model, ws, name, s, &sequence, out + (size_t) (n - 1) * stride, a);
    test_batch_free(&batch);
    test_sequence_free(&sequence);
    free(ids);
    free(positions);
    free(out);
}

/* Position by position on one thread, then all of two sequences at once, in pieces, on two threads. */
static void check_bits(const slm_model *model, slm_workspace *ws, const char *name, const json_t *sequences)
{
    uint32_t n[2];
    size_t stride = test_logit_stride(model);
    int32_t *ids[2];
    float *alone[2];
    slm_error err;
    for (int k = 0; k < 2; k++) {
        ids[k] = test_ids(json_object_get(json_array_get(sequences, (size_t) k), "ids"), &n[k]);
        n[k] = n[k] > 48 ? 48 : n[k]; /* not beyond the context that dynamic RoPE begins at: there the length changes the bits */
        alone[k] = test_alloc(n[k] * stride * sizeof **alone);
        test_sequence s = test_sequence_new(model, n[k]);
        test_batch batch = test_batch_new(1);
        for (uint32_t i = 0; i < n[k]; i++) {
            test_batch_clear(&batch);
            test_batch_add(&batch, &s, ids[k] + i, 1, n[k], 2);
            test_run(model, ws, &batch, 1, alone[k] + i * stride);
        }
        test_batch_free(&batch);
        test_sequence_free(&s);
    }
    for (int isa = 0; isa < 2; isa++) {
        slm_kernels_select(isa == 0 ? "ref" : "auto", &err);
        test_sequence s[2] = {test_sequence_new(model, n[0]), test_sequence_new(model, n[1])};
        test_batch batch = test_batch_new(n[0] + n[1]);
        float *out = test_alloc((n[0] + n[1]) * stride * sizeof *out);
        uint32_t first = n[0] / 3, second = n[1] / 2;
        test_batch_add(&batch, &s[0], ids[0], first, n[0], 2);
        test_batch_add(&batch, &s[1], ids[1], second, n[1], 2);
        test_run(model, ws, &batch, 2, out);
        bool equal = memcmp(out, alone[0], first * stride * sizeof *out) == 0 &&
                     memcmp(out + first * stride, alone[1], second * stride * sizeof *out) == 0;
        test_batch_clear(&batch);
        test_batch_add(&batch, &s[1], ids[1] + second, n[1] - second, n[1], 2);
        test_batch_add(&batch, &s[0], ids[0] + first, n[0] - first, n[0], 2);
        test_run(model, ws, &batch, 1, out);
        equal = equal && memcmp(out, alone[1] + second * stride, (n[1] - second) * stride * sizeof *out) == 0 &&
                memcmp(out + (n[1] - second) * stride, alone[0] + first * stride, (n[0] - first) * stride * sizeof *out) == 0;
        CHECK(equal, "%s: other bits in a batch, kernels %d", name, isa);
        free(out);
        test_batch_free(&batch);
        test_sequence_free(&s[0]);
        test_sequence_free(&s[1]);
    }
    for (int k = 0; k < 2; k++) {
        free(ids[k]);
        free(alone[k]);
    }
}

static void check_model(const char *name, const char *type, const json_t *golden, allowed a)
{
    char path[1200], label[100];
    const json_t *sequences = json_object_get(golden, "sequences");
    snprintf(path, sizeof path, "%s/families2/%s", golden_root(), name);
    snprintf(label, sizeof label, "%s as %s", name, type);
    slm_model *model = test_import(path, type);
    CHECK(model != NULL && json_array_size(sequences) == 2, "%s", label);
    if (model == NULL)
        return;
    slm_kv_type kept = slm_kv_type_of(model, SLM_KV_F16);
    CHECK(kept == (strcmp(type, "F32") == 0 ? SLM_KV_F32 : SLM_KV_F16), "%s: keys and values are of the type %d", label, kept);
    CHECK(slm_kv_block_bytes_of(&model->hp, kept) == 16 * (size_t) slm_model_get_info(model)->kv_bytes_per_token,
          "%s: a block has %zu bytes, a position %u", label, slm_kv_block_bytes_of(&model->hp, kept),
          slm_model_get_info(model)->kv_bytes_per_token);
    slm_workspace *ws = slm_workspace_new();
    for (size_t k = 0; k < json_array_size(sequences); k++)
        check_sequence(model, ws, label, json_array_get(sequences, k), a);
    check_bits(model, ws, label, sequences);
    slm_workspace_free(ws);
    slm_model_close(model);
}

int main(void)
{
    for (size_t i = 0; i < sizeof served / sizeof served[0]; i++) {
        char name[100];
        snprintf(name, sizeof name, "families2/%s/golden.json", served[i]);
        json_t *golden = test_json(name);
        bool mixture = strstr(served[i], "moe") != NULL;
        check_model(served[i], "F32", golden, float_allowed);
        check_model(served[i], "Q8_0", golden, allowed_of(golden, "activations_and_weights_q8", mixture ? 3 : 2));
        json_decref(golden);
    }
    slm_threads_release();
    TEST_MAIN_END("hf_decoders");
}
