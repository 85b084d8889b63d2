/*
 * as_owner.h: acting as another role, and finding what belongs to the extension.
 *
 * Code of the extension that needs other rights than its caller's does so between slm_pg_as*() and slm_pg_as_end(), and nowhere else:
 *
 *   slm_pg_as_extension   the extension's own relations are read and written; nothing that a role wrote is evaluated
 *   slm_pg_as             what a role wrote (expressions, tables with their triggers, views, casts) is evaluated as that role
 *
 * Invariants: the search_path inside is the one that was named, never the caller's; every setting that was made inside, also by
 * set_config(..., false), is undone before the rights change back; a security-restricted operation keeps code inside from leaving
 * temporary objects, deferred triggers or another role behind.  An error needs no slm_pg_as_end(): the abort of the
 * (sub)transaction restores role and settings.
 */
#ifndef SLM_PG_AS_OWNER_H
#define SLM_PG_AS_OWNER_H

#include "postgres.h"

/* What slm_pg_as_end() restores. */
typedef struct SlmAs {
    Oid user;
    int security;
    int level;
} SlmAs;

/* Under this path no object of a user is found before the server's own: names of relations are written with their schema. */
#define SLM_SAFE_PATH "pg_catalog, pg_temp"

/* The schemas of the current search_path as they are now: "$user" is resolved, temporary ones come last, where they hide nothing. */
char *slm_pg_current_path(void);

/* Becomes `role` under `search_path`, in a security-restricted operation. */
void slm_pg_as(SlmAs *saved, Oid role, const char *search_path);
/* Becomes the owner of the extension under SLM_SAFE_PATH; ERROR where the database has no extension slm_pg. */
void slm_pg_as_extension(SlmAs *saved);
void slm_pg_as_end(const SlmAs *saved);

/* May `member` do what `role` may, as by SET ROLE?  Work on a table is done as the table's owner: whoever asks for it needs this. */
bool slm_pg_may_become(Oid member, Oid role);

/* The extension's table or view slm.<name>: a member of the extension slm_pg by pg_depend, not merely a relation of that name.
 * InvalidOid where there is none. */
Oid slm_pg_extension_relation(const char *name);
/* The role that owns the extension; InvalidOid where the database has none. */
Oid slm_pg_extension_owner(void);

#endif
