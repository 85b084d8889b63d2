/*
 * Learning of encoders against torch (golden/training/encoder): losses and gradients of the first step of both objectives, for every
 * projection.  An adapter of the rank of a matrix whose A is the identity has the matrix's own gradient as that of its B.
 * Then tiny encoders of each family, in floats and quantized: the slope along a random direction against differences of losses, the same
 * bits for 1 and 2 threads and whether layers are kept, and the forward pass that serves such an adapter against the one that learned it.
 */
#include <math.h>

#include "engine/base/rng.h"
#include "engine/learn/learn.h"
#include "model_test.h"
#include "slm_test.h"

#define MOST 4096
#define TEXTS 64

typedef struct texts {
    slm_learn_batch b;
    slm_learn_aim aim;
    int32_t ids[MOST], labels[TEXTS];
    uint32_t first[TEXTS + 1];
    float scores[TEXTS];
} texts;

static void texts_clear(texts *x, slm_contrast kind)
{
    x->aim = (slm_learn_aim){.kind = kind, .scale = 20, .labels = x->labels, .scores = x->scores};
    x->b = (slm_learn_batch){.ids = x->ids, .first = x->first, .aim = &x->aim};
    x->first[0] = 0;
}

static void texts_add(texts *x, const int32_t *ids, uint32_t n)
{
    memcpy(x->ids + x->b.n, ids, n * sizeof *ids);
    x->b.n += n;
    x->b.longest = n > x->b.longest ? n : x->b.longest;
    x->first[++x->b.n_sequences] = x->b.n;
}

static slm_learn_shape shape_of(uint32_t rank, float dropout, uint32_t layers)
{
    return (slm_learn_shape){.rank = rank, .targets = 0x7f, .alpha = (float) rank, .seed = 1, .dropout = dropout, .layers = layers};
}

static void open_learn(const slm_model *model, const slm_learn_shape *shape, bool exact, int n_threads, bool keep_all, slm_learn *t)
{
    slm_error err = {0};
    slm_status status = slm_learn_open(model, shape, exact, n_threads, NULL, t, &err);
    t->n_texts = TEXTS;
    if (status == SLM_OK)
        status = slm_learn_room(t, 1024, 64, keep_all, &err);
    if (status != SLM_OK)
        test_die("slm_learn_open", err.message);
}

/* ---- golden/training/encoder */

static const struct {
    slm_target target;
    const char *name;
} matrices[] = {{SLM_TARGET_Q, "attention.self.query"}, {SLM_TARGET_K, "attention.self.key"}, {SLM_TARGET_V, "attention.self.value"},
                {SLM_TARGET_O, "attention.output.dense"}, {SLM_TARGET_UP, "intermediate.dense"}, {SLM_TARGET_DOWN, "output.dense"}};

static void golden_sequence(const json_t *golden, size_t index, texts *x)
{
    uint32_t n;
    int32_t *ids = test_ids(json_object_get(json_array_get(json_object_get(golden, "sequences"), index), "ids"), &n);
    texts_add(x, ids, n);
    free(ids);
}

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static void golden_gradients(const json_t *wanted, const slm_learn *t, const char *objective)
{
    double worst = 0;
    for (uint32_t layer = 0; layer < t->hp->n_layers; layer++)
        for (size_t m = 0; m < sizeof matrices / sizeof *matrices; m++) {
            char name[128];
            const slm_learn_pair *p = &t->pairs[layer][matrices[m].target];
            const float *b = slm_learn_b(t, t->grads, layer, matrices[m].target); /* [rank, rows] */
            double square = 0, sum = 0, off = 0;
            snprintf(name, sizeof name, "bert.encoder.layer.%u.%s.weight", layer, matrices[m].name);
            const json_t *g = json_object_get(wanted, name), *first = json_object_get(g, "first");
            CHECK(g != NULL, "%s: no gradient of %s", objective, name);
            for (size_t i = 0; i < (size_t) p->cols * p->rows; i++) {
                square += (double) b[i] * (double) b[i];
                sum += b[i];
            }
            for (size_t k = 0; k < 4; k++)
                off = fmax(off, fabs(json_number_value(json_array_get(first, k)) - (double) b[k * p->rows]));
            double norm = number(g, "norm"), error = fmax(fabs(sqrt(square) - norm), fmax(off, fabs(sum - number(g, "sum")) / 8)) / norm;
            CHECK(error <= 1e-4, "%s: gradient of %s %.2e away", objective, name, error);
            worst = fmax(worst, error);
        }
    printf("%s: largest relative error of a gradient %.2e\n", objective, worst);
}

static void check_objective(const slm_model *model, const json_t *golden, const char *objective, slm_contrast kind)
{
    slm_learn t;
    slm_error err = {0};
    static texts x;
    const json_t *pairs = json_object_get(golden, kind == SLM_CONTRAST_PAIRS ? "mnrl_pairs" : "pairs"),
                 *own = json_object_get(golden, objective);
    double loss = 0, expected = number(json_array_get(json_object_get(own, "steps"), 0), "loss");
    uint32_t most = model->hp.n_ff > model->hp.n_embd ? model->hp.n_ff : model->hp.n_embd;
    slm_learn_shape shape = shape_of(most, 0, 0);
    open_learn(model, &shape, true, 2, true, &t);
    for (uint32_t layer = 0; layer < t.hp->n_layers; layer++)
        for (int i = 0; i < SLM_TARGETS; i++) {
            const slm_learn_pair *p = &t.pairs[layer][i];
            for (size_t k = 0; k < (size_t) p->rank * p->cols; k++)
                slm_learn_a(&t, t.values, layer, (slm_target) i)[k] = k / p->cols == k % p->cols ? 1.0f : 0.0f;
        }
    slm_learn_turn(&t);
    texts_clear(&x, kind);
    x.aim.n_queries = 8;
    for (size_t side = 0; side < 2; side++)
        for (size_t i = 0; i < 8; i++) {
            const json_t *pair = json_array_get(pairs, i);
            golden_sequence(golden, (size_t) json_integer_value(json_array_get(pair, side)), &x);
            x.labels[i] = (int32_t) i;
            x.scores[i] = (float) json_number_value(json_array_get(pair, 2));
        }
    CHECK(slm_learn_pass(&t, &x.b, 1.0 / 8, &loss, &err) == SLM_OK, "%s", err.message);
    CHECK(fabs(loss / 8 - expected) <= 1e-4 * expected, "%s: loss %.7f, not %.7f", objective, loss / 8, expected);
    golden_gradients(json_object_get(own, "grads_step1"), &t, objective);
    slm_learn_free(&t);
}

static void check_golden(void)
{
    char path[1024];
    json_t *golden = test_json("training/encoder/golden.json");
    snprintf(path, sizeof path, "%s/training/encoder/embedder", golden_root());
    slm_model *model = test_import(path, "F32");
    CHECK(golden != NULL && model != NULL, "reference values are missing");
    if (golden != NULL && model != NULL) {
        check_objective(model, golden, "cosine", SLM_CONTRAST_SCORES);
        check_objective(model, golden, "mnrl", SLM_CONTRAST_PAIRS);
    }
    slm_model_close(model);
    json_decref(golden);
}

/* ---- tiny encoders */

static void fill(texts *x, slm_contrast kind, const slm_model *model)
{
    texts_clear(x, kind);
    x->aim.n_queries = 5;
    for (uint32_t s = 0; s < (kind == SLM_CONTRAST_PAIRS ? 13 : 10); s++) { /* pairs: three documents are nobody's answer */
        int32_t ids[40];
        for (uint32_t i = 0; i < 40; i++)
            ids[i] = (int32_t) ((i * 37 + i * i * 11 + 5 + s * (3 + i)) % (model->hp.n_vocab - 1));
        texts_add(x, ids, 40 - 3 * s);
        x->labels[s] = kind == SLM_CONTRAST_PAIRS ? (s < 5 ? (int32_t) s : -1) : (int32_t) (s % 3);
        x->scores[s] = s % 2 ? 0.9f : 0.1f;
    }
}

static double loss_of(slm_learn *t, const texts *x, double weight)
{
    slm_error err = {0};
    double loss = 0;
    CHECK(slm_learn_pass(t, &x->b, weight, &loss, &err) == SLM_OK, "%s", err.message);
    return loss;
}

/* The mask of a dropout is that of the micro-batch, so it is the same in all three passes. */
static void check_slope(const char *name, const slm_model *model, slm_contrast kind, const slm_learn_shape *shape)
{
    slm_learn t;
    static texts x;
    const double step = 4e-3;
    double slope = 0, losses[2];
    open_learn(model, shape, true, 2, true, &t);
    for (size_t i = 0; i < t.n_values; i++)
        t.values[i] = (float) (0.2 * (slm_rng_uniform(11, i) - 0.5));
    slm_learn_turn(&t);
    fill(&x, kind, model);
    loss_of(&t, &x, 1);
    for (size_t i = 0; i < t.n_values; i++)
        slope += (double) t.grads[i] * (slm_rng_uniform(13, i) - 0.5);
    float *values = test_alloc(t.n_values * sizeof *values);
    memcpy(values, t.values, t.n_values * sizeof *values);
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < t.n_values; i++)
            t.values[i] = (float) ((double) values[i] + (side ? step : -step) * (slm_rng_uniform(13, i) - 0.5));
        slm_learn_turn(&t);
        losses[side] = loss_of(&t, &x, shape->dropout > 0);
    }
    double difference = (losses[1] - losses[0]) / (2 * step);
    printf("%-16s %d slope %.6f, by differences %.6f\n", name, (int) kind, slope, difference);
    CHECK(fabs(slope - difference) <= 0.01 * fabs(slope) + 2e-3, "%s %d: slope %.6f, by differences %.6f", name, (int) kind, slope,
          difference);
    free(values);
    slm_learn_free(&t);
}

static void check_bits(const char *name, const slm_model *model, bool exact, const slm_learn_shape *shape)
{
    slm_learn t[2];
    static texts x;
    fill(&x, SLM_CONTRAST_LABELS, model);
    for (int i = 0; i < 2; i++) {
        open_learn(model, shape, exact, i + 1, i == 0, &t[i]);
        for (int step = 0; step < 3; step++) {
            loss_of(&t[i], &x, 0.1);
            (void) slm_learn_step(&t[i], 1e-2, 0.01, 1);
        }
    }
    CHECK(memcmp(t[0].values, t[1].values, t[0].n_values * sizeof(float)) == 0, "%s: other bits with 2 threads and one layer kept", name);
    slm_learn_free(&t[0]);
    slm_learn_free(&t[1]);
}

/* A random adapter as an image, opened; its training's own vectors of x into t->pooled. */
static slm_adapter *made_adapter(const slm_model *model, const texts *x, slm_learn *t)
{
    char image[1024];
    const char *tmp = getenv("TMPDIR");
    slm_adapter *adapter = NULL;
    slm_error err = {0};
    slm_learn again;
    double off = 0;
    snprintf(image, sizeof image, "%s/slm_learn_encoder_%d.img", tmp != NULL && *tmp ? tmp : "/tmp", (int) getpid());
    unlink(image);
    slm_learn_shape shape = shape_of(4, 0, 0);
    open_learn(model, &shape, true, 1, true, t);
    for (size_t i = 0; i < t->n_values; i++)
        t->values[i] = (float) (0.4 * (slm_rng_uniform(17, i) - 0.5));
    slm_learn_turn(t);
    CHECK(slm_learn_write(t, t->values, image, "learned", NULL, &err) == SLM_OK &&
              slm_adapter_open(image, model, &adapter, &err) == SLM_OK, "%s", err.message);
    unlink(image);
    if (adapter == NULL)
        test_die("adapter", err.message);
    open_learn(model, &shape, true, 1, true, &again);
    CHECK(slm_learn_take(&again, adapter, &err) == SLM_OK, "%s", err.message);
    for (size_t i = 0; i < t->n_values; i++)
        off = fmax(off, fabs((double) again.values[i] - (double) t->values[i]));
    CHECK(off < 1e-6, "values read again are %.2e away", off);
    slm_learn_free(&again);
    loss_of(t, x, 0);
    return adapter;
}

static float *encoded(const slm_model *model, const texts *x, uint32_t first, uint32_t n, const slm_adapter *const *adapters, int n_threads)
{
    slm_workspace *ws = slm_workspace_new();
    uint32_t lengths[TEXTS];
    float *vectors, *out = test_alloc(n * model->hp.n_embd * sizeof *out);
    slm_error err = {0};
    for (uint32_t i = 0; i < n; i++)
        lengths[i] = x->first[first + i + 1] - x->first[first + i];
    slm_encode_batch batch = {.n_sequences = n, .lengths = lengths, .tokens = x->ids + x->first[first], .adapters = adapters};
    if (slm_encode(model, ws, &batch, n_threads, NULL, &vectors, &err) != SLM_OK)
        test_die("slm_encode", err.message);
    memcpy(out, vectors, n * model->hp.n_embd * sizeof *out);
    slm_workspace_free(ws);
    return out;
}

/* Texts with the adapter, and without, in one batch: what the training has; the same bits alone; without: those of a batch without. */
static void check_served(const char *name, const slm_model *model, double least)
{
    slm_learn t;
    static texts x;
    uint32_t width = model->hp.n_embd;
    fill(&x, SLM_CONTRAST_LABELS, model);
    slm_adapter *adapter = made_adapter(model, &x, &t);
    const slm_adapter *mixed[TEXTS] = {NULL};
    for (uint32_t i = 0; i < x.b.n_sequences; i++)
        mixed[i] = i % 3 == 1 ? NULL : adapter;
    float *plain = encoded(model, &x, 0, x.b.n_sequences, NULL, 1), *both = encoded(model, &x, 0, x.b.n_sequences, mixed, 2);
    double worst = 1, moved = 1;
    for (uint32_t i = 0; i < x.b.n_sequences; i++) {
        float *alone = encoded(model, &x, i, 1, mixed + i, 1);
        CHECK(memcmp(alone, both + i * width, width * sizeof *alone) == 0, "%s: text %u has other bits alone", name, i);
        if (mixed[i] == NULL) {
            CHECK(memcmp(plain + i * width, both + i * width, width * sizeof *alone) == 0, "%s: text %u: an adapter beside it", name, i);
        } else {
            double sums[3];
            t.kn->products(both + i * width, t.pooled + i * t.ld.embd, width, sums);
            worst = fmin(worst, sums[0] / sqrt(sums[1] * sums[2]));
            t.kn->products(both + i * width, plain + i * width, width, sums);
            moved = fmin(moved, sums[0] / sqrt(sums[1] * sums[2]));
        }
        free(alone);
    }
    printf("%-16s served: cosine %.6f to the training's, %.4f to the model's alone\n", name, worst, moved);
    CHECK(worst > least && moved < 0.99, "%s: cosine %.6f to the training's, %.4f to the model's alone", name, worst, moved);
    free(plain);
    free(both);
    slm_adapter_close(adapter);
    slm_learn_free(&t);
}

static void check_encoder(const char *name, const char *quantization)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/encoders/%s", golden_root(), name);
    slm_model *model = test_import(path, quantization);
    CHECK(model != NULL, "%s does not load", path);
    if (model == NULL)
        return;
    slm_learn_shape plain = shape_of(4, 0, 0), dropped = shape_of(4, 0.2f, 1);
    for (int kind = SLM_CONTRAST_LABELS; kind <= SLM_CONTRAST_SCORES; kind++)
        check_slope(name, model, (slm_contrast) kind, &plain);
    check_slope(name, model, SLM_CONTRAST_LABELS, &dropped);
    for (int exact = 0; exact <= 1; exact++) {
        check_bits(name, model, exact != 0, &plain);
        check_bits(name, model, exact != 0, &dropped);
    }
    check_served(name, model, quantization[0] == 'F' ? 0.9999 : 0.99);
    slm_model_close(model);
}

int main(void)
{
    check_golden();
    check_encoder("roberta-mean", "F32");
    check_encoder("roberta-mean", "Q8_0");
    check_encoder("xlm-roberta-e5", "Q8_0");
    check_encoder("mpnet-mean", "F16");
    check_encoder("distilbert-mean", "Q8_0");
    TEST_MAIN_END("test_learn_encoder");
}
