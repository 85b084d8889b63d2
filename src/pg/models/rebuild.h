/*
 * rebuild.h: opening images, whatever version has written them (rebuild.c).
 */
#ifndef SLM_PG_REBUILD_H
#define SLM_PG_REBUILD_H

#include "engine/slm.h"

/* slm_model_open of a key's image; one of an earlier layout is rebuilt first, under the key's lock.  ERROR when that cannot be done for
 * reasons of the directory or the disk. */
slm_status slm_pg_open_image(const char *key, const char *name, slm_model **model, slm_error *err);

#endif
