/*
 * fields.h: which values a call wants out of a text, as the calls of slm_extract say it (fields.c).
 */
#ifndef SLM_PG_FIELDS_H
#define SLM_PG_FIELDS_H

#include "postgres.h"

#include "fmgr.h"

#include "engine/extract/extract.h"

#define SLM_MAX_FIELDS 100

typedef struct SlmField {
    slm_extract_field what; /* strings are UTF-8 */
    bool number;            /* its value is a number of JSON */
    bool many;              /* a list of all its values, for models that find them */
} SlmField;

typedef struct SlmFields {
    int n;
    SlmField *list; /* [n] */
} SlmFields;

/* What argument i says, in CurrentMemoryContext: a list of names, as text[], text or JSON; an object of name and type, question or schema;
 * a JSON Schema of an object.  An ERROR names the field and the keyword that cannot be had by copying. */
void slm_pg_fields_arg(FunctionCallInfo fcinfo, int i, SlmFields *out);
/* Those of a composite type: its columns. */
void slm_pg_fields_of_type(Oid type, SlmFields *out);
/* ERROR where a field is a list. */
void slm_pg_refuse_lists(const SlmFields *fields);
/* The JSON Schema, in the server's encoding, of an object that has them: for values that are written and not copied. */
char *slm_pg_fields_schema(const SlmFields *fields);

#endif
