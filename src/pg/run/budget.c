/*
 * budget.c: budgets of tokens (budget.h): of a statement by slm.max_tokens_per_statement, of a role by the table slm.budget.
 *
 *   before a step   every purse that counts gives what the step may need, at most what it has left ──► the engine computes no more
 *   after it        what was not computed goes back
 *
 * So no session computes a token over a budget, however many share it.  One that finds too little left while others hold some of it waits
 * for their step to end, holding nothing itself: near its end a budget is spent by one after the other, to the last token.
 *
 * A purse is what has been spent in a period: of a statement, whose parallel workers spend from that of their leader; of a role, in this
 * database, in a day or month of UTC.  Purses are in shared memory, or in this process without preloading.  A role's begins with what the
 * ledger says.
 *
 * Locks: a purse's spinlock guards it; the LWLock of the part guards which purses there are.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "pg/base/as_owner.h"
#include "pg/base/compat.h"
#include "pg/run/accounts.h"
#include "pg/run/budget.h"
#include "pg/run/ledger.h"

#define MAX_PURSES 1024
#define WAIT_MS 5       /* for another's step */
#define MOST_WAITS 2000 /* then it is refused all the same: somebody holds on to it for ten seconds */

typedef struct Purse {
    slock_t lock;
    int64 period; /* that it was spent in: a day, the first of a month, the start of a statement */
    uint64 spent;
    uint64 held;  /* of it, by steps that go on: some of it will come back */
} Purse;

typedef struct RolePurse {
    Oid database, role;
    bool month;
    Purse purse;
} RolePurse;

typedef struct Purses {
    int n;
    RolePurse roles[MAX_PURSES];
    Purse statements[FLEXIBLE_ARRAY_MEMBER]; /* [slm_pg_n_slots()] */
} Purses;

static Purses *purses; /* NULL: not preloaded */
static LWLock *lock;
static RolePurse own_roles[2];
static Purse own_statement;
static int max_tokens_per_statement;

/* What counts for the requests that run: the statement's purse, the role's of a day and of a month. */
enum { OF_STATEMENT, OF_DAY, OF_MONTH, N_BOUNDS };
typedef struct Bound {
    Purse *purse; /* NULL: no limit */
    int64 period;
    uint64 tokens;
} Bound;
static Bound limits[N_BOUNDS];
static TimestampTz looked;
static Oid payer;

/* ---- purses */

static uint64 take(const Bound *limit, uint64 wanted)
{
    Purse *p = limit->purse;
    uint64 left;

    SpinLockAcquire(&p->lock);
    if (p->period != limit->period) {
        p->period = limit->period;
        p->spent = 0;
        p->held = 0;
    }
    left = limit->tokens > p->spent ? limit->tokens - p->spent : 0;
    wanted = Min(wanted, left);
    p->spent += wanted;
    p->held += wanted;
    SpinLockRelease(&p->lock);
    return wanted;
}

/* Of what is held, so much is held no more, and so much of that was not spent. */
static void give_back(const Bound *limit, uint64 held, uint64 unspent)
{
    Purse *p = limit->purse;

    SpinLockAcquire(&p->lock);
    if (p->period == limit->period) {
        p->held -= Min(held, p->held);
        p->spent -= Min(unspent, p->spent);
    }
    SpinLockRelease(&p->lock);
}

/* What every purse has for it; *others: somebody else holds some of one that has too little. */
static uint64 take_once(uint64 wanted, bool *others)
{
    uint64 taken = wanted;

    *others = false;
    for (int i = 0; i < N_BOUNDS; i++) {
        uint64 given;

        if (limits[i].purse == NULL)
            continue;
        given = take(&limits[i], taken);
        *others = *others || (given < taken && limits[i].purse->held > given);
        for (int k = 0; k < i; k++)
            if (limits[k].purse != NULL)
                give_back(&limits[k], taken - given, taken - given);
        taken = given;
    }
    return taken;
}

uint64 slm_pg_budget_take(uint64 wanted)
{
    uint64 taken;
    bool others, any = false;

    for (int i = 0; i < N_BOUNDS; i++)
        any = any || limits[i].purse != NULL;
    if (!any)
        return UINT64_MAX;
    for (int tries = 0;; tries++) {
        taken = take_once(wanted, &others);
        if (!others || tries == MOST_WAITS)
            return taken;
        slm_pg_budget_settle(taken, 0);
        CHECK_FOR_INTERRUPTS();
        (void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, WAIT_MS, PG_WAIT_EXTENSION);
    }
}

void slm_pg_budget_settle(uint64 taken, uint64 computed)
{
    for (int i = 0; taken != UINT64_MAX && i < N_BOUNDS; i++)
        if (limits[i].purse != NULL)
            give_back(&limits[i], taken, taken > computed ? taken - computed : 0);
}

/* ---- whose they are */

static void count_spent(void *arg, const SlmLedgerKey *key, const SlmLedgerFigures *figures)
{
    RolePurse *r = arg;

    if (key->role == r->role && key->database == r->database && key->day >= r->purse.period)
        r->purse.spent += slm_pg_ledger_tokens(figures);
}

static void make_purse(RolePurse *r, bool month, int64 period)
{
    *r = (RolePurse){.database = MyDatabaseId, .role = payer, .month = month, .purse = {.period = period}};
    SpinLockInit(&r->purse.lock);
    slm_pg_accounts_flush(true);
    slm_pg_ledger_each(count_spent, r);
}

static RolePurse *find_purse(bool month)
{
    for (int i = 0; i < purses->n; i++)
        if (purses->roles[i].role == payer && purses->roles[i].database == MyDatabaseId && purses->roles[i].month == month)
            return &purses->roles[i];
    return NULL;
}

static Purse *role_purse(bool month, int64 period)
{
    RolePurse *r;

    if (purses == NULL) {
        r = &own_roles[month];
        if (r->role != payer)
            make_purse(r, month, period);
        return &r->purse;
    }
    LWLockAcquire(lock, LW_SHARED);
    r = find_purse(month);
    LWLockRelease(lock);
    if (r != NULL)
        return &r->purse;
    LWLockAcquire(lock, LW_EXCLUSIVE);
    r = find_purse(month);
    if (r == NULL && purses->n < MAX_PURSES) {
        r = &purses->roles[purses->n];
        make_purse(r, month, period);
        purses->n++;
    }
    LWLockRelease(lock);
    if (r == NULL)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("there are more than %d budgets of roles", MAX_PURSES)));
    return &r->purse;
}

/* Of this process, or of the one whose parallel worker it is. */
static Purse *statement_purse(void)
{
    PGPROC *leader = MyProc->lockGroupLeader != NULL ? MyProc->lockGroupLeader : MyProc;

    return purses == NULL ? &own_statement : &purses->statements[SLM_PROC_NUMBER(leader)];
}

static int64 first_of_month(int32 day)
{
    int year, month, of_month;

    j2date(day + POSTGRES_EPOCH_JDATE, &year, &month, &of_month);
    return day - (of_month - 1);
}

/* The budgets of who pays, from the table. */
static void look_at_table(void)
{
    Oid table = slm_pg_extension_relation("budget");
    int32 today = slm_pg_ledger_today();
    SysScanDesc scan;
    HeapTuple tuple;
    Relation rel;

    if (!OidIsValid(table))
        return;
    rel = table_open(table, AccessShareLock);
    scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
    while (HeapTupleIsValid(tuple = systable_getnext(scan))) {
        bool isnull, month;
        Datum role = heap_getattr(tuple, 1, RelationGetDescr(rel), &isnull);
        Datum tokens = heap_getattr(tuple, 3, RelationGetDescr(rel), &isnull);
        Bound *bound;

        if (DatumGetObjectId(role) != payer)
            continue;
        month = strcmp(TextDatumGetCString(heap_getattr(tuple, 2, RelationGetDescr(rel), &isnull)), "month") == 0;
        bound = &limits[month ? OF_MONTH : OF_DAY];
        bound->period = month ? first_of_month(today) : today;
        bound->tokens = (uint64) DatumGetInt64(tokens);
        bound->purse = role_purse(month, bound->period);
    }
    systable_endscan(scan);
    table_close(rel, AccessShareLock);
}

void slm_pg_budget_look(void)
{
    if (looked == GetCurrentStatementStartTimestamp() && payer == slm_pg_payer())
        return;
    memset(limits, 0, sizeof limits);
    payer = slm_pg_payer();
    look_at_table();
    if (max_tokens_per_statement > 0)
        limits[OF_STATEMENT] = (Bound){statement_purse(), GetCurrentStatementStartTimestamp(), (uint64) max_tokens_per_statement};
    looked = GetCurrentStatementStartTimestamp();
}

/* ---- messages */

void slm_pg_budget_error(void)
{
    int least = -1;
    uint64 left = UINT64_MAX;
    const char *role;

    for (int i = 0; i < N_BOUNDS; i++) {
        const Bound *l = &limits[i];

        if (l->purse != NULL && (l->tokens > l->purse->spent ? l->tokens - l->purse->spent : 0) < left) {
            left = l->tokens > l->purse->spent ? l->tokens - l->purse->spent : 0;
            least = i;
        }
    }
    if (least <= OF_STATEMENT)
        ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
                        errmsg("the statement needs more than the %d tokens that it may compute", max_tokens_per_statement),
                        errhint("SET slm.max_tokens_per_statement = 0; takes the limit away, a larger number widens it.")));
    role = GetUserNameFromId(payer, true);
    ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
                    errmsg("role \"%s\" has used up its budget of " UINT64_FORMAT " tokens a %s", role == NULL ? "?" : role,
                           limits[least].tokens, least == OF_DAY ? "day" : "month"),
                    errdetail(UINT64_FORMAT " are left, which is not enough to go on. The next %s begins at midnight UTC.", left,
                              least == OF_DAY ? "day" : "month"),
                    errhint("A superuser can widen it: SELECT slm_set_budget('%s', " UINT64_FORMAT ", per => '%s');",
                            role == NULL ? "?" : role, limits[least].tokens * 2, least == OF_DAY ? "day" : "month")));
}

/* ---- set-up */

static Size shared_size(void)
{
    return offsetof(Purses, statements) + sizeof(Purse) * (Size) slm_pg_n_slots();
}

static void attach(void *memory, LWLock *given)
{
    purses = memory; /* zeros are spinlocks that nobody holds, where it matters, but not everywhere */
    lock = given;
    if (IsUnderPostmaster)
        return;
    for (int i = 0; i < slm_pg_n_slots(); i++)
        SpinLockInit(&purses->statements[i].lock);
}

const SlmShmemPart slm_pg_budget_part = {"slm_pg budgets", shared_size, attach, true};

void slm_pg_budget_init(void)
{
    SpinLockInit(&own_statement.lock);
    DefineCustomIntVariable("slm.max_tokens_per_statement", "How many tokens a statement may compute.",
                            "The statement ends with an error before the first token beyond. Tokens of prompts that were there already are "
                            "not counted. Parallel workers share it when slm_pg is in shared_preload_libraries. 0 sets no limit.",
                            &max_tokens_per_statement, 0, 0, INT_MAX, PGC_USERSET, 0, NULL, NULL, NULL);
}
