/*
 * Reading and writing files at offsets, whole or not at all: every short read or write becomes a status with the system's
 * reason.
 *
 * Sources are read with pread into buffers, never mapped: a file that is truncated while it is read is then an error and not a
 * SIGBUS that would take the server down.
 */
#ifndef SLM_BASE_FILE_H
#define SLM_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

/* Opens a regular file for reading; *size its bytes.  IO for what the system refuses, INVALID for a directory, pipe or device. */
slm_status slm_file_open(const char *path, int *fd, uint64_t *size, slm_error *err);
/* Is the file a pointer that Git LFS left in place of the real one? */
bool slm_file_is_pointer(int fd);
/* The words for it: FORMAT. */
slm_status slm_file_pointer_error(const char *name, slm_error *err);
/* Creates a file that must not exist, for reading and writing. */
slm_status slm_file_create(const char *path, int *fd, slm_error *err);
/* Exactly `bytes` at `offset`, or FORMAT when the file ends before (IO for errors of the system). */
slm_status slm_file_read(int fd, void *buffer, size_t bytes, uint64_t offset, const char *what, slm_error *err);
slm_status slm_file_write(int fd, const void *buffer, size_t bytes, uint64_t offset, slm_error *err);
slm_status slm_file_sync(int fd, slm_error *err);
/* Starts writing a range to the disk, or does so and waits: keeps the final sync short. Errors show there. */
void slm_file_flush_begin(int fd, uint64_t offset, uint64_t bytes);
void slm_file_flush_wait(int fd, uint64_t offset, uint64_t bytes);
void slm_file_close(int fd);

/* Maps a whole file for reading, shared: only for files of our own making, which are replaced and never changed; a symbolic link is
 * none.  *size its bytes; *map NULL when they are fewer than `least` (> 0).  The caller unmaps, and closes *out where *map is one.  Errors
 * as slm_file_open, and IO. */
slm_status slm_file_map(const char *path, uint64_t least, void **map, uint64_t *size, int *out, slm_error *err);

#endif
