/*
 * Vectors: sums, cosine and length of embeddings, the nearest of many (slm.h), over the kernels of the instruction set in use.
 *
 * The nearest: queries lie side by side, so that a lane is a query, and CHUNK vectors at a time are multiplied with all of them.  Threads
 * take chunks as they come, each with lists of its own, which are put together in the end: what is best does not depend on who saw it.
 */
#include <math.h>
#include <stdlib.h>

#include "engine/base/math.h"
#include "engine/base/threads.h"
#include "engine/kernels/kernels.h"
#include "engine/slm.h"

slm_pair_sums slm_vector_products(const float *a, const float *b, size_t n)
{
    double sums[3];

    slm_kernels_get()->products(a, b, n, sums);
    return (slm_pair_sums){sums[0], sums[1], sums[2]};
}

slm_pair_sums slm_vector_products_double(const double *a, const double *b, size_t n)
{
    double sums[3];

    slm_kernels_get()->products_double(a, b, n, sums);
    return (slm_pair_sums){sums[0], sums[1], sums[2]};
}

double slm_vector_squares(const float *a, const float *b, size_t n)
{
    return slm_kernels_get()->squares(a, b, n);
}

double slm_vector_squares_double(const double *a, const double *b, size_t n)
{
    return slm_kernels_get()->squares_double(a, b, n);
}

double slm_vector_cosine(const float *a, const float *b, size_t n)
{
    slm_pair_sums s = slm_vector_products(a, b, n);
    double length = sqrt(s.aa * s.bb), cosine = length > 0 ? s.ab / length : 0;

    return cosine > 1 ? 1 : cosine < -1 ? -1 : cosine;
}

void slm_vector_normalize(float *v, size_t n)
{
    slm_normalize(v, n);
}

/* ------------------------------------------------------------------ the nearest */

#define CHUNK 48
#define MOST_THREADS 64

typedef struct nearest_job {
    const float *across; /* [n_dims, m]: the queries side by side */
    const float *x;      /* [n, n_dims] */
    size_t n, n_dims;
    uint32_t m, k;
    const volatile int *stop;
    uint32_t *place; /* [threads, m, k] */
    float *product;  /* [threads, m, k] */
    float *sums;     /* [threads, CHUNK, m] */
} nearest_job;

/* Does a come before b? */
static bool better(float a, uint32_t place_a, float b, uint32_t place_b)
{
    return a > b || (a == b && place_a < place_b) || place_b == UINT32_MAX;
}

/* Puts one into a list of k, which it belongs to. */
static void insert(uint32_t *place, float *product, uint32_t k, uint32_t at, float value)
{
    uint32_t i = k - 1;
    for (; i > 0 && better(value, at, product[i - 1], place[i - 1]); i--) {
        place[i] = place[i - 1];
        product[i] = product[i - 1];
    }
    place[i] = at;
    product[i] = value;
}

static void nearest_of_chunks(void *arg, slm_team *team, int thread, int n_threads)
{
    const nearest_job *job = arg;
    const size_t lists = (size_t) job->m * job->k;
    uint32_t *place = job->place + (size_t) thread * lists, begin, end;
    float *product = job->product + (size_t) thread * lists, *sums = job->sums + (size_t) thread * CHUNK * job->m;
    const uint32_t n_chunks = (uint32_t) ((job->n + CHUNK - 1) / CHUNK);

    (void) n_threads;
    while (slm_take(team, n_chunks, 4, &begin, &end)) {
        for (uint32_t c = begin; c < end && (job->stop == NULL || *job->stop == 0); c++) {
            const uint32_t first = c * CHUNK, rows = job->n - first < CHUNK ? (uint32_t) (job->n - first) : CHUNK;

            slm_kernels_get()->matmul(job->x + (size_t) first * job->n_dims, job->n_dims, 1, job->across, job->m, rows, job->m,
                                      (uint32_t) job->n_dims, sums, job->m, 0);
            for (uint32_t r = 0; r < rows; r++)
                for (uint32_t j = 0; j < job->m; j++) {
                    const float value = sums[r * job->m + j];
                    uint32_t *p = place + (size_t) j * job->k;
                    float *v = product + (size_t) j * job->k;
                    if (value < v[job->k - 1] || !better(value, first + r, v[job->k - 1], p[job->k - 1]) || !isfinite(value))
                        continue;
                    insert(p, v, job->k, first + r, value);
                }
        }
    }
}

static slm_status nearest(nearest_job *job, int n_threads, uint32_t *place, float *product, slm_error *err)
{
    const size_t lists = (size_t) job->m * job->k;

    for (size_t i = 0; i < (size_t) n_threads * lists; i++) {
        job->place[i] = UINT32_MAX;
        job->product[i] = -INFINITY;
    }
    slm_parallel(n_threads, nearest_of_chunks, job);
    if (job->stop != NULL && *job->stop != 0)
        return slm_fail(err, SLM_CANCELLED, "cancelled");
    for (size_t i = 0; i < lists; i++) {
        place[i] = job->place[i];
        product[i] = job->product[i];
    }
    for (size_t i = lists; i < (size_t) n_threads * lists; i++) {
        const size_t list = i % lists / job->k * job->k;
        if (job->place[i] != UINT32_MAX &&
            better(job->product[i], job->place[i], product[list + job->k - 1], place[list + job->k - 1]))
            insert(place + list, product + list, job->k, job->place[i], job->product[i]);
    }
    return SLM_OK;
}

slm_status slm_vectors_nearest(const float *q, uint32_t m, const float *x, size_t n, size_t n_dims, uint32_t k, int n_threads,
                               const volatile int *stop, uint32_t *place, float *product, slm_error *err)
{
    const size_t threads = n_threads < 1 ? 1 : n_threads > MOST_THREADS ? MOST_THREADS : (size_t) n_threads;
    float *across = malloc(sizeof *across * n_dims * (m + 1));
    nearest_job job = {across, x, n, n_dims, m, k, stop, NULL, NULL, NULL};
    slm_status status = SLM_OK;

    job.place = malloc(sizeof *job.place * threads * m * k + 1);
    job.product = malloc(sizeof *job.product * threads * m * k + 1);
    job.sums = malloc(sizeof *job.sums * threads * CHUNK * m + 1);
    if (across == NULL || job.place == NULL || job.product == NULL || job.sums == NULL) {
        status = slm_fail(err, SLM_NOMEM, "out of memory");
    } else if (m > 0 && k > 0) {
        for (uint32_t j = 0; j < m; j++)
            for (size_t d = 0; d < n_dims; d++)
                across[d * m + j] = q[(size_t) j * n_dims + d];
        status = nearest(&job, (int) threads, place, product, err);
    }
    free(across);
    free(job.place);
    free(job.product);
    free(job.sums);
    return status;
}
