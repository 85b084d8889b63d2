/*
 * topics.c: slm_topics, slm_topic_rows: what the texts of a query are about.
 *
 *   rows ──► vectors ──► at most SAMPLE of them, evenly taken ──k-means──► centres ──► every row to its nearest centre
 *                                                        └── texts ──► names of the clusters (names.c)
 *
 * The same rows in the same order give the same topics.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/functions/kinds.h"
#include "pg/functions/clusters.h"
#include "pg/models/loading.h"
#include "pg/run/use.h"
#include "pg/search/names.h"
#include "pg/search/rows.h"

PG_FUNCTION_INFO_V1(slm_pg_topics);
PG_FUNCTION_INFO_V1(slm_pg_topic_rows);

#define SAMPLE 20000
#define MOST_TOPICS 200
#define ITERATIONS 30
#define STARTS 8     /* of which the best counts, */
#define LITTLE 50000 /* with so many comparisons in an iteration; fewer starts with more */
#define TYPICAL 3

typedef struct Topics {
    const char *query;
    SlmOpenModel *entry;
    uint32 wanted;
    SlmTrainRows *set;
    uint32 k;
    double *centres; /* [k, dims] */
    int32 *cluster;  /* [n] */
    int64 *size;     /* [k] */
    int64 *typical;  /* [k, TYPICAL] rows */
    char **names;    /* [k] */
} Topics;

static double *doubles_of(const Topics *t, int64 row, double *out)
{
    const float *v = t->set->vectors + (Size) row * (Size) t->set->dims;

    for (int d = 0; d < t->set->dims; d++)
        out[d] = (double) v[d];
    return out;
}

static void find_clusters(Topics *t)
{
    Size dims = (Size) t->set->dims;
    int64 n = t->set->n, sample = Min(n, SAMPLE);
    uint32 starts = (uint32) Max(1, Min(STARTS, STARTS * (int64) LITTLE / (sample * t->wanted)));
    double *x = palloc_extended(sizeof(double) * (Size) sample * dims, MCXT_ALLOC_HUGE), *point = palloc(sizeof(double) * dims);
    int32 *of_sample = palloc_extended(sizeof(int32) * (Size) sample, MCXT_ALLOC_HUGE);

    for (int64 i = 0; i < sample; i++)
        (void) doubles_of(t, i * n / sample, x + (Size) i * dims);
    t->centres = palloc_extended(sizeof(double) * (Size) t->wanted * dims, MCXT_ALLOC_HUGE);
    t->k = slm_pg_clusters(x, sample, dims, t->wanted, ITERATIONS, starts, t->centres, of_sample);
    t->cluster = palloc_extended(sizeof(int32) * (Size) n, MCXT_ALLOC_HUGE);
    t->size = palloc0(sizeof(int64) * Max(t->k, 1));
    for (int64 row = 0; row < n; row++) {
        t->cluster[row] = slm_pg_cluster_of(doubles_of(t, row, point), dims, t->centres, t->k);
        t->size[t->cluster[row]]++;
        if (row % 256 == 0)
            CHECK_FOR_INTERRUPTS();
    }
    t->typical = palloc(sizeof(int64) * Max(t->k, 1) * TYPICAL);
    slm_pg_nearest_points(x, sample, dims, t->centres, t->k, of_sample, TYPICAL, t->typical);
    for (uint32 i = 0; i < t->k * TYPICAL; i++)
        if (t->typical[i] >= 0)
            t->typical[i] = t->typical[i] * n / sample;
    pfree(x);
}

static void find_names(Topics *t)
{
    SlmNames *names = slm_pg_names(Max(t->k, 1));
    int64 n = t->set->n, sample = Min(n, SAMPLE);

    for (int64 i = 0; i < sample; i++) {
        int64 row = i * n / sample;

        if (t->set->texts[row] != NULL)
            slm_pg_names_add(names, slm_pg_cstring_from_utf8(t->set->texts[row]), (uint32) t->cluster[row]);
        CHECK_FOR_INTERRUPTS();
    }
    t->names = palloc0(sizeof(char *) * Max(t->k, 1));
    for (uint32 i = 0; i < t->k; i++)
        t->names[i] = slm_pg_name_of(names, i);
}

static void find(void *arg)
{
    Topics *t = arg;

    t->set = slm_pg_search_rows(&slm_pg_topics_kind, "slm_topics()", t->entry, t->query);
    slm_pg_loading_phase("clustering");
    if (t->set->n == 0)
        return;
    find_clusters(t);
    find_names(t);
}

/* ---- slm_topics(query, k, model) */

/* One of the columns of the typical rows as text[], without NULLs. */
static Datum typical_texts(const Topics *t, uint32 topic, int column)
{
    Datum elements[TYPICAL];
    int n = 0;

    for (int i = 0; i < TYPICAL; i++) {
        Datum values[3];
        bool nulls[3];

        if (t->typical[topic * TYPICAL + (uint32) i] < 0)
            continue;
        slm_pg_training_row_values(t->set, t->typical[topic * TYPICAL + (uint32) i], values, nulls);
        if (!nulls[column])
            elements[n++] = values[column];
    }
    return PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Large ones first. */
static int by_size(const void *a, const void *b, void *arg)
{
    const Topics *t = arg;
    uint32 x = *(const uint32 *) a, y = *(const uint32 *) b;

    if (t->size[x] != t->size[y])
        return t->size[x] > t->size[y] ? -1 : 1;
    return x < y ? -1 : 1;
}

/* The topics by size, large ones first: [k] of their numbers. */
static uint32 *in_order(const Topics *t)
{
    uint32 *order = palloc(sizeof(uint32) * Max(t->k, 1));

    for (uint32 i = 0; i < t->k; i++)
        order[i] = i;
    qsort_arg(order, t->k, sizeof *order, by_size, unconstify(Topics *, t));
    return order;
}

static void find_topics(Topics *t, FunctionCallInfo fcinfo, const char *name)
{
    t->wanted = (uint32) slm_pg_int_arg(fcinfo, 1, "k", 10, 1, MOST_TOPICS);
    t->query = slm_pg_search_query(fcinfo, 0, "query", "SELECT body, id FROM tickets");
    t->entry = slm_pg_use_model(slm_pg_text_arg(fcinfo, 2), SLM_TASK_EMBED);
    InitMaterializedSRF(fcinfo, 0);
    slm_pg_search_shown(name, find, t);
}

Datum slm_pg_topics(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
    Topics t = {0};
    uint32 *order;

    find_topics(&t, fcinfo, "slm_topics");
    order = in_order(&t);
    for (uint32 i = 0; i < t.k && t.size[order[i]] > 0; i++) {
        uint32 topic = order[i];
        Datum values[6] = {Int32GetDatum((int32) i + 1)};
        bool nulls[6] = {false};

        nulls[1] = t.names[topic] == NULL;
        if (!nulls[1])
            values[1] = CStringGetTextDatum(t.names[topic]);
        values[2] = Int64GetDatum(t.size[topic]);
        values[3] = Float8GetDatum((double) t.size[topic] / (double) t.set->n);
        values[4] = typical_texts(&t, topic, 2);
        values[5] = typical_texts(&t, topic, 1);
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    return (Datum) 0;
}

Datum slm_pg_topic_rows(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
    Topics t = {0};
    uint32 *order, *number;

    find_topics(&t, fcinfo, "slm_topic_rows");
    order = in_order(&t);
    number = palloc(sizeof(uint32) * Max(t.k, 1));
    for (uint32 i = 0; i < t.k; i++)
        number[order[i]] = i + 1;
    for (int64 row = 0; row < t.set->n; row++) {
        int32 topic = t.cluster[row];
        Datum values[5] = {0};
        bool nulls[5] = {false};

        slm_pg_training_row_values(t.set, row, values, nulls);
        values[3] = Int32GetDatum((int32) number[topic]);
        nulls[4] = t.names[topic] == NULL;
        if (!nulls[4])
            values[4] = CStringGetTextDatum(t.names[topic]);
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    return (Datum) 0;
}
