/*
 * match.c: slm_match: of each row of one query, the rows of another that come nearest to it.
 *
 * Both are read as a whole, and BLOCK rows at a time are compared with all candidates (slm_vectors_nearest).
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

PG_FUNCTION_INFO_V1(slm_pg_match);

#define BLOCK SLM_NEAREST_QUERIES
#define MOST 100

enum { M_ROW, M_KEY, M_INPUT, M_RANK, M_MATCH, M_MATCH_KEY, M_MATCH_INPUT, M_SIMILARITY, M_MARGIN, M_COLUMNS };

typedef struct Match {
    const char *query, *candidates;
    SlmOpenModel *entry;
    uint32 n; /* for each row */
    double threshold;
    SlmTrainRows *rows, *among;
    ReturnSetInfo *result;
} Match;

static const float *vector_of(const SlmTrainRows *set, int64 row)
{
    return set->vectors + (Size) row * (Size) set->dims;
}

/* A line for each match of a row; one without a match where there is none. similarity [k]: of the matches, and one more. */
static void put_row(const Match *m, int64 row, const uint32 *place, const double *similarity)
{
    uint32 shown = 0;

    for (uint32 i = 0; i < m->n && (i == 0 || (place[i] != UINT32_MAX && similarity[i] >= m->threshold)); i++) {
        bool found = place[i] != UINT32_MAX, matches = found && similarity[i] >= m->threshold;
        Datum values[M_COLUMNS] = {0};
        bool nulls[M_COLUMNS] = {false};

        slm_pg_training_row_values(m->rows, row, values, nulls);
        values[M_RANK] = Int32GetDatum((int32) ++shown);
        if (matches)
            slm_pg_training_row_values(m->among, place[i], values + M_MATCH, nulls + M_MATCH);
        else
            nulls[M_RANK] = nulls[M_MATCH] = nulls[M_MATCH_KEY] = nulls[M_MATCH_INPUT] = true;
        values[M_SIMILARITY] = Float8GetDatum(similarity[i]);
        nulls[M_SIMILARITY] = !found;
        nulls[M_MARGIN] = !found || place[i + 1] == UINT32_MAX;
        values[M_MARGIN] = Float8GetDatum(nulls[M_MARGIN] ? 0 : similarity[i] - similarity[i + 1]);
        tuplestore_putvalues(m->result->setResult, m->result->setDesc, values, nulls);
    }
}

static void put_block(const Match *m, int64 begin, uint32 rows)
{
    uint32 k = m->n + 1, *place = palloc(sizeof(uint32) * BLOCK * k);
    float *product = palloc(sizeof(float) * BLOCK * k);
    double *similarity = palloc(sizeof(double) * k);

    slm_pg_nearest(vector_of(m->rows, begin), rows, m->among->vectors, m->among->n, (Size) m->rows->dims, k, place, product);
    for (uint32 i = 0; i < rows; i++) {
        const uint32 *of_row = place + i * k;

        for (uint32 j = 0; j < k; j++)
            similarity[j] = of_row[j] == UINT32_MAX ? 0
                                                    : slm_vector_cosine(vector_of(m->rows, begin + i), vector_of(m->among, of_row[j]),
                                                                        (size_t) m->rows->dims);
        put_row(m, begin + i, of_row, similarity);
    }
    pfree(place);
    pfree(product);
    pfree(similarity);
}

static void find(void *arg)
{
    Match *m = arg;

    m->among = slm_pg_search_rows(&slm_pg_match_kind, "slm_match()", m->entry, m->candidates);
    m->rows = slm_pg_search_rows(&slm_pg_match_kind, "slm_match()", m->entry, m->query);
    slm_pg_loading_phase("comparing");
    for (int64 begin = 0; begin < m->rows->n; begin += BLOCK) {
        put_block(m, begin, (uint32) Min(m->rows->n - begin, BLOCK));
        slm_pg_loading_report(NULL, (uint64_t) begin, (uint64_t) m->rows->n);
        CHECK_FOR_INTERRUPTS();
    }
}

/* ---- slm_match(query, candidates, n, threshold, model) */

Datum slm_pg_match(PG_FUNCTION_ARGS)
{
    Match m = {.n = (uint32) slm_pg_int_arg(fcinfo, 2, "n", 1, 1, MOST),
               .threshold = slm_pg_float_arg(fcinfo, 3, "threshold", -1, -1, false, 1, false)};

    m.query = slm_pg_search_query(fcinfo, 0, "query", "SELECT description, id FROM orders");
    m.candidates = slm_pg_search_query(fcinfo, 1, "candidates", "SELECT name, id FROM products");
    m.entry = slm_pg_use_model(slm_pg_text_arg(fcinfo, 4), SLM_TASK_EMBED);
    InitMaterializedSRF(fcinfo, 0);
    m.result = (ReturnSetInfo *) fcinfo->resultinfo;
    slm_pg_search_shown("slm_match", find, &m);
    return (Datum) 0;
}
