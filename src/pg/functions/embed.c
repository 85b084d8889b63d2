/*
 * embed.c: slm_embed, slm_embed_details, slm_embed_many, slm_embed_query, slm_similarity, slm_rerank.
 *
 * An embedding is a normalized real[], so the inner product of two is their cosine; pgvector's vector takes it by assignment or cast.
 * Models with prompts (e5, bge) put their document prompt before slm_embed's text and their query prompt before slm_embed_query's.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/base/row_count.h"
#include "pg/base/row_error.h"
#include "pg/functions/kinds.h"
#include "pg/functions/reading.h"
#include "pg/models/catalog.h"
#include "pg/run/accounts.h"
#include "pg/run/opened.h"
#include "pg/run/use.h"
#include "pg/run/work.h"

PG_FUNCTION_INFO_V1(slm_pg_embed);
PG_FUNCTION_INFO_V1(slm_pg_embed_query);
PG_FUNCTION_INFO_V1(slm_pg_embed_details);
PG_FUNCTION_INFO_V1(slm_pg_embed_many);
PG_FUNCTION_INFO_V1(slm_pg_similarity);
PG_FUNCTION_INFO_V1(slm_pg_rerank);

static Datum vector_datum(const SlmVector *v)
{
    Datum *elements = palloc(sizeof(Datum) * (Size) Max(v->n, 1));

    for (int i = 0; i < v->n; i++)
        elements[i] = Float4GetDatum(v->x[i]);
    return PointerGetDatum(construct_array(elements, v->n, FLOAT4OID, sizeof(float4), true, TYPALIGN_INT));
}

/* ---- slm_embed(input, model, truncate), slm_embed_query */

/* A text argument that an encoder is to read, measured. */
static SlmText text_to_read(SlmOpenModel *entry, const char *prompt, const text *input, SlmTruncate truncate)
{
    SlmText t = {.entry = entry, .prompt = prompt, .truncate = truncate};

    t.text = slm_pg_input_utf8(input, &t.length);
    slm_pg_measure(&t);
    return t;
}

static void begin_embedding(SlmWork *work, FunctionCallInfo fcinfo, bool query)
{
    SlmOpenModel *entry;
    SlmText t;

    if (PG_ARGISNULL(0)) {
        slm_pg_work_decide(work, (Datum) 0, true);
        return;
    }
    slm_pg_refuse_list(fcinfo, 0, "slm_embed_many takes a text[] and gives a row for each element.");
    entry = slm_pg_work_model(work, slm_pg_text_arg(fcinfo, 1));
    t = text_to_read(entry, slm_pg_text_prompt(entry, query), PG_GETARG_TEXT_PP(0),
                     slm_pg_truncate_arg(fcinfo, 2));
    slm_pg_note_windows(work, &t);
    slm_pg_work_set_state(work, slm_pg_read_vector(work, &t));
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
    return vector_datum(slm_pg_work_state(work));
}

const SlmWorkKind slm_pg_embed_kind = {
    .symbol = "slm_pg_embed", .task = SLM_TASK_EMBED, .begin = begin_embed, .finish = finish_embed};
const SlmWorkKind slm_pg_embed_query_kind = {
    .symbol = "slm_pg_embed_query", .task = SLM_TASK_EMBED, .begin = begin_embed_query, .finish = finish_embed};

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
    .symbol = "slm_pg_embed_details", .task = SLM_TASK_EMBED, .details = true, .begin = begin_embed, .finish = finish_embed_details};

Datum slm_pg_embed_details(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_embed_details_kind, fcinfo);
}

/* ---- elements of arrays: each fails alone */

typedef struct Element {
    const SlmWorkKind *kind;
    SlmText text; /* but for the text itself */
    const text *input;
    const SlmVector *query; /* compared with the text, or NULL */
    SlmWork *work;
    SlmVector *vector; /* of the text alone */
    double *score;     /* beside a query */
} Element;

static void start_in_try(void *arg)
{
    Element *e = arg;
    MemoryContext old;

    e->work = slm_pg_work_new(e->kind);
    old = MemoryContextSwitchTo(slm_pg_work_context(e->work));
    e->text.text = slm_pg_input_utf8(e->input, &e->text.length);
    slm_pg_measure(&e->text);
    if (e->text.query != NULL)
        e->score = slm_pg_read_relevance(e->work, &e->text);
    else if (e->query != NULL)
        e->score = slm_pg_read_cosines(e->work, &e->text, e->query->x, 1);
    else
        e->vector = slm_pg_read_vector(e->work, &e->text);
    MemoryContextSwitchTo(old);
}

/* Starts an element, whose work is NULL where its text is at fault, which the note then says. */
static void start_element(Element *e, SlmRowNote *note)
{
    char *message;

    if (!note->gives_null) {
        start_in_try(e);
    } else if ((note->fault = slm_pg_try_row(start_in_try, e, &message)) != SLM_FAULT_NONE) {
        note->text = slm_pg_beginning(e->input);
        slm_pg_work_free(e->work);
        e->work = NULL;
    }
    note->longer = e->work != NULL && slm_pg_in_windows(&e->text);
}

/* ---- slm_embed_many: a row per element, computed in packed batches a little ahead of the reader */

#define AHEAD 256

typedef struct EmbedMany {
    Element common;
    Datum *texts;
    bool *nulls;
    int n, started;
    Element **elements; /* [n] those that have been started and not returned */
    SlmRowNote *notes;  /* [n] */
} EmbedMany;

static EmbedMany *begin_embed_many(FunctionCallInfo fcinfo)
{
    EmbedMany *e = palloc0(sizeof *e);
    bool gives_null = slm_pg_gives_null(fcinfo);

    deconstruct_array(PG_GETARG_ARRAYTYPE_P_COPY(0), TEXTOID, -1, false, TYPALIGN_INT, &e->texts, &e->nulls, &e->n);
    e->common.kind = &slm_pg_embed_many_kind;
    e->common.text.entry = slm_pg_use_model(slm_pg_text_arg(fcinfo, 1), slm_pg_embed_many_kind.task);
    slm_pg_account_call(slm_pg_embed_many_kind.symbol, e->common.text.entry);
    e->common.text.prompt = slm_pg_text_prompt(e->common.text.entry, false);
    e->common.text.truncate = slm_pg_truncate_arg(fcinfo, 2);
    e->elements = MemoryContextAllocExtended(CurrentMemoryContext, sizeof(Element *) * (Size) Max(e->n, 1),
                                             MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
    e->notes = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(SlmRowNote) * (Size) Max(e->n, 1));
    for (int i = 0; i < e->n; i++)
        slm_pg_row_note(&e->notes[i], fcinfo, gives_null, 0, 0);
    return e;
}

const SlmWorkKind slm_pg_embed_many_kind = {.symbol = "slm_pg_embed_many", .task = SLM_TASK_EMBED, .answers = SLM_ANSWERS_SET};

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
        Element *element;

        if (e->nulls[e->started])
            continue;
        element = e->elements[e->started] = palloc(sizeof *element);
        *element = e->common;
        element->input = DatumGetTextPP(e->texts[e->started]);
        start_element(element, &e->notes[e->started]);
    }
    MemoryContextSwitchTo(old);
    slm_pg_count_row(&e->notes[i]);
    if (e->elements[i] == NULL || e->elements[i]->work == NULL) {
        SRF_RETURN_NEXT_NULL(call);
    } else {
        Element *element = e->elements[i];
        Datum value;

        slm_pg_work_wait(element->work);
        value = vector_datum(element->vector);
        slm_pg_work_free(element->work);
        pfree(element);
        e->elements[i] = NULL;
        SRF_RETURN_NEXT(call, value);
    }
}

/* ---- slm_similarity(a, b, model, truncate, method)
 *
 *   embedding  the cosine of the two vectors
 *   cross      a cross-encoder reads both together; its score as a number from 0 to 1
 *   auto       cross where the model is one
 */

typedef struct Similarity {
    SlmVector *vectors[2];
    double *best; /* of a short text with the windows of a long one, or NULL */
    const double *score; /* of a cross-encoder, or NULL */
} Similarity;

/* Is the pair to be read together? */
static bool reads_pairs(const SlmOpenModel *entry, const text *name)
{
    const char *method = name == NULL ? "auto" : text_to_cstring(name);
    bool can_rerank = slm_pg_info(entry)->can_rerank;

    if (strcmp(method, "auto") != 0 && strcmp(method, "embedding") != 0 && strcmp(method, "cross") != 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown method of similarity \"%s\"", method),
                        errhint("The methods are auto, embedding and cross.")));
    if (strcmp(method, "auto") != 0 && (strcmp(method, "cross") == 0) != can_rerank)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                        errmsg("method %s does not fit the model, %s", method, can_rerank ? "a cross-encoder" : "an encoder"),
                        errhint("Cross-encoders (the column can_rerank of slm.models) compare by method cross, encoders by embedding; auto "
                                "chooses.")));
    return can_rerank;
}

static void begin_pair(SlmWork *work, Similarity *s, SlmOpenModel *entry, FunctionCallInfo fcinfo)
{
    SlmText t = {.entry = entry, .truncate = slm_pg_truncate_arg(fcinfo, 3)};

    t.query = slm_pg_input_utf8(PG_GETARG_TEXT_PP(0), NULL);
    t.text = slm_pg_input_utf8(PG_GETARG_TEXT_PP(1), &t.length);
    slm_pg_measure(&t);
    slm_pg_note_windows(work, &t);
    s->score = slm_pg_read_relevance(work, &t);
}

static void begin_similarity(SlmWork *work, FunctionCallInfo fcinfo)
{
    Similarity *s = palloc0(sizeof *s);
    SlmOpenModel *entry;
    SlmText t[2];
    int longer;

    if (PG_ARGISNULL(0) || PG_ARGISNULL(1)) {
        slm_pg_work_decide(work, (Datum) 0, true);
        return;
    }
    for (int i = 0; i < 2; i++)
        slm_pg_refuse_list(fcinfo, i, "Vectors need their type: slm_similarity(a::real[], b::real[]).");
    entry = slm_pg_work_model(work, slm_pg_text_arg(fcinfo, 2)); /* an encoder, or a cross-encoder */
    slm_pg_work_set_state(work, s);
    if (reads_pairs(entry, slm_pg_text_arg(fcinfo, 4))) {
        begin_pair(work, s, entry, fcinfo);
        return;
    }
    for (int i = 0; i < 2; i++)
        t[i] = text_to_read(entry, slm_pg_text_prompt(entry, false), PG_GETARG_TEXT_PP(i), slm_pg_truncate_arg(fcinfo, 3));
    slm_pg_note_windows(work, &t[0]);
    slm_pg_note_windows(work, &t[1]);
    longer = slm_pg_in_windows(&t[1]) ? 1 : 0;
    s->vectors[0] = slm_pg_read_vector(work, &t[1 - longer]);
    if (slm_pg_in_windows(&t[0]) != slm_pg_in_windows(&t[1]))
        s->best = slm_pg_read_cosines(work, &t[longer], s->vectors[0]->x, 1);
    else
        s->vectors[1] = slm_pg_read_vector(work, &t[longer]);
}

static Datum finish_similarity(SlmWork *work, bool *isnull)
{
    const Similarity *s = slm_pg_work_state(work);

    if (s->score != NULL)
        return Float8GetDatum(1 / (1 + slm_exp(-*s->score)));
    if (s->best != NULL)
        return Float8GetDatum(*s->best);
    return Float8GetDatum(slm_vector_cosine(s->vectors[0]->x, s->vectors[1]->x, (size_t) s->vectors[0]->n));
}

const SlmWorkKind slm_pg_similarity_kind = {
    .symbol = "slm_pg_similarity", .task = SLM_TASK_RERANK, .n_inputs = 2, .begin = begin_similarity, .finish = finish_similarity};

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
    SlmText text;
    SlmVector *vector; /* where the model embeds; a cross-encoder reads the query with each document */
} RerankQuery;

static void embed_in_try(void *arg)
{
    RerankQuery *q = arg;
    SlmWork *work = slm_pg_work_new(&slm_pg_rerank_kind);

    slm_pg_measure(&q->text);
    q->vector = slm_pg_read_vector(work, &q->text);
    slm_pg_work_wait(work);
    slm_pg_work_free(work);
}

/* false: the query is at fault, and so there are no rows. */
static bool read_query(RerankQuery *q, FunctionCallInfo fcinfo, bool gives_null)
{
    SlmRowNote note;
    char *message;

    if (slm_pg_info(q->text.entry)->can_rerank)
        return true;
    slm_pg_row_note(&note, fcinfo, gives_null, 0, 1);
    if (gives_null)
        note.fault = slm_pg_try_row(embed_in_try, q, &message);
    else
        embed_in_try(q);
    note.longer = note.fault == SLM_FAULT_NONE && slm_pg_in_windows(&q->text);
    if (note.fault != SLM_FAULT_NONE || note.longer)
        slm_pg_count_row(&note);
    return note.fault == SLM_FAULT_NONE;
}

/* Scores of the documents that are not NULL and not at fault; returns their number. */
static int score_documents(const RerankQuery *q, FunctionCallInfo fcinfo, bool gives_null, Ranked **ranked)
{
    Element common = {.kind = &slm_pg_rerank_kind, .text = q->text, .query = q->vector};
    Element *elements;
    Datum *documents;
    bool *nulls;
    int n, m = 0;

    common.text.query = q->vector == NULL ? q->text.text : NULL;
    common.text.prompt = slm_pg_text_prompt(q->text.entry, false);
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false, TYPALIGN_INT, &documents, &nulls, &n);
    elements = palloc0(sizeof(Element) * (Size) Max(n, 1));
    *ranked = palloc(sizeof(Ranked) * (Size) Max(n, 1));
    for (int i = 0; i < n; i++) {
        SlmRowNote note;

        if (nulls[i])
            continue;
        slm_pg_row_note(&note, fcinfo, gives_null, 0, 0);
        elements[i] = common;
        elements[i].input = DatumGetTextPP(documents[i]);
        start_element(&elements[i], &note);
        slm_pg_count_row(&note);
    }
    for (int i = 0; i < n; i++) {
        if (elements[i].work == NULL)
            continue;
        slm_pg_work_wait(elements[i].work);
        (*ranked)[m].document = i + 1;
        (*ranked)[m++].score = *elements[i].score;
        slm_pg_work_free(elements[i].work);
    }
    return m;
}

const SlmWorkKind slm_pg_rerank_kind = {.symbol = "slm_pg_rerank", .task = SLM_TASK_RERANK, .answers = SLM_ANSWERS_SET};

Datum slm_pg_rerank(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
    bool gives_null = slm_pg_gives_null(fcinfo);
    RerankQuery query = {.text.truncate = slm_pg_truncate_arg(fcinfo, 3)};
    Ranked *ranked;
    int n;

    InitMaterializedSRF(fcinfo, 0);
    if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
        return (Datum) 0;
    query.text.text = slm_pg_utf8_from_text(PG_GETARG_TEXT_PP(0), &query.text.length);
    query.text.entry = slm_pg_use_model(slm_pg_text_arg(fcinfo, 2), slm_pg_rerank_kind.task);
    query.text.prompt = slm_pg_text_prompt(query.text.entry, true);
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
