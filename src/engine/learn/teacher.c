/*
 * What a teacher says: its k largest logits before each token of an answer that is given.
 *
 *   examples that go together (PASS positions, or one that is longer) ──slm_forward──► hidden rows ──head──► k largest of each
 *
 * The pass is that of requests, with the same rounding, so every family that answers can teach, with an adapter too; keys and values live
 * for the pass alone.  Student and teacher read the same tokens, so their vocabularies must be one.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/image/adapter_image.h"
#include "engine/learn/learn.h"

#define PASS 256                  /* positions computed at once */
#define LOGITS ((size_t) 4 << 20) /* floats of logits at once, about */

slm_status slm_teacher_check(const slm_teacher *teacher, const slm_model *student, slm_error *err)
{
    slm_tokenizer *a = teacher->model->tokenizer, *b = student->tokenizer;
    uint32_t n = student->hp.n_vocab;
    if (!teacher->model->hp.causal || teacher->model->head.data == NULL)
        return slm_fail(err, SLM_INVALID, "the teacher does not generate text");
    if (teacher->k < 2 || teacher->k > SLM_MOST_GUESSES || teacher->k > n)
        return slm_fail(err, SLM_INVALID, "%u logits of a teacher are wanted, of a vocabulary of %u tokens", teacher->k, n);
    if (teacher->model->hp.n_vocab != n)
        return slm_fail(err, SLM_INVALID, "the teacher's vocabulary has %u tokens, the student's %u", teacher->model->hp.n_vocab, n);
    if (a == NULL || b == NULL || slm_tokenizer_size(a) != slm_tokenizer_size(b))
        return slm_fail(err, SLM_INVALID, "teacher and student have other vocabularies");
    for (size_t i = 0; a != b && i < slm_tokenizer_size(a); i++) {
        int32_t id = (int32_t) i;
        slm_bytes x = slm_tokenizer_piece(a, id, true), y = slm_tokenizer_piece(b, id, true);
        if (x.length != y.length || memcmp(x.data, y.data, x.length) != 0 || slm_tokenizer_type(a, id) != slm_tokenizer_type(b, id))
            return slm_fail(err, SLM_INVALID, "token %d of the teacher's vocabulary is another one than the student's", id);
    }
    return SLM_OK;
}

/* ------------------------------------------------------------------ the k largest */

/* Of equals the lower id first.  false: one is not a number, or of the largest one not finite. */
static bool pick(const float *z, uint32_t n, uint32_t k, slm_guess *best)
{
    uint32_t have = 0;
    for (uint32_t c = 0; c < n; c++) {
        uint32_t at;
        if (isnan(z[c]))
            return false;
        if (have == k && z[c] <= best[k - 1].logit)
            continue;
        for (at = have < k ? have++ : k - 1; at > 0 && best[at - 1].logit < z[c]; at--)
            best[at] = best[at - 1];
        best[at] = (slm_guess){.id = (int32_t) c, .logit = z[c]};
    }
    return have == k && isfinite(best[0].logit) && isfinite(best[k - 1].logit);
}

/* ------------------------------------------------------------------ one pass */

/* The positions of some whole examples, but the last of each, behind which nothing is wanted; arrays are [n]. */
typedef struct reading {
    uint32_t n, n_blocks;
    int32_t *tokens, *positions, *lengths;
    const uint16_t *const **blocks;
    const slm_adapter **adapters;
    slm_guess **to;          /* where the logits of a position go; NULL: nowhere */
    const uint16_t **tables; /* [n_blocks] of all examples, one after the other */
    char *memory;
    slm_workspace *ws;
    uint32_t out[PASS];
    slm_guess *out_to[PASS];
    float *rows, *logits; /* [PASS, n_embd], [head_rows, ld] */
    uint32_t head_rows;
    size_t ld;
} reading;

static uint32_t blocks_of(const slm_example *e)
{
    return (e->n - 1 + SLM_KV_BLOCK - 1) / SLM_KV_BLOCK;
}

static slm_status take_memory(reading *r, const slm_teacher *t, slm_error *err)
{
    const slm_hparams *hp = &t->model->hp;
    size_t block = slm_kv_block_bytes(hp);
    r->ld = 16 * (size_t) t->model->head.n_panels;
    r->head_rows = LOGITS / r->ld < 16 ? 16 : LOGITS / r->ld > PASS ? PASS : (uint32_t) (LOGITS / r->ld);
    r->tokens = malloc(r->n * sizeof *r->tokens);
    r->positions = malloc(r->n * sizeof *r->positions);
    r->lengths = malloc(r->n * sizeof *r->lengths);
    r->blocks = malloc(r->n * sizeof *r->blocks);
    r->adapters = malloc(r->n * sizeof *r->adapters);
    r->to = malloc(r->n * sizeof *r->to);
    r->tables = malloc(r->n_blocks * sizeof *r->tables);
    r->memory = block > SIZE_MAX / r->n_blocks - 64 ? NULL : aligned_alloc(64, slm_round_up(block * r->n_blocks, 64));
    r->rows = malloc(PASS * (size_t) hp->n_embd * sizeof *r->rows);
    r->logits = aligned_alloc(64, slm_round_up(r->head_rows * r->ld * sizeof *r->logits, 64));
    r->ws = slm_workspace_new();
    if (r->tokens == NULL || r->positions == NULL || r->lengths == NULL || r->blocks == NULL || r->adapters == NULL || r->to == NULL ||
        r->tables == NULL || r->memory == NULL || r->rows == NULL || r->logits == NULL || r->ws == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for the teacher");
    for (uint32_t i = 0; i < r->n_blocks; i++)
        r->tables[i] = (const uint16_t *) (const void *) (r->memory + i * block);
    return SLM_OK;
}

static void lay_out(reading *r, const slm_teacher *t, const slm_example *list, size_t n)
{
    uint32_t at = 0, block = 0;
    for (size_t i = 0; i < n; i++) {
        const slm_example *e = &list[i];
        for (uint32_t p = 0; p + 1 < e->n; p++, at++) {
            r->tokens[at] = e->ids[p];
            r->positions[at] = (int32_t) p;
            r->lengths[at] = (int32_t) e->n;
            r->blocks[at] = r->tables + block;
            r->adapters[at] = t->adapter;
            r->to[at] = p + 1 < e->prompt ? NULL : e->guesses + (size_t) (p + 1 - e->prompt) * t->k;
        }
        block += blocks_of(e);
    }
}

static slm_status read_rows(reading *r, const slm_teacher *t, uint32_t n, slm_error *err)
{
    const slm_model *m = t->model;
    for (uint32_t first = 0; first < n; first += r->head_rows) {
        uint32_t count = n - first < r->head_rows ? n - first : r->head_rows;
        SLM_TRY(
            slm_head_logits(m, r->ws, r->rows + (size_t) first * m->hp.n_embd, NULL, count, t->n_threads, t->stop, r->logits, r->ld, err));
        for (uint32_t i = 0; i < count; i++)
            if (!pick(r->logits + i * r->ld, m->hp.n_vocab, t->k, r->out_to[first + i]))
                return slm_fail(err, SLM_INVALID, "the teacher's logits are not finite");
    }
    return SLM_OK;
}

/* Positions [at, at + n). */
static slm_status run_piece(reading *r, const slm_teacher *t, uint32_t at, uint32_t n, slm_error *err)
{
    slm_batch batch = {.n = n,
                       .tokens = r->tokens + at,
                       .positions = r->positions + at,
                       .lengths = r->lengths + at,
                       .blocks = r->blocks + at,
                       .adapters = t->adapter == NULL ? NULL : r->adapters + at,
                       .kv_type = SLM_KV_F16,
                       .out = r->out};
    float *hidden = NULL;
    for (uint32_t i = 0; i < n; i++)
        if (r->to[at + i] != NULL) {
            r->out_to[batch.n_out] = r->to[at + i];
            r->out[batch.n_out++] = i;
        }
    SLM_TRY(slm_forward(t->model, r->ws, &batch, t->n_threads, t->stop, &hidden, err));
    if (batch.n_out > 0)
        memcpy(r->rows, hidden, (size_t) batch.n_out * t->model->hp.n_embd * sizeof *r->rows);
    SLM_TRY(read_rows(r, t, batch.n_out, err));
    if (t->adapter != NULL)
        SLM_TRY(slm_adapter_check(t->adapter, err));
    return slm_model_check(t->model, err);
}

static void give_back(reading *r)
{
    void *lists[] = {r->tokens, r->positions, r->lengths, r->blocks, r->adapters, r->to, r->tables, r->memory, r->rows, r->logits};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        free(lists[i]);
    slm_workspace_free(r->ws);
}

slm_status slm_teach(const slm_teacher *teacher, const slm_example *examples, size_t n, size_t *done, slm_error *err)
{
    reading r = {0};
    size_t end = *done;
    for (; end < n && (r.n == 0 || r.n + examples[end].n - 1 <= PASS); end++) {
        const slm_example *e = &examples[end];
        if (e->prompt == 0 || e->prompt >= e->n)
            return slm_fail(err, SLM_INVALID, "example %zu has no prompt or no answer", end + 1);
        if (e->n > teacher->model->hp.n_context)
            return slm_fail(err, SLM_LIMIT, "an example has %u tokens, the teacher's context is %u", e->n, teacher->model->hp.n_context);
        r.n += e->n - 1;
        r.n_blocks += blocks_of(e);
    }
    if (r.n == 0)
        return SLM_OK;
    slm_status status = take_memory(&r, teacher, err);
    if (status == SLM_OK)
        lay_out(&r, teacher, examples + *done, end - *done);
    for (uint32_t at = 0; status == SLM_OK && at < r.n; at += PASS)
        status = run_piece(&r, teacher, at, r.n - at < PASS ? r.n - at : PASS, err);
    give_back(&r);
    if (status == SLM_OK)
        *done = end;
    return status;
}
