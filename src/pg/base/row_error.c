/*
 * row_error.c: errors of the input (row_error.h).
 *
 * An error is marked while it is made and looked at by the nearest slm_pg_try_row, without a subtransaction: what raises a marked error
 * holds nothing at that point but memory.  Invariant: the mark is cleared where a try begins, so that only an error of its own body, in
 * which no code of users runs, can be taken for one of the input.
 */
#include "pg/base/row_error.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "engine/slm.h"
#include "pg/base/encoding.h"
#include "pg/base/row_count.h"
#include "pg/base/statement.h"

static int guc_on_error = SLM_ON_ERROR_ERROR;
static SlmFault marked; /* of the error that is under way */

static const struct config_enum_entry on_error_options[] = {
    {"error", SLM_ON_ERROR_ERROR, false}, {"null", SLM_ON_ERROR_NULL, false}, {NULL, 0, false}};

SlmOnError slm_pg_on_error_arg(FunctionCallInfo fcinfo)
{
    int last = PG_NARGS() - 1;
    char *name;

    if (PG_ARGISNULL(last))
        return SLM_ON_ERROR_DEFAULT;
    name = text_to_cstring(PG_GETARG_TEXT_PP(last));
    for (const struct config_enum_entry *option = on_error_options; option->name != NULL; option++)
        if (pg_strcasecmp(option->name, name) == 0)
            return (SlmOnError) option->val;
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("on_error is \"%s\"", name),
                    errhint("on_error is 'error' or 'null'.")));
    pg_unreachable();
}

bool slm_pg_gives_null(FunctionCallInfo fcinfo)
{
    SlmOnError said = slm_pg_on_error_arg(fcinfo);

    return (said == SLM_ON_ERROR_DEFAULT ? guc_on_error : (int) said) == SLM_ON_ERROR_NULL;
}

int slm_pg_input_error(SlmFault fault)
{
    marked = fault;
    return 0;
}

SlmFault slm_pg_fault_of(slm_cause cause)
{
    switch (cause) {
        case SLM_CAUSE_LONG:
            return SLM_FAULT_LONG;
        case SLM_CAUSE_EMPTY:
            return SLM_FAULT_EMPTY;
        case SLM_CAUSE_BAD_TEXT:
            return SLM_FAULT_INVALID;
        case SLM_CAUSE_NONE:
        case SLM_CAUSE_POISON:
            break;
    }
    return SLM_FAULT_NONE;
}

const char *slm_pg_input_view(const text *t, size_t *length)
{
    const char *result;

    marked = SLM_FAULT_INVALID; /* should the conversion fail */
    result = slm_pg_utf8_view(t, length);
    marked = SLM_FAULT_NONE;
    return result;
}

const char *slm_pg_input_utf8(const text *t, size_t *length)
{
    const char *result;

    marked = SLM_FAULT_INVALID;
    result = slm_pg_utf8_from_text(t, length);
    marked = SLM_FAULT_NONE;
    return result;
}

SlmFault slm_pg_try_row(void (*body)(void *arg), void *arg, char **message)
{
    MemoryContext context = CurrentMemoryContext;
    volatile SlmFault fault = SLM_FAULT_NONE;

    marked = SLM_FAULT_NONE;
    PG_TRY();
    {
        body(arg);
    }
    PG_CATCH();
    {
        ErrorData *error;

        if (marked == SLM_FAULT_NONE)
            PG_RE_THROW();
        fault = marked;
        marked = SLM_FAULT_NONE;
        MemoryContextSwitchTo(context);
        error = CopyErrorData();
        FlushErrorState();
        *message = pstrdup(error->message != NULL ? error->message : "");
        FreeErrorData(error);
    }
    PG_END_TRY();
    return fault;
}

typedef struct Guarded {
    PGFunction function;
    FunctionCallInfo fcinfo;
    Datum result;
} Guarded;

static void call_guarded(void *arg)
{
    Guarded *g = arg;

    g->result = g->function(g->fcinfo);
}

Datum slm_pg_guarded(PGFunction function, FunctionCallInfo fcinfo)
{
    Guarded g = {function, fcinfo, (Datum) 0};
    SlmRowNote note;
    char *message;

    if (!slm_pg_gives_null(fcinfo))
        return function(fcinfo);
    slm_pg_row_note(&note, fcinfo, true, 0, 1);
    note.fault = slm_pg_try_row(call_guarded, &g, &message);
    slm_pg_count_row(&note);
    if (note.fault == SLM_FAULT_NONE)
        return g.result;
    fcinfo->isnull = true;
    return (Datum) 0;
}

void slm_pg_row_error_init(void)
{
    DefineCustomEnumVariable("slm.on_error", "What a text that a function cannot take does: error ends the statement, null gives NULL.",
                             "The argument on_error of a call comes first. Errors of the server, of privileges and of other arguments end "
                             "the statement in any case.",
                             &guc_on_error, SLM_ON_ERROR_ERROR, on_error_options, PGC_USERSET, 0, NULL, NULL, NULL);
    slm_pg_row_count_init();
    slm_pg_statement_init();
}
