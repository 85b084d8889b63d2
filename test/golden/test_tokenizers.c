/*
 * Token ids of 300 texts (299 for smollm2) for each reference vocabulary: equal on every line, with control tokens written in
 * the texts left as text; and every encoded text decodes to itself where the tokenizer is lossless.
 */
#include <jansson.h>

#include "engine/text/script.h"
#include "golden_vocab.h"
#include "slm_test.h"

typedef struct golden {
    const char *name;
    int lossless;
} golden;

static const golden files[] = {{"smollm2", 0}, {"gpt-2", 1}, {"llama-bpe", 1}, {"qwen2", 1}, {"llama-spm", 1}, {"phi-3", 1},
    {"bert-bge", 0}, {"xlm-r", 0}, {"qwen35", 1}, {"command-r", 0}, {"starcoder", 1}, {"refact", 1}, {"gemma4", 1}};

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

/* Which scripts the vocabularies have words of: those of English models none but Latin, whatever letters they can spell. */
static void check_scripts(const char *name, uint64_t known)
{
    static const struct {
        const char *name, *with, *without;
    } expected[] = {{"bert-bge", "Latin", "Cyrillic Greek Arabic Hangul Han Kana"},
                    {"gpt-2", "Latin", "Greek Arabic Han Devanagari"},
                    {"smollm2", "Latin", "Arabic Han Devanagari Hebrew"},
                    {"qwen2", "Latin Cyrillic Arabic Han Hangul", "Tibetan"},
                    {"xlm-r", "Latin Cyrillic Greek Arabic Hebrew Devanagari Thai Han Hangul Kana", "Tibetan"},
                    {"command-r", "Latin Cyrillic Greek Arabic Hebrew Han Hangul Kana", "Tibetan"}};
    printf("%s:", name);
    for (int s = 0; slm_script_name(s) != NULL; s++)
        if ((known >> s & 1) != 0)
            printf(" %s", slm_script_name(s));
    printf("\n");
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        for (int s = 0; strcmp(expected[i].name, name) == 0 && slm_script_name(s) != NULL; s++) {
            if (strstr(expected[i].with, slm_script_name(s)) != NULL)
                CHECK((known >> s & 1) != 0, "%s has no %s", name, slm_script_name(s));
            if (strstr(expected[i].without, slm_script_name(s)) != NULL)
                CHECK((known >> s & 1) == 0, "%s has %s", name, slm_script_name(s));
        }
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
    if (tok != NULL)
        check_scripts(g->name, slm_script_known(tok));
    free(line);
    fclose(lines);
    slm_tokenizer_free(tok);
    free(blob);
}

/* What a text is mostly written in. */
static void check_foreign(void)
{
    static const struct {
        const char *text, *script;
    } cases[] = {{"where is my parcel", NULL},       {"\xD0\x93\xD0\xB4\xD0\xB5 \xD0\xBE\xD0\xBD\xD0\xB0", "Cyrillic"},
                 {"", NULL},                         {"12 34 !?", NULL},
                 {"\xD0\x9C\xD0\xB0\xD1\x80\xD0\xB8\xD1\x8F, where are you", NULL}, {"\xFF\xFE\xD0", NULL},
                 {"\xE8\x8D\xB7\xE7\x89\xA9\xE3\x81\xAF\xE3\x81\xA9\xE3\x81\x93", "Kana"}};
    slm_model_info info = {.scripts = 1};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *script = slm_text_foreign(&info, cases[i].text, strlen(cases[i].text));
        CHECK(script == cases[i].script || (script != NULL && cases[i].script != NULL && strcmp(script, cases[i].script) == 0),
              "%s: %s", cases[i].text, script != NULL ? script : "none");
    }
    info.scripts = 0;
    CHECK(slm_text_foreign(&info, cases[1].text, strlen(cases[1].text)) == NULL, "of a model of which nothing is known");
}

int main(void)
{
    check_foreign();
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        run(&files[i]);
    TEST_MAIN_END("tokenizers");
}
