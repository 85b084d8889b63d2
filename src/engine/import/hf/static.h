/*
 * Tables of vectors as models: Model2Vec, and a sentence-transformers pipeline that begins with StaticEmbedding.
 *
 *   model2vec               config.json (model_type "model2vec"), model.safetensors: embeddings [rows, width], maybe mapping [tokens],
 *                           weights [tokens]; tokenizer.json.  The unknown token does not count.
 *   sentence-transformers   modules.json, and in the folder of the first module model.safetensors (embedding.weight, or as above) and
 *                           tokenizer.json.  Every token counts.
 *
 * The vector of token i is weights[i] * embeddings[mapping[i]], or zeros where it does not count: the image holds the product.  As vectors
 * are scaled to length 1, a sum over fewer rows and one over zeros are the same.  One row of zeros more is for texts without any token.
 */
#ifndef SLM_HF_STATIC_H
#define SLM_HF_STATIC_H

#include <jansson.h>
#include <stdbool.h>

#include "engine/import/hf/safetensors.h"

typedef struct slm_hf_static slm_hf_static;

/* Do these describe one?  config.json and modules.json; NULL where there is none. */
bool slm_hf_static_is(const json_t *config, const json_t *modules);
/* Opens the table, and puts into *config (made where there was none) what it says of the model: vocab_size, hidden_size, max_length.
 * st: to be closed in any case; the table's file stays its first. */
slm_status slm_hf_static_open(int dir, const json_t *modules, json_t **config, slm_safetensors *st, slm_hf_static **out, slm_error *err);
void slm_hf_static_free(slm_hf_static *s);
uint32_t slm_hf_static_rows(const slm_hf_static *s);
uint32_t slm_hf_static_width(const slm_hf_static *s);
/* Is there a token that does not count? */
bool slm_hf_static_drops(const slm_hf_static *s);
/* Where its tokenizer is: "" or a folder with a slash. */
const char *slm_hf_static_folder(const slm_hf_static *s);
/* Rows [first, first + n) of the table that the model has, as floats. */
slm_status slm_hf_static_read(const slm_hf_static *s, const slm_safetensors *st, uint32_t first, uint32_t n, float *out, slm_error *err);

#endif
