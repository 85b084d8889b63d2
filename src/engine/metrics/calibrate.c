/*
 * calibrate.c: from probabilities as a model gives them to such as are right as often as they say.
 *
 *   temperature  p_i^(1/T), normalized: one number for all answers, by which no other answer wins (Guo, Pleiss, Sun, Weinberger, ICML 2017)
 *   isotonic     a rising line from what is said to what was seen, a knot for each pool of adjacent violators (Zadrozny, Elkan, KDD 2002);
 *                pools have the share (right + 1) / (n + 2), so that a few rows make nothing certain
 */
#include <math.h>
#include <stdlib.h>

#include "engine/base/math.h"
#include "engine/metrics/metrics.h"

#define LEAST_TEMPERATURE 0.05
#define MOST_TEMPERATURE 20.0
#define LEAST_P 1e-12
#define GOLDEN 0.61803398874989485

void slm_calibration_temper(double temperature, const double *p, double *out, size_t n)
{
    double most = -INFINITY, sum = 0;

    for (size_t i = 0; i < n; i++) {
        out[i] = slm_log(p[i] > LEAST_P ? p[i] : LEAST_P) / temperature;
        most = out[i] > most ? out[i] : most;
    }
    for (size_t i = 0; i < n; i++)
        sum += out[i] = slm_exp(out[i] - most);
    for (size_t i = 0; i < n; i++)
        out[i] /= sum;
}

/* Mean negative log probability of what is true, at a temperature. log_p: [n, k] */
static double loss_at(double temperature, const double *log_p, const int32_t *truth, size_t n, uint32_t k)
{
    double loss = 0;

    for (size_t i = 0; i < n; i++) {
        const double *row = log_p + i * k;
        double most = row[0], sum = 0;

        for (uint32_t c = 1; c < k; c++)
            most = row[c] > most ? row[c] : most;
        for (uint32_t c = 0; c < k; c++)
            sum += slm_exp((row[c] - most) / temperature);
        loss -= (row[truth[i]] - most) / temperature - slm_log(sum);
    }
    return loss / (double) n;
}

slm_status slm_calibration_temperature(const double *p, const int32_t *truth, size_t n, uint32_t k, double *temperature, slm_error *err)
{
    double *log_p = n > 0 && n <= SIZE_MAX / sizeof(double) / k ? malloc(sizeof(double) * n * k) : NULL;
    double low = log(LEAST_TEMPERATURE), high = log(MOST_TEMPERATURE), left, right, at_left, at_right;

    if (log_p == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (size_t i = 0; i < n * k; i++)
        log_p[i] = slm_log(p[i] > LEAST_P ? p[i] : LEAST_P);
    left = high - GOLDEN * (high - low);
    right = low + GOLDEN * (high - low);
    at_left = loss_at(slm_exp(left), log_p, truth, n, k);
    at_right = loss_at(slm_exp(right), log_p, truth, n, k);
    for (int i = 0; i < 40; i++) { /* the loss has one valley in 1 / T */
        if (at_left <= at_right) {
            high = right;
            right = left;
            at_right = at_left;
            left = high - GOLDEN * (high - low);
            at_left = loss_at(slm_exp(left), log_p, truth, n, k);
        } else {
            low = left;
            left = right;
            at_left = at_right;
            right = low + GOLDEN * (high - low);
            at_right = loss_at(slm_exp(right), log_p, truth, n, k);
        }
    }
    free(log_p);
    *temperature = slm_exp((low + high) / 2);
    return SLM_OK;
}

/* ---- isotonic */

typedef struct Pool {
    double sum; /* of what was said */
    double right;
    double n;
} Pool;

typedef struct Said {
    double p;
    bool right;
} Said;

static int by_said(const void *a, const void *b)
{
    double x = ((const Said *) a)->p, y = ((const Said *) b)->p;

    return x < y ? -1 : x > y;
}

static double share_of(const Pool *pool)
{
    return (pool->right + 1) / (pool->n + 2);
}

static void join(Pool *into, const Pool *other)
{
    into->sum += other->sum;
    into->right += other->right;
    into->n += other->n;
}

/* Rows in order become pools, the share of each above that of the one before; returns how many. */
static size_t make_pools(const Said *rows, size_t n, double least, Pool *pools)
{
    size_t n_pools = 0;

    for (size_t i = 0; i < n;) {
        Pool next = {0};

        for (double p = rows[i].p; i < n && (rows[i].p == p || next.n < least); i++) {
            join(&next, &(Pool){rows[i].p, rows[i].right, 1});
            p = rows[i].p;
        }
        while (n_pools > 0 && share_of(&pools[n_pools - 1]) >= share_of(&next))
            join(&next, &pools[--n_pools]);
        pools[n_pools++] = next;
    }
    return n_pools;
}

slm_status slm_calibration_isotonic(const double *p, const bool *right, size_t n, slm_isotonic *out, slm_error *err)
{
    Said *rows = n > 0 && n <= SIZE_MAX / sizeof(Pool) ? malloc(sizeof(Said) * n) : NULL;
    Pool *pools = rows != NULL ? malloc(sizeof(Pool) * n) : NULL;
    size_t n_pools;

    if (pools == NULL) {
        free(rows);
        return slm_fail(err, SLM_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < n; i++)
        rows[i] = (Said){p[i], right[i]};
    qsort(rows, n, sizeof *rows, by_said);
    n_pools = make_pools(rows, n, (double) n / SLM_MAX_KNOTS + 1, pools);
    out->n = (int) n_pools;
    for (size_t i = 0; i < n_pools; i++) {
        out->from[i] = pools[i].sum / pools[i].n;
        out->to[i] = share_of(&pools[i]);
    }
    free(rows);
    free(pools);
    return SLM_OK;
}

double slm_calibration_rise(const slm_isotonic *line, double p)
{
    int i = 0;

    if (p <= line->from[0])
        return line->to[0];
    while (i + 1 < line->n && line->from[i + 1] < p)
        i++;
    if (i + 1 == line->n)
        return line->to[i];
    return line->to[i] + (line->to[i + 1] - line->to[i]) * ((p - line->from[i]) / (line->from[i + 1] - line->from[i]));
}
