/*
 * store.h: the image directory, shared by all databases of the cluster (store.c, store_files.c).
 */
#ifndef SLM_PG_STORE_H
#define SLM_PG_STORE_H

#include "postgres.h"

/* Has it the shape of a key?  What comes out of a table is asked before it names a file. */
bool slm_pg_key_valid(const char *key);
/* Where the image is, when it is there; one that 0.1.0 made gets its present name.  An ERROR when others may write to the directory. */
char *slm_pg_store_image(const char *key);
char *slm_pg_store_path(const char *key, const char *suffix);
char *slm_pg_store_temporary(const char *key); /* of this process */
char *slm_pg_store_directory(void);
char *slm_pg_store_shown(const char *path); /* what messages say in place of a path in it */
void slm_pg_store_check(void); /* an ERROR unless the directory is the server's alone, or absent */
void slm_pg_store_make_directory(void);
/* Databases of the cluster that the user may connect to and that have a model of this name, quoted; NULL: none is known. */
char *slm_pg_store_databases_with(const char *name);
/* Locks the image for the rest of the transaction, whose end then removes what nobody uses. */
void slm_pg_store_lock(const char *key);
void slm_pg_store_mark(const char *key); /* this database uses the image; needs the lock */
void slm_pg_store_mark_if_missing(const char *key);
/* The key's lock for a moment; an error's end of the transaction releases it too. */
void slm_pg_store_hold(const char *key);
void slm_pg_store_release(const char *key);
void slm_pg_store_sweep(void);
void slm_pg_store_init(void);

#endif
