/*
 * What is public of a prompt serves requests of all realms that name the same public realm; nothing else does, whatever the numbers are,
 * and answers are the same.
 */
#include <string.h>

#include "slm_test.h"
#include "tiny_model.h"

static slm_model *model;

static slm_session *open_session(uint32_t batch)
{
    slm_limits limits = {(size_t) 4 << 20, batch, 64, 2, NULL, SLM_KV_F16};
    slm_session *s = NULL;
    slm_error err = {0};

    CHECK(slm_session_new(model, &limits, &s, &err) == SLM_OK, "%s", err.message);
    return s;
}

#define PUBLIC_WORDS "These words are everybody's: correct what follows, and say nothing else"

/* What a request of a realm reuses in a session; its system text ends with `secret`. */
static uint64_t reused_by(slm_session *s, uint64_t realm, uint64_t public_realm, size_t public_bytes, const char *secret, char text[64])
{
    char system[200];
    slm_segment segments[2] = {{SLM_ROLE_SYSTEM, SLM_SEG_PREFIX, system, 0}, {SLM_ROLE_USER, 0, "a row's text", 12}};
    slm_request req = {.mode = SLM_MODE_GENERATE, .realm = realm, .public_realm = public_realm, .public_bytes = public_bytes, .chat = true,
                       .segments = segments, .n_segments = 2, .max_tokens = 6, .sampling = {.top_p = 1, .repeat_penalty = 1}};
    slm_error err = {0};
    const slm_result *r = NULL;
    uint64_t id, reused;

    segments[0].length = (size_t) snprintf(system, sizeof system, PUBLIC_WORDS "%s", secret);
    CHECK(slm_submit(s, &req, &id, &err) == SLM_OK, "%s", err.message);
    while (err.status == SLM_OK && (r = slm_poll(s)) == NULL)
        (void) slm_step(s, NULL, &err);
    CHECK(r != NULL && r->status == SLM_OK, "%s", err.message);
    if (r == NULL)
        return 0;
    snprintf(text, 64, "%s", r->text);
    reused = r->usage.reused_tokens;
    slm_release(s, r->id);
    return reused;
}

static void test_public(void)
{
    const size_t words = sizeof PUBLIC_WORDS - 1;
    slm_session *s = open_session(16), *fresh = open_session(256);
    char want[64], got[64];
    uint64_t own, of_all;

    CHECK(reused_by(s, 3, 1, words, ", the code is 4711", want) == 0, "nothing to reuse");
    of_all = reused_by(s, 7, 1, words, ", the code is 0815", got);
    CHECK(of_all > words - 4 && of_all < words + 20, "another realm reuses %u tokens of the public text", (unsigned) of_all);
    CHECK(reused_by(fresh, 7, 1, 0, ", the code is 0815", want) == 0 && strcmp(want, got) == 0, "\"%s\" is not \"%s\"", got, want);
    CHECK(reused_by(s, 9, 1, words, ", the code is 4711", got) == of_all, "who guesses a secret reuses no more");
    CHECK(reused_by(s, 10, 1, words, ", or not", got) == of_all, "than who does not");
    own = reused_by(s, 3, 1, words, ", the code is 4711", got);
    CHECK(own > of_all + 10, "the realm itself reuses %u, not %u", (unsigned) own, (unsigned) of_all);
    CHECK(reused_by(s, 11, 1, 0, ", the code is 4711", got) == 0, "who declares nothing reuses nothing");
    CHECK(reused_by(s, 1, 2, words, "", got) == 0, "another public realm, and a realm with the number of a public one");
    CHECK(reused_by(s, 12, 3, words, ", the code is 4711", got) == 0, "a public realm with the number of a realm is not that one");
    CHECK(reused_by(s, 13, 1, 30, ", the code is 4711", got) < of_all - 30, "no more than what is declared");
    slm_session_free(s);
    slm_session_free(fresh);
}

int main(void)
{
    model = tiny_model("Q8_0");
    if (model == NULL)
        return 1;
    test_public();
    slm_model_close(model);
    slm_threads_release();
    TEST_MAIN_END("public");
}
