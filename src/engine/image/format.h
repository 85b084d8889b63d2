/*
 * The bytes of an image, shared by the writer and the reader (private to image/).
 *
 * Little-endian, fixed-width, no pointers.  All sections before the weights begin at multiples of 64 and lie in [header,
 * weights_offset); tensors begin at multiples of 64 in [weights_offset, file_bytes).  head_checksum is XXH3 of [0,
 * weights_offset) with the field itself zero.
 */
#ifndef SLM_IMAGE_FORMAT_H
#define SLM_IMAGE_FORMAT_H

#include <stdint.h>

#define SLM_IMAGE_MAGIC "SLMIMAGE"
#define SLM_IMAGE_BYTE_ORDER 0x01020304u
#define SLM_IMAGE_WEIGHTS_ALIGN 4096

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
