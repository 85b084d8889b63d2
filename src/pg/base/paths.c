/*
 * paths.c: what a caller gives as the path of a model, and what to say when there is no such file.
 *
 * Nothing is ever downloaded: an address, or the name of a model on a hub, is recognized and said to be one.  Messages show the path as it
 * was given, not where it leads: the data directory is told to nobody.
 */
#include "pg/base/paths.h"

#include <sys/stat.h>

#include "miscadmin.h"

#include "pg/base/errors.h"

#define FETCH \
    "The server downloads nothing: bring the model onto the server's disk first (models/fetch in the source of slm_pg brings some), then " \
    "give the path of its GGUF file or directory."

/* "https://...", "hf://...". */
static bool is_address(const char *path)
{
    size_t n = strspn(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-");

    return n > 1 && strncmp(path + n, "://", 3) == 0;
}

/* "owner/model", maybe with ":tag": two names of letters, digits, "-", "_" and ".", and no suffix of a file. */
static bool is_hub_name(const char *path)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    size_t owner = strspn(path, letters), name, n = strlen(path);

    if (owner == 0 || path[owner] != '/' || path[0] == '.')
        return false;
    name = strspn(path + owner + 1, letters);
    return name > 0 && (path[owner + 1 + name] == '\0' || path[owner + 1 + name] == ':') && (n < 5 || strcmp(path + n - 5, ".gguf") != 0);
}

char *slm_pg_server_path(const char *given)
{
    char *path = pstrdup(given);

    if (given[0] == '\0')
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the path of a model must not be empty")));
    if (strncmp(given, "file://", 7) == 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("\"%s\" is an address, not a path", given),
                        errhint("Give the path alone: '%s'.", given + 7)));
    if (is_address(given))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("\"%s\" is an address, not a path of the server", given),
                        errhint(FETCH)));
    if (given[0] == '~')
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("\"%s\" is not a path: \"~\" has no meaning here", given),
                        errhint("Write the directory's full name; the operating system user of the server must be allowed to read it.")));
    canonicalize_path(path);
    return is_absolute_path(path) ? path : psprintf("%s/%s", DataDir, path);
}

void slm_pg_check_source(const char *path, const char *given)
{
    struct stat st;

    if (stat(path, &st) == 0)
        return;
    if (errno == ENOENT && is_hub_name(given))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FILE), errmsg("could not open model \"%s\": %m", given), errhint(FETCH)));
    slm_pg_file_error(errno, psprintf("could not open model \"%s\"", given));
}
