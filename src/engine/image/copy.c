/*
 * An image as a source: what slm_export_model wrote on another server, copied and then checked as any image is.
 *
 * The file is somebody's, so it is read and not mapped; the copy is ours, and only the copy is believed.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/file.h"
#include "engine/base/stream.h"
#include "engine/image/format.h"
#include "engine/image/image.h"

#define PIECE (1u << 20)

bool slm_image_is(const char *path)
{
    char magic[sizeof SLM_IMAGE_MAGIC - 1] = {0};
    uint64_t size;
    slm_error err;
    int fd;
    if (slm_file_open(path, &fd, &size, &err) != SLM_OK)
        return false;
    bool is = size > sizeof magic && slm_file_read(fd, magic, sizeof magic, 0, "an image", &err) == SLM_OK &&
              memcmp(magic, SLM_IMAGE_MAGIC, sizeof magic) == 0;
    slm_file_close(fd);
    return is;
}

typedef struct copying {
    int from, to;
    uint64_t size;
    slm_stream stream;
    slm_progress_fn progress;
    void *arg;
    const volatile int *stop;
} copying;

static slm_status copy_bytes(copying *c, slm_error *err)
{
    static const char what[] = "the image";
    unsigned char *piece = malloc(PIECE);
    slm_status status = piece == NULL ? slm_fail(err, SLM_NOMEM, "out of memory") : slm_stream_open(&c->stream, c->to, 0, err);
    for (uint64_t at = 0; status == SLM_OK && at < c->size; at += PIECE) {
        size_t n = c->size - at < PIECE ? (size_t) (c->size - at) : PIECE;
        if (c->progress != NULL)
            c->progress(c->arg, at, c->size);
        if (c->stop != NULL && *c->stop != 0)
            status = slm_fail(err, SLM_CANCELLED, "cancelled");
        if (status == SLM_OK)
            status = slm_file_read(c->from, piece, n, at, what, err);
        if (status == SLM_OK)
            status = slm_stream_write(&c->stream, piece, n, err);
    }
    free(piece);
    if (status == SLM_OK)
        status = slm_stream_end(&c->stream, err);
    else
        slm_stream_free(&c->stream);
    return status == SLM_OK ? slm_file_sync(c->to, err) : status;
}

static slm_status verify(copying *c, const char *path, slm_model_info *info, slm_error *err)
{
    slm_image *image = NULL;
    SLM_TRY(slm_image_open(path, &image, err));
    slm_status status = slm_image_prewarm(image, c->progress, c->arg, c->stop, err);
    if (status == SLM_OK && info != NULL)
        *info = *slm_image_info(image);
    slm_image_close(image);
    return status;
}

slm_status slm_image_copy(const char *from_path, const char *path, slm_progress_fn progress, void *arg, const volatile int *stop,
                          slm_model_info *info, slm_error *err)
{
    copying c = {.from = -1, .to = -1, .progress = progress, .arg = arg, .stop = stop};
    SLM_TRY(slm_file_open(from_path, &c.from, &c.size, err));
    slm_status status = slm_file_create(path, &c.to, err);
    if (status == SLM_OK) {
        status = copy_bytes(&c, err);
        slm_file_close(c.to);
        if (status == SLM_OK)
            status = verify(&c, path, info, err);
        if (status != SLM_OK)
            unlink(path);
    }
    slm_file_close(c.from);
    return status;
}
