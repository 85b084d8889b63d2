/*
 * An image of this version, written as version 0.1.0 wrote it: layout 1.  For tests of the rebuilding.
 *
 * In a panel of layout 1 all quants come first, then all scales; the sections of hyper-parameters and information end where 0.1.0's
 * structs ended.  Everything else is as it is now.
 */
#ifndef TOOLS_OLD_IMAGE_H
#define TOOLS_OLD_IMAGE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "engine/image/format.h"
#include "engine/kernels/formats.h"

static void old_panel(const slm_format *format, uint32_t cols, unsigned char *panel, unsigned char *copy)
{
    uint32_t n_groups = cols / format->info.block_weights, stretch = slm_stretch_groups(format->scales), done = 0, n;
    size_t quants = (size_t) format->info.block_weights * 2 * format->bits, scales = slm_scale_bytes(format->scales);
    size_t bytes = ((size_t) n_groups * (quants + scales) + 63) & ~(size_t) 63;
    if (format->info.is_float)
        return;
    memcpy(copy, panel, bytes);
    memset(panel, 0, bytes);
    for (; done < n_groups; done += n) {
        n = n_groups - done < stretch ? n_groups - done : stretch;
        memcpy(panel + n_groups * quants + done * scales, copy, n * scales);
        copy += (n * scales + 63) & ~(size_t) 63;
        memcpy(panel + done * quants, copy, n * quants);
        copy += n * quants;
    }
}

/* The bytes of the image at `path` as layout 1, malloc'ed; NULL when it cannot be read. */
static unsigned char *old_image(const char *path, size_t *n_bytes)
{
    slm_image_header h;
    FILE *f = fopen(path, "rb");
    if (f == NULL || fread(&h, sizeof h, 1, f) != 1 || h.layout != SLM_IMAGE_LAYOUT)
        return NULL;
    unsigned char *bytes = malloc((size_t) h.file_bytes), *copy = malloc((size_t) h.file_bytes);
    rewind(f);
    if (bytes == NULL || copy == NULL || fread(bytes, 1, (size_t) h.file_bytes, f) != h.file_bytes)
        return NULL;
    fclose(f);
    const slm_image_entry *entries = (const slm_image_entry *) (const void *) (bytes + h.directory.offset);
    for (uint32_t i = 0; i < h.n_tensors; i++)
        for (uint32_t p = 0; entries[i].cols != 0 && p < (entries[i].rows + 15) / 16; p++)
            old_panel(slm_format_of(entries[i].type), entries[i].cols,
                      bytes + entries[i].offset + p * slm_panel_bytes((slm_type) entries[i].type, entries[i].cols), copy);
    free(copy);
    h.layout = 1;
    h.hparams.bytes = SLM_IMAGE_1_HPARAMS;
    h.info.bytes = SLM_IMAGE_1_INFO;
    h.weights_checksum = XXH3_64bits(bytes + h.weights_offset, (size_t) (h.file_bytes - h.weights_offset));
    h.head_checksum = 0;
    memcpy(bytes, &h, sizeof h);
    h.head_checksum = XXH3_64bits(bytes, (size_t) h.weights_offset);
    memcpy(bytes, &h, sizeof h);
    *n_bytes = (size_t) h.file_bytes;
    return bytes;
}

#endif
