/*
 * row_count.h: rows that gave NULL in place of an error, and texts that were longer than the model reads, and audits of cascades: counted,
 * and told once, when the statement ends.
 */
#ifndef SLM_PG_ROW_COUNT_H
#define SLM_PG_ROW_COUNT_H

#include "postgres.h"

#include "fmgr.h"
#include "nodes/nodes.h"

#include "pg/base/row_error.h"
#include "pg/base/shmem.h"

/* How far a text went in a cascade. */
typedef struct SlmCascadeNote {
    const char *name; /* NULL: there was none */
    double target;    /* agreement with the last step that was asked for */
    bool early;       /* a step before the last was sure enough */
    bool audited, disagreed; /* the last was asked all the same, and said something else */
} SlmCascadeNote;

/* What one call has to say of its row. */
typedef struct SlmRowNote {
    bool gives_null; /* for an error of the input */
    SlmFault fault;
    bool longer;     /* its text was longer than the model reads, and nobody had said truncate */
    Node *site;      /* the call's expression; to be compared only */
    char *text;      /* the beginning of its text; NULL unless gives_null */
    SlmCascadeNote cascade;
} SlmRowNote;

/* The note of a call before it has come to a result. The text is the longest of n_inputs arguments, in CurrentMemoryContext. */
void slm_pg_row_note(SlmRowNote *note, FunctionCallInfo fcinfo, bool gives_null, int first_input, int n_inputs);
/* The beginning of a text, fit for a message; palloc'ed. */
char *slm_pg_beginning(const text *t);
/* Once for each row that has come to its result. */
void slm_pg_count_row(const SlmRowNote *note);
/* A statement has ended, the outermost or one within it: tells what was counted, or gives it to the leader of a parallel worker. */
void slm_pg_tell_rows(bool outermost);
void slm_pg_row_count_init(void);
extern const SlmShmemPart slm_pg_row_count_part;

#endif
