/*
 * Token classification: every tagger of golden/encoders through a session. Logits of every token of a text, the labels of all, and the
 * entities that the transformers library's pipeline makes of words (aggregation "first") with their places in characters; the same bits
 * in a batch of all texts as alone.  And what an entity is, label by label.
 */
#include <math.h>
#include <utf8proc.h>

#include "engine/text/tags.h"
#include "model_test.h"
#include "slm_test.h"

typedef struct answer {
    float *outputs;
    size_t n;
} answer;

static slm_session *open_session(slm_model *model)
{
    slm_limits limits = {.kv_cache_bytes = 1 << 20, .n_threads = 2};
    slm_session *session = NULL;
    slm_error err = {0};
    if (slm_session_new(model, &limits, &session, &err) != SLM_OK)
        test_die("session", err.message);
    return session;
}

/* Outputs of texts [n], all submitted before the first step. */
static void run(slm_session *session, const char *const texts[], size_t n, answer *out)
{
    slm_error err = {0};
    uint64_t id;
    size_t active = 1;
    for (size_t i = 0; i < n; i++) {
        slm_segment segment = {SLM_ROLE_USER, 0, texts[i], strlen(texts[i])};
        slm_request request = {.mode = SLM_MODE_EMBED, .segments = &segment, .n_segments = 1, .truncate = true, .tag = &out[i]};
        if (slm_submit(session, &request, &id, &err) != SLM_OK)
            test_die(texts[i], err.message);
    }
    while (active > 0)
        if (slm_step(session, &active, &err) != SLM_OK)
            test_die("step", err.message);
    for (const slm_result *r; (r = slm_poll(session)) != NULL; slm_release(session, r->id)) {
        answer *a = r->tag;
        a->n = r->n_scores;
        a->outputs = test_alloc((r->n_scores + 1) * sizeof(float));
        memcpy(a->outputs, r->scores, r->n_scores * sizeof(float));
    }
}

/* Characters before byte `bytes`, without the marks that stand there: the library leaves out those that its tokenizer drops. */
static size_t characters(const char *text, size_t bytes)
{
    size_t n = 0;
    utf8proc_int32_t c;
    while (bytes > 0) {
        size_t last = bytes - 1;
        while (last > 0 && ((unsigned char) text[last] & 0xC0) == 0x80)
            last--;
        if (utf8proc_iterate((const utf8proc_uint8_t *) text + last, -1, &c) < 1 || utf8proc_category(c) != UTF8PROC_CATEGORY_MN)
            break;
        bytes = last;
    }
    for (size_t i = 0; i < bytes; i++)
        n += ((unsigned char) text[i] & 0xC0) != 0x80;
    return n;
}

/* Rows of the reference are those of the text between [CLS] and [SEP]. */
static void check_logits(const char *name, size_t text, const answer *a, uint32_t n_labels, const json_t *logits)
{
    double worst = 0;
    CHECK(a->n == (json_array_size(logits) - 2) * n_labels, "%s %zu: %zu outputs for %zu tokens", name, text, a->n,
          json_array_size(logits));
    for (size_t i = 0; i + 2 < json_array_size(logits) && (i + 1) * n_labels <= a->n; i++)
        for (uint32_t k = 0; k < n_labels; k++) {
            double off = fabs(json_number_value(json_array_get(json_array_get(logits, i + 1), k)) - (double) a->outputs[i * n_labels + k]);
            worst = off > worst ? off : worst;
        }
    CHECK(worst < 0.03, "%s %zu: an output is %.5f away", name, text, worst); /* keys and values are F16 */
}

/* The same of a place in characters. */
static size_t place(const char *text, const json_t *entity, const char *key)
{
    size_t wanted = (size_t) json_integer_value(json_object_get(entity, key)), bytes = 0;
    for (; text[bytes] != '\0'; bytes++)
        if (((unsigned char) text[bytes] & 0xC0) != 0x80 && wanted-- == 0)
            break;
    return characters(text, bytes);
}

static void check_entities(const char *name, size_t number, slm_model *model, const char *text, const answer *a, const json_t *want)
{
    slm_tagged *words = NULL;
    slm_error err = {0};
    size_t n_words = 0;
    slm_status status = slm_tag_words(model, text, strlen(text), a->outputs, a->n, NULL, &words, &n_words, &err);
    CHECK(status == SLM_OK, "%s %zu: %s", name, number, err.message);
    slm_entity *found = test_alloc((n_words + 1) * sizeof *found);
    size_t n = slm_tag_entities(model, words, n_words, found);
    CHECK(n == json_array_size(want), "%s %zu: %zu entities, not %zu: %.50s", name, number, n, json_array_size(want), text);
    for (size_t i = 0; i < n && i < json_array_size(want); i++) {
        const json_t *w = json_array_get(want, i);
        size_t begin = characters(text, found[i].begin), end = characters(text, found[i].end);
        CHECK(strcmp(found[i].kind, json_string_value(json_object_get(w, "label"))) == 0 &&
                  begin == place(text, w, "start") && end == place(text, w, "end") &&
                  fabs((double) found[i].score - json_number_value(json_object_get(w, "score"))) < 6e-3,
              "%s %zu: %s at %zu to %zu, %.5f; not %s at %lld to %lld, %.5f", name, number, found[i].kind, begin, end,
              (double) found[i].score, json_string_value(json_object_get(w, "label")),
              (long long) json_integer_value(json_object_get(w, "start")), (long long) json_integer_value(json_object_get(w, "end")),
              json_number_value(json_object_get(w, "score")));
    }
    free(found);
    free(words);
}

/* words: does the vocabulary know where words begin?  Else the library takes punctuation for a part of its word. */
static void check_tagger(const char *dir, bool words)
{
    char path[1200], name[100];
    const char *texts[64];
    answer all[64] = {{0}};
    size_t n = 0, places[64];
    snprintf(path, sizeof path, "%s/encoders/%s", golden_root(), dir);
    snprintf(name, sizeof name, "encoders/%s/golden.json", dir);
    json_t *golden = test_json(name), *cases = json_object_get(golden, "cases");
    slm_model *model = test_import(path, "F32");
    CHECK(model != NULL && json_array_size(cases) > 20, "%s", dir);
    if (model == NULL)
        return;
    const slm_model_info *info = slm_model_get_info(model);
    CHECK(info->can_tag && !info->can_embed && !info->can_classify && !info->can_rerank && info->n_labels > 2, "%s: what it can do", dir);
    slm_session *session = open_session(model);
    for (size_t i = 0; i < json_array_size(cases) && n < 64; i++) {
        const char *text = json_string_value(json_object_get(json_array_get(cases, i), "text"));
        if (strstr(text, "[CLS]") != NULL || strstr(text, "<s>") != NULL)
            continue; /* control tokens are no such tokens here */
        places[n] = i;
        texts[n++] = text;
    }
    run(session, texts, n, all);
    for (size_t i = 0; i < n; i++) {
        const json_t *c = json_array_get(cases, places[i]);
        answer alone = {0};
        run(session, &texts[i], 1, &alone);
        CHECK(alone.n == all[i].n && memcmp(alone.outputs, all[i].outputs, alone.n * sizeof(float)) == 0, "%s %zu: other bits", dir, i);
        bool cut = (alone.n / info->n_labels + 2) != json_array_size(json_object_get(c, "ids"));
        if (json_object_get(c, "logits") != NULL && !cut)
            check_logits(dir, i, &alone, info->n_labels, json_object_get(c, "logits"));
        if (words && !cut)
            check_entities(dir, i, model, texts[i], &alone, json_object_get(json_object_get(c, "entities"), "first"));
        free(alone.outputs);
        free(all[i].outputs);
    }
    slm_session_free(session);
    slm_model_close(model);
    json_decref(golden);
}

static void check_words(const char *dir)
{
    static const char text[] = "\"Ana (Bonn), U.S. Caf\xC3\xA9\xF0\x9F\x99\x82 O'Neil!\"";
    static const char *const want[] = {"\"", "Ana", "(", "Bonn", ")", ",", "U.S", ".",
                                       "Caf\xC3\xA9", "\xF0\x9F\x99\x82", "O'Neil", "!", "\""};
    char path[1200];
    answer a;
    slm_tagged *words = NULL;
    slm_error err = {0};
    size_t n = 0;
    const char *texts[] = {text};
    snprintf(path, sizeof path, "%s/encoders/%s", golden_root(), dir);
    slm_model *model = test_import(path, "F32");
    slm_session *session = open_session(model);
    run(session, texts, 1, &a);
    CHECK(slm_tag_words(model, text, strlen(text), a.outputs, a.n, NULL, &words, &n, &err) == SLM_OK, "%s", err.message);
    CHECK(n == sizeof want / sizeof want[0], "%zu words", n);
    for (size_t i = 0; i < n && i < sizeof want / sizeof want[0]; i++)
        CHECK(words[i].end - words[i].begin == strlen(want[i]) && memcmp(text + words[i].begin, want[i], strlen(want[i])) == 0,
              "word %zu is %.*s, not %s", i, (int) (words[i].end - words[i].begin), text + words[i].begin, want[i]);
    free(words);
    CHECK(slm_tag_words(model, text, strlen(text), a.outputs, a.n - 1, NULL, &words, &n, &err) == SLM_INVALID, "outputs of half a token");
    CHECK(slm_tag_words(model, text, 4, a.outputs, a.n, NULL, &words, &n, &err) == SLM_INVALID, "outputs of another text");
    free(a.outputs);
    slm_session_free(session);
    slm_model_close(model);
}

/* Labels of words, given as text, to entities. */
static void check_labels(void)
{
    static const char labels[] = "O\0B-PER\0I-PER\0L-PER\0U-PER\0B-ORG\0I-ORG\0place\0S_ORG\0";
    static const struct {
        const char *words, *want; /* a digit a label; kind, first and last word of each entity */
    } cases[] = {{"0120", "PER1-2 "},        {"1212", "PER0-1 PER2-3 "}, {"22", "PER0-1 "},     {"126", "PER0-1 ORG2-2 "},
                 {"12302", "PER0-2 PER4-4 "}, {"1322", "PER0-1 PER2-3 "}, {"442", "PER0-0 PER1-1 PER2-2 "},
                 {"7707", "place0-1 place3-3 "}, {"868", "ORG0-0 ORG1-1 ORG2-2 "}, {"0", ""}, {"", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        slm_tagged words[8];
        slm_entity out[8];
        char said[200] = "";
        size_t n = strlen(cases[i].words), at = 0;
        for (size_t k = 0; k < n; k++)
            words[k] = (slm_tagged){k, k + 1, (uint32_t) (cases[i].words[k] - '0'), 0.5f};
        size_t found = slm_tags_join(labels, sizeof labels, 9, words, n, out);
        for (size_t k = 0; k < found; k++)
            at += (size_t) snprintf(said + at, sizeof said - at, "%s%zu-%zu ", out[k].kind, out[k].begin, out[k].end - 1);
        CHECK(strcmp(said, cases[i].want) == 0, "%s gives %s, not %s", cases[i].words, said, cases[i].want);
    }
}

int main(void)
{
    check_tagger("tok-bert-ner", true);
    check_tagger("tok-distilbert", true);
    check_tagger("tok-roberta", false);
    check_words("tok-roberta");
    check_labels();
    slm_threads_release();
    TEST_MAIN_END("taggers");
}
