/*
 * How many rows an SLM Batch node will do, for slm.progress.
 *
 *   planner's estimate ──► with what a scan of a table has met: rows read, and the share of the table that they came from ──► exact:
 *   the child has ended
 *
 * Rows done are those that have left the window, whether a condition dropped them or not.  Where conditions with calls moved up from
 * the scan below, the planner's estimate is that of the rows that pass them and says nothing about the rows that have to be done.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/relscan.h"
#include "access/tableam.h"
#include "nodes/pg_list.h"
#include "optimizer/plancat.h"
#include "utils/rel.h"

#include "pg/batch/state.h"
#include "pg/run/progress.h"

/* The scan that feeds the node row by row, where it is that of a whole table. */
static SeqScanState *whole_scan(BatchState *state)
{
    PlanState *child = outerPlanState(&state->css);

    return IsA(child, SeqScanState) && !child->plan->parallel_aware ? (SeqScanState *) child : NULL;
}

double slm_pg_batch_expected_rows(BatchState *state)
{
    PlanState *child = outerPlanState(&state->css);
    SeqScanState *scan = whole_scan(state);
    BlockNumber pages;
    double tuples, visible;

    if (state->n_quals == 0)
        return child->plan->plan_rows;
    if (scan == NULL || child->plan->qual != NIL)
        return -1;
    estimate_rel_size(scan->ss.ss_currentRelation, NULL, &pages, &tuples, &visible);
    return tuples;
}

static double whole_rows(double rows)
{
    return rows < 1e15 ? (double) (int64) (rows + 0.5) : rows;
}

/* Which share of its table a scan has read; 0 when it cannot be told. */
static double share_read(SeqScanState *scan)
{
    HeapScanDesc heap = (HeapScanDesc) scan->ss.ss_currentScanDesc;
    double blocks, in_block;

    if (heap == NULL || scan->ss.ss_currentRelation->rd_tableam != GetHeapamTableAmRoutine() || !heap->rs_inited || heap->rs_nblocks == 0 ||
        heap->rs_cblock == InvalidBlockNumber)
        return 0;
    blocks = (heap->rs_cblock + (double) heap->rs_nblocks - heap->rs_startblock);
    blocks = blocks >= heap->rs_nblocks ? blocks - heap->rs_nblocks : blocks;
    in_block = heap->rs_ntuples > 0 ? ((double) heap->rs_cindex + 1) / heap->rs_ntuples : 1;
    return (blocks + Min(in_block, 1)) / heap->rs_nblocks;
}

void slm_pg_batch_expect(BatchState *state)
{
    state->estimate = slm_pg_batch_expected_rows(state);
    slm_pg_progress_enter(&state->progress, state->css.ss.ps.state->es_query_cxt, state->css.ss.ps.state, state->estimate, false);
}

void slm_pg_batch_report(BatchState *state)
{
    double done = (double) (state->n_emitted + state->n_dropped), total = state->progress.total;
    SeqScanState *scan = whole_scan(state);
    bool exact = false;

    if (state->n_scans > 0) {
        total = -1; /* nobody knows how many more times */
    } else if (state->child_done) {
        total = done + state->n_window;
        exact = state->error == NULL;
    } else if (scan != NULL) {
        double share = share_read(scan), read = done + state->n_window;
        double whole = state->estimate < 0 || scan->ss.ss_currentRelation->rd_rel->reltuples < 0 ? read / share : state->estimate;

        if (share > 0)
            total = whole_rows(read + (1 - share) * whole);
    }
    if (state->bound > 0 && total >= 0) { /* as many of the next rows will pass the conditions as did up to now */
        double limit = whole_rows((double) state->bound * (done + 1) / (double) (state->n_emitted + 1));

        exact = exact && (limit >= total || state->n_quals == 0);
        total = Min(total, limit);
    }
    state->progress.total = total;
    state->progress.exact = exact;
    slm_pg_progress_rows(&state->progress, 1);
}
