/*
 * slm_trigger('target', 'expression' [, 'search_path' [, 'on_error']]): a BEFORE row trigger that computes a column in the
 * statement itself.
 *
 * The expression is prepared once per trigger and session over one row of the table, so it may name columns with or without the table's
 * name, and the row as a whole.  On UPDATE it is evaluated only if a column that it reads differs in its stored bytes (of a row read as a
 * whole: any but the target).
 *
 * Names mean the same whoever writes, also where the writer's search_path is empty (logical replication, pg_restore, functions with a
 * path of their own): the path is the trigger's third argument, which slm_create_trigger takes from its creation, and else pg_catalog,
 * the table's schema, the extension's schema.  The expression runs with the writer's rights, as any trigger does; what it sets by
 * set_config does not outlive it.
 *
 *   trigger OID ──► RowExpression ──► current ──► Prepared: plan, expression, inputs; users
 *                                     └ changed table, path or definition: a new one beside it
 *
 * Invariant: a Prepared is freed only while users is 0, by its replacement or by its last user; a function of the expression may change
 * the table and fire the same trigger while the plan runs.
 */
#include "pg/jobs/trigger.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/base/one_expression.h"

PG_FUNCTION_INFO_V1(slm_pg_trigger);

typedef struct Prepared {
    MemoryContext context; /* of all this, child of TopMemoryContext */
    uint64 changes;        /* of its entry, before it was made */
    char *path;
    SlmExpression *expression;
    SPIPlanPtr plan;
    Bitmapset *inputs;     /* slm_pg_trigger_inputs */
    int users;             /* calls under way */
    bool replaced;         /* its last user frees it */
} Prepared;

typedef struct RowExpression {
    Oid trigger; /* hash key */
    Oid table;
    uint64 changes;    /* of the table and its triggers, as far as this session was told */
    Prepared *current; /* NULL: none */
} RowExpression;

static HTAB *expressions;

/* ---------------------------------------------------------------- preparing */

typedef struct ColumnContext {
    int depth;          /* how many queries below the outer one */
    Bitmapset *columns; /* of the one row; 0 stands for the whole row */
} ColumnContext;

/* Columns of the outer query's only range table entry. */
static bool column_walker(Node *node, ColumnContext *context)
{
    if (node == NULL)
        return false;
    if (IsA(node, Var)) {
        Var *var = (Var *) node;

        if (var->varno == 1 && (int) var->varlevelsup == context->depth)
            context->columns = bms_add_member(context->columns, Max(var->varattno, 0));
        return false;
    }
    if (IsA(node, Query)) {
        context->depth++;
        (void) query_tree_walker((Query *) node, column_walker, context, 0);
        context->depth--;
        return false;
    }
    return expression_tree_walker(node, column_walker, context);
}

Bitmapset *slm_pg_trigger_inputs(const Query *query)
{
    ColumnContext context = {0};

    (void) expression_tree_walker((Node *) query->targetList, column_walker, &context);
    if (bms_is_member(0, context.columns))
        return NULL;
    return bms_is_empty(context.columns) ? bms_make_singleton(MaxAttrNumber) : context.columns;
}

/* A row of the function scan has the table's own type, so that f(t) and t.column mean what they mean over the table. */
SPIPlanPtr slm_pg_trigger_prepare(SlmExpression *expression, Relation table, AttrNumber target, bool loose)
{
    Form_pg_attribute column = TupleDescAttr(RelationGetDescr(table), target - 1);
    Oid row_type = get_rel_type_id(RelationGetRelid(table));
    char *query = psprintf("SELECT slm_expression FROM pg_catalog.unnest(ARRAY[$1]) AS %s",
                           quote_identifier(RelationGetRelationName(table)));

    slm_pg_expression_as(expression, NameStr(column->attname), column->atttypid, column->atttypmod, loose);
    return slm_pg_prepare_with(query, expression, 1, &row_type);
}

static Prepared *prepare(TriggerData *data, AttrNumber target, const char *path, uint64 changes)
{
    MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "slm trigger", ALLOCSET_SMALL_SIZES);
    MemoryContext old = MemoryContextSwitchTo(context);
    Prepared *result = palloc0(sizeof *result);

    result->context = context;
    result->changes = changes;
    result->path = pstrdup(path);
    result->expression = slm_pg_parse_expression(data->tg_trigger->tgargs[1]);
    result->plan = slm_pg_trigger_prepare(result->expression, data->tg_relation, target, true);
    result->inputs = slm_pg_trigger_inputs(slm_pg_analysed(result->plan));
    if (SPI_keepplan(result->plan) != 0)
        elog(ERROR, "could not keep the plan of trigger \"%s\"", data->tg_trigger->tgname);
    MemoryContextSetParent(context, TopMemoryContext);
    MemoryContextSwitchTo(old);
    return result;
}

/* ---------------------------------------------------------------- keeping */

/* Relation cache callback: table InvalidOid means all. */
static void forget_table(Datum arg, Oid table)
{
    HASH_SEQ_STATUS scan;
    RowExpression *entry;

    hash_seq_init(&scan, expressions);
    while ((entry = hash_seq_search(&scan)) != NULL)
        if (table == InvalidOid || entry->table == table)
            entry->changes++;
}

static void drop(Prepared *prepared)
{
    (void) SPI_freeplan(prepared->plan);
    MemoryContextDelete(prepared->context);
}

/* An entry has no use for what it has. */
static void replace(RowExpression *entry, Prepared *by)
{
    Prepared *old = entry->current;

    entry->current = by;
    if (old == NULL)
        return;
    old->replaced = true;
    if (old->users == 0)
        drop(old);
}

static void release(Prepared *prepared)
{
    prepared->users--;
    if (prepared->users == 0 && prepared->replaced)
        drop(prepared);
}

/* Plans of changed tables; the tables may be gone. */
static void sweep(void)
{
    HASH_SEQ_STATUS scan;
    RowExpression *entry;

    hash_seq_init(&scan, expressions);
    while ((entry = hash_seq_search(&scan)) != NULL)
        if (entry->current != NULL && entry->current->changes != entry->changes)
            replace(entry, NULL);
}

static RowExpression *find_entry(TriggerData *data)
{
    RowExpression *entry;
    bool found;

    if (expressions == NULL) {
        HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(RowExpression)};

        expressions = hash_create("slm triggers", 32, &control, HASH_ELEM | HASH_BLOBS);
        CacheRegisterRelcacheCallback(forget_table, (Datum) 0);
    }
    entry = hash_search(expressions, &data->tg_trigger->tgoid, HASH_FIND, &found);
    if (!found) {
        sweep();
        entry = hash_search(expressions, &data->tg_trigger->tgoid, HASH_ENTER, &found);
        entry->current = NULL;
        entry->changes = 0;
    }
    entry->table = RelationGetRelid(data->tg_relation);
    return entry;
}

static bool is_current(const RowExpression *entry, const char *path)
{
    return entry->current != NULL && entry->current->changes == entry->changes && strcmp(entry->current->path, path) == 0;
}

/* ---------------------------------------------------------------- a row */

/* Are all inputs of both rows equal in their stored bytes? */
static bool inputs_equal(const Bitmapset *inputs, TriggerData *data, AttrNumber target)
{
    TupleDesc desc = data->tg_relation->rd_att;

    for (int i = 0; i < desc->natts; i++) {
        Form_pg_attribute att = TupleDescAttr(desc, i);
        Datum before, after;
        bool before_null, after_null;

        if (att->attisdropped || (inputs == NULL ? att->attnum == target : !bms_is_member(att->attnum, inputs)))
            continue;
        before = heap_getattr(data->tg_trigtuple, att->attnum, desc, &before_null);
        after = heap_getattr(data->tg_newtuple, att->attnum, desc, &after_null);
        if (before_null != after_null || (!before_null && !datum_image_eq(before, after, att->attbyval, att->attlen)))
            return false;
    }
    return true;
}

/* The row with its target computed, in the current context of SPI. */
static HeapTuple compute(const Prepared *prepared, TriggerData *data, HeapTuple row, int target)
{
    TupleDesc desc = data->tg_relation->rd_att;
    Datum argument = heap_copy_tuple_as_datum(row, desc), value;
    bool isnull;

    if (slm_pg_execute_with(prepared->plan, prepared->expression, &argument, NULL, false, 1) != SPI_OK_SELECT || SPI_processed != 1)
        elog(ERROR, "the expression of trigger \"%s\" gave no row", data->tg_trigger->tgname);
    value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
    return heap_modify_tuple_by_cols(row, desc, 1, &target, &value, &isnull);
}

/* compute, in the caller's context, while the plan counts as used. */
static HeapTuple compute_counted(Prepared *prepared, TriggerData *data, HeapTuple row, AttrNumber target)
{
    HeapTuple volatile result = NULL;

    prepared->users++;
    PG_TRY();
    {
        result = SPI_copytuple(compute(prepared, data, row, target));
    }
    PG_CATCH();
    {
        release(prepared);
        PG_RE_THROW();
    }
    PG_END_TRY();
    release(prepared);
    return result;
}

/* The row as it is to be stored, in the caller's context. Prepares first, where that is to be done. */
static HeapTuple fill_row(RowExpression *entry, TriggerData *data, AttrNumber target, const char *path)
{
    bool update = TRIGGER_FIRED_BY_UPDATE(data->tg_event);
    HeapTuple row = update ? data->tg_newtuple : data->tg_trigtuple;
    int level;

    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    level = NewGUCNestLevel();
    (void) set_config_option("search_path", path, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    if (data->tg_trigger->tgnargs > 3)
        (void) set_config_option("slm.on_error", data->tg_trigger->tgargs[3], PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    if (!is_current(entry, path))
        replace(entry, prepare(data, target, path, entry->changes));
    if (!update || !inputs_equal(entry->current->inputs, data, target))
        row = compute_counted(entry->current, data, row, target);
    AtEOXact_GUC(false, level);
    SPI_finish();
    return row;
}

/* ---------------------------------------------------------------- the call */

static void check_call(FunctionCallInfo fcinfo)
{
    TriggerData *data = (TriggerData *) fcinfo->context;

    if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(data->tg_event) || !TRIGGER_FIRED_BEFORE(data->tg_event) ||
        TRIGGER_FIRED_BY_DELETE(data->tg_event))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED), errmsg("slm_trigger must be fired before INSERT or UPDATE, "
                                                                                   "for each row"),
                        errhint("SELECT slm_create_trigger('table', 'column', 'expression'); makes such a trigger.")));
    if (data->tg_trigger->tgnargs < 2 || data->tg_trigger->tgnargs > 4)
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED), errmsg("slm_trigger takes two to four arguments, not %d",
                                                                                   data->tg_trigger->tgnargs),
                        errhint("They are the target column, an SQL expression over the row and, if need be, the search_path under which "
                                "it is looked up and slm.on_error: slm_trigger('summary', 'slm_summarize(body)').")));
}

static AttrNumber target_column(TriggerData *data)
{
    const char *name = data->tg_trigger->tgargs[0];
    int target = SPI_fnumber(data->tg_relation->rd_att, name);

    if (target <= 0)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("table \"%s\" has no column \"%s\"",
                                                                  RelationGetRelationName(data->tg_relation), name),
                        errhint("The first argument of slm_trigger is the column that it fills.")));
    if (TupleDescAttr(data->tg_relation->rd_att, target - 1)->attgenerated != '\0')
        ereport(ERROR, (errcode(ERRCODE_GENERATED_ALWAYS), errmsg("column \"%s\" of table \"%s\" is generated", name,
                                                                  RelationGetRelationName(data->tg_relation)),
                        errhint("The first argument of slm_trigger is an ordinary column.")));
    return (AttrNumber) target;
}

/* Under which path the expression is looked up. */
static char *trigger_path(TriggerData *data)
{
    char *table, *extension;

    if (data->tg_trigger->tgnargs > 2)
        return data->tg_trigger->tgargs[2];
    table = get_namespace_name(RelationGetNamespace(data->tg_relation));
    extension = get_namespace_name(get_func_namespace(data->tg_trigger->tgfoid));
    return psprintf("pg_catalog, %s, %s, pg_temp", quote_identifier(table), quote_identifier(extension));
}

static void trigger_context(void *arg)
{
    TriggerData *data = arg;

    errcontext("slm_trigger \"%s\" of table %s, column \"%s\"", data->tg_trigger->tgname,
               quote_qualified_identifier(get_namespace_name(RelationGetNamespace(data->tg_relation)),
                                          RelationGetRelationName(data->tg_relation)),
               data->tg_trigger->tgnargs > 0 ? data->tg_trigger->tgargs[0] : "");
}

Datum slm_pg_trigger(PG_FUNCTION_ARGS)
{
    TriggerData *data = (TriggerData *) fcinfo->context;
    ErrorContextCallback callback = {error_context_stack, trigger_context, data};
    RowExpression *entry;
    AttrNumber target;
    HeapTuple row;
    char *path;

    check_call(fcinfo);
    error_context_stack = &callback;
    target = target_column(data);
    path = trigger_path(data);
    entry = find_entry(data);
    if (TRIGGER_FIRED_BY_UPDATE(data->tg_event) && is_current(entry, path) && inputs_equal(entry->current->inputs, data, target))
        row = data->tg_newtuple;
    else
        row = fill_row(entry, data, target, path);
    error_context_stack = callback.previous;
    return PointerGetDatum(row);
}
