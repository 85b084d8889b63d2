/*
 * cascade.h: cascades as calls run them (cascade.c).
 *
 *   [{"classifier": "topics"}, {"labels": ["a", "b"], "model": "smollm2", "method": "direct"}]
 *   [{"classifier": "refunds"}, {"condition": "asks for a refund", "model": "smollm2"}]
 *
 * A step is a trained classifier, or labels (or descriptions), or a condition, with a model, a method and an instruction.  The answers to
 * a condition are "true" and "false"; a cascade whose last step has one answers slm_filter.
 */
#ifndef SLM_PG_CASCADE_H
#define SLM_PG_CASCADE_H

#include "postgres.h"

#include "utils/jsonb.h"

#include "pg/functions/classification.h"
#include "pg/models/asked.h"
#include "pg/models/catalog.h"

#define SLM_MAX_STEPS 8

typedef struct SlmCascadeStep {
    Datum values[SLM_CLASSIFY_ARGUMENTS]; /* of slm_classify, without the text's own */
    bool nulls[SLM_CLASSIFY_ARGUMENTS];
    const text *condition;  /* in place of labels; NULL: none */
    char key[SLM_WHOLE_KEY_SIZE]; /* image of the model that its threshold was learned with */
    int32 version;          /* of the classifier; 0: none */
    double threshold;       /* least probability with which its answer counts; of the last, 0 */
} SlmCascadeStep;

/* Reads and checks steps, in CurrentMemoryContext: values and nulls; returns how many there are, 2 to SLM_MAX_STEPS. */
int slm_pg_read_steps(Jsonb *json, SlmCascadeStep steps[SLM_MAX_STEPS]);

/* An opened cascade. */
typedef struct SlmCascade {
    SlmKept kept; /* first: SlmKept * is SlmCascade * */
    MemoryContext context; /* that of everything here */
    int n;
    SlmCascadeStep steps[SLM_MAX_STEPS];
    double target, audit; /* audit: share of the texts answered early that the last step answers all the same */
} SlmCascade;

/* ERROR when there is none of that name, or the current user may not use it. Released when CurrentMemoryContext goes. */
SlmCascade *slm_pg_use_cascade(const text *name);
/* ERROR unless a step runs with the model and classifier that its threshold was learned with. */
void slm_pg_check_step(const SlmCascade *cascade, int step, const char *key, int32 version);
/* Is a text among those that are audited? The same in any batch and order. */
bool slm_pg_is_audited(const SlmCascade *cascade, const text *input);

/* The condition that a cascade answers; NULL: none. */
static inline const text *slm_pg_cascade_condition(const SlmCascadeStep *steps, int n)
{
    return steps[n - 1].condition;
}
/* An answer to a condition, as its classifiers were given it ("t", "yes"), as "true" or "false"; another one as it is. */
const char *slm_pg_truth(const char *answer);

#endif
