/*
 * generate.c: slm_generate, slm_generate_details, slm_generate_stream, slm_chat.
 *
 * The first three take the same arguments in the same order.  The system text is a prefix segment: its keys and values are computed
 * once per session and used again for every row.  The prompt is a user's turn; control tokens written in it stay plain text.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/client.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/base/guc.h"
#include "pg/base/row_error.h"
#include "pg/functions/generate.h"
#include "pg/functions/kinds.h"
#include "pg/models/catalog.h"
#include "pg/run/accounts.h"
#include "pg/run/backend.h"
#include "pg/run/use.h"
#include "pg/run/work.h"

PG_FUNCTION_INFO_V1(slm_pg_generate);
PG_FUNCTION_INFO_V1(slm_pg_generate_details);
PG_FUNCTION_INFO_V1(slm_pg_generate_stream);
PG_FUNCTION_INFO_V1(slm_pg_chat);

enum { ARG_PROMPT, ARG_MODEL };

static const char *const finish_names[] = {"stop", "length", "context"};

SlmOpenModel *slm_pg_generate_request(FunctionCallInfo fcinfo, int first, const char *instruction, slm_request *request,
                                      slm_segment *segments)
{
    int system = first + 1, sampling = first + 2, chat = sampling + 8;

    *request = (slm_request){.mode = SLM_MODE_GENERATE, .speculate = slm_guc_speculate, .segments = segments};
    slm_pg_sampling_args(fcinfo, sampling, request);
    request->chat = slm_pg_bool_arg(fcinfo, chat, true);
    request->truncate = slm_pg_bool_arg(fcinfo, chat + 1, false);
    if (!PG_ARGISNULL(system)) {
        if (!request->chat)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a system text needs a chat"),
                            errhint("Leave chat => false out, or put the system text at the beginning of the prompt.")));
        segments[request->n_segments++] = slm_pg_segment(SLM_ROLE_SYSTEM, SLM_SEG_PREFIX, PG_GETARG_TEXT_PP(system));
    }
    if (instruction != NULL && request->chat && request->n_segments > 0)
        instruction = psprintf("%s\n\n%s", pnstrdup(segments[0].text, segments[0].length), instruction);
    if (instruction != NULL && request->chat) {
        segments[0] = slm_pg_segment_utf8(SLM_ROLE_SYSTEM, SLM_SEG_PREFIX, instruction);
        request->n_segments = 1;
    }
    segments[request->n_segments++] = slm_pg_segment(SLM_ROLE_USER, 0, PG_GETARG_TEXT_PP(ARG_PROMPT));
    return slm_pg_use_model(slm_pg_text_arg(fcinfo, first), slm_pg_generate_kind.task);
}

static void begin_generate(SlmWork *work, FunctionCallInfo fcinfo)
{
    slm_segment segments[2];
    slm_request request;
    SlmOpenModel *entry;

    if (PG_ARGISNULL(ARG_PROMPT)) {
        slm_pg_work_decide(work, (Datum) 0, true);
        return;
    }
    entry = slm_pg_generate_request(fcinfo, ARG_MODEL, NULL, &request, segments);
    slm_pg_work_submit(work, entry, &request);
}

static Datum finish_generate(SlmWork *work, bool *isnull)
{
    const slm_result *result = slm_pg_work_result(work, 0);

    return PointerGetDatum(slm_pg_text_from_utf8(result->text, result->text_length));
}

const SlmWorkKind slm_pg_generate_kind = {
    .symbol = "slm_pg_generate", .task = SLM_TASK_GENERATE, .begin = begin_generate, .finish = finish_generate};

Datum slm_pg_generate(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_generate_kind, fcinfo);
}

/* ---- slm_generate_details */

static Datum finish_details(SlmWork *work, bool *isnull)
{
    const slm_result *result = slm_pg_work_result(work, 0);
    Datum values[8] = {0};
    bool nulls[8] = {[7] = true};

    values[0] = PointerGetDatum(slm_pg_text_from_utf8(result->text, result->text_length));
    values[1] = CStringGetTextDatum(finish_names[result->finish]);
    values[2] = Int32GetDatum((int32) result->usage.prompt_tokens);
    values[3] = Int32GetDatum((int32) result->usage.reused_tokens);
    values[4] = Int32GetDatum((int32) result->usage.output_tokens);
    values[5] = Float8GetDatum(1e-6 * (double) (result->usage.prefill_ns + result->usage.decode_ns));
    values[6] = Float8GetDatum(1e-6 * (double) result->usage.prefill_ns);
    return slm_pg_work_row(work, values, nulls);
}

const SlmWorkKind slm_pg_generate_details_kind = {
    .symbol = "slm_pg_generate_details", .task = SLM_TASK_GENERATE, .details = true, .begin = begin_generate, .finish = finish_details};

Datum slm_pg_generate_details(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_generate_details_kind, fcinfo);
}

/* ---- slm_generate_stream */

/* The next piece of a stream as text, or NULL at its end. */
static text *next_piece(SlmRun *run)
{
    const char *piece;
    size_t length;
    bool sent = false;

    for (;;) {
        if (slm_pg_piece(run, &piece, &length))
            return slm_pg_text_from_utf8(piece, length);
        if (slm_pg_poll(run) != NULL) {
            (void) slm_pg_wait(run); /* raises the request's error */
            slm_pg_cancel(run);
            return NULL;
        }
        if (!sent)
            slm_pg_send_rows(); /* the pieces before */
        sent = true;
        slm_pg_step(run);
    }
}

/* The SlmRun of a stream; NULL where an error of the prompt means no rows. */
static Datum start_stream(PG_FUNCTION_ARGS)
{
    slm_segment segments[2];
    slm_request request;
    SlmOpenModel *entry = slm_pg_generate_request(fcinfo, ARG_MODEL, NULL, &request, segments);

    request.stream = true;
    slm_pg_account_call(slm_pg_generate_stream_kind.symbol, entry);
    return PointerGetDatum(slm_pg_start(entry, &request));
}

const SlmWorkKind slm_pg_generate_stream_kind = {
    .symbol = "slm_pg_generate_stream", .task = SLM_TASK_GENERATE, .answers = SLM_ANSWERS_SET};

Datum slm_pg_generate_stream(PG_FUNCTION_ARGS)
{
    FuncCallContext *funcctx;
    text *piece;

    if (SRF_IS_FIRSTCALL()) {
        MemoryContext old;

        funcctx = SRF_FIRSTCALL_INIT();
        old = MemoryContextSwitchTo(funcctx->multi_call_memory_ctx);
        if (!PG_ARGISNULL(ARG_PROMPT))
            funcctx->user_fctx = DatumGetPointer(slm_pg_guarded(start_stream, fcinfo));
        MemoryContextSwitchTo(old);
    }
    funcctx = SRF_PERCALL_SETUP();
    if (funcctx->user_fctx == NULL)
        SRF_RETURN_DONE(funcctx);
    piece = next_piece(funcctx->user_fctx);
    if (piece == NULL)
        SRF_RETURN_DONE(funcctx);
    SRF_RETURN_NEXT(funcctx, PointerGetDatum(piece));
}

/* ---- slm_chat */

static pg_noreturn void bad_messages(const char *why);

static void bad_messages(const char *why)
{
    ereport(ERROR, (slm_pg_input_error(SLM_FAULT_INVALID), errcode(ERRCODE_INVALID_JSON_TEXT), errmsg("invalid chat messages: %s", why),
                    errhint("Pass an array such as '[{\"role\": \"system\", \"content\": \"...\"}, "
                            "{\"role\": \"user\", \"content\": \"...\"}]'.")));
    pg_unreachable();
}

static char *string_of(JsonbContainer *object, const char *key)
{
    JsonbValue *value = getKeyJsonValueFromContainer(object, key, (int) strlen(key), NULL);

    if (value == NULL || value->type != jbvString)
        bad_messages(psprintf("each message needs a string \"%s\"", key));
    return pnstrdup(value->val.string.val, value->val.string.len);
}

/* The messages as segments: a first system message is a shared prefix. */
slm_segment *slm_pg_parse_messages(Jsonb *messages, size_t *n)
{
    static const char *const roles[] = {"system", "user", "assistant"};
    uint32 count = JB_ROOT_IS_ARRAY(messages) && !JB_ROOT_IS_SCALAR(messages) ? JB_ROOT_COUNT(messages) : 0;
    slm_segment *segments;

    if (count == 0)
        bad_messages("they must be an array that is not empty");
    segments = palloc0(sizeof(slm_segment) * count);
    for (uint32 i = 0; i < count; i++) {
        JsonbValue *message = getIthJsonbValueFromContainer(&messages->root, i);
        char *role;
        int r = 0;

        if (message->type != jbvBinary || !JsonContainerIsObject(message->val.binary.data))
            bad_messages("each must be an object");
        role = string_of(message->val.binary.data, "role");
        while (r < (int) lengthof(roles) && strcmp(roles[r], role) != 0)
            r++;
        if (r == (int) lengthof(roles))
            bad_messages(psprintf("\"%s\" is no role, which is system, user or assistant", role));
        if (r == SLM_ROLE_SYSTEM && i > 0)
            bad_messages("only the first may be a system message");
        segments[i] = slm_pg_segment_utf8((slm_role) r, r == SLM_ROLE_SYSTEM ? SLM_SEG_PREFIX : 0,
                                          slm_pg_input_utf8(cstring_to_text(string_of(message->val.binary.data, "content")), NULL));
    }
    if (segments[count - 1].role == SLM_ROLE_SYSTEM)
        bad_messages("there is no user message");
    *n = count;
    return segments;
}

static void begin_chat(SlmWork *work, FunctionCallInfo fcinfo)
{
    slm_request request = {.mode = SLM_MODE_GENERATE, .speculate = slm_guc_speculate, .chat = true};

    if (PG_ARGISNULL(0)) {
        slm_pg_work_decide(work, (Datum) 0, true);
        return;
    }
    slm_pg_sampling_args(fcinfo, 2, &request);
    request.truncate = slm_pg_bool_arg(fcinfo, 10, false);
    request.segments = slm_pg_parse_messages(PG_GETARG_JSONB_P(0), &request.n_segments);
    slm_pg_work_submit(work, slm_pg_work_model(work, slm_pg_text_arg(fcinfo, 1)), &request);
}

const SlmWorkKind slm_pg_chat_kind = {
    .symbol = "slm_pg_chat", .task = SLM_TASK_GENERATE, .begin = begin_chat, .finish = finish_generate};

Datum slm_pg_chat(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_chat_kind, fcinfo);
}
