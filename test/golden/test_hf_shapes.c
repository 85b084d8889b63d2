/*
 * Tokenizers as users' files differ: some 370 mutations of six tokenizer.json files (normalizers, pre-tokenizers, post-processors, flags of
 * added tokens, settings of models), each with the ids that the tokenizers library gives 49 texts.  Each gives these ids or is refused, and
 * those that are listed as honoured are.
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

/* {"type": "BASE"} stands for what was there before. */
static json_t *with_base(json_t *node, json_t *base)
{
    const char *type = json_string_value(json_object_get(node, "type"));
    if (type != NULL && strcmp(type, "BASE") == 0)
        return json_deep_copy(base);
    json_t *copy = json_deep_copy(node), *list = NULL;
    static const char *const lists[] = {"normalizers", "pretokenizers", "processors"};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0] && list == NULL; i++)
        list = json_object_get(copy, lists[i]);
    for (size_t i = 0; i < json_array_size(list); i++)
        json_array_set_new(list, i, with_base(json_array_get(list, i), base));
    return copy;
}

static json_t *mutate(json_t *base, json_t *set)
{
    static const char *const parts[] = {"normalizer", "pre_tokenizer", "post_processor"};
    json_t *out = json_deep_copy(base), *added = json_object_get(set, "added");
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (json_object_get(set, parts[i]) != NULL)
            json_object_set_new(out, parts[i], with_base(json_object_get(set, parts[i]), json_object_get(base, parts[i])));
    for (size_t i = 0; i < json_array_size(added); i++)
        json_array_append(json_object_get(out, "added_tokens"), json_array_get(added, i));
    json_object_update(json_object_get(out, "model"), json_object_get(set, "model"));
    return out;
}

static void compare(const json_t *c, const json_t *texts, slm_tokenizer *tok)
{
    const char *base = json_string_value(json_object_get(c, "base")), *label = json_string_value(json_object_get(c, "label"));
    for (size_t i = 0; i < json_array_size(texts); i++) {
        const char *text = json_string_value(json_array_get(texts, i));
        const json_t *want = json_array_get(json_object_get(c, "ids"), i);
        slm_segment segment = {SLM_ROLE_USER, 0, text, strlen(text)};
        slm_prompt p = {0};
        slm_error err = {0};
        slm_status status = slm_prompt_build(tok, false, &segment, 1, 0, NULL, &p, &err);
        bool equal = status == SLM_OK && p.ids.n == json_array_size(want);
        for (size_t k = 0; equal && k < p.ids.n; k++)
            equal = p.ids.ids[k] == json_integer_value(json_array_get(want, k));
        CHECK(equal, "%s, %s: \"%s\"", base, label, text);
        slm_prompt_free(&p);
    }
}

static void check_case(const char *dir, json_t *base, json_t *config, json_t *c, const json_t *texts)
{
    char path[512];
    slm_hparams hp = {.n_vocab = (uint32_t) json_integer_value(json_object_get(config, "vocab_size")) + 8, .n_token_types = 2};
    void *blob = NULL;
    size_t bytes = 0;
    slm_tokenizer *tok = NULL;
    slm_error err = {0};
    json_t *mutated = mutate(base, json_object_get(c, "set"));
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    json_dump_file(mutated, path, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(mutated);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    slm_status status = slm_hf_vocab_build(fd, config, &hp, (slm_hf_reading) {.folder = ""}, NULL, NULL, &blob, &bytes, &err);
    bool honoured = json_is_true(json_object_get(c, "honoured"));
    CHECK(status == SLM_OK || !honoured, "%s, %s: %s (%s)", json_string_value(json_object_get(c, "base")),
          json_string_value(json_object_get(c, "label")), err.message, err.hint);
    CHECK(status == SLM_OK || status == SLM_UNSUPPORTED || status == SLM_FORMAT, "%s: status %d",
          json_string_value(json_object_get(c, "label")), (int) status);
    if (status == SLM_OK && slm_tokenizer_open(blob, bytes, &tok, &err) == SLM_OK)
        compare(c, texts, tok);
    slm_tokenizer_free(tok);
    free(blob);
    close(fd);
}

int main(void)
{
    char dir[64], path[512];
    json_t *all = test_json("tokenizers/shapes.json"), *cases = json_object_get(all, "cases"), *base = NULL, *config = NULL;
    const char *loaded = "";
    size_t honoured = 0;
    if (!hf_make_dir(dir, sizeof dir))
        test_die("a directory", "it cannot be made");
    for (size_t i = 0; i < json_array_size(cases); i++) {
        json_t *c = json_array_get(cases, i);
        const char *name = json_string_value(json_object_get(c, "base"));
        if (strcmp(name, loaded) != 0) {
            json_decref(base);
            json_decref(config);
            snprintf(path, sizeof path, "encoders/%s/tokenizer.json", name);
            base = test_json(path);
            snprintf(path, sizeof path, "encoders/%s/config.json", name);
            config = test_json(path);
            loaded = name;
        }
        honoured += json_is_true(json_object_get(c, "honoured"));
        check_case(dir, base, config, c, json_object_get(all, "texts"));
    }
    CHECK(json_array_size(cases) > 350 && honoured > 190, "%zu cases, %zu honoured", json_array_size(cases), honoured);
    json_decref(base);
    json_decref(config);
    json_decref(all);
    hf_remove_dir(dir);
    TEST_MAIN_END("hf_shapes");
}
