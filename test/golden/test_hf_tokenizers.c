/*
 * The tokenizer of every directory of golden/encoders, and of the encoders in golden/families2: the ids of each text and pair of texts as
 * the tokenizers library gives them, control tokens around them included, cut where the reference cut them.
 */
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "engine/import/hf/json.h"
#include "engine/import/hf/vocab.h"
#include "engine/text/chat.h"
#include "model_test.h"
#include "slm_test.h"

/* Control tokens written in a text are parsed by these tokenizers and not by ours: this text is left out. */
static bool writes_controls(const char *text)
{
    return text != NULL && (strstr(text, "<s>") != NULL || strstr(text, "[CLS]") != NULL || strstr(text, "<bos>") != NULL);
}

static slm_tokenizer *open_tokenizer(const char *dir, bool framed, void **blob)
{
    slm_hparams hp = {.causal = !framed};
    slm_tokenizer *tok = NULL;
    size_t bytes = 0;
    slm_error err = {0};
    json_t *config = NULL;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    slm_status status = slm_hf_load(fd, "config.json", 4u << 20, false, &config, &err);
    json_t *text = json_object_get(config, "text_config"); /* of a model that sees pictures too */
    hp.n_vocab = (uint32_t) json_integer_value(json_object_get(text != NULL ? text : config, "vocab_size"));
    hp.n_token_types = (uint32_t) json_integer_value(json_object_get(config, "type_vocab_size"));
    if (status == SLM_OK)
        status = slm_hf_vocab_build(fd, config, &hp, (slm_hf_reading) {.folder = ""}, NULL, NULL, blob, &bytes, &err);
    if (status == SLM_OK)
        status = slm_tokenizer_open(*blob, bytes, &tok, &err);
    CHECK(status == SLM_OK, "%s: %s (%s)", dir, err.message, err.hint);
    json_decref(config);
    close(fd);
    return tok;
}

/* The reference's ids may be cut: everything but the tokens behind the text must agree, and those must be ours. */
static void compare(const char *name, size_t line, const char *text, const slm_prompt *p, const json_t *want, size_t limit, bool pair)
{
    size_t n = json_array_size(want), bad = 0, after = 0;
    bool cut = p->ids.n > n && (limit != 0 ? n == limit : n == 128 || n == 160); /* some do not say their limit */
    if (cut && pair)
        return; /* which of two texts is cut is not the tokenizer's business */
    if (cut) /* the tokens behind the text are never cut */
        while (after < n && json_integer_value(json_array_get(want, n - 1 - after)) == p->ids.ids[p->ids.n - 1 - after])
            after++;
    while (bad < n - after && bad < p->ids.n && p->ids.ids[bad] == json_integer_value(json_array_get(want, bad)))
        bad++;
    CHECK(bad == n - after && (cut || p->ids.n == n), "%s %zu: %zu ids for %zu, first difference at %zu: %.60s", name, line, p->ids.n, n,
          bad,
          text);
}

static void check_cases(const char *dir, const char *name, slm_tokenizer *tok, json_t *golden)
{
    json_t *cases = json_object_get(golden, "cases");
    char path[2048];
    slm_error err = {0};
    json_t *config = NULL;
    snprintf(path, sizeof path, "%s/config_sentence_transformers.json", dir);
    config = json_load_file(path, 0, NULL);
    json_t *prompts = json_object_get(config, "prompts");
    size_t limit = (size_t) json_integer_value(json_object_get(golden, "max_seq_length"));
    if (limit == 0)
        limit = (size_t) json_integer_value(json_object_get(golden, "max_length"));
    for (size_t i = 0; i < json_array_size(cases); i++) {
        json_t *c = json_array_get(cases, i);
        const char *text = json_string_value(json_object_get(c, "text")), *pair = json_string_value(json_object_get(c, "text_pair"));
        const char *prompt = json_string_value(json_object_get(prompts, json_string_value(json_object_get(c, "prompt_name")) != NULL
                                                                            ? json_string_value(json_object_get(c, "prompt_name"))
                                                                            : ""));
        char *whole = NULL;
        slm_prompt p = {0};
        if (text == NULL) {
            text = json_string_value(json_object_get(c, "premise"));
            pair = json_string_value(json_object_get(c, "hypothesis"));
        }
        if (writes_controls(text) || writes_controls(pair) || asprintf(&whole, "%s%s", prompt != NULL ? prompt : "", text) < 0)
            continue;
        slm_segment segments[2] = {{SLM_ROLE_USER, 0, whole, strlen(whole)}, {SLM_ROLE_USER, 0, pair, pair != NULL ? strlen(pair) : 0}};
        slm_status status = slm_prompt_build(tok, false, segments, pair != NULL ? 2 : 1, 0, NULL, &p, &err);
        CHECK(status == SLM_OK, "%s %zu: %s", name, i, err.message);
        compare(name, i, whole, &p, json_object_get(c, "ids"), limit, pair != NULL);
        slm_prompt_free(&p);
        free(whole);
    }
    CHECK(json_array_size(cases) > 5, "%s: %zu texts", name, json_array_size(cases));
    json_decref(config);
}

static void check_dir(const char *folder, const char *name)
{
    char dir[1024], path[1100];
    void *blob = NULL;
    snprintf(dir, sizeof dir, "%s/%s/%s", golden_root(), folder, name);
    snprintf(path, sizeof path, "%s/golden.json", dir);
    json_t *golden = json_load_file(path, 0, NULL), *cases = json_object_get(golden, "cases");
    bool framed = cases != NULL;
    slm_tokenizer *tok = golden != NULL ? open_tokenizer(dir, framed, &blob) : NULL;
    if (tok != NULL && framed)
        check_cases(dir, name, tok, golden);
    slm_tokenizer_free(tok);
    free(blob);
    json_decref(golden);
}

static int check_folder(const char *folder)
{
    char path[1024];
    int n = 0;
    snprintf(path, sizeof path, "%s/%s", golden_root(), folder);
    DIR *d = opendir(path);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.') {
            check_dir(folder, e->d_name);
            n++;
        }
    if (d != NULL)
        closedir(d);
    return n;
}

int main(void)
{
    int encoders = check_folder("encoders"), families = check_folder("families2");
    CHECK(encoders >= 20 && families >= 20, "%d and %d directories", encoders, families);
    TEST_MAIN_END("hf_tokenizers");
}
