/*
 * row_error.h: errors of the input, one row's fault alone: raised, or NULL and a count (slm.on_error, argument on_error).
 *
 * An error is of the input when the row's own text is at fault: the engine says so (slm_error.cause), or slm_pg_input_error() stands in an
 * ereport.  Whatever else is raised ends the statement in any case: errors of the server, of privileges, models and other arguments.
 *
 *   too long    54000   more tokens than the model reads, or than slm.kv_cache_memory holds
 *   empty       2200F   nothing to work on, where that is an error
 *   invalid     22000, 22021, 22P05, 22032   bytes that are no text, numbers that are none, messages that are no conversation
 *   no answer   22000   nothing that the model may say is allowed
 */
#ifndef SLM_PG_ROW_ERROR_H
#define SLM_PG_ROW_ERROR_H

#include "postgres.h"

#include "fmgr.h"

#include "engine/slm.h"

typedef enum SlmFault { SLM_FAULT_NONE, SLM_FAULT_LONG, SLM_FAULT_EMPTY, SLM_FAULT_INVALID, SLM_FAULT_NO_ANSWER } SlmFault;
#define SLM_N_FAULTS 5

typedef enum SlmOnError { SLM_ON_ERROR_DEFAULT = -1, SLM_ON_ERROR_ERROR, SLM_ON_ERROR_NULL } SlmOnError;

/* What the call says in its last argument, on_error; SLM_ON_ERROR_DEFAULT where it says nothing. */
SlmOnError slm_pg_on_error_arg(FunctionCallInfo fcinfo);
/* Does an error of the input give NULL, by the argument or the setting? */
bool slm_pg_gives_null(FunctionCallInfo fcinfo);

/* In the list of an ereport(ERROR, ...): the error is one of the input. Returns 0. */
int slm_pg_input_error(SlmFault fault);
SlmFault slm_pg_fault_of(slm_cause cause);
/* As slm_pg_utf8_view and slm_pg_utf8_from_text for the text that a row brings: bytes that are no text are an error of the input. */
const char *slm_pg_input_view(const text *t, size_t *length);
const char *slm_pg_input_utf8(const text *t, size_t *length);

/* Runs body(arg). An error of the input ends it: its kind is returned and its words are put into *message (CurrentMemoryContext). */
SlmFault slm_pg_try_row(void (*body)(void *arg), void *arg, char **message);
/* A whole function: an error of the input becomes NULL, or no rows of a materialized set, and is counted, where the call wants that. */
Datum slm_pg_guarded(PGFunction function, FunctionCallInfo fcinfo);

/* The setting slm.on_error. Called once from _PG_init. */
void slm_pg_row_error_init(void);

#endif
