/*
 * rows.c: the rows of a query that texts are looked for in (rows.h).
 */
#include "pg/search/rows.h"

#include "utils/builtins.h"

#include "engine/slm.h"
#include "pg/base/encoding.h"
#include "pg/base/errors.h"
#include "pg/base/threads.h"
#include "pg/functions/reading.h"
#include "pg/models/loading.h"

#define ALONE 1000000 /* products that one thread has made before another one is awake */

SlmTrainRows *slm_pg_search_rows(const SlmWorkKind *kind, const char *what, SlmOpenModel *entry, const char *query)
{
    SlmTrainRows *set = palloc(sizeof *set);

    slm_pg_init_training_rows(set, what, entry);
    set->kind = kind;
    set->by_names = set->with_text = set->with_key = set->keep_texts = true;
    slm_pg_loading_phase("embedding");
    slm_pg_read_training_rows(set, query);
    if (set->n >= UINT32_MAX)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("the query of %s gives too many rows", what)));
    if (set->vector_column != 0)
        for (int64 i = 0; i < set->n; i++)
            slm_vector_normalize(set->vectors + (Size) i * (Size) set->dims, (size_t) set->dims);
    return set;
}

const float *slm_pg_search_question(const SlmWorkKind *kind, SlmOpenModel *entry, const text *question)
{
    SlmWork *work = slm_pg_work_new(kind);
    SlmText t = {.entry = entry, .prompt = slm_pg_text_prompt(entry, true)};
    Size bytes = sizeof(float) * slm_pg_info(entry)->n_embd;
    MemoryContext old = MemoryContextSwitchTo(slm_pg_work_context(work));
    const SlmVector *read;
    float *vector;

    t.text = slm_pg_utf8_from_text(question, &t.length);
    slm_pg_measure(&t);
    read = slm_pg_read_vector(work, &t);
    MemoryContextSwitchTo(old);
    slm_pg_work_wait(work);
    vector = palloc(bytes);
    memcpy(vector, read->x, bytes);
    slm_pg_work_free(work);
    return vector;
}

const char *slm_pg_search_query(FunctionCallInfo fcinfo, int i, const char *name, const char *example)
{
    if (PG_ARGISNULL(i))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the %s must not be null", name),
                        errhint("For example: %s", example)));
    return text_to_cstring(PG_GETARG_TEXT_PP(i));
}

void slm_pg_nearest(const float *q, uint32 m, const float *x, int64 n, Size dims, uint32 k, uint32 *place, float *product)
{
    slm_status status;
    slm_error err;

    do {
        int threads = (double) n * m * (double) dims < ALONE ? 1 : slm_pg_take_threads();

        status = slm_vectors_nearest(q, m, x, (size_t) n, dims, k, threads, SLM_STOP, place, product, &err);
        slm_pg_give_threads();
        if (status == SLM_CANCELLED)
            slm_pg_interrupted();
    } while (status == SLM_CANCELLED);
    if (status != SLM_OK)
        slm_pg_error(&err, NULL);
}

void slm_pg_search_shown(const char *name, void (*body)(void *arg), void *arg)
{
    slm_pg_loading_begin(name);
    PG_TRY();
    {
        body(arg);
    }
    PG_FINALLY();
    {
        slm_pg_loading_end();
    }
    PG_END_TRY();
}
