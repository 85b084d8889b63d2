/*
 * prototypes.h: one vector per label, computed once per session for a set of labels.
 *
 * A label's prototype is the normalized mean of the embeddings of its name (with its description) and of its examples.  Sets are kept by
 * content, least recently used first out, in this backend.
 */
#ifndef SLM_PG_PROTOTYPES_H
#define SLM_PG_PROTOTYPES_H

#include "postgres.h"

#include "utils/array.h"

#include "pg/functions/labels.h"
#include "pg/run/opened.h"

#define SLM_COSINE_SCALE 20.0 /* of a cosine as a log probability: the scale that sentence-transformers trains with */

/* [labels->n, n_embd], normalized; palloc'ed in the current context. Waits for the model when the set is new. */
float *slm_pg_prototypes(SlmOpenModel *entry, const SlmLabels *labels, const SlmExamples *examples);

/* The numbers of an embedding that is stored with the text, checked against the model. */
const float *slm_pg_stored_vector(const SlmOpenModel *entry, const ArrayType *embedding);
/* Its cosines with n prototypes. */
double *slm_pg_stored_cosines(const SlmOpenModel *entry, const ArrayType *embedding, const float *prototypes, int n);
/* ERROR: what stands beside the embedding reads the text itself. */
void slm_pg_refuse_embedding(const char *beside);

/* The numbers of a one-dimensional real[] without NULLs. */
static inline const float *slm_pg_floats(ArrayType *array)
{
    return (const float *) (const void *) ((char *) array + ARR_OVERHEAD_NONULLS(1));
}

/* Forgets all kept vectors. */
void slm_pg_forget_prototypes(void);

#endif
