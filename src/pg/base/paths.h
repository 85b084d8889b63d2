/*
 * paths.h: what a caller gives as the path of a model (paths.c).
 */
#ifndef SLM_PG_PATHS_H
#define SLM_PG_PATHS_H

#include "postgres.h"

/* Canonical and absolute; relative paths begin at the data directory. */
char *slm_pg_server_path(const char *given);
/* ERROR, in words about the path as it was given, when there is no such file. */
void slm_pg_check_source(const char *path, const char *given);

#endif
