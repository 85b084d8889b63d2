/*
 * earlier.h: what a database of an earlier release is told that was not updated; see earlier.c.
 *
 * Every file with entry points of SQL functions includes this header: PG_FUNCTION_INFO_V1 is written so that the server, which asks for it
 * before it calls a function through a declaration that this process has not used yet, gets a refusal where the declaration is an earlier
 * release's.
 */
#ifndef SLM_PG_EARLIER_H
#define SLM_PG_EARLIER_H

#include "fmgr.h"

/* The server's record of a function that takes its arguments as they are; an ERROR where the extension is to be updated first. */
const Pg_finfo_record *slm_pg_function_record(void);
/* Has this database the extension, of a release that the library does not serve? */
bool slm_pg_extension_is_earlier(void);

#undef PG_FUNCTION_INFO_V1
#define PG_FUNCTION_INFO_V1(function)                                  \
    extern PGDLLEXPORT Datum function(PG_FUNCTION_ARGS);               \
    extern PGDLLEXPORT const Pg_finfo_record *pg_finfo_##function(void); \
    const Pg_finfo_record *pg_finfo_##function(void)                   \
    {                                                                  \
        return slm_pg_function_record();                               \
    }                                                                  \
    extern int no_such_variable

#endif
