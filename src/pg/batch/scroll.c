/*
 * Reading an SLM Batch node backwards, and the current row of a cursor.
 *
 * Under a cursor that can scroll, the node keeps every row that it returns, as Material does, because neither calls nor the rows read
 * ahead can be taken back.  WHERE CURRENT OF looks for the scan of a table in the cursor's plan and takes its current row's address; the
 * scan below a batch node is ahead, so the node itself stands for it: it has the scan's relation and the addresses of its own rows.
 *
 *   rows     1 .. n_rows      position 0: before the first, n_rows + 1: after the last
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "pg/batch/state.h"

typedef struct RowAddress {
    ItemPointerData tid;
    Oid table;
} RowAddress;

struct BatchStore {
    Tuplestorestate *rows;
    RowAddress *addresses; /* [room] only where there is a source */
    int64 n_rows, room, position;
    bool complete;
    TupleTableSlot *slot; /* MinimalTuple */
};

void slm_pg_batch_scroll_begin(BatchState *state)
{
    PlanState *ps = &state->css.ss.ps;

    state->store = palloc0(sizeof *state->store);
    state->store->rows = tuplestore_begin_heap(true, false, work_mem);
    state->store->slot = ExecInitExtraTupleSlot(ps->state, ExecGetResultType(ps), &TTSOpsMinimalTuple);
}

/* Before the first row, with nothing kept. */
void slm_pg_batch_scroll_clear(BatchState *state)
{
    BatchStore *store = state->store;

    tuplestore_clear(store->rows);
    store->n_rows = store->position = 0;
    store->complete = false;
}

/* Keeps a row that the node returns now. */
static void keep_row(BatchState *state, TupleTableSlot *slot)
{
    BatchStore *store = state->store;

    tuplestore_puttupleslot(store->rows, slot);
    store->n_rows++;
    if (state->source == NULL)
        return;
    if (store->n_rows > store->room) {
        MemoryContext old = MemoryContextSwitchTo(state->css.ss.ps.state->es_query_cxt);

        store->room = Max(store->room * 2, 64);
        store->addresses = store->addresses == NULL
                               ? palloc(store->room * sizeof(RowAddress))
                               : repalloc_huge(store->addresses, store->room * sizeof(RowAddress));
        MemoryContextSwitchTo(old);
    }
    store->addresses[store->n_rows - 1] =
        (RowAddress){state->css.ss.ss_ScanTupleSlot->tts_tid, state->css.ss.ss_ScanTupleSlot->tts_tableOid};
}

/* A kept row as the node's result, and its address in the scan slot. */
static TupleTableSlot *kept_row(BatchState *state)
{
    TupleTableSlot *scan = state->css.ss.ss_ScanTupleSlot;
    BatchStore *store = state->store;

    if (state->source != NULL) {
        ExecStoreAllNullTuple(scan);
        scan->tts_tid = store->addresses[store->position - 1].tid;
        scan->tts_tableOid = store->addresses[store->position - 1].table;
    }
    return ExecCopySlot(state->css.ss.ps.ps_ResultTupleSlot, store->slot);
}

/* The next row, or the one before, by the direction of the statement; `next` computes rows not yet seen. */
TupleTableSlot *slm_pg_batch_scroll_exec(BatchState *state, TupleTableSlot *(*next)(BatchState *state))
{
    BatchStore *store = state->store;
    bool forward = ScanDirectionIsForward(state->css.ss.ps.state->es_direction);
    bool at_end = tuplestore_ateof(store->rows);
    TupleTableSlot *slot;

    if (!forward && at_end && !store->complete && !tuplestore_advance(store->rows, false)) {
        store->position = 0; /* the last row kept is the current one: step over it */
        return NULL;
    }
    if (!forward || !at_end) {
        if (tuplestore_gettupleslot(store->rows, forward, false, store->slot)) {
            store->position += forward ? 1 : -1;
            return kept_row(state);
        }
        if (!forward) {
            store->position = 0;
            return NULL;
        }
    }
    slot = store->complete ? NULL : next(state);
    if (TupIsNull(slot)) {
        store->complete = true;
        store->position = store->n_rows + 1;
        ExecClearTuple(state->css.ss.ss_ScanTupleSlot);
        return NULL;
    }
    keep_row(state, slot);
    store->position = store->n_rows;
    return slot;
}
