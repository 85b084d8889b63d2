/*
 * redact.c: slm_redact and slm_redact_details: personal values of a known form replaced, or listed.
 *
 * No model is run: the engine's scanners find the values (engine/redact), so the functions are immutable and cost microseconds.  Every
 * byte outside of the found values is handed on as it is.  Equal values get equal numbers, in the order of their first appearance in the
 * text.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/base/errors.h"
#include "pg/functions/redact.h"

PG_FUNCTION_INFO_V1(slm_pg_redact);
PG_FUNCTION_INFO_V1(slm_pg_redact_details);

#define MASK "[{KIND}_{n}]"

static const char *known_kinds(void)
{
    StringInfoData list;

    initStringInfo(&list);
    for (int kind = 0; kind < SLM_REDACT_N_KINDS; kind++)
        appendStringInfo(&list, "%s%s",
                         kind == 0                        ? ""
                         : kind + 1 == SLM_REDACT_N_KINDS ? " and "
                                                          : ", ",
                         slm_redact_name((slm_redact_kind) kind));
    return list.data;
}

/* The kinds of a text[] as bits; all of them for NULL. */
static uint32 kinds_arg(FunctionCallInfo fcinfo, int i)
{
    const char **names;
    uint32 kinds = 0;
    int n;

    if (PG_ARGISNULL(i))
        return SLM_REDACT_ALL;
    names = slm_pg_strings_arg(fcinfo, i, "categories", 100, &n);
    for (int k = 0; k < n; k++) {
        slm_redact_kind kind = slm_redact_of_name(names[k], strlen(names[k]));

        if (kind == SLM_REDACT_N_KINDS)
            ereport(ERROR,
                    (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown category \"%s\"", slm_pg_cstring_from_utf8(names[k])),
                     errhint("Known are %s.", known_kinds())));
        kinds |= 1u << kind;
    }
    return kinds;
}

void slm_pg_redact_add(SlmRedacted *r, size_t begin, size_t end, const char *kind)
{
    if (r->n == r->room) {
        r->room = Max(16, 2 * r->room);
        r->spans = r->spans == NULL ? MemoryContextAllocHuge(CurrentMemoryContext, sizeof *r->spans * r->room)
                                    : repalloc_huge(r->spans, sizeof *r->spans * r->room);
    }
    r->spans[r->n++] = (SlmRedactSpan){.begin = begin, .end = end, .kind = kind};
}

void slm_pg_redact_forms(SlmRedacted *r, uint32 kinds)
{
    slm_redact_span *spans;
    slm_status status;
    slm_error err;
    size_t n;

    while ((status = slm_redact_find(r->text, r->length, kinds, SLM_STOP, &spans, &n, &err)) == SLM_CANCELLED)
        slm_pg_interrupted();
    if (status != SLM_OK)
        slm_pg_error(&err, NULL);
    PG_TRY();
    {
        for (size_t i = 0; i < n; i++)
            slm_pg_redact_add(r, spans[i].begin, spans[i].end, slm_redact_name(spans[i].kind));
    }
    PG_FINALLY();
    {
        free(spans);
    }
    PG_END_TRY();
}

/* ---- numbers */

/* Spans of equal values stand together, the first of the text first. */
static int by_value(const void *a, const void *b, void *arg)
{
    const SlmRedacted *r = arg;
    const SlmRedactSpan *x = *(SlmRedactSpan *const *) a, *y = *(SlmRedactSpan *const *) b;
    size_t length = x->end - x->begin, other = y->end - y->begin;
    int order = strcmp(x->kind, y->kind);

    if (order == 0)
        order = length != other ? (length < other ? -1 : 1) : memcmp(r->text + x->begin, r->text + y->begin, length);
    return order != 0 ? order : x->begin < y->begin ? -1 : 1;
}

static bool same_value(const SlmRedacted *r, const SlmRedactSpan *a, const SlmRedactSpan *b)
{
    return strcmp(a->kind, b->kind) == 0 && a->end - a->begin == b->end - b->begin &&
           memcmp(r->text + a->begin, r->text + b->begin, a->end - a->begin) == 0;
}

typedef struct KindCount {
    const char *kind;
    int last;
} KindCount;

/* The next number of a kind; there are few kinds. */
static int next_number(List **counts, const char *kind)
{
    KindCount *count;
    ListCell *cell;

    foreach (cell, *counts) {
        count = lfirst(cell);
        if (strcmp(count->kind, kind) == 0)
            return ++count->last;
    }
    count = palloc(sizeof *count);
    *count = (KindCount){kind, 1};
    *counts = lappend(*counts, count);
    return 1;
}

void slm_pg_redact_number(SlmRedacted *r)
{
    SlmRedactSpan **sorted;
    size_t *first; /* [n] the first span with the value of the i-th */
    List *counts = NIL;

    if (r->n == 0)
        return;
    sorted = MemoryContextAllocHuge(CurrentMemoryContext, sizeof *sorted * r->n);
    first = MemoryContextAllocHuge(CurrentMemoryContext, sizeof *first * r->n);
    for (size_t i = 0; i < r->n; i++)
        sorted[i] = &r->spans[i];
    qsort_arg(sorted, r->n, sizeof *sorted, by_value, r);
    for (size_t i = 0; i < r->n; i++) {
        bool same = i > 0 && same_value(r, sorted[i - 1], sorted[i]);

        first[sorted[i] - r->spans] = same ? first[sorted[i - 1] - r->spans] : (size_t) (sorted[i] - r->spans);
    }
    for (size_t i = 0; i < r->n; i++)
        r->spans[i].n = first[i] == i ? next_number(&counts, r->spans[i].kind) : r->spans[first[i]].n;
    pfree(sorted);
    pfree(first);
}

/* ---- what is made of them */

/* Writes a mask with its {kind}, {KIND} and {n} filled in. */
static void put_mask(StringInfo out, const char *mask, const char *kind, int number)
{
    for (const char *p = mask; *p != '\0'; p++) {
        if (strncmp(p, "{kind}", 6) == 0) {
            appendStringInfoString(out, kind);
            p += 5;
        } else if (strncmp(p, "{KIND}", 6) == 0) {
            for (const char *c = kind; *c != '\0'; c++)
                appendStringInfoChar(out, (char) pg_toupper((unsigned char) *c));
            p += 5;
        } else if (strncmp(p, "{n}", 3) == 0) {
            appendStringInfo(out, "%d", number);
            p += 2;
        } else {
            appendStringInfoChar(out, *p);
        }
    }
}

text *slm_pg_redact_masked(const SlmRedacted *r, const char *mask)
{
    StringInfoData out;
    size_t at = 0;

    initStringInfo(&out);
    for (size_t i = 0; i < r->n; i++) {
        appendBinaryStringInfo(&out, r->text + at, (int) (r->spans[i].begin - at));
        put_mask(&out, mask != NULL ? mask : MASK, r->spans[i].kind, r->spans[i].n);
        at = r->spans[i].end;
    }
    appendBinaryStringInfo(&out, r->text + at, (int) (r->length - at));
    return slm_pg_text_from_utf8(out.data, (size_t) out.len);
}

static int count_characters(const char *s, size_t bytes)
{
    int n = 0;

    for (size_t i = 0; i < bytes; i++)
        n += ((unsigned char) s[i] & 0xC0) != 0x80;
    return n;
}

void slm_pg_redact_put(const SlmRedacted *r, ReturnSetInfo *result)
{
    size_t at = 0;
    int characters = 0;

    for (size_t i = 0; i < r->n; i++) {
        const SlmRedactSpan *span = &r->spans[i];
        int length = count_characters(r->text + span->begin, span->end - span->begin);
        Datum values[5];
        bool nulls[5] = {false};

        characters += count_characters(r->text + at, span->begin - at);
        values[0] = PointerGetDatum(slm_pg_text_from_utf8(span->kind, strlen(span->kind)));
        values[1] = PointerGetDatum(slm_pg_text_from_utf8(r->text + span->begin, span->end - span->begin));
        values[2] = Int32GetDatum(characters + 1);
        values[3] = Int32GetDatum(characters + length);
        values[4] = Int32GetDatum(span->n);
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
        characters += length;
        at = span->end;
    }
}

/* ---- the functions */

static SlmRedacted find(const text *input, uint32 kinds)
{
    SlmRedacted r = {0};

    r.text = slm_pg_utf8_view(input, &r.length);
    slm_pg_redact_forms(&r, kinds);
    slm_pg_redact_number(&r);
    return r;
}

/* slm_redact(input, categories, mask) */
Datum slm_pg_redact(PG_FUNCTION_ARGS)
{
    const char *mask = NULL;
    SlmRedacted r;

    if (PG_ARGISNULL(0))
        PG_RETURN_NULL();
    if (!PG_ARGISNULL(2))
        mask = slm_pg_utf8_from_text(PG_GETARG_TEXT_PP(2), NULL);
    r = find(PG_GETARG_TEXT_PP(0), kinds_arg(fcinfo, 1));
    if (r.n == 0)
        PG_RETURN_DATUM(PG_GETARG_DATUM(0));
    PG_RETURN_TEXT_P(slm_pg_redact_masked(&r, mask));
}

/* slm_redact_details(input, categories) */
Datum slm_pg_redact_details(PG_FUNCTION_ARGS)
{
    SlmRedacted r;

    InitMaterializedSRF(fcinfo, 0);
    if (PG_ARGISNULL(0))
        return (Datum) 0;
    r = find(PG_GETARG_TEXT_PP(0), kinds_arg(fcinfo, 1));
    slm_pg_redact_put(&r, (ReturnSetInfo *) fcinfo->resultinfo);
    return (Datum) 0;
}
