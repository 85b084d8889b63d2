/*
 * clusters.c: points that belong together (clusters.h): k-means from centres by k-means++ with a fixed seed, so the same points in the same
 * order make the same clusters.
 */
#include "pg/functions/clusters.h"

#include "miscadmin.h"

#include "engine/metrics/metrics.h"
#include "engine/slm.h"
#include "pg/base/errors.h"
#include "pg/models/loading.h"

static double next_random(uint64 *state) /* splitmix64, in [0, 1) */
{
    uint64 z = *state += UINT64CONST(0x9E3779B97F4A7C15);

    z = (z ^ z >> 30) * UINT64CONST(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64CONST(0x94D049BB133111EB);
    return (double) ((z ^ z >> 31) >> 11) / 9007199254740992.0;
}

/* First centres, each a point, by lot in proportion to its squared distance from those before (k-means++); returns how many there are:
 * fewer where points are equal. */
static uint32 first_centres(const double *x, int64 n, Size dims, uint32 k, uint64 state, double *centres)
{
    double *distance = palloc_extended(sizeof(double) * (Size) n, MCXT_ALLOC_HUGE);
    uint32 found = 0;

    for (int64 i = 0; i < n; i++)
        distance[i] = 1;
    while (found < k) {
        double sum = 0, at;
        int64 pick = -1;

        for (int64 i = 0; i < n; i++)
            sum += distance[i];
        if (!(sum > 1e-12))
            break;
        at = next_random(&state) * sum;
        for (int64 i = 0; i < n; i++) {
            if (distance[i] <= 0)
                continue;
            pick = i;
            at -= distance[i];
            if (at < 0)
                break;
        }
        memcpy(centres + (Size) found * dims, x + (Size) pick * dims, sizeof(double) * dims);
        for (int64 i = 0; i < n; i++) {
            double d = slm_vector_squares_double(x + (Size) i * dims, x + (Size) pick * dims, dims);

            distance[i] = found == 0 ? d : Min(distance[i], d);
        }
        found++;
        CHECK_FOR_INTERRUPTS();
    }
    pfree(distance);
    return found;
}

/* From one choice of centres; *inertia: the sum of squared distances. */
static uint32 clusters(const double *x, int64 n, Size dims, uint32 k, uint32 iterations, uint64 seed, double *centres, int32 *cluster,
                       double *inertia)
{
    uint32 found = first_centres(x, n, dims, k, seed, centres);
    slm_status status;
    slm_error err;

    for (;;) {
        status = slm_metrics_kmeans(x, (size_t) n, dims, centres, found, iterations, SLM_STOP, cluster, inertia, NULL, &err);
        if (status != SLM_CANCELLED)
            break;
        slm_pg_loading_interrupted();
    }
    if (status != SLM_OK)
        slm_pg_error(&err, NULL);
    return found;
}

uint32 slm_pg_clusters(const double *x, int64 n, Size dims, uint32 k, uint32 iterations, uint32 starts, double *centres, int32 *cluster)
{
    double best, inertia, *other_centres;
    int32 *other;
    uint32 found = clusters(x, n, dims, k, iterations, 1, centres, cluster, &best);

    if (starts < 2)
        return found;
    other_centres = palloc_extended(sizeof(double) * (Size) k * dims, MCXT_ALLOC_HUGE);
    other = palloc_extended(sizeof(int32) * (Size) n, MCXT_ALLOC_HUGE);
    for (uint32 seed = 2; seed <= starts; seed++) {
        uint32 others = clusters(x, n, dims, k, iterations, seed, other_centres, other, &inertia);

        if (inertia >= best)
            continue;
        best = inertia;
        found = others;
        memcpy(centres, other_centres, sizeof(double) * (Size) found * dims);
        memcpy(cluster, other, sizeof(int32) * (Size) n);
    }
    pfree(other_centres);
    pfree(other);
    return found;
}

void slm_pg_nearest_points(const double *x, int64 n, Size dims, const double *centres, uint32 k, const int32 *cluster, uint32 most,
                           int64 *nearest)
{
    double *distance = palloc_extended(sizeof(double) * (Size) Max(k, 1) * most, MCXT_ALLOC_HUGE);

    for (Size i = 0; i < (Size) k * most; i++)
        nearest[i] = -1;
    for (int64 i = 0; i < n; i++) {
        Size list = (Size) cluster[i] * most;
        double d = slm_vector_squares_double(x + (Size) i * dims, centres + (Size) cluster[i] * dims, dims);
        int32 at = (int32) most - 1;

        if (nearest[list + (Size) at] >= 0 && d >= distance[list + (Size) at])
            continue;
        for (; at > 0 && (nearest[list + (Size) at - 1] < 0 || d < distance[list + (Size) at - 1]); at--) {
            nearest[list + (Size) at] = nearest[list + (Size) at - 1];
            distance[list + (Size) at] = distance[list + (Size) at - 1];
        }
        nearest[list + (Size) at] = i;
        distance[list + (Size) at] = d;
    }
    pfree(distance);
}

int32 slm_pg_cluster_of(const double *point, Size dims, const double *centres, uint32 k)
{
    double least = 0;
    int32 best = 0;

    for (uint32 i = 0; i < k; i++) {
        double d = slm_vector_squares_double(point, centres + (Size) i * dims, dims);

        if (i == 0 || d < least) {
            least = d;
            best = (int32) i;
        }
    }
    return best;
}
