/*
 * cascade_rows.h: cascades of this database, as rows of slm.cascade_registry and slm.cascade_grant (cascade_rows.c).
 */
#ifndef SLM_PG_CASCADE_ROWS_H
#define SLM_PG_CASCADE_ROWS_H

#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"
#include "utils/snapshot.h"

/* Columns of slm.cascade_registry that C code reads. */
enum {
    Anum_slm_cascade_name = 1,
    Anum_slm_cascade_owner = 2,
    Anum_slm_cascade_steps = 3,
    Anum_slm_cascade_images = 4,
    Anum_slm_cascade_versions = 5,
    Anum_slm_cascade_thresholds = 6,
    Anum_slm_cascade_target = 8,
    Anum_slm_cascade_audit = 10
};

/* A row in the context of the caller. */
typedef struct SlmCascadeRow {
    Oid owner;
    HeapTuple tuple; /* a copy */
    TupleDesc desc;
} SlmCascadeRow;

/* The row of a name by a snapshot, or as committed last (NULL); NULL where there is none. */
SlmCascadeRow *slm_pg_find_cascade(const char *name, Snapshot snapshot);
/* The same; ERROR where there is none or the current user may not use it. */
SlmCascadeRow *slm_pg_usable_cascade(const char *name, Snapshot snapshot);
/* A value, detoasted; ERROR when it is null. */
Datum slm_pg_cascade_value(const SlmCascadeRow *row, int column);

/* For changes: locks the name to the end of the transaction; ERROR unless the current user owns it, or it is free and missing_ok. */
SlmCascadeRow *slm_pg_own_cascade(const char *name, bool missing_ok);

/* What is stored of a new cascade. */
typedef struct SlmNewCascade {
    const char *name, *measure, *query;
    Datum steps, images, versions, thresholds; /* jsonb, text[], int[], float8[] */
    double target, failure, audit;
    int64 rows;
    Datum shares;     /* float8[] */
    double measured, bound, speedup; /* NaN: none */
} SlmNewCascade;
/* In place of the one that slm_pg_own_cascade gave, whose owner and grants stay, or new and the current user's. */
void slm_pg_store_cascade(const SlmNewCascade *new, const SlmCascadeRow *old);

#endif
