/*
 * Measures of answers against the truth: labels, probabilities, rankings, texts, agreement, and how sure a figure is.
 *
 * Plain arithmetic in doubles over arrays; nothing here knows a model.  A figure that is undefined for its input (a correlation of
 * constants, kappa where only one label occurs) is NaN.  The definitions are scikit-learn's, SciPy's and rouge-score's, and test/golden
 * compares them.
 * Texts are UTF-8, checked by the caller.
 */
#ifndef SLM_METRICS_H
#define SLM_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

/* ---- labels: numbers from 0 to n_labels - 1; a prediction of -1 is no answer, which is never right */

typedef struct slm_prf {
    double precision, recall, f1; /* 0 where undefined */
} slm_prf;

typedef struct slm_label_score {
    slm_prf prf;
    size_t support, predicted, right; /* rows of this label; rows that were given it; both */
} slm_label_score;

typedef struct slm_classification {
    size_t n, answered, right;
    double accuracy;          /* right / n */
    double balanced_accuracy; /* mean recall of the labels that are true somewhere */
    slm_prf macro, weighted, micro; /* over labels that are true or predicted somewhere */
    double kappa, kappa_linear, kappa_quadratic; /* Cohen's; the last two weigh by the distance of the labels' numbers */
    double matthews;
} slm_classification;

/* truth, predicted [n]; labels [n_labels], may be NULL. */
slm_status slm_metrics_classification(const int32_t *truth, const int32_t *predicted, size_t n, uint32_t n_labels, slm_classification *out,
                                      slm_label_score *labels, slm_error *err);

/* ---- probabilities p [n, n_classes] of truth [n] */

#define SLM_ECE_BINS 15
typedef struct slm_calibration_bin {
    size_t n;
    double confidence, accuracy; /* means */
} slm_calibration_bin;

/* Expected calibration error of the rows' confidence [n] and whether they were right [n]; bins of equal width, (low, high]. */
double slm_metrics_ece(const double *confidence, const bool *right, size_t n, slm_calibration_bin bins[SLM_ECE_BINS]);
double slm_metrics_log_loss(const double *p, const int32_t *truth, size_t n, uint32_t n_classes);
/* Mean over rows of the sum over classes of (p - y)^2. */
double slm_metrics_brier(const double *p, const int32_t *truth, size_t n, uint32_t n_classes);
double slm_metrics_top_k(const double *p, const int32_t *truth, size_t n, uint32_t n_classes, uint32_t k);

/* ---- rankings: relevant or not [n], by score [n], highest first */

slm_status slm_metrics_auroc(const bool *relevant, const double *score, size_t n, double *out, slm_error *err);
slm_status slm_metrics_average_precision(const bool *relevant, const double *score, size_t n, double *out, slm_error *err);
/* Of the first k (0: all); equal scores share their gains. */
slm_status slm_metrics_ndcg(const bool *relevant, const double *score, size_t n, size_t k, double *out, slm_error *err);

/* ---- how sure a figure is */

/* Wilson's score interval of a share, without continuity correction; level as 0.95. */
void slm_metrics_wilson(size_t successes, size_t n, double level, double *low, double *high);
/* Clopper and Pearson's. */
void slm_metrics_clopper_pearson(size_t successes, size_t n, double level, double *low, double *high);
/* Two answers to the same rows: b rows only the first has right, c only the second.  Two-sided exact binomial p-value; *mid: mid-p;
 * *chi2: with continuity correction (both NaN when b + c = 0; each may be NULL). */
double slm_metrics_mcnemar(size_t b, size_t c, double *mid, double *chi2);
double slm_metrics_pearson(const double *x, const double *y, size_t n);
slm_status slm_metrics_spearman(const double *x, const double *y, size_t n, double *out, slm_error *err);
double slm_metrics_kendall(const double *x, const double *y, size_t n); /* tau-b; n^2 steps */
/* Krippendorff's alpha of nominal values [units, raters]; -1: not rated. */
slm_status slm_metrics_krippendorff(const int32_t *values, size_t units, size_t raters, uint32_t n_labels, double *out, slm_error *err);

/* ---- clusters of points x [n, dims]; labels [n] from 0 to k - 1 */

/* Lloyd's iterations from the given centres [k, dims] until nothing moves or max_iterations: ties go to the lower number, a cluster that
 * is emptied stays where it is.  labels [n]; *inertia: sum of squared distances; *iterations: of which the last moved nothing, where there
 * was time for it (both may be NULL).  stop may be NULL.  Status: CANCELLED, NOMEM. */
slm_status slm_metrics_kmeans(const double *x, size_t n, size_t dims, double *centres, uint32_t k, uint32_t max_iterations,
                              const volatile int *stop, int32_t *labels, double *inertia, uint32_t *iterations, slm_error *err);
/* Rousseeuw's, by Euclidean distance or, cosine, by 1 - cosine; the mean, and of each point into samples [n], which may be NULL; 0 for a
 * point that is alone.  n^2 steps. */
slm_status slm_metrics_silhouette(const double *x, size_t n, size_t dims, const int32_t *labels, uint32_t k, bool cosine, double *samples,
                                  double *out, slm_error *err);
slm_status slm_metrics_davies_bouldin(const double *x, size_t n, size_t dims, const int32_t *labels, uint32_t k, double *out,
                                      slm_error *err);
slm_status slm_metrics_calinski_harabasz(const double *x, size_t n, size_t dims, const int32_t *labels, uint32_t k, double *out,
                                         slm_error *err);
/* Of two ways to cut the same points: the adjusted Rand index, and the mutual information by the mean of the entropies. */
slm_status slm_metrics_adjusted_rand(const int32_t *a, uint32_t n_a, const int32_t *b, uint32_t n_b, size_t n, double *out, slm_error *err);
slm_status slm_metrics_mutual_information(const int32_t *a, uint32_t n_a, const int32_t *b, uint32_t n_b, size_t n, double *out,
                                          slm_error *err);

/* ---- texts */

typedef struct slm_rouge {
    slm_prf rouge1, rouge2, rouge_l, rouge_lsum; /* .f1: the F measure */
} slm_rouge;

/* Words are runs of [a-z0-9] after lower case, stemmed: those of more than three letters without their endings (stem.h); rouge_lsum takes
 * lines as sentences. */
slm_status slm_metrics_rouge(const char *reference, size_t n_reference, const char *candidate, size_t n_candidate, bool stemmed,
                             slm_rouge *out, slm_error *err);
/* Equal, and share of common words, after what SQuAD takes away: case, ASCII punctuation, articles, white space. */
slm_status slm_metrics_squad(const char *reference, size_t n_reference, const char *candidate, size_t n_candidate, bool *exact, double *f1,
                             slm_error *err);

/* ---- calibration: from what a model says to what is so (calibrate.c) */

#define SLM_MAX_KNOTS 64

/* A line that rises through knots, flat before and behind them. */
typedef struct slm_isotonic {
    int n; /* 1 to SLM_MAX_KNOTS */
    double from[SLM_MAX_KNOTS], to[SLM_MAX_KNOTS]; /* ascending */
} slm_isotonic;

/* p[n]^(1/T), normalized in this order; out may be p. */
void slm_calibration_temper(double temperature, const double *p, double *out, size_t n);
double slm_calibration_rise(const slm_isotonic *line, double p);
/* The temperature, 0.05 to 20, by which what is true is likeliest. p [n, k], truth [n]; n, k > 0. */
slm_status slm_calibration_temperature(const double *p, const int32_t *truth, size_t n, uint32_t k, double *temperature, slm_error *err);
/* p [n], whether it came true [n]; n > 0. */
slm_status slm_calibration_isotonic(const double *p, const bool *right, size_t n, slm_isotonic *out, slm_error *err);

#endif
