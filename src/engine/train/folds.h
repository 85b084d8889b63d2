/*
 * Which rows of a training are held out together.
 */
#ifndef SLM_TRAIN_FOLDS_H
#define SLM_TRAIN_FOLDS_H

#include "engine/slm.h"
#include "engine/train/watch.h"

#define SLM_MAX_FOLDS SLM_MAX_TRIALS

typedef struct slm_folds {
    uint32_t n;                        /* folds; 1: nothing can be held out, all rows are in it in their order */
    size_t begin[SLM_MAX_FOLDS + 2];   /* [n + 2] places in order; behind the folds, rows of lonely labels; then those beyond cap */
    uint32_t *order;                   /* [n_rows] row numbers; malloc'ed */
    size_t n_distinct;                 /* rows that differ from all before them */
    uint32_t n_lonely;                 /* labels with fewer than two distinct rows */
} slm_folds;

/* Deals the rows of set to n folds (fewer where there are few rows; 1 holds out nothing), about cap rows to all of them.  The result is a
 * function of set and seed.  Status: NOMEM, CANCELLED. */
slm_status slm_deal_folds(const slm_train_set *set, uint32_t n, size_t cap, uint64_t seed, slm_train_watch *watch, slm_folds *out,
                          slm_error *err);
/* Those that set says. */
slm_status slm_take_folds(const slm_train_set *set, slm_folds *out, slm_error *err);
void slm_folds_free(slm_folds *folds);

#endif
