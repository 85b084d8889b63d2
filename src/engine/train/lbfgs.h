/*
 * Limited-memory BFGS (Nocedal and Wright, Numerical Optimization, algorithms 7.4 and 7.5) on a slm_problem, preconditioned.
 */
#ifndef SLM_TRAIN_LBFGS_H
#define SLM_TRAIN_LBFGS_H

#include "engine/train/problem.h"

typedef struct slm_lbfgs {
    size_t size;
    float *memory;       /* all vectors below */
    float *gradient, *trial, *trial_gradient, *direction, *scratch;
    float *s, *y;        /* [SLM_LBFGS_PAIRS, size] */
} slm_lbfgs;

#define SLM_LBFGS_PAIRS 6

slm_status slm_lbfgs_init(slm_lbfgs *o, size_t size, slm_error *err);
void slm_lbfgs_free(slm_lbfgs *o);

/* Called after each step. */
typedef void (*slm_lbfgs_step_fn)(void *arg, uint32_t step);

/* Minimizes from theta, in place: at most max_steps steps, fewer when two steps in a row gain less than tolerance * loss. */
slm_status slm_lbfgs_minimize(slm_lbfgs *o, slm_problem *p, float *theta, uint32_t max_steps, double tolerance, slm_lbfgs_step_fn step_fn,
                              void *step_arg, slm_error *err);

#endif
