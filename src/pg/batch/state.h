/*
 * The run-time state of an SLM Batch node, shared by exec.c and explain.c.
 */
#ifndef SLM_PG_BATCH_STATE_H
#define SLM_PG_BATCH_STATE_H

#include "postgres.h"

#include "access/parallel.h"
#include "commands/explain.h"
#include "fmgr.h"
#include "lib/ilist.h"
#include "lib/stringinfo.h"
#include "nodes/execnodes.h"
#include "nodes/pg_list.h"
#include "portability/instr_time.h"
#include "utils/hsearch.h"
#include "utils/resowner.h"

#include "pg/base/row_count.h"
#include "pg/run/progress.h"
#include "pg/run/work.h"

typedef struct ArgType {
    int16 length;
    bool by_value;
} ArgType;

/* A call site: function, arguments, and when it is wanted. */
typedef struct BatchCall {
    const SlmWorkKind *kind;
    FmgrInfo function;
    FunctionCallInfo fcinfo; /* arguments of the call being begun */
    ExprState **args;        /* [n_args] */
    ArgType *arg_types;      /* [n_args] */
    ArgType result_type;
    ExprState *guard;        /* or NULL */
    bool uses_params;        /* arguments depend on what the node is begun anew with */
    int n_args, stage, level;
    uint64 n_begun; /* for a row */
} BatchCall;

/* A call with certain argument values: under way, failed (work kept), or done (value). */
typedef struct BatchEntry {
    struct BatchEntry *next; /* same hash */
    BatchCall *call;
    MemoryContext context; /* of the cache that holds it */
    char *key;
    int key_length;
    SlmWork *work;
    SlmAccount *account;
    bool settled;
    Datum value;
    bool isnull;
    SlmRowNote note; /* counted once for each row that comes to its end */
} BatchEntry;

typedef struct BatchBucket {
    uint64 hash;
    BatchEntry *first;
} BatchBucket;

typedef enum BatchRowState { ROW_RUNNING, ROW_READY, ROW_DROPPED } BatchRowState;

/* A row read ahead. */
typedef struct BatchRow {
    dlist_node node;
    MinimalTuple tuple; /* the leaves */
    int64 generation;   /* of the cache when the row was read: its entries are of this one or a later */
    BatchRowState state;
    int stage, level;
    bool begun; /* the calls of this stage and level have been begun */
    bool plain; /* something failed: the row is evaluated in the plain way when its turn comes, which raises what there is to raise */
    ItemPointerData tid; /* of the row of state->source that it comes from */
    Oid table;
    BatchEntry *entries[FLEXIBLE_ARRAY_MEMBER]; /* [n_calls] NULL: not evaluated, or NULL by strictness */
} BatchRow;

typedef struct BatchCounters {
    uint64 rows, calls, distinct, steps, step_rows;
    instr_time engine_time, input_time; /* in forward passes, waiting for the child */
    slm_usage engine;
} BatchCounters;

/* Results by argument values, as long as they fit in memory. */
typedef struct BatchCache {
    MemoryContext context;
    HTAB *table; /* hash -> BatchBucket */
    int64 generation;
} BatchCache;

typedef struct BatchShared BatchShared;
typedef struct BatchStore BatchStore;
typedef struct SlmSample SlmSample;
typedef struct BatchVotes BatchVotes;

typedef struct BatchState {
    CustomScanState css; /* first */
    int n_leaves, n_calls, n_quals;
    int demand;                          /* SLM_BATCH_ALL, ... */
    ExprState *limit_count, *limit_offset; /* of SLM_BATCH_LIMIT, or NULL */
    bool limit_known;
    int64 bound; /* rows wanted at most; 0 unknown */
    int flags;
    List *params; /* of int: executor parameters that calls, guards and quals use */
    BatchCall *calls;
    ExprState **quals;
    ExprState *plain_qual; /* conditions and target list with calls in place, made when first needed */
    ProjectionInfo *plain_projection;
    ScanState *source; /* the table scan whose current row is the node's, for WHERE CURRENT OF; or NULL */
    TupleTableSlot *leaf_slot;
    ExprContext *arg_context;
    ResourceOwner owner; /* of what the child holds */
    MemoryContext window_context;
    dlist_head window; /* of BatchRow, oldest first */
    int n_window;
    Size window_bytes;
    int read_ahead; /* rows that the window may hold; doubles with each row emitted */
    int64 n_emitted, n_dropped;
    bool child_done;
    int n_plain;        /* of the window: nothing is read beyond plain rows */
    ErrorData *error;   /* of the child, for a row after those in the window */
    BatchRow *returned; /* the row whose values the slot last returned points to */
    BatchCache cache;   /* the one that grows */
    BatchCache old;     /* the one before, until no row refers to it; context NULL = none */
    StringInfoData key;
    BatchCounters counters;
    SlmProgressUse progress;
    double estimate; /* of the rows to be done, by the planner; < 0: none */
    int n_scans; /* begun anew so many times */
    BatchShared *shared; /* in parallel plans, while it lasts */
    BatchStore *store;   /* rows returned, for scrolling; or NULL */
    SlmSample *sample;   /* of a statement that is estimated (sample.h); or NULL */
    BatchVotes *votes;   /* with slm.optimize = calls (votes.h); or NULL */
} BatchState;

/* The node ends: counts its calls in pg_stat_user_functions (tracked.c). */
void slm_pg_batch_track(const BatchState *state);
void slm_pg_batch_explain(CustomScanState *node, List *ancestors, ExplainState *es);
/* Properties that are shown of a node and of the calls outside of nodes alike. */
void slm_pg_batch_explain_tokens(const slm_usage *c, ExplainState *es);
void slm_pg_batch_explain_ms(const char *label, double ms, ExplainState *es);
void slm_pg_batch_explain_speed(double tokens, double seconds, ExplainState *es);
Size slm_pg_batch_estimate_dsm(CustomScanState *node, ParallelContext *pcxt);
void slm_pg_batch_initialize_dsm(CustomScanState *node, ParallelContext *pcxt, void *coordinate);
void slm_pg_batch_reinitialize_dsm(CustomScanState *node, ParallelContext *pcxt, void *coordinate);
void slm_pg_batch_initialize_worker(CustomScanState *node, shm_toc *toc, void *coordinate);
void slm_pg_batch_shutdown(CustomScanState *node);

/* The argument values of a call as bytes: what decides its result.  False when they are too long. */
bool slm_pg_batch_call_key(BatchCall *call, StringInfo key);

/* For votes.c, what exec.c does with rows: the child's next one, not yet in the window (NULL at the end); its columns in the scan slot; the
 * arguments of a call of the row in arg_context (false: it is not made), its entry, a pass of the models, and its answer. */
BatchRow *slm_pg_batch_child_row(BatchState *state);
TupleTableSlot *slm_pg_batch_load_row(BatchState *state, BatchRow *row);
bool slm_pg_batch_arguments(BatchState *state, BatchCall *call, bool *strict_null);
BatchEntry *slm_pg_batch_cached_call(BatchState *state, BatchCall *call);
void slm_pg_batch_step(BatchState *state, int n_rows);
void slm_pg_batch_settle(BatchState *state, BatchEntry *entry);

/* The row as plain execution computes it: false where a condition drops it. Raises what plain execution raises (plain.c). */
bool slm_pg_batch_plain_row(BatchState *state, TupleTableSlot **slot);

/* The planner's estimate of the rows to be done; < 0 where it has none: a condition of its own stands beside those that moved. */
double slm_pg_batch_expected_rows(BatchState *state);
/* What EXPLAIN expects the node to take: tokens and minutes (forecast.c). */
void slm_pg_batch_explain_forecast(BatchState *state, ExplainState *es);
/* Progress (expect.c): begins to count the node's rows; one more is done. */
void slm_pg_batch_expect(BatchState *state);
void slm_pg_batch_report(BatchState *state);

/* A node that can be read backwards keeps the rows that it has returned (scroll.c). */
void slm_pg_batch_scroll_begin(BatchState *state);
TupleTableSlot *slm_pg_batch_scroll_exec(BatchState *state, TupleTableSlot *(*next)(BatchState *state));
void slm_pg_batch_scroll_clear(BatchState *state);

#endif
