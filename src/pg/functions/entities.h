/*
 * entities.h: what a model that labels words finds in a text.
 */
#ifndef SLM_PG_ENTITIES_H
#define SLM_PG_ENTITIES_H

#include "postgres.h"

#include "pg/functions/reading.h"

typedef struct SlmEntities {
    const char *text;  /* UTF-8 */
    slm_entity *found; /* [n] in order; palloc'ed */
    size_t n;
} SlmEntities;

/* Begins to read a text that has been measured, with a model of SLM_TASK_ENTITIES. When the work is done, slm_pg_entities_found gives what
 * is there; palloc'ed in CurrentMemoryContext. */
typedef struct SlmEntityReading SlmEntityReading;
SlmEntityReading *slm_pg_read_entities(SlmWork *work, const SlmText *text);
SlmEntities slm_pg_entities_found(const SlmEntityReading *reading);

#endif
