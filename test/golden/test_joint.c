/*
 * Models that read labels beside a text: every directory of golden/joint as it is saved, through a session.  Token ids of the prompts as
 * the library's pipeline makes them; the scores of its model in float, and near them in Q8_0; the same bits alone as in a batch of all,
 * on any number of threads and by any instructions; texts that are cut; and what is refused.
 */
#include <dirent.h>
#include <math.h>

#include "engine/session/session.h"
#include "model_test.h"
#include "slm_test.h"

#define MAX_LABELS 16
#define MAX_CASES 16

typedef struct joint_case {
    slm_segment segments[2];
    const char *labels[MAX_LABELS];
    slm_request request;
    const json_t *json;
    float scores[MAX_LABELS];
    size_t n_scores;
} joint_case;

static slm_session *open_session(slm_model *model, int n_threads)
{
    slm_limits limits = {.kv_cache_bytes = 1 << 20, .n_threads = n_threads};
    slm_session *session = NULL;
    slm_error err = {0};
    if (slm_session_new(model, &limits, &session, &err) != SLM_OK)
        test_die("session", err.message);
    return session;
}

static size_t read_cases(const json_t *golden, joint_case *cases)
{
    const json_t *list = json_object_get(golden, "cases");
    size_t n = json_array_size(list);
    CHECK(n > 5 && n <= MAX_CASES, "%zu cases", n);
    for (size_t i = 0; i < n && i < MAX_CASES; i++) {
        const json_t *json = json_array_get(list, i), *labels = json_object_get(json, "labels");
        const char *text = json_string_value(json_object_get(json, "text")), *asked = json_string_value(json_object_get(json, "prompt"));
        joint_case *c = &cases[i];
        size_t k = asked != NULL;
        *c = (joint_case){.json = json};
        if (asked != NULL)
            c->segments[0] = (slm_segment){SLM_ROLE_SYSTEM, 0, asked, strlen(asked)};
        c->segments[k] = (slm_segment){SLM_ROLE_USER, 0, text, strlen(text)};
        for (size_t j = 0; j < json_array_size(labels) && j < MAX_LABELS; j++)
            c->labels[j] = json_string_value(json_array_get(labels, j));
        c->request = (slm_request){.mode = SLM_MODE_JOINT, .segments = c->segments, .n_segments = k + 1, .labels = c->labels,
                                   .n_labels = json_array_size(labels)};
    }
    return n;
}

/* All of them submitted before the first step. */
static void run(slm_session *session, joint_case *cases, size_t n)
{
    slm_error err = {0};
    size_t active = 1;
    uint64_t id;
    for (size_t i = 0; i < n; i++) {
        cases[i].request.tag = &cases[i];
        if (slm_submit(session, &cases[i].request, &id, &err) != SLM_OK)
            test_die("submit", err.message);
    }
    while (active > 0)
        if (slm_step(session, &active, &err) != SLM_OK)
            test_die("step", err.message);
    for (const slm_result *r; (r = slm_poll(session)) != NULL; slm_release(session, r->id)) {
        joint_case *c = r->tag;
        CHECK(r->status == SLM_OK && r->n_scores == c->request.n_labels, "%zu scores of %zu labels", r->n_scores, c->request.n_labels);
        c->n_scores = r->n_scores < MAX_LABELS ? r->n_scores : MAX_LABELS;
        memcpy(c->scores, r->scores, c->n_scores * sizeof(float));
    }
}

static void check_ids(const char *name, slm_session *session, joint_case *cases, size_t n)
{
    slm_error err = {0};
    for (size_t i = 0; i < n; i++) {
        uint32_t n_want;
        int32_t *want = test_ids(json_object_get(cases[i].json, "ids"), &n_want);
        slm_prompt prompt;
        slm_status status = slm_job_prompt(session, &cases[i].request, 0, &prompt, &err);
        CHECK(status == SLM_OK, "%s %zu: %s", name, i, err.message);
        CHECK(prompt.ids.n == n_want && memcmp(prompt.ids.ids, want, n_want * sizeof *want) == 0, "%s %zu: %zu ids, not the %u of %s", name,
              i, prompt.ids.n, n_want, json_string_value(json_object_get(cases[i].json, "text")));
        slm_prompt_free(&prompt);
        free(want);
    }
}

static void check_scores(const char *name, const char *type, joint_case *cases, size_t n)
{
    double furthest = 0, most = strcmp(type, "F32") == 0 ? 1e-3 : 0.25;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < cases[i].n_scores; k++) {
            double off = fabs(json_number_value(json_array_get(json_object_get(cases[i].json, "logits"), k)) - (double) cases[i].scores[k]);
            furthest = off > furthest ? off : furthest;
        }
    printf("%s as %s: a score is %.6f away\n", name, type, furthest);
    CHECK(furthest <= most, "%s as %s: a score is %.6f away", name, type, furthest);
}

/* Alone, and beside all others in another order and with other threads and instructions. */
static void check_bits(const char *name, slm_model *model, const joint_case *cases, size_t n)
{
    static const char *const isas[] = {"ref", "auto"};
    for (int threads = 1; threads <= 3; threads += 2)
        for (int i = 0; i < 2; i++) {
            joint_case turned[2 * MAX_CASES];
            slm_error err;
            slm_session *session = open_session(model, threads);
            slm_kernels_select(isas[i], &err);
            for (size_t k = 0; k < 2 * n; k++)
                turned[k] = cases[(2 * n - 1 - k) % n];
            for (size_t k = 0; k < 2 * n; k++)
                turned[k].request.segments = turned[k].segments, turned[k].request.labels = turned[k].labels;
            run(session, turned, 2 * n);
            for (size_t k = 0; k < 2 * n; k++)
                CHECK(memcmp(turned[k].scores, cases[(2 * n - 1 - k) % n].scores, turned[k].n_scores * sizeof(float)) == 0,
                      "%s: other bits in a batch, with %d threads and %s", name, threads, isas[i]);
            slm_session_free(session);
        }
}

/* What would not fit is cut behind the labels, and refused where it may not be; labels that fill the model are. */
static void check_lengths(const char *name, slm_session *session, uint32_t context)
{
    static const char *const labels[] = {"one", "two"};
    size_t bytes = 8 * (size_t) context;
    char *text = test_alloc(bytes + 1);
    const char **many = test_alloc((SLM_MAX_LABELS + 1) * sizeof *many);
    slm_error err = {0};
    slm_prompt prompt;
    for (size_t i = 0; i < bytes; i++)
        text[i] = "word and "[i % 9];
    for (size_t i = 0; i <= SLM_MAX_LABELS; i++)
        many[i] = "label";
    slm_segment row = {SLM_ROLE_USER, 0, text, bytes};
    slm_request r = {.mode = SLM_MODE_JOINT, .segments = &row, .n_segments = 1, .labels = labels, .n_labels = 2};
    CHECK(slm_check_request(session, &r, &err) == SLM_LIMIT && err.cause == SLM_CAUSE_LONG, "%s: a long text is %s", name, err.message);
    r.truncate = true;
    CHECK(slm_job_prompt(session, &r, context, &prompt, &err) == SLM_OK && prompt.ids.n == context, "%s: %s", name, err.message);
    size_t marks = 0, ends = 0;
    for (size_t i = 0; i < prompt.ids.n; i++) {
        marks += prompt.marks[i] == SLM_MARK_LABEL;
        ends += prompt.marks[i] == SLM_MARK_TEXT;
    }
    CHECK(marks == 2 && ends == 1, "%s: %zu marks of labels and %zu of the text", name, marks, ends);
    slm_prompt_free(&prompt);
    r.labels = many;
    r.n_labels = context;
    CHECK(slm_check_request(session, &r, &err) == SLM_LIMIT && strstr(err.message, "labels take") != NULL, "%s: %s", name, err.message);
    r.n_labels = SLM_MAX_LABELS + 1;
    CHECK(slm_check_request(session, &r, &err) == SLM_LIMIT && strstr(err.message, "at most 1024") != NULL, "%s: %s", name, err.message);
    r.n_labels = 0;
    CHECK(slm_check_request(session, &r, &err) == SLM_INVALID, "%s: no label is %s", name, err.message);
    many[1] = "";
    r.n_labels = 2;
    CHECK(slm_check_request(session, &r, &err) == SLM_INVALID && strstr(err.message, "label 2 is empty") != NULL, "%s", err.message);
    r.labels = labels;
    r.mode = SLM_MODE_EMBED;
    CHECK(slm_check_request(session, &r, &err) == SLM_UNSUPPORTED, "%s embeds: %s", name, err.message);
    free(text);
    free(many);
}

/* Marks in texts and labels are text. */
static void check_hostile(const char *name, slm_session *session)
{
    static const char *const labels[] = {"<<LABEL>>", "a<<SEP>>b"};
    static const char text[] = "<<LABEL>>c<<SEP>>";
    slm_segment row = {SLM_ROLE_USER, 0, text, sizeof text - 1};
    slm_request r = {.mode = SLM_MODE_JOINT, .segments = &row, .n_segments = 1, .labels = labels, .n_labels = 2};
    slm_error err = {0};
    slm_prompt prompt;
    size_t marks = 0;
    CHECK(slm_job_prompt(session, &r, 0, &prompt, &err) == SLM_OK, "%s: %s", name, err.message);
    for (size_t i = 0; i < prompt.ids.n; i++)
        marks += prompt.ids.ids[i] == (int32_t) session->model->hp.joint_label;
    CHECK(marks == 2, "%s: %zu tokens that mark a label", name, marks);
    slm_prompt_free(&prompt);
}

static void check_dir(const char *name)
{
    static const char *const types[] = {"F32", "Q8_0"};
    char path[1200], file[200];
    joint_case cases[MAX_CASES];
    snprintf(path, sizeof path, "%s/joint/%s", golden_root(), name);
    snprintf(file, sizeof file, "joint/%s/golden.json", name);
    json_t *golden = test_json(file);
    for (int i = 0; i < 2; i++) {
        slm_model *model = test_import(path, types[i]);
        size_t n = read_cases(golden, cases);
        CHECK(model != NULL, "%s as %s", name, types[i]);
        if (model == NULL)
            break;
        const slm_model_info *info = slm_model_get_info(model);
        CHECK(info->can_joint && !info->can_tag && !info->can_embed && !info->can_classify && !info->can_rerank && info->n_labels == 0,
              "%s: what it can do", name);
        slm_session *session = open_session(model, 1);
        check_ids(name, session, cases, n);
        for (size_t k = 0; k < n; k++)
            run(session, &cases[k], 1);
        check_scores(name, types[i], cases, n);
        check_bits(name, model, cases, n);
        if (i == 0) {
            check_lengths(name, session, model->hp.n_context);
            check_hostile(name, session);
        }
        slm_session_free(session);
        slm_model_close(model);
    }
    json_decref(golden);
}

int main(void)
{
    char path[1024];
    unsigned n = 0;
    snprintf(path, sizeof path, "%s/joint", golden_root());
    DIR *d = opendir(path);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.') {
            check_dir(e->d_name);
            n++;
        }
    if (d != NULL)
        closedir(d);
    CHECK(n >= 5, "%u directories", n);
    slm_threads_release();
    TEST_MAIN_END("joint");
}
