/*
 * A context of 32,000 tokens: the log probability of every token has the same bits whatever the batch and the number of threads, the keys
 * and values stay within the budget, and a budget that is too small is refused with both sizes.
 *
 * On the tiny random llama, where each byte of a text is a token, once with full attention and once with a sliding window in every other
 * layer.  Needs no reference values; it is here because it takes too long under the sanitizers, which run test/unit.
 */
#include <signal.h>
#include <sys/time.h>

#include "engine/base/threads.h"
#include "slm_test.h"
#include "tiny_model.h"

#define N_CONTEXT 32768
#define N_TEXT 32000
#define WINDOW 4096
#define N_ALARMED 12000

typedef struct setting {
    uint32_t batch;
    int n_threads;
} setting;

static char text[N_TEXT + 1];

/* Words of two to eight letters, so that nothing repeats at a distance that a batch could hide. */
static void make_text(void)
{
    uint32_t word = 0;
    for (uint32_t i = 0; i < N_TEXT; i++) {
        uint32_t r = (uint32_t) (slm_rng_uniform(7, i) * 4096);
        word = word > 1 && r % 5 == 0 ? 0 : word + 1;
        text[i] = word == 0 ? ' ' : (char) ('a' + r / 5 % 26);
    }
}

static slm_session *open_session(slm_model *model, setting how, size_t kv_bytes)
{
    slm_limits limits = {.kv_cache_bytes = kv_bytes, .max_batch_tokens = how.batch, .max_sequences = 2, .n_threads = how.n_threads};
    slm_session *session = NULL;
    slm_error err = {0};
    if (slm_session_new(model, &limits, &session, &err) != SLM_OK)
        printf("session: %s\n", err.message);
    return session;
}

static slm_request request_of(slm_mode mode, const slm_segment *segment)
{
    return (slm_request){.mode = mode, .segments = segment, .n_segments = 1, .max_tokens = 16,
                         .sampling = {.top_p = 1, .repeat_penalty = 1}};
}

/* The finished request, or NULL; *used: the most bytes of keys and values that were in use after a step (the last gives them back). */
static const slm_result *run(slm_session *session, slm_mode mode, uint64_t *used, slm_error *err)
{
    slm_segment segment = {.role = SLM_ROLE_USER, .flags = mode == SLM_MODE_LOGPROBS ? SLM_SEG_SCORED : 0, .text = text, .length = N_TEXT};
    slm_request request = request_of(mode, &segment);
    slm_status status;
    size_t active = 1;
    uint64_t id;
    *used = 0;
    status = slm_submit(session, &request, &id, err);
    while (status == SLM_OK && active > 0) {
        slm_session_stats stats;
        status = slm_step(session, &active, err);
        slm_session_get_stats(session, &stats);
        *used = stats.kv_bytes_used > *used ? stats.kv_bytes_used : *used;
    }
    return status == SLM_OK ? slm_poll(session) : NULL;
}

/* Scores and answer of one setting: into the arrays the first time, compared with them later. */
static void check_setting(slm_model *model, setting how, size_t budget, float *scores, int32_t *answer, bool first)
{
    slm_session *session = open_session(model, how, budget);
    slm_error err = {0};
    uint64_t used;
    if (session == NULL) {
        CHECK(false, "no session");
        return;
    }
    const slm_result *r = run(session, SLM_MODE_LOGPROBS, &used, &err);
    CHECK(r != NULL && r->n_scores == N_TEXT, "batch %u: %s", how.batch, err.message);
    CHECK(used <= budget && used >= (uint64_t) (N_TEXT - how.batch) * slm_model_get_info(model)->kv_bytes_per_token, "KV: %lu bytes of %zu",
          (unsigned long) used, budget);
    if (r != NULL && r->n_scores == N_TEXT) {
        CHECK(first || memcmp(scores + 1, r->scores + 1, (N_TEXT - 1) * sizeof *scores) == 0, "batch %u, %d threads: other scores",
              how.batch, how.n_threads);
        memcpy(scores, r->scores, N_TEXT * sizeof *scores);
        slm_release(session, r->id);
    }
    r = run(session, SLM_MODE_GENERATE, &used, &err);
    CHECK(r != NULL && r->status == SLM_OK && r->n_tokens > 0 && r->usage.prompt_tokens >= N_TEXT, "generate: %s", err.message);
    if (r != NULL && r->n_tokens > 0) {
        CHECK(first || memcmp(answer, r->tokens, r->n_tokens * sizeof *answer) == 0, "batch %u: another answer", how.batch);
        memcpy(answer, r->tokens, r->n_tokens * sizeof *answer);
        slm_release(session, r->id);
    }
    slm_session_free(session);
}

static void check_small_budget(slm_model *model, size_t budget)
{
    slm_session *session = open_session(model, (setting){0, 1}, budget);
    slm_segment segment = {.role = SLM_ROLE_USER, .text = text, .length = N_TEXT};
    slm_request request = request_of(SLM_MODE_GENERATE, &segment);
    slm_error err = {0};
    uint64_t id;
    CHECK(session != NULL && slm_submit(session, &request, &id, &err) == SLM_LIMIT, "a small budget was accepted");
    CHECK(strstr(err.message, "needs 8004 kB of KV cache for 32015 tokens, but the budget is 2048 kB") != NULL, "%s", err.message);
    slm_session_free(session);
}

static volatile int alarmed;

static void on_alarm(int signal_number)
{
    (void) signal_number;
    alarmed = 1;
}

/* The flag is set again and again, sooner than a full batch is done, and never means it: the work ends all the same, with the same bits. */
static void check_alarms(slm_model *model, size_t budget, const float *scores)
{
    slm_limits limits = {.kv_cache_bytes = budget, .n_threads = 1, .stop = &alarmed};
    slm_segment segment = {.role = SLM_ROLE_USER, .flags = SLM_SEG_SCORED, .text = text, .length = N_ALARMED};
    slm_request request = request_of(SLM_MODE_LOGPROBS, &segment);
    struct itimerval every = {{0, 8000}, {0, 8000}}, never = {{0, 0}, {0, 0}};
    slm_session *session = NULL;
    slm_error err = {0};
    slm_status status;
    size_t active = 1, n_stopped = 0;
    uint64_t id;
    CHECK(slm_session_new(model, &limits, &session, &err) == SLM_OK, "%s", err.message);
    CHECK(slm_submit(session, &request, &id, &err) == SLM_OK, "%s", err.message);
    signal(SIGPROF, on_alarm);
    setitimer(ITIMER_PROF, &every, NULL); /* of processor time: a busy machine changes nothing */
    do {
        alarmed = 0;
        status = slm_step(session, &active, &err);
        n_stopped += status == SLM_CANCELLED;
    } while (active > 0 && n_stopped < 1000 && (status == SLM_OK || status == SLM_CANCELLED));
    setitimer(ITIMER_PROF, &never, NULL);
    const slm_result *r = slm_poll(session);
    printf("stopped %zu times\n", n_stopped);
    CHECK(n_stopped > 0 && r != NULL && r->n_scores == N_ALARMED, "stopped %zu times: %s", n_stopped, err.message);
    CHECK(r != NULL && memcmp(scores + 1, r->scores + 1, (N_ALARMED - 1) * sizeof *scores) == 0, "other scores");
    slm_session_free(session);
}

static void check_model(uint32_t window)
{
    static const setting settings[] = {{512, 2}, {96, 1}};
    static float scores[2][N_TEXT];
    static int32_t answer[16];
    slm_model *model = tiny_model_of("Q8_0", N_CONTEXT, window);
    CHECK(model != NULL, "no model");
    if (model == NULL)
        return;
    size_t budget = (size_t) N_CONTEXT * slm_model_get_info(model)->kv_bytes_per_token + (1 << 20);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        check_setting(model, settings[i], budget, scores[window != 0], answer, i == 0);
    if (window != 0) /* inside the window both see the same, beyond it they do not */
        CHECK(memcmp(scores[0] + 1, scores[1] + 1, (WINDOW - 1) * sizeof(float)) == 0 &&
                  memcmp(scores[0] + 2 * WINDOW, scores[1] + 2 * WINDOW, WINDOW * sizeof(float)) != 0,
              "the window is not where it should be");
    else
        check_alarms(model, budget, scores[0]);
    check_small_budget(model, 2 << 20);
    slm_model_close(model);
}

int main(void)
{
    make_text();
    check_model(0);
    check_model(WINDOW);
    slm_threads_release();
    TEST_MAIN_END("long_context");
}
