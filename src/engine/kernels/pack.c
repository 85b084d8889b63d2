/*
 * Rows of a GGUF matrix to panels of 16 rows, lane = row.  formats.h has the picture of the layout; this file only writes it.
 *
 * Lossless: levels and scales are moved, never recomputed.  A missing row of the last panel has scale, minimum and levels zero.
 */
#include <string.h>

#include "engine/kernels/formats.h"

static uint32_t float_bytes(slm_type type)
{
    return type == SLM_TYPE_F32 ? 4 : 2;
}

size_t slm_panel_bytes(slm_type type, uint32_t cols)
{
    const slm_format *format = slm_format_of(type);
    size_t bytes;
    if (!format || cols == 0 || cols % format->info.block_weights)
        return 0;
    if (format->info.is_float) {
        bytes = (size_t) cols * 16 * float_bytes(type);
    } else {
        uint32_t n_groups = cols / format->info.block_weights, stretch = slm_stretch_groups(format->scales);
        bytes = (size_t) cols * 2 * format->bits;
        bytes += (n_groups / stretch) * slm_scale_lines(format->scales, stretch) + slm_scale_lines(format->scales, n_groups % stretch);
    }
    return (bytes + 63) & ~(size_t) 63;
}

static void pack_float(slm_type type, const uint8_t *rows, size_t row_stride, uint32_t n_rows, uint32_t cols, uint8_t *panel)
{
    uint32_t size = float_bytes(type);
    for (uint32_t k = 0; k < cols; k++)
        for (uint32_t r = 0; r < n_rows; r++)
            memcpy(panel + ((size_t) k * 16 + r) * size, rows + r * row_stride + (size_t) k * size, size);
}

/* Ors one level into its place in a block's quants. */
static inline __attribute__((always_inline)) void put_level(uint8_t *q, unsigned bits, unsigned k, unsigned row, unsigned level)
{
    unsigned j = k / 4, byte = 4 * row + k % 4;
    uint8_t *planes = q;
    if (bits == 8) {
        q[64 * j + byte] = (uint8_t) level;
        return;
    }
    if (bits >= 4) {
        q[64 * (j % 4) + byte] |= (uint8_t) ((level & 15) << (j / 4 * 4));
        planes = q + 256;
        level >>= 4;
    }
    if (bits == 6 || bits == 2 || bits == 3) {
        planes[64 * (j / 4) + byte] |= (uint8_t) ((level & 3) << (j % 4 * 2));
        planes += 128;
        level >>= 2;
    }
    if (bits == 5 || bits == 3)
        planes[8 * j + byte / 8] |= (uint8_t) ((level & 1) << (byte % 8));
}

/* The 32 levels of a row's block. The number of bits is a constant in each branch: an import takes a third less than with one
 * loop for all. */
static void put_block(uint8_t *q, unsigned bits, unsigned row, const slm_group *group, unsigned first)
{
#define PUT(b) \
    case b: \
        for (unsigned k = 0; k < 32; k++) \
            put_level(q, b, k, row, group->level[first + k]); \
        break
    switch (bits) {
        PUT(2);
        PUT(3);
        PUT(4);
        PUT(5);
        PUT(6);
        PUT(8);
    default:
        break;
    }
#undef PUT
}

static void put_u16(uint8_t *p, unsigned row, uint16_t value)
{
    p[2 * row] = (uint8_t) value;
    p[2 * row + 1] = (uint8_t) (value >> 8);
}

static void put_scales(const slm_format *format, const slm_group *group, unsigned row, uint8_t *s)
{
    if (format->scales == SCALE_E8M0) {
        s[row] = (uint8_t) group->d;
        return;
    }
    put_u16(s, row, group->d);
    s += 32;
    if (format->minimum) {
        put_u16(s, row, group->m);
        s += 32;
    }
    switch (format->scales) {
    case SCALE_K4:
        for (unsigned b = 0; b < 8; b++) {
            unsigned scale = (unsigned) group->sub[b], minimum = (unsigned) group->sub_min[b];
            s[16 * b + row] = (uint8_t) ((scale & 15) | (minimum & 15) << 4);
            s[128 + 16 * (b / 2) + row] |= (uint8_t) ((scale >> 4 | minimum >> 4 << 2) << (b % 2 * 4));
        }
        break;
    case SCALE_I8x16:
    case SCALE_I8x8:
        for (unsigned b = 0; b < (format->scales == SCALE_I8x16 ? 16 : 8); b++)
            s[16 * b + row] = (uint8_t) group->sub[b];
        break;
    case SCALE_K2:
        for (unsigned b = 0; b < 16; b++)
            s[16 * b + row] = (uint8_t) (group->sub[b] | group->sub_min[b] << 4);
        break;
    default:
        break;
    }
}

void slm_pack_panel(slm_type type, const void *rows, size_t row_stride, uint32_t n_rows, uint32_t cols, void *panel)
{
    const slm_format *format = slm_format_of(type);
    size_t panel_bytes = slm_panel_bytes(type, cols);
    if (panel_bytes == 0)
        return;
    memset(panel, 0, panel_bytes);
    if (n_rows > 16)
        n_rows = 16;
    if (format->info.is_float) {
        pack_float(type, rows, row_stride, n_rows, cols, panel);
        return;
    }
    uint32_t per_group = format->info.block_weights, n_groups = cols / per_group, block_bytes = 64u * format->bits;
    uint32_t stretch = slm_stretch_groups(format->scales), group_bytes = per_group / 32 * block_bytes;
    uint8_t *scales = panel;
    for (uint32_t first = 0; first < n_groups; first += stretch) {
        uint32_t n = n_groups - first < stretch ? n_groups - first : stretch;
        uint8_t *quants = scales + slm_scale_lines(format->scales, n);
        for (uint32_t g = 0; g < n; g++)
            for (uint32_t r = 0; r < n_rows; r++) {
                slm_group group;
                slm_explode(type, (const uint8_t *) rows + r * row_stride + (size_t) (first + g) * format->info.block_bytes, &group);
                put_scales(format, &group, r, scales + g * slm_scale_bytes(format->scales));
                for (uint32_t k = 0; k < per_group; k += 32)
                    put_block(quants + g * group_bytes + k / 32 * block_bytes, format->bits, r, &group, k);
            }
        scales = quants + n * group_bytes;
    }
}

void slm_panel_from_layout_1(slm_type type, uint32_t cols, const void *panel, void *out)
{
    const slm_format *format = slm_format_of(type);
    size_t bytes = slm_panel_bytes(type, cols);
    if (format->info.is_float) {
        memcpy(out, panel, bytes);
        return;
    }
    uint32_t per_group = format->info.block_weights, n_groups = cols / per_group, stretch = slm_stretch_groups(format->scales);
    size_t group_bytes = (size_t) per_group * 2 * format->bits, scale_bytes = slm_scale_bytes(format->scales);
    const uint8_t *quants = panel, *scales = quants + n_groups * group_bytes;
    uint8_t *to = out;
    memset(out, 0, bytes); /* the scales of the last stretch may not fill their lines */
    for (uint32_t n; n_groups > 0; n_groups -= n) {
        n = n_groups < stretch ? n_groups : stretch;
        memcpy(to, scales, n * scale_bytes);
        to += slm_scale_lines(format->scales, n);
        memcpy(to, quants, n * group_bytes);
        to += n * group_bytes;
        scales += n * scale_bytes;
        quants += n * group_bytes;
    }
}
