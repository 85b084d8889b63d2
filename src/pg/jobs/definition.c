/*
 * A job as slm.job_definition and the tables describe it now.
 *
 * Names are resolved late: tables by OID, key columns and their types from the present primary key, so that renamed tables, renamed key
 * columns and changed types need no attention.  The expression is text; when a column that it reads is renamed, its next
 * batch says so, and writers are not disturbed.
 *
 * A key is a jsonb array of the key columns' values.  Values of simple types are written as jsonb writes them, all others as text under
 * fixed settings, so that the same row has the same key in every session.
 */
#include "pg/jobs/jobs.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/relcache.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(slm_pg_job_key_expression);

void slm_pg_spi(const char *query, int expected)
{
    int code = SPI_execute(query, false, 0);

    if (code != expected)
        elog(ERROR, "unexpected result %d of \"%s\"", code, query);
}

bool slm_pg_job_owner_exists(Oid owner)
{
    return SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(owner));
}

/* ---------------------------------------------------------------- reading */

/* A text[] column of the first SPI row as a list of strings. */
static List *string_list(int column)
{
    bool isnull;
    Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull);
    List *result = NIL;
    Datum *elements;
    int n;

    deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &n);
    for (int i = 0; i < n; i++)
        result = lappend(result, TextDatumGetCString(elements[i]));
    return result;
}

static char *string_value(int column)
{
    return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);
}

/* Always qualified: the job's search_path may know another table by the same name. */
static char *table_name(Oid table)
{
    char *name = get_rel_name(table);

    return name == NULL ? NULL : quote_qualified_identifier(get_namespace_name(get_rel_namespace(table)), name);
}

static bool simple_type(Oid type)
{
    switch (getBaseType(type)) {
    case BOOLOID: case INT2OID: case INT4OID: case INT8OID: case NUMERICOID: case TEXTOID: case VARCHAROID: case BPCHAROID: case NAMEOID:
    case UUIDOID: case DATEOID: case TIMESTAMPOID:
        return true;
    default:
        return false;
    }
}

static void set_key(SlmJobKey *key, Form_pg_attribute att)
{
    key->column = pstrdup(quote_identifier(NameStr(att->attname)));
    key->type = format_type_extended(att->atttypid, att->atttypmod, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
    key->simple = simple_type(att->atttypid);
}

/* The source's primary key; without one, the columns that it had when the job was created; none when they are gone, too. */
static void read_keys(SlmJob *job, Relation source, const List *stored)
{
    Bitmapset *unused = RelationGetIndexAttrBitmap(source, INDEX_ATTR_BITMAP_PRIMARY_KEY); /* sets rd_pkindex */
    Oid index = source->rd_pkindex;

    bms_free(unused);
    if (OidIsValid(index)) {
        HeapTuple tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index));
        Form_pg_index form = (Form_pg_index) GETSTRUCT(tuple);

        job->n_keys = form->indnkeyatts;
        job->keys = palloc0(sizeof(SlmJobKey) * job->n_keys);
        for (int i = 0; i < job->n_keys; i++)
            set_key(&job->keys[i], TupleDescAttr(source->rd_att, form->indkey.values[i] - 1));
        ReleaseSysCache(tuple);
    } else {
        job->keys = palloc0(sizeof(SlmJobKey) * Max(list_length(stored), 1));
        for (int i = 0; i < list_length(stored); i++) {
            AttrNumber number = get_attnum(job->source, list_nth(stored, i));

            if (number <= 0) {
                job->n_keys = 0;
                return;
            }
            set_key(&job->keys[job->n_keys++], TupleDescAttr(source->rd_att, number - 1));
        }
    }
    job->simple_keys = true;
    for (int i = 0; i < job->n_keys; i++)
        job->simple_keys = job->simple_keys && job->keys[i].simple;
}

/* Inputs that exist; where one was renamed or dropped, any column may be meant. */
static void read_inputs(SlmJob *job, Relation source, const List *stored, const char *target_column)
{
    ListCell *cell;
    bool complete = true;

    foreach (cell, stored)
        complete = complete && get_attnum(job->source, lfirst(cell)) > 0;
    if (complete) {
        foreach (cell, stored)
            job->input_columns = lappend(job->input_columns, pstrdup(quote_identifier(lfirst(cell))));
        return;
    }
    for (int i = 0; i < source->rd_att->natts; i++) {
        Form_pg_attribute att = TupleDescAttr(source->rd_att, i);

        if (!att->attisdropped && (job->source != job->target || strcmp(NameStr(att->attname), target_column) != 0))
            job->input_columns = lappend(job->input_columns, pstrdup(quote_identifier(NameStr(att->attname))));
    }
}

SlmJob *slm_pg_job_read(int32 id, bool lock)
{
    const char *query = "SELECT d.name, d.owner::oid, d.source::oid, d.target::oid, d.target_column, d.key_columns::text[], "
                        "d.input_columns::text[], "
                        "d.expression, d.search_path, d.version, d.batch_size, d.max_attempts, d.overwrite, d.backfill, d.backfill_done, "
                        "d.settings, d.paused "
                        "FROM slm.job_definition d WHERE d.id OPERATOR(pg_catalog.=) $1";
    Oid types[1] = {INT4OID};
    Datum values[1] = {Int32GetDatum(id)};
    MemoryContext context = CurrentMemoryContext;
    List *keys, *inputs;
    Relation source;
    SlmJob *job;

    if (SPI_execute_with_args(lock ? psprintf("%s FOR KEY SHARE", query) : query, 1, types, values, NULL, !lock, 1) != SPI_OK_SELECT)
        elog(ERROR, "could not read slm.job_definition");
    MemoryContextSwitchTo(context); /* SPI has left its own */
    if (SPI_processed == 0)
        return NULL;
    job = palloc0(sizeof *job);
    job->id = id;
    job->name = string_value(1);
    job->owner = atooid(string_value(2));
    job->source = atooid(string_value(3));
    job->target = atooid(string_value(4));
    job->source_name = table_name(job->source);
    job->target_name = table_name(job->target);
    job->target_column = pstrdup(quote_identifier(string_value(5)));
    job->has_target_column = get_attnum(job->target, string_value(5)) > 0;
    keys = string_list(6);
    inputs = string_list(7);
    job->expression = string_value(8);
    job->search_path = string_value(9);
    job->version = pg_strtoint32(string_value(10));
    job->batch_size = pg_strtoint32(string_value(11));
    job->max_attempts = pg_strtoint32(string_value(12));
    job->overwrite = string_value(13)[0] == 't';
    job->newest_first = strcmp(string_value(14), "newest") == 0;
    job->backfill_done = string_value(15)[0] == 't';
    job->settings = string_value(16);
    job->paused = string_value(17)[0] == 't';
    if (job->source_name != NULL) {
        source = table_open(job->source, AccessShareLock);
        read_keys(job, source, keys);
        read_inputs(job, source, inputs, string_value(5));
        table_close(source, NoLock);
    }
    return job;
}

/* ---------------------------------------------------------------- parts of statements */

char *slm_pg_job_columns(const List *columns, const char *prefix)
{
    StringInfoData out;
    ListCell *cell;

    initStringInfo(&out);
    foreach (cell, columns)
        appendStringInfo(&out, "%s%s.%s", out.len > 0 ? ", " : "", prefix, (char *) lfirst(cell));
    return out.data;
}

char *slm_pg_job_key(const SlmJob *job, const char *prefix)
{
    StringInfoData out;

    initStringInfo(&out);
    for (int i = 0; i < job->n_keys; i++)
        appendStringInfo(&out, "%s%s.%s%s", i > 0 ? ", " : "pg_catalog.jsonb_build_array(", prefix, job->keys[i].column,
                         job->keys[i].simple ? "" : "::pg_catalog.text");
    appendStringInfoChar(&out, ')');
    return out.data;
}

char *slm_pg_job_key_condition(const SlmJob *job, const char *table, const char *key)
{
    StringInfoData out;

    initStringInfo(&out);
    for (int i = 0; i < job->n_keys; i++)
        appendStringInfo(&out, "%s%s.%s = (%s OPERATOR(pg_catalog.->>) %d)::%s", i > 0 ? " AND " : "", table, job->keys[i].column, key, i,
                         job->keys[i].type);
    return out.data;
}

char *slm_pg_job_key_values(const SlmJob *job, const char *key)
{
    StringInfoData out;

    initStringInfo(&out);
    for (int i = 0; i < job->n_keys; i++)
        appendStringInfo(&out, "%s(%s OPERATOR(pg_catalog.->>) %d)::%s", i > 0 ? ", " : "", key, i, job->keys[i].type);
    return out.data;
}

char *slm_pg_job_key_columns(const SlmJob *job, const char *prefix, const char *suffix)
{
    StringInfoData out;

    initStringInfo(&out);
    for (int i = 0; i < job->n_keys; i++)
        appendStringInfo(&out, "%s%s%s%s", i > 0 ? ", " : "", prefix, job->keys[i].column, suffix);
    return out.data;
}

void slm_pg_job_text_settings(void)
{
    static const char *const settings[][2] = {{"DateStyle", "ISO, YMD"}, {"IntervalStyle", "postgres"}, {"TimeZone", "UTC"},
                                              {"extra_float_digits", "1"}, {"bytea_output", "hex"}};

    for (int i = 0; i < (int) lengthof(settings); i++)
        (void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/* slm.job_key_expression(job, prefix): how a row's key is written, for the SQL functions. */
Datum slm_pg_job_key_expression(PG_FUNCTION_ARGS)
{
    SlmJob *job;
    char *result = NULL;
    MemoryContext context = CurrentMemoryContext;

    SPI_connect();
    job = slm_pg_job_read(PG_GETARG_INT32(0), false);
    if (job != NULL && job->source_name != NULL && job->n_keys > 0)
        result = MemoryContextStrdup(context, slm_pg_job_key(job, quote_identifier(text_to_cstring(PG_GETARG_TEXT_PP(1)))));
    SPI_finish();
    if (result == NULL)
        PG_RETURN_NULL();
    PG_RETURN_TEXT_P(cstring_to_text(result));
}
