/*
 * ledger.h: what was computed, by role, database, application, function, model and day (ledger.c).
 */
#ifndef SLM_PG_LEDGER_H
#define SLM_PG_LEDGER_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"

#include "engine/slm.h"
#include "pg/base/shmem.h"

/* Who computed what, when: every byte counts, so a key begins as zeros. */
typedef struct SlmLedgerKey {
    Oid role, database; /* InvalidOid: of several, when rows were folded */
    int32 day;          /* since 1 January 2000, UTC */
    int32 unused;
    char application[NAMEDATALEN];
    char function[NAMEDATALEN];  /* of SQL */
    char model[2 * NAMEDATALEN]; /* name, or name+adapter; empty: nothing was asked of one */
} SlmLedgerKey;

/* Figures are uint64 without holes, so that they can be read one by one. */
typedef struct SlmLedgerFigures {
    uint64 calls;          /* of the function, for a row */
    uint64 distinct_calls; /* of them, those that were computed: no equal one of the statement had been */
    slm_usage usage;
} SlmLedgerFigures;
#define SLM_LEDGER_N_FIGURES (sizeof(SlmLedgerFigures) / sizeof(uint64))

/* In the place of function and model: rows that were folded to make room. */
#define SLM_LEDGER_OTHER "(other)"

/* The name of the i-th figure. */
const char *slm_pg_ledger_figure(size_t i);
static inline uint64 slm_pg_ledger_tokens(const SlmLedgerFigures *f)
{
    return slm_usage_tokens(&f->usage);
}

extern const SlmShmemPart slm_pg_ledger_part;
/* Is there one for the whole cluster, as the library was preloaded? Else each session has its own. */
bool slm_pg_ledger_shared(void);
int32 slm_pg_ledger_today(void);

/* Adds figures; raises no error, and may be called while a transaction ends. */
void slm_pg_ledger_add(const SlmLedgerKey *key, const SlmLedgerFigures *figures);
/* Calls visit for each row under a shared lock: it must not raise errors, allocate, or take locks. */
typedef void (*SlmLedgerVisit)(void *arg, const SlmLedgerKey *key, const SlmLedgerFigures *figures);
void slm_pg_ledger_each(SlmLedgerVisit visit, void *arg);
/* How many rows there are, at most so many a moment later; and how many can be. */
int slm_pg_ledger_rows(void);
int slm_pg_ledger_capacity(void);
/* Forgets the rows of a role, or all (InvalidOid); returns how many. */
int slm_pg_ledger_reset(Oid role);
TimestampTz slm_pg_ledger_reset_at(void);

/* Grows with each change: what has been saved is as it was then. */
uint64 slm_pg_ledger_changes(void);
/* In the process that saves: writes the file where something has changed and it is time, or now. */
void slm_pg_ledger_save(bool now);

void slm_pg_ledger_init(void);

#endif
