/*
 * redact_patterns.c: what administrators add to the forms that slm_redact_all knows: rows of slm.redact_pattern (redact.h).
 *
 *   (name, category, pattern, check)      a regular expression of PostgreSQL; check: digits that must add up
 *
 * A pattern is compiled once in a session and found again by its text.  It sees characters, under the collation "C": \w, \m and (?i) know
 * the letters of ASCII.  Back-references, which can take time without bound, and patterns that fit an empty text are refused when the
 * row is written (a CHECK calls slm.redact_pattern_ok); what runs is an automaton, and answers interrupts.
 */
#include "pg/functions/redact.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_collation.h"
#include "miscadmin.h"
#include "regex/regex.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/models/registry.h"

PG_FUNCTION_INFO_V1(slm_pg_redact_pattern_ok);

#define MOST_PATTERNS 64
#define MOST_BYTES 1000 /* of a pattern */

/* Of slm.redact_pattern. */
enum { ANUM_NAME = 1, ANUM_CATEGORY, ANUM_PATTERN, ANUM_CHECK };

/* ---- compiled */

typedef struct Compiled {
    char *pattern; /* UTF-8; NULL: free */
    regex_t re;
} Compiled;

static Compiled kept[MOST_PATTERNS];
static int next_kept;
static MemoryContext keeping;

static void compile(const char *pattern, regex_t *re)
{
    size_t bytes = strlen(pattern);
    pg_wchar *chars = palloc(sizeof *chars * (bytes + 1));
    int n = pg_encoding_mb2wchar_with_len(PG_UTF8, pattern, chars, (int) bytes);
    int code = pg_regcomp(re, chars, (size_t) n, REG_ADVANCED, C_COLLATION_OID);

    pfree(chars);
    if (code != REG_OKAY) {
        char why[100];

        CHECK_FOR_INTERRUPTS();
        pg_regerror(code, re, why, sizeof why);
        ereport(ERROR, (errcode(ERRCODE_INVALID_REGULAR_EXPRESSION), errmsg("invalid pattern to redact: %s", why),
                        errhint("For example: '\\mNL-\\d{6}\\M'.")));
    }
}

static regex_t *compiled(const char *pattern)
{
    Compiled *c = NULL;
    MemoryContext old;

    for (int i = 0; i < MOST_PATTERNS; i++)
        if (kept[i].pattern != NULL && strcmp(kept[i].pattern, pattern) == 0)
            return &kept[i].re;
    if (keeping == NULL)
        keeping = AllocSetContextCreate(TopMemoryContext, "slm_pg patterns to redact", ALLOCSET_SMALL_SIZES);
    c = &kept[next_kept];
    next_kept = (next_kept + 1) % MOST_PATTERNS;
    if (c->pattern != NULL) {
        pg_regfree(&c->re);
        pfree(c->pattern);
        c->pattern = NULL;
    }
    old = MemoryContextSwitchTo(keeping);
    compile(pattern, &c->re);
    c->pattern = pstrdup(pattern);
    MemoryContextSwitchTo(old);
    return &c->re;
}

/* false: there is none from `from` on. */
static bool next_match(regex_t *re, const pg_wchar *chars, size_t n, size_t from, regmatch_t *at)
{
    int code = pg_regexec(re, chars, n, from, NULL, 1, at, 0);

    if (code == REG_NOMATCH)
        return false;
    if (code != REG_OKAY) {
        char why[100];

        CHECK_FOR_INTERRUPTS();
        pg_regerror(code, re, why, sizeof why);
        ereport(ERROR, (errcode(ERRCODE_INVALID_REGULAR_EXPRESSION), errmsg("a pattern to redact failed: %s", why)));
    }
    return true;
}

/* ---- check digits */

static bool is_luhn(const pg_wchar *chars, size_t from, size_t to)
{
    int sum = 0, n = 0;

    for (size_t i = to; i-- > from;)
        if (chars[i] >= '0' && chars[i] <= '9') {
            int digit = (int) (chars[i] - '0') << (n++ % 2);

            sum += digit > 9 ? digit - 9 : digit;
        }
    return n > 1 && sum % 10 == 0;
}

/* ISO 7064, MOD 97-10: letters count as 10 to 35. */
static bool is_mod97(const pg_wchar *chars, size_t from, size_t to)
{
    unsigned rest = 0;
    int n = 0;

    for (size_t i = from; i < to; i++) {
        pg_wchar c = chars[i];

        if (c >= '0' && c <= '9')
            rest = (rest * 10 + (c - '0')) % 97;
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'z')
            rest = (rest * 100 + ((c | 0x20) - 'a' + 10)) % 97;
        else
            continue;
        n++;
    }
    return n > 2 && rest == 1;
}

static bool adds_up(const char *check, const pg_wchar *chars, size_t from, size_t to)
{
    if (check == NULL)
        return true;
    return strcmp(check, "luhn") == 0 ? is_luhn(chars, from, to) : is_mod97(chars, from, to);
}

void slm_pg_redact_match(const SlmRedactPattern *p, const pg_wchar *chars, size_t n, void (*found)(void *arg, size_t from, size_t to),
                         void *arg)
{
    regex_t *re = compiled(slm_pg_utf8_from_cstring(p->pattern));
    regmatch_t at;

    for (size_t from = 0; from < n && next_match(re, chars, n, from, &at);) {
        size_t begin = (size_t) at.rm_so, end = (size_t) at.rm_eo;
        bool good = end > begin && adds_up(p->check, chars, begin, end);

        if (good)
            found(arg, begin, end);
        from = good ? end : begin + 1;
        CHECK_FOR_INTERRUPTS();
    }
}

/* ---- the rows */

static int by_name(const void *a, const void *b)
{
    const SlmRedactPattern *x = a, *y = b;
    int order = strcmp(x->category, y->category);

    return order != 0 ? order : strcmp(x->pattern, y->pattern);
}

SlmRedactPattern *slm_pg_redact_patterns(int *n)
{
    Relation table = slm_pg_open_extension_table("redact_pattern");
    TupleDesc desc = RelationGetDescr(table);
    SysScanDesc scan = systable_beginscan(table, InvalidOid, false, NULL, 0, NULL);
    SlmRedactPattern *patterns = palloc(sizeof *patterns * MOST_PATTERNS);
    HeapTuple tuple;

    *n = 0;
    while (HeapTupleIsValid(tuple = systable_getnext(scan))) {
        SlmRedactPattern *p = &patterns[*n];
        bool isnull;
        Datum check = heap_getattr(tuple, ANUM_CHECK, desc, &isnull);

        if (++*n > MOST_PATTERNS)
            ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("there are more than %d patterns to redact", MOST_PATTERNS),
                            errhint("Put several into one, with |, and remove others: SELECT slm_drop_redact_pattern(name).")));
        p->check = isnull ? NULL : TextDatumGetCString(check);
        p->category = TextDatumGetCString(heap_getattr(tuple, ANUM_CATEGORY, desc, &isnull));
        p->pattern = TextDatumGetCString(heap_getattr(tuple, ANUM_PATTERN, desc, &isnull));
    }
    systable_endscan(scan);
    table_close(table, AccessShareLock);
    qsort(patterns, (size_t) *n, sizeof *patterns, by_name);
    return patterns;
}

/* slm.redact_pattern_ok(pattern): true, or an ERROR that says what is wrong with it. */
Datum slm_pg_redact_pattern_ok(PG_FUNCTION_ARGS)
{
    const char *pattern = text_to_cstring(PG_GETARG_TEXT_PP(0));
    const pg_wchar nothing[] = {0};
    regmatch_t at;
    regex_t *re;

    if (pattern[0] == '\0' || strlen(pattern) > MOST_BYTES)
        ereport(ERROR, (errcode(ERRCODE_INVALID_REGULAR_EXPRESSION),
                        errmsg(pattern[0] == '\0' ? "a pattern to redact is empty" : "a pattern to redact is too long"),
                        errhint("A pattern has from 1 to %d bytes.", MOST_BYTES)));
    re = compiled(slm_pg_utf8_from_cstring(pattern));
    if ((re->re_info & REG_UBACKREF) != 0)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("a pattern to redact has a back-reference"),
                        errhint("Write it without: they can take time without bound.")));
    if (next_match(re, nothing, 0, 0, &at))
        ereport(ERROR, (errcode(ERRCODE_INVALID_REGULAR_EXPRESSION), errmsg("a pattern to redact fits the empty text"),
                        errhint("Say at least one character that must be there: '\\d+' in place of '\\d*'.")));
    PG_RETURN_BOOL(true);
}
