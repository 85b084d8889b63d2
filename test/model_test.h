/*
 * Shared by the golden tests of the forward pass and its benchmark: reference files as JSON, a model imported into a temporary image,
 * and one sequence with its own KV blocks.
 *
 * KV memory is filled with F16 NaNs: whatever reads a lane that was not written shows at once.
 */
#ifndef SLM_MODEL_TEST_H
#define SLM_MODEL_TEST_H

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/model/model.h"
#include "golden.h"

static inline void test_die(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(2);
}

static inline void *test_alloc(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 64) / 64 * 64);
    if (p == NULL)
        test_die("test", "out of memory");
    memset(p, 0, (bytes + 64) / 64 * 64);
    return p;
}

/* NULL when there is no such file. */
static inline json_t *test_json(const char *name)
{
    char path[2048];
    snprintf(path, sizeof path, "%s/%s", golden_root(), name);
    return json_load_file(path, 0, NULL);
}

/* Integers of a JSON array, malloc'ed. */
static inline int32_t *test_ids(const json_t *array, uint32_t *n)
{
    *n = (uint32_t) json_array_size(array);
    int32_t *ids = test_alloc(*n * sizeof *ids + 1);
    for (uint32_t i = 0; i < *n; i++)
        ids[i] = (int32_t) json_integer_value(json_array_get(array, i));
    return ids;
}

/* The file of a model that is not in the repository: from the environment variable, or by name from the model cache. false: not there. */
static inline bool test_model_path(const char *variable, const char *name, char *out, size_t size)
{
    const char *given = getenv(variable), *cache = getenv("SLM_MODEL_CACHE"), *home = getenv("HOME");
    if (given != NULL && *given)
        snprintf(out, size, "%s", given);
    else if (cache != NULL && *cache)
        snprintf(out, size, "%s/%s", cache, name);
    else
        snprintf(out, size, "%s/.cache/slm_pg/%s", home != NULL ? home : "", name);
    return access(out, R_OK) == 0;
}

/* Imports a file and opens the image; the image's name is unlinked at once, its mapping stays. NULL on failure, with the reason on stderr.
 */
static inline slm_model *test_import(const char *path, const char *quantization)
{
    char image[1024];
    const char *tmp = getenv("TMPDIR");
    slm_import_options options = {.quantization = quantization};
    slm_model_info info;
    slm_model *model = NULL;
    slm_error err = {0};
    snprintf(image, sizeof image, "%s/slm_test_%d.slm", tmp != NULL && *tmp ? tmp : "/tmp", (int) getpid());
    unlink(image);
    slm_status status = slm_import(path, image, &options, NULL, NULL, NULL, &info, &err);
    if (status == SLM_OK)
        status = slm_model_open(image, &model, &err);
    if (status != SLM_OK)
        fprintf(stderr, "%s: %s\n", path, err.message);
    unlink(image);
    return status == SLM_OK ? model : NULL;
}

/* One sequence: tokens, positions and KV blocks. */
typedef struct test_sequence {
    uint32_t n; /* tokens computed so far */
    uint32_t n_blocks;
    char *memory;
    const uint16_t **table; /* [n_blocks] */
} test_sequence;

static inline test_sequence test_sequence_new(const slm_model *model, uint32_t n_positions)
{
    size_t bytes = slm_kv_block_bytes_of(&model->hp, slm_kv_type_of(model, SLM_KV_F16));
    test_sequence s = {.n_blocks = (n_positions + SLM_KV_BLOCK - 1) / SLM_KV_BLOCK};
    s.memory = test_alloc(bytes * s.n_blocks);
    memset(s.memory, 0xff, bytes * s.n_blocks);
    s.table = test_alloc(s.n_blocks * sizeof *s.table);
    for (uint32_t i = 0; i < s.n_blocks; i++)
        s.table[i] = (const uint16_t *) (s.memory + i * bytes);
    return s;
}

static inline void test_sequence_free(test_sequence *s)
{
    free(s->memory);
    free(s->table);
}

/* A growing batch. */
typedef struct test_batch {
    slm_batch b;
    uint32_t capacity;
    int32_t *tokens, *positions, *lengths;
    uint8_t *fine, *out_fine; /* of the batch, of the wanted rows */
    const uint16_t *const **blocks;
    uint32_t *out;
} test_batch;

static inline test_batch test_batch_new(uint32_t capacity)
{
    test_batch t = {.capacity = capacity};
    t.tokens = test_alloc(capacity * sizeof *t.tokens);
    t.positions = test_alloc(capacity * sizeof *t.positions);
    t.lengths = test_alloc(capacity * sizeof *t.lengths);
    t.blocks = test_alloc(capacity * sizeof *t.blocks);
    t.out = test_alloc(capacity * sizeof *t.out);
    t.fine = test_alloc(capacity);
    t.out_fine = test_alloc(capacity);
    t.b.fine = t.fine;
    t.b.tokens = t.tokens;
    t.b.positions = t.positions;
    t.b.lengths = t.lengths;
    t.b.blocks = t.blocks;
    t.b.out = t.out;
    return t;
}

static inline void test_batch_free(test_batch *t)
{
    free(t->tokens);
    free(t->positions);
    free(t->lengths);
    free(t->blocks);
    free(t->out);
    free(t->fine);
    free(t->out_fine);
}

/* Adds the next n tokens of a sequence that will be `length` long; wants the hidden states of all (out 2), the last (1) or none (0);
 * fine: with 16-bit activations. */
static inline void test_batch_add_fine(test_batch *t, test_sequence *s, const int32_t *ids, uint32_t n, uint32_t length, int out, bool fine)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = t->b.n++;
        t->tokens[k] = ids[i];
        t->positions[k] = (int32_t) s->n++;
        t->lengths[k] = (int32_t) length;
        t->blocks[k] = s->table;
        t->fine[k] = fine;
        if (out == 2 || (out == 1 && i + 1 == n)) {
            t->out_fine[t->b.n_out] = fine;
            t->out[t->b.n_out++] = k;
        }
    }
}

static inline void test_batch_add(test_batch *t, test_sequence *s, const int32_t *ids, uint32_t n, uint32_t length, int out)
{
    test_batch_add_fine(t, s, ids, n, length, out, false);
}

static inline void test_batch_clear(test_batch *t)
{
    t->b.n = t->b.n_out = 0;
}

/* Row stride of logits. */
static inline size_t test_logit_stride(const slm_model *model)
{
    return (model->hp.n_vocab + 15) / 16 * 16;
}

/* Runs a batch; logits (may be NULL): [n_out, stride]. */
static inline void test_run(const slm_model *model, slm_workspace *ws, const test_batch *t, int n_threads, float *logits)
{
    slm_error err = {0};
    float *hidden = NULL;
    slm_batch batch = t->b;
    batch.kv_type = slm_kv_type_of(model, batch.kv_type);
    if (slm_forward(model, ws, &batch, n_threads, NULL, &hidden, &err) != SLM_OK)
        test_die("slm_forward", err.message);
    if (logits != NULL && t->b.n_out > 0 &&
        slm_head_logits(model, ws, hidden, t->out_fine, t->b.n_out, n_threads, NULL, logits, test_logit_stride(model), &err) != SLM_OK)
        test_die("slm_head_logits", err.message);
}

#endif
