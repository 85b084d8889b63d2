/*
 * failure.h: whose fault an error is that a row's computation has met, for work that goes on with other rows (jobs, slm_update).
 *
 *   ROW      of the row's data, and the same each time: data exceptions (22), cardinality (21), constraints (23, 27, 44), limits of the
 *            program (54), what is not supported (0A), errors raised by functions and triggers (P0, 09, 38, 39)
 *   PASSING  somebody was in the way: serialization and deadlock (40), locks (55P03), objects in use (55006)
 *   WHOLE    of what the expression needs, not of a row: names and privileges (42, 3F, 3D, 28), models that are missing or not set
 *            (42704, 55000), files and disks (58, 53100), read-only transactions (25).  Where other rows of the same batch have been
 *            computed it was a row all the same
 *   UNKNOWN  all others: memory (53200), what no rule foresees (XX)
 */
#ifndef SLM_PG_FAILURE_H
#define SLM_PG_FAILURE_H

#include "postgres.h"

typedef enum SlmFailure { SLM_FAILURE_ROW, SLM_FAILURE_PASSING, SLM_FAILURE_WHOLE, SLM_FAILURE_UNKNOWN } SlmFailure;

/* By SQLSTATE. */
SlmFailure slm_pg_failure(int sqlstate);
/* Not to be caught at all: a cancel, or the end of the session. */
bool slm_pg_ends_work(int sqlstate);
/* "22012: division by zero". */
char *slm_pg_failure_text(const ErrorData *error);

#endif
