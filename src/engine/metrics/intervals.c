/*
 * How sure a figure is: intervals of shares, the test of two answers to the same rows, correlations.
 */
#include <math.h>
#include <stdlib.h>

#include "engine/metrics/metrics.h"

/* The standard normal distribution's quantile: bisection of erfc, exact to the last few bits. */
static double normal_quantile(double p)
{
    double low = -40, high = 40;
    while (high - low > 1e-15 * (1 + fabs(low))) {
        double middle = (low + high) / 2;
        if (middle == low || middle == high)
            break;
        if (0.5 * erfc(-middle / sqrt(2)) < p)
            low = middle;
        else
            high = middle;
    }
    return (low + high) / 2;
}

void slm_metrics_wilson(size_t successes, size_t n, double level, double *low, double *high)
{
    if (n == 0) {
        *low = 0;
        *high = 1;
        return;
    }
    double z = normal_quantile(0.5 + level / 2), m = (double) n, p = (double) successes / m, z2 = z * z;
    double centre = (p + z2 / (2 * m)) / (1 + z2 / m), half = z * sqrt(p * (1 - p) / m + z2 / (4 * m * m)) / (1 + z2 / m);
    *low = successes == 0 ? 0 : centre - half;
    *high = successes == n ? 1 : centre + half;
}

/* The continued fraction of the incomplete beta function (Lentz's method; converges fast for x < (a + 1) / (a + b + 2)). */
static double beta_fraction(double a, double b, double x)
{
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1), h;
    d = 1 / (fabs(d) < tiny ? tiny : d);
    h = d;
    for (int m = 1; m <= 100000; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        double before = h;
        for (int i = 0; i < 2; i++) {
            double t = i == 0 ? even : odd;
            d = 1 + t * d;
            c = 1 + t / c;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            c = fabs(c) < tiny ? tiny : c;
            h *= d * c;
        }
        if (fabs(h - before) <= 1e-16 * fabs(h))
            break;
    }
    return h;
}

static double log_gamma(double x)
{
    int sign;
    return lgamma_r(x, &sign);
}

/* The regularized incomplete beta function: the beta distribution's share below x. */
static double beta_share(double a, double b, double x)
{
    if (x <= 0 || x >= 1)
        return x <= 0 ? 0 : 1;
    double front = exp(log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * log(x) + b * log1p(-x));
    return x < (a + 1) / (a + b + 2) ? front * beta_fraction(a, b, x) / a : 1 - front * beta_fraction(b, a, 1 - x) / b;
}

static double beta_quantile(double a, double b, double share)
{
    double low = 0, high = 1;
    for (int i = 0; i < 200; i++) {
        double middle = (low + high) / 2;
        if (middle == low || middle == high)
            break;
        if (beta_share(a, b, middle) < share)
            low = middle;
        else
            high = middle;
    }
    return (low + high) / 2;
}

void slm_metrics_clopper_pearson(size_t successes, size_t n, double level, double *low, double *high)
{
    double k = (double) successes, m = (double) n, tail = (1 - level) / 2;
    *low = successes == 0 ? 0 : beta_quantile(k, m - k + 1, tail);
    *high = successes >= n ? 1 : beta_quantile(k + 1, m - k, 1 - tail);
}

double slm_metrics_mcnemar(size_t b, size_t c, double *mid, double *chi2)
{
    double n = (double) b + (double) c, least = (double) (b < c ? b : c), at, below = 0, d = fabs((double) b - (double) c);
    if (n == 0) {
        if (mid != NULL)
            *mid = NAN;
        if (chi2 != NULL)
            *chi2 = NAN;
        return 1;
    }
    at = exp(log_gamma(n + 1) - log_gamma(least + 1) - log_gamma(n - least + 1) - n * M_LN2);
    /* a tail of the binomial at one half is a share of a beta distribution */
    below = least > 0 ? beta_share(n - least + 1, least, 0.5) : 0;
    if (mid != NULL)
        *mid = fmin(1, 2 * (below + at / 2));
    if (chi2 != NULL) {
        double corrected = d - 1 > 0 ? d - 1 : 0;
        *chi2 = corrected * corrected / n;
    }
    return fmin(1, 2 * (below + at));
}

/* ---- correlations */

double slm_metrics_pearson(const double *x, const double *y, size_t n)
{
    double mx = 0, my = 0, xy = 0, xx = 0, yy = 0;
    for (size_t i = 0; i < n; i++) {
        mx += x[i] / (double) n;
        my += y[i] / (double) n;
    }
    for (size_t i = 0; i < n; i++) {
        xy += (x[i] - mx) * (y[i] - my);
        xx += (x[i] - mx) * (x[i] - mx);
        yy += (y[i] - my) * (y[i] - my);
    }
    return xx > 0 && yy > 0 ? fmax(-1, fmin(1, xy / (sqrt(xx) * sqrt(yy)))) : NAN;
}

typedef struct placed {
    double value;
    size_t i;
} placed;

static int by_value(const void *a, const void *b)
{
    double x = ((const placed *) a)->value, y = ((const placed *) b)->value;
    return x < y ? -1 : x > y ? 1 : 0;
}

/* Ranks from 1; equal values share the mean of theirs. */
static bool ranks(const double *x, size_t n, double *out)
{
    placed *order = malloc(sizeof *order * (n > 0 ? n : 1));
    if (order == NULL)
        return false;
    for (size_t i = 0; i < n; i++)
        order[i] = (placed) {x[i], i};
    qsort(order, n, sizeof *order, by_value);
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i; end < n && order[end].value == order[i].value; end++)
            ;
        for (size_t k = i; k < end; k++)
            out[order[k].i] = ((double) i + (double) end + 1) / 2;
    }
    free(order);
    return true;
}

slm_status slm_metrics_spearman(const double *x, const double *y, size_t n, double *out, slm_error *err)
{
    double *r = malloc(sizeof *r * (2 * n + 1));
    bool ok = r != NULL && ranks(x, n, r) && ranks(y, n, r + n);
    if (ok)
        *out = slm_metrics_pearson(r, r + n, n);
    free(r);
    return ok ? SLM_OK : slm_fail(err, SLM_NOMEM, "out of memory");
}

double slm_metrics_kendall(const double *x, const double *y, size_t n)
{
    double agree = 0, x_differs = 0, y_differs = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < i; k++) {
            int a = (x[i] > x[k]) - (x[i] < x[k]), b = (y[i] > y[k]) - (y[i] < y[k]);
            agree += a * b;
            x_differs += a != 0;
            y_differs += b != 0;
        }
    return x_differs > 0 && y_differs > 0 ? agree / sqrt(x_differs) / sqrt(y_differs) : NAN;
}
