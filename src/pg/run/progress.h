/*
 * Progress of this backend's statement, shown in slm.progress.  Does nothing unless slm_pg is preloaded.
 *
 *   a task (slm_update, a job) ─┐
 *   batch nodes of a statement ─┼─► rows done, of how many     the outermost of them decides; what runs inside it adds tokens only
 *   single calls ───────────────┘
 *   every pass of the engine ─────► tokens
 *
 * A use ends with slm_pg_progress_leave, or with the memory context that it was entered in: errors need no further care.
 */
#ifndef SLM_PG_BATCH_PROGRESS_H
#define SLM_PG_BATCH_PROGRESS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "lib/ilist.h"

#include "pg/base/shmem.h"

/* Something that counts rows. Zeroed before it is entered; lives as long as the context that it is entered in. */
typedef struct SlmProgressUse {
    dlist_node node;
    bool entered;
    const void *statement; /* uses of one statement are added up */
    TimestampTz started;   /* the top-level statement that it runs in: a cursor's changes */
    uint64 rows;
    double total; /* < 0: not known */
    bool exact;   /* total is known, not estimated */
    MemoryContextCallback callback;
} SlmProgressUse;

/* Begins to count. statement: the EState of a node; NULL for a task, which stands for itself.  total: how many rows there
 * will be, exact or an estimate; < 0: unknown. */
void slm_pg_progress_enter(SlmProgressUse *use, MemoryContext context, const void *statement, double total, bool exact);
/* So many more rows are done. */
void slm_pg_progress_rows(SlmProgressUse *use, uint64 rows);
/* Ends; its rows stay counted while the top-level statement lasts. */
void slm_pg_progress_leave(SlmProgressUse *use);

/* Requests that run in this backend, whoever waits for them: while there are any, the statement is shown. */
void slm_pg_progress_requests(int n_running);
/* Is this a worker of jobs, whom nobody waits for? */
bool slm_pg_in_background(void);
/* Where it stands how many other processes have requests for which somebody waits; NULL: the library was not preloaded. */
const volatile uint32 *slm_pg_waited_for(void);
/* A call outside of batch nodes has its answer. */
void slm_pg_progress_call(void);
/* Tokens that the engine computed or wrote since the last call. */
void slm_pg_progress_tokens(uint64 tokens);

extern const SlmShmemPart slm_pg_progress_part, slm_pg_waited_part;

#endif
