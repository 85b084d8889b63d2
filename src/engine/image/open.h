/*
 * An open image as its own room sees it: of an earlier layout, with its header and bytes (private to image/).
 */
#ifndef SLM_IMAGE_OPEN_H
#define SLM_IMAGE_OPEN_H

#include "engine/image/format.h"
#include "engine/image/image.h"

/* slm_image_open for one layout.  Of an earlier one only the head is understood: its matrices are not for kernels. INVALID when the
 * image has the present layout instead. */
slm_status slm_image_open_layout(const char *path, uint32_t layout, slm_image **out, slm_error *err);
/* FORMAT, and what to do. */
slm_status slm_image_damaged(slm_error *err, const char *what);
const slm_image_header *slm_image_get_header(const slm_image *image);
const unsigned char *slm_image_bytes(const slm_image *image);

#endif
