/*
 * update_batch.c: a batch of slm_update; see update.h.
 *
 * A window is found by the primary key alone, so that its cost is bounded whatever the condition is.  One statement then computes the rows
 * of the window that the condition wants, all of them (the batch node sees them together) before the first is locked, and writes
 * those that are still the version that was computed.  Rows that somebody has changed meanwhile are locked and computed again.
 *
 * A statement that fails is undone and tried by halves of its rows, until the bad ones are alone.  Rows are named by their key as
 * text of a jsonb array, which also tells the user which they were.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "portability/instr_time.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/resowner.h"
#include "utils/syscache.h"

#include "pg/base/as_owner.h"
#include "pg/base/compat.h"
#include "pg/base/failure.h"
#include "pg/base/one_expression.h"
#include "pg/jobs/check.h"
#include "pg/jobs/jobs.h"
#include "pg/jobs/update.h"

#define SMALL_TABLE 10000     /* rows */
#define SAMPLE_ROWS 32        /* that are computed for a forecast */
#define SAMPLE_SCANNED 640    /* that are looked at for it, about */
#define SAMPLE_BY_ROWS 1e6    /* rows; in a larger table, blocks are chosen */
#define SAMPLE_SLOW 2.0       /* seconds: when the first row takes longer, it is the sample */
#define SAMPLE_ALONE 8        /* rows that are tried one by one after an error */
#define SAMPLE_ENOUGH 3       /* when so many fail and none does not, no more are tried */

/* ---------------------------------------------------------------- the table */

/* what: with %s for the table's name. */
pg_noreturn static void refuse(const SlmUpdate *u, int code, const char *what, const char *hint)
{
    const char *place = strstr(what, "%s");

    ereport(ERROR, (errcode(code), errmsg("%.*s%s%s", (int) (place - what), what, u->table, place + 2), errhint("%s", hint)));
}

static void check_kind(const SlmUpdate *u, Relation table)
{
    char kind = table->rd_rel->relkind;

    if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
        refuse(u, ERRCODE_WRONG_OBJECT_TYPE, "%s is not a table", "slm_update works on tables and partitioned tables.");
    if (table->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
        refuse(u, ERRCODE_WRONG_OBJECT_TYPE, "%s is a temporary table", "It ends with the session, so an UPDATE serves it as well.");
    if (getExtensionOfObject(RelationRelationId, u->source) == get_extension_oid("slm_pg", true) || IsSystemRelation(table))
        refuse(u, ERRCODE_WRONG_OBJECT_TYPE, "%s is not a table of a user", "slm_update works on tables of users.");
    if (!slm_pg_may_become(u->caller, u->owner))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be a member of role \"%s\", which owns table %s",
                                                                        GetUserNameFromId(u->owner, true), u->table),
                        errhint("Triggers and expressions run as the table's owner: he or who may SET ROLE to him can call slm_update.")));
    slm_pg_refuse_distributed(u->source, u->table);
}

/* The primary key's columns and types, in its order. */
static void read_keys(SlmUpdate *u, Relation table)
{
    Bitmapset *unused = RelationGetIndexAttrBitmap(table, INDEX_ATTR_BITMAP_PRIMARY_KEY); /* sets rd_pkindex */
    SlmJobKeys operators = {0};
    StringInfoData key;
    HeapTuple tuple;
    Form_pg_index form;

    bms_free(unused);
    initStringInfo(&key);
    if (!OidIsValid(table->rd_pkindex))
        refuse(u, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "table %s has no primary key",
               "Rows are taken in the order of the primary key. Add one with ALTER TABLE ... ADD PRIMARY KEY, or use a plain UPDATE.");
    slm_pg_job_read_keys(&operators, table, NIL);
    tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(table->rd_pkindex));
    form = (Form_pg_index) GETSTRUCT(tuple);
    for (int i = 0; i < form->indnkeyatts; i++) {
        Form_pg_attribute att = TupleDescAttr(RelationGetDescr(table), form->indkey.values[i] - 1);

        u->keys = lappend(u->keys, pstrdup(quote_identifier(NameStr(att->attname))));
        u->key_types = lappend(u->key_types, format_type_extended(att->atttypid, att->atttypmod,
                                                                  FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
        u->key_equals = lappend(u->key_equals, operators.list[i].equal);
        u->builtin_order = u->builtin_order && strcmp(operators.list[i].less, "OPERATOR(pg_catalog.<)") == 0;
        appendStringInfo(&key, "%s%d %s", i > 0 ? ", " : "", att->attnum, (char *) llast(u->key_types));
        if (strcmp(NameStr(att->attname), u->target_column) == 0)
            refuse(u, ERRCODE_INVALID_PARAMETER_VALUE, psprintf("column \"%s\" is part of the primary key of table %%s", u->target_column),
                   "Rows are taken in the order of the primary key, which must not change meanwhile. Use a plain UPDATE.");
    }
    ReleaseSysCache(tuple);
    u->key = key.data;
}

static void read_column(SlmUpdate *u, Relation table)
{
    AttrNumber number = get_attnum(u->source, u->target_column);
    Form_pg_attribute att;

    if (number <= 0)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("table %s has no column \"%s\"", u->table, u->target_column),
                        errhint("Add it first: ALTER TABLE %s ADD COLUMN %s text;", u->table, u->column)));
    att = TupleDescAttr(RelationGetDescr(table), number - 1);
    if (att->attgenerated != '\0')
        refuse(u, ERRCODE_GENERATED_ALWAYS, psprintf("column \"%s\" of table %%s is generated", u->target_column),
               "Name an ordinary column.");
    u->type = att->atttypid;
    u->typmod = att->atttypmod;
}

void slm_pg_update_table(SlmUpdate *u)
{
    MemoryContext old = MemoryContextSwitchTo(u->transaction);
    Relation table = try_table_open(u->source, AccessShareLock);

    if (table == NULL)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table with OID %u does not exist", u->source)));
    u->owner = table->rd_rel->relowner;
    u->name = pstrdup(quote_identifier(RelationGetRelationName(table)));
    u->table = table->rd_rel->relpersistence == RELPERSISTENCE_TEMP ? u->name :
               quote_qualified_identifier(get_namespace_name(RelationGetNamespace(table)), RelationGetRelationName(table));
    u->column = pstrdup(quote_identifier(u->target_column));
    u->keys = u->key_types = u->key_equals = NIL;
    u->builtin_order = true;
    check_kind(u, table);
    read_column(u, table);
    read_keys(u, table);
    table_close(table, NoLock);
    MemoryContextSwitchTo(old);
}

/* ---------------------------------------------------------------- acting */

typedef void (*Step)(SlmUpdate *u, void *arg);

/* The statement around the expression tells the user nothing: it is the last one in the context of an error. */
static void hide_statement(ErrorData *error)
{
    char *from = NULL, *to;

    for (char *next = error->context; next != NULL && (next = strstr(next, "SQL statement \"")) != NULL; next++)
        from = next;
    to = from == NULL ? NULL : strstr(from, "\nslm_update of ");
    if (to != NULL)
        memmove(from, to + 1, strlen(to + 1) + 1);
}

/* Does a step as the table's owner, in a subtransaction with an SPI connection of its own, so that nothing of it stays behind: the error
 * when it failed and was undone, else NULL. A cancel is raised. */
static ErrorData *attempt(SlmUpdate *u, Step step, void *arg)
{
    ResourceOwner resources = CurrentResourceOwner;
    ErrorData *volatile error = NULL;
    SlmAs as;

    BeginInternalSubTransaction(NULL);
    MemoryContextSwitchTo(u->transaction);
    PG_TRY();
    {
        if (SPI_connect() != SPI_OK_CONNECT)
            elog(ERROR, "could not connect to SPI");
        slm_pg_as(&as, u->owner, u->path);
        if (u->on_error != NULL)
            (void) set_config_option("slm.on_error", u->on_error, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
        step(u, arg);
        slm_pg_as_end(&as);
        SPI_finish();
        ReleaseCurrentSubTransaction();
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(u->transaction);
        error = CopyErrorData();
        FlushErrorState();
        RollbackAndReleaseCurrentSubTransaction();
        MemoryContextSwitchTo(u->transaction);
    }
    PG_END_TRY();
    MemoryContextSwitchTo(u->transaction);
    CurrentResourceOwner = resources;
    if (error != NULL)
        hide_statement(error);
    if (error != NULL && slm_pg_ends_work(error->sqlerrcode))
        ReThrowError(error);
    return error;
}

/* The same, raising what it met. */
static void act(SlmUpdate *u, Step step, void *arg)
{
    ErrorData *error = attempt(u, step, arg);

    if (error != NULL)
        ReThrowError(error);
}

/* Column of the first SPI row in the transaction's context; ERROR unless it is of the type; (Datum) 0 for null. */
static Datum result(SlmUpdate *u, int column, Oid type)
{
    MemoryContext old;
    bool isnull;
    Datum value;

    if (SPI_processed != 1 || SPI_gettypeid(SPI_tuptable->tupdesc, column) != type)
        elog(ERROR, "unexpected result of a statement of slm_update");
    value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull);
    old = MemoryContextSwitchTo(u->transaction);
    value = isnull ? (Datum) 0 : datumCopy(value, get_typbyval(type), get_typlen(type));
    MemoryContextSwitchTo(old);
    return value;
}

static void select_one(const char *query, int n, const Oid *types, const Datum *values, const char *nulls)
{
    if (SPI_execute_with_args(query, n, unconstify(Oid *, types), unconstify(Datum *, values), nulls, false, 0) != SPI_OK_SELECT)
        elog(ERROR, "unexpected result of \"%s\"", query);
}

/* ---------------------------------------------------------------- parts of statements */

/* "prefix.k1suffix, prefix.k2suffix". */
static char *key_columns(const SlmUpdate *u, const char *prefix, const char *suffix)
{
    StringInfoData out;
    ListCell *cell;

    initStringInfo(&out);
    foreach (cell, u->keys)
        appendStringInfo(&out, "%s%s.%s%s", out.len > 0 ? ", " : "", prefix, (char *) lfirst(cell), suffix);
    return out.data;
}

/* A row's key as text. */
static char *key_text(const SlmUpdate *u)
{
    return psprintf("pg_catalog.jsonb_build_array(%s)::pg_catalog.text", key_columns(u, u->name, ""));
}

/* "(t.k1, t.k2) > (($1)[1]::int, ($1)[2]::text)"; a comparison of rows, which the index serves, has one operator for all columns. */
static char *key_compare(const SlmUpdate *u, const char *operator, int parameter)
{
    StringInfoData out;
    ListCell *cell;

    initStringInfo(&out);
    appendStringInfo(&out, u->builtin_order ? "ROW(%s) OPERATOR(pg_catalog.%s) ROW(" : "ROW(%s) %s ROW(", key_columns(u, u->name, ""),
                     operator);
    foreach (cell, u->key_types)
        appendStringInfo(&out, "%s(($%d)[%d])::%s", foreach_current_index(cell) > 0 ? ", " : "", parameter,
                         foreach_current_index(cell) + 1, (char *) lfirst(cell));
    appendStringInfoChar(&out, ')');
    return out.data;
}

/* Rows of the window $1 (0: from the first) to $2. */
static char *in_window(const SlmUpdate *u, const SlmUpdateWindow *window)
{
    return psprintf("%s%s%s", window->after == (Datum) 0 ? "" : key_compare(u, ">", 1), window->after == (Datum) 0 ? "" : " AND ",
                    key_compare(u, "<=", 2));
}

/* ---------------------------------------------------------------- windows */

static void count_rows(SlmUpdate *u, void *arg)
{
    select_one(psprintf("SELECT pg_catalog.count(*) FROM %s", u->table), 0, NULL, NULL, NULL);
    *(double *) arg = (double) DatumGetInt64(result(u, 1, INT8OID));
}

/* As the last VACUUM or ANALYZE saw it; where that was small or is not known, counting is cheap, or worth its while. */
double slm_pg_update_rows(SlmUpdate *u)
{
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(u->source));
    double rows = HeapTupleIsValid(tuple) ? ((Form_pg_class) GETSTRUCT(tuple))->reltuples : 0;

    if (HeapTupleIsValid(tuple))
        ReleaseSysCache(tuple);
    if (rows < SMALL_TABLE)
        act(u, count_rows, &rows);
    return rows;
}

typedef struct WindowStep {
    int n;
    SlmUpdateWindow window;
} WindowStep;

static void find_window(SlmUpdate *u, void *arg)
{
    WindowStep *w = arg;
    Oid types[1] = {TEXTARRAYOID};
    int level = NewGUCNestLevel();
    char *query = psprintf("WITH slm_k AS MATERIALIZED ("
                           "    SELECT %s FROM %s %s%s ORDER BY %s LIMIT %d) "
                           "SELECT pg_catalog.count(*), "
                           "    (SELECT ARRAY[%s] FROM slm_k ORDER BY %s LIMIT 1) "
                           "FROM slm_k",
                           key_columns(u, u->name, ""), u->table, u->position == (Datum) 0 ? "" : "WHERE ",
                           u->position == (Datum) 0 ? "" : key_compare(u, ">", 1), key_columns(u, u->name, ""), w->n,
                           key_columns(u, "slm_k", "::pg_catalog.text"), key_columns(u, "slm_k", " DESC"));

    slm_pg_job_text_settings();
    select_one(query, u->position == (Datum) 0 ? 0 : 1, types, &u->position, NULL);
    w->window.after = u->position;
    w->window.rows = DatumGetInt64(result(u, 1, INT8OID));
    w->window.last = result(u, 2, TEXTARRAYOID);
    AtEOXact_GUC(false, level);
}

SlmUpdateWindow slm_pg_update_window(SlmUpdate *u, int n)
{
    WindowStep w = {.n = n};

    act(u, find_window, &w);
    return w.window;
}

/* ---------------------------------------------------------------- one statement */

typedef struct BatchStep {
    const SlmUpdateWindow *window;
    Datum only; /* text[]: keys of the rows that are meant; 0: all of the window */
    int64 computed, written;
    Datum left; /* text[]: keys of rows that were computed and not written; 0: none */
} BatchStep;

/* Parameters: $1, $2 the window, $3 the keys. */
static void set_parameters(const BatchStep *b, Oid types[3], Datum values[3], char nulls[4])
{
    types[0] = types[1] = types[2] = TEXTARRAYOID;
    values[0] = b->window->after;
    values[1] = b->window->last;
    values[2] = b->only;
    for (int i = 0; i < 3; i++)
        nulls[i] = values[i] == (Datum) 0 ? 'n' : ' ';
    nulls[3] = '\0';
}

/* The expression with the condition, for the table's column. */
static SlmExpression *parse(SlmUpdate *u)
{
    SlmExpression *expression = slm_pg_parse_expression(u->expression);

    if (u->condition != NULL)
        slm_pg_expression_where(expression, slm_pg_parse_expression(u->condition));
    slm_pg_expression_as(expression, u->target_column, u->type, u->typmod, false);
    return expression;
}

/* "t.k1 AS slm_k0, t.k2 AS slm_k1". */
static char *key_names(const SlmUpdate *u)
{
    StringInfoData out;
    ListCell *cell;

    initStringInfo(&out);
    foreach (cell, u->keys)
        appendStringInfo(&out, "%s%s.%s AS slm_k%d", out.len > 0 ? ", " : "", u->name, (char *) lfirst(cell), foreach_current_index(cell));
    return out.data;
}

/* "slm_t.k1 = slm_b.slm_k0 AND slm_t.k2 = slm_b.slm_k1". */
static char *key_match(const SlmUpdate *u)
{
    StringInfoData out;
    ListCell *cell;

    initStringInfo(&out);
    foreach (cell, u->keys)
        appendStringInfo(&out, "%sslm_t.%s %s slm_b.slm_k%d", out.len > 0 ? " AND " : "", (char *) lfirst(cell),
                         (char *) list_nth(u->key_equals, foreach_current_index(cell)), foreach_current_index(cell));
    return out.data;
}

/* The condition of the rows that are meant: those of the window, or of its keys $3. */
static char *meant(const SlmUpdate *u, const BatchStep *b)
{
    char *window = in_window(u, b->window);

    return b->only == (Datum) 0 ? window : psprintf("%s AND %s OPERATOR(pg_catalog.=) ANY ($3)", window, key_text(u));
}

/* The count in the UPDATE's condition is a one-time filter: all rows are computed before the first is locked.  A ctid is compared as text,
 * which a scan by ctid does not serve: such a scan does not look again at a row that was changed meanwhile.  The last join is FULL so that
 * it is never a nested loop; slm_w is part of slm_b. */
static char *batch_query(const SlmUpdate *u, const BatchStep *b)
{
    return psprintf("WITH slm_b AS MATERIALIZED ("
                    "    SELECT %s, %s.tableoid AS slm_table, %s.ctid::pg_catalog.text AS slm_ctid, %s AS slm_key,"
                    "        slm_expression AS slm_value"
                    "    FROM %s"
                    "    WHERE %s%s"
                    "    ORDER BY %s), "
                    "slm_w AS ("
                    "    UPDATE %s slm_t SET %s = slm_b.slm_value FROM slm_b"
                    "    WHERE %s"
                    "        AND slm_t.ctid::pg_catalog.text OPERATOR(pg_catalog.=) slm_b.slm_ctid"
                    "        AND slm_t.tableoid OPERATOR(pg_catalog.=) slm_b.slm_table"
                    "        AND (SELECT pg_catalog.count(*) FROM slm_b) OPERATOR(pg_catalog.>=) 0"
                    "    RETURNING slm_b.slm_ctid, slm_b.slm_table) "
                    "SELECT pg_catalog.count(*), pg_catalog.count(slm_w.slm_ctid),"
                    "    pg_catalog.array_agg(slm_b.slm_key) FILTER (WHERE slm_w.slm_ctid IS NULL) "
                    "FROM slm_b FULL JOIN slm_w ON slm_w.slm_ctid OPERATOR(pg_catalog.=) slm_b.slm_ctid"
                    "    AND slm_w.slm_table OPERATOR(pg_catalog.=) slm_b.slm_table",
                    key_names(u), u->name, u->name, key_text(u), u->table, meant(u, b), u->condition == NULL ? "" : " AND slm_condition",
                    key_columns(u, u->name, ""), u->table, u->column, key_match(u));
}

static void run_statement(SlmUpdate *u, void *arg)
{
    BatchStep *b = arg;
    SlmExpression *expression = parse(u);
    Oid types[3];
    Datum values[3];
    char nulls[4];
    SPIPlanPtr plan;

    set_parameters(b, types, values, nulls);
    plan = slm_pg_prepare_with(batch_query(u, b), expression, 3, types);
    if (slm_pg_execute_with(plan, expression, values, nulls, false, 0) != SPI_OK_SELECT)
        elog(ERROR, "unexpected result of a batch of slm_update");
    b->computed = DatumGetInt64(result(u, 1, INT8OID));
    b->written = DatumGetInt64(result(u, 2, INT8OID));
    b->left = result(u, 3, TEXTARRAYOID);
    SPI_freeplan(plan);
}

/* Locks the rows, so that they stay as they will be computed. */
static void lock_rows(SlmUpdate *u, void *arg)
{
    BatchStep *b = arg;
    Oid types[3];
    Datum values[3];
    char nulls[4];

    set_parameters(b, types, values, nulls);
    select_one(psprintf("SELECT FROM %s WHERE %s ORDER BY %s FOR NO KEY UPDATE", u->table, meant(u, b), key_columns(u, u->name, "")), 3,
               types, values, nulls);
}

/* Sets b->only to the keys of all its rows. */
static void list_keys(SlmUpdate *u, void *arg)
{
    BatchStep *b = arg;
    Oid types[3];
    Datum values[3];
    char nulls[4];

    set_parameters(b, types, values, nulls);
    select_one(psprintf("SELECT pg_catalog.array_agg(%s ORDER BY %s) FROM %s WHERE %s", key_text(u), key_columns(u, u->name, ""), u->table,
                        meant(u, b)),
               3, types, values, nulls);
    b->only = result(u, 1, TEXTARRAYOID);
}

static void check_statement(SlmUpdate *u, void *arg)
{
    BatchStep *b = arg;
    SlmExpression *expression = parse(u);
    Oid types[3] = {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID};

    slm_pg_check_models(slm_pg_analysed(slm_pg_prepare_with(batch_query(u, b), expression, 3, types)));
}

void slm_pg_update_check(SlmUpdate *u)
{
    BatchStep b = {.window = &(SlmUpdateWindow){0}};

    act(u, check_statement, &b);
}

/* ---------------------------------------------------------------- a batch */

static int n_elements(Datum array)
{
    return array == (Datum) 0 ? 0 : ArrayGetNItems(ARR_NDIM(DatumGetArrayTypeP(array)), ARR_DIMS(DatumGetArrayTypeP(array)));
}

/* Elements from..from + n - 1 of a text[]. */
static Datum slice(Datum array, int from, int n)
{
    Datum *elements;
    int total;

    deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &total);
    return PointerGetDatum(construct_array(&elements[from], n, TEXTOID, -1, false, TYPALIGN_INT));
}

static char *first_element(Datum array)
{
    Datum *elements;
    int total;

    deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &total);
    return TextDatumGetCString(elements[0]);
}

/* The one row of b has failed. */
static void note_failed(const BatchStep *b, ErrorData *error, SlmUpdateOutcome *out)
{
    SlmUpdateFailed *failed = palloc(sizeof *failed);

    failed->key = first_element(b->only);
    failed->error = slm_pg_failure_text(error);
    out->failed = lappend(out->failed, failed);
    if (slm_pg_failure(error->sqlerrcode) == SLM_FAILURE_WHOLE && out->whole == NULL)
        out->whole = error;
}

/* Rows that were computed and not written: changed meanwhile, so that they are computed once more under a lock; or refused. */
static ErrorData *again_under_lock(SlmUpdate *u, const BatchStep *b, SlmUpdateOutcome *out)
{
    BatchStep again = {.window = b->window, .only = b->left};
    ErrorData *error = attempt(u, lock_rows, &again);

    if (error == NULL)
        error = attempt(u, run_statement, &again);
    if (error == NULL) {
        out->written += again.written;
        out->kept += n_elements(again.left);
    }
    return error;
}

/* All rows together; when that fails, half by half. Returns the error of somebody who was in the way, else NULL. */
static ErrorData *run_rows(SlmUpdate *u, BatchStep *b, SlmUpdateOutcome *out)
{
    ErrorData *error;
    int n;

    CHECK_FOR_INTERRUPTS();
    error = attempt(u, run_statement, b);
    if (error == NULL) {
        out->computed += b->computed;
        out->written += b->written;
        if (b->left == (Datum) 0)
            return NULL;
        error = again_under_lock(u, b, out);
        if (error == NULL)
            return NULL;
        b->only = b->left; /* the others are written */
    }
    if (slm_pg_failure(error->sqlerrcode) == SLM_FAILURE_PASSING)
        return error;
    if (b->only == (Datum) 0)
        act(u, list_keys, b);
    n = n_elements(b->only);
    if (n <= 1) {
        if (n == 1)
            note_failed(b, error, out);
        return NULL;
    }
    for (int half = 0; half < 2; half++) {
        BatchStep part = {.window = b->window, .only = half == 0 ? slice(b->only, 0, n / 2) : slice(b->only, n / 2, n - n / 2)};
        ErrorData *passing = run_rows(u, &part, out);

        if (passing != NULL)
            return passing;
    }
    return NULL;
}

bool slm_pg_update_batch(SlmUpdate *u, const SlmUpdateWindow *window, SlmUpdateOutcome *out)
{
    BatchStep b = {.window = window};
    ErrorData *passing;

    *out = (SlmUpdateOutcome){0};
    passing = run_rows(u, &b, out);
    if (passing != NULL)
        out->whole = passing;
    return passing == NULL;
}

/* ---------------------------------------------------------------- a sample */

typedef struct SampleStep {
    double percent;
    bool by_rows; /* reads the whole table; else whole blocks */
    int offset, limit;
    SlmUpdateSample *out;
    int64 computed;
} SampleStep;

/* The sample of every step is the same one. */
static char *sample_of(const SlmUpdate *u, const SampleStep *s)
{
    return psprintf("%s TABLESAMPLE %s (%.6f) REPEATABLE (1)", u->table, s->by_rows ? "BERNOULLI" : "SYSTEM", s->percent);
}

static void count_sample(SlmUpdate *u, void *arg)
{
    SampleStep *s = arg;
    SlmExpression *none = slm_pg_parse_expression("0");
    SPIPlanPtr plan;

    select_one(psprintf("SELECT pg_catalog.count(*) FROM %s", sample_of(u, s)), 0, NULL, NULL, NULL);
    s->out->scanned = s->out->matching = DatumGetInt64(result(u, 1, INT8OID));
    if (u->condition == NULL)
        return;
    slm_pg_expression_where(none, slm_pg_parse_expression(u->condition));
    plan = slm_pg_prepare_with(psprintf("SELECT pg_catalog.count(*) FROM %s WHERE slm_condition", sample_of(u, s)), none, 0, NULL);
    if (slm_pg_execute_with(plan, none, NULL, NULL, false, 0) != SPI_OK_SELECT)
        elog(ERROR, "unexpected result of a sample of slm_update");
    s->out->matching = DatumGetInt64(result(u, 1, INT8OID));
    SPI_freeplan(plan);
}

static void compute_sample(SlmUpdate *u, void *arg)
{
    SampleStep *s = arg;
    SlmExpression *expression = parse(u);
    SPIPlanPtr plan = slm_pg_prepare_with(psprintf("SELECT pg_catalog.count(*), pg_catalog.count(slm_s.slm_value) FROM ("
                                                   "    SELECT slm_expression AS slm_value FROM %s %s OFFSET %d LIMIT %d) slm_s",
                                                   sample_of(u, s), u->condition == NULL ? "" : "WHERE slm_condition", s->offset,
                                                   s->limit),
                                          expression, 0, NULL);

    if (slm_pg_execute_with(plan, expression, NULL, NULL, false, 0) != SPI_OK_SELECT)
        elog(ERROR, "unexpected result of a sample of slm_update");
    s->computed = DatumGetInt64(result(u, 1, INT8OID));
    SPI_freeplan(plan);
}

/* Computes rows of the sample from an offset on, and says how long that took. */
static ErrorData *time_sample(SlmUpdate *u, SampleStep *s, int offset, int limit, double *seconds)
{
    instr_time start, end;
    ErrorData *error;

    s->offset = offset;
    s->limit = limit;
    INSTR_TIME_SET_CURRENT(start);
    error = attempt(u, compute_sample, s);
    INSTR_TIME_SET_CURRENT(end);
    INSTR_TIME_SUBTRACT(end, start);
    *seconds = INSTR_TIME_GET_DOUBLE(end);
    return error;
}

/* The rows of a sample have failed together: some of them one by one. */
static void sample_alone(SlmUpdate *u, SampleStep *s, SlmUpdateSample *out)
{
    int n = (int) Min(out->matching, SAMPLE_ALONE);
    ErrorData *first = NULL;

    for (int i = 0; i < n; i++) {
        double seconds;
        ErrorData *error = time_sample(u, s, i, 1, &seconds);

        if (error == NULL) {
            out->computed++;
            out->seconds += seconds;
        } else if (first == NULL) {
            first = error;
        }
    }
    if (out->computed == 0 && first != NULL && (n >= SAMPLE_ENOUGH || slm_pg_failure(first->sqlerrcode) == SLM_FAILURE_WHOLE))
        ReThrowError(first);
}

void slm_pg_update_sample(SlmUpdate *u, double rows, SlmUpdateSample *out)
{
    SampleStep s = {.percent = rows <= SAMPLE_SCANNED ? 100 : Max(100.0 * SAMPLE_SCANNED / rows, 0.000001),
                    .by_rows = rows <= SAMPLE_BY_ROWS, .out = out};
    double seconds;

    *out = (SlmUpdateSample){0};
    act(u, count_sample, &s);
    if (out->matching == 0)
        return;
    if (time_sample(u, &s, 0, 1, &seconds) == NULL && seconds > SAMPLE_SLOW) { /* else it has warmed up */
        out->computed = 1;
        out->seconds = seconds;
    } else if (time_sample(u, &s, 0, SAMPLE_ROWS, &seconds) == NULL) {
        out->computed = (int) s.computed;
        out->seconds = seconds;
    } else {
        sample_alone(u, &s, out);
    }
}
