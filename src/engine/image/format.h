/*
 * The bytes of an image, shared by the writer and the reader (private to image/).
 *
 * Little-endian, fixed-width, no pointers.  All sections before the weights begin at multiples of 64 and lie in [header,
 * weights_offset); tensors begin at multiples of 64 in [weights_offset, file_bytes).  head_checksum is XXH3 of [0,
 * weights_offset) with the field itself zero.
 *
 * Layout 1 (version 0.1.0) differs in the order inside a panel (kernels/pack.c), and in what later versions append to slm_hparams and
 * slm_model_info: there 0 has to mean what layout 1 meant.  Roles keep their numbers.
 */
#ifndef SLM_IMAGE_FORMAT_H
#define SLM_IMAGE_FORMAT_H

#include <stdint.h>

#include "engine/arch/hparams.h"
#include "engine/slm.h"

#define SLM_IMAGE_MAGIC "SLMIMAGE"
#define SLM_IMAGE_BYTE_ORDER 0x01020304u
#define SLM_IMAGE_WEIGHTS_ALIGN 4096
/* Sizes of these structs in layout 1. */
#define SLM_IMAGE_1_HPARAMS 2220
#define SLM_IMAGE_1_INFO 952
_Static_assert(sizeof(slm_hparams) >= SLM_IMAGE_1_HPARAMS && sizeof(slm_model_info) >= SLM_IMAGE_1_INFO, "only additions at the end");

typedef struct slm_image_section {
    uint64_t offset, bytes;
} slm_image_section;

typedef struct slm_image_header {
    char magic[8];
    uint32_t layout, byte_order;
    uint64_t file_bytes, weights_offset;
    slm_image_section hparams, info, tokenizer, directory;
    uint32_t n_tensors, header_bytes;
    uint64_t head_checksum, weights_checksum;
    uint8_t reserved[64]; /* zero */
} slm_image_header;

/* Sorted by (role, layer), each pair once. */
typedef struct slm_image_entry {
    uint32_t role, layer, rows, cols, type, reserved;
    uint64_t offset, bytes;
} slm_image_entry;

#endif
