/*
 * Values in a text that identify somebody and have a form of their own: addresses of mail, phone numbers, accounts, cards and their kin.
 *
 * Each kind has a scanner that says whether a value begins at a byte and where it ends; where the kind has a check digit, a length by
 * country or a range, the value must pass it.  One pass from the left; of kinds that claim the same place the longest value wins, then the
 * order below.  No regular expression: the work is linear in the text.
 */
#ifndef SLM_REDACT_H
#define SLM_REDACT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

/* KIND(id, name): the name is what SQL calls it. */
#define SLM_REDACT_KINDS(KIND)                                                                                                           \
    KIND(EMAIL, "email")                                                                                                                 \
    KIND(URL, "url")                                                                                                                     \
    KIND(IBAN, "iban")                                                                                                                   \
    KIND(CARD, "card")                                                                                                                   \
    KIND(IP, "ip")                                                                                                                       \
    KIND(NATIONAL_ID, "national_id")                                                                                                     \
    KIND(BIRTH_DATE, "birth_date")                                                                                                       \
    KIND(PHONE, "phone")

typedef enum slm_redact_kind {
#define KIND(id, name) SLM_REDACT_##id,
    SLM_REDACT_KINDS(KIND)
#undef KIND
        SLM_REDACT_N_KINDS
} slm_redact_kind;

typedef struct slm_redact_span {
    size_t begin, end; /* bytes of the text */
    slm_redact_kind kind;
} slm_redact_span;

const char *slm_redact_name(slm_redact_kind kind);
/* SLM_REDACT_N_KINDS when there is none of that name. */
slm_redact_kind slm_redact_of_name(const char *name, size_t length);

/* The spans of the kinds whose bit (1 << kind) is set, in order, apart from each other.  text is valid UTF-8.  *spans [*n] is freed by the
 * caller.  stop, if set, is looked at every few thousand bytes: SLM_CANCELLED. */
slm_status slm_redact_find(const char *text, size_t length, uint32_t kinds, const volatile int *stop, slm_redact_span **spans, size_t *n,
                           slm_error *err);

/* ---- the scanners (scan_*.c): the end of a value that begins at `at`, or 0.  before(text, at) was checked by the caller: no letter or
 * digit stands directly before. */
typedef struct slm_redact_text {
    const char *text;
    size_t length;
} slm_redact_text;

size_t slm_redact_email(const slm_redact_text *t, size_t at);
size_t slm_redact_url(const slm_redact_text *t, size_t at);
size_t slm_redact_iban(const slm_redact_text *t, size_t at);
size_t slm_redact_card(const slm_redact_text *t, size_t at);
size_t slm_redact_ip(const slm_redact_text *t, size_t at);
size_t slm_redact_national_id(const slm_redact_text *t, size_t at);
size_t slm_redact_birth_date(const slm_redact_text *t, size_t at);
size_t slm_redact_phone(const slm_redact_text *t, size_t at);

/* ---- what scanners look at */
static inline int slm_redact_at(const slm_redact_text *t, size_t i)
{
    return i < t->length ? (unsigned char) t->text[i] : -1;
}

static inline bool slm_redact_digit(int c)
{
    return c >= '0' && c <= '9';
}

static inline bool slm_redact_letter(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Part of a word: a letter of any script counts (bytes of 0x80 and above), so do digits and the underscore. */
static inline bool slm_redact_word(int c)
{
    return slm_redact_letter(c) || slm_redact_digit(c) || c == '_' || c >= 0x80;
}

/* May a value end before byte i?  Not in the middle of a word or number. */
static inline bool slm_redact_ends(const slm_redact_text *t, size_t i)
{
    return !slm_redact_word(slm_redact_at(t, i));
}

#endif
