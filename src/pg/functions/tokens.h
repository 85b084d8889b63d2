/*
 * tokens.h: what tokens.c offers to other files: the perplexity of a text.
 */
#ifndef SLM_PG_TOKENS_H
#define SLM_PG_TOKENS_H

#include "postgres.h"

#include "pg/run/opened.h"

/* As slm_perplexity(); *isnull when nothing was predicted. */
double slm_pg_perplexity_of(SlmOpenModel *entry, const text *input, bool *isnull);

#endif
