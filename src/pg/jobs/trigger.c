/*
 * slm_trigger('target', 'expression'): a BEFORE row trigger that computes a column in the statement itself.
 *
 * The expression is prepared once per trigger and session as a query over one row, SELECT (expression) FROM (SELECT ($1).*) AS table, so it
 * may name columns with or without the table's name.  On UPDATE it is evaluated only if a column that it reads differs in its stored
 * bytes.  Plans notice changed tables by themselves; the set of columns is made anew after any change of the trigger's table.
 */
#include "pg/jobs/jobs.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(slm_pg_trigger);

/* A trigger's expression, prepared. */
typedef struct RowExpression {
    Oid trigger; /* hash key */
    Oid table;
    bool stale;
    SPIPlanPtr plan;
    Bitmapset *inputs; /* attribute numbers of the table that it reads; NULL: all */
} RowExpression;

static HTAB *expressions;

/* Relation cache callback: table InvalidOid means all. */
static void forget_table(Datum arg, Oid table)
{
    HASH_SEQ_STATUS scan;
    RowExpression *entry;

    hash_seq_init(&scan, expressions);
    while ((entry = hash_seq_search(&scan)) != NULL)
        if (table == InvalidOid || entry->table == table)
            entry->stale = true;
}

typedef struct ColumnContext {
    int depth;         /* how many queries below the outer one */
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

/* The table's attribute numbers that the prepared query reads, or NULL when it reads the row as a whole. */
static Bitmapset *plan_inputs(SPIPlanPtr plan, Oid table)
{
    CachedPlanSource *source = linitial(SPI_plan_get_plan_sources(plan));
    Query *query = linitial_node(Query, source->query_list);
    RangeTblEntry *row = linitial_node(RangeTblEntry, query->rtable);
    ColumnContext context = {0};
    Bitmapset *result = NULL;
    int column = -1;

    expression_tree_walker((Node *) query->targetList, column_walker, &context);
    if (bms_is_member(0, context.columns))
        return NULL;
    while ((column = bms_next_member(context.columns, column)) >= 0)
        result = bms_add_member(result, get_attnum(table, strVal(list_nth(row->eref->colnames, column - 1))));
    return bms_is_empty(result) ? bms_make_singleton(MaxAttrNumber) : result; /* reads no column: never changes */
}

static RowExpression *prepare_expression(TriggerData *data)
{
    Relation relation = data->tg_relation;
    Oid row_type[1] = {get_rel_type_id(RelationGetRelid(relation))};
    RowExpression *entry;
    MemoryContext old;
    bool found;
    char *query;

    if (expressions == NULL) {
        HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(RowExpression)};

        expressions = hash_create("slm triggers", 32, &control, HASH_ELEM | HASH_BLOBS);
        CacheRegisterRelcacheCallback(forget_table, (Datum) 0);
    }
    entry = hash_search(expressions, &data->tg_trigger->tgoid, HASH_ENTER, &found);
    if (found && !entry->stale)
        return entry;
    if (!found)
        entry->plan = NULL;
    entry->stale = true;
    entry->table = RelationGetRelid(relation);
    if (entry->plan != NULL)
        SPI_freeplan(entry->plan);
    entry->plan = NULL;
    query = psprintf("SELECT (%s) FROM (SELECT ($1).*) AS %s", data->tg_trigger->tgargs[1],
                     quote_identifier(RelationGetRelationName(relation)));
    entry->plan = SPI_prepare(query, 1, row_type);
    if (entry->plan == NULL || SPI_keepplan(entry->plan) != 0)
        elog(ERROR, "could not prepare \"%s\": %s", query, SPI_result_code_string(SPI_result));
    old = MemoryContextSwitchTo(TopMemoryContext);
    entry->inputs = plan_inputs(entry->plan, entry->table);
    MemoryContextSwitchTo(old);
    entry->stale = false;
    return entry;
}

/* Are all inputs of both rows equal in their stored bytes? */
static bool inputs_equal(RowExpression *expression, TriggerData *data, int target)
{
    TupleDesc desc = data->tg_relation->rd_att;

    for (int i = 0; i < desc->natts; i++) {
        Form_pg_attribute att = TupleDescAttr(desc, i);
        Datum before, after;
        bool before_null, after_null;

        if (att->attisdropped || att->attnum == target || (expression->inputs != NULL && !bms_is_member(att->attnum, expression->inputs)))
            continue;
        before = heap_getattr(data->tg_trigtuple, att->attnum, desc, &before_null);
        after = heap_getattr(data->tg_newtuple, att->attnum, desc, &after_null);
        if (before_null != after_null || (!before_null && !datum_image_eq(before, after, att->attbyval, att->attlen)))
            return false;
    }
    return true;
}

static int check_call(FunctionCallInfo fcinfo)
{
    TriggerData *data = (TriggerData *) fcinfo->context;
    int target;

    if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(data->tg_event) || !TRIGGER_FIRED_BEFORE(data->tg_event) ||
        TRIGGER_FIRED_BY_DELETE(data->tg_event))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED), errmsg("slm_trigger must be fired before INSERT or UPDATE, "
                                                                                   "for each row"),
                        errhint("CREATE TRIGGER name BEFORE INSERT OR UPDATE ON table FOR EACH ROW EXECUTE FUNCTION slm_trigger('column', "
                                "'expression');")));
    if (data->tg_trigger->tgnargs != 2)
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED), errmsg("slm_trigger takes two arguments, not %d",
                                                                                   data->tg_trigger->tgnargs),
                        errhint("They are the target column and an SQL expression over the row: slm_trigger('summary', "
                                "'slm_summarize(body)').")));
    target = SPI_fnumber(data->tg_relation->rd_att, data->tg_trigger->tgargs[0]);
    if (target <= 0)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("table \"%s\" has no column \"%s\"",
                                                                  RelationGetRelationName(data->tg_relation),
                                                                 data->tg_trigger->tgargs[0]),
                        errhint("The first argument of slm_trigger is the column that it fills.")));
    return target;
}

Datum slm_pg_trigger(PG_FUNCTION_ARGS)
{
    TriggerData *data = (TriggerData *) fcinfo->context;
    int target = check_call(fcinfo);
    bool update = TRIGGER_FIRED_BY_UPDATE(data->tg_event);
    HeapTuple row = update ? data->tg_newtuple : data->tg_trigtuple;
    TupleDesc desc = data->tg_relation->rd_att;
    RowExpression *expression;
    Oid result_type, target_type = TupleDescAttr(desc, target - 1)->atttypid;
    Datum argument, value;
    bool isnull;

    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    expression = prepare_expression(data);
    if (!update || !inputs_equal(expression, data, target)) {
        argument = heap_copy_tuple_as_datum(row, desc);
        if (SPI_execute_plan(expression->plan, &argument, NULL, false, 1) != SPI_OK_SELECT || SPI_processed != 1)
            elog(ERROR, "the expression of trigger \"%s\" gave no row", data->tg_trigger->tgname);
        result_type = SPI_gettypeid(SPI_tuptable->tupdesc, 1);
        value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
        if (!isnull && !IsBinaryCoercible(result_type, target_type)) { /* as PL/pgSQL does where no cast fits: by text */
            Oid input, parameter;
            char *text = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);

            getTypeInputInfo(target_type, &input, &parameter);
            value = OidInputFunctionCall(input, text, parameter, TupleDescAttr(desc, target - 1)->atttypmod);
        }
        row = heap_modify_tuple_by_cols(row, desc, 1, &target, &value, &isnull);
        row = SPI_copytuple(row);
    }
    SPI_finish();
    return PointerGetDatum(row);
}
