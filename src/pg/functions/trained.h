/*
 * trained.h: the versions of trained classifiers that this backend has opened (trained.c).
 */
#ifndef SLM_PG_TRAINED_H
#define SLM_PG_TRAINED_H

#include "postgres.h"

#include "engine/slm.h"
#include "pg/models/asked.h"
#include "pg/models/catalog.h"
#include "pg/models/classifier_rows.h"
#include "pg/run/opened.h"

/* An opened version of a classifier; a work keeps the one that it began with. */
typedef struct SlmTrained {
    SlmKept kept; /* first: SlmKept * is SlmTrained * */
    int32 version;
    char key[SLM_WHOLE_KEY_SIZE]; /* image of the model whose embeddings it takes */
    slm_classifier *classifier;
    bool has_model; /* its model was found for who asked last */
} SlmTrained;

/* The active version; ERROR when there is none of that name, or none that the current user may use. Released when CurrentMemoryContext
 * goes. */
SlmTrained *slm_pg_use_classifier(const text *name);
/* The model that made its embeddings, wherever it is registered now; ERROR when it is not, or is of another width. Checks the privilege. */
SlmOpenModel *slm_pg_classifier_model(SlmTrained *trained);
/* Opens a blob, which is freed with CurrentMemoryContext; NULL with *err when it is damaged. */
slm_classifier *slm_pg_open_classifier(const struct varlena *blob, slm_error *err);
slm_classifier *slm_pg_open_blob(const void *blob, size_t bytes, slm_error *err);

#endif
