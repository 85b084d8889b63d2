/*
 * Classifier training: gradients, toy problems, determinism, prediction in any batch, hostile blobs, refused input, cancel.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "engine/slm.h"
#include "engine/train/blas.h"
#include "engine/train/lanes.h"
#include "engine/train/metrics.h"
#include "engine/train/ngram.h"
#include "engine/train/problem.h"
#include "slm_test.h"

#define N 240
#define D 12
#define L 5

static uint32_t seed = 7;

/* Uniform in -1..1. */
static float noise(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (float) (int32_t) seed / 2147483648.0f;
}

typedef struct toy {
    float x[N * D], names[L * D];
    int32_t labels[N];
    const char *texts[N];
    size_t lengths[N];
    const char *label_names[L];
    slm_train_set set;
} toy;

/* L clusters around random centres, spread apart by `noise_size`. */
static void make_toy(toy *t, float noise_size)
{
    static const char *const names[L] = {"red", "green", "blau", "요금", "white"};
    static const char *const words[L] = {"a crimson rose", "leaf and grass", "Himmel, Meer", "요금이 두 번 청구", "snow!"};
    seed = 7;
    for (int l = 0; l < L; l++) {
        t->label_names[l] = names[l];
        for (int d = 0; d < D; d++)
            t->names[l * D + d] = noise();
    }
    for (int r = 0; r < N; r++) {
        t->labels[r] = r % L;
        t->texts[r] = words[r % L];
        t->lengths[r] = strlen(words[r % L]);
        for (int d = 0; d < D; d++)
            t->x[r * D + d] = t->names[(r % L) * D + d] + noise_size * noise();
    }
    t->set = (slm_train_set){.n_rows = N, .n_dims = D, .embeddings = t->x, .texts = t->texts, .text_lengths = t->lengths,
                             .labels = t->labels, .n_labels = L, .label_names = t->label_names};
}

static double accuracy(const slm_train_report *report, const toy *t, bool text)
{
    slm_classifier *c;
    slm_error err;
    float p[N * L];
    slm_train_report measured = {0};
    if (slm_classifier_open(report->blob, report->blob_bytes, &c, &err) != SLM_OK)
        return -1;
    slm_status status = slm_classifier_predict(c, t->x, text ? t->texts : NULL, text ? t->lengths : NULL, N, p, &err);
    if (status == SLM_OK)
        status = slm_train_evaluate(p, t->labels, N, L, &measured, &err);
    slm_classifier_free(c);
    double result = status == SLM_OK ? measured.accuracy : -1;
    slm_train_report_free(&measured);
    return result;
}

/* The gradient against central differences, with n-grams and a fold left out. */
static void check_gradient(void)
{
    static toy t;
    float weights[N], *x = malloc(N * (D + 1) * sizeof *x);
    slm_ngram_space space;
    slm_sparse sparse;
    slm_error err;
    double loss, above, below;
    make_toy(&t, 0.5f);
    for (int r = 0; r < N; r++) {
        memcpy(x + r * (D + 1), t.x + r * D, D * sizeof *x);
        x[r * (D + 1) + D] = 1;
        weights[r] = 0.5f + (float) (r % 3);
    }
    CHECK(slm_blas_load(&err) == SLM_OK, "%s", err.message);
    CHECK(slm_ngram_learn(t.texts, t.lengths, N, 12, NULL, &space, &sparse, &err) == SLM_OK && space.n > 20, "%s", err.message);
    slm_problem p = {.n_rows = N, .n_inputs = D + 1, .n_labels = L, .stride = 16, .x = x, .sparse = &sparse, .n_features = space.n,
                     .labels = t.labels, .weights = weights, .skip_begin = 40, .skip_end = 90, .l2 = 3, .sparse_l2 = 2, .n_threads = 2};
    CHECK(slm_problem_init(&p, &err) == SLM_OK && slm_problem_prepare(&p, &err) == SLM_OK, "%s", err.message);
    size_t size = slm_problem_size(&p);
    float *theta = malloc(size * sizeof *theta), *gradient = malloc(size * sizeof *gradient), *other = malloc(size * sizeof *other);
    for (size_t i = 0; i < size; i++)
        theta[i] = i < L * (D + 1) || (i - L * (D + 1)) % 16 < L ? noise() : 0;
    CHECK(slm_problem_evaluate(&p, theta, gradient, &loss, &err) == SLM_OK, "%s", err.message);
    double worst = 0;
    for (size_t i = 0; i < size; i += i < L * (D + 1) ? 1 : 7) {
        float kept = theta[i], step = 1e-2f;
        if (i >= L * (D + 1) && (i - L * (D + 1)) % 16 >= L)
            continue;
        theta[i] = kept + step;
        slm_problem_evaluate(&p, theta, other, &above, &err);
        theta[i] = kept - step;
        slm_problem_evaluate(&p, theta, other, &below, &err);
        theta[i] = kept;
        double difference = fabs((above - below) / (2 * step) - gradient[i]);
        worst = difference > worst ? difference : worst;
    }
    CHECK(worst < 2e-4, "gradient differs from differences of the loss by %g", worst);
    slm_problem_free(&p);
    slm_ngram_space_free(&space);
    slm_sparse_free(&sparse);
    free(x);
    free(theta);
    free(gradient);
    free(other);
}

static void check_exp(void)
{
    double worst = 0;
    for (float x = 0; x > -87; x -= 0.0137f) {
        slm_f4 y = slm_f4_exp(slm_f4_all(x));
        double error = fabs((double) y[2] / exp(x) - 1);
        worst = error > worst ? error : worst;
    }
    CHECK(worst < 3e-7, "exp is off by %g", worst);
    CHECK(slm_f4_exp(slm_f4_all(-100))[0] == 0 && slm_f4_exp(slm_f4_all(0))[0] == 1, "ends of exp");
}

static void check_toys(void)
{
    static toy t;
    slm_train_options options = {.n_threads = 1};
    slm_train_report report, again;
    slm_error err;
    make_toy(&t, 0.2f);
    CHECK(slm_train_classifier(&t.set, &options, &report, &err) == SLM_OK, "%s", err.message);
    CHECK(accuracy(&report, &t, false) == 1, "separable rows are not separated");
    CHECK(report.accuracy > 0.97 && report.macro_f1 > 0.97, "cross-validation: %f", report.accuracy);
    CHECK(report.n_rows == N && report.n_folds == 3, "rows and folds");
    uint32_t total = 0;
    for (int i = 0; i < L * L; i++)
        total += report.confusion[i];
    CHECK(total == N, "the confusion counts %u rows", total);
    for (options.n_threads = 2; options.n_threads <= 3; options.n_threads++) {
        CHECK(slm_train_classifier(&t.set, &options, &again, &err) == SLM_OK, "%s", err.message);
        bool same = again.blob_bytes == report.blob_bytes && memcmp(again.blob, report.blob, report.blob_bytes) == 0;
        CHECK(same, "another blob on %d threads", options.n_threads);
        slm_train_report_free(&again);
    }
    slm_train_report_free(&report);
    /* nothing in the embeddings, everything in the words */
    for (int i = 0; i < N * D; i++)
        t.x[i] = 0.01f * noise();
    options = (slm_train_options){.ngrams = true, .n_threads = 2};
    CHECK(slm_train_classifier(&t.set, &options, &report, &err) == SLM_OK, "%s", err.message);
    CHECK(report.n_ngrams > 20 && accuracy(&report, &t, true) == 1, "words do not separate the rows");
    CHECK(accuracy(&report, &t, false) == -1, "a classifier with n-grams takes rows without text");
    slm_train_report_free(&report);
}

static void check_by_names(void)
{
    static toy t;
    slm_train_options options = {.n_threads = 2};
    slm_train_report report;
    slm_error err;
    make_toy(&t, 0.4f);
    t.set.labels = NULL;
    CHECK(slm_train_by_names(&t.set, t.names, &options, &report, &err) == SLM_OK, "%s", err.message);
    CHECK(accuracy(&report, &t, false) > 0.97, "clusters around their names are not found");
    CHECK(isnan(report.accuracy) && report.confusion == NULL, "metrics without truth");
    slm_train_report_free(&report);
    t.set.n_rows = L - 1;
    CHECK(slm_train_by_names(&t.set, t.names, &options, &report, &err) == SLM_INVALID, "fewer rows than labels");
}

/* Few rows, unbalanced rows, a fixed strength. */
static void check_corners(void)
{
    static toy t;
    slm_train_options options = {.n_threads = 1};
    slm_train_report report;
    slm_error err;
    make_toy(&t, 0.2f);
    t.set.n_labels = 2;
    t.set.n_rows = 2;
    CHECK(slm_train_classifier(&t.set, &options, &report, &err) == SLM_OK && isnan(report.accuracy), "two rows: %s", err.message);
    slm_train_report_free(&report);
    t.set.n_rows = N;
    int rare = 0;
    for (int r = 0; r < N; r++) {
        t.labels[r] = r % 40 == 0;
        rare += t.labels[r];
        memcpy(t.x + r * D, t.names + t.labels[r] * D, D * sizeof *t.x);
        for (int d = 0; d < D; d++)
            t.x[r * D + d] += 1.5f * noise();
    }
    options.l2 = 10;
    size_t recalled[2];
    for (int balance = 0; balance < 2; balance++) {
        options.balance = balance ? SLM_BALANCE_ON : SLM_BALANCE_OFF;
        CHECK(slm_train_classifier(&t.set, &options, &report, &err) == SLM_OK && report.l2 == 10, "%s", err.message);
        recalled[balance] = report.confusion[1 * 2 + 1];
        CHECK(report.confusion[2] + report.confusion[3] == (uint32_t) rare, "rows of the rare label");
        slm_train_report_free(&report);
    }
    CHECK(recalled[1] > recalled[0], "weights do not help the rare label: %zu, %zu of %d", recalled[0], recalled[1], rare);
}

/* Rows that say nothing of their labels, each there several times: held-out rows are judged by strangers only. */
static void check_equal_rows(void)
{
    static toy t;
    slm_train_options options = {.n_threads = 1};
    slm_train_report report;
    slm_error err;
    for (int copies = 2; copies <= 8; copies += 3) {
        make_toy(&t, 0.2f);
        for (int r = 0; r < N; r++) {
            t.labels[r] = r / copies % L;
            for (int d = 0; d < D; d++)
                t.x[r * D + d] = r % copies == 0 ? noise() : t.x[(r - 1) * D + d];
        }
        CHECK(slm_train_classifier(&t.set, &options, &report, &err) == SLM_OK, "%s", err.message);
        CHECK(report.n_distinct == (N + copies - 1) / (size_t) copies, "%zu distinct rows", report.n_distinct);
        CHECK(report.accuracy < 0.45, "%d copies of each row leak: accuracy %f", copies, report.accuracy);
        slm_train_report_free(&report);
        for (int r = 0; r < N; r++) /* the copies disagree about the label: nobody is right in more than one of them */
            t.labels[r] = r % copies % L;
        t.set.n_labels = copies < L ? (uint32_t) copies : L;
        CHECK(slm_train_classifier(&t.set, &options, &report, &err) == SLM_OK, "%s", err.message);
        CHECK(report.accuracy <= 0.5 + 1e-9, "copies with other labels leak: accuracy %f", report.accuracy);
        slm_train_report_free(&report);
    }
}

/* A row judged by the trial that has not seen it is judged as the figures say; by another it is judged too well. */
static void check_trials(void)
{
    static toy t;
    slm_train_options options = {.trials = true, .n_threads = 1};
    slm_train_report report;
    slm_error err;
    for (int ngrams = 0; ngrams < 2; ngrams++) {
        int right[2] = {0, 0}, seen_by_all = 0;
        make_toy(&t, 2.5f);
        for (int r = 0; r < N; r++)
            t.texts[r] = "the same", t.lengths[r] = 8;
        t.labels[7] = L; /* a lonely label */
        const char *names[L + 1] = {"a", "b", "c", "d", "e", "lonely"};
        t.set.n_labels = L + 1;
        t.set.label_names = names;
        options.ngrams = ngrams != 0;
        options.n_folds = ngrams ? 3 : 5;
        CHECK(slm_train_classifier(&t.set, &options, &report, &err) == SLM_OK && report.n_trials == options.n_folds, "%s", err.message);
        for (uint32_t k = 0; k < report.n_trials; k++) {
            slm_classifier *c;
            float p[L + 1];
            CHECK(slm_classifier_open(report.trials[k].data, report.trials[k].bytes, &c, &err) == SLM_OK, "%s", err.message);
            for (int r = 0; r < N; r++) {
                int best = 0;
                CHECK(slm_classifier_predict(c, t.x + r * D, t.texts + r, t.lengths + r, 1, p, &err) == SLM_OK, "%s", err.message);
                for (int l = 1; l <= L; l++)
                    best = p[l] > p[best] ? l : best;
                seen_by_all += report.trial_of_row[r] == SLM_SEEN_BY_ALL;
                if (report.trial_of_row[r] != SLM_SEEN_BY_ALL)
                    right[report.trial_of_row[r] == k] += best == t.labels[r];
            }
            slm_classifier_free(c);
        }
        double held_out = right[1] / (double) (N - 1), seen = right[0] / (double) ((N - 1) * (report.n_trials - 1));
        CHECK(seen_by_all == (int) report.n_trials && fabs(held_out - report.accuracy) < 0.01, "%f for %f", held_out, report.accuracy);
        CHECK(seen > held_out + 0.01, "rows that a trial has seen: %f, held out: %f", seen, held_out);
        slm_train_report_free(&report);
    }
}

/* Folds that are given: each is judged on its own embeddings.  Where these are the rows' own, as dealt folds are; where they say nothing of
 * the labels, nothing is right, however much the rows' own say. */
static void check_given_folds(void)
{
    static toy t;
    static float blank[N * D];
    static uint8_t fold[N];
    const float *own[3] = {t.x, t.x, t.x}, *none[3] = {blank, blank, blank};
    slm_train_options options = {.trials = true, .n_threads = 1};
    slm_train_report dealt, given;
    slm_error err;
    make_toy(&t, 2.5f);
    CHECK(slm_train_classifier(&t.set, &options, &dealt, &err) == SLM_OK && dealt.n_trials == 3, "%s", err.message);
    memcpy(fold, dealt.trial_of_row, N);
    t.set.n_folds = 3;
    t.set.fold_of_row = fold;
    t.set.fold_embeddings = own;
    CHECK(slm_train_classifier(&t.set, &options, &given, &err) == SLM_OK, "%s", err.message);
    CHECK(given.accuracy == dealt.accuracy && given.l2 == dealt.l2 && given.temperature == dealt.temperature, "%f for %f", given.accuracy,
          dealt.accuracy);
    CHECK(given.blob_bytes == dealt.blob_bytes && memcmp(given.blob, dealt.blob, given.blob_bytes) == 0 &&
              memcmp(given.trial_of_row, fold, N) == 0, "another classifier from the same folds");
    slm_train_report_free(&given);
    for (int i = 0; i < N * D; i++)
        blank[i] = noise();
    t.set.fold_embeddings = none;
    CHECK(slm_train_classifier(&t.set, &options, &given, &err) == SLM_OK, "%s", err.message);
    CHECK(given.accuracy < 0.4 && dealt.accuracy > 0.5, "%f on embeddings that say nothing, %f on others", given.accuracy, dealt.accuracy);
    slm_train_report_free(&given);
    slm_train_report_free(&dealt);
}

/* Labels that cannot be held out have no part in the figures, and where they are many there are none. */
static void check_lonely_labels(void)
{
    static toy t;
    slm_train_options options = {.n_threads = 1};
    slm_train_report report;
    slm_error err;
    for (int copies = 1; copies <= 4; copies += 3) { /* one row a label, also when it is there four times */
        make_toy(&t, 0.2f);
        t.set.n_rows = (size_t) (L * copies);
        for (int r = L; r < L * copies; r++)
            memcpy(t.x + r * D, t.x + r % L * D, D * sizeof *t.x);
        CHECK(slm_train_classifier(&t.set, &options, &report, &err) == SLM_OK, "%s", err.message);
        CHECK(isnan(report.accuracy) && isnan(report.macro_f1) && isnan(report.ece) && report.confusion == NULL, "figures of %f",
              report.accuracy);
        CHECK(report.n_lonely == L && accuracy(&report, &t, false) > 0.9, "the classifier itself");
        slm_train_report_free(&report);
    }
    make_toy(&t, 0.2f);
    for (int r = 5; r < N; r++) /* one row is left of label 0 */
        t.labels[r] = r % L == 0 ? 1 : t.labels[r];
    CHECK(slm_train_classifier(&t.set, &options, &report, &err) == SLM_OK && report.n_lonely == 1, "%s", err.message);
    uint32_t total = 0;
    for (int i = 0; i < L * L; i++)
        total += report.confusion[i];
    CHECK(!isnan(report.accuracy) && total == N - 1, "%u rows were measured", total);
    slm_train_report_free(&report);
    t.set.n_rows = 25; /* now it has more than a tenth of the rows, and the other labels few */
    for (int r = 0; r < 25; r++)
        t.labels[r] = r < 4 ? r : 4;
    CHECK(slm_train_classifier(&t.set, &options, &report, &err) == SLM_OK && isnan(report.accuracy), "four lonely labels of five");
    slm_train_report_free(&report);
}

/* Wider than the preconditioner is a matrix for. */
static void check_wide(void)
{
    enum { WIDE = 1700, ROWS = 40 };
    static const char *const names[2] = {"yes", "no"};
    static float x[ROWS * WIDE], p[ROWS * 2];
    static int32_t labels[ROWS];
    slm_train_options options = {.n_threads = 2};
    slm_train_report report, measured;
    slm_classifier *c;
    slm_error err;
    for (int r = 0; r < ROWS; r++) {
        labels[r] = r % 2;
        for (int d = 0; d < WIDE; d++)
            x[r * WIDE + d] = noise() + (d % 50 == 7 ? (float) (2 * labels[r] - 1) : 0);
    }
    slm_train_set set = {.n_rows = ROWS, .n_dims = WIDE, .embeddings = x, .labels = labels, .n_labels = 2, .label_names = names};
    CHECK(slm_train_classifier(&set, &options, &report, &err) == SLM_OK, "%s", err.message);
    CHECK(report.accuracy > 0.8, "held-out rows: %f", report.accuracy);
    CHECK(slm_classifier_open(report.blob, report.blob_bytes, &c, &err) == SLM_OK, "%s", err.message);
    CHECK(slm_classifier_predict(c, x, NULL, NULL, ROWS, p, &err) == SLM_OK, "%s", err.message);
    CHECK(slm_train_evaluate(p, labels, ROWS, 2, &measured, &err) == SLM_OK && measured.accuracy == 1, "rows learned from: %f",
          measured.accuracy);
    slm_train_report_free(&measured);
    slm_classifier_free(c);
    slm_train_report_free(&report);
}

static void check_prediction(void)
{
    static toy t;
    slm_train_options options = {.ngrams = true, .n_threads = 1};
    slm_train_report report;
    slm_classifier *c;
    slm_error err;
    float all[N * L], part[N * L];
    make_toy(&t, 0.8f);
    CHECK(slm_train_classifier(&t.set, &options, &report, &err) == SLM_OK, "%s", err.message);
    CHECK(slm_classifier_open(report.blob, report.blob_bytes, &c, &err) == SLM_OK, "%s", err.message);
    CHECK(slm_classifier_n_labels(c) == L && slm_classifier_n_dims(c) == D && slm_classifier_needs_text(c), "what the classifier is");
    for (uint32_t l = 0; l < L; l++)
        CHECK(strcmp(slm_classifier_label(c, l), t.label_names[l]) == 0, "label %u", l);
    CHECK(slm_classifier_label(c, L) == NULL, "a label too many");
    CHECK(slm_classifier_predict(c, t.x, t.texts, t.lengths, N, all, &err) == SLM_OK, "%s", err.message);
    for (int size = 1; size <= 7; size += 2) {
        for (int r = 0; r < N; r += size) {
            size_t n = N - r < size ? (size_t) (N - r) : (size_t) size;
            slm_classifier_predict(c, t.x + r * D, t.texts + r, t.lengths + r, n, part + r * L, &err);
        }
        CHECK(memcmp(part, all, sizeof all) == 0, "batches of %d give other bits", size);
    }
    for (int r = 0; r < N; r++) {
        CHECK(slm_classifier_score(c, t.x + r * D, t.texts[r], t.lengths[r], part + r * L, &err) == SLM_OK, "%s", err.message);
        CHECK(slm_classifier_softmax(c, part + r * L, &err) == SLM_OK, "%s", err.message);
    }
    CHECK(memcmp(part, all, sizeof all) == 0, "scores and their softmax give other bits");
    for (int r = 0; r < N; r++) {
        double sum = 0;
        for (int l = 0; l < L; l++)
            sum += all[r * L + l];
        if (fabs(sum - 1) > 1e-5)
            CHECK(false, "row %d: probabilities sum to %f", r, sum);
    }
    t.x[3] = NAN;
    CHECK(slm_classifier_predict(c, t.x, t.texts, t.lengths, 1, part, &err) == SLM_INVALID, "NaN in an embedding");
    for (int d = 0; d < D; d++)
        t.x[d] = d % 2 == 0 ? 3.3e38f : -3.3e38f;
    CHECK(slm_classifier_predict(c, t.x, t.texts, t.lengths, 1, part, &err) == SLM_INVALID, "scores that are not finite");
    t.x[3] = 0;
    t.texts[0] = NULL;
    CHECK(slm_classifier_predict(c, t.x, t.texts, t.lengths, 1, part, &err) == SLM_INVALID, "a missing text");
    CHECK(slm_classifier_score(c, t.x, NULL, 0, part, &err) == SLM_INVALID, "no text at all");
    slm_classifier_free(c);
    slm_train_report_free(&report);
}

/* Every bit flipped and every cut is refused; with the checksum made good again, mutations are refused or predict without harm. */
static void check_hostile_blobs(void)
{
    static toy t;
    slm_train_options options = {.ngrams = true, .ngram_bits = 10, .l2 = 1, .n_threads = 1};
    slm_train_report report;
    slm_classifier *c = NULL;
    slm_error err;
    int taken = 0;
    make_toy(&t, 0.8f);
    CHECK(slm_train_classifier(&t.set, &options, &report, &err) == SLM_OK, "%s", err.message);
    uint8_t *blob = malloc(report.blob_bytes);
    for (size_t bit = 0; bit < 8 * report.blob_bytes; bit += bit < 2048 ? 1 : 37) {
        memcpy(blob, report.blob, report.blob_bytes);
        blob[bit / 8] ^= (uint8_t) (1 << bit % 8);
        if (slm_classifier_open(blob, report.blob_bytes, &c, &err) == SLM_OK) {
            taken++;
            slm_classifier_free(c);
        }
    }
    CHECK(taken == 0, "%d damaged blobs were taken", taken);
    for (size_t n = 0; n < report.blob_bytes; n += n < 200 ? 1 : 61) {
        uint8_t *cut = malloc(n + 1);
        memcpy(cut, report.blob, n);
        CHECK(slm_classifier_open(cut, n, &c, &err) != SLM_OK, "a blob cut at %zu was taken", n);
        free(cut);
    }
    int opened = 0, refused = 0;
    for (int k = 0; k < 4000; k++) {
        memcpy(blob, report.blob, report.blob_bytes);
        for (int m = 0; m < 1 + k % 3; m++) {
            seed = seed * 1664525u + 1013904223u;
            size_t at = k % 2 == 0 ? (seed >> 8) % 200 : (seed >> 8) % report.blob_bytes;
            blob[at] = (uint8_t) (noise() * 256);
        }
        memset(blob + 48, 0, 8);
        uint64_t sum = XXH3_64bits_withSeed(blob + 64, report.blob_bytes - 64, XXH3_64bits(blob, 64));
        memcpy(blob + 48, &sum, 8);
        float p[2 * L];
        if (slm_classifier_open(blob, report.blob_bytes, &c, &err) != SLM_OK) {
            refused++;
            continue;
        }
        opened++;
        if (slm_classifier_n_labels(c) <= L && slm_classifier_n_dims(c) <= D)
            (void) slm_classifier_predict(c, t.x, t.texts, t.lengths, 2, p, &err);
        slm_classifier_free(c);
    }
    CHECK(opened > 100 && refused > 100, "%d opened, %d refused", opened, refused);
    free(blob);
    slm_train_report_free(&report);
}

static void check_refusals(void)
{
    static toy t;
    slm_train_options options = {.n_threads = 1};
    slm_train_report report;
    slm_error err;
    slm_train_set set;
    make_toy(&t, 0.2f);
#define REFUSED(change, restore, what)                                                                                                  \
    do {                                                                                                                                \
        set = t.set;                                                                                                                    \
        change;                                                                                                                         \
        CHECK(slm_train_classifier(&set, &options, &report, &err) == SLM_INVALID, "%s", what);                                          \
        restore;                                                                                                                        \
    } while (0)
    REFUSED(set.n_rows = 0, (void) 0, "no rows");
    REFUSED(set.n_labels = 1, (void) 0, "one label");
    REFUSED(set.n_labels = 10001, (void) 0, "too many labels");
    REFUSED(set.n_dims = 0, (void) 0, "no dimensions");
    REFUSED(t.x[100] = NAN, t.x[100] = 0, "NaN");
    REFUSED(t.x[100] = INFINITY, t.x[100] = 0, "infinity");
    REFUSED(t.labels[9] = L, t.labels[9] = 4, "a label out of range");
    REFUSED(t.labels[9] = -1, t.labels[9] = 4, "a negative label");
    REFUSED(set.n_rows = L - 1, (void) 0, "a label without rows");
    REFUSED(t.label_names[1] = "", t.label_names[1] = "green", "an empty name");
    REFUSED(t.label_names[1] = "\xff", t.label_names[1] = "green", "a name that is not UTF-8");
    REFUSED(options.l2 = -1, options.l2 = 0, "a negative strength");
    REFUSED(options.l2 = NAN, options.l2 = 0, "a strength that is no number");
    REFUSED(options.n_folds = 1, options.n_folds = 0, "one fold");
    REFUSED((options.ngrams = true, set.texts = NULL), options.ngrams = false, "n-grams without texts");
    static uint8_t fold[N];
    static float nan_x[N * D];
    const float *folds[2] = {t.x, t.x}, *broken[2] = {t.x, nan_x};
    nan_x[5] = NAN;
    for (int r = 0; r < N; r++)
        fold[r] = (uint8_t) (r % 2);
#define GIVEN(n, embeddings) (set.n_folds = n, set.fold_of_row = fold, set.fold_embeddings = embeddings)
    REFUSED(GIVEN(1, folds), (void) 0, "one fold that is given");
    REFUSED(GIVEN(21, folds), (void) 0, "too many folds that are given");
    REFUSED((GIVEN(2, folds), fold[3] = 2), fold[3] = 1, "a fold out of range");
    REFUSED(GIVEN(2, broken), (void) 0, "NaN in a fold's embeddings");
    REFUSED((GIVEN(2, folds), memset(fold, 1, N)), (void) 0, "a fold without rows");
    REFUSED(options.ngram_bits = 9, options.ngram_bits = 0, "too few bits");
}

typedef struct watch {
    volatile int stop;
    int calls, stop_after;
    double last;
    bool fell, forgiving;
} watch;

static void count_call(void *arg, const char *stage, double fraction)
{
    watch *w = arg;
    w->fell = w->fell || fraction < w->last || fraction > 1 || stage == NULL;
    w->last = fraction;
    if (w->forgiving)
        w->stop = !w->stop;
    else if (++w->calls == w->stop_after)
        w->stop = 1;
}

/* Stops at each report of progress in turn; nothing is leaked (the sanitizer looks) and nothing is made. */
static void check_cancel(void)
{
    static toy t;
    slm_error err;
    int cancelled = 0;
    make_toy(&t, 0.6f);
    for (int names = 0; names < 2; names++)
        for (int after = 0; after < 400; after += 1 + after / 4) {
            watch w = {.stop_after = after};
            slm_train_report report = {0};
            slm_train_options options = {.ngrams = names, .n_threads = 1, .stop = &w.stop, .progress = count_call, .progress_arg = &w};
            slm_status status = names ? slm_train_by_names(&t.set, t.names, &options, &report, &err)
                                      : slm_train_classifier(&t.set, &options, &report, &err);
            CHECK(status == SLM_OK || status == SLM_CANCELLED, "status %d: %s", (int) status, err.message);
            CHECK(!w.fell && (status != SLM_OK || w.last == 1), "progress fell, or ended at %f", w.last);
            CHECK((status == SLM_OK) == (report.blob != NULL), "a blob of a cancelled training");
            cancelled += status == SLM_CANCELLED;
            slm_train_report_free(&report);
        }
    CHECK(cancelled > 5, "only %d trainings were cancelled", cancelled);
}

/* A flag that each report of progress raises or clears again interrupts nothing and changes nothing. */
static void check_forgiven(void)
{
    static toy t;
    slm_error err;
    make_toy(&t, 0.6f);
    for (int names = 0; names < 2; names++) {
        watch w = {.forgiving = true};
        slm_train_report report[2] = {{0}};
        for (int i = 0; i < 2; i++) {
            slm_train_options options = {.ngrams = names, .n_threads = 1, .stop = i ? &w.stop : NULL, .progress = count_call,
                                         .progress_arg = &w};
            slm_status status = names ? slm_train_by_names(&t.set, t.names, &options, &report[i], &err)
                                      : slm_train_classifier(&t.set, &options, &report[i], &err);
            CHECK(status == SLM_OK, "status %d: %s", (int) status, err.message);
            w.last = 0;
        }
        CHECK(!w.fell && report[0].blob_bytes == report[1].blob_bytes &&
              memcmp(report[0].blob, report[1].blob, report[0].blob_bytes) == 0, "an interrupt that was settled left traces");
        slm_train_report_free(&report[0]);
        slm_train_report_free(&report[1]);
    }
}

static void check_metrics(void)
{
    /* truth 0 0 1 1, answers 0 1 1 1 */
    const float p[8] = {0.9f, 0.1f, 0.4f, 0.6f, 0.2f, 0.8f, 0.3f, 0.7f};
    const int32_t labels[4] = {0, 0, 1, 1}, wrong[1] = {2};
    slm_train_report report;
    slm_error err;
    CHECK(slm_train_evaluate(p, labels, 4, 2, &report, &err) == SLM_OK, "%s", err.message);
    CHECK(report.accuracy == 0.75, "accuracy %f", report.accuracy);
    CHECK(fabs(report.macro_f1 - (2.0 / 3 + 0.8) / 2) < 1e-12, "macro F1 %f", report.macro_f1);
    CHECK(fabs(report.log_loss + (log(0.9) + log(0.4) + log(0.8) + log(0.7)) / 4) < 1e-6, "log loss %f", report.log_loss);
    CHECK(fabs(report.ece - (0.1 + 0.6 + 0.2 + 0.3) / 4) < 1e-6, "ECE %f", report.ece);
    CHECK(report.confusion[0] == 1 && report.confusion[1] == 1 && report.confusion[2] == 0 && report.confusion[3] == 2, "confusion");
    slm_train_report_free(&report);
    CHECK(slm_train_evaluate(p, wrong, 1, 2, &report, &err) == SLM_INVALID, "a label out of range");
    /* scores twice too large want the temperature 2 */
    float z[2000];
    int32_t truth[1000];
    for (int r = 0; r < 1000; r++) {
        float s = 2 * noise();
        truth[r] = (noise() + 1) / 2 < 1 / (1 + expf(-s));
        z[2 * r] = 0;
        z[2 * r + 1] = 2 * s;
    }
    float temperature = slm_fit_temperature(z, 2, truth, 1000, 2);
    CHECK(temperature > 1.6f && temperature < 2.5f, "temperature %f", (double) temperature);
}

int main(void)
{
    check_exp();
    check_metrics();
    check_gradient();
    check_toys();
    check_by_names();
    check_corners();
    check_equal_rows();
    check_lonely_labels();
    check_trials();
    check_given_folds();
    check_wide();
    check_prediction();
    check_hostile_blobs();
    check_refusals();
    check_cancel();
    check_forgiven();
    TEST_MAIN_END("train");
}
