/*
 * registry.h: what the registries of names that roles own have in common: the tables slm.<what>_registry (with name and owner) and
 * slm.<what>_grant (name, role), where what is "classifier" or "cascade" (registry.c).
 *
 * A name belongs to its owner, whoever writes a row.  A change holds a lock on the name, made of its hash beside the table's OID, to the
 * end of its transaction, and reads the rows as they are then; other names go on, and nobody can hold up the whole table.
 *
 * An owner, or a role with a grant, that was dropped is a number which another cluster may give to another role: what it owned is disabled,
 * and the next change forgets the number.
 */
#ifndef SLM_PG_REGISTRY_H
#define SLM_PG_REGISTRY_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* A table of schema slm, for reading; ERROR where the database has no extension. */
Relation slm_pg_open_extension_table(const char *name);
bool slm_pg_role_exists(Oid role);
/* May the current user manage what `owner` owns? */
bool slm_pg_owns(Oid owner);
/* Is he, or a role of his, or PUBLIC, among the roles of a name? By a snapshot, or as committed last (NULL). */
bool slm_pg_granted(const char *what, const char *name, Snapshot snapshot);

/* Locks a name to the end of the transaction. */
void slm_pg_lock_name(const char *what, const char *name);
/* Numbers that are no roles any more; every change does. */
void slm_pg_forget_roles_of(const char *what);
/* A line in the server's log: <what> "<name>" <done> by role "...".  Written when it is done, before its transaction is committed. */
void slm_pg_log_change(const char *what, const char *name, const char *done);
/* A role's number as SQL takes it; PUBLIC is 0. */
const char *slm_pg_role_number(const char *role);
/* slm_grant_<what>(name, role) and slm_revoke_<what>; own locks the name and raises an ERROR unless it is the current user's. */
void slm_pg_change_grant(FunctionCallInfo fcinfo, const char *what, bool grant, void (*own)(const char *name));

#endif
