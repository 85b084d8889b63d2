/*
 * shortlist.h: many labels in two steps: an encoder makes a short list, a second model weighs what is on it.
 *
 *   text ──► encoder ──► cosine with every label's prototype ──► the k nearest ──► second model, which reads these ──► probabilities
 *
 * A label on the list has the probability  L * softmax(20 cosine + w s),  where L is what all of the list have together by the encoder
 * alone, s the second model's score and w the weight of its method; a label that is not on it keeps what the encoder gives it.  So they
 * sum to 1, and the best one is on the list: its best has at least L / k, the others less than its least likely by the encoder.
 */
#ifndef SLM_PG_SHORTLIST_H
#define SLM_PG_SHORTLIST_H

#include "postgres.h"

#include "fmgr.h"

#include "pg/functions/labels.h"
#include "pg/functions/reading.h"
#include "pg/run/opened.h"
#include "pg/run/work.h"

typedef struct SlmShortlist {
    SlmOpenModel *entry;   /* the encoder */
    int n;                 /* labels on the list: as many as there are, at most */
    const double *cosines; /* with each label's prototype: filled when the encoder has read */
    int *listed;           /* [n] ascending, so in the order of the call; NULL before slm_pg_shortlist_choose */
} SlmShortlist;

/* For begin: reads the arguments; NULL: the call wants no short list.  Checks that the encoder may be used, and is not the model itself. */
SlmShortlist *slm_pg_shortlist_arg(FunctionCallInfo fcinfo, int size, int model, const SlmOpenModel *second);
/* ERROR: there can be none for a kind of model. */
pg_noreturn void slm_pg_refuse_shortlist(const char *model);
/* For begin: has the encoder read the text, which lives as long as the work, or takes its stored embedding (NULL: there is none). */
void slm_pg_shortlist_read(SlmWork *work, SlmShortlist *list, const text *input, SlmTruncate truncate, const SlmLabels *labels,
                           const SlmExamples *examples, const ArrayType *embedding);
/* Once it has been read: the labels on the list, a part of all. */
SlmLabels slm_pg_shortlist_choose(SlmShortlist *list, const SlmLabels *all);
/* scores [n], of the second model times its weight: fills the probabilities of all labels and returns the best one. */
int slm_pg_shortlist_combine(const SlmShortlist *list, const double *scores, int n_labels, double *probabilities);
/* Is a label on it? */
bool slm_pg_shortlist_has(const SlmShortlist *list, int label);

#endif
