/*
 * fn_embed.c: slm_embed, slm_embed_details, slm_embed_many, slm_embed_query, slm_similarity, slm_rerank.
 *
 * An embedding is a normalized real[], so the inner product of two is their cosine; pgvector's vector takes it by assignment or cast.
 * Models with prompts (e5, bge) put their document prompt before slm_embed's text and their query prompt before slm_embed_query's.
 */
#include "pg/args.h"
#include "pg/prototypes.h"
#include "pg/work.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(slm_pg_embed);
PG_FUNCTION_INFO_V1(slm_pg_embed_query);
PG_FUNCTION_INFO_V1(slm_pg_embed_details);
PG_FUNCTION_INFO_V1(slm_pg_embed_many);
PG_FUNCTION_INFO_V1(slm_pg_similarity);
PG_FUNCTION_INFO_V1(slm_pg_rerank);

static Datum vector_datum(const float *v, size_t n)
{
    Datum *elements = palloc(sizeof(Datum) * Max(n, 1));

    for (size_t i = 0; i < n; i++)
        elements[i] = Float4GetDatum(v[i]);
    return PointerGetDatum(construct_array(elements, (int) n, FLOAT4OID, sizeof(float4), true, TYPALIGN_INT));
}

/* ---- slm_embed(input, model, truncate), slm_embed_query */

static void submit_text(SlmWork *work, SlmEntry *entry, const char *prompt, const text *input, bool truncate)
{
    slm_segment segment;
    slm_request request = slm_pg_embed_request(entry, &segment, prompt, slm_pg_utf8_from_text(input, NULL), truncate);

    slm_pg_work_submit(work, entry, &request);
}

static void begin_embedding(SlmWork *work, FunctionCallInfo fcinfo, bool query)
{
    SlmEntry *entry;

    if (PG_ARGISNULL(0)) {
        slm_pg_work_decide(work, (Datum) 0, true);
        return;
    }
    entry = slm_pg_use_model(slm_pg_text_arg(fcinfo, 1), SLM_TASK_EMBED);
    submit_text(work, entry, query ? slm_pg_info(entry)->query_prompt : slm_pg_info(entry)->document_prompt, PG_GETARG_TEXT_PP(0),
                slm_pg_bool_arg(fcinfo, 2, false));
}

static void begin_embed(SlmWork *work, FunctionCallInfo fcinfo)
{
    begin_embedding(work, fcinfo, false);
}

static void begin_embed_query(SlmWork *work, FunctionCallInfo fcinfo)
{
    begin_embedding(work, fcinfo, true);
}

static Datum finish_embed(SlmWork *work, bool *isnull)
{
    const slm_result *result = slm_pg_work_result(work, 0);

    return vector_datum(result->scores, result->n_scores);
}

const SlmWorkKind slm_pg_embed_kind = {"slm_pg_embed", begin_embed, finish_embed};
const SlmWorkKind slm_pg_embed_query_kind = {"slm_pg_embed_query", begin_embed_query, finish_embed};

Datum slm_pg_embed(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_embed_kind, fcinfo);
}

Datum slm_pg_embed_query(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_embed_query_kind, fcinfo);
}

/* ---- slm_embed_details */

static void begin_embed_details(SlmWork *work, FunctionCallInfo fcinfo)
{
    slm_pg_work_returns_row(work, fcinfo);
    begin_embedding(work, fcinfo, false);
}

static Datum finish_embed_details(SlmWork *work, bool *isnull)
{
    Datum values[2] = {finish_embed(work, isnull)};
    bool nulls[2] = {false, true};

    return slm_pg_work_row(work, values, nulls);
}

const SlmWorkKind slm_pg_embed_details_kind = {"slm_pg_embed_details", begin_embed_details, finish_embed_details};

Datum slm_pg_embed_details(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_embed_details_kind, fcinfo);
}

/* ---- slm_embed_many: a row per element, computed in packed batches a little ahead of the reader */

#define AHEAD 256

typedef struct EmbedMany {
    SlmEntry *entry;
    Datum *texts;
    bool *nulls;
    int n, started;
    bool truncate;
    SlmRun **runs; /* [n] */
} EmbedMany;

static EmbedMany *begin_embed_many(FunctionCallInfo fcinfo)
{
    EmbedMany *e = palloc0(sizeof *e);

    deconstruct_array(PG_GETARG_ARRAYTYPE_P_COPY(0), TEXTOID, -1, false, TYPALIGN_INT, &e->texts, &e->nulls, &e->n);
    e->entry = slm_pg_use_model(slm_pg_text_arg(fcinfo, 1), SLM_TASK_EMBED);
    e->truncate = slm_pg_bool_arg(fcinfo, 2, false);
    e->runs = palloc0(sizeof(SlmRun *) * (Size) Max(e->n, 1));
    return e;
}

Datum slm_pg_embed_many(PG_FUNCTION_ARGS)
{
    FuncCallContext *call;
    MemoryContext old;
    EmbedMany *e;
    int i;

    if (SRF_IS_FIRSTCALL()) {
        call = SRF_FIRSTCALL_INIT();
        if (!PG_ARGISNULL(0)) {
            old = MemoryContextSwitchTo(call->multi_call_memory_ctx);
            call->user_fctx = begin_embed_many(fcinfo);
            MemoryContextSwitchTo(old);
        }
    }
    call = SRF_PERCALL_SETUP();
    e = call->user_fctx;
    if (e == NULL || call->call_cntr >= (uint64) e->n)
        SRF_RETURN_DONE(call);
    i = (int) call->call_cntr;
    old = MemoryContextSwitchTo(call->multi_call_memory_ctx);
    for (; e->started < Min(i + AHEAD, e->n) && (e->started < i + 1 || i % (AHEAD / 4) == 0); e->started++) {
        slm_segment segment;
        slm_request request;

        if (e->nulls[e->started])
            continue;
        request = slm_pg_embed_request(e->entry, &segment, slm_pg_info(e->entry)->document_prompt,
                                       slm_pg_utf8_from_text(DatumGetTextPP(e->texts[e->started]), NULL), e->truncate);
        e->runs[e->started] = slm_pg_start(e->entry, &request);
    }
    MemoryContextSwitchTo(old);
    if (e->nulls[i]) {
        SRF_RETURN_NEXT_NULL(call);
    } else {
        const slm_result *result = slm_pg_wait(e->runs[i]);
        Datum value = vector_datum(result->scores, result->n_scores);

        slm_pg_finish(e->runs[i]);
        SRF_RETURN_NEXT(call, value);
    }
}

/* ---- slm_similarity(a, b, model, truncate) */

static void begin_similarity(SlmWork *work, FunctionCallInfo fcinfo)
{
    SlmEntry *entry;

    if (PG_ARGISNULL(0) || PG_ARGISNULL(1)) {
        slm_pg_work_decide(work, (Datum) 0, true);
        return;
    }
    entry = slm_pg_use_model(slm_pg_text_arg(fcinfo, 2), SLM_TASK_EMBED);
    for (int i = 0; i < 2; i++)
        submit_text(work, entry, slm_pg_info(entry)->document_prompt, PG_GETARG_TEXT_PP(i), slm_pg_bool_arg(fcinfo, 3, false));
}

static Datum finish_similarity(SlmWork *work, bool *isnull)
{
    const slm_result *a = slm_pg_work_result(work, 0), *b = slm_pg_work_result(work, 1);

    return Float8GetDatum(slm_vector_cosine(a->scores, b->scores, a->n_scores));
}

const SlmWorkKind slm_pg_similarity_kind = {"slm_pg_similarity", begin_similarity, finish_similarity};

Datum slm_pg_similarity(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_similarity_kind, fcinfo);
}

/* ---- slm_rerank(query, documents, model, truncate) */

typedef struct Ranked {
    int document; /* from 1 */
    double score;
} Ranked;

static int compare_ranked(const void *a, const void *b)
{
    const Ranked *x = a, *y = b;

    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->document - y->document;
}

/* A cross-encoder reads the pair; an embedding model compares the two vectors. */
static SlmRun *start_pair(SlmEntry *entry, const char *query, const char *document, bool truncate)
{
    slm_segment segments[2] = {{.role = SLM_ROLE_USER, .text = query, .length = strlen(query)},
                               {.role = SLM_ROLE_USER, .flags = SLM_SEG_JOIN, .text = document, .length = strlen(document)}};
    slm_request request = {.mode = SLM_MODE_EMBED, .segments = segments, .n_segments = 2, .truncate = truncate};

    if (!slm_pg_info(entry)->can_rerank)
        request = slm_pg_embed_request(entry, segments, slm_pg_info(entry)->document_prompt, document, truncate);
    return slm_pg_start(entry, &request);
}

static float *embed_query(SlmEntry *entry, const char *query)
{
    slm_segment segment;
    slm_request request = slm_pg_embed_request(entry, &segment, slm_pg_info(entry)->query_prompt, query, false);
    SlmRun *run = slm_pg_start(entry, &request);
    const slm_result *result = slm_pg_wait(run);
    float *copy = palloc(sizeof(float) * result->n_scores);

    memcpy(copy, result->scores, sizeof(float) * result->n_scores);
    slm_pg_finish(run);
    return copy;
}

Datum slm_pg_rerank(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
    const char *query;
    float *query_vector = NULL;
    SlmEntry *entry;
    Datum *documents;
    bool *nulls;
    SlmRun **runs;
    Ranked *ranked;
    int n, m = 0;
    bool truncate = slm_pg_bool_arg(fcinfo, 3, false);

    InitMaterializedSRF(fcinfo, 0);
    if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
        return (Datum) 0;
    query = slm_pg_utf8_from_text(PG_GETARG_TEXT_PP(0), NULL);
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false, TYPALIGN_INT, &documents, &nulls, &n);
    entry = slm_pg_use_model(slm_pg_text_arg(fcinfo, 2), SLM_TASK_RERANK);
    if (!slm_pg_info(entry)->can_rerank)
        query_vector = embed_query(entry, query);
    runs = palloc0(sizeof(SlmRun *) * (Size) Max(n, 1));
    ranked = palloc(sizeof(Ranked) * (Size) Max(n, 1));
    for (int i = 0; i < n; i++)
        if (!nulls[i])
            runs[i] = start_pair(entry, query, slm_pg_utf8_from_text(DatumGetTextPP(documents[i]), NULL), truncate);
    for (int i = 0; i < n; i++) {
        const slm_result *result;

        if (nulls[i])
            continue;
        result = slm_pg_wait(runs[i]);
        ranked[m].document = i + 1;
        ranked[m++].score =
            query_vector == NULL ? (double) result->scores[0] : slm_vector_cosine(query_vector, result->scores, result->n_scores);
        slm_pg_finish(runs[i]);
    }
    qsort(ranked, (size_t) m, sizeof *ranked, compare_ranked);
    for (int i = 0; i < m; i++) {
        Datum values[2] = {Int32GetDatum(ranked[i].document), Float8GetDatum(ranked[i].score)};
        bool value_nulls[2] = {false, false};

        tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, value_nulls);
    }
    return (Datum) 0;
}
