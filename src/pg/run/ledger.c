/*
 * ledger.c: the table behind slm.usage (ledger.h).
 *
 *   backend: pending.c ──at the end of a transaction, and every second──► ledger ──every minute, and at shutdown──► file (ledger_file.c)
 *
 * In shared memory where the library was preloaded, else in the memory of the session, with the same code:
 *
 *   | head | buckets: first row of each, -1 | rows, densely: key, next row of the bucket, figures |
 *
 * Locks: the LWLock of the part guards everything but the figures.  Who adds to a row that is there holds it shared and adds atomically;
 * who makes, folds or forgets rows holds it exclusively.
 *
 * Nothing that was computed is lost when the table is full: rows older than slm.usage_days go first; then the rows of the oldest day become
 * one a role and database, whose function is "(other)", of today those with the fewest tokens; in the end all that is left becomes one row
 * of nobody.
 */
#include "pg/run/ledger.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "pg/run/ledger_file.h"

#define SAVE_MS 60000
#define LOCAL_ROWS 500 /* of a session's own */

typedef struct Row {
    SlmLedgerKey key;
    int32 next;
    pg_atomic_uint64 figures[SLM_LEDGER_N_FIGURES];
} Row;

typedef struct Ledger {
    bool loaded;
    int32 n, capacity, n_buckets;
    TimestampTz reset_at;
    pg_atomic_uint64 changes;
    int32 buckets[FLEXIBLE_ARRAY_MEMBER]; /* [n_buckets]; rows follow */
} Ledger;

static Ledger *ledger; /* NULL before first use without shared memory */
static LWLock *lock;   /* NULL then */
static bool shared;
static int usage_rows = 5000, usage_days = 400;

/* ---- figures */

const char *slm_pg_ledger_figure(size_t i)
{
    static const char *const own[] = {"calls", "distinct_calls"};
    const slm_usage none = {0};
    uint64_t value;

    return i < lengthof(own) ? own[i] : slm_usage_figure(&none, i - lengthof(own), &value);
}

/* Sums stay below the largest bigint, whatever a file says. */
static void add_figures(Row *row, const SlmLedgerFigures *f)
{
    const uint64 *values = (const uint64 *) f;

    for (size_t i = 0; i < SLM_LEDGER_N_FIGURES; i++)
        if (values[i] != 0 && pg_atomic_add_fetch_u64(&row->figures[i], values[i]) > PG_INT64_MAX / 2)
            pg_atomic_write_u64(&row->figures[i], PG_INT64_MAX / 2);
}

static void read_figures(Row *row, SlmLedgerFigures *out)
{
    uint64 *values = (uint64 *) out;

    for (size_t i = 0; i < SLM_LEDGER_N_FIGURES; i++)
        values[i] = pg_atomic_read_u64(&row->figures[i]);
}

/* ---- memory */

static int32 buckets_for(int32 capacity)
{
    int32 n = 64;

    while (n < capacity)
        n *= 2;
    return n;
}

static Size head_size(int32 capacity)
{
    return MAXALIGN(offsetof(Ledger, buckets) + sizeof(int32) * (Size) buckets_for(capacity));
}

static Size size_for(int32 capacity)
{
    return add_size(head_size(capacity), mul_size(sizeof(Row), (Size) capacity));
}

static Row *row_at(int32 i)
{
    return (Row *) ((char *) ledger + head_size(ledger->capacity)) + i;
}

static void make_empty(void)
{
    ledger->n = 0;
    for (int32 b = 0; b < ledger->n_buckets; b++)
        ledger->buckets[b] = -1;
}

static void make(void *memory, int32 capacity)
{
    ledger = memory;
    ledger->capacity = capacity;
    ledger->n_buckets = buckets_for(capacity);
    ledger->reset_at = GetCurrentTimestamp();
    pg_atomic_init_u64(&ledger->changes, 0);
    make_empty();
    ledger->loaded = true;
}

static bool there(void)
{
    void *memory;

    if (ledger != NULL)
        return true;
    memory = MemoryContextAllocExtended(TopMemoryContext, size_for(LOCAL_ROWS), MCXT_ALLOC_NO_OOM | MCXT_ALLOC_ZERO);
    if (memory != NULL)
        make(memory, LOCAL_ROWS);
    return memory != NULL;
}

static void acquire(LWLockMode mode)
{
    if (lock != NULL)
        LWLockAcquire(lock, mode);
}

static void release(void)
{
    if (lock != NULL)
        LWLockRelease(lock);
}

/* ---- rows; the lock is held */

static int32 bucket_of(const SlmLedgerKey *key)
{
    return (int32) (hash_bytes((const unsigned char *) key, sizeof *key) & (uint32) (ledger->n_buckets - 1));
}

static int32 find(const SlmLedgerKey *key)
{
    int32 i = ledger->buckets[bucket_of(key)];

    while (i >= 0 && memcmp(&row_at(i)->key, key, sizeof *key) != 0)
        i = row_at(i)->next;
    return i;
}

static void link_row(int32 i)
{
    int32 *bucket = &ledger->buckets[bucket_of(&row_at(i)->key)];

    row_at(i)->next = *bucket;
    *bucket = i;
}

static void unlink_row(int32 i)
{
    int32 *to = &ledger->buckets[bucket_of(&row_at(i)->key)];

    while (*to != i)
        to = &row_at(*to)->next;
    *to = row_at(i)->next;
}

/* The last row takes its place. */
static void remove_row(int32 i)
{
    int32 last = ledger->n - 1;

    unlink_row(i);
    if (i != last) {
        unlink_row(last);
        *row_at(i) = *row_at(last);
        link_row(i);
    }
    ledger->n--;
}

/* The row becomes one of this key, or part of the one that there is. */
static void fold_row(int32 i, const SlmLedgerKey *key)
{
    int32 to = find(key);
    SlmLedgerFigures figures;

    if (to == i)
        return;
    if (to < 0) {
        unlink_row(i);
        row_at(i)->key = *key;
        link_row(i);
        return;
    }
    read_figures(row_at(i), &figures);
    add_figures(row_at(to), &figures);
    remove_row(i);
}

static bool is_folded(const SlmLedgerKey *key)
{
    return strcmp(key->function, SLM_LEDGER_OTHER) == 0;
}

static uint64 tokens_of(Row *row)
{
    SlmLedgerFigures figures;

    read_figures(row, &figures);
    return slm_pg_ledger_tokens(&figures);
}

/* Folds the rows of the oldest day that has rows to fold; of today those with no more tokens than the mean. */
static bool fold_oldest_day(int32 today)
{
    int32 oldest = PG_INT32_MAX, n = 0;
    double sum = 0;

    for (int32 i = 0; i < ledger->n; i++)
        if (!is_folded(&row_at(i)->key))
            oldest = Min(oldest, row_at(i)->key.day);
    for (int32 i = 0; i < ledger->n; i++)
        if (!is_folded(&row_at(i)->key) && row_at(i)->key.day == oldest) {
            sum += (double) tokens_of(row_at(i));
            n++;
        }
    for (int32 i = ledger->n - 1; n > 0 && i >= 0; i--) {
        const SlmLedgerKey *k = &row_at(i)->key;
        SlmLedgerKey key = {.role = k->role, .database = k->database, .day = k->day, .function = SLM_LEDGER_OTHER,
                            .model = SLM_LEDGER_OTHER};

        if (!is_folded(k) && k->day == oldest && (oldest != today || (double) tokens_of(row_at(i)) <= sum / n))
            fold_row(i, &key);
    }
    return n > 0;
}

/* At least one row is free afterwards; about a tenth, so that this is seldom. */
static void make_room(void)
{
    int32 today = slm_pg_ledger_today(), enough = ledger->capacity - ledger->capacity / 10 - 1;
    SlmLedgerKey nobody = {.day = today, .function = SLM_LEDGER_OTHER, .model = SLM_LEDGER_OTHER};

    for (int32 i = ledger->n - 1; i >= 0; i--)
        if (row_at(i)->key.day < today - usage_days)
            remove_row(i);
    while (ledger->n > enough && fold_oldest_day(today))
        continue;
    for (int32 i = ledger->n - 1; i >= 0 && ledger->n > enough; i--)
        fold_row(i, &nobody);
}

static int32 add_row(const SlmLedgerKey *key)
{
    Row *row;

    if (ledger->n >= ledger->capacity) {
        int32 there_now;

        make_room();
        there_now = find(key);
        if (there_now >= 0)
            return there_now;
    }
    row = row_at(ledger->n);
    row->key = *key;
    for (size_t i = 0; i < SLM_LEDGER_N_FIGURES; i++)
        pg_atomic_init_u64(&row->figures[i], 0);
    link_row(ledger->n);
    return ledger->n++;
}

/* ---- what others call */

bool slm_pg_ledger_shared(void)
{
    return shared;
}

int32 slm_pg_ledger_today(void)
{
    return (int32) (GetCurrentTimestamp() / USECS_PER_DAY);
}

void slm_pg_ledger_add(const SlmLedgerKey *key, const SlmLedgerFigures *figures)
{
    int32 i;

    if (!there())
        return;
    acquire(LW_SHARED);
    i = find(key);
    if (i < 0) {
        release();
        acquire(LW_EXCLUSIVE);
        i = find(key);
        if (i < 0)
            i = add_row(key);
    }
    add_figures(row_at(i), figures);
    pg_atomic_fetch_add_u64(&ledger->changes, 1);
    release();
}

void slm_pg_ledger_each(SlmLedgerVisit visit, void *arg)
{
    SlmLedgerFigures figures;

    if (!there())
        return;
    acquire(LW_SHARED);
    for (int32 i = 0; i < ledger->n; i++) {
        read_figures(row_at(i), &figures);
        visit(arg, &row_at(i)->key, &figures);
    }
    release();
}

int slm_pg_ledger_rows(void)
{
    return there() ? ledger->n : 0;
}

int slm_pg_ledger_capacity(void)
{
    return there() ? ledger->capacity : 0;
}

int slm_pg_ledger_reset(Oid role)
{
    int n = 0;

    if (!there())
        return 0;
    acquire(LW_EXCLUSIVE);
    for (int32 i = ledger->n - 1; i >= 0; i--)
        if (!OidIsValid(role) || row_at(i)->key.role == role) {
            remove_row(i);
            n++;
        }
    if (!OidIsValid(role))
        ledger->reset_at = GetCurrentTimestamp();
    pg_atomic_fetch_add_u64(&ledger->changes, 1);
    release();
    return n;
}

TimestampTz slm_pg_ledger_reset_at(void)
{
    return there() ? ledger->reset_at : GetCurrentTimestamp();
}

/* ---- the file */

uint64 slm_pg_ledger_changes(void)
{
    return there() ? pg_atomic_read_u64(&ledger->changes) : 0;
}

typedef struct Copy {
    SlmLedgerRow *rows; /* [capacity] */
    int n;
} Copy;

static void copy_row(void *arg, const SlmLedgerKey *key, const SlmLedgerFigures *figures)
{
    Copy *copy = arg;

    copy->rows[copy->n++] = (SlmLedgerRow){*key, *figures};
}

void slm_pg_ledger_save(bool now)
{
    static uint64 saved = 0;
    static TimestampTz looked = 0;
    uint64 changes = slm_pg_ledger_changes();
    Copy copy = {0};

    if (!shared || (!now && !TimestampDifferenceExceeds(looked, GetCurrentTimestamp(), SAVE_MS)))
        return;
    looked = GetCurrentTimestamp();
    if (changes == saved)
        return;
    copy.rows = malloc(sizeof *copy.rows * (size_t) ledger->capacity);
    if (copy.rows == NULL)
        return;
    slm_pg_ledger_each(copy_row, &copy);
    if (slm_pg_ledger_file_write(copy.rows, copy.n, ledger->reset_at))
        saved = changes;
    free(copy.rows);
}

static void load_row(const SlmLedgerRow *row)
{
    if (row->key.day >= slm_pg_ledger_today() - usage_days)
        add_figures(row_at(add_row(&row->key)), &row->figures);
}

/* The postmaster, when all others have gone. */
static void save_at_exit(int code, Datum arg)
{
    if (code == 0)
        slm_pg_ledger_save(true);
}

/* ---- set-up */

static Size shared_size(void)
{
    return size_for(usage_rows);
}

static void attach(void *memory, LWLock *given)
{
    shared = true;
    lock = given;
    ledger = memory;
    if (ledger->loaded)
        return;
    make(memory, usage_rows);
    (void) slm_pg_ledger_file_read(load_row, &ledger->reset_at);
    if (!IsUnderPostmaster)
        on_shmem_exit(save_at_exit, (Datum) 0);
}

const SlmShmemPart slm_pg_ledger_part = {"slm_pg usage", shared_size, attach, true};

void slm_pg_ledger_init(void)
{
    DefineCustomIntVariable("slm.usage_days", "How many days slm.usage keeps.",
                            "Older rows go when there is no room for a new one, and when the server starts.", &usage_days, 400, 32, 36500,
                            PGC_SIGHUP, 0, NULL, NULL, NULL);
    DefineCustomIntVariable("slm.usage_rows", "How many rows slm.usage has room for.",
                            "When it is full, rows of the oldest days become one for each role and database. A row takes about 450 bytes.",
                            &usage_rows, 5000, 100, 50000, process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP, 0,
                            NULL, NULL, NULL);
}
