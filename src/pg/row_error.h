/*
 * row_error.h: errors of the input, one row's fault alone: raised, or NULL with a count (slm.on_error, argument on_error).
 */
#ifndef SLM_PG_ROW_ERROR_H
#define SLM_PG_ROW_ERROR_H

#include "postgres.h"

#include "fmgr.h"

typedef enum SlmOnError { SLM_ON_ERROR_ERROR, SLM_ON_ERROR_NULL } SlmOnError;

/* What the call says in its last argument, on_error, or else the setting. */
SlmOnError slm_pg_on_error(FunctionCallInfo fcinfo);
/* The setting slm.on_error. Called once from _PG_init. */
void slm_pg_row_error_init(void);

#endif
