/*
 * How the key and the hashes of a row are written, in statements and in C.
 *
 * A key is a jsonb array of the key columns' values.  Values of simple types are written as jsonb writes them, all others as text under
 * fixed settings, so that the same row has the same key in every session.  Text is what a type's output function says: casts, which
 * anybody who owns a type may define, are never called to write a key or a hash.  Reading a key back may call one; that happens in
 * statements that run as the table's owner.
 *
 * The parts of statements stand beside expressions of users under their search_path: every function, operator and type has its schema,
 * and IS DISTINCT FROM, which looks for an operator by its name, is used with NULL only.
 */
#include "postgres.h"

#include "access/tupdesc.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "pg/jobs/jobs.h"

/* ---------------------------------------------------------------- in statements */

char *slm_pg_job_key(const SlmJobKeys *keys, const char *prefix)
{
    StringInfoData out;

    initStringInfo(&out);
    for (int i = 0; i < keys->n; i++)
        appendStringInfo(&out, keys->list[i].simple ? "%s%s.%s" : "%spg_catalog.concat(%s.%s)",
                         i > 0 ? ", " : "pg_catalog.jsonb_build_array(", prefix, keys->list[i].column);
    appendStringInfoChar(&out, ')');
    return out.data;
}

/* "(key ->> i)::type": a key column's value out of a key. */
static char *value_at(const SlmJobKeys *keys, const char *key, int i)
{
    return psprintf("(%s OPERATOR(pg_catalog.->>) %d)::%s", key, i, keys->list[i].type);
}

char *slm_pg_job_key_condition(const SlmJobKeys *keys, const char *table, const char *key)
{
    StringInfoData out;

    initStringInfo(&out);
    for (int i = 0; i < keys->n; i++)
        appendStringInfo(&out, "%s%s.%s %s %s", i > 0 ? " AND " : "", table, keys->list[i].column, keys->list[i].equal,
                         value_at(keys, key, i));
    return out.data;
}

char *slm_pg_job_key_values(const SlmJobKeys *keys, const char *key)
{
    StringInfoData out;

    initStringInfo(&out);
    for (int i = 0; i < keys->n; i++)
        appendStringInfo(&out, "%s%s", i > 0 ? ", " : "", value_at(keys, key, i));
    return out.data;
}

char *slm_pg_job_key_columns(const SlmJobKeys *keys, const char *prefix, const char *suffix)
{
    StringInfoData out;

    initStringInfo(&out);
    for (int i = 0; i < keys->n; i++)
        appendStringInfo(&out, "%s%s%s%s", i > 0 ? ", " : "", prefix, keys->list[i].column, suffix);
    return out.data;
}

/* A comparison of rows, which an index serves, needs one operator name for all columns: where a type has its own, column by column. */
char *slm_pg_job_key_beyond(const SlmJobKeys *keys, const char *table, const char *key, bool less)
{
    const char *builtin = less ? "OPERATOR(pg_catalog.<)" : "OPERATOR(pg_catalog.>)";
    char *prefix = psprintf("%s.", table), *result = NULL;
    bool all_builtin = true;

    for (int i = 0; i < keys->n; i++)
        all_builtin = all_builtin && strcmp(less ? keys->list[i].less : keys->list[i].greater, builtin) == 0;
    if (all_builtin)
        return psprintf("ROW(%s) %s ROW(%s)", slm_pg_job_key_columns(keys, prefix, ""), builtin, slm_pg_job_key_values(keys, key));
    for (int i = keys->n - 1; i >= 0; i--) {
        const SlmJobKey *k = &keys->list[i];
        char *value = value_at(keys, key, i);
        char *here = psprintf("%s.%s %s %s", table, k->column, less ? k->less : k->greater, value);

        result = result == NULL ? here : psprintf("(%s OR (%s.%s %s %s AND %s))", here, table, k->column, k->equal, value, result);
    }
    return result;
}

static char *columns(const List *list, const char *prefix)
{
    StringInfoData out;
    ListCell *cell;

    initStringInfo(&out);
    foreach (cell, list)
        appendStringInfo(&out, "%s%s.%s", out.len > 0 ? ", " : "", prefix, (char *) lfirst(cell));
    return out.data;
}

char *slm_pg_job_input_hash(const SlmJob *job, const char *prefix)
{
    return psprintf("pg_catalog.md5(ROW(%s)::pg_catalog.text)", columns(job->input_columns, prefix));
}

char *slm_pg_job_value_hash(const SlmJob *job, const char *prefix)
{
    return psprintf("CASE WHEN %s.%s IS DISTINCT FROM NULL THEN pg_catalog.md5(pg_catalog.concat(%s.%s)) END", prefix, job->target_column,
                    prefix, job->target_column);
}

void slm_pg_job_text_settings(void)
{
    static const char *const settings[][2] = {{"DateStyle", "ISO, YMD"}, {"IntervalStyle", "postgres"}, {"TimeZone", "UTC"},
                                              {"extra_float_digits", "1"}, {"bytea_output", "hex"}};

    for (int i = 0; i < (int) lengthof(settings); i++)
        (void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/* ---------------------------------------------------------------- in C */

struct SlmKeyWriter {
    MemoryContext scratch; /* of one key in the making */
    TupleDesc table;
    int n;
    AttrNumber *numbers;
    FmgrInfo *output; /* fn_oid 0: jsonb writes the value itself */
    FmgrInfo build;   /* jsonb_build_array of just these types */
};

SlmKeyWriter *slm_pg_key_writer(const SlmJobKeys *keys, TupleDesc table)
{
    SlmKeyWriter *writer = palloc0(sizeof *writer);
    List *arguments = NIL;

    writer->scratch = AllocSetContextCreate(CurrentMemoryContext, "slm key", ALLOCSET_SMALL_SIZES);
    writer->table = CreateTupleDescCopy(table);
    writer->n = keys->n;
    writer->numbers = palloc0(sizeof(AttrNumber) * Max(keys->n, 1));
    writer->output = palloc0(sizeof(FmgrInfo) * Max(keys->n, 1));
    for (int i = 0; i < keys->n; i++) {
        for (int a = 0; a < table->natts; a++)
            if (!TupleDescAttr(table, a)->attisdropped && strcmp(NameStr(TupleDescAttr(table, a)->attname), keys->list[i].name) == 0)
                writer->numbers[i] = a + 1;
        if (writer->numbers[i] == 0)
            elog(ERROR, "a partition has no column \"%s\"", keys->list[i].name);
        if (!keys->list[i].simple) {
            Oid function;
            bool varlena;

            getTypeOutputInfo(keys->list[i].type_oid, &function, &varlena);
            fmgr_info_cxt(function, &writer->output[i], CurrentMemoryContext);
        }
        arguments = lappend(arguments, makeNullConst(keys->list[i].simple ? keys->list[i].type_oid : TEXTOID, -1, InvalidOid));
    }
    fmgr_info_cxt(F_JSONB_BUILD_ARRAY_ANY, &writer->build, CurrentMemoryContext);
    fmgr_info_set_expr((Node *) makeFuncExpr(F_JSONB_BUILD_ARRAY_ANY, JSONBOID, arguments, InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL),
                       &writer->build);
    return writer;
}

Datum slm_pg_write_key(SlmKeyWriter *writer, const Datum *values, const bool *nulls)
{
    LOCAL_FCINFO(fcinfo, INDEX_MAX_KEYS);
    MemoryContext old = MemoryContextSwitchTo(writer->scratch);
    Datum key;

    InitFunctionCallInfoData(*fcinfo, &writer->build, writer->n, InvalidOid, NULL, NULL);
    for (int i = 0; i < writer->n; i++) {
        Datum value = values[writer->numbers[i] - 1];

        fcinfo->args[i].isnull = nulls[writer->numbers[i] - 1];
        if (writer->output[i].fn_oid != InvalidOid && !fcinfo->args[i].isnull)
            value = PointerGetDatum(cstring_to_text(OutputFunctionCall(&writer->output[i], value)));
        fcinfo->args[i].value = value;
    }
    key = FunctionCallInvoke(fcinfo);
    MemoryContextSwitchTo(old);
    key = datumCopy(key, false, -1);
    MemoryContextReset(writer->scratch);
    return key;
}

bool slm_pg_same_key(const SlmKeyWriter *writer, const Datum *a, const Datum *b)
{
    for (int i = 0; i < writer->n; i++) {
        Form_pg_attribute att = TupleDescAttr(writer->table, writer->numbers[i] - 1);

        if (!datum_image_eq(a[att->attnum - 1], b[att->attnum - 1], att->attbyval, att->attlen))
            return false;
    }
    return true;
}
