/*
 * One answer, many ways: greedy text is the same, byte for byte, on every instruction set, with 1 and 2 threads, in batches of 1, 7
 * and 50, with and without reuse of prefixes.
 *
 * Runs on SmolLM2-135M where it is at hand (SLM_TEST_MODEL, or the cache of fetched models), and always on the tiny random model.  The
 * reference kernels are slow: on the large model they answer a few prompts only.
 */
#include <stdlib.h>
#include <string.h>

#include "slm_test.h"
#include "tiny_model.h"

#define N_PROMPTS 50

static const char *const subjects[] = {"a late parcel", "the exchange rate", "a lost card", "PostgreSQL", "the weather", "a broken kettle",
                                       "my invoice", "two plus two", "the moon", "caf\xc3\xa9 prices"};
static const char *const orders[] = {"Write one sentence about %s.", "What is the opposite of %s?", "Translate to French: %s",
                                     "Who would complain about %s, and why?", "Name three words for %s."};

typedef struct way {
    const char *isa;
    int threads;
    uint32_t sequences, batch;
    bool fresh; /* a new session for each prompt: nothing to reuse */
    int n_prompts;
    uint32_t n_tokens;
} way;

static void submit_prompt(slm_session *s, int i, uint32_t n_tokens, uint64_t *id)
{
    char text[200];
    slm_segment segments[2] = {{SLM_ROLE_SYSTEM, SLM_SEG_PREFIX, "Answer briefly.", 15}};
    slm_request r = {.mode = SLM_MODE_GENERATE, .chat = true, .segments = segments, .n_segments = 2, .max_tokens = n_tokens,
                     .sampling = {.repeat_penalty = i % 4 == 0 ? 1.1f : 1.0f}};
    slm_error err = {0};

    sprintf(text, orders[i % 5], subjects[i / 5]);
    segments[1] = (slm_segment){SLM_ROLE_USER, 0, text, strlen(text)};
    CHECK(slm_submit(s, &r, id, &err) == SLM_OK, "%s", err.message);
}

static void take_results(slm_session *s, const uint64_t *ids, char **out)
{
    size_t active = 1;
    slm_error err = {0};
    const slm_result *r;

    while (active > 0 && slm_step(s, &active, &err) == SLM_OK)
        continue;
    CHECK(active == 0, "%s", err.message);
    while ((r = slm_poll(s)) != NULL) {
        for (int i = 0; i < N_PROMPTS; i++)
            if (ids[i] == r->id)
                out[i] = strdup(r->text);
        slm_release(s, r->id);
    }
}

static slm_session *open_session(slm_model *model, const way *w)
{
    slm_limits limits = {.kv_cache_bytes = (size_t) 256 << 20, .max_batch_tokens = w->batch, .max_sequences = w->sequences,
                         .n_threads = w->threads};
    slm_session *s = NULL;
    slm_error err = {0};

    CHECK(slm_session_new(model, &limits, &s, &err) == SLM_OK, "%s", err.message);
    return s;
}

/* Answers to the first n_prompts prompts. */
static void answer(slm_model *model, const way *w, char **out)
{
    uint64_t ids[N_PROMPTS] = {0};
    slm_session *s = NULL;

    for (int i = 0; i < w->n_prompts; i++) {
        if (s == NULL)
            s = open_session(model, w);
        submit_prompt(s, i, w->n_tokens, &ids[i]);
        if (!w->fresh)
            continue;
        take_results(s, ids, out);
        slm_session_free(s);
        s = NULL;
        ids[i] = 0;
    }
    if (s == NULL)
        return;
    take_results(s, ids, out);
    slm_session_free(s);
}

static void compare(slm_model *model, const char *name, const way *ways, size_t n_ways)
{
    char *want[N_PROMPTS], *got[N_PROMPTS];
    slm_error err = {0};
    size_t length = 0;

    slm_set_isa("auto", &err);
    answer(model, &ways[0], want);
    for (int i = 0; i < N_PROMPTS; i++)
        length += strlen(want[i]);
    CHECK(length > 10 * N_PROMPTS, "%s: only %zu bytes of answers", name, length);
    for (size_t w = 1; w < n_ways; w++) {
        int different = 0;

        if (slm_set_isa(ways[w].isa, &err) != SLM_OK) {
            printf("test_invariance: without %s: %s\n", ways[w].isa, err.message); /* the machine's answer, no skip */
            continue;
        }
        answer(model, &ways[w], got);
        for (int i = 0; i < ways[w].n_prompts; i++) {
            size_t n = strlen(got[i]);

            different += ways[w].n_tokens == ways[0].n_tokens ? strcmp(want[i], got[i]) != 0 : n == 0 || strncmp(want[i], got[i], n) != 0;
            free(got[i]);
        }
        CHECK(different == 0, "%s, %s, %d threads, %u sequences, batches of %u: %d of %d answers differ", name, ways[w].isa,
              ways[w].threads, ways[w].sequences, ways[w].batch, different, ways[w].n_prompts);
    }
    for (int i = 0; i < N_PROMPTS; i++)
        free(want[i]);
    slm_set_isa("auto", &err);
}

/* The real model: given by SLM_TEST_MODEL, or in the cache; imported for this run. */
static slm_model *real_model(void)
{
    const char *path = getenv("SLM_TEST_MODEL"), *cache = getenv("SLM_MODEL_CACHE"), *home = getenv("HOME");
    char file[1000], image[] = "/tmp/slm_invariance_XXXXXX";
    slm_model_info info;
    slm_model *model = NULL;
    slm_error err = {0};
    int fd;

    if (path == NULL && cache != NULL)
        snprintf(file, sizeof file, "%s/SmolLM2-135M-Instruct.Q4_1.gguf", cache);
    else if (path == NULL)
        snprintf(file, sizeof file, "%s/.cache/slm_pg/SmolLM2-135M-Instruct.Q4_1.gguf", home != NULL ? home : "");
    path = path != NULL ? path : file;
    if (access(path, R_OK) != 0) {
        printf("skip invariance, the large model: %s is not there (make models, or SLM_TEST_MODEL)\n", path);
        return NULL;
    }
    fd = mkstemp(image);
    if (fd >= 0)
        close(fd);
    unlink(image);
    CHECK(slm_import(path, image, NULL, NULL, NULL, NULL, &info, &err) == SLM_OK && slm_model_open(image, &model, &err) == SLM_OK, "%s",
          err.message);
    unlink(image);
    return model;
}

int main(void)
{
    static const way tiny[] = {{"auto", 1, 1, 0, true, 50, 40},   {"ref", 1, 50, 0, false, 50, 40},   {"avx2", 2, 50, 0, false, 50, 40},
                               {"avx512", 2, 7, 64, false, 50, 40}, {"avx512", 1, 50, 17, false, 50, 40}, {"ref", 2, 7, 30, false, 50, 40}};
    static const way large[] = {{"auto", 1, 1, 0, true, 50, 6},     {"auto", 2, 50, 0, false, 50, 6}, {"auto", 1, 7, 100, false, 50, 6},
                                {"auto", 2, 1, 0, false, 50, 6}, {"avx2", 1, 50, 0, false, 50, 6}, {"ref", 2, 4, 0, false, 4, 2}};
    static const char *const types[] = {"F32", "Q8_0", "Q4_0"};
    slm_model *model;

    for (int i = 0; i < 3; i++) {
        model = tiny_model(types[i]);
        CHECK(model != NULL, "tiny model of type %s", types[i]);
        if (model == NULL)
            continue;
        compare(model, types[i], tiny, sizeof tiny / sizeof *tiny);
        slm_model_close(model);
    }
    model = real_model();
    if (model != NULL)
        compare(model, "SmolLM2", large, sizeof large / sizeof *large);
    slm_model_close(model);
    slm_threads_release();
    TEST_MAIN_END("test_invariance");
}
