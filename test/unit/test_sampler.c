/* The sampler's filters and draws, and the answer's text: characters across tokens, broken bytes, stop strings. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/rng.h"
#include "engine/base/utf8.h"
#include "engine/decode/pieces.h"
#include "engine/decode/sampler.h"
#include "slm_test.h"

#define N 50

static const slm_sampling plain = {.temperature = 1, .top_p = 1, .repeat_penalty = 1};

/* Logits with known probabilities: token i has weight 1.3^-i, in shuffled places. */
static void fill(float *logits)
{
    for (int i = 0; i < N; i++)
        logits[i * 7 % N] = -(float) i * logf(1.3f);
}

static int rank_of(int32_t token)
{
    for (int i = 0; i < N; i++)
        if (i * 7 % N == token)
            return i;
    return -1;
}

/* Draws many; counts by rank. */
static void draw(slm_sampler *s, slm_sampling p, int n, int counts[N])
{
    float logits[64];

    memset(counts, 0, N * sizeof *counts);
    for (int i = 0; i < n; i++) {
        fill(logits);
        counts[rank_of(slm_sampler_pick(s, &p, logits, NULL, 0, (uint64_t) i))]++;
    }
}

static void test_draws(slm_sampler *s)
{
    int counts[N], n = 20000;
    slm_sampling p = plain;
    double total = 0;

    for (int i = 0; i < N; i++)
        total += pow(1.3, -i);
    draw(s, p, n, counts);
    for (int i = 0; i < 8; i++) {
        double want = n * pow(1.3, -i) / total;

        CHECK(fabs(counts[i] - want) < 5 * sqrt(want), "rank %d: %d draws, %g expected", i, counts[i], want);
    }
    p.top_k = 3;
    draw(s, p, 3000, counts);
    CHECK(counts[0] + counts[1] + counts[2] == 3000 && counts[2] > 600, "top_k 3: %d %d %d", counts[0], counts[1], counts[2]);
    p = plain;
    p.top_p = 0.5f; /* 1 - 1.3^-k >= 0.5 from k = 3 on */
    draw(s, p, 3000, counts);
    CHECK(counts[0] + counts[1] + counts[2] == 3000 && counts[2] > 300, "top_p 0.5: %d %d %d", counts[0], counts[1], counts[2]);
    p = plain;
    p.min_p = 0.5f; /* 1.3^-2 = 0.59, 1.3^-3 = 0.455 */
    draw(s, p, 3000, counts);
    CHECK(counts[0] + counts[1] + counts[2] == 3000 && counts[2] > 300, "min_p 0.5: %d %d %d", counts[0], counts[1], counts[2]);
    p = plain;
    p.temperature = 0.1f;
    draw(s, p, 3000, counts);
    CHECK(counts[0] > 2500 && counts[0] < 2999, "temperature 0.1: %d", counts[0]);
    p.temperature = 10;
    draw(s, p, 3000, counts);
    CHECK(counts[0] < 200, "temperature 10: %d", counts[0]);
}

static void test_greedy_and_seeds(slm_sampler *s)
{
    float logits[64];
    slm_sampling p = {0};
    int32_t recent[] = {3, 0, 3}, first[20];
    int same = 0;

    fill(logits);
    CHECK(slm_sampler_pick(s, &p, logits, NULL, 0, 0) == 0, "greedy takes the best");
    for (int i = 0; i < N; i++)
        logits[i] = i == 3 ? 2.0f : i == 4 ? 1.5f : -1.0f;
    p.repeat_penalty = 1.5f;
    CHECK(slm_sampler_pick(s, &p, logits, recent, 3, 0) == 4, "the penalty strikes what was said");
    CHECK(logits[3] == 2.0f / 1.5f && logits[0] == -1.5f, "once each: %g %g", (double) logits[3], (double) logits[0]);
    p = plain;
    for (int round = 0; round < 3; round++) {
        p.seed = round == 2 ? 8 : 7;
        for (int i = 0; i < 20; i++) {
            int32_t token;

            fill(logits);
            token = slm_sampler_pick(s, &p, logits, NULL, 0, (uint64_t) i);
            same += round > 0 && token == first[i];
            first[i] = round == 0 ? token : first[i];
        }
        CHECK(round == 0 || (round == 1 ? same == 20 : same < 35), "round %d: %d equal draws", round, same);
    }
}

static void test_ranges(void)
{
    slm_error err;
    slm_sampling p = plain;

    CHECK(slm_sampling_check(&p, &err) == SLM_OK, "%s", err.message);
    p.temperature = -1;
    CHECK(slm_sampling_check(&p, &err) == SLM_INVALID, "negative temperature");
    p.temperature = NAN;
    CHECK(slm_sampling_check(&p, &err) == SLM_INVALID, "NaN");
    p = plain;
    p.top_p = 1.5f;
    CHECK(slm_sampling_check(&p, &err) == SLM_INVALID && strstr(err.message, "top_p") != NULL, "%s", err.message);
    p = plain;
    p.min_p = 1;
    CHECK(slm_sampling_check(&p, &err) == SLM_INVALID, "min_p 1");
    p = plain;
    p.top_k = -2;
    CHECK(slm_sampling_check(&p, &err) == SLM_INVALID, "top_k -2");
    p.temperature = 0;
    CHECK(slm_sampling_check(&p, &err) == SLM_OK, "greedy ignores it");
}

/* Feeds bytes in pieces of the given size; the stream's parts must add up to the text. */
static void feed(const char *bytes, size_t n, size_t piece, const char *stop, const char *want, bool stopped)
{
    slm_pieces p;
    slm_error err;
    const char *stops[] = {stop};
    char stream[256] = "";
    size_t at = 0;

    CHECK(slm_pieces_init(&p, stops, stop != NULL, &err) == SLM_OK, "init");
    for (size_t i = 0; i <= n && !p.stopped; i += piece) {
        if (i < n)
            slm_pieces_add(&p, bytes + i, n - i < piece ? n - i : piece, &err);
        memcpy(stream + at, p.text != NULL ? p.text + at : "", p.final - at);
        at = p.final;
        if (slm_utf8_valid_prefix(stream, at) != at)
            CHECK(0, "half a character in the stream");
    }
    slm_pieces_finish(&p, &err);
    memcpy(stream + at, p.text + at, p.final - at);
    stream[p.final] = '\0';
    CHECK(strcmp(p.text, want) == 0 && strlen(want) == p.n, "\"%s\", expected \"%s\" (pieces of %zu)", p.text, want, piece);
    CHECK(strcmp(stream, want) == 0 && p.stopped == stopped, "stream \"%s\"", stream);
    slm_pieces_clear(&p);
}

static void test_pieces(void)
{
    slm_pieces p;
    slm_error err;
    const char *empty[] = {""};

    for (size_t piece = 1; piece < 9; piece++) {
        feed("na\xc3\xafve \xe2\x82\xac \xf0\x9f\x98\x80!", 16, piece, NULL, "na\xc3\xafve \xe2\x82\xac \xf0\x9f\x98\x80!", false);
        feed("a\x80" "b\xe2\x82" "c\xed\xa0\x80", 9, piece, NULL,
             "a\xef\xbf\xbd" "b\xef\xbf\xbd" "c\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", false);
        feed("x\xf0\x9f\x98", 4, piece, NULL, "x", false); /* the answer ends inside a character */
        feed("\xe6\x97", 2, piece, NULL, "", false);
        feed("y\xf0\x9f\x98z\xc3", 6, piece, NULL, "y\xef\xbf\xbdz", false);
        feed("n\0l", 3, piece, NULL, "n\xef\xbf\xbdl", false);
        feed("one\n\ntwo", 8, piece, "\n\n", "one", true);
        feed("aaab", 4, piece, "aab", "a", true);
        feed("Answer: END", 11, piece, "ENDE", "Answer: END", false);
        feed("\xe2\x82\xac\xe2\x82\xac.", 7, piece, "\xe2\x82\xac.", "\xe2\x82\xac", true);
    }
    CHECK(slm_pieces_init(&p, empty, 1, &err) == SLM_INVALID, "an empty stop string is refused");
}

int main(void)
{
    slm_sampler *s = slm_sampler_new(N);

    test_draws(s);
    test_greedy_and_seeds(s);
    test_ranges();
    test_pieces();
    slm_sampler_free(s);
    TEST_MAIN_END("test_sampler");
}
