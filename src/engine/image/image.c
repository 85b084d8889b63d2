/*
 * Opening an image: map, check, look up.
 *
 * Everything before the weights is covered by a checksum, and is bounds-checked even so: a valid checksum says that the bytes
 * are those that were written, not that a build without bugs wrote them.  After slm_image_open, every role that the family
 * needs is there in its shape, and every tensor lies inside the mapping; only the weights' values are unverified until
 * slm_image_prewarm.
 */
#include "engine/image/image.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include "engine/base/map.h"
#include "engine/base/pages.h"
#include "engine/image/head.h"
#include "engine/image/open.h"
#include "engine/arch/family.h"

struct slm_image {
    slm_map file;
    bool rotten;              /* the weights are not those that were written */
    const unsigned char *map; /* its bytes */
    uint64_t bytes;
    slm_image_header header;
    slm_hparams hparams;
    slm_model_info info;
    const slm_image_entry *entries;    /* [header.n_tensors] in the mapping */
    uint32_t first[SLM_TENSOR_ROLES];  /* entry of (role, layer 0); n_tensors = none */
};

slm_status slm_image_damaged(slm_error *err, const char *what)
{
    slm_fail(err, SLM_FORMAT, "the model image is damaged: %s", what);
    return slm_hint(err, "Load the model again from its source.");
}

static bool section_inside(const slm_image_header *h, const slm_image_section *s)
{
    uint64_t end;
    return s->offset >= sizeof *h && s->offset % 64 == 0 && !__builtin_add_overflow(s->offset, s->bytes, &end) && end <= h->weights_offset;
}

static slm_status other_layout(uint32_t layout, slm_error *err)
{
    if (layout == SLM_IMAGE_LAYOUT)
        return slm_fail(err, SLM_INVALID, "the model image has layout %u already", layout);
    slm_fail(err, SLM_UNSUPPORTED, "the model image has layout %u, this version reads layout %d", layout, SLM_IMAGE_LAYOUT);
    slm_hint(err, layout == 0 || layout > SLM_IMAGE_LAYOUT ? "Load the model again from its source." : "It has to be rebuilt.");
    if (err != NULL && layout > 0 && layout < SLM_IMAGE_LAYOUT)
        err->hint_code = SLM_HINT_OLD_IMAGE;
    return SLM_UNSUPPORTED;
}

static slm_status check_header(const slm_image_header *h, uint32_t layout, uint64_t file_bytes, slm_error *err)
{
    uint64_t directory_bytes, hparams_bytes = layout == 1 ? SLM_IMAGE_1_HPARAMS : sizeof(slm_hparams);
    uint64_t info_bytes = layout == 1 ? SLM_IMAGE_1_INFO : sizeof(slm_model_info);
    if (memcmp(h->magic, SLM_IMAGE_MAGIC, 8) != 0 || h->byte_order != SLM_IMAGE_BYTE_ORDER)
        return slm_image_damaged(err, "it does not begin as an image");
    if (h->layout != layout)
        return other_layout(h->layout, err);
    if (h->file_bytes != file_bytes)
        return slm_image_damaged(err, "its size is not what its header says");
    if (h->header_bytes != sizeof *h || h->weights_offset < sizeof *h || h->weights_offset > file_bytes ||
        h->weights_offset % SLM_IMAGE_WEIGHTS_ALIGN != 0)
        return slm_image_damaged(err, "its header is out of range");
    if (__builtin_mul_overflow((uint64_t) h->n_tensors, sizeof(slm_image_entry), &directory_bytes) ||
        !section_inside(h, &h->hparams) || !section_inside(h, &h->info) || !section_inside(h, &h->tokenizer) ||
        !section_inside(h, &h->directory) || h->hparams.bytes != hparams_bytes || h->info.bytes != info_bytes ||
        h->directory.bytes != directory_bytes)
        return slm_image_damaged(err, "a section is out of range");
    return SLM_OK;
}

/* XXH3 of the head with its own field taken as zero. */
static uint64_t head_checksum(const unsigned char *map, const slm_image_header *h)
{
    slm_image_header copy = *h;
    XXH3_state_t *state = XXH3_createState();
    uint64_t sum = 0;
    copy.head_checksum = 0;
    if (state == NULL)
        return 0;
    XXH3_64bits_reset(state);
    XXH3_64bits_update(state, &copy, sizeof copy);
    XXH3_64bits_update(state, map + sizeof copy, (size_t) (h->weights_offset - sizeof copy));
    sum = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return sum;
}

/* Are there as many names as labels?  Each ends. */
static bool has_labels(const slm_model_info *info)
{
    const char *label = info->labels, *end = label + sizeof info->labels;
    for (uint32_t i = 0; i < info->n_labels; i++, label += strlen(label) + 1)
        if (label >= end)
            return false;
    return true;
}

/* Texts end and are UTF-8, booleans are 0 or 1: read as bytes before the struct is trusted. */
static slm_status read_info(slm_image *image, slm_error *err)
{
    const unsigned char *p = image->map + image->header.info.offset;
    static const size_t flags[] = {offsetof(slm_model_info, can_generate), offsetof(slm_model_info, can_embed),
                                   offsetof(slm_model_info, can_rerank), offsetof(slm_model_info, can_classify),
                                   offsetof(slm_model_info, can_tag), offsetof(slm_model_info, can_joint),
                                   offsetof(slm_model_info, can_find), offsetof(slm_model_info, can_decide)};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        if (flags[i] < image->header.info.bytes && p[flags[i]] > 1)
            return slm_image_damaged(err, "a flag is out of range");
    memcpy(&image->info, p, (size_t) image->header.info.bytes);
    slm_model_info *f = &image->info;
    if (!slm_image_clean_texts(f))
        return slm_image_damaged(err, "a text has no end");
    if (f->n_labels > SLM_MAX_LABELS || !has_labels(f) || (unsigned) f->head_kind > SLM_HEAD_NUMBER)
        return slm_image_damaged(err, "its labels are out of range");
    return SLM_OK;
}

static slm_status check_entry(const slm_image *image, const slm_family *family, const slm_image_entry *e, slm_error *err)
{
    uint32_t rows, cols;
    uint64_t bytes, end;
    if (e->role >= SLM_TENSOR_ROLES)
        return slm_image_damaged(err, "a tensor has an unknown role");
    bool head = e->role == SLM_TENSOR_OUTPUT && image->hparams.causal && !image->hparams.tied_head;
    slm_role_shape(&image->hparams, (slm_tensor_role) e->role, e->layer, &rows, &cols);
    if (!slm_role_in_layer(&image->hparams, (slm_tensor_role) e->role, e->layer) || e->rows != rows || e->cols != cols ||
        slm_type_get(e->type) == NULL ||
        (!head && slm_family_need(family, (slm_tensor_role) e->role, true) == SLM_NEED_NEVER))
        return slm_image_damaged(err, "a tensor does not fit the model");
    if (cols == 0)
        bytes = (((uint64_t) rows * 4) + 63) & ~(uint64_t) 63;
    else if (__builtin_mul_overflow((uint64_t) slm_panel_bytes((slm_type) e->type, cols), ((uint64_t) rows + 15) / 16, &bytes))
        return slm_image_damaged(err, "a tensor is too large");
    if (bytes == 0 || (cols == 0 && e->type != SLM_TYPE_F32) || e->bytes != bytes || e->offset % 64 != 0 ||
        e->offset < image->header.weights_offset || __builtin_add_overflow(e->offset, e->bytes, &end) || end > image->bytes)
        return slm_image_damaged(err, "a tensor lies outside the file");
    return SLM_OK;
}

/* Each needed role has all its layers, in order. */
static slm_status check_directory(slm_image *image, slm_error *err)
{
    const slm_family *family = slm_family_by_name(image->hparams.family);
    uint32_t n = image->header.n_tensors, count[SLM_TENSOR_ROLES] = {0};
    for (unsigned r = 0; r < SLM_TENSOR_ROLES; r++)
        image->first[r] = n;
    for (uint32_t i = 0; i < n; i++) {
        const slm_image_entry *e = &image->entries[i];
        SLM_TRY(check_entry(image, family, e, err));
        if (i > 0 && (e->role < e[-1].role || (e->role == e[-1].role && e->layer <= e[-1].layer)))
            return slm_image_damaged(err, "its directory is out of order");
        if (image->first[e->role] == n)
            image->first[e->role] = i;
        count[e->role]++;
    }
    for (unsigned r = 0; r < SLM_TENSOR_ROLES; r++) {
        uint32_t layers = slm_role_layers(&image->hparams, (slm_tensor_role) r, slm_layer_slots(&image->hparams));
        bool head = r == SLM_TENSOR_OUTPUT && image->hparams.causal && !image->hparams.tied_head;
        bool always = head || slm_family_need(family, (slm_tensor_role) r, true) == SLM_NEED_ALWAYS;
        if (count[r] != layers && (always || count[r] != 0))
            return slm_image_damaged(err, "a tensor is missing");
    }
    return SLM_OK;
}

static slm_status check_image(slm_image *image, uint32_t layout, slm_error *err)
{
    memcpy(&image->header, image->map, sizeof image->header);
    SLM_TRY(check_header(&image->header, layout, image->bytes, err));
    if (head_checksum(image->map, &image->header) != image->header.head_checksum)
        return slm_image_damaged(err, "its checksum is wrong");
    memcpy(&image->hparams, image->map + image->header.hparams.offset, (size_t) image->header.hparams.bytes); /* the rest is zero */
    if (layout == 1)
        slm_hparams_from_layout_1(&image->hparams);
    SLM_TRY(slm_hparams_check(&image->hparams, err));
    SLM_TRY(read_info(image, err));
    image->entries = (const slm_image_entry *) (image->map + image->header.directory.offset);
    return check_directory(image, err);
}

slm_status slm_image_open_layout(const char *path, uint32_t layout, slm_image **out, slm_error *err)
{
    slm_map file;
    SLM_TRY(slm_map_open(path, sizeof(slm_image_header), &file, err));
    if (file.data == NULL)
        return slm_image_damaged(err, "it is too short");
    slm_image *image = calloc(1, sizeof *image);
    if (image == NULL) {
        slm_map_close(&file);
        return slm_fail(err, SLM_NOMEM, "out of memory");
    }
    image->file = file;
    image->map = file.data;
    image->bytes = file.bytes;
    slm_status status = check_image(image, layout, err);
    if (status == SLM_OK)
        status = slm_image_check(image, err);
    if (status != SLM_OK) {
        slm_image_close(image);
        return status;
    }
    *out = image;
    return SLM_OK;
}

slm_status slm_image_open(const char *path, slm_image **out, slm_error *err)
{
    return slm_image_open_layout(path, SLM_IMAGE_LAYOUT, out, err);
}

void slm_image_close(slm_image *image)
{
    if (image == NULL)
        return;
    slm_map_close(&image->file);
    free(image);
}

slm_status slm_image_check(const slm_image *image, slm_error *err)
{
    if (image->rotten)
        return slm_image_damaged(err, "the checksum of its weights is wrong");
    return slm_map_damaged(&image->file) ? slm_image_damaged(err, "a part of it cannot be read any more") : SLM_OK;
}

const slm_image_header *slm_image_get_header(const slm_image *image)
{
    return &image->header;
}

const unsigned char *slm_image_bytes(const slm_image *image)
{
    return image->map;
}

const slm_hparams *slm_image_hparams(const slm_image *image)
{
    return &image->hparams;
}

const slm_model_info *slm_image_info(const slm_image *image)
{
    return &image->info;
}

const void *slm_image_tokenizer(const slm_image *image, size_t *size)
{
    *size = (size_t) image->header.tokenizer.bytes;
    return *size == 0 ? NULL : image->map + image->header.tokenizer.offset;
}

/* The layers that may have a role all do or none (check_directory), so they follow each other. */
static const slm_image_entry *find_entry(const slm_image *image, slm_tensor_role role, uint32_t layer)
{
    if ((unsigned) role >= SLM_TENSOR_ROLES || image->first[role] == image->header.n_tensors ||
        !slm_role_in_layer(&image->hparams, role, layer))
        return NULL;
    return &image->entries[image->first[role] + slm_role_layers(&image->hparams, role, layer)];
}

bool slm_image_matrix(const slm_image *image, slm_tensor_role role, uint32_t layer, slm_weight *out)
{
    const slm_image_entry *e = find_entry(image, role, layer);
    if (e == NULL || e->cols == 0)
        return false;
    *out = (slm_weight){.data = image->map + e->offset, .panel_bytes = slm_panel_bytes((slm_type) e->type, e->cols), .rows = e->rows,
                        .cols = e->cols, .n_panels = (e->rows + 15) / 16, .type = (slm_type) e->type};
    return true;
}

const float *slm_image_vector(const slm_image *image, slm_tensor_role role, uint32_t layer, uint32_t n)
{
    const slm_image_entry *e = find_entry(image, role, layer);
    if (e == NULL || e->cols != 0 || e->rows != n)
        return NULL;
    return (const float *) (image->map + e->offset);
}

slm_status slm_image_prewarm(slm_image *image, slm_progress_fn progress, void *arg, const volatile int *stop, slm_error *err)
{
    const uint64_t step = 1 << 20;
    uint64_t at = image->header.weights_offset;
    slm_status status = SLM_OK;
    XXH3_state_t *state = XXH3_createState();
    if (state == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    XXH3_64bits_reset(state);
    (void) madvise((void *) (uintptr_t) image->map, (size_t) image->bytes, MADV_WILLNEED);
    while (status == SLM_OK && at < image->bytes) {
        uint64_t n = image->bytes - at < step ? image->bytes - at : step;
        if (progress != NULL)
            progress(arg, at, image->bytes);
        if (stop != NULL && *stop)
            status = slm_fail(err, SLM_CANCELLED, "cancelled");
        else
            XXH3_64bits_update(state, image->map + at, (size_t) n);
        at += n;
    }
    uint64_t sum = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    if (status == SLM_OK)
        status = slm_image_check(image, err);
    if (status == SLM_OK && sum != image->header.weights_checksum) {
        image->rotten = true;
        return slm_image_damaged(err, "the checksum of its weights is wrong");
    }
    return status;
}

uint64_t slm_image_resident_bytes(const slm_image *image)
{
    enum { PAGES = 65536 };
    uint64_t page = (uint64_t) sysconf(_SC_PAGESIZE), resident = 0;
    unsigned char *in = malloc(PAGES);
    if (in == NULL)
        return 0;
    for (uint64_t at = 0; at < image->bytes; at += page * PAGES) {
        uint64_t n = image->bytes - at < page * PAGES ? image->bytes - at : page * PAGES;
        if (mincore((void *) (uintptr_t) (image->map + at), (size_t) n, in) != 0)
            break;
        for (uint64_t i = 0; i < (n + page - 1) / page; i++)
            resident += in[i] & 1 ? page : 0;
    }
    free(in);
    return resident < image->bytes ? resident : image->bytes;
}

uint64_t slm_image_huge_bytes(const slm_image *image)
{
    return slm_pages_huge_bytes(image->map, image->bytes);
}
