/*
 * Vocabularies of directories without tokenizer.json, hostile: the corpus of the fuzz target, and every file of it cut and with bytes
 * changed; a broken promise traps.  The good ones among them load.
 */
#include "../fuzz/fuzz_vocab.c"

#include "engine/base/rng.h"
#include "replay.h"

#define CORPUS "test/fuzz/corpus_vocab"

static const char *const good[] = {"tekken_good", "tekken_llama", "merges_good", "merges_qwen", "merges_roberta", "tiktoken_good",
                                   "tiktoken_llama", "spm_good", "spm_defaults", "spm_llama", "spm_gemma", "spm_bytes", "unigram_xlmr",
                                   "unigram_deberta", "unigram_albert", "config_00", "config_02"};

static size_t read_input(const char *name, uint8_t *data, size_t size)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", CORPUS, name);
    FILE *file = fopen(path, "rb");
    size_t n = file != NULL ? fread(data, 1, size, file) : 0;
    if (file != NULL)
        fclose(file);
    return n;
}

static void change(const char *name)
{
    static uint8_t data[1 << 16], changed[1 << 16];
    size_t n = read_input(name, data, sizeof data);
    slm_error err = {0};
    CHECK(n > 2 && LLVMFuzzerTestOneInput(data, n) == 0 && load(data, n, &err) == SLM_OK, "%s: %s", name, err.message);
    for (uint64_t i = 0; n > 2 && i < 150; i++) {
        size_t m = i < 30 ? 2 + slm_rng_mix(i) % (n - 2) : n;
        memcpy(changed, data, n);
        for (uint64_t k = 0; i >= 30 && k <= i % 3; k++)
            changed[2 + slm_rng_mix(1000 * i + k) % (n - 2)] = (uint8_t) slm_rng_mix(7000 * i + k);
        CHECK(LLVMFuzzerTestOneInput(changed, m) == 0, "%s, change %llu", name, (unsigned long long) i);
    }
}

int main(void)
{
    test_replay(CORPUS, 150);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        change(good[i]);
    TEST_MAIN_END("fuzz_vocab");
}
