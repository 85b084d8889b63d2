/*
 * Messages between processes: requests and results come back as they were, and no change of a byte gets further than the reader; the fuzz
 * corpus replayed.  SLM_WRITE_CORPUS=folder keeps the messages that are made here.
 */
#include "../fuzz/fuzz_wire.c"

#include <math.h>

#include "replay.h"

static void keep_for_corpus(const char *name, const uint8_t *bytes, size_t n)
{
    const char *folder = getenv("SLM_WRITE_CORPUS");
    char path[600];
    FILE *file;

    if (folder == NULL)
        return;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "wb");
    CHECK(file != NULL && fwrite(bytes, 1, n, file) == n && fclose(file) == 0, "%s", path);
}

static slm_segment segment(slm_role role, unsigned flags, const char *text)
{
    return (slm_segment){.role = role, .flags = flags, .text = text, .length = strlen(text)};
}

/* A request with something in every field. */
static slm_request full_request(void)
{
    static const char *const stops[] = {"\n", "Ende"}, *const labels[] = {"ja", "nein", "weiß nicht"},
                      *const descriptions[] = {"doch", NULL, ""};
    static slm_segment segments[3];

    segments[0] = segment(SLM_ROLE_SYSTEM, SLM_SEG_PREFIX, "Be brief.");
    segments[1] = segment(SLM_ROLE_USER, SLM_SEG_JOIN | SLM_SEG_SCORED, "");
    segments[2] = segment(SLM_ROLE_ASSISTANT, SLM_SEG_SPECIAL, "Grüße, 世界");
    return (slm_request){.mode = SLM_MODE_LABELS, .realm = 0x123456789abcdef0, .public_realm = 0xfedcba9876543210, .public_bytes = 11,
                         .chat = true, .truncate = true, .segments = segments, .n_segments = 3,
                         .sampling = {0.5f, -1, 0.9f, 0.05f, 1.1f, UINT64_MAX}, .max_tokens = 77, .stops = stops, .n_stops = 2,
                         .labels = labels, .n_labels = 3, .descriptions = descriptions, .threshold = 0.25f, .prior_text = "",
                         .best_only = true, .stream = true,
                         .precise = true, .speculate = true};
}

static slm_result full_result(void)
{
    static float scores[] = {-0.5f, -INFINITY, NAN};
    static int32_t tokens[] = {0, -1, 151935};
    static char text[] = "Grüße";
    slm_result r = {.status = SLM_LIMIT, .finish = SLM_FINISH_LENGTH, .text = text, .text_length = strlen(text), .scores = scores,
                    .n_scores = 3, .best = 2, .tokens = tokens, .n_tokens = 3};
    uint64_t *figures = (uint64_t *) &r.usage;

    r.error = (slm_error){SLM_LIMIT, 28, SLM_CAUSE_LONG, SLM_HINT_KV_REQUEST, "the text is too long", "Cut it."};
    for (size_t i = 0; i < sizeof r.usage / sizeof *figures; i++)
        figures[i] = (i + 1) << 40;
    return r;
}

static size_t pack_request(const slm_request *request, const char *adapter, uint8_t **out)
{
    const slm_wire_names names = {.model = "model-key", .adapter = adapter, .constraint = adapter == NULL ? NULL : "regex: a+",
                                  .kv_type = adapter == NULL ? SLM_KV_F16 : SLM_KV_Q8};
    size_t n = slm_wire_pack_request(42, &names, request, NULL, 0);

    *out = malloc(n);
    CHECK(slm_wire_pack_request(42, &names, request, *out, n) == n, "%zu bytes", n);
    return n;
}

static size_t pack_result(const slm_result *result, uint8_t **out)
{
    size_t n = slm_wire_pack_result(43, result, NULL, 0);

    *out = malloc(n);
    CHECK(slm_wire_pack_result(43, result, *out, n) == n, "%zu bytes", n);
    return n;
}

static void check_request(void)
{
    slm_request want = full_request(), empty = {.mode = SLM_MODE_GENERATE};
    slm_wire_request got;
    slm_error err = {0};
    uint8_t *bytes, small[8] = {0};
    size_t n = pack_request(&want, "adapter-key", &bytes);

    keep_for_corpus("request", bytes, n);
    CHECK(slm_wire_pack_request(42, &(slm_wire_names){.model = "m"}, &want, small, sizeof small) > sizeof small && small[0] == 0,
          "no room: nothing");
    CHECK(slm_wire_read_request(bytes, n, &got, &err) == SLM_OK, "%s", err.message);
    memset(bytes, 0xff, n); /* the reader has a copy */
    CHECK(got.number == 42 && strcmp(got.names.model, "model-key") == 0 && strcmp(got.names.adapter, "adapter-key") == 0 &&
              strcmp(got.names.constraint, "regex: a+") == 0 && got.names.kv_type == SLM_KV_Q8, "names");
    CHECK(got.request.mode == want.mode && got.request.realm == want.realm && got.request.public_realm == want.public_realm &&
              got.request.public_bytes == 11 && got.request.chat && got.request.truncate &&
              got.request.best_only && got.request.stream && got.request.precise && got.request.speculate, "mode and flags");
    CHECK(got.request.tag == NULL && got.request.adapter == NULL && got.request.constraint == NULL, "no pointer is sent");
    CHECK(got.request.n_segments == 3, "%zu segments", got.request.n_segments);
    for (size_t i = 0; i < 3; i++)
        CHECK(got.request.segments[i].role == want.segments[i].role && got.request.segments[i].flags == want.segments[i].flags &&
                  got.request.segments[i].length == want.segments[i].length &&
                  strcmp(got.request.segments[i].text, want.segments[i].text) == 0, "segment %zu", i);
    CHECK(memcmp(&got.request.sampling, &want.sampling, sizeof want.sampling) == 0 && got.request.max_tokens == 77, "sampling");
    CHECK(got.request.n_stops == 2 && strcmp(got.request.stops[0], "\n") == 0 && strcmp(got.request.stops[1], "Ende") == 0, "stops");
    CHECK(got.request.n_labels == 3 && strcmp(got.request.labels[2], "weiß nicht") == 0 && got.request.threshold == 0.25f, "labels");
    CHECK(got.request.descriptions != NULL && strcmp(got.request.descriptions[0], "doch") == 0 && got.request.descriptions[1] == NULL &&
              strcmp(got.request.descriptions[2], "") == 0, "descriptions");
    CHECK(got.request.prior_text != NULL && got.request.prior_text[0] == '\0', "an empty text is not none");
    slm_wire_request_free(&got);
    free(bytes);
    n = pack_request(&empty, NULL, &bytes);
    keep_for_corpus("request_empty", bytes, n);
    CHECK(slm_wire_read_request(bytes, n, &got, &err) == SLM_OK, "%s", err.message);
    CHECK(got.names.adapter == NULL && got.names.constraint == NULL && got.names.kv_type == SLM_KV_F16 && got.request.n_segments == 0,
          "nothing");
    CHECK(got.request.n_stops == 0 && got.request.n_labels == 0 && got.request.descriptions == NULL && got.request.prior_text == NULL,
          "nothing");
    slm_wire_request_free(&got);
    free(bytes);
}

static void check_result(void)
{
    slm_result want = full_result(), empty = {.status = SLM_OK};
    slm_wire_result got;
    slm_error err = {0};
    uint8_t *bytes;
    size_t n = pack_result(&want, &bytes);

    keep_for_corpus("result", bytes, n);
    CHECK(slm_wire_read_result(bytes, n, &got, &err) == SLM_OK, "%s", err.message);
    CHECK(got.number == 43 && got.result.status == SLM_LIMIT, "number and status");
    CHECK(memcmp(&got.result.error, &want.error, sizeof want.error) == 0, "the error");
    CHECK(got.result.finish == want.finish && got.result.text_length == want.text_length && strcmp(got.result.text, want.text) == 0,
          "\"%s\"", got.result.text);
    CHECK(got.result.n_scores == 3 && memcmp(got.result.scores, want.scores, 3 * sizeof(float)) == 0 && got.result.best == 2, "scores");
    CHECK(got.result.n_tokens == 3 && memcmp(got.result.tokens, want.tokens, 3 * sizeof(int32_t)) == 0, "tokens");
    CHECK(memcmp(&got.result.usage, &want.usage, sizeof want.usage) == 0, "usage");
    slm_wire_result_free(&got);
    free(bytes);
    n = pack_result(&empty, &bytes);
    keep_for_corpus("result_empty", bytes, n);
    CHECK(slm_wire_read_result(bytes, n, &got, &err) == SLM_OK && got.result.text == NULL && got.result.scores == NULL &&
              got.result.tokens == NULL, "%s", err.message);
    slm_wire_result_free(&got);
    free(bytes);
}

/* Every beginning of a message, and every byte of it changed in several ways: refused, or read as what it says. */
static void check_broken(const uint8_t *bytes, size_t n, const char *kind)
{
    static const uint8_t masks[] = {0x01, 0x80, 0xff, 0x20};
    uint8_t *broken = malloc(n + 1);

    for (size_t length = 0; length < n; length++) {
        uint8_t *cut = malloc(length > 0 ? length : 1); /* exactly as large: a read beyond it is seen */

        memcpy(cut, bytes, length);
        CHECK(LLVMFuzzerTestOneInput(cut, length) == 0, "%s of %zu bytes", kind, length);
        free(cut);
    }
    for (size_t i = 0; i < n; i++)
        for (size_t m = 0; m < sizeof masks; m++) {
            memcpy(broken, bytes, n);
            broken[i] ^= masks[m];
            CHECK(LLVMFuzzerTestOneInput(broken, n) == 0, "%s, byte %zu", kind, i);
        }
    memcpy(broken, bytes, n);
    broken[n] = 0;
    CHECK(LLVMFuzzerTestOneInput(broken, n + 1) == 0, "%s and a byte more", kind);
    free(broken);
}

/* What lies about its own size is refused for that: position and value of 8 bytes, little-endian. */
static void check_lie(const uint8_t *bytes, size_t n, size_t at, uint64_t value, const char *name)
{
    uint8_t *lie = malloc(n);
    slm_wire_request request;
    slm_error err = {0};

    memcpy(lie, bytes, n);
    for (int i = 0; i < 8; i++)
        lie[at + (size_t) i] = (uint8_t) (value >> 8 * i);
    CHECK(slm_wire_read_request(lie, n, &request, &err) == SLM_FORMAT && err.message[0] != '\0', "%s", name);
    keep_for_corpus(name, lie, n);
    free(lie);
}

static void check_lies(void)
{
    slm_request request = full_request();
    uint8_t *bytes;
    size_t n = pack_request(&request, NULL, &bytes);
    /* header, key, no adapter, no constraint, mode, realms, public bytes, flags */
    size_t segments = 24 + 8 + 10 + 4 + 4 + 4 + 8 + 8 + 8 + 4;

    CHECK(bytes[segments] == 3, "%d segments", bytes[segments]);
    check_lie(bytes, n, 0, 0x0000000100000000, "request_magic");
    check_lie(bytes, n, 0, 0x000000014D4C5306, "request_version_6");
    const uint8_t numbers[] = {77, 0, 0, 0, 0, 0, 0x80, 0x3E}, *at = memmem(bytes, n, numbers, sizeof numbers); /* max_tokens, threshold */
    CHECK(at != NULL, "no threshold");
    check_lie(bytes, n, (size_t) (at - bytes), 0x7FC000000000004D, "request_threshold_nan");
    check_lie(bytes, n, (size_t) (at - bytes), 0x3F8000010000004D, "request_threshold_above_1");
    check_lie(bytes, n, 0, 0x000000024D4C5301, "request_as_result");
    check_lie(bytes, n, 8, n + 1, "request_length");
    check_lie(bytes, n, 24, UINT64_MAX, "request_key_2_64");
    check_lie(bytes, n, 24, n, "request_key_longer");
    check_lie(bytes, n, segments - 12, 9 + 15 + 1, "request_public_25"); /* a byte more than the texts have */
    check_lie(bytes, n, segments - 12, UINT64_MAX, "request_public_2_64");
    check_lie(bytes, n, segments, UINT64_MAX, "request_segments_2_64");
    check_lie(bytes, n, segments, 1000, "request_segments_1000");
    check_lie(bytes, n, segments + 8, 0x0000000000000003, "request_role_3");
    check_lie(bytes, n, segments + 8, 0x0000002000000000, "request_flag_32");
    check_lie(bytes, n, segments + 16, 10, "request_text_longer");
    bytes[segments + 24] = 0xff;
    keep_for_corpus("request_no_utf8", bytes, n);
    CHECK(LLVMFuzzerTestOneInput(bytes, n) == 0, "no UTF-8");
    free(bytes);
    request = (slm_request){.mode = SLM_MODE_JOINT};
    n = pack_request(&request, NULL, &bytes);
    check_lie(bytes, n, n - 8, 1, "request_descriptions_of_none");
    free(bytes);
}

int main(void)
{
    slm_request request = full_request();
    slm_result result = full_result();
    uint8_t *bytes;
    size_t n;

    check_request();
    check_result();
    n = pack_request(&request, "a", &bytes);
    check_broken(bytes, n, "request");
    free(bytes);
    n = pack_result(&result, &bytes);
    check_broken(bytes, n, "result");
    free(bytes);
    check_lies();
    test_replay("test/fuzz/corpus_wire", 12);
    TEST_MAIN_END("wire");
}
