/*
 * What only the analysed expression of a job or trigger tells: which models and classifiers it will run.
 *
 * They are known before a call runs when the argument `model` or `classifier` is a constant or is left to the task's default, whatever
 * function of the extension it is.  Other calls are checked when they run.
 */
#include "pg/jobs/check.h"

#include "access/sysattr.h"
#include "catalog/dependency.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pg_list.h"
#include "parser/parse_relation.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "pg/base/compat.h"
#include "pg/base/one_expression.h"
#include "pg/functions/trained.h"
#include "pg/models/catalog.h"
#include "pg/run/use.h"
#include "pg/run/work.h"

/* The position of an argument of a function among those that a call gives, or -1. */
static int argument_position(Oid function, const char *name)
{
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    Oid *types;
    char **names, *modes;
    int n, position = 0, result = -1;

    if (!HeapTupleIsValid(tuple))
        return -1;
    n = get_func_arg_info(tuple, &types, &names, &modes);
    for (int i = 0; i < n && names != NULL && result < 0; i++) {
        if (modes != NULL && (modes[i] == PROARGMODE_OUT || modes[i] == PROARGMODE_TABLE))
            continue;
        if (strcmp(names[i], name) == 0)
            result = position;
        position++;
    }
    ReleaseSysCache(tuple);
    return result;
}

/* The argument at a position of the declaration; NULL when it is left to its default. */
static Node *argument_at(const FuncExpr *call, int position)
{
    for (int i = 0; i < list_length(call->args); i++) {
        Node *argument = list_nth(call->args, i);

        if (IsA(argument, NamedArgExpr) ? ((NamedArgExpr *) argument)->argnumber == position : i == position)
            return IsA(argument, NamedArgExpr) ? (Node *) ((NamedArgExpr *) argument)->arg : argument;
    }
    return NULL;
}

/* What is known of an argument: nothing; that it is null or not given; its text. */
typedef enum Known { UNKNOWN, NOT_GIVEN, GIVEN } Known;

static Known known_argument(const FuncExpr *call, const char *name, text **value)
{
    int position = argument_position(call->funcid, name);
    const Node *argument = position < 0 ? NULL : argument_at(call, position);
    const Const *constant = (const Const *) argument;

    if (argument == NULL)
        return NOT_GIVEN;
    if (!IsA(argument, Const))
        return UNKNOWN;
    if (constant->constisnull)
        return NOT_GIVEN;
    *value = constant->consttype == TEXTOID ? DatumGetTextPP(constant->constvalue) : NULL;
    return *value == NULL ? UNKNOWN : GIVEN;
}

static void check_call(const FuncExpr *call)
{
    text *model = NULL, *classifier = NULL, *encoder = NULL, *size = NULL;
    const SlmWorkKind *kind;
    Known named;

    if (getExtensionOfObject(ProcedureRelationId, call->funcid) != get_extension_oid("slm_pg", true))
        return;
    named = known_argument(call, "classifier", &classifier);
    if (named == GIVEN)
        (void) slm_pg_classifier_model(slm_pg_use_classifier(classifier));
    if (named != NOT_GIVEN || argument_position(call->funcid, "model") < 0)
        return; /* the classifier has its own model */
    kind = slm_pg_work_kind(call->funcid);
    named = known_argument(call, "model", &model);
    if (named == GIVEN || (named == NOT_GIVEN && (kind == NULL || !kind->may_need_no_model)))
        (void) slm_pg_use_model(model, kind == NULL ? SLM_TASK_ANY : kind->task);
    named = known_argument(call, "shortlist_model", &encoder);
    if (named == GIVEN || (named == NOT_GIVEN && known_argument(call, "shortlist", &size) != NOT_GIVEN))
        (void) slm_pg_use_model(encoder, SLM_TASK_EMBED);
}

static bool call_walker(Node *node, void *context)
{
    if (node == NULL)
        return false;
    if (IsA(node, FuncExpr))
        check_call((FuncExpr *) node);
    if (IsA(node, Query))
        return query_tree_walker((Query *) node, call_walker, context, 0);
    return expression_tree_walker(node, call_walker, context);
}

void slm_pg_check_models(const Query *query)
{
    (void) call_walker((Node *) unconstify(Query *, query), NULL);
}

void slm_pg_check_expression_models(Oid table, const char *expression)
{
    char *name = get_rel_name(table);
    SlmExpression *parsed;
    SPIPlanPtr plan;

    if (name == NULL)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table with OID %u does not exist", table)));
    parsed = slm_pg_parse_expression(expression);
    plan = slm_pg_prepare_with(psprintf("SELECT slm_expression FROM %s",
                                        quote_qualified_identifier(get_namespace_name(get_rel_namespace(table)), name)),
                               parsed, 0, NULL);
    slm_pg_check_models(slm_pg_analysed(plan));
    SPI_freeplan(plan);
}

/* ---------------------------------------------------------------- columns */

typedef struct ReadContext {
    Oid table;
    Bitmapset *columns;
} ReadContext;

static bool read_walker(Node *node, ReadContext *context)
{
    ListCell *cell;

    if (node == NULL)
        return false;
    if (!IsA(node, Query))
        return expression_tree_walker(node, read_walker, context);
    foreach (cell, ((Query *) node)->rtable) {
        RangeTblEntry *rte = lfirst(cell);
        bool ours = rte->rtekind == RTE_RELATION && rte->relid == context->table;
        Bitmapset *selected = ours ? SLM_SELECTED_COLUMNS((Query *) node, rte) : NULL;
        int member = -1;

        while ((member = bms_next_member(selected, member)) >= 0)
            if (member + FirstLowInvalidHeapAttributeNumber >= 0)
                context->columns = bms_add_member(context->columns, member + FirstLowInvalidHeapAttributeNumber);
    }
    return query_tree_walker((Query *) node, read_walker, context, 0);
}

Bitmapset *slm_pg_columns_read(const Query *query, Oid table)
{
    ReadContext context = {.table = table};

    (void) read_walker((Node *) unconstify(Query *, query), &context);
    return context.columns;
}
