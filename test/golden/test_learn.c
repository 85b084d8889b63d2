/*
 * Fine-tuning against torch and peft (golden/training): gradients of the first step, with B zero and with a B that is not, for every
 * projection; the losses and gradient norms of 24 steps of AdamW, on both paths; the same bits for 1 and 2 threads and whether layers are
 * kept or computed again.  The same with a teacher's logits (golden/training/distill.json), in its three definitions.  Then every tiny
 * model of golden/families: the slope along a random direction against differences of losses.  What a teacher says, and a training with it.
 */
#include <fcntl.h>
#include <math.h>

#include "engine/base/rng.h"
#include "engine/import/hf/safetensors.h"
#include "engine/learn/learn.h"
#include "model_test.h"
#include "slm_test.h"

#define MOST 4096
#define GUESSES 8
#define MOST_TOLD 256

typedef struct batch_buffer {
    slm_learn_batch b;
    int32_t ids[MOST], target[MOST];
    uint32_t first[64], out[MOST];
    slm_guess told[MOST_TOLD][GUESSES];
    const slm_guess *guesses[MOST_TOLD];
} batch_buffer;

static void batch_clear(batch_buffer *x)
{
    x->b = (slm_learn_batch){.ids = x->ids, .first = x->first, .out = x->out, .target = x->target, .guesses = x->guesses};
    for (size_t i = 0; i < MOST_TOLD; i++)
        x->guesses[i] = x->told[i];
    x->first[0] = 0;
}

static void batch_add(batch_buffer *x, const int32_t *ids, uint32_t n, uint32_t prompt)
{
    slm_learn_batch *b = &x->b;
    for (uint32_t i = 0; i < n; i++) {
        if (i + 1 < n && i + 1 >= prompt) {
            x->out[b->n_out] = b->n + i;
            x->target[b->n_out++] = ids[i + 1];
        }
        x->ids[b->n + i] = ids[i];
    }
    b->n += n;
    b->longest = n > b->longest ? n : b->longest;
    x->first[++b->n_sequences] = b->n;
}

typedef struct fixture {
    const char *name;
    json_t *golden;
    slm_model *model;
    slm_adapter *init;
    float dropout;
    uint32_t layers;
    json_t *teacher; /* of each sequence; NULL: there is none */
    slm_lesson lesson;
} fixture;

static void add_sequence(batch_buffer *x, const fixture *f, size_t index)
{
    json_t *s = json_array_get(json_object_get(f->golden, "sequences"), index);
    uint32_t n;
    int32_t *ids = test_ids(json_object_get(s, "ids"), &n);
    uint32_t first = x->b.n_out;
    batch_add(x, ids, n, (uint32_t) json_integer_value(json_object_get(s, "prompt")));
    free(ids);
    for (uint32_t i = first; f->teacher != NULL && i < x->b.n_out; i++)
        for (uint32_t k = 0; k < GUESSES; k++) {
            json_t *told = json_array_get(f->teacher, index);
            x->told[i][k].id = (int32_t) json_integer_value(json_array_get(json_array_get(json_object_get(told, "ids"), i - first), k));
            x->told[i][k].logit =
                (float) json_number_value(json_array_get(json_array_get(json_object_get(told, "logits"), i - first), k));
        }
}

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static const char *folder_of(const char *name, const char *file)
{
    static char path[4][1024];
    static int next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof path[0], "%s/training/lora-%s/%s", golden_root(), name, file);
    return p;
}

/* A training of the fixture's model that begins with the adapter of init/. */
static void open_learn(const fixture *f, slm_learn *t, bool exact, int n_threads, bool keep_all)
{
    slm_learn_shape shape = {.rank = 8, .targets = 0x7f, .alpha = 16, .seed = 1, .dropout = f->dropout, .layers = f->layers};
    slm_error err = {0};
    slm_status status = slm_learn_open(f->model, &shape, exact, n_threads, NULL, t, &err);
    if (status == SLM_OK)
        status = slm_learn_room(t, 256, 64, keep_all, &err);
    if (status == SLM_OK && f->init != NULL)
        status = slm_learn_take(t, f->init, &err);
    CHECK(status == SLM_OK, "%s: %s", f->name, err.message);
    if (status != SLM_OK)
        exit(2);
    t->lesson = f->lesson;
}

static const char *const modules[SLM_TARGETS] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                                                 "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};

/* One tensor of a file of golden/training as the arrays of a training lie: A as it is, B turned. NULL: the file has none. */
static float *tensor_of(const slm_safetensors *st, uint32_t layer, int target, bool b, const slm_learn_pair *p)
{
    char name[128];
    snprintf(name, sizeof name, "base_model.model.model.layers.%u.%s.lora_%c.weight", layer, modules[target], b ? 'B' : 'A');
    const slm_st_tensor *t = slm_safetensors_find(st, name);
    if (t == NULL)
        return NULL;
    size_t n = (size_t) p->rank * (b ? p->rows : p->cols);
    float *raw = test_alloc(n * sizeof *raw), *x = test_alloc(n * sizeof *x);
    if (t->type != SLM_ST_F32 || t->end - t->begin != n * sizeof *raw ||
        pread(st->fds[t->file], raw, n * sizeof *raw, (off_t) t->begin) != (ssize_t) (n * sizeof *raw))
        test_die(name, "cannot read");
    for (size_t i = 0; i < n; i++)
        x[b ? i % p->rank * p->rows + i / p->rank : i] = raw[i];
    free(raw);
    return x;
}

static void open_tensors(const fixture *f, const char *file, slm_safetensors *st)
{
    slm_error err = {0};
    int dir = open(folder_of(f->name, ""), O_RDONLY | O_DIRECTORY);
    CHECK(slm_safetensors_open_file(dir, file, st, &err) == SLM_OK, "%s: %s", f->name, err.message);
    close(dir);
}

/* The largest relative error of a tensor's gradient; every tensor of the file is compared, `wanted` in all. */
static void compare_gradients(const fixture *f, slm_learn *t, const char *file, size_t wanted, double tolerance)
{
    slm_safetensors st = {0};
    size_t seen = 0;
    double worst = 0;
    open_tensors(f, file, &st);
    for (uint32_t layer = 0; layer < t->hp->n_layers; layer++)
        for (int i = 0; i < SLM_TARGETS; i++)
            for (int b = 0; b < 2; b++) {
                const slm_learn_pair *p = &t->pairs[layer][i];
                float *x = tensor_of(&st, layer, i, b, p);
                const float *g = b ? slm_learn_b(t, t->grads, layer, (slm_target) i) : slm_learn_a(t, t->grads, layer, (slm_target) i);
                double off = 0, size = 0;
                if (x == NULL)
                    continue;
                for (size_t k = 0; k < (size_t) p->rank * (b ? p->rows : p->cols); k++) {
                    off += ((double) g[k] - (double) x[k]) * ((double) g[k] - (double) x[k]);
                    size += (double) x[k] * (double) x[k];
                }
                double error = sqrt(off / size);
                CHECK(error <= tolerance, "%s %s: layer %u %s %c: gradient %.2e away", f->name, file, layer, modules[i], b ? 'B' : 'A',
                      error);
                worst = error <= worst ? worst : error;
                seen++;
                free(x);
            }
    CHECK(seen == wanted, "%s %s: %zu tensors, not %zu", f->name, file, seen, wanted);
    printf("%-8s %-30s largest relative error %.2e\n", f->name, file, worst);
    slm_safetensors_close(&st);
}

static void check_gradients(const fixture *f)
{
    slm_learn t;
    slm_error err = {0};
    slm_safetensors st = {0};
    static batch_buffer x;
    double loss = 0;
    size_t pairs = 7 * (size_t) f->model->hp.n_layers;
    open_learn(f, &t, true, 2, true);
    batch_clear(&x);
    for (size_t i = 0; i < 4; i++)
        add_sequence(&x, f, i);
    CHECK(slm_learn_pass(&t, &x.b, 1.0 / x.b.n_out, &loss, &err) == SLM_OK, "%s", err.message);
    double expected = number(json_array_get(json_object_get(f->golden, "steps"), 0), "loss");
    CHECK(fabs(loss / x.b.n_out - expected) <= 1e-4 * expected, "%s: loss %.6f, not %.6f", f->name, loss / x.b.n_out, expected);
    compare_gradients(f, &t, "grads_step1.safetensors", pairs, 1e-4);

    open_tensors(f, "random_b.safetensors", &st);
    for (uint32_t layer = 0; layer < t.hp->n_layers; layer++)
        for (int i = 0; i < SLM_TARGETS; i++) {
            const slm_learn_pair *p = &t.pairs[layer][i];
            float *b = tensor_of(&st, layer, i, true, p);
            memcpy(slm_learn_b(&t, t.values, layer, (slm_target) i), b, (size_t) p->rank * p->rows * sizeof *b);
            free(b);
        }
    slm_safetensors_close(&st);
    slm_learn_turn(&t);
    memset(t.grads, 0, t.n_values * sizeof *t.grads);
    loss = 0;
    CHECK(slm_learn_pass(&t, &x.b, 1.0 / x.b.n_out, &loss, &err) == SLM_OK, "%s", err.message);
    expected = number(json_object_get(f->golden, "random_b"), "loss");
    CHECK(fabs(loss / x.b.n_out - expected) <= 1e-4 * expected, "%s: loss %.6f, not %.6f", f->name, loss / x.b.n_out, expected);
    compare_gradients(f, &t, "grads_random_b.safetensors", 2 * pairs, 1e-4);
    slm_learn_free(&t);
}

/* All steps as peft took them; split: each sequence a micro-batch of its own. The values at the end, malloc'ed. */
static float *run_steps(const fixture *f, slm_learn *t, bool split, double tolerance, double tolerance_norm)
{
    json_t *steps = json_object_get(f->golden, "steps");
    size_t n_sequences = json_array_size(json_object_get(f->golden, "sequences"));
    static batch_buffer x, one;
    double worst = 0, worst_norm = 0;
    slm_error err = {0};
    for (size_t s = 0; s < json_array_size(steps); s++) {
        json_t *step = json_array_get(steps, s);
        double loss = 0, expected = number(step, "loss"), expected_norm = number(step, "grad_norm");
        batch_clear(&x);
        for (size_t i = 0; i < 4; i++)
            add_sequence(&x, f, (s * 4 + i) % n_sequences);
        for (size_t i = 0; i < (split ? 4 : 1); i++) {
            batch_clear(&one);
            if (split)
                add_sequence(&one, f, (s * 4 + i) % n_sequences);
            CHECK(slm_learn_pass(t, split ? &one.b : &x.b, 1.0 / x.b.n_out, &loss, &err) == SLM_OK, "%s", err.message);
        }
        double norm = slm_learn_step(t, number(step, "lr"), 0.01, 1.0), off = fabs(loss / x.b.n_out - expected) / expected;
        CHECK(off <= tolerance, "%s step %zu: loss %.6f, not %.6f", f->name, s + 1, loss / x.b.n_out, expected);
        CHECK(fabs(norm - expected_norm) <= tolerance_norm * expected_norm, "%s step %zu: norm %.6f, not %.6f", f->name, s + 1, norm,
              expected_norm);
        worst = off <= worst ? worst : off;
        off = fabs(norm - expected_norm) / expected_norm;
        worst_norm = off <= worst_norm ? worst_norm : off;
    }
    printf("%-8s %s%s: losses of %zu steps within %.1e, norms %.1e\n", f->name,
           t->exact  ? "float"
           : t->bf16 ? "bfloat16"
                     : "fast",
           split ? ", split" : "", json_array_size(steps), worst, worst_norm);
    float *values = test_alloc(t->n_values * sizeof *values);
    memcpy(values, t->values, t->n_values * sizeof *values);
    return values;
}

static void check_steps(const fixture *f)
{
    static const struct {
        bool exact, keep_all, split;
        int n_threads;
    } ways[] = {{true, true, false, 1}, {true, false, true, 2}, {false, true, false, 1}, {false, false, false, 2}};
    float *values[4];
    size_t n = 0;
    for (int i = 0; i < 4; i++) {
        slm_learn t;
        open_learn(f, &t, ways[i].exact, ways[i].n_threads, ways[i].keep_all);
        n = t.n_values;
        values[i] = run_steps(f, &t, ways[i].split, ways[i].exact ? 1e-3 : 1e-2, ways[i].exact ? 1e-3 : 5e-2);
        slm_learn_free(&t);
    }
    CHECK(memcmp(values[2], values[3], n * sizeof **values) == 0, "%s: other bits with 2 threads and one layer kept", f->name);
    for (int i = 0; i < 4; i++)
        free(values[i]);
}

/* As a PEFT directory or a GGUF file (suffix), and back from there: the same values. */
static void check_export(const fixture *f, const slm_adapter *adapter, const char *suffix, const float *values, size_t n)
{
    char folder[1024], file[1100];
    slm_learn t;
    slm_adapter *back = NULL;
    slm_error err = {0};
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/slm_export_%d%s", tmp != NULL && *tmp ? tmp : "/tmp", (int) getpid(), suffix);
    CHECK(slm_adapter_export(adapter, "base", folder, &err) == SLM_OK, "%s: %s", f->name, err.message);
    CHECK(slm_adapter_export(adapter, "base", folder, &err) == SLM_IO, "what is there is written over");
    snprintf(file, sizeof file, "%s.img", folder);
    unlink(file);
    CHECK(slm_adapter_import(folder, f->model, file, NULL, NULL, NULL, &err) == SLM_OK &&
              slm_adapter_open(file, f->model, &back, &err) == SLM_OK,
          "%s: %s", f->name, err.message);
    unlink(file);
    open_learn(f, &t, true, 1, true);
    if (back != NULL) {
        CHECK(slm_learn_take(&t, back, &err) == SLM_OK && t.n_values == n && memcmp(t.values, values, n * sizeof *values) == 0,
              "%s: exported and imported again it is another adapter", f->name);
        slm_adapter_close(back);
    }
    slm_learn_free(&t);
    snprintf(file, sizeof file, "%s/adapter_config.json", folder);
    unlink(file);
    snprintf(file, sizeof file, "%s/adapter_model.safetensors", folder);
    unlink(file);
    rmdir(folder);
    unlink(folder);
}

/* What was learned, as an adapter's image: the model answers with it as the training's own pass does. */
static void check_image(const fixture *f)
{
    char image[1024];
    slm_learn t, again;
    slm_adapter *adapter = NULL;
    slm_adapter_info info;
    slm_error err = {0};
    static batch_buffer x;
    double loss = 0, read = 0;
    const char *tmp = getenv("TMPDIR");
    snprintf(image, sizeof image, "%s/slm_learn_%d.img", tmp != NULL && *tmp ? tmp : "/tmp", (int) getpid());
    unlink(image);
    open_learn(f, &t, true, 1, true);
    for (size_t i = 0; i < t.n_values; i++)
        t.values[i] += (float) (0.1 * (slm_rng_uniform(5, i) - 0.5));
    slm_learn_turn(&t);
    CHECK(slm_learn_write(&t, t.values, image, "learned", &info, &err) == SLM_OK, "%s", err.message);
    CHECK(slm_learn_write(&t, t.values, image, "learned", &info, &err) == SLM_IO, "an image is written over");
    CHECK(slm_adapter_open(image, f->model, &adapter, &err) == SLM_OK, "%s", err.message);
    CHECK(info.n_parameters == t.n_values && info.rank == 8 && strcmp(info.name, "learned") == 0, "%s: info", f->name);
    open_learn(f, &again, true, 1, true);
    CHECK(slm_learn_take(&again, adapter, &err) == SLM_OK, "%s", err.message);
    CHECK(memcmp(again.values, t.values, t.n_values * sizeof *t.values) == 0, "%s: other values read than written", f->name);
    batch_clear(&x);
    add_sequence(&x, f, 0);
    CHECK(slm_learn_pass(&t, &x.b, 0, &loss, &err) == SLM_OK && slm_learn_pass(&again, &x.b, 0, &read, &err) == SLM_OK, "pass");
    CHECK(loss == read, "%s: loss %.9f, read again %.9f", f->name, loss, read);
    check_export(f, adapter, "", t.values, t.n_values);
    check_export(f, adapter, ".gguf", t.values, t.n_values);
    slm_adapter_close(adapter);
    slm_learn_free(&t);
    slm_learn_free(&again);
    unlink(image);
}

/* ---- a teacher's logits */

/* Norms of the gradients of every B in the first step. */
static void check_norms(const fixture *f, const json_t *norms)
{
    static batch_buffer x;
    slm_learn t;
    slm_error err = {0};
    double loss = 0, worst = 0;
    open_learn(f, &t, true, 2, true);
    batch_clear(&x);
    for (size_t i = 0; i < 4; i++)
        add_sequence(&x, f, i);
    CHECK(slm_learn_pass(&t, &x.b, 1.0 / x.b.n_out, &loss, &err) == SLM_OK, "%s", err.message);
    for (uint32_t layer = 0; layer < t.hp->n_layers; layer++)
        for (int i = 0; i < SLM_TARGETS; i++) {
            const slm_learn_pair *p = &t.pairs[layer][i];
            const float *g = slm_learn_b(&t, t.grads, layer, (slm_target) i);
            char name[128];
            double size = 0;
            snprintf(name, sizeof name, "base_model.model.model.layers.%u.%s.lora_B.weight", layer, modules[i]);
            for (size_t k = 0; k < (size_t) p->rank * p->rows; k++)
                size += (double) g[k] * (double) g[k];
            double expected = number(norms, name), off = fabs(sqrt(size) - expected) / expected;
            CHECK(off <= 1e-4, "%s: norm of %s is %.7f, not %.7f", f->name, name, sqrt(size), expected);
            worst = off <= worst ? worst : off;
        }
    printf("%-8s norms of the first gradients within %.1e\n", f->name, worst);
    x.told[1][3].id = (int32_t) t.hp->n_vocab;
    CHECK(slm_learn_pass(&t, &x.b, 0, &loss, &err) == SLM_INVALID, "a teacher's token beyond the vocabulary is taken");
    x.told[1][3] = (slm_guess){.id = 1, .logit = NAN};
    CHECK(slm_learn_pass(&t, &x.b, 0, &loss, &err) == SLM_INVALID, "a teacher's logit that is no number is taken");
    slm_learn_free(&t);
}

static void check_lessons(const fixture *f)
{
    static const struct {
        const char *name;
        float mix;
        bool renormalize;
    } lessons[] = {{"full", 0, false}, {"renormalized", 0, true}, {"mixed", 0.5f, false}};
    json_t *golden = test_json("training/distill.json");
    CHECK(golden != NULL, "reference values of distillation are missing");
    CHECK(json_integer_value(json_object_get(golden, "top_k")) == GUESSES, "another number of logits");
    for (size_t i = 0; golden != NULL && i < sizeof lessons / sizeof *lessons; i++) {
        fixture d = *f;
        json_t *expected = json_object_get(golden, lessons[i].name);
        d.name = lessons[i].name;
        d.golden = json_pack("{s:O,s:O}", "sequences", json_object_get(f->golden, "sequences"), "steps",
                             json_object_get(expected, "steps"));
        d.teacher = json_object_get(golden, "teacher");
        d.lesson = (slm_lesson){.k = GUESSES, .temperature = (float) number(golden, "temperature"), .mix = lessons[i].mix,
                                .renormalize = lessons[i].renormalize};
        check_norms(&d, json_object_get(expected, "grad_norm_of_B_step1"));
        check_steps(&d);
        json_decref(d.golden);
    }
    json_decref(golden);
}

static void check_training(const char *name)
{
    fixture f = {.name = name};
    char golden[128], image[1024];
    slm_error err = {0};
    const char *tmp = getenv("TMPDIR");
    snprintf(golden, sizeof golden, "training/lora-%s/golden.json", name);
    f.golden = test_json(golden);
    f.model = test_import(folder_of(name, "base"), "F16");
    CHECK(f.golden != NULL && f.model != NULL, "%s: reference values are missing", name);
    if (f.golden == NULL || f.model == NULL)
        return;
    snprintf(image, sizeof image, "%s/slm_init_%d.img", tmp != NULL && *tmp ? tmp : "/tmp", (int) getpid());
    unlink(image);
    CHECK(slm_adapter_import(folder_of(name, "init"), f.model, image, NULL, NULL, NULL, &err) == SLM_OK &&
              slm_adapter_open(image, f.model, &f.init, &err) == SLM_OK,
          "%s: %s", name, err.message);
    unlink(image);
    check_gradients(&f);
    check_steps(&f);
    check_image(&f);
    if (strcmp(name, "llama") == 0)
        check_lessons(&f);
    slm_adapter_close(f.init);
    slm_model_close(f.model);
    json_decref(f.golden);
}

/* The slope of the loss along a random direction of all values: differences of losses against the gradient.  The mask of a dropout is that
 * of the micro-batch, so it is the same in all. */
static void check_slope(fixture f)
{
    char path[1024];
    const char *name = f.name;
    slm_learn t;
    slm_error err = {0};
    static batch_buffer x;
    const double step = 4e-3;
    double slope = 0, losses[2] = {0, 0}, loss = 0;
    snprintf(path, sizeof path, "%s/families/%s.gguf", golden_root(), name);
    f.model = test_import(path, NULL);
    CHECK(f.model != NULL, "%s does not load", path);
    if (f.model == NULL)
        return;
    open_learn(&f, &t, true, 2, true);
    for (size_t i = 0; i < t.n_values; i++)
        t.values[i] = (float) (0.2 * (slm_rng_uniform(11, i) - 0.5));
    slm_learn_turn(&t);
    batch_clear(&x);
    for (uint32_t s = 0; s < 3; s++) {
        int32_t ids[40];
        for (uint32_t i = 0; i < 40; i++)
            ids[i] = (int32_t) ((i * 37 + i * i * 11 + 5 + s) % (f.model->hp.n_vocab - 1));
        batch_add(&x, ids, 40 - 9 * s, 10);
    }
    for (uint32_t i = 0; i < x.b.n_out; i++)
        for (uint32_t k = 0; k < GUESSES; k++)
            x.told[i][k] = (slm_guess){.id = (int32_t) ((i * 31 + k * 17) % f.model->hp.n_vocab),
                                       .logit = (float) (4 * slm_rng_uniform(17, i * GUESSES + k))};
    CHECK(slm_learn_pass(&t, &x.b, 1.0 / x.b.n_out, &loss, &err) == SLM_OK, "%s", err.message);
    for (size_t i = 0; i < t.n_values; i++)
        slope += (double) t.grads[i] * (slm_rng_uniform(13, i) - 0.5);
    float *values = test_alloc(t.n_values * sizeof *values);
    memcpy(values, t.values, t.n_values * sizeof *values);
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < t.n_values; i++)
            t.values[i] = (float) ((double) values[i] + (side ? step : -step) * (slm_rng_uniform(13, i) - 0.5));
        slm_learn_turn(&t);
        CHECK(slm_learn_pass(&t, &x.b, f.dropout > 0, &losses[side], &err) == SLM_OK, "%s", err.message);
    }
    double difference = (losses[1] - losses[0]) / x.b.n_out / (2 * step);
    if (f.dropout > 0) { /* judging drops nothing */
        double whole = 0;
        CHECK(slm_learn_pass(&t, &x.b, 0, &whole, &err) == SLM_OK && whole != losses[1], "%s: a dropout of nothing", name);
    }
    printf("%-10s slope %.6f, by differences %.6f\n", name, slope, difference);
    CHECK(fabs(slope - difference) <= 0.01 * fabs(slope) + 2e-4, "%s: slope %.6f, by differences %.6f", name, slope, difference);
    free(values);
    slm_learn_free(&t);
    slm_model_close(f.model);
}

/* ---- the teacher itself */

#define N_TAUGHT 14
#define LONG_ONE 500 /* positions: more than one piece of a pass */

typedef struct lessons {
    slm_example examples[N_TAUGHT];
    int32_t ids[N_TAUGHT][LONG_ONE];
    slm_guess guesses[N_TAUGHT][LONG_ONE * GUESSES];
} lessons;

static void make_examples(lessons *l, const slm_model *model)
{
    for (uint32_t i = 0; i < N_TAUGHT; i++) {
        uint32_t n = i == 5 ? LONG_ONE : 30 + i * 11;
        n = n < model->hp.n_context ? n : model->hp.n_context;
        for (uint32_t k = 0; k < n; k++)
            l->ids[i][k] = (int32_t) ((k * 37 + k * k * 11 + i) % (model->hp.n_vocab - 1));
        l->examples[i] = (slm_example){.ids = l->ids[i], .n = n, .prompt = 3 + i, .guesses = l->guesses[i]};
    }
}

/* The guesses of one example against all logits of a forward pass of its own. */
static void check_guesses(const slm_model *model, const slm_example *e)
{
    size_t ld = test_logit_stride(model);
    float *logits = test_alloc(e->n * ld * sizeof *logits);
    test_sequence s = test_sequence_new(model, e->n);
    test_batch b = test_batch_new(e->n);
    slm_workspace *ws = slm_workspace_new();
    test_batch_add(&b, &s, e->ids, e->n, e->n, 2);
    test_run(model, ws, &b, 1, logits);
    for (uint32_t p = e->prompt; p < e->n; p++) {
        const float *z = logits + (p - 1) * ld;
        const slm_guess *g = e->guesses + (size_t) (p - e->prompt) * GUESSES;
        uint32_t above = 0;
        for (uint32_t k = 0; k < GUESSES; k++)
            CHECK(g[k].logit == z[g[k].id] && (k == 0 || g[k].logit < g[k - 1].logit ||
                                               (g[k].logit == g[k - 1].logit && g[k].id > g[k - 1].id)),
                  "logit %u before token %u is not the model's, or out of order", k, p);
        for (uint32_t c = 0; c < model->hp.n_vocab; c++)
            above += z[c] > g[GUESSES - 1].logit;
        CHECK(above < GUESSES, "before token %u there are larger logits than those that were given", p);
    }
    slm_workspace_free(ws);
    test_batch_free(&b);
    test_sequence_free(&s);
    free(logits);
}

static void check_learned(const slm_model *student, lessons *l)
{
    slm_finetune_options o = {.rank = 8, .targets = SLM_ADAPT_ALL, .alpha = 16, .rate = 5e-3, .epochs = 4, .step_tokens = 256,
                              .memory = (size_t) 1 << 30, .n_threads = 1,
                              .lesson = {.k = GUESSES, .temperature = 2, .mix = 0.25f}};
    slm_finetune *t = NULL;
    slm_error err = {0};
    slm_guess *told = l->examples[2].guesses;
    slm_status status = slm_finetune_new(student, l->examples, N_TAUGHT, l->examples, 2, &o, &t, &err);
    CHECK(status == SLM_OK && slm_finetune_run(t, &err) == SLM_OK, "%s", err.message);
    if (status == SLM_OK) {
        const slm_finetune_report *r = slm_finetune_get_report(t);
        size_t bytes = r->bytes, expected = 0;
        CHECK(r->after.loss < 0.98 * r->before.loss, "loss %.4f before, %.4f after", r->before.loss, r->after.loss);
        slm_finetune_free(t);
        o.lesson = (slm_lesson){0};
        status = slm_finetune_new(student, l->examples, N_TAUGHT, l->examples, 2, &o, &t, &err);
        for (size_t i = 0; i < N_TAUGHT; i++)
            expected += (i < 2 ? 2 : 1) * (l->examples[i].n - l->examples[i].prompt) * GUESSES * sizeof(slm_guess);
        CHECK(status == SLM_OK && bytes - slm_finetune_get_report(t)->bytes == expected, "the teacher's logits are not counted");
        slm_finetune_free(t);
    }
    static const slm_lesson wrong[] = {{.k = 1, .temperature = 1},
                                       {.k = SLM_MOST_GUESSES + 1, .temperature = 1},
                                       {.k = 2, .temperature = 0},
                                       {.k = 2, .temperature = NAN},
                                       {.k = 2, .temperature = 1, .mix = 1.5f}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        o.lesson = wrong[i];
        CHECK(slm_finetune_new(student, l->examples, N_TAUGHT, NULL, 0, &o, &t, &err) == SLM_INVALID, "wrong lesson %zu is taken", i);
    }
    o.lesson = (slm_lesson){.k = GUESSES, .temperature = 1};
    l->examples[2].guesses = NULL;
    CHECK(slm_finetune_new(student, l->examples, N_TAUGHT, NULL, 0, &o, &t, &err) == SLM_INVALID, "an example without guesses is taken");
    l->examples[2].guesses = told;
}

/* A family of which nothing can be learned may teach all the same. */
static void check_teacher(const char *name, bool learns)
{
    char path[1024];
    static lessons l, again;
    slm_error err = {0};
    volatile int stop = 1;
    size_t done = 0, passes = 0;
    snprintf(path, sizeof path, "%s/%s", golden_root(), name);
    slm_model *model = test_import(path, NULL);
    CHECK(model != NULL && model->hp.n_context >= LONG_ONE, "%s is missing, or takes no more than %u tokens", path, LONG_ONE);
    if (model == NULL)
        return;
    slm_teacher teacher = {.model = model, .k = GUESSES, .n_threads = 2, .stop = &stop};
    make_examples(&l, model);
    make_examples(&again, model);
    CHECK(slm_teach(&teacher, l.examples, N_TAUGHT, &done, &err) == SLM_CANCELLED && done == 0, "a set stop flag");
    for (stop = 0; done < N_TAUGHT && passes < 100; passes++)
        CHECK(slm_teach(&teacher, l.examples, N_TAUGHT, &done, &err) == SLM_OK, "%s", err.message);
    CHECK(done == N_TAUGHT && passes > 2 && passes < N_TAUGHT, "%zu examples in %zu passes", done, passes);
    for (size_t i = 0; i < N_TAUGHT; i++)
        check_guesses(model, &l.examples[i]);
    teacher.n_threads = 1;
    for (size_t i = 0, one; i < N_TAUGHT; i++) /* each alone */
        CHECK((one = 0, slm_teach(&teacher, &again.examples[i], 1, &one, &err)) == SLM_OK && one == 1, "%s", err.message);
    CHECK(memcmp(l.guesses, again.guesses, sizeof l.guesses) == 0, "other logits with one thread and each example alone");
    slm_example too_long = {.ids = l.ids[0], .n = model->hp.n_context + 1, .prompt = 1, .guesses = l.guesses[0]};
    done = 0;
    CHECK(slm_teach(&teacher, &too_long, 1, &done, &err) == SLM_LIMIT && done == 0, "more than the teacher's context is taken");
    if (learns)
        check_learned(model, &l);
    slm_model_close(model);
}

/* llama and qwen3 of golden/training have one vocabulary, gemma2 another one of as many tokens, golden/families none. */
static void check_vocabularies(void)
{
    static const char *const names[] = {"llama", "qwen3", "gemma2"};
    char path[1024];
    slm_error err = {0};
    slm_model *models[4];
    for (int i = 0; i < 3; i++)
        models[i] = test_import(folder_of(names[i], "base"), "F16");
    snprintf(path, sizeof path, "%s/families/llama.gguf", golden_root());
    models[3] = test_import(path, NULL);
    for (int i = 0; i < 4; i++)
        if (models[i] == NULL)
            test_die("check_vocabularies", "a model is missing");
    slm_teacher teacher = {.model = models[0], .k = GUESSES};
    CHECK(slm_teacher_check(&teacher, models[0], &err) == SLM_OK, "a model does not teach itself: %s", err.message);
    CHECK(slm_teacher_check(&teacher, models[1], &err) == SLM_OK, "nor one of its vocabulary: %s", err.message);
    CHECK(slm_teacher_check(&teacher, models[2], &err) == SLM_INVALID && strstr(err.message, "token ") == err.message,
          "other tokens: %s", err.message);
    CHECK(slm_teacher_check(&teacher, models[3], &err) == SLM_INVALID, "a student without a vocabulary is taken");
    for (teacher.k = 1; teacher.k <= 301; teacher.k += 300)
        CHECK(slm_teacher_check(&teacher, models[0], &err) == SLM_INVALID, "%u logits are taken", teacher.k);
    for (int i = 0; i < 4; i++)
        slm_model_close(models[i]);
}

int main(void)
{
    static const char *const trained[] = {"llama", "qwen3", "gemma2", "gemma3"};
    static const char *const families[] = {"llama",  "llama-3.2", "mistral", "phi3",    "phi4-mini", "gemma", "gemma2",
                                           "gemma3", "qwen2",     "qwen3",   "smollm3", "granite",   "olmo2"};
    static const slm_lesson taught[] = {{.k = GUESSES, .temperature = 1.5f, .mix = 0.3f},
                                         {.k = GUESSES, .temperature = 3, .mix = 0.6f, .renormalize = true},
                                         {.k = GUESSES, .temperature = 1.2f}};
    for (size_t i = 0; i < sizeof trained / sizeof *trained; i++)
        check_training(trained[i]);
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        check_slope((fixture){.name = families[i]});
    check_slope((fixture){.name = "gemma2", .dropout = 0.3f});
    check_slope((fixture){.name = "phi3", .dropout = 0.1f, .layers = 1});
    for (size_t i = 0; i < sizeof taught / sizeof *taught; i++) {
        check_slope((fixture){.name = "llama", .lesson = taught[i]});
        check_slope((fixture){.name = "granite", .lesson = taught[i]});
        check_slope((fixture){.name = "gemma2", .lesson = taught[i]});
    }
    check_teacher("families/llama.gguf", true);
    check_teacher("families2/lfm2", false);
    check_teacher("families2/qwen3_moe", false);
    check_vocabularies();
    TEST_MAIN_END("test_learn");
}
