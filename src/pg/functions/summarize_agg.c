/*
 * summarize_agg.c: the aggregate slm_summarize_agg: sentences that stand for all rows of a group, in bounded memory.
 *
 *   rows ──► sentences ──► the MOST_KEPT different ones with the smallest hashes, each with its count ──► central and unlike each other
 *
 * Which sentences are kept is in sample.h: the result is the same in any plan, parallel ones too, and equal on all machines.  Memory:
 * MOST_KEPT sentences of MOST_BYTES, some 200 kB a group.
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "utils/builtins.h"

#include "engine/extract/summary.h"
#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/base/errors.h"
#include "pg/functions/sample.h"
#include "pg/functions/sentences.h"

PG_FUNCTION_INFO_V1(slm_pg_summary_add);
PG_FUNCTION_INFO_V1(slm_pg_summary_combine);
PG_FUNCTION_INFO_V1(slm_pg_summary_serialize);
PG_FUNCTION_INFO_V1(slm_pg_summary_deserialize);
PG_FUNCTION_INFO_V1(slm_pg_summary_final);

#define MOST_KEPT 400
#define MOST_BYTES 400 /* of a sentence; longer ones end there */
#define LEAST_WORDS 4  /* of a sentence; what is shorter is a greeting */

typedef struct Summary {
    int max_words;
    SlmSample *sample;
} Summary;

static Summary *new_summary(MemoryContext context, int max_words)
{
    Summary *s = MemoryContextAllocZero(context, sizeof *s);

    s->max_words = max_words;
    s->sample = slm_pg_sample_new(context, MOST_KEPT, (size_t) MOST_KEPT * MOST_BYTES);
    return s;
}

static void add_row(Summary *s, const text *row)
{
    slm_sentence *list;
    slm_status status;
    slm_error err;
    size_t length, n;
    volatile size_t added = 0;
    const char *utf8 = slm_pg_utf8_view(row, &length);

    while ((status = slm_sentences_find(utf8, length, SLM_STOP, &list, &n, &err)) == SLM_CANCELLED)
        slm_pg_interrupted();
    if (status != SLM_OK)
        slm_pg_error(&err, NULL);
    PG_TRY();
    {
        for (size_t i = 0; i < n; i++)
            if (list[i].n_words >= LEAST_WORDS) {
                slm_pg_sample_add(s->sample, utf8 + list[i].begin, list[i].end - list[i].begin, MOST_BYTES);
                added++;
            }
        if (added == 0 && n > 0)
            slm_pg_sample_add(s->sample, utf8 + list[0].begin, list[n - 1].end - list[0].begin, MOST_BYTES);
    }
    PG_FINALLY();
    {
        free(list);
    }
    PG_END_TRY();
}

/* (internal, text, max_words) -> internal; max_words of the group's first row */
Datum slm_pg_summary_add(PG_FUNCTION_ARGS)
{
    MemoryContext context;
    Summary *s = PG_ARGISNULL(0) ? NULL : (Summary *) PG_GETARG_POINTER(0);

    if (!AggCheckCallContext(fcinfo, &context))
        elog(ERROR, "slm_pg_summary_add was called outside of an aggregate");
    if (s == NULL)
        s = new_summary(context, PG_NARGS() > 2 ? slm_pg_int_arg(fcinfo, 2, "max_words", 50, 1, 10000) : 50);
    if (!PG_ARGISNULL(1))
        add_row(s, PG_GETARG_TEXT_PP(1));
    PG_RETURN_POINTER(s);
}

Datum slm_pg_summary_combine(PG_FUNCTION_ARGS)
{
    MemoryContext context;
    Summary *a = PG_ARGISNULL(0) ? NULL : (Summary *) PG_GETARG_POINTER(0);
    const Summary *b = PG_ARGISNULL(1) ? NULL : (const Summary *) PG_GETARG_POINTER(1);

    if (!AggCheckCallContext(fcinfo, &context))
        elog(ERROR, "slm_pg_summary_combine was called outside of an aggregate");
    if (a == NULL && b == NULL)
        PG_RETURN_NULL();
    if (a == NULL)
        a = new_summary(context, b->max_words);
    if (b != NULL)
        slm_pg_sample_merge(a->sample, b->sample);
    PG_RETURN_POINTER(a);
}

Datum slm_pg_summary_serialize(PG_FUNCTION_ARGS)
{
    const Summary *s = (const Summary *) PG_GETARG_POINTER(0);
    StringInfoData out;

    pq_begintypsend(&out);
    pq_sendint32(&out, (uint32) s->max_words);
    slm_pg_sample_send(&out, s->sample);
    PG_RETURN_BYTEA_P(pq_endtypsend(&out));
}

Datum slm_pg_summary_deserialize(PG_FUNCTION_ARGS)
{
    bytea *bytes = PG_GETARG_BYTEA_PP(0);
    StringInfoData in;
    Summary *s;

    initStringInfo(&in);
    appendBinaryStringInfo(&in, VARDATA_ANY(bytes), (int) VARSIZE_ANY_EXHDR(bytes));
    s = new_summary(CurrentMemoryContext, (int) pq_getmsgint(&in, 4));
    slm_pg_sample_receive(&in, s->sample);
    pq_getmsgend(&in);
    PG_RETURN_POINTER(s);
}

/* ---- the result */

/* The sentences one after the other, a line each. */
static void lay_out(const Summary *s, StringInfo all, slm_sentence *list)
{
    for (int i = 0; i < s->sample->n; i++) {
        list[i].begin = (size_t) all->len;
        appendBinaryStringInfo(all, s->sample->list[i].text, (int) s->sample->list[i].length);
        list[i].end = (size_t) all->len;
        list[i].weight = s->sample->list[i].weight;
        list[i].n_words = (uint32) slm_pg_count_words(s->sample->list[i].text, s->sample->list[i].length);
        appendStringInfoChar(all, '\n');
    }
}

Datum slm_pg_summary_final(PG_FUNCTION_ARGS)
{
    const Summary *s = PG_ARGISNULL(0) ? NULL : (const Summary *) PG_GETARG_POINTER(0);
    slm_sentence *list;
    StringInfoData all, out;
    uint32_t *chosen;
    float *vectors;
    slm_status status;
    slm_error err;
    size_t n;

    if (s == NULL || s->sample->n == 0)
        PG_RETURN_NULL();
    initStringInfo(&all);
    initStringInfo(&out);
    list = palloc(sizeof *list * (Size) s->sample->n);
    chosen = palloc(sizeof *chosen * (Size) s->sample->n);
    vectors = palloc(sizeof *vectors * SLM_LEXICAL_DIMS * (Size) s->sample->n);
    lay_out(s, &all, list);
    while ((status = slm_sentences_vectors(all.data, list, (size_t) s->sample->n, SLM_STOP, vectors, &err)) == SLM_CANCELLED)
        slm_pg_interrupted();
    if (status != SLM_OK)
        slm_pg_error(&err, NULL);
    n = slm_sentences_choose(vectors, SLM_LEXICAL_DIMS, list, (size_t) s->sample->n, NULL, false, (uint32_t) s->max_words, chosen);
    for (size_t i = 0; i < n; i++) {
        appendStringInfoString(&out, i > 0 ? " " : "");
        appendBinaryStringInfo(&out, all.data + list[chosen[i]].begin, (int) (list[chosen[i]].end - list[chosen[i]].begin));
    }
    if (n == 0)
        PG_RETURN_NULL();
    PG_RETURN_TEXT_P(slm_pg_text_from_utf8(out.data, (size_t) out.len));
}
