/*
 * A Hugging Face directory as a source of weights: config.json, safetensors, tokenizer, sentence-transformers configuration.
 *
 * Everything in the directory is hostile (DESIGN D12): sizes are bounded before anything is allocated, every file is read with
 * pread so that one cut short under us is an error and never a SIGBUS.
 */
#ifndef SLM_HF_HF_H
#define SLM_HF_HF_H

#include "engine/image/image.h"

/* Opens and validates dir.  When options say that matrices will be quantized, an encoder's are scaled for it (smooth.h), which takes a
 * forward pass of some texts.  stop may be NULL.  The source is freed by its own close.  Status: IO, FORMAT, UNSUPPORTED, NOMEM, CANCELLED;
 * messages name the file. */
slm_status slm_hf_open(const char *dir, const slm_import_options *options, const volatile int *stop, slm_source **out, slm_error *err);
/* The head alone: configuration and headers of the weights; *bytes as slm_source_look. */
slm_status slm_hf_look(const char *dir, uint64_t *bytes, slm_error *err);

#endif
