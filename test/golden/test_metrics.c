/*
 * Measures against reference values (golden/metrics): scikit-learn's, SciPy's, rouge-score's.
 */
#include "slm_test.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/metrics/metrics.h"
#include "golden.h"

static slm_error err;

static json_t *load(const char *name)
{
    char path[600];
    json_error_t e;
    snprintf(path, sizeof path, "%s/metrics/%s.json", golden_root(), name);
    json_t *root = json_load_file(path, 0, &e);
    CHECK(root != NULL, "%s: %s", path, e.text);
    if (root == NULL)
        exit(1);
    return root;
}

static void near(const char *what, const json_t *expected, double got)
{
    double e = json_is_null(expected) ? NAN : json_number_value(expected);
    CHECK(expected != NULL && (isnan(e) ? isnan(got) : fabs(e - got) <= 1e-9), "%s: %.12g, not %.12g", what, got, e);
}

static void near_key(const char *name, const json_t *object, const char *key, double got)
{
    char what[200];
    snprintf(what, sizeof what, "%s: %s", name, key);
    near(what, json_object_get(object, key), got);
}

static void near_prf(const char *name, const json_t *object, const char *f, slm_prf got)
{
    near_key(name, object, "precision", got.precision);
    near_key(name, object, "recall", got.recall);
    near_key(name, object, f, got.f1);
}

static int32_t label_of(const json_t *labels, const json_t *value)
{
    for (size_t i = 0; i < json_array_size(labels); i++)
        if (json_equal(json_array_get(labels, i), value))
            return (int32_t) i;
    return -1;
}

static void classification(void)
{
    json_t *root = load("classification"), *c;
    size_t k;
    json_array_foreach(json_object_get(root, "cases"), k, c) {
        const char *name = json_string_value(json_object_get(c, "name"));
        const json_t *labels = json_object_get(c, "labels"), *truth = json_object_get(c, "truth"), *one;
        size_t n = json_array_size(truth), i;
        uint32_t n_labels = (uint32_t) json_array_size(labels);
        int32_t *t = malloc(sizeof *t * n), *p = malloc(sizeof *p * n);
        slm_label_score *scores = malloc(sizeof *scores * n_labels);
        slm_classification got;
        for (i = 0; i < n; i++) {
            t[i] = label_of(labels, json_array_get(truth, i));
            p[i] = label_of(labels, json_array_get(json_object_get(c, "predicted"), i));
        }
        CHECK(slm_metrics_classification(t, p, n, n_labels, &got, scores, &err) == SLM_OK, "%s", name);
        near_key(name, c, "accuracy", got.accuracy);
        near_key(name, c, "balanced_accuracy", got.balanced_accuracy);
        near_key(name, c, "kappa", got.kappa);
        near_key(name, c, "kappa_linear", got.kappa_linear);
        near_key(name, c, "kappa_quadratic", got.kappa_quadratic);
        near_key(name, c, "matthews", got.matthews);
        near_prf(name, json_object_get(json_object_get(c, "averages"), "macro"), "f1", got.macro);
        near_prf(name, json_object_get(json_object_get(c, "averages"), "weighted"), "f1", got.weighted);
        near_prf(name, json_object_get(json_object_get(c, "averages"), "micro"), "f1", got.micro);
        json_array_foreach(json_object_get(c, "per_label"), i, one) {
            near_prf(name, one, "f1", scores[i].prf);
            near_key(name, one, "support", (double) scores[i].support);
        }
        free(t);
        free(p);
        free(scores);
    }
    json_decref(root);
}

static double *numbers(const json_t *array)
{
    double *out = malloc(sizeof *out * (json_array_size(array) + 1));
    for (size_t i = 0; i < json_array_size(array); i++)
        out[i] = json_number_value(json_array_get(array, i));
    return out;
}

/* Class c (of n_classes) against the others. */
static void one_class(const char *name, const json_t *c, const double *p, const int32_t *truth, size_t n, uint32_t n_classes)
{
    bool *relevant = malloc(n);
    double *score = malloc(sizeof *score * n), got;
    for (uint32_t k = 0; k < n_classes; k++) {
        for (size_t i = 0; i < n; i++) {
            relevant[i] = truth[i] == (int32_t) k;
            score[i] = p[i * n_classes + k];
        }
        if (json_object_get(c, "auroc_per_class") != NULL) {
            CHECK(slm_metrics_auroc(relevant, score, n, &got, &err) == SLM_OK, "%s", name);
            near(name, json_array_get(json_object_get(c, "auroc_per_class"), k), got);
            CHECK(slm_metrics_average_precision(relevant, score, n, &got, &err) == SLM_OK, "%s", name);
            near(name, json_array_get(json_object_get(c, "average_precision_per_class"), k), got);
        }
    }
    free(relevant);
    free(score);
}

static void probabilities(void)
{
    json_t *root = load("probabilities"), *c;
    size_t k;
    json_array_foreach(json_object_get(root, "cases"), k, c) {
        const char *name = json_string_value(json_object_get(c, "name"));
        const json_t *rows = json_object_get(c, "probabilities"), *truth = json_object_get(c, "truth"), *bin;
        size_t n = json_array_size(truth), b, filled = 0;
        uint32_t n_classes = (uint32_t) json_array_size(json_array_get(rows, 0));
        double *p = malloc(sizeof *p * n * n_classes), *confidence = malloc(sizeof *confidence * n);
        int32_t *t = malloc(sizeof *t * n);
        bool *right = malloc(n);
        slm_calibration_bin bins[SLM_ECE_BINS];
        for (size_t i = 0; i < n; i++) {
            uint32_t best = 0;
            t[i] = (int32_t) json_integer_value(json_array_get(truth, i));
            for (uint32_t j = 0; j < n_classes; j++) {
                p[i * n_classes + j] = json_number_value(json_array_get(json_array_get(rows, i), j));
                best = p[i * n_classes + j] > p[i * n_classes + best] ? j : best;
            }
            confidence[i] = p[i * n_classes + best];
            right[i] = (int32_t) best == t[i];
        }
        near_key(name, c, "log_loss", slm_metrics_log_loss(p, t, n, n_classes));
        if (json_object_get(c, "brier_multiclass") != NULL)
            near_key(name, c, "brier_multiclass", slm_metrics_brier(p, t, n, n_classes));
        if (json_object_get(c, "brier") != NULL)
            near_key(name, c, "brier", slm_metrics_brier(p, t, n, n_classes) / 2);
        if (json_is_number(json_object_get(c, "top_k_accuracy_2")))
            near_key(name, c, "top_k_accuracy_2", slm_metrics_top_k(p, t, n, n_classes, 2));
        near_key(name, c, "ece15", slm_metrics_ece(confidence, right, n, bins));
        for (b = 0; b < SLM_ECE_BINS; b++)
            filled += bins[b].n > 0;
        CHECK(filled == json_array_size(json_object_get(c, "ece_bins")), "%s: %zu bins", name, filled);
        json_array_foreach(json_object_get(c, "ece_bins"), b, bin) {
            const slm_calibration_bin *got = &bins[json_integer_value(json_array_get(bin, 0))];
            near(name, json_array_get(bin, 1), (double) got->n);
            near(name, json_array_get(bin, 2), got->confidence);
            near(name, json_array_get(bin, 3), got->accuracy);
        }
        one_class(name, c, p, t, n, n_classes);
        free(p);
        free(confidence);
        free(t);
        free(right);
    }
    json_decref(root);
}

static void ranking(void)
{
    json_t *root = load("ranking"), *c;
    size_t k;
    json_array_foreach(json_object_get(root, "cases"), k, c) {
        const char *name = json_string_value(json_object_get(c, "name"));
        const json_t *truth = json_object_get(c, "truth");
        size_t n = json_array_size(truth);
        double *score = numbers(json_object_get(c, "scores")), got;
        bool *relevant = malloc(n);
        for (size_t i = 0; i < n; i++)
            relevant[i] = json_integer_value(json_array_get(truth, i)) != 0;
        CHECK(slm_metrics_auroc(relevant, score, n, &got, &err) == SLM_OK, "%s", name);
        near_key(name, c, "auroc", got);
        CHECK(slm_metrics_average_precision(relevant, score, n, &got, &err) == SLM_OK, "%s", name);
        near_key(name, c, "average_precision", got);
        CHECK(slm_metrics_ndcg(relevant, score, n, 10, &got, &err) == SLM_OK, "%s", name);
        near_key(name, c, "ndcg_at_10", got);
        CHECK(slm_metrics_ndcg(relevant, score, n, 0, &got, &err) == SLM_OK, "%s", name);
        near_key(name, c, "ndcg", got);
        free(score);
        free(relevant);
    }
    json_decref(root);
}

static size_t count_of(const json_t *c, const char *key)
{
    return (size_t) json_integer_value(json_object_get(c, key));
}

static void intervals(void)
{
    json_t *root = load("intervals"), *c;
    size_t k;
    json_array_foreach(json_object_get(root, "wilson"), k, c) {
        double low, high, level = json_number_value(json_object_get(c, "level"));
        slm_metrics_wilson(count_of(c, "successes"), count_of(c, "n"), level, &low, &high);
        near_key("wilson", c, "low", low);
        near_key("wilson", c, "high", high);
        slm_metrics_clopper_pearson(count_of(c, "successes"), count_of(c, "n"), level, &low, &high);
        near_key("exact", c, "exact_low", low);
        near_key("exact", c, "exact_high", high);
    }
    json_array_foreach(json_object_get(root, "mcnemar"), k, c) {
        double mid, chi2;
        near_key("mcnemar", c, "p_exact", slm_metrics_mcnemar(count_of(c, "b"), count_of(c, "c"), &mid, &chi2));
        near_key("mcnemar", c, "p_mid", mid);
        near_key("mcnemar", c, "chi2_corrected", chi2);
    }
    json_array_foreach(json_object_get(root, "correlation"), k, c) {
        size_t n = json_array_size(json_object_get(c, "x"));
        double *x = numbers(json_object_get(c, "x")), *y = numbers(json_object_get(c, "y")), got;
        near_key("correlation", c, "pearson", slm_metrics_pearson(x, y, n));
        CHECK(slm_metrics_spearman(x, y, n, &got, &err) == SLM_OK, "spearman");
        near_key("correlation", c, "spearman", got);
        near_key("correlation", c, "kendall_tau_b", slm_metrics_kendall(x, y, n));
        free(x);
        free(y);
    }
    json_decref(root);
}

static void texts(void)
{
    json_t *root = load("texts"), *c;
    size_t k;
    json_array_foreach(json_object_get(root, "rouge"), k, c) {
        const json_t *r = json_object_get(c, "reference"), *a = json_object_get(c, "candidate");
        slm_rouge got;
        CHECK(slm_metrics_rouge(json_string_value(r), json_string_length(r), json_string_value(a), json_string_length(a), false, &got,
                                &err) == SLM_OK, "%s", json_string_value(r));
        near_prf(json_string_value(r), json_object_get(c, "rouge1"), "f", got.rouge1);
        near_prf(json_string_value(r), json_object_get(c, "rouge2"), "f", got.rouge2);
        near_prf(json_string_value(r), json_object_get(c, "rougeL"), "f", got.rouge_l);
        near_prf(json_string_value(r), json_object_get(c, "rougeLsum"), "f", got.rouge_lsum);
        const json_t *s = json_object_get(c, "stemmed");
        CHECK(slm_metrics_rouge(json_string_value(r), json_string_length(r), json_string_value(a), json_string_length(a), true, &got,
                                &err) == SLM_OK, "%s", json_string_value(r));
        near_prf(json_string_value(r), json_object_get(s, "rouge1"), "f", got.rouge1);
        near_prf(json_string_value(r), json_object_get(s, "rouge2"), "f", got.rouge2);
        near_prf(json_string_value(r), json_object_get(s, "rougeL"), "f", got.rouge_l);
        near_prf(json_string_value(r), json_object_get(s, "rougeLsum"), "f", got.rouge_lsum);
    }
    json_array_foreach(json_object_get(root, "exact_match"), k, c) {
        const json_t *r = json_object_get(c, "reference"), *a = json_object_get(c, "candidate");
        bool exact = false;
        double f1 = -1;
        const char *of = json_string_value(r), *to = json_string_value(a);
        CHECK(slm_metrics_squad(of, json_string_length(r), to, json_string_length(a), &exact, &f1, &err) == SLM_OK, "%s", of);
        CHECK(exact == json_is_true(json_object_get(c, "exact_squad")), "exact: \"%s\" and \"%s\"", of, to);
        near_key(json_string_value(r), c, "f1_squad", f1);
    }
    json_decref(root);
}

/* A row may be one word: its stem takes a moment, whatever its letters are. */
static void long_word(void)
{
    size_t n = 1 << 20;
    char *text = malloc(n);
    slm_rouge got = {0};
    if (text == NULL)
        exit(1);
    memset(text, 'y', n - 4);
    memcpy(text + n - 4, "ness", 4);
    clock_t begin = clock();
    CHECK(slm_metrics_rouge(text, n, text, n, true, &got, &err) == SLM_OK && got.rouge1.f1 == 1, "f1 %g", got.rouge1.f1);
    CHECK((double) (clock() - begin) / CLOCKS_PER_SEC < 10, "a long word took %g s", (double) (clock() - begin) / CLOCKS_PER_SEC);
    free(text);
}

static void agreement(void)
{
    json_t *root = load("agreement"), *c;
    size_t k;
    json_array_foreach(json_object_get(root, "krippendorff"), k, c) {
        const json_t *units = json_object_get(c, "units");
        size_t n = json_array_size(units), raters = json_array_size(json_array_get(units, 0));
        json_t *labels = json_array();
        int32_t *values = malloc(sizeof *values * (n * raters + 1));
        double got;
        for (size_t i = 0; i < n * raters; i++) {
            json_t *value = json_array_get(json_array_get(units, i / raters), i % raters);
            if (!json_is_null(value) && label_of(labels, value) < 0)
                json_array_append(labels, value);
            values[i] = json_is_null(value) ? -1 : label_of(labels, value);
        }
        CHECK(slm_metrics_krippendorff(values, n, raters, (uint32_t) json_array_size(labels), &got, &err) == SLM_OK, "alpha");
        near_key("krippendorff", c, "alpha", got);
        json_decref(labels);
        free(values);
    }
    json_decref(root);
}

/* [[...], ...] as one array. */
static double *matrix(const json_t *rows, size_t *n, size_t *dims)
{
    *n = json_array_size(rows);
    *dims = json_array_size(json_array_get(rows, 0));
    double *out = malloc(sizeof *out * (*n * *dims + 1));
    for (size_t i = 0; i < *n * *dims; i++)
        out[i] = json_number_value(json_array_get(json_array_get(rows, i / *dims), i % *dims));
    return out;
}

static int32_t *whole_numbers(const json_t *list)
{
    size_t n = json_array_size(list);
    int32_t *out = malloc(sizeof *out * (n + 1));
    for (size_t i = 0; i < n; i++)
        out[i] = (int32_t) json_integer_value(json_array_get(list, i));
    return out;
}

static void one_clustering(const json_t *c)
{
    const char *name = json_string_value(json_object_get(c, "name"));
    const json_t *lloyd = json_object_get(c, "lloyd");
    size_t n, k, dims, n_given;
    double *x = matrix(json_object_get(c, "points"), &n, &dims), *centres = matrix(json_object_get(c, "initial"), &k, &dims);
    double *expected = matrix(json_object_get(lloyd, "centres"), &n_given, &dims);
    int32_t *given = whole_numbers(json_object_get(lloyd, "labels")), *truth = whole_numbers(json_object_get(c, "truth"));
    int32_t *labels = malloc(sizeof *labels * (n + 1));
    double got, *samples = malloc(sizeof *samples * (n + 1));
    uint32_t iterations, n_truth = 0, clusters = (uint32_t) k;
    CHECK(slm_metrics_kmeans(x, n, dims, centres, clusters, 1000, NULL, labels, &got, &iterations, &err) == SLM_OK, "%s", name);
    near_key(name, lloyd, "inertia", got);
    CHECK(iterations == count_of(lloyd, "iterations"), "%s: %u iterations", name, iterations);
    CHECK(memcmp(labels, given, sizeof *labels * n) == 0, "%s: other clusters", name);
    for (size_t i = 0; i < k * dims; i++)
        CHECK(fabs(centres[i] - expected[i]) <= 1e-9, "%s: centre %zu", name, i / dims);
    free(labels); /* the figures are of scikit-learn's clusters, which are others where one was emptied */
    labels = whole_numbers(json_object_get(json_object_get(c, "sklearn"), "labels"));
    for (size_t i = 0; i < n; i++)
        n_truth = truth[i] >= (int32_t) n_truth ? (uint32_t) truth[i] + 1 : n_truth;
    CHECK(slm_metrics_silhouette(x, n, dims, labels, clusters, false, samples, &got, &err) == SLM_OK, "%s", name);
    near_key(name, c, "silhouette", got);
    const json_t *first = json_object_get(c, "silhouette_samples_first10");
    for (size_t i = 0; i < json_array_size(first); i++)
        CHECK(fabs(samples[i] - json_number_value(json_array_get(first, i))) <= 1e-9, "%s: sample %zu", name, i);
    CHECK(slm_metrics_silhouette(x, n, dims, labels, clusters, true, NULL, &got, &err) == SLM_OK, "%s", name);
    near_key(name, c, "silhouette_cosine", got);
    CHECK(slm_metrics_davies_bouldin(x, n, dims, labels, clusters, &got, &err) == SLM_OK, "%s", name);
    near_key(name, c, "davies_bouldin", got);
    CHECK(slm_metrics_calinski_harabasz(x, n, dims, labels, clusters, &got, &err) == SLM_OK, "%s", name);
    near_key(name, c, "calinski_harabasz", got);
    CHECK(slm_metrics_adjusted_rand(truth, n_truth, labels, clusters, n, &got, &err) == SLM_OK, "%s", name);
    near_key(name, c, "adjusted_rand", got);
    CHECK(slm_metrics_mutual_information(truth, n_truth, labels, clusters, n, &got, &err) == SLM_OK, "%s", name);
    near_key(name, c, "nmi", got);
    near_key(name, c, "v_measure", got);
    free(x);
    free(centres);
    free(expected);
    free(given);
    free(truth);
    free(labels);
    free(samples);
}

static void clusters(void)
{
    json_t *root = load("clusters"), *c;
    size_t k;
    json_array_foreach(json_object_get(root, "cases"), k, c)
        one_clustering(c);
    json_decref(root);
}

int main(void)
{
    classification();
    clusters();
    probabilities();
    ranking();
    intervals();
    texts();
    long_word();
    agreement();
    TEST_MAIN_END("test_metrics");
}
