/*
 * Every allocation fails once: for n = 1, 2, 3, ... the n-th allocation of a session's whole life, or of the reading of a vocabulary,
 * returns NULL (after SQLite's way of testing).  Nothing may crash or leak, the status is NOMEM, and where the failure is survived the
 * answers are those of an undisturbed run.
 *
 * The test's own malloc, calloc, realloc, strdup and posix_memalign stand in front of the C library's and count what is alive; under
 * sanitizers, which bring their own, it only says so.
 */
#include <dlfcn.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "../fuzz/fuzz_vocab.c"
#include "slm_test.h"
#include "tiny_model.h"

/* Hidden symbols would leave the C library's own callers (strdup, qsort) out. */
#pragma GCC visibility push(default)
void *malloc(size_t n);
void *calloc(size_t n, size_t size);
void *realloc(void *p, size_t n);
int posix_memalign(void **out, size_t alignment, size_t n);
void *aligned_alloc(size_t alignment, size_t n);
void free(void *p);
json_t *json_loadb(const char *text, size_t n, size_t flags, json_error_t *error);
#pragma GCC visibility pop

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t alignment, size_t n);
void __libc_free(void *p);

static long countdown = -1; /* < 0: never fail */
static long alive;
static int failures;

static int fails(void)
{
    if (countdown < 0 || --countdown != 0)
        return 0;
    countdown = -1;
    failures++;
    errno = ENOMEM;
    return 1;
}

static void *count(void *p)
{
    alive += p != NULL;
    return p;
}

void *malloc(size_t n)
{
    return fails() ? NULL : count(__libc_malloc(n));
}

void *calloc(size_t n, size_t size)
{
    return fails() ? NULL : count(__libc_calloc(n, size));
}

void *realloc(void *p, size_t n)
{
    void *q;

    if (fails())
        return NULL;
    q = __libc_realloc(p, n);
    alive += p == NULL && q != NULL;
    return q;
}

int posix_memalign(void **out, size_t alignment, size_t n)
{
    if (fails())
        return ENOMEM;
    *out = count(__libc_memalign(alignment, n));
    return *out == NULL ? ENOMEM : 0;
}

void *aligned_alloc(size_t alignment, size_t n)
{
    return fails() ? NULL : count(__libc_memalign(alignment, n));
}

/* Jansson's lexer ends the program where its buffer cannot grow, so reading JSON is left in peace; what is built by hand is not. */
json_t *json_loadb(const char *text, size_t n, size_t flags, json_error_t *error)
{
    static json_t *(*real)(const char *, size_t, size_t, json_error_t *);
    long kept = countdown;
    countdown = -1;
    if (real == NULL)
        *(void **) &real = dlsym(RTLD_NEXT, "json_loadb");
    json_t *root = real(text, n, flags, error);
    countdown = kept;
    return root;
}

void free(void *p)
{
    alive -= p != NULL;
    __libc_free(p);
}

static const char *const labels[] = {"card lost", "card stolen", "refund", "refunds"};

static slm_request request_of(int i, slm_segment *segments)
{
    static const char *const stops[] = {"\n\n", "zz"};
    slm_request r = {.mode = i % 3 == 2 ? SLM_MODE_LOGPROBS : i % 3 == 1 ? SLM_MODE_LABELS : SLM_MODE_GENERATE, .chat = i % 3 != 2,
                     .segments = segments, .n_segments = 2, .max_tokens = 20, .stops = stops, .n_stops = 2, .labels = labels,
                     .n_labels = 4, .prior_text = i == 4 ? "none" : NULL, .stream = i == 3,
                     .sampling = {.temperature = i == 3 ? 1.0f : 0, .top_k = 10}};

    segments[0] = (slm_segment){SLM_ROLE_SYSTEM, SLM_SEG_PREFIX, "A system prompt that is shared.", 31};
    segments[1] = (slm_segment){SLM_ROLE_USER, i % 3 == 2 ? SLM_SEG_SCORED : 0, "What shall become of my card?", 29};
    return r;
}

/* A digest of a result, for comparison. */
static uint64_t digest(const slm_result *r)
{
    uint64_t h = r->n_scores * 31 + r->text_length;

    for (size_t i = 0; i < r->n_scores; i++) {
        uint32_t bits;

        memcpy(&bits, &r->scores[i], 4);
        h = slm_rng_mix(h + bits);
    }
    for (size_t i = 0; i < r->text_length; i++)
        h = slm_rng_mix(h + (unsigned char) r->text[i]);
    return h;
}

/* A session's life with six requests; digests of those that succeed. Returns how many calls or requests failed with NOMEM. */
static int live(slm_model *model, uint64_t digests[6], int *wrong)
{
    slm_limits limits = {.kv_cache_bytes = 1 << 20, .n_threads = 1};
    slm_session *s;
    uint64_t ids[6] = {0};
    slm_error err = {0};
    const slm_result *r;
    size_t active = 1;
    int nomem = 0, steps = 0;
    slm_status status = slm_session_new(model, &limits, &s, &err);

    if (status != SLM_OK) {
        *wrong += status != SLM_NOMEM;
        return 1;
    }
    for (int i = 0; i < 6; i++) {
        slm_segment segments[2];
        slm_request q = request_of(i, segments);

        status = slm_submit(s, &q, &ids[i], &err);
        nomem += status == SLM_NOMEM;
        *wrong += status != SLM_OK && status != SLM_NOMEM;
    }
    while (active > 0 && ++steps < 1000) {
        status = slm_step(s, &active, &err);
        nomem += status == SLM_NOMEM;
        *wrong += status != SLM_OK && status != SLM_NOMEM;
    }
    *wrong += active != 0;
    while ((r = slm_poll(s)) != NULL) {
        nomem += r->status == SLM_NOMEM;
        *wrong += r->status != SLM_OK && r->status != SLM_NOMEM;
        for (int i = 0; i < 6; i++)
            if (ids[i] == r->id && r->status == SLM_OK)
                digests[i] = digest(r);
        if (r->id % 2)
            slm_release(s, r->id);
    }
    slm_session_free(s);
    return nomem;
}

/* The vocabulary of a directory without tokenizer.json, from one input of the fuzz corpus. */
static void build_vocabulary(const char *name)
{
    static uint8_t data[1 << 16];
    char path[200];
    const char *type;
    void *blob = NULL;
    size_t bytes, n = 0;
    long allocations = 0;
    slm_hparams hp = {.n_vocab = 600, .n_token_types = 2};
    slm_error err = {0};
    slm_status status = SLM_NOMEM;
    snprintf(path, sizeof path, "test/fuzz/corpus_vocab/%s", name);
    FILE *file = fopen(path, "rb");
    n = file != NULL ? fread(data, 1, sizeof data, file) : 0;
    CHECK(n > 2, "%s cannot be read", path);
    if (file != NULL)
        fclose(file);
    write_files(data, n, &type);
    json_t *model = json_pack("{s:s}", "model_type", type);
    int fd = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int survived = 0; survived < 20 && allocations < 200000; survived += status == SLM_OK) {
        long before = alive;
        failures = 0;
        countdown = ++allocations;
        status = slm_hf_vocab_build(fd, model, &hp, (slm_hf_reading){.folder = ""}, NULL, NULL, &blob, &bytes, &err);
        countdown = -1;
        if (status == SLM_OK)
            free(blob);
        if ((status != SLM_OK && status != SLM_NOMEM) || alive != before)
            CHECK(0, "%s, allocation %ld: status %d (%s), %ld blocks are lost", name, allocations, (int) status, err.message,
                  alive - before);
        if (failures == 0)
            break;
    }
    close(fd);
    json_decref(model);
    CHECK(allocations > 50 && status == SLM_OK, "%s: %ld allocations, status %d", name, allocations, (int) status);
}

int main(void)
{
    static const char *const vocabularies[] = {"tekken_good", "merges_roberta", "tiktoken_llama", "spm_good", "unigram_albert",
                                               "config_02"};
    slm_model *model = tiny_model("Q8_0");
    uint64_t want[6] = {0};
    int wrong = 0, reported = 0, different = 0;
    long n = 0;

    CHECK(model != NULL, "the tiny model");
    CHECK(live(model, want, &wrong) == 0 && wrong == 0, "an undisturbed life");
    live(model, want, &wrong); /* what the tokenizer keeps for itself has its size now */
    for (failures = 0; n == failures; n++) {
        uint64_t got[6] = {0};
        long before = alive;

        countdown = n + 1;
        reported += live(model, got, &wrong) > 0;
        countdown = -1;
        for (int i = 0; i < 6; i++)
            different += got[i] != 0 && got[i] != want[i];
        if (alive != before)
            CHECK(0, "allocation %ld: %ld blocks are lost", n + 1, alive - before);
        if (wrong > 0) {
            CHECK(0, "allocation %ld: %d wrong states", n + 1, wrong);
            wrong = 0;
        }
    }
    CHECK(n > 100, "%ld allocations", n);
    CHECK(reported > n / 2, "%d of %ld failures were reported, the others survived", reported, n);
    CHECK(different == 0, "%d answers differ", different);
    slm_model_close(model);
    CHECK(hf_make_dir(place, sizeof place), "a directory");
    for (size_t i = 0; i < sizeof vocabularies / sizeof vocabularies[0]; i++)
        build_vocabulary(vocabularies[i]);
    remove_dir();
    TEST_MAIN_END("test_nomem");
}
