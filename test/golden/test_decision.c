/*
 * GGUF files of the architecture modern-bert (golden/decision): an embedding model, and decision models with each template, activation and
 * tokenizer that is known.  Token ids of whole prompts, marks of options and scores are those of llama.cpp, whose tokenizer and graph the
 * cases were made with; the same bits alone and in any batch on any number of threads; near enough in Q8_0.  A file of which one key or
 * shape says something else is refused by its name.
 */
#include <math.h>
#include <sys/stat.h>

#include "model_test.h"
#include "slm_test.h"

#define MAX_CASES 64
#define MAX_LABELS 16

typedef struct answer {
    size_t n;
    float scores[64];
} answer;

static const char *path_of(const char *name)
{
    static char path[2048];
    snprintf(path, sizeof path, "%s/decision/%s.gguf", golden_root(), name);
    return path;
}

static slm_session *open_session(slm_model *model, int n_threads)
{
    slm_limits limits = {.n_threads = n_threads};
    slm_session *session = NULL;
    slm_error err = {0};
    if (slm_session_new(model, &limits, &session, &err) != SLM_OK)
        test_die("session", err.message);
    return session;
}

static void finish(slm_session *session)
{
    slm_error err = {0};
    size_t active = 1;
    while (active > 0)
        if (slm_step(session, &active, &err) != SLM_OK)
            test_die("step", err.message);
    for (const slm_result *r; (r = slm_poll(session)) != NULL; slm_release(session, r->id)) {
        answer *a = r->tag;
        a->n = r->status == SLM_OK ? r->n_scores : 0;
        memcpy(a->scores, r->scores, (a->n < 64 ? a->n : 64) * sizeof *a->scores);
    }
}

static const char *text_of(const json_t *c, const char *key)
{
    return json_string_value(json_object_get(c, key));
}

static bool is_statement(const json_t *c)
{
    return strcmp(text_of(c, "kind"), "noul") == 0;
}

/* A case as a request: of a statement the question is what is to be decided. */
static void submit(slm_session *session, const slm_model *model, const json_t *c, answer *out)
{
    const char *labels[MAX_LABELS], *descriptions[MAX_LABELS], *question = text_of(c, "question"), *text = text_of(c, "text");
    const json_t *named = json_object_get(c, "labels"), *described = json_object_get(c, "descriptions");
    slm_segment segments[2] = {{SLM_ROLE_SYSTEM, 0, question, strlen(question)}, {SLM_ROLE_USER, 0, text, strlen(text)}};
    slm_request request = {.mode = SLM_MODE_JOINT, .segments = segments, .n_segments = 2, .truncate = true, .tag = out, .labels = labels};
    slm_error err = {0};
    uint64_t id;
    size_t n = 0;
    request.n_labels = json_array_size(named);
    for (size_t i = 0; i < request.n_labels && i < MAX_LABELS; i++) {
        labels[i] = json_string_value(json_array_get(named, i));
        descriptions[i] = json_string_value(json_array_get(described, i));
    }
    request.descriptions = json_is_array(described) ? descriptions : NULL;
    if (is_statement(c)) {
        request.segments = &segments[1];
        request.n_segments = request.n_labels = 1;
        labels[0] = question;
    }
    if (slm_prompt_tokens(session, &request, &n, &err) != SLM_OK || slm_submit(session, &request, &id, &err) != SLM_OK)
        test_die(text, err.message);
    size_t want = json_array_size(json_object_get(c, "ids")), most = slm_model_get_info(model)->n_context;
    CHECK(want == (n < most ? n : most), "a prompt of %zu tokens, not %zu", n, want);
}

/* How far the scores are from the reference's, at most. */
static double off(const json_t *c, const answer *a)
{
    const json_t *want = json_object_get(c, "scores");
    double most = json_array_size(want) == a->n ? 0 : INFINITY;
    for (size_t i = 0; i < a->n && most < INFINITY; i++)
        most = fmax(most, fabs(json_number_value(json_array_get(want, i)) - (double) a->scores[i]));
    return most;
}

/* All cases of a file as F32 (within 1e-3) or Q8_0, alone; then in batches on several threads. */
static void check_asked(const char *name, const json_t *cases, const char *type)
{
    slm_model *model = test_import(path_of(name), type);
    size_t n = json_array_size(cases);
    answer *alone = test_alloc(MAX_CASES * sizeof *alone), *together = test_alloc(MAX_CASES * sizeof *together);
    bool exact = strcmp(type, "F32") == 0;
    double worst = 0, sum = 0;
    CHECK(model != NULL && n > 0 && n <= MAX_CASES, "%s does not load", name);
    if (model == NULL)
        return;
    const slm_model_info *info = slm_model_get_info(model);
    CHECK(info->can_joint && info->can_decide && !info->can_tag && !info->can_embed && !info->can_rerank && !info->can_classify,
          "%s can something else", name);
    slm_session *session = open_session(model, 1);
    for (size_t i = 0; i < n; i++) {
        submit(session, model, json_array_get(cases, i), &alone[i]);
        finish(session);
        double away = off(json_array_get(cases, i), &alone[i]);
        worst = fmax(worst, away);
        sum += away;
        CHECK(away <= (exact ? 1e-3 : 0.3), "%s as %s, case %zu: a score is %.5f away", name, type, i, away);
    }
    CHECK(sum / (double) n <= (exact ? 5e-4 : 0.08), "%s as %s: scores are %.5f away on average", name, type, sum / (double) n);
    printf("# %s as %s: %zu cases, scores within %.5f\n", name, type, n, worst);
    slm_session_free(session);
    for (int threads = 1; threads <= 3; threads += 2) {
        session = open_session(model, threads);
        for (size_t i = 0; i < n; i++)
            submit(session, model, json_array_get(cases, (i * 5 + 1) % n), &together[(i * 5 + 1) % n]);
        finish(session);
        for (size_t i = 0; i < n; i++)
            CHECK(alone[i].n == together[i].n && memcmp(alone[i].scores, together[i].scores, alone[i].n * sizeof(float)) == 0,
                  "%s as %s, case %zu: other bits in a batch on %d threads", name, type, i, threads);
        slm_session_free(session);
    }
    slm_model_close(model);
    free(alone);
    free(together);
}

static answer told(slm_session *session, const char *system, const char *label, const char *description, const char *other)
{
    const char *labels[2] = {label, other}, *descriptions[2] = {description, NULL};
    slm_segment segments[2] = {{SLM_ROLE_SYSTEM, 0, system, strlen(system)}, {SLM_ROLE_USER, 0, "Not a word.", 11}};
    answer a = {0};
    slm_request request = {.mode = SLM_MODE_JOINT, .segments = segments, .n_segments = 2, .tag = &a, .labels = labels,
                           .n_labels = other == NULL ? 1 : 2, .descriptions = descriptions};
    slm_error err = {0};
    uint64_t id;
    if (slm_submit(session, &request, &id, &err) != SLM_OK)
        test_die(label, err.message);
    finish(session);
    return a;
}

/* White space behind a question is none of it; a statement that is described is one with its description. */
static void check_told(const char *name)
{
    slm_model *model = test_import(path_of(name), "F32");
    CHECK(model != NULL, "%s does not load", name);
    if (model == NULL)
        return;
    slm_session *session = open_session(model, 1);
    answer plain = told(session, "Which?", "delivery", NULL, "other"), spaced = told(session, "Which? \n", "delivery", NULL, "other");
    answer whole = told(session, "Is it so?", "late: after Monday", NULL, NULL), bare = told(session, "Is it so?", "late", NULL, NULL),
           apart = told(session, "Is it so?\n", "late", "after Monday", NULL);
    CHECK(plain.n == 2 && spaced.n == 2 && memcmp(plain.scores, spaced.scores, 2 * sizeof *plain.scores) == 0,
          "%s: a question's end counts", name);
    CHECK(whole.n == 1 && apart.n == 1 && memcmp(whole.scores, apart.scores, sizeof *whole.scores) == 0,
          "%s: a described statement", name);
    CHECK(bare.n == 1 && memcmp(whole.scores, bare.scores, sizeof *whole.scores) != 0,
          "%s: a description does not count", name);
    slm_session_free(session);
    slm_model_close(model);
}

static void check_embedded(const json_t *cases, const char *type)
{
    slm_model *model = test_import(path_of("embeds"), type);
    CHECK(model != NULL, "an embedding model does not load");
    if (model == NULL)
        return;
    slm_session *session = open_session(model, 2);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i), *want = json_object_get(c, "embedding");
        const char *text = text_of(c, "text");
        slm_segment segment = {SLM_ROLE_USER, 0, text, strlen(text)};
        answer a = {0};
        slm_request request = {.mode = SLM_MODE_EMBED, .segments = &segment, .n_segments = 1, .tag = &a};
        slm_error err = {0};
        uint64_t id;
        if (slm_submit(session, &request, &id, &err) != SLM_OK)
            test_die(text, err.message);
        finish(session);
        double cosine = 0;
        for (size_t k = 0; k < a.n && k < 64; k++)
            cosine += json_number_value(json_array_get(want, k)) * (double) a.scores[k];
        CHECK(a.n == json_array_size(want) && cosine >= (strcmp(type, "F32") == 0 ? 0.99999 : 0.99), "embeds as %s, text %zu: cosine %.7f",
              type, i, cosine);
    }
    slm_session_free(session);
    slm_model_close(model);
}

/* ---- files that say something else */

typedef struct file {
    unsigned char *bytes;
    size_t n;
} file;

static file read_file(const char *name)
{
    file f = {0};
    struct stat st;
    FILE *in = fopen(path_of(name), "rb");
    if (in == NULL || fstat(fileno(in), &st) != 0)
        test_die(name, "cannot be read");
    f.n = (size_t) st.st_size;
    f.bytes = test_alloc(f.n);
    if (fread(f.bytes, 1, f.n, in) != f.n)
        test_die(name, "cannot be read");
    fclose(in);
    return f;
}

/* Where a string of the file (a key, or a tensor's name) ends. */
static unsigned char *behind(const file *f, const char *string)
{
    uint64_t n = strlen(string);
    for (size_t i = 0; i + 8 + n < f->n; i++)
        if (memcmp(f->bytes + i, &n, 8) == 0 && memcmp(f->bytes + i + 8, string, n) == 0)
            return f->bytes + i + 8 + n;
    test_die(string, "is not in the file");
    return NULL;
}

/* The file must be refused, and the message name `word`. */
static void check_refused(const file *f, const char *what, const char *word)
{
    char path[] = "/tmp/slm_decision_XXXXXX", image[64];
    int fd = mkstemp(path);
    slm_model_info info;
    slm_error err = {0};
    if (fd < 0 || write(fd, f->bytes, f->n) != (ssize_t) f->n)
        test_die(path, "cannot be written");
    snprintf(image, sizeof image, "%s.slm", path);
    slm_status status = slm_import(path, image, NULL, NULL, NULL, NULL, &info, &err);
    CHECK(status == SLM_FORMAT || status == SLM_UNSUPPORTED, "%s: status %d", what, (int) status);
    CHECK(strstr(err.message, word) != NULL, "%s: \"%s\" does not name %s", what, err.message, word);
    close(fd);
    unlink(path);
    unlink(image);
}

/* Four bytes of a key's value (behind its type), or `at` bytes further. */
static void refuse_value(const char *name, const char *key, size_t at, uint32_t value, const char *word)
{
    file f = read_file(name);
    memcpy(behind(&f, key) + 4 + at, &value, 4);
    check_refused(&f, key, word);
    free(f.bytes);
}

/* Another text in place of one of the same length, from behind `key` on. */
static void refuse_text(const char *name, const char *key, const char *from, const char *to, const char *word)
{
    file f = read_file(name);
    unsigned char *p = key != NULL ? behind(&f, key) : f.bytes;
    p = memmem(p, f.n - (size_t) (p - f.bytes), from, strlen(from));
    if (p == NULL)
        test_die(from, "is not in the file");
    memcpy(p, to, strlen(to));
    check_refused(&f, from, word);
    free(f.bytes);
}

static uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}

static void check_keys(void)
{
    static const struct { const char *key; uint32_t value; } numbers[] = {
        {"modern-bert.decision.block_count", 0},          {"modern-bert.decision.block_count", 6},
        {"modern-bert.decision.block_count", 1},          {"modern-bert.decision.block_count", UINT32_MAX},
        {"modern-bert.decision.max_head_tokens", 0},      {"modern-bert.decision.max_head_tokens", 65537},
        {"tokenizer.ggml.token_type_count", 2},           {"tokenizer.ggml.token_type_count", 4},
        {"tokenizer.ggml.mask_token_id", 278},            {"tokenizer.ggml.seperator_token_id", 278},
        {"modern-bert.block_count", 2},                   {"modern-bert.attention.sliding_window_pattern", 0},
        {"modern-bert.attention.sliding_window_pattern", 1}, {"modern-bert.attention.head_count", 3},
    };
    static const float temperatures[] = {0, -1, 1e-4f, 1e4f, NAN, INFINITY};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        refuse_value("laya", numbers[i].key, 0, numbers[i].value, "");
    for (size_t i = 0; i < sizeof temperatures / sizeof *temperatures; i++)
        refuse_value("laya", "modern-bert.decision.temperature.choice.3_5", 0, bits_of(temperatures[i]), "temperature.choice.3_5");
    refuse_value("laya", "modern-bert.attention.layer_norm_epsilon", 0, bits_of(NAN), "layer_norm_epsilon");
    refuse_value("laya", "modern-bert.feed_forward_length", 4 + 8 + 4 * 5, 0, "feed_forward_length");      /* of the last layer */
    refuse_value("laya", "modern-bert.feed_forward_length", 4 + 8 + 4 * 2, 96, "feed_forward_length");     /* of one of the text's */
    refuse_value("d1", "lfm2.attention.head_count_kv", 4 + 8 + 4 * 5, 1, "head_count_kv");
    refuse_value("d1", "lfm2.attention.head_count_kv", 4 + 8 + 4 * 1, 3, "head_count_kv");
    refuse_value("d1", "lfm2.shortconv.l_cache", 0, 4, "l_cache");
    refuse_value("d1", "lfm2.decision.block_count", 0, 7, "block_count");
    refuse_text("laya", "modern-bert.decision.type", "laya", "lava", "\"lava\"");
    refuse_text("laya", "modern-bert.decision.type", "laya", "kev2", "\"kev2\"");
    refuse_text("laya", NULL, "decision.max_head_tokens", "decision.max_head_tokenz", "max_head_tokenz");
    refuse_text("laya", NULL, "temperature.score", "temperature.scale", "temperature.scale");
    refuse_text("laya", NULL, "{{ type }} question: ", "{{ type }} enquiry:  ", "systemone");
    refuse_text("layered", NULL, "{% else %}{{ o.key }}{% endif %}", "{% else %}{{ o.Key }}{% endif %}", "systemone");
    refuse_text("layered", "modern-bert.hidden_activation", "silu", "relu", "hidden_activation");
    refuse_text("d1", NULL, "<|reserved_8|>{{", "<|reserved_9|>{{", "systemone");
    refuse_text("laya", NULL, "cls.norm.bias", "cls.norm.bios", "cls.norm.bias");
    refuse_text("laya", NULL, "blk.4.attn_qkv.bias", "blk.3.attn_qkv.bias", "attn_qkv.bias");
    refuse_value("laya", "cls.output.weight", 0, 31, "cls.output.weight");
    refuse_value("laya", "token_types.weight", 8, 2, "token_types.weight");
    refuse_value("embeds", "modern-bert.pooling_type", 0, 4, "classification head");
}

int main(void)
{
    static const char *const names[] = {"laya", "layered", "julia", "d1"};
    json_t *all = test_json("decision/cases.json");
    if (all == NULL)
        test_die("decision/cases.json", "cannot be read");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const json_t *cases = json_object_get(json_object_get(all, names[i]), "ask");
        check_asked(names[i], cases, "F32");
        check_asked(names[i], cases, "Q8_0");
    }
    const json_t *embedded = json_object_get(json_object_get(all, "embeds"), "embed");
    check_told("laya");
    check_told("julia");
    check_told("d1");
    check_embedded(embedded, "F32");
    check_embedded(embedded, "Q8_0");
    json_decref(all);
    check_keys();
    slm_threads_release();
    TEST_MAIN_END("decision");
}
