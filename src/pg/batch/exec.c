/*
 * Executes an SLM Batch node.
 *
 * Rows of the child are read ahead into a window; each row goes through its stages on its own: it begins the calls that it can, waits for
 * their works, evaluates a qual, goes on, and is emitted in order:
 *
 *   child ──► [row | row | row | ... | row]  window, at most slm.batch_size rows and work_mem bytes
 *              ▲ emitted when ready            all their works run together in the engine's continuous batch
 *
 * Equal argument values share one computation within the statement (cache).  The window grows from one row, so that a consumer that
 * stops early has cost little; where the plan says that everything will be read it starts full.
 *
 * Errors: a row for which anything fails ahead of its turn is evaluated in the plain way when its turn comes (plain.c).  An error of the
 * child waits until the rows before it are computed and returned, so that the first error in row order is the one raised.  Catching an
 * error without a subtransaction is right only where it has left nothing behind: plan.c puts no batch node above code of users, and says
 * where expressions of the node itself run such code (SLM_BATCH_WARY); they are evaluated ahead in a subtransaction.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/parallel.h"
#include "access/relscan.h"
#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_proc.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pg_list.h"
#include "portability/instr_time.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"

#include "pg/base/compat.h"
#include "pg/base/row_count.h"
#include "pg/base/row_error.h"
#include "pg/batch/batch.h"
#include "pg/batch/sample.h"
#include "pg/batch/state.h"
#include "pg/batch/votes.h"
#include "pg/run/backend.h"
#include "pg/run/progress.h"
#include "pg/run/usage.h"
#include "pg/run/work.h"

static void batch_begin(CustomScanState *node, EState *estate, int eflags);
static TupleTableSlot *batch_exec(CustomScanState *node);
static void batch_end(CustomScanState *node);
static void batch_rescan(CustomScanState *node);

static const CustomExecMethods batch_exec_methods = {
    .CustomName = "SLM Batch",
    .BeginCustomScan = batch_begin,
    .ExecCustomScan = batch_exec,
    .EndCustomScan = batch_end,
    .ReScanCustomScan = batch_rescan,
    .EstimateDSMCustomScan = slm_pg_batch_estimate_dsm,
    .InitializeDSMCustomScan = slm_pg_batch_initialize_dsm,
    .ReInitializeDSMCustomScan = slm_pg_batch_reinitialize_dsm,
    .InitializeWorkerCustomScan = slm_pg_batch_initialize_worker,
    .ShutdownCustomScan = slm_pg_batch_shutdown,
    .ExplainCustomScan = slm_pg_batch_explain,
};

static Node *create_state(CustomScan *scan);

const CustomScanMethods slm_batch_scan_methods = {
    .CustomName = "SLM Batch",
    .CreateCustomScanState = create_state,
};

static Node *create_state(CustomScan *scan)
{
    BatchState *state = palloc0(sizeof *state);

    NodeSetTag(state, T_CustomScanState);
    state->css.methods = &batch_exec_methods;
    return (Node *) state;
}

/* ---------------------------------------------------------------- begin and end */

/* An empty cache of the next generation. */
static void start_cache(BatchState *state)
{
    HASHCTL control = {.keysize = sizeof(uint64), .entrysize = sizeof(BatchBucket)};

    state->cache.context = AllocSetContextCreate(state->css.ss.ps.state->es_query_cxt, "SLM batch cache", ALLOCSET_DEFAULT_SIZES);
    control.hcxt = state->cache.context;
    state->cache.table = hash_create("SLM batch cache", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    state->cache.generation++;
}

static void init_call(BatchState *state, BatchCall *call, FuncExpr *expr, Expr *guard, int stage, int level)
{
    PlanState *parent = &state->css.ss.ps;
    int n_args = list_length(expr->args);
    ListCell *cell;

    call->kind = slm_pg_work_kind(expr->funcid);
    if (call->kind == NULL || call->kind->begin == NULL)
        elog(ERROR, "function %u in a batch node is not one that runs a model", expr->funcid);
    if (SLM_EXECUTE_ACL(expr->funcid) != ACLCHECK_OK)
        aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(expr->funcid));
    InvokeFunctionExecuteHook(expr->funcid);
    call->stage = stage;
    call->level = level;
    call->guard = guard == NULL ? NULL : ExecInitExpr(guard, parent);
    call->args = palloc(sizeof(ExprState *) * Max(n_args, 1));
    call->arg_types = palloc(sizeof(ArgType) * Max(n_args, 1));
    call->n_args = n_args;
    foreach (cell, expr->args) {
        int i = foreach_current_index(cell);

        call->args[i] = ExecInitExpr(lfirst(cell), parent);
        get_typlenbyval(exprType(lfirst(cell)), &call->arg_types[i].length, &call->arg_types[i].by_value);
    }
    get_typlenbyval(expr->funcresulttype, &call->result_type.length, &call->result_type.by_value);
    fmgr_info(expr->funcid, &call->function);
    fmgr_info_set_expr((Node *) expr, &call->function);
    call->fcinfo = palloc0(SizeForFunctionCallInfo(n_args));
    InitFunctionCallInfoData(*call->fcinfo, &call->function, n_args, expr->inputcollid, NULL, NULL);
}

/* The executor parameters of expressions. */
static bool param_walker(Node *node, BatchState *state)
{
    if (node == NULL)
        return false;
    if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXEC)
        state->params = list_append_unique_int(state->params, ((Param *) node)->paramid);
    return expression_tree_walker(node, param_walker, state);
}

/* The scan of a table whose current row is that of a plan, as WHERE CURRENT OF looks for it. */
static ScanState *find_source(PlanState *node)
{
    switch (nodeTag(node)) {
        case T_SeqScanState:
        case T_SampleScanState:
        case T_IndexScanState:
        case T_IndexOnlyScanState:
        case T_BitmapHeapScanState:
        case T_TidScanState:
        case T_TidRangeScanState:
            return (ScanState *) node;
        case T_CustomScanState:
            return ((ScanState *) node)->ss_currentRelation != NULL ? (ScanState *) node : NULL;
        case T_ResultState:
        case T_LimitState:
            return outerPlanState(node) == NULL ? NULL : find_source(outerPlanState(node));
        case T_SubqueryScanState:
            return find_source(((SubqueryScanState *) node)->subplan);
        default:
            return NULL;
    }
}

static void batch_begin(CustomScanState *node, EState *estate, int eflags)
{
    BatchState *state = (BatchState *) node;
    CustomScan *scan = castNode(CustomScan, node->ss.ps.plan);
    List *private = scan->custom_private;
    List *calls = linitial(scan->custom_exprs), *guards = lsecond(scan->custom_exprs), *quals = lthird(scan->custom_exprs);
    List *limit = lfourth(scan->custom_exprs);
    TupleDesc desc;
    ListCell *cell;

    if ((eflags & EXEC_FLAG_BACKWARD) != 0)
        slm_pg_batch_scroll_begin(state);
    outerPlanState(node) = ExecInitNode(outerPlan(scan), estate, eflags & ~(EXEC_FLAG_BACKWARD | EXEC_FLAG_MARK));
    state->source = find_source(outerPlanState(node));
    if (state->source != NULL)
        node->ss.ss_currentRelation = state->source->ss_currentRelation;
    state->n_leaves = intVal(list_nth(private, SLM_BATCH_N_LEAVES));
    state->n_calls = list_length(calls);
    state->n_quals = list_length(quals);
    state->demand = intVal(list_nth(private, SLM_BATCH_BOUND));
    state->flags = intVal(list_nth(private, SLM_BATCH_FLAGS));
    if (limit != NIL) {
        state->limit_count = linitial(limit) == NULL ? NULL : ExecInitExpr(linitial(limit), &node->ss.ps);
        state->limit_offset = lsecond(limit) == NULL ? NULL : ExecInitExpr(lsecond(limit), &node->ss.ps);
    }

    state->calls = palloc0(sizeof(BatchCall) * state->n_calls);
    for (int i = 0; i < state->n_calls; i++) {
        (void) param_walker(list_nth(calls, i), state);
        state->calls[i].uses_params = state->params != NIL; /* of calls before it count, too: they may be among its arguments */
        init_call(state, &state->calls[i], list_nth(calls, i), list_nth(guards, i), list_nth_int(list_nth(private, SLM_BATCH_STAGES), i),
                  list_nth_int(list_nth(private, SLM_BATCH_LEVELS), i));
    }
    (void) param_walker((Node *) list_make2(guards, quals), state);
    state->quals = palloc0(sizeof(ExprState *) * Max(state->n_quals, 1));
    foreach (cell, quals)
        state->quals[foreach_current_index(cell)] = ExecInitQual(list_make1(lfirst(cell)), &node->ss.ps);

    desc = ExecGetResultType(outerPlanState(node));
    state->leaf_slot = ExecInitExtraTupleSlot(estate, desc, &TTSOpsMinimalTuple);
    state->arg_context = CreateExprContext(estate);
    state->window_context = AllocSetContextCreate(estate->es_query_cxt, "SLM batch window", ALLOCSET_DEFAULT_SIZES);
    start_cache(state);
    initStringInfo(&state->key);
    if ((eflags & EXEC_FLAG_EXPLAIN_ONLY) == 0)
        slm_pg_batch_expect(state);
    dlist_init(&state->window);
    state->read_ahead = state->demand == SLM_BATCH_ALL ? slm_batch_size : 1;
    state->sample = slm_pg_sample_begin(state);
    state->votes = slm_pg_votes_begin(state);
}

static void batch_end(CustomScanState *node)
{
    BatchState *state = (BatchState *) node;

    slm_pg_progress_leave(&state->progress);
    slm_pg_batch_track(state);
    if (state->error != NULL && (state->flags & SLM_BATCH_MODIFIES) != 0)
        ReThrowError(state->error); /* what was to be written has not been */
    MemoryContextDelete(state->window_context);
    MemoryContextDelete(state->cache.context);
    if (state->old.context != NULL)
        MemoryContextDelete(state->old.context);
    ExecEndNode(outerPlanState(node));
}

/* Drops the rows of the window; works under way belong to the cache and end with it. */
static void clear_window(BatchState *state)
{
    MemoryContextReset(state->window_context);
    dlist_init(&state->window);
    state->n_window = 0;
    state->window_bytes = 0;
    state->returned = NULL;
    state->n_plain = 0;
    state->error = NULL;
}

/* How many rows the Limit above wants: the child may need to know, because a bounded Sort orders ties in its own way. */
static void find_bound(BatchState *state)
{
    ExprContext *econtext = state->css.ss.ps.ps_ExprContext;
    bool count_null = true, offset_null = true;
    int64 count = 0, offset = 0;

    state->limit_known = true;
    state->bound = 0;
    if (state->demand != SLM_BATCH_LIMIT)
        return;
    if (state->limit_count != NULL)
        count = DatumGetInt64(ExecEvalExprSwitchContext(state->limit_count, econtext, &count_null));
    if (state->limit_offset != NULL)
        offset = DatumGetInt64(ExecEvalExprSwitchContext(state->limit_offset, econtext, &offset_null));
    if (count_null) {
        if (state->n_quals == 0)
            ExecSetTupleBound(-1, outerPlanState(&state->css));
        return;
    }
    offset = offset_null ? 0 : Max(offset, 0);
    if (count >= 0 && offset <= PG_INT64_MAX - count) {
        if (state->n_quals == 0)
            ExecSetTupleBound(count + offset, outerPlanState(&state->css));
        state->bound = Max(count + offset, 1);
    }
}

/* Ends the works of rows that nobody will read: those of calls that depend on what the node is begun anew with.  Others go on, they may be
 * wanted again. */
static void abandon_works(BatchState *state)
{
    dlist_iter iter;

    dlist_foreach (iter, &state->window) {
        BatchRow *row = dlist_container(BatchRow, node, iter.cur);

        for (int i = 0; i < state->n_calls; i++) {
            BatchEntry *entry = row->entries[i];

            if (entry == NULL || entry->settled || !state->calls[i].uses_params)
                continue;
            slm_pg_work_free(entry->work);
            entry->work = NULL;
            entry->settled = true;
            entry->key_length = -1; /* equal to none */
        }
    }
}

static void batch_rescan(CustomScanState *node)
{
    BatchState *state = (BatchState *) node;

    if (state->error != NULL && (state->flags & SLM_BATCH_RESTARTS) == 0)
        ReThrowError(state->error); /* the child has stopped in the middle of things and cannot begin anew */
    abandon_works(state);
    clear_window(state);
    if (state->sample != NULL)
        slm_pg_sample_rescan(state);
    if (state->votes != NULL)
        slm_pg_votes_rescan(state);
    if (state->store != NULL)
        slm_pg_batch_scroll_clear(state);
    state->child_done = false;
    state->n_scans++;
    state->n_emitted = 0;
    state->n_dropped = 0;
    state->read_ahead = state->demand == SLM_BATCH_ALL ? slm_batch_size : 1;
    find_bound(state);
    if (outerPlanState(node)->chgParam == NULL)
        ExecReScan(outerPlanState(node));
}

/* ---------------------------------------------------------------- cache of calls */

/* Longer arguments are not compared: copying and hashing them would take long, unseen by interrupts, and memory twice. */
#define KEY_BYTES ((Size) 1024 * 1024)

bool slm_pg_batch_call_key(BatchCall *call, StringInfo key)
{
    resetStringInfo(key);
    for (int i = 0; i < call->n_args; i++) {
        NullableDatum *arg = &call->fcinfo->args[i];
        ArgType *type = &call->arg_types[i];

        appendStringInfoChar(key, arg->isnull ? 1 : 0);
        if (arg->isnull)
            continue;
        if (type->by_value) {
            appendBinaryStringInfo(key, (char *) &arg->value, sizeof(Datum));
        } else {
            Size size;

            if (type->length == -1) /* the same value may be stored compressed, out of line or with a short header */
                arg->value = PointerGetDatum(pg_detoast_datum((struct varlena *) DatumGetPointer(arg->value)));
            size = datumGetSize(arg->value, false, type->length);
            if ((Size) key->len + size > KEY_BYTES)
                return false;
            appendBinaryStringInfo(key, (char *) &size, sizeof size);
            appendBinaryStringInfo(key, DatumGetPointer(arg->value), (int) size);
        }
    }
    return true;
}

static BatchEntry *begin_entry(BatchState *state, BatchCall *call)
{
    MemoryContext old = MemoryContextSwitchTo(state->cache.context);
    BatchEntry *entry = palloc0(sizeof *entry);
    const void *running = slm_pg_node_running;

    entry->call = call;
    entry->context = state->cache.context;
    slm_pg_node_running = state->css.ss.ps.state;
    PG_TRY();
    {
        entry->work = slm_pg_work_begin(call->kind, call->fcinfo);
    }
    PG_FINALLY();
    {
        slm_pg_node_running = running;
    }
    PG_END_TRY();
    MemoryContextSwitchTo(old);
    entry->account = slm_pg_work_account(entry->work);
    state->counters.distinct++;
    return entry;
}

/* The entry of a call whose value others have voted. */
static BatchEntry *known_entry(BatchState *state, BatchCall *call, Datum value, bool isnull)
{
    MemoryContext old = MemoryContextSwitchTo(state->cache.context);
    BatchEntry *entry = palloc0(sizeof *entry);

    entry->call = call;
    entry->context = state->cache.context;
    entry->account = slm_pg_votes_account(state->votes);
    entry->settled = true;
    entry->isnull = isnull;
    if (!isnull)
        entry->value = datumCopy(value, call->result_type.by_value, call->result_type.length);
    MemoryContextSwitchTo(old);
    return entry;
}

/* The cache entry of the call whose arguments are in call->fcinfo, a new one beginning its work. */
BatchEntry *slm_pg_batch_cached_call(BatchState *state, BatchCall *call)
{
    BatchBucket *bucket;
    BatchEntry *entry;
    Datum value;
    uint64 hash;
    bool found, isnull;

    if (!slm_pg_batch_call_key(call, &state->key))
        return begin_entry(state, call);
    if (state->votes != NULL && slm_pg_votes_find(state, call, &value, &isnull))
        return known_entry(state, call, value, isnull);
    hash = hash_bytes_extended((unsigned char *) state->key.data, state->key.len, (uint64) (call - state->calls));
    bucket = hash_search(state->cache.table, &hash, HASH_ENTER, &found);
    if (!found)
        bucket->first = NULL;
    for (entry = bucket->first; entry != NULL; entry = entry->next)
        if (entry->call == call && entry->key_length == state->key.len && memcmp(entry->key, state->key.data, state->key.len) == 0) {
            slm_pg_account_calls(entry->account, 1, 0);
            return entry;
        }

    entry = begin_entry(state, call);
    entry->key_length = state->key.len;
    entry->key = MemoryContextAlloc(entry->context, Max(state->key.len, 1));
    memcpy(entry->key, state->key.data, state->key.len);
    entry->next = bucket->first;
    bucket->first = entry;
    return entry;
}

/* Keeps the cache within twice work_mem: a full one grows old, and goes when no row refers to it any more. */
static void trim_cache(BatchState *state)
{
    BatchRow *head = dlist_is_empty(&state->window) ? NULL : dlist_head_element(BatchRow, node, &state->window);

    if (state->old.context != NULL && (head == NULL || head->generation > state->old.generation)) {
        MemoryContextDelete(state->old.context);
        state->old.context = NULL;
    }
    if (state->old.context == NULL && MemoryContextMemAllocated(state->cache.context, true) > (Size) work_mem * 1024L) {
        state->old = state->cache;
        start_cache(state);
    }
}

/* Takes the result of a finished work into the cache. A failed one keeps its work, which holds the error. */
void slm_pg_batch_settle(BatchState *state, BatchEntry *entry)
{
    MemoryContext old;
    Datum value;

    if (entry->settled)
        return;
    entry->settled = true;
    slm_pg_work_count(entry->work, &state->counters.engine);
    if (state->sample != NULL)
        slm_pg_sample_settled(state, entry);
    if (slm_pg_work_failed(entry->work))
        return;
    old = MemoryContextSwitchTo(state->arg_context->ecxt_per_tuple_memory);
    value = slm_pg_work_finish(entry->work, &entry->isnull);
    MemoryContextSwitchTo(entry->context);
    if (!entry->isnull)
        entry->value = datumCopy(value, entry->call->result_type.by_value, entry->call->result_type.length);
    entry->note = *slm_pg_work_note(entry->work);
    entry->note.text = entry->note.fault != SLM_FAULT_NONE && entry->note.text != NULL ? pstrdup(entry->note.text) : NULL;
    MemoryContextSwitchTo(old);
    slm_pg_work_free(entry->work);
    entry->work = NULL;
}

/* ---------------------------------------------------------------- rows */

/* Puts a row's columns and the call results that it has into the scan slot. */
TupleTableSlot *slm_pg_batch_load_row(BatchState *state, BatchRow *row)
{
    TupleTableSlot *slot = state->css.ss.ss_ScanTupleSlot;

    ExecClearTuple(slot);
    ExecStoreMinimalTuple(row->tuple, state->leaf_slot, false);
    slot_getallattrs(state->leaf_slot);
    for (int i = 0; i < state->n_leaves; i++) {
        slot->tts_values[i] = state->leaf_slot->tts_values[i];
        slot->tts_isnull[i] = state->leaf_slot->tts_isnull[i];
    }
    for (int i = 0; i < state->n_calls; i++) {
        BatchEntry *entry = row->entries[i];
        bool known = entry != NULL && entry->settled && entry->work == NULL;

        slot->tts_values[state->n_leaves + i] = known ? entry->value : (Datum) 0;
        slot->tts_isnull[state->n_leaves + i] = known ? entry->isnull : true;
    }
    if ((state->flags & SLM_BATCH_LOWERED) != 0) {
        slot->tts_values[state->n_leaves + state->n_calls] = BoolGetDatum(!row->plain);
        slot->tts_isnull[state->n_leaves + state->n_calls] = false;
    }
    slot->tts_tid = row->tid;
    slot->tts_tableOid = row->table;
    return ExecStoreVirtualTuple(slot);
}

bool slm_pg_batch_arguments(BatchState *state, BatchCall *call, bool *strict_null)
{
    ExprContext *econtext = state->arg_context;
    bool isnull;

    *strict_null = false;
    if (call->guard != NULL && (!DatumGetBool(ExecEvalExprSwitchContext(call->guard, econtext, &isnull)) || isnull))
        return false;
    for (int a = 0; a < call->n_args; a++) {
        NullableDatum *arg = &call->fcinfo->args[a];

        arg->value = ExecEvalExprSwitchContext(call->args[a], econtext, &arg->isnull);
        *strict_null = *strict_null || (arg->isnull && call->function.fn_strict);
    }
    return true;
}

/* Begins the calls of the row's stage and level. */
static void begin_calls(BatchState *state, BatchRow *row)
{
    ExprContext *econtext = state->arg_context;
    MemoryContext old;

    ResetExprContext(econtext);
    econtext->ecxt_scantuple = slm_pg_batch_load_row(state, row);
    for (int i = 0; i < state->n_calls; i++) {
        BatchCall *call = &state->calls[i];
        bool strict_null;

        if (call->stage != row->stage || call->level != row->level || !slm_pg_batch_arguments(state, call, &strict_null))
            continue;
        state->counters.calls++;
        call->n_begun++;
        if (strict_null)
            continue;
        old = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
        row->entries[i] = slm_pg_batch_cached_call(state, call);
        MemoryContextSwitchTo(old);
    }
}

/* The row goes no further by itself: it is evaluated in the plain way when its turn comes. */
static void make_plain(BatchState *state, BatchRow *row)
{
    if (row->plain) /* two of its calls have failed */
        return;
    row->plain = true;
    row->state = ROW_READY;
    state->n_plain++;
}

/* Has the row calls of its stage and level that are still under way? Settles those that are done. */
static bool row_waits(BatchState *state, BatchRow *row)
{
    for (int i = 0; i < state->n_calls; i++) {
        BatchEntry *entry = row->entries[i];

        if (entry == NULL)
            continue;
        if (!entry->settled && !slm_pg_work_done(entry->work))
            return true;
        slm_pg_batch_settle(state, entry);
        if (entry->work != NULL) /* failed */
            make_plain(state, row);
    }
    return false;
}

static int max_level(BatchState *state, int stage)
{
    int level = -1;

    for (int i = 0; i < state->n_calls; i++)
        if (state->calls[i].stage == stage)
            level = Max(level, state->calls[i].level);
    return level;
}

/* Takes a row as far as it goes without waiting. */
static void advance_row(BatchState *state, BatchRow *row)
{
    while (row->state == ROW_RUNNING) {
        if (!row->begun) {
            begin_calls(state, row);
            row->begun = true;
        }
        if (row_waits(state, row))
            return;
        if (row->plain)
            return;
        if (row->level < max_level(state, row->stage)) {
            row->level++;
            row->begun = false;
        } else if (row->stage < state->n_quals) {
            ResetExprContext(state->arg_context);
            state->arg_context->ecxt_scantuple = slm_pg_batch_load_row(state, row);
            if (!ExecQual(state->quals[row->stage], state->arg_context))
                row->state = ROW_DROPPED;
            row->stage++;
            row->level = 0;
            row->begun = false;
        } else {
            row->state = ROW_READY;
        }
    }
}

/* Are there subqueries, to be computed once, that have not been?  They would not survive an error that is caught. */
static bool params_pending(BatchState *state)
{
    ListCell *cell;

    foreach (cell, state->params)
        if (state->css.ss.ps.state->es_param_exec_vals[lfirst_int(cell)].execPlan != NULL)
            return true;
    return false;
}

/* Is the row to be evaluated in the plain way from the start? */
static bool row_at_a_time(BatchState *state)
{
    return !slm_enable_batch || params_pending(state) || state->css.ss.ps.state->es_epq_active != NULL ||
           ((state->flags & SLM_BATCH_WARY) != 0 && IsInParallelMode() && !IsParallelWorker());
}

/* Remembers which row of its table a row is. */
static void set_address(BatchState *state, BatchRow *row)
{
    TupleTableSlot *slot;

    ItemPointerSetInvalid(&row->tid);
    row->table = InvalidOid;
    if (state->source == NULL)
        return;
    slot = state->source->ss_ScanTupleSlot;
    row->table = RelationGetRelid(state->source->ss_currentRelation);
    row->tid = IsA(state->source, IndexOnlyScanState) ? ((IndexOnlyScanState *) state->source)->ioss_ScanDesc->xs_heaptid : slot->tts_tid;
}

BatchRow *slm_pg_batch_child_row(BatchState *state)
{
    ResourceOwner owner = CurrentResourceOwner;
    TupleTableSlot *slot;
    MemoryContext old;
    BatchRow *row;
    instr_time begin, end;

    INSTR_TIME_SET_CURRENT(begin);
    CurrentResourceOwner = state->owner; /* what the child holds outlives a subtransaction */
    slot = state->sample != NULL ? slm_pg_sample_next(state) : ExecProcNode(outerPlanState(&state->css));
    CurrentResourceOwner = owner;
    INSTR_TIME_SET_CURRENT(end);
    INSTR_TIME_ACCUM_DIFF(state->counters.input_time, end, begin);

    if (TupIsNull(slot))
        return NULL;
    old = MemoryContextSwitchTo(state->window_context);
    row = palloc0(offsetof(BatchRow, entries) + sizeof(BatchEntry *) * state->n_calls);
    row->tuple = ExecCopySlotMinimalTuple(slot);
    MemoryContextSwitchTo(old);
    set_address(state, row);
    return row;
}

/* Puts one row of the child into the window; false at the end. */
static bool read_row(BatchState *state)
{
    BatchRow *row = state->votes != NULL ? slm_pg_votes_next(state) : slm_pg_batch_child_row(state);

    if (row == NULL) {
        state->child_done = true;
        return false;
    }
    row->generation = state->cache.generation;
    if (row_at_a_time(state))
        make_plain(state, row);
    dlist_push_tail(&state->window, &row->node);
    state->n_window++;
    state->window_bytes += row->tuple->t_len;
    state->counters.rows++;
    return true;
}

/* How many rows may be in the window now. */
static int window_limit(BatchState *state)
{
    if (row_at_a_time(state))
        return 1;
    if (state->bound > 0) {
        int64 wanted = Min(slm_batch_size, Max(state->bound - state->n_emitted, 1));

        /* as many of the next rows will pass the conditions as did up to now */
        return (int) Min(slm_batch_size, wanted * (state->n_emitted + state->n_dropped + 1) / (state->n_emitted + 1));
    }
    return Min(state->read_ahead, slm_batch_size);
}

/* Fills the window and moves every row on; `current` is the row at hand. */
static void fill_window(BatchState *state, BatchRow *volatile *current)
{
    dlist_mutable_iter iter;

    dlist_foreach_modify (iter, &state->window) {
        *current = dlist_container(BatchRow, node, iter.cur);
        advance_row(state, *current);
    }
    *current = NULL;
    while (state->error == NULL && state->n_plain == 0 && !state->child_done && state->n_window < window_limit(state) &&
           (state->n_window == 0 || state->window_bytes < (Size) work_mem * 1024L) && read_row(state)) {
        *current = dlist_tail_element(BatchRow, node, &state->window);
        advance_row(state, *current);
        *current = NULL;
    }
}

/* Errors that have nothing to do with the row at hand are raised at once. */
static bool may_wait(int code)
{
    switch (ERRCODE_TO_CATEGORY(code)) {
        case ERRCODE_OPERATOR_INTERVENTION:
        case ERRCODE_INSUFFICIENT_RESOURCES:
        case ERRCODE_SYSTEM_ERROR:
        case ERRCODE_INTERNAL_ERROR:
        case ERRCODE_TRANSACTION_ROLLBACK:
        case ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE:
        case ERRCODE_CONNECTION_EXCEPTION:
            return false;
        default:
            return true;
    }
}

/* The error at hand goes on, out of the subtransaction that is ours: who catches it expects his own to be the innermost. */
static pg_noreturn void raise_now(bool nested, MemoryContext context, ResourceOwner owner);

static void raise_now(bool nested, MemoryContext context, ResourceOwner owner)
{
    ErrorData *error;

    if (!nested)
        PG_RE_THROW();
    MemoryContextSwitchTo(context);
    error = CopyErrorData();
    FlushErrorState();
    RollbackAndReleaseCurrentSubTransaction();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
    ReThrowError(error);
    pg_unreachable();
}

/* fill_window, with errors kept for later. */
static void advance_window(BatchState *state)
{
    MemoryContext context = CurrentMemoryContext;
    ResourceOwner owner = CurrentResourceOwner;
    BatchRow *volatile current = NULL;
    volatile bool nested = (state->flags & SLM_BATCH_WARY) != 0 && !row_at_a_time(state);

    state->owner = owner;
    if (nested && IsInParallelMode()) { /* in a worker, where there is no order of rows to keep */
        fill_window(state, &current);
        return;
    }
    if (nested) {
        BeginInternalSubTransaction(NULL);
        MemoryContextSwitchTo(context);
    }
    PG_TRY();
    {
        fill_window(state, &current);
    }
    PG_CATCH();
    {
        /* with a parallel context it may be a worker's, met anywhere: who goes on would wait for that worker for ever */
        if (!may_wait(geterrcode()) || (current == NULL && state->n_window == 0) || ParallelContextActive())
            raise_now(nested, context, owner);
        MemoryContextSwitchTo(state->window_context);
        if (current == NULL)
            state->error = CopyErrorData();
        else
            make_plain(state, current);
        MemoryContextSwitchTo(context);
        FlushErrorState();
        if (nested) {
            RollbackAndReleaseCurrentSubTransaction();
            MemoryContextSwitchTo(context);
            CurrentResourceOwner = owner;
            nested = false;
        }
    }
    PG_END_TRY();
    if (nested) {
        ReleaseCurrentSubTransaction();
        MemoryContextSwitchTo(context);
        CurrentResourceOwner = owner;
    }
}

void slm_pg_batch_step(BatchState *state, int n_rows)
{
    instr_time begin, end;

    INSTR_TIME_SET_CURRENT(begin);
    slm_pg_step_all();
    INSTR_TIME_SET_CURRENT(end);
    INSTR_TIME_ACCUM_DIFF(state->counters.engine_time, end, begin);
    state->counters.steps++;
    state->counters.step_rows += (uint64) n_rows;
}

/* Returns the head row, ready, dropped or failed, or NULL at the end. */
static BatchRow *next_row(BatchState *state)
{
    for (;;) {
        BatchRow *row;

        advance_window(state);
        if (dlist_is_empty(&state->window)) {
            if (state->error != NULL)
                ReThrowError(state->error);
            if (state->child_done)
                return NULL;
            continue;
        }
        row = dlist_head_element(BatchRow, node, &state->window);
        if (row->state != ROW_RUNNING)
            return row;
        slm_pg_batch_step(state, state->n_window);
    }
}

/* A row that leaves the window as it was computed ahead; evaluated in the plain way it counts itself. */
static void count_row(BatchState *state, const BatchRow *row)
{
    for (int i = 0; i < state->n_calls && !row->plain; i++)
        if (row->entries[i] != NULL)
            slm_pg_count_row(&row->entries[i]->note);
}

/* Takes the head row out of the window; its values stay until the next call. */
static TupleTableSlot *return_row(BatchState *state, BatchRow *row)
{
    CustomScanState *node = &state->css;
    ExprContext *econtext = node->ss.ps.ps_ExprContext;
    TupleTableSlot *slot;
    bool passed = row->state == ROW_READY;

    econtext->ecxt_scantuple = slot = slm_pg_batch_load_row(state, row);
    count_row(state, row);
    if (state->sample != NULL)
        slm_pg_sample_left(state, row);
    if (passed && row->plain && (state->flags & SLM_BATCH_LOWERED) == 0)
        passed = slm_pg_batch_plain_row(state, &slot);
    else if (passed && node->ss.ps.ps_ProjInfo != NULL)
        slot = ExecProject(node->ss.ps.ps_ProjInfo);

    dlist_delete(&row->node);
    state->n_window--;
    state->window_bytes -= row->tuple->t_len;
    state->read_ahead = Min(state->read_ahead * 2, slm_batch_size);
    if (row->plain)
        state->n_plain--;
    if (passed) {
        state->returned = row;
        state->n_emitted++;
        slm_pg_batch_report(state);
        return slot;
    }
    state->n_dropped++;
    slm_pg_batch_report(state);
    InstrCountFiltered1(node, 1);
    pfree(row->tuple);
    pfree(row);
    trim_cache(state);
    return NULL;
}

/* The next row that passes, or NULL at the end. */
static TupleTableSlot *next_result(BatchState *state)
{
    TupleTableSlot *slot;

    if (state->returned != NULL) {
        pfree(state->returned->tuple);
        pfree(state->returned);
        state->returned = NULL;
        trim_cache(state);
    }
    if (!state->limit_known)
        find_bound(state);
    do {
        BatchRow *row;

        ResetExprContext(state->css.ss.ps.ps_ExprContext);
        row = next_row(state);
        CHECK_FOR_INTERRUPTS();
        if (row == NULL) {
            ExecClearTuple(state->css.ss.ss_ScanTupleSlot);
            return NULL;
        }
        slot = return_row(state, row);
    } while (slot == NULL);
    return slot;
}

static TupleTableSlot *batch_exec(CustomScanState *node)
{
    BatchState *state = (BatchState *) node;

    if (state->sample != NULL)
        return slm_pg_sample_exec(state, next_result);
    return state->store != NULL ? slm_pg_batch_scroll_exec(state, next_result) : next_result(state);
}
