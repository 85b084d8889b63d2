/*
 * type_schema.h: values of SQL types as JSON: the schema of a type, and the value that a text stands for (type_schema.c, type_value.c).
 */
#ifndef SLM_PG_TYPE_SCHEMA_H
#define SLM_PG_TYPE_SCHEMA_H

#include "postgres.h"

/* The JSON Schema (in the server's encoding) of the values of a type; an ERROR names the type where none can be written. */
char *slm_pg_type_schema(Oid type, int32 typmod);

/* The value that a JSON text of the type's schema stands for, in CurrentMemoryContext; raises the errors of the type's own input. */
Datum slm_pg_type_value(Oid type, int32 typmod, const char *json, bool *isnull);

#endif
