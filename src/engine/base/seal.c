/*
 * The seal of the import that runs on this thread, and the last piece that was read in part: rows and metadata begin and end anywhere.
 */
#include "engine/base/seal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/file.h"

static _Thread_local struct {
    const slm_seal *seal;
    char *piece;     /* [piece_bytes] */
    int file;        /* of the piece; -1: none */
    uint64_t number;
    bool failed;     /* a read, since slm_seal_begin */
} current;

slm_status slm_seal_begin(const slm_seal *seal, slm_error *err)
{
    memset(&current, 0, sizeof current);
    current.file = -1;
    if (seal == NULL)
        return SLM_OK;
    current.piece = malloc(seal->piece_bytes);
    if (current.piece == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    current.seal = seal;
    return SLM_OK;
}

static slm_status changed(const char *name, slm_error *err)
{
    current.failed = true;
    if (name[0] == '\0')
        slm_fail(err, SLM_IO, "the file changed while it was loaded");
    else
        slm_fail(err, SLM_IO, "\"%s\" changed while it was loaded", name);
    if (err != NULL)
        err->os_error = ETXTBSY;
    (void) slm_hint(err, "Load it again when its files are complete.");
    return SLM_IO;
}

slm_status slm_seal_end(slm_status status, slm_error *err)
{
    if (status == SLM_OK && current.failed)
        status = changed("", err);
    free(current.piece);
    memset(&current, 0, sizeof current);
    return status;
}

slm_status slm_seal_opened(const char *name, bool found, uint64_t bytes, slm_error *err)
{
    uint64_t hashed = 0;
    if (current.seal == NULL)
        return SLM_OK;
    bool was_there = current.seal->find(current.seal->arg, name, &hashed) >= 0;
    return was_there == found && (!found || hashed == bytes) ? SLM_OK : changed(name, err);
}

/* Reads a piece, whole, to where it is wanted and asks for it. */
static slm_status read_piece(int fd, const char *name, int file, uint64_t number, char *to, size_t bytes, const char *what, slm_error *err)
{
    slm_status status = slm_file_read(fd, to, bytes, number * current.seal->piece_bytes, what, err);
    if (status != SLM_OK) {
        current.failed = true;
        return status;
    }
    return current.seal->same(current.seal->arg, file, number, to, bytes) ? SLM_OK : changed(name, err);
}

slm_status slm_seal_read(int fd, const char *name, void *buffer, size_t bytes, uint64_t offset, const char *what, slm_error *err)
{
    const slm_seal *seal = current.seal;
    char *out = buffer;
    uint64_t size, end;
    if (seal == NULL)
        return slm_file_read(fd, buffer, bytes, offset, what, err);
    int file = seal->find(seal->arg, name, &size);
    if (file < 0)
        return changed(name, err);
    if (__builtin_add_overflow(offset, (uint64_t) bytes, &end) || end > size)
        return slm_fail(err, SLM_FORMAT, "the file is truncated: it ends inside %s", what);
    while (bytes > 0) {
        uint64_t number = offset / seal->piece_bytes;
        size_t skip = (size_t) (offset % seal->piece_bytes);
        uint64_t left = size - number * seal->piece_bytes;
        size_t whole = left < seal->piece_bytes ? (size_t) left : seal->piece_bytes, n = whole - skip < bytes ? whole - skip : bytes;
        if (n == whole) {
            SLM_TRY(read_piece(fd, name, file, number, out, whole, what, err));
        } else {
            if (current.file != file || current.number != number) {
                current.file = -1;
                SLM_TRY(read_piece(fd, name, file, number, current.piece, whole, what, err));
                current.file = file;
                current.number = number;
            }
            memcpy(out, current.piece + skip, n);
        }
        out += n;
        offset += n;
        bytes -= n;
    }
    return SLM_OK;
}
