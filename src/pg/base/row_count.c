/*
 * row_count.c: counts of a statement's rows, told when it ends (row_count.h).
 *
 *   slm_pg_count_row ──► counted ──► end of the outermost statement (statement.c) ──► one WARNING, one NOTICE
 *                          ▲ slot of the leader, shared (preloaded only) ◄── parallel workers, when their executor ends
 *
 * A subtransaction that is rolled back takes its rows with it: the counts as they were before its first row are kept until it ends, the
 * batch node's included, which evaluates again what it had begun in one.
 *
 * Privacy: texts are named only to the role that computed them, and only where no view of another role stood between it and the table.
 */
#include "pg/base/row_count.h"

#include "access/detoast.h"
#include "access/parallel.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "pg/base/compat.h"
#include "pg/base/row_error.h"
#include "pg/base/shmem.h"
#include "pg/base/statement.h"

#define MAX_TEXTS 3
#define UNLIKELY 0.01 /* that a cascade which keeps its target looks as if it did not, in a statement */
#define TEXT_CHARACTERS 40
#define TEXT_BYTES (TEXT_CHARACTERS * MAX_MULTIBYTE_CHAR_LEN + 4)
#define LOOK_AT 1024 /* bytes of a text that are looked at */

typedef struct NamedText {
    SlmFault fault;
    Oid user; /* who computed it */
    char text[TEXT_BYTES];
} NamedText;

/* Plain data: it is copied to shared memory. */
typedef struct RowCounts {
    uint64 calls, longer;      /* all of them */
    uint64 rows;               /* of calls that give NULL for an error */
    uint64 faults[SLM_N_FAULTS];
    uint64 site;               /* hash of the expression of the first of these calls; 0 = none yet */
    bool several;              /* there are others: then they are not called rows */
    int n_texts;
    NamedText texts[MAX_TEXTS];
    char cascade[NAMEDATALEN + 1]; /* the first one; others are not counted */
    double target;
    uint64 cascaded, early, audited, disagreed;
} RowCounts;

/* The counts before the first row of a subtransaction. */
typedef struct Before {
    SubTransactionId subid;
    RowCounts counts;
} Before;

static RowCounts counted;
static List *befores; /* of Before, by ascending subid; in TopMemoryContext */
static Node *last_site; /* whose hash is last_hash; never followed */
static uint64 last_hash;

static RowCounts *slots; /* [slm_pg_n_slots()], what parallel workers have counted for their leader; or NULL */
static LWLock *slots_lock;

/* ---- a row */

/* The beginning of a text of `length` bytes, on one line; s holds the first LOOK_AT of them. */
static char *beginning(const char *s, Size length)
{
    Size clipped = (Size) pg_mbcharcliplen(s, (int) Min(length, LOOK_AT), TEXT_CHARACTERS);
    char *result = palloc(clipped + 4);

    memcpy(result, s, clipped);
    for (Size i = 0; i < clipped; i++)
        if ((unsigned char) result[i] < ' ' || result[i] == 127)
            result[i] = ' ';
    strcpy(result + clipped, clipped < length ? "..." : "");
    return result;
}

char *slm_pg_beginning(const text *t)
{
    return beginning(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
}

static char *beginning_of(FunctionCallInfo fcinfo, int i)
{
    Oid type = get_fn_expr_argtype(fcinfo->flinfo, i);

    if (PG_ARGISNULL(i))
        return NULL;
    if (type == TEXTOID) {
        Datum value = PG_GETARG_DATUM(i);

        return beginning(VARDATA_ANY(DatumGetTextPSlice(value, 0, LOOK_AT)), toast_raw_datum_size(value) - VARHDRSZ);
    }
    if (type == JSONBOID) {
        char *s = JsonbToCString(NULL, &PG_GETARG_JSONB_P(i)->root, LOOK_AT);

        return beginning(s, strlen(s));
    }
    return NULL;
}

void slm_pg_row_note(SlmRowNote *note, FunctionCallInfo fcinfo, bool gives_null, int first_input, int n_inputs)
{
    Size longest = 0;
    int which = first_input;

    *note = (SlmRowNote){.gives_null = gives_null, .site = fcinfo->flinfo->fn_expr};
    if (!gives_null)
        return;
    for (int i = first_input; i < first_input + n_inputs && n_inputs > 1; i++) {
        if (!PG_ARGISNULL(i) && toast_raw_datum_size(PG_GETARG_DATUM(i)) > longest) {
            longest = toast_raw_datum_size(PG_GETARG_DATUM(i));
            which = i;
        }
    }
    if (n_inputs > 0)
        note->text = beginning_of(fcinfo, which);
}

/* The expression of a call as a number, the same in parallel workers: they do not know where in the statement it stood. */
static uint64 site_hash(Node *site)
{
    static const char place[] = " :location ";

    if (site == NULL)
        return 1;
    if (site != last_site) {
        char *s = nodeToString(site), *to = s;

        for (const char *from = s; *from != '\0';) {
            if (strncmp(from, place, strlen(place)) == 0)
                from += strlen(place) + strspn(from + strlen(place), "-0123456789");
            else
                *to++ = *from++;
        }
        last_hash = hash_bytes_extended((unsigned char *) s, (int) (to - s), 0);
        last_site = site;
        pfree(s);
    }
    return last_hash == 0 ? 1 : last_hash;
}

/* Can the client be told a text as it stands?  A message that cannot be converted would end the statement. */
static bool may_convert(SlmFault fault)
{
    int client = pg_get_client_encoding(), database = GetDatabaseEncoding();

    if (database == PG_SQL_ASCII)
        return false;
    return client == database || (client == PG_UTF8 && fault != SLM_FAULT_INVALID);
}

/* Keeps the counts as they are before the first row of this subtransaction. */
static void keep_before(void)
{
    SubTransactionId subid = GetCurrentSubTransactionId();
    MemoryContext old;
    Before *before;

    if (befores != NIL && ((Before *) llast(befores))->subid >= subid)
        return;
    old = MemoryContextSwitchTo(TopMemoryContext);
    before = palloc(sizeof *before);
    before->subid = subid;
    before->counts = counted;
    befores = lappend(befores, before);
    MemoryContextSwitchTo(old);
}

static void count_cascade(const SlmCascadeNote *note)
{
    if (note->name == NULL || (counted.cascaded > 0 && strncmp(counted.cascade, note->name, NAMEDATALEN) != 0))
        return;
    strlcpy(counted.cascade, note->name, sizeof counted.cascade);
    counted.target = note->target;
    counted.cascaded++;
    counted.early += note->early ? 1 : 0;
    counted.audited += note->audited ? 1 : 0;
    counted.disagreed += note->disagreed ? 1 : 0;
}

void slm_pg_count_row(const SlmRowNote *note)
{
    keep_before();
    counted.calls++;
    counted.longer += note->longer ? 1 : 0;
    count_cascade(&note->cascade);
    if (!note->gives_null)
        return;
    counted.rows++;
    if (!counted.several) {
        uint64 site = site_hash(note->site);

        counted.several = counted.site != 0 && counted.site != site;
        counted.site = site;
    }
    if (note->fault == SLM_FAULT_NONE)
        return;
    counted.faults[note->fault]++;
    if (note->text != NULL && counted.n_texts < MAX_TEXTS && !slm_pg_through_view_of_other()) {
        NamedText *named = &counted.texts[counted.n_texts++];

        named->fault = note->fault;
        named->user = GetUserId();
        strlcpy(named->text, note->text, sizeof named->text);
        for (char *c = named->text; *c != '\0' && !may_convert(note->fault); c++)
            *c = IS_HIGHBIT_SET(*c) ? '?' : *c;
    }
}

/* ---- what is told */

static const char *const fault_names[SLM_N_FAULTS] = {"", "too long", "empty", "invalid", "without an answer"};

/* 12345 as 12,345 */
static char *grouped(uint64 n)
{
    char digits[24], *result = palloc(32), *to = result;
    int length = snprintf(digits, sizeof digits, UINT64_FORMAT, n);

    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            *to++ = ',';
        *to++ = digits[i];
    }
    *to = '\0';
    return result;
}

static void warn(const RowCounts *c, uint64 n_faults)
{
    StringInfoData kinds, texts;

    initStringInfo(&kinds);
    initStringInfo(&texts);
    for (int i = 1; i < SLM_N_FAULTS; i++)
        if (c->faults[i] > 0)
            appendStringInfo(&kinds, "%s%s %s", kinds.len > 0 ? ", " : "", grouped(c->faults[i]), fault_names[i]);
    for (int i = 0; i < c->n_texts; i++)
        if (c->texts[i].user == GetUserId() || superuser())
            appendStringInfo(&texts, "%s\"%s\" (%s)", texts.len > 0 ? ", " : "", c->texts[i].text, fault_names[c->texts[i].fault]);
    ereport(WARNING, (errmsg_internal("%s of %s %s gave NULL: %s", grouped(n_faults), grouped(c->rows),
                                      c->several ? "calls" : c->rows == 1 ? "row" : "rows", kinds.data),
                      texts.len > 0 ? errdetail_internal("%s.", texts.data) : 0,
                      errhint("With on_error => 'error' the first of them ends the statement and says why.")));
}

/* The chance of so many successes or more. */
static double at_least(uint64 successes, uint64 n, double p)
{
    double sum = 0;

    for (uint64 k = successes; k <= n; k++)
        sum += exp(lgamma((double) n + 1) - lgamma((double) k + 1) - lgamma((double) (n - k) + 1) + (double) k * log(p) +
                   (double) (n - k) * log1p(-p));
    return sum;
}

/* Audited texts are some of those that an early step has answered: are more of them answered otherwise by the last step than may be, by
 * more than chance? */
static void warn_of_cascade(const RowCounts *c)
{
    double allowed = c->early > 0 ? (1 - c->target) * (double) c->cascaded / (double) c->early : 1;

    if (c->disagreed == 0 || allowed >= 1 || at_least(c->disagreed, c->audited, allowed) > UNLIKELY)
        return;
    ereport(WARNING, (errmsg_internal("cascade \"%s\" misses its target of %g: its last step answers %s of %s audited texts otherwise",
                                      c->cascade, c->target, grouped(c->disagreed), grouped(c->audited)),
                      errdetail_internal("%s of %s texts were answered before the last step.", grouped(c->early), grouped(c->cascaded)),
                      errhint("Learn its thresholds anew from texts like these, with slm_create_cascade.")));
}

static void add_counts(RowCounts *to, const RowCounts *from)
{
    if (from->cascaded > 0 && (to->cascaded == 0 || strcmp(to->cascade, from->cascade) == 0)) {
        memcpy(to->cascade, from->cascade, sizeof to->cascade);
        to->target = from->target;
        to->cascaded += from->cascaded;
        to->early += from->early;
        to->audited += from->audited;
        to->disagreed += from->disagreed;
    }
    to->calls += from->calls;
    to->longer += from->longer;
    to->rows += from->rows;
    for (int i = 0; i < SLM_N_FAULTS; i++)
        to->faults[i] += from->faults[i];
    to->several = to->several || from->several || (to->site != 0 && from->site != 0 && to->site != from->site);
    to->site = to->site != 0 ? to->site : from->site;
    for (int i = 0; i < from->n_texts && to->n_texts < MAX_TEXTS; i++)
        to->texts[to->n_texts++] = from->texts[i];
}

/* Takes what workers have left for this process. */
static void collect_slot(bool drop)
{
    RowCounts *slot = slots == NULL || MyProc == NULL || IsParallelWorker() ? NULL : &slots[SLM_MY_PROC_NUMBER];

    if (slot == NULL || slot->calls == 0)
        return;
    if (!drop)
        keep_before();
    LWLockAcquire(slots_lock, LW_EXCLUSIVE);
    if (!drop)
        add_counts(&counted, slot);
    memset(slot, 0, sizeof *slot);
    LWLockRelease(slots_lock);
}

void slm_pg_tell_rows(bool outermost)
{
    RowCounts c;
    uint64 n_faults = 0;

    if (IsParallelWorker() && slots != NULL && MyProc->lockGroupLeader != NULL) {
        if (counted.calls > 0) {
            LWLockAcquire(slots_lock, LW_EXCLUSIVE);
            add_counts(&slots[SLM_PROC_NUMBER(MyProc->lockGroupLeader)], &counted);
            LWLockRelease(slots_lock);
        }
        memset(&counted, 0, sizeof counted);
        return;
    }
    collect_slot(false);
    if (!outermost || counted.calls == 0)
        return;
    c = counted;
    memset(&counted, 0, sizeof counted); /* first: a message may raise */
    last_site = NULL;
    for (int i = 1; i < SLM_N_FAULTS; i++)
        n_faults += c.faults[i];
    if (n_faults > 0)
        warn(&c, n_faults);
    if (c.cascaded > 0)
        warn_of_cascade(&c);
    if (c.longer > 0)
        ereport(NOTICE, (errmsg_internal("%s of %s %s longer than the model reads", grouped(c.longer), grouped(c.calls),
                                         c.calls == 1 ? "text is" : "texts are")));
}

/* ---- ends of transactions: a procedure may have several */

static void forget_befores(void)
{
    list_free_deep(befores);
    befores = NIL;
}

static void at_xact_end(XactEvent event, void *arg)
{
    switch (event) {
        case XACT_EVENT_PRE_COMMIT:
        case XACT_EVENT_PARALLEL_PRE_COMMIT:
        case XACT_EVENT_PRE_PREPARE:
            if (!slm_pg_within_statement())
                slm_pg_tell_rows(true);
            break;
        case XACT_EVENT_ABORT:
        case XACT_EVENT_PARALLEL_ABORT:
            if (!slm_pg_within_statement())
                memset(&counted, 0, sizeof counted);
            else if (befores != NIL)
                counted = ((Before *) linitial(befores))->counts;
            collect_slot(true);
            forget_befores();
            break;
        default:
            forget_befores();
            break;
    }
}

static void at_subxact_end(SubXactEvent event, SubTransactionId my, SubTransactionId parent, void *arg)
{
    Before *last;

    if (event == SUBXACT_EVENT_COMMIT_SUB && befores != NIL && ((Before *) llast(befores))->subid == my) {
        last = llast(befores);
        if (list_length(befores) > 1 && ((Before *) list_nth(befores, list_length(befores) - 2))->subid == parent) {
            befores = list_delete_last(befores);
            pfree(last);
        } else {
            last->subid = parent;
        }
    }
    while (event == SUBXACT_EVENT_ABORT_SUB && befores != NIL && ((Before *) llast(befores))->subid >= my) {
        last = llast(befores);
        counted = last->counts;
        befores = list_delete_last(befores);
        pfree(last);
    }
}

/* ---- set-up */

static Size slots_size(void)
{
    return slm_pg_slots_size(sizeof(RowCounts));
}

static void attach(void *memory, LWLock *lock)
{
    slots = memory;
    slots_lock = lock;
}

const SlmShmemPart slm_pg_row_count_part = {"slm_pg row counts", slots_size, attach, true};

void slm_pg_row_count_init(void)
{
    RegisterXactCallback(at_xact_end, NULL);
    RegisterSubXactCallback(at_subxact_end, NULL);
}
