/*
 * Jobs of a session by their numbers: thousands at a time, found and freed in any order.
 */
#include <stdlib.h>
#include <string.h>

#include "slm_test.h"
#include "tiny_model.h"

static slm_model *model;

/* Thousands of requests, let go in any order before and after they ran: each result comes to its tag, no number is found twice. */
static void test_many_requests(void)
{
    enum { N = 3000 };
    slm_limits limits = {.kv_cache_bytes = (size_t) 4 << 20, .n_threads = 1};
    slm_session *s = NULL;
    slm_segment segment = {SLM_ROLE_USER, 0, "a few words", 11};
    slm_request req = {.mode = SLM_MODE_GENERATE, .chat = true, .segments = &segment, .n_segments = 1, .max_tokens = 1};
    static uint64_t id[N];
    static int tags[N], times[N];
    slm_error err = {0};
    const slm_result *r;
    int wrong = 0, finished = 0;

    CHECK(slm_session_new(model, &limits, &s, &err) == SLM_OK, "%s", err.message);
    for (int i = 0; i < N; i++) {
        req.tag = &tags[i];
        wrong += slm_submit(s, &req, &id[i], &err) != SLM_OK;
    }
    for (int i = 0; i < N; i++) /* all but 40, in an order of their own */
        if (i * 7919 % N % 75 != 0)
            slm_release(s, id[i * 7919 % N]);
    for (size_t active = 1; active > 0;) {
        wrong += slm_step(s, &active, &err) != SLM_OK;
        while ((r = slm_poll(s)) != NULL) {
            int i = (int) ((int *) r->tag - tags);
            uint64_t number = r->id;

            wrong += id[i] != number || i % 75 != 0 || r->status != SLM_OK || times[i]++ > 0;
            finished++;
            slm_release(s, number);
            slm_release(s, number); /* unknown by now */
        }
    }
    CHECK(wrong == 0, "%d wrong: %s", wrong, err.message);
    CHECK(finished == N / 75, "%d requests finished", finished);
    CHECK(slm_submit(s, &req, &id[0], &err) == SLM_OK && id[0] == N + 1, "numbers go on");
    slm_session_free(s);
}

int main(void)
{
    model = tiny_model("Q8_0");
    if (model == NULL)
        return 1;
    test_many_requests();
    slm_model_close(model);
    slm_threads_release();
    TEST_MAIN_END("test_job");
}
