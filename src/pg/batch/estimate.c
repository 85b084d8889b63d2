/*
 * estimate.c: slm_estimate: what a statement will take, before it runs.
 *
 *   text ──► one statement, planned without workers ──what writes is left off──► run, read-only, in a subtransaction rolled back
 *        its batch nodes compute samples (sample.c) ─────────────┐
 *        calls outside of them: run until there are enough ──────┴──► totals of each node, from the lowest up ──► figures, prices
 *
 * A node above another gets only what the lower one's sample gave: each of those rows stands for so many, unless a node between them
 * puts rows together (GROUP BY, DISTINCT).  What is computed outside of sampling nodes is computed in full; where that is more than a
 * sample, the statement is stopped by an error of our own, and what was computed is taken times the share of the first table's rows
 * that were read.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/instrument.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "parser/analyze.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/base/guc.h"
#include "pg/batch/batch.h"
#include "pg/batch/sample.h"
#include "pg/run/usage.h"

PG_FUNCTION_INFO_V1(slm_pg_estimate);

#define EXAMPLE "SELECT * FROM slm_estimate('SELECT slm_classify(body, ARRAY[''billing'', ''other'']) FROM tickets')"
#define TIME_UNSURE 0.15 /* of an estimate of time, besides what tokens leave open */
#define HARD 3           /* times the time given, the statement is stopped in the middle of it */

/* ---- the statement */

static pg_noreturn void refuse(const char *what);

static void refuse(const char *what)
{
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("%s", what),
                    errhint("Give the text of one SELECT, INSERT, UPDATE, DELETE or MERGE, without parameters: %s", EXAMPLE)));
    pg_unreachable();
}

static PlannedStmt *plan_statement(const char *text)
{
    List *parsed = pg_parse_query(text), *queries;
    PlannedStmt *stmt;
    Query *query;

    if (list_length(parsed) != 1)
        refuse("the text to estimate must be one statement");
    queries = pg_analyze_and_rewrite_fixedparams(linitial_node(RawStmt, parsed), text, NULL, 0, NULL);
    if (list_length(queries) != 1)
        refuse("the statement to estimate becomes several by rules");
    query = linitial_node(Query, queries);
    if (query->commandType == CMD_UTILITY)
        refuse("only a statement that reads rows can be estimated");
    if (query->hasModifyingCTE)
        refuse("a statement whose WITH writes cannot be estimated");
    if (query->hasForUpdate)
        refuse("a statement that locks rows cannot be estimated");
    stmt = pg_plan_query(query, text, 0, NULL);
    if (IsA(stmt->planTree, ModifyTable)) {
        stmt->planTree = outerPlan(stmt->planTree);
        stmt->resultRelations = NIL;
        stmt->rowMarks = NIL;
        stmt->hasReturning = false;
        stmt->commandType = CMD_SELECT;
    }
    return stmt;
}

/* ---- running it */

static void listen(const void *node, const slm_result *result)
{
    SlmSampling *s = slm_pg_sampling;

    slm_usage_add(s->depth == 0 || node != s->estate ? &s->outside : &s->inside, &result->usage);
}

/* Enough? Then it ends here: code of users that catches the error meets it again. */
static void watch(void)
{
    SlmSampling *s = slm_pg_sampling;
    bool enough = s->depth == 0 && s->outside.requests >= (uint64) s->most;

    if (!enough && slm_pg_sampling_time(s) < s->seconds * HARD)
        return;
    s->stopped = true;
    ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("the sample of slm_estimate is complete")));
}

typedef struct Sampled {
    SlmSampling sampling;
    QueryDesc *query;
    double seconds, share; /* that the statement ran; of the first table's rows that it had read, where it was stopped */
    SlmSampleTotals *totals; /* [samples] */
    bool *known;             /* [samples] */
} Sampled;

/* How far a statement has come that was stopped: by the table that drives it. */
static double share_read(const PlanState *ps)
{
    double read;

    while (outerPlanState(ps) != NULL)
        ps = outerPlanState(ps);
    if (ps->instrument == NULL)
        return 1;
    read = ps->instrument->tuplecount + ps->instrument->ntuples;
    return read < 1 ? 1 : Min(read / Max(ps->plan->plan_rows, 1), 1);
}

static void run(Sampled *s, const char *text)
{
    s->query = CreateQueryDesc(unconstify(PlannedStmt *, s->sampling.stmt), text, GetActiveSnapshot(), InvalidSnapshot, None_Receiver,
                               NULL, NULL, INSTRUMENT_ROWS);
    ExecutorStart(s->query, 0);
    s->sampling.estate = s->query->estate;
    XactReadOnly = true; /* until the subtransaction ends */
    ExecutorRun(s->query, ForwardScanDirection, 0 SLM_RUN_ONCE);
    s->seconds = slm_pg_sampling_time(&s->sampling);
    ExecutorFinish(s->query);
    ExecutorEnd(s->query);
    FreeQueryDesc(s->query);
}

/* In a subtransaction that is rolled back, whatever comes: who catches an error of ours expects his own to be the innermost. */
static void run_sample(Sampled *s, const char *text)
{
    void (*answered)(const void *node, const slm_result *result) = slm_pg_answered;
    MemoryContext context = CurrentMemoryContext;
    ResourceOwner owner = CurrentResourceOwner;
    ErrorData *volatile error = NULL;

    BeginInternalSubTransaction("slm_estimate");
    MemoryContextSwitchTo(context);
    s->share = 1;
    slm_pg_sampling = &s->sampling;
    slm_pg_answered = listen;
    slm_pg_before_request = watch;
    INSTR_TIME_SET_CURRENT(s->sampling.begun);
    PG_TRY();
    {
        run(s, text);
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(context);
        error = CopyErrorData();
        FlushErrorState();
    }
    PG_END_TRY();
    slm_pg_sampling = NULL;
    slm_pg_answered = answered;
    slm_pg_before_request = NULL;
    if (error != NULL && s->sampling.stopped && error->sqlerrcode == ERRCODE_QUERY_CANCELED) {
        s->seconds = slm_pg_sampling_time(&s->sampling);
        s->share = s->query == NULL || s->query->planstate == NULL ? 1 : share_read(s->query->planstate);
        error = NULL;
    }
    RollbackAndReleaseCurrentSubTransaction();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
    if (error != NULL)
        ReThrowError(error);
}

/* ---- what it comes to */

static const SlmSampleTotals *totals_of(Sampled *s, Plan *plan);

/* How many rows would come of a plan, for each that came of the samples in it. */
static double scale_of(Sampled *s, Plan *plan)
{
    const SlmSampleTotals *own;
    double scale = 1;
    ListCell *cell;

    if (plan == NULL || IsA(plan, Agg) || IsA(plan, Group) || IsA(plan, Unique) || IsA(plan, SetOp))
        return 1;
    own = totals_of(s, plan);
    if (own != NULL)
        return own->out;
    if (IsA(plan, CteScan))
        return scale_of(s, list_nth(s->sampling.stmt->subplans, ((CteScan *) plan)->ctePlanId - 1));
    foreach (cell, slm_pg_batch_child_plans(plan))
        scale = Max(scale, scale_of(s, lfirst(cell)));
    return Max(scale, Max(scale_of(s, plan->lefttree), scale_of(s, plan->righttree)));
}

/* Of a node that sampled; NULL: it is none. */
static const SlmSampleTotals *totals_of(Sampled *s, Plan *plan)
{
    ListCell *cell;

    foreach (cell, s->sampling.samples) {
        int i = foreach_current_index(cell);

        if (!IsA(plan, CustomScan) || slm_pg_sample_node(lfirst(cell)) != plan->plan_node_id)
            continue;
        if (!s->known[i])
            slm_pg_sample_totals(lfirst(cell), scale_of(s, outerPlan(plan)), &s->totals[i]);
        s->known[i] = true;
        return &s->totals[i];
    }
    return NULL;
}

static void visit(Sampled *s, Plan *plan)
{
    ListCell *cell;

    if (plan == NULL)
        return;
    (void) totals_of(s, plan);
    foreach (cell, slm_pg_batch_child_plans(plan))
        visit(s, lfirst(cell));
    visit(s, plan->lefttree);
    visit(s, plan->righttree);
}

typedef struct Estimate {
    SlmSampleTotals all;
    int sampled; /* inputs that were computed */
    double takes_low[SLM_N_TAKES], takes_high[SLM_N_TAKES], seconds_low, seconds_high, unsure;
} Estimate;

static void add_node(Estimate *e, const SlmSampleTotals *t)
{
    e->all.rows = Max(e->all.rows, t->rows);
    e->all.calls += t->calls;
    e->all.distinct += t->distinct;
    e->all.exact = e->all.exact && t->exact;
    e->unsure = Max(e->unsure, t->unsure);
    for (int i = 0; i < SLM_N_TAKES; i++) {
        e->all.takes[i] += t->takes[i];
        e->takes_low[i] += Max(t->takes[i] - t->error[i], 0) / t->unsure;
        e->takes_high[i] += (t->takes[i] + t->error[i]) * t->unsure;
    }
    e->all.seconds += t->seconds;
    e->seconds_low += Max(t->seconds - t->seconds_error, 0) / t->unsure;
    e->seconds_high += (t->seconds + t->seconds_error) * t->unsure;
}

/* What was computed outside of the samples. */
static void add_outside(const Sampled *s, double seconds, double scale, Estimate *e)
{
    const slm_usage *u = &s->sampling.outside;
    double times = (u->requests > 1 ? scale : 1) / s->share;
    SlmSampleTotals t = {.exact = times <= 1, .rows = (double) u->requests * times, .calls = (double) u->requests * times,
                         .distinct = (double) u->requests * times, .seconds = seconds * times, .unsure = times > 1 ? 1.5 : 1};

    t.takes[SLM_TAKES_IN] = (double) u->prompt_tokens * times;
    t.takes[SLM_TAKES_OUT] = (double) u->output_tokens * times;
    t.takes[SLM_TAKES_COMPUTED] = (double) slm_usage_tokens(u) * times;
    t.takes[SLM_TAKES_CPU] = 1e-9 * (double) u->cpu_ns * times;
    add_node(e, &t);
    e->sampled += (int) Min(u->requests, (uint64) INT_MAX / 2);
}

static void sum_up(Sampled *s, Estimate *e)
{
    int n = list_length(s->sampling.samples);
    double outside = s->seconds;
    ListCell *cell;

    memset(e, 0, sizeof *e);
    e->all.exact = true;
    e->unsure = 1;
    s->totals = palloc0(sizeof *s->totals * (Size) Max(n, 1));
    s->known = palloc0(sizeof(bool) * (Size) Max(n, 1));
    visit(s, s->sampling.stmt->planTree);
    foreach (cell, s->sampling.stmt->subplans)
        visit(s, lfirst(cell));
    foreach (cell, s->sampling.samples) {
        const SlmSample *sample = lfirst(cell);

        outside -= slm_pg_sample_seconds(sample);
        e->sampled += slm_pg_sample_size(sample);
        if (s->known[foreach_current_index(cell)])
            add_node(e, &s->totals[foreach_current_index(cell)]);
    }
    if (s->sampling.outside.requests > 0)
        add_outside(s, Max(outside, 0), scale_of(s, s->sampling.stmt->planTree), e);
    if (s->sampling.stopped && e->all.takes[SLM_TAKES_COMPUTED] <= 0)
        ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("no input was computed within %g seconds", s->sampling.seconds * HARD),
                        errhint("Give the sample more time: slm_estimate(..., seconds => %g)", s->sampling.seconds * 10)));
}

/* ---- the lines */

/* To four digits: more would promise too much. */
static double rounded(double x)
{
    return fabs(x) >= 1000 ? rint(x) : strtod(psprintf("%.4g", x), NULL);
}

static void put(ReturnSetInfo *result, const char *figure, double estimate, double low, double high, const char *unit, const char *note)
{
    Datum values[6] = {CStringGetTextDatum(figure), Float8GetDatum(rounded(estimate)), Float8GetDatum(rounded(low)),
                       Float8GetDatum(rounded(high)), CStringGetTextDatum(unit), (Datum) 0};
    bool nulls[6] = {false, false, false, false, false, note == NULL};

    if (note != NULL)
        values[5] = CStringGetTextDatum(note);
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* A price of slm.prices for what the statement takes. */
typedef struct Price {
    const char *name, *currency;
    double input, output; /* of a million tokens */
} Price;

static double paid(const Price *p, double in, double out)
{
    return 1e-6 * (in * p->input + out * p->output);
}

static void put_price(ReturnSetInfo *result, const char *figure, const Price *p, const Estimate *e)
{
    put(result, figure, paid(p, e->all.takes[SLM_TAKES_IN], e->all.takes[SLM_TAKES_OUT]),
        paid(p, e->takes_low[SLM_TAKES_IN], e->takes_low[SLM_TAKES_OUT]),
        paid(p, e->takes_high[SLM_TAKES_IN], e->takes_high[SLM_TAKES_OUT]), p->currency, p->name);
}

/* The price that is named, and the lowest. */
static void put_prices(ReturnSetInfo *result, const char *api, const Estimate *e)
{
    MemoryContext keep = CurrentMemoryContext;
    Price named = {0}, lowest = {0};

    SPI_connect();
    if (SPI_execute("SELECT p.model, pg_catalog.concat(p.provider, ' ', p.model, ', ', p.as_of), p.currency,"
                    "       p.input_per_million::pg_catalog.float8, p.output_per_million::pg_catalog.float8"
                    "  FROM slm.prices p"
                    " ORDER BY p.as_of DESC, p.provider, p.model",
                    true, 0) != SPI_OK_SELECT)
        elog(ERROR, "could not read slm.prices");
    for (uint64 i = 0; i < SPI_processed; i++) {
        HeapTuple row = SPI_tuptable->vals[i];
        bool isnull;
        Price p = {.input = DatumGetFloat8(SPI_getbinval(row, SPI_tuptable->tupdesc, 4, &isnull)),
                   .output = DatumGetFloat8(SPI_getbinval(row, SPI_tuptable->tupdesc, 5, &isnull))};
        double cost = paid(&p, e->all.takes[SLM_TAKES_IN], e->all.takes[SLM_TAKES_OUT]);

        p.name = MemoryContextStrdup(keep, SPI_getvalue(row, SPI_tuptable->tupdesc, 2));
        p.currency = MemoryContextStrdup(keep, SPI_getvalue(row, SPI_tuptable->tupdesc, 3));
        if (named.name == NULL && strcmp(SPI_getvalue(row, SPI_tuptable->tupdesc, 1), api) == 0)
            named = p;
        if (lowest.name == NULL || cost < paid(&lowest, e->all.takes[SLM_TAKES_IN], e->all.takes[SLM_TAKES_OUT]))
            lowest = p;
    }
    SPI_finish();
    MemoryContextSwitchTo(keep);
    if (named.name == NULL)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("slm.prices has no model \"%s\"", api),
                        errhint("SELECT provider, model FROM slm.prices; shows which there are, slm_set_price adds one.")));
    put_price(result, "price_api", &named, e);
    put_price(result, "price_lowest_api", &lowest, e);
}

static void put_lines(ReturnSetInfo *result, const Estimate *e, const char *api)
{
    const SlmSampleTotals *t = &e->all;
    const char *rows = e->unsure > 1 ? "not counted to the end: by the planner, or by the share that passes" : "counted";
    double hour = slm_guc_machine_cost_per_hour / slm_cpu_count() / 3600;
    static const char *const tokens[] = {"tokens_in", "tokens_out", "tokens_computed"};
    static const char *const notes[] = {"of whole prompts, as a hosted model would count them", "of answers",
                                        "prompts without what is reused, answers, labels: what budgets count"};

    put(result, "rows", rint(t->rows), rint(t->rows / e->unsure), rint(t->rows * e->unsure), "rows", rows);
    put(result, "calls", rint(t->calls), rint(t->calls / e->unsure), rint(t->calls * e->unsure), "calls", NULL);
    put(result, "distinct_calls", rint(t->distinct), rint(t->distinct / e->unsure), rint(t->distinct * e->unsure), "calls",
        psprintf("%s of %d inputs", t->exact ? "all" : "by a sample", e->sampled));
    for (int i = 0; i < (int) lengthof(tokens); i++)
        put(result, tokens[i], rint(t->takes[i]), rint(e->takes_low[i]), rint(e->takes_high[i]), "tokens", notes[i]);
    put(result, "minutes", t->seconds / 60, e->seconds_low / 60 * (1 - TIME_UNSURE), e->seconds_high / 60 * (1 + TIME_UNSURE), "minutes",
        "as fast as the machine was now");
    put(result, "core_hours", t->takes[SLM_TAKES_CPU] / 3600, e->takes_low[SLM_TAKES_CPU] / 3600 * (1 - TIME_UNSURE),
        e->takes_high[SLM_TAKES_CPU] / 3600 * (1 + TIME_UNSURE), "hours", "CPU time of the model, all threads");
    if (hour > 0)
        put(result, "price_here", t->takes[SLM_TAKES_CPU] * hour, e->takes_low[SLM_TAKES_CPU] * hour * (1 - TIME_UNSURE),
            e->takes_high[SLM_TAKES_CPU] * hour * (1 + TIME_UNSURE), "of slm.machine_cost_per_hour", "share of this machine by CPU time");
    put_prices(result, api, e);
}

/* ---- slm_estimate(query, api, sample, seconds) */

Datum slm_pg_estimate(PG_FUNCTION_ARGS)
{
    const char *query, *api = PG_ARGISNULL(1) ? "gpt-4o-mini" : text_to_cstring(PG_GETARG_TEXT_PP(1));
    Sampled *s = palloc0(sizeof *s);
    Estimate estimate;

    if (PG_ARGISNULL(0))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the query must not be null"),
                        errhint("For example: %s", EXAMPLE)));
    if (slm_pg_sampling != NULL)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("slm_estimate cannot estimate itself"),
                        errhint("Give it the statement that you mean to run: %s", EXAMPLE)));
    query = text_to_cstring(PG_GETARG_TEXT_PP(0));
    s->sampling.most = slm_pg_int_arg(fcinfo, 2, "sample", 100, 2, 10000);
    s->sampling.seconds = slm_pg_float_arg(fcinfo, 3, "seconds", 20, 0, true, 86400, false);
    s->sampling.context = CurrentMemoryContext;
    InitMaterializedSRF(fcinfo, 0);
    s->sampling.stmt = plan_statement(query);
    run_sample(s, query);
    sum_up(s, &estimate);
    put_lines((ReturnSetInfo *) fcinfo->resultinfo, &estimate, api);
    return (Datum) 0;
}
