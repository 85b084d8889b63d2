/*
 * type_schema.h: values of SQL types as JSON: the schema of a type, and the value that a text stands for (type_schema.c, type_value.c).
 */
#ifndef SLM_PG_TYPE_SCHEMA_H
#define SLM_PG_TYPE_SCHEMA_H

#include "postgres.h"

#include "lib/stringinfo.h"

/* The JSON Schema (in the server's encoding) of the values of a type; an ERROR names the type where none can be written. */
char *slm_pg_type_schema(Oid type, int32 typmod);

/* The value that a JSON text of the type's schema stands for, in CurrentMemoryContext; raises the errors of the type's own input. */
Datum slm_pg_type_value(Oid type, int32 typmod, const char *json, bool *isnull);

/* Adds what the CHECKs of a domain say, behind the keywords of its base type; ERROR that names the one that cannot be kept. */
extern void slm_pg_put_checks(StringInfo out, Oid type);
/* May a value of the type be NULL, as far as a domain says? */
extern bool slm_pg_domain_may_be_null(Oid type);

#endif
