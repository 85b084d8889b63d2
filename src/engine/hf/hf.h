/*
 * A Hugging Face directory as a source of weights: config.json, safetensors, tokenizer, sentence-transformers configuration.
 *
 * Everything in the directory is hostile (DESIGN D12): sizes are bounded before anything is allocated, every file is read with
 * pread so that one cut short under us is an error and never a SIGBUS.
 */
#ifndef SLM_HF_HF_H
#define SLM_HF_HF_H

#include "engine/image/image.h"

/* Opens and validates dir. chat_format forces one by name, NULL recognizes it; stop may be NULL.  The source is freed by its own close.  Status: IO, FORMAT, UNSUPPORTED, NOMEM; messages name the file. */
slm_status slm_hf_open(const char *dir, const char *chat_format, const volatile int *stop, slm_source **out, slm_error *err);

#endif
