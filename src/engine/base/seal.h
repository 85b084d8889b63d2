/*
 * Reading a source that was hashed before: what is read is what was hashed, whoever writes to its files meanwhile.
 *
 *   slm_seal_begin ──► slm_seal_opened, slm_seal_read ... ──► slm_seal_end          (on one thread)
 *
 * A seal knows the source's files by name and size, and of each piece of each file whether given bytes are the ones that were hashed.  A
 * read takes whole pieces into memory of our own, asks, and hands out from there; times and inodes are not asked, for whoever may write
 * to a file may set them, and writes through a mapping do not show in them.  Without a seal files are read as they are.
 */
#ifndef SLM_BASE_SEAL_H
#define SLM_BASE_SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

/* What whoever hashed the source knows of it.  Functions must return and may not longjmp. */
typedef struct slm_seal {
    void *arg;
    size_t piece_bytes; /* files are cut at multiples of this */
    /* The number and size of a file by its name relative to the source (empty: the source itself); -1: it was not there. */
    int (*find)(void *arg, const char *name, uint64_t *bytes);
    /* Are these the bytes of the piece that was hashed? */
    bool (*same)(void *arg, int file, uint64_t piece, const void *data, size_t bytes);
} slm_seal;

/* seal NULL: none.  Must outlive slm_seal_end. */
slm_status slm_seal_begin(const slm_seal *seal, slm_error *err);
/* Returns status; where that is OK although a read has failed since slm_seal_begin, IO: optional metadata that cannot be read is passed
 * over by those who ask for it, and must not become an image without it. */
slm_status slm_seal_end(slm_status status, slm_error *err);
/* A file of this name (empty: the source itself) was found with so many bytes, or not found: IO when it was hashed otherwise. */
slm_status slm_seal_opened(const char *name, bool found, uint64_t bytes, slm_error *err);
/* As slm_file_read; what: for the message. */
slm_status slm_seal_read(int fd, const char *name, void *buffer, size_t bytes, uint64_t offset, const char *what, slm_error *err);

#endif
