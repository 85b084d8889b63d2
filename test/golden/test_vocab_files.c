/*
 * Directories without tokenizer.json: tekken.json, vocab.json with merges.txt, SentencePiece models and ranks of tiktoken, each with
 * settings as users' directories have them, and the ids that transformers gives texts and pairs of texts.  Each gives these ids or is
 * refused, and those that are not listed as refused give them.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/import/hf/json.h"
#include "engine/import/hf/vocab.h"
#include "engine/text/chat.h"
#include "hf_dir.h"
#include "model_test.h"
#include "slm_test.h"

/* What transformers reads and is refused here, by name: the beginning of the case's name. */
static const char *const refused_here[] = {
    "tekken other pattern",    /* a pattern that no published model has */
    "tekken and model",        /* which of two files counts is not said */
    "tekken qwen class",       /* a class that is not Mistral's */
    "tekken auto_map",         /* code of the directory */
    "roberta merge twice", "roberta tokenizer.model too",
    "gpt2 split specials", "phi",
    "qwen2 prefix",            /* a space before every word */
    "qwen3_5",                 /* its class reads no vocab.json, and has no vocabulary then */
    "tiktoken roberta",
    "tiktoken gap in ids",     /* an added token gets an id that the file has */
    "gemma4 without class",
    "xlmr added",              /* an added token that is looked for in the normalized text */
    "llama class without bytes",
    "llama2 word",             /* a special token that is a word */
    "mistral nmt first", "mistral no escape", "mistral user defined", "mistral unigram",
    "xlmr null mask", "deberta punct", "t5",
};

static bool is_refused(const char *name)
{
    for (size_t i = 0; i < sizeof refused_here / sizeof refused_here[0]; i++)
        if (strcmp(name, refused_here[i]) == 0)
            return true;
    return false;
}

static void write_file(const char *dir, const char *name, json_t *file)
{
    const char *text = json_string_value(json_object_get(file, "text")), *hex = json_string_value(json_object_get(file, "hex"));
    if (text != NULL) {
        hf_text(dir, name, text);
        return;
    }
    size_t n = strlen(hex) / 2;
    char *bytes = malloc(n + 1), digits[3] = {0};
    for (size_t i = 0; i < n; i++) {
        memcpy(digits, hex + 2 * i, 2);
        bytes[i] = (char) strtoul(digits, NULL, 16);
    }
    hf_write(dir, name, bytes, n);
    free(bytes);
}

static void compare(const char *name, slm_tokenizer *tok, json_t *text, json_t *want)
{
    bool pair = json_is_array(text), equal;
    slm_segment segments[2];
    slm_prompt p = {0};
    slm_error err = {0};
    if (json_is_null(want))
        return; /* writes a control token, which is never one here */
    for (size_t i = 0; i < (pair ? 2u : 1u); i++) {
        json_t *part = pair ? json_array_get(text, i) : text;
        segments[i] = (slm_segment){SLM_ROLE_USER, 0, json_string_value(part), json_string_length(part)};
    }
    equal = slm_prompt_build(tok, false, segments, pair ? 2 : 1, 0, NULL, &p, &err) == SLM_OK && p.ids.n == json_array_size(want);
    for (size_t i = 0; equal && i < p.ids.n; i++)
        equal = p.ids.ids[i] == json_integer_value(json_array_get(want, i));
    CHECK(equal, "%s: \"%s\" (%zu ids for %zu) %s", name, segments[0].text, p.ids.n, json_array_size(want), err.message);
    slm_prompt_free(&p);
}

static slm_status build(const char *dir, json_t *config, uint32_t n_vocab, void **blob, slm_tokenizer **tok, slm_error *err)
{
    slm_hparams hp = {.n_vocab = n_vocab, .n_token_types = 2};
    size_t bytes = 0;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    slm_status status = slm_hf_vocab_build(fd, config, &hp, (slm_hf_reading){.folder = ""}, NULL, NULL, blob, &bytes, err);
    close(fd);
    return status == SLM_OK ? slm_tokenizer_open(*blob, bytes, tok, err) : status;
}

static void check_case(const json_t *all, json_t *c)
{
    const char *name = json_string_value(json_object_get(c, "name")), *file;
    char dir[64];
    void *blob = NULL;
    slm_tokenizer *tok = NULL;
    slm_error err = {0};
    json_t *place, *texts = json_object_get(all, "texts"), *pairs = json_object_get(all, "pairs"), *config = NULL;
    if (!hf_make_dir(dir, sizeof dir))
        test_die("a directory", "it cannot be made");
    json_object_foreach(json_object_get(c, "files"), file, place)
    {
        json_t *stored = json_array_get(json_object_get(all, "store"), (size_t) json_integer_value(place));
        write_file(dir, file, stored);
        if (strcmp(file, "config.json") == 0)
            config = json_loads(json_string_value(json_object_get(stored, "text")), 0, NULL);
    }
    uint32_t n_vocab = (uint32_t) json_integer_value(json_object_get(c, "size"));
    bool there = json_object_get(c, "refused") == NULL;
    slm_status status = build(dir, config, there ? n_vocab : 1000, &blob, &tok, &err);
    bool named = status == SLM_UNSUPPORTED || status == SLM_FORMAT;
    CHECK(status == SLM_OK ? there && !is_refused(name) : named && (!there || is_refused(name)), "%s: status %d: %s (%s)", name,
          (int) status, err.message, err.hint);
    if (getenv("SLM_TEST_VERBOSE") != NULL && status != SLM_OK)
        fprintf(stderr, "%s: %s (%s)\n", name, err.message, err.hint);
    for (size_t i = 0; tok != NULL && i < json_array_size(texts); i++)
        compare(name, tok, json_array_get(texts, i), json_array_get(json_object_get(c, "ids"), i));
    for (size_t i = 0; tok != NULL && i < json_array_size(pairs); i++)
        compare(name, tok, json_array_get(pairs, i), json_array_get(json_object_get(c, "pair_ids"), i));
    slm_tokenizer_free(tok);
    free(blob);
    json_decref(config);
    hf_remove_dir(dir);
}

int main(void)
{
    json_t *all = test_json("tokenizers/files.json"), *cases = json_object_get(all, "cases");
    for (size_t i = 0; i < json_array_size(cases); i++)
        check_case(all, json_array_get(cases, i));
    CHECK(json_array_size(cases) > 90, "%zu cases", json_array_size(cases));
    json_decref(all);
    TEST_MAIN_END("vocab_files");
}
