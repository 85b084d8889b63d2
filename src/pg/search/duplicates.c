/*
 * duplicates.c: slm_duplicates: rows that say again what a row before them has said.
 *
 *   rows, in their order ──► each beside the originals so far: as near as the threshold to one of them? ──► a duplicate of the nearest
 *                                                                                             └── no ──► an original itself
 *
 * So every duplicate is as near to its original as was asked for, which chains of neighbours are not, and deleting all duplicates keeps one
 * row of each kind.  BLOCK rows are compared at a time with all originals before them (slm_vectors_nearest), then with those of the block.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"

#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/functions/kinds.h"
#include "pg/models/loading.h"
#include "pg/run/use.h"
#include "pg/search/rows.h"

PG_FUNCTION_INFO_V1(slm_pg_duplicates);

#define BLOCK SLM_NEAREST_QUERIES

typedef struct Duplicates {
    const char *query;
    SlmOpenModel *entry;
    double threshold;
    SlmTrainRows *set;
    uint32 *originals; /* [n_originals] their rows */
    float *vectors;    /* [n_originals, dims] */
    int64 n_originals;
    int64 *of;          /* [n] number of the original; of an original, its own */
    double *similarity; /* [n] */
} Duplicates;

static const float *vector_of(const Duplicates *d, int64 row)
{
    return d->set->vectors + (Size) row * (Size) d->set->dims;
}

static void add_original(Duplicates *d, int64 row)
{
    Size dims = (Size) d->set->dims;

    d->originals[d->n_originals] = (uint32) row;
    memcpy(d->vectors + (Size) d->n_originals * dims, vector_of(d, row), sizeof(float) * dims);
    d->of[row] = d->n_originals++;
}

/* A row beside the nearest of the originals before its block, and those of its block. */
static void settle(Duplicates *d, int64 row, uint32 nearest, int64 first_of_block)
{
    Size dims = (Size) d->set->dims;
    int64 best = -1;

    if (nearest != UINT32_MAX) {
        best = nearest;
        d->similarity[row] = slm_vector_cosine(vector_of(d, row), d->vectors + (Size) nearest * dims, dims);
    }
    for (int64 i = first_of_block; i < d->n_originals; i++) {
        double cosine = slm_vector_cosine(vector_of(d, row), d->vectors + (Size) i * dims, dims);

        if (best < 0 || cosine > d->similarity[row]) {
            best = i;
            d->similarity[row] = cosine;
        }
    }
    if (best >= 0 && d->similarity[row] >= d->threshold)
        d->of[row] = best;
    else
        add_original(d, row);
}

static void find(void *arg)
{
    Duplicates *d = arg;
    Size n;

    d->set = slm_pg_search_rows(&slm_pg_duplicates_kind, "slm_duplicates()", d->entry, d->query);
    n = (Size) Max(d->set->n, 1);
    d->originals = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(uint32) * n);
    d->vectors = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(float) * n * (Size) d->set->dims);
    d->of = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int64) * n);
    d->similarity = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(double) * n);
    slm_pg_loading_phase("comparing");
    for (int64 begin = 0; begin < d->set->n; begin += BLOCK) {
        uint32 rows = (uint32) Min(d->set->n - begin, BLOCK), place[BLOCK];
        float product[BLOCK];
        int64 before = d->n_originals;

        slm_pg_nearest(vector_of(d, begin), rows, d->vectors, before, (Size) d->set->dims, 1, place, product);
        for (uint32 i = 0; i < rows; i++)
            settle(d, begin + i, place[i], before);
        slm_pg_loading_report(NULL, (uint64_t) begin, (uint64_t) d->set->n);
        CHECK_FOR_INTERRUPTS();
    }
}

/* ---- slm_duplicates(query, threshold, model) */

Datum slm_pg_duplicates(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
    Duplicates d = {.threshold = slm_pg_float_arg(fcinfo, 1, "threshold", 0.9, 0, true, 1, false)};

    d.query = slm_pg_search_query(fcinfo, 0, "query", "SELECT body, id FROM tickets ORDER BY id");
    d.entry = slm_pg_use_model(slm_pg_text_arg(fcinfo, 2), SLM_TASK_EMBED);
    InitMaterializedSRF(fcinfo, 0);
    slm_pg_search_shown("slm_duplicates", find, &d);
    for (int64 row = 0; row < d.set->n; row++) {
        int64 original = d.originals[d.of[row]];
        Datum values[7] = {0};
        bool nulls[7] = {false};

        if (original == row)
            continue;
        slm_pg_training_row_values(d.set, row, values, nulls);
        slm_pg_training_row_values(d.set, original, values + 3, nulls + 3);
        values[6] = Float8GetDatum(d.similarity[row]);
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    return (Datum) 0;
}
