/*
 * asked.h: for whom, and by what, an answer out of a registry was found.
 *
 * An answer (which version is active, may this role use it) may be remembered with it and holds while slm_pg_asked_by gives equal bytes.
 * Snapshots are compared by what they can see; the end of a transaction, or the abort of a part of it, may change that without a trace
 * and makes all answers old.
 */
#ifndef SLM_PG_ASKED_H
#define SLM_PG_ASKED_H

#include "postgres.h"

#include "utils/snapshot.h"

/* To be compared by memcmp; all zero is nobody's. */
typedef struct SlmAsked {
    uint64 epoch, in_progress;
    TransactionId xmin, xmax;
    CommandId command;
    Oid user;
} SlmAsked;

SlmAsked slm_pg_asked_by(Snapshot snapshot);

#endif
