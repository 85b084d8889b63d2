/*
 * A directory of the gliner library: labels in front of a text, and a head that finds their spans.
 *
 *   gliner_config.json   the head; "encoder_config" in it is what config.json is elsewhere
 *   model.safetensors    the layers below token_rep_layer.bert_layer.model., and the head
 *   tokenizer.json       with the marks of labels and text among its added tokens
 */
#ifndef SLM_HF_GLINER_H
#define SLM_HF_GLINER_H

#include "engine/import/hf/config.h"

/* *out NULL: it is no such directory.  json_decref it. */
slm_status slm_hf_gliner_load(int dir, json_t **out, slm_error *err);
/* The object that describes the layers. */
slm_status slm_hf_gliner_layers(json_t *gliner, slm_hf_json *out, slm_error *err);
/* The head's settings into the configuration of the layers, which has been read. */
slm_status slm_hf_gliner_take(int dir, json_t *gliner, slm_hf_config *c, slm_error *err);

#endif
