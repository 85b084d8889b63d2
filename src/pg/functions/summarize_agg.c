/*
 * summarize_agg.c: the aggregate slm_summarize_agg: sentences that stand for all rows of a group, in bounded memory.
 *
 *   rows ──► sentences ──► the MOST_KEPT different ones with the smallest hashes, each with its count ──► central and unlike each other
 *
 * Which sentences are kept depends on the set of sentences alone: the smallest hashes are a sample of the different ones that no order and
 * no split of the rows changes, and a sentence that is kept to the end has been kept from its first row on, so its count is exact.  So the
 * result is the same in any plan, parallel ones too, and equal on all machines.  Memory: MOST_KEPT sentences of MOST_BYTES, some 200 kB a
 * group.
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

typedef struct Kept {
    uint64 hash;
    uint32 weight, length;
    char *text; /* UTF-8, palloc'ed in the state's context */
} Kept;

typedef struct Sample {
    MemoryContext context;
    int max_words;
    int n;
    Kept list[MOST_KEPT]; /* [n] by hash */
} Sample;

static Sample *new_sample(MemoryContext context, int max_words)
{
    Sample *s = MemoryContextAllocZero(context, sizeof *s);

    s->context = context;
    s->max_words = max_words;
    return s;
}

/* The first place whose hash is not smaller. */
static int place_of(const Sample *s, uint64 hash)
{
    int low = 0, high = s->n;

    while (low < high) {
        int middle = (low + high) / 2;

        if (s->list[middle].hash < hash)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void keep(Sample *s, uint64 hash, const char *text, uint32 length, uint32 weight)
{
    int at = place_of(s, hash);
    Kept *k = &s->list[at];

    if (at < s->n && k->hash == hash) {
        k->weight = k->weight > PG_UINT32_MAX - weight ? PG_UINT32_MAX : k->weight + weight;
        return;
    }
    if (at == MOST_KEPT)
        return;
    if (s->n == MOST_KEPT)
        pfree(s->list[--s->n].text);
    memmove(k + 1, k, sizeof *k * (Size) (s->n - at));
    k->hash = hash;
    k->weight = weight;
    k->length = length;
    k->text = MemoryContextAlloc(s->context, Max(length, 1));
    memcpy(k->text, text, length);
    s->n++;
}

static void add_sentence(Sample *s, const char *text, size_t length)
{
    if (length > MOST_BYTES) {
        length = MOST_BYTES;
        while (length > 0 && ((unsigned char) text[length] & 0xC0) == 0x80)
            length--;
    }
    keep(s, slm_pg_sample_hash(text, length), text, (uint32) length, 1);
}

static void add_row(Sample *s, const text *row)
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
                add_sentence(s, utf8 + list[i].begin, list[i].end - list[i].begin);
                added++;
            }
        if (added == 0 && n > 0)
            add_sentence(s, utf8 + list[0].begin, list[n - 1].end - list[0].begin);
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
    Sample *s = PG_ARGISNULL(0) ? NULL : (Sample *) PG_GETARG_POINTER(0);

    if (!AggCheckCallContext(fcinfo, &context))
        elog(ERROR, "slm_pg_summary_add was called outside of an aggregate");
    if (s == NULL)
        s = new_sample(context, PG_NARGS() > 2 ? slm_pg_int_arg(fcinfo, 2, "max_words", 50, 1, 10000) : 50);
    if (!PG_ARGISNULL(1))
        add_row(s, PG_GETARG_TEXT_PP(1));
    PG_RETURN_POINTER(s);
}

Datum slm_pg_summary_combine(PG_FUNCTION_ARGS)
{
    MemoryContext context;
    Sample *a = PG_ARGISNULL(0) ? NULL : (Sample *) PG_GETARG_POINTER(0);
    const Sample *b = PG_ARGISNULL(1) ? NULL : (const Sample *) PG_GETARG_POINTER(1);

    if (!AggCheckCallContext(fcinfo, &context))
        elog(ERROR, "slm_pg_summary_combine was called outside of an aggregate");
    if (a == NULL && b == NULL)
        PG_RETURN_NULL();
    if (a == NULL)
        a = new_sample(context, b->max_words);
    for (int i = 0; b != NULL && i < b->n; i++)
        keep(a, b->list[i].hash, b->list[i].text, b->list[i].length, b->list[i].weight);
    PG_RETURN_POINTER(a);
}

Datum slm_pg_summary_serialize(PG_FUNCTION_ARGS)
{
    const Sample *s = (const Sample *) PG_GETARG_POINTER(0);
    StringInfoData out;

    pq_begintypsend(&out);
    pq_sendint32(&out, (uint32) s->max_words);
    pq_sendint32(&out, (uint32) s->n);
    for (int i = 0; i < s->n; i++) {
        pq_sendint64(&out, s->list[i].hash);
        pq_sendint32(&out, s->list[i].weight);
        pq_sendint32(&out, s->list[i].length);
        pq_sendbytes(&out, s->list[i].text, (int) s->list[i].length);
    }
    PG_RETURN_BYTEA_P(pq_endtypsend(&out));
}

Datum slm_pg_summary_deserialize(PG_FUNCTION_ARGS)
{
    bytea *bytes = PG_GETARG_BYTEA_PP(0);
    StringInfoData in;
    Sample *s;
    int n;

    initStringInfo(&in);
    appendBinaryStringInfo(&in, VARDATA_ANY(bytes), (int) VARSIZE_ANY_EXHDR(bytes));
    s = new_sample(CurrentMemoryContext, (int) pq_getmsgint(&in, 4));
    n = (int) pq_getmsgint(&in, 4);
    for (int i = 0; i < n; i++) {
        uint64 hash = (uint64) pq_getmsgint64(&in);
        uint32 weight = pq_getmsgint(&in, 4), length = pq_getmsgint(&in, 4);

        keep(s, hash, pq_getmsgbytes(&in, (int) length), length, weight);
    }
    pq_getmsgend(&in);
    PG_RETURN_POINTER(s);
}

/* ---- the result */

/* The sentences one after the other, a line each. */
static void lay_out(const Sample *s, StringInfo all, slm_sentence *list)
{
    for (int i = 0; i < s->n; i++) {
        list[i].begin = (size_t) all->len;
        appendBinaryStringInfo(all, s->list[i].text, (int) s->list[i].length);
        list[i].end = (size_t) all->len;
        list[i].weight = s->list[i].weight;
        list[i].n_words = (uint32) slm_pg_count_words(s->list[i].text, s->list[i].length);
        appendStringInfoChar(all, '\n');
    }
}

Datum slm_pg_summary_final(PG_FUNCTION_ARGS)
{
    const Sample *s = PG_ARGISNULL(0) ? NULL : (const Sample *) PG_GETARG_POINTER(0);
    slm_sentence *list;
    StringInfoData all, out;
    uint32_t *chosen;
    float *vectors;
    slm_status status;
    slm_error err;
    size_t n;

    if (s == NULL || s->n == 0)
        PG_RETURN_NULL();
    initStringInfo(&all);
    initStringInfo(&out);
    list = palloc(sizeof *list * (Size) s->n);
    chosen = palloc(sizeof *chosen * (Size) s->n);
    vectors = palloc(sizeof *vectors * SLM_LEXICAL_DIMS * (Size) s->n);
    lay_out(s, &all, list);
    while ((status = slm_sentences_vectors(all.data, list, (size_t) s->n, SLM_STOP, vectors, &err)) == SLM_CANCELLED)
        slm_pg_interrupted();
    if (status != SLM_OK)
        slm_pg_error(&err, NULL);
    n = slm_sentences_choose(vectors, SLM_LEXICAL_DIMS, list, (size_t) s->n, NULL, false, (uint32_t) s->max_words, chosen);
    for (size_t i = 0; i < n; i++) {
        appendStringInfoString(&out, i > 0 ? " " : "");
        appendBinaryStringInfo(&out, all.data + list[chosen[i]].begin, (int) (list[chosen[i]].end - list[chosen[i]].begin));
    }
    if (n == 0)
        PG_RETURN_NULL();
    PG_RETURN_TEXT_P(slm_pg_text_from_utf8(out.data, (size_t) out.len));
}
