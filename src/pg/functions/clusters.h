/*
 * clusters.h: points that belong together (clusters.c).
 */
#ifndef SLM_PG_CLUSTERS_H
#define SLM_PG_CLUSTERS_H

#include "postgres.h"

/* k-means over points x [n, dims] from k centres that k-means++ chooses, always the same: centres [k, dims], cluster [n]; the best of so
 * many starts.  Returns how many clusters there are: fewer where points are equal.  To be called while a loading is shown (loading.h). */
uint32 slm_pg_clusters(const double *x, int64 n, Size dims, uint32 k, uint32 iterations, uint32 starts, double *centres, int32 *cluster);
/* The `most` points of each cluster that are nearest to its centre, nearest first: nearest [k, most], -1 where it has fewer. */
void slm_pg_nearest_points(const double *x, int64 n, Size dims, const double *centres, uint32 k, const int32 *cluster, uint32 most,
                           int64 *nearest);
/* The nearest of k centres. */
int32 slm_pg_cluster_of(const double *point, Size dims, const double *centres, uint32 k);

#endif
