/*
 * Heads that find spans (golden/spans): directories as the gliner library saved them.  Words and ids of every text as the library has them,
 * logits of the spans, and what is found at two thresholds with its places in characters; the same bits in a batch of all texts as alone
 * and on any number of threads; windows of a long text cover all of its words.  Settings that are not known are refused by name.
 */
#include <limits.h>
#include <math.h>

#include "engine/slm.h"
#include "hf_dir.h"
#include "model_test.h"
#include "slm_test.h"

#define MAX_CASES 64
#define MAX_FOUND 128

typedef struct test_case {
    const char *text, *labels[8];
    size_t n_labels;
    json_t *json;
} test_case;

typedef struct findings {
    size_t n;
    float scores[MAX_FOUND];
    int32_t places[3 * MAX_FOUND];
} findings;

static size_t characters(const char *text, size_t bytes)
{
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++)
        n += ((unsigned char) text[i] & 0xC0) != 0x80;
    return n;
}

static long long number(const json_t *list, size_t i)
{
    return json_integer_value(json_array_get(list, i));
}

/* The words of the library that have tokens here are those of the text; *all: each has. */
static void check_words(const char *name, size_t number_of, const test_case *c, const slm_worded *m, bool *all)
{
    const json_t *words = json_object_get(c->json, "words");
    size_t n = 0, marked = 0, length = strlen(c->text);
    slm_word word = {0, 0};
    while (slm_word_next(c->text, length, word.end, &word)) {
        const json_t *want = json_array_get(words, n++);
        CHECK((long long) characters(c->text, word.begin) == number(want, 0) &&
                  (long long) characters(c->text, word.end) == number(want, 1),
              "%s %zu: word %zu is %.*s", name, number_of, n, (int) (word.end - word.begin), c->text + word.begin);
        marked += marked < m->n_words && m->places[marked].begin == word.begin && m->places[marked].end == word.end;
    }
    CHECK(n == json_array_size(words) && marked == m->n_words, "%s %zu: %zu words, of which %zu have tokens", name, number_of, n, marked);
    *all = marked == n;
}

static void check_ids(const char *name, size_t number_of, const test_case *c, const slm_worded *m)
{
    const json_t *ids = json_object_get(c->json, "ids");
    bool same = json_array_size(ids) == m->ids.n;
    for (size_t i = 0; same && i < m->ids.n; i++)
        same = m->ids.ids[i] == number(ids, i);
    CHECK(same, "%s %zu: %zu ids, not %zu: %.40s", name, number_of, m->ids.n, json_array_size(ids), c->text);
}

/* The largest distance of a logit. */
static double check_logits(const char *name, size_t number_of, slm_model *model, const test_case *c, const slm_worded *m)
{
    const json_t *want = json_object_get(c->json, "logits");
    size_t n = slm_spans_outputs(&model->hp, m->n_words, m->n_labels);
    float *out = test_alloc(n * sizeof *out), *ignored = NULL;
    uint32_t length = (uint32_t) m->ids.n;
    slm_span_marks marks = {.n_words = m->n_words, .n_labels = m->n_labels, .words = m->words, .labels = m->labels, .out = out};
    const slm_span_marks *all[] = {&marks};
    slm_encode_batch batch = {.n_sequences = 1, .lengths = &length, .tokens = m->ids.ids, .spans = all};
    slm_workspace *ws = slm_workspace_new();
    slm_error err = {0};
    double worst = 0;
    CHECK(slm_encode(model, ws, &batch, 2, NULL, &ignored, &err) == SLM_OK, "%s %zu: %s", name, number_of, err.message);
    CHECK(json_array_size(want) == n, "%s %zu: %zu logits, not %zu", name, number_of, n, json_array_size(want));
    for (size_t i = 0; i < n && i < json_array_size(want); i++)
        if (out[i] > -INFINITY)
            worst = fmax(worst, fabs(json_number_value(json_array_get(want, i)) - (double) out[i]));
    slm_workspace_free(ws);
    free(out);
    return worst;
}

static void run(slm_session *session, const test_case *cases, size_t n, float threshold, findings *out)
{
    slm_error err = {0};
    uint64_t id;
    size_t active = 1;
    for (size_t i = 0; i < n; i++) {
        slm_segment segment = {SLM_ROLE_USER, 0, cases[i].text, strlen(cases[i].text)};
        slm_request request = {.mode = SLM_MODE_SPANS, .segments = &segment, .n_segments = 1, .truncate = true, .tag = &out[i],
                               .labels = cases[i].labels, .n_labels = cases[i].n_labels, .threshold = threshold};
        slm_status status = slm_submit(session, &request, &id, &err);
        out[i].n = 0;
        if (status != SLM_OK)
            CHECK(err.cause == SLM_CAUSE_EMPTY, "%s: %s", cases[i].text, err.message);
    }
    while (active > 0)
        if (slm_step(session, &active, &err) != SLM_OK)
            test_die("step", err.message);
    for (const slm_result *r; (r = slm_poll(session)) != NULL; slm_release(session, r->id)) {
        findings *f = r->tag;
        CHECK(r->status == SLM_OK && r->n_tokens == 3 * r->n_scores && r->n_scores <= MAX_FOUND, "%s", r->error.message);
        f->n = r->n_scores;
        memcpy(f->scores, r->scores, f->n * sizeof *f->scores);
        memcpy(f->places, r->tokens, 3 * f->n * sizeof *f->places);
    }
}

static void check_found(const char *name, size_t number_of, const test_case *c, const findings *f, const char *key)
{
    const json_t *want = json_object_get(c->json, key);
    CHECK(f->n == json_array_size(want), "%s %zu: %zu found %s, not %zu", name, number_of, f->n, key, json_array_size(want));
    for (size_t i = 0; i < f->n && i < json_array_size(want); i++) {
        const json_t *w = json_array_get(want, i);
        const char *label = c->labels[f->places[3 * i + 2]];
        CHECK((long long) characters(c->text, (size_t) f->places[3 * i]) == number(w, 0) &&
                  (long long) characters(c->text, (size_t) f->places[3 * i + 1]) == number(w, 1) &&
                  strcmp(label, json_string_value(json_array_get(w, 2))) == 0 &&
                  fabs(json_real_value(json_array_get(w, 3)) - (double) f->scores[i]) < 1e-3,
              "%s %zu %s: %s at %d, %.5f; not %s at %lld, %.5f", name, number_of, key, label, f->places[3 * i], (double) f->scores[i],
              json_string_value(json_array_get(w, 2)), number(w, 0), json_real_value(json_array_get(w, 3)));
    }
}

static void check_bits(const char *name, slm_model *model, const test_case *cases, size_t n)
{
    findings all[MAX_CASES], other[MAX_CASES];
    slm_error err = {0};
    for (int threads = 1; threads <= 2; threads++) {
        slm_limits limits = {.kv_cache_bytes = 1 << 20, .n_threads = threads, .max_batch_tokens = threads == 1 ? 0 : 2048};
        slm_session *session = NULL;
        if (slm_session_new(model, &limits, &session, &err) != SLM_OK)
            test_die("session", err.message);
        run(session, cases, n, 0.5f, threads == 1 ? all : other);
        for (size_t i = 0; threads == 2 && i < n; i++)
            CHECK(all[i].n == other[i].n && memcmp(all[i].scores, other[i].scores, all[i].n * sizeof(float)) == 0 &&
                      memcmp(all[i].places, other[i].places, 3 * all[i].n * sizeof(int32_t)) == 0, "%s %zu: other bits on two threads",
                  name, i);
        for (size_t i = 0; i < n; i++) {
            run(session, &cases[i], 1, 0.5f, other);
            CHECK(all[i].n == other[0].n && memcmp(all[i].scores, other[0].scores, all[i].n * sizeof(float)) == 0,
                  "%s %zu: other bits alone", name, i);
        }
        slm_session_free(session);
    }
}

static void check_windows(const char *name, const slm_model *model, const test_case *c)
{
    char text[8000] = "";
    size_t *offsets = NULL, n = 0, reached = 0;
    slm_error err = {0};
    for (int i = 0; i < 400; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "Anna met Karl (%d). ", i);
    CHECK(slm_span_windows(model, c->labels, c->n_labels, text, strlen(text), NULL, &offsets, &n, &err) == SLM_OK, "%s: %s", name,
          err.message);
    CHECK(n > 5 && offsets[0] == 0, "%s: %zu windows", name, n);
    for (size_t i = 0; i < n; i++) {
        slm_wording how = slm_span_wording(&model->hp);
        slm_worded m;
        bool cut;
        CHECK(offsets[2 * i] <= reached && offsets[2 * i + 1] > reached, "%s: window %zu does not join", name, i);
        CHECK(slm_worded_build(model->tokenizer, &how, c->labels, c->n_labels, text + offsets[2 * i], offsets[2 * i + 1] - offsets[2 * i],
                               NULL, &m, &cut, &err) == SLM_OK && !cut, "%s: window %zu is cut", name, i);
        slm_worded_free(&m);
        reached = offsets[2 * i + 1];
    }
    CHECK(reached + strspn(text + reached, " ") == strlen(text), "%s: the windows end at %zu", name, reached);
    free(offsets);
}

static size_t read_cases(json_t *golden, test_case *out)
{
    json_t *cases = json_object_get(golden, "cases");
    size_t n = json_array_size(cases);
    CHECK(n > 20 && n <= MAX_CASES, "%zu cases", n);
    for (size_t i = 0; i < n && i < MAX_CASES; i++) {
        json_t *c = json_array_get(cases, i), *labels = json_object_get(c, "labels");
        out[i] = (test_case) {.text = json_string_value(json_object_get(c, "text")), .n_labels = json_array_size(labels), .json = c};
        for (size_t k = 0; k < out[i].n_labels && k < 8; k++)
            out[i].labels[k] = json_string_value(json_array_get(labels, k));
    }
    return n;
}

static void check_model(const char *dir)
{
    char path[1200], name[100];
    test_case cases[MAX_CASES];
    findings half[MAX_CASES], more[MAX_CASES];
    slm_error err = {0};
    double worst = 0;
    size_t compared = 0;
    snprintf(path, sizeof path, "%s/spans/%s", golden_root(), dir);
    snprintf(name, sizeof name, "spans/%s/golden.json", dir);
    json_t *golden = test_json(name);
    size_t n = read_cases(golden, cases);
    slm_model *model = test_import(path, "F32");
    CHECK(model != NULL, "%s", dir);
    if (model == NULL)
        return;
    const slm_model_info *info = slm_model_get_info(model);
    CHECK(info->can_find && !info->can_embed && !info->can_tag && !info->can_classify && !info->can_rerank, "%s: what it can do", dir);
    slm_limits limits = {.kv_cache_bytes = 1 << 20, .n_threads = 2};
    slm_session *session = NULL;
    if (slm_session_new(model, &limits, &session, &err) != SLM_OK)
        test_die("session", err.message);
    run(session, cases, n, 0.5f, half);
    run(session, cases, n, 0.62f, more);
    for (size_t i = 0; i < n; i++) {
        slm_wording how = slm_span_wording(&model->hp);
        slm_worded m = {0};
        bool all = true, cut = false;
        slm_status status = slm_worded_build(model->tokenizer, &how, cases[i].labels, cases[i].n_labels, cases[i].text,
                                             strlen(cases[i].text), NULL, &m, &cut, &err);
        CHECK(status == SLM_OK || err.cause == SLM_CAUSE_EMPTY, "%s %zu: %s", dir, i, err.message);
        if (!cut)
            check_words(dir, i, &cases[i], &m, &all);
        if (status == SLM_OK && !cut)
            check_ids(dir, i, &cases[i], &m);
        if (!cut && all) {
            check_found(dir, i, &cases[i], &half[i], "at 0.5");
            check_found(dir, i, &cases[i], &more[i], "at 0.62");
            compared++;
        }
        if (!cut && all && json_object_get(cases[i].json, "logits") != NULL)
            worst = fmax(worst, check_logits(dir, i, model, &cases[i], &m));
        slm_worded_free(&m);
    }
    printf("%s: %zu of %zu texts compared, logits at most %.6f away\n", dir, compared, n, worst);
    CHECK(worst < 1e-3 && compared + 3 >= n, "%s: a logit is %.6f away, %zu texts compared", dir, worst, compared);
    slm_session_free(session);
    check_bits(dir, model, cases, n);
    check_windows(dir, model, &cases[0]);
    slm_model_close(model);
    json_decref(golden);
}

/* ---- what is asked of a request, and of a directory */

static void check_requests(void)
{
    static const char *const labels[] = {"person", "city", ""};
    const slm_segment one = {SLM_ROLE_USER, 0, "Anna", 4}, two[] = {one, one};
    const struct {
        slm_request request;
        const char *says;
    } cases[] = {{{.segments = two, .n_segments = 2, .labels = labels, .n_labels = 2}, "one text"},
                 {{.segments = &one, .n_segments = 1}, "1 to 1024 labels"},
                 {{.segments = &one, .n_segments = 1, .labels = labels, .n_labels = 3}, "label 3 is empty"},
                 {{.segments = &one, .n_segments = 1, .labels = labels, .n_labels = 2, .threshold = 1.5f}, "threshold of 1.5"},
                 {{.segments = &one, .n_segments = 1, .labels = labels, .n_labels = 2, .threshold = NAN}, "threshold of "}};
    char path[1200];
    slm_session *session = NULL;
    slm_error err = {0};
    slm_limits limits = {.kv_cache_bytes = 1 << 20, .n_threads = 1};
    uint64_t id;
    snprintf(path, sizeof path, "%s/spans/gliner-token", golden_root());
    slm_model *model = test_import(path, "Q8_0");
    if (model == NULL || slm_session_new(model, &limits, &session, &err) != SLM_OK)
        test_die("session", err.message);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        slm_request request = cases[i].request;
        request.mode = SLM_MODE_SPANS;
        CHECK(slm_submit(session, &request, &id, &err) == SLM_INVALID && strstr(err.message, cases[i].says) != NULL, "%s", err.message);
    }
    slm_request request = {.mode = SLM_MODE_EMBED, .segments = &one, .n_segments = 1};
    CHECK(slm_submit(session, &request, &id, &err) == SLM_UNSUPPORTED, "a vector of it");
    request = (slm_request) {.mode = SLM_MODE_SPANS, .segments = &one, .n_segments = 1, .n_labels = 1};
    char *long_label = test_alloc(4001);
    memset(long_label, 'x', 4000);
    request.labels = (const char *const *) &long_label;
    CHECK(slm_submit(session, &request, &id, &err) == SLM_LIMIT, "a label that is longer than the model reads: %s", err.message);
    free(long_label);
    slm_session_free(session);
    slm_model_close(model);
}

/* A setting in place of the file's, as JSON; NULL: it is left out. */
static void check_setting(const char *dir, const char *key, const char *value, slm_status want, const char *says)
{
    char path[1300];
    slm_error err = {0};
    uint64_t bytes;
    snprintf(path, sizeof path, "%s/spans/gliner-deberta/gliner_config.json", golden_root());
    json_t *config = json_load_file(path, 0, NULL);
    if (value == NULL)
        json_object_del(config, key);
    else
        json_object_set_new(config, key, json_loads(value, JSON_DECODE_ANY, NULL));
    snprintf(path, sizeof path, "%s/gliner_config.json", dir);
    json_dump_file(config, path, 0);
    json_decref(config);
    slm_status status = slm_source_look(dir, &bytes, &err);
    CHECK(status == want && (says == NULL || strstr(err.message, says) != NULL), "%s: %s: %d, %s", key, value != NULL ? value : "none",
          (int) status, err.message);
}

static void check_settings(void)
{
    static const struct {
        const char *key, *value;
        slm_status status;
        const char *says; /* NULL: the key */
    } cases[] = {{"hidden_size", "32", SLM_OK, ""},
                 {"hidden_size", "64", SLM_FORMAT, "shape"},
                 {"hidden_size", "33", SLM_UNSUPPORTED, "multiple of 32"},
                 {"max_width", "0", SLM_FORMAT, NULL},
                 {"max_width", "101", SLM_FORMAT, NULL},
                 {"max_width", NULL, SLM_OK, ""},
                 {"max_len", "0", SLM_FORMAT, "words"},
                 {"num_rnn_layers", "2", SLM_UNSUPPORTED, NULL},
                 {"num_rnn_layers", "0", SLM_UNSUPPORTED, "rnn.lstm"},
                 {"num_rnn_layers", NULL, SLM_OK, ""},
                 {"has_rnn", "true", SLM_OK, ""},
                 {"has_rnn", "false", SLM_UNSUPPORTED, NULL},
                 {"span_mode", "\"markerV1\"", SLM_UNSUPPORTED, NULL},
                 {"span_mode", "\"token_level\"", SLM_FORMAT, "scorer"},
                 {"span_mode", "7", SLM_UNSUPPORTED, NULL},
                 {"subtoken_pooling", "\"sum\"", SLM_UNSUPPORTED, NULL},
                 {"subtoken_pooling", "\"max\"", SLM_OK, ""},
                 {"words_splitter_type", "\"spacy\"", SLM_UNSUPPORTED, NULL},
                 {"embed_ent_token", "1", SLM_FORMAT, NULL},
                 {"class_token_index", "-1", SLM_UNSUPPORTED, NULL},
                 {"class_token_index", "1203", SLM_UNSUPPORTED, NULL},
                 {"ent_token", "\"<<LABEL>>\"", SLM_UNSUPPORTED, "<<LABEL>>"},
                 {"sep_token", "\"[SEP]\"", SLM_UNSUPPORTED, "[SEP]"},
                 {"vocab_size", "1205", SLM_UNSUPPORTED, NULL},
                 {"vocab_size", "-1", SLM_FORMAT, NULL},
                 {"labels_encoder", "\"bert\"", SLM_UNSUPPORTED, NULL},
                 {"labels_decoder", "\"gpt2\"", SLM_UNSUPPORTED, NULL},
                 {"relations_layer", "\"biaffine\"", SLM_UNSUPPORTED, NULL},
                 {"model_type", "\"gliner_bi_encoder_span\"", SLM_UNSUPPORTED, NULL},
                 {"model_type", "\"gliner_uni_encoder_span\"", SLM_OK, ""},
                 {"represent_spans", "true", SLM_UNSUPPORTED, NULL},
                 {"fuse_layers", "true", SLM_UNSUPPORTED, NULL},
                 {"post_fusion_schema", "\"l2l-l2t\"", SLM_UNSUPPORTED, NULL},
                 {"span_encoder_config", "{\"model_type\": \"rnn\"}", SLM_UNSUPPORTED, NULL},
                 {"precomputed_prompts_mode", "true", SLM_UNSUPPORTED, NULL},
                 {"id_to_classes", "{\"1\": \"a\"}", SLM_UNSUPPORTED, NULL},
                 {"encoder_config", NULL, SLM_UNSUPPORTED, NULL},
                 {"encoder_config", "{\"model_type\": \"t5\"}", SLM_UNSUPPORTED, "t5"},
                 {"train_batch_size", "8", SLM_OK, ""},
                 {"something_new", "1", SLM_UNSUPPORTED, NULL}};
    static const char *const files[] = {"model.safetensors", "tokenizer.json", "tokenizer_config.json"};
    char dir[64] = "/tmp/slm_spans_XXXXXX", from[PATH_MAX], to[160], root[PATH_MAX];
    if (!hf_make_dir(dir, sizeof dir) || realpath(golden_root(), root) == NULL)
        test_die("directory", "cannot be made");
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(from, sizeof from, "%.3900s/spans/gliner-deberta/%s", root, files[i]);
        snprintf(to, sizeof to, "%s/%s", dir, files[i]);
        if (symlink(from, to) != 0)
            test_die(to, "cannot be made");
    }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_setting(dir, cases[i].key, cases[i].value, cases[i].status, cases[i].says != NULL ? cases[i].says : cases[i].key);
    hf_delete(dir, "model.safetensors");
    check_setting(dir, "name", "\"x\"", SLM_FORMAT, "model.safetensors");
    hf_remove_dir(dir);
}

int main(void)
{
    check_requests();
    check_settings();
    check_model("gliner-deberta");
    check_model("gliner-bert");
    check_model("gliner-token");
    slm_threads_release();
    TEST_MAIN_END("spans");
}
