/*
 * Where the reference vocabularies are: $SLM_GOLDEN/tokenizers/NAME.gguf (default ../shared/golden), and smollm2's in the model cache.
 */
#ifndef SLM_TEST_GOLDEN_VOCAB_H
#define SLM_TEST_GOLDEN_VOCAB_H

#include "vocab_gguf.h"

static inline void golden_path(const char *name, const char *suffix, char *path, size_t size)
{
    const char *root = getenv("SLM_GOLDEN");
    snprintf(path, size, "%s/tokenizers/%s.%s", root != NULL ? root : "../shared/golden", name, suffix);
}

/* false when it is absent. */
static inline int golden_vocab(const char *name, vocab_file *file)
{
    const char *cache = getenv("SLM_MODEL_CACHE"), *home = getenv("HOME");
    char path[1024];
    golden_path(name, "gguf", path, sizeof path);
    if (vocab_read(path, file))
        return 1;
    if (strcmp(name, "smollm2") != 0)
        return 0;
    if (cache != NULL)
        snprintf(path, sizeof path, "%s/SmolLM2-135M-Instruct.Q4_1.gguf", cache);
    else
        snprintf(path, sizeof path, "%s/.cache/slm_pg/SmolLM2-135M-Instruct.Q4_1.gguf", home != NULL ? home : "");
    return vocab_read(path, file);
}

#endif
