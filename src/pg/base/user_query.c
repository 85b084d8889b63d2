/* Users' queries that give rows (user_query.h). */
#include "postgres.h"

#include "pg/base/user_query.h"
#include "pg/base/one_expression.h"

#include "access/xact.h"

/* Between begin and end whatever runs is refused writes, as in BEGIN READ ONLY.  An error ends it with the (sub)transaction.  The variable
 * is set, not the setting transaction_read_only over it, which 16 and later let nobody set for a part of a transaction; a statement that
 * would set that off is refused as long as the variable is on.  Parallel workers write nothing anyway. */
typedef struct {
    bool read_only; /* before */
    ErrorContextCallback said;
} Reading;

static void say_it_reads(void *unused)
{
    errcontext("a query to learn from or to measure by, which only reads");
}

static void begin_reading(Reading *r)
{
    r->read_only = XactReadOnly;
    XactReadOnly = true;
    r->said = (ErrorContextCallback){error_context_stack, say_it_reads, NULL};
    error_context_stack = &r->said;
}

static void end_reading(const Reading *r)
{
    error_context_stack = r->said.previous;
    XactReadOnly = r->read_only;
}

Portal slm_pg_open_query_plan(SPIPlanPtr plan)
{
    Reading r;
    Portal portal;

    begin_reading(&r);
    portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
    end_reading(&r);
    return portal;
}

void slm_pg_refuse_name(const char *query, const char *example)
{
    if (strpbrk(query, " \t\n\r(;") == NULL)
        ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("\"%s\" is not a query", query),
                        errhint("A SELECT is expected, also for all rows of a table. For example: %s", example)));
}

Portal slm_pg_open_query(const char *query, const char *what, const char *example)
{
    SPIPlanPtr plan;

    slm_pg_refuse_name(query, example);
    plan = SPI_prepare(query, 0, NULL);
    if (plan == NULL || !SPI_is_cursor_plan(plan) || slm_pg_writes(plan))
        ereport(ERROR, (errcode(ERRCODE_INVALID_CURSOR_DEFINITION), errmsg("the query of %s must be one SELECT that writes nothing", what),
                        errhint("For example: %s", example)));
    return slm_pg_open_query_plan(plan);
}

void slm_pg_fetch_query(Portal portal, long n)
{
    Reading r;

    begin_reading(&r);
    SPI_cursor_fetch(portal, true, n);
    end_reading(&r);
}
