/*
 * sample.h: SLM Batch nodes of a statement whose cost is estimated compute a sample of their inputs (sample.c, estimate.c).
 */
#ifndef SLM_PG_BATCH_SAMPLE_H
#define SLM_PG_BATCH_SAMPLE_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "nodes/plannodes.h"
#include "portability/instr_time.h"

#include "pg/batch/state.h"

/* What a call takes. */
enum { SLM_TAKES_IN, SLM_TAKES_OUT, SLM_TAKES_COMPUTED, SLM_TAKES_CPU, SLM_N_TAKES };

/* The statement whose nodes sample. */
typedef struct SlmSampling {
    const PlannedStmt *stmt;
    const void *estate;     /* what its nodes' requests carry (usage.h); NULL: not begun */
    MemoryContext context;  /* of what is kept */
    int most;               /* inputs that a node computes at most */
    double seconds;         /* that the sample may take */
    instr_time begun;
    List *samples;          /* of SlmSample */
    int depth;              /* nodes that compute their sample now */
    slm_usage inside;       /* what was computed for them */
    bool stopped;           /* by an error of the sampling's own: too much is computed outside of nodes that sample, or for too long */
    slm_usage outside;      /* what was computed for calls outside of them */
} SlmSampling;
extern SlmSampling *slm_pg_sampling; /* NULL: nothing is estimated */

/* Seconds since it began. */
double slm_pg_sampling_time(const SlmSampling *sampling);

/* For a node that begins while its statement is estimated; NULL: it computes as ever. */
SlmSample *slm_pg_sample_begin(BatchState *state);
/* In the place of the node's next result: the rows of the sample that pass. */
TupleTableSlot *slm_pg_sample_exec(BatchState *state, TupleTableSlot *(*next)(BatchState *state));
/* In the place of the child's next row. */
TupleTableSlot *slm_pg_sample_next(BatchState *state);
/* A call of a sampled row has its answer; a row leaves the window. */
void slm_pg_sample_settled(BatchState *state, const BatchEntry *entry);
void slm_pg_sample_left(BatchState *state, const BatchRow *row);
/* The node begins anew: what it computes from now on is no sample. */
void slm_pg_sample_rescan(BatchState *state);

/* What the node would do if it computed everything. */
typedef struct SlmSampleTotals {
    bool exact; /* all of its inputs were computed */
    double rows, calls, distinct;
    double takes[SLM_N_TAKES], error[SLM_N_TAKES]; /* half of the 95 % interval */
    double seconds, seconds_error;
    double unsure; /* factor by which the number of rows may be another; 1: they were counted */
    double out;    /* rows that it returns, for each that it returned */
} SlmSampleTotals;
int slm_pg_sample_node(const SlmSample *sample); /* its number in the plan */
int slm_pg_sample_size(const SlmSample *sample); /* inputs that were computed */
double slm_pg_sample_seconds(const SlmSample *sample); /* that the node took, reading included */
/* `scale`: for each row that the node got from below, so many would come. */
void slm_pg_sample_totals(const SlmSample *sample, double scale, SlmSampleTotals *out);

#endif
