/*
 * backend.h: the door to whatever runs requests: start, poll, piece, result, cancel, step.
 *
 * A run is a request under way.  It lives as long as the memory context that it was made in, and an error of the statement ends it earlier.
 * Its result is a copy of the run's own, so nothing that a caller holds belongs to an engine.  runs.c keeps runs; requests run in
 * sessions of this backend (local.c) or in the engine process (shared.c).
 */
#ifndef SLM_PG_BACKEND_H
#define SLM_PG_BACKEND_H

#include "postgres.h"

#include "engine/slm.h"
#include "pg/run/opened.h"

typedef struct SlmRun SlmRun;

/* Submits a request; raises its errors. */
SlmRun *slm_pg_start(SlmOpenModel *opened, const slm_request *request);
/* The same in two steps: a run can be started again when it has been cancelled, which takes no more memory.  if_it_fits: false where the
 * row's text is too long, instead of an error. */
SlmRun *slm_pg_new_run(void);
bool slm_pg_start_run(SlmRun *run, SlmOpenModel *opened, const slm_request *request, bool if_it_fits);

/* Does it wait for its result? */
bool slm_pg_under_way(const SlmRun *run);
/* The result, whose status may be an error's; NULL while it is under way, or after the run has ended without one. */
const slm_result *slm_pg_poll(const SlmRun *run);
/* Of a request with stream set: the next bytes that are final; false when there are none yet. Good until the next step. */
bool slm_pg_piece(SlmRun *run, const char **text, size_t *length);
/* Advances all requests of the run's session by one pass; answers interrupts. */
void slm_pg_step(SlmRun *run);
/* Advances every session that has a request under way. */
void slm_pg_step_all(void);
/* Steps until the request is finished and returns its result; raises its error. */
const slm_result *slm_pg_wait(SlmRun *run);
/* Ends a request that is under way, or forgets its result. */
void slm_pg_cancel(SlmRun *run);

/* Tokens of a request's prompt, which is not run. */
size_t slm_pg_prompt_tokens(SlmOpenModel *opened, const slm_request *request);

/* ---- memory (memory.c) */
/* Bytes that the keys and values of a model hold in this backend; false while it has no session. */
bool slm_pg_kv_bytes(const SlmOpenModel *opened, uint64 *bytes);
/* Gives back what the sessions hold and do not need, but about keep_bytes of each kind and session; returns the bytes. */
size_t slm_pg_trim_sessions(size_t keep_bytes);
/* Frees the sessions without requests, whose next call makes them anew; returns how many are left. */
int slm_pg_free_sessions(void);
/* Brings the sessions' limits down to what is set now. */
void slm_pg_lower_limits(void);
void slm_pg_sessions_init(void);

#endif
