/*
 * column_values.h: the values of a column, as what an answer may be (column_values.c).
 */
#ifndef SLM_PG_COLUMN_VALUES_H
#define SLM_PG_COLUMN_VALUES_H

#include "postgres.h"

#define SLM_MAX_COLUMN_VALUES 10000

/* The different values of a column ("table.column" or "schema.table.column") that are not NULL, as text in the server's encoding, in the
 * order of their bytes; read with the rights of the current role.  ERROR: there is no such column, it has none, or more than `most`. */
typedef struct SlmColumnValues {
    Oid type;      /* of the column */
    int n;
    char **values; /* [n], palloc'ed */
} SlmColumnValues;

void slm_pg_column_values(const char *name, int most, SlmColumnValues *out);

/* The JSON Schema of an answer of a type that is one of the values; of an array type several of them.  ERROR where the type has no single
 * value, or is neither text nor the column's. */
char *slm_pg_values_schema(Oid type, const SlmColumnValues *from);

#endif
