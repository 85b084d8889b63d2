/*
 * Writing an image: read some rows of the source, pack their panels on all threads, hash and write them, and so on to the end.
 *
 *   source ──read_rows──► rows (<= 4 MiB) ──threads: quantize, pack──► panels ──XXH3, pwrite──► file
 *
 * Memory is bounded by one batch, whatever the model's size.  The stop flag is polled before each batch and by the threads
 * before each panel. Dirty pages are sent to the disk along the way and waited for in small steps, so that neither the end nor
 * a cancel hangs in one long fsync. On any failure the file is removed.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "engine/base/file.h"
#include "engine/base/stream.h"
#include "engine/base/threads.h"
#include "engine/image/head.h"
#include "engine/image/plan.h"
#include "engine/arch/family.h"

#define BATCH_BYTES (4u << 20)
#define BATCH_BYTES_CONVERT (1u << 20) /* quantizing is slow: smaller batches keep the cancel quick */
#define FLUSH_BYTES (32u << 20)

typedef struct writer {
    slm_source *source;
    int fd;
    slm_stream stream;                /* to fd, of the weights */
    uint64_t at, flushed, total;      /* bytes of the file: written, sent to the disk, in all */
    XXH3_state_t *hash;               /* of the weights */
    unsigned char *rows, *panels;     /* the batch */
    size_t rows_capacity, panels_capacity;
    slm_progress_fn progress;
    void *progress_arg;
    const volatile int *stop;
    int n_threads;
} writer;

/* Panels of one batch; the threads share it. */
typedef struct batch {
    const slm_part *part;
    const unsigned char *rows;        /* [n_rows] of the source, row_bytes each */
    unsigned char *panels;            /* [(n_rows + 15) / 16] */
    uint64_t row_bytes;
    uint32_t n_rows;
    const volatile int *stop;
    atomic_int failure;               /* slm_status of the first failure */
} batch;

static bool flagged(const volatile int *stop)
{
    return stop != NULL && *stop != 0;
}

/* The caller looks at what has set the flag, and may go on. */
static bool stopped(const writer *w)
{
    if (flagged(w->stop) && w->progress != NULL)
        w->progress(w->progress_arg, w->at, w->total);
    return flagged(w->stop);
}

static slm_status grow(unsigned char **buffer, size_t *capacity, size_t bytes, slm_error *err)
{
    if (*capacity >= bytes)
        return SLM_OK;
    free(*buffer);
    *capacity = 0;
    *buffer = aligned_alloc(64, (bytes + 63) & ~(size_t) 63);
    if (*buffer == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    *capacity = bytes;
    return SLM_OK;
}

/* ------------------------------------------------------------------ packing */

/* Rows in the image's type: scratch holds a row of floats, then 16 converted rows. */
static slm_status convert_rows(const batch *b, const unsigned char *rows, uint32_t n, unsigned char *scratch)
{
    const slm_part *part = b->part;
    float *floats = (float *) (void *) scratch;
    unsigned char *out = scratch + (((uint64_t) part->cols * 4 + 63) & ~(uint64_t) 63);
    uint64_t out_bytes = slm_row_bytes(part->type, part->cols);
    for (uint32_t r = 0; r < n; r++) {
        slm_dequantize(part->source->type, rows + r * b->row_bytes, floats, part->cols);
        SLM_TRY(slm_quantize(part->type, floats, out + r * out_bytes, part->cols, NULL));
    }
    return SLM_OK;
}

static slm_status pack_panel(const batch *b, uint32_t panel, unsigned char *scratch)
{
    const slm_part *part = b->part;
    const unsigned char *rows = b->rows + (uint64_t) panel * 16 * b->row_bytes;
    size_t panel_bytes = slm_panel_bytes(part->type, part->cols), stride = (size_t) b->row_bytes;
    uint32_t n = b->n_rows - panel * 16 < 16 ? b->n_rows - panel * 16 : 16;
    if (!slm_blocks_finite(part->source->type, rows, (size_t) n * part->cols))
        return SLM_FORMAT;
    if (scratch != NULL) {
        SLM_TRY(convert_rows(b, rows, n, scratch));
        rows = scratch + (((uint64_t) part->cols * 4 + 63) & ~(uint64_t) 63);
        stride = (size_t) slm_row_bytes(part->type, part->cols);
    }
    slm_pack_panel(part->type, rows, stride, n, part->cols, b->panels + panel * panel_bytes);
    return SLM_OK;
}

static void pack_region(void *arg, slm_team *team, int thread, int n_threads)
{
    batch *b = arg;
    uint32_t n_panels = (b->n_rows + 15) / 16, begin, end;
    unsigned char *scratch = NULL;
    slm_stage stage = {.thread = thread};
    slm_status status = SLM_OK;
    if (b->part->type != b->part->source->type) {
        scratch = malloc((size_t) (((uint64_t) b->part->cols * 4 + 63) & ~(uint64_t) 63) +
                         16 * (size_t) slm_row_bytes(b->part->type, b->part->cols));
        if (scratch == NULL)
            status = SLM_NOMEM;
    }
    while (slm_stage_take(team, &stage, n_panels, 1, &begin, &end)) {
        int none = SLM_OK;
        if (status == SLM_OK && flagged(b->stop))
            status = SLM_CANCELLED;
        if (status == SLM_OK)
            status = pack_panel(b, begin, scratch);
        if (status != SLM_OK) /* before the item is reported done */
            atomic_compare_exchange_strong(&b->failure, &none, (int) status);
    }
    slm_stage_end(team, &stage);
    free(scratch);
}

static slm_status batch_status(const batch *b, slm_error *err)
{
    const slm_source_tensor *t = b->part->source;
    switch (atomic_load(&b->failure)) {
    case SLM_OK: return SLM_OK;
    case SLM_CANCELLED: return slm_fail(err, SLM_CANCELLED, "cancelled");
    case SLM_NOMEM: return slm_fail(err, SLM_NOMEM, "out of memory");
    case SLM_FORMAT:
        return slm_fail(err, SLM_FORMAT, "a weight of %s of layer %u is not finite", slm_role_get(t->role)->name, t->layer);
    default: return slm_fail(err, SLM_UNSUPPORTED, "cannot quantize to %s", slm_type_get(b->part->type)->name);
    }
}

/* ------------------------------------------------------------------ writing */

/* Appends to the file; sends what is dirty to the disk from time to time. */
static slm_status append(writer *w, const void *bytes, size_t n, slm_error *err)
{
    SLM_TRY(slm_stream_write(&w->stream, bytes, n, err));
    XXH3_64bits_update(w->hash, bytes, n);
    w->at += n;
    if (w->stream.written - w->flushed >= FLUSH_BYTES) {
        slm_file_flush_begin(w->fd, w->flushed, w->stream.written - w->flushed);
        w->flushed = w->stream.written;
    }
    if (w->progress != NULL)
        w->progress(w->progress_arg, w->at, w->total);
    return SLM_OK;
}

static slm_status write_matrix(writer *w, const slm_part *part, slm_error *err)
{
    batch b = {.part = part, .row_bytes = slm_row_bytes(part->source->type, part->cols), .stop = w->stop};
    size_t panel_bytes = slm_panel_bytes(part->type, part->cols);
    uint64_t budget = part->type == part->source->type ? BATCH_BYTES : BATCH_BYTES_CONVERT;
    uint64_t step = budget / (16 * b.row_bytes);
    step = 16 * (step < 1 ? 1 : step);
    for (uint64_t row = 0; row < part->rows; row += step) {
        slm_status status = SLM_OK;
        if (stopped(w))
            return slm_fail(err, SLM_CANCELLED, "cancelled");
        b.n_rows = (uint32_t) (part->rows - row < step ? part->rows - row : step);
        size_t n_panels = (b.n_rows + 15) / 16;
        SLM_TRY(grow(&w->rows, &w->rows_capacity, (size_t) (b.n_rows * b.row_bytes), err));
        SLM_TRY(grow(&w->panels, &w->panels_capacity, n_panels * panel_bytes, err));
        b.rows = w->rows;
        b.panels = w->panels;
        w->source->read_rows(w->source, part->source, part->first_row + (uint32_t) row, b.n_rows, w->rows, &status, err);
        SLM_TRY(status);
        do {
            atomic_store(&b.failure, SLM_OK);
            slm_parallel_stages(n_panels < 4 ? 1 : w->n_threads, pack_region, &b);
        } while (atomic_load(&b.failure) == SLM_CANCELLED && !stopped(w));
        SLM_TRY(batch_status(&b, err));
        SLM_TRY(append(w, w->panels, n_panels * panel_bytes, err));
    }
    return SLM_OK;
}

static slm_status write_vector(writer *w, const slm_part *part, slm_error *err)
{
    const slm_source_tensor *t = part->source;
    slm_status status = SLM_OK;
    SLM_TRY(grow(&w->rows, &w->rows_capacity, (size_t) slm_row_bytes(t->type, part->rows), err));
    SLM_TRY(grow(&w->panels, &w->panels_capacity, (size_t) part->bytes, err));
    w->source->read_rows(w->source, t, part->first_row, part->rows, w->rows, &status, err);
    SLM_TRY(status);
    if (!slm_blocks_finite(t->type, w->rows, part->rows))
        return slm_fail(err, SLM_FORMAT, "%s of layer %u is not finite", slm_role_get(t->role)->name, t->layer);
    memset(w->panels, 0, (size_t) part->bytes);
    slm_dequantize(t->type, w->rows, (float *) (void *) w->panels, part->rows);
    return append(w, w->panels, (size_t) part->bytes, err);
}

/* ------------------------------------------------------------------ the head */

/* Parameters, and the type that most weights of the layers have; where there are none, that of the table. */
static void fill_info(const slm_source *source, const slm_part *parts, size_t n_parts, uint64_t file_bytes, slm_model_info *info)
{
    const slm_hparams *hp = &source->hparams;
    uint64_t weights[SLM_TYPE_COUNT] = {0};
    int most = -1;
    for (size_t i = 0; i < n_parts; i++) {
        uint64_t n = (uint64_t) parts[i].rows * (parts[i].cols ? parts[i].cols : 1);
        info->n_parameters += n;
        bool table = parts[i].role == SLM_TENSOR_TOKEN_EMBD && hp->n_layers > 0;
        if (parts[i].cols != 0 && !table && parts[i].role != SLM_TENSOR_OUTPUT)
            weights[parts[i].type] += n;
    }
    for (int t = 0; t < SLM_TYPE_COUNT; t++)
        if (weights[t] > 0 && (most < 0 || weights[t] > weights[most]))
            most = t;
    memset(info->quantization, 0, sizeof info->quantization);
    if (most >= 0)
        strncpy(info->quantization, slm_type_get((uint32_t) most)->name, sizeof info->quantization - 1);
    memcpy(info->family, hp->family, sizeof info->family);
    slm_image_describe_pooling(hp, info->pooling, sizeof info->pooling);
    info->image_bytes = file_bytes;
    info->n_context = hp->n_context;
    info->n_vocab = hp->n_vocab;
    info->n_embd = slm_hparams_embeds(hp) ? slm_hparams_outputs(hp) : hp->n_embd;
    info->n_labels = hp->pooling == SLM_POOL_RANK && !hp->joint ? hp->n_labels : 0;
    info->n_layers = hp->n_layers;
    info->n_heads = hp->n_heads;
    info->n_kv_heads = hp->n_kv_heads;
    info->n_ff = hp->n_ff;
    info->kv_bytes_per_token = hp->causal ? slm_hparams_kv_bytes(hp, slm_image_wide_keys(info)) : 0;
    info->can_generate = hp->causal;
    info->can_rerank = !hp->causal && hp->pooling == SLM_POOL_RANK && hp->n_labels == 1 && !hp->tags;
    info->can_classify = !hp->causal && hp->pooling == SLM_POOL_RANK && hp->n_labels > 1 && !hp->tags;
    info->can_tag = !hp->causal && hp->tags && !hp->joint;
    info->can_joint = hp->joint != SLM_JOINT_NONE;
    info->can_find = hp->spans != SLM_SPANS_NONE;
    info->can_embed = slm_hparams_embeds(hp);
    info->can_decide = hp->n_decide > 0;
    (void) slm_image_clean_texts(info); /* they were printed to their room */
}

static slm_status write_head(writer *w, slm_image_header *h, const slm_part *parts, size_t n_parts, slm_error *err)
{
    slm_image_entry *entries = calloc(n_parts, sizeof *entries);
    if (entries == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (size_t i = 0; i < n_parts; i++)
        entries[i] = (slm_image_entry){.role = parts[i].role, .layer = parts[i].layer, .rows = parts[i].rows, .cols = parts[i].cols,
                                       .type = parts[i].type, .offset = parts[i].offset, .bytes = parts[i].bytes};
    h->weights_checksum = XXH3_64bits_digest(w->hash);
    slm_image_head head = {&w->source->hparams, &w->source->info, w->source->tokenizer, entries};
    slm_status status = slm_image_write_head(w->fd, h, &head, err);
    free(entries);
    return status;
}

/* Waits for the disk in small steps, then once more for the metadata. */
static slm_status flush_all(writer *w, slm_error *err)
{
    for (uint64_t at = 0; at < w->at; at += FLUSH_BYTES / 8) {
        if (stopped(w))
            return slm_fail(err, SLM_CANCELLED, "cancelled");
        slm_file_flush_wait(w->fd, at, FLUSH_BYTES / 8);
    }
    return slm_file_sync(w->fd, err);
}

static slm_status write_all(writer *w, const slm_import_options *options, slm_error *err)
{
    slm_image_header h;
    slm_part *parts = NULL;
    size_t n_parts = 0;
    uint64_t end = 0;
    /* the number of parts decides where the weights begin: offsets are moved once it is known */
    const char *quantization = options != NULL ? options->quantization : NULL;
    SLM_TRY(slm_image_plan(w->source, quantization, 0, &parts, &n_parts, &end, err));
    slm_image_lay_out(w->source->tokenizer_bytes, n_parts, &h);
    for (size_t i = 0; i < n_parts; i++)
        parts[i].offset += h.weights_offset;
    w->at = w->flushed = h.weights_offset;
    w->total = h.file_bytes = end + h.weights_offset;
    fill_info(w->source, parts, n_parts, h.file_bytes, &w->source->info);
    slm_status status = slm_stream_open(&w->stream, w->fd, w->at, err);
    for (size_t i = 0; status == SLM_OK && i < n_parts; i++)
        status = parts[i].cols == 0 ? write_vector(w, &parts[i], err) : write_matrix(w, &parts[i], err);
    if (status == SLM_OK)
        status = slm_stream_end(&w->stream, err);
    if (status == SLM_OK)
        status = write_head(w, &h, parts, n_parts, err);
    if (status == SLM_OK)
        status = flush_all(w, err);
    free(parts);
    return status;
}

slm_status slm_image_write(slm_source *source, const char *path, const slm_import_options *options, slm_progress_fn progress, void *arg,
                           const volatile int *stop, slm_error *err)
{
    int cpus = slm_cpu_count(), n_threads = options != NULL && options->n_threads > 0 ? options->n_threads : cpus;
    writer w = {.source = source, .fd = -1, .progress = progress, .progress_arg = arg, .stop = stop,
                .n_threads = n_threads < 1 ? 1 : n_threads > 8 ? 8 : n_threads};
    w.hash = XXH3_createState();
    if (w.hash == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    XXH3_64bits_reset(w.hash);
    slm_status status = slm_file_create(path, &w.fd, err);
    if (status == SLM_OK) {
        status = write_all(&w, options, err);
        if (status == SLM_OK) {
            slm_file_close(w.fd);
        } else { /* its pages are freed behind the caller's back: that takes longer than a cancel may */
            unlink(path);
            slm_close_later(w.fd);
        }
    }
    XXH3_freeState(w.hash);
    slm_stream_free(&w.stream);
    free(w.rows);
    free(w.panels);
    return status;
}
