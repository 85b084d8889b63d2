/*
 * labels.h: the labels of a classification, from whatever the SQL function was given.
 *
 *   labels        ARRAY['billing', 'delivery'], or the values of an enum type in their order
 *   descriptions  {"billing": "invoices, refunds", "other": null}, or [{"label": "billing", "description": "invoices, refunds"}, "other"];
 *                 with labels it describes some of them, without it names them
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

/* Reads the arguments labels (by its type) and descriptions (-1: the function has none); ERROR with a HINT for what cannot be labels.
 * classifier: the function takes one too. */
void slm_pg_labels_arg(FunctionCallInfo fcinfo, int labels, int descriptions, bool classifier, SlmLabels *out);
/* A label and its description by a format of two strings, or the label alone. */
const char *slm_pg_described_label(const SlmLabels *labels, int i, const char *format);
/* Reads [{"text": "...", "label": "..."}, ...]; NULL gives none. */
void slm_pg_examples_arg(FunctionCallInfo fcinfo, int arg, const SlmLabels *labels, SlmExamples *out);
/* The Datum of a label (UTF-8): text, or the enum's value. */
Datum slm_pg_label_datum(const char *name, Oid enum_type);

#endif
