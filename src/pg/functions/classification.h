/*
 * classification.h: one text against labels, by whichever way the arguments ask for: labels, descriptions, a trained classifier, or a
 * cascade of these.
 *
 * All functions that take these arguments take them in this order (SLM_CLASSIFY_*).
 */
#ifndef SLM_PG_CLASSIFICATION_H
#define SLM_PG_CLASSIFICATION_H

#include "postgres.h"

#include "fmgr.h"

#include "utils/array.h"

#include "pg/functions/reading.h"
#include "pg/run/opened.h"
#include "pg/run/work.h"

enum {
    SLM_CLASSIFY_INPUT,
    SLM_CLASSIFY_LABELS, /* text[], or an enum type */
    SLM_CLASSIFY_MODEL,
    SLM_CLASSIFY_METHOD,
    SLM_CLASSIFY_INSTRUCTION,
    SLM_CLASSIFY_THRESHOLD,
    SLM_CLASSIFY_EXAMPLES,
    SLM_CLASSIFY_DESCRIPTIONS,
    SLM_CLASSIFY_CLASSIFIER,
    SLM_CLASSIFY_EMBEDDING, /* real[]: the text's, stored */
    SLM_CLASSIFY_CASCADE,
    SLM_CLASSIFY_SHORTLIST,       /* integer: labels that an encoder leaves over */
    SLM_CLASSIFY_SHORTLIST_MODEL, /* which */
    SLM_CLASSIFY_TRUNCATE,
    SLM_CLASSIFY_ON_ERROR,
    SLM_CLASSIFY_ARGUMENTS
};

/* An argument of a function. */
typedef struct SlmArgument {
    int place;
    const char *name;
} SlmArgument;

/* ERROR where one of n arguments is given, or a method, beside what ("classifier", "cascade") makes no use of them.  has, has_method: what
 * it has of its own, in a hint. */
void slm_pg_refuse_beside(FunctionCallInfo fcinfo, const char *what, const SlmArgument *others, int n, int method, const char *has,
                          const char *has_method);

typedef struct SlmScores {
    int n, best;                 /* labels; the first of the most likely ones */
    const double *probabilities; /* [n] sum to 1; NULL when only the winner was asked for and the method needs no more */
    double threshold;
} SlmScores;

/* For SlmWorkKind.begin: checks the arguments and submits the requests; a text without a word is decided to be NULL. */
void slm_pg_classification_begin(SlmWork *work, FunctionCallInfo fcinfo, bool best_only);
/* For finish. Lives as long as the work. */
const SlmScores *slm_pg_classification_scores(SlmWork *work);
/* The name of a label in UTF-8. */
const char *slm_pg_classification_label(const SlmWork *work, int label);
/* As a Datum of the function's type: text, or the enum's value. */
Datum slm_pg_classification_datum(const SlmWork *work, int label);

/* A cascade for a function with other arguments: begin, and for finish what it says, the probability with it. */
typedef struct Classify SlmCascadeRun;
struct SlmCascade;
SlmCascadeRun *slm_pg_cascade_begin(SlmWork *work, struct SlmCascade *cascade, const text *input, const ArrayType *embedding,
                                    SlmTruncate truncate);
const char *slm_pg_cascade_answer(const SlmCascadeRun *run, double *probability);

/* What the method auto means for a model. Static. */
const char *slm_pg_auto_method(bool can_generate, uint64 parameters);
/* What method direct says before a text of a row: an instruction (NULL: the default) with the names of the labels, in UTF-8. */
char *slm_pg_direct_prompt(const SlmOpenModel *entry, const char *instruction, const char *const *names, int n);

/* The instruction with the first placeholder replaced; without one it stands as it is. */
char *slm_pg_fill(const char *instruction, const char *placeholder, const char *with);

#endif
