/*
 * Sessions on the tiny model: `model`, opened by the test's main with tiny_model().
 */
#ifndef SLM_TEST_TINY_SESSION_H
#define SLM_TEST_TINY_SESSION_H

#include <string.h>

#include "slm_test.h"
#include "tiny_model.h"

static slm_model *model;
static volatile int stop_flag;

static slm_session *open_session(size_t kv_kib, uint32_t batch, uint32_t sequences, int threads)
{
    slm_limits limits = {kv_kib << 10, batch, sequences, threads, &stop_flag, SLM_KV_F16};
    slm_session *s = NULL;
    slm_error err = {0};

    CHECK(slm_session_new(model, &limits, &s, &err) == SLM_OK, "%s", err.message);
    return s;
}

static slm_segment user(const char *text)
{
    return (slm_segment){SLM_ROLE_USER, 0, text, strlen(text)};
}

static void drain(slm_session *s)
{
    CHECK(tiny_drain(s), "a step failed");
}

#endif
