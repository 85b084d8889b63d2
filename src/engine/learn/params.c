/*
 * The values that a fine-tuning learns: A and B of each adapted projection, their gradients and moments.
 *
 * One array of floats each, pair after pair in the order of layers and targets, so that a step is one pass over plain arrays, and a
 * checkpoint is these arrays.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/math.h"
#include "engine/base/rng.h"
#include "engine/learn/learn.h"

#define DROPPED_OF 65536

static const slm_weight *weight_of(const slm_layer *l, slm_target target)
{
    const slm_weight *w[SLM_TARGETS] = {&l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down};
    return w[target];
}

/* What a smoothed encoder multiplies the input of a projection with, [cols]; NULL: nothing.  A is learned behind it, and is before it in
 * images: x A' = (x s) (A / s)'. */
static const float *scale_of(const slm_layer *l, slm_target target)
{
    return target <= SLM_TARGET_V ? l->attn_in_scale : target == SLM_TARGET_GATE || target == SLM_TARGET_UP ? l->ffn_in_scale : NULL;
}

/* A uniform in +-1 / sqrt(cols), as PEFT's default is. */
static void begin_a(float *a, const slm_learn_pair *p, uint64_t seed)
{
    double bound = 1 / sqrt((double) p->cols);
    for (size_t i = 0; i < (size_t) p->rank * p->cols; i++)
        a[i] = (float) (bound * (2 * slm_rng_uniform(seed, p->at + i) - 1));
}

slm_status slm_learn_params(slm_learn *t, const slm_learn_shape *shape, slm_error *err)
{
    const slm_model *m = t->model;
    t->rank = shape->rank;
    t->scale = shape->alpha / (float) shape->rank;
    t->dropped = (uint32_t) lrintf(shape->dropout * DROPPED_OF);
    t->first_layer = shape->layers == 0 || shape->layers > t->hp->n_layers ? 0 : t->hp->n_layers - shape->layers;
    t->pairs = calloc(t->hp->n_layers, sizeof *t->pairs);
    if (t->pairs == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (uint32_t layer = t->first_layer; layer < t->hp->n_layers; layer++)
        for (int i = 0; i < SLM_TARGETS; i++) {
            const slm_weight *w = weight_of(&m->layers[layer], (slm_target) i);
            if (!(shape->targets >> i & 1) || w->data == NULL)
                continue;
            t->pairs[layer][i] = (slm_learn_pair){shape->rank, w->rows, w->cols, t->n_values};
            t->n_values += (size_t) shape->rank * ((size_t) w->rows + w->cols);
            t->n_pairs++;
        }
    if (t->n_pairs == 0)
        return slm_fail(err, SLM_INVALID, "no projection of the model is to be adapted");
    float **arrays[] = {&t->values, &t->turned, &t->grads, &t->part, &t->moment, &t->square};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        if ((*arrays[i] = calloc(t->n_values, sizeof(float))) == NULL)
            return slm_fail(err, SLM_NOMEM, "out of memory");
    for (uint32_t layer = 0; layer < t->hp->n_layers; layer++)
        for (int i = 0; i < SLM_TARGETS; i++)
            if (t->pairs[layer][i].rank > 0)
                begin_a(slm_learn_a(t, t->values, layer, (slm_target) i), &t->pairs[layer][i], shape->seed);
    slm_learn_turn(t);
    return SLM_OK;
}

/* from [rows, cols] to [cols, rows] */
static void turn(const float *from, uint32_t rows, uint32_t cols, float *to)
{
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t c = 0; c < cols; c++)
            to[(size_t) c * rows + r] = from[(size_t) r * cols + c];
}

void slm_learn_turn(slm_learn *t)
{
    for (uint32_t layer = 0; layer < t->hp->n_layers; layer++)
        for (int i = 0; i < SLM_TARGETS; i++) {
            const slm_learn_pair *p = &t->pairs[layer][i];
            slm_target target = (slm_target) i;
            if (p->rank == 0)
                continue;
            turn(slm_learn_a(t, t->values, layer, target), p->rank, p->cols, slm_learn_a(t, t->turned, layer, target));
            turn(slm_learn_b(t, t->values, layer, target), p->rank, p->rows, slm_learn_b(t, t->turned, layer, target));
        }
}

void slm_learn_shrink(slm_learn *t, float share)
{
    for (uint32_t layer = 0; layer < t->hp->n_layers; layer++)
        for (int i = 0; i < SLM_TARGETS; i++) {
            const slm_learn_pair *p = &t->pairs[layer][i];
            for (size_t k = 0; k < (size_t) p->rank * p->rows; k++)
                slm_learn_b(t, t->values, layer, (slm_target) i)[k] *= share;
        }
    slm_learn_turn(t);
}

static void take_row(const slm_learn *t, uint32_t layer, slm_target target, uint32_t r, const slm_weight *a)
{
    uint32_t cols = t->pairs[layer][target].cols;
    const float *scale = scale_of(&t->model->layers[layer], target);
    float *to = slm_learn_a(t, t->values, layer, target) + (size_t) r * cols;
    t->kn->unpack_row(a, r, to);
    for (uint32_t c = 0; scale != NULL && c < cols; c++)
        to[c] /= scale[c];
}

slm_status slm_learn_take(slm_learn *t, const slm_adapter *adapter, slm_error *err)
{
    for (int i = 0; i < SLM_TABLES; i++)
        if (adapter->tables[i].a.data != NULL)
            return slm_fail(err, SLM_INVALID, "the adapter has other matrices than the training");
    float *row = malloc(((size_t) t->hp->n_ff + t->hp->n_embd + (size_t) t->hp->n_heads * t->hp->head_dim) * sizeof *row);
    if (row == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (uint32_t layer = 0; layer < t->hp->n_layers; layer++)
        for (int i = 0; i < SLM_TARGETS; i++) {
            const slm_learn_pair *p = &t->pairs[layer][i];
            const slm_adapter_pair *from = &adapter->layers[layer][i];
            uint32_t rank = from->a.data == NULL ? 0 : from->a.rows;
            if (rank != p->rank || (rank > 0 && (from->scale != t->scale || from->a.cols != p->cols || from->b.rows != p->rows))) {
                free(row);
                return slm_fail(err, SLM_INVALID, "the adapter has other matrices than the training");
            }
            for (uint32_t r = 0; r < rank; r++)
                take_row(t, layer, (slm_target) i, r, &from->a);
            for (uint32_t r = 0; rank > 0 && r < p->rows; r++) {
                t->kn->unpack_row(&from->b, r, row);
                for (uint32_t c = 0; c < rank; c++)
                    slm_learn_b(t, t->values, layer, (slm_target) i)[(size_t) c * p->rows + r] = row[c];
            }
        }
    free(row);
    slm_learn_turn(t);
    return SLM_OK;
}

double slm_learn_step(slm_learn *t, double rate, double decay, double clip)
{
    const double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
    double sum = 0;
    for (size_t i = 0; i < t->n_values; i++)
        sum += (double) t->grads[i] * (double) t->grads[i];
    double norm = sqrt(sum);
    if (!isfinite(norm))
        return norm;
    float shrink = clip > 0 && norm > clip ? (float) (clip / (norm + 1e-6)) : 1.0f;
    t->steps++;
    double n = (double) t->steps; /* bounded, lest a power should underflow */
    double first = 1 - slm_pow(beta1, n < 1000 ? n : 1000), second = 1 - slm_pow(beta2, n < 100000 ? n : 100000);
    float step = (float) (rate / first), root = (float) (1 / sqrt(second)), keep = (float) (1 - rate * decay);
    for (size_t i = 0; i < t->n_values; i++) {
        float g = t->grads[i] * shrink;
        float m = t->moment[i] = (float) beta1 * t->moment[i] + (float) (1 - beta1) * g;
        float v = t->square[i] = (float) beta2 * t->square[i] + (float) (1 - beta2) * (g * g);
        t->values[i] = keep * t->values[i] - step * m / (sqrtf(v) * root + (float) epsilon);
    }
    memset(t->grads, 0, t->n_values * sizeof *t->grads);
    slm_learn_turn(t);
    return norm;
}

/* A as the image has it. */
static void give_a(const slm_learn *t, uint32_t layer, slm_target target, const float *values, float *a)
{
    const slm_learn_pair *p = &t->pairs[layer][target];
    const float *scale = scale_of(&t->model->layers[layer], target), *from = values + p->at;
    for (size_t i = 0; i < (size_t) p->rank * p->cols; i++)
        a[i] = scale == NULL ? from[i] : from[i] * scale[i % p->cols];
}

/* a, b: room for the widest. */
static slm_status write_pairs(const slm_learn *t, const float *values, slm_adapter_writer *w, float *a, float *b, slm_error *err)
{
    for (uint32_t layer = 0; layer < t->hp->n_layers; layer++)
        for (int i = 0; i < SLM_TARGETS; i++) {
            const slm_learn_pair *p = &t->pairs[layer][i];
            if (p->rank == 0)
                continue;
            float *all = (float *) (uintptr_t) values; /* only read */
            turn(slm_learn_b(t, all, layer, (slm_target) i), p->rank, p->rows, b);
            give_a(t, layer, (slm_target) i, values, a);
            slm_adapter_part part = {.target = (slm_target) i,
                                     .layer = layer,
                                     .rank = p->rank,
                                     .rows = p->rows,
                                     .cols = p->cols,
                                     .scale = t->scale,
                                     .a = a,
                                     .b = b};
            SLM_TRY(slm_adapter_write(w, &part, err));
        }
    return SLM_OK;
}

slm_status slm_learn_write(const slm_learn *t, const float *values, const char *path, const char *name, slm_adapter_info *info,
                           slm_error *err)
{
    slm_adapter_info head = {0};
    slm_adapter_writer *w;
    size_t widest = 0;
    for (uint32_t layer = 0; layer < t->hp->n_layers; layer++)
        for (int i = 0; i < SLM_TARGETS; i++) {
            const slm_learn_pair *p = &t->pairs[layer][i];
            widest = p->rows > widest ? p->rows : widest;
            widest = p->cols > widest ? p->cols : widest;
        }
    strncpy(head.name, name, sizeof head.name - 1);
    float *a = malloc(2 * widest * t->rank * sizeof *a);
    if (a == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    slm_status status = slm_adapter_create(path, t->hp, t->n_pairs, &head, &w, err);
    if (status == SLM_OK)
        status = slm_adapter_finish(w, write_pairs(t, values, w, a, a + widest * t->rank, err), info, err);
    free(a);
    return status;
}
