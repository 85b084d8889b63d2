/*
 * digest.c: SHA-256 of a model's source, streamed, and a stamp that tells whether the source changed while it was read.
 *
 *   a file       SHA-256 of its contents, as sha256sum prints it
 *   a directory  SHA-256 over its regular files in byte order of their relative names: name NUL length(8 bytes, big endian) contents
 *
 * Hidden files and directories are left out; depth and number of files are bounded.  Interrupts are answered at every 256 KiB.
 */
#include "pg/slm_pg.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cryptohash.h"
#include "common/sha2.h"
#include "nodes/pg_list.h"
#include "port/pg_bswap.h"
#include "storage/fd.h"

#define CHUNK_BYTES (256 * 1024)
#define MAX_DEPTH 3
#define MAX_FILES 1000

typedef struct SourceFile {
    char *name; /* relative to the directory */
    char *path;
    uint64 bytes;
} SourceFile;

static pg_noreturn void io_error(const char *verb, const char *path);

static void io_error(const char *verb, const char *path)
{
    ereport(ERROR, (errcode_for_file_access(), errmsg("could not %s \"%s\": %m", verb, path),
                    errhint("Check that the file exists on the server and that the server's operating system user may read it.")));
    pg_unreachable();
}

static uint64 mix(uint64 stamp, const struct stat *st)
{
    uint64 values[4] = {(uint64) st->st_ino, (uint64) st->st_size, (uint64) st->st_mtim.tv_sec, (uint64) st->st_mtim.tv_nsec};

    for (int i = 0; i < 4; i++)
        stamp = (stamp ^ values[i]) * UINT64CONST(0x9E3779B97F4A7C15) + 1;
    return stamp;
}

static void list_directory(const char *root, const char *below, int depth, List **files, uint64 *stamp)
{
    const char *full = below[0] == '\0' ? root : psprintf("%s/%s", root, below);
    DIR *dir = AllocateDir(full);
    struct dirent *de;

    while ((de = ReadDir(dir, full)) != NULL) {
        char *name = below[0] == '\0' ? pstrdup(de->d_name) : psprintf("%s/%s", below, de->d_name);
        char *path = psprintf("%s/%s", root, name);
        struct stat st;

        if (de->d_name[0] == '.')
            continue;
        if (stat(path, &st) != 0)
            io_error("examine", path);
        if (S_ISDIR(st.st_mode) && depth + 1 < MAX_DEPTH) {
            list_directory(root, name, depth + 1, files, stamp);
        } else if (S_ISREG(st.st_mode)) {
            SourceFile *file = palloc(sizeof(SourceFile));

            *file = (SourceFile){name, path, (uint64) st.st_size};
            *files = lappend(*files, file);
            *stamp += mix(0, &st); /* readdir's order does not matter */
        }
        if (list_length(*files) > MAX_FILES)
            ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("directory \"%s\" holds more than %d files", root, MAX_FILES),
                            errhint("Name the directory of one model.")));
    }
    FreeDir(dir);
}

/* What to name in place of a directory that is no model: a GGUF file in it, where there is one. */
static const char *no_model_hint(const char *path)
{
    const char *hint = "Name a GGUF file, or a directory with config.json, tokenizer.json and model.safetensors.";
    DIR *dir = AllocateDir(path);
    struct dirent *de;

    while ((de = ReadDir(dir, path)) != NULL) {
        size_t n = strlen(de->d_name);

        if (n > 5 && strcmp(de->d_name + n - 5, ".gguf") == 0)
            hint = psprintf("Name the GGUF file in it: \"%s/%s\".", path, de->d_name);
    }
    FreeDir(dir);
    return hint;
}

/* The source's files and stamp. */
static List *list_source(const char *path, bool *is_directory, uint64 *stamp)
{
    List *files = NIL;
    struct stat st;

    if (stat(path, &st) != 0)
        io_error("open model", path);
    *is_directory = S_ISDIR(st.st_mode);
    *stamp = 0;
    if (*is_directory) {
        if (access(psprintf("%s/config.json", path), F_OK) == 0 || access(psprintf("%s/adapter_config.json", path), F_OK) == 0)
            list_directory(path, "", 0, &files, stamp);
        if (files == NIL)
            ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("directory \"%s\" holds no model", path),
                            errhint("%s", no_model_hint(path))));
    } else if (S_ISREG(st.st_mode)) {
        SourceFile *file = palloc(sizeof(SourceFile));

        *file = (SourceFile){pstrdup(path), pstrdup(path), (uint64) st.st_size};
        files = list_make1(file);
        *stamp = mix(0, &st);
    } else {
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is neither a regular file nor a directory", path),
                        errhint("Name a GGUF file, or the directory of a Hugging Face model.")));
    }
    return files;
}

uint64 slm_pg_source_stamp(const char *path)
{
    bool is_directory;
    uint64 stamp;

    list_source(path, &is_directory, &stamp);
    return stamp;
}

static int compare_files(const ListCell *a, const ListCell *b)
{
    return strcmp(((const SourceFile *) lfirst(a))->name, ((const SourceFile *) lfirst(b))->name);
}

static void update(pg_cryptohash_ctx *ctx, const void *data, size_t bytes)
{
    if (pg_cryptohash_update(ctx, data, bytes) < 0)
        elog(ERROR, "could not compute SHA-256: %s", pg_cryptohash_error(ctx));
}

static void hash_file(pg_cryptohash_ctx *ctx, const SourceFile *file, uint8 *buffer, slm_progress_fn progress, void *arg, uint64 *done,
                      uint64 total)
{
    int fd = OpenTransientFile(file->path, O_RDONLY | O_NONBLOCK | PG_BINARY);
    uint64 left = file->bytes;

    if (fd < 0)
        io_error("open model", file->path);
    while (left > 0) {
        ssize_t n = read(fd, buffer, Min(left, (uint64) CHUNK_BYTES));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            io_error("read", file->path);
        if (n == 0)
            ereport(ERROR, (errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
                            errmsg("file \"%s\" became shorter while it was read", file->path),
                            errhint("Wait until the file is complete.")));
        update(ctx, buffer, (size_t) n);
        left -= (uint64) n;
        *done += (uint64) n;
        if (progress != NULL)
            progress(arg, *done, total);
        CHECK_FOR_INTERRUPTS();
    }
    CloseTransientFile(fd);
}

static pg_cryptohash_ctx *begin_sha256(void)
{
    pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);

    if (ctx == NULL)
        ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
    if (pg_cryptohash_init(ctx) < 0)
        elog(ERROR, "could not compute SHA-256: %s", pg_cryptohash_error(ctx));
    return ctx;
}

static void end_sha256(pg_cryptohash_ctx *ctx, uint8 out[PG_SHA256_DIGEST_LENGTH])
{
    if (pg_cryptohash_final(ctx, out, PG_SHA256_DIGEST_LENGTH) < 0)
        elog(ERROR, "could not compute SHA-256: %s", pg_cryptohash_error(ctx));
    pg_cryptohash_free(ctx);
}

void slm_pg_sha256(const void *data, size_t bytes, uint8 out[32])
{
    pg_cryptohash_ctx *ctx = begin_sha256();

    update(ctx, data, bytes);
    end_sha256(ctx, out);
}

void slm_pg_digest_source(const char *path, slm_progress_fn progress, void *arg, SlmSourceState *out)
{
    bool is_directory;
    List *files = list_source(path, &is_directory, &out->stamp);
    uint8 *buffer = palloc(CHUNK_BYTES);
    uint8 digest[PG_SHA256_DIGEST_LENGTH];
    uint64 done = 0;
    ListCell *lc;

    out->bytes = 0;
    foreach (lc, files)
        out->bytes += ((SourceFile *) lfirst(lc))->bytes;
    list_sort(files, compare_files);
    pg_cryptohash_ctx *ctx = begin_sha256();

    foreach (lc, files) {
        SourceFile *file = lfirst(lc);

        if (is_directory) {
            uint64 length = pg_hton64(file->bytes);

            update(ctx, file->name, strlen(file->name) + 1);
            update(ctx, &length, sizeof length);
        }
        hash_file(ctx, file, buffer, progress, arg, &done, out->bytes);
    }
    end_sha256(ctx, digest);
    pfree(buffer);
    for (int i = 0; i < PG_SHA256_DIGEST_LENGTH; i++)
        snprintf(out->sha256 + 2 * i, 3, "%02x", digest[i]);
}
