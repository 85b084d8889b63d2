/*
 * labels.h: the labels of a classification, from whatever the SQL function was given.
 *
 *   text[]      ARRAY['billing', 'delivery']
 *   jsonb       [{"label": "billing", "description": "invoices, refunds"}, "other"]
 *   anyenum     the values of the enum type, in their order
 */
#ifndef SLM_PG_LABELS_H
#define SLM_PG_LABELS_H

#include "postgres.h"

#include "fmgr.h"

#define SLM_MAX_LABELS 10000

/* Strings are UTF-8, palloc'ed in the context of the caller. */
typedef struct SlmLabels {
    int n;
    const char **names;        /* [n] distinct, not empty */
    const char **descriptions; /* [n], or NULL where no label has one; elements may be NULL */
    Oid enum_type;             /* InvalidOid unless they came from an enum */
} SlmLabels;

/* A text with the label that is right for it. */
typedef struct SlmExamples {
    int n;
    const char **texts;
    int *labels; /* [n] index into names */
} SlmExamples;

/* Reads argument `arg` by its type; ERROR with a HINT for what cannot be labels. */
void slm_pg_labels_arg(FunctionCallInfo fcinfo, int arg, SlmLabels *out);
/* Reads [{"text": "...", "label": "..."}, ...]; NULL gives none. */
void slm_pg_examples_arg(FunctionCallInfo fcinfo, int arg, const SlmLabels *labels, SlmExamples *out);
/* The Datum of a label: text, or the enum's value. */
Datum slm_pg_label_datum(const SlmLabels *labels, int i);

#endif
