/*
 * head.h: the labels that a model brings with it: the outputs of its classification head.
 */
#ifndef SLM_PG_HEAD_H
#define SLM_PG_HEAD_H

#include "postgres.h"

#include "engine/slm.h"
#include "pg/functions/reading.h"
#include "pg/run/opened.h"
#include "pg/run/work.h"

typedef struct SlmHead {
    int n;
    char **labels;       /* [n] UTF-8 */
    slm_head_kind kind;
    float *logits;       /* [n] the highest of a text's windows */
} SlmHead;

/* The model that a call without labels means, if it has labels of its own; NULL: it has none, or no model is named and none is set. */
SlmOpenModel *slm_pg_head_model(const text *model);
/* For begin: submits the text. Lives as long as the work. */
SlmHead *slm_pg_read_head(SlmWork *work, const SlmText *t);
/* For finish: [n] probabilities. */
void slm_pg_head_probabilities(const SlmHead *head, double *out);

#endif
