/*
 * A fine-tuning that is put down after every pass, saved, and taken up by another object ends with the bits of one that was not disturbed:
 * a decoder whose steps take several micro-batches, an encoder of each objective.  What is damaged, or of another fine-tuning, is refused.
 */
#include <math.h>
#include <time.h>

#include "engine/learn/fit.h"
#include "model_test.h"
#include "slm_test.h"

#define N_EXAMPLES 24
#define N_HELD_OUT 6
#define LONGEST 40

typedef struct fixture {
    slm_model *model;
    int kind; /* slm_contrast; -1: a decoder */
    int32_t ids[N_EXAMPLES + N_HELD_OUT][2][LONGEST];
    slm_example examples[N_EXAMPLES + N_HELD_OUT];
    slm_text_example texts[N_EXAMPLES + N_HELD_OUT];
    slm_finetune_options options;
    slm_finetune *running;
    int passes; /* still to be made before a pause; -1: any number */
} fixture;

static void progress(void *arg, const char *doing, double fraction)
{
    fixture *f = arg;
    (void) doing, (void) fraction;
    if (f->running != NULL && f->passes-- == 0)
        slm_finetune_pause(f->running);
}

static void fill(fixture *f, const char *path, const char *quantization, int kind)
{
    *f = (fixture){.model = test_import(path, quantization), .kind = kind};
    for (uint32_t i = 0; f->model != NULL && i < N_EXAMPLES + N_HELD_OUT; i++) {
        uint32_t n = 12 + i * 7 % (LONGEST - 12);
        for (uint32_t side = 0; side < 2; side++) {
            for (uint32_t k = 0; k < n; k++)
                f->ids[i][side][k] = (int32_t) ((k * 37 + k * k * 11 + 5 + (i % 4) * 3 + side) % (f->model->hp.n_vocab - 1));
            f->texts[i].ids[side] = f->ids[i][side];
            f->texts[i].n[side] = n;
        }
        f->texts[i].label = (int32_t) (i % 4);
        f->texts[i].score = 0.25f * (float) (i % 4);
        f->examples[i] = (slm_example){.ids = f->ids[i][0], .n = n, .prompt = 5};
    }
    f->options = (slm_finetune_options){.rank = 4, .targets = SLM_ADAPT_ALL, .alpha = 8, .dropout = 0.1f,
                                        .rate = 2e-3, .warmup = 0.1, .decay = 0.01,
                                        .clip = 1, .epochs = 3, .step_tokens = 200, .step_texts = 8, .scale = 20, .patience = 2,
                                        .seed = 3, .memory = 1 << 30, .n_threads = 1, .progress = progress, .progress_arg = f};
}

static slm_finetune *make(fixture *f)
{
    slm_finetune *out = NULL;
    slm_error err = {0};
    slm_status status =
        f->kind < 0 ? slm_finetune_new(f->model, f->examples, N_EXAMPLES, f->examples + N_EXAMPLES, N_HELD_OUT, &f->options, &out, &err)
                    : slm_finetune_new_texts(f->model, (slm_contrast) f->kind, f->texts, N_EXAMPLES, f->texts + N_EXAMPLES, N_HELD_OUT,
                                             &f->options, &out, &err);
    if (status != SLM_OK)
        test_die("slm_finetune_new", err.message);
    return out;
}

/* A memory that holds about a third of a step at once. */
static void tighten(fixture *f)
{
    slm_finetune *t = make(f);
    size_t whole = slm_finetune_get_report(t)->bytes;
    slm_finetune_free(t);
    f->options.step_tokens = LONGEST;
    t = make(f);
    f->options.memory = slm_finetune_get_report(t)->bytes + (whole - slm_finetune_get_report(t)->bytes) / 3;
    slm_finetune_free(t);
    f->options.step_tokens = 200;
}

static void same(const slm_finetune *a, const slm_finetune *b, const char *name)
{
    size_t n, m;
    const float *x = slm_finetune_values(a, &n), *y = slm_finetune_values(b, &m);
    const slm_finetune_report *r = slm_finetune_get_report(a), *s = slm_finetune_get_report(b);
    CHECK(n == m && memcmp(x, y, n * sizeof *x) == 0, "%s: other values", name);
    CHECK(r->n_steps == s->n_steps && r->best_step == s->best_step && r->end == s->end && r->n_tokens == s->n_tokens &&
              memcmp(&r->before, &s->before, sizeof r->before) == 0 && memcmp(&r->after, &s->after, sizeof r->after) == 0,
          "%s: another report", name);
    for (uint32_t i = 0; i < r->n_steps && i < s->n_steps; i++)
        CHECK(r->points[i].step == s->points[i].step && r->points[i].loss == s->points[i].loss && r->points[i].rate == s->points[i].rate,
              "%s: another curve at step %u", name, i + 1);
}

static uint64_t get_number(const char *data, size_t at)
{
    uint64_t n;
    memcpy(&n, data + at, sizeof n);
    return n;
}

/* As many bytes, and every number small: but the epoch, or the place in it where the step begins, is one less or more, so that steps would
 * follow for which there is no room, or one would begin between two. */
static void refuses_place(const void *data, size_t bytes, char *copy, slm_finetune *target)
{
    enum { STAGE = 56, EPOCH = 64, NEXT = 72, AT = 80 };
    bool in_step = get_number(data, STAGE) == STAGE_STEPS;
    slm_error err = {0};
    for (int by = -1; by <= 1; by += 2) {
        uint64_t epoch = get_number(data, EPOCH) + (uint64_t) by, next = get_number(data, NEXT) + (uint64_t) by;
        memcpy(copy, data, bytes);
        memcpy(copy + EPOCH, &epoch, sizeof epoch);
        CHECK(slm_finetune_resume(target, copy, bytes, &err) == SLM_FORMAT, "a checkpoint of epoch %d is taken", (int) epoch);
        if (!in_step || get_number(data, AT) != get_number(data, NEXT))
            continue;
        memcpy(copy, data, bytes);
        memcpy(copy + NEXT, &next, sizeof next);
        memcpy(copy + AT, &next, sizeof next);
        CHECK(slm_finetune_resume(target, copy, bytes, &err) == SLM_FORMAT, "a checkpoint of place %d is taken", (int) next);
    }
}

/* Nothing that is cut, of another length, or of another fine-tuning is taken, and the object goes on as if nothing had been. */
static void refuses(fixture *f, const void *data, size_t bytes, slm_finetune *target)
{
    slm_error err = {0};
    char *copy = test_alloc(bytes + 4);
    memcpy(copy, data, bytes);
    CHECK(slm_finetune_resume(target, copy, bytes - 4, &err) == SLM_FORMAT, "a checkpoint that is cut is taken");
    CHECK(slm_finetune_resume(target, copy, bytes + 4, &err) == SLM_FORMAT, "a checkpoint that is longer is taken");
    CHECK(slm_finetune_resume(target, copy, 8, &err) == SLM_FORMAT, "8 bytes are taken");
    for (size_t at = 8; at <= 128; at += 8) { /* the counts of its head */
        uint64_t huge = UINT64_MAX;
        memcpy(copy, data, bytes);
        memcpy(copy + at, &huge, sizeof huge);
        CHECK(slm_finetune_resume(target, copy, bytes, &err) == SLM_FORMAT, "a checkpoint with a huge number at %zu is taken", at);
    }
    refuses_place(data, bytes, copy, target);
    f->options.epochs++;
    slm_finetune *other = make(f);
    f->options.epochs--;
    CHECK(slm_finetune_resume(other, data, bytes, &err) == SLM_FORMAT, "a checkpoint of another fine-tuning is taken");
    slm_finetune_free(other);
    free(copy);
}

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

/* While others are waited for it takes a tenth of the time, and comes to the same. */
static void gives_way(fixture *f, const slm_finetune *whole, const char *name)
{
    static volatile uint32_t others = 1;
    slm_error err = {0};
    f->options.others = &others;
    slm_finetune *t = make(f);
    f->options.others = NULL;
    double wall = -seconds_of(CLOCK_MONOTONIC), cpu = -seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    CHECK(slm_finetune_run(t, &err) == SLM_OK, "%s: %s", name, err.message);
    wall += seconds_of(CLOCK_MONOTONIC);
    cpu += seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    CHECK(wall > 4 * cpu, "%s: %.3f s of CPU time in %.3f s while others are waited for", name, cpu, wall);
    same(whole, t, name);
    slm_finetune_free(t);
}

static void check(const char *name, const char *path, const char *quantization, int kind)
{
    static fixture f;
    slm_error err = {0};
    int pieces = 0;
    fill(&f, path, quantization, kind);
    CHECK(f.model != NULL, "%s does not load", path);
    if (f.model == NULL)
        return;
    if (kind < 0)
        tighten(&f);
    slm_finetune *whole = make(&f), *t = make(&f);
    CHECK(slm_finetune_run(whole, &err) == SLM_OK, "%s: %s", name, err.message);
    for (;; pieces++) {
        void *data;
        size_t bytes;
        f.running = t;
        f.passes = 1;
        slm_status status = slm_finetune_run(t, &err);
        f.running = NULL;
        if (status != SLM_CANCELLED || pieces > 1000) {
            CHECK(status == SLM_OK, "%s: %s", name, err.message);
            break;
        }
        CHECK(slm_finetune_save(t, &data, &bytes, &err) == SLM_OK, "%s: %s", name, err.message);
        slm_finetune_free(t);
        t = make(&f);
        if (pieces % 5 == 2)
            refuses(&f, data, bytes, t);
        CHECK(slm_finetune_resume(t, data, bytes, &err) == SLM_OK, "%s: %s", name, err.message);
        free(data);
    }
    printf("%s: %d pieces, %u steps\n", name, pieces, slm_finetune_get_report(whole)->n_steps);
    CHECK(pieces > (int) slm_finetune_get_report(whole)->n_steps + (kind < 0 ? 10 : 0), "%s: only %d pieces", name, pieces);
    same(whole, t, name);
    if (kind < 0)
        gives_way(&f, whole, name);
    slm_finetune_free(whole);
    slm_finetune_free(t);
    slm_model_close(f.model);
}

/* What was learned in whole, and a half of it that is kept: vectors of texts between those of the model and of the whole. */
static void check_kept(const char *path)
{
    static fixture f;
    float *vectors[3];
    slm_error err = {0};
    slm_finetune *t;
    fill(&f, path, "F32", SLM_CONTRAST_LABELS);
    if (f.model == NULL)
        test_die(path, "does not load");
    uint32_t width = f.model->hp.n_embd;
    f.options.kept = 0.5f;
    CHECK(slm_finetune_new_texts(f.model, SLM_CONTRAST_LABELS, f.texts, N_EXAMPLES, f.texts + N_EXAMPLES, N_HELD_OUT, &f.options, &t,
                                 &err) == SLM_INVALID, "a share of the change beside held-out examples");
    f.options.kept = 1.5f;
    CHECK(slm_finetune_new_texts(f.model, SLM_CONTRAST_LABELS, f.texts, N_EXAMPLES, NULL, 0, &f.options, &t, &err) == SLM_INVALID,
          "more than the whole change");
    for (int i = 0; i < 3; i++) { /* none of it, half, all */
        f.options.kept = i == 1 ? 0.5f : 0;
        CHECK(slm_finetune_new_texts(f.model, SLM_CONTRAST_LABELS, f.texts, N_EXAMPLES, NULL, 0, &f.options, &t, &err) == SLM_OK &&
                  (i == 0 || slm_finetune_run(t, &err) == SLM_OK), "%s", err.message);
        vectors[i] = test_alloc((N_EXAMPLES + N_HELD_OUT) * width * sizeof **vectors);
        CHECK(slm_finetune_embed(t, f.texts, N_EXAMPLES, vectors[i], &err) == SLM_OK, "%s", err.message);
        slm_text_example longer = f.texts[0];
        longer.n[0] = LONGEST + 1;
        CHECK(slm_finetune_embed(t, &longer, 1, vectors[i], &err) == SLM_LIMIT, "a text that is too long");
        slm_finetune_free(t);
    }
    double half = 0, all = 0;
    for (size_t k = width; k < (size_t) N_EXAMPLES * width; k++) {
        half += (double) vectors[0][k] * (double) vectors[1][k];
        all += (double) vectors[0][k] * (double) vectors[2][k];
    }
    half /= N_EXAMPLES - 1;
    all /= N_EXAMPLES - 1;
    printf("kept: mean cosine to the model's %.4f with half of the change, %.4f with all\n", half, all);
    CHECK(all < half && half < 1 - 1e-5, "half of the change is %.4f from the model, all %.4f", half, all);
    for (int i = 0; i < 3; i++)
        free(vectors[i]);
    slm_model_close(f.model);
}

int main(void)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/families/llama.gguf", golden_root());
    check("llama", path, NULL, -1);
    snprintf(path, sizeof path, "%s/encoders/roberta-mean", golden_root());
    for (int kind = SLM_CONTRAST_LABELS; kind <= SLM_CONTRAST_SCORES; kind++)
        check(kind == SLM_CONTRAST_LABELS ? "labels" : kind == SLM_CONTRAST_PAIRS ? "pairs" : "scores", path, "F32", kind);
    check_kept(path);
    TEST_MAIN_END("test_learn_state");
}
