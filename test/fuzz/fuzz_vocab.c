/*
 * Fuzz target of the vocabularies of directories without tokenizer.json.
 *
 *   byte 0: which file is hostile (mod 6); byte 1: the model's type; the rest is the file
 *   0 tekken.json · 1 vocab.json, NUL, merges.txt · 2 ranks of tiktoken · 3 tokenizer.model · 4 sentencepiece.bpe.model, spm.model,
 *   spiece.model · 5 tokenizer_config.json beside a good tokenizer.model
 *
 * Besides not crashing: a refusal is of a file's and has words, and what loads makes ids that the model has, no control token among them.
 */
#include <fcntl.h>
#include <stdint.h>

#include "engine/import/hf/vocab.h"
#include "engine/text/tokenizer.h"
#include "hf_dir.h"

#define PROMISE(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: broken promise: %s\n", __FILE__, __LINE__, #condition); \
            __builtin_trap(); \
        } \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A BPE model: <unk>, <s>, </s>, U+2581, a, b, U+2581 a, ab; bytes fall back to the unknown token. */
static const char good_model[] = "\x0A\x0E\x0A\x05<unk>\x15\0\0\0\0\x18\x02" "\x0A\x0C\x0A\x03<s>\x15\0\0\0\0\x18\x03"
                                 "\x0A\x0D\x0A\x04</s>\x15\0\0\0\0\x18\x03" "\x0A\x0A\x0A\x03\xE2\x96\x81\x15\0\0\xC0\xBF"
                                 "\x0A\x08\x0A\x01" "a\x15\0\0\0\xC0" "\x0A\x08\x0A\x01" "b\x15\0\0\x40\xC0"
                                 "\x0A\x0B\x0A\x04\xE2\x96\x81" "a\x15\0\0\x80\xBF" "\x0A\x09\x0A\x02" "ab\x15\0\0\0\xBF"
                                 "\x12\x02\x18\x02" "\x1A\x04\x18\x01\x20\x00";
static char place[64];

static void remove_dir(void)
{
    hf_remove_dir(place);
}

/* The files of one input; the model's type. */
static const char *write_files(const uint8_t *data, size_t size, const char **config)
{
    static const char *const types[6][3] = {{"mistral", "ministral3", "llama"}, {"gpt2", "qwen3", "roberta"}, {"llama", "mistral", "phi3"},
                                            {"mistral", "gemma2", "llama"}, {"xlm-roberta", "deberta-v2", "albert"},
                                            {"mistral", "gemma", "llama"}};
    static const char *const files[] = {"tekken.json", "vocab.json", "tokenizer.model", "tokenizer.model", "sentencepiece.bpe.model",
                                        "tokenizer_config.json"};
    static const char *const all[] = {"tekken.json", "vocab.json", "merges.txt", "tokenizer.model", "sentencepiece.bpe.model", "spm.model",
                                      "spiece.model", "tokenizer_config.json"};
    unsigned which = data[0] % 6, type = data[1] % 3;
    const char *content = (const char *) data + 2, *file = files[which];
    size_t n = size - 2;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        hf_delete(place, all[i]);
    const char *cut = which == 1 ? memchr(content, 0, n) : NULL;
    if (cut != NULL)
        hf_write(place, "merges.txt", cut + 1, (size_t) (content + n - cut - 1));
    if (which == 4 && type > 0)
        file = type == 1 ? "spm.model" : "spiece.model";
    hf_write(place, file, content, cut != NULL ? (size_t) (cut - content) : n);
    if (which == 5)
        hf_write(place, "tokenizer.model", good_model, sizeof good_model - 1);
    else if (data[1] & 64)
        hf_text(place, "tokenizer_config.json",
                "{\"tokenizer_class\":\"LlamaTokenizer\",\"add_bos_token\":true,\"extra_special_tokens\":[]}");
    *config = types[which][type];
    return file;
}

/* What stands for characters that are no token may be a control token: whatever the file says. */
static void use(slm_tokenizer *tok)
{
    static const char *const texts[] = {"\xEE\x80\x80", "a b", " ab  ba", "</s><s>[INST]<|endoftext|>", "the cat\n\tsat",
                                        "\xE2\x96\x81\xC3\xA9"};
    slm_ids unknown = {0};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        slm_ids ids = {0};
        slm_error err = {0};
        PROMISE(slm_tokenizer_encode(tok, texts[i], strlen(texts[i]), false, true, NULL, &ids, &err) == SLM_OK);
        for (size_t k = 0; i > 0 && k < ids.n; k++) {
            bool plain = slm_tokenizer_type(tok, ids.ids[k]) != SLM_TOKEN_CONTROL;
            for (size_t u = 0; u < unknown.n; u++)
                plain = plain || unknown.ids[u] == ids.ids[k];
            PROMISE(plain && ids.ids[k] >= 0 && (size_t) ids.ids[k] < slm_tokenizer_size(tok));
        }
        if (i == 0)
            unknown = ids;
        else
            free(ids.ids);
    }
    free(unknown.ids);
}

static slm_status load(const uint8_t *data, size_t size, slm_error *err)
{
    const char *type;
    slm_hparams hp = {.n_vocab = 600, .n_token_types = 2, .causal = (data[1] & 128) != 0};
    void *blob = NULL;
    size_t bytes;
    slm_tokenizer *tok = NULL;
    write_files(data, size, &type);
    json_t *model = json_pack("{s:s}", "model_type", type);
    int fd = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    slm_status status = slm_hf_vocab_build(fd, model, &hp, (slm_hf_reading){.folder = ""}, NULL, NULL, &blob, &bytes, err);
    close(fd);
    json_decref(model);
    if (status == SLM_OK) {
        PROMISE(slm_tokenizer_open(blob, bytes, &tok, err) == SLM_OK);
        use(tok);
        slm_tokenizer_free(tok);
        free(blob);
    }
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    slm_error err = {0};
    if (size < 2)
        return 0;
    if (place[0] == '\0') {
        PROMISE(hf_make_dir(place, sizeof place));
        atexit(remove_dir);
    }
    slm_status status = load(data, size, &err);
    PROMISE(status == SLM_OK || status == SLM_FORMAT || status == SLM_UNSUPPORTED || status == SLM_LIMIT);
    PROMISE(status == SLM_OK || err.message[0] != '\0');
    return 0;
}
