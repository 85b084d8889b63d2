/*
 * Probabilities against the truth, and rankings by score.
 */
#include <math.h>
#include <stdlib.h>

#include "engine/metrics/metrics.h"

double slm_metrics_ece(const double *confidence, const bool *right, size_t n, slm_calibration_bin bins[SLM_ECE_BINS])
{
    double error = 0;
    for (int b = 0; b < SLM_ECE_BINS; b++)
        bins[b] = (slm_calibration_bin) {0};
    for (size_t i = 0; i < n; i++) {
        int b = (int) ceil(confidence[i] * SLM_ECE_BINS) - 1;
        /* the edges as doubles, not the product, decide: 0.2 is the upper edge of the third bin */
        while (b > 0 && confidence[i] <= (double) b / SLM_ECE_BINS)
            b--;
        while (b + 1 < SLM_ECE_BINS && confidence[i] > (double) (b + 1) / SLM_ECE_BINS)
            b++;
        b = b < 0 ? 0 : b >= SLM_ECE_BINS ? SLM_ECE_BINS - 1 : b;
        bins[b].n++;
        bins[b].confidence += confidence[i];
        bins[b].accuracy += right[i];
    }
    for (int b = 0; b < SLM_ECE_BINS; b++) {
        if (bins[b].n == 0)
            continue;
        error += fabs(bins[b].confidence - bins[b].accuracy);
        bins[b].confidence /= (double) bins[b].n;
        bins[b].accuracy /= (double) bins[b].n;
    }
    return n > 0 ? error / (double) n : NAN;
}

double slm_metrics_log_loss(const double *p, const int32_t *truth, size_t n, uint32_t n_classes)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double total = 0, q = p[i * n_classes + (uint32_t) truth[i]];
        for (uint32_t c = 0; c < n_classes; c++)
            total += p[i * n_classes + c];
        q = total > 0 ? q / total : 0;
        sum -= log(q > 2.220446049250313e-16 ? q : 2.220446049250313e-16);
    }
    return n > 0 ? sum / (double) n : NAN;
}

double slm_metrics_brier(const double *p, const int32_t *truth, size_t n, uint32_t n_classes)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        for (uint32_t c = 0; c < n_classes; c++) {
            double d = p[i * n_classes + c] - ((int32_t) c == truth[i]);
            sum += d * d;
        }
    return n > 0 ? sum / (double) n : NAN;
}

double slm_metrics_top_k(const double *p, const int32_t *truth, size_t n, uint32_t n_classes, uint32_t k)
{
    size_t right = 0;
    for (size_t i = 0; i < n; i++) {
        const double *row = p + i * n_classes;
        uint32_t before = 0;
        for (uint32_t c = 0; c < n_classes; c++) /* of equal ones the later class comes first, as in a stable ascending sort */
            before += row[c] > row[truth[i]] || (row[c] == row[truth[i]] && (int32_t) c > truth[i]);
        right += before < k;
    }
    return n > 0 ? (double) right / (double) n : NAN;
}

/* ---- rankings */

typedef struct ranked {
    double score;
    bool relevant;
} ranked;

static int by_score(const void *a, const void *b)
{
    double x = ((const ranked *) a)->score, y = ((const ranked *) b)->score;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* The rows, highest first; NULL when there is no memory. */
static ranked *rank(const bool *relevant, const double *score, size_t n, size_t *n_relevant, slm_error *err)
{
    ranked *rows = malloc(sizeof *rows * (n > 0 ? n : 1));
    *n_relevant = 0;
    if (rows == NULL) {
        slm_fail(err, SLM_NOMEM, "out of memory");
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        rows[i] = (ranked) {score[i], relevant[i]};
        *n_relevant += relevant[i];
    }
    qsort(rows, n, sizeof *rows, by_score);
    return rows;
}

/* How many rows from i on have its score, and how many of them are relevant. */
static size_t tie(const ranked *rows, size_t n, size_t i, size_t *n_relevant)
{
    size_t end = i;
    *n_relevant = 0;
    for (; end < n && rows[end].score == rows[i].score; end++)
        *n_relevant += rows[end].relevant;
    return end - i;
}

slm_status slm_metrics_auroc(const bool *relevant, const double *score, size_t n, double *out, slm_error *err)
{
    size_t total, seen = 0, hits;
    double area = 0;
    ranked *rows = rank(relevant, score, n, &total, err);
    if (rows == NULL)
        return SLM_NOMEM;
    for (size_t i = 0, width; i < n; i += width, seen += hits) {
        width = tie(rows, n, i, &hits);
        area += (double) (width - hits) * ((double) seen + (double) hits / 2);
    }
    *out = total > 0 && total < n ? area / ((double) total * (double) (n - total)) : NAN;
    free(rows);
    return SLM_OK;
}

slm_status slm_metrics_average_precision(const bool *relevant, const double *score, size_t n, double *out, slm_error *err)
{
    size_t total, seen = 0, hits;
    double sum = 0;
    ranked *rows = rank(relevant, score, n, &total, err);
    if (rows == NULL)
        return SLM_NOMEM;
    for (size_t i = 0, width; i < n; i += width) {
        width = tie(rows, n, i, &hits);
        seen += hits;
        sum += (double) hits * (double) seen / (double) (i + width);
    }
    *out = total > 0 ? sum / (double) total : 0;
    free(rows);
    return SLM_OK;
}

/* Sum of the discounts 1 / log2(rank + 1) of ranks from + 1 to to, of the first k. */
static double discounts(size_t from, size_t to, size_t k)
{
    double sum = 0;
    for (size_t i = from; i < to && i < k; i++)
        sum += 1 / log2((double) i + 2);
    return sum;
}

slm_status slm_metrics_ndcg(const bool *relevant, const double *score, size_t n, size_t k, double *out, slm_error *err)
{
    size_t total, hits;
    double gain = 0, best;
    ranked *rows = rank(relevant, score, n, &total, err);
    if (rows == NULL)
        return SLM_NOMEM;
    k = k == 0 || k > n ? n : k;
    for (size_t i = 0, width; i < n; i += width) {
        width = tie(rows, n, i, &hits);
        gain += (double) hits / (double) width * discounts(i, i + width, k);
    }
    best = discounts(0, total, k);
    *out = best > 0 ? gain / best : 0;
    free(rows);
    return SLM_OK;
}
