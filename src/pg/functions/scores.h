/*
 * scores.h: labels with probabilities as rows.
 */
#ifndef SLM_PG_SCORES_H
#define SLM_PG_SCORES_H

#include "postgres.h"

#include "nodes/execnodes.h"

/* Adds rows (label, probability) to a materialized result, best first, equal ones in the order given, those below threshold left out.
 * labels are UTF-8, [n]. */
void slm_pg_put_scores(ReturnSetInfo *rsinfo, const char *const *labels, const double *scores, int n, double threshold);

#endif
