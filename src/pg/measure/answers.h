/*
 * Answers beside the truth: what a candidate (an expression, a trained classifier, a column) says of the rows of a query (answers.c).
 */
#ifndef SLM_PG_ANSWERS_H
#define SLM_PG_ANSWERS_H

#include "postgres.h"

#include "access/tupdesc.h"

#include "engine/metrics/metrics.h"

/* Who answers.  Exactly one of expression, classifier and column is set; none: the query's third column is the answer. */
typedef struct SlmCandidate {
    Oid schema;             /* of the extension's functions */
    const char *name;       /* for messages and results */
    const char *expression; /* over the query's columns, and input and expected: its first two */
    const char *classifier;
    const char *column;     /* of the query: another system's answers */
} SlmCandidate;

/* Rows that have an expected value, in the query's order; texts in the server's encoding. */
typedef struct SlmAnswers {
    int64 n, room;
    int64 unlabelled;      /* rows left out, as their expected value is NULL */
    const char **expected; /* [n] */
    const char **given;    /* [n] NULL: no answer */
    double *confidence;    /* [n] NaN: none */
    bool has_confidence;
    uint32 *inputs;        /* [n] of a classifier's rows hashes of their texts (slm_pg_row_hash), 0: none */
    double seconds, cpu_seconds; /* of the whole query */
} SlmAnswers;

/* Runs the query with the caller's rights, read-only.  ERROR where it is not one SELECT of an input and an expected value. */
void slm_pg_gather_answers(const char *query, const SlmCandidate *candidate, SlmAnswers *out);

/* A WARNING where a classifier was trained on some of the rows that it is measured by. */
void slm_pg_say_trained_on(const SlmCandidate *candidate, const SlmAnswers *answers);
/* From here on probabilities are those of the models, not corrected; AtEOXact_GUC(true, what it returns) ends it, as an error does. */
int slm_pg_uncalibrated(void);

/* ---- statements around a user's query */

/* Its text without what may end a statement. */
char *slm_pg_trimmed(const char *query);
/* The columns that it gives, at least so many; ERROR where it is not one SELECT that writes nothing. SPI is connected. */
TupleDesc slm_pg_look_at_query(const char *query, int least);
/* Names of its columns inside of a statement, [natts], quoted: their own where these tell them apart. */
const char **slm_pg_query_columns(TupleDesc desc);
/* Names as a list. */
const char *slm_pg_joined(const char *const *names, int n);

/* How good they are as labels; arrays in CurrentMemoryContext. */
typedef struct SlmLabelFigures {
    slm_classification all;
    double low, high; /* Wilson, 95 % */
    int n_labels;
    const char **names;      /* [n_labels] ascending by byte */
    slm_label_score *labels; /* [n_labels] */
    int32 *truth, *given;    /* [n] numbers of names, -1: no answer */
    double ece;              /* NaN without confidence */
    slm_calibration_bin bins[SLM_ECE_BINS];
} SlmLabelFigures;

void slm_pg_label_figures(const SlmAnswers *answers, SlmLabelFigures *out);

#endif
