/*
 * asking.h: typed questions about one text, with the probability of every answer: what slm_filter, slm_score and slm_decide share.
 *
 * A question is read as statements, one for each option (the condition itself where it is answered by yes or no), and each statement is
 * weighed on its own, so the order of options cannot matter:
 *
 *   embedding   the cosine of text and statement; for encoders
 *   described   how much likelier the statement's own words become as a description of the text, beside one of "N/A"; for tiny models,
 *               which cannot answer but know what fits
 *   direct      P(option | text, question), in the order of their bytes in the prompt, beside the same of "N/A"; for models that answer
 *   auto        embedding for an encoder, described below 1e9 parameters, else direct
 *
 * The text comes first in the prompt, where it is longer than what is asked about it: all questions share its keys and values, and none
 * sees another.  docs/DECISIONS.md has the figures that made it so.
 */
#ifndef SLM_PG_ASKING_H
#define SLM_PG_ASKING_H

#include "postgres.h"

#include "utils/array.h"

#include "pg/functions/reading.h"
#include "pg/run/opened.h"
#include "pg/run/work.h"

#define SLM_MAX_OPTIONS 255
#define SLM_MAX_LEVELS 10

/* Arguments of slm_filter. */
enum {
    SLM_FILTER_CONDITION,
    SLM_FILTER_INPUT,
    SLM_FILTER_MODEL,
    SLM_FILTER_METHOD,
    SLM_FILTER_INSTRUCTION,
    SLM_FILTER_THRESHOLD,
    SLM_FILTER_EMBEDDING, /* real[]: the text's, stored */
    SLM_FILTER_CASCADE,
    SLM_FILTER_TRUNCATE
};

typedef enum SlmQuestionType { SLM_QUESTION_YES_NO, SLM_QUESTION_CHOICE, SLM_QUESTION_SCALE } SlmQuestionType;

/* Strings are UTF-8 and live as long as the work. */
typedef struct SlmQuestion {
    SlmQuestionType type;
    const char *text;          /* what is asked, or the condition; NULL: nothing but the options says it */
    int n;                     /* options; 2 where it is answered by yes (the first) or no */
    const char **names;        /* [n] distinct; a scale's from the lowest to the highest */
    const char **descriptions; /* [n], elements may be NULL */
    bool none;                 /* choice: it may be that no option fits, which is one more answer */
    bool by_numbers;           /* scale: its levels have no words but numbers */
    const int *only;           /* [n_only] the options of a choice that are weighed, by method described; NULL: all */
    int n_only;
} SlmQuestion;

/* What the method auto means for a model. Static. */
const char *slm_pg_decision_method(bool can_generate, uint64 parameters);

typedef struct SlmAsking SlmAsking;

/* What is asked of which model. */
typedef struct SlmAskedRow {
    SlmOpenModel *entry;
    bool calibrated;         /* what slm_calibrate has learned is applied */
    const text *method;      /* or NULL */
    const char *instruction; /* UTF-8, in place of the words that ask for a description; or NULL */
    const char *input;       /* UTF-8 [length], lives as long as the work */
    size_t length;
    const ArrayType *embedding; /* of the input, stored; NULL: it is to be made */
    SlmTruncate truncate;
} SlmAskedRow;

/* For begin: submits what is needed for all of n questions. */
SlmAsking *slm_pg_ask(SlmWork *work, const SlmAskedRow *row, const SlmQuestion *questions, int n);
/* For finish: of question i the probabilities of its answers, [n], or [n + 1] with none: they sum to 1. */
const double *slm_pg_asked(SlmWork *work, const SlmAsking *asked, int i);

/* The same by method described: how far each weighed option's log probability was raised. [n], of which the others are left as they are. */
void slm_pg_asked_raised(SlmWork *work, const SlmAsking *asked, int i, double *raised);

#endif
