/*
 * A job as slm.job_definition and the tables describe it now.
 *
 * Names are resolved late: tables by OID, key columns and their types from the present primary key, so that renamed tables, renamed key
 * columns and changed types need no attention.  The expression is text; when a column that it reads is renamed, its next
 * batch says so, and writers are not disturbed.  So are owners: whose rights a batch may use is asked anew for each.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/relcache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "pg/base/as_owner.h"
#include "pg/jobs/jobs.h"

/* ---------------------------------------------------------------- SPI */

void slm_pg_spi(const char *query, int expected)
{
    slm_pg_spi_with(query, 0, NULL, NULL, NULL, expected);
}

void slm_pg_spi_with(const char *query, int n, const Oid *types, const Datum *values, const char *nulls, int expected)
{
    int code = SPI_execute_with_args(query, n, unconstify(Oid *, types), unconstify(Datum *, values), nulls, false, 0);

    if (code != expected)
        elog(ERROR, "unexpected result %d of \"%s\"", code, query);
}

void slm_pg_job_check_types(int n, const Oid *types)
{
    for (int i = 0; i < n; i++) {
        Oid type = i < SPI_tuptable->tupdesc->natts ? SPI_gettypeid(SPI_tuptable->tupdesc, i + 1) : InvalidOid;

        if (type != types[i])
            ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("column %d of a job's statement is of type %s instead of %s", i + 1,
                                                                       format_type_be(type), format_type_be(types[i])),
                            errhint("A function or an operator on the job's search_path stands before the server's own.")));
    }
}

Datum slm_pg_job_value(uint64 row, int column)
{
    bool isnull;
    Datum value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);

    return isnull ? (Datum) 0 : value;
}

Datum slm_pg_job_datum(int column, Oid type)
{
    if (SPI_processed == 0 || column > SPI_tuptable->tupdesc->natts || SPI_gettypeid(SPI_tuptable->tupdesc, column) != type)
        elog(ERROR, "column %d of a job's statement is not of type %s", column, format_type_be(type));
    return slm_pg_job_value(0, column);
}

/* ---------------------------------------------------------------- tables and their owners */

bool slm_pg_job_owner_exists(Oid owner)
{
    return OidIsValid(owner) && SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(owner));
}

Oid slm_pg_job_table_owner(Oid table)
{
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
    Oid owner;

    if (!HeapTupleIsValid(tuple))
        return InvalidOid;
    owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
    ReleaseSysCache(tuple);
    return owner;
}

char *slm_pg_job_table_name(Oid table)
{
    char *name = get_rel_name(table), *schema = name == NULL ? NULL : get_namespace_name(get_rel_namespace(table));

    return schema == NULL ? NULL : quote_qualified_identifier(schema, name);
}

void slm_pg_job_check_right(const char *job, Oid owner, Oid table)
{
    Oid table_owner = slm_pg_job_table_owner(table);
    const char *to = GetUserNameFromId(table_owner, true), *who = GetUserNameFromId(owner, true);

    if (slm_pg_may_become(owner, table_owner))
        return;
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                    errmsg("job \"%s\" of role \"%s\" may not work on table %s", job, who == NULL ? "-" : who,
                           slm_pg_job_table_name(table)),
                    errdetail("A job works on a table as the table's owner, \"%s\", to whom the job's owner cannot SET ROLE.",
                              to == NULL ? "-" : to),
                    errhint("GRANT %s TO %s; or let a member of the table's owner create the job.", to == NULL ? "-" : quote_identifier(to),
                            who == NULL ? "-" : quote_identifier(who))));
}

void slm_pg_job_check_rights(const SlmJob *job)
{
    slm_pg_job_check_right(job->name, job->owner, job->source);
    if (job->target != job->source)
        slm_pg_job_check_right(job->name, job->owner, job->target);
}

void slm_pg_job_check_parts(const SlmJob *job)
{
    const char *missing = job->source_name == NULL ? "source table" : job->target_name == NULL ? "target table" : NULL;

    if (!slm_pg_job_owner_exists(job->owner))
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("the owner of job \"%s\" is gone", job->name),
                        errhint("A superuser gives it a new one with SELECT slm_alter_job(%s, options => '{\"owner\": \"...\"}'); or "
                                "ends it with SELECT slm_drop_job(%s);",
                                quote_literal_cstr(job->name), quote_literal_cstr(job->name))));
    if (missing == NULL && job->keys.n == 0)
        missing = "primary key of the source table";
    if (missing == NULL && job->target_keys.n == 0)
        missing = "key of the target table";
    if (missing == NULL && !job->has_target_column)
        missing = psprintf("target column %s", job->target_column);
    if (missing != NULL)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("the %s of job \"%s\" is gone", missing, job->name),
                        errhint("SELECT slm_drop_job(%s); ends the job.", quote_literal_cstr(job->name))));
}

/* ---------------------------------------------------------------- keys */

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

/* "OPERATOR(schema.name)"; fallback where the type has none. */
static char *operator_text(Oid operator, const char *fallback)
{
    HeapTuple tuple = OidIsValid(operator) ? SearchSysCache1(OPEROID, ObjectIdGetDatum(operator)) : NULL;
    Form_pg_operator form;
    char *result;

    if (!HeapTupleIsValid(tuple))
        return psprintf("OPERATOR(pg_catalog.%s)", fallback);
    form = (Form_pg_operator) GETSTRUCT(tuple);
    result = psprintf("OPERATOR(%s.%s)", quote_identifier(get_namespace_name(form->oprnamespace)), NameStr(form->oprname));
    ReleaseSysCache(tuple);
    return result;
}

static void set_key(SlmJobKey *key, Form_pg_attribute att)
{
    const TypeCacheEntry *type = lookup_type_cache(getBaseType(att->atttypid), TYPECACHE_EQ_OPR | TYPECACHE_LT_OPR | TYPECACHE_GT_OPR);

    key->name = pstrdup(NameStr(att->attname));
    key->column = pstrdup(quote_identifier(key->name));
    key->type_oid = att->atttypid;
    key->type = format_type_extended(att->atttypid, att->atttypmod, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
    key->equal = operator_text(type->eq_opr, "=");
    key->less = operator_text(type->lt_opr, "<");
    key->greater = operator_text(type->gt_opr, ">");
    key->simple = simple_type(att->atttypid);
}

static void add_columns(SlmJobKeys *keys, Relation table, const List *names)
{
    ListCell *cell;

    keys->n = 0;
    keys->list = palloc0(sizeof(SlmJobKey) * Max(list_length(names), 1));
    foreach (cell, names) {
        AttrNumber number = get_attnum(RelationGetRelid(table), lfirst(cell));

        if (number <= 0) {
            keys->n = 0;
            return;
        }
        set_key(&keys->list[keys->n++], TupleDescAttr(table->rd_att, number - 1));
    }
}

void slm_pg_job_read_columns(SlmJobKeys *keys, Relation table, const SlmJobKeys *names)
{
    List *list = NIL;

    for (int i = 0; i < names->n; i++)
        list = lappend(list, names->list[i].name);
    add_columns(keys, table, list);
}

void slm_pg_job_read_keys(SlmJobKeys *keys, Relation table, const List *names)
{
    Bitmapset *unused = RelationGetIndexAttrBitmap(table, INDEX_ATTR_BITMAP_PRIMARY_KEY); /* sets rd_pkindex */
    Oid index = table->rd_pkindex;
    HeapTuple tuple;
    Form_pg_index form;

    bms_free(unused);
    if (!OidIsValid(index)) {
        add_columns(keys, table, names);
        return;
    }
    tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for index %u", index);
    form = (Form_pg_index) GETSTRUCT(tuple);
    keys->n = form->indnkeyatts;
    keys->list = palloc0(sizeof(SlmJobKey) * keys->n);
    for (int i = 0; i < keys->n; i++)
        set_key(&keys->list[i], TupleDescAttr(table->rd_att, form->indkey.values[i] - 1));
    ReleaseSysCache(tuple);
}

/* ---------------------------------------------------------------- reading */

/* A text[] as a list of strings. */
static List *string_list(Datum array)
{
    List *result = NIL;
    Datum *elements;
    int n;

    deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &n);
    for (int i = 0; i < n; i++)
        result = lappend(result, TextDatumGetCString(elements[i]));
    return result;
}

static List *number_list(Datum array)
{
    List *result = NIL;
    Datum *elements;
    int n;

    deconstruct_array(DatumGetArrayTypeP(array), INT4OID, sizeof(int32), true, TYPALIGN_INT, &elements, NULL, &n);
    for (int i = 0; i < n; i++)
        result = lappend_int(result, DatumGetInt32(elements[i]));
    return result;
}

/* Inputs that exist. Where one was renamed or dropped, or the row is read as a whole: all but the columns that jobs fill. */
static void read_inputs(SlmJob *job, Relation source, const List *stored, const List *filled)
{
    ListCell *cell;
    bool complete = !job->whole_row;

    foreach (cell, stored)
        complete = complete && get_attnum(job->source, lfirst(cell)) > 0;
    if (complete) {
        foreach (cell, stored)
            job->input_columns = lappend(job->input_columns, pstrdup(quote_identifier(lfirst(cell))));
        return;
    }
    for (int i = 0; i < source->rd_att->natts; i++) {
        Form_pg_attribute att = TupleDescAttr(source->rd_att, i);
        bool is_filled = false;

        foreach (cell, filled)
            is_filled = is_filled || strcmp(lfirst(cell), NameStr(att->attname)) == 0;
        if (!att->attisdropped && !is_filled)
            job->input_columns = lappend(job->input_columns, pstrdup(quote_identifier(NameStr(att->attname))));
    }
}

/* The tables are locked first, so that what is read of them, their owners above all, holds until the transaction ends.  A separate target
 * is looked at by batches only: a writer does not wait for those who hold it. */
static void read_tables(SlmJob *job, const List *key_columns, const List *inputs, const List *filled,
                        const char *target_column, bool writer)
{
    Relation source = try_relation_open(job->source, AccessShareLock);
    Relation target = job->target == job->source || writer ? NULL : try_relation_open(job->target, AccessShareLock);

    job->source_owner = slm_pg_job_table_owner(job->source);
    job->target_owner = slm_pg_job_table_owner(job->target);
    job->source_name = slm_pg_job_table_name(job->source);
    job->target_name = slm_pg_job_table_name(job->target);
    job->target_column = pstrdup(quote_identifier(target_column));
    job->has_target_column = get_attnum(job->target, target_column) > 0;
    if (source != NULL) {
        slm_pg_job_read_keys(&job->keys, source, key_columns);
        read_inputs(job, source, inputs, filled);
        if (job->target == job->source)
            slm_pg_job_read_columns(&job->target_keys, source, &job->keys);
        relation_close(source, NoLock);
    }
    if (target != NULL) {
        slm_pg_job_read_columns(&job->target_keys, target, &job->keys);
        relation_close(target, NoLock);
    }
}

/* A job reads what another writes when its expression names the column; partitions count as their root. */
#define FOLLOWERS                                                                                                                   \
    "(WITH RECURSIVE f(id) AS (SELECT d.id UNION SELECT n.id FROM f JOIN slm.job_definition w ON w.id OPERATOR(pg_catalog.=) f.id " \
    "JOIN slm.job_definition n ON COALESCE(pg_catalog.pg_partition_root(n.source), n.source) OPERATOR(pg_catalog.=) "              \
    "COALESCE(pg_catalog.pg_partition_root(w.target), w.target) AND NOT n.whole_row "                                              \
    "AND w.target_column OPERATOR(pg_catalog.=) ANY (n.input_columns)) SELECT pg_catalog.array_agg(f.id) FROM f)"

/* The columns of slm.job_definition that read_row() takes, in its order. */
#define COLUMNS                                                                                                                     \
    "d.name, d.owner::pg_catalog.oid, d.source::pg_catalog.oid, d.target::pg_catalog.oid, d.target_column, "                        \
    "d.key_columns::pg_catalog.text[], d.input_columns::pg_catalog.text[], d.expression, d.search_path, d.settings, d.version, "    \
    "d.batch_size, d.max_attempts, d.overwrite, d.backfill, d.backfill_done, d.paused, d.whole_row, "                              \
    "ARRAY(SELECT f.target_column::pg_catalog.text FROM slm.job_definition f WHERE f.target OPERATOR(pg_catalog.=) d.source), "    \
    FOLLOWERS

static SlmJob *read_row(int32 id, bool writer)
{
    static const Oid types[] = {TEXTOID, OIDOID, OIDOID, OIDOID, NAMEOID, TEXTARRAYOID, TEXTARRAYOID, TEXTOID, TEXTOID,
                                JSONBOID, INT4OID, INT4OID, INT4OID, BOOLOID, TEXTOID, BOOLOID, BOOLOID, BOOLOID, TEXTARRAYOID,
                                INT4ARRAYOID};
    SlmJob *job = palloc0(sizeof *job);

    slm_pg_job_check_types(lengthof(types), types);
    job->id = id;
    job->name = TextDatumGetCString(slm_pg_job_value(0, 1));
    job->owner = DatumGetObjectId(slm_pg_job_value(0, 2));
    job->source = DatumGetObjectId(slm_pg_job_value(0, 3));
    job->target = DatumGetObjectId(slm_pg_job_value(0, 4));
    job->expression = TextDatumGetCString(slm_pg_job_value(0, 8));
    job->search_path = TextDatumGetCString(slm_pg_job_value(0, 9));
    job->settings = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 10);
    job->version = DatumGetInt32(slm_pg_job_value(0, 11));
    job->batch_size = DatumGetInt32(slm_pg_job_value(0, 12));
    job->max_attempts = DatumGetInt32(slm_pg_job_value(0, 13));
    job->overwrite = DatumGetBool(slm_pg_job_value(0, 14));
    job->newest_first = strcmp(TextDatumGetCString(slm_pg_job_value(0, 15)), "newest") == 0;
    job->backfill_done = DatumGetBool(slm_pg_job_value(0, 16));
    job->paused = DatumGetBool(slm_pg_job_value(0, 17));
    job->whole_row = DatumGetBool(slm_pg_job_value(0, 18));
    job->followers = number_list(slm_pg_job_value(0, 20));
    read_tables(job, string_list(slm_pg_job_value(0, 6)), string_list(slm_pg_job_value(0, 7)), string_list(slm_pg_job_value(0, 19)),
                pstrdup(NameStr(*DatumGetName(slm_pg_job_value(0, 5)))), writer);
    return job;
}

SlmJob *slm_pg_job_read(int32 id, bool lock)
{
    const char *query = "SELECT " COLUMNS " FROM slm.job_definition d WHERE d.id OPERATOR(pg_catalog.=) $1";
    Oid types[1] = {INT4OID};
    Datum values[1] = {Int32GetDatum(id)};
    MemoryContext context = CurrentMemoryContext;
    SlmAs saved;
    int code;

    if (!OidIsValid(slm_pg_extension_relation("job_definition")))
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("table slm.job_definition does not belong to the extension slm_pg")));
    if (lock)
        query = psprintf("%s FOR KEY SHARE%s", query, MyBackendType == B_BG_WORKER ? " NOWAIT" : "");
    slm_pg_as_extension(&saved);
    code = SPI_execute_with_args(query, 1, types, values, NULL, !lock, 1);
    slm_pg_as_end(&saved);
    if (code != SPI_OK_SELECT)
        elog(ERROR, "could not read slm.job_definition");
    MemoryContextSwitchTo(context); /* SPI has left its own */
    return SPI_processed == 0 ? NULL : read_row(id, !lock);
}
