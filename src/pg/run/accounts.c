/*
 * accounts.c: figures of this process on their way to the ledger (accounts.h).
 *
 * A request is charged when it has its answer; what was computed for requests that never got one, as they were cancelled or their statement
 * failed, when the transaction ends (local.c).  A statement that is rolled back has been computed all the same.
 *
 * Invariant: adding raises no error and takes no memory, so that it can be done while a transaction ends; an account is made when a request
 * begins.
 */
#include "pg/run/accounts.h"

#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "pg/run/internal.h"
#include "pg/run/ledger.h"

#define FLUSH_MS 1000

struct SlmAccount {
    SlmAccount *next;
    const char *function;
    Oid role;
    char model[2 * NAMEDATALEN];
    bool changed;
    SlmLedgerFigures figures;
};

Oid slm_pg_payer_of_job = InvalidOid;
static SlmAccount *accounts, *last;
static const char *function = "";
static bool changed;
static TimestampTz flushed;

Oid slm_pg_payer(void)
{
    return OidIsValid(slm_pg_payer_of_job) ? slm_pg_payer_of_job : GetOuterUserId();
}

void slm_pg_account_function(const char *symbol)
{
    function = symbol != NULL ? symbol : function;
    last = NULL;
}

static bool is_account(const SlmAccount *a, Oid role, const SlmOpenModel *opened)
{
    const char *base = opened->base != NULL ? opened->base->name : opened->name;
    size_t n = strlen(base);

    if (a->function != function || a->role != role || strncmp(a->model, base, n) != 0)
        return false;
    return opened->base == NULL ? a->model[n] == '\0' : a->model[n] == '+' && strcmp(a->model + n + 1, opened->name) == 0;
}

SlmAccount *slm_pg_account_of(const SlmOpenModel *opened)
{
    Oid role = slm_pg_payer();
    SlmAccount *a;

    for (a = accounts; a != NULL; a = a->next)
        if (is_account(a, role, opened))
            return last = a;
    a = MemoryContextAllocZero(TopMemoryContext, sizeof *a);
    a->function = function;
    a->role = role;
    if (opened->base != NULL)
        snprintf(a->model, sizeof a->model, "%s+%s", opened->base->name, opened->name);
    else
        strlcpy(a->model, opened->name, sizeof a->model);
    a->next = accounts;
    accounts = a;
    return last = a;
}

SlmAccount *slm_pg_account_last(void)
{
    return last;
}

void slm_pg_account_calls(SlmAccount *account, uint64 calls, uint64 distinct_calls)
{
    if (account == NULL)
        return;
    account->figures.calls += calls;
    account->figures.distinct_calls += distinct_calls;
    account->changed = changed = true;
}

void slm_pg_account_usage(SlmAccount *account, const slm_usage *usage)
{
    if (account == NULL)
        return;
    slm_usage_add(&account->figures.usage, usage);
    account->changed = changed = true;
}

void slm_pg_account_call(const char *symbol, const SlmOpenModel *opened)
{
    slm_pg_account_function(symbol);
    slm_pg_account_calls(slm_pg_account_of(opened), 1, 1);
}

/* As it is called in SQL. */
static void put_function(char out[NAMEDATALEN], const char *symbol)
{
    bool of_c = strncmp(symbol, "slm_pg_", 7) == 0;

    snprintf(out, NAMEDATALEN, "%s%s", of_c ? "slm_" : "", symbol + (of_c ? 7 : 0));
}

void slm_pg_accounts_flush(bool now)
{
    SlmLedgerKey key;

    if (!changed || (!now && !TimestampDifferenceExceeds(flushed, GetCurrentTimestamp(), FLUSH_MS)))
        return;
    flushed = GetCurrentTimestamp();
    changed = false;
    for (SlmAccount *a = accounts; a != NULL; a = a->next) {
        if (!a->changed)
            continue;
        memset(&key, 0, sizeof key);
        key.role = a->role;
        key.database = MyDatabaseId;
        key.day = slm_pg_ledger_today();
        strlcpy(key.application, application_name == NULL ? "" : application_name, sizeof key.application);
        put_function(key.function, a->function);
        memcpy(key.model, a->model, sizeof key.model);
        slm_pg_ledger_add(&key, &a->figures);
        memset(&a->figures, 0, sizeof a->figures);
        a->changed = false;
    }
}
