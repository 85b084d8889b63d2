/*
 * votes.c: fewer calls for a whole table (votes.h).
 *
 *   child ──a block of rows──► different texts ──slm_embed──► clusters ──a sample of each is asked──► agreed: they vote for the rest
 *                                                                └──────────◄── cut in pieces ◄── split
 *
 * A sample is so large that a cluster in which just the share slm.optimize_agreement has the answer of the majority would hardly look
 * unanimous: share ^ size <= 1/2.  Small clusters that are split are asked whole.  When all have voted, some of the texts that did not
 * take part are asked after all: that is the agreement that EXPLAIN shows, and where it is less than was wished for, the clusters that
 * were found wrong are cut again.  Which texts are asked depends on their hashes alone, so equal tables get equal answers.
 *
 * It fits where no LIMIT ends the reading, and one call stands unconditionally in the node: slm_filter or slm_classify with fixed
 * arguments but the text.  The block is read ahead, at most MOST_INPUTS different texts and work_mem bytes of rows.  Rows go through the
 * node as ever; what was voted is found where the cache of calls would look (exec.c).
 */
#include "pg/batch/votes.h"

#include "access/parallel.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/array.h"
#include "utils/datum.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "engine/metrics/metrics.h"
#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/guc.h"
#include "pg/batch/batch.h"
#include "pg/functions/asking.h"
#include "pg/functions/classification.h"
#include "pg/functions/clusters.h"
#include "pg/functions/kinds.h"
#include "pg/functions/prototypes.h"
#include "pg/run/backend.h"
#include "pg/run/usage.h"
#include "pg/run/use.h"

#define MOST_INPUTS 4096   /* of a block: their vectors take 3 kB each with 384 dimensions */
#define LEAST_INPUTS 200   /* fewer are asked */
#define FIRST_CLUSTERS 8
#define PIECES 4           /* of a cluster that is split */
#define ITERATIONS 20
#define LEAST_AUDIT 40
#define AUDITED 50         /* every so-manieth of those who did not vote */
#define ROUNDS 6

enum { OPTIMIZE_NONE, OPTIMIZE_CALLS };
static const struct config_enum_entry optimize_options[] = {
    {"none", OPTIMIZE_NONE, false}, {"calls", OPTIMIZE_CALLS, false}, {"off", OPTIMIZE_NONE, true}, {NULL, 0, false}};
static int optimize = OPTIMIZE_NONE;
static double wanted_agreement = 0.95;

/* A different text of the block. */
typedef struct Input {
    uint64 key[2];
    BatchRow *row; /* the first that has it */
    bool asked, known; /* known: it has an answer */
    bool told;     /* asked: the row that it was asked for has been counted */
    Datum value;
    bool isnull;
} Input;

typedef struct Cluster {
    int n, *inputs; /* by their hashes, ascending */
    bool closed, whole; /* whole: all are to be asked */
    bool voted;
    Datum value;
    bool isnull;
} Cluster;

typedef struct Place {
    uint64 key[2];
    int input;
} Place;

struct BatchVotes {
    BatchCall *call;     /* NULL: it does not fit */
    const char *why_not; /* every call is made */
    MemoryContext context; /* of the block */
    dlist_head rows;       /* of BatchRow, not yet in the window */
    HTAB *places;
    Input *inputs;
    double *vectors; /* [n_inputs, dims] */
    int n_inputs, dims;
    Cluster *clusters;
    int n_clusters, room;
    int sample; /* texts of a cluster that are asked */
    bool ended; /* the child has no more rows */
    bool anew;  /* the node has been begun anew: that is for few rows each time, which are asked */
    SlmAccount *account;
    /* ---- for EXPLAIN, of all blocks */
    int64 blocks, seen, asked, voted, n_voting, audited, wrong;
};

/* ---- does it fit? */

static bool has_var(Node *node, void *unused)
{
    return node != NULL && (IsA(node, Var) || expression_tree_walker(node, has_var, unused));
}

/* Is an argument, by its place, there and not NULL? */
static bool is_given(const FuncExpr *call, int argument)
{
    Node *arg = argument < list_length(call->args) ? list_nth(call->args, argument) : NULL;

    return arg != NULL && !(IsA(arg, Const) && ((Const *) arg)->constisnull);
}

static const char *unfit_call(const BatchCall *call, const FuncExpr *expr)
{
    bool filter = call->kind == &slm_pg_filter_kind;
    ListCell *cell;

    if (!filter && call->kind != &slm_pg_classify_kind)
        return "only slm_filter and slm_classify are voted on";
    if (call->guard != NULL || call->stage > 0 || call->level > 0)
        return "the call is not made for every row";
    foreach (cell, expr->args)
        if (foreach_current_index(cell) != call->kind->first_input && has_var(lfirst(cell), NULL))
            return "what is asked differs from row to row";
    if (filter ? is_given(expr, SLM_FILTER_EMBEDDING) || is_given(expr, SLM_FILTER_CASCADE)
               : is_given(expr, SLM_CLASSIFY_CLASSIFIER) || is_given(expr, SLM_CLASSIFY_EMBEDDING) || is_given(expr, SLM_CLASSIFY_CASCADE))
        return "a classifier, a cascade or a stored embedding answers fast";
    return NULL;
}

static const char *unfit_node(const BatchState *state)
{
    if (state->demand != SLM_BATCH_ALL && state->demand != SLM_BATCH_UNKNOWN)
        return "a LIMIT wants few of the rows";
    if (state->sample != NULL || state->store != NULL || IsParallelWorker() || state->css.ss.ps.plan->parallel_aware)
        return "it is estimated, scrolled or parallel";
    if ((state->flags & (SLM_BATCH_WARY | SLM_BATCH_MODIFIES)) != 0)
        return "other code runs in between";
    if (slm_guc_embed_model == NULL || slm_guc_embed_model[0] == '\0')
        return "slm.embed_model is not set";
    return NULL;
}

BatchVotes *slm_pg_votes_begin(BatchState *state)
{
    List *calls = linitial(castNode(CustomScan, state->css.ss.ps.plan)->custom_exprs);
    BatchVotes *votes;

    if (optimize == OPTIMIZE_NONE)
        return NULL;
    votes = palloc0(sizeof *votes);
    votes->why_not = unfit_node(state);
    for (int i = 0; i < state->n_calls && votes->why_not == NULL && votes->call == NULL; i++) {
        const char *why_not = unfit_call(&state->calls[i], list_nth(calls, i));

        if (why_not == NULL)
            votes->call = &state->calls[i];
        else if (i == state->n_calls - 1)
            votes->why_not = why_not;
    }
    dlist_init(&votes->rows);
    votes->sample = Max(2, (int) ceil(log(0.5) / log(wanted_agreement)));
    votes->context = AllocSetContextCreate(state->css.ss.ps.state->es_query_cxt, "SLM votes", ALLOCSET_DEFAULT_SIZES);
    return votes;
}

/* An encoder answers as fast as it embeds. */
static bool is_dear(const BatchVotes *votes)
{
    int place = votes->call->kind == &slm_pg_filter_kind ? SLM_FILTER_MODEL : SLM_CLASSIFY_MODEL;
    NullableDatum model = votes->call->fcinfo->args[place];

    return slm_pg_info(slm_pg_use_model(model.isnull ? NULL : DatumGetTextPP(model.value), SLM_TASK_CLASSIFY))->can_generate;
}

/* ---- a block of rows */

static void make_key(const BatchState *state, uint64 key[2])
{
    key[0] = hash_bytes_extended((unsigned char *) state->key.data, state->key.len, 1);
    key[1] = hash_bytes_extended((unsigned char *) state->key.data, state->key.len, 2);
}

/* Evaluates the arguments of the call for a row; false where there is no text, or one without a word, of which no model is asked. */
static bool arguments_of(BatchState *state, BatchRow *row)
{
    BatchCall *call = state->votes->call;
    bool strict_null;

    ResetExprContext(state->arg_context);
    state->arg_context->ecxt_scantuple = slm_pg_batch_load_row(state, row);
    return slm_pg_batch_arguments(state, call, &strict_null) && !strict_null && !slm_pg_blank_arg(call->fcinfo, call->kind->first_input);
}

static void note_input(BatchState *state, BatchRow *row)
{
    BatchVotes *v = state->votes;
    MemoryContext old;
    uint64 key[2];
    Place *place;
    bool found;

    if (!arguments_of(state, row))
        return;
    old = MemoryContextSwitchTo(state->arg_context->ecxt_per_tuple_memory);
    found = !slm_pg_batch_call_key(v->call, &state->key);
    MemoryContextSwitchTo(old);
    if (found) /* too long to compare */
        return;
    make_key(state, key);
    place = hash_search(v->places, key, HASH_ENTER, &found);
    if (found)
        return;
    place->input = v->n_inputs;
    v->inputs[v->n_inputs] = (Input){.key = {key[0], key[1]}, .row = row};
    v->n_inputs++;
}

static void read_block(BatchState *state)
{
    HASHCTL control = {.keysize = sizeof(uint64) * 2, .entrysize = sizeof(Place), .hcxt = state->votes->context};
    BatchVotes *v = state->votes;
    Size bytes = 0;
    BatchRow *row;

    v->places = hash_create("SLM votes", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    v->inputs = MemoryContextAlloc(v->context, sizeof(Input) * MOST_INPUTS);
    v->n_inputs = 0;
    v->n_clusters = v->room = 0;
    while (v->n_inputs < MOST_INPUTS && bytes < (Size) work_mem * 1024L) {
        row = slm_pg_batch_child_row(state);
        v->ended = row == NULL;
        if (v->ended)
            break;
        dlist_push_tail(&v->rows, &row->node);
        bytes += row->tuple->t_len;
        note_input(state, row);
        CHECK_FOR_INTERRUPTS();
    }
}

/* ---- vectors */

static SlmWork *begin_embedding(BatchState *state, const Input *input)
{
    FmgrInfo function = {.fn_mcxt = CurrentMemoryContext, .fn_nargs = 4};
    BatchCall *call = state->votes->call;
    const void *running = slm_pg_node_running;
    SlmWork *work = NULL;
    LOCAL_FCINFO(embed, 4);

    (void) arguments_of(state, input->row);
    InitFunctionCallInfoData(*embed, &function, 4, InvalidOid, NULL, NULL);
    embed->args[0] = call->fcinfo->args[call->kind->first_input];
    embed->args[1] = embed->args[3] = (NullableDatum){(Datum) 0, true};
    embed->args[2] = (NullableDatum){BoolGetDatum(true), false}; /* its beginning tells enough */
    slm_pg_node_running = state->css.ss.ps.state;
    PG_TRY();
    {
        work = slm_pg_work_begin(&slm_pg_embed_kind, embed);
    }
    PG_FINALLY();
    {
        slm_pg_node_running = running;
    }
    PG_END_TRY();
    return work;
}

static void take_vector(BatchState *state, SlmWork *work, int input, int n_rows)
{
    BatchVotes *v = state->votes;
    ArrayType *array;
    bool isnull;
    Datum value;

    while (!slm_pg_work_done(work)) {
        slm_pg_batch_step(state, n_rows);
        CHECK_FOR_INTERRUPTS();
    }
    value = slm_pg_work_finish(work, &isnull);
    slm_pg_work_count(work, &state->counters.engine);
    if (!isnull) {
        array = DatumGetArrayTypeP(value);
        if (v->vectors == NULL) {
            v->dims = ARR_DIMS(array)[0];
            v->vectors = MemoryContextAllocExtended(v->context, sizeof(double) * (Size) v->dims * (Size) v->n_inputs,
                                                    MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
        }
        for (int i = 0; i < v->dims; i++)
            v->vectors[(Size) input * (Size) v->dims + (Size) i] = (double) slm_pg_floats(array)[i];
    }
    slm_pg_work_free(work);
}

static void embed_inputs(BatchState *state)
{
    BatchVotes *v = state->votes;
    SlmWork **works = palloc(sizeof(SlmWork *) * (Size) slm_batch_size);

    v->vectors = NULL;
    for (int first = 0; first < v->n_inputs; first += slm_batch_size) {
        int n = Min(slm_batch_size, v->n_inputs - first);

        for (int i = 0; i < n; i++)
            works[i] = begin_embedding(state, &v->inputs[first + i]);
        for (int i = 0; i < n; i++)
            take_vector(state, works[i], first + i, n);
        CHECK_FOR_INTERRUPTS();
    }
    pfree(works);
}

/* ---- asking */

static void take_answer(BatchState *state, Input *input, BatchEntry *entry, int n_rows)
{
    BatchVotes *v = state->votes;
    MemoryContext old;

    while (!entry->settled && !slm_pg_work_done(entry->work)) {
        slm_pg_batch_step(state, n_rows);
        CHECK_FOR_INTERRUPTS();
    }
    slm_pg_batch_settle(state, entry);
    if (entry->account != NULL)
        v->account = entry->account;
    input->asked = true;
    input->known = entry->work == NULL; /* else it failed, which its row will say */
    input->isnull = entry->isnull;
    if (!input->known || entry->isnull)
        return;
    old = MemoryContextSwitchTo(v->context);
    input->value = datumCopy(entry->value, v->call->result_type.by_value, v->call->result_type.length);
    MemoryContextSwitchTo(old);
}

/* Asks inputs together. */
static void ask(BatchState *state, const int *inputs, int n)
{
    BatchVotes *v = state->votes;
    BatchEntry **entries = palloc(sizeof(BatchEntry *) * (Size) slm_batch_size);

    for (int first = 0; first < n; first += slm_batch_size) {
        int now = Min(slm_batch_size, n - first);

        for (int i = 0; i < now; i++) {
            MemoryContext old;

            (void) arguments_of(state, v->inputs[inputs[first + i]].row);
            old = MemoryContextSwitchTo(state->arg_context->ecxt_per_tuple_memory);
            entries[i] = slm_pg_batch_cached_call(state, v->call);
            MemoryContextSwitchTo(old);
        }
        for (int i = 0; i < now; i++)
            take_answer(state, &v->inputs[inputs[first + i]], entries[i], now);
    }
    pfree(entries);
    v->asked += n;
}

/* ---- clusters */

static Cluster *new_cluster(BatchVotes *v, int n)
{
    if (v->n_clusters == v->room) {
        Size bytes;

        v->room = Max(64, v->room * 2);
        bytes = sizeof(Cluster) * (Size) v->room;
        v->clusters = v->n_clusters == 0 ? MemoryContextAlloc(v->context, bytes) : repalloc(v->clusters, bytes);
    }
    v->clusters[v->n_clusters] = (Cluster){.inputs = MemoryContextAlloc(v->context, sizeof(int) * (Size) Max(n, 1))};
    return &v->clusters[v->n_clusters++];
}

static int by_hash(const void *a, const void *b, void *arg)
{
    const Input *inputs = arg;
    uint64 x = inputs[*(const int *) a].key[0], y = inputs[*(const int *) b].key[0];

    return x < y ? -1 : x > y;
}

/* Makes at most k clusters of inputs. False: they are all alike. */
static bool cut(BatchVotes *v, const int *inputs, int n, int k)
{
    MemoryContext piece = AllocSetContextCreate(CurrentMemoryContext, "SLM votes cut", ALLOCSET_DEFAULT_SIZES), old;
    Size dims = (Size) v->dims;
    double *x, *centres;
    int32 *of;
    uint32 found;

    old = MemoryContextSwitchTo(piece);
    x = palloc_extended(sizeof(double) * dims * (Size) n, MCXT_ALLOC_HUGE);
    centres = palloc(sizeof(double) * dims * (Size) k);
    of = palloc(sizeof(int32) * (Size) n);
    for (int i = 0; i < n; i++)
        memcpy(x + (Size) i * dims, v->vectors + (Size) inputs[i] * dims, sizeof(double) * dims);
    found = slm_pg_clusters(x, n, dims, (uint32) k, ITERATIONS, 1, centres, of);
    for (uint32 c = 0; found > 1 && c < found; c++) {
        Cluster *made = new_cluster(v, n);

        for (int i = 0; i < n; i++)
            if (of[i] == (int32) c)
                made->inputs[made->n++] = inputs[i];
        qsort_arg(made->inputs, (size_t) made->n, sizeof(int), by_hash, v->inputs);
    }
    MemoryContextSwitchTo(old);
    MemoryContextDelete(piece);
    return found > 1;
}

static bool same(const BatchVotes *v, const Input *a, Datum value, bool isnull)
{
    if (a->isnull || isnull)
        return a->isnull == isnull;
    return datumIsEqual(a->value, value, v->call->result_type.by_value, v->call->result_type.length);
}

/* The answer that most of a cluster's texts that were asked have, and how many were asked and have it. */
static int majority(const BatchVotes *v, Cluster *c, int *asked)
{
    int best = 0;

    *asked = 0;
    for (int i = 0; i < c->n; i++) {
        const Input *candidate = &v->inputs[c->inputs[i]];
        int votes = 0;

        *asked += candidate->known;
        if (!candidate->known || (best > 0 && same(v, candidate, c->value, c->isnull)))
            continue;
        for (int k = 0; k < c->n; k++)
            votes += v->inputs[c->inputs[k]].known && same(v, &v->inputs[c->inputs[k]], candidate->value, candidate->isnull);
        if (votes > best) {
            best = votes;
            c->value = candidate->value;
            c->isnull = candidate->isnull;
        }
    }
    return best;
}

/* A cluster whose texts do not agree: cut, or where it is small, to be asked whole. */
static void split(BatchVotes *v, int number)
{
    Cluster whole = v->clusters[number]; /* cutting may move it */

    if (whole.n > 3 * v->sample && cut(v, whole.inputs, whole.n, PIECES))
        v->clusters[number] = (Cluster){.closed = true};
    else
        v->clusters[number] = (Cluster){.inputs = whole.inputs, .n = whole.n, .whole = true};
}

/* What the texts that were asked say of their cluster: it is closed, to be asked whole, or cut. */
static void judge(BatchVotes *v, int number)
{
    Cluster *c = &v->clusters[number];
    int asked, votes = majority(v, c, &asked);

    if (c->whole || asked >= c->n) {
        c->closed = true;
        return;
    }
    if (asked >= v->sample && votes >= asked * wanted_agreement) {
        c->closed = c->voted = true;
        return;
    }
    split(v, number);
}

/* Until every cluster has voted or been asked whole. */
static void vote(BatchState *state)
{
    BatchVotes *v = state->votes;
    int *wanted = palloc(sizeof(int) * (Size) v->n_inputs);
    bool open;

    do {
        int n = 0, n_clusters = v->n_clusters;

        open = false;
        for (int i = 0; i < n_clusters; i++) {
            const Cluster *c = &v->clusters[i];
            int room = c->whole ? c->n : v->sample;

            if (c->closed)
                continue;
            open = true;
            for (int k = 0; k < c->n && room > 0; k++) {
                room--;
                if (!v->inputs[c->inputs[k]].asked)
                    wanted[n++] = c->inputs[k];
            }
        }
        ask(state, wanted, n);
        for (int i = 0; i < n_clusters; i++)
            if (!v->clusters[i].closed)
                judge(v, i);
    } while (open);
    pfree(wanted);
}

/* ---- is it right? */

typedef struct Voter {
    uint64 order;
    int input, cluster;
} Voter;

static int by_order(const void *a, const void *b)
{
    const Voter *x = a, *y = b;

    return x->order < y->order ? -1 : x->order > y->order;
}

/* Texts whose answer was voted, in an order that has nothing to do with who voted. */
static Voter *find_voted(const BatchVotes *v, int *n)
{
    Voter *voted = palloc(sizeof(Voter) * (Size) Max(v->n_inputs, 1));

    *n = 0;
    for (int i = 0; i < v->n_clusters; i++)
        for (int k = 0; v->clusters[i].voted && k < v->clusters[i].n; k++) {
            int input = v->clusters[i].inputs[k];

            if (!v->inputs[input].asked)
                voted[(*n)++] = (Voter){v->inputs[input].key[1], input, i};
        }
    qsort(voted, (size_t) *n, sizeof(Voter), by_order);
    return voted;
}

/* Asks some of the texts that were voted for. The clusters where one disagrees are opened again, when there are too many of these. */
static bool audit(BatchState *state, bool last)
{
    BatchVotes *v = state->votes;
    int n, n_audited, wrong = 0, *which;
    Voter *voted = find_voted(v, &n);
    bool again;

    n_audited = Min(n, Max(LEAST_AUDIT, n / AUDITED));
    which = palloc(sizeof(int) * (Size) Max(n_audited, 1));
    for (int i = 0; i < n_audited; i++)
        which[i] = voted[i].input;
    ask(state, which, n_audited);
    for (int i = 0; i < n_audited; i++) {
        const Cluster *c = &v->clusters[voted[i].cluster];
        const Input *input = &v->inputs[which[i]];

        wrong += input->known && !same(v, input, c->value, c->isnull);
    }
    again = !last && n_audited > 0 && (double) wrong / n_audited * (n - n_audited) > (1 - wanted_agreement) * v->n_inputs;
    for (int i = 0; i < n_audited && again; i++) {
        const Cluster *c = &v->clusters[voted[i].cluster];

        if (c->voted && !same(v, &v->inputs[which[i]], c->value, c->isnull))
            split(v, voted[i].cluster);
    }
    if (!again) {
        v->audited += n_audited;
        v->wrong += wrong;
        v->voted += n - n_audited;
        for (int i = 0; i < v->n_clusters; i++)
            v->n_voting += v->clusters[i].voted;
    }
    return again;
}

/* The others of a cluster have its answer. */
static void spread(BatchVotes *v)
{
    for (int i = 0; i < v->n_clusters; i++)
        for (int k = 0; v->clusters[i].voted && k < v->clusters[i].n; k++) {
            Input *input = &v->inputs[v->clusters[i].inputs[k]];

            if (input->asked)
                continue;
            input->known = true;
            input->value = v->clusters[i].value;
            input->isnull = v->clusters[i].isnull;
        }
}

static void vote_block(BatchState *state)
{
    BatchVotes *v = state->votes;
    MemoryContext piece, old;
    int *all;

    if (v->n_inputs < LEAST_INPUTS) {
        v->why_not = "the rows have few different texts";
        return;
    }
    if (!arguments_of(state, v->inputs[0].row) || !is_dear(v)) {
        v->why_not = "the model is no dearer than slm.embed_model";
        return;
    }
    piece = AllocSetContextCreate(v->context, "SLM votes block", ALLOCSET_DEFAULT_SIZES);
    old = MemoryContextSwitchTo(piece);
    embed_inputs(state);
    all = palloc(sizeof(int) * (Size) v->n_inputs);
    for (int i = 0; i < v->n_inputs; i++)
        all[i] = i;
    if (v->vectors != NULL && cut(v, all, v->n_inputs, FIRST_CLUSTERS)) {
        v->blocks++;
        v->seen += v->n_inputs;
        vote(state);
        for (int round = 1; audit(state, round == ROUNDS); round++)
            vote(state);
        spread(v);
    }
    MemoryContextSwitchTo(old);
    MemoryContextDelete(piece);
}

/* ---- rows and calls, as the node asks for them */

BatchRow *slm_pg_votes_next(BatchState *state)
{
    BatchVotes *v = state->votes;

    if (v->call == NULL || v->anew)
        return slm_pg_batch_child_row(state);
    if (dlist_is_empty(&v->rows) && !v->ended) {
        MemoryContextReset(v->context);
        v->places = NULL; /* while it is read */
        read_block(state);
        vote_block(state);
    }
    return dlist_is_empty(&v->rows) ? NULL : dlist_container(BatchRow, node, dlist_pop_head_node(&v->rows));
}

bool slm_pg_votes_find(BatchState *state, const BatchCall *call, Datum *value, bool *isnull)
{
    BatchVotes *v = state->votes;
    uint64 key[2];
    Place *place;
    Input *input;

    if (v->call != call || v->places == NULL)
        return false;
    make_key(state, key);
    place = hash_search(v->places, key, HASH_FIND, NULL);
    input = place == NULL ? NULL : &v->inputs[place->input];
    if (input == NULL || !input->known)
        return false;
    if (!input->asked || input->told)
        slm_pg_account_calls(v->account, 1, 0);
    input->told = true;
    *value = input->value;
    *isnull = input->isnull;
    return true;
}

SlmAccount *slm_pg_votes_account(const BatchVotes *votes)
{
    return votes->account;
}

void slm_pg_votes_rescan(BatchState *state)
{
    BatchVotes *v = state->votes;

    v->places = NULL;
    v->anew = true;
    dlist_init(&v->rows); /* they lie in the window's memory */
}

/* ---- EXPLAIN */

void slm_pg_votes_explain(BatchState *state, ExplainState *es)
{
    BatchVotes *v = state->votes;
    double share, agreement, low, high;

    if (v->blocks == 0 && v->why_not != NULL) {
        ExplainPropertyText("Not Optimized", v->why_not, es);
        return;
    }
    if (!es->analyze || v->blocks == 0)
        return;
    ExplainPropertyInteger("Calls Voted", NULL, v->voted, es);
    ExplainPropertyInteger("Clusters That Voted", NULL, v->n_voting, es);
    share = (double) v->voted / (double) Max(v->seen, 1);
    slm_metrics_clopper_pearson((size_t) v->wrong, (size_t) v->audited, 0.9, &low, &high);
    agreement = 1 - share * (double) v->wrong / (double) Max(v->audited, 1);
    if (v->audited == 0)
        high = 1;
    if (es->format == EXPLAIN_FORMAT_TEXT) {
        ExplainPropertyText("Agreement", psprintf("%.3f (at least %.3f, by " INT64_FORMAT " that were asked to see)", agreement,
                                                  1 - share * high, v->audited), es);
        return;
    }
    ExplainPropertyFloat("Agreement", NULL, agreement, 4, es);
    ExplainPropertyFloat("Agreement at Least", NULL, 1 - share * high, 4, es);
    ExplainPropertyInteger("Calls Audited", NULL, v->audited, es);
}

void slm_pg_votes_init(void)
{
    DefineCustomEnumVariable("slm.optimize", "What statements over whole tables save: none, or calls.",
                             "calls: slm_filter and slm_classify ask a generative model for some of the texts that are near each other by "
                             "slm.embed_model, and where these agree, their answer is that of the others. EXPLAIN ANALYZE shows the "
                             "agreement with what the model would have said.",
                             &optimize, OPTIMIZE_NONE, optimize_options, PGC_USERSET, 0, NULL, NULL, NULL);
    DefineCustomRealVariable("slm.optimize_agreement", "Share of the answers that should be those of the model with slm.optimize = calls.",
                             "More of it asks the model more often.", &wanted_agreement, 0.95, 0.5, 0.999, PGC_USERSET, 0, NULL, NULL,
                             NULL);
}
