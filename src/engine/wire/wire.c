/*
 * Packing and reading of messages (wire.h).
 *
 * The writer is run over a request or result once to count and once to write.  The reader moves through a private copy; the first thing
 * that is wrong ends it, and everything after that reads as zero.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/base/utf8.h"
#include "engine/wire/wire.h"

#if UINTPTR_MAX == UINT64_MAX
_Static_assert(sizeof(slm_request) == 184, "a field of slm_request that is new: does wire.c send it?");
_Static_assert(sizeof(slm_result) == 880, "a field of slm_result that is new: does wire.c send it?");
#endif

enum { KIND_REQUEST = 1, KIND_RESULT = 2 };
enum { HEADER_BYTES = 24 };

static const uint32_t magic = 0x4D4C5300 | SLM_WIRE_VERSION;

/* ---- writing */

typedef struct writer {
    uint8_t *to; /* NULL: only counts */
    size_t n;
} writer;

static void put(writer *w, const void *bytes, size_t n)
{
    if (w->to != NULL && n > 0)
        memcpy(w->to + w->n, bytes, n);
    w->n += n;
}

static void put_u32(writer *w, uint32_t x)
{
    uint8_t b[4] = {(uint8_t) x, (uint8_t) (x >> 8), (uint8_t) (x >> 16), (uint8_t) (x >> 24)};

    put(w, b, sizeof b);
}

static void put_u64(writer *w, uint64_t x)
{
    put_u32(w, (uint32_t) x);
    put_u32(w, (uint32_t) (x >> 32));
}

static void put_f32(writer *w, float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    put_u32(w, bits);
}

static void put_text(writer *w, const char *text, size_t length)
{
    put_u64(w, length);
    put(w, text, length);
    put(w, "", 1);
}

static void put_string(writer *w, const char *s)
{
    put_text(w, s, strlen(s));
}

/* NULL is no text, which differs from an empty one. */
static void put_maybe(writer *w, const char *s)
{
    put_u32(w, s != NULL);
    if (s != NULL)
        put_string(w, s);
}

static void put_strings(writer *w, const char *const *strings, size_t n)
{
    put_u64(w, n);
    for (size_t i = 0; i < n; i++)
        put_string(w, strings[i]);
}

/* n_labels of them, each maybe none; NULL: none at all. */
static void put_descriptions(writer *w, const slm_request *r)
{
    put_u32(w, r->descriptions != NULL);
    for (size_t i = 0; r->descriptions != NULL && i < r->n_labels; i++)
        put_maybe(w, r->descriptions[i]);
}

static void put_header(writer *w, uint32_t kind, size_t bytes, uint64_t number)
{
    put_u32(w, magic);
    put_u32(w, kind);
    put_u64(w, bytes);
    put_u64(w, number);
}

enum { CHAT = 1, TRUNCATE = 2, BEST_ONLY = 4, STREAM = 8, PRECISE = 16, SPECULATE = 32, KV_Q8 = 64, ALL_FLAGS = 127 };

static void put_request(writer *w, const slm_wire_names *names, const slm_request *r)
{
    put_string(w, names->model);
    put_maybe(w, names->adapter);
    put_maybe(w, names->constraint);
    put_u32(w, (uint32_t) r->mode);
    put_u64(w, r->realm);
    put_u64(w, r->public_realm);
    put_u64(w, r->public_bytes);
    put_u32(w, (r->chat ? CHAT : 0) | (r->truncate ? TRUNCATE : 0) | (r->best_only ? BEST_ONLY : 0) | (r->stream ? STREAM : 0) |
                   (r->precise ? PRECISE : 0) | (r->speculate ? SPECULATE : 0) | (names->kv_type == SLM_KV_Q8 ? KV_Q8 : 0));
    put_u64(w, r->n_segments);
    for (size_t i = 0; i < r->n_segments; i++) {
        put_u32(w, (uint32_t) r->segments[i].role);
        put_u32(w, r->segments[i].flags);
        put_text(w, r->segments[i].text, r->segments[i].length);
    }
    put_f32(w, r->sampling.temperature);
    put_u32(w, (uint32_t) r->sampling.top_k);
    put_f32(w, r->sampling.top_p);
    put_f32(w, r->sampling.min_p);
    put_f32(w, r->sampling.repeat_penalty);
    put_u64(w, r->sampling.seed);
    put_u32(w, r->max_tokens);
    put_f32(w, r->threshold);
    put_strings(w, r->stops, r->n_stops);
    put_strings(w, r->labels, r->n_labels);
    put_descriptions(w, r);
    put_maybe(w, r->prior_text);
}

static void put_error(writer *w, const slm_error *e)
{
    put_u32(w, (uint32_t) e->status);
    put_u32(w, (uint32_t) e->os_error);
    put_u32(w, (uint32_t) e->cause);
    put_u32(w, (uint32_t) e->hint_code);
    put_string(w, e->message);
    put_string(w, e->hint);
}

static void put_result(writer *w, const slm_result *r)
{
    put_u32(w, (uint32_t) r->status);
    put_error(w, &r->error);
    put_u32(w, (uint32_t) r->finish);
    put_u32(w, r->text != NULL);
    if (r->text != NULL)
        put_text(w, r->text, r->text_length);
    put_u64(w, r->n_scores);
    for (size_t i = 0; i < r->n_scores; i++)
        put_f32(w, r->scores[i]);
    put_u32(w, r->best);
    put_u64(w, r->n_tokens);
    for (size_t i = 0; i < r->n_tokens; i++)
        put_u32(w, (uint32_t) r->tokens[i]);
#define FIGURE(name) put_u64(w, r->usage.name);
#include "engine/base/usage.def"
#undef FIGURE
}

size_t slm_wire_pack_request(uint64_t number, const slm_wire_names *names, const slm_request *request, void *to, size_t room)
{
    writer count = {.n = HEADER_BYTES}, w = {.to = to};

    put_request(&count, names, request);
    if (count.n <= room) {
        put_header(&w, KIND_REQUEST, count.n, number);
        put_request(&w, names, request);
    }
    return count.n;
}

size_t slm_wire_pack_result(uint64_t number, const slm_result *result, void *to, size_t room)
{
    writer count = {.n = HEADER_BYTES}, w = {.to = to};

    put_result(&count, result);
    if (count.n <= room) {
        put_header(&w, KIND_RESULT, count.n, number);
        put_result(&w, result);
    }
    return count.n;
}

/* ---- reading */

typedef struct reader {
    uint8_t *at, *end; /* of the private copy */
    const char *wrong; /* what is; NULL: nothing yet */
    char *arrays;      /* [room] bytes for what is made of lists, of which `used` are */
    size_t room, used;
} reader;

static void fail(reader *r, const char *wrong)
{
    if (r->wrong == NULL)
        r->wrong = wrong;
    r->at = r->end;
}

static size_t left(const reader *r)
{
    return (size_t) (r->end - r->at);
}

static uint32_t get_u32(reader *r)
{
    const uint8_t *b = r->at;

    if (left(r) < 4) {
        fail(r, "it ends too early");
        return 0;
    }
    r->at += 4;
    return (uint32_t) b[0] | (uint32_t) b[1] << 8 | (uint32_t) b[2] << 16 | (uint32_t) b[3] << 24;
}

static uint64_t get_u64(reader *r)
{
    uint64_t low = get_u32(r);

    return low | (uint64_t) get_u32(r) << 32;
}

static float get_f32(reader *r)
{
    uint32_t bits = get_u32(r);
    float x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

/* One of 0 ... most. */
static uint32_t get_choice(reader *r, uint32_t most, const char *wrong)
{
    uint32_t x = get_u32(r);

    if (x <= most)
        return x;
    fail(r, wrong);
    return 0;
}

/* Valid UTF-8 without a NUL inside, as everything behind the engine's door takes it; never NULL. */
static char *get_text(reader *r, size_t *length)
{
    uint64_t n = get_u64(r);
    char *text = (char *) r->at;

    *length = 0;
    if (r->wrong != NULL || n >= left(r)) {
        fail(r, "a text is longer than the message");
        return "";
    }
    if (text[n] != '\0' || memchr(text, '\0', (size_t) n) != NULL || slm_utf8_valid_prefix(text, (size_t) n) != n) {
        fail(r, "a text is no UTF-8");
        return "";
    }
    r->at += n + 1;
    *length = (size_t) n;
    return text;
}

static const char *get_string(reader *r)
{
    size_t length;

    return get_text(r, &length);
}

static const char *get_maybe(reader *r)
{
    return get_choice(r, 1, "a mark is neither 0 nor 1") != 0 ? get_string(r) : NULL;
}

/* The length of a list whose elements take at least `bytes` each in the message. */
static size_t get_count(reader *r, size_t bytes)
{
    uint64_t n = get_u64(r);

    if (n <= left(r) / bytes)
        return (size_t) n;
    fail(r, "a list is longer than the message");
    return 0;
}

/* Room for a list of n elements of `bytes` each. */
static void *get_room(reader *r, size_t n, size_t bytes)
{
    void *at = r->arrays + r->used;

    if (n == 0)
        return NULL;
    if (n > (r->room - r->used) / bytes) {
        fail(r, "its lists are longer than the message");
        return NULL;
    }
    r->used += (n * bytes + 7) / 8 * 8;
    r->used = r->used < r->room ? r->used : r->room;
    return at;
}

static const char *const *get_strings(reader *r, size_t *n)
{
    size_t count = get_count(r, 9);
    const char **strings = get_room(r, count, sizeof *strings);

    *n = strings == NULL ? 0 : count;
    for (size_t i = 0; i < *n; i++)
        strings[i] = get_string(r);
    return strings;
}

/* One for each of n labels, which the message has named. */
static const char *const *get_descriptions(reader *r, size_t n)
{
    bool any = get_choice(r, 1, "a mark is neither 0 nor 1") != 0;
    const char **descriptions = any ? get_room(r, n, sizeof *descriptions) : NULL;

    if (any && n == 0)
        fail(r, "it describes labels, but names none");
    for (size_t i = 0; descriptions != NULL && i < n; i++)
        descriptions[i] = get_maybe(r);
    return descriptions;
}

static void get_segments(reader *r, slm_request *out)
{
    const unsigned flags = SLM_SEG_PREFIX | SLM_SEG_JOIN | SLM_SEG_SPECIAL | SLM_SEG_SCORED | SLM_SEG_WHOLE;
    size_t count = get_count(r, 17);
    slm_segment *segments = get_room(r, count, sizeof *segments);

    out->segments = segments;
    out->n_segments = segments == NULL ? 0 : count;
    for (size_t i = 0; i < out->n_segments; i++) {
        segments[i].role = (slm_role) get_choice(r, SLM_ROLE_ASSISTANT, "a role is unknown");
        segments[i].flags = get_choice(r, flags, "a flag is unknown");
        segments[i].text = get_text(r, &segments[i].length);
    }
}

static uint64_t text_bytes(const slm_request *q)
{
    uint64_t n = 0;

    for (size_t i = 0; i < q->n_segments; i++)
        n += q->segments[i].length;
    return n;
}

static void get_request(reader *r, slm_wire_request *out)
{
    slm_request *q = &out->request;
    uint64_t public_bytes;
    uint32_t flags;

    out->names.model = get_string(r);
    out->names.adapter = get_maybe(r);
    out->names.constraint = get_maybe(r);
    q->mode = (slm_mode) get_choice(r, SLM_MODE_SPANS, "the mode is unknown");
    q->realm = get_u64(r);
    q->public_realm = get_u64(r);
    public_bytes = get_u64(r);
    flags = get_choice(r, ALL_FLAGS, "a flag is unknown");
    q->chat = (flags & CHAT) != 0;
    q->truncate = (flags & TRUNCATE) != 0;
    q->best_only = (flags & BEST_ONLY) != 0;
    q->stream = (flags & STREAM) != 0;
    q->precise = (flags & PRECISE) != 0;
    q->speculate = (flags & SPECULATE) != 0;
    out->names.kv_type = (flags & KV_Q8) != 0 ? SLM_KV_Q8 : SLM_KV_F16;
    get_segments(r, q);
    if (public_bytes > text_bytes(q))
        fail(r, "more of its text is public than there is");
    q->public_bytes = (size_t) public_bytes;
    q->sampling.temperature = get_f32(r);
    q->sampling.top_k = (int32_t) get_u32(r);
    q->sampling.top_p = get_f32(r);
    q->sampling.min_p = get_f32(r);
    q->sampling.repeat_penalty = get_f32(r);
    q->sampling.seed = get_u64(r);
    q->max_tokens = get_u32(r);
    q->threshold = get_f32(r);
    if (!(q->threshold >= 0 && q->threshold <= 1))
        fail(r, "a threshold is no probability");
    q->stops = get_strings(r, &q->n_stops);
    q->labels = get_strings(r, &q->n_labels);
    q->descriptions = get_descriptions(r, q->n_labels);
    q->prior_text = get_maybe(r);
}

static void get_words(reader *r, char *to, size_t size)
{
    size_t length;
    const char *words = get_text(r, &length);

    if (length >= size) {
        fail(r, "an error has too many words");
        return;
    }
    memcpy(to, words, length + 1);
}

static void get_error(reader *r, slm_error *out)
{
    out->status = (slm_status) get_choice(r, SLM_INTERNAL, "a status is unknown");
    out->os_error = (int) get_choice(r, 65535, "an error's number is none");
    out->cause = (slm_cause) get_choice(r, SLM_CAUSE_POISON, "a cause is unknown");
    out->hint_code = (slm_hint_code) get_choice(r, SLM_HINT_OLD_IMAGE, "a hint is unknown");
    get_words(r, out->message, sizeof out->message);
    get_words(r, out->hint, sizeof out->hint);
}

static void get_result(reader *r, slm_result *out)
{
    size_t n;

    out->status = (slm_status) get_choice(r, SLM_INTERNAL, "a status is unknown");
    get_error(r, &out->error);
    out->finish = (slm_finish) get_choice(r, SLM_FINISH_CONTEXT, "the end of an answer is unknown");
    if (get_choice(r, 1, "a mark is neither 0 nor 1") != 0)
        out->text = get_text(r, &out->text_length);
    n = get_count(r, 4);
    out->scores = get_room(r, n, sizeof *out->scores);
    out->n_scores = out->scores == NULL ? 0 : n;
    for (size_t i = 0; i < out->n_scores; i++)
        out->scores[i] = get_f32(r);
    out->best = get_u32(r);
    if (out->best > 0 && out->best >= out->n_scores)
        fail(r, "the best label is none of them");
    n = get_count(r, 4);
    out->tokens = get_room(r, n, sizeof *out->tokens);
    out->n_tokens = out->tokens == NULL ? 0 : n;
    for (size_t i = 0; i < out->n_tokens; i++)
        out->tokens[i] = (int32_t) get_u32(r);
#define FIGURE(name) out->usage.name = get_u64(r);
#include "engine/base/usage.def"
#undef FIGURE
}

/* Copies the message and checks its header; the lists of a message take no more than a few times its own bytes. */
static slm_status begin(reader *r, const void *bytes, size_t n, uint32_t kind, uint64_t *number, void **memory, void **arrays,
                        slm_error *err)
{
    *r = (reader){0};
    *memory = *arrays = NULL;
    if (n < HEADER_BYTES)
        return slm_fail(err, SLM_FORMAT, "a message of %zu bytes is none", n);
    if (n > SIZE_MAX / 8)
        return slm_fail(err, SLM_NOMEM, "out of memory for a message of %zu bytes", n);
    r->room = 2 * n + 64;
    *memory = malloc(n);
    *arrays = calloc(r->room, 1);
    if (*memory == NULL || *arrays == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for a message of %zu bytes", n);
    memcpy(*memory, bytes, n);
    r->at = *memory;
    r->end = r->at + n;
    r->arrays = *arrays;
    if (get_u32(r) != magic)
        fail(r, "it has another beginning or version");
    if (get_u32(r) != kind)
        fail(r, "it is of another kind");
    if (get_u64(r) != n)
        fail(r, "it has another length");
    *number = get_u64(r);
    return SLM_OK;
}

static slm_status end(const reader *r, slm_error *err)
{
    const char *wrong = r->wrong != NULL ? r->wrong : left(r) > 0 ? "something follows its end" : NULL;

    return wrong == NULL ? SLM_OK : slm_fail(err, SLM_FORMAT, "a message between processes is wrong: %s", wrong);
}

slm_status slm_wire_read_request(const void *bytes, size_t n, slm_wire_request *out, slm_error *err)
{
    slm_wire_request got = {0};
    reader r;
    slm_status status = begin(&r, bytes, n, KIND_REQUEST, &got.number, &got.memory, &got.arrays, err);

    if (status == SLM_OK) {
        get_request(&r, &got);
        status = end(&r, err);
    }
    if (status != SLM_OK)
        slm_wire_request_free(&got);
    else
        *out = got;
    return status;
}

slm_status slm_wire_read_result(const void *bytes, size_t n, slm_wire_result *out, slm_error *err)
{
    slm_wire_result got = {0};
    reader r;
    slm_status status = begin(&r, bytes, n, KIND_RESULT, &got.number, &got.memory, &got.arrays, err);

    if (status == SLM_OK) {
        get_result(&r, &got.result);
        status = end(&r, err);
    }
    if (status != SLM_OK)
        slm_wire_result_free(&got);
    else
        *out = got;
    return status;
}

void slm_wire_request_free(slm_wire_request *request)
{
    free(request->memory);
    free(request->arrays);
    *request = (slm_wire_request){0};
}

void slm_wire_result_free(slm_wire_result *result)
{
    free(result->memory);
    free(result->arrays);
    *result = (slm_wire_result){0};
}
