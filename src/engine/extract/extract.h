/*
 * Values that a text holds: candidates by their form, and which of them a field means.
 *
 *   text ──► words, each with its place ──► candidates of the field's kind ──► score by the words around them ──► best first
 *
 * A candidate is a span of the text with the form of its kind (a date, an amount, an identifier, a phrase) and its normal form; nothing is
 * ever made that does not stand in the text.  Its score says how near the words stand that name the field, and whether other labels stand
 * nearer: "ticket 15404" is no order number.  Distances are in words, and the end of a sentence or a line makes them longer.  The words
 * that name things (order, Bestellung, commande ...) are groups in several languages (words.c).
 *
 * The work is linear in the text times the candidates' neighbourhood, which is bounded.
 */
#ifndef SLM_EXTRACT_H
#define SLM_EXTRACT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

/* KIND(id, name): the name is what SQL calls it. */
#define SLM_EXTRACT_KINDS(KIND)  \
    KIND(TEXT, "text")           \
    KIND(NUMBER, "number")       \
    KIND(INTEGER, "integer")     \
    KIND(AMOUNT, "amount")       \
    KIND(DATE, "date")           \
    KIND(TIME, "time")           \
    KIND(TIMESTAMP, "timestamp") \
    KIND(ID, "id")               \
    KIND(EMAIL, "email")         \
    KIND(PHONE, "phone")         \
    KIND(IBAN, "iban")           \
    KIND(CARD, "card")           \
    KIND(URL, "url")             \
    KIND(IP, "ip")               \
    KIND(UUID, "uuid")           \
    KIND(ENUM, "enum")

typedef enum slm_extract_kind {
#define KIND(id, name) SLM_EXTRACT_##id,
    SLM_EXTRACT_KINDS(KIND)
#undef KIND
        SLM_EXTRACT_N_KINDS
} slm_extract_kind;

/* What is looked for.  Strings are valid UTF-8 and borrowed. */
typedef struct slm_extract_field {
    const char *name;     /* "order_number" */
    const char *question; /* "What is the order number?", or NULL */
    slm_extract_kind kind;
    bool whole;                /* NUMBER, AMOUNT, ID: digits alone */
    const char *const *values; /* ENUM: [n_values] */
    size_t n_values;
} slm_extract_field;

#define SLM_EXTRACT_NORMAL 64

typedef struct slm_extract_candidate {
    size_t begin, end;               /* bytes of the text */
    char normal[SLM_EXTRACT_NORMAL]; /* NUL-terminated; empty: the span as it stands */
    uint32_t value;                  /* ENUM: which */
    float score;                     /* 0..1; of TEXT by the words around it alone: a first guess */
} slm_extract_candidate;

typedef struct slm_extract_options {
    bool month_first;         /* how 4/5/2026 is read where nothing in the text tells */
    bool meant;               /* the text is known to be what the field means: the form alone counts, and all score 1 */
    const volatile int *stop; /* looked at every few thousand bytes; may be NULL */
} slm_extract_options;

const char *slm_extract_name(slm_extract_kind kind);
/* The kind of that name ("identifier", "e-mail" and the like too), SLM_EXTRACT_N_KINDS when there is none. */
slm_extract_kind slm_extract_of_name(const char *name);
/* The kind that a field's name and question (or NULL) ask for; TEXT when they name none. */
slm_extract_kind slm_extract_guess(const char *name, const char *question);

/* How 4/5/2026 is read in a text: as its other dates tell, or else as the options would have it. */
bool slm_extract_month_first(const char *text, size_t length, bool otherwise);

/* Most candidates of a field: the best ones. */
#define SLM_EXTRACT_MOST 64

/* The candidates of a field, the best first, of equal ones the earlier; those that cannot be meant are left out.  text is valid UTF-8.
 * *out [*n] is freed by the caller.  NOMEM, CANCELLED. */
slm_status slm_extract_find(const char *text, size_t length, const slm_extract_field *field, const slm_extract_options *options,
                            slm_extract_candidate **out, size_t *n, slm_error *err);

#endif
