/*
 * slm_support: what the planner should know about the cost of slm_* calls.
 *
 * A call reads its text once and writes its answer token by token.  The text's tokens come from the average width that ANALYZE found
 * (about 4 bytes a token), the answer's from max_tokens or max_words where they are constants; the size of the task's default model
 * says what a token costs.  So conditions with calls come last, and parallel plans are weighed with true costs.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pathnodes.h"
#include "nodes/pg_list.h"
#include "nodes/supportnodes.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/base/guc.h"
#include "pg/batch/batch.h"
#include "pg/models/catalog.h"
#include "pg/run/opened.h"
#include "pg/run/work.h"

PG_FUNCTION_INFO_V1(slm_pg_support);

#define DECODE_FACTOR 4.0    /* a token written costs so many read ones: it reads all weights for itself or a small batch */
#define COST_PER_TOKEN 40.0  /* in cpu_operator_cost, for 1e8 parameters */
#define DEFAULT_PARAMETERS 1.0e8

/* Average bytes of an argument's values, as far as statistics tell. */
static double argument_bytes(PlannerInfo *root, Node *arg)
{
    if (arg == NULL)
        return 0;
    if (IsA(arg, Const)) {
        Const *c = (Const *) arg;

        return c->constisnull || c->constbyval ? 0
               : c->constlen == -1             ? (double) VARSIZE_ANY_EXHDR(DatumGetPointer(c->constvalue))
                                               : c->constlen;
    }
    if (IsA(arg, Var) && root != NULL && !IS_SPECIAL_VARNO(((Var *) arg)->varno) && ((Var *) arg)->varlevelsup == 0 &&
        (int) ((Var *) arg)->varno < root->simple_rel_array_size) {
        RangeTblEntry *rte = root->simple_rte_array[((Var *) arg)->varno];
        int32 width = rte != NULL && rte->rtekind == RTE_RELATION && ((Var *) arg)->varattno > 0
                          ? get_attavgwidth(rte->relid, ((Var *) arg)->varattno)
                          : 0;

        if (width > 0)
            return width;
    }
    return get_typavgwidth(exprType(arg), exprTypmod(arg));
}

/* The constant integer of a named argument such as max_tokens, or `otherwise`. */
static double named_constant(FuncExpr *call, const char *name, double otherwise)
{
    Oid *types;
    char **names, *modes;
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(call->funcid));
    double result = otherwise;
    int n;

    if (!HeapTupleIsValid(tuple))
        return otherwise;
    n = get_func_arg_info(tuple, &types, &names, &modes);
    ReleaseSysCache(tuple);
    for (int i = 0; i < n && names != NULL && i < list_length(call->args); i++) {
        Const *c = list_nth(call->args, i);

        if (strcmp(names[i], name) == 0 && IsA(c, Const) && c->consttype == INT4OID && !c->constisnull)
            result = DatumGetInt32(c->constvalue);
    }
    return result;
}

double slm_pg_batch_written(FuncExpr *call)
{
    return Min(named_constant(call, "max_tokens", 0), 256) + 1.5 * named_constant(call, "max_words", 0);
}

/* Of the default model of the call's task. */
static double default_parameters(Oid function)
{
    const SlmWorkKind *kind = slm_pg_work_kind(function);
    const char *name = slm_pg_default_model(kind == NULL ? SLM_TASK_GENERATE : kind->task);
    const SlmModelRow *row = name == NULL ? NULL : slm_pg_find_model(pnstrdup(name, strcspn(name, "+")));
    SlmOpenModel *entry = row == NULL ? NULL : slm_pg_find_opened(row->key);

    return entry == NULL ? DEFAULT_PARAMETERS : (double) slm_pg_info(entry)->n_parameters;
}

Datum slm_pg_support(PG_FUNCTION_ARGS)
{
    Node *raw = (Node *) PG_GETARG_POINTER(0);
    SupportRequestCost *request;
    FuncExpr *call;
    double read, written;

    if (!IsA(raw, SupportRequestCost) || ((SupportRequestCost *) raw)->node == NULL || !IsA(((SupportRequestCost *) raw)->node, FuncExpr))
        PG_RETURN_POINTER(NULL);
    request = (SupportRequestCost *) raw;
    call = (FuncExpr *) request->node;
    if (call->args == NIL)
        PG_RETURN_POINTER(NULL);
    read = SLM_TEMPLATE_TOKENS + argument_bytes(request->root, linitial(call->args)) / SLM_BYTES_PER_TOKEN;
    written = slm_pg_batch_written(call);
    request->startup = 0;
    request->per_tuple =
        (read + DECODE_FACTOR * written) * COST_PER_TOKEN * cpu_operator_cost * default_parameters(call->funcid) / DEFAULT_PARAMETERS;
    PG_RETURN_POINTER(request);
}
