/*
 * store_files.h: the files of the image directory, by name (store_files.c), for store.c and loading.c.
 *
 * Names are read strictly: what is not exactly one of ours is left alone, whatever it looks like.
 */
#ifndef SLM_PG_STORE_FILES_H
#define SLM_PG_STORE_FILES_H

#include "postgres.h"

#include "common/file_utils.h"
#include "nodes/pg_list.h"
#include "storage/fd.h"

#include "pg/models/catalog.h"

/* 16 hex digits, "-", 24 hex digits, NUL. */
#define SLM_STEM_SIZE 42

/* Base backups and pg_rewind leave out files that begin like this. */
#define SLM_TEMPORARY PG_TEMP_FILE_PREFIX "."

/* The files of one image. */
typedef struct SlmStoreFiles {
    char stem[SLM_STEM_SIZE];
    List *temporaries; /* of char *: file names */
    List *markers;     /* of Oid */
} SlmStoreFiles;

/* What a file of 0.1.0 was named after: the whole key. */
typedef struct SlmOldFile {
    char key[SLM_KEY_SIZE];
    char *name;
    const char *suffix; /* in name: ".img", ".db<oid>", ".tmp.<pid>" */
} SlmOldFile;

void slm_pg_store_stem(const char *key, char stem[SLM_STEM_SIZE]);
char *slm_pg_store_file(const char *name);
char *slm_pg_store_stem_file(const char *stem, const char *suffix);
/* Writes all of the bytes into an open file, which an ERROR calls `shown`. */
void slm_pg_store_write(int fd, const void *data, Size bytes, const char *shown);
/* Reads so many bytes; what went wrong as errno, EIO where the file ends before, or 0. */
int slm_pg_store_read(int fd, void *to, Size bytes);
char *slm_pg_store_marker(const char *stem, Oid database);
/* The number behind a prefix: digits only, no leading zero, from 1 to most; 0 when the name is anything else. */
uint32 slm_pg_store_number(const char *name, const char *prefix, uint32 most);
/* A regular file, and no symbolic link to one? */
bool slm_pg_store_is_file(const char *path);
/* Creates a file that must not exist: never through a symbolic link, never one that is there. -1 and errno. */
int slm_pg_store_create(const char *path);
/* SlmStoreFiles of one image or (NULL) of all. Raises no error: it also runs after commit. */
List *slm_pg_store_list(const char *only_stem);
/* SlmOldFile of all images, or of one key. Raises no error. */
List *slm_pg_store_list_old(const char *only_key);

#endif
