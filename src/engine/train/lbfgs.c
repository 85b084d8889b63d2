/*
 * The optimizer: two-loop recursion, backtracking line search with the Armijo condition.
 *
 * Pairs whose curvature s.y is not clearly positive are left out, so that the implicit Hessian stays positive definite; the objective is
 * convex, so this happens only where floats run out of digits.  Sums are in double, in a fixed order.
 */
#include "engine/train/lbfgs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

slm_status slm_lbfgs_init(slm_lbfgs *o, size_t size, slm_error *err)
{
    size_t floats;
    memset(o, 0, sizeof *o);
    if (__builtin_mul_overflow(size, (size_t) (5 + 2 * SLM_LBFGS_PAIRS), &floats) || floats > SIZE_MAX / sizeof(float))
        return slm_fail(err, SLM_LIMIT, "too many parameters");
    o->memory = malloc(floats * sizeof(float));
    if (o->memory == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    o->size = size;
    o->gradient = o->memory;
    o->trial = o->memory + size;
    o->trial_gradient = o->memory + 2 * size;
    o->direction = o->memory + 3 * size;
    o->scratch = o->memory + 4 * size;
    o->s = o->memory + 5 * size;
    o->y = o->s + SLM_LBFGS_PAIRS * size;
    return SLM_OK;
}

void slm_lbfgs_free(slm_lbfgs *o)
{
    free(o->memory);
    memset(o, 0, sizeof *o);
}

static double dot(const float *a, const float *b, size_t n)
{
    double lane[8] = {0};
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++)
            lane[k] += (double) a[i + k] * b[i + k];
    for (; i < n; i++)
        lane[i % 8] += (double) a[i] * b[i];
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

static void add_scaled(float *y, const float *x, double scale, size_t n)
{
    float a = (float) scale;
    for (size_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

static bool stopped(const slm_problem *p)
{
    return slm_watch_stopped(p->watch);
}

/* direction = -H * gradient from the last `pairs` pairs; `next` is where the following one will go.  False: stopped, there is none. */
static bool find_direction(slm_lbfgs *o, slm_problem *p, uint32_t pairs, uint32_t next)
{
    double alpha[SLM_LBFGS_PAIRS], rho[SLM_LBFGS_PAIRS], gamma = 1;
    size_t n = o->size;
    float *q = o->scratch, *d = o->direction;
    memcpy(q, o->gradient, n * sizeof *q);
    for (uint32_t k = 0; k < pairs; k++) {
        if (stopped(p))
            return false;
        uint32_t i = (next + SLM_LBFGS_PAIRS - 1 - k) % SLM_LBFGS_PAIRS;
        rho[i] = 1 / dot(o->s + i * n, o->y + i * n, n);
        alpha[i] = rho[i] * dot(o->s + i * n, q, n);
        add_scaled(q, o->y + i * n, -alpha[i], n);
    }
    if (stopped(p))
        return false;
    if (pairs > 0) { /* scale the preconditioner to the curvature seen last; d is free until it is filled */
        uint32_t i = (next + SLM_LBFGS_PAIRS - 1) % SLM_LBFGS_PAIRS;
        slm_problem_precondition(p, o->y + i * n, d);
        gamma = 1 / (rho[i] * dot(o->y + i * n, d, n));
    }
    slm_problem_precondition(p, q, d);
    for (size_t i = 0; i < n; i++)
        d[i] *= (float) gamma;
    for (uint32_t k = pairs; k-- > 0;) {
        if (stopped(p))
            return false;
        uint32_t i = (next + SLM_LBFGS_PAIRS - 1 - k) % SLM_LBFGS_PAIRS;
        double beta = rho[i] * dot(o->y + i * n, d, n);
        add_scaled(d, o->s + i * n, alpha[i] - beta, n);
    }
    for (size_t i = 0; i < n; i++)
        d[i] = -d[i];
    return true;
}

/* A step that lowers the loss enough: trial, trial_gradient and *loss are then those of the new point. */
static slm_status search_line(slm_lbfgs *o, slm_problem *p, const float *theta, double *loss, bool *found, slm_error *err)
{
    double slope = dot(o->gradient, o->direction, o->size), step = 1, value;
    *found = false;
    for (int tries = 0; tries < 12 && slope < 0; tries++, step *= tries < 3 ? 0.5 : 0.2) {
        for (size_t i = 0; i < o->size; i++)
            o->trial[i] = theta[i] + (float) step * o->direction[i];
        SLM_TRY(slm_problem_evaluate(p, o->trial, o->trial_gradient, &value, err));
        if (isfinite(value) && value <= *loss + 1e-4 * step * slope) {
            *loss = value;
            *found = true;
            return SLM_OK;
        }
    }
    return SLM_OK;
}

/* Keeps the pair of the step from theta to trial where its curvature is good. */
static void remember(slm_lbfgs *o, const float *theta, uint32_t *pairs, uint32_t *next)
{
    size_t n = o->size;
    float *s = o->s + *next * n, *y = o->y + *next * n;
    for (size_t i = 0; i < n; i++) {
        s[i] = o->trial[i] - theta[i];
        y[i] = o->trial_gradient[i] - o->gradient[i];
    }
    if (dot(s, y, n) <= 1e-10 * sqrt(dot(s, s, n) * dot(y, y, n)))
        return;
    *next = (*next + 1) % SLM_LBFGS_PAIRS;
    *pairs += *pairs < SLM_LBFGS_PAIRS;
}

slm_status slm_lbfgs_minimize(slm_lbfgs *o, slm_problem *p, float *theta, uint32_t max_steps, double tolerance, slm_lbfgs_step_fn step_fn,
                              void *step_arg, slm_error *err)
{
    uint32_t pairs = 0, next = 0, idle = 0;
    double loss, before;
    bool found;
    SLM_TRY(slm_problem_prepare(p, err));
    SLM_TRY(slm_problem_evaluate(p, theta, o->gradient, &loss, err));
    for (uint32_t step = 0; step < max_steps && idle < 2; step++) {
        if (!find_direction(o, p, pairs, next))
            return slm_fail(err, SLM_CANCELLED, "cancelled");
        before = loss;
        SLM_TRY(search_line(o, p, theta, &loss, &found, err));
        if (!found && pairs == 0)
            break;
        if (!found) { /* forget and try once from the preconditioned gradient */
            pairs = 0;
            continue;
        }
        remember(o, theta, &pairs, &next);
        memcpy(theta, o->trial, o->size * sizeof *theta);
        memcpy(o->gradient, o->trial_gradient, o->size * sizeof *theta);
        idle = before - loss < tolerance * fabs(before) ? idle + 1 : 0;
        if (step_fn != NULL)
            step_fn(step_arg, step + 1);
    }
    return SLM_OK;
}
