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
    slm_request request = slm_pg_embed_request(entry, &segment, prompt, slm_pg_input_utf8(input, NULL), truncate);

    slm_pg_work_submit(work, entry, &request);
}

static void begin_embedding(SlmWork *work, FunctionCallInfo fcinfo, bool query)
{
    SlmEntry *entry;

    if (PG_ARGISNULL(0)) {
        slm_pg_work_decide(work, (Datum) 0, true);
        return;
    }
    slm_pg_refuse_list(fcinfo, 0, "slm_embed_many takes a text[] and gives a row for each element.");
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

const SlmWorkKind slm_pg_embed_kind = {.symbol = "slm_pg_embed", .begin = begin_embed, .finish = finish_embed};
const SlmWorkKind slm_pg_embed_query_kind = {.symbol = "slm_pg_embed_query", .begin = begin_embed_query, .finish = finish_embed};

Datum slm_pg_embed(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_embed_kind, fcinfo);
}

Datum slm_pg_embed_query(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_embed_query_kind, fcinfo);
}

/* ---- slm_embed_details */

static Datum finish_embed_details(SlmWork *work, bool *isnull)
{
    Datum values[2] = {finish_embed(work, isnull)};
    bool nulls[2] = {false, true};

    return slm_pg_work_row(work, values, nulls);
}

const SlmWorkKind slm_pg_embed_details_kind = {
    .symbol = "slm_pg_embed_details", .details = true, .begin = begin_embed, .finish = finish_embed_details};

Datum slm_pg_embed_details(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_embed_details_kind, fcinfo);
}

/* ---- elements of arrays: each fails alone */

typedef struct Element {
    SlmEntry *entry;
    const char *query; /* of a pair for a cross-encoder, or NULL */
    const text *input;
    bool truncate;
    SlmRun *run;
} Element;

static void start_in_try(void *arg)
{
    Element *e = arg;
    const char *input = slm_pg_input_utf8(e->input, NULL);
    slm_segment segments[2];
    slm_request request;

    if (e->query == NULL) {
        request = slm_pg_embed_request(e->entry, segments, slm_pg_info(e->entry)->document_prompt, input, e->truncate);
    } else {
        segments[0] = slm_pg_segment_utf8(SLM_ROLE_USER, 0, e->query);
        segments[1] = slm_pg_segment_utf8(SLM_ROLE_USER, SLM_SEG_JOIN, input);
        request = (slm_request){.mode = SLM_MODE_EMBED, .segments = segments, .n_segments = 2, .truncate = e->truncate};
    }
    e->run = slm_pg_start(e->entry, &request);
}

/* Starts an element; NULL where its text is at fault, which the note then says. */
static SlmRun *start_element(Element *e, SlmRowNote *note)
{
    char *message;

    e->run = NULL;
    if (!note->gives_null)
        start_in_try(e);
    else if ((note->fault = slm_pg_try_row(start_in_try, e, &message)) != SLM_FAULT_NONE)
        note->text = slm_pg_beginning(e->input);
    return e->run;
}

/* ---- slm_embed_many: a row per element, computed in packed batches a little ahead of the reader */

#define AHEAD 256

typedef struct EmbedMany {
    Element element;
    Datum *texts;
    bool *nulls;
    int n, started;
    SlmRun **runs;     /* [n] */
    SlmRowNote *notes; /* [n] */
} EmbedMany;

static EmbedMany *begin_embed_many(FunctionCallInfo fcinfo)
{
    EmbedMany *e = palloc0(sizeof *e);
    bool gives_null = slm_pg_gives_null(fcinfo);

    deconstruct_array(PG_GETARG_ARRAYTYPE_P_COPY(0), TEXTOID, -1, false, TYPALIGN_INT, &e->texts, &e->nulls, &e->n);
    e->element.entry = slm_pg_use_model(slm_pg_text_arg(fcinfo, 1), SLM_TASK_EMBED);
    e->element.truncate = slm_pg_bool_arg(fcinfo, 2, false);
    e->runs = palloc0(sizeof(SlmRun *) * (Size) Max(e->n, 1));
    e->notes = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(SlmRowNote) * (Size) Max(e->n, 1));
    for (int i = 0; i < e->n; i++)
        slm_pg_row_note(&e->notes[i], fcinfo, gives_null, 0);
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
        if (e->nulls[e->started])
            continue;
        e->element.input = DatumGetTextPP(e->texts[e->started]);
        e->runs[e->started] = start_element(&e->element, &e->notes[e->started]);
    }
    MemoryContextSwitchTo(old);
    slm_pg_count_row(&e->notes[i]);
    if (e->runs[i] == NULL) {
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
    for (int i = 0; i < 2; i++)
        slm_pg_refuse_list(fcinfo, i, "Vectors need their type: slm_similarity(a::real[], b::real[]).");
    entry = slm_pg_use_model(slm_pg_text_arg(fcinfo, 2), SLM_TASK_EMBED);
    for (int i = 0; i < 2; i++)
        submit_text(work, entry, slm_pg_info(entry)->document_prompt, PG_GETARG_TEXT_PP(i), slm_pg_bool_arg(fcinfo, 3, false));
}

static Datum finish_similarity(SlmWork *work, bool *isnull)
{
    const slm_result *a = slm_pg_work_result(work, 0), *b = slm_pg_work_result(work, 1);

    return Float8GetDatum(slm_vector_cosine(a->scores, b->scores, a->n_scores));
}

const SlmWorkKind slm_pg_similarity_kind = {
    .symbol = "slm_pg_similarity", .n_inputs = 2, .begin = begin_similarity, .finish = finish_similarity};

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

typedef struct RerankQuery {
    SlmEntry *entry;
    const char *text;
    bool truncate;
    float *vector; /* where the model embeds: of the query; a cross-encoder reads it with each document */
} RerankQuery;

static void embed_in_try(void *arg)
{
    RerankQuery *q = arg;
    slm_segment segment;
    slm_request request = slm_pg_embed_request(q->entry, &segment, slm_pg_info(q->entry)->query_prompt, q->text, q->truncate);
    SlmRun *run = slm_pg_start(q->entry, &request);
    const slm_result *result = slm_pg_wait(run);

    q->vector = palloc(sizeof(float) * result->n_scores);
    memcpy(q->vector, result->scores, sizeof(float) * result->n_scores);
    slm_pg_finish(run);
}

/* false: the query is at fault, and so there are no rows. */
static bool read_query(RerankQuery *q, FunctionCallInfo fcinfo, bool gives_null)
{
    SlmRowNote note;
    char *message;

    if (slm_pg_info(q->entry)->can_rerank)
        return true;
    if (!gives_null) {
        embed_in_try(q);
        return true;
    }
    slm_pg_row_note(&note, fcinfo, true, 1);
    note.fault = slm_pg_try_row(embed_in_try, q, &message);
    if (note.fault != SLM_FAULT_NONE)
        slm_pg_count_row(&note);
    return note.fault == SLM_FAULT_NONE;
}

/* Scores of the documents that are not NULL and not at fault; returns their number. */
static int score_documents(const RerankQuery *q, FunctionCallInfo fcinfo, bool gives_null, Ranked **ranked)
{
    Element element = {.entry = q->entry, .query = q->vector == NULL ? q->text : NULL, .truncate = q->truncate};
    Datum *documents;
    bool *nulls;
    SlmRun **runs;
    int n, m = 0;

    deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false, TYPALIGN_INT, &documents, &nulls, &n);
    runs = palloc0(sizeof(SlmRun *) * (Size) Max(n, 1));
    *ranked = palloc(sizeof(Ranked) * (Size) Max(n, 1));
    for (int i = 0; i < n; i++) {
        SlmRowNote note;

        if (nulls[i])
            continue;
        slm_pg_row_note(&note, fcinfo, gives_null, 0);
        element.input = DatumGetTextPP(documents[i]);
        runs[i] = start_element(&element, &note);
        slm_pg_count_row(&note);
    }
    for (int i = 0; i < n; i++) {
        const slm_result *result;

        if (runs[i] == NULL)
            continue;
        result = slm_pg_wait(runs[i]);
        (*ranked)[m].document = i + 1;
        (*ranked)[m++].score =
            q->vector == NULL ? (double) result->scores[0] : slm_vector_cosine(q->vector, result->scores, result->n_scores);
        slm_pg_finish(runs[i]);
    }
    return m;
}

Datum slm_pg_rerank(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
    bool gives_null = slm_pg_gives_null(fcinfo);
    RerankQuery query = {.truncate = slm_pg_bool_arg(fcinfo, 3, false)};
    Ranked *ranked;
    int n;

    InitMaterializedSRF(fcinfo, 0);
    if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
        return (Datum) 0;
    query.text = slm_pg_utf8_from_text(PG_GETARG_TEXT_PP(0), NULL);
    query.entry = slm_pg_use_model(slm_pg_text_arg(fcinfo, 2), SLM_TASK_RERANK);
    if (!read_query(&query, fcinfo, gives_null))
        return (Datum) 0;
    n = score_documents(&query, fcinfo, gives_null, &ranked);
    qsort(ranked, (size_t) n, sizeof *ranked, compare_ranked);
    for (int i = 0; i < n; i++) {
        Datum values[2] = {Int32GetDatum(ranked[i].document), Float8GetDatum(ranked[i].score)};
        bool value_nulls[2] = {false, false};

        tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, value_nulls);
    }
    return (Datum) 0;
}
