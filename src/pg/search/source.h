/*
 * source.h: a table or view that is searched (source.c).
 */
#ifndef SLM_PG_SEARCH_SOURCE_H
#define SLM_PG_SEARCH_SOURCE_H

#include "postgres.h"

#include "fmgr.h"

#include "pg/base/as_owner.h"
#include "pg/base/one_expression.h"

typedef struct SlmSearched {
    Oid relation;
    const char *name; /* quoted, with its schema */
    const char *functions; /* the schema of the extension's own, quoted */
    const char *key;  /* what tells a row, in a select list where the table is called t */
    bool key_has_order;
    SlmExpression *condition;
    bool as_owner;
    SlmAs saved;
} SlmSearched;

/* Opens what is to be searched: argument `relation` is the table, `key` a column that tells its rows (NULL: the primary key), `condition`
 * an SQL condition on its rows (NULL: all).  SPI is connected.  Until slm_pg_searched_end it is read as its owner where the caller could
 * become him: then no view, policy or condition of another role runs with the caller's rights; else with the rights of the caller. */
void slm_pg_searched_begin(SlmSearched *s, FunctionCallInfo fcinfo, int relation, int key, int condition);
void slm_pg_searched_end(SlmSearched *s);

/* A column of it, quoted, as t.column; ERROR where there is none. */
const char *slm_pg_searched_column(const SlmSearched *s, const char *name, Oid *type);
/* "the cosine of a row's vector with parameter $1, a real[]", to be put into a select list, and what to sort by, nearest first. */
typedef struct SlmNearness {
    const char *similarity, *order;
} SlmNearness;
SlmNearness slm_pg_searched_nearness(const SlmSearched *s, const char *column);
/* Runs the statement, in which slm_expression is the condition, with the vector as $1; into SPI_tuptable. */
void slm_pg_searched_run(const SlmSearched *s, const char *statement, Datum vector);

#endif
