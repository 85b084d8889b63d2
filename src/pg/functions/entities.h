/*
 * entities.h: what a model with labels for tokens finds in a text, for functions that make something of it (entities.c).
 */
#ifndef SLM_PG_ENTITIES_H
#define SLM_PG_ENTITIES_H

#include "postgres.h"

#include "fmgr.h"

#include "engine/slm.h"
#include "pg/functions/reading.h"
#include "pg/run/work.h"

/* What is being read. */
typedef struct SlmEntityReading SlmEntityReading;

/* A place counted in characters: *at bytes of the text are *characters. */
typedef struct SlmPlace {
    size_t at;
    int characters;
} SlmPlace;
/* Goes on to a byte, which is no earlier one: the characters before it. */
int slm_pg_character_of(SlmPlace *place, const char *text, size_t byte);

/* The argument threshold; below 0: none is given. */
double slm_pg_entity_threshold(FunctionCallInfo fcinfo, int i);
/* For begin: a model that finds what it is asked for is asked for these labels, in UTF-8; one with labels of its own is not.  Where none is
 * given the threshold becomes 0.5 or 0. */
void slm_pg_ask_entities(SlmText *text, const char *const *labels, int n, double *threshold);
/* For begin: reads a text that has been measured, in windows that overlap; NULL: it has no words. */
SlmEntityReading *slm_pg_read_entities(SlmWork *work, const SlmText *text);
/* For finish: [*n] in order, with places in bytes of the text; in CurrentMemoryContext. */
slm_entity *slm_pg_entities_found(const SlmEntityReading *reading, size_t *n);

#endif
