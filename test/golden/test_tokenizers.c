/*
 * Token ids of 300 texts (299 for smollm2) for each reference vocabulary: equal on every line, with control tokens written in
 * the texts left as text; and every encoded text decodes to itself where the tokenizer is lossless.
 */
#include <jansson.h>

#include "golden_vocab.h"
#include "slm_test.h"

typedef struct golden {
    const char *name;
    int lossless;
} golden;

static const golden files[] = {{"smollm2", 0}, {"gpt-2", 1}, {"llama-bpe", 1}, {"qwen2", 1}, {"llama-spm", 1}, {"phi-3", 1},
    {"bert-bge", 0}, {"xlm-r", 0}, {"qwen35", 1}, {"command-r", 0}, {"starcoder", 1}, {"refact", 1}};

static void check_line(slm_tokenizer *tok, const golden *g, int line, const char *text, size_t n, json_t *want)
{
    slm_ids ids = {0};
    slm_error err = {0};
    slm_status status = slm_tokenizer_encode(tok, text, n, false, true, NULL, &ids, &err);
    CHECK(status == SLM_OK, "%s line %d: %s", g->name, line, err.message);
    size_t bad = 0;
    while (bad < ids.n && bad < json_array_size(want) && ids.ids[bad] == json_integer_value(json_array_get(want, bad)))
        bad++;
    CHECK(ids.n == json_array_size(want) && bad == ids.n, "%s line %d: %zu ids for %zu, first difference at %zu: %s", g->name, line, ids.n,
          json_array_size(want), bad, text);
    char *back = NULL;
    size_t back_n = 0;
    if (g->lossless && slm_tokenizer_decode(tok, ids.ids, ids.n, true, NULL, &back, &back_n, &err) == SLM_OK)
        CHECK(back_n == n && memcmp(back, text, n) == 0, "%s line %d decodes to %s", g->name, line, back);
    free(back);
    free(ids.ids);
}

static void run(const golden *g)
{
    char path[1024];
    golden_path(g->name, "jsonl", path, sizeof path);
    FILE *lines = fopen(path, "r");
    void *blob = NULL;
    size_t bytes = 0;
    slm_tokenizer *tok = NULL;
    slm_error err = {0};
    slm_status status = golden_vocab(g->name, NULL, &blob, &bytes, &err);
    CHECK(lines != NULL && status == SLM_OK, "%s: %s", g->name, lines == NULL ? "no texts" : err.message);
    if (lines == NULL || status != SLM_OK) {
        if (lines != NULL)
            fclose(lines);
        free(blob);
        return;
    }
    CHECK(blob != NULL && slm_tokenizer_open(blob, bytes, &tok, &err) == SLM_OK, "%s: %s", g->name, err.message);
    char *line = NULL;
    size_t capacity = 0;
    int n = 0;
    while (tok != NULL && getline(&line, &capacity, lines) > 0) {
        json_t *row = json_loads(line, 0, NULL);
        json_t *text = json_object_get(row, "text");
        n++;
        CHECK(text != NULL, "%s line %d is no JSON", g->name, n);
        check_line(tok, g, n, json_string_value(text), json_string_length(text), json_object_get(row, "ids"));
        json_decref(row);
    }
    CHECK(n >= 299, "%s: %d lines", g->name, n);
    free(line);
    fclose(lines);
    slm_tokenizer_free(tok);
    free(blob);
}

int main(void)
{
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        run(&files[i]);
    TEST_MAIN_END("tokenizers");
}
