/*
 * Self-attention of a batch: what happens between the q, k, v products and the output product.
 *
 *   keys stage     unit = some batch rows: norm and rotation of k, then k and v into lane `position % 16` of their KV block
 *   attend stage   unit = (KV head, tile of rows): norm and rotation of the group's queries, attention, quantization of the result
 *
 * All query heads that share a KV head go into one kernel call, so that each key is converted once for the whole group.  Rows of a tile may
 * belong to different sequences.  When no row of the batch can see another row's new key (own_kv: a decode step of many sequences), the
 * attend unit of a row stores its own key first and the two stages are one.
 *
 * Units are handed out from the end of the batch: the last rows of a prompt see the most keys and take longest.
 *
 * KV block (16 positions), in F16 elements: for layer l and KV head h, at ((l * n_kv_heads + h) * 2) * 16 * head_dim: K as
 * [head_dim][16], then V as [16][head_dim].  In eight bits a plane is 8 * head_dim of them and 16 scales for each 32 dimensions, in F32
 * (models that are kept in F32: slm_kv_type_of) 32 * head_dim.
 * A layer with a convolution (convolve.c, delta.c) has slm_conv_block elements instead, in eight bits as in F16.  Gemma 4: narrow heads
 * have narrow planes, and layers that share keys read those of slm_layer_keys.
 */
#include <string.h>

#include "engine/arch/family.h"
#include "engine/base/math.h"
#include "engine/model/run.h"

#define KEY_ROWS 16 /* rows of one unit of the keys stage */

_Static_assert((int) SLM_KV_F16 == SLM_KV_KIND_F16 && (int) SLM_KV_Q8 == SLM_KV_KIND_Q8 && (int) SLM_KV_F32 == SLM_KV_KIND_F32, "kinds");

/* F16 elements of the keys, or of the values, of one head. */
static size_t plane_of(uint32_t head_dim, slm_kv_type type)
{
    size_t n = (size_t) SLM_KV_BLOCK * head_dim;
    if (type == SLM_KV_Q8)
        return n / 2 + (size_t) SLM_KV_BLOCK * ((head_dim + SLM_KV_GROUP - 1) / SLM_KV_GROUP);
    return type == SLM_KV_F32 ? 2 * n : n;
}

/* Layers before this one whose bit is set. */
static uint32_t marked(const uint32_t *layers, uint32_t layer)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < layer; i += 32)
        n += (uint32_t) __builtin_popcount(layers[i / 32] & (layer - i >= 32 ? UINT32_MAX : (1u << (layer - i)) - 1));
    return n;
}

/* F16 elements of a block before this layer's, which has keys or a convolution; n_layers: of a block. */
static size_t layer_offset(const slm_hparams *hp, slm_kv_type type, uint32_t layer)
{
    uint32_t last = slm_layers_with_keys(hp);
    layer = layer < last ? layer : last;
    size_t conv = hp->conv_length > 0 ? marked(hp->conv_layers, layer) : 0;
    size_t narrow = hp->head_dim_local > 0 && hp->window > 0 ? marked(hp->slides, layer) : 0, wide = layer - conv - narrow;
    size_t planes = wide * plane_of(hp->head_dim, type) + (narrow > 0 ? narrow * plane_of(hp->head_dim_local, type) : 0);
    return planes * hp->n_kv_heads * 2 + conv * slm_conv_block(hp, type == SLM_KV_F32);
}

size_t slm_kv_block_bytes_of(const slm_hparams *hp, slm_kv_type type)
{
    return layer_offset(hp, type, hp->n_layers) * sizeof(uint16_t);
}

slm_kv_type slm_kv_type_of(const slm_model *model, slm_kv_type asked)
{
    return asked == SLM_KV_F16 && slm_image_wide_keys(slm_model_get_info(model)) ? SLM_KV_F32 : asked;
}

size_t slm_kv_block_bytes(const slm_hparams *hp)
{
    return slm_kv_block_bytes_of(hp, SLM_KV_F16);
}

size_t slm_conv_offset(const slm_hparams *hp, slm_kv_type type, uint32_t layer)
{
    return layer_offset(hp, type, layer);
}

void slm_kv_offsets(const slm_hparams *hp, slm_kv_type type, uint32_t layer, uint32_t kv_head, size_t *k_offset, size_t *v_offset)
{
    layer = slm_layer_keys(hp, layer);
    size_t plane = plane_of(slm_layer_head_dim(hp, layer), type);
    *k_offset = layer_offset(hp, type, layer) + (size_t) kv_head * 2 * plane;
    *v_offset = *k_offset + plane;
}

slm_act slm_attention_act(const slm_run *run, uint32_t cols, const uint8_t *fine)
{
    slm_act a = {.q = run->ws->attq.p, .x = run->ws->att.p, .ldx = run->ld.q, .fine = fine};
    a.ldq = cols / 32;
    a.lo = fine == NULL ? NULL : a.q + run->n * a.ldq;
    return a;
}

void slm_quantize_attention(const slm_run *run, slm_scratch *s, uint32_t row, uint32_t width, uint32_t col, uint32_t cols,
                            const uint8_t *fine)
{
    slm_act a = slm_attention_act(run, width, fine);
    slm_qblock *q = (slm_qblock *) run->ws->attq.p + row * a.ldq + col / 32;
    slm_quantize_row(run, s, a.x + row * a.ldx + col, cols, q, fine != NULL && fine[row] ? q + run->n * a.ldq : NULL);
}

void slm_turn_heads(const slm_run *run, const float *norm, uint32_t layer, uint32_t row, uint32_t n_heads, float *x)
{
    const slm_hparams *hp = run->hp;
    const float *cosine = slm_rope_row(run, layer, row);
    uint32_t head_dim = slm_layer_head_dim(hp, layer), n_rot = slm_layer_rot(hp, layer);
    for (uint32_t h = 0; h < n_heads; h++, x += head_dim) {
        if (norm != NULL && !run->model->qk_norm_rows)
            run->kn->rms_norm(x, norm, x, head_dim, hp->norm_eps);
        if (cosine != NULL)
            run->kn->rope(x, cosine, cosine + n_rot / 2, n_rot, (int) hp->rope_interleaved);
    }
}

/* As kv_store, in F32. */
static void store_wide(uint16_t *block, size_t k_offset, size_t v_offset, uint32_t lane, const float *k, const float *v, uint32_t head_dim)
{
    float *keys = (float *) (void *) (block + k_offset) + lane;
    for (uint32_t d = 0; d < head_dim; d++)
        keys[(size_t) d * SLM_KV_BLOCK] = k[d];
    memcpy((float *) (void *) (block + v_offset) + (size_t) lane * head_dim, v, head_dim * sizeof *v);
}

/* The key and value of one KV head of one batch row, into the row's KV block. */
static void store_key(const slm_run *run, uint32_t layer, uint32_t row, uint32_t kv_head)
{
    const slm_hparams *hp = run->hp;
    const slm_batch *batch = run->batch;
    int32_t position = batch->positions[row];
    uint32_t head_dim = slm_layer_head_dim(hp, layer);
    float *k = (float *) run->ws->k.p + row * run->ld.kv + (size_t) kv_head * head_dim;
    float *v = (float *) run->ws->v.p + row * run->ld.kv + (size_t) kv_head * head_dim;
    /* the table is read-only for the batch's owner, its blocks are what we write */
    uint16_t *block = (uint16_t *) (uintptr_t) batch->blocks[row][position / SLM_KV_BLOCK];
    size_t k_offset, v_offset;

    slm_turn_heads(run, run->model->layers[layer].k_norm, layer, row, 1, k);
    if (hp->value_norm)
        run->kn->rms_norm(v, run->model->ones, v, head_dim, hp->norm_eps);
    slm_kv_offsets(hp, batch->kv_type, layer, kv_head, &k_offset, &v_offset);
    (batch->kv_type == SLM_KV_Q8    ? run->kn->kv_store_q8
     : batch->kv_type == SLM_KV_F32 ? store_wide
                                    : run->kn->kv_store)(block, k_offset, v_offset, (uint32_t) position % SLM_KV_BLOCK, k, v, head_dim);
}

void slm_stage_keys(slm_lane *t, uint32_t layer)
{
    const slm_run *run = t->run;
    const slm_hparams *hp = run->hp;
    const slm_layer *l = &run->model->layers[layer];
    uint32_t b, e;
    while (slm_lane_next(t, run->n, KEY_ROWS, &b, &e)) {
        for (uint32_t i = b; i < e; i++) {
            float *k = (float *) run->ws->k.p + i * run->ld.kv;
            if (run->model->qk_norm_rows)
                run->kn->rms_norm(k, l->k_norm, k, hp->n_kv_heads * hp->head_dim, hp->norm_eps);
            for (uint32_t h = 0; h < hp->n_kv_heads; h++)
                store_key(run, layer, i, h);
        }
    }
}

typedef struct attend_job {
    uint32_t layer, kv_head, begin, end; /* rows of ws->q */
    const uint32_t *rows;
    const uint8_t *fine;
    bool with_keys, split; /* split: quantize here */
} attend_job;

/* Ministral 3: queries far into a text are sharper. */
static void grow_query(const slm_hparams *hp, int32_t position, float *q, uint32_t n)
{
    double times = position / (int32_t) hp->n_ctx_original;
    float growth = (float) (1 + (double) hp->query_growth * slm_log(1 + times));
    for (uint32_t c = 0; c < n && growth != 1.0f; c++)
        q[c] *= growth;
}

static void attend_unit(slm_run *run, slm_scratch *s, const attend_job *job)
{
    const slm_hparams *hp = run->hp;
    const slm_batch *batch = run->batch;
    const slm_layer *l = &run->model->layers[job->layer];
    uint32_t group = hp->n_heads / hp->n_kv_heads, n = 0;
    uint32_t capacity = group > SLM_QUERIES ? group : SLM_QUERIES;
    uint32_t head_dim = slm_layer_head_dim(hp, job->layer), width = group * head_dim;
    bool slides = slm_layer_slides(hp, job->layer);
    float *q = run->ws->q.p;
    /* four arrays in one buffer of capacity * 4 * sizeof(size_t) */
    size_t *offset = s->queries.p;
    const uint16_t *const **blocks = (const uint16_t *const **) (offset + capacity);
    int32_t *first = (int32_t *) (blocks + capacity), *last = first + capacity;

    for (uint32_t i = job->begin; i < job->end; i++) {
        uint32_t row = job->rows == NULL ? i : job->rows[i];
        int32_t position = batch->positions[row];
        size_t at = i * run->ld.q + (size_t) job->kv_head * width;
        if (job->with_keys)
            store_key(run, job->layer, row, job->kv_head);
        slm_turn_heads(run, l->q_norm, job->layer, row, group, q + at);
        if (hp->query_growth > 0)
            grow_query(hp, position, q + at, width);
        for (uint32_t h = 0; h < group; h++, n++) {
            offset[n] = at + (size_t) h * head_dim;
            blocks[n] = batch->blocks[row];
            first[n] = slides && (int64_t) position >= (int64_t) hp->window ? position - (int32_t) hp->window + 1 : 0;
            last[n] = position;
        }
    }
    slm_attend a = {.q = q, .q_offset = offset, .out = run->ws->att.p, .blocks = blocks, .first = first, .last = last, .n_q = n,
                    .head_dim = head_dim, .scale = hp->attn_scale, .softcap = hp->attn_softcap, .scratch = s->attend.p,
                    .kind = (slm_kv_kind) batch->kv_type};
    slm_kv_offsets(hp, batch->kv_type, job->layer, job->kv_head, &a.k_offset, &a.v_offset);
    run->kn->attend(&a);
    for (uint32_t i = job->begin; hp->attn_gate && i < job->end; i++) {
        size_t at = (size_t) job->kv_head * width;
        slm_gate_by_sigmoid((float *) run->ws->att.p + i * run->ld.q + at, (const float *) run->ws->open.p + i * run->ld.gate + at,
                            width);
    }
    if (!job->split)
        return;
    for (uint32_t i = job->begin; i < job->end; i++)
        slm_quantize_attention(run, s, i, hp->n_heads * head_dim, job->kv_head * width, width, job->fine);
}

/* OLMo 2: the query norm spans all heads, so it precedes the cut into heads. */
static void norm_query_rows(slm_lane *t, uint32_t layer, uint32_t m)
{
    const slm_run *run = t->run;
    const slm_hparams *hp = run->hp;
    uint32_t b, e;
    while (slm_lane_next(t, m, 4, &b, &e)) {
        for (uint32_t i = b; i < e; i++) {
            float *q = (float *) run->ws->q.p + i * run->ld.q;
            run->kn->rms_norm(q, run->model->layers[layer].q_norm, q, hp->n_heads * hp->head_dim, hp->norm_eps);
        }
    }
    slm_lane_end(t);
}

/* Heads that are no multiple of 32 wide: rows are quantized whole, after all of their heads. */
void slm_stage_quantize_attention(slm_lane *t, uint32_t width, uint32_t m, const uint8_t *fine)
{
    const slm_run *run = t->run;
    uint32_t b, e;
    slm_lane_end(t);
    while (slm_lane_next(t, m, 4, &b, &e))
        for (uint32_t i = b; i < e; i++)
            slm_quantize_attention(run, t->s, i, width, 0, width, fine);
}

void slm_stage_attend(slm_lane *t, uint32_t layer, const uint32_t *rows, uint32_t m, bool with_keys)
{
    slm_run *run = t->run;
    const slm_hparams *hp = run->hp;
    uint32_t group = hp->n_heads / hp->n_kv_heads, head_dim = slm_layer_head_dim(hp, layer);
    uint32_t tile = with_keys || group >= SLM_QUERIES ? 1 : SLM_QUERIES / group;
    uint32_t tiles = (m + tile - 1) / tile, b, e;
    bool quantize = !slm_type_get(run->model->layers[layer].o.type)->is_float;
    bool split = group * head_dim % 32 == 0;
    const uint8_t *fine = rows == NULL ? run->fine : run->fine_out;

    if (run->model->qk_norm_rows)
        norm_query_rows(t, layer, m);
    while (slm_lane_next(t, tiles * hp->n_kv_heads, 1, &b, &e)) {
        attend_job job = {.layer = layer, .rows = rows, .fine = fine, .with_keys = with_keys, .split = quantize && split};
        job.kv_head = b % hp->n_kv_heads;
        job.begin = (tiles - 1 - b / hp->n_kv_heads) * tile;
        job.end = job.begin + tile < m ? job.begin + tile : m;
        attend_unit(run, t->s, &job);
    }
    if (quantize && !split)
        slm_stage_quantize_attention(t, hp->n_heads * head_dim, m, fine);
}
