/*
 * classifiers.h: trained classifiers of this database, opened once per backend.
 */
#ifndef SLM_PG_CLASSIFIERS_H
#define SLM_PG_CLASSIFIERS_H

#include "pg/slm_pg.h"

/* An opened version of a classifier. Held while `users` is not zero, so a work keeps the one that it began with. */
typedef struct SlmTrained {
    dlist_node node;
    char name[SLM_NAME_MAX + 1];
    int32 version;
    char key[SLM_KEY_SIZE]; /* image of the model whose embeddings it takes */
    slm_classifier *classifier;
    int users;
    bool stale; /* another version is active now */
} SlmTrained;

/* The active version; ERROR when there is none of that name. Released when CurrentMemoryContext goes. */
SlmTrained *slm_pg_use_classifier(const text *name);
/* The model that made its embeddings, wherever it is registered now; ERROR when it is not. Checks the privilege. */
SlmEntry *slm_pg_classifier_model(const SlmTrained *trained);
/* Tells every backend that slm.classifier_registry has changed. */
void slm_pg_classifiers_changed(void);

#endif
