/*
 * The gated delta rule (Qwen 3.5): what most layers have in place of attention, with a state in place of keys.
 *
 *   one product gives q | k | v of each row, which a short convolution over the last conv_length rows and a SiLU go over
 *   of each head of values:   S = decay * S;   S += k (x) share * (v - k S);   y = q S         S: [delta_key_dim, delta_value_dim]
 *   out = norm of a head of y * silu(gate), and a product back; q and k have length 1, q is divided by sqrt(delta_key_dim)
 *
 * Everything stands in the KV blocks, so that prefixes, branches, guesses and rows taken back work as with attention: nothing but
 * positions says what a row sees.  Of each position: what went into the convolution, decay and share, in F32 (bringing q and k to length
 * 1 makes much of what rounding takes from short ones); and behind its last position the state, in F16, or in F32 as keys are.  A row
 * begins at the state of the block before its own, goes again over the positions of its block before it (8 on average), and ends with
 * itself; a row that follows another one of the same block in the batch goes on from there, which is the same.
 * So a row has the same bits whatever is computed beside it.
 *
 * In a block such a layer has [16][slm_conv_width] of F32 | [16][2][delta_values] of F32 | [delta_values][key_dim][value_dim] of either.
 *
 * Sources: Yang et al. 2024 (arXiv 2412.06464); transformers' Qwen3_5GatedDeltaNet.
 */
#include <math.h>
#include <string.h>

#include "engine/arch/family.h"
#include "engine/base/math.h"
#include "engine/model/run.h"

/* Where things are in a layer's part of a block. */
typedef struct place {
    const float *rows;     /* [16][width] */
    const float *rates;    /* [16][2][values] decay, share */
    const void *state;     /* [values][key_dim][value_dim] of F16 or F32 */
} place;

static place place_of(const slm_run *run, uint32_t layer, uint32_t row, int32_t position)
{
    const slm_hparams *hp = run->hp;
    const uint16_t *block = run->batch->blocks[row][position / SLM_KV_BLOCK] + slm_conv_offset(hp, run->batch->kv_type, layer);
    place p = {.rows = (const float *) (const void *) block};
    p.rates = p.rows + SLM_KV_BLOCK * (size_t) slm_conv_width(hp);
    p.state = p.rates + SLM_KV_BLOCK * 2 * (size_t) hp->delta_values;
    return p;
}

static double sigmoid(double x)
{
    return 1 / (1 + slm_exp(-x));
}

void slm_gate_by_sigmoid(float *x, const float *gate, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        x[i] *= (float) sigmoid((double) gate[i]);
}

/* log(1 + exp(x)) without overflow. */
static double softplus(double x)
{
    return x > 30 ? x : slm_log(1 + slm_exp(x));
}

void slm_stage_note(slm_lane *t, uint32_t layer)
{
    const slm_run *run = t->run;
    const slm_hparams *hp = run->hp;
    const slm_layer *l = &run->model->layers[layer];
    uint32_t width = slm_conv_width(hp), values = hp->delta_values, b, e;
    size_t ld = slm_round_up(values, 16);
    while (slm_lane_next(t, run->n, 8, &b, &e))
        for (uint32_t i = b; i < e; i++) {
            int32_t position = run->batch->positions[i], lane = position % SLM_KV_BLOCK;
            place p = place_of(run, layer, i, position);
            /* tables are read-only for the batch's owner, their blocks are what we write */
            float *to = (float *) (uintptr_t) p.rows + (size_t) lane * width;
            float *rates = (float *) (uintptr_t) p.rates + 2 * (size_t) lane * values;
            const float *x = (const float *) run->ws->conv.p + i * run->ld.conv;
            const float *decay = (const float *) run->ws->decay.p + i * ld, *share = decay + run->n * ld;
            memcpy(to, x, width * sizeof *to);
            for (uint32_t h = 0; h < values; h++) {
                double step = softplus((double) decay[h] + (double) l->delta_decay_bias[h]);
                rates[h] = (float) slm_exp(-slm_exp((double) l->delta_decay_log[h]) * step);
                rates[values + h] = (float) sigmoid((double) share[h]);
            }
        }
}

/* F16 to floats, in steps that compilers make vectors of. */
static void widen(const uint16_t *from, float *to, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        union { uint32_t u; float f; } magnitude = {.u = (from[i] & 0x7FFFu) << 13}, out;
        out.f = magnitude.f * 0x1p112f;
        out.u |= (from[i] & 0x8000u) << 16;
        to[i] = out.f;
    }
}

static void narrow(const float *from, uint16_t *to, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = slm_f32_to_f16(from[i] > 65504.0f ? 65504.0f : from[i] < -65504.0f ? -65504.0f : from[i]);
}

/* Reads and writes n elements of a state, from its element `at` on. */
static void load_state(const slm_run *run, const void *state, size_t at, float *to, size_t n)
{
    if (run->batch->kv_type == SLM_KV_F32)
        memcpy(to, (const float *) state + at, n * sizeof *to);
    else
        widen((const uint16_t *) state + at, to, n);
}

static void store_state(const slm_run *run, const float *from, void *state, size_t at, size_t n)
{
    if (run->batch->kv_type == SLM_KV_F32)
        memcpy((float *) state + at, from, n * sizeof *from);
    else
        narrow(from, (uint16_t *) state + at, n);
}

/* One head's work: its state, and what a position puts in. */
typedef struct rule {
    float *state;               /* [key_dim, value_dim] */
    float *q, *k;               /* [key_dim] */
    float *v, *mem, *out;       /* [value_dim] */
    float *ones, *part;         /* [longer of both]: 1; the convolution's sum */
    uint32_t head;
} rule;

static uint32_t longer(const slm_hparams *hp)
{
    return hp->delta_key_dim > hp->delta_value_dim ? hp->delta_key_dim : hp->delta_value_dim;
}

size_t slm_delta_floats(const slm_hparams *hp)
{
    return (size_t) hp->delta_key_dim * hp->delta_value_dim + 7 * (size_t) longer(hp);
}

static rule rule_of(const slm_run *run, slm_scratch *s, uint32_t head)
{
    size_t n = longer(run->hp);
    rule r = {.state = s->state.p, .head = head};
    r.q = r.state + (size_t) run->hp->delta_key_dim * run->hp->delta_value_dim;
    r.k = r.q + n;
    r.v = r.k + n;
    r.mem = r.v + n;
    r.out = r.mem + n;
    r.ones = r.out + n;
    r.part = r.ones + n;
    for (size_t i = 0; i < n; i++)
        r.ones[i] = 1;
    return r;
}

/* Columns [first, first + n) of the convolution at a position, behind its SiLU. */
static void convolve(const slm_run *run, const rule *r, uint32_t layer, uint32_t row, int32_t position, uint32_t first, uint32_t n,
                     float *y)
{
    const slm_hparams *hp = run->hp;
    const float *kernel = run->model->layers[layer].conv_kernel + (size_t) first * hp->conv_length;
    memset(r->part, 0, n * sizeof *r->part);
    for (uint32_t k = 0; k < hp->conv_length; k++) {
        int32_t at = position - (int32_t) hp->conv_length + 1 + (int32_t) k;
        if (at < 0)
            continue;
        place p = place_of(run, layer, row, at);
        const float *kept = p.rows + (size_t) (at % SLM_KV_BLOCK) * slm_conv_width(hp) + first;
        for (uint32_t c = 0; c < n; c++)
            r->part[c] += kernel[c * hp->conv_length + k] * kept[c];
    }
    run->kn->swiglu(r->part, r->ones, y, n);
}

static void to_length(float *x, uint32_t n, double times)
{
    double sum = 1e-6;
    for (uint32_t i = 0; i < n; i++)
        sum += (double) x[i] * (double) x[i];
    float factor = (float) (times / sqrt(sum));
    for (uint32_t i = 0; i < n; i++)
        x[i] *= factor;
}

/* The state takes a position in; wanted: r->out is what it gives. */
static void step(const slm_run *run, const rule *r, uint32_t layer, uint32_t row, int32_t position, bool wanted)
{
    const slm_hparams *hp = run->hp;
    uint32_t kd = hp->delta_key_dim, vd = hp->delta_value_dim, key_head = r->head / (hp->delta_values / hp->delta_keys);
    place p = place_of(run, layer, row, position);
    const float *rates = p.rates + 2 * (size_t) (position % SLM_KV_BLOCK) * hp->delta_values;
    float decay = rates[r->head], share = rates[hp->delta_values + r->head];
    float *restrict mem = r->mem, *restrict out = r->out;
    convolve(run, r, layer, row, position, (hp->delta_keys + key_head) * kd, kd, r->k);
    convolve(run, r, layer, row, position, 2 * hp->delta_keys * kd + r->head * vd, vd, r->v);
    to_length(r->k, kd, 1);
    memset(mem, 0, vd * sizeof *mem);
    for (uint32_t i = 0; i < kd; i++) {
        float *restrict s = r->state + (size_t) i * vd, k = r->k[i];
        for (uint32_t c = 0; c < vd; c++) {
            s[c] *= decay;
            mem[c] += k * s[c];
        }
    }
    for (uint32_t c = 0; c < vd; c++)
        mem[c] = (r->v[c] - mem[c]) * share;
    if (wanted) {
        convolve(run, r, layer, row, position, key_head * kd, kd, r->q);
        to_length(r->q, kd, 1 / sqrt((double) kd));
        memset(out, 0, vd * sizeof *out);
    }
    for (uint32_t i = 0; i < kd; i++) {
        float *restrict s = r->state + (size_t) i * vd, k = r->k[i], q = r->q[i];
        for (uint32_t c = 0; c < vd; c++)
            s[c] += k * mem[c];
        for (uint32_t c = 0; c < vd && wanted; c++)
            out[c] += q * s[c];
    }
}

/* The state before a block's first position: that behind the block before. */
static void begin_block(const slm_run *run, const rule *r, uint32_t layer, uint32_t row, int32_t position)
{
    size_t n = (size_t) run->hp->delta_key_dim * run->hp->delta_value_dim;
    if (position < SLM_KV_BLOCK)
        memset(r->state, 0, n * sizeof *r->state);
    else
        load_state(run, place_of(run, layer, row, position - SLM_KV_BLOCK).state, r->head * n, r->state, n);
}

/* All rows of one head, in the order of the batch. */
static void run_head(const slm_run *run, slm_scratch *s, uint32_t layer, uint32_t head, const uint32_t *rows, uint32_t m)
{
    const slm_hparams *hp = run->hp;
    const slm_batch *batch = run->batch;
    const slm_layer *l = &run->model->layers[layer];
    rule r = rule_of(run, s, head);
    uint32_t vd = hp->delta_value_dim, next = 0;
    size_t n = (size_t) hp->delta_key_dim * vd;
    for (uint32_t i = 0; i < run->n; i++) {
        int32_t position = batch->positions[i], block = position / SLM_KV_BLOCK;
        bool wanted = next < m && (rows == NULL ? next : rows[next]) == i;
        bool follows = i > 0 && position % SLM_KV_BLOCK > 0 && batch->positions[i - 1] == position - 1 &&
                       batch->blocks[i - 1][block] == batch->blocks[i][block];
        if (!follows) {
            begin_block(run, &r, layer, i, position);
            for (int32_t at = block * SLM_KV_BLOCK; at < position; at++)
                step(run, &r, layer, i, at, false);
        }
        step(run, &r, layer, i, position, wanted);
        if (position % SLM_KV_BLOCK == SLM_KV_BLOCK - 1)
            store_state(run, r.state, (void *) (uintptr_t) place_of(run, layer, i, position).state, head * n, n);
        if (!wanted)
            continue;
        float *y = (float *) run->ws->att.p + next * run->ld.q + head * vd;
        const float *gate = (const float *) run->ws->open.p + next * run->ld.gate + head * vd;
        run->kn->rms_norm(r.out, l->delta_norm, r.out, vd, hp->norm_eps);
        run->kn->swiglu(gate, r.out, y, vd);
        next++;
    }
}

void slm_stage_delta(slm_lane *t, uint32_t layer, const uint32_t *rows, uint32_t m)
{
    const slm_run *run = t->run;
    const uint8_t *fine = rows == NULL ? run->fine : run->fine_out;
    bool quantize = !slm_type_get(run->model->layers[layer].o.type)->is_float;
    uint32_t width = slm_conv_out(run->hp), b, e;
    while (slm_lane_next(t, run->hp->delta_values, 1, &b, &e))
        for (uint32_t h = b; h < e; h++)
            run_head(run, t->s, layer, h, rows, m);
    slm_lane_end(t);
    while (slm_lane_next(t, m, 4, &b, &e))
        for (uint32_t i = b; i < e && quantize; i++)
            slm_quantize_attention(run, t->s, i, width, 0, width, fine);
}
