/*
 * Writing a file from front to back, in pieces of a huge page at multiples of its size: a file system with large folios then keeps the
 * file in pages that a mapping can take as huge ones.
 */
#ifndef SLM_BASE_STREAM_H
#define SLM_BASE_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

typedef struct slm_stream {
    int fd;
    unsigned char *piece; /* [SLM_HUGE_PAGE] */
    uint64_t written;     /* offset in the file; what lies behind it is in piece */
    size_t n;
} slm_stream;

/* Begins at an offset of a file that stays the caller's. NOMEM. */
slm_status slm_stream_open(slm_stream *out, int fd, uint64_t at, slm_error *err);
slm_status slm_stream_write(slm_stream *stream, const void *bytes, size_t n, slm_error *err);
/* Writes what is left, and frees the buffer; of a stream of zeros too. */
slm_status slm_stream_end(slm_stream *stream, slm_error *err);
void slm_stream_free(slm_stream *stream);

#endif
