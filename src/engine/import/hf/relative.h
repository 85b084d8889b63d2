/*
 * DeBERTa's keys and queries of distances, made when a model is imported.
 *
 *   table of distances [2 span, n_embd] ─ norm ─ a layer's key (query) projection ─► [n_heads * slm_relative_rows, head_dim]
 *
 * They do not depend on any text, so the image holds the products.
 */
#ifndef SLM_HF_RELATIVE_H
#define SLM_HF_RELATIVE_H

#include "engine/image/image.h"

typedef struct slm_hf_relative slm_hf_relative;

/* Adds the two roles of each layer to the source's tensors; reads of theirs go to slm_hf_relative_read.  table: [2 span, n_embd] floats,
 * normed; taken over on SLM_OK. NOMEM. */
slm_status slm_hf_relative_new(slm_source *source, float *table, slm_hf_relative **out, slm_error *err);
void slm_hf_relative_free(slm_hf_relative *r);
/* Rows of REL_KEY or REL_QUERY as floats. The layer's matrices are read through the source. */
slm_status slm_hf_relative_read(slm_hf_relative *r, const slm_source_tensor *tensor, uint32_t row, uint32_t n_rows, float *out,
                                slm_error *err);

#endif
