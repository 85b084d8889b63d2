/*
 * What only the analysed expression of a job tells: which models it will run.
 *
 * A call's model is known before it runs when the argument `model` is a constant or is left to the task's default.  Other calls are
 * checked when they run.
 */
#include "pg/jobs/jobs.h"

#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/syscache.h"

#include "pg/slm_pg.h"
#include "pg/work.h"

PG_FUNCTION_INFO_V1(slm_pg_job_check_models);

/* The position of the argument `model` of a function, or -1. */
static int model_position(Oid function)
{
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    Oid *types;
    char **names, *modes;
    int n, result = -1;

    if (!HeapTupleIsValid(tuple))
        return -1;
    n = get_func_arg_info(tuple, &types, &names, &modes);
    for (int i = 0; i < n && names != NULL; i++)
        if (strcmp(names[i], "model") == 0)
            result = i;
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

/* The setting that a call without a model reads; empty when none is set. */
static const char *default_of(const SlmWorkKind *kind)
{
    const char *name = slm_guc_generate_model;

    if (strstr(kind->symbol, "embed") != NULL || strstr(kind->symbol, "similarity") != NULL || strstr(kind->symbol, "rerank") != NULL)
        name = slm_guc_embed_model;
    else if (strstr(kind->symbol, "classify") != NULL && slm_guc_classify_model != NULL && slm_guc_classify_model[0] != '\0')
        name = slm_guc_classify_model;
    return name != NULL ? name : "";
}

static void check_call(const FuncExpr *call)
{
    const SlmWorkKind *kind = slm_pg_work_kind(call->funcid);
    int position = kind != NULL ? model_position(call->funcid) : -1;
    Node *argument;

    if (position < 0)
        return;
    argument = argument_at(call, position);
    if (argument == NULL || (IsA(argument, Const) && ((Const *) argument)->constisnull)) {
        if (default_of(kind)[0] != '\0')
            (void) slm_pg_use_model(cstring_to_text(default_of(kind)), SLM_TASK_ANY);
    } else if (IsA(argument, Const) && ((Const *) argument)->consttype == TEXTOID) {
        (void) slm_pg_use_model(DatumGetTextPP(((Const *) argument)->constvalue), SLM_TASK_ANY);
    }
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

/* slm.job_check_models(source regclass, expression text) */
Datum slm_pg_job_check_models(PG_FUNCTION_ARGS)
{
    Oid source = PG_GETARG_OID(0);
    char *name = get_rel_name(source), *query;
    SPIPlanPtr plan;
    ListCell *cell;

    if (name == NULL)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table with OID %u does not exist", source)));
    query = psprintf("SELECT (%s) FROM %s", text_to_cstring(PG_GETARG_TEXT_PP(1)),
                     quote_qualified_identifier(get_namespace_name(get_rel_namespace(source)), name));
    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    plan = SPI_prepare(query, 0, NULL);
    if (plan == NULL)
        ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("the expression is not one SQL expression")));
    foreach (cell, SPI_plan_get_plan_sources(plan))
        (void) call_walker((Node *) linitial_node(Query, ((CachedPlanSource *) lfirst(cell))->query_list), NULL);
    SPI_finish();
    PG_RETURN_VOID();
}
