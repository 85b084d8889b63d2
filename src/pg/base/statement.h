/*
 * statement.h: the statement that a client sent, with everything that runs within it.
 */
#ifndef SLM_PG_STATEMENT_H
#define SLM_PG_STATEMENT_H

#include "postgres.h"

/* Has the outermost statement not ended yet? */
bool slm_pg_within_statement(void);
/* Is what runs the statement that a client sent, and not one within a function, a trigger or a worker? */
bool slm_pg_client_statement(void);
/* Do rows come through a view of another role? */
bool slm_pg_through_view_of_other(void);
/* Called once from _PG_init. */
void slm_pg_statement_init(void);

#endif
