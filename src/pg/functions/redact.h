/*
 * redact.h: places of a text that are to be replaced, whoever found them: by their form (redact.c), by patterns of administrators
 * (redact_patterns.c), by a model that finds names (redact_all.c).
 */
#ifndef SLM_PG_REDACT_H
#define SLM_PG_REDACT_H

#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "nodes/execnodes.h"

#include "engine/redact/redact.h"

#define SLM_REDACT_ALL ((1u << SLM_REDACT_N_KINDS) - 1)

typedef struct SlmRedactSpan {
    size_t begin, end; /* bytes */
    const char *kind;  /* UTF-8 */
    int n;             /* of the value among the different ones of its kind, from 1 */
} SlmRedactSpan;

/* In CurrentMemoryContext; spans are in order, apart from each other. */
typedef struct SlmRedacted {
    const char *text; /* UTF-8 */
    size_t length;
    SlmRedactSpan *spans; /* [n] */
    size_t n, room;
} SlmRedacted;

void slm_pg_redact_add(SlmRedacted *r, size_t begin, size_t end, const char *kind);
/* Adds what has one of the forms (bits of slm_redact_kind); there is nothing yet. */
void slm_pg_redact_forms(SlmRedacted *r, uint32 kinds);
/* All are there: equal values get equal numbers, in the order of their first appearance. */
void slm_pg_redact_number(SlmRedacted *r);
/* The text with the values replaced by the mask, UTF-8, or NULL for the usual one. */
text *slm_pg_redact_masked(const SlmRedacted *r, const char *mask);
/* Rows of kind, value, start, end, n. */
void slm_pg_redact_put(const SlmRedacted *r, ReturnSetInfo *result);

/* ---- patterns (redact_patterns.c) */

typedef struct SlmRedactPattern {
    const char *category, *pattern, *check; /* server's encoding; check may be NULL */
} SlmRedactPattern;

/* What slm.redact_pattern holds, in the order of names; palloc'ed. */
SlmRedactPattern *slm_pg_redact_patterns(int *n);
/* Calls found for each place of the text (UTF-8, as pg_wchar [n]) that fits the pattern, with its first character and the one behind. */
void slm_pg_redact_match(const SlmRedactPattern *p, const pg_wchar *chars, size_t n, void (*found)(void *arg, size_t from, size_t to),
                         void *arg);

#endif
