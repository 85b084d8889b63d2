/*
 * budget.h: how many tokens a statement and a role may compute (budget.c).
 */
#ifndef SLM_PG_BUDGET_H
#define SLM_PG_BUDGET_H

#include "postgres.h"

#include "pg/base/compat.h"
#include "pg/base/shmem.h"

/* A request is begun: whose budgets count for it? Looked up once a statement. */
void slm_pg_budget_look(void);
/* Before a step: takes up to so many tokens from every budget that counts, and returns how many the step may compute; UINT64_MAX: there
 * is no budget.  Waits where too few are left while another's step holds some, and may be cancelled then.  After the step, what was not
 * computed goes back.  Nothing between the two may raise an error. */
uint64 slm_pg_budget_take(uint64 wanted);
void slm_pg_budget_settle(uint64 taken, uint64 computed);
/* Says which budget has run out. */
pg_noreturn void slm_pg_budget_error(void);

extern const SlmShmemPart slm_pg_budget_part;
void slm_pg_budget_init(void);

#endif
