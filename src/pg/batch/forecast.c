/*
 * forecast.c: what EXPLAIN expects an SLM Batch node to take, from what the server knows without reading a row.
 *
 *   rows       the planner's estimate, or the table's, and at most as many different inputs as its statistics say
 *   tokens     of a call: the mean width of its text by 4 bytes a token, and what the model has written for such calls up to now
 *   minutes    tokens by the speed of the model up to now, as slm.usage has it; not shown for a model that has not computed yet
 *
 * slm_estimate reads rows and is near; this is free.  COSTS off hides it, as everything else that is guessed.  How long answers are is
 * taken from what the role itself has computed, how fast a model is from what all have.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_statistic.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pg_list.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "pg/base/compat.h"
#include "pg/batch/batch.h"
#include "pg/batch/pretty.h"
#include "pg/batch/state.h"
#include "pg/run/accounts.h"
#include "pg/run/ledger.h"
#include "pg/run/work.h"

/* ---- the column of a table that an expression is */

typedef struct Column {
    Oid table; /* InvalidOid: it is none */
    AttrNumber number;
} Column;

static Column column_of(Plan *plan, Var *var, List *rtable);

/* The column that an entry of a plan's target list is. */
static Column column_of_entry(Plan *plan, List *tlist, AttrNumber number, List *rtable)
{
    TargetEntry *entry = plan == NULL || number < 1 || number > list_length(tlist) ? NULL : list_nth(tlist, number - 1);

    if (entry == NULL || !IsA(entry->expr, Var))
        return (Column){InvalidOid};
    return column_of(plan, (Var *) entry->expr, rtable);
}

/* What a column reference in a plan's expressions is. */
static Column column_of(Plan *plan, Var *var, List *rtable)
{
    RangeTblEntry *rte;

    check_stack_depth();
    if (var->varno == OUTER_VAR && plan->lefttree != NULL)
        return column_of_entry(plan->lefttree, plan->lefttree->targetlist, var->varattno, rtable);
    if (var->varno == INNER_VAR && plan->righttree != NULL)
        return column_of_entry(plan->righttree, plan->righttree->targetlist, var->varattno, rtable);
    if (IS_SPECIAL_VARNO(var->varno) || var->varlevelsup != 0 || (int) var->varno > list_length(rtable))
        return (Column){InvalidOid};
    if (IsA(plan, SubqueryScan))
        return column_of_entry(((SubqueryScan *) plan)->subplan, ((SubqueryScan *) plan)->subplan->targetlist, var->varattno, rtable);
    rte = rt_fetch(var->varno, rtable);
    return rte->rtekind == RTE_RELATION && var->varattno > 0 ? (Column){rte->relid, var->varattno} : (Column){InvalidOid};
}

static double rows_of_table(Oid table)
{
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
    double rows = HeapTupleIsValid(tuple) ? ((Form_pg_class) GETSTRUCT(tuple))->reltuples : 0;

    if (HeapTupleIsValid(tuple))
        ReleaseSysCache(tuple);
    return rows;
}

/* Different values in a column of so many rows, by its statistics: a number, or negative, a share of the table's rows. */
static double different(Column column, double rows)
{
    HeapTuple tuple = SearchSysCache3(STATRELATTINH, ObjectIdGetDatum(column.table), Int16GetDatum(column.number), BoolGetDatum(false));
    double n;

    if (!HeapTupleIsValid(tuple))
        return rows;
    n = ((Form_pg_statistic) GETSTRUCT(tuple))->stadistinct;
    ReleaseSysCache(tuple);
    n = n < 0 ? -n * rows_of_table(column.table) : n;
    return n > 0 ? Min(n, rows) : rows;
}

/* Mean bytes of an expression over the node's columns; *distinct becomes the different values, where it is a column. */
static double width_of(Node *node, const BatchState *state, List *rtable, double rows, double *distinct)
{
    Plan *child = outerPlan(state->css.ss.ps.plan);
    double width = 0;
    Column column;
    ListCell *cell;

    if (IsA(node, RelabelType))
        return width_of((Node *) ((RelabelType *) node)->arg, state, rtable, rows, distinct);
    if (IsA(node, Const))
        return ((Const *) node)->constisnull || ((Const *) node)->constlen != -1
                   ? 0
                   : (double) VARSIZE_ANY_EXHDR(DatumGetPointer(((Const *) node)->constvalue));
    if (IsA(node, OpExpr)) { /* as a || b */
        foreach (cell, ((OpExpr *) node)->args)
            width += width_of(lfirst(cell), state, rtable, rows, distinct);
        *distinct = rows;
        return width;
    }
    if (!IsA(node, Var) || ((Var *) node)->varattno > state->n_leaves)
        return get_typavgwidth(exprType(node), exprTypmod(node));
    column = column_of_entry(child, child->targetlist, ((Var *) node)->varattno, rtable);
    if (!OidIsValid(column.table))
        return get_typavgwidth(exprType(node), exprTypmod(node));
    *distinct = different(column, rows);
    width = get_attavgwidth(column.table, column.number);
    return width > 0 ? width : get_typavgwidth(exprType(node), exprTypmod(node));
}

/* ---- what is known of the model */

typedef struct Past {
    char function[NAMEDATALEN], model[2 * NAMEDATALEN];
    Oid role, database;
    uint64 calls, written;     /* of the role's own calls of the function */
    uint64 tokens, ns;         /* of all calls of the function */
    uint64 any_tokens, any_ns; /* of all calls of the model */
} Past;

static void look_at_row(void *arg, const SlmLedgerKey *key, const SlmLedgerFigures *f)
{
    Past *p = arg;

    if (strcmp(key->model, p->model) != 0)
        return;
    p->any_tokens += slm_pg_ledger_tokens(f);
    p->any_ns += f->usage.prefill_ns + f->usage.decode_ns;
    if (strcmp(key->function, p->function) != 0)
        return;
    p->tokens += slm_pg_ledger_tokens(f);
    p->ns += f->usage.prefill_ns + f->usage.decode_ns;
    if (key->role != p->role)
        return;
    p->calls += f->distinct_calls;
    p->written += f->usage.output_tokens + f->usage.label_tokens;
}

static void look_at_past(FuncExpr *call, const SlmWorkKind *kind, Past *p)
{
    const char *model = slm_pg_batch_model_of(call), *symbol = kind->symbol;

    memset(p, 0, sizeof *p);
    p->role = slm_pg_payer();
    strlcpy(p->model, model, Min(strcspn(model, " (") + 1, sizeof p->model));
    if (symbol != NULL && strncmp(symbol, "slm_pg_", 7) == 0)
        snprintf(p->function, sizeof p->function, "slm_%s", symbol + 7);
    slm_pg_accounts_flush(true);
    slm_pg_ledger_each(look_at_row, p);
}

/* ---- the node */

/* At most so many rows are wanted; < 0: all. */
static double limit_of(const BatchState *state)
{
    List *limit = lfourth(castNode(CustomScan, state->css.ss.ps.plan)->custom_exprs);
    Const *count = limit == NIL ? NULL : linitial(limit), *offset = limit == NIL ? NULL : lsecond(limit);

    if (state->demand != SLM_BATCH_LIMIT || count == NULL || !IsA(count, Const) || count->constisnull || state->n_quals > 0)
        return -1;
    return (double) DatumGetInt64(count->constvalue) +
           (offset != NULL && IsA(offset, Const) && !offset->constisnull ? (double) DatumGetInt64(offset->constvalue) : 0);
}

static double rows_of(BatchState *state)
{
    double rows = slm_pg_batch_expected_rows(state), limit = limit_of(state);

    if (rows < 0)
        rows = outerPlan(state->css.ss.ps.plan)->plan_rows;
    return limit >= 0 ? Min(rows, limit) : rows;
}

void slm_pg_batch_explain_forecast(BatchState *state, ExplainState *es)
{
    CustomScan *scan = castNode(CustomScan, state->css.ss.ps.plan);
    double rows = rows_of(state), passing = Min(rows, scan->scan.plan.plan_rows), tokens = 0, minutes = 0;
    bool timed = true;
    ListCell *cell;

    foreach (cell, linitial(scan->custom_exprs)) {
        FuncExpr *call = lfirst(cell);
        const SlmWorkKind *kind = slm_pg_work_kind(call->funcid);
        double wanted = state->calls[foreach_current_index(cell)].stage > 0 ? passing : rows, distinct = wanted, read, written;
        Past past;

        look_at_past(call, kind, &past);
        read = SLM_TEMPLATE_TOKENS * (kind->task == SLM_TASK_GENERATE) +
               width_of(list_nth(call->args, kind->first_input), state, es->rtable, wanted, &distinct) / SLM_BYTES_PER_TOKEN;
        written = past.calls > 0 ? (double) past.written / (double) past.calls : slm_pg_batch_written(call);
        tokens += distinct * (read + written);
        if (past.tokens == 0) {
            past.tokens = past.any_tokens;
            past.ns = past.any_ns;
        }
        timed = timed && past.tokens > 0;
        minutes += past.tokens > 0 ? distinct * (read + written) * (double) past.ns / (double) past.tokens / 6e10 : 0;
    }
    ExplainPropertyFloat("Estimated Tokens", NULL, tokens, 0, es);
    if (timed)
        ExplainPropertyFloat("Estimated Minutes", NULL, minutes, minutes < 0.1 ? 5 : minutes < 10 ? 2 : 0, es);
}
