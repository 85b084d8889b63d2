/*
 * An image of an earlier layout, written anew in the present one.
 *
 *   mapped image of layout 1 ──panel by panel: slm_panel_from_layout_1──► pwrite ──► image of this layout
 *
 * Only the order of bytes inside a panel changed (and the form of the tokenizer's tables, which its own room converts), so every tensor
 * keeps its size and its distance from the first; the head is written from what the old one says, and what can be known beside.
 * The old weights are read once, in the order of the file, which is where their checksum is verified; tensors that do not fill the file
 * one after the other are refused.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "engine/base/file.h"
#include "engine/base/stream.h"
#include "engine/image/head.h"
#include "engine/image/image.h"
#include "engine/image/open.h"

#define STEP_BYTES (1u << 20)

typedef struct rebuild {
    const slm_image *image;
    const void *tokenizer;      /* [tokenizer_bytes] of the new image */
    size_t tokenizer_bytes;
    void *converted;            /* the same, when it was made here */
    slm_image_header h;         /* of the new image */
    slm_model_info info;        /* likewise */
    slm_image_entry *entries;   /* [h.n_tensors] of the old image in the order of the file; then of the new one */
    uint64_t shift;             /* old offset + shift = new offset, modulo 2^64 */
    XXH3_state_t *before, *after;
    int fd;
    slm_stream stream; /* to fd, of the weights */
    unsigned char *buffer;
    size_t buffer_bytes;
    slm_progress_fn progress;
    void *progress_arg;
    const volatile int *stop;
} rebuild;

static int by_offset(const void *a, const void *b)
{
    const slm_image_entry *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static slm_status stopped(const rebuild *r, uint64_t at, slm_error *err)
{
    if (r->progress != NULL)
        r->progress(r->progress_arg, at, r->h.file_bytes);
    return r->stop != NULL && *r->stop != 0 ? slm_fail(err, SLM_CANCELLED, "cancelled") : SLM_OK;
}

/* Units (panels, or a vector as a whole) of one tensor, as many as the buffer holds at a time. */
static slm_status rebuild_tensor(rebuild *r, const slm_image_entry *e, slm_error *err)
{
    size_t unit = e->cols == 0 ? (size_t) e->bytes : slm_panel_bytes((slm_type) e->type, e->cols), most = STEP_BYTES / unit;
    uint64_t n_units = e->bytes / unit, n;
    most = most == 0 ? 1 : most;
    if (r->buffer_bytes < most * unit) {
        free(r->buffer);
        r->buffer = malloc(most * unit);
        r->buffer_bytes = r->buffer == NULL ? 0 : most * unit;
        if (r->buffer == NULL)
            return slm_fail(err, SLM_NOMEM, "out of memory");
    }
    for (uint64_t i = 0; i < n_units; i += n) {
        const unsigned char *from = slm_image_bytes(r->image) + e->offset + i * unit;
        uint64_t at = e->offset + i * unit + r->shift;
        n = n_units - i < most ? n_units - i : most;
        SLM_TRY(stopped(r, at, err));
        for (uint64_t u = 0; u < n; u++)
            if (e->cols == 0)
                memcpy(r->buffer, from, unit);
            else
                slm_panel_from_layout_1((slm_type) e->type, e->cols, from + u * unit, r->buffer + u * unit);
        XXH3_64bits_update(r->before, from, (size_t) n * unit);
        XXH3_64bits_update(r->after, r->buffer, (size_t) n * unit);
        SLM_TRY(slm_stream_write(&r->stream, r->buffer, (size_t) n * unit, err));
    }
    return SLM_OK;
}

static slm_status rebuild_weights(rebuild *r, const slm_image_header *old, slm_error *err)
{
    uint64_t end = old->weights_offset;
    SLM_TRY(slm_stream_open(&r->stream, r->fd, r->h.weights_offset, err));
    for (uint32_t i = 0; i < old->n_tensors; i++) {
        if (r->entries[i].offset != end)
            return slm_image_damaged(err, "its tensors do not follow each other");
        SLM_TRY(rebuild_tensor(r, &r->entries[i], err));
        end += r->entries[i].bytes;
        r->entries[i].offset += r->shift;
    }
    SLM_TRY(slm_stream_end(&r->stream, err));
    SLM_TRY(slm_image_check(r->image, err)); /* a page that went missing was read as zeros */
    if (end != old->file_bytes || XXH3_64bits_digest(r->before) != old->weights_checksum)
        return slm_image_damaged(err, "the checksum of its weights is wrong");
    r->h.weights_checksum = XXH3_64bits_digest(r->after);
    return SLM_OK;
}

/* Waits for the disk in small steps, then once more for the metadata. */
static slm_status flush_all(const rebuild *r, slm_error *err)
{
    for (uint64_t at = 0; at < r->h.file_bytes; at += 4 * STEP_BYTES) {
        SLM_TRY(stopped(r, at, err));
        slm_file_flush_wait(r->fd, at, 4 * STEP_BYTES);
    }
    return slm_file_sync(r->fd, err);
}

static slm_status rebuild_all(rebuild *r, slm_error *err)
{
    const slm_image_header *old = slm_image_get_header(r->image);
    slm_image_lay_out(r->tokenizer_bytes, old->n_tensors, &r->h);
    r->shift = r->h.weights_offset - old->weights_offset;
    r->h.file_bytes = r->info.image_bytes = old->file_bytes + r->shift;
    r->entries = malloc((size_t) old->directory.bytes + 1);
    r->before = XXH3_createState();
    r->after = XXH3_createState();
    if (r->entries == NULL || r->before == NULL || r->after == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    XXH3_64bits_reset(r->before);
    XXH3_64bits_reset(r->after);
    memcpy(r->entries, slm_image_bytes(r->image) + old->directory.offset, (size_t) old->directory.bytes);
    qsort(r->entries, old->n_tensors, sizeof *r->entries, by_offset);
    SLM_TRY(rebuild_weights(r, old, err));
    slm_image_describe_pooling(slm_image_hparams(r->image), r->info.pooling, sizeof r->info.pooling);
    slm_image_head head = {slm_image_hparams(r->image), &r->info, r->tokenizer, r->entries};
    SLM_TRY(slm_image_write_head(r->fd, &r->h, &head, err));
    return flush_all(r, err);
}

/* The tokenizer's blob as the new image has it; what is made is r's. */
static slm_status take_tokenizer(rebuild *r, slm_image_convert_fn convert, slm_error *err)
{
    r->tokenizer = slm_image_tokenizer(r->image, &r->tokenizer_bytes);
    if (r->tokenizer == NULL)
        return SLM_OK;
    SLM_TRY(convert(r->tokenizer, r->tokenizer_bytes, &r->info, &r->converted, &r->tokenizer_bytes, err));
    r->tokenizer = r->converted != NULL ? r->converted : r->tokenizer;
    return SLM_OK;
}

slm_status slm_image_write_again(const char *from_path, const char *image_path, slm_image_convert_fn convert, slm_progress_fn progress,
                                 void *arg, const volatile int *stop, slm_error *err)
{
    rebuild r = {.progress = progress, .progress_arg = arg, .stop = stop, .fd = -1};
    slm_image *image = NULL;
    SLM_TRY(slm_image_open_layout(from_path, 1, &image, err));
    r.image = image;
    r.info = *slm_image_info(image);
    slm_status status = take_tokenizer(&r, convert, err);
    if (status == SLM_OK)
        status = slm_file_create(image_path, &r.fd, err);
    if (r.fd >= 0) {
        status = rebuild_all(&r, err);
        slm_file_close(r.fd);
        if (status != SLM_OK)
            unlink(image_path);
    }
    XXH3_freeState(r.before);
    XXH3_freeState(r.after);
    slm_stream_free(&r.stream);
    free(r.entries);
    free(r.converted);
    free(r.buffer);
    slm_image_close(image);
    return status;
}
