/*
 * digest.c: SHA-256 of a model's source, streamed, and the proof that what is imported afterwards is what was hashed.
 *
 *   a file       SHA-256 of its contents, as sha256sum prints it
 *   a directory  SHA-256 over its regular files in byte order of their relative names: name NUL length(8 bytes, big endian) contents
 *   a split file (NAME-00001-of-00003.gguf) the same over its parts; the first has no name, the others what follows NAME
 *
 * Images are named after this digest and shared by all databases and roles, so whoever may write to a source must not be able to get
 * other contents into an image of its name.  Beside the whole, each piece of 256 KiB is hashed; the import reads whole pieces into
 * memory and takes none whose SHA-256 is another one (slm_seal of the engine).  Times and inodes prove nothing: he may set them.
 *
 * Hidden files and directories are left out; depth and number of files are bounded.  Interrupts are answered at every piece.
 */

#include "pg/models/digest.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cryptohash.h"
#include "common/sha2.h"
#include "nodes/pg_list.h"
#include "port/pg_bswap.h"
#include "storage/fd.h"

#include "engine/slm.h"
#include "pg/base/errors.h"
#include "pg/models/loading.h"

#define PIECE_BYTES (256 * 1024)
#define REST_BYTES UINT64CONST(0x40000000) /* of a directory, beside 16 times the weights: more is no directory of one model */
#define MAX_DEPTH 3
#define MAX_FILES 1000

typedef struct SourceFile {
    char *name; /* relative to the directory; of a file: empty, of its further parts: what follows their common name */
    char *path;
    uint64 bytes;
    uint8 (*pieces)[PG_SHA256_DIGEST_LENGTH]; /* [n_pieces(bytes)] */
} SourceFile;

struct SlmSource {
    bool is_directory;
    int n_files;
    SourceFile *files; /* [n_files], by name */
    uint64 bytes;
    pg_cryptohash_ctx *piece_hash;
};

static SourceFile *new_file(const char *name, const char *path, uint64 bytes)
{
    SourceFile *file = palloc(sizeof(SourceFile));

    *file = (SourceFile){pstrdup(name), pstrdup(path), bytes, NULL};
    return file;
}

static void list_directory(const char *root, const char *below, int depth, List **files)
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
            slm_pg_file_error(errno, psprintf("could not examine \"%s\"", path));
        if (S_ISDIR(st.st_mode) && depth + 1 < MAX_DEPTH) {
            list_directory(root, name, depth + 1, files);
        } else if (S_ISREG(st.st_mode)) {
            *files = lappend(*files, new_file(name, path, (uint64) st.st_size));
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

/* Not being allowed to look is no answer. */
static bool is_there(const char *path)
{
    if (access(path, F_OK) == 0)
        return true;
    if (errno != ENOENT)
        slm_pg_file_error(errno, psprintf("could not look for \"%s\"", path));
    return false;
}

/* The further parts of a model whose first part's name says how many there are.  Which are needed, the engine says. */
static void list_parts(const char *path, List **files)
{
    uint32 count = slm_split_count(path);
    char *part = palloc(strlen(path) + 1); /* all names are equally long */
    struct stat st;

    for (uint32 i = 2; i <= count; i++) {
        const char *name = slm_split_name(path, i, count, part, strlen(path) + 1);

        if (stat(part, &st) == 0 && S_ISREG(st.st_mode))
            *files = lappend(*files, new_file(name, part, (uint64) st.st_size));
    }
}

/* The source's files. */
static List *list_source(const char *path, bool *is_directory)
{
    List *files = NIL;
    struct stat st;

    if (stat(path, &st) != 0)
        slm_pg_file_error(errno, psprintf("could not open model \"%s\"", path));
    *is_directory = S_ISDIR(st.st_mode);
    if (*is_directory) {
        if (is_there(psprintf("%s/config.json", path)) || is_there(psprintf("%s/adapter_config.json", path)) ||
            is_there(psprintf("%s/modules.json", path)) || is_there(psprintf("%s/gliner_config.json", path)))
            list_directory(path, "", 0, &files);
        if (files == NIL)
            ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("directory \"%s\" holds no model", path),
                            errhint("%s", no_model_hint(path))));
    } else if (S_ISREG(st.st_mode)) {
        files = list_make1(new_file("", path, (uint64) st.st_size));
        list_parts(path, &files);
    } else {
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is neither a regular file nor a directory", path),
                        errhint("Name a GGUF file, or the directory of a Hugging Face model.")));
    }
    return files;
}

static int compare_files(const ListCell *a, const ListCell *b)
{
    return strcmp(((const SourceFile *) lfirst(a))->name, ((const SourceFile *) lfirst(b))->name);
}

SlmSource *slm_pg_source_list(const char *path)
{
    SlmSource *source = palloc0(sizeof(SlmSource));
    List *files = list_source(path, &source->is_directory);
    ListCell *lc;

    list_sort(files, compare_files);
    source->files = palloc(sizeof(SourceFile) * (Size) list_length(files));
    foreach (lc, files) {
        source->files[source->n_files++] = *(SourceFile *) lfirst(lc);
        source->bytes += ((SourceFile *) lfirst(lc))->bytes;
    }
    return source;
}

const char *slm_pg_source_title(const SlmSource *source, const char *path)
{
    return source->is_directory ? last_dir_separator(path) + 1 : NULL;
}

void slm_pg_source_check_size(const SlmSource *source, const char *path, uint64 weights)
{
    if (source->bytes > weights && (source->bytes - weights) / 16 > weights + REST_BYTES / 16)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("\"%s\" holds " UINT64_FORMAT " bytes beside the " UINT64_FORMAT " of its weights", path,
                               source->bytes - weights, weights),
                        errhint("Name a directory that holds one model: all of its files are hashed.")));
}

static void update(pg_cryptohash_ctx *ctx, const void *data, size_t bytes)
{
    if (pg_cryptohash_update(ctx, data, bytes) < 0)
        elog(ERROR, "could not compute SHA-256: %s", pg_cryptohash_error(ctx));
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

void slm_pg_digest_hex(const uint8 digest[32], char out[65])
{
    for (int i = 0; i < 32; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

void slm_pg_sha256(const void *data, size_t bytes, uint8 out[32])
{
    pg_cryptohash_ctx *ctx = begin_sha256();

    update(ctx, data, bytes);
    end_sha256(ctx, out);
}

/* ---- hashing */

static uint64 n_pieces(const SourceFile *file)
{
    return file->bytes / PIECE_BYTES + (file->bytes % PIECE_BYTES != 0);
}

/* A piece, whole, unless the file ends. */
static void read_piece(int fd, const SourceFile *file, uint8 *buffer, size_t bytes)
{
    while (bytes > 0) {
        ssize_t n = read(fd, buffer, bytes);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            slm_pg_file_error(errno, psprintf("could not read \"%s\"", file->path));
        if (n == 0)
            ereport(ERROR, (errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
                            errmsg("file \"%s\" became shorter while it was read", file->path),
                            errhint("Wait until the file is complete.")));
        buffer += n;
        bytes -= (size_t) n;
    }
}

static bool hash_piece(pg_cryptohash_ctx *ctx, const void *data, size_t bytes, uint8 out[PG_SHA256_DIGEST_LENGTH])
{
    return pg_cryptohash_init(ctx) >= 0 && pg_cryptohash_update(ctx, data, bytes) >= 0 &&
           pg_cryptohash_final(ctx, out, PG_SHA256_DIGEST_LENGTH) >= 0;
}

static void hash_file(SlmSource *source, SourceFile *file, pg_cryptohash_ctx *whole, uint8 *buffer, uint64 *done)
{
    int fd = OpenTransientFile(file->path, O_RDONLY | O_NONBLOCK | PG_BINARY);
    uint64 left = file->bytes;

    if (fd < 0)
        slm_pg_file_error(errno, psprintf("could not open model \"%s\"", file->path));
    file->pieces = MemoryContextAllocHuge(CurrentMemoryContext, (Size) Max(n_pieces(file), 1) * sizeof *file->pieces);
    for (uint64 i = 0; left > 0; i++) {
        size_t bytes = (size_t) Min(left, (uint64) PIECE_BYTES);

        read_piece(fd, file, buffer, bytes);
        update(whole, buffer, bytes);
        if (!hash_piece(source->piece_hash, buffer, bytes, file->pieces[i]))
            elog(ERROR, "could not compute SHA-256: %s", pg_cryptohash_error(source->piece_hash));
        left -= bytes;
        *done += bytes;
        slm_pg_loading_report(NULL, *done, source->bytes);
        slm_pg_loading_interrupted();
    }
    CloseTransientFile(fd);
}

void slm_pg_source_digest(SlmSource *source, char sha256[65])
{
    uint8 *buffer = palloc(PIECE_BYTES);
    uint8 digest[PG_SHA256_DIGEST_LENGTH];
    uint64 done = 0;
    pg_cryptohash_ctx *whole = begin_sha256();

    source->piece_hash = begin_sha256();
    for (int i = 0; i < source->n_files; i++) {
        SourceFile *file = &source->files[i];

        if (source->is_directory || source->n_files > 1) {
            uint64 length = pg_hton64(file->bytes);

            update(whole, file->name, strlen(file->name) + 1);
            update(whole, &length, sizeof length);
        }
        hash_file(source, file, whole, buffer, &done);
    }
    end_sha256(whole, digest);
    pfree(buffer);
    slm_pg_digest_hex(digest, sha256);
}

/* ---- the seal: called by the engine, so nothing here raises an error */

static int find_file(void *arg, const char *name, uint64_t *bytes)
{
    const SlmSource *source = arg;
    char wanted[MAXPGPATH];

    strlcpy(wanted, name, sizeof wanted);
    if (source->is_directory)
        canonicalize_path(wanted); /* modules.json may say "./1_Pooling/" */
    for (int low = 0, high = source->n_files; low < high;) {
        int middle = (low + high) / 2, order = strcmp(wanted, source->files[middle].name);

        if (order == 0) {
            *bytes = source->files[middle].bytes;
            return middle;
        }
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}

static bool same_piece(void *arg, int file, uint64_t piece, const void *data, size_t bytes)
{
    const SlmSource *source = arg;
    uint8 digest[PG_SHA256_DIGEST_LENGTH];

    return piece < n_pieces(&source->files[file]) && hash_piece(source->piece_hash, data, bytes, digest) &&
           memcmp(digest, source->files[file].pieces[piece], sizeof digest) == 0;
}

slm_seal slm_pg_source_seal(SlmSource *source)
{
    return (slm_seal){.arg = source, .piece_bytes = PIECE_BYTES, .find = find_file, .same = same_piece};
}

void slm_pg_source_close(SlmSource *source)
{
    if (source != NULL && source->piece_hash != NULL)
        pg_cryptohash_free(source->piece_hash);
    if (source != NULL)
        source->piece_hash = NULL;
}
