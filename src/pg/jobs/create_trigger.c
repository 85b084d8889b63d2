/*
 * slm_create_trigger(source, target_column, expression, name, on_error): makes an slm_trigger, and finds what is wrong with it now.
 *
 * CREATE TRIGGER does not look at the arguments of a trigger's function, so a misspelled column or function is found by the first row that
 * somebody writes.  Here the expression is analysed as the trigger will analyse it: alone, over a row of the table, under the
 * search_path of now, which becomes the trigger's third argument.  Models and classifiers that it names must be there, its type must
 * be one that can be assigned, and the column one that a BEFORE trigger can fill.
 *
 * All is done with the caller's rights: he needs the privilege TRIGGER, as for CREATE TRIGGER itself.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

#include "pg/base/as_owner.h"
#include "pg/base/earlier.h"
#include "pg/base/one_expression.h"
#include "pg/jobs/check.h"
#include "pg/jobs/trigger.h"

PG_FUNCTION_INFO_V1(slm_pg_create_trigger);

/* ---------------------------------------------------------------- what is refused */

static void check_table(Oid table)
{
    char kind = get_rel_relkind(table);

    if (kind == '\0')
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table with OID %u does not exist", table)));
    if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE && kind != RELKIND_FOREIGN_TABLE)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is not a table", get_rel_name(table)),
                        errhint("A trigger that fills a column belongs to the table that stores it.")));
    if (getExtensionOfObject(RelationRelationId, table) == get_extension_oid("slm_pg", true))
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" belongs to the extension", get_rel_name(table)),
                        errhint("A trigger needs a table of a user.")));
    if (pg_class_aclcheck(table, GetUserId(), ACL_TRIGGER) != ACLCHECK_OK)
        aclcheck_error(ACLCHECK_NO_PRIV, get_relkind_objtype(kind), get_rel_name(table));
    slm_pg_refuse_distributed(table, get_rel_name(table));
}

/* May rows be told by this column in which partition they are? A BEFORE trigger cannot move them any more. */
static bool in_partition_key(Relation table, const char *column)
{
    Oid oid = RelationGetRelid(table);
    List *roots = table->rd_rel->relispartition ? get_partition_ancestors(oid) : NIL;
    ListCell *cell;
    bool result = false, expression;

    if (table->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
        roots = lappend_oid(roots, oid);
    foreach (cell, roots) {
        Relation root = table_open(lfirst_oid(cell), AccessShareLock);
        AttrNumber number = get_attnum(lfirst_oid(cell), column);

        result = result || has_partition_attrs(root, bms_make_singleton(number - FirstLowInvalidHeapAttributeNumber), &expression);
        table_close(root, NoLock);
    }
    return result;
}

static AttrNumber check_column(Relation table, const char *column)
{
    AttrNumber number = get_attnum(RelationGetRelid(table), column);
    char *name = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(table)), RelationGetRelationName(table));

    if (number < 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_COLUMN_REFERENCE), errmsg("\"%s\" is a column of the system", column),
                        errhint("A trigger fills a column of the user.")));
    if (number == 0)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("table %s has no column \"%s\"", name, column),
                        errhint("Add it first: ALTER TABLE %s ADD COLUMN %s text;", name, quote_identifier(column))));
    if (TupleDescAttr(RelationGetDescr(table), number - 1)->attgenerated != '\0')
        ereport(ERROR, (errcode(ERRCODE_GENERATED_ALWAYS), errmsg("column \"%s\" of table %s is generated", column, name),
                        errhint("A trigger fills an ordinary column.")));
    if (in_partition_key(table, column))
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("column \"%s\" tells the partition of a row of %s", column, name),
                        errhint("When a trigger runs, the row's partition has been chosen. Partition the table by another column.")));
    return number;
}

/* A generated column is computed after BEFORE triggers: they see what it was, or null. */
static void check_inputs(Relation table, const Bitmapset *inputs)
{
    for (int i = 0; inputs != NULL && i < RelationGetNumberOfAttributes(table); i++) {
        Form_pg_attribute att = TupleDescAttr(RelationGetDescr(table), i);

        if (att->attgenerated != '\0' && bms_is_member(att->attnum, inputs))
            ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("the expression reads the generated column \"%s\"",
                                                                           NameStr(att->attname)),
                            errhint("It is computed after the trigger. Write its expression instead, or use slm_create_job.")));
    }
}

/* Two triggers that fill one column would undo each other's work. */
static void check_others(Relation table, const char *column, Oid function)
{
    const TriggerDesc *triggers = table->trigdesc;

    for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++) {
        const Trigger *trigger = &triggers->triggers[i];

        if (trigger->tgfoid == function && trigger->tgnargs > 0 && strcmp(trigger->tgargs[0], column) == 0)
            ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("column \"%s\" is filled by trigger \"%s\" already", column,
                                                                      trigger->tgname),
                            errhint("DROP TRIGGER %s ON %s; comes first.", quote_identifier(trigger->tgname),
                                    quote_qualified_identifier(get_namespace_name(RelationGetNamespace(table)),
                                                               RelationGetRelationName(table)))));
    }
}

/* ---------------------------------------------------------------- making it */

/* Everything that the first row would meet. */
static void check_expression(Relation table, AttrNumber target, const char *expression, const char *path, const char *on_error)
{
    SlmExpression *parsed = slm_pg_parse_expression(expression);
    int level = NewGUCNestLevel();
    const Query *query;

    (void) set_config_option("search_path", path, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    if (on_error != NULL)
        (void) set_config_option("slm.on_error", on_error, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    query = slm_pg_analysed(slm_pg_trigger_prepare(parsed, table, target, false));
    check_inputs(table, slm_pg_trigger_inputs(query));
    slm_pg_check_models(query);
    AtEOXact_GUC(false, level);
}

/* slm_create_trigger(source regclass, target_column name, expression text, name text, on_error text) -> text, the trigger's name. */
Datum slm_pg_create_trigger(PG_FUNCTION_ARGS)
{
    const char *schema = get_namespace_name(get_func_namespace(fcinfo->flinfo->fn_oid));
    Oid function = LookupFuncName(list_make2(makeString(pstrdup(schema)), makeString("slm_trigger")), 0, NULL, false), source;
    const char *column, *expression, *path, *name, *on_error, *statement;
    Relation table;

    if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("source, target_column and expression must not be null"),
                        errhint("SELECT slm_create_trigger('docs', 'summary', 'slm_summarize(body)');")));
    source = PG_GETARG_OID(0);
    column = NameStr(*PG_GETARG_NAME(1));
    expression = text_to_cstring(PG_GETARG_TEXT_PP(2));
    name = PG_ARGISNULL(3) ? makeObjectName("slm", column, NULL) : text_to_cstring(PG_GETARG_TEXT_PP(3));
    on_error = PG_ARGISNULL(4) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(4));
    check_table(source);
    table = table_open(source, ShareRowExclusiveLock); /* as CREATE TRIGGER will */
    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    path = slm_pg_current_path();
    check_others(table, column, function);
    check_expression(table, check_column(table, column), expression, path, on_error);
    statement = psprintf("CREATE TRIGGER %s BEFORE INSERT OR UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION %s(%s, %s, %s%s%s)",
                         quote_identifier(name),
                         quote_qualified_identifier(get_namespace_name(RelationGetNamespace(table)), RelationGetRelationName(table)),
                         quote_qualified_identifier(schema, "slm_trigger"), quote_literal_cstr(column), quote_literal_cstr(expression),
                         quote_literal_cstr(path), on_error == NULL ? "" : ", ", on_error == NULL ? "" : quote_literal_cstr(on_error));
    table_close(table, NoLock);
    if (SPI_execute(statement, false, 0) != SPI_OK_UTILITY)
        elog(ERROR, "could not create trigger \"%s\"", name);
    SPI_finish();
    PG_RETURN_TEXT_P(cstring_to_text(name));
}
