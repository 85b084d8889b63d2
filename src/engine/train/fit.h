/*
 * Fitting a classifier to rows that are ready: folds, the path of regularization strengths, the final fit.
 */
#ifndef SLM_TRAIN_FIT_H
#define SLM_TRAIN_FIT_H

#include "engine/slm.h"

/* Where the fraction of slm_train_progress_fn begins and ends for one fit; the caller's first fit begins at 0, its last ends at 1. */
typedef struct slm_fit_share {
    double begin, end;
} slm_fit_share;

/* Checks what every entry point takes: counts, names, finite floats; labelled: label numbers, and that each label has a row. */
slm_status slm_fit_check(const slm_train_set *set, const slm_train_options *options, bool labelled, slm_error *err);

/* Trains on set as slm_train_classifier does, after its checks.  Without measure there is no cross-validation: the strength is options->l2
 * or the default, and the report holds no metrics. */
slm_status slm_fit(const slm_train_set *set, const slm_train_options *options, bool measure, slm_fit_share share, slm_train_report *out,
                   slm_error *err);

/* Wall clock in seconds. */
double slm_fit_clock(void);

#endif
