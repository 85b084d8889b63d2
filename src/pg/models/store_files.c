/*
 * store_files.c: names and files of the image directory (store.c says what they mean).
 *
 * The directory is the server's alone, as the data directory: owned by its operating system user, mode 0700 or 0750.  Whoever could make a
 * name in it could put an image of his own before everybody, so a directory that others may write to is refused before anything in
 * it is used.  Files are made with O_EXCL and O_NOFOLLOW, and a symbolic link is never taken for a file.
 */
#include "pg/models/store_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"

#include "pg/base/errors.h"
#include "pg/base/guc.h"
#include "pg/models/catalog.h"
#include "pg/models/digest.h"
#include "pg/models/store.h"

#define HEX "0123456789abcdef"

/* ---- keys and names */

static size_t hex_digits(const char *s)
{
    return strspn(s, HEX);
}

bool slm_pg_key_valid(const char *key)
{
    size_t n;

    if (strlen(key) >= SLM_KEY_SIZE || hex_digits(key) != 64 || strncmp(key + 64, "-l", 2) != 0)
        return false;
    key += 66;
    n = strspn(key, "0123456789");
    if (n < 1 || n > 4 || key[0] == '0')
        return false;
    key += n;
    return key[0] == '\0' || (key[0] == '-' && hex_digits(key + 1) == 16 && key[17] == '\0');
}

void slm_pg_store_stem(const char *key, char stem[SLM_STEM_SIZE])
{
    uint8 digest[32];
    int n = snprintf(stem, SLM_STEM_SIZE, "%.16s-", key);

    slm_pg_sha256(key, strlen(key), digest);
    for (int i = 0; n + 2 < SLM_STEM_SIZE; i++, n += 2)
        snprintf(stem + n, 3, "%02x", digest[i]);
}

char *slm_pg_store_directory(void)
{
    if (is_absolute_path(slm_guc_model_directory))
        return pstrdup(slm_guc_model_directory);
    return psprintf("%s/%s", DataDir, slm_guc_model_directory);
}

/* The data directory is not told to everybody; the setting is. */
char *slm_pg_store_shown(const char *path)
{
    return psprintf("%s/%s", slm_guc_model_directory, last_dir_separator(path) + 1);
}

char *slm_pg_store_file(const char *name)
{
    return psprintf("%s/%s", slm_pg_store_directory(), name);
}

void slm_pg_store_write(int fd, const void *data, Size bytes, const char *shown)
{
    const char *from = data;

    while (bytes > 0) {
        ssize_t n = write(fd, from, Min(bytes, (Size) 1 << 20));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            slm_pg_file_error(n == 0 ? ENOSPC : errno, psprintf("could not write \"%s\"", shown));
        from += n;
        bytes -= (Size) n;
    }
}

int slm_pg_store_read(int fd, void *to, Size bytes)
{
    char *at = to;

    while (bytes > 0) {
        ssize_t n = read(fd, at, bytes);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0 ? EIO : errno;
        at += n;
        bytes -= (Size) n;
    }
    return 0;
}

char *slm_pg_store_stem_file(const char *stem, const char *suffix)
{
    return psprintf("%s/%s%s", slm_pg_store_directory(), stem, suffix);
}

char *slm_pg_store_path(const char *key, const char *suffix)
{
    char stem[SLM_STEM_SIZE];

    slm_pg_store_stem(key, stem);
    return slm_pg_store_stem_file(stem, suffix);
}

char *slm_pg_store_temporary(const char *key)
{
    char stem[SLM_STEM_SIZE];

    slm_pg_store_stem(key, stem);
    return psprintf("%s/" SLM_TEMPORARY "%s.%d", slm_pg_store_directory(), stem, MyProcPid);
}

char *slm_pg_store_marker(const char *stem, Oid database)
{
    return slm_pg_store_stem_file(stem, psprintf(".db%u", database));
}

uint32 slm_pg_store_number(const char *name, const char *prefix, uint32 most)
{
    size_t skip = strlen(prefix), n;
    uint64 number;

    if (strncmp(name, prefix, skip) != 0)
        return 0;
    name += skip;
    n = strspn(name, "0123456789");
    if (n < 1 || n > 10 || name[0] == '0' || name[n] != '\0')
        return 0;
    number = strtou64(name, NULL, 10);
    return number <= most ? (uint32) number : 0;
}

/* ---- the directory */

static void refuse_directory(const char *detail)
{
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("the directory of slm.model_directory, \"%s\", is not the server's alone", slm_guc_model_directory),
                    errdetail("%s", detail),
                    errhint("As the server's operating system user: chmod 0700 on that directory, after a look at what lies in it.")));
}

/* Nothing there is fine: then there are no images.  Below the data directory, which the server keeps to itself, being readable does no
 * harm: copies of a data directory are often made so. */
void slm_pg_store_check(void)
{
    mode_t others = is_absolute_path(slm_guc_model_directory) ? PG_MODE_MASK_GROUP : S_IWGRP | S_IWOTH;
    struct stat st;

    if (stat(slm_pg_store_directory(), &st) != 0) {
        if (errno != ENOENT)
            slm_pg_file_error(errno, psprintf("could not examine the directory of slm.model_directory, \"%s\"", slm_guc_model_directory));
        return;
    }
    if (!S_ISDIR(st.st_mode))
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                        errmsg("slm.model_directory, \"%s\", is not a directory", slm_guc_model_directory)));
    if (st.st_uid != geteuid())
        refuse_directory("It belongs to another user of the operating system.");
    if ((st.st_mode & others) != 0)
        refuse_directory("Its permissions should be u=rwx (0700) or u=rwx,g=rx (0750).");
}

void slm_pg_store_make_directory(void)
{
    if (MakePGDirectory(slm_pg_store_directory()) != 0 && errno != EEXIST)
        slm_pg_file_error(errno, psprintf("could not create the directory of slm.model_directory, \"%s\"", slm_guc_model_directory));
    slm_pg_store_check();
}

bool slm_pg_store_is_file(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 && S_ISREG(st.st_mode);
}

int slm_pg_store_create(const char *path)
{
    return BasicOpenFile(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | PG_BINARY);
}

/* ---- lists */

/* Splits "<stem><rest>" in place of an image; false for what is none of ours. */
static bool split_name(const char *name, char stem[SLM_STEM_SIZE], const char **rest)
{
    if (hex_digits(name) != 16 || name[16] != '-' || hex_digits(name + 17) != 24)
        return false;
    strlcpy(stem, name, SLM_STEM_SIZE);
    *rest = name + SLM_STEM_SIZE - 1;
    return true;
}

static SlmStoreFiles *files_of(List **list, const char *stem)
{
    SlmStoreFiles *files;
    ListCell *lc;

    foreach (lc, *list) {
        files = lfirst(lc);
        if (strcmp(files->stem, stem) == 0)
            return files;
    }
    files = palloc0(sizeof(SlmStoreFiles));
    strlcpy(files->stem, stem, sizeof files->stem);
    *list = lappend(*list, files);
    return files;
}

List *slm_pg_store_list(const char *only_stem)
{
    DIR *dir = opendir(slm_pg_store_directory());
    struct dirent *de;
    List *result = NIL;
    size_t prefix = strlen(SLM_TEMPORARY);

    while (dir != NULL && (de = readdir(dir)) != NULL) {
        bool temporary = strncmp(de->d_name, SLM_TEMPORARY, prefix) == 0;
        char stem[SLM_STEM_SIZE];
        const char *rest;
        uint32 number;

        if (!split_name(de->d_name + (temporary ? prefix : 0), stem, &rest) || (only_stem != NULL && strcmp(stem, only_stem) != 0))
            continue;
        if (temporary ? slm_pg_store_number(rest, ".", INT_MAX) != 0 : strcmp(rest, ".img") == 0) {
            SlmStoreFiles *files = files_of(&result, stem);

            if (temporary)
                files->temporaries = lappend(files->temporaries, pstrdup(de->d_name));
        } else if (!temporary && (number = slm_pg_store_number(rest, ".db", PG_UINT32_MAX)) != 0) {
            SlmStoreFiles *files = files_of(&result, stem);

            files->markers = lappend_oid(files->markers, number);
        }
    }
    if (dir != NULL)
        closedir(dir);
    return result;
}

List *slm_pg_store_list_old(const char *only_key)
{
    DIR *dir = opendir(slm_pg_store_directory());
    struct dirent *de;
    List *result = NIL;

    while (dir != NULL && (de = readdir(dir)) != NULL) {
        const char *dot = strchr(de->d_name, '.');
        SlmOldFile *old = palloc0(sizeof(SlmOldFile));

        if (dot == NULL || (size_t) (dot - de->d_name) >= sizeof old->key)
            continue;
        memcpy(old->key, de->d_name, (size_t) (dot - de->d_name));
        if (!slm_pg_key_valid(old->key) || (only_key != NULL && strcmp(old->key, only_key) != 0))
            continue;
        if (strcmp(dot, ".img") != 0 && slm_pg_store_number(dot, ".db", PG_UINT32_MAX) == 0 &&
            slm_pg_store_number(dot, ".tmp.", INT_MAX) == 0)
            continue;
        old->name = pstrdup(de->d_name);
        old->suffix = old->name + (dot - de->d_name);
        result = lappend(result, old);
    }
    if (dir != NULL)
        closedir(dir);
    return result;
}
