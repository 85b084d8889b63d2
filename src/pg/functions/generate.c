/*
 * generate.c: slm_generate, slm_generate_details, slm_generate_stream, slm_chat.
 *
 * The first three take the same arguments in the same order.  The system text is a prefix segment: its keys and values are computed
 * once per session and used again for every row.  The prompt is a user's turn; control tokens written in it stay plain text.
 *
 *   system | words of a named prompt | prompt, or what is filled in | suffix ──► prefill | answer
 *
 * prefill begins the assistant's turn, and the answer with it.
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
#include "pg/functions/prompts.h"
#include "pg/models/catalog.h"
#include "pg/run/accounts.h"
#include "pg/run/backend.h"
#include "pg/run/use.h"
#include "pg/run/work.h"

PG_FUNCTION_INFO_V1(slm_pg_generate);
PG_FUNCTION_INFO_V1(slm_pg_generate_details);
PG_FUNCTION_INFO_V1(slm_pg_generate_stream);
PG_FUNCTION_INFO_V1(slm_pg_chat);

enum { ARG_PROMPT, ARG_MODEL, ARG_CHAT = ARG_MODEL + 10, ARG_TRUNCATE, ARG_PREFILL, ARG_SUFFIX, ARG_PROMPT_NAME, ARG_VARIABLES };

static const char *const finish_names[] = {"stop", "length", "context"};

/* All of a request but the user's turn: n_segments is 1 where there is a system text. */
static SlmOpenModel *begin_request(FunctionCallInfo fcinfo, int first, const char *schema, slm_request *request, slm_segment *segments)
{
    int system = first + 1, sampling = first + 2, chat = sampling + 8;
    SlmOpenModel *entry;

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
    entry = slm_pg_use_model(slm_pg_text_arg(fcinfo, first), slm_pg_generate_kind.task);
    if (schema != NULL && request->chat) {
        const char *instruction = slm_pg_schema_instruction(entry, schema);

        if (request->n_segments > 0)
            instruction = psprintf("%s\n\n%s", pnstrdup(segments[0].text, segments[0].length), instruction);
        else
            request->public_bytes = slm_pg_public_bytes(slm_pg_prompt(SLM_PROMPT_SCHEMA, entry));
        segments[0] = slm_pg_segment_utf8(SLM_ROLE_SYSTEM, SLM_SEG_PREFIX, instruction);
        request->n_segments = 1;
    }
    return entry;
}

/* What stands behind the prompt; returns what the answer begins with. */
static const char *put_tail(FunctionCallInfo fcinfo, int prefill_arg, slm_request *request, slm_segment *segments)
{
    int suffix_arg = prefill_arg + 1;
    const char *prefill = "";

    if (!PG_ARGISNULL(suffix_arg))
        segments[request->n_segments++] = slm_pg_segment_utf8(SLM_ROLE_USER, SLM_SEG_JOIN | SLM_SEG_WHOLE,
                                                              slm_pg_utf8_from_text(PG_GETARG_TEXT_PP(suffix_arg), NULL));
    if (!PG_ARGISNULL(prefill_arg))
        prefill = slm_pg_utf8_from_text(PG_GETARG_TEXT_PP(prefill_arg), NULL);
    if (*prefill != '\0')
        segments[request->n_segments++] = slm_pg_segment_utf8(SLM_ROLE_ASSISTANT, SLM_SEG_WHOLE, prefill);
    return prefill;
}

SlmOpenModel *slm_pg_generate_request(FunctionCallInfo fcinfo, int first, const char *schema, slm_request *request,
                                      slm_segment *segments, const char **prefill)
{
    SlmOpenModel *entry = begin_request(fcinfo, first, schema, request, segments);

    segments[request->n_segments++] = slm_pg_segment(SLM_ROLE_USER, 0, PG_GETARG_TEXT_PP(ARG_PROMPT));
    *prefill = put_tail(fcinfo, first + ARG_PREFILL - ARG_MODEL, request, segments);
    return entry;
}

/* ---- prompts by name */

static pg_noreturn void bad_variables(const char *message, const char *hint);

static void bad_variables(const char *message, const char *hint)
{
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", message), errhint("%s", hint)));
    pg_unreachable();
}

/* The argument variables, and {prompt} where the call has a prompt; false: one is null, and so is the answer. */
static bool read_variables(FunctionCallInfo fcinfo, SlmVariable **variables, int *n)
{
    Jsonb *given = PG_ARGISNULL(ARG_VARIABLES) ? NULL : PG_GETARG_JSONB_P(ARG_VARIABLES);
    JsonbIterator *it;
    JsonbIteratorToken token;
    JsonbValue v;

    *n = 0;
    *variables = palloc(sizeof **variables * (Size) (given == NULL ? 1 : JB_ROOT_COUNT(given) + 1));
    if (!PG_ARGISNULL(ARG_PROMPT))
        (*variables)[(*n)++] = (SlmVariable){.name = "prompt", .value = slm_pg_utf8_from_text(PG_GETARG_TEXT_PP(ARG_PROMPT), NULL)};
    if (given == NULL)
        return true;
    if (!JB_ROOT_IS_OBJECT(given))
        bad_variables("variables is not a JSON object", "For example: variables => jsonb_build_object('body', body)");
    it = JsonbIteratorInit(&given->root);
    while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE) {
        SlmVariable *last = &(*variables)[*n];

        if (token == WJB_KEY) {
            last->name = slm_pg_utf8_from_cstring(pnstrdup(v.val.string.val, v.val.string.len));
            last->used = false;
        } else if (token == WJB_VALUE) {
            if (v.type == jbvNull)
                return false;
            last->value = slm_pg_utf8_from_cstring(v.type == jbvString ? pnstrdup(v.val.string.val, v.val.string.len)
                                                                       : JsonbToCString(NULL, &JsonbValueToJsonb(&v)->root, 64));
            (*n)++;
        }
    }
    return true;
}

/* Every {placeholder} of a prompt has a value, but for {prompt} of a call without one; false then. */
static bool check_variables(const char *name, const char *words, const SlmVariable *variables, int n)
{
    size_t length;

    for (const char *p = slm_pg_next_placeholder(words, &length); p != NULL; p = slm_pg_next_placeholder(p + length, &length)) {
        bool found = false;

        for (int i = 0; i < n && !found; i++)
            found = strlen(variables[i].name) == length - 2 && strncmp(variables[i].name, p + 1, length - 2) == 0;
        if (!found && length == strlen("{prompt}") && strncmp(p, "{prompt}", length) == 0)
            return false;
        if (!found)
            bad_variables(psprintf("prompt \"%s\" has %.*s, for which variables has no value", name, (int) length, p),
                          psprintf("For example: variables => jsonb_build_object('%.*s', ...)", (int) length - 2, p + 1));
    }
    return true;
}

/* The user's turn by a named prompt: its words up to the first placeholder are the prefix of all rows. false: a value is null. */
static bool put_named(FunctionCallInfo fcinfo, const SlmOpenModel *entry, slm_request *request, slm_segment *segments)
{
    const char *name = text_to_cstring(PG_GETARG_TEXT_PP(ARG_PROMPT_NAME)), *words, *first;
    slm_segment *at = segments + request->n_segments;
    SlmVariable *variables;
    size_t length, public_bytes;
    int n;

    words = slm_pg_named_prompt(name, entry, &public_bytes);
    if (!read_variables(fcinfo, &variables, &n) || !check_variables(name, words, variables, n))
        return false;
    first = slm_pg_next_placeholder(words, &length);
    length = first == NULL ? strlen(words) : (size_t) (first - words);
    if (length > 0)
        *at++ = (slm_segment){.role = SLM_ROLE_USER, .flags = SLM_SEG_PREFIX, .text = words, .length = length};
    if (first != NULL)
        *at++ = slm_pg_segment_utf8(SLM_ROLE_USER, length > 0 ? SLM_SEG_JOIN : 0, slm_pg_fill_variables(first, variables, n));
    for (int i = 0; i < n; i++)
        if (!variables[i].used)
            bad_variables(psprintf("prompt \"%s\" has no placeholder {%s}", name, slm_pg_cstring_from_utf8(variables[i].name)),
                          "Leave the value out. The text is in slm.prompts.");
    request->public_bytes = request->n_segments == 0 ? public_bytes : 0; /* behind a system text nothing is */
    request->n_segments = (size_t) (at - segments);
    return true;
}

/* ---- slm_generate */

#define MOST_SEGMENTS (SLM_GENERATE_SEGMENTS + 1) /* system, words of a named prompt and what is filled in, suffix, prefill */

/* The request of slm_generate and its kin; NULL: the answer is null. *prefill: what it begins with, in UTF-8. */
static SlmOpenModel *generate_request(FunctionCallInfo fcinfo, slm_request *request, slm_segment *segments, const char **prefill)
{
    SlmOpenModel *entry;

    *prefill = "";
    if (PG_ARGISNULL(ARG_PROMPT_NAME) && !PG_ARGISNULL(ARG_VARIABLES))
        bad_variables("variables are given without prompt_name", "Pass prompt_name => 'name', or put the values into the prompt.");
    if (PG_ARGISNULL(ARG_PROMPT_NAME) && PG_ARGISNULL(ARG_PROMPT))
        return NULL;
    entry = begin_request(fcinfo, ARG_MODEL, NULL, request, segments);
    if (PG_ARGISNULL(ARG_PROMPT_NAME))
        segments[request->n_segments++] = slm_pg_segment(SLM_ROLE_USER, 0, PG_GETARG_TEXT_PP(ARG_PROMPT));
    else if (!put_named(fcinfo, entry, request, segments))
        return NULL;
    *prefill = put_tail(fcinfo, ARG_PREFILL, request, segments);
    return entry;
}

static void begin_generate(SlmWork *work, FunctionCallInfo fcinfo)
{
    slm_segment segments[MOST_SEGMENTS];
    slm_request request;
    const char *prefill;
    SlmOpenModel *entry = generate_request(fcinfo, &request, segments, &prefill);

    if (entry == NULL) {
        slm_pg_work_decide(work, (Datum) 0, true);
        return;
    }
    slm_pg_work_set_state(work, unconstify(char *, prefill));
    slm_pg_work_submit(work, entry, &request);
}

text *slm_pg_whole_answer(const char *prefill, const slm_result *result)
{
    size_t length = strlen(prefill);
    char *whole;

    if (length == 0)
        return slm_pg_text_from_utf8(result->text, result->text_length);
    whole = palloc(length + result->text_length);
    memcpy(whole, prefill, length);
    memcpy(whole + length, result->text, result->text_length);
    return slm_pg_text_from_utf8(whole, length + result->text_length);
}

static Datum whole_answer(SlmWork *work)
{
    return PointerGetDatum(slm_pg_whole_answer(slm_pg_work_state(work), slm_pg_work_result(work, 0)));
}

static Datum finish_generate(SlmWork *work, bool *isnull)
{
    return whole_answer(work);
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

    values[0] = whole_answer(work);
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

typedef struct Stream {
    SlmRun *run;
    const char *prefill; /* UTF-8; "": there is none, or it was handed on */
} Stream;

/* The next piece of a stream as text, or NULL at its end. */
static text *next_piece(Stream *s)
{
    const char *piece;
    size_t length;
    bool sent = false;

    if (s->prefill[0] != '\0') {
        piece = s->prefill;
        s->prefill = "";
        return slm_pg_text_from_utf8(piece, strlen(piece));
    }
    for (;;) {
        if (slm_pg_piece(s->run, &piece, &length))
            return slm_pg_text_from_utf8(piece, length);
        if (slm_pg_poll(s->run) != NULL) {
            (void) slm_pg_wait(s->run); /* raises the request's error */
            slm_pg_cancel(s->run);
            return NULL;
        }
        if (!sent)
            slm_pg_send_rows(); /* the pieces before */
        sent = true;
        slm_pg_step(s->run);
    }
}

/* A Stream; NULL where the prompt is null, or its error means no rows. */
static Datum start_stream(PG_FUNCTION_ARGS)
{
    Stream *s = palloc(sizeof *s);
    slm_segment segments[MOST_SEGMENTS];
    slm_request request;
    SlmOpenModel *entry = generate_request(fcinfo, &request, segments, &s->prefill);

    if (entry == NULL)
        return (Datum) 0;
    request.stream = true;
    slm_pg_account_call(slm_pg_generate_stream_kind.symbol, entry);
    s->run = slm_pg_start(entry, &request);
    return PointerGetDatum(s);
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
    slm_pg_work_set_state(work, "");
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
