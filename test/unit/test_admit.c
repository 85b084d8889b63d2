/*
 * Admission: beginnings of prompts that nobody declared are computed once for all rows that have them, whichever way the rows come, and no
 * answer depends on it.
 */
#include <stdio.h>
#include <string.h>

#include "tiny_session.h"

/* ---- documents that several rows begin with */

enum { DOCUMENTS = 6, QUESTIONS = 5, PAIRS = DOCUMENTS * QUESTIONS };

/* Row i of PAIRS: a document of 100 bytes and more, of which two and two begin with the same 60, and a question; the last two are equal. */
static void pair_text(int i, char *out)
{
    static const char *const questions[QUESTIONS] = {"Who?", "What does it say about refunds?", "Is it long? Say yes or no.", "When?",
                                                     "When?"};
    int d = i % DOCUMENTS, n = 0;

    for (int k = 0; k < 60; k++)
        n += sprintf(out + n, "%c", 'a' + (k * (7 + d / 2) + d / 2) % 26);
    for (int k = 0; k < 40 + 11 * d; k++)
        n += sprintf(out + n, "%c", 'A' + (k * (5 + d) + d) % 26);
    sprintf(out + n, " %s", questions[i / DOCUMENTS]);
}

static void submit_pair(slm_session *s, int i, uint64_t *id)
{
    static const char *const labels[] = {"yes", "no", "yesterday", "unknown"};
    char text[300];
    slm_segment segment;
    slm_request req = {.mode = i % 4 == 1 ? SLM_MODE_LABELS : SLM_MODE_GENERATE, .chat = true, .segments = &segment, .n_segments = 1,
                       .max_tokens = 1 + (uint32_t) i % 7, .sampling = {.temperature = i % 2 ? 0 : 1, .seed = (uint64_t) i},
                       .labels = labels, .n_labels = 4, .best_only = i % 8 == 1, .speculate = i % 3 == 0};
    slm_error err = {0};

    pair_text(i, text);
    segment = user(text);
    CHECK(slm_submit(s, &req, id, &err) == SLM_OK, "%s", err.message);
}

/* What a row's answer is: its text, or its scores. */
typedef struct pair_answer {
    char text[100];
    float scores[4];
    uint32_t prompt, reused;
} pair_answer;

static int index_of(const uint64_t *ids, uint64_t id)
{
    int i = 0;

    while (i < PAIRS && ids[i] != id)
        i++;
    return i;
}

/* Takes finished answers. Returns the tokens that their prompts cost. */
static uint32_t take_pairs(slm_session *s, const uint64_t *ids, pair_answer *out)
{
    const slm_result *r;
    uint32_t computed = 0;

    while ((r = slm_poll(s)) != NULL) {
        int i = index_of(ids, r->id);
        pair_answer *a = &out[i < PAIRS ? i : 0];

        CHECK(i < PAIRS && r->status == SLM_OK && r->text_length < sizeof a->text, "row %d: %s", i, r->error.message);
        if (r->text != NULL)
            strcpy(a->text, r->text);
        for (size_t k = 0; k < r->n_scores; k++)
            a->scores[k] = r->scores[k];
        a->prompt = r->usage.prompt_tokens;
        a->reused = r->usage.reused_tokens;
        computed += r->usage.prompt_tokens - r->usage.reused_tokens;
        slm_release(s, r->id);
    }
    return computed;
}

static int different_pairs(const pair_answer *a, const pair_answer *b)
{
    int n = 0;

    for (int i = 0; i < PAIRS; i++)
        n += strcmp(a[i].text, b[i].text) != 0 || memcmp(a[i].scores, b[i].scores, sizeof a[i].scores) != 0 || a[i].prompt != b[i].prompt;
    return n;
}

/* Every row alone in a session of its own. */
static uint32_t pairs_alone(pair_answer *out)
{
    uint32_t computed = 0;

    for (int i = 0; i < PAIRS; i++) {
        slm_session *s = open_session(4096, 0, 0, 1);
        uint64_t ids[PAIRS] = {0};

        submit_pair(s, i, &ids[i]);
        drain(s);
        computed += take_pairs(s, ids, out);
        CHECK(out[i].reused == 0, "nothing to reuse");
        slm_session_free(s);
    }
    return computed;
}

/* Rows that begin alike compute that once, in any batch, order and budget, and answer what they answer alone. */
static void test_shared_beginnings(void)
{
    static pair_answer want[PAIRS], got[PAIRS];
    const struct {
        size_t kv;
        uint32_t batch, sequences, most; /* prompt tokens computed at most: each beginning once is 1,290 or so */
        int threads;
    } ways[] = {{4096, 0, 0, 1400, 1}, {4096, 0, 0, 1400, 2}, {4096, 33, 3, 1400, 1}, {4096, 16, 1, 1400, 2},
                {400, 0, 0, 1400, 1},  {64, 0, 0, 2000, 1},  {120, 100, 0, 2000, 2}};
    uint32_t alone = pairs_alone(want);

    CHECK(alone > 4800, "%u tokens alone", alone);
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        for (int back = 0; back < 2; back++) {
            slm_session *s = open_session(ways[w].kv, ways[w].batch, ways[w].sequences, ways[w].threads);
            uint64_t ids[PAIRS] = {0};
            slm_session_stats stats;
            uint32_t computed;

            memset(got, 0, sizeof got);
            for (int i = 0; i < PAIRS; i++)
                submit_pair(s, back ? PAIRS - 1 - i : i, &ids[back ? PAIRS - 1 - i : i]);
            drain(s);
            computed = take_pairs(s, ids, got);
            slm_session_get_stats(s, &stats);
            CHECK(different_pairs(want, got) == 0, "way %zu: %d answers differ", w, different_pairs(want, got));
            CHECK(stats.usage.prompt_tokens == alone && computed + stats.usage.reused_tokens == alone,
                  "way %zu: %u computed, %llu reused", w, computed, (unsigned long long) stats.usage.reused_tokens);
            CHECK(computed < ways[w].most, "way %zu: %u tokens computed", w, computed);
            CHECK(stats.kv_bytes_used <= stats.kv_bytes_limit, "%zu bytes", stats.kv_bytes_used);
            slm_session_free(s);
        }
    }
}

/* A later row takes the beginning from a row that still runs, and from the cache after a batch in which two had it. */
static void test_shared_later(void)
{
    static pair_answer want[PAIRS], got[PAIRS];
    slm_session *s = open_session(4096, 0, 0, 1);
    uint64_t ids[PAIRS] = {0};
    slm_session_stats before, after;
    slm_error err = {0};
    size_t active;

    pairs_alone(want);
    submit_pair(s, 6, &ids[6]); /* 7 tokens of answer */
    slm_step(s, &active, &err);
    submit_pair(s, 12, &ids[12]);
    drain(s);
    take_pairs(s, ids, got);
    CHECK(got[12].reused > 100, "%u tokens from a running row", got[12].reused);
    submit_pair(s, 0, &ids[0]);
    drain(s);
    take_pairs(s, ids, got);
    CHECK(got[0].reused >= got[12].reused - 1, "%u tokens from the cache", got[0].reused);
    for (int i = 0; i < PAIRS; i++)
        submit_pair(s, i, &ids[i]);
    drain(s);
    take_pairs(s, ids, got);
    slm_session_get_stats(s, &before);
    for (int i = 0; i < PAIRS; i++)
        submit_pair(s, i, &ids[i]);
    drain(s);
    take_pairs(s, ids, got);
    slm_session_get_stats(s, &after);
    CHECK(different_pairs(want, got) == 0, "%d answers differ", different_pairs(want, got));
    CHECK(slm_usage_tokens(&after.usage) - slm_usage_tokens(&before.usage) < PAIRS * 50, "%llu tokens in the second batch",
          (unsigned long long) (slm_usage_tokens(&after.usage) - slm_usage_tokens(&before.usage)));
    slm_session_free(s);
}

/* Rows do not wait for one that was released, and releasing rows that wait does no harm. */
static void test_shared_release(void)
{
    static pair_answer want[PAIRS], got[PAIRS];

    pairs_alone(want);
    for (int gone = 0; gone < PAIRS; gone += 5) {
        slm_session *s = open_session(4096, 16, 0, 1);
        uint64_t ids[PAIRS] = {0};
        slm_error err = {0};
        size_t active;

        memcpy(got, want, sizeof got);
        for (int i = 0; i < PAIRS; i++)
            submit_pair(s, i, &ids[i]);
        slm_step(s, &active, &err);
        slm_step(s, &active, &err);
        slm_release(s, ids[gone]);
        slm_release(s, ids[0]);
        for (int i = 0; i < PAIRS; i++)
            if (i != gone && i != 0)
                memset(&got[i], 0, sizeof got[i]);
        drain(s);
        take_pairs(s, ids, got);
        CHECK(different_pairs(want, got) == 0, "without row %d %d answers differ", gone, different_pairs(want, got));
        slm_session_free(s);
    }
}

/* ---- few words */

/* Row i of those that are asked the same in a few words; the first has nothing in common with the others but its chat. */
static void submit_short(slm_session *s, int i, bool urgent, uint64_t *id)
{
    char text[100];
    slm_segment segment;
    slm_request req = {.mode = SLM_MODE_GENERATE, .chat = true, .segments = &segment, .n_segments = 1, .max_tokens = 6};
    slm_error err = {0};

    sprintf(text, i == 0 ? "~%d" : "Color of it: %d?", 1000 + 137 * i);
    segment = user(text);
    CHECK(slm_submit(s, &req, id, &err) == SLM_OK, "%s", err.message);
    if (urgent)
        slm_urgent(s, *id);
}

/* Few words in common are computed once for all rows that wait together, for one that comes while another runs, and for no single row
 * behind another: that would wait for it. */
static void test_shared_words(void)
{
    enum { ROWS = 12 };
    static pair_answer want[PAIRS], got[PAIRS];
    uint64_t ids[PAIRS] = {0};
    slm_session *s;
    slm_error err = {0};
    uint32_t words;
    size_t active;

    for (int i = 0; i <= ROWS; i++) {
        uint64_t one[PAIRS] = {0};

        s = open_session(4096, 0, 0, 1);
        submit_short(s, i, false, &one[i]);
        drain(s);
        take_pairs(s, one, want);
        slm_session_free(s);
    }
    s = open_session(4096, 0, 0, 1); /* those that wait together */
    submit_short(s, 0, false, &ids[0]);
    drain(s);
    take_pairs(s, ids, got);
    for (int i = 1; i <= ROWS; i++)
        submit_short(s, i, false, &ids[i]);
    drain(s);
    take_pairs(s, ids, got);
    words = got[ROWS].reused;
    CHECK(words >= 12 && words < 32, "%u tokens in common", words);
    for (int i = 2; i <= ROWS; i++)
        CHECK(got[i].reused >= words, "row %d: %u tokens reused, not %u", i, got[i].reused, words);
    CHECK(different_pairs(want, got) == 0, "%d answers differ", different_pairs(want, got));
    slm_session_free(s);
    memset(got, 0, sizeof got);
    memset(ids, 0, sizeof ids);
    s = open_session(4096, 0, 0, 1); /* two, one behind the other, and one beside them */
    for (int i = 1; i <= 2; i++)
        submit_short(s, i, false, &ids[i]);
    slm_step(s, &active, &err);
    submit_short(s, 3, true, &ids[3]);
    drain(s);
    take_pairs(s, ids, got);
    CHECK(got[1].reused == 0 && got[2].reused == 0, "%u and %u tokens reused by the first two", got[1].reused, got[2].reused);
    CHECK(got[3].reused >= words, "%u tokens from one that runs", got[3].reused);
    for (int i = 1; i <= 3; i++)
        CHECK(strcmp(got[i].text, want[i].text) == 0, "row %d answers %s", i, got[i].text);
    slm_session_free(s);
}

int main(void)
{
    model = tiny_model("Q8_0");
    if (model == NULL)
        return 1;
    test_shared_beginnings();
    test_shared_later();
    test_shared_release();
    test_shared_words();
    slm_model_close(model);
    slm_threads_release();
    TEST_MAIN_END("admit");
}
