/*
 * What an expression needs to run, found before it runs: see check.c.
 */
#ifndef SLM_PG_JOBS_CHECK_H
#define SLM_PG_JOBS_CHECK_H

#include "postgres.h"

#include "nodes/bitmapset.h"
#include "nodes/parsenodes.h"

/* ERROR unless the current role, under the current settings, may use every model and classifier that calls of the analysed query name, or
 * leave to a default. */
void slm_pg_check_models(const Query *query);
/* The same for an expression over a table, parsed alone under the current search_path; needs SPI. */
void slm_pg_check_expression_models(Oid table, const char *expression);

/* ERROR where Citus has distributed the table (distributed.c). */
void slm_pg_refuse_distributed(Oid table, const char *name);

/* The attribute numbers of a table that an analysed query reads, wherever in it; 0 stands for the row as a whole. */
Bitmapset *slm_pg_columns_read(const Query *query, Oid table);

#endif
