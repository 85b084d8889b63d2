/*
 * column_values.c: values_of => 'categories.name': the values of a column as a constraint (column_values.h).
 *
 *   'shop.categories.name' ──parse──► relation, column ──SELECT DISTINCT, as the caller──► texts ──► {"enum": [...]}
 *
 * The name is parsed as SQL parses names and looked up in the catalog; the statement is made of what was found, quoted.  It runs with the
 * rights of the current role, row security included, under the snapshot of the statement that asks: so the answer stays STABLE.  What a
 * collation holds equal is told apart here, since the answer is bytes.
 */
#include "pg/functions/column_values.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#define EXAMPLE "For example: values_of => 'categories.name'."

typedef struct Column {
    const char *relation, *name; /* quoted, the relation with its schema */
    Oid type;
} Column;

/* What a name means under the current search_path. */
static Column find_column(const char *name)
{
    List *names = textToQualifiedNameList(cstring_to_text(name));
    const char *attname = strVal(llast(names));
    RangeVar *range;
    AttrNumber attnum;
    Oid relation;

    if (list_length(names) < 2)
        ereport(ERROR, (errcode(ERRCODE_INVALID_NAME), errmsg("values_of names no column: \"%s\"", name), errhint(EXAMPLE)));
    range = makeRangeVarFromNameList(list_truncate(list_copy(names), list_length(names) - 1));
    relation = RangeVarGetRelid(range, AccessShareLock, false);
    attnum = get_attnum(relation, attname);
    if (attnum <= 0)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
                        errmsg("column \"%s\" of relation \"%s\" does not exist", attname, get_rel_name(relation)), errhint(EXAMPLE)));
    return (Column){.relation = quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)), get_rel_name(relation)),
                    .name = quote_identifier(attname),
                    .type = get_atttype(relation, attnum)};
}

void slm_pg_column_values(const char *name, int most, SlmColumnValues *out)
{
    MemoryContext keep = CurrentMemoryContext;
    Column column = find_column(name);
    const char *statement = psprintf("SELECT DISTINCT t.%s::pg_catalog.text COLLATE pg_catalog.\"C\" AS value "
                                     "FROM %s AS t "
                                     "WHERE t.%s IS NOT NULL "
                                     "ORDER BY value LIMIT %d",
                                     column.name, column.relation, column.name, most + 1);

    SPI_connect();
    if (SPI_execute(statement, true, 0) != SPI_OK_SELECT)
        elog(ERROR, "could not read the values of a column");
    if (SPI_processed == 0 || SPI_processed > (uint64) most)
        ereport(ERROR,
                (errcode(SPI_processed == 0 ? ERRCODE_INVALID_PARAMETER_VALUE : ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                 SPI_processed == 0 ? errmsg("column %s.%s has no values", column.relation, column.name)
                                    : errmsg("column %s.%s has more than %d different values", column.relation, column.name, most),
                 errhint("values_of names a column whose values are what the answer may be, such as a table of categories.")));
    out->type = column.type;
    out->n = (int) SPI_processed;
    out->values = MemoryContextAlloc(keep, sizeof(char *) * SPI_processed);
    for (int i = 0; i < out->n; i++)
        out->values[i] = MemoryContextStrdup(keep, SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1));
    SPI_finish();
}

char *slm_pg_values_schema(Oid type, const SlmColumnValues *from)
{
    Oid element = get_base_element_type(type), one = getBaseType(OidIsValid(element) ? element : type);
    char kind = get_typtype(one);
    StringInfoData out;

    if ((one != getBaseType(from->type) && one != TEXTOID && one != VARCHAROID && one != BPCHAROID) ||
        (kind != TYPTYPE_BASE && kind != TYPTYPE_ENUM) || OidIsValid(get_element_type(one)))
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("values of type %s cannot be answers of type %s", format_type_be(from->type), format_type_be(type)),
                        errhint("Ask for NULL::text, for the column's own type, or for an array of them.")));
    initStringInfo(&out);
    appendStringInfoString(&out, OidIsValid(element) ? "{\"type\":\"array\",\"uniqueItems\":true,\"items\":{\"enum\":[" : "{\"enum\":[");
    for (int i = 0; i < from->n; i++) {
        if (i > 0)
            appendStringInfoChar(&out, ',');
        escape_json(&out, from->values[i]);
    }
    appendStringInfoString(&out, OidIsValid(element) ? "]}}" : "]}");
    return out.data;
}
