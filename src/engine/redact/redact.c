/*
 * redact.c: one pass over a text with the scanners of the wanted kinds.
 */
#include "engine/redact/redact.h"

#include <stdlib.h>
#include <string.h>

typedef size_t (*scanner)(const slm_redact_text *t, size_t at);

static const scanner scanners[] = {slm_redact_email, slm_redact_url,         slm_redact_iban,       slm_redact_card,
                                   slm_redact_ip,    slm_redact_national_id, slm_redact_birth_date, slm_redact_phone};

static const char *const names[] = {
#define KIND(id, name) name,
    SLM_REDACT_KINDS(KIND)
#undef KIND
};

_Static_assert(sizeof scanners / sizeof *scanners == SLM_REDACT_N_KINDS, "a scanner for each kind");

const char *slm_redact_name(slm_redact_kind kind)
{
    return names[kind];
}

slm_redact_kind slm_redact_of_name(const char *name, size_t length)
{
    int kind = 0;
    while (kind < SLM_REDACT_N_KINDS && (strlen(names[kind]) != length || memcmp(names[kind], name, length) != 0))
        kind++;
    return (slm_redact_kind) kind;
}

static slm_status add(slm_redact_span span, slm_redact_span **spans, size_t *n, size_t *room, slm_error *err)
{
    if (*n == *room) {
        size_t more = *room == 0 ? 16 : *room * 2;
        slm_redact_span *grown = realloc(*spans, more * sizeof *grown);
        if (grown == NULL)
            return slm_fail(err, SLM_NOMEM, "out of memory");
        *spans = grown;
        *room = more;
    }
    (*spans)[(*n)++] = span;
    return SLM_OK;
}

slm_status slm_redact_find(const char *text, size_t length, uint32_t kinds, const volatile int *stop, slm_redact_span **spans, size_t *n,
                           slm_error *err)
{
    const slm_redact_text t = {text, length};
    slm_redact_span *found = NULL;
    size_t room = 0, n_found = 0;
    slm_status status = SLM_OK;

    for (size_t i = 0; i < length && status == SLM_OK;) {
        slm_redact_span best = {i, i, SLM_REDACT_N_KINDS};
        int c = (unsigned char) text[i];
        /* a value begins where a word begins, or with what no word has */
        bool begins = i == 0 || !slm_redact_word((unsigned char) text[i - 1]) || !slm_redact_word(c);
        for (int kind = 0; begins && kind < SLM_REDACT_N_KINDS; kind++) {
            size_t end = (kinds >> kind & 1) != 0 ? scanners[kind](&t, i) : 0;
            if (end > best.end)
                best = (slm_redact_span){i, end, (slm_redact_kind) kind};
        }
        if (best.end > i) {
            status = add(best, &found, &n_found, &room, err);
            i = best.end;
            continue;
        }
        i++;
        if (stop != NULL && (i & 4095) == 0 && *stop != 0)
            status = slm_fail(err, SLM_CANCELLED, "cancelled");
    }
    if (status != SLM_OK) {
        free(found);
        return status;
    }
    *spans = found;
    *n = n_found;
    return SLM_OK;
}
