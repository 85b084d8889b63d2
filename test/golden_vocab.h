/*
 * The reference vocabularies: tokenizers/NAME.gguf of the reference values (golden.h), smollm2's in the model cache; read as an import
 * reads them.
 */
#ifndef SLM_TEST_GOLDEN_VOCAB_H
#define SLM_TEST_GOLDEN_VOCAB_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/import/gguf/gguf.h"
#include "engine/text/tokenizer.h"
#include "golden.h"

static inline void golden_path(const char *name, const char *suffix, char *path, size_t size)
{
    snprintf(path, size, "%s/tokenizers/%s.%s", golden_root(), name, suffix);
}

/* IO when the file is absent. */
static inline slm_status golden_vocab(const char *name, const char *chat_format, void **blob, size_t *bytes, slm_error *err)
{
    const char *cache = getenv("SLM_MODEL_CACHE"), *home = getenv("HOME");
    char path[1024];
    slm_gguf *file = NULL;
    golden_path(name, "gguf", path, sizeof path);
    slm_status status = slm_gguf_open(path, &file, err);
    if (status == SLM_IO && strcmp(name, "smollm2") == 0) {
        if (cache != NULL)
            snprintf(path, sizeof path, "%s/SmolLM2-135M-Instruct.Q4_1.gguf", cache);
        else
            snprintf(path, sizeof path, "%s/.cache/slm_pg/SmolLM2-135M-Instruct.Q4_1.gguf", home != NULL ? home : "");
        status = slm_gguf_open(path, &file, err);
    }
    if (status != SLM_OK)
        return status;
    status = slm_gguf_tokenizer(file, &(slm_import_options){.chat_format = chat_format}, 0, NULL, blob, bytes, err);
    slm_gguf_close(file);
    return status;
}

#endif
