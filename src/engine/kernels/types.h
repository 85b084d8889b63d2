/*
 * The weight types of GGUF files and what the packed image makes of them.
 *
 * A packed matrix [rows, cols] is cut into panels of 16 output rows; inside a panel, the weights go by blocks of 32 along cols
 * (float types: by single columns), lane = output row (DESIGN D3).  Rows are padded to a multiple of 16 with zero weights.
 * Packing is lossless: slm_dequantize of the source and slm_kernels.unpack_rows of the packed form give the same floats.
 */
#ifndef SLM_KERNELS_TYPES_H
#define SLM_KERNELS_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

/* Values are those of the GGUF specification. */
typedef enum slm_type {
#define FLOAT_TYPE(name, number, bytes) SLM_TYPE_##name = number,
#define TYPE(name, number, ...) SLM_TYPE_##name = number,
#include "engine/kernels/types.def"
#undef FLOAT_TYPE
#undef TYPE
    SLM_TYPE_COUNT = 40
} slm_type;

typedef struct slm_type_info {
    const char *name;       /* "Q4_1" */
    uint32_t block_weights; /* weights per block of the source: 1, 32 or 256 */
    uint32_t block_bytes;   /* bytes per block of the source */
    bool is_float;          /* F32, F16, BF16: the matrix product runs on float activations */
    bool made;              /* slm_quantize can write it */
    int16_t f16_scales[2];  /* offsets of F16 scales in a block of the source, -1 = none */
} slm_type_info;

/* NULL for a type that this build cannot serve. */
const slm_type_info *slm_type_get(uint32_t type);
/* By name, without regard to case; -1 when unknown. */
int slm_type_by_name(const char *name);
/* "F32, F16, ...": the types that slm_quantize can write, for hints. */
const char *slm_types_made(void);

/* Source rows of one type to floats: n weights (a multiple of block_weights). Scalar and exact. */
void slm_dequantize(slm_type type, const void *source, float *out, size_t n);
/* Floats to the source format (reference quantizer, deterministic, round to nearest): for import and for tests.
 * SLM_UNSUPPORTED for types that are only read. */
slm_status slm_quantize(slm_type type, const float *x, void *out, size_t n, slm_error *err);

/* A packed matrix inside a mapped image. */
typedef struct slm_weight {
    const void *data;   /* [n_panels] panels of panel_bytes, 64-byte aligned */
    size_t panel_bytes; /* = slm_panel_bytes(type, cols) */
    uint32_t rows, cols;
    uint32_t n_panels;  /* (rows + 15) / 16 */
    slm_type type;
} slm_weight;

/* Bytes of one panel of 16 rows; 0 when cols does not fit the type's block (or on overflow). A multiple of 64. */
size_t slm_panel_bytes(slm_type type, uint32_t cols);
/* The panel that layout 1 of the images kept as all quants, then all scales: the same bytes in the present order, and as many. */
void slm_panel_from_layout_1(slm_type type, uint32_t cols, const void *panel, void *out);
/* Packs up to 16 rows (row stride in bytes) into one panel; missing rows become zeros. */
void slm_pack_panel(slm_type type, const void *rows, size_t row_stride, uint32_t n_rows, uint32_t cols, void *panel);

#endif
