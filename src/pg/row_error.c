/*
 * row_error.c: errors of the input (row_error.h).
 */
#include "pg/row_error.h"

#include "utils/builtins.h"
#include "utils/guc.h"

static int guc_on_error = SLM_ON_ERROR_ERROR;

static const struct config_enum_entry on_error_options[] = {
    {"error", SLM_ON_ERROR_ERROR, false}, {"null", SLM_ON_ERROR_NULL, false}, {NULL, 0, false}};

SlmOnError slm_pg_on_error(FunctionCallInfo fcinfo)
{
    int last = PG_NARGS() - 1;
    char *name;

    if (PG_ARGISNULL(last))
        return (SlmOnError) guc_on_error;
    name = text_to_cstring(PG_GETARG_TEXT_PP(last));
    for (const struct config_enum_entry *option = on_error_options; option->name != NULL; option++)
        if (pg_strcasecmp(option->name, name) == 0)
            return (SlmOnError) option->val;
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("on_error is \"%s\"", name),
                    errhint("on_error is 'error' or 'null'.")));
    pg_unreachable();
}

void slm_pg_row_error_init(void)
{
    DefineCustomEnumVariable("slm.on_error", "What a text that a function cannot take does: error ends the statement, null gives NULL.",
                             "The argument on_error of a call comes first. Errors of the server, of privileges and of other arguments end "
                             "the statement in any case.",
                             &guc_on_error, SLM_ON_ERROR_ERROR, on_error_options, PGC_USERSET, 0, NULL, NULL, NULL);
}
