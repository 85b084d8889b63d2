/*
 * A query that a user wrote as text and that gives rows to learn from or to measure by.  It reads: what is no SELECT, or writes in a part
 * of it, is refused when it is opened, and rows are computed in a read-only transaction, so that a function that it calls cannot write
 * either.  A caller connects to SPI, opens, fetches until nothing comes, closes; its own statements in between may write.
 */
#ifndef SLM_PG_USER_QUERY_H
#define SLM_PG_USER_QUERY_H

#include "postgres.h"

#include "executor/spi.h"

/* ERROR where a query is one word, most of the time the name of a table. */
void slm_pg_refuse_name(const char *query, const char *example);
/* A cursor on a query; ERROR, "the query of <what> must be ...", with an example, unless it is one SELECT that writes nothing. */
Portal slm_pg_open_query(const char *query, const char *what, const char *example);
/* The same on a plan whose text the extension composed around a query that was looked at. */
Portal slm_pg_open_query_plan(SPIPlanPtr plan);
/* SPI_cursor_fetch of the next rows: SPI_processed, SPI_tuptable. */
void slm_pg_fetch_query(Portal portal, long n);

#endif
