/*
 * One buffer: a piece of the file that ends at a multiple of its size.
 *
 * Why: the kernel makes the folios of a file as large as the pieces that are written to it (Linux 6.18, ext4: an image that was written
 * in batches of any size had 16 of 140 MiB in huge pages when it was mapped, in these pieces 138).
 */
#include "engine/base/stream.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/file.h"
#include "engine/base/pages.h"

slm_status slm_stream_open(slm_stream *out, int fd, uint64_t at, slm_error *err)
{
    *out = (slm_stream){.fd = fd, .piece = malloc(SLM_HUGE_PAGE), .written = at};
    return out->piece == NULL ? slm_fail(err, SLM_NOMEM, "out of memory") : SLM_OK;
}

static slm_status write_piece(slm_stream *stream, slm_error *err)
{
    SLM_TRY(slm_file_write(stream->fd, stream->piece, stream->n, stream->written, err));
    stream->written += stream->n;
    stream->n = 0;
    return SLM_OK;
}

slm_status slm_stream_write(slm_stream *stream, const void *bytes, size_t n, slm_error *err)
{
    const unsigned char *from = bytes;
    while (n > 0) {
        size_t room = SLM_HUGE_PAGE - (size_t) ((stream->written + stream->n) % SLM_HUGE_PAGE), take = n < room ? n : room;
        memcpy(stream->piece + stream->n, from, take);
        stream->n += take;
        if (take == room)
            SLM_TRY(write_piece(stream, err));
        from += take;
        n -= take;
    }
    return SLM_OK;
}

slm_status slm_stream_end(slm_stream *stream, slm_error *err)
{
    slm_status status = stream->n > 0 ? write_piece(stream, err) : SLM_OK;
    slm_stream_free(stream);
    return status;
}

void slm_stream_free(slm_stream *stream)
{
    free(stream->piece);
    stream->piece = NULL;
    stream->n = 0;
}
