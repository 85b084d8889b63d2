/*
 * args.h: arguments of the SQL functions, read and range-checked in one place.
 *
 * No function is STRICT: a NULL text gives NULL, any other NULL means the default of that argument.
 */
#ifndef SLM_PG_ARGS_H
#define SLM_PG_ARGS_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/jsonb.h"

#include "engine/slm.h"

static inline text *slm_pg_text_arg(FunctionCallInfo fcinfo, int i)
{
    return PG_ARGISNULL(i) ? NULL : PG_GETARG_TEXT_PP(i);
}

static inline bool slm_pg_bool_arg(FunctionCallInfo fcinfo, int i, bool otherwise)
{
    return PG_ARGISNULL(i) ? otherwise : PG_GETARG_BOOL(i);
}

/* NULL, or nothing but white space: nothing to work on. */
bool slm_pg_blank_arg(FunctionCallInfo fcinfo, int i);
/* A list that a driver binds without a type arrives as the text {"a","b"} where the function takes one text: an ERROR with this hint.
 * Only of what a client's own statement gives as a constant or parameter, never of a row. */
void slm_pg_refuse_list(FunctionCallInfo fcinfo, int i, const char *hint);
/* [min, max], else an ERROR that names both. */
int slm_pg_int_arg(FunctionCallInfo fcinfo, int i, const char *name, int otherwise, int min, int max);
/* [min, max]; open_min and open_max exclude the bound; NaN is refused. */
double slm_pg_float_arg(FunctionCallInfo fcinfo, int i, const char *name, double otherwise, double min, bool open_min, double max,
                        bool open_max);
/* The number of a JSON option, [min, max], maybe whole; hint: for what is no such number. */
double slm_pg_option_number(const char *key, const JsonbValue *value, double min, double max, bool whole, const char *hint);
/* The strings of a text[] in UTF-8; NULL array gives 0 strings; NULL or empty elements are an ERROR. */
const char **slm_pg_strings_arg(FunctionCallInfo fcinfo, int i, const char *name, int max, int *n);
/* max_tokens, temperature, top_k, top_p, min_p, repeat_penalty, seed, stop: eight arguments from `first` on. */
void slm_pg_sampling_args(FunctionCallInfo fcinfo, int first, slm_request *request);
/* A segment of a text argument; what is no prefix is the row's own. */
slm_segment slm_pg_segment(slm_role role, unsigned flags, const text *t);
slm_segment slm_pg_segment_utf8(slm_role role, unsigned flags, const char *s);

#endif
