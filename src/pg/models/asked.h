/*
 * asked.h: for whom, and by what, an answer out of a registry was found, and what a backend keeps of the rows that it has opened
 * (asked.c).
 *
 * An answer (which version is active, may this role use it) may be remembered with it and holds while slm_pg_asked_by gives equal bytes.
 * Snapshots are compared by what they can see; the end of a transaction, or the abort of a part of it, may change that without a trace
 * and makes all answers old.
 */
#ifndef SLM_PG_ASKED_H
#define SLM_PG_ASKED_H

#include "postgres.h"

#include "access/htup.h"
#include "lib/ilist.h"
#include "storage/itemptr.h"
#include "utils/snapshot.h"

#include "pg/models/catalog.h"

/* To be compared by memcmp; all zero is nobody's. */
typedef struct SlmAsked {
    uint64 epoch, in_progress;
    TransactionId xmin, xmax;
    CommandId command;
    Oid user;
} SlmAsked;

SlmAsked slm_pg_asked_by(Snapshot snapshot);

/* ---- rows that a backend has opened, kept by kind in a list, the most recently used first */

/* First member of what is kept of a row.  Held while `users` is not zero.  It belongs to the row by its place and its writer, so a restored
 * or repaired row is never confused with the one before. */
typedef struct SlmKept {
    dlist_node node;
    char name[SLM_NAME_MAX + 1];
    ItemPointerData place;
    TransactionId writer;
    SlmAsked asked; /* when it was the answer last */
    int users;
} SlmKept;

/* The one that was the answer for a name; NULL. */
SlmKept *slm_pg_kept_answer(dlist_head *kept, const char *name, const SlmAsked *asked);
/* The one of a row; NULL. */
SlmKept *slm_pg_kept_row(dlist_head *kept, const char *name, HeapTuple row);
/* Before another one of the name: closes those of the name, and the oldest of the others, that nobody uses. */
void slm_pg_kept_room(dlist_head *kept, const char *name, void (*close)(SlmKept *));
/* Adds one, all zeros so far. */
void slm_pg_keep(dlist_head *kept, SlmKept *new, const char *name, HeapTuple row);
/* In use until CurrentMemoryContext goes. */
void slm_pg_use_kept(dlist_head *kept, SlmKept *it);

#endif
