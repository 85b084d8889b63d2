/*
 * store.c: the image directory, its locks, its users, and what the end of a transaction does to it.
 *
 *   <stem>.img                 an image, complete: renamed into place after fsync
 *   <stem>.db<oid>             database <oid> uses or may use the image; in it the names of its models, one a line, for hints only
 *   pgsql_tmp.<stem>.<pid>     an image being written; base backups and pg_rewind leave out what begins so
 *   pgsql_tmp.loading.<pid>    progress of a load (loading.c)
 *
 * key  = <sha256 of the source>-l1[-<digest of the options>], what the registry holds ("l1": from the time of one layout only; an image
 *        of an earlier layout is rebuilt under its key, rebuild.c)
 * stem = <first 16 digits of the key>-<first 24 digits of the key's SHA-256>: short, because tar has room for 99 bytes, directory included
 *
 * Lock: everything that makes or removes files of a key holds the cluster-wide lock of that key, from its first touch to the end of
 * the transaction; so a temporary file whose lock can be had belongs to nobody and is removed.
 *
 * Users: the marker is made before the image, and removed under the lock when no row of its database names the key: by the
 * transaction that deleted the last row (after its commit), by the one that made it and aborted, or by the sweep that every load and drop
 * runs for what a crash or DROP DATABASE left behind.  An image without a marker is removed with its last marker.  A backend that opens
 * an image makes its database's marker when it is missing (a database copied from a template, a restored dump).
 *
 * Mapped images stay valid when their file is removed; the disk space is free when the last backend has closed it.
 */
#include "pg/models/store.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/lock.h"
#include "storage/procarray.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "pg/base/compat.h"
#include "pg/base/errors.h"
#include "pg/models/catalog.h"
#include "pg/models/store_files.h"

#define LOCK_SPACE 0x534C /* "SL": tells our locks from others of the type */

/* A key that this transaction has locked. */
typedef struct Touched {
    char key[SLM_KEY_SIZE];
    char stem[SLM_STEM_SIZE];
    bool made_marker;
    bool in_use; /* set before commit: rows of this database name the key */
} Touched;

static List *touched = NIL; /* of Touched, in TopMemoryContext; empty between transactions */

/* ---- locks */

/* From the first 16 hex digits of the stem; one source imported with different options shares a lock, which does no harm. */
static void stem_tag(const char *stem, LOCKTAG *tag)
{
    char digits[17];
    uint64 number;

    strlcpy(digits, stem, sizeof digits);
    number = strtou64(digits, NULL, 16);
    memset(tag, 0, sizeof *tag);
    tag->locktag_field2 = (uint32) (number >> 32); /* field 1, the database, stays 0: the lock is the cluster's */
    tag->locktag_field3 = (uint32) number;
    tag->locktag_field4 = LOCK_SPACE;
    tag->locktag_type = LOCKTAG_USERLOCK;
    tag->locktag_lockmethodid = DEFAULT_LOCKMETHOD; /* so that pg_advisory_unlock_all() does not release it */
}

static Touched *find_touched(const char *stem)
{
    ListCell *lc;

    foreach (lc, touched) {
        Touched *t = lfirst(lc);

        if (strcmp(t->stem, stem) == 0)
            return t;
    }
    return NULL;
}

void slm_pg_store_lock(const char *key)
{
    char stem[SLM_STEM_SIZE];
    MemoryContext old;
    Touched *t;
    LOCKTAG tag;

    slm_pg_store_stem(key, stem);
    if (find_touched(stem) != NULL)
        return;
    old = MemoryContextSwitchTo(TopMemoryContext);
    t = palloc0(sizeof(Touched));
    strlcpy(t->key, key, sizeof t->key);
    strlcpy(t->stem, stem, sizeof t->stem);
    touched = lcons(t, touched); /* all memory is there before the lock is */
    MemoryContextSwitchTo(old);
    stem_tag(stem, &tag);
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

void slm_pg_store_hold(const char *key)
{
    char stem[SLM_STEM_SIZE];
    LOCKTAG tag;

    slm_pg_store_stem(key, stem);
    stem_tag(stem, &tag);
    (void) LockAcquire(&tag, ExclusiveLock, false, false);
}

void slm_pg_store_release(const char *key)
{
    char stem[SLM_STEM_SIZE];
    LOCKTAG tag;

    slm_pg_store_stem(key, stem);
    stem_tag(stem, &tag);
    LockRelease(&tag, ExclusiveLock, false);
}

static void remove_file(const char *path)
{
    if (unlink(path) != 0 && errno != ENOENT)
        ereport(LOG, (errcode_for_file_access(), errmsg("could not remove file \"%s\": %m", path)));
}

/* ---- names of 0.1.0 */

/* Gives a file its present name; holds the key's lock. What an interrupted load of 0.1.0 left is removed. */
static void adopt_file(const SlmOldFile *old)
{
    char *from = slm_pg_store_file(old->name), *to = slm_pg_store_path(old->key, old->suffix);

    if (strncmp(old->suffix, ".tmp.", 5) == 0 || !slm_pg_store_is_file(from) || slm_pg_store_is_file(to))
        remove_file(from);
    else
        durable_rename(from, to, LOG);
}

/* All files with old names, but those that somebody is at work with; those of wanted (may be NULL) are waited for. */
static void adopt_old_names(const char *wanted)
{
    ListCell *lc;

    foreach (lc, slm_pg_store_list_old(NULL)) {
        const SlmOldFile *old = lfirst(lc);
        char stem[SLM_STEM_SIZE];
        bool ours;
        LOCKTAG tag;

        slm_pg_store_stem(old->key, stem);
        stem_tag(stem, &tag);
        ours = find_touched(stem) != NULL;
        if (!ours && LockAcquire(&tag, ExclusiveLock, false, wanted == NULL || strcmp(old->key, wanted) != 0) == LOCKACQUIRE_NOT_AVAIL)
            continue;
        if (faccessat(AT_FDCWD, slm_pg_store_file(old->name), F_OK, AT_SYMLINK_NOFOLLOW) == 0) /* still, under the lock */
            adopt_file(old);
        if (!ours)
            LockRelease(&tag, ExclusiveLock, false);
    }
}

char *slm_pg_store_image(const char *key)
{
    char *path = slm_pg_store_path(key, ".img");

    slm_pg_store_check();
    if (!slm_pg_store_is_file(path) && slm_pg_store_list_old(key) != NIL)
        adopt_old_names(key);
    return path;
}

/* ---- markers */

/* Writes what this database calls the models of a key.  For hints: what goes wrong is left. */
static void note_names(const char *key, const char *path)
{
    StringInfoData names;
    const SlmModelRow *row;
    int fd = BasicOpenFile(path, O_WRONLY | O_NOFOLLOW | PG_BINARY);

    if (fd < 0)
        return;
    initStringInfo(&names);
    for (int i = 0; (row = slm_pg_nth_model(i)) != NULL; i++)
        if (strcmp(row->key, key) == 0)
            appendStringInfo(&names, "%s\n", row->name);
    if (write(fd, names.data, (size_t) names.len) == names.len && ftruncate(fd, names.len) != 0)
        ereport(LOG, (errcode_for_file_access(), errmsg("could not truncate file \"%s\": %m", path)));
    close(fd);
}

static void make_marker(const char *path)
{
    int fd = slm_pg_store_create(path);

    if (fd < 0 && errno == EEXIST && slm_pg_store_is_file(path))
        return;
    if (fd < 0 || pg_fsync(fd) != 0) {
        int failure = errno;

        if (fd >= 0)
            close(fd);
        slm_pg_file_error(failure, psprintf("could not create file \"%s\"", slm_pg_store_shown(path)));
    }
    close(fd);
    fsync_fname(slm_pg_store_directory(), true);
}

void slm_pg_store_mark(const char *key)
{
    char stem[SLM_STEM_SIZE];
    Touched *t;
    char *path;

    slm_pg_store_stem(key, stem);
    t = find_touched(stem);
    Assert(t != NULL);
    path = slm_pg_store_marker(stem, MyDatabaseId);
    if (slm_pg_store_is_file(path))
        return;
    t->made_marker = true;
    make_marker(path);
}

void slm_pg_store_mark_if_missing(const char *key)
{
    char stem[SLM_STEM_SIZE];
    char *path;
    LOCKTAG tag;

    slm_pg_store_stem(key, stem);
    path = slm_pg_store_marker(stem, MyDatabaseId);
    if (slm_pg_store_is_file(path) || find_touched(stem) != NULL)
        return;
    stem_tag(stem, &tag);
    (void) LockAcquire(&tag, ShareLock, false, false);
    if (slm_pg_store_is_file(slm_pg_store_stem_file(stem, ".img"))) {
        make_marker(path);
        note_names(key, path);
    }
    LockRelease(&tag, ShareLock, false);
}

/* Under the lock of the image: removes this database's marker, and the image when that was the last. */
static void remove_marker(const char *stem)
{
    List *keys;

    remove_file(slm_pg_store_marker(stem, MyDatabaseId));
    keys = slm_pg_store_list(stem);
    if (keys == NIL || ((SlmStoreFiles *) linitial(keys))->markers == NIL)
        remove_file(slm_pg_store_stem_file(stem, ".img"));
}

/* ---- names in other databases */

/* Is `name` one of the lines of a marker? */
static bool marker_names(const char *path, const char *name)
{
    char text[8192], *end;
    size_t length = strlen(name);
    int fd = BasicOpenFile(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | PG_BINARY);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);

    if (fd >= 0)
        close(fd);
    text[Max(n, 0)] = '\0';
    for (char *line = text; (end = strchr(line, '\n')) != NULL; line = end + 1)
        if ((size_t) (end - line) == length && memcmp(line, name, length) == 0)
            return true;
    return false;
}

char *slm_pg_store_databases_with(const char *name)
{
    List *found = NIL;
    StringInfoData result;
    ListCell *lc, *marker;

    foreach (lc, slm_pg_store_list(NULL)) {
        const SlmStoreFiles *files = lfirst(lc);

        foreach (marker, files->markers) {
            Oid database = lfirst_oid(marker);

            if (database != MyDatabaseId && SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(database)) &&
                SLM_CONNECT_ACL(database) == ACLCHECK_OK && marker_names(slm_pg_store_marker(files->stem, database), name))
                found = list_append_unique_oid(found, database);
        }
    }
    list_sort(found, list_oid_cmp);
    initStringInfo(&result);
    foreach (lc, found)
        if (foreach_current_index(lc) < 3)
            appendStringInfo(&result, "%sdatabase \"%s\"", result.len > 0 ? ", " : "", get_database_name(lfirst_oid(lc)));
    return found == NIL ? NULL : result.data;
}

/* ---- sweep */

/* Does any row of this database use the image?  Reads the table anew. */
static bool stem_in_use(const char *stem)
{
    const SlmModelRow *row;

    if (!slm_pg_registry_reread())
        return false;
    for (int i = 0; (row = slm_pg_nth_model(i)) != NULL; i++) {
        char of_row[SLM_STEM_SIZE];

        slm_pg_store_stem(row->key, of_row);
        if (strcmp(of_row, stem) == 0)
            return true;
    }
    return false;
}

/* Holds the image's lock.  ours: this transaction is at work with the key, and its end decides about our marker and the image. */
static void sweep_image(const char *stem, bool ours)
{
    SlmStoreFiles *now;
    List *keys = slm_pg_store_list(stem); /* again, under the lock */
    ListCell *lc;
    int n_left = 0;

    if (keys == NIL)
        return;
    now = linitial(keys);
    foreach (lc, now->temporaries)
        remove_file(slm_pg_store_file(lfirst(lc)));
    foreach (lc, now->markers) {
        Oid database = lfirst_oid(lc);
        bool stale = database == MyDatabaseId ? !ours && !stem_in_use(stem)
                                              : !SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(database));

        if (stale)
            remove_file(slm_pg_store_marker(stem, database));
        else
            n_left++;
    }
    if (n_left == 0 && !ours)
        remove_file(slm_pg_store_stem_file(stem, ".img"));
}

/* Progress files of processes that are none of this server any more: a crash, or a copy of a running cluster. */
static void sweep_progress(void)
{
    char *directory = slm_pg_store_directory();
    DIR *dir = AllocateDir(directory);
    struct dirent *de;

    while ((de = ReadDirExtended(dir, directory, LOG)) != NULL) {
        uint32 pid = slm_pg_store_number(de->d_name, SLM_TEMPORARY "loading.", INT_MAX);

        if (pid == 0)
            pid = slm_pg_store_number(de->d_name, "loading.", INT_MAX); /* of 0.1.0 */
        if (pid != 0 && BackendPidGetProc((int) pid) == NULL)
            remove_file(slm_pg_store_file(de->d_name));
    }
    if (dir != NULL)
        FreeDir(dir);
}

void slm_pg_store_sweep(void)
{
    ListCell *lc;

    slm_pg_store_check();
    adopt_old_names(NULL);
    foreach (lc, slm_pg_store_list(NULL)) {
        SlmStoreFiles *files = lfirst(lc);
        LOCKTAG tag;

        CHECK_FOR_INTERRUPTS();
        if (find_touched(files->stem) != NULL) {
            sweep_image(files->stem, true);
            continue;
        }
        stem_tag(files->stem, &tag);
        if (LockAcquire(&tag, ExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
            continue; /* somebody is at work with it */
        sweep_image(files->stem, false);
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
            remove_marker(t->stem);
        if (!commit)
            remove_file(psprintf("%s/" SLM_TEMPORARY "%s.%d", slm_pg_store_directory(), t->stem, MyProcPid));
        stem_tag(t->stem, &tag);
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
            if (t->in_use)
                note_names(t->key, slm_pg_store_marker(t->stem, MyDatabaseId));
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
