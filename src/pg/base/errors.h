/*
 * errors.h: the engine's errors and the system's as ERRORs, and the answer to an interrupt (errors.c).
 *
 * Invariant of every call of the engine: it is made with the stop flag SLM_STOP and returns before anything can longjmp; when it returned
 * SLM_CANCELLED, slm_pg_interrupted() lets the server act on the interrupt and the call is made again.
 */
#ifndef SLM_PG_ERRORS_H
#define SLM_PG_ERRORS_H

#include "postgres.h"

#include "miscadmin.h"

#include "engine/slm.h"
#include "pg/base/compat.h"

/* The engine process has died of the request, twice. */
#define SLM_ERRCODE_POISON MAKE_SQLSTATE('S', 'L', 'M', '0', '1')

#define SLM_STOP ((const volatile int *) &InterruptPending)

/* Raises err as an ERROR; what (in the server's encoding, may be NULL) is put before the message. */
pg_noreturn void slm_pg_error(const slm_error *err, const char *what);
int slm_pg_sqlstate(const slm_error *err);
/* The same for what the system refused: what ("could not open \"x\""), its reason, and a hint that fits the reason. */
pg_noreturn void slm_pg_file_error(int os_error, const char *what);
/* After SLM_CANCELLED: lets the server answer the interrupt, which usually does not return. */
void slm_pg_interrupted(void);

#endif
