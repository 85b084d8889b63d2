/*
 * Loss, gradient and preconditioner.
 *
 * Order of every sum: rows ascending inside a panel, panels ascending.  The gradient of S is cut over threads by lanes of 16 labels,
 * that of W is one matrix product a panel.
 *
 * The preconditioner is the Hessian's shape at uniform probabilities, the same for every label (Boehning 1992): c x x' + l2, with
 * c = (1/L)(1 - 1/L); embeddings are so unevenly scaled along their principal axes that it saves four fifths of the steps.  Of
 * very wide embeddings only the diagonal is taken.
 */
#include "engine/train/problem.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/math.h"
#include "engine/base/threads.h"
#include "engine/train/blas.h"
#include "engine/train/lanes.h"

#define PANEL_FLOATS (1u << 20) /* scores of a panel: 4 MiB */
#define PANEL_MACS (1u << 29)   /* of one product, so that the stop flag is seen every few milliseconds */
#define MAX_DENSE 1600          /* inputs up to which the preconditioner is a matrix: its inversion takes time with their cube */
#define ROWS_A_PIECE 64
#define AHEAD 12 /* features that are fetched before their turn */

size_t slm_problem_size(const slm_problem *p)
{
    return (size_t) p->n_labels * p->n_inputs + (size_t) p->n_features * p->stride;
}

static bool is_dense(const slm_problem *p)
{
    return p->n_inputs <= MAX_DENSE;
}

static size_t rows_of(size_t n_rows, size_t macs_a_row)
{
    size_t rows = PANEL_MACS / macs_a_row;
    rows = rows < 64 ? 64 : rows > 4096 ? 4096 : rows;
    return rows < n_rows ? rows : n_rows;
}

/* The mean of x x' over all rows, or its diagonal. */
static slm_status find_gram(slm_problem *p, slm_error *err)
{
    size_t square = is_dense(p) ? (size_t) p->n_inputs * p->n_inputs : p->n_inputs, step = rows_of(p->n_rows, square);
    memset(p->gram, 0, square * sizeof *p->gram);
    for (size_t at = 0; at < p->n_rows; at += step) {
        uint32_t n = (uint32_t) (p->n_rows - at < step ? p->n_rows - at : step);
        const float *x = p->x + at * p->n_inputs;
        if (slm_watch_stopped(p->watch))
            return slm_fail(err, SLM_CANCELLED, "cancelled");
        if (is_dense(p))
            slm_blas_gemm(true, false, p->n_inputs, p->n_inputs, n, x, p->n_inputs, x, p->n_inputs, 1.0f, p->gram, p->n_inputs);
        for (size_t i = 0; !is_dense(p) && i < (size_t) n * p->n_inputs; i++)
            p->gram[i % p->n_inputs] += x[i] * x[i];
    }
    for (size_t i = 0; i < square; i++)
        p->gram[i] /= (float) p->n_rows;
    return SLM_OK;
}

slm_status slm_problem_init(slm_problem *p, slm_error *err)
{
    size_t square = is_dense(p) ? (size_t) p->n_inputs * p->n_inputs : p->n_inputs;
    p->panel_rows = rows_of(p->n_rows, (size_t) p->n_inputs * p->n_labels);
    if (p->panel_rows > 64 && p->panel_rows > PANEL_FLOATS / p->stride)
        p->panel_rows = PANEL_FLOATS / p->stride < 64 ? 64 : PANEL_FLOATS / p->stride;
    p->z = aligned_alloc(64, (p->panel_rows * p->stride * sizeof *p->z + 63) / 64 * 64);
    p->row_loss = malloc(p->panel_rows * sizeof *p->row_loss);
    p->gram = malloc(square * sizeof *p->gram);
    p->inverse = malloc(square * sizeof *p->inverse);
    p->curvature = calloc((size_t) p->n_features + 1, sizeof *p->curvature);
    if (p->z == NULL || p->row_loss == NULL || p->gram == NULL || p->inverse == NULL || p->curvature == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    SLM_TRY(find_gram(p, err));
    for (size_t i = 0; p->sparse != NULL && i < p->sparse->begin[p->n_rows]; i++)
        p->curvature[p->sparse->feature[i]] += p->sparse->value[i] * p->sparse->value[i] / (float) p->n_rows;
    return SLM_OK;
}

void slm_problem_free(slm_problem *p)
{
    free(p->z);
    free(p->row_loss);
    free(p->gram);
    free(p->inverse);
    free(p->curvature);
    p->z = p->gram = p->inverse = p->curvature = NULL;
    p->row_loss = NULL;
}

static float bend(const slm_problem *p)
{
    return (1.0f - 1.0f / (float) p->n_labels) / (float) p->n_labels;
}

slm_status slm_problem_prepare(slm_problem *p, slm_error *err)
{
    size_t n = p->n_inputs;
    float ridge = p->l2 / (float) p->n_rows, c = bend(p);
    for (size_t i = 0; !is_dense(p) && i < n; i++)
        p->inverse[i] = 1.0f / (c * p->gram[i] + ridge + c * 1e-6f);
    if (!is_dense(p))
        return SLM_OK;
    for (int attempt = 0; attempt < 12; attempt++) {
        for (size_t i = 0; i < n * n; i++)
            p->inverse[i] = c * p->gram[i];
        for (size_t i = 0; i < n; i++)
            p->inverse[i * n + i] += ridge + c * 1e-6f;
        if (slm_blas_invert(p->inverse, p->n_inputs))
            return SLM_OK;
        ridge = ridge * 10 + c * 1e-6f; /* nearly singular in float */
    }
    return slm_fail(err, SLM_INTERNAL, "the embeddings' second moments could not be inverted");
}

void slm_problem_precondition(slm_problem *p, const float *v, float *out)
{
    size_t dense = (size_t) p->n_labels * p->n_inputs;
    float ridge = p->l2 * p->sparse_l2 / (float) p->n_rows, c = bend(p);
    if (is_dense(p))
        slm_blas_gemm(false, false, p->n_labels, p->n_inputs, p->n_inputs, v, p->n_inputs, p->inverse, p->n_inputs, 0.0f, out, p->n_inputs);
    for (size_t i = 0; !is_dense(p) && i < dense; i++)
        out[i] = v[i] * p->inverse[i % p->n_inputs];
    for (uint32_t f = 0; f < p->n_features; f++) {
        float scale = 1.0f / (c * p->curvature[f] + ridge);
        const float *from = v + dense + (size_t) f * p->stride;
        float *to = out + dense + (size_t) f * p->stride;
        for (uint32_t l = 0; l < p->stride; l++)
            to[l] = from[l] * scale;
    }
}

/* ---- one panel ---- */

typedef struct panel {
    slm_problem *p;
    const float *theta;
    float *gradient;
    size_t first; /* row of the panel's first row */
    uint32_t n;
    float *z;
    float scale;  /* 1 / sum of weights */
} panel;

/* 16 labels at a time, so that their scores stay in registers; a feature's weights are fetched some features ahead. */
static void add_sparse_scores(const slm_problem *p, const float *s, size_t row, float *z)
{
    const slm_sparse *x = p->sparse;
    size_t begin = x->begin[row], end = x->begin[row + 1];
    for (uint32_t l = 0; l < p->stride; l += 16) {
        slm_f4 z0 = slm_f4_load(z + l), z1 = slm_f4_load(z + l + 4), z2 = slm_f4_load(z + l + 8), z3 = slm_f4_load(z + l + 12);
        for (size_t i = begin; i < end; i++) {
            const float *w = s + (size_t) x->feature[i] * p->stride + l;
            slm_f4 v = slm_f4_all(x->value[i]);
            if (i + AHEAD < end)
                __builtin_prefetch(s + (size_t) x->feature[i + AHEAD] * p->stride + l);
            z0 += v * slm_f4_load(w);
            z1 += v * slm_f4_load(w + 4);
            z2 += v * slm_f4_load(w + 8);
            z3 += v * slm_f4_load(w + 12);
        }
        slm_f4_store(z + l, z0);
        slm_f4_store(z + l + 4, z1);
        slm_f4_store(z + l + 8, z2);
        slm_f4_store(z + l + 12, z3);
    }
}

static void scores_region(void *arg, slm_team *team, int thread, int n_threads)
{
    panel *a = arg;
    const slm_problem *p = a->p;
    const float *s = a->theta + (size_t) p->n_labels * p->n_inputs;
    uint32_t begin, end;
    while (slm_take(team, a->n, ROWS_A_PIECE, &begin, &end))
        for (uint32_t r = begin; r < end; r++)
            add_sparse_scores(p, s, a->first + r, a->z + (size_t) r * p->stride);
}

/* Scores to the loss's derivative, in place: weight * (probability - target). */
static void softmax_region(void *arg, slm_team *team, int thread, int n_threads)
{
    panel *a = arg;
    const slm_problem *p = a->p;
    const float *s = a->theta + (size_t) p->n_labels * p->n_inputs;
    uint32_t begin, end;
    while (slm_take(team, a->n, ROWS_A_PIECE, &begin, &end))
        for (uint32_t r = begin; r < end; r++) {
            size_t row = a->first + r;
            float *z = a->z + (size_t) r * p->stride, largest, sum;
            if (p->n_features > 0)
                add_sparse_scores(p, s, row, z);
            float target = z[p->labels[row]], weight = p->weights[row] * a->scale;
            slm_softmax_lanes(z, p->n_labels, p->stride, &largest, &sum);
            p->row_loss[r] = (double) p->weights[row] * ((double) largest - target + slm_log(sum));
            z[p->labels[row]] -= 1.0f;
            for (uint32_t l = 0; l < p->stride; l += 4)
                slm_f4_store(z + l, slm_f4_load(z + l) * slm_f4_all(weight));
        }
}

/* Gradient of S: a piece is 16 labels, for all rows in order. */
static void sparse_region(void *arg, slm_team *team, int thread, int n_threads)
{
    panel *a = arg;
    const slm_problem *p = a->p;
    const slm_sparse *x = p->sparse;
    float *g = a->gradient + (size_t) p->n_labels * p->n_inputs;
    uint32_t begin, end;
    while (slm_take(team, p->stride / SLM_LANE_PAD, 1, &begin, &end)) {
        float *lanes = g + (size_t) begin * SLM_LANE_PAD;
        for (uint32_t r = 0; r < a->n; r++) {
            const float *z = a->z + (size_t) r * p->stride + (size_t) begin * SLM_LANE_PAD;
            slm_f4 z0 = slm_f4_load(z), z1 = slm_f4_load(z + 4), z2 = slm_f4_load(z + 8), z3 = slm_f4_load(z + 12);
            for (size_t i = x->begin[a->first + r]; i < x->begin[a->first + r + 1]; i++) {
                float *to = lanes + (size_t) x->feature[i] * p->stride;
                slm_f4 v = slm_f4_all(x->value[i]);
                if (i + AHEAD < x->begin[a->first + r + 1])
                    __builtin_prefetch(lanes + (size_t) x->feature[i + AHEAD] * p->stride, 1);
                slm_f4_store(to, slm_f4_load(to) + v * z0);
                slm_f4_store(to + 4, slm_f4_load(to + 4) + v * z1);
                slm_f4_store(to + 8, slm_f4_load(to + 8) + v * z2);
                slm_f4_store(to + 12, slm_f4_load(to + 12) + v * z3);
            }
        }
    }
}

static double run_panel(panel *a)
{
    slm_problem *p = a->p;
    const float *x = p->x + a->first * p->n_inputs;
    double loss = 0;
    slm_blas_gemm(false, true, a->n, p->n_labels, p->n_inputs, x, p->n_inputs, a->theta, p->n_inputs, 0.0f, a->z, p->stride);
    /* lanes beyond the labels: the sparse part adds to them, so they must be numbers */
    for (uint32_t r = 0; r < a->n; r++)
        for (uint32_t l = p->n_labels; l < p->stride; l++)
            a->z[(size_t) r * p->stride + l] = 0;
    slm_parallel(p->n_threads, softmax_region, a);
    slm_blas_gemm(true, false, p->n_labels, p->n_inputs, a->n, a->z, p->stride, x, p->n_inputs, 1.0f, a->gradient, p->n_inputs);
    if (p->n_features > 0)
        slm_parallel(p->n_threads, sparse_region, a);
    for (uint32_t r = 0; r < a->n; r++)
        loss += p->row_loss[r];
    return loss;
}

/* The penalty's share; the bias goes free. */
static double add_penalty(slm_problem *p, const float *theta, float *gradient)
{
    size_t dense = (size_t) p->n_labels * p->n_inputs, size = slm_problem_size(p);
    float ridge = p->l2 / (float) p->n_rows, sparse = ridge * p->sparse_l2;
    double w = 0, s = 0;
    for (uint32_t l = 0; l < p->n_labels; l++)
        for (size_t i = (size_t) l * p->n_inputs; i + 1 < (size_t) (l + 1) * p->n_inputs; i++) {
            w += (double) theta[i] * theta[i];
            gradient[i] += ridge * theta[i];
        }
    for (size_t i = dense; i < size; i++) {
        s += (double) theta[i] * theta[i];
        gradient[i] += sparse * theta[i];
    }
    return 0.5 * ((double) ridge * w + (double) sparse * s);
}

slm_status slm_problem_evaluate(slm_problem *p, const float *theta, float *gradient, double *loss, slm_error *err)
{
    double weights = 0, total = 0;
    for (size_t r = 0; r < p->n_rows; r++)
        if (r < p->skip_begin || r >= p->skip_end)
            weights += p->weights[r];
    panel a = {.p = p, .theta = theta, .gradient = gradient, .z = p->z, .scale = (float) (1 / weights)};
    memset(gradient, 0, slm_problem_size(p) * sizeof *gradient);
    for (size_t at = p->skip_begin == 0 ? p->skip_end : 0; at < p->n_rows;) {
        size_t end = at < p->skip_begin ? p->skip_begin : p->n_rows;
        a.first = at;
        a.n = (uint32_t) (end - at < p->panel_rows ? end - at : p->panel_rows);
        if (slm_watch_stopped(p->watch))
            return slm_fail(err, SLM_CANCELLED, "cancelled");
        total += run_panel(&a);
        at += a.n;
        if (at == p->skip_begin)
            at = p->skip_end;
    }
    *loss = total / weights + add_penalty(p, theta, gradient);
    return SLM_OK;
}

void slm_problem_scores(slm_problem *p, const float *theta, size_t begin, size_t end, float *z)
{
    panel a = {.p = p, .theta = theta};
    for (size_t at = begin; at < end; at += a.n) {
        a.first = at;
        a.n = (uint32_t) (end - at < p->panel_rows ? end - at : p->panel_rows);
        a.z = z + (at - begin) * p->stride;
        slm_blas_gemm(false, true, a.n, p->n_labels, p->n_inputs, p->x + at * p->n_inputs, p->n_inputs, theta, p->n_inputs, 0.0f, a.z,
                      p->stride);
        for (uint32_t r = 0; r < a.n; r++)
            for (uint32_t l = p->n_labels; l < p->stride; l++)
                a.z[(size_t) r * p->stride + l] = 0;
        if (p->n_features > 0)
            slm_parallel(p->n_threads, scores_region, &a);
    }
}
