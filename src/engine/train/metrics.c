/*
 * Metrics over rows of scores, and the temperature that calibrates them.
 *
 * Macro F1 averages over the labels that occur as truth or prediction.  ECE: rows in 15 bins by the probability of their answer, mean
 * distance between probability and accuracy of a bin, weighted by its rows (Guo et al. 2017, as the temperature).
 */
#include "engine/train/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/math.h"
#include "engine/train/lanes.h"

#define BINS 15
#define MAX_CONFUSION_LABELS 1000
#define FIT_SCORES (1u << 19) /* that one look at a temperature takes, at most */

/* Log of the sum of exp(z / t) over a row, and the place of its largest. */
static double log_sum(const float *z, uint32_t n, double t, uint32_t *best)
{
    const slm_f4 inverse = slm_f4_all((float) (1 / t));
    double sum = 0;
    *best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (z[i] > z[*best])
            *best = i;
    const slm_f4 top = slm_f4_all(z[*best]);
    for (uint32_t i = 0; i < n; i += 4) {
        slm_f4 v = slm_f4_all(-3e38f);
        memcpy(&v, z + i, (n - i < 4 ? n - i : 4) * sizeof *z);
        v = slm_f4_exp((v - top) * inverse);
        sum += ((double) v[0] + v[2]) + ((double) v[1] + v[3]);
    }
    return z[*best] / t + slm_log(sum);
}

double slm_log_loss(const float *z, size_t stride, const int32_t *labels, size_t n, uint32_t n_labels, float temperature)
{
    double total = 0;
    uint32_t best;
    for (size_t r = 0; r < n; r++)
        total += log_sum(z + r * stride, n_labels, temperature, &best) - z[r * stride + labels[r]] / (double) temperature;
    return n > 0 ? total / (double) n : 0;
}

double slm_accuracy(const float *z, size_t stride, const int32_t *labels, size_t n, uint32_t n_labels)
{
    size_t right = 0;
    for (size_t r = 0; r < n; r++) {
        const float *row = z + r * stride;
        uint32_t best = 0;
        for (uint32_t i = 1; i < n_labels; i++)
            if (row[i] > row[best])
                best = i;
        right += (int32_t) best == labels[r];
    }
    return n > 0 ? (double) right / (double) n : 0;
}

/* The loss is convex in 1 / t, so golden section over log t finds the one minimum. For one number, a few thousand rows
 * do. */
float slm_fit_temperature(const float *z, size_t stride, const int32_t *labels, size_t n, uint32_t n_labels)
{
    const double golden = 0.6180339887498949;
    double low = slm_log(0.05), high = slm_log(20.0), a, b, loss_a, loss_b;
    size_t rows = FIT_SCORES / n_labels < 4000 ? FIT_SCORES / n_labels : 4000;
    rows = n < rows ? n : rows; /* folds are shuffled: the first rows are a sample */
    a = high - golden * (high - low);
    b = low + golden * (high - low);
    loss_a = slm_log_loss(z, stride, labels, rows, n_labels, (float) slm_exp(a));
    loss_b = slm_log_loss(z, stride, labels, rows, n_labels, (float) slm_exp(b));
    for (int i = 0; i < 16; i++) {
        if (loss_a < loss_b) {
            high = b;
            b = a;
            loss_b = loss_a;
            a = high - golden * (high - low);
            loss_a = slm_log_loss(z, stride, labels, rows, n_labels, (float) slm_exp(a));
        } else {
            low = a;
            a = b;
            loss_a = loss_b;
            b = low + golden * (high - low);
            loss_b = slm_log_loss(z, stride, labels, rows, n_labels, (float) slm_exp(b));
        }
    }
    return (float) slm_exp((low + high) / 2);
}

typedef struct tally {
    size_t *truth, *said, *right; /* [n_labels] */
    size_t bin_rows[BINS], bin_right[BINS];
    double bin_probability[BINS];
} tally;

static double macro_f1(const tally *t, uint32_t n_labels)
{
    double sum = 0;
    uint32_t seen = 0;
    for (uint32_t l = 0; l < n_labels; l++)
        if (t->truth[l] + t->said[l] > 0) {
            sum += 2.0 * (double) t->right[l] / (double) (t->truth[l] + t->said[l]);
            seen++;
        }
    return seen > 0 ? sum / seen : 0;
}

static double calibration_error(const tally *t, size_t n)
{
    double error = 0;
    for (int b = 0; b < BINS; b++)
        error += fabs(t->bin_probability[b] - (double) t->bin_right[b]);
    return n > 0 ? error / (double) n : 0;
}

static void count_row(tally *t, uint32_t truth, uint32_t best, double probability, uint32_t *confusion, uint32_t n_labels)
{
    int bin = (int) (probability * BINS);
    bin = bin < 0 ? 0 : bin >= BINS ? BINS - 1 : bin;
    t->truth[truth]++;
    t->said[best]++;
    t->right[truth] += truth == best;
    t->bin_rows[bin]++;
    t->bin_right[bin] += truth == best;
    t->bin_probability[bin] += probability;
    if (confusion != NULL)
        confusion[(size_t) truth * n_labels + best]++;
}

slm_status slm_measure(const float *z, size_t stride, const int32_t *labels, size_t n, uint32_t n_labels, float temperature,
                       slm_train_report *out, slm_error *err)
{
    tally t = {0};
    double loss = 0;
    size_t right = 0;
    uint32_t best, *confusion = NULL;
    bool wanted = n_labels <= MAX_CONFUSION_LABELS;
    t.truth = calloc(3 * (size_t) n_labels, sizeof *t.truth);
    if (wanted)
        confusion = calloc((size_t) n_labels * n_labels, sizeof *confusion);
    if (t.truth == NULL || (wanted && confusion == NULL)) {
        free(t.truth);
        free(confusion);
        return slm_fail(err, SLM_NOMEM, "out of memory");
    }
    t.said = t.truth + n_labels;
    t.right = t.said + n_labels;
    for (size_t r = 0; r < n; r++) {
        const float *row = z + r * stride;
        double log_total = log_sum(row, n_labels, temperature, &best);
        loss += log_total - row[labels[r]] / (double) temperature;
        count_row(&t, (uint32_t) labels[r], best, slm_exp(row[best] / (double) temperature - log_total), confusion, n_labels);
        right += (int32_t) best == labels[r];
    }
    out->accuracy = n > 0 ? (double) right / (double) n : 0;
    out->macro_f1 = macro_f1(&t, n_labels);
    out->log_loss = n > 0 ? loss / (double) n : 0;
    out->ece = calibration_error(&t, n);
    free(out->confusion);
    out->confusion = confusion;
    free(t.truth);
    return SLM_OK;
}

slm_status slm_train_evaluate(const float *probabilities, const int32_t *labels, size_t n, uint32_t n_labels, slm_train_report *out,
                              slm_error *err)
{
    slm_train_report report = {.n_rows = n, .n_labels = n_labels};
    float *logs;
    size_t floats;
    if (n_labels < 1 || __builtin_mul_overflow(n, (size_t) n_labels, &floats) || floats > SIZE_MAX / sizeof(float) / 2)
        return slm_fail(err, SLM_INVALID, "%zu rows of %u labels cannot be evaluated", n, n_labels);
    for (size_t r = 0; r < n; r++)
        if (labels[r] < 0 || (uint32_t) labels[r] >= n_labels)
            return slm_fail(err, SLM_INVALID, "row %zu has the label %d, not one of %u", r + 1, labels[r], n_labels);
    logs = malloc((floats + 1) * sizeof *logs);
    if (logs == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (size_t i = 0; i < floats; i++)
        logs[i] = probabilities[i] > 1e-30f ? (float) slm_log(probabilities[i]) : -69.0f;
    slm_status status = slm_measure(logs, n_labels, labels, n, n_labels, 1.0f, &report, err);
    free(logs);
    if (status == SLM_OK)
        *out = report;
    return status;
}
