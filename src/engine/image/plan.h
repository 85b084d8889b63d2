/*
 * What the writer will write: the source's tensors cut into parts, each with its role, its type in the image and its place
 * (private to image/).
 *
 * Fused projections become several parts of one source tensor (query, key, value; gate, up); vectors become F32; matrices keep
 * their type or, from float sources, take the one that the caller asked for (with fall-backs where a width does not fit its
 * blocks).
 */
#ifndef SLM_IMAGE_PLAN_H
#define SLM_IMAGE_PLAN_H

#include "engine/image/image.h"

typedef struct slm_part {
    const slm_source_tensor *source;
    uint32_t first_row;      /* in the source */
    slm_tensor_role role;
    uint32_t layer, rows, cols;
    slm_type type;           /* in the image */
    uint64_t offset, bytes;  /* in the image */
} slm_part;

/* *parts: malloc'ed, [*n_parts], in the order of the file; *end: where the last one ends. INVALID for an unknown quantization. */
slm_status slm_image_plan(const slm_source *source, const char *quantization, uint64_t weights_offset, slm_part **parts, size_t *n_parts,
                          uint64_t *end, slm_error *err);

/* Bytes of a row in the source's type. */
uint64_t slm_row_bytes(slm_type type, uint32_t cols);
/* Are all floats of these blocks (weights, scales, minima) finite? */
bool slm_blocks_finite(slm_type type, const void *blocks, size_t n_weights);

#endif
