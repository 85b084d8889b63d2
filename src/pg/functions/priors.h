/*
 * priors.h: log probabilities that do not depend on a row, kept in this backend by everything that made them; least recently used go first.
 */
#ifndef SLM_PG_PRIORS_H
#define SLM_PG_PRIORS_H

#include "postgres.h"

#include "lib/stringinfo.h"

#include "pg/run/opened.h"

/* The beginning of a key: the role, because no role is to learn what another one asked for from what it need not compute, and the model. */
StringInfo slm_pg_priors_key(SlmOpenModel *entry);
void slm_pg_priors_key_add(StringInfo key, const char *s);
/* The numbers kept under a key, or NULL; a copy in CurrentMemoryContext. */
const double *slm_pg_find_priors(const StringInfoData *key, int n);
void slm_pg_keep_priors(const StringInfoData *key, const double *numbers, int n);

#endif
