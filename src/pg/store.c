/*
 * store.c: the image directory, its locks, its users, and what the end of a transaction does to it.
 *
 *   <key>.img        an image, complete: renamed into place after fsync          key = <sha256>-l<layout>[-<options>]
 *   <key>.tmp.<pid>  an image being written
 *   <key>.db<oid>    database <oid> uses or may use the image (empty file)
 *   loading.<pid>    progress of a load (progress.c)
 *
 * Lock: everything that makes or removes files of a key holds the cluster-wide lock of that key, from its first touch to the end of
 * the transaction; so a .tmp file whose lock can be had belongs to nobody and is removed.
 *
 * Users: the marker is made before the image, and removed under the lock when no row of its database names the key: by the
 * transaction that deleted the last row (after its commit), by the one that made it and aborted, or by the sweep that every load and drop
 * runs for what a crash or DROP DATABASE left behind.  An image without a marker is removed with its last marker.  A backend that opens
 * an image makes its database's marker when it is missing (a database copied from a template, a restored dump).
 *
 * Mapped images stay valid when their file is removed; the disk space is free when the last backend has closed it.
 */
#include "pg/slm_pg.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "common/file_perm.h"
#include "nodes/pg_list.h"
#include "storage/fd.h"
#include "storage/lock.h"
#include "utils/syscache.h"

#define LOCK_SPACE 0x534C /* "SL": tells our locks from others of the type */

/* A key that this transaction has locked. */
typedef struct Touched {
    char key[SLM_KEY_SIZE];
    bool made_marker;
    bool in_use; /* set before commit: rows of this database name the key */
} Touched;

static List *touched = NIL; /* of Touched, in TopMemoryContext; empty between transactions */

/* ---- names */

char *slm_pg_store_directory(void)
{
    if (is_absolute_path(slm_guc_model_directory))
        return pstrdup(slm_guc_model_directory);
    return psprintf("%s/%s", DataDir, slm_guc_model_directory);
}

char *slm_pg_store_path(const char *key, const char *suffix)
{
    return psprintf("%s/%s%s", slm_pg_store_directory(), key, suffix);
}

static char *marker_path(const char *key, Oid database)
{
    return slm_pg_store_path(key, psprintf(".db%u", database));
}

void slm_pg_store_make_directory(void)
{
    char *directory = slm_pg_store_directory();

    if (MakePGDirectory(directory) != 0 && errno != EEXIST)
        ereport(ERROR, (errcode_for_file_access(), errmsg("could not create directory \"%s\": %m", directory),
                        errhint("slm.model_directory must name a directory that the server may write to.")));
}

/* ---- locks */

/* From the first 16 hex digits of the key; one source imported with different options shares a lock, which does no harm. */
static void key_tag(const char *key, LOCKTAG *tag)
{
    char digits[17];
    uint64 number;

    strlcpy(digits, key, sizeof digits);
    number = strtou64(digits, NULL, 16);
    memset(tag, 0, sizeof *tag);
    tag->locktag_field2 = (uint32) (number >> 32); /* field 1, the database, stays 0: the lock is the cluster's */
    tag->locktag_field3 = (uint32) number;
    tag->locktag_field4 = LOCK_SPACE;
    tag->locktag_type = LOCKTAG_USERLOCK;
    tag->locktag_lockmethodid = DEFAULT_LOCKMETHOD; /* so that pg_advisory_unlock_all() does not release it */
}

static Touched *find_touched(const char *key)
{
    ListCell *lc;

    foreach (lc, touched) {
        Touched *t = lfirst(lc);

        if (strcmp(t->key, key) == 0)
            return t;
    }
    return NULL;
}

void slm_pg_store_lock(const char *key)
{
    MemoryContext old;
    Touched *t;
    LOCKTAG tag;

    if (find_touched(key) != NULL)
        return;
    old = MemoryContextSwitchTo(TopMemoryContext);
    t = palloc0(sizeof(Touched));
    strlcpy(t->key, key, sizeof t->key);
    touched = lcons(t, touched); /* all memory is there before the lock is */
    MemoryContextSwitchTo(old);
    key_tag(key, &tag);
    PG_TRY();
    {
        (void) LockAcquire(&tag, ExclusiveLock, true, false);
    }
    PG_CATCH();
    {
        touched = list_delete_ptr(touched, t);
        pfree(t);
        PG_RE_THROW();
    }
    PG_END_TRY();
}

/* ---- markers */

static void make_marker(const char *path)
{
    int fd = OpenTransientFile(path, O_RDWR | O_CREAT | PG_BINARY);

    if (fd < 0 || pg_fsync(fd) != 0)
        ereport(ERROR, (errcode_for_file_access(), errmsg("could not create file \"%s\": %m", path),
                        errhint("slm.model_directory must name a directory that the server may write to, with room left.")));
    CloseTransientFile(fd);
    fsync_fname(slm_pg_store_directory(), true);
}

void slm_pg_store_mark(const char *key)
{
    Touched *t = find_touched(key);
    char *path = marker_path(key, MyDatabaseId);

    Assert(t != NULL);
    if (access(path, F_OK) == 0)
        return;
    t->made_marker = true;
    make_marker(path);
}

void slm_pg_store_mark_if_missing(const char *key)
{
    char *path = marker_path(key, MyDatabaseId);
    LOCKTAG tag;

    if (access(path, F_OK) == 0 || find_touched(key) != NULL)
        return;
    key_tag(key, &tag);
    (void) LockAcquire(&tag, ShareLock, false, false);
    if (access(slm_pg_store_path(key, ".img"), F_OK) == 0)
        make_marker(path);
    LockRelease(&tag, ShareLock, false);
}

/* ---- the directory's files, sorted into keys */

typedef struct KeyFiles {
    char key[SLM_KEY_SIZE];
    List *temporaries; /* of char *: file names */
    List *markers;     /* of Oid */
} KeyFiles;

/* Splits "<key>.rest"; false for what is none of ours. */
static bool split_name(const char *name, char *key, const char **rest)
{
    const char *dot = strchr(name, '.');
    size_t n = dot == NULL ? 0 : (size_t) (dot - name);

    if (n < 66 || n >= SLM_KEY_SIZE || strspn(name, "0123456789abcdef") != 64 || name[64] != '-' || name[65] != 'l')
        return false;
    memcpy(key, name, n);
    key[n] = '\0';
    *rest = dot + 1;
    return true;
}

/* Reads the directory; only_key NULL means all keys.  Raises no error: it also runs after commit. */
static List *list_keys(const char *only_key)
{
    char *directory = slm_pg_store_directory();
    DIR *dir = opendir(directory);
    struct dirent *de;
    List *result = NIL;

    while (dir != NULL && (de = readdir(dir)) != NULL) {
        char key[SLM_KEY_SIZE];
        const char *rest;
        KeyFiles *files = NULL;
        ListCell *lc;

        if (!split_name(de->d_name, key, &rest) || (only_key != NULL && strcmp(key, only_key) != 0))
            continue;
        foreach (lc, result) {
            if (strcmp(((KeyFiles *) lfirst(lc))->key, key) == 0)
                files = lfirst(lc);
        }
        if (files == NULL) {
            files = palloc0(sizeof(KeyFiles));
            strlcpy(files->key, key, sizeof files->key);
            result = lappend(result, files);
        }
        if (strncmp(rest, "tmp.", 4) == 0)
            files->temporaries = lappend(files->temporaries, pstrdup(de->d_name));
        else if (strncmp(rest, "db", 2) == 0)
            files->markers = lappend_oid(files->markers, (Oid) strtoul(rest + 2, NULL, 10));
    }
    if (dir != NULL)
        closedir(dir);
    return result;
}

static void remove_file(const char *path)
{
    if (unlink(path) != 0 && errno != ENOENT)
        ereport(LOG, (errcode_for_file_access(), errmsg("could not remove file \"%s\": %m", path)));
}

/* Under the lock of key: removes this database's marker, and the image when that was the last. */
static void remove_marker(const char *key)
{
    List *keys;

    remove_file(marker_path(key, MyDatabaseId));
    keys = list_keys(key);
    if (keys == NIL || ((KeyFiles *) linitial(keys))->markers == NIL)
        remove_file(slm_pg_store_path(key, ".img"));
}

/* ---- sweep */

/* Holds the key's lock.  ours: this transaction is at work with the key, and its end decides about our marker and the image. */
static void sweep_key(const KeyFiles *files, bool ours)
{
    KeyFiles *now;
    List *keys = list_keys(files->key); /* again, under the lock */
    ListCell *lc;
    int n_left = 0;

    if (keys == NIL)
        return;
    now = linitial(keys);
    foreach (lc, now->temporaries)
        remove_file(psprintf("%s/%s", slm_pg_store_directory(), (char *) lfirst(lc)));
    foreach (lc, now->markers) {
        Oid database = lfirst_oid(lc);
        bool stale = database == MyDatabaseId ? !ours && !slm_pg_key_in_use(files->key)
                                              : !SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(database));

        if (stale)
            remove_file(marker_path(files->key, database));
        else
            n_left++;
    }
    if (n_left == 0 && !ours)
        remove_file(slm_pg_store_path(files->key, ".img"));
}

static void sweep_progress(void)
{
    char *directory = slm_pg_store_directory();
    DIR *dir = AllocateDir(directory);
    struct dirent *de;

    while ((de = ReadDirExtended(dir, directory, LOG)) != NULL) {
        int pid;

        if (sscanf(de->d_name, "loading.%d", &pid) == 1 && pid > 0 && kill(pid, 0) != 0 && errno == ESRCH)
            remove_file(psprintf("%s/%s", directory, de->d_name));
    }
    if (dir != NULL)
        FreeDir(dir);
}

void slm_pg_store_sweep(void)
{
    ListCell *lc;

    foreach (lc, list_keys(NULL)) {
        KeyFiles *files = lfirst(lc);
        LOCKTAG tag;

        CHECK_FOR_INTERRUPTS();
        if (find_touched(files->key) != NULL) {
            sweep_key(files, true);
            continue;
        }
        key_tag(files->key, &tag);
        if (LockAcquire(&tag, ExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
            continue; /* somebody is at work with it */
        sweep_key(files, false);
        LockRelease(&tag, ExclusiveLock, false);
    }
    sweep_progress();
}

/* ---- ends of transactions */

static void release_all(bool commit)
{
    MemoryContext context = AllocSetContextCreate(TopMemoryContext, "slm_pg store", ALLOCSET_SMALL_SIZES);
    MemoryContext old = MemoryContextSwitchTo(context);
    ListCell *lc;

    foreach (lc, touched) {
        Touched *t = lfirst(lc);
        LOCKTAG tag;

        if (commit ? !t->in_use : t->made_marker)
            remove_marker(t->key);
        if (!commit)
            remove_file(slm_pg_store_path(t->key, psprintf(".tmp.%d", MyProcPid)));
        key_tag(t->key, &tag);
        if (commit)
            LockRelease(&tag, ExclusiveLock, true); /* an abort releases session locks by itself */
    }
    MemoryContextSwitchTo(old);
    MemoryContextDelete(context);
    list_free_deep(touched);
    touched = NIL;
}

static void at_xact_end(XactEvent event, void *arg)
{
    ListCell *lc;

    if (touched == NIL)
        return;
    switch (event) {
    case XACT_EVENT_PRE_COMMIT:
        foreach (lc, touched) {
            Touched *t = lfirst(lc);

            t->in_use = slm_pg_key_in_use(t->key);
        }
        break;
    case XACT_EVENT_PRE_PREPARE:
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("cannot PREPARE a transaction that has loaded or dropped a model")));
        break;
    case XACT_EVENT_COMMIT:
        release_all(true);
        break;
    case XACT_EVENT_ABORT:
        release_all(false);
        break;
    default:
        break;
    }
}

void slm_pg_store_init(void)
{
    RegisterXactCallback(at_xact_end, NULL);
}
