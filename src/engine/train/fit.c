/*
 * Cross-validation and the final fit.
 *
 *   rows ──dealt to folds (folds.c)──► [fold 0 | fold 1 | ... | rows of no fold]
 *   for each strength of the search:  for each fold: minimize without it (from the last strength's result), score it
 *   the strength with the best held-out accuracy ──► minimize on all rows ──► blob; temperature from held-out scores
 *
 * Invariant: the order of rows is a function of labels and seed alone, sums run in that order, so a training set gives one blob.
 * Where the rows' embeddings were learned themselves, the folds are given, each with embeddings that were made without it.
 *
 * The strength l2 counts beside the sum of the rows' losses: 1 / l2 is scikit-learn's C.  Embeddings are scaled to a mean square
 * length of 1 first.
 */
#include "engine/train/fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/base/utf8.h"
#include "engine/train/blas.h"
#include "engine/train/classifier.h"
#include "engine/train/folds.h"
#include "engine/train/lanes.h"
#include "engine/train/lbfgs.h"
#include "engine/train/metrics.h"
#include "engine/train/ngram.h"
#include "engine/train/problem.h"
#include "engine/train/watch.h"

#define MAX_LABELS 10000
#define MAX_DIMS 65536
#define DEFAULT_FOLDS 3
#define DEFAULT_L2 0.1f
#define CV_ROWS 20000               /* rows that the cross-validation looks at, at most */
#define CV_SCORES ((size_t) 1 << 26) /* and their scores */
#define MAX_PARAMETERS ((size_t) 1 << 29)
#define CV_STEPS 40
#define CV_TOLERANCE 2e-3
#define FIT_STEPS 120
#define FIT_TOLERANCE 2e-4
#define BALANCE_RATIO 5
#define SPARSE_L2 1.0f

/* The ladder of strengths. The search begins at FIRST, goes on to weaker ones while they do better, and if none did, to stronger ones. */
static const float strengths[] = {3.0f, 1.0f, 0.3f, 0.1f, 0.03f, 0.01f, 0.003f};
#define N_STRENGTHS ((int) (sizeof strengths / sizeof strengths[0]))
#define FIRST 3
#define LIKELY_STRENGTHS 4 /* that a search tries, for its progress */

double slm_fit_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

/* ---- checks ---- */

static slm_status check_options(const slm_train_set *set, const slm_train_options *o, slm_error *err)
{
    if (!isfinite(o->l2) || o->l2 < 0 || o->l2 > 1e6f)
        return slm_fail(err, SLM_INVALID, "the regularization strength must be between 0 and 1000000");
    if (o->n_folds == 1 || o->n_folds > SLM_MAX_FOLDS)
        return slm_fail(err, SLM_INVALID, "the number of folds must be between 2 and %d", SLM_MAX_FOLDS);
    if (o->ngram_bits != 0 && (o->ngram_bits < SLM_NGRAM_MIN_BITS || o->ngram_bits > SLM_NGRAM_MAX_BITS))
        return slm_fail(err, SLM_INVALID, "ngram_bits must be between %d and %d", SLM_NGRAM_MIN_BITS, SLM_NGRAM_MAX_BITS);
    if (o->ngrams && (set->texts == NULL || set->text_lengths == NULL))
        return slm_fail(err, SLM_INVALID, "n-grams need the texts");
    return SLM_OK;
}

static slm_status check_names(const slm_train_set *set, slm_error *err)
{
    for (uint32_t i = 0; i < set->n_labels; i++) {
        const char *name = set->label_names[i];
        if (name == NULL || name[0] == '\0' || slm_utf8_valid_prefix(name, strlen(name)) != strlen(name))
            return slm_fail(err, SLM_INVALID, "label %u has no name, or one that is not UTF-8", i + 1);
    }
    return SLM_OK;
}

static slm_status check_labels(const slm_train_set *set, slm_error *err)
{
    uint32_t *rows = calloc(set->n_labels, sizeof *rows);
    slm_status status = SLM_OK;
    if (rows == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (size_t r = 0; r < set->n_rows && status == SLM_OK; r++) {
        if (set->labels[r] < 0 || (uint32_t) set->labels[r] >= set->n_labels)
            status = slm_fail(err, SLM_INVALID, "row %zu has the label number %d, not one of %u", r + 1, set->labels[r], set->n_labels);
        else
            rows[set->labels[r]]++;
    }
    for (uint32_t i = 0; i < set->n_labels && status == SLM_OK; i++)
        if (rows[i] == 0)
            status = slm_fail(err, SLM_INVALID, "label \"%.100s\" has no row", set->label_names[i]);
    free(rows);
    return status;
}

static slm_status check_embeddings(const slm_train_set *set, const float *embeddings, slm_error *err)
{
    for (size_t r = 0; r < set->n_rows; r++)
        for (uint32_t d = 0; d < set->n_dims; d++)
            if (!isfinite(embeddings[r * set->n_dims + d]))
                return slm_fail(err, SLM_INVALID, "the embedding of row %zu holds a value that is not finite", r + 1);
    return SLM_OK;
}

/* Folds that are given: each has a row. */
static slm_status check_folds(const slm_train_set *set, slm_error *err)
{
    size_t rows[SLM_MAX_FOLDS] = {0};
    if (set->n_folds == 0)
        return SLM_OK;
    if (set->n_folds < 2 || set->n_folds > SLM_MAX_FOLDS)
        return slm_fail(err, SLM_INVALID, "the number of folds must be between 2 and %d", SLM_MAX_FOLDS);
    for (size_t r = 0; r < set->n_rows; r++) {
        if (set->fold_of_row[r] >= set->n_folds && set->fold_of_row[r] != SLM_SEEN_BY_ALL)
            return slm_fail(err, SLM_INVALID, "row %zu is of fold %u, not one of %u", r + 1, set->fold_of_row[r], set->n_folds);
        if (set->fold_of_row[r] != SLM_SEEN_BY_ALL)
            rows[set->fold_of_row[r]]++;
    }
    for (uint32_t k = 0; k < set->n_folds; k++) {
        if (rows[k] == 0)
            return slm_fail(err, SLM_INVALID, "fold %u has no row", k + 1);
        SLM_TRY(check_embeddings(set, set->fold_embeddings[k], err));
    }
    return SLM_OK;
}

slm_status slm_fit_check(const slm_train_set *set, const slm_train_options *options, bool labelled, slm_error *err)
{
    if (set->n_rows == 0)
        return slm_fail(err, SLM_INVALID, "there are no rows to learn from");
    if (set->n_labels < 2 || set->n_labels > MAX_LABELS)
        return slm_fail(err, SLM_INVALID, "a classifier needs 2 to %d labels, not %u", MAX_LABELS, set->n_labels);
    if (set->n_dims < 1 || set->n_dims > MAX_DIMS)
        return slm_fail(err, SLM_INVALID, "embeddings of %u dimensions cannot be learned from", set->n_dims);
    if (set->n_rows > INT32_MAX || (size_t) set->n_labels * set->n_dims > MAX_PARAMETERS)
        return slm_fail(err, SLM_LIMIT, "%zu rows of %u dimensions and %u labels are too many", set->n_rows, set->n_dims, set->n_labels);
    SLM_TRY(check_options(set, options, err));
    SLM_TRY(check_names(set, err));
    SLM_TRY(check_embeddings(set, set->embeddings, err));
    SLM_TRY(check_folds(set, err));
    return labelled ? check_labels(set, err) : SLM_OK;
}

/* ---- rows in order ---- */

typedef struct fitting {
    const slm_train_set *set;
    const slm_train_options *options;
    slm_fit_share share;
    bool measure;
    uint32_t n_tried;               /* strengths tried so far */
    slm_folds folds;
    size_t cv_rows;                 /* rows that are held out in turn: the first of the order */
    float *x, *weights;             /* [n_rows, n_dims + 1], [n_rows] */
    float *fold_x;                  /* the same of the fold that is fitted, where each has its own; NULL */
    int32_t *labels;
    const char **texts;
    size_t *lengths;
    float scale;                    /* of the embeddings */
    slm_ngram_space space;
    slm_sparse sparse;
    slm_problem problem;
    slm_lbfgs lbfgs;
    float *theta, *fold_theta;      /* [size], [n_folds, size] */
    float *best_theta;              /* [size] mean over the folds at the best strength */
    float *z, *best_z;              /* [cv_rows, stride] held-out scores */
    double best_accuracy, best_loss;
    slm_blob trials[SLM_MAX_FOLDS]; /* classifiers of the folds at the best strength */
    slm_train_watch watch;
    double stage_begin, stage_end;
    uint32_t stage_steps;
} fitting;

static void free_fitting(fitting *f)
{
    slm_folds_free(&f->folds);
    free(f->x);
    free(f->fold_x);
    free(f->weights);
    free(f->labels);
    free(f->texts);
    free(f->lengths);
    free(f->theta);
    free(f->fold_theta);
    free(f->best_theta);
    free(f->z);
    free(f->best_z);
    for (uint32_t k = 0; k < SLM_MAX_FOLDS; k++)
        free(f->trials[k].data);
    slm_ngram_space_free(&f->space);
    slm_sparse_free(&f->sparse);
    slm_problem_free(&f->problem);
    slm_lbfgs_free(&f->lbfgs);
}

static void report(fitting *f, const char *stage, double fraction)
{
    slm_watch_report(&f->watch, stage, f->share.begin + (f->share.end - f->share.begin) * fraction);
}

static void cv_step(void *arg, uint32_t step)
{
    fitting *f = arg;
    report(f, "cross-validation", f->stage_begin + (f->stage_end - f->stage_begin) * step / f->stage_steps);
}

static void fit_step(void *arg, uint32_t step)
{
    fitting *f = arg;
    report(f, "training", f->stage_begin + (f->stage_end - f->stage_begin) * step / f->stage_steps);
}

static slm_status order_rows(fitting *f, slm_error *err)
{
    size_t cap = CV_SCORES / f->set->n_labels < CV_ROWS ? CV_SCORES / f->set->n_labels : CV_ROWS;
    if (f->set->n_folds > 0)
        return slm_take_folds(f->set, &f->folds, err);
    uint32_t n = !f->measure ? 1 : f->options->n_folds != 0 ? f->options->n_folds : DEFAULT_FOLDS;
    return slm_deal_folds(f->set, n, cap, f->options->seed, &f->watch, &f->folds, err);
}

static bool want_balance(const slm_train_set *set, slm_balance balance, const uint32_t *counts)
{
    uint32_t least = UINT32_MAX, most = 0;
    for (uint32_t l = 0; l < set->n_labels; l++) {
        least = counts[l] < least ? counts[l] : least;
        most = counts[l] > most ? counts[l] : most;
    }
    return balance == SLM_BALANCE_ON || (balance == SLM_BALANCE_AUTO && most > (uint64_t) BALANCE_RATIO * least);
}

/* A row weighs n / (n_labels * rows of its label), or 1. */
static slm_status weigh_rows(fitting *f, slm_error *err)
{
    const slm_train_set *set = f->set;
    uint32_t *counts = calloc(set->n_labels, sizeof *counts);
    if (counts == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (size_t r = 0; r < set->n_rows; r++)
        counts[set->labels[r]]++;
    bool balance = want_balance(set, f->options->balance, counts);
    for (size_t r = 0; r < set->n_rows; r++)
        f->weights[r] = balance ? (float) ((double) set->n_rows / ((double) set->n_labels * counts[f->labels[r]])) : 1.0f;
    free(counts);
    return SLM_OK;
}

/* Embeddings in the order of the folds, scaled, with a 1 behind them. */
static void scale_rows(const fitting *f, const float *embeddings, float *out)
{
    uint32_t n_dims = f->set->n_dims;
    for (size_t r = 0; r < f->set->n_rows; r++, out += n_dims + 1) {
        const float *from = embeddings + (size_t) f->folds.order[r] * n_dims;
        for (uint32_t d = 0; d < n_dims; d++)
            out[d] = from[d] * f->scale;
        out[n_dims] = 1.0f;
    }
}

static slm_status copy_rows(fitting *f, slm_error *err)
{
    const slm_train_set *set = f->set;
    size_t n = set->n_rows, inputs = (size_t) set->n_dims + 1;
    double square = 0;
    size_t bytes = (n * inputs * sizeof *f->x + 63) / 64 * 64;
    f->x = aligned_alloc(64, bytes);
    f->fold_x = set->n_folds > 0 ? aligned_alloc(64, bytes) : NULL;
    f->weights = malloc(n * sizeof *f->weights);
    f->labels = malloc(n * sizeof *f->labels);
    f->texts = malloc(n * sizeof *f->texts);
    f->lengths = malloc(n * sizeof *f->lengths);
    if (f->x == NULL || (f->fold_x == NULL && set->n_folds > 0) || f->weights == NULL || f->labels == NULL || f->texts == NULL ||
        f->lengths == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (size_t i = 0; i < n * set->n_dims; i++)
        square += (double) set->embeddings[i] * set->embeddings[i];
    f->scale = square > 0 ? (float) (1 / sqrt(square / (double) n)) : 1.0f;
    scale_rows(f, set->embeddings, f->x);
    for (size_t r = 0; r < n; r++) {
        f->labels[r] = set->labels[f->folds.order[r]];
        f->texts[r] = f->options->ngrams ? set->texts[f->folds.order[r]] : NULL;
        f->lengths[r] = f->options->ngrams ? set->text_lengths[f->folds.order[r]] : 0;
    }
    return weigh_rows(f, err);
}

/* ---- fitting ---- */

static void set_problem(fitting *f, size_t n_rows)
{
    uint32_t stride = (f->set->n_labels + SLM_LANE_PAD - 1) / SLM_LANE_PAD * SLM_LANE_PAD;
    f->problem = (slm_problem){.n_rows = n_rows,
                               .n_inputs = f->set->n_dims + 1,
                               .n_labels = f->set->n_labels,
                               .stride = stride,
                               .x = f->x,
                               .sparse = f->space.n > 0 ? &f->sparse : NULL,
                               .n_features = f->space.n,
                               .labels = f->labels,
                               .weights = f->weights,
                               .sparse_l2 = SPARSE_L2,
                               .n_threads = f->options->n_threads > 0 ? f->options->n_threads : slm_cpu_count(),
                               .watch = &f->watch};
}

static slm_status make_features(fitting *f, slm_error *err)
{
    uint32_t bits = f->options->ngram_bits != 0 ? f->options->ngram_bits : 18;
    if (!f->options->ngrams)
        return SLM_OK;
    report(f, "n-grams", 0);
    SLM_TRY(slm_ngram_learn(f->texts, f->lengths, f->set->n_rows, bits, &f->watch, &f->space, &f->sparse, err));
    if ((size_t) f->space.n * ((size_t) f->set->n_labels + SLM_LANE_PAD) > MAX_PARAMETERS) {
        slm_fail(err, SLM_LIMIT, "%u n-grams of %u labels are too many parameters", f->space.n, f->set->n_labels);
        return slm_hint(err, "Use fewer ngram_bits, or train without n-grams.");
    }
    return SLM_OK;
}

/* One strength: fits each fold's complement and scores the fold. */
static slm_status run_folds(fitting *f, float l2, slm_error *err)
{
    size_t size = f->lbfgs.size;
    uint32_t likely = f->options->l2 > 0 ? 1 : LIKELY_STRENGTHS, strength = f->n_tried < likely ? f->n_tried : likely - 1;
    f->n_tried++;
    f->problem.l2 = l2;
    f->stage_steps = CV_STEPS;
    for (uint32_t k = 0; k < f->folds.n; k++) {
        double piece = 0.7 / (likely * f->folds.n), at = piece * (strength * f->folds.n + k);
        float *theta = f->fold_theta + k * size;
        f->stage_begin = at;
        f->stage_end = at + piece;
        if (f->fold_x != NULL) {
            scale_rows(f, f->set->fold_embeddings[k], f->fold_x);
            f->problem.x = f->fold_x;
        }
        f->problem.skip_begin = f->folds.begin[k];
        f->problem.skip_end = f->folds.begin[k + 1];
        SLM_TRY(slm_lbfgs_minimize(&f->lbfgs, &f->problem, theta, CV_STEPS, CV_TOLERANCE, cv_step, f, err));
        slm_problem_scores(&f->problem, theta, f->folds.begin[k], f->folds.begin[k + 1], f->z + f->folds.begin[k] * f->problem.stride);
    }
    return SLM_OK;
}

/* The classifier of theta as a blob; theta belongs to scaled embeddings. */
static slm_status pack(const fitting *f, const float *theta, float temperature, slm_blob *out, slm_error *err)
{
    size_t inputs = (size_t) f->set->n_dims + 1, n = f->set->n_labels * inputs;
    float *dense = malloc(n * sizeof *dense);
    if (dense == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (size_t i = 0; i < n; i++)
        dense[i] = i % inputs == f->set->n_dims ? theta[i] : theta[i] * f->scale;
    slm_classifier_parts parts = {.n_labels = f->set->n_labels,
                                  .n_dims = f->set->n_dims,
                                  .label_names = f->set->label_names,
                                  .w = dense,
                                  .temperature = temperature,
                                  .space = f->space.n > 0 ? &f->space : NULL,
                                  .s = theta + n,
                                  .stride = f->problem.stride};
    slm_status status = slm_classifier_pack(&parts, &out->data, &out->bytes, err);
    free(dense);
    return status;
}

/* Those of the folds at the best strength so far. */
static slm_status pack_trials(fitting *f, slm_error *err)
{
    for (uint32_t k = 0; k < f->folds.n && f->options->trials; k++) {
        free(f->trials[k].data);
        f->trials[k] = (slm_blob){NULL, 0};
        SLM_TRY(pack(f, f->fold_theta + k * f->lbfgs.size, 1, &f->trials[k], err));
    }
    return SLM_OK;
}

/* Which trial has not seen a row: its fold's, any for one beyond the cap. */
static slm_status hand_over_trials(fitting *f, float temperature, slm_train_report *out, slm_error *err)
{
    const slm_folds *folds = &f->folds;
    size_t n = f->set->n_rows;
    out->trial_of_row = malloc(n);
    if (out->trial_of_row == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (size_t i = 0; i < n; i++)
        out->trial_of_row[folds->order[i]] = i >= folds->begin[folds->n + 1] ? (uint8_t) (i % folds->n) : SLM_SEEN_BY_ALL;
    for (uint32_t k = 0; k < folds->n; k++) {
        for (size_t i = folds->begin[k]; i < folds->begin[k + 1]; i++)
            out->trial_of_row[folds->order[i]] = (uint8_t) k;
        slm_classifier_set_temperature(f->trials[k].data, temperature);
        out->trials[k] = f->trials[k];
        f->trials[k] = (slm_blob){NULL, 0};
    }
    out->n_trials = folds->n;
    return SLM_OK;
}

static slm_status keep_best(fitting *f, slm_error *err)
{
    size_t size = f->lbfgs.size;
    float *spare = f->best_z;
    f->best_z = f->z;
    f->z = spare;
    memset(f->best_theta, 0, size * sizeof *f->best_theta);
    for (uint32_t k = 0; k < f->folds.n; k++)
        for (size_t i = 0; i < size; i++)
            f->best_theta[i] += f->fold_theta[k * size + i] / (float) f->folds.n;
    return pack_trials(f, err);
}

/* Tries one strength; *better: it beats the best so far, by accuracy, then by loss. */
static slm_status try_strength(fitting *f, float l2, float *best_l2, bool *better, slm_error *err)
{
    SLM_TRY(run_folds(f, l2, err));
    double accuracy = slm_accuracy(f->z, f->problem.stride, f->labels, f->cv_rows, f->set->n_labels);
    double loss = slm_log_loss(f->z, f->problem.stride, f->labels, f->cv_rows, f->set->n_labels, 1.0f);
    *better = accuracy > f->best_accuracy || (accuracy == f->best_accuracy && loss < f->best_loss);
    if (*better) {
        f->best_accuracy = accuracy;
        f->best_loss = loss;
        *best_l2 = l2;
        SLM_TRY(keep_best(f, err));
    }
    return SLM_OK;
}

static slm_status search_strength(fitting *f, float *l2, slm_error *err)
{
    bool better;
    int last = FIRST;
    f->best_accuracy = -1;
    if (f->options->l2 > 0)
        return try_strength(f, f->options->l2, l2, &better, err);
    SLM_TRY(try_strength(f, strengths[FIRST], l2, &better, err));
    for (int s = FIRST + 1; s < N_STRENGTHS && better; s++) {
        SLM_TRY(try_strength(f, strengths[s], l2, &better, err));
        last = better ? s : last;
    }
    better = last == FIRST;
    for (int s = FIRST - 1; s >= 0 && better; s--)
        SLM_TRY(try_strength(f, strengths[s], l2, &better, err));
    return SLM_OK;
}

static slm_status cross_validate(fitting *f, float *l2, float *temperature, slm_train_report *out, slm_error *err)
{
    size_t size, scores = f->cv_rows * (size_t) f->problem.stride;
    SLM_TRY(slm_problem_init(&f->problem, err));
    size = slm_problem_size(&f->problem);
    SLM_TRY(slm_lbfgs_init(&f->lbfgs, size, err));
    f->fold_theta = calloc(f->folds.n * size, sizeof *f->fold_theta);
    f->best_theta = calloc(size, sizeof *f->best_theta);
    f->z = aligned_alloc(64, (scores * sizeof *f->z + 63) / 64 * 64);
    f->best_z = aligned_alloc(64, (scores * sizeof *f->z + 63) / 64 * 64);
    if (f->fold_theta == NULL || f->best_theta == NULL || f->z == NULL || f->best_z == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    SLM_TRY(search_strength(f, l2, err));
    *temperature = slm_fit_temperature(f->best_z, f->problem.stride, f->labels, f->cv_rows, f->set->n_labels);
    SLM_TRY(slm_measure(f->best_z, f->problem.stride, f->labels, f->cv_rows, f->set->n_labels, *temperature, out, err));
    out->n_folds = f->folds.n;
    if (f->options->trials)
        SLM_TRY(hand_over_trials(f, *temperature, out, err));
    free(f->fold_theta);
    f->fold_theta = NULL;
    slm_problem_free(&f->problem);
    return SLM_OK;
}

static slm_status fit_all(fitting *f, float l2, slm_error *err)
{
    set_problem(f, f->set->n_rows);
    f->problem.l2 = l2;
    SLM_TRY(slm_problem_init(&f->problem, err));
    size_t size = slm_problem_size(&f->problem);
    if (f->lbfgs.size == 0)
        SLM_TRY(slm_lbfgs_init(&f->lbfgs, size, err));
    f->theta = calloc(size, sizeof *f->theta);
    if (f->theta == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    if (f->best_theta != NULL)
        memcpy(f->theta, f->best_theta, size * sizeof *f->theta);
    f->stage_begin = 0.7;
    f->stage_end = 1;
    f->stage_steps = FIT_STEPS;
    return slm_lbfgs_minimize(&f->lbfgs, &f->problem, f->theta, FIT_STEPS, FIT_TOLERANCE, fit_step, f, err);
}

static slm_status run(fitting *f, slm_train_report *out, slm_error *err)
{
    float l2 = f->options->l2, temperature = 1;
    report(f, "preparing", 0);
    SLM_TRY(slm_blas_load(err));
    SLM_TRY(order_rows(f, err));
    SLM_TRY(copy_rows(f, err));
    SLM_TRY(make_features(f, err));
    f->cv_rows = f->folds.begin[f->folds.n];
    if (f->folds.n >= 2) {
        set_problem(f, f->folds.begin[f->folds.n + 1]);
        SLM_TRY(cross_validate(f, &l2, &temperature, out, err));
    }
    if (l2 <= 0)
        l2 = DEFAULT_L2;
    SLM_TRY(fit_all(f, l2, err));
    slm_blob blob;
    SLM_TRY(pack(f, f->theta, temperature, &blob, err));
    out->blob = blob.data;
    out->blob_bytes = blob.bytes;
    out->n_rows = f->set->n_rows;
    out->n_labels = f->set->n_labels;
    out->n_distinct = f->folds.n_distinct;
    out->n_lonely = f->folds.n_lonely;
    out->n_ngrams = f->space.n;
    out->l2 = l2;
    out->temperature = temperature;
    report(f, "done", 1);
    return SLM_OK;
}

slm_status slm_fit(const slm_train_set *set, const slm_train_options *options, bool measure, slm_fit_share share, slm_train_report *out,
                   slm_error *err)
{
    slm_train_report result = {0};
    double begin = slm_fit_clock();
    fitting *f = calloc(1, sizeof *f);
    if (f == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    f->set = set;
    f->options = options;
    f->share = share;
    f->watch = (slm_train_watch){options, "training", share.begin};
    f->measure = measure;
    result.accuracy = result.macro_f1 = result.log_loss = result.ece = NAN; /* until they are measured */
    slm_status status = run(f, &result, err);
    free_fitting(f);
    free(f);
    if (status != SLM_OK) {
        slm_train_report_free(&result);
        return status;
    }
    result.seconds = slm_fit_clock() - begin;
    *out = result;
    return SLM_OK;
}

slm_status slm_train_classifier(const slm_train_set *set, const slm_train_options *options, slm_train_report *out, slm_error *err)
{
    SLM_TRY(slm_fit_check(set, options, true, err));
    return slm_fit(set, options, true, (slm_fit_share){0, 1}, out, err);
}

void slm_train_report_free(slm_train_report *r)
{
    if (r == NULL)
        return;
    free(r->blob);
    free(r->confusion);
    free(r->trial_of_row);
    for (uint32_t k = 0; k < SLM_MAX_TRIALS; k++)
        free(r->trials[k].data);
    memset(r->trials, 0, sizeof r->trials);
    r->trial_of_row = NULL;
    r->n_trials = 0;
    r->blob = NULL;
    r->confusion = NULL;
}
