/*
 * The objective of multinomial logistic regression: loss and gradient over rows, in float with sums in double.
 *
 *   scores z[row, label] = x[row] . W[label] + sum over features f of value[f] * S[f, label]
 *   loss = (sum of weight * cross-entropy) / (sum of weights) + l2 / 2 / n * (|W without bias|^2 + sparse_l2 * |S|^2)
 *
 * Parameters are one vector: W [n_labels, n_inputs] (the last input is constant 1: the bias), then S [n_features, stride].
 * Rows are taken in panels.  Matrix products run on the calling thread (train/blas.h); softmax and sparse parts on all threads, cut so that
 * every number is computed by one thread in a fixed order: the result does not depend on the number of threads.
 */
#ifndef SLM_TRAIN_PROBLEM_H
#define SLM_TRAIN_PROBLEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/train/ngram.h"
#include "engine/train/watch.h"

typedef struct slm_problem {
    size_t n_rows;
    uint32_t n_inputs;       /* embedding + 1 */
    uint32_t n_labels, stride; /* stride: labels padded to SLM_LANE_PAD */
    const float *x;          /* [n_rows, n_inputs], last column 1 */
    const slm_sparse *sparse; /* NULL without n-grams */
    uint32_t n_features;
    const int32_t *labels;   /* [n_rows] */
    const float *weights;    /* [n_rows] */
    size_t skip_begin, skip_end; /* rows that are left out: the fold that is held out */
    float l2, sparse_l2;
    int n_threads;
    slm_train_watch *watch;  /* NULL: cannot be stopped */
    /* scratch, made by slm_problem_init */
    size_t panel_rows;
    float *z;                /* [panel_rows, stride] */
    double *row_loss;        /* [panel_rows] */
    float *gram;             /* [n_inputs, n_inputs] mean of x x' over all rows; only its diagonal [n_inputs] for very many inputs */
    float *inverse;          /* of (curvature * gram + l2): the preconditioner of W; as gram */
    float *curvature;        /* [n_features] of S: the same for its diagonal */
} slm_problem;

/* Allocates the scratch and computes gram. The fields above must be set. */
slm_status slm_problem_init(slm_problem *p, slm_error *err);
void slm_problem_free(slm_problem *p);
size_t slm_problem_size(const slm_problem *p); /* number of parameters */
/* Makes the preconditioner for the l2 in force. */
slm_status slm_problem_prepare(slm_problem *p, slm_error *err);
/* Loss at theta; gradient [slm_problem_size]. CANCELLED when *stop is seen. */
slm_status slm_problem_evaluate(slm_problem *p, const float *theta, float *gradient, double *loss, slm_error *err);
/* out = preconditioner * v. */
void slm_problem_precondition(slm_problem *p, const float *v, float *out);
/* Raw scores of rows [begin, end): z[end - begin, stride]. */
void slm_problem_scores(slm_problem *p, const float *theta, size_t begin, size_t end, float *z);

#endif
