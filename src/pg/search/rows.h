/*
 * rows.h: the rows of a query that texts are looked for in, and the nearest of them (rows.c).
 */
#ifndef SLM_PG_SEARCH_ROWS_H
#define SLM_PG_SEARCH_ROWS_H

#include "postgres.h"

#include "fmgr.h"

#include "pg/functions/train.h"

/* Reads the rows of a query, read-only and with the caller's rights: a text, or its embedding and maybe the text; then maybe a key.  Their
 * vectors have length 1.  what: the function, for messages. While a loading is shown. */
SlmTrainRows *slm_pg_search_rows(const SlmWorkKind *kind, const char *what, SlmOpenModel *entry, const char *query);
/* The embedding of a question, [n_embd] of length 1. */
const float *slm_pg_search_question(const SlmWorkKind *kind, SlmOpenModel *entry, const text *question);
/* A query argument that must be given; ERROR with the example. */
const char *slm_pg_search_query(FunctionCallInfo fcinfo, int i, const char *name, const char *example);

/* slm_vectors_nearest on the session's threads; answers interrupts. */
void slm_pg_nearest(const float *q, uint32 m, const float *x, int64 n, Size dims, uint32 k, uint32 *place, float *product);

/* Runs `body` while slm.progress shows a function at work. */
void slm_pg_search_shown(const char *name, void (*body)(void *arg), void *arg);

#endif
