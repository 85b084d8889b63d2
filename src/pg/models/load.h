/*
 * load.h: what makes and registers an image, whatever it is made from (load.c; functions/quantize.c, functions/adapters.c).
 *
 *   SlmLoad (name, key, make, probe) ──slm_pg_load_register──► lock, marker, <key>.img unless it is there, row of slm.model_registry
 *
 * make and probe are engine calls: they return a status and never raise an error while the engine is on the stack; make is called again
 * after SLM_CANCELLED.  The transaction's end removes what it leaves unused (store.c).
 */
#ifndef SLM_PG_LOAD_H
#define SLM_PG_LOAD_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/jsonb.h"

#include "engine/slm.h"
#include "pg/models/catalog.h"
#include "pg/models/uses.h"

typedef struct SlmLoad SlmLoad;

struct SlmLoad {
    const char *name;
    const char *verb;   /* of errors: "load model" */
    const char *phase;  /* what slm.model_status shows while make runs */
    const char *source; /* a path, or the call that made it */
    const char *sha256;
    const char *base;   /* adapters: name of their model; NULL */
    const char *title;  /* for a source that gives itself no name; NULL */
    Jsonb *options;
    char key[SLM_KEY_SIZE];
    slm_model_info info; /* filled by probe */
    slm_status (*make)(SlmLoad *load, const char *temporary, slm_error *err);
    slm_status (*probe)(SlmLoad *load, const char *image, slm_error *err);
    void (*made)(SlmLoad *load); /* may raise an error; NULL */
};

/* The key of an image: the source's digest, and the digest of the options where there are any (NULL: none). sha256 must live as long
 * as load. */
void slm_pg_load_key(SlmLoad *load, const char *sha256, const char *options);
/* Raises what a first look at the source has found. */
pg_noreturn void slm_pg_load_refused(const SlmLoad *load, bool registered, const slm_error *err);
/* Makes the image unless it is there, and the row unless the name is registered already. */
void slm_pg_load_register(SlmLoad *load, bool registered);
/* Makes the image unless it is there, and gives it to the adapter of that name, which is the caller's own and registered. */
void slm_pg_load_replace(SlmLoad *load);
/* probe of a model: opens it and lets it answer. */
slm_status slm_pg_load_probe_model(SlmLoad *load, const char *image, slm_error *err);
/* Is the name registered with an image that is missing or damaged?  An ERROR when it is taken. */
bool slm_pg_name_registered(const char *name);

Jsonb *slm_pg_no_options(void);
/* ERROR, with what is missing, unless the user may load or make models by this function. */
void slm_pg_check_may_load(FunctionCallInfo fcinfo, const char *what, bool reads_files);
void slm_pg_check_may_load_by(Oid function, const char *what, bool reads_files);
/* The one row that a query with the parameter name gives, as a composite datum. */
Datum slm_pg_registry_row(const char *sql, const char *name);
/* Deletes the row of a model or adapter that the user owns; its image goes at commit. Refused while it is used, unless cascade. */
void slm_pg_drop_registered(SlmObject object, const char *name, bool cascade);
/* Deletes the rows of a model's adapters, whoever owns them. */
void slm_pg_drop_adapters(const char *base);
/* An argument that must not be null. */
char *slm_pg_name_argument(FunctionCallInfo fcinfo, int i, const char *what);
void slm_pg_refuse_read_only(const char *function);
/* Forgets the numbers of roles that are no more; every change of the registry does. */
void slm_pg_forget_dropped_roles(void);
/* Runs one statement with text parameters as the registry's owner; the number of rows. */
uint64 slm_pg_change_registry(const char *sql, int n, const char *const *values);

#endif
