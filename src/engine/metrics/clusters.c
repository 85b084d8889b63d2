/*
 * Clusters: k-means, and how good a clustering is, alone (silhouette, Davies-Bouldin, Calinski-Harabasz) or beside another one (adjusted
 * Rand, normalized mutual information).
 *
 * Empty clusters count for nothing: a figure is over those that have points.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/metrics/metrics.h"

static double squared_distance(const double *a, const double *b, size_t dims)
{
    double sum = 0;
    for (size_t d = 0; d < dims; d++)
        sum += (a[d] - b[d]) * (a[d] - b[d]);
    return sum;
}

/* ---- k-means */

/* The nearest centre of each point; how many points changed theirs. */
static slm_status assign(const double *x, size_t n, size_t dims, const double *centres, uint32_t k, const volatile int *stop,
                         int32_t *labels, double *inertia, size_t *changed, slm_error *err)
{
    *inertia = 0;
    *changed = 0;
    for (size_t i = 0; i < n; i++) {
        double least = INFINITY;
        int32_t best = 0;
        if (stop != NULL && *stop)
            return slm_fail(err, SLM_CANCELLED, "cancelled");
        for (uint32_t c = 0; c < k; c++) {
            double distance = squared_distance(x + i * dims, centres + c * dims, dims);
            if (distance < least) {
                least = distance;
                best = (int32_t) c;
            }
        }
        *inertia += least;
        *changed += labels[i] != best;
        labels[i] = best;
    }
    return SLM_OK;
}

/* Means of the clusters; those without a point stay as they are.  sizes [k] */
static void means(const double *x, size_t n, size_t dims, const int32_t *labels, uint32_t k, size_t *sizes, double *centres)
{
    memset(sizes, 0, k * sizeof *sizes);
    for (size_t i = 0; i < n; i++)
        sizes[labels[i]]++;
    for (uint32_t c = 0; c < k; c++)
        if (sizes[c] > 0)
            memset(centres + c * dims, 0, dims * sizeof *centres);
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < dims; d++)
            centres[(size_t) labels[i] * dims + d] += x[i * dims + d];
    for (uint32_t c = 0; c < k; c++)
        for (size_t d = 0; d < dims && sizes[c] > 0; d++)
            centres[c * dims + d] /= (double) sizes[c];
}

slm_status slm_metrics_kmeans(const double *x, size_t n, size_t dims, double *centres, uint32_t k, uint32_t max_iterations,
                              const volatile int *stop, int32_t *labels, double *inertia, uint32_t *iterations, slm_error *err)
{
    size_t *sizes = malloc(k * sizeof *sizes), changed = 1;
    double sum = 0;
    uint32_t done = 0;
    slm_status status = SLM_OK;
    if (sizes == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (size_t i = 0; i < n; i++)
        labels[i] = -1;
    status = assign(x, n, dims, centres, k, stop, labels, &sum, &changed, err);
    while (status == SLM_OK && changed > 0 && done < max_iterations) {
        means(x, n, dims, labels, k, sizes, centres);
        status = assign(x, n, dims, centres, k, stop, labels, &sum, &changed, err);
        done++;
    }
    free(sizes);
    if (inertia != NULL)
        *inertia = sum;
    if (iterations != NULL)
        *iterations = done;
    return status;
}

/* ---- silhouette */

static double dot(const double *a, const double *b, size_t dims)
{
    double sum = 0;
    for (size_t d = 0; d < dims; d++)
        sum += a[d] * b[d];
    return sum;
}

static double distance(const double *a, const double *b, size_t dims, bool cosine)
{
    if (!cosine)
        return sqrt(squared_distance(a, b, dims));
    double lengths = sqrt(dot(a, a, dims)) * sqrt(dot(b, b, dims));
    return lengths > 0 ? 1 - dot(a, b, dims) / lengths : 1;
}

slm_status slm_metrics_silhouette(const double *x, size_t n, size_t dims, const int32_t *labels, uint32_t k, bool cosine, double *samples,
                                  double *out, slm_error *err)
{
    double *sums = malloc(k * sizeof *sums), total = 0;
    size_t *sizes = calloc(k, sizeof *sizes);
    if (sums == NULL || sizes == NULL) {
        free(sums);
        free(sizes);
        return slm_fail(err, SLM_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < n; i++)
        sizes[labels[i]]++;
    for (size_t i = 0; i < n; i++) {
        size_t own = (size_t) labels[i];
        double within, nearest = INFINITY, value = 0;
        memset(sums, 0, k * sizeof *sums);
        for (size_t j = 0; j < n; j++)
            if (j != i)
                sums[labels[j]] += distance(x + i * dims, x + j * dims, dims, cosine);
        for (size_t c = 0; c < k; c++)
            if (c != own && sizes[c] > 0)
                nearest = fmin(nearest, sums[c] / (double) sizes[c]);
        if (sizes[own] > 1 && isfinite(nearest)) {
            within = sums[own] / (double) (sizes[own] - 1);
            value = fmax(within, nearest) > 0 ? (nearest - within) / fmax(within, nearest) : 0;
        }
        if (samples != NULL)
            samples[i] = value;
        total += value;
    }
    free(sums);
    free(sizes);
    *out = n > 0 ? total / (double) n : NAN;
    return SLM_OK;
}

/* ---- centres against their points */

typedef struct cut {
    double *centres; /* [k, dims] */
    double *spread;  /* [k] mean distance of the points from their centre */
    size_t *sizes;   /* [k] */
} cut;

static void free_cut(cut *c)
{
    free(c->centres);
    free(c->spread);
    free(c->sizes);
}

static slm_status make_cut(const double *x, size_t n, size_t dims, const int32_t *labels, uint32_t k, cut *out, slm_error *err)
{
    *out = (cut){calloc((size_t) k * dims + 1, sizeof(double)), calloc(k, sizeof(double)), calloc(k, sizeof(size_t))};
    if (out->centres == NULL || out->spread == NULL || out->sizes == NULL) {
        free_cut(out);
        return slm_fail(err, SLM_NOMEM, "out of memory");
    }
    means(x, n, dims, labels, k, out->sizes, out->centres);
    for (size_t i = 0; i < n; i++)
        out->spread[labels[i]] += sqrt(squared_distance(x + i * dims, out->centres + (size_t) labels[i] * dims, dims));
    for (uint32_t c = 0; c < k; c++)
        out->spread[c] = out->sizes[c] > 0 ? out->spread[c] / (double) out->sizes[c] : 0;
    return SLM_OK;
}

slm_status slm_metrics_davies_bouldin(const double *x, size_t n, size_t dims, const int32_t *labels, uint32_t k, double *out,
                                      slm_error *err)
{
    size_t used = 0;
    double sum = 0;
    cut c;
    SLM_TRY(make_cut(x, n, dims, labels, k, &c, err));
    for (size_t i = 0; i < k; i++) {
        double worst = 0;
        if (c.sizes[i] == 0)
            continue;
        used++;
        for (size_t j = 0; j < k; j++) {
            double apart = j == i || c.sizes[j] == 0 ? 0 : sqrt(squared_distance(c.centres + i * dims, c.centres + j * dims, dims));
            if (apart > 0)
                worst = fmax(worst, (c.spread[i] + c.spread[j]) / apart);
        }
        sum += worst;
    }
    free_cut(&c);
    *out = used > 0 ? sum / (double) used : NAN;
    return SLM_OK;
}

slm_status slm_metrics_calinski_harabasz(const double *x, size_t n, size_t dims, const int32_t *labels, uint32_t k, double *out,
                                         slm_error *err)
{
    double *middle = calloc(dims + 1, sizeof *middle), between = 0, within = 0;
    size_t used = 0;
    cut c;
    if (middle == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    slm_status status = make_cut(x, n, dims, labels, k, &c, err);
    if (status != SLM_OK) {
        free(middle);
        return status;
    }
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < dims; d++)
            middle[d] += x[i * dims + d] / (double) n;
    for (size_t i = 0; i < n; i++)
        within += squared_distance(x + i * dims, c.centres + (size_t) labels[i] * dims, dims);
    for (size_t i = 0; i < k; i++) {
        used += c.sizes[i] > 0;
        between += c.sizes[i] > 0 ? (double) c.sizes[i] * squared_distance(c.centres + i * dims, middle, dims) : 0;
    }
    free(middle);
    free_cut(&c);
    *out = used < 2 || n <= used ? NAN : within == 0 ? 1 : between * (double) (n - used) / (within * (double) (used - 1));
    return SLM_OK;
}

/* ---- two ways to cut */

typedef struct crossing {
    size_t *cells;   /* [n_a, n_b] */
    size_t *in_a, *in_b;
} crossing;

static void free_crossing(crossing *c)
{
    free(c->cells);
    free(c->in_a);
    free(c->in_b);
}

static slm_status cross(const int32_t *a, uint32_t n_a, const int32_t *b, uint32_t n_b, size_t n, crossing *out, slm_error *err)
{
    *out = (crossing){calloc((size_t) n_a * n_b + 1, sizeof(size_t)), calloc((size_t) n_a + 1, sizeof(size_t)),
                      calloc((size_t) n_b + 1, sizeof(size_t))};
    if (out->cells == NULL || out->in_a == NULL || out->in_b == NULL) {
        free_crossing(out);
        return slm_fail(err, SLM_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < n; i++) {
        out->cells[(size_t) a[i] * n_b + (size_t) b[i]]++;
        out->in_a[a[i]]++;
        out->in_b[b[i]]++;
    }
    return SLM_OK;
}

static double pairs(size_t n)
{
    return (double) n * ((double) n - 1) / 2;
}

slm_status slm_metrics_adjusted_rand(const int32_t *a, uint32_t n_a, const int32_t *b, uint32_t n_b, size_t n, double *out, slm_error *err)
{
    double together = 0, of_a = 0, of_b = 0, expected, most;
    crossing c;
    SLM_TRY(cross(a, n_a, b, n_b, n, &c, err));
    for (size_t i = 0; i < (size_t) n_a * n_b; i++)
        together += pairs(c.cells[i]);
    for (size_t i = 0; i < n_a; i++)
        of_a += pairs(c.in_a[i]);
    for (size_t i = 0; i < n_b; i++)
        of_b += pairs(c.in_b[i]);
    free_crossing(&c);
    expected = n > 1 ? of_a * of_b / pairs(n) : 0;
    most = (of_a + of_b) / 2;
    *out = most == expected ? 1 : (together - expected) / (most - expected);
    return SLM_OK;
}

static double entropy(const size_t *sizes, uint32_t k, double n)
{
    double sum = 0;
    for (uint32_t i = 0; i < k; i++)
        if (sizes[i] > 0)
            sum -= (double) sizes[i] / n * log((double) sizes[i] / n);
    return sum;
}

slm_status slm_metrics_mutual_information(const int32_t *a, uint32_t n_a, const int32_t *b, uint32_t n_b, size_t n, double *out,
                                          slm_error *err)
{
    double common = 0, of_a, of_b, all = (double) n;
    crossing c;
    SLM_TRY(cross(a, n_a, b, n_b, n, &c, err));
    for (size_t i = 0; i < n_a; i++)
        for (size_t j = 0; j < n_b; j++) {
            double cell = (double) c.cells[i * n_b + j];
            if (cell > 0)
                common += cell / all * log(cell * all / ((double) c.in_a[i] * (double) c.in_b[j]));
        }
    of_a = entropy(c.in_a, n_a, all);
    of_b = entropy(c.in_b, n_b, all);
    free_crossing(&c);
    *out = of_a + of_b > 0 ? common / ((of_a + of_b) / 2) : 1;
    return SLM_OK;
}
