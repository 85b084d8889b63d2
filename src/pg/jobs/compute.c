/*
 * The statements of a batch that run code of users, each as the owner of the table that it reads or writes:
 *
 *   look      target's owner   what the target holds for the claimed keys
 *   evaluate  source's owner   the expression, for rows whose inputs, version or value ask for it
 *   write     target's owner   the values, where the row is still as it was computed
 *
 * They hand rows to each other as named tuplestores, slm_u and slm_c, which stand before any relation of that name.  All run under the
 * job's search_path, so that functions and triggers find what they found when the job was made; whatever else a statement names has its
 * schema, and the types of its results are checked before they are used.  The expression is part of the statement as a tree
 * (one_expression.h), never as text.
 *
 * All values are computed before `write` locks the first row of the target, passing over those that others hold.  A row that has changed
 * meanwhile has another hash and is left: its own change has queued it again.
 *
 * A security-restricted operation cannot leave deferred triggers behind, so constraints of the target are immediate in a batch.
 */
#include "pg/jobs/compute.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "nodes/pg_list.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/queryenvironment.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#include "pg/base/as_owner.h"
#include "pg/base/one_expression.h"
#include "pg/jobs/check.h"
#include "pg/jobs/jobs.h"
#include "pg/jobs/origin.h"

/* ---------------------------------------------------------------- settings */

/* The settings that a job keeps; numbers are bounded by what the session that runs it has. */
static const struct {
    const char *name;
    bool bounded;
} kept[] = {{"slm.generate_model", false}, {"slm.classify_model", false}, {"slm.embed_model", false}, {"slm.on_error", false},
            {"slm.speculate", false},      {"slm.enable_batch", false},   {"slm.batch_size", true},   {"slm.kv_cache_memory", true},
            {"slm.kv_type", false}};

static void set_setting(const char *name, const char *value)
{
    for (int i = 0; i < (int) lengthof(kept); i++) {
        const char *now = GetConfigOption(name, true, false);

        if (strcmp(kept[i].name, name) != 0 || now == NULL)
            continue;
        if (kept[i].bounded && strtol(value, NULL, 10) > strtol(now, NULL, 10))
            value = now;
        (void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    }
}

void slm_pg_job_settings(const SlmJob *job)
{
    Jsonb *settings = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(job->settings)));
    JsonbIterator *iterator = JsonbIteratorInit(&settings->root);
    JsonbIteratorToken token;
    JsonbValue value;
    char *name = NULL;

    slm_pg_job_text_settings();
    while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE) {
        if (token == WJB_KEY)
            name = pnstrdup(value.val.string.val, value.val.string.len);
        else if (token == WJB_VALUE && value.type == jbvString && name != NULL)
            set_setting(name, pnstrdup(value.val.string.val, value.val.string.len));
    }
}

Datum slm_pg_job_kept_settings(void)
{
    StringInfoData names;
    MemoryContext context = CurrentMemoryContext;
    Datum result;

    initStringInfo(&names);
    for (int i = 0; i < (int) lengthof(kept); i++)
        appendStringInfo(&names, "%s%s", i > 0 ? ", " : "", quote_literal_cstr(kept[i].name));
    slm_pg_spi(psprintf("SELECT COALESCE(pg_catalog.jsonb_object_agg(s.name, s.setting), '{}') FROM pg_catalog.pg_settings s"
                        " WHERE s.name IN (%s)"
                        "   AND s.source NOT IN ('default', 'environment variable', 'configuration file', 'command line')",
                        names.data),
               SPI_OK_SELECT);
    result = slm_pg_job_datum(1, JSONBOID);
    MemoryContextSwitchTo(context);
    return PointerGetDatum(PG_DETOAST_DATUM_COPY(result));
}

/* ---------------------------------------------------------------- rows between statements */

static void name_rows(const char *name, TupleDesc desc, Tuplestorestate *store)
{
    EphemeralNamedRelation relation = palloc0(sizeof *relation);

    relation->md.name = pstrdup(name);
    relation->md.tupdesc = desc;
    relation->md.enrtype = ENR_NAMED_TUPLESTORE;
    relation->md.enrtuples = tuplestore_tuple_count(store);
    relation->reldata = store;
    (void) SPI_unregister_relation(name);
    if (SPI_register_relation(relation) != SPI_OK_REL_REGISTER)
        elog(ERROR, "could not name the rows of a job");
}

static bool differs(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a != b : strcmp(a, b) != 0;
}

/* May the target's value be replaced: it is NULL, or the one that the job wrote last? */
static bool replaceable(const SlmJob *job, const SlmJobRow *row)
{
    return job->overwrite || row->current == NULL || !differs(row->current, row->old_value);
}

/* Must the value be computed though the inputs are as they were: it is gone, or another one that may be replaced? */
static bool value_is_gone(const SlmJob *job, const SlmJobRow *row)
{
    return (row->old_value != NULL && row->current == NULL) || (job->overwrite && differs(row->current, row->old_value));
}

/* Names as slm_u the rows (slm_id, slm_key, slm_old_input, slm_old_value): all, or those that may be written. */
static void name_claimed(const SlmJob *job, const SlmJobRow *rows, int n, bool writable_only)
{
    TupleDesc desc = CreateTemplateTupleDesc(4);
    Tuplestorestate *store = tuplestore_begin_heap(true, false, work_mem);

    TupleDescInitEntry(desc, 1, "slm_id", INT8OID, -1, 0);
    TupleDescInitEntry(desc, 2, "slm_key", JSONBOID, -1, 0);
    TupleDescInitEntry(desc, 3, "slm_old_input", TEXTOID, -1, 0);
    TupleDescInitEntry(desc, 4, "slm_old_value", TEXTOID, -1, 0);
    for (int i = 0; i < n; i++) {
        const char *old_input = writable_only && value_is_gone(job, &rows[i]) ? NULL : rows[i].old_input;
        Datum values[4] = {Int64GetDatum(rows[i].id), rows[i].key};
        bool nulls[4] = {false, false, old_input == NULL, rows[i].old_value == NULL};

        if (writable_only && !replaceable(job, &rows[i]))
            continue;
        if (old_input != NULL)
            values[2] = CStringGetTextDatum(old_input);
        if (rows[i].old_value != NULL)
            values[3] = CStringGetTextDatum(rows[i].old_value);
        tuplestore_putvalues(store, desc, values, nulls);
    }
    name_rows("slm_u", desc, store);
}

static int compare_id(const void *id, const void *row)
{
    int64 a = *(const int64 *) id, b = ((const SlmJobRow *) row)->id;

    return a < b ? -1 : a > b;
}

/* The row of which row i of the SPI result speaks in its first column. */
static SlmJobRow *row_of(SlmJobRow *rows, int n, uint64 i)
{
    int64 id = DatumGetInt64(slm_pg_job_value(i, 1));
    SlmJobRow *row = bsearch(&id, rows, n, sizeof *rows, compare_id);

    if (row == NULL)
        elog(ERROR, "a statement of a job names a row that was not claimed");
    return row;
}

static char *text_in(MemoryContext context, uint64 i, int column)
{
    Datum value = slm_pg_job_value(i, column);

    return value == (Datum) 0 ? NULL : MemoryContextStrdup(context, TextDatumGetCString(value));
}

/* ---------------------------------------------------------------- look */

static void look(const SlmJob *job, SlmJobRow *rows, int n, MemoryContext context)
{
    static const Oid types[] = {INT8OID, TEXTOID};

    name_claimed(job, rows, n, false);
    slm_pg_spi(psprintf("SELECT slm_u.slm_id, %s FROM slm_u JOIN %s slm_t ON %s", slm_pg_job_value_hash(job, "slm_t"), job->target_name,
                        slm_pg_job_key_condition(&job->target_keys, "slm_t", "slm_u.slm_key")),
               SPI_OK_SELECT);
    slm_pg_job_check_types(lengthof(types), types);
    for (uint64 i = 0; i < SPI_processed; i++) {
        SlmJobRow *row = row_of(rows, n, i);

        row->current = text_in(context, i, 2);
        row->kept = !replaceable(job, row);
    }
}

/* ---------------------------------------------------------------- evaluate */

static SPIPlanPtr prepare_values(const SlmJob *job, SlmExpression *expression)
{
    char *hash = slm_pg_job_input_hash(job, job->source_name);

    char *query = psprintf("SELECT slm_u.slm_id, slm_u.slm_key, slm_u.slm_old_value, %s AS slm_hash, slm_expression AS slm_value"
                           " FROM slm_u JOIN %s ON %s"
                           " WHERE (%s OPERATOR(pg_catalog.=) slm_u.slm_old_input) IS NOT TRUE",
                           hash, job->source_name, slm_pg_job_key_condition(&job->keys, job->source_name, "slm_u.slm_key"), hash);

    return slm_pg_prepare_with(query, expression, 0, NULL);
}

/* Names the computed rows slm_c (slm_id, slm_key, slm_old_value, slm_hash, slm_value); returns how many.  *type: the value's. */
static uint64 evaluate(const SlmJob *job, SlmJobRow *rows, int n, MemoryContext context, Oid *type)
{
    static const Oid types[] = {INT8OID, JSONBOID, TEXTOID, TEXTOID};
    SlmExpression *expression = slm_pg_parse_expression(job->expression);
    Tuplestorestate *store = tuplestore_begin_heap(true, false, work_mem);

    name_claimed(job, rows, n, true);
    if (slm_pg_execute_with(prepare_values(job, expression), expression, NULL, NULL, false, 0) != SPI_OK_SELECT)
        elog(ERROR, "unexpected result of a job's statement");
    slm_pg_job_check_types(lengthof(types), types);
    *type = SPI_gettypeid(SPI_tuptable->tupdesc, lengthof(types) + 1);
    for (uint64 i = 0; i < SPI_processed; i++) {
        SlmJobRow *row = row_of(rows, n, i);

        if (row->computed)
            elog(ERROR, "a row of a job was computed twice");
        row->computed = true;
        row->input = text_in(context, i, 4);
        tuplestore_puttuple(store, SPI_tuptable->vals[i]);
    }
    name_rows("slm_c", CreateTupleDescCopy(SPI_tuptable->tupdesc), store);
    return SPI_processed;
}

/* ---------------------------------------------------------------- types */

/* Is it a row type, or made of one? */
static bool has_row_type(Oid type)
{
    Oid base = getBaseType(type), element = get_element_type(base), range = get_range_subtype(base);

    if (!OidIsValid(range))
        range = get_multirange_range(base);
    if (OidIsValid(element) || OidIsValid(range))
        return has_row_type(OidIsValid(element) ? element : range);
    return type_is_rowtype(base);
}

/* Can a value of the expression's type be assigned to the target column?  A row type must be the column's own, which cannot be altered
 * while it is: code that is evaluated could alter any other between two statements of a batch. */
static void check_type(const SlmJob *job, Oid type)
{
    Relation table = table_open(job->target, AccessShareLock);
    TupleDesc desc = RelationGetDescr(table);

    for (int i = 0; i < desc->natts; i++) {
        Form_pg_attribute column = TupleDescAttr(desc, i);

        if (column->attisdropped || strcmp(quote_identifier(NameStr(column->attname)), job->target_column) != 0 ||
            (can_coerce_type(1, &type, &column->atttypid, COERCION_ASSIGNMENT) && (type == column->atttypid || !has_row_type(type))))
            continue;
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("column %s is of type %s but the expression is of type %s", job->target_column,
                               format_type_be(column->atttypid), format_type_be(type)),
                        errhint("Cast the expression: (...)::%s.", format_type_with_typemod(column->atttypid, column->atttypmod))));
    }
    table_close(table, NoLock);
}

/* ---------------------------------------------------------------- write */

/* The row of the target may be replaced. old_value is the expression of the hash of the value that the job wrote last. */
static char *may_replace(const SlmJob *job, const char *old_value)
{
    char *hash = slm_pg_job_value_hash(job, "slm_t");

    return job->overwrite ? pstrdup("true") : psprintf("(%s IS NULL OR %s OPERATOR(pg_catalog.=) %s)", hash, hash, old_value);
}

/* "slm_t is the row of slm_c, as it was computed, and may be replaced". */
static char *still_same(const SlmJob *job)
{
    return psprintf("%s AND %s OPERATOR(pg_catalog.=) slm_c.slm_hash AND %s",
                    slm_pg_job_key_condition(&job->target_keys, "slm_t", "slm_c.slm_key"), slm_pg_job_input_hash(job, "slm_t"),
                    may_replace(job, "slm_c.slm_old_value"));
}

static char *update_query(const SlmJob *job)
{
    char *same = still_same(job);

    return psprintf("WITH slm_l AS MATERIALIZED ("
                    "    SELECT slm_c.* FROM slm_c JOIN %s slm_t ON %s FOR NO KEY UPDATE OF slm_t SKIP LOCKED),"
                    " slm_w AS ("
                    "    UPDATE %s slm_t SET %s = slm_c.slm_value FROM slm_l slm_c WHERE %s"
                    "    RETURNING slm_c.slm_id, %s AS slm_written)"
                    " SELECT slm_w.slm_id, slm_w.slm_written FROM slm_w",
                    job->target_name, same, job->target_name, job->target_column, same, slm_pg_job_value_hash(job, "slm_t"));
}

/* In the order of the keys, so that two workers do not wait for each other. */
static char *upsert_query(const SlmJob *job)
{
    char *keys = slm_pg_job_key_columns(&job->target_keys, "", ""), *key = slm_pg_job_key(&job->target_keys, "slm_t");
    char *old = psprintf("(SELECT slm_o.slm_old_value FROM slm_c slm_o WHERE slm_o.slm_key OPERATOR(pg_catalog.=) %s)", key);

    return psprintf("WITH slm_w AS ("
                    "    INSERT INTO %s AS slm_t (%s, %s)"
                    "    SELECT %s, slm_c.slm_value FROM slm_c ORDER BY slm_c.slm_key"
                    "    ON CONFLICT (%s) DO UPDATE SET %s = EXCLUDED.%s WHERE %s"
                    "    RETURNING %s AS slm_key, %s AS slm_written)"
                    " SELECT slm_c.slm_id, slm_w.slm_written"
                    " FROM slm_c JOIN slm_w ON slm_w.slm_key OPERATOR(pg_catalog.=) slm_c.slm_key",
                    job->target_name, keys, job->target_column, slm_pg_job_key_values(&job->target_keys, "slm_c.slm_key"), keys,
                    job->target_column, job->target_column, may_replace(job, old), key, slm_pg_job_value_hash(job, "slm_t"));
}

static char *write_query(const SlmJob *job)
{
    return job->source == job->target ? update_query(job) : upsert_query(job);
}

/* "slm_t is the row of slm_c, and a user has written its value meanwhile". */
static char *written_by_user(const SlmJob *job)
{
    return psprintf("%s AND (%s) IS NOT TRUE", slm_pg_job_key_condition(&job->target_keys, "slm_t", "slm_c.slm_key"),
                    may_replace(job, "slm_c.slm_old_value"));
}

/* Sorts out rows that were computed and not written: a user's value stays, others hold them, or they are free and refused by a trigger or
 * policy.  Of rows whose inputs have changed nothing is to be said: they were queued again. */
static void look_at_rest(const SlmJob *job, SlmJobRow *rows, int n)
{
    static const Oid types[] = {INT8OID};
    char *query = psprintf("SELECT slm_c.slm_id FROM slm_c JOIN %s slm_t ON %s", job->target_name, still_same(job));

    slm_pg_spi(psprintf("SELECT slm_c.slm_id FROM slm_c JOIN %s slm_t ON %s", job->target_name, written_by_user(job)), SPI_OK_SELECT);
    slm_pg_job_check_types(lengthof(types), types);
    for (uint64 i = 0; i < SPI_processed; i++)
        row_of(rows, n, i)->kept = !row_of(rows, n, i)->written;
    if (job->source != job->target)
        return; /* an upsert waits for who holds a row */
    slm_pg_spi(query, SPI_OK_SELECT);
    slm_pg_job_check_types(lengthof(types), types);
    for (uint64 i = 0; i < SPI_processed; i++) {
        SlmJobRow *row = row_of(rows, n, i);

        row->held = !row->written;
    }
    slm_pg_spi(psprintf("%s FOR NO KEY UPDATE OF slm_t SKIP LOCKED", query), SPI_OK_SELECT);
    slm_pg_job_check_types(lengthof(types), types);
    for (uint64 i = 0; i < SPI_processed; i++) {
        SlmJobRow *row = row_of(rows, n, i);

        row->refused = row->held;
        row->held = false;
    }
}

static void write_values(const SlmJob *job, SlmJobRow *rows, int n, uint64 n_computed, MemoryContext context)
{
    static const Oid types[] = {INT8OID, TEXTOID};

    slm_pg_spi(write_query(job), SPI_OK_SELECT);
    slm_pg_job_check_types(lengthof(types), types);
    for (uint64 i = 0; i < SPI_processed; i++) {
        SlmJobRow *row = row_of(rows, n, i);

        row->written = true;
        row->value = text_in(context, i, 2);
    }
    if (SPI_processed < n_computed)
        look_at_rest(job, rows, n);
}

/* The rows as this transaction has left them: what the table's triggers made of the write, before and after it, is the job's own write,
 * and no change of the inputs.  A row of a separate source that others have changed meanwhile is not ours. */
static void look_again(const SlmJob *job, SlmJobRow *rows, int n, MemoryContext context, bool target)
{
    static const Oid types[] = {INT8OID, XIDOID, TEXTOID, TEXTOID};
    bool inputs = !target || job->source == job->target;

    slm_pg_spi(psprintf("SELECT slm_c.slm_id, slm_t.xmin, %s, %s FROM slm_c JOIN %s slm_t ON %s",
                        inputs ? slm_pg_job_input_hash(job, "slm_t") : "NULL::pg_catalog.text",
                        target ? slm_pg_job_value_hash(job, "slm_t") : "NULL::pg_catalog.text",
                        target ? job->target_name : job->source_name,
                        slm_pg_job_key_condition(target ? &job->target_keys : &job->keys, "slm_t", "slm_c.slm_key")),
               SPI_OK_SELECT);
    slm_pg_job_check_types(lengthof(types), types);
    for (uint64 i = 0; i < SPI_processed; i++) {
        SlmJobRow *row = row_of(rows, n, i);

        if (!row->written || !TransactionIdIsCurrentTransactionId(DatumGetTransactionId(slm_pg_job_value(i, 2))))
            continue;
        if (inputs)
            row->input = text_in(context, i, 3);
        if (target)
            row->value = text_in(context, i, 4);
    }
}

/* ---------------------------------------------------------------- all of it */

void slm_pg_job_compute(const SlmJob *job, SlmJobRow *rows, int n)
{
    MemoryContext context = CurrentMemoryContext;
    uint64 n_computed;
    Oid type;
    SlmAs saved;

    for (int i = 0; i < n; i++)
        rows[i] = (SlmJobRow){.id = rows[i].id, .key = rows[i].key, .old_input = rows[i].old_input, .old_value = rows[i].old_value};
    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    slm_pg_as(&saved, job->target_owner, job->search_path);
    slm_pg_spi("SET CONSTRAINTS ALL IMMEDIATE", SPI_OK_UTILITY);
    look(job, rows, n, context);
    slm_pg_as_end(&saved);

    slm_pg_as(&saved, job->source_owner, job->search_path);
    n_computed = evaluate(job, rows, n, context, &type);
    slm_pg_as_end(&saved);
    check_type(job, type);

    if (n_computed > 0) {
        slm_pg_job_origin_begin(job, rows, n);
        slm_pg_as(&saved, job->target_owner, job->search_path);
        write_values(job, rows, n, n_computed, context);
        look_again(job, rows, n, context, true);
        slm_pg_as_end(&saved);
        slm_pg_job_origin_end();
    }
    if (n_computed > 0 && job->source != job->target) {
        slm_pg_as(&saved, job->source_owner, job->search_path);
        look_again(job, rows, n, context, false);
        slm_pg_as_end(&saved);
    }
    SPI_finish();
    MemoryContextSwitchTo(context);
}

void slm_pg_job_try(const SlmJob *job)
{
    MemoryContext context = CurrentMemoryContext;
    Oid type;
    SlmAs saved;

    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    slm_pg_as(&saved, job->source_owner, job->search_path);
    slm_pg_check_expression_models(job->source, job->expression);
    (void) evaluate(job, NULL, 0, context, &type);
    slm_pg_as_end(&saved);
    check_type(job, type);

    slm_pg_as(&saved, job->target_owner, job->search_path);
    slm_pg_spi(psprintf("EXPLAIN %s", write_query(job)), SPI_OK_UTILITY);
    slm_pg_as_end(&saved);
    SPI_finish();
    MemoryContextSwitchTo(context);
}

/* Is a column generated from the target column? */
static bool is_generated_from(const SlmJob *job, TupleDesc desc, AttrNumber column)
{
    Bitmapset *read = NULL;
    int number = -1;

    if (job->source != job->target || TupleDescAttr(desc, column - 1)->attgenerated == '\0')
        return false;
    for (int i = 0; i < desc->constr->num_defval; i++)
        if (desc->constr->defval[i].adnum == column)
            pull_varattnos(stringToNode(desc->constr->defval[i].adbin), 1, &read);
    while ((number = bms_next_member(read, number)) >= 0) {
        AttrNumber from = number + FirstLowInvalidHeapAttributeNumber;

        if (from == 0 || (from > 0 && strcmp(quote_identifier(NameStr(TupleDescAttr(desc, from - 1)->attname)), job->target_column) == 0))
            return true;
    }
    return false;
}

List *slm_pg_job_inputs(const SlmJob *job, bool *whole_row)
{
    SlmExpression *expression = slm_pg_parse_expression(job->expression);
    Relation source = table_open(job->source, AccessShareLock);
    TupleDesc desc = RelationGetDescr(source);
    List *result = NIL;
    Bitmapset *read;
    SPIPlanPtr plan;
    SlmAs saved;

    slm_pg_as(&saved, job->source_owner, job->search_path);
    plan = slm_pg_prepare_with(psprintf("SELECT slm_expression FROM %s", job->source_name), expression, 0, NULL);
    read = slm_pg_columns_read(slm_pg_analysed(plan), job->source);
    *whole_row = bms_is_empty(read) || bms_is_member(0, read);
    slm_pg_as_end(&saved);
    for (int i = 0; i < desc->natts; i++) {
        char *name = pstrdup(NameStr(TupleDescAttr(desc, i)->attname));
        bool target = job->source == job->target && strcmp(quote_identifier(name), job->target_column) == 0;

        if (TupleDescAttr(desc, i)->attisdropped)
            continue;
        if (bms_is_member(i + 1, read) && (target || is_generated_from(job, desc, i + 1)))
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("the expression reads the column that it fills, %s", job->target_column),
                            errhint("A value that is computed from itself would never be finished. Fill another column.")));
        if (!target && !is_generated_from(job, desc, i + 1) && (*whole_row || bms_is_member(i + 1, read)))
            result = lappend(result, name);
    }
    table_close(source, NoLock);
    return result;
}
