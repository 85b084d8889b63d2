/*
 * Sessions on a tiny random model: every mode, bad requests, budgets, cancelling, memory, and that an answer depends on its request alone.
 *
 * The tiny model knows bytes and babbles, which is what these tests need: answers full of broken UTF-8, label sets of any shape.
 */
#include <malloc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <signal.h>

#include "engine/base/utf8.h"
#include "slm_test.h"
#include "tiny_session.h"

/* Runs one request; the result belongs to the session. NULL when submit fails. */
static const slm_result *run(slm_session *s, const slm_request *r, slm_error *err)
{
    uint64_t id;

    if (slm_submit(s, r, &id, err) != SLM_OK)
        return NULL;
    drain(s);
    return slm_poll(s);
}

/* ---- generation */

static const char *const texts[] = {"The quick brown fox",
                                    "jumps over",
                                    "the lazy dog",
                                    "",
                                    "a",
                                    "PostgreSQL is a database",
                                    "\xc3\xa4\xc3\xb6",
                                    "Summaries of long documents are short documents that keep what matters."};
#define N_TEXTS 40

static void text_of(int i, char *out)
{
    sprintf(out, "%s %d %s", texts[i % 8], i, texts[(i / 8) % 8]);
}

/* Answers of N_TEXTS requests, submitted all together or one by one. */
static void answers(size_t kv_kib, uint32_t batch, uint32_t sequences, int threads, float temperature, bool fresh, char **out)
{
    slm_session *s = open_session(kv_kib, batch, sequences, threads);
    uint64_t ids[N_TEXTS];
    slm_error err = {0};
    const slm_result *r;
    size_t active;

    for (int i = 0; i < N_TEXTS; i++) {
        char text[200];
        slm_segment segments[2] = {{SLM_ROLE_SYSTEM, SLM_SEG_PREFIX, "You are a helpful assistant for tests.", 38}};
        slm_request req = {.mode = SLM_MODE_GENERATE,
                           .chat = true,
                           .segments = segments,
                           .n_segments = 2,
                           .max_tokens = 5 + (uint32_t) i % 30,
                           .sampling = {temperature, i % 3 ? 0 : 20, i % 2 ? 1 : 0.9f, 0, i % 5 ? 1 : 1.3f, (uint64_t) i}};

        text_of(i, text);
        segments[1] = user(text);
        req.speculate = !fresh && i % 2 == 0;
        if (fresh) {
            slm_session_free(s);
            s = open_session(kv_kib, batch, sequences, threads);
        }
        CHECK(slm_submit(s, &req, &ids[i], &err) == SLM_OK, "%s", err.message);
        if (fresh || i % 7 == 0)
            slm_step(s, &active, &err);
        if (fresh) {
            drain(s);
            r = slm_poll(s);
            out[i] = strdup(r->text);
            CHECK(r->usage.reused_tokens == 0, "nothing to reuse");
        }
    }
    if (!fresh)
        drain(s);
    while ((r = slm_poll(s)) != NULL) {
        int i = 0;

        while (ids[i] != r->id)
            i++;
        CHECK(r->status == SLM_OK && slm_utf8_valid_prefix(r->text, r->text_length) == r->text_length, "%s", r->error.message);
        CHECK(r->usage.output_tokens <= 5 + (uint32_t) i % 30, "%llu tokens", (unsigned long long) r->usage.output_tokens);
        out[i] = strdup(r->text);
        slm_release(s, r->id);
    }
    slm_session_free(s);
}

static void test_invariance(void)
{
    char *want[N_TEXTS], *got[N_TEXTS];
    const struct {
        size_t kv;
        uint32_t batch, sequences;
        int threads;
    } ways[] = {{4096, 0, 0, 1}, {4096, 0, 0, 2}, {4096, 16, 1, 1}, {4096, 33, 7, 2}, {64, 0, 0, 1}};

    for (int t = 0; t < 2; t++) {
        int nonempty = 0;

        answers(4096, 0, 0, 1, (float) t, true, want);
        for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
            int different = 0;

            answers(ways[w].kv, ways[w].batch, ways[w].sequences, ways[w].threads, (float) t, false, got);
            for (int i = 0; i < N_TEXTS; i++) {
                different += strcmp(want[i], got[i]) != 0;
                nonempty += got[i][0] != '\0';
                free(got[i]);
            }
            CHECK(different == 0, "way %zu, temperature %d: %d answers differ", w, t, different);
        }
        CHECK(nonempty > 100, "%d answers with text", nonempty);
        for (int i = 0; i < N_TEXTS; i++)
            free(want[i]);
    }
}

/* Guessing saves steps where answers repeat themselves (a penalty below 1 makes babble run in circles), and changes nothing. */
static void test_speculation(void)
{
    uint64_t steps[2];
    static char text[2][10][2000];
    int different = 0;

    for (int guess = 0; guess < 2; guess++) {
        slm_session *s = open_session(4096, 0, 0, 1);
        slm_session_stats stats;
        slm_error err = {0};

        for (int i = 0; i < 10; i++) {
            char prompt[200];
            slm_segment segment;
            slm_request req = {.mode = SLM_MODE_GENERATE, .chat = true, .segments = &segment, .n_segments = 1, .max_tokens = 300,
                               .sampling = {.repeat_penalty = 0.4f}, .speculate = guess == 1};
            const slm_result *r;

            text_of(i, prompt);
            segment = user(prompt);
            r = run(s, &req, &err);
            CHECK(r != NULL && r->text_length < sizeof text[0][0], "%s", err.message);
            strcpy(text[guess][i], r->text);
            different += guess == 1 && strcmp(text[0][i], text[1][i]) != 0;
        }
        slm_session_get_stats(s, &stats);
        steps[guess] = stats.usage.steps;
        slm_session_free(s);
    }
    CHECK(different == 0, "%d answers differ", different);
    CHECK(steps[1] * 8 < steps[0] * 7, "%llu steps with guesses, %llu without", (unsigned long long) steps[1],
          (unsigned long long) steps[0]);
}

static void test_stream_and_stops(void)
{
    slm_session *s = open_session(4096, 0, 0, 1);
    slm_segment segment = user("tell me");
    slm_request req = {.mode = SLM_MODE_GENERATE, .chat = true, .segments = &segment, .n_segments = 1, .max_tokens = 60,
                       .sampling = {.temperature = 1.5f, .seed = 5}, .stream = true};
    slm_error err = {0};
    char whole[1000], stop[8] = "", streamed[1000] = "", *text = NULL;
    const char *stops[] = {stop}, *piece;
    const slm_result *r = run(s, &req, &err);
    uint64_t id;
    size_t n, active = 1, length;

    CHECK(r != NULL && r->text_length > 20, "an answer to cut");
    strcpy(whole, r->text);
    CHECK(slm_detokenize(model, r->tokens, r->n_tokens, false, NULL, &text, &length, &err) == SLM_OK && strcmp(text, whole) == 0,
          "the text is what its tokens say: \"%s\" \"%s\"", text, whole);
    free(text);
    for (n = r->text_length / 2; !slm_utf8_is_start(whole[n]); n++)
        ;
    for (length = n + 1; !slm_utf8_is_start(whole[length]); length++)
        ;
    for (length++; !slm_utf8_is_start(whole[length]); length++)
        ;
    memcpy(stop, whole + n, length - n);
    req.stops = stops;
    req.n_stops = 1;
    slm_submit(s, &req, &id, &err);
    while (active > 0) {
        slm_step(s, &active, &err);
        while (slm_next_piece(s, id, &piece, &length))
            strncat(streamed, piece, length);
    }
    r = slm_poll(s);
    n = (size_t) (strstr(whole, stop) - whole);
    CHECK(r->finish == SLM_FINISH_STOP && r->text_length == n && strncmp(r->text, whole, n) == 0, "cut before the stop string");
    CHECK(strcmp(streamed, r->text) == 0, "streamed \"%s\", text \"%s\"", streamed, r->text);
    slm_session_free(s);
}

/* ---- labels */

/* log p(next | text) for each byte of label and the end token, from LOGPROBS. */
static void label_logprobs(slm_session *s, const char *prompt, const char *label, float *out)
{
    char marked[100];
    slm_segment segments[2] = {user(prompt), {SLM_ROLE_USER, SLM_SEG_SCORED | SLM_SEG_SPECIAL, marked, 0}};
    slm_request req = {.mode = SLM_MODE_LOGPROBS, .segments = segments, .n_segments = 2};
    slm_error err = {0};
    const slm_result *r;

    segments[1].length = (size_t) sprintf(marked, "%s<|im_end|>", label);
    r = run(s, &req, &err);
    CHECK(r != NULL && r->n_scores == strlen(label) + 1, "scores of a label");
    for (size_t i = 0; i <= strlen(label); i++)
        out[i] = r->scores[i];
    slm_release(s, r->id);
}

/* Probability of each label by the definition, from whole-vocabulary log probabilities. */
static void expected(slm_session *s, const char *prompt, const char *const *labels, int n, double *out)
{
    static float lp[16][100];

    for (int i = 0; i < n; i++)
        label_logprobs(s, prompt, labels[i], lp[i]);
    for (int i = 0; i < n; i++) {
        out[i] = 0;
        for (size_t k = 0; k <= strlen(labels[i]); k++) {
            double sum = 0;
            bool seen[257] = {false};

            for (int j = 0; j < n; j++) {
                int next = strncmp(labels[i], labels[j], k) != 0 ? -1 : labels[j][k] == '\0' ? 256 : (unsigned char) labels[j][k];

                if (next >= 0 && !seen[next]) {
                    seen[next] = true;
                    sum += exp((double) lp[j][k]);
                }
            }
            out[i] += (double) lp[i][k] - log(sum);
        }
    }
}

static slm_request label_request(slm_segment *segment, const char *const *labels, size_t n)
{
    return (slm_request){.mode = SLM_MODE_LABELS, .segments = segment, .n_segments = 1, .labels = labels, .n_labels = n};
}

static void test_labels(void)
{
    static const char *const labels[] = {"card lost", "card stolen", "card", "refund", "refunds", "rate", "top up", "\xc3\xa4"};
    slm_session *s = open_session(4096, 0, 0, 1);
    slm_segment segment = user("my card was taken: ");
    slm_request req = label_request(&segment, labels, 8);
    slm_error err = {0};
    const slm_result *r = run(s, &req, &err);
    double want[8], sum = 0, prior[8], total = 0;

    CHECK(r != NULL && r->n_scores == 8, "%s", err.message);
    expected(s, segment.text, labels, 8, want);
    for (int i = 0; i < 8; i++) {
        sum += exp((double) r->scores[i]);
        CHECK(fabs((double) r->scores[i] - want[i]) < 1e-4, "label %d: %g, by definition %g", i, (double) r->scores[i], want[i]);
    }
    CHECK(fabs(sum - 1) < 1e-6, "labels sum to %.9f", sum);
    expected(s, "N/A", labels, 8, prior);
    for (int i = 0; i < 8; i++)
        total += exp(want[i] - prior[i]);
    req.prior_text = "N/A";
    for (int round = 0; round < 2; round++) {
        r = run(s, &req, &err);
        for (int i = 0; i < 8; i++)
            CHECK(fabs((double) r->scores[i] - (want[i] - prior[i] - log(total))) < 1e-4, "label %d with prior", i);
    }
    req.n_labels = 1;
    r = run(s, &req, &err);
    CHECK(r != NULL && r->n_scores == 1 && r->scores[0] == 0, "a single label is certain");
    slm_session_free(s);
}

/* Many random labels: the same scores in any batch and budget, and best_only finds the same winner with less work. */
static void test_many_labels(void)
{
    enum { ROWS = 24, LABELS = 300 };
    static char text[LABELS][12];
    static const char *labels[LABELS];
    static float scores[ROWS][LABELS];
    uint32_t best[ROWS];
    slm_error err = {0};
    uint64_t positions[4] = {0};

    for (int i = 0; i < LABELS; i++) {
        uint64_t x = slm_rng_at(3, (uint64_t) i);

        sprintf(text[i], "%c%c%d", 'a' + (int) (x % 4), 'a' + (int) (x / 4 % 4), i);
        labels[i] = text[i];
    }
    for (int way = 0; way < 4; way++) {
        slm_session *s = way == 1 ? open_session(180, 40, 3, 2) : open_session(8192, 0, way == 3, 1);
        slm_segment segments[ROWS];
        char row[ROWS][200];
        uint64_t ids[ROWS];
        const slm_result *r;
        slm_session_stats stats;
        int wrong = 0;

        for (int i = 0; i < ROWS; i++) {
            slm_request req;

            text_of(i, row[i]);
            segments[i] = user(row[i]);
            req = label_request(&segments[i], labels, LABELS);
            req.chat = true;
            req.prior_text = i % 2 ? "nothing" : NULL;
            req.best_only = way >= 2;
            CHECK(slm_submit(s, &req, &ids[i], &err) == SLM_OK, "%s", err.message);
        }
        drain(s);
        while ((r = slm_poll(s)) != NULL) {
            int i = 0;

            while (ids[i] != r->id)
                i++;
            CHECK(r->status == SLM_OK, "%s", r->error.message);
            if (way == 0) {
                memcpy(scores[i], r->scores, sizeof scores[i]);
                best[i] = r->best;
            } else {
                wrong += r->best != best[i] || (way == 1 && memcmp(scores[i], r->scores, sizeof scores[i]) != 0);
            }
        }
        slm_session_get_stats(s, &stats);
        positions[way] = stats.positions;
        CHECK(wrong == 0, "way %d: %d rows differ", way, wrong);
        slm_session_free(s);
    }
    CHECK(positions[2] * 4 < positions[0] * 3, "best_only computes %llu positions, all labels %llu", (unsigned long long) positions[2],
          (unsigned long long) positions[0]);
}

/* A prefix that many requests declare is computed once, whoever comes first, in any batch. */
static void test_prefix_once(void)
{
    static const char *const labels[] = {"one", "two"};
    char prefix[301];
    slm_segment segments[2] = {{SLM_ROLE_SYSTEM, SLM_SEG_PREFIX, prefix, 300}};
    slm_error err = {0};

    memset(prefix, 'p', 300);
    for (uint32_t batch = 50; batch < 600; batch += 250) {
        slm_session *s = open_session(4096, batch, 0, 1);
        slm_session_stats stats;
        size_t total = 0, shared = SIZE_MAX;
        const slm_result *r;
        uint64_t id;

        for (int i = 0; i < 60; i++) {
            char text[200];
            slm_request req = {.mode = i % 2 ? SLM_MODE_LABELS : SLM_MODE_GENERATE, .chat = true, .segments = segments, .n_segments = 2,
                               .max_tokens = 1, .labels = labels, .n_labels = 2};

            text_of(i, text);
            segments[1] = user(text);
            CHECK(slm_submit(s, &req, &id, &err) == SLM_OK, "%s", err.message);
        }
        drain(s);
        while ((r = slm_poll(s)) != NULL) {
            total += r->usage.prompt_tokens - r->usage.reused_tokens;
            if (r->usage.reused_tokens > 0 && r->usage.reused_tokens < shared)
                shared = r->usage.reused_tokens;
        }
        slm_session_get_stats(s, &stats);
        CHECK(shared > 300 && total == stats.usage.prompt_tokens - stats.usage.reused_tokens, "%zu tokens shared", shared);
        CHECK(total < shared + 60 * 120, "%zu tokens computed, the prefix has %zu", total, shared);
        CHECK(stats.usage.reused_tokens >= 59 * shared, "%llu tokens reused", (unsigned long long) stats.usage.reused_tokens);
        slm_session_free(s);
    }
}

/* ---- log probabilities */

/* ---- realms */

typedef struct seen {
    uint32_t prompt, reused, labels, best;
    char text[64];
} seen;

/* Request number i of a realm: the same texts in each, so that all that could be shared would be. */
static void realm_request(int i, uint64_t realm, slm_request *req, slm_segment *segments)
{
    static const char *const labels[] = {"billing", "delivery", "bill", "other"};
    static const char system[] = "The launch code is 4711; nobody else must come to know of it.";
    static char users[8][100];

    sprintf(users[i], "A text that begins as the others do and goes on as number %d", i);
    segments[0] = (slm_segment){SLM_ROLE_SYSTEM, SLM_SEG_PREFIX, system, sizeof system - 1};
    segments[1] = user(users[i]);
    *req = (slm_request){.mode = SLM_MODE_GENERATE, .realm = realm, .chat = true, .segments = segments, .n_segments = 2, .max_tokens = 6,
                         .sampling = {.top_p = 1, .repeat_penalty = 1}};
    if (i % 2 == 1) {
        req->mode = SLM_MODE_LABELS;
        req->labels = labels;
        req->n_labels = 4;
        req->prior_text = i % 4 == 1 ? "" : NULL;
    }
}

/* What the answers took, added up, is what the session took, also where requests share a pass or a prior. */
static void check_usage(const slm_session *s, const slm_usage *sum)
{
    slm_session_stats stats;

    slm_session_get_stats(s, &stats);
    stats.usage.output_tokens = sum->output_tokens; /* which has no end token */
    CHECK(sum->prefill_ns > 0 && sum->cpu_ns > 0 && sum->steps >= stats.usage.steps, "%u steps", (unsigned) sum->steps);
    stats.usage.steps = sum->steps; /* that several had a part in */
    CHECK(memcmp(sum, &stats.usage, sizeof *sum) == 0, "%u of %u label tokens, %u of %u ns", (unsigned) sum->label_tokens,
          (unsigned) stats.usage.label_tokens, (unsigned) sum->cpu_ns, (unsigned) stats.usage.cpu_ns);
}

/* Runs 8 requests of each of the realms, in turns; what came out for the last realm. together: all are submitted before any runs. */
static void run_realms(const uint64_t *realms, size_t n_realms, bool together, seen *out)
{
    slm_session *s = open_session(4096, 256, 64, 2);
    uint64_t ids[8] = {0}, id;
    slm_error err = {0};
    const slm_result *r;
    slm_usage sum = {0};

    for (int i = 0; i < 8; i++) {
        for (size_t k = 0; k < n_realms; k++) {
            slm_segment segments[2];
            slm_request req;

            realm_request(i, realms[k], &req, segments);
            CHECK(slm_submit(s, &req, &id, &err) == SLM_OK, "%s", err.message);
            if (k == n_realms - 1)
                ids[i] = id;
            if (!together)
                drain(s);
        }
    }
    drain(s);
    while ((r = slm_poll(s)) != NULL) {
        for (int i = 0; i < 8; i++) {
            if (ids[i] != r->id)
                continue;
            out[i] = (seen){r->usage.prompt_tokens, r->usage.reused_tokens, r->usage.label_tokens, r->best, ""};
            snprintf(out[i].text, sizeof out[i].text, "%s", r->text != NULL ? r->text : "");
        }
        slm_usage_add(&sum, &r->usage);
        slm_release(s, r->id);
    }
    check_usage(s, &sum);
    slm_session_free(s);
}

/* What a realm's requests tell is the same whoever used the session before or beside them. */
static void test_realms(void)
{
    static const uint64_t alone[] = {7}, after[] = {3, 7}, between[] = {7, 3, 0, 7};
    seen want[8], got[8];
    uint32_t reused = 0;

    for (int together = 0; together < 2; together++) {
        run_realms(alone, 1, together, want);
        run_realms(after, 2, together, got);
        for (int i = 0; i < 8; i++) {
            CHECK(memcmp(&want[i], &got[i], sizeof got[i]) == 0,
                  "request %d: %u of %u tokens reused and %u label tokens, not %u of %u and %u", i, got[i].reused, got[i].prompt,
                  got[i].labels, want[i].reused, want[i].prompt, want[i].labels);
            reused += got[i].reused;
        }
    }
    CHECK(reused > 8 * 40, "only %u tokens are reused within a realm", reused);
    run_realms(between, 4, false, got);
    for (int i = 0; i < 8; i++)
        CHECK(strcmp(got[i].text, want[i].text) == 0 && got[i].best == want[i].best && got[i].reused > 40, "request %d: %u reused", i,
              got[i].reused);
}

static void test_logprobs(void)
{
    slm_session *s = open_session(4096, 7, 0, 1), *t = open_session(4096, 0, 0, 2);
    slm_segment segments[2] = {user("some context"), {SLM_ROLE_USER, SLM_SEG_SCORED, "and what follows it", 19}};
    slm_request req = {.mode = SLM_MODE_LOGPROBS, .segments = segments, .n_segments = 2};
    slm_error err = {0};
    const slm_result *a = run(s, &req, &err), *b = run(t, &req, &err), *c;

    CHECK(a != NULL && b != NULL && a->n_scores == 19 && memcmp(a->scores, b->scores, 19 * sizeof(float)) == 0, "in chunks and at once");
    for (size_t i = 0; i < 19; i++)
        CHECK(a->scores[i] < 0 && a->scores[i] > -50 && a->tokens[i] == (unsigned char) segments[1].text[i], "score %g",
              (double) a->scores[i]);
    c = run(s, &req, &err);
    CHECK(memcmp(a->scores, c->scores, 19 * sizeof(float)) == 0, "again");
    segments[0] = segments[1];
    req.n_segments = 1;
    a = run(s, &req, &err);
    CHECK(isnan(a->scores[0]) && !isnan(a->scores[1]), "nothing precedes the first token");
    segments[0].length = 1;
    a = run(s, &req, &err);
    CHECK(a->n_scores == 1 && isnan(a->scores[0]), "a single token");
    slm_session_free(s);
    slm_session_free(t);
}

/* ---- bad requests and budgets */

static void refuse(slm_session *s, slm_request req, slm_status status, const char *words)
{
    slm_error err = {0};
    uint64_t id;
    slm_status got = slm_submit(s, &req, &id, &err);

    CHECK(got == status && strstr(err.message, words) != NULL, "status %d: %s", (int) got, err.message);
    CHECK(err.cause == SLM_CAUSE_NONE, "not the text's fault: %s", err.message);
}

/* The text of the request is at fault. */
static void refuse_text(slm_session *s, slm_request req, slm_cause cause, const char *words)
{
    slm_error err = {0};
    uint64_t id;

    CHECK(slm_submit(s, &req, &id, &err) != SLM_OK && strstr(err.message, words) != NULL && err.cause == cause, "cause %d: %s",
          (int) err.cause, err.message);
}

static void test_bad_requests(void)
{
    static const char *const twice[] = {"a", "b", "a"}, *const empty[] = {"a", ""}, *const stop[] = {""};
    static char huge[2000];
    slm_session *s = open_session(4096, 0, 0, 1), *small = open_session(20, 0, 0, 1);
    slm_segment segment = user("x");
    slm_request good = {.mode = SLM_MODE_GENERATE, .segments = &segment, .n_segments = 1, .max_tokens = 10}, r;
    slm_error err = {0};
    const slm_result *result;

    refuse(s, (slm_request){.mode = SLM_MODE_GENERATE}, SLM_INVALID, "segment");
    r = good, r.max_tokens = 0;
    refuse(s, r, SLM_INVALID, "max_tokens");
    r = good, r.sampling.temperature = 11;
    refuse(s, r, SLM_INVALID, "temperature");
    r = good, r.stops = stop, r.n_stops = 1;
    refuse(s, r, SLM_INVALID, "stop");
    r = good, r.mode = SLM_MODE_EMBED;
    refuse(s, r, SLM_UNSUPPORTED, "cannot embed");
    r = good, r.mode = SLM_MODE_LOGPROBS;
    refuse(s, r, SLM_INVALID, "scored");
    r = label_request(&segment, twice, 3);
    refuse(s, r, SLM_INVALID, "twice");
    r = label_request(&segment, empty, 2);
    refuse(s, r, SLM_INVALID, "empty");
    r = label_request(&segment, twice, 0);
    refuse(s, r, SLM_INVALID, "no labels");
    r = label_request(&segment, twice, 10001);
    refuse(s, r, SLM_LIMIT, "10000");
    segment = (slm_segment){SLM_ROLE_USER, 0, "\xff", 1};
    refuse_text(s, good, SLM_CAUSE_BAD_TEXT, "UTF-8");
    memset(huge, 'x', sizeof huge);
    segment = (slm_segment){SLM_ROLE_USER, 0, huge, sizeof huge};
    refuse_text(s, good, SLM_CAUSE_LONG, "2000");
    refuse_text(s, good, SLM_CAUSE_LONG, "512");
    segment.flags = SLM_SEG_PREFIX; /* what all rows share is no row's fault */
    refuse(s, good, SLM_LIMIT, "2000");
    segment.flags = 0;
    r = good, r.truncate = true, r.chat = true;
    result = run(s, &r, &err);
    CHECK(result != NULL && result->usage.prompt_tokens == 502 && result->usage.output_tokens == 10, "%s", err.message);
    segment.length = 300;
    refuse_text(small, good, SLM_CAUSE_LONG, "KV cache");
    segment.flags = SLM_SEG_PREFIX;
    refuse(small, good, SLM_LIMIT, "KV cache");
    segment.flags = 0;
    segment.length = 0;
    refuse_text(s, good, SLM_CAUSE_EMPTY, "empty");
    segment.length = 10;
    CHECK(run(small, &good, &err) != NULL, "a smaller one fits: %s", err.message);
    segment.length = 511;
    r = good;
    result = run(s, &r, &err);
    CHECK(result != NULL && result->usage.output_tokens <= 2 && (result->finish == SLM_FINISH_CONTEXT || result->finish == SLM_FINISH_STOP),
          "the context ends the answer: %llu tokens, finish %d", (unsigned long long) result->usage.output_tokens, result->finish);
    slm_release(s, 12345);
    slm_session_free(s);
    slm_session_free(small);
}

/* ---- cancelling, reset, memory */

static void on_alarm(int signal_number)
{
    stop_flag = 1;
}

static void test_cancel(void)
{
    char *want[N_TEXTS];
    slm_session *s = open_session(4096, 64, 0, 2);
    struct itimerval timer = {{0, 0}, {0, 0}};
    uint64_t ids[N_TEXTS];
    slm_error err = {0};
    const slm_result *r;
    size_t active = 1;
    int cancelled = 0, wrong = 0;

    answers(4096, 0, 0, 1, 0, true, want);
    signal(SIGALRM, on_alarm);
    for (int i = 0; i < N_TEXTS; i++) {
        char text[200];
        slm_segment segments[2] = {{SLM_ROLE_SYSTEM, SLM_SEG_PREFIX, "You are a helpful assistant for tests.", 38}};
        slm_request req = {.mode = SLM_MODE_GENERATE,
                           .chat = true,
                           .segments = segments,
                           .n_segments = 2,
                           .max_tokens = 5 + (uint32_t) i % 30,
                           .sampling = {0, i % 3 ? 0 : 20, i % 2 ? 1 : 0.9f, 0, i % 5 ? 1 : 1.3f, (uint64_t) i}};

        text_of(i, text);
        segments[1] = user(text);
        CHECK(slm_submit(s, &req, &ids[i], &err) == SLM_OK, "%s", err.message);
    }
    for (int tries = 0; active > 0 && tries < 100000; tries++) {
        slm_status status;

        timer.it_value.tv_usec = 20 + (tries * 37) % 700;
        if (tries % 2 == 0)
            setitimer(ITIMER_REAL, &timer, NULL);
        status = slm_step(s, &active, &err);
        stop_flag = 0;
        cancelled += status == SLM_CANCELLED;
        wrong += status != SLM_OK && status != SLM_CANCELLED;
    }
    timer.it_value.tv_usec = 0;
    setitimer(ITIMER_REAL, &timer, NULL);
    stop_flag = 0;
    CHECK(cancelled > 0 && wrong == 0 && active == 0, "%d steps cancelled, %d failed", cancelled, wrong);
    while ((r = slm_poll(s)) != NULL) {
        int i = 0;

        while (ids[i] != r->id)
            i++;
        wrong += strcmp(r->text, want[i]) != 0;
    }
    CHECK(wrong == 0, "%d answers differ after cancelling", wrong);
    for (int i = 0; i < N_TEXTS; i++)
        free(want[i]);
    slm_session_free(s);
}

/* Between any two steps a session may be trimmed: answers are the same bits, and little is left when nothing runs. */
static void test_trim(void)
{
    slm_session *s[2] = {open_session(4096, 64, 8, 2), open_session(4096, 64, 8, 2)};
    slm_session_stats stats;
    slm_error err = {0};

    for (int i = 0; i < 24; i++) {
        const slm_result *r[2];
        uint64_t id;
        char text[300];
        slm_segment segments[2] = {{SLM_ROLE_SYSTEM, SLM_SEG_PREFIX, "You are a helpful assistant for tests.", 38}};
        slm_request req = {.mode = SLM_MODE_GENERATE, .chat = true, .segments = segments, .n_segments = 2, .max_tokens = 8,
                           .sampling = {.top_p = 1, .repeat_penalty = 1}};

        text_of(i, text);
        segments[1] = user(text);
        for (int k = 0; k < 2; k++) {
            size_t active = 1;

            CHECK(slm_submit(s[k], &req, &id, &err) == SLM_OK, "%s", err.message);
            while (active > 0) {
                if (k == 1)
                    slm_session_trim(s[k], i % 3 == 0 ? 0 : (size_t) 4096 << (i % 8));
                CHECK(slm_step(s[k], &active, &err) == SLM_OK, "%s", err.message);
            }
            r[k] = slm_poll(s[k]);
        }
        CHECK(strcmp(r[0]->text, r[1]->text) == 0 && r[0]->usage.reused_tokens == r[1]->usage.reused_tokens,
              "\"%s\", trimmed \"%s\"", r[0]->text,
              r[1]->text);
        slm_release(s[0], r[0]->id);
        slm_release(s[1], r[1]->id);
    }
    slm_session_get_stats(s[0], &stats);
    size_t held = stats.kv_bytes_held + stats.scratch_bytes;
    CHECK(slm_session_trim(s[0], 0) > held / 2, "half of %zu bytes go", held);
    slm_session_get_stats(s[0], &stats);
    CHECK(stats.scratch_bytes == 0 && stats.kv_bytes_held == stats.kv_bytes_used && stats.cached_prefixes > 0,
          "%zu of scratch, %zu of keys and values for %zu that are used", stats.scratch_bytes, stats.kv_bytes_held, stats.kv_bytes_used);
    slm_session_free(s[0]);
    slm_session_free(s[1]);
}

static void test_reset_and_memory(void)
{
    static const char *const labels[] = {"yes", "no", "yesterday", "nobody"};
    slm_session *s = open_session(1024, 0, 8, 1);
    slm_error err = {0};
    slm_session_stats stats;
    size_t before = 0, after;

    for (int i = 0; i < 10000; i++) {
        char text[200];
        slm_segment segments[2] = {{SLM_ROLE_SYSTEM, SLM_SEG_PREFIX, i % 2 ? "One prefix." : "Another prefix.", 11}};
        slm_request req = {.mode = SLM_MODE_GENERATE, .chat = true, .segments = segments, .n_segments = 2, .max_tokens = 3};
        uint64_t id;
        size_t active = 1;

        text_of(i % 50, text);
        segments[1] = user(text);
        if (i % 3 == 0) {
            req.mode = SLM_MODE_LABELS;
            req.labels = labels;
            req.n_labels = 2 + (size_t) i % 3;
            req.prior_text = i % 2 ? "none" : NULL;
        }
        CHECK(slm_submit(s, &req, &id, &err) == SLM_OK, "%s", err.message);
        if (i % 5 == 0)
            slm_step(s, &active, &err);
        if (i % 10 == 0)
            slm_release(s, id);
        if (i % 97 == 0)
            slm_session_reset(s);
        if (i % 10 == 9) {
            const slm_result *r;

            drain(s);
            while ((r = slm_poll(s)) != NULL)
                slm_release(s, r->id);
        }
        if (i == 1999)
            before = mallinfo2().uordblks;
    }
    after = mallinfo2().uordblks;
    CHECK(after < before + 4096, "memory grew from %zu to %zu bytes", before, after);
    slm_session_get_stats(s, &stats);
    CHECK(stats.cached_prefixes > 0 && stats.usage.reused_tokens > 0, "prefixes survive a reset");
    slm_session_free(s);
}

int main(void)
{
    model = tiny_model("Q8_0");
    if (model == NULL)
        return 1;
    test_labels();
    test_realms();
    test_logprobs();
    test_stream_and_stops();
    test_bad_requests();
    test_many_labels();
    test_prefix_once();
    test_invariance();
    test_speculation();
    test_cancel();
    test_trim();
    test_reset_and_memory();
    slm_model_close(model);
    slm_threads_release();
    TEST_MAIN_END("test_session");
}
