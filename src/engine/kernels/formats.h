/*
 * Inside the kernels only: the weight formats as data, and the packed layout of a panel.
 *
 * A source row is cut into groups of group_weights (32 or 256).  slm_explode turns one group of one row into plain numbers; the scalar
 * dequantizer and the packer both start from there, so they cannot disagree.
 *
 *   value(k) = scale(k) * (level(k) - offset)             symmetric types
 *   value(k) = scale(k) * level(k) + minimum(k)           types with a minimum
 *
 * A packed panel of 16 rows is one forward stream of 64-byte lines, a stretch after the other:
 *
 *   [scales of slm_stretch_groups groups, whole lines][quants of these groups] [scales][quants] ...
 *
 * so that a product reads memory in the order of its addresses (two streams far apart run at less than half the speed).  The last
 * stretch may have fewer groups; its scales are padded to a line.  The quants of one block of 32 along k are bits * 64 bytes.  Byte
 * 4r + i of register w[j] (j = 0..7) is row r, k = 4j + i; the registers are stored as
 *
 *   4 bits: 4 x 64 bytes, low nibbles w[n], high nibbles w[n + 4]
 *   5 bits: the same, then 8 x 64 bits: bit 4 of the bytes of w[j]
 *   6 bits: as 4 bits, then 2 x 64 bytes: bits 4..5, field f of byte n is w[4n + f]
 *   2 bits: 2 x 64 bytes: field f of byte n is w[4n + f];   3 bits: the same, then 8 x 64 bits: bit 2
 *   8 bits: 8 x 64 bytes, level + 128
 *
 * The scales of one group, each array [16 rows]:
 *   SCALE_F16: d | SCALE_F16_MIN: d, m | SCALE_E8M0: exponents (u8) | SCALE_K4: d, dmin (f16), 8 x u8 low nibbles (scale | minimum << 4),
 *   4 x u8 high bits (of block 2n: scale, minimum << 2; of block 2n + 1: the same << 4) | SCALE_I8x16, SCALE_I8x8: d, then 16 or 8 x i8 |
 *   SCALE_K2: d, dmin (f16), 16 x u8 (scale | minimum << 4)
 */
#ifndef SLM_KERNELS_FORMATS_H
#define SLM_KERNELS_FORMATS_H

#include "engine/kernels/types.h"

enum { SCALE_F16, SCALE_F16_MIN, SCALE_E8M0, SCALE_K4, SCALE_I8x16, SCALE_I8x8, SCALE_K2 };
enum { LUT_NONE, LUT_IQ4, LUT_FP4 };

typedef struct slm_format {
    slm_type_info info;
    uint8_t bits;      /* of a packed level; 0 for float types */
    uint8_t scales;    /* SCALE_* */
    uint8_t halves;    /* 1: a scale belongs to 16 weights, not 32 */
    uint8_t minimum;   /* 1: has a minimum */
    uint8_t levels;    /* LUT_* */
    uint8_t offset;    /* of symmetric types */
} slm_format;

/* One group of one row in plain numbers. */
typedef struct slm_group {
    uint8_t level[256];
    uint16_t d, m;       /* as in the source: F16, or the E8M0 exponent */
    int16_t sub[16], sub_min[16]; /* integer scales and minima of the blocks (of 32 or 16); 1 where the type has none */
} slm_group;

/* The values of table types plus 128: of LUT_IQ4 (IQ4_NL, IQ4_XS), of LUT_FP4 (MXFP4, doubled). */
static const uint8_t slm_iq4_table[16] __attribute__((unused)) = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};
static const uint8_t slm_fp4_table[16] __attribute__((unused)) = {128, 129, 130, 131, 132, 134, 136, 140,
                                                                  128, 127, 126, 125, 124, 122, 120, 116};

/* NULL when the type is unknown. */
const slm_format *slm_format_of(uint32_t type);
void slm_explode(slm_type type, const uint8_t *source, slm_group *out);

/* Bytes of the scales (SCALE_*) of one group of a panel. */
static inline uint32_t slm_scale_bytes(int scales)
{
    return scales == SCALE_F16 ? 32 : scales == SCALE_F16_MIN ? 64 : scales == SCALE_E8M0 ? 16 : scales == SCALE_K4 ? 64 + 128 + 64
         : scales == SCALE_I8x16 ? 32 + 256 : scales == SCALE_I8x8 ? 32 + 128 : 64 + 256;
}
/* The fewest groups whose scales fill whole lines of 64 bytes: a stretch. */
static inline uint32_t slm_stretch_groups(int scales)
{
    uint32_t bytes = slm_scale_bytes(scales);
    return bytes % 64 == 0 ? 1 : bytes % 32 == 0 ? 2 : 4;
}
/* Bytes of the scales of n groups that form a stretch, in whole lines. */
static inline uint32_t slm_scale_lines(int scales, uint32_t n)
{
    return (n * slm_scale_bytes(scales) + 63) & ~63u;
}

/* The scale of E8M0 exponent e for doubled FP4 levels: 2^(e - 128). */
static inline float slm_e8m0_half(uint8_t e)
{
    union { uint32_t u; float f; } v = {e < 2 ? 0x200000u << e : (uint32_t) (e - 1) << 23};
    return v.f;
}

#endif
