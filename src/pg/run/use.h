/*
 * use.h: from the name of a model in a call to the opened model (use.c).
 */
#ifndef SLM_PG_USE_H
#define SLM_PG_USE_H

#include "postgres.h"

#include "pg/models/catalog.h"
#include "pg/run/backend.h"

/* The opened model (or 'model+adapter') for a task: name NULL means the task's default. Checks the privilege; pinned in
 * CurrentMemoryContext, and not to be used beyond its life. */
SlmOpenModel *slm_pg_use_model(const text *name, SlmTask task);

#endif
