/*
 * What the import room offers to the top beside slm_import (slm.h): adapters by the shape of their model.
 */
#ifndef SLM_IMPORT_IMPORT_H
#define SLM_IMPORT_IMPORT_H

#include "engine/image/adapter_image.h"

/* slm_adapter_import and slm_adapter_look of slm.h for a model of this shape. */
slm_status slm_lora_import(const char *source_path, const slm_hparams *base, const char *image_path, const slm_seal *seal,
                           const volatile int *stop, slm_adapter_info *info, slm_error *err);
slm_status slm_lora_look(const char *source_path, const slm_hparams *base, uint64_t *bytes, slm_error *err);

/* Rows of b [heads * head_dim, rank] from pairs of neighbours to split halves (to_split) or back, head by head. */
slm_status slm_lora_turn_rows(float *b, uint32_t rows, uint32_t rank, uint32_t head_dim, bool to_split, slm_error *err);

#endif
