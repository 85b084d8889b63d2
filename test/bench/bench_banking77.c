/*
 * Banking77 (10,003 messages to learn from, 3,080 to test, 77 intents) through the engine: embedding speed, and the accuracy of each way to
 * classify.  docs/SPEED.md and the goals compare with these figures; the same is reached through SQL by slm_train_classifier.
 *
 *   bench_banking77 [--quantization Q8_0] [--embed RUNS]      CSV on stdout: metric,type,threads,value,unit
 *
 * --embed: the embedding of the test texts only, the best of so many runs.
 *
 * Needs banking77_train.csv and banking77_test.csv in $SLM_TEST_DATA (Casanueva et al. 2020, CC BY 4.0) and
 * all-MiniLM-L6-v2 in the model cache; says so and measures nothing where one is missing.
 */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "csv.h"
#include "engine/slm.h"

#define DIMS 384
#define MAX_ROWS 12000
#define MAX_LABELS 100
#define BATCH 256

typedef struct rows {
    size_t n;
    const char *texts[MAX_ROWS];
    size_t lengths[MAX_ROWS];
    int32_t labels[MAX_ROWS];
    float *x; /* [n, DIMS] */
} rows;

typedef struct bench {
    rows train, test;
    uint32_t n_labels;
    const char *categories[MAX_LABELS]; /* as in the file */
    const char *names[MAX_LABELS];      /* with spaces */
    float *name_x;
    const char *type;
    int runs; /* of the embedding */
    bool only_embed;
} bench;

static void must(slm_status status, const slm_error *err)
{
    if (status != SLM_OK) {
        fprintf(stderr, "bench_banking77: %s\n%s\n", err->message, err->hint);
        exit(1);
    }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

static void figure(const bench *b, const char *metric, int threads, double value, const char *unit)
{
    printf("%s,%s,%d,%.*f,%s\n", metric, b->type, threads, value >= 1000 ? 0 : 2, value, unit);
    fflush(stdout);
}

/* ---- the data ---- */

static int32_t label_of(bench *b, const char *category, bool add)
{
    for (uint32_t l = 0; l < b->n_labels; l++)
        if (strcmp(b->categories[l], category) == 0)
            return (int32_t) l;
    if (!add || b->n_labels == MAX_LABELS)
        return -1;
    char *name = strdup(category);
    for (char *p = name; *p; p++)
        *p = *p == '_' ? ' ' : *p;
    b->categories[b->n_labels] = category;
    b->names[b->n_labels] = name;
    return (int32_t) b->n_labels++;
}

static bool load(bench *b, const char *folder, const char *file, rows *r, bool train)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return false;
    size_t room = 4 << 20, n;
    char *text = malloc(room + 1), *at = text, *value, *category;
    n = fread(text, 1, room, f);
    text[n] = '\0';
    fclose(f);
    while (field(&at, &value)) /* the head line */
        continue;
    while (*at != '\0' && r->n < MAX_ROWS) {
        if (!field(&at, &value))
            continue;
        field(&at, &category);
        int32_t label = label_of(b, category, train);
        if (label < 0)
            continue;
        r->texts[r->n] = value;
        r->lengths[r->n] = strlen(value);
        r->labels[r->n++] = label;
    }
    return r->n > 0;
}

/* ---- embedding ---- */

static void embed(slm_session *session, const char *const *texts, size_t n, float *out)
{
    slm_error err;
    uint64_t ids[BATCH];
    for (size_t at = 0; at < n; at += BATCH) {
        size_t count = n - at < BATCH ? n - at : BATCH, active = 1;
        for (size_t i = 0; i < count; i++) {
            slm_segment segment = {.role = SLM_ROLE_USER, .text = texts[at + i], .length = strlen(texts[at + i])};
            slm_request request = {.mode = SLM_MODE_EMBED, .truncate = true, .segments = &segment, .n_segments = 1};
            must(slm_submit(session, &request, &ids[i], &err), &err);
        }
        while (active > 0)
            must(slm_step(session, &active, &err), &err);
        for (const slm_result *r; (r = slm_poll(session)) != NULL;) {
            must(r->status, &r->error);
            for (size_t i = 0; i < count; i++)
                if (ids[i] == r->id)
                    memcpy(out + (at + i) * DIMS, r->scores, DIMS * sizeof *out);
            slm_release(session, r->id);
        }
    }
}

static void embed_all(bench *b, const char *dir)
{
    char image[64];
    slm_error err;
    slm_model *model;
    slm_session *session;
    slm_import_options options = {.quantization = b->type};
    snprintf(image, sizeof image, "/tmp/slm_banking77_%d.img", (int) getpid());
    double begin = now();
    must(slm_import(dir, image, &options, NULL, NULL, NULL, NULL, &err), &err);
    figure(b, "import", 1, 1000 * (now() - begin), "ms");
    must(slm_model_open(image, &model, &err), &err);
    b->train.x = malloc(b->train.n * DIMS * sizeof(float));
    b->test.x = malloc(b->test.n * DIMS * sizeof(float));
    b->name_x = malloc(b->n_labels * DIMS * sizeof(float));
    for (int threads = 1; threads <= 2; threads++) {
        slm_limits limits = {.kv_cache_bytes = 1 << 24, .max_batch_tokens = 1024, .n_threads = threads};
        must(slm_session_new(model, &limits, &session, &err), &err);
        embed(session, b->names, b->n_labels, b->name_x);
        double best = 1e9;
        for (int run = 0; run < b->runs; run++) {
            begin = now();
            embed(session, b->test.texts, b->test.n, b->test.x);
            best = now() - begin < best ? now() - begin : best;
        }
        figure(b, "embed 3080 texts", threads, (double) b->test.n / best, "rows/s");
        if (threads == 2 && !b->only_embed)
            embed(session, b->train.texts, b->train.n, b->train.x);
        slm_session_free(session);
    }
    slm_model_close(model);
    unlink(image);
}

/* ---- classifiers ---- */

static void judge(const bench *b, const slm_train_report *report, const char *metric)
{
    char name[128];
    slm_classifier *c;
    slm_train_report measured;
    slm_error err;
    float *p = malloc(b->test.n * b->n_labels * sizeof *p);
    must(slm_classifier_open(report->blob, report->blob_bytes, &c, &err), &err);
    double begin = now();
    must(slm_classifier_predict(c, b->test.x, b->test.texts, b->test.lengths, b->test.n, p, &err), &err);
    double seconds = now() - begin;
    must(slm_train_evaluate(p, b->test.labels, b->test.n, b->n_labels, &measured, &err), &err);
    snprintf(name, sizeof name, "%s: accuracy", metric);
    figure(b, name, 1, 100 * measured.accuracy, "%");
    snprintf(name, sizeof name, "%s: macro F1", metric);
    figure(b, name, 1, 100 * measured.macro_f1, "%");
    snprintf(name, sizeof name, "%s: calibration error", metric);
    figure(b, name, 1, 100 * measured.ece, "%");
    snprintf(name, sizeof name, "%s: classify stored embeddings", metric);
    figure(b, name, 1, (double) b->test.n / seconds, "rows/s");
    slm_train_report_free(&measured);
    slm_classifier_free(c);
    free(p);
}

/* Trains on the first `each` rows of a label (0: all); labels NULL-ed for `by_names`. */
static void train(const bench *b, const char *metric, size_t each, bool ngrams, bool by_names, int threads)
{
    char name[128];
    static rows part;
    size_t seen[MAX_LABELS] = {0};
    slm_train_report report;
    slm_error err;
    slm_train_options options = {.ngrams = ngrams, .n_threads = threads};
    part.n = 0;
    part.x = malloc(b->train.n * DIMS * sizeof(float));
    for (size_t r = 0; r < b->train.n; r++) {
        if (each != 0 && seen[b->train.labels[r]]++ >= each)
            continue;
        part.texts[part.n] = b->train.texts[r];
        part.lengths[part.n] = b->train.lengths[r];
        part.labels[part.n] = b->train.labels[r];
        memcpy(part.x + part.n++ * DIMS, b->train.x + r * DIMS, DIMS * sizeof(float));
    }
    slm_train_set set = {.n_rows = part.n, .n_dims = DIMS, .embeddings = part.x, .texts = part.texts, .text_lengths = part.lengths,
                         .labels = by_names ? NULL : part.labels, .n_labels = b->n_labels, .label_names = b->names};
    must(by_names ? slm_train_by_names(&set, b->name_x, &options, &report, &err) : slm_train_classifier(&set, &options, &report, &err),
         &err);
    snprintf(name, sizeof name, "%s: training", metric);
    figure(b, name, threads, report.seconds, "s");
    judge(b, &report, metric);
    slm_train_report_free(&report);
    free(part.x);
}

/* The label whose name is nearest. */
static void zero_shot(const bench *b)
{
    size_t right = 0;
    for (size_t r = 0; r < b->test.n; r++) {
        uint32_t best = 0;
        double best_dot = -2;
        for (uint32_t l = 0; l < b->n_labels; l++) {
            double dot = 0;
            for (int d = 0; d < DIMS; d++)
                dot += (double) b->test.x[r * DIMS + d] * b->name_x[l * DIMS + d];
            if (dot > best_dot) {
                best_dot = dot;
                best = l;
            }
        }
        right += (int32_t) best == b->test.labels[r];
    }
    figure(b, "label names as prototypes: accuracy", 1, 100 * (double) right / (double) b->test.n, "%");
}

int main(int argc, char **argv)
{
    static bench b = {.type = "Q8_0", .runs = 2};
    char dir[4096];
    const char *folder = getenv("SLM_TEST_DATA"), *cache = getenv("SLM_MODEL_CACHE"), *home = getenv("HOME");
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--quantization") == 0)
            b.type = argv[i + 1];
        else if (strcmp(argv[i], "--embed") == 0)
            b.only_embed = (b.runs = atoi(argv[i + 1])) > 0;
    }
    if (folder == NULL)
        folder = "";
    if (cache != NULL && cache[0] != '\0')
        snprintf(dir, sizeof dir, "%s/all-MiniLM-L6-v2", cache);
    else
        snprintf(dir, sizeof dir, "%s/.cache/slm_pg/all-MiniLM-L6-v2", home != NULL ? home : "");
    printf("metric,type,threads,value,unit\n");
    if (!load(&b, folder, "banking77_train.csv", &b.train, true) || !load(&b, folder, "banking77_test.csv", &b.test, false) ||
        access(dir, R_OK) != 0) {
        fprintf(stderr, "bench_banking77 skipped: %s/banking77_*.csv or %s is not there\n", folder, dir);
        return 0;
    }
    embed_all(&b, dir);
    if (b.only_embed)
        return 0;
    zero_shot(&b);
    train(&b, "label names and unlabelled rows", 0, false, true, 2);
    train(&b, "5 rows a label", 5, false, false, 2);
    train(&b, "10 rows a label", 10, false, false, 2);
    train(&b, "20 rows a label", 20, false, false, 2);
    train(&b, "10003 rows", 0, false, false, 1);
    train(&b, "10003 rows", 0, false, false, 2);
    train(&b, "10003 rows with n-grams", 0, true, false, 2);
    return 0;
}
