/*
 * slm_update: a column of existing rows computed once, in batches.
 *
 *   update.c        the procedure: what is noted in slm.update_run, the forecast, the loop over batches, what is told
 *   update_batch.c  a batch: its rows by the primary key, one statement that computes and writes them, rows that fail
 *
 * Invariants: a batch and the note of how far it came are one transaction, so after a cancel or a crash the next CALL goes on where the
 * last committed batch ended, and no row is computed and written twice.  Everything that a user wrote (expression, condition, triggers,
 * operators) runs as the table's owner in a security-restricted operation; what is the extension's, as its owner.
 */
#ifndef SLM_PG_JOBS_UPDATE_H
#define SLM_PG_JOBS_UPDATE_H

#include "postgres.h"

#include "nodes/pg_list.h"

/* What a CALL says, and how far it is. Lives as long as the CALL, but for the table and what else is made anew for each transaction. */
typedef struct SlmUpdate {
    MemoryContext context;     /* of the CALL */
    MemoryContext transaction; /* reset after each commit */
    Oid caller, source;
    char *target_column, *expression, *condition; /* condition NULL: all rows */
    char *path;
    char *on_error;  /* NULL: as the session has it */
    int64 run;       /* slm.update_run.id */
    Datum position;  /* text[]: key of the last row that is done; 0: none yet */
    int64 seen, written, failed, kept; /* rows, also of CALLs before: looked at; written; failed; left alone by a trigger or policy */
    /* the table as this transaction finds it */
    Oid owner;
    char *table;  /* qualified and quoted */
    char *name;   /* quoted: how the expression may call it */
    char *column; /* quoted */
    Oid type;
    int32 typmod;
    List *keys, *key_types; /* of char *: columns of the primary key, quoted, and their types */
    List *key_equals;       /* of char *: their types' own operators, with their schema */
    bool builtin_order;     /* all of them compare by operators of the server */
    char *key;              /* numbers and types of these columns: a position is one of this key only */
} SlmUpdate;

/* Some rows of the primary key's order: those behind `after` up to `last`. */
typedef struct SlmUpdateWindow {
    Datum after, last; /* text[]; after 0: from the first row */
    int64 rows;        /* in it; 0: there are no more */
} SlmUpdateWindow;

typedef struct SlmUpdateFailed {
    char *key; /* jsonb */
    char *error;
} SlmUpdateFailed;

/* What became of a window. */
typedef struct SlmUpdateOutcome {
    int64 computed, written, kept;
    List *failed;      /* of SlmUpdateFailed */
    ErrorData *whole;  /* an error that may be of the table or the expression; NULL: none */
} SlmUpdateOutcome;

/* ERROR where the table is gone, is not one that can be updated so, or may not be by the caller. Sets the table's part of u. */
void slm_pg_update_table(SlmUpdate *u);
/* ERROR where expression or condition are wrong, are not of the right type, or name a model or classifier that the owner may not use. */
void slm_pg_update_check(SlmUpdate *u);
/* How many rows the table has, about. */
double slm_pg_update_rows(SlmUpdate *u);
/* The next n rows behind u->position. */
SlmUpdateWindow slm_pg_update_window(SlmUpdate *u, int n);
/* Computes and writes a window's rows. false: somebody was in the way (out->whole); to be tried again in another transaction. */
bool slm_pg_update_batch(SlmUpdate *u, const SlmUpdateWindow *window, SlmUpdateOutcome *out);

/* Rows of a sample spread over the table. */
typedef struct SlmUpdateSample {
    int64 scanned, matching; /* rows looked at; of them, those that the condition wants */
    int computed;            /* of those */
    double seconds;          /* that took */
} SlmUpdateSample;
/* Computes a few rows and writes none; `rows` is about how many the table has. ERROR where all of them fail. */
void slm_pg_update_sample(SlmUpdate *u, double rows, SlmUpdateSample *out);

#endif
