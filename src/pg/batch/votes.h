/*
 * votes.h: slm.optimize = 'calls': of texts that are near each other some are asked, and vote for the others (votes.c).
 */
#ifndef SLM_PG_BATCH_VOTES_H
#define SLM_PG_BATCH_VOTES_H

#include "postgres.h"

#include "commands/explain.h"

#include "pg/batch/state.h"

/* For a node that begins; NULL: it computes every call. */
BatchVotes *slm_pg_votes_begin(BatchState *state);
/* In the place of the child's next row, once its block has been voted on; NULL at the end. */
BatchRow *slm_pg_votes_next(BatchState *state);
/* What is known of the call whose key is in state->key; *value lives until the next block. */
bool slm_pg_votes_find(BatchState *state, const BatchCall *call, Datum *value, bool *isnull);
/* The account that calls without a request of their own belong to. */
SlmAccount *slm_pg_votes_account(const BatchVotes *votes);
void slm_pg_votes_rescan(BatchState *state);
void slm_pg_votes_explain(BatchState *state, ExplainState *es);
/* The settings. */
void slm_pg_votes_init(void);

#endif
