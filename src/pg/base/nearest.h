/*
 * nearest.h: "did you mean": the known name that an unknown one resembles most.
 *
 *   SlmNearest nearest;
 *   slm_pg_nearest_begin(&nearest, wanted);
 *   for each name that the role may see: slm_pg_nearest_try(&nearest, name);
 *   errhint("%s...", slm_pg_did_you_mean(&nearest))
 */
#ifndef SLM_PG_NEAREST_H
#define SLM_PG_NEAREST_H

#include "postgres.h"

typedef struct SlmNearest {
    const char *wanted;
    char best[NAMEDATALEN];
    int distance; /* of best; more than any allowed while there is none */
} SlmNearest;

/* wanted must outlive it. */
void slm_pg_nearest_begin(SlmNearest *nearest, const char *wanted);
void slm_pg_nearest_try(SlmNearest *nearest, const char *name);
/* `Did you mean "name"? `, or an empty string: to be put before a hint. */
const char *slm_pg_did_you_mean(const SlmNearest *nearest);

#endif
