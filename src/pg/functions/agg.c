/*
 * agg.c: the aggregate slm_agg(text, instruction): what a generative model writes about the texts of a group, in bounded memory.
 *
 *   rows ──► the different texts with the smallest hashes, as many as MOST_BYTES hold, each with its count ──► a line each ──► condense.h
 *
 * Which texts are kept is in sample.h: the model reads the same in any plan, parallel ones too.  Memory: twice MOST_BYTES and MOST_TEXTS
 * places, less than 300 kB a group.
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "utils/builtins.h"

#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/functions/condense.h"
#include "pg/functions/kinds.h"
#include "pg/functions/prompts.h"
#include "pg/functions/sample.h"
#include "pg/run/accounts.h"
#include "pg/run/use.h"
#include "pg/run/work.h"

PG_FUNCTION_INFO_V1(slm_pg_agg_add);
PG_FUNCTION_INFO_V1(slm_pg_agg_combine);
PG_FUNCTION_INFO_V1(slm_pg_agg_serialize);
PG_FUNCTION_INFO_V1(slm_pg_agg_deserialize);
PG_FUNCTION_INFO_V1(slm_pg_agg);

#define MOST_TEXTS 2000
#define MOST_BYTES 65536 /* of all texts; some 16,000 tokens of English */
#define MOST_OF_ONE 2000 /* bytes of a text; what is longer is read to there */
#define ANSWER_TOKENS 256

typedef struct Texts {
    char *instruction, *model; /* in the server's encoding; model may be NULL */
    SlmSample *sample;
} Texts;

static Texts *new_texts(MemoryContext context, const char *instruction, const char *model)
{
    Texts *t = MemoryContextAllocZero(context, sizeof *t);

    t->instruction = MemoryContextStrdup(context, instruction);
    t->model = model == NULL ? NULL : MemoryContextStrdup(context, model);
    t->sample = slm_pg_sample_new(context, MOST_TEXTS, MOST_BYTES);
    return t;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void add_row(Texts *t, const text *row)
{
    size_t length;
    const char *utf8 = slm_pg_utf8_view(row, &length);

    while (length > 0 && is_space(*utf8)) {
        utf8++;
        length--;
    }
    while (length > 0 && is_space(utf8[length - 1]))
        length--;
    if (length > 0)
        slm_pg_sample_add(t->sample, utf8, length, MOST_OF_ONE);
}

static void same(const char *a, const char *b, const char *what)
{
    if ((a == NULL) != (b == NULL) || (a != NULL && strcmp(a, b) != 0))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the %s of slm_agg is not the same for all rows of a group", what),
                        errhint("Pass a constant, or a column by which the rows are grouped.")));
}

/* (internal, text, instruction [, model]) -> internal */
Datum slm_pg_agg_add(PG_FUNCTION_ARGS)
{
    bool named = PG_NARGS() > 3 && !PG_ARGISNULL(3);
    char *instruction, *model = named ? text_to_cstring(PG_GETARG_TEXT_PP(3)) : NULL;
    MemoryContext context;
    Texts *t = PG_ARGISNULL(0) ? NULL : (Texts *) PG_GETARG_POINTER(0);

    if (!AggCheckCallContext(fcinfo, &context))
        elog(ERROR, "slm_pg_agg_add was called outside of an aggregate");
    if (slm_pg_blank_arg(fcinfo, 2))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the instruction of slm_agg is missing"),
                        errhint("For example: slm_agg(body, 'What do these customers complain about?')")));
    instruction = text_to_cstring(PG_GETARG_TEXT_PP(2));
    if (t == NULL)
        t = new_texts(context, instruction, model);
    same(t->instruction, instruction, "instruction");
    same(t->model, model, "model");
    if (!PG_ARGISNULL(1))
        add_row(t, PG_GETARG_TEXT_PP(1));
    PG_RETURN_POINTER(t);
}

Datum slm_pg_agg_combine(PG_FUNCTION_ARGS)
{
    MemoryContext context;
    Texts *a = PG_ARGISNULL(0) ? NULL : (Texts *) PG_GETARG_POINTER(0);
    const Texts *b = PG_ARGISNULL(1) ? NULL : (const Texts *) PG_GETARG_POINTER(1);

    if (!AggCheckCallContext(fcinfo, &context))
        elog(ERROR, "slm_pg_agg_combine was called outside of an aggregate");
    if (a == NULL && b == NULL)
        PG_RETURN_NULL();
    if (b == NULL)
        PG_RETURN_POINTER(a);
    if (a == NULL)
        a = new_texts(context, b->instruction, b->model);
    same(a->instruction, b->instruction, "instruction");
    same(a->model, b->model, "model");
    slm_pg_sample_merge(a->sample, b->sample);
    PG_RETURN_POINTER(a);
}

static void put_string(StringInfo out, const char *s)
{
    pq_sendint32(out, (uint32) strlen(s));
    pq_sendbytes(out, s, (int) strlen(s));
}

static char *get_string(StringInfo in)
{
    int length = (int) pq_getmsgint(in, 4);

    return pnstrdup(pq_getmsgbytes(in, length), (Size) length);
}

Datum slm_pg_agg_serialize(PG_FUNCTION_ARGS)
{
    const Texts *t = (const Texts *) PG_GETARG_POINTER(0);
    StringInfoData out;

    pq_begintypsend(&out);
    put_string(&out, t->instruction);
    put_string(&out, t->model == NULL ? "" : t->model);
    slm_pg_sample_send(&out, t->sample);
    PG_RETURN_BYTEA_P(pq_endtypsend(&out));
}

Datum slm_pg_agg_deserialize(PG_FUNCTION_ARGS)
{
    bytea *bytes = PG_GETARG_BYTEA_PP(0);
    char *instruction, *model;
    StringInfoData in;
    Texts *t;

    initStringInfo(&in);
    appendBinaryStringInfo(&in, VARDATA_ANY(bytes), (int) VARSIZE_ANY_EXHDR(bytes));
    instruction = get_string(&in);
    model = get_string(&in);
    t = new_texts(CurrentMemoryContext, instruction, model[0] == '\0' ? NULL : model);
    slm_pg_sample_receive(&in, t->sample);
    pq_getmsgend(&in);
    PG_RETURN_POINTER(t);
}

/* ---- the result */

const SlmWorkKind slm_pg_agg_kind = {.symbol = "slm_pg_agg", .task = SLM_TASK_GENERATE, .answers = SLM_ANSWERS_NO_MODEL};

/* The texts in the order of their hashes, a line each. */
static void lay_out(const Texts *t, StringInfo all)
{
    for (int i = 0; i < t->sample->n; i++) {
        const SlmSampleText *k = &t->sample->list[i];

        appendStringInfoString(all, "- ");
        for (uint32 c = 0; c < k->length; c++)
            appendStringInfoChar(all, k->text[c] == '\n' || k->text[c] == '\r' ? ' ' : k->text[c]);
        if (k->weight > 1)
            appendStringInfo(all, " (x%u)", k->weight);
        appendStringInfoChar(all, '\n');
    }
}

static text *answer_of(SlmWork *work)
{
    const slm_result *result = slm_pg_work_result(work, 0);
    size_t length = slm_pg_bounded_length(result->text, result->text_length, PG_INT32_MAX, result->finish == SLM_FINISH_STOP);

    return slm_pg_text_from_utf8(result->text, length > 0 ? length : result->text_length);
}

/* The final function of slm_agg, whose name it has in slm.usage. */
Datum slm_pg_agg(PG_FUNCTION_ARGS)
{
    const Texts *t = PG_ARGISNULL(0) ? NULL : (const Texts *) PG_GETARG_POINTER(0);
    MemoryContext old = CurrentMemoryContext;
    SlmCondense what = {.max_words = PG_INT32_MAX, .answer_tokens = ANSWER_TOKENS};
    StringInfoData all;
    SlmWork *work;
    text *answer;

    if (t == NULL || t->sample->n == 0)
        PG_RETURN_NULL();
    what.entry = slm_pg_use_model(t->model == NULL ? NULL : cstring_to_text(t->model), SLM_TASK_GENERATE);
    slm_pg_account_call(slm_pg_agg_kind.symbol, what.entry);
    work = slm_pg_work_new(&slm_pg_agg_kind);
    MemoryContextSwitchTo(slm_pg_work_context(work));
    initStringInfo(&all);
    lay_out(t, &all);
    what.input = all.data;
    what.length = (size_t) all.len;
    what.instruction = slm_pg_prompt_with(SLM_PROMPT_AGGREGATE, what.entry, "instruction", slm_pg_utf8_from_cstring(t->instruction));
    slm_pg_condense(work, &what);
    slm_pg_work_wait(work);
    MemoryContextSwitchTo(old);
    answer = slm_pg_work_decided(work) ? NULL : answer_of(work);
    slm_pg_work_free(work);
    if (answer == NULL)
        PG_RETURN_NULL();
    PG_RETURN_TEXT_P(answer);
}
