/*
 * slm_trigger, for who makes one: see trigger.c.
 */
#ifndef SLM_PG_JOBS_TRIGGER_H
#define SLM_PG_JOBS_TRIGGER_H

#include "postgres.h"

#include "executor/spi.h"
#include "nodes/bitmapset.h"
#include "nodes/parsenodes.h"
#include "utils/rel.h"

#include "pg/base/one_expression.h"

/* Prepares the expression over one row of the table ($1) as the value of its column `target` under the current search_path; needs SPI.
 * loose: where no cast of assignment fits, by way of the text. */
SPIPlanPtr slm_pg_trigger_prepare(SlmExpression *expression, Relation table, AttrNumber target, bool loose);
/* The attribute numbers that such a plan's query reads; NULL when it reads the row as a whole.  Never empty: where it reads none, a
 * number that no column has. */
Bitmapset *slm_pg_trigger_inputs(const Query *query);

#endif
