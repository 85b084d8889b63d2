/*
 * accounts.h: what this process computes, by who pays, function and model, on its way to the ledger (accounts.c).
 */
#ifndef SLM_PG_ACCOUNTS_H
#define SLM_PG_ACCOUNTS_H

#include "postgres.h"

#include "engine/slm.h"
#include "pg/run/opened.h"

/* Lives as long as the process. */
typedef struct SlmAccount SlmAccount;

/* Who pays: the role that the session is set to (SET ROLE), whoever's rights a function lends; of a job its owner. */
Oid slm_pg_payer(void);
/* Set while a job computes: its owner. */
extern Oid slm_pg_payer_of_job;

/* Requests are made for this function from now on: the symbol or the name of one of ours, a string that stays. NULL: the one before. */
void slm_pg_account_function(const char *symbol);
/* The account of that function, of who pays, and of a model. */
SlmAccount *slm_pg_account_of(const SlmOpenModel *opened);
/* The one that was asked for last since slm_pg_account_function; NULL: none. */
SlmAccount *slm_pg_account_last(void);
/* account may be NULL. */
void slm_pg_account_calls(SlmAccount *account, uint64 calls, uint64 distinct_calls);
void slm_pg_account_usage(SlmAccount *account, const slm_usage *usage);
/* One call of a function that is no work. */
void slm_pg_account_call(const char *symbol, const SlmOpenModel *opened);

/* Hands what has come together over to the ledger: at once, or where the last time is a second ago. */
void slm_pg_accounts_flush(bool now);

#endif
