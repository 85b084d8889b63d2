/*
 * questions.h: typed questions from the JSON of slm_decide.
 *
 *   {"refund": {"type": "noul", "instructions": "asks for a refund"}, ...}             named, as services of the System One form take them
 *   [{"name": "refund", "type": "predicate", "instructions": "asks for a refund"}, ...] in order, as the OpenAI Decisions API takes them
 *
 *   yes or no   noul, predicate, yes_no, boolean     criteria {"true": "...", "false": "..."}
 *   one of      choice                               criteria {"option": "description" or null}; choices, options, labels: a list of
 *                                                    words or of {"value" or "label" or "name": ..., "description": ...}; none
 *   scale       score, scale                         criteria, levels: a list from the lowest to the highest; or min and max
 */
#ifndef SLM_PG_QUESTIONS_H
#define SLM_PG_QUESTIONS_H

#include "postgres.h"

#include "utils/jsonb.h"

#include "pg/functions/asking.h"

#define SLM_MAX_QUESTIONS 256

/* How a question was written, which its answer follows. */
typedef struct SlmAskedAs {
    const char *name; /* UTF-8; NULL in a list without names */
    const char *type; /* the word that was given. ASCII */
    bool *boolean;    /* [n] options that were JSON booleans; NULL: none */
    int lowest;       /* the number of a scale's lowest level */
    const char *none; /* UTF-8, the name of the answer that none fits */
} SlmAskedAs;

typedef struct SlmQuestions {
    bool named;             /* an object: so is the answer */
    int n;
    SlmQuestion *questions; /* [n] */
    SlmAskedAs *as;         /* [n] */
} SlmQuestions;

/* Palloc'ed. What is wrong is an ERROR that names the place. */
SlmQuestions *slm_pg_read_questions(Jsonb *json);

#endif
