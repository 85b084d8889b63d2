/*
 * Why calls are not batched, for EXPLAIN (refusal.c).
 */
#ifndef SLM_PG_BATCH_REFUSAL_H
#define SLM_PG_BATCH_REFUSAL_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "pg/batch/batch.h"

/* A call that is computed row by row. */
typedef struct SlmBatchMissed {
    const char *call, *where, *why;
} SlmBatchMissed;

/* Where refusals are noted while a statement is planned for EXPLAIN; NULL otherwise. */
extern List **slm_pg_batch_refusals;
/* Notes why no node was put above or below a plan. */
void slm_pg_batch_refuse(const Plan *plan, const char *format, ...) pg_attribute_printf(2, 3);
/* What the traits of a plan are about, in words. */
const char *slm_pg_batch_wary_name(const SlmBatchTraits *traits);
const char *slm_pg_batch_volatile_name(const SlmBatchTraits *traits);

/* The calls of a finished plan that no node computes: List of SlmBatchMissed, each once. */
List *slm_pg_batch_missed(PlannedStmt *stmt);

#endif
