/*
 * uses.h: what uses a model, an adapter or a classifier, so that nothing in use is pulled away.
 */
#ifndef SLM_PG_USES_H
#define SLM_PG_USES_H

#include "postgres.h"

typedef enum SlmObject { SLM_MODEL = 1, SLM_ADAPTER = 2, SLM_CLASSIFIER = 4 } SlmObject;

/* Before a drop (verb "drop") or a renaming ("rename"): an ERROR that lists the users, with `again`, the same call with cascade, as hint.
 * With cascade: drops the classifiers and adapters of a model that is dropped, and says in NOTICEs what was dropped and what misses the
 * name from now on. */
void slm_pg_refuse_in_use(SlmObject object, const char *name, const char *verb, const char *again, bool cascade);

#endif
