/*
 * Labels against the truth.
 */
#include <math.h>
#include <stdlib.h>

#include "engine/metrics/metrics.h"

static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0;
}

static slm_prf prf_of(double right, double predicted, double support)
{
    slm_prf out = {ratio(right, predicted), ratio(right, support), 0};
    out.f1 = ratio(2 * out.precision * out.recall, out.precision + out.recall);
    return out;
}

static void add_weighted(slm_prf *sum, const slm_prf *one, double weight)
{
    sum->precision += weight * one->precision;
    sum->recall += weight * one->recall;
    sum->f1 += weight * one->f1;
}

/* Cohen's kappa with weights |i - j|^power (power 0: 1 where they differ): 1 - observed disagreement / that expected of the marginals. */
static double kappa(const int32_t *truth, const int32_t *predicted, size_t n, uint32_t n_labels, const slm_label_score *labels, int power)
{
    double observed = 0, expected = 0;
    size_t answered = 0;
    for (size_t i = 0; i < n; i++) {
        if (predicted[i] < 0)
            continue;
        answered++;
        observed += power == 0 ? truth[i] != predicted[i] : pow(fabs((double) truth[i] - predicted[i]), power);
    }
    if (answered < n) /* no agreement of two judges, where one was silent */
        return NAN;
    for (uint32_t i = 0; i < n_labels; i++)
        for (uint32_t j = 0; j < n_labels; j++)
            if (i != j)
                expected += (double) labels[i].support * (double) labels[j].predicted * (power == 0 ? 1 : pow(fabs((double) i - j), power));
    return expected > 0 ? 1 - observed * (double) n / expected : NAN;
}

static double matthews(size_t n, size_t right, uint32_t n_labels, const slm_label_score *labels)
{
    double cross = 0, truth2 = 0, predicted2 = 0, s = (double) n;
    for (uint32_t i = 0; i < n_labels; i++) {
        cross += (double) labels[i].support * (double) labels[i].predicted;
        truth2 += (double) labels[i].support * (double) labels[i].support;
        predicted2 += (double) labels[i].predicted * (double) labels[i].predicted;
    }
    return ratio((double) right * s - cross, sqrt((s * s - predicted2) * (s * s - truth2)));
}

slm_status slm_metrics_classification(const int32_t *truth, const int32_t *predicted, size_t n, uint32_t n_labels, slm_classification *out,
                                      slm_label_score *labels, slm_error *err)
{
    slm_label_score *own = labels == NULL ? labels = malloc(sizeof *labels * (n_labels > 0 ? n_labels : 1)) : NULL;
    double present = 0, with_truth = 0;
    if (labels == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    *out = (slm_classification) {.n = n};
    for (uint32_t i = 0; i < n_labels; i++)
        labels[i] = (slm_label_score) {0};
    for (size_t i = 0; i < n; i++) {
        labels[truth[i]].support++;
        if (predicted[i] < 0)
            continue;
        out->answered++;
        labels[predicted[i]].predicted++;
        labels[truth[i]].right += truth[i] == predicted[i];
        out->right += truth[i] == predicted[i];
    }
    for (uint32_t i = 0; i < n_labels; i++) {
        slm_label_score *l = &labels[i];
        l->prf = prf_of((double) l->right, (double) l->predicted, (double) l->support);
        if (l->support > 0) {
            with_truth++;
            out->balanced_accuracy += l->prf.recall;
        }
        if (l->support == 0 && l->predicted == 0)
            continue;
        present++;
        add_weighted(&out->macro, &l->prf, 1);
        add_weighted(&out->weighted, &l->prf, ratio((double) l->support, (double) n));
    }
    out->accuracy = ratio((double) out->right, (double) n);
    out->balanced_accuracy = ratio(out->balanced_accuracy, with_truth);
    out->macro = (slm_prf) {ratio(out->macro.precision, present), ratio(out->macro.recall, present), ratio(out->macro.f1, present)};
    out->micro = prf_of((double) out->right, (double) out->answered, (double) n);
    out->kappa = kappa(truth, predicted, n, n_labels, labels, 0);
    out->kappa_linear = kappa(truth, predicted, n, n_labels, labels, 1);
    out->kappa_quadratic = kappa(truth, predicted, n, n_labels, labels, 2);
    out->matthews = matthews(n, out->right, n_labels, labels);
    free(own);
    return SLM_OK;
}

slm_status slm_metrics_krippendorff(const int32_t *values, size_t units, size_t raters, uint32_t n_labels, double *out, slm_error *err)
{
    double *count = calloc(2 * (size_t) n_labels + 1, sizeof *count), *total = count + n_labels;
    double observed = 0, n = 0, pairs = 0;
    if (count == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (size_t u = 0; u < units; u++) {
        double rated = 0, equal = 0;
        const int32_t *unit = values + u * raters;
        for (size_t r = 0; r < raters; r++)
            if (unit[r] >= 0) {
                rated++;
                equal += count[unit[r]]++; /* pairs with the equal ones before it */
            }
        for (size_t r = 0; r < raters; r++)
            if (unit[r] >= 0) {
                count[unit[r]] = 0;
                if (rated >= 2)
                    total[unit[r]]++;
            }
        if (rated < 2) /* nothing to compare */
            continue;
        n += rated;
        observed += rated - 2 * equal / (rated - 1);
    }
    for (uint32_t i = 0; i < n_labels; i++)
        pairs += total[i] * (n - total[i]);
    *out = pairs > 0 ? 1 - observed * (n - 1) / pairs : NAN;
    free(count);
    return SLM_OK;
}
