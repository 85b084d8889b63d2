/*
 * The image of an adapter, written and read; adapter_image.h shows the layout.
 *
 * Little-endian, fixed-width, no pointers.  Values are floats that the import found finite; a disk that rots shows in the checksum.
 */
#include "engine/image/adapter_image.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "engine/base/file.h"
#include "engine/base/utf8.h"

#define MAGIC "SLMADAPT"
#define ADAPTER_LAYOUT 1 /* panels of floats: what changed in the images of models does not concern it */
#define BYTE_ORDER_MARK 0x01020304u

typedef struct adapter_header {
    char magic[8];
    uint32_t layout, byte_order, n_parts, prompt_bytes; /* the last ones of the file; 0 in those of version 0.1.0 */
    uint64_t file_bytes, checksum; /* XXH3 of everything after the header */
    char family[32], name[128];
    uint64_t n_parameters, image_bytes;
    uint32_t rank, n_matrices;
} adapter_header;

typedef struct adapter_entry {
    uint32_t target, layer, rank, rows, cols;
    float scale;
    uint64_t a_offset, b_offset;
} adapter_entry;

slm_tensor_role slm_target_role(slm_target target)
{
    static const slm_tensor_role roles[SLM_ALL_TARGETS] = {
        SLM_TENSOR_ATTN_Q, SLM_TENSOR_ATTN_K,   SLM_TENSOR_ATTN_V,     SLM_TENSOR_ATTN_OUT, SLM_TENSOR_FFN_GATE,
        SLM_TENSOR_FFN_UP, SLM_TENSOR_FFN_DOWN, SLM_TENSOR_TOKEN_EMBD, SLM_TENSOR_TYPE_EMBD};
    return roles[target];
}

slm_pair_shape slm_adapter_shape(slm_target target, uint32_t rank, uint32_t rows, uint32_t cols)
{
    return target < SLM_TARGETS ? (slm_pair_shape) {rank, cols, rows} : (slm_pair_shape) {rows, rank, cols};
}

bool slm_adapter_fits(const slm_adapter *adapter, const slm_hparams *hp)
{
    return memcmp(&adapter->shape, hp, sizeof *hp) == 0;
}

static uint64_t up64(uint64_t n)
{
    return (n + 63) & ~(uint64_t) 63;
}

/* ------------------------------------------------------------------ writing */

struct slm_adapter_writer {
    int fd;
    char *path;
    adapter_header header;
    adapter_entry *entries; /* [header.n_parts] */
    char prompt[sizeof((slm_adapter_info *) NULL)->prompt];
    uint32_t n;
    uint64_t at;
};

slm_status slm_adapter_create(const char *path, const slm_hparams *base, uint32_t n_parts, const slm_adapter_info *info,
                              slm_adapter_writer **out, slm_error *err)
{
    slm_adapter_writer *w = calloc(1, sizeof *w);
    if (w == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    w->fd = -1;
    w->path = strdup(path);
    w->entries = calloc(n_parts, sizeof *w->entries);
    w->header = (adapter_header){.layout = ADAPTER_LAYOUT, .byte_order = BYTE_ORDER_MARK, .n_parts = n_parts};
    memcpy(w->header.magic, MAGIC, 8);
    memcpy(w->header.name, info->name, sizeof w->header.name);
    memcpy(w->prompt, info->prompt, sizeof w->prompt);
    memcpy(w->header.family, base->family, sizeof w->header.family);
    w->at = up64(up64(sizeof w->header) + n_parts * sizeof *w->entries);
    slm_status status = w->path == NULL || w->entries == NULL ? slm_fail(err, SLM_NOMEM, "out of memory") : SLM_OK;
    if (status == SLM_OK)
        status = slm_file_create(path, &w->fd, err);
    if (status != SLM_OK) {
        free(w->path);
        free(w->entries);
        free(w);
        return status;
    }
    *out = w;
    return SLM_OK;
}

/* A matrix [rows, cols] in panels at the end of the file. */
static slm_status write_matrix(slm_adapter_writer *w, const float *x, uint32_t rows, uint32_t cols, uint64_t *offset, slm_error *err)
{
    size_t bytes = slm_panel_bytes(SLM_TYPE_F32, cols);
    void *panel = bytes == 0 ? NULL : aligned_alloc(64, up64(bytes));
    slm_status status = panel == NULL ? slm_fail(err, SLM_NOMEM, "out of memory") : SLM_OK;
    *offset = w->at;
    for (uint32_t row = 0; status == SLM_OK && row < rows; row += 16) {
        slm_pack_panel(SLM_TYPE_F32, x + (size_t) row * cols, (size_t) cols * sizeof *x, rows - row < 16 ? rows - row : 16, cols, panel);
        status = slm_file_write(w->fd, panel, bytes, w->at, err);
        w->at += bytes;
    }
    free(panel);
    return status;
}

slm_status slm_adapter_write(slm_adapter_writer *w, const slm_adapter_part *part, slm_error *err)
{
    adapter_entry *e = &w->entries[w->n];
    slm_pair_shape shape = slm_adapter_shape(part->target, part->rank, part->rows, part->cols);
    if (w->n == w->header.n_parts)
        return slm_fail(err, SLM_INTERNAL, "more parts than announced");
    *e = (adapter_entry){.target = part->target, .layer = part->layer, .rank = part->rank, .rows = part->rows, .cols = part->cols,
                         .scale = part->scale};
    SLM_TRY(write_matrix(w, part->a, shape.a_rows, shape.a_cols, &e->a_offset, err));
    SLM_TRY(write_matrix(w, part->b, shape.b_rows, part->rank, &e->b_offset, err));
    w->header.n_parameters += (uint64_t) part->rank * part->cols + (uint64_t) part->rows * part->rank;
    if (part->rank > w->header.rank)
        w->header.rank = part->rank;
    w->n++;
    return SLM_OK;
}

/* XXH3 of the file after the header, read back. */
static slm_status checksum_file(const slm_adapter_writer *w, uint64_t *sum, slm_error *err)
{
    enum { STEP = 1 << 16 };
    unsigned char *buffer = malloc(STEP);
    XXH3_state_t *state = XXH3_createState();
    slm_status status = buffer == NULL || state == NULL ? slm_fail(err, SLM_NOMEM, "out of memory") : SLM_OK;
    if (status == SLM_OK)
        XXH3_64bits_reset(state);
    for (uint64_t at = up64(sizeof w->header); status == SLM_OK && at < w->at; at += STEP) {
        size_t n = w->at - at < STEP ? (size_t) (w->at - at) : STEP;
        status = slm_file_read(w->fd, buffer, n, at, w->path, err);
        if (status == SLM_OK)
            XXH3_64bits_update(state, buffer, n);
    }
    if (status == SLM_OK)
        *sum = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    free(buffer);
    return status;
}

static slm_adapter_info info_of(const adapter_header *h, const char *prompt)
{
    slm_adapter_info info = {.n_parameters = h->n_parameters, .image_bytes = h->image_bytes, .rank = h->rank, .n_matrices = h->n_matrices};
    memcpy(info.name, h->name, sizeof info.name);
    memcpy(info.prompt, prompt, h->prompt_bytes);
    return info;
}

static slm_status complete(slm_adapter_writer *w, slm_error *err)
{
    w->header.prompt_bytes = (uint32_t) strlen(w->prompt);
    SLM_TRY(slm_file_write(w->fd, w->prompt, w->header.prompt_bytes, w->at, err));
    w->at += w->header.prompt_bytes;
    w->header.file_bytes = w->header.image_bytes = w->at;
    w->header.n_matrices = w->n;
    SLM_TRY(slm_file_write(w->fd, w->entries, w->n * sizeof *w->entries, up64(sizeof w->header), err));
    SLM_TRY(checksum_file(w, &w->header.checksum, err));
    SLM_TRY(slm_file_write(w->fd, &w->header, sizeof w->header, 0, err));
    return slm_file_sync(w->fd, err);
}

slm_status slm_adapter_finish(slm_adapter_writer *w, slm_status failed, slm_adapter_info *info, slm_error *err)
{
    slm_status status = failed == SLM_OK ? complete(w, err) : failed;
    if (status == SLM_OK && info != NULL)
        *info = info_of(&w->header, w->prompt);
    slm_file_close(w->fd);
    if (status != SLM_OK)
        unlink(w->path);
    free(w->path);
    free(w->entries);
    free(w);
    return status;
}

/* ------------------------------------------------------------------ opening */

static slm_status damaged(slm_error *err, const char *what)
{
    slm_fail(err, SLM_FORMAT, "the adapter's image is damaged: %s", what);
    return slm_hint(err, "Load the adapter again from its source.");
}

static bool matrix_inside(const adapter_header *h, uint64_t offset, uint32_t rows, uint32_t cols, slm_weight *out, const char *map)
{
    size_t panel = slm_panel_bytes(SLM_TYPE_F32, cols);
    uint64_t bytes, end;
    uint32_t panels = rows / 16 + (rows % 16 != 0);
    if (panel == 0 || offset % 64 != 0 || offset < sizeof *h || __builtin_mul_overflow((uint64_t) panel, (uint64_t) panels, &bytes) ||
        __builtin_add_overflow(offset, bytes, &end) || end > h->file_bytes)
        return false;
    *out = (slm_weight){.data = map + offset, .panel_bytes = panel, .rows = rows, .cols = cols, .n_panels = panels, .type = SLM_TYPE_F32};
    return true;
}

static slm_status take_entry(slm_adapter *adapter, const adapter_header *h, const adapter_entry *e, const slm_hparams *base, slm_error *err)
{
    uint32_t rows, cols;
    slm_target target = (slm_target) e->target;
    if (e->target >= SLM_ALL_TARGETS || e->layer >= (target < SLM_TARGETS ? base->n_layers : 1) || e->rank == 0 ||
        e->rank > SLM_ADAPTER_MAX_RANK || !isfinite(e->scale))
        return damaged(err, "an entry is out of range");
    slm_adapter_pair *pair = target < SLM_TARGETS ? &adapter->layers[e->layer][target] : &adapter->tables[target - SLM_TARGETS];
    slm_role_shape(base, slm_target_role(target), e->layer, &rows, &cols);
    if (!slm_role_in_layer(base, slm_target_role(target), e->layer) || (target >= SLM_TARGETS && base->causal))
        return slm_fail(err, SLM_INVALID, "the adapter changes a projection of layer %u that the model does not have", e->layer);
    if (rows != e->rows || cols != e->cols) {
        slm_fail(err, SLM_INVALID, "the adapter does not fit the model: a projection of %u x %u instead of %u x %u", e->rows,
                e->cols, rows, cols);
        return slm_hint(err, "An adapter belongs to models of the shape that it was trained on.");
    }
    slm_pair_shape shape = slm_adapter_shape(target, e->rank, rows, cols);
    if (pair->a.data != NULL || !matrix_inside(h, e->a_offset, shape.a_rows, shape.a_cols, &pair->a, adapter->map) ||
        !matrix_inside(h, e->b_offset, shape.b_rows, e->rank, &pair->b, adapter->map))
        return damaged(err, "an entry is out of place");
    pair->scale = e->scale;
    if (e->rank > adapter->max_rank)
        adapter->max_rank = e->rank;
    return SLM_OK;
}

static slm_status check_file(slm_adapter *adapter, const slm_hparams *base, slm_error *err)
{
    const adapter_header *h = adapter->map;
    const char *map = adapter->map;
    uint64_t entries = up64(sizeof *h), end;
    if (memcmp(h->magic, MAGIC, 8) != 0 || h->byte_order != BYTE_ORDER_MARK)
        return damaged(err, "it does not begin as an adapter");
    if (h->layout != ADAPTER_LAYOUT)
        return slm_fail(err, SLM_UNSUPPORTED, "the adapter's image has layout %u, this version reads layout %d", h->layout,
                ADAPTER_LAYOUT);
    if (h->file_bytes != adapter->bytes || __builtin_mul_overflow((uint64_t) h->n_parts, sizeof(adapter_entry), &end) ||
        __builtin_add_overflow(end, entries, &end) || end > adapter->bytes)
        return damaged(err, "its size is not what its header says");
    if (XXH3_64bits(map + entries, adapter->bytes - (size_t) entries) != h->checksum)
        return damaged(err, "its checksum is wrong");
    if (memchr(h->name, 0, sizeof h->name) == NULL || memchr(h->family, 0, sizeof h->family) == NULL)
        return damaged(err, "a text has no end");
    if (h->prompt_bytes >= sizeof adapter->info.prompt || h->prompt_bytes > adapter->bytes - end ||
        slm_utf8_check(map + adapter->bytes - h->prompt_bytes, h->prompt_bytes, err) != SLM_OK)
        return damaged(err, "its prompt is no text");
    if (strcmp(h->family, base->family) != 0)
        return slm_fail(err, SLM_INVALID, "the adapter is for models of the family %s, the model is of the family %s", h->family,
                base->family);
    adapter->info = info_of(h, map + adapter->bytes - h->prompt_bytes);
    for (uint32_t i = 0; i < h->n_parts; i++)
        SLM_TRY(take_entry(adapter, h, (const adapter_entry *) (const void *) (map + entries) + i, base, err));
    return SLM_OK;
}

static slm_status map_file(slm_adapter *adapter, const char *path, slm_error *err)
{
    SLM_TRY(slm_map_open(path, up64(sizeof(adapter_header)), &adapter->file, err));
    if (adapter->file.data == NULL)
        return damaged(err, "it is too short");
    adapter->map = adapter->file.data;
    adapter->bytes = (size_t) adapter->file.bytes;
    return SLM_OK;
}

slm_status slm_adapter_check(const slm_adapter *adapter, slm_error *err)
{
    return slm_map_damaged(&adapter->file) ? damaged(err, "a part of it cannot be read any more") : SLM_OK;
}

slm_status slm_adapter_map(const char *path, const slm_hparams *base, slm_adapter **out, slm_error *err)
{
    static atomic_uint_fast64_t openings;
    slm_adapter *adapter = calloc(1, sizeof *adapter);
    if (adapter == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    adapter->references = 1;
    adapter->file.slot = -1;
    adapter->serial = atomic_fetch_add(&openings, 1) + 1;
    adapter->shape = *base;
    adapter->layers = calloc(base->n_layers, sizeof *adapter->layers);
    slm_status status = adapter->layers == NULL ? slm_fail(err, SLM_NOMEM, "out of memory") : map_file(adapter, path, err);
    if (status == SLM_OK)
        status = check_file(adapter, base, err);
    if (status == SLM_OK)
        status = slm_adapter_check(adapter, err);
    if (status != SLM_OK) {
        slm_adapter_close(adapter);
        return status;
    }
    *out = adapter;
    return SLM_OK;
}

void slm_adapter_close(slm_adapter *adapter)
{
    if (adapter == NULL || --adapter->references > 0)
        return;
    slm_map_close(&adapter->file);
    free(adapter->layers);
    free(adapter);
}

const slm_adapter_info *slm_adapter_get_info(const slm_adapter *adapter)
{
    return &adapter->info;
}

bool slm_adapter_damaged(const slm_adapter *adapter)
{
    return slm_map_damaged(&adapter->file);
}
