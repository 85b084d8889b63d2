/*
 * Keys and values in eight bits: the kernels against sums in double precision over what was stored, each instruction set against the
 * reference, and sessions on a tiny model: the same bits whatever the batch, threads, instruction set and reuse, in about half the memory.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/math.h"
#include "engine/kernels/kernels.h"
#include "slm_test.h"
#include "tiny_model.h"

static const char *const isas[] = {"ref", "avx2", "avx512", "neon"};
#define N_ISAS (sizeof isas / sizeof *isas)

static uint64_t drawn;

static float random_float(void)
{
    return (float) (slm_rng_uniform(11, drawn++) * 4 - 2);
}

/* ---- kernels */

enum { SEQUENCES = 3, POSITIONS = 91, BLOCKS = (POSITIONS + 15) / 16, QUERIES = 17, DIM = 256 };

typedef struct attention {
    uint32_t head_dim;
    size_t k_offset, v_offset, elements;
    uint16_t *memory[SEQUENCES][BLOCKS];
    const uint16_t *tables[SEQUENCES][BLOCKS];
    float keys[SEQUENCES][POSITIONS][DIM], values[SEQUENCES][POSITIONS][DIM]; /* as they were given */
    const uint16_t *const *query_tables[QUERIES];
    int32_t first[QUERIES], last[QUERIES];
    size_t q_offset[QUERIES];
    float q[QUERIES * DIM];
} attention;

/* What is stored for dimension d of a position. */
static float stored(const attention *t, int s, int p, uint32_t d, bool value)
{
    const uint16_t *plane = t->tables[s][p / 16] + (value ? t->v_offset : t->k_offset);
    const int8_t *levels = (const int8_t *) plane;
    int lane = p % 16;

    return (float) levels[value ? (uint32_t) lane * t->head_dim + d : d * 16 + (uint32_t) lane] *
           slm_f16_to_f32(plane[t->head_dim * 8 + d / 32 * 16 + (uint32_t) lane]);
}

/* Some groups have a value that is much larger than the others, some are zero. Memory that no position wrote has scales that are NaN. */
static void fill(attention *t, uint32_t head_dim)
{
    size_t plane = 8 * (size_t) head_dim + 16 * ((head_dim + 31) / 32);

    t->head_dim = head_dim;
    t->k_offset = 24;
    t->v_offset = t->k_offset + plane;
    t->elements = t->v_offset + plane;
    for (int s = 0; s < SEQUENCES; s++)
        for (int b = 0; b < BLOCKS; b++) {
            t->memory[s][b] = malloc(t->elements * sizeof(uint16_t));
            memset(t->memory[s][b], 0xFF, t->elements * sizeof(uint16_t));
            t->tables[s][b] = s == 1 && b < 2 ? t->memory[0][b] : t->memory[s][b];
        }
    for (int s = 0; s < SEQUENCES; s++)
        for (int p = 0; p < POSITIONS; p++) {
            for (uint32_t d = 0; d < head_dim; d++) {
                t->keys[s][p][d] = s == 1 && p < 32 ? t->keys[0][p][d] : random_float() * (d % 61 == 7 ? 30.0f : p % 9 == 4 ? 0.0f : 1.0f);
                t->values[s][p][d] = s == 1 && p < 32 ? t->values[0][p][d] : random_float();
            }
            slm_kernels_of("ref")->kv_store_q8((uint16_t *) (uintptr_t) t->tables[s][p / 16], t->k_offset, t->v_offset, (uint32_t) p % 16,
                                               t->keys[s][p], t->values[s][p], head_dim);
        }
    for (int i = 0; i < QUERIES; i++) {
        t->query_tables[i] = t->tables[i < 10 ? i / 5 : 2];
        t->last[i] = i % 4 == 3 ? 5 + 4 * i : i < 10 ? 60 + i : POSITIONS - 1;
        t->first[i] = i % 5 == 4 ? t->last[i] / 2 : 0;
        t->q_offset[i] = (size_t) (QUERIES - 1 - i) * head_dim;
    }
    for (size_t i = 0; i < QUERIES * (size_t) head_dim; i++)
        t->q[i] = random_float();
}

/* The worst error of what is stored, in steps of its scale. */
static double rounding(const attention *t)
{
    double worst = 0;

    for (int s = 0; s < SEQUENCES; s++)
        for (int p = 0; p < POSITIONS; p++)
            for (uint32_t d = 0; d < t->head_dim; d++)
                for (int value = 0; value < 2; value++) {
                    const float *given = value ? t->values[s][p] : t->keys[s][p];
                    float largest = 0;

                    for (uint32_t i = d / 32 * 32; i < t->head_dim && i < d / 32 * 32 + 32; i++)
                        largest = fabsf(given[i]) > largest ? fabsf(given[i]) : largest;
                    double error = fabs((double) given[d] - (double) stored(t, s, p, d, value)) / (largest > 0 ? largest / 127.0 : 1);
                    worst = error > worst || error != error ? error : worst;
                }
    return worst;
}

static double attention_error(const attention *t, const float *out, float scale)
{
    double worst = 0;

    for (int i = 0; i < QUERIES; i++) {
        int s = i < 10 ? i / 5 : 2;
        double weights[POSITIONS], total = 0, expected[DIM] = {0};

        for (int p = t->first[i]; p <= t->last[i]; p++) {
            double score = 0;

            for (uint32_t d = 0; d < t->head_dim; d++)
                score += (double) t->q[t->q_offset[i] + d] * (double) stored(t, s, p, d, false);
            weights[p] = exp(score * (double) scale);
            total += weights[p];
        }
        for (int p = t->first[i]; p <= t->last[i]; p++)
            for (uint32_t d = 0; d < t->head_dim; d++)
                expected[d] += weights[p] / total * (double) stored(t, s, p, d, true);
        for (uint32_t d = 0; d < t->head_dim; d++) {
            double error = fabs(expected[d] - (double) out[t->q_offset[i] + d]);

            worst = error > worst || error != error ? error : worst;
        }
    }
    return worst;
}

static void check_isa(const attention *t, slm_attend a, const slm_kernels *k, const float *expected)
{
    static float out[QUERIES * DIM];
    uint16_t *one = calloc(t->elements, sizeof *one), *two = calloc(t->elements, sizeof *two);
    size_t bytes = QUERIES * (size_t) t->head_dim * sizeof(float);

    a.out = out;
    k->attend(&a);
    CHECK(memcmp(out, expected, bytes) == 0, "head_dim %u: %s differs from ref", t->head_dim, k->isa);
    memset(out, 0, sizeof out);
    for (uint32_t q = 0; q < QUERIES; q++) {
        slm_attend alone = a;

        alone.n_q = 1;
        alone.q_offset += q, alone.blocks += q, alone.first += q, alone.last += q;
        k->attend(&alone);
    }
    CHECK(memcmp(out, expected, bytes) == 0, "head_dim %u: %s one by one", t->head_dim, k->isa);
    slm_kernels_of("ref")->kv_store_q8(one, t->k_offset, t->v_offset, 5, t->keys[0][7], t->values[0][8], t->head_dim);
    k->kv_store_q8(two, t->k_offset, t->v_offset, 5, t->keys[0][7], t->values[0][8], t->head_dim);
    CHECK(memcmp(one, two, t->elements * sizeof *one) == 0, "kv_store_q8 head_dim %u: %s", t->head_dim, k->isa);
    free(one);
    free(two);
}

static void test_kernels(uint32_t head_dim)
{
    static attention t;
    static float expected[QUERIES * DIM];
    float scale = 1.0f / sqrtf((float) head_dim), *scratch = calloc(slm_attend_scratch(POSITIONS), sizeof *scratch);

    fill(&t, head_dim);
    CHECK(rounding(&t) < 0.57, "head_dim %u: rounded by %g steps", head_dim, rounding(&t)); /* half, and what F16 takes of 127 */
    slm_attend a = {.q = t.q, .q_offset = t.q_offset, .out = expected, .blocks = t.query_tables, .first = t.first, .last = t.last,
                    .k_offset = t.k_offset, .v_offset = t.v_offset, .n_q = QUERIES, .head_dim = head_dim, .scale = scale,
                    .scratch = scratch, .kind = SLM_KV_KIND_Q8};
    slm_kernels_of("ref")->attend(&a);
    double error = attention_error(&t, expected, scale);
    CHECK(error < 1e-5, "head_dim %u: error %g", head_dim, error);
    for (size_t i = 0; i < N_ISAS; i++)
        if (slm_kernels_of(isas[i]) != NULL)
            check_isa(&t, a, slm_kernels_of(isas[i]), expected);
    for (int s = 0; s < SEQUENCES; s++)
        for (int b = 0; b < BLOCKS; b++)
            free(t.memory[s][b]);
    free(scratch);
}

/* Levels stay what they are where a scale leaves the range of F16. */
static void test_extremes(void)
{
    float k[32] = {3e38f, -3e38f, 1.0f}, v[32] = {1e-30f};
    uint16_t block[2 * (8 * 32 + 16)] = {0};

    for (size_t i = 0; i < N_ISAS; i++) {
        const slm_kernels *kernels = slm_kernels_of(isas[i]);

        if (kernels == NULL)
            continue;
        kernels->kv_store_q8(block, 0, 8 * 32 + 16, 0, k, v, 32);
        const int8_t *keys = (const int8_t *) block, *values = (const int8_t *) (block + 8 * 32 + 16);
        CHECK(keys[0] == 127 && keys[16] == -127 && keys[32] == 0 && slm_f16_to_f32(block[8 * 32]) == 65504.0f, "%s: large", isas[i]);
        CHECK(values[0] == 0 && block[2 * 8 * 32 + 16] == 0, "%s: small", isas[i]);
    }
}

/* ---- sessions */

static slm_model *model;

typedef struct way {
    slm_kv_type type;
    size_t kv_kib;
    uint32_t batch, sequences;
    int threads;
    const char *isa;
} way;

static slm_session *open_session(const way *w)
{
    slm_limits limits = {.kv_cache_bytes = w->kv_kib << 10, .max_batch_tokens = w->batch, .max_sequences = w->sequences,
                         .n_threads = w->threads, .kv_type = w->type};
    slm_session *s = NULL;
    slm_error err = {0};

    CHECK(slm_session_new(model, &limits, &s, &err) == SLM_OK, "%s", err.message);
    return s;
}

enum { TEXTS = 20, SCORES = 200 };

typedef struct answer {
    int32_t tokens[64];
    float scores[SCORES];
    size_t n_tokens, n_scores;
    uint64_t reused;
} answer;

static void drain(slm_session *s)
{
    CHECK(tiny_drain(s), "a step failed");
}

static void take_all(slm_session *s, answer *out)
{
    const slm_result *r;

    drain(s);
    while ((r = slm_poll(s)) != NULL) {
        answer *a = r->tag;

        CHECK(r->status == SLM_OK && r->n_tokens <= 64 && r->n_scores <= SCORES && a >= out && a < out + TEXTS, "%s", r->error.message);
        a->n_tokens = r->n_tokens;
        a->n_scores = r->n_scores;
        a->reused = r->usage.reused_tokens;
        memcpy(a->tokens, r->tokens, r->n_tokens * sizeof *r->tokens);
        if (r->n_scores > 0)
            memcpy(a->scores, r->scores, r->n_scores * sizeof *r->scores);
        slm_release(s, r->id);
    }
}

/* Answers and scores of texts that begin alike; every second answer guesses ahead, and takes guesses back. */
static void ask_all(const way *w, bool apart, answer *out)
{
    slm_session *s = open_session(w);
    slm_error err = {0};

    memset(out, 0, TEXTS * sizeof *out);
    CHECK(slm_set_isa(w->isa == NULL ? "auto" : w->isa, &err) == SLM_OK, "%s", err.message);
    for (int i = 0; i < TEXTS; i++) {
        static const char system[] = "You are a helpful assistant of tests that share the beginning of what they ask.";
        char text[100];
        bool scored = i % 4 == 3;
        slm_segment segments[2] = {{SLM_ROLE_SYSTEM, SLM_SEG_PREFIX, system, sizeof system - 1},
                                   {SLM_ROLE_USER, scored ? SLM_SEG_SCORED : 0, text, 0}};
        slm_request r = {.mode = scored ? SLM_MODE_LOGPROBS : SLM_MODE_GENERATE, .chat = true, .segments = segments, .n_segments = 2,
                         .max_tokens = 10 + (uint32_t) i, .tag = &out[i],
                         .sampling = {.temperature = i % 3 == 0 ? 1 : 0, .top_p = 1, .repeat_penalty = i % 3 == 1 ? 0.4f : 1},
                         .speculate = i % 2 == 0};
        uint64_t id;

        sprintf(text, "%d times %d is %d, and what is %d?", i, i + 1, i * (i + 1), i * 7);
        segments[1].length = strlen(text);
        if (apart) {
            slm_session_free(s);
            s = open_session(w);
        }
        CHECK(slm_submit(s, &r, &id, &err) == SLM_OK, "%s", err.message);
        if (apart)
            take_all(s, out);
    }
    take_all(s, out);
    slm_session_free(s);
    CHECK(slm_set_isa("auto", &err) == SLM_OK, "%s", err.message);
}

static int differences(const answer *a, const answer *b)
{
    int n = 0;

    for (int i = 0; i < TEXTS; i++)
        n += a[i].n_tokens != b[i].n_tokens || a[i].n_scores != b[i].n_scores ||
             memcmp(a[i].tokens, b[i].tokens, a[i].n_tokens * sizeof *a[i].tokens) != 0 ||
             (a[i].n_scores > 0 && memcmp(a[i].scores, b[i].scores, a[i].n_scores * sizeof *a[i].scores) != 0);
    return n;
}

static void test_sessions(void)
{
    static answer want[TEXTS], got[TEXTS];
    way ways[] = {{SLM_KV_Q8, 4096, 0, 0, 1, NULL}, {SLM_KV_Q8, 4096, 0, 0, 2, NULL}, {SLM_KV_Q8, 4096, 16, 1, 1, NULL},
                  {SLM_KV_Q8, 4096, 33, 7, 2, NULL}, {SLM_KV_Q8, 64, 0, 0, 1, NULL}, {SLM_KV_Q8, 4096, 0, 0, 1, "ref"},
                  {SLM_KV_Q8, 4096, 0, 0, 2, "avx2"}, {SLM_KV_Q8, 4096, 0, 0, 2, "neon"}};
    way f16 = {SLM_KV_F16, 4096, 0, 0, 1, NULL};
    uint64_t reused = 0;
    double apart = 0;
    size_t n = 0;

    ask_all(&ways[0], true, want);
    for (int i = 0; i < TEXTS; i++) {
        CHECK(want[i].n_tokens + want[i].n_scores > 0 && want[i].reused == 0, "text %d", i);
        n += want[i].n_tokens + want[i].n_scores;
    }
    CHECK(n > 20 * TEXTS, "%zu tokens", n);
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        if (ways[w].isa != NULL && slm_kernels_of(ways[w].isa) == NULL)
            continue;
        ask_all(&ways[w], false, got);
        CHECK(differences(want, got) == 0, "way %zu: %d answers differ", w, differences(want, got));
        for (int i = 0; i < TEXTS; i++)
            reused += got[i].reused;
    }
    CHECK(reused > 1000, "%llu tokens reused", (unsigned long long) reused);
    ask_all(&f16, false, got);
    CHECK(differences(want, got) > 0, "eight bits give the bits of sixteen");
    n = 0;
    for (int i = 3; i < TEXTS; i += 4)
        for (size_t k = 1; k < want[i].n_scores; k++, n++)
            apart += fabs((double) want[i].scores[k] - (double) got[i].scores[k]);
    CHECK(apart / (double) n < 0.2, "log probabilities differ by %g", apart / (double) n); /* of a random model: they are about -12 */
}

/* The same budget holds almost twice as long a text. */
static void test_memory(void)
{
    const slm_model_info *info = slm_model_get_info(model);
    char text[TINY_CONTEXT];
    slm_segment segment = {SLM_ROLE_USER, 0, text, 0};
    slm_request r = {.mode = SLM_MODE_GENERATE, .segments = &segment, .n_segments = 1, .max_tokens = 8,
                     .sampling = {.top_p = 1, .repeat_penalty = 1}};
    uint32_t head = info->kv_bytes_per_token / (4 * info->n_layers * info->n_kv_heads);
    size_t each = slm_kv_bytes_per_token(info, SLM_KV_Q8);

    CHECK(slm_kv_bytes_per_token(info, SLM_KV_F16) == info->kv_bytes_per_token, "F16");
    CHECK(each == 2 * info->n_layers * info->n_kv_heads * (head + 2 * ((head + 31) / 32)), "%zu bytes a token", each);
    memset(text, 'a', sizeof text);
    for (int type = 0; type < SLM_KV_TYPES; type++) {
        way w = {(slm_kv_type) type, info->kv_bytes_per_token * 200 >> 10, 0, 0, 1, NULL};
        slm_session *s = open_session(&w);
        slm_session_stats stats;
        slm_error err = {0};
        uint64_t id;

        segment.length = 300;
        slm_status status = slm_submit(s, &r, &id, &err);
        CHECK(status == (type == SLM_KV_Q8 ? SLM_OK : SLM_LIMIT), "type %d: %s", type, err.message);
        CHECK(status == SLM_OK || err.hint_code == SLM_HINT_KV_REQUEST, "the hint says %d", err.hint_code);
        segment.length = 100;
        CHECK(slm_submit(s, &r, &id, &err) == SLM_OK, "%s", err.message);
        drain(s);
        slm_session_get_stats(s, &stats);
        CHECK(stats.kv_bytes_limit <= w.kv_kib << 10 && stats.kv_bytes_limit > (w.kv_kib << 10) * 3 / 4, "%zu bytes", stats.kv_bytes_limit);
        slm_limits other = {.kv_cache_bytes = w.kv_kib << 11, .n_threads = 1, .kv_type = SLM_KV_F16};
        CHECK(slm_session_set_limits(s, &other, &err) == SLM_OK, "%s", err.message);
        segment.length = 300;
        CHECK(slm_submit(s, &r, &id, &err) == SLM_OK, "more memory, the same kind: %s", err.message);
        drain(s);
        slm_session_free(s);
    }
}

int main(void)
{
    static const uint32_t head_dims[] = {8, 16, 24, 32, 40, 64, 80, 96, 128, 256};

    for (size_t i = 0; i < sizeof head_dims / sizeof *head_dims; i++)
        test_kernels(head_dims[i]);
    test_extremes();
    model = tiny_model("Q8_0");
    CHECK(model != NULL, "no model");
    if (model != NULL) {
        test_sessions();
        test_memory();
    }
    slm_model_close(model);
    TEST_MAIN_END("kv_q8");
}
