/*
 * Requests that are left out of steps, or have a small part of them: their answers are the same, positions add up, nobody is forgotten, and
 * who waits for what another one computes waits without an error.
 */
#include <stdlib.h>
#include <string.h>

#include "slm_test.h"
#include "tiny_model.h"

#define N 14

static slm_model *model;

static slm_session *open_session(uint32_t batch)
{
    slm_limits limits = {(size_t) 4 << 20, batch, 16, 1, NULL, SLM_KV_F16};
    slm_session *s = NULL;
    slm_error err = {0};

    CHECK(slm_session_new(model, &limits, &s, &err) == SLM_OK, "%s", err.message);
    return s;
}

/* A request of any of three kinds. */
static void submit(slm_session *s, int i, uint64_t *id)
{
    static const char *const labels[] = {"first", "second", "third, and longer"};
    char text[160];
    slm_segment segments[2] = {{SLM_ROLE_SYSTEM, SLM_SEG_PREFIX, "Answer in the order in which you were asked, and be brief.", 58}};
    slm_request req = {.chat = true, .segments = segments, .n_segments = 2, .tag = id};
    slm_error err = {0};

    snprintf(text, sizeof text, "number %d of the harbour master's letters, %.*s", i, i * 5,
             "which nobody had ever read aloud before that winter came to us");
    segments[1] = (slm_segment){SLM_ROLE_USER, 0, text, strlen(text)};
    req.mode = i % 3 == 2 ? SLM_MODE_LABELS : SLM_MODE_GENERATE;
    req.max_tokens = 4 + (uint32_t) i;
    req.labels = labels;
    req.n_labels = req.mode == SLM_MODE_LABELS ? 3 : 0;
    CHECK(slm_submit(s, &req, id, &err) == SLM_OK, "%s", err.message);
}

static char *words_of(const slm_result *r)
{
    char *out = malloc(256 + r->text_length);
    size_t n = 0;

    CHECK(r->status == SLM_OK, "%s", r->error.message);
    if (r->text != NULL)
        n = (size_t) sprintf(out, "%s", r->text);
    out[n] = '\0';
    for (size_t i = 0; i < r->n_scores; i++)
        n += (size_t) sprintf(out + n, " %a", (double) r->scores[i]);
    return out;
}

static void collect(slm_session *s, const uint64_t *ids, char **out)
{
    const slm_result *r;

    while ((r = slm_poll(s)) != NULL)
        out[(const uint64_t *) r->tag - ids] = words_of(r);
}

/* One step; what requests had of it adds up. */
static size_t step(slm_session *s, const uint64_t *ids, int n, uint64_t *computed)
{
    slm_session_stats before, after;
    slm_error err = {0};
    uint64_t sum = 0;
    size_t active = 0;

    slm_session_get_stats(s, &before);
    CHECK(slm_step(s, &active, &err) == SLM_OK, "%s", err.message);
    slm_session_get_stats(s, &after);
    for (int i = 0; i < n; i++)
        sum += slm_step_positions(s, ids[i]);
    *computed = after.positions - before.positions;
    CHECK(sum <= *computed, "%llu of %llu positions", (unsigned long long) sum, (unsigned long long) *computed); /* priors are nobody's */
    return active;
}

static void undisturbed(char **out)
{
    slm_session *s = open_session(64);
    uint64_t ids[N], computed;

    for (int i = 0; i < N; i++)
        submit(s, i, &ids[i]);
    while (step(s, ids, N, &computed) > 0)
        collect(s, ids, out);
    collect(s, ids, out);
    slm_session_free(s);
}

static void test_same(uint32_t beside, uint32_t slice, unsigned seed, char *const *right)
{
    slm_session *s = open_session(64);
    uint64_t ids[N], computed;
    char *out[N] = {0};
    int steps = 0;

    slm_session_set_beside(s, beside);
    slm_session_set_slice(s, slice);
    for (int i = 0; i < N; i++) {
        submit(s, i, &ids[i]);
        if (i % 4 == 1)
            slm_urgent(s, ids[i]);
    }
    do {
        for (int i = 0; i < N; i++) {
            seed = seed * 1103515245 + 12345;
            slm_hold(s, ids[i], steps % 3 != 2 && seed >> 16 & 1);
        }
        collect(s, ids, out);
    } while (step(s, ids, N, &computed) > 0 && steps++ < 3000);
    collect(s, ids, out);
    for (int i = 0; i < N; i++) {
        CHECK(out[i] != NULL && strcmp(out[i], right[i]) == 0, "beside %u, request %d: \"%s\", not \"%s\"", beside, i, out[i], right[i]);
        free(out[i]);
    }
    slm_session_free(s);
}

/* All of them, without the urgent ones' help: with room for two positions a step, everybody moves on all the same. */
static void test_turns(void)
{
    slm_session *s = open_session(64);
    uint64_t ids[N], computed, had[N] = {0}, least = UINT64_MAX, most = 0;

    slm_session_set_beside(s, 2);
    for (int i = 0; i < 8; i++)
        submit(s, 3 * (i / 2) + i % 2 + 3, &ids[i]);
    for (int steps = 0; steps < 400; steps++) {
        (void) step(s, ids, 8, &computed);
        CHECK(computed <= 2, "%llu positions", (unsigned long long) computed);
        for (int i = 0; i < 8; i++)
            had[i] += slm_step_positions(s, ids[i]);
    }
    for (int i = 0; i < 8; i++) {
        least = had[i] < least ? had[i] : least;
        most = had[i] > most ? had[i] : most;
    }
    CHECK(least > 0, "somebody had nothing, somebody %llu", (unsigned long long) most);
    slm_session_free(s);
}

static void test_held_leader(void)
{
    slm_session *s = open_session(64);
    uint64_t ids[2], computed;
    char *out[2] = {0};

    submit(s, 0, &ids[0]);
    (void) step(s, ids, 0, &computed); /* is about to be past what both begin with, or has been */
    slm_hold(s, ids[0], true);
    submit(s, 1, &ids[1]);
    slm_hold(s, ids[1], true);
    CHECK(step(s, ids, 2, &computed) == 2 && computed == 0, "all are left out: nothing is computed, and that is no error");
    slm_hold(s, ids[1], false);
    for (int i = 0; i < 300; i++)
        (void) step(s, ids, 2, &computed);
    collect(s, ids, out);
    CHECK(out[0] == NULL, "one that is left out has no answer");
    slm_hold(s, ids[0], false);
    while (step(s, ids, 2, &computed) > 0)
        continue;
    collect(s, ids, out);
    CHECK(out[0] != NULL && out[1] != NULL, "both have theirs");
    free(out[0]);
    free(out[1]);
    slm_session_free(s);
}

int main(void)
{
    char *right[N] = {0};

    model = tiny_model("Q8_0");
    if (model == NULL)
        return 1;
    undisturbed(right);
    for (unsigned seed = 1; seed <= 6; seed++) {
        test_same(0, 0, seed, right);
        test_same(1, 0, seed, right);
        test_same(3, 8, seed, right);
        test_same(40, 16, seed, right);
    }
    test_turns();
    test_held_leader();
    for (int i = 0; i < N; i++)
        free(right[i]);
    slm_model_close(model);
    slm_threads_release();
    TEST_MAIN_END("turns");
}
