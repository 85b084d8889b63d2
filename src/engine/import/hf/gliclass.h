/*
 * Directories that the gliclass library saves: an encoder inside, whose config.json is the object "encoder_config" of the model's.
 */
#ifndef SLM_HF_GLICLASS_H
#define SLM_HF_GLICLASS_H

#include "engine/import/hf/config.h"

/* Is it one?  Then its own keys are taken, and config->json becomes the encoder's, of the type that is returned; else *type stays. */
slm_status slm_hf_take_gliclass(slm_hf_config *config, const char **type, slm_error *err);
/* Puts the numbers of the head, in place of one that the encoder's architecture names. */
slm_status slm_hf_put_gliclass(slm_hf_config *config, slm_error *err);
/* The tokenizer's marks, which are to be those of the configuration, into hp. */
slm_status slm_hf_gliclass_marks(const slm_hf_config *config, const void *tokenizer, size_t bytes, slm_hparams *hp, slm_error *err);

#endif
