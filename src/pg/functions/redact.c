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

#include "engine/redact/redact.h"
#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/base/errors.h"

PG_FUNCTION_INFO_V1(slm_pg_redact);
PG_FUNCTION_INFO_V1(slm_pg_redact_details);

#define MASK "[{KIND}_{n}]"

typedef struct Found {
    const char *text; /* UTF-8 */
    size_t length;
    slm_redact_span *spans; /* [n], palloc'ed */
    int *numbers;           /* [n] of the value among those of its kind */
    size_t n;
} Found;

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
        return (1u << SLM_REDACT_N_KINDS) - 1;
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

static bool same_value(const Found *f, size_t a, size_t b)
{
    size_t length = f->spans[a].end - f->spans[a].begin;

    return f->spans[a].kind == f->spans[b].kind && f->spans[b].end - f->spans[b].begin == length &&
           memcmp(f->text + f->spans[a].begin, f->text + f->spans[b].begin, length) == 0;
}

static void number_values(Found *f)
{
    int last[SLM_REDACT_N_KINDS] = {0};

    f->numbers = palloc(sizeof(int) * (f->n + 1));
    for (size_t i = 0; i < f->n; i++) {
        f->numbers[i] = 0;
        for (size_t k = i; k-- > 0 && f->numbers[i] == 0 && i - k <= 1000;)
            f->numbers[i] = same_value(f, k, i) ? f->numbers[k] : 0;
        if (f->numbers[i] == 0)
            f->numbers[i] = ++last[f->spans[i].kind];
    }
}

static Found find(const text *input, uint32 kinds)
{
    Found f = {0};
    slm_redact_span *spans;
    slm_status status;
    slm_error err;

    f.text = slm_pg_utf8_view(input, &f.length);
    while ((status = slm_redact_find(f.text, f.length, kinds, SLM_STOP, &spans, &f.n, &err)) == SLM_CANCELLED)
        slm_pg_interrupted();
    if (status != SLM_OK)
        slm_pg_error(&err, NULL);
    f.spans = MemoryContextAllocExtended(CurrentMemoryContext, sizeof *spans * (f.n + 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
    if (f.spans != NULL)
        memcpy(f.spans, spans, sizeof *spans * f.n);
    free(spans);
    if (f.spans == NULL)
        ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
    number_values(&f);
    return f;
}

/* Writes a mask with its {kind}, {KIND} and {n} filled in. */
static void put_mask(StringInfo out, const char *mask, slm_redact_kind kind, int number)
{
    for (const char *p = mask; *p != '\0'; p++) {
        if (strncmp(p, "{kind}", 6) == 0) {
            appendStringInfoString(out, slm_redact_name(kind));
            p += 5;
        } else if (strncmp(p, "{KIND}", 6) == 0) {
            for (const char *c = slm_redact_name(kind); *c != '\0'; c++)
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

/* slm_redact(input, categories, mask) */
Datum slm_pg_redact(PG_FUNCTION_ARGS)
{
    const char *mask = MASK;
    StringInfoData out;
    size_t at = 0;
    Found f;

    if (PG_ARGISNULL(0))
        PG_RETURN_NULL();
    if (!PG_ARGISNULL(2))
        mask = slm_pg_utf8_from_text(PG_GETARG_TEXT_PP(2), NULL);
    f = find(PG_GETARG_TEXT_PP(0), kinds_arg(fcinfo, 1));
    if (f.n == 0)
        PG_RETURN_DATUM(PG_GETARG_DATUM(0));
    initStringInfo(&out);
    for (size_t i = 0; i < f.n; i++) {
        appendBinaryStringInfo(&out, f.text + at, (int) (f.spans[i].begin - at));
        put_mask(&out, mask, f.spans[i].kind, f.numbers[i]);
        at = f.spans[i].end;
    }
    appendBinaryStringInfo(&out, f.text + at, (int) (f.length - at));
    PG_RETURN_TEXT_P(slm_pg_text_from_utf8(out.data, (size_t) out.len));
}

static int count_characters(const char *s, size_t bytes)
{
    int n = 0;

    for (size_t i = 0; i < bytes; i++)
        n += ((unsigned char) s[i] & 0xC0) != 0x80;
    return n;
}

/* slm_redact_details(input, categories) */
Datum slm_pg_redact_details(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
    size_t at = 0;
    int characters = 0;
    Found f;

    InitMaterializedSRF(fcinfo, 0);
    if (PG_ARGISNULL(0))
        return (Datum) 0;
    f = find(PG_GETARG_TEXT_PP(0), kinds_arg(fcinfo, 1));
    for (size_t i = 0; i < f.n; i++) {
        const slm_redact_span *span = &f.spans[i];
        int length = count_characters(f.text + span->begin, span->end - span->begin);
        Datum values[5];
        bool nulls[5] = {false};

        characters += count_characters(f.text + at, span->begin - at);
        values[0] = CStringGetTextDatum(slm_redact_name(span->kind));
        values[1] = PointerGetDatum(slm_pg_text_from_utf8(f.text + span->begin, span->end - span->begin));
        values[2] = Int32GetDatum(characters + 1);
        values[3] = Int32GetDatum(characters + length);
        values[4] = Int32GetDatum(f.numbers[i]);
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
        characters += length;
        at = span->end;
    }
    return (Datum) 0;
}
