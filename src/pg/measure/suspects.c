/*
 * suspects.c: slm_suspects: rows whose label is probably wrong.
 *
 *   rows (text | embedding, label) ──cross-validation──► p[row, label] by a classifier that has not seen the row
 *   t[label]  = mean p[row, label] over the rows that have the label: how sure one is of the label where it is given
 *   a row is a suspect when, of the labels that reach their t, the likeliest is not its own        (confident learning: Northcutt,
 *                                                                                  Jiang, Chuang, JAIR 70, 2021: the joint's off-diagonal)
 *   margin    = (p[own] - p[best other]) / (p[own] + p[best other]), from -1 to 1; the lowest come first
 *
 * How many rows are shown is the number of suspects, which ones the margin says: among as many rows as had been given wrong labels it
 * found 94 % of them (Banking77, 5 % wrong; 80 % by the plain difference, 92 % by p[own] alone; test/tap/data/choose.pl).
 * Rows of a label without two different texts cannot be held out and are no suspects.
 */
#include "postgres.h"

#include <float.h>

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/memutils.h"

#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/base/errors.h"
#include "pg/base/threads.h"
#include "pg/functions/train.h"
#include "pg/functions/trained.h"
#include "pg/models/loading.h"
#include "pg/run/use.h"

PG_FUNCTION_INFO_V1(slm_pg_suspects);

#define FOLDS 5
#define STRENGTH 0.1f /* l2: searching for it costs four times the time and finds no more */

typedef struct Judged {
    int64 row;
    int other;      /* the likeliest label that is not its own */
    float own, best; /* probabilities of its label and of the other */
    float margin;
} Judged;

typedef struct Search {
    SlmTrainRows set;
    slm_train_options options;
    slm_train_report report;
    const slm_classifier *trials[SLM_MAX_TRIALS];
    float *p;          /* [n_labels] of the row at hand */
    double *threshold; /* [n_labels] */
    Judged *judged;    /* [n_judged] */
    int64 n_judged, n_suspects;
} Search;

/* The probabilities of a row by what has not seen it; false: all have. */
static bool predict(Search *s, int64 row)
{
    uint8 trial = s->report.trial_of_row[row];
    bool texts = s->options.ngrams;
    slm_error err;

    if (trial == SLM_SEEN_BY_ALL)
        return false;
    if (slm_classifier_predict(s->trials[trial], s->set.vectors + (Size) row * (Size) s->set.dims, texts ? &s->set.texts[row] : NULL,
                               texts ? &s->set.lengths[row] : NULL, 1, s->p, &err) != SLM_OK)
        slm_pg_error(&err, NULL);
    if (row % 256 == 0)
        CHECK_FOR_INTERRUPTS();
    return true;
}

static void find_thresholds(Search *s)
{
    int64 *rows = palloc0(sizeof *rows * (Size) s->set.n_labels);

    s->threshold = palloc0(sizeof(double) * (Size) s->set.n_labels);
    for (int64 row = 0; row < s->set.n; row++) {
        int label = s->set.labels[row];

        if (!predict(s, row))
            continue;
        s->threshold[label] += (double) s->p[label];
        rows[label]++;
    }
    for (int i = 0; i < s->set.n_labels; i++)
        s->threshold[i] = rows[i] > 0 ? s->threshold[i] / (double) rows[i] : 2; /* never reached */
    pfree(rows);
}

static void judge(Search *s, int64 row)
{
    Judged *j = &s->judged[s->n_judged++];
    int own = s->set.labels[row], confident = -1;

    *j = (Judged){.row = row, .other = -1, .own = s->p[own], .best = -1};
    for (int i = 0; i < s->set.n_labels; i++) {
        if (i != own && s->p[i] > j->best) {
            j->best = s->p[i];
            j->other = i;
        }
        if ((double) s->p[i] >= s->threshold[i] && (confident < 0 || s->p[i] > s->p[confident]))
            confident = i;
    }
    j->margin = (j->own - j->best) / Max(j->own + j->best, FLT_MIN);
    s->n_suspects += confident >= 0 && confident != own;
}

static int by_margin(const void *a, const void *b)
{
    const Judged *x = a, *y = b;

    if (x->margin != y->margin)
        return x->margin < y->margin ? -1 : 1;
    return x->row < y->row ? -1 : 1;
}

static void open_trials(Search *s)
{
    if (s->report.n_trials == 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("no row can be held out and judged by the others"),
                        errdetail("%d of %d labels have fewer than two different texts.", (int) s->report.n_lonely, s->set.n_labels),
                        errhint("Label at least two different texts for each label.")));
    for (uint32 k = 0; k < s->report.n_trials; k++) {
        slm_error err;

        s->trials[k] = slm_pg_open_blob(s->report.trials[k].data, s->report.trials[k].bytes, &err);
        if (s->trials[k] == NULL)
            slm_pg_error(&err, NULL);
    }
}

/* Inside PG_TRY: what the engine made is freed by the caller. */
static pg_noinline void search(Search *s, const char *query)
{
    slm_pg_loading_phase("embedding");
    slm_pg_read_training_rows(&s->set, query);
    slm_pg_check_training_rows(&s->set);
    slm_pg_train_rows(&s->set, &s->options, &s->report);
    open_trials(s);
    s->p = palloc(sizeof(float) * (Size) s->set.n_labels);
    s->judged = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Judged) * (Size) s->set.n);
    find_thresholds(s);
    for (int64 row = 0; row < s->set.n; row++)
        if (predict(s, row))
            judge(s, row);
    qsort(s->judged, (size_t) s->n_judged, sizeof(Judged), by_margin);
}

static Datum label_text(const Search *s, int label)
{
    return PointerGetDatum(slm_pg_text_from_utf8(s->set.names[label], strlen(s->set.names[label])));
}

static void put_suspect(ReturnSetInfo *result, const Search *s, const Judged *j)
{
    Datum values[8] = {0};
    bool nulls[8] = {false};

    slm_pg_training_row_values(&s->set, j->row, values, nulls);
    values[3] = label_text(s, s->set.labels[j->row]);
    values[4] = label_text(s, j->other);
    values[5] = Float8GetDatum((double) j->own);
    values[6] = Float8GetDatum((double) j->best);
    values[7] = Float8GetDatum((double) j->margin);
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void begin_search(Search *s, FunctionCallInfo fcinfo)
{
    SlmOpenModel *entry;

    s->options = (slm_train_options){
        .l2 = STRENGTH, .n_folds = FOLDS, .trials = true, .stop = SLM_STOP, .progress = slm_pg_training_progress};
    if (PG_ARGISNULL(1)) {
        entry = slm_pg_use_model(slm_pg_text_arg(fcinfo, 2), SLM_TASK_EMBED);
    } else {
        SlmTrained *trained = slm_pg_use_classifier(PG_GETARG_TEXT_PP(1));

        if (!PG_ARGISNULL(2))
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("model cannot be given beside a classifier"),
                            errhint("A trained classifier has its own: leave out the model or the classifier.")));
        entry = slm_pg_classifier_model(trained);
        s->options.ngrams = slm_classifier_needs_text(trained->classifier);
    }
    slm_pg_init_training_rows(&s->set, "slm_suspects()", entry);
    s->set.with_key = s->set.keep_texts = true;
    s->set.need_texts = s->options.ngrams;
}

static void refuse_null_query(FunctionCallInfo fcinfo)
{
    const char *name = PG_ARGISNULL(1) ? NULL : quote_literal_cstr(text_to_cstring(PG_GETARG_TEXT_PP(1)));

    ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the query must not be null"),
                    name == NULL ? errhint("For example: SELECT * FROM slm_suspects('SELECT body, label, id FROM tickets');")
                                 : errhint("What you trained it on: SELECT * FROM slm_suspects((SELECT query FROM slm.classifiers "
                                           "WHERE name = %s AND active AND owner = current_user::regrole), %s);", name, name)));
}

Datum slm_pg_suspects(PG_FUNCTION_ARGS)
{
    Search *s = palloc0(sizeof *s);
    int64 n;

    if (PG_ARGISNULL(0))
        refuse_null_query(fcinfo);
    if (!PG_ARGISNULL(3) && PG_GETARG_INT64(3) < 1)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("n must be at least 1"),
                        errhint("Leave it out to get as many rows as are probably wrong.")));
    InitMaterializedSRF(fcinfo, 0);
    begin_search(s, fcinfo);
    slm_pg_loading_begin("slm_suspects");
    PG_TRY();
    {
        search(s, text_to_cstring(PG_GETARG_TEXT_PP(0)));
    }
    PG_FINALLY();
    {
        slm_pg_loading_end();
        slm_train_report_free(&s->report);
    }
    PG_END_TRY();
    n = Min(PG_ARGISNULL(3) ? s->n_suspects : PG_GETARG_INT64(3), s->n_judged);
    for (int64 i = 0; i < n; i++)
        put_suspect((ReturnSetInfo *) fcinfo->resultinfo, s, &s->judged[i]);
    return (Datum) 0;
}
