/*
 * names.h: what tells the texts of a cluster from the others: words, and pairs of words (names.c).
 */
#ifndef SLM_PG_SEARCH_NAMES_H
#define SLM_PG_SEARCH_NAMES_H

#include "postgres.h"

typedef struct SlmNames SlmNames;

/* For k clusters; everything lives in CurrentMemoryContext. */
SlmNames *slm_pg_names(uint32 k);
/* Adds a text, in the server's encoding, to a cluster. */
void slm_pg_names_add(SlmNames *names, const char *text, uint32 cluster);
/* The name of a cluster, once all texts are there: its most distinctive words; NULL where it has none. */
char *slm_pg_name_of(SlmNames *names, uint32 cluster);

#endif
