/*
 * One SQL expression that a user wrote as text: the value of a job, of a trigger, of slm_update.
 *
 * Such a text is parsed alone and never becomes part of another statement's text: a statement of the extension names the column
 * `slm_expression` where the value belongs, and the analysed expression takes its place.  So nothing in the text, whatever its quotes,
 * parentheses and comments, changes the statement around it.
 *
 *   slm_pg_parse_expression ──► slm_pg_prepare_with("UPDATE t SET c = slm_expression WHERE ...") ──► slm_pg_execute_with
 *
 * Rights: analysing looks names up under the current search_path and planning runs functions that say that they are immutable, both as
 * the current role.  Who acts for another becomes that role first (as_owner.h).
 */
#ifndef SLM_PG_ONE_EXPRESSION_H
#define SLM_PG_ONE_EXPRESSION_H

#include "postgres.h"

#include "executor/spi.h"
#include "nodes/parsenodes.h"

typedef struct SlmExpression SlmExpression;

/* The parsed expression in CurrentMemoryContext, where it must live as long as any plan that is made with it.  ERROR (42601, or what the
 * parser says) unless the text alone is one expression: one value, no alias, no FROM, WHERE or other clause, no parameter, no `*`, no
 * second statement.  Knows nothing of names and types. */
SlmExpression *slm_pg_parse_expression(const char *sql);

/* Its value is brought to a column's type, as an INSERT would; `loose`: where no cast of assignment fits, by way of its text, as PL/pgSQL
 * does.  For plans that are prepared after this. */
void slm_pg_expression_as(SlmExpression *expression, const char *column, Oid type, int32 typmod, bool loose);

/* A second text, parsed likewise, takes the place of the column reference slm_condition in the same statement, as a condition. */
void slm_pg_expression_where(SlmExpression *expression, SlmExpression *condition);

/* The statement may have a parallel plan: it is run to its end and writes nothing.  For plans that are prepared after this. */
void slm_pg_expression_parallel(SlmExpression *expression);

/* SPI_prepare of a statement with parameters $1.. of the given types, in which the column reference slm_expression stands for the
 * expression; ERROR where it is an aggregate, window function or set of rows.  Kept with SPI_keepplan it is analysed anew when what it
 * depends on has changed.  The expression serves one statement at a time. */
SPIPlanPtr slm_pg_prepare_with(const char *statement, SlmExpression *expression, int n_types, const Oid *types);
/* SPI_execute_plan of such a plan; nulls as there. */
int slm_pg_execute_with(SPIPlanPtr plan, const SlmExpression *expression, const Datum *values, const char *nulls, bool read_only,
                        long count);
/* The analysed statement of a plan, for looking at; belongs to the plan. */
const Query *slm_pg_analysed(SPIPlanPtr plan);
/* Is the plan's one statement other than a SELECT, or does a part of it write? */
bool slm_pg_writes(SPIPlanPtr plan);

#endif
