/*
 * entities.h: what a model with labels for tokens finds in a text, for functions that make something of it (entities.c).
 */
#ifndef SLM_PG_ENTITIES_H
#define SLM_PG_ENTITIES_H

#include "postgres.h"

#include "engine/slm.h"
#include "pg/functions/reading.h"
#include "pg/run/work.h"

/* What is being read. */
typedef struct SlmEntityReading SlmEntityReading;

/* For begin: reads a text that has been measured, in windows that overlap. */
SlmEntityReading *slm_pg_read_entities(SlmWork *work, const SlmText *text);
/* For finish: [*n] in order, with places in bytes of the text; in CurrentMemoryContext. */
slm_entity *slm_pg_entities_found(const SlmEntityReading *reading, size_t *n);

#endif
