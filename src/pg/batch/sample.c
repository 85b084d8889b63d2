/*
 * sample.c: a batch node of a statement that is estimated (sample.h).
 *
 *   child ──all rows, for a third of the time at most──► counted, their inputs told apart
 *                          └──► the `most` inputs whose hash is lowest, each with the number of its rows
 *                                  └──► computed as ever: the first alone, then the others together ──► emitted once each
 *
 * So the sample is one of distinct inputs, which is what is computed, drawn evenly and always the same.  What the first takes more than the
 * others is what is done once: instructions, labels.  Of a call
 *
 *   total = first + (inputs - 1) * mean of the others         an input whose call is not wanted, as a condition dropped its row, counts 0
 *
 * A node that is begun anew for each row of another computes as ever; estimate.c stops it after a while.
 */
#include "pg/batch/sample.h"

#include "access/htup_details.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/float.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "engine/slm.h"
#include "pg/batch/batch.h"
#include "pg/run/work.h"

#define MOST_HASHES 50000
#define SHARE_OF_READING 3 /* a third of the time may go into reading rows */
#define GAIN 3.0           /* rows together take less time than the first, which opens the model, by about so much */
#define LEAST 5

/* Different hashes, by those below a limit (Wegman): beyond MOST_HASHES the limit is halved. */
typedef struct Seen {
    uint64 hash;
    uint32 n;
} Seen;
typedef struct Distinct {
    HTAB *seen;
    uint64 limit;
} Distinct;

/* An input of the sample. */
typedef struct Input {
    uint64 hash;
    int64 rows; /* that have it */
    MinimalTuple tuple;
    uint64 *of_calls; /* [n_calls] hash of each call's own arguments; 0: not wanted, or not known ahead */
} Input;

typedef struct SampledCall {
    bool ahead; /* its arguments can be told before anything is computed */
    Distinct inputs;
    int64 begun;  /* calls computed but the first */
    double weight; /* of rows that wanted it */
    bool has_first;
    double first[SLM_N_TAKES], sum[SLM_N_TAKES], squares[SLM_N_TAKES];
} SampledCall;

struct SlmSample {
    int node, n_calls;
    bool complete; /* all rows of the child have been read */
    double planned; /* rows of the child, by the planner */
    int64 bound, n_rows;
    bool has_quals, has_read, again;
    double read_seconds, first_seconds, seconds;
    instr_time begun;
    Distinct together; /* inputs of all calls */
    Input *inputs;     /* [n_inputs] by hash, ascending */
    int n_inputs, n_run, next, n_left;
    uint64 *hashes; /* [n_calls] of the row at hand */
    double weight, passed; /* of rows that left */
    double began[SLM_N_TAKES], of_calls[SLM_N_TAKES]; /* computed before the sample; for its calls */
    double beside_first[SLM_N_TAKES], beside[SLM_N_TAKES]; /* for none of its calls alone, as what a text that says nothing gives */
    int64 n_emitted;
    SampledCall *calls; /* [n_calls] */
    MemoryContext context;
    TupleTableSlot *slot; /* of what is given as the child's row */
    Tuplestorestate *results;
    TupleTableSlot *result;
};

SlmSampling *slm_pg_sampling;

static double seconds_since(instr_time begun)
{
    instr_time now;

    INSTR_TIME_SET_CURRENT(now);
    INSTR_TIME_SUBTRACT(now, begun);
    return INSTR_TIME_GET_DOUBLE(now);
}

double slm_pg_sampling_time(const SlmSampling *sampling)
{
    return seconds_since(sampling->begun);
}

/* ---- different inputs */

static void init_distinct(Distinct *d, MemoryContext context)
{
    HASHCTL control = {.keysize = sizeof(uint64), .entrysize = sizeof(Seen), .hcxt = context};

    d->seen = hash_create("slm sampled inputs", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    d->limit = PG_UINT64_MAX;
}

static void add_hash(Distinct *d, uint64 hash)
{
    HASH_SEQ_STATUS scan;
    Seen *entry;
    bool found;

    if (hash > d->limit)
        return;
    entry = hash_search(d->seen, &hash, HASH_ENTER, &found);
    entry->n = found ? entry->n + 1 : 1;
    while (hash_get_num_entries(d->seen) > MOST_HASHES) {
        d->limit /= 2;
        hash_seq_init(&scan, d->seen);
        while ((entry = hash_seq_search(&scan)) != NULL)
            if (entry->hash > d->limit)
                hash_search(d->seen, &entry->hash, HASH_REMOVE, NULL);
    }
}

/* How many there are among `all` rows, of which n have been seen (Haas and Stokes, as ANALYZE does it). */
static double count_distinct(const Distinct *d, double n, double all)
{
    double share = (double) d->limit / (double) PG_UINT64_MAX, different = (double) hash_get_num_entries(d->seen) / share, once = 0;
    HASH_SEQ_STATUS scan;
    Seen *entry;

    if (all <= n)
        return different;
    hash_seq_init(&scan, d->seen);
    while ((entry = hash_seq_search(&scan)) != NULL)
        once += entry->n == 1;
    once /= share;
    return Min(all, n * different / (n - once + once * n / all));
}

/* ---- the node */

/* Does an expression take the result of a call? */
static bool takes_call(Node *node, const int *n_leaves)
{
    if (node == NULL)
        return false;
    if (IsA(node, Var) && ((Var *) node)->varno == INDEX_VAR && ((Var *) node)->varattno > *n_leaves)
        return true;
    return expression_tree_walker(node, takes_call, unconstify(int *, n_leaves));
}

/* Anything but columns and constants? It might raise an error for a row that a condition drops. */
static bool computes(Node *node, void *none)
{
    if (node == NULL)
        return false;
    if (!IsA(node, Var) && !IsA(node, Const) && !IsA(node, RelabelType) && !IsA(node, List))
        return true;
    return expression_tree_walker(node, computes, none);
}

/* Can the arguments of a call be told before anything has been computed? */
static bool known_ahead(const BatchState *state, int call)
{
    CustomScan *scan = castNode(CustomScan, state->css.ss.ps.plan);
    FuncExpr *expr = list_nth(linitial(scan->custom_exprs), call);
    Node *guard = list_nth(lsecond(scan->custom_exprs), call);

    if (takes_call((Node *) expr->args, &state->n_leaves) || takes_call(guard, &state->n_leaves))
        return false;
    return state->calls[call].stage == 0 || (guard == NULL && !computes((Node *) expr->args, NULL));
}

SlmSample *slm_pg_sample_begin(BatchState *state)
{
    SlmSampling *sampling = slm_pg_sampling;
    MemoryContext old;
    SlmSample *s;

    if (sampling == NULL || state->css.ss.ps.state->es_plannedstmt != sampling->stmt)
        return NULL;
    old = MemoryContextSwitchTo(sampling->context);
    s = palloc0(sizeof *s);
    s->node = state->css.ss.ps.plan->plan_node_id;
    s->context = sampling->context;
    s->n_calls = state->n_calls;
    s->has_quals = state->n_quals > 0;
    s->planned = outerPlan(state->css.ss.ps.plan)->plan_rows;
    s->calls = palloc0(sizeof(SampledCall) * (Size) s->n_calls);
    s->hashes = palloc0(sizeof(uint64) * (Size) s->n_calls);
    s->inputs = palloc0(sizeof(Input) * (Size) (sampling->most + 1));
    init_distinct(&s->together, s->context);
    for (int i = 0; i < s->n_calls; i++) {
        s->calls[i].ahead = known_ahead(state, i);
        init_distinct(&s->calls[i].inputs, s->context);
    }
    sampling->samples = lappend(sampling->samples, s);
    MemoryContextSwitchTo(old);
    s->slot = ExecInitExtraTupleSlot(state->css.ss.ps.state, ExecGetResultType(outerPlanState(&state->css)), &TTSOpsMinimalTuple);
    s->result = ExecInitExtraTupleSlot(state->css.ss.ps.state, ExecGetResultType(&state->css.ss.ps), &TTSOpsMinimalTuple);
    return s;
}

/* ---- reading */

/* The child's row in the scan slot, where arguments look for it. */
static void show_row(BatchState *state, TupleTableSlot *row)
{
    TupleTableSlot *slot = state->css.ss.ss_ScanTupleSlot;

    ExecClearTuple(slot);
    slot_getallattrs(row);
    memset(slot->tts_isnull, true, sizeof(bool) * (Size) slot->tts_tupleDescriptor->natts);
    for (int i = 0; i < state->n_leaves; i++) {
        slot->tts_values[i] = row->tts_values[i];
        slot->tts_isnull[i] = row->tts_isnull[i];
    }
    ExecStoreVirtualTuple(slot);
}

/* The hash of a call's arguments for the row at hand; 0: it is not wanted. */
static uint64 hash_call(BatchState *state, BatchCall *call, StringInfo key)
{
    ExprContext *econtext = state->arg_context;
    bool isnull, strict_null = false;
    uint64 hash;

    if (call->guard != NULL && (!DatumGetBool(ExecEvalExprSwitchContext(call->guard, econtext, &isnull)) || isnull))
        return 0;
    for (int a = 0; a < call->n_args; a++) {
        NullableDatum *arg = &call->fcinfo->args[a];

        arg->value = ExecEvalExprSwitchContext(call->args[a], econtext, &arg->isnull);
        strict_null = strict_null || (arg->isnull && call->function.fn_strict);
    }
    if (strict_null)
        return 0;
    if (!slm_pg_batch_call_key(call, key)) /* long, and so taken for one of its own */
        return hash_bytes_extended((unsigned char *) &state->sample->n_rows, sizeof state->sample->n_rows, 1) | 1;
    hash = hash_bytes_extended((unsigned char *) key->data, key->len, (uint64) (call - state->calls));
    return hash == 0 ? 1 : hash;
}

/* The place of a hash among the inputs. */
static int place_of(const SlmSample *s, uint64 hash)
{
    int low = 0, high = s->n_inputs;

    while (low < high) {
        int middle = (low + high) / 2;

        if (s->inputs[middle].hash < hash)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void keep_input(SlmSample *s, uint64 hash, TupleTableSlot *row, int most)
{
    int at = place_of(s, hash);
    Input *input = &s->inputs[at];
    MemoryContext old;

    if (at < s->n_inputs && input->hash == hash) {
        input->rows++;
        return;
    }
    if (at == most)
        return;
    if (s->n_inputs == most) {
        pfree(s->inputs[most - 1].tuple);
        pfree(s->inputs[most - 1].of_calls);
        s->n_inputs--;
    }
    memmove(input + 1, input, sizeof *input * (Size) (s->n_inputs - at));
    s->n_inputs++;
    old = MemoryContextSwitchTo(s->context);
    input->hash = hash;
    input->rows = 1;
    input->tuple = ExecCopySlotMinimalTuple(row);
    input->of_calls = palloc(sizeof(uint64) * (Size) s->n_calls);
    memcpy(input->of_calls, s->hashes, sizeof(uint64) * (Size) s->n_calls);
    MemoryContextSwitchTo(old);
}

static void note_row(BatchState *state, TupleTableSlot *row, StringInfo key)
{
    SlmSample *s = state->sample;
    uint64 together = 0;
    bool any = false;

    ResetExprContext(state->arg_context);
    show_row(state, row);
    state->arg_context->ecxt_scantuple = state->css.ss.ss_ScanTupleSlot;
    for (int i = 0; i < s->n_calls; i++) {
        s->hashes[i] = s->calls[i].ahead ? hash_call(state, &state->calls[i], key) : 0;
        if (s->hashes[i] != 0)
            add_hash(&s->calls[i].inputs, s->hashes[i]);
        any = any || s->calls[i].ahead;
        together = hash_bytes_extended((unsigned char *) &s->hashes[i], sizeof s->hashes[i], together);
    }
    if (!any) /* nothing tells rows apart */
        together = hash_bytes_extended((unsigned char *) &s->n_rows, sizeof s->n_rows, 2);
    add_hash(&s->together, together);
    keep_input(s, together, row, slm_pg_sampling->most);
}

static void read_rows(BatchState *state)
{
    SlmSample *s = state->sample;
    double limit = slm_pg_sampling->seconds / SHARE_OF_READING;
    instr_time begun;
    StringInfoData key;

    initStringInfo(&key);
    INSTR_TIME_SET_CURRENT(begun);
    s->bound = state->bound;
    state->bound = 0; /* of the sample all is wanted */
    for (;;) {
        TupleTableSlot *row;

        CHECK_FOR_INTERRUPTS();
        if (s->bound > 0 && !s->has_quals && s->n_rows >= s->bound) {
            s->complete = true;
            break;
        }
        if (s->n_rows % 64 == 63 && seconds_since(begun) > limit)
            break;
        row = ExecProcNode(outerPlanState(&state->css));
        if (TupIsNull(row)) {
            s->complete = true;
            break;
        }
        s->n_rows++;
        note_row(state, row, &key);
    }
    pfree(key.data);
    s->n_run = s->n_inputs;
    s->has_read = true;
    s->read_seconds = seconds_since(begun);
    INSTR_TIME_SET_CURRENT(s->begun);
}

TupleTableSlot *slm_pg_sample_next(BatchState *state)
{
    SlmSample *s = state->sample;

    if (s->again)
        return ExecProcNode(outerPlanState(&state->css));
    if (!s->has_read)
        read_rows(state);
    if (s->next >= s->n_run || (s->next > 0 && slm_pg_sampling_time(slm_pg_sampling) > slm_pg_sampling->seconds))
        return NULL;
    return ExecStoreMinimalTuple(s->inputs[s->next++].tuple, s->slot, false);
}

/* ---- computing */

static void figures_of(const slm_usage *usage, double takes[SLM_N_TAKES])
{
    takes[SLM_TAKES_IN] = (double) usage->prompt_tokens;
    takes[SLM_TAKES_OUT] = (double) usage->output_tokens;
    takes[SLM_TAKES_COMPUTED] = (double) slm_usage_tokens(usage);
    takes[SLM_TAKES_CPU] = 1e-9 * (double) usage->cpu_ns;
}

void slm_pg_sample_settled(BatchState *state, const BatchEntry *entry)
{
    SampledCall *call = &state->sample->calls[entry->call - state->calls];
    slm_usage usage = {0};
    double takes[SLM_N_TAKES];

    if (state->sample->again)
        return;
    slm_pg_work_count(entry->work, &usage);
    figures_of(&usage, takes);
    for (int i = 0; i < SLM_N_TAKES; i++)
        state->sample->of_calls[i] += takes[i];
    call->begun += call->has_first;
    for (int i = 0; i < SLM_N_TAKES; i++)
        if (!call->has_first) {
            call->first[i] = takes[i];
        } else {
            call->sum[i] += takes[i];
            call->squares[i] += takes[i] * takes[i];
        }
    call->has_first = true;
}

/* The first has shown what a row takes alone: so many fit into the time. */
static void limit_run(SlmSample *s)
{
    double left = slm_pg_sampling->seconds - slm_pg_sampling_time(slm_pg_sampling);
    double fit = GAIN * left / Max(s->first_seconds, 1e-4);

    if (fit < (double) s->n_run)
        s->n_run = Min(s->n_run, Max(LEAST, (int) fit));
}

/* What was computed beside the calls up to now. */
static void look_beside(SlmSample *s, double beside[SLM_N_TAKES])
{
    figures_of(&slm_pg_sampling->inside, beside);
    for (int i = 0; i < SLM_N_TAKES; i++)
        beside[i] = Max(beside[i] - s->began[i] - s->of_calls[i], 0);
}

void slm_pg_sample_left(BatchState *state, const BatchRow *row)
{
    SlmSample *s = state->sample;
    double weight;

    if (s->again)
        return;
    weight = (double) s->inputs[s->n_left].rows;
    for (int i = 0; i < s->n_calls; i++)
        if (row->entries[i] != NULL)
            s->calls[i].weight += weight;
    s->weight += weight;
    s->passed += row->state == ROW_READY ? weight : 0;
    s->seconds = seconds_since(s->begun);
    if (s->n_left++ > 0)
        return;
    s->first_seconds = s->seconds;
    look_beside(s, s->beside_first);
    limit_run(s);
}

/* Computes the sample before its first row is emitted: who stops early is to have it whole. */
static void run_sample(BatchState *state, TupleTableSlot *(*next)(BatchState *state))
{
    SlmSample *s = state->sample;
    TupleTableSlot *row;
    MemoryContext old;

    state->read_ahead = 1;
    old = MemoryContextSwitchTo(state->css.ss.ps.state->es_query_cxt);
    s->results = tuplestore_begin_heap(false, false, work_mem);
    MemoryContextSwitchTo(old);
    figures_of(&slm_pg_sampling->inside, s->began);
    slm_pg_sampling->depth++;
    while ((row = next(state)) != NULL) {
        tuplestore_puttupleslot(s->results, row);
        s->n_emitted++;
        state->read_ahead = slm_batch_size;
    }
    slm_pg_sampling->depth--;
    look_beside(s, s->beside);
}

TupleTableSlot *slm_pg_sample_exec(BatchState *state, TupleTableSlot *(*next)(BatchState *state))
{
    SlmSample *s = state->sample;

    if (s->again)
        return next(state);
    if (s->results == NULL)
        run_sample(state, next);
    if (!tuplestore_gettupleslot(s->results, true, false, s->result))
        return NULL;
    return ExecCopySlot(state->css.ss.ps.ps_ResultTupleSlot, s->result);
}

void slm_pg_sample_rescan(BatchState *state)
{
    state->sample->again = state->sample->results != NULL;
}

/* ---- what it comes to */

int slm_pg_sample_node(const SlmSample *sample)
{
    return sample->node;
}

double slm_pg_sample_seconds(const SlmSample *sample)
{
    return sample->seconds + sample->read_seconds;
}

int slm_pg_sample_size(const SlmSample *sample)
{
    return sample->n_left;
}

static int compare_hashes(const void *a, const void *b)
{
    uint64 x = *(const uint64 *) a, y = *(const uint64 *) b;

    return x < y ? -1 : x > y;
}

/* Different inputs of a call among the rows that were computed. */
static int inputs_seen(const SlmSample *s, int call)
{
    uint64 *hashes = palloc(sizeof(uint64) * (Size) Max(s->n_left, 1));
    int n = 0, different = 0;

    for (int i = 0; i < s->n_left; i++)
        if (s->inputs[i].of_calls[call] != 0)
            hashes[n++] = s->inputs[i].of_calls[call];
    qsort(hashes, (size_t) n, sizeof *hashes, compare_hashes);
    for (int i = 0; i < n; i++)
        different += i == 0 || hashes[i] != hashes[i - 1];
    pfree(hashes);
    return different;
}

/* Of `all` inputs on `rows` rows, those met in a share of the rows. */
static double met(double all, double rows, double share)
{
    return share >= 1 || all <= 0 ? all : all * (1 - pow(1 - share, Max(rows / all, 1)));
}

static void add_call(const SlmSample *s, int number, double rows, double share, double scale, SlmSampleTotals *out)
{
    const SampledCall *c = &s->calls[number];
    double n = c->ahead ? inputs_seen(s, number) : s->n_left, rest = n - 1;
    double all = count_distinct(c->ahead ? &c->inputs : &s->together, (double) s->n_rows, rows / scale) * scale, wanted;

    all = Max(met(Min(all, rows), rows, share), Min(n, all));
    if (!c->has_first || n < 1)
        return;
    out->calls += s->weight > 0 ? rows * share * c->weight / s->weight : 0;
    wanted = rest > 0 ? 1 + (all - 1) * (double) c->begun / rest : all;
    out->distinct += wanted;
    for (int i = 0; i < SLM_N_TAKES; i++) {
        double mean = rest > 0 ? c->sum[i] / rest : c->first[i];
        double spread = rest > 1 ? Max(c->squares[i] - rest * mean * mean, 0) / (rest - 1) : mean * mean;

        out->takes[i] += c->first[i] + Max(all - 1, 0) * mean;
        out->error[i] += all > n ? 2 * all * sqrt(spread / Max(rest, 1) * (1 - n / all)) : 0;
    }
    out->exact = out->exact && all <= n;
}

/* What was computed beside the calls: once, or the more the more calls there are. */
static void add_beside(const SlmSample *s, SlmSampleTotals *out)
{
    double begun = 0, factor;

    for (int i = 0; i < s->n_calls; i++)
        begun += (double) s->calls[i].begun;
    factor = begun > 0 ? Max((out->distinct - s->n_calls) / begun, 0) : 1;
    for (int i = 0; i < SLM_N_TAKES; i++)
        out->takes[i] += s->beside_first[i] + factor * Max(s->beside[i] - s->beside_first[i], 0);
}

static void add_time(const SlmSample *s, double rows, SlmSampleTotals *out)
{
    double first = 0, rest = 0, begun = 0, together = s->seconds - s->first_seconds, factor;

    for (int i = 0; i < s->n_calls; i++) {
        first += s->calls[i].first[SLM_TAKES_COMPUTED];
        rest += s->calls[i].sum[SLM_TAKES_COMPUTED];
        begun += (double) s->calls[i].begun;
    }
    factor = rest > 0 ? (out->takes[SLM_TAKES_COMPUTED] - first) / rest : begun > 0 ? (out->distinct - s->n_calls) / begun : 0;
    out->seconds = s->first_seconds + (begun > 0 ? together * Max(factor, 0) : 0);
    if (begun == 0 && first > 0)
        out->seconds *= Max(out->takes[SLM_TAKES_COMPUTED] / first, 1);
    if (out->takes[SLM_TAKES_COMPUTED] > 0)
        out->seconds_error = out->seconds * out->error[SLM_TAKES_COMPUTED] / out->takes[SLM_TAKES_COMPUTED];
    out->seconds += s->n_rows > 0 ? s->read_seconds * Max(rows / (double) s->n_rows, 1) : 0;
}

void slm_pg_sample_totals(const SlmSample *s, double scale, SlmSampleTotals *out)
{
    double rows = (s->complete ? (double) s->n_rows : Max((double) s->n_rows, s->planned)) * scale;
    double passes = s->weight > 0 ? s->passed / s->weight : 1, share = 1;

    memset(out, 0, sizeof *out);
    out->exact = s->complete && scale == 1;
    out->unsure = s->complete ? 1 : 1.5;
    out->out = 1;
    if (s->n_rows == 0)
        return;
    if (s->bound > 0 && passes * rows > (double) s->bound) {
        share = (double) s->bound / (passes * rows);
        if (s->has_quals && passes < 1)
            out->unsure *= 1 + 2 * sqrt((1 - passes) / (passes * Max(s->n_left, 1)));
    }
    for (int i = 0; i < s->n_calls; i++)
        add_call(s, i, rows, share, scale, out);
    add_beside(s, out);
    out->rows = rows * share;
    add_time(s, out->rows, out);
    out->out = s->n_emitted > 0 ? rows * share * passes / (double) s->n_emitted : 1;
}
