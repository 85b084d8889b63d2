/*
 * tokens.c: slm_tokenize, slm_detokenize, slm_count_tokens, slm_chunk, slm_token_logprobs, slm_perplexity.
 *
 * What the engine allocates (token ids, offsets, text) is freed before anything can raise an ERROR, or held by a memory context's
 * reset callback until it has been copied.
 */
#include "pg/functions/tokens.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/base/errors.h"
#include "pg/base/guc.h"
#include "pg/base/row_error.h"
#include "pg/functions/kinds.h"
#include "pg/functions/reading.h"
#include "pg/models/catalog.h"
#include "pg/run/accounts.h"
#include "pg/run/backend.h"
#include "pg/run/use.h"
#include "pg/run/work.h"

PG_FUNCTION_INFO_V1(slm_pg_tokenize);
PG_FUNCTION_INFO_V1(slm_pg_detokenize);
PG_FUNCTION_INFO_V1(slm_pg_count_tokens);
PG_FUNCTION_INFO_V1(slm_pg_chunk);
PG_FUNCTION_INFO_V1(slm_pg_token_logprobs);
PG_FUNCTION_INFO_V1(slm_pg_perplexity);

#define CHUNK_TOKENS 256 /* of a generative model, where the call does not say */
#define MAX_CHUNK_TOKENS 1000000

/* malloc'ed memory that a memory context frees. */
typedef struct Held {
    void *pointer;
    MemoryContextCallback callback;
} Held;

static void free_held(void *arg)
{
    Held *held = arg;

    free(held->pointer);
    held->pointer = NULL;
}

static Held *hold(void)
{
    Held *held = palloc0(sizeof(Held));

    held->callback.func = free_held;
    held->callback.arg = held;
    MemoryContextRegisterResetCallback(CurrentMemoryContext, &held->callback);
    return held;
}

/* What the tokenizer refuses is the text's fault. */
static pg_noreturn void text_error(slm_error *err);

static void text_error(slm_error *err)
{
    slm_blame(err, SLM_CAUSE_BAD_TEXT);
    slm_pg_error(err, NULL);
}

/* Token ids of a text argument, held by the current memory context. */
static int32_t *tokenize(const SlmOpenModel *entry, const text *t, size_t *n)
{
    Held *held = hold();
    size_t length;
    const char *s = slm_pg_input_view(t, &length);
    slm_tokens tokens;
    slm_status status;
    slm_error err;

    while ((status = slm_tokenize(slm_pg_opened_model(entry), s, length, false, SLM_STOP, &tokens, &err)) == SLM_CANCELLED)
        slm_pg_interrupted();
    if (status != SLM_OK)
        text_error(&err);
    held->pointer = tokens.ids;
    *n = tokens.n;
    return tokens.ids;
}

static Datum tokenize_text(PG_FUNCTION_ARGS)
{
    SlmOpenModel *entry;
    size_t n;
    int32_t *ids;
    ArrayType *array;
    Size bytes;

    if (PG_ARGISNULL(0))
        PG_RETURN_NULL();
    entry = slm_pg_use_model(slm_pg_text_arg(fcinfo, 1), SLM_TASK_ANY);
    slm_pg_account_call(slm_pg_tokenize_kind.symbol, entry);
    ids = tokenize(entry, PG_GETARG_TEXT_PP(0), &n);
    if (n > MaxArraySize)
        ereport(ERROR, (slm_pg_input_error(SLM_FAULT_LONG), errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("the text has %zu tokens, too many for an array", n)));
    if (n == 0)
        PG_RETURN_ARRAYTYPE_P(construct_empty_array(INT4OID));
    bytes = ARR_OVERHEAD_NONULLS(1) + sizeof(int32) * n;
    array = palloc(bytes);
    SET_VARSIZE(array, bytes);
    array->ndim = 1;
    array->dataoffset = 0; /* no nulls */
    array->elemtype = INT4OID;
    ARR_DIMS(array)[0] = (int) n;
    ARR_LBOUND(array)[0] = 1;
    slm_pg_copy((char *) array + ARR_OVERHEAD_NONULLS(1), ids, sizeof(int32) * n);
    PG_RETURN_ARRAYTYPE_P(array);
}

const SlmWorkKind slm_pg_tokenize_kind = {.symbol = "slm_pg_tokenize", .task = SLM_TASK_ANY, .answers = SLM_ANSWERS_NO_MODEL};

Datum slm_pg_tokenize(PG_FUNCTION_ARGS)
{
    return slm_pg_guarded(tokenize_text, fcinfo);
}

/* Arguments: input, model, embed. */
static Datum count_text(PG_FUNCTION_ARGS)
{
    bool embed = slm_pg_bool_arg(fcinfo, 2, false);
    SlmOpenModel *entry;
    size_t n;

    if (PG_ARGISNULL(0))
        PG_RETURN_NULL();
    entry = slm_pg_use_model(slm_pg_text_arg(fcinfo, 1), embed ? SLM_TASK_EMBED : SLM_TASK_ANY);
    slm_pg_account_call(slm_pg_count_tokens_kind.symbol, entry);
    (void) tokenize(entry, PG_GETARG_TEXT_PP(0), &n);
    n += embed ? slm_pg_embed_adds(entry) : 0;
    if (n > INT32_MAX)
        ereport(ERROR, (slm_pg_input_error(SLM_FAULT_LONG), errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("the text has %zu tokens, too many for an integer", n)));
    PG_RETURN_INT32((int32) n);
}

const SlmWorkKind slm_pg_count_tokens_kind = {
    .symbol = "slm_pg_count_tokens", .task = SLM_TASK_ANY, .answers = SLM_ANSWERS_NO_MODEL};

Datum slm_pg_count_tokens(PG_FUNCTION_ARGS)
{
    return slm_pg_guarded(count_text, fcinfo);
}

/* Text of ids; held by the current memory context. */
static const char *detokenize(const SlmOpenModel *entry, const int32_t *ids, size_t n, bool special, size_t *length)
{
    Held *held = hold();
    char *out;
    slm_status status;
    slm_error err;

    while ((status = slm_detokenize(slm_pg_opened_model(entry), ids, n, special, SLM_STOP, &out, length, &err)) == SLM_CANCELLED)
        slm_pg_interrupted();
    if (status != SLM_OK)
        slm_pg_error(&err, NULL);
    held->pointer = out;
    return out;
}

static Datum detokenize_ids(PG_FUNCTION_ARGS)
{
    SlmOpenModel *entry;
    ArrayType *array;
    const int32 *ids;
    const char *s;
    size_t length;
    int n;

    if (PG_ARGISNULL(0))
        PG_RETURN_NULL();
    array = PG_GETARG_ARRAYTYPE_P(0);
    entry = slm_pg_use_model(slm_pg_text_arg(fcinfo, 1), SLM_TASK_ANY);
    if (array_contains_nulls(array))
        ereport(ERROR, (slm_pg_input_error(SLM_FAULT_INVALID), errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                        errmsg("tokens must not contain nulls")));
    n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
    ids = (const void *) ((const char *) array + (ARR_HASNULL(array) ? (Size) array->dataoffset : ARR_OVERHEAD_NONULLS(ARR_NDIM(array))));
    for (int i = 0; i < n; i++) {
        if (ids[i] < 0 || (uint32) ids[i] >= slm_pg_info(entry)->n_vocab)
            ereport(ERROR, (slm_pg_input_error(SLM_FAULT_INVALID), errcode(ERRCODE_DATA_EXCEPTION),
                            errmsg("token %d is not in the model's vocabulary", ids[i]),
                            errhint("Tokens of this model are from 0 to %u.", slm_pg_info(entry)->n_vocab - 1)));
    }
    s = detokenize(entry, ids, (size_t) n, true, &length);
    PG_RETURN_TEXT_P(slm_pg_text_from_utf8(s, length));
}

const SlmWorkKind slm_pg_detokenize_kind = {.symbol = "slm_pg_detokenize", .task = SLM_TASK_ANY, .answers = SLM_ANSWERS_NO_MODEL};

Datum slm_pg_detokenize(PG_FUNCTION_ARGS)
{
    return slm_pg_guarded(detokenize_ids, fcinfo);
}

/* Tokens of a piece by itself: of what an encoder reads, the rest are its special tokens and the prompt that slm_embed adds. */
static int piece_tokens(FunctionCallInfo fcinfo, const SlmOpenModel *entry)
{
    const slm_model_info *info = slm_pg_info(entry);
    int adds = info->can_generate ? 0 : (int) slm_pg_embed_adds(entry);
    int otherwise = info->can_generate ? CHUNK_TOKENS : (int) info->n_context;
    int max_tokens = slm_pg_int_arg(fcinfo, 1, "max_tokens", otherwise, 1, MAX_CHUNK_TOKENS);

    if (max_tokens <= adds)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("max_tokens is %d, but slm_embed alone adds %d tokens to a text", max_tokens, adds),
                        errhint("max_tokens must be from %d to %u for this model.", adds + 1, info->n_context)));
    return max_tokens - adds;
}

/* Arguments: input, max_tokens, overlap, model.  Without a model, that of slm_embed where there is one, for which pieces are made most. */
static Datum chunk_text(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
    SlmOpenModel *entry;
    Held *held;
    const char *s;
    size_t length, n, *offsets;
    int max_tokens, overlap;
    slm_status status;
    slm_error err;

    InitMaterializedSRF(fcinfo, 0);
    if (PG_ARGISNULL(0))
        return (Datum) 0;
    entry = slm_pg_use_model(slm_pg_text_arg(fcinfo, 3), slm_pg_chunk_kind.task);
    slm_pg_account_call(slm_pg_chunk_kind.symbol, entry);
    max_tokens = piece_tokens(fcinfo, entry);
    overlap = slm_pg_int_arg(fcinfo, 2, "overlap", 0, 0, MAX_CHUNK_TOKENS);
    if (overlap >= max_tokens)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("overlap must be less than max_tokens"),
                        errdetail("overlap is %d, and a piece has at most %d tokens of the text.", overlap, max_tokens)));
    held = hold();
    s = slm_pg_input_view(PG_GETARG_TEXT_PP(0), &length);
    while ((status = slm_chunk(slm_pg_opened_model(entry), s, length, (size_t) max_tokens, (size_t) overlap, SLM_STOP, &offsets, &n,
                               &err)) == SLM_CANCELLED)
        slm_pg_interrupted();
    if (status != SLM_OK)
        text_error(&err);
    held->pointer = offsets;
    for (size_t i = 0; i < n; i++) {
        Datum values[2];
        bool nulls[2] = {false, false};

        values[0] = Int32GetDatum((int32) (i + 1));
        values[1] = PointerGetDatum(slm_pg_text_from_utf8(s + offsets[2 * i], offsets[2 * i + 1] - offsets[2 * i]));
        tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
        pfree(DatumGetPointer(values[1]));
        CHECK_FOR_INTERRUPTS();
    }
    return (Datum) 0;
}

const SlmWorkKind slm_pg_chunk_kind = {.symbol = "slm_pg_chunk", .task = SLM_TASK_CHUNK, .answers = SLM_ANSWERS_NO_MODEL};

Datum slm_pg_chunk(PG_FUNCTION_ARGS)
{
    return slm_pg_guarded(chunk_text, fcinfo);
}

/* ---- log probabilities */

static slm_request logprobs_request(slm_segment *segment, const text *t, bool special, bool truncate)
{
    *segment = slm_pg_segment(SLM_ROLE_USER, SLM_SEG_SCORED | (special ? SLM_SEG_SPECIAL : 0), t);
    return (slm_request){.mode = SLM_MODE_LOGPROBS, .segments = segment, .n_segments = 1, .precise = true, .truncate = truncate};
}

static Datum text_logprobs(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
    SlmOpenModel *entry;
    slm_segment segment;
    slm_request request;
    SlmRun *run;
    const slm_result *result;
    MemoryContext row_context, old;

    InitMaterializedSRF(fcinfo, 0);
    if (PG_ARGISNULL(0) || VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(0)) == 0)
        return (Datum) 0;
    entry = slm_pg_use_model(slm_pg_text_arg(fcinfo, 1), slm_pg_token_logprobs_kind.task);
    request = logprobs_request(&segment, PG_GETARG_TEXT_PP(0), slm_pg_bool_arg(fcinfo, 2, false), slm_pg_bool_arg(fcinfo, 3, false));
    slm_pg_account_call(slm_pg_token_logprobs_kind.symbol, entry);
    run = slm_pg_start(entry, &request);
    result = slm_pg_wait(run);
    row_context = AllocSetContextCreate(CurrentMemoryContext, "slm_pg row", ALLOCSET_SMALL_SIZES);
    old = MemoryContextSwitchTo(row_context);
    for (size_t i = 0; i < result->n_scores; i++) {
        Datum values[4];
        bool nulls[4] = {false, false, false, false};
        size_t length;
        const char *token = detokenize(entry, &result->tokens[i], 1, true, &length);

        values[0] = Int32GetDatum((int32) (i + 1));
        values[1] = Int32GetDatum(result->tokens[i]);
        values[2] = PointerGetDatum(slm_pg_text_from_utf8(token, length));
        nulls[3] = result->scores[i] != result->scores[i]; /* NaN: nothing precedes it */
        values[3] = Float8GetDatum((double) result->scores[i]);
        tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
        MemoryContextReset(row_context);
        CHECK_FOR_INTERRUPTS();
    }
    MemoryContextSwitchTo(old);
    slm_pg_cancel(run);
    return (Datum) 0;
}

const SlmWorkKind slm_pg_token_logprobs_kind = {
    .symbol = "slm_pg_token_logprobs", .task = SLM_TASK_GENERATE, .answers = SLM_ANSWERS_SET};

Datum slm_pg_token_logprobs(PG_FUNCTION_ARGS)
{
    return slm_pg_guarded(text_logprobs, fcinfo);
}

static void begin_perplexity(SlmWork *work, FunctionCallInfo fcinfo)
{
    slm_segment segment;
    slm_request request;

    if (PG_ARGISNULL(0) || VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(0)) == 0) {
        slm_pg_work_decide(work, (Datum) 0, true);
        return;
    }
    request = logprobs_request(&segment, PG_GETARG_TEXT_PP(0), false, slm_pg_bool_arg(fcinfo, 2, false));
    slm_pg_work_submit(work, slm_pg_work_model(work, slm_pg_text_arg(fcinfo, 1)), &request);
}

static double perplexity(const slm_result *result, bool *isnull)
{
    double sum = 0;
    size_t n = 0;

    for (size_t i = 0; i < result->n_scores; i++) {
        if (result->scores[i] == result->scores[i]) {
            sum += (double) result->scores[i];
            n++;
        }
    }
    *isnull = n == 0; /* nothing was predicted */
    return *isnull ? 0 : slm_exp(-sum / (double) n);
}

static Datum finish_perplexity(SlmWork *work, bool *isnull)
{
    return Float8GetDatum(perplexity(slm_pg_work_result(work, 0), isnull));
}

double slm_pg_perplexity_of(SlmOpenModel *entry, const text *input, bool *isnull)
{
    slm_segment segment;
    slm_request request = logprobs_request(&segment, input, false, false);
    SlmRun *run;
    double result;

    slm_pg_account_function("slm_pg_quantize_model");
    run = slm_pg_start(entry, &request);
    result = perplexity(slm_pg_wait(run), isnull);
    slm_pg_cancel(run);
    return result;
}

const SlmWorkKind slm_pg_perplexity_kind = {
    .symbol = "slm_pg_perplexity", .task = SLM_TASK_GENERATE, .begin = begin_perplexity, .finish = finish_perplexity};

Datum slm_pg_perplexity(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_perplexity_kind, fcinfo);
}
