/*
 * The memory of one run: buffers that grow to the largest batch seen and stay until they are trimmed.
 *
 * Everything is allocated before the parallel region begins, so that no thread can fail inside it.  Buffers are 64-byte aligned and their
 * contents do not survive growth.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/arch/family.h"
#include "engine/model/run.h"

slm_status slm_buffer_need(slm_buffer *b, size_t count, size_t size, slm_error *err)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX / 2)
        return slm_fail(err, SLM_LIMIT, "a batch of this size does not fit in memory");
    if (bytes <= b->bytes)
        return SLM_OK;
    bytes = slm_round_up(bytes + bytes / 8, 64);
    void *p = aligned_alloc(64, bytes);
    if (p == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory: %zu bytes for the activations of a batch", bytes);
    memset(p, 0, bytes);
    free(b->p);
    b->p = p;
    b->bytes = bytes;
    return SLM_OK;
}

static void buffer_free(slm_buffer *b)
{
    free(b->p);
    b->p = NULL;
    b->bytes = 0;
}

slm_workspace *slm_workspace_new(void)
{
    return calloc(1, sizeof(slm_workspace));
}

static void scratch_free(slm_scratch *s)
{
    buffer_free(&s->gemm);
    buffer_free(&s->attend);
    buffer_free(&s->tile);
    buffer_free(&s->blocks);
    buffer_free(&s->norm);
    buffer_free(&s->normq);
    buffer_free(&s->queries);
    buffer_free(&s->rest);
    buffer_free(&s->fine);
    buffer_free(&s->kv);
    buffer_free(&s->table);
    buffer_free(&s->pool);
    buffer_free(&s->poolq);
    buffer_free(&s->distance);
    buffer_free(&s->state);
}

/* Every buffer of the workspace itself, NULL after the last. */
static slm_buffer *nth_buffer(slm_workspace *ws, size_t i)
{
    slm_buffer *all[] = {&ws->x,   &ws->norm, &ws->normq,   &ws->q,      &ws->k,      &ws->v,      &ws->att,  &ws->attq, &ws->ff,
                         &ws->ffq, &ws->out,  &ws->compact, &ws->angles, &ws->hidden, &ws->logits, &ws->rows,
                         &ws->fine, &ws->low, &ws->gate,   &ws->conv, &ws->open, &ws->decay,
                         &ws->embd, &ws->routes, &ws->chosen, &ws->chosenq, &ws->adapters};
    return i < sizeof all / sizeof *all ? all[i] : NULL;
}

size_t slm_workspace_bytes(const slm_workspace *ws)
{
    size_t bytes = 0;
    slm_buffer *b;
    for (size_t i = 0; (b = nth_buffer((slm_workspace *) ws, i)) != NULL; i++)
        bytes += b->bytes;
    for (int i = 0; i < ws->n_scratch; i++) {
        const slm_scratch *s = &ws->scratch[i];
        bytes += s->gemm.bytes + s->attend.bytes + s->tile.bytes + s->blocks.bytes + s->norm.bytes + s->normq.bytes + s->queries.bytes +
                 s->rest.bytes + s->fine.bytes + s->kv.bytes + s->table.bytes + s->pool.bytes + s->poolq.bytes +
                 s->distance.bytes + s->state.bytes;
    }
    for (int i = 0; i < ws->n_parts; i++)
        bytes += slm_workspace_bytes(ws->parts[i]);
    return bytes;
}

void slm_workspace_clear(slm_workspace *ws)
{
    slm_buffer *b;
    for (size_t i = 0; (b = nth_buffer(ws, i)) != NULL; i++)
        buffer_free(b);
    for (int i = 0; i < ws->n_scratch; i++)
        scratch_free(&ws->scratch[i]);
    free(ws->scratch);
    ws->scratch = NULL;
    ws->n_scratch = 0;
    for (int i = 0; i < ws->n_parts; i++)
        slm_workspace_free(ws->parts[i]);
    free(ws->parts);
    ws->parts = NULL;
    ws->n_parts = 0;
}

void slm_workspace_free(slm_workspace *ws)
{
    if (ws == NULL)
        return;
    slm_workspace_clear(ws);
    free(ws);
}

slm_status slm_workspace_parts(slm_workspace *ws, int n, slm_error *err)
{
    if (n <= ws->n_parts)
        return SLM_OK;
    slm_workspace **parts = realloc(ws->parts, (size_t) n * sizeof *parts);
    if (parts == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory: workspaces of %d threads", n);
    ws->parts = parts;
    for (; ws->n_parts < n; ws->n_parts++)
        if ((parts[ws->n_parts] = slm_workspace_new()) == NULL)
            return slm_fail(err, SLM_NOMEM, "out of memory: workspaces of %d threads", n);
    return SLM_OK;
}

static slm_status scratch_need(slm_scratch *s, const slm_run *run, uint32_t n_positions, slm_error *err)
{
    const slm_hparams *hp = run->hp;
    uint32_t group = hp->n_heads / hp->n_kv_heads;
    uint32_t queries = group > SLM_QUERIES ? group : SLM_QUERIES;
    uint32_t ff = slm_widest_ff(hp), widest = ff > hp->n_embd ? ff : hp->n_embd;
    widest = hp->n_embd_layer > widest ? hp->n_embd_layer : widest;
    widest = hp->n_ff_expert > widest ? hp->n_ff_expert : widest;
    widest = slm_joint_widest(hp) > widest ? slm_joint_widest(hp) : widest;
    if (hp->n_heads * hp->head_dim > widest)
        widest = hp->n_heads * hp->head_dim;
    if (slm_conv_out(hp) > widest)
        widest = slm_conv_out(hp);
    if (hp->delta_values > 0)
        SLM_TRY(slm_buffer_need(&s->state, slm_delta_floats(hp), sizeof(float), err));
    if (hp->n_embd_layer > 0)
        SLM_TRY(slm_buffer_need(&s->state, run->ld.beside, sizeof(float), err));
    SLM_TRY(slm_buffer_need(&s->gemm, slm_gemm_scratch_bytes(widest), 1, err));
    SLM_TRY(slm_buffer_need(&s->attend, slm_attend_scratch(n_positions), sizeof(float), err));
    SLM_TRY(slm_buffer_need(&s->tile, 2 * SLM_TILE_ROWS * SLM_TILE_COLS, sizeof(float), err));
    SLM_TRY(slm_buffer_need(&s->blocks, SLM_TILE_ROWS * SLM_TILE_COLS / 32, sizeof(slm_qblock), err));
    SLM_TRY(slm_buffer_need(&s->norm, SLM_SOLO_ROWS * run->ld.embd, sizeof(float), err));
    SLM_TRY(slm_buffer_need(&s->normq, 2 * SLM_SOLO_ROWS * (run->ld.embd / 32 + 1), sizeof(slm_qblock), err));
    if (run->fine != NULL) {
        SLM_TRY(slm_buffer_need(&s->rest, widest, sizeof(float), err));
        SLM_TRY(slm_buffer_need(&s->fine, SLM_TILE_ROWS * SLM_TILE_COLS, sizeof(float), err));
    }
    if (!hp->causal) {
        size_t blocks = (n_positions + SLM_KV_BLOCK - 1) / SLM_KV_BLOCK;
        SLM_TRY(slm_buffer_need(&s->kv, blocks, 2 * SLM_KV_BLOCK * hp->head_dim * sizeof(uint16_t), err));
        SLM_TRY(slm_buffer_need(&s->table, blocks, sizeof(uint16_t *), err));
        if (hp->relative_span > 0)
            SLM_TRY(slm_buffer_need(&s->distance, slm_distance_floats(hp, n_positions), sizeof(float), err));
    }
    return slm_buffer_need(&s->queries, queries, 4 * sizeof(size_t), err);
}

static slm_status threads_need(slm_workspace *ws, int n_threads, slm_error *err)
{
    if (n_threads <= ws->n_scratch)
        return SLM_OK;
    slm_scratch *p = realloc(ws->scratch, (size_t) n_threads * sizeof *p);
    if (p == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory: scratch of %d threads", n_threads);
    memset(p + ws->n_scratch, 0, (size_t) (n_threads - ws->n_scratch) * sizeof *p);
    ws->scratch = p;
    ws->n_scratch = n_threads;
    return SLM_OK;
}

slm_status slm_run_init(slm_run *run, const slm_model *model, slm_workspace *ws, const uint8_t *fine, uint32_t n, uint32_t n_out,
                        uint32_t n_positions, int n_threads, const volatile int *stop, slm_error *err)
{
    const slm_hparams *hp = &model->hp;
    memset(run, 0, sizeof *run);
    run->model = model;
    run->hp = hp;
    run->kn = slm_kernels_get();
    run->ws = ws;
    run->stop = stop;
    run->n = n;
    run->fine = fine;
    run->n_threads = n_threads;
    run->solo = n <= SLM_SOLO_ROWS;
    run->ld.embd = slm_round_up(hp->n_embd, 16);
    uint32_t q = hp->n_heads * hp->head_dim, conv_out = hp->delta_values > 0 ? slm_conv_out(hp) : 0;
    run->ld.q = slm_round_up(q > conv_out ? q : conv_out, 16);
    run->ld.gate = run->ld.q;
    uint32_t kv = (hp->n_decide > 0 ? hp->n_heads : hp->n_kv_heads) * hp->head_dim, kv_local = hp->n_kv_heads_local * hp->head_dim_local;
    run->ld.kv = slm_round_up(kv > kv_local ? kv : kv_local, 16);
    run->ld.beside = slm_round_up((size_t) hp->n_layers * hp->n_embd_layer, 16);
    run->ld.ff = slm_round_up(slm_widest_ff(hp) > hp->n_embd_layer ? slm_widest_ff(hp) : hp->n_embd_layer, 16);
    run->ld.conv = slm_round_up(hp->delta_values > 0 ? slm_conv_width(hp) : 3 * (size_t) hp->n_embd, 16);

    size_t terms = fine != NULL ? 2 : 1;
    SLM_TRY(slm_buffer_need(&ws->x, n * run->ld.embd, sizeof(float), err));
    SLM_TRY(slm_buffer_need(&ws->norm, n * run->ld.embd, sizeof(float), err));
    SLM_TRY(slm_buffer_need(&ws->normq, terms * n * (run->ld.embd / 32 + 1), sizeof(slm_qblock), err));
    SLM_TRY(slm_buffer_need(&ws->q, n * run->ld.q, sizeof(float), err));
    SLM_TRY(slm_buffer_need(&ws->k, n * run->ld.kv, sizeof(float), err));
    SLM_TRY(slm_buffer_need(&ws->v, n * run->ld.kv, sizeof(float), err));
    SLM_TRY(slm_buffer_need(&ws->att, n * run->ld.q, sizeof(float), err));
    SLM_TRY(slm_buffer_need(&ws->attq, terms * n * (run->ld.q / 32 + 1), sizeof(slm_qblock), err));
    if (model->quantized)
        SLM_TRY(slm_buffer_need(&ws->ffq, terms * n * (run->ld.ff / 32 + 1), sizeof(slm_qblock), err));
    if (hp->n_embd_layer > 0)
        SLM_TRY(slm_buffer_need(&ws->embd, n * run->ld.beside, sizeof(float), err));
    if (model->floats || hp->n_embd_layer > 0)
        SLM_TRY(slm_buffer_need(&ws->ff, n * run->ld.ff, sizeof(float), err));
    if (hp->post_norm_only || model->layers[0].attn_post_norm != NULL || (hp->causal && model->position_embd.data != NULL))
        SLM_TRY(slm_buffer_need(&ws->out, n * run->ld.embd, sizeof(float), err));
    if (hp->conv_length > 0)
        SLM_TRY(slm_buffer_need(&ws->conv, n * run->ld.conv, sizeof(float), err));
    if (hp->attn_gate || hp->delta_values > 0)
        SLM_TRY(slm_buffer_need(&ws->open, n * run->ld.gate, sizeof(float), err));
    if (hp->delta_values > 0)
        SLM_TRY(slm_buffer_need(&ws->decay, 2 * n * slm_round_up(hp->delta_values, 16), sizeof(float), err));
    if (hp->n_experts > 0)
        SLM_TRY(slm_experts_need(run, n, err));
    if (n_out > 0) {
        SLM_TRY(slm_buffer_need(&ws->compact, n_out * run->ld.embd, sizeof(float), err));
        SLM_TRY(slm_buffer_need(&ws->hidden, n_out * (size_t) hp->n_embd, sizeof(float), err));
    }
    SLM_TRY(slm_buffer_need(&ws->angles, 2 * (size_t) n, 2 * (hp->n_rot / 2) * sizeof(float), err));
    SLM_TRY(threads_need(ws, n_threads, err));
    for (int i = 0; i < n_threads; i++)
        SLM_TRY(scratch_need(&ws->scratch[i], run, n_positions, err));
    return SLM_OK;
}
