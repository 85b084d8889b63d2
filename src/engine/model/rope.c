/*
 * Rotary position embedding: the cosine and sine of each batch row's position, computed once per forward pass.
 *
 * A table row holds cos [n_rot / 2] then sin [n_rot / 2] (n_rot of the layer: slm_layer_rot), multiplied by the model's attention factor
 * (longrope, yarn). There are up to two tables: the model's own, and that of layers with a local base (Gemma 3's sliding layers).
 * Frequencies base^(-2i / n_rot), divided by the linear scale and by the model's factors (Llama 3.x scaling, longrope), are made at
 * open.
 *
 * longrope: a sequence longer than the original context takes the long factors for all its positions, any other the short ones, as the
 * reference implementation does.  The length is that of batch->lengths where given, else what is known: the position itself.
 *
 * dynamic NTK: the base of a sequence longer than the original context grows with its length, for all its positions.
 *
 * Sources: Su et al. 2021 (RoPE, arXiv 2104.09864), Ding et al. 2024 (LongRoPE, arXiv 2402.13753); transformers' rope type "dynamic".
 */
#include <stdlib.h>

#include "engine/base/math.h"
#include "engine/model/run.h"

enum { TABLE_SHORT = 0, TABLE_LONG = 1, TABLE_LOCAL = 2 };

double *slm_rope_frequencies(const slm_hparams *hp)
{
    uint32_t half = hp->n_rot / 2, local_rot = hp->head_dim_local > 0 ? hp->n_rot_local : hp->n_rot;
    double *f = calloc(3 * (size_t) half + 1, sizeof *f);
    if (f == NULL)
        return NULL;
    for (uint32_t i = 0; i < half; i++) {
        double exponent = -2.0 * (double) i / (double) hp->n_rot;
        double global = slm_pow((double) hp->rope_base, exponent) / (double) hp->rope_scale;
        f[TABLE_SHORT * half + i] = hp->has_rope_factors >= 1 ? global / (double) hp->rope_factors_short[i] : global;
        f[TABLE_LONG * half + i] = hp->has_rope_factors >= 2 ? global / (double) hp->rope_factors_long[i] : f[TABLE_SHORT * half + i];
        if (hp->rope_turns > 0 && i >= hp->rope_turns)
            f[TABLE_SHORT * half + i] = f[TABLE_LONG * half + i] = 0;
        if (hp->rope_base_local > 0 && i < local_rot / 2)
            f[TABLE_LOCAL * half + i] = slm_pow((double) hp->rope_base_local, -2.0 * (double) i / (double) local_rot);
    }
    return f;
}

static void fill_row(float *row, const double *freq, uint32_t half, int32_t position, float factor)
{
    for (uint32_t i = 0; i < half; i++) {
        double sine, cosine;
        slm_sincos((double) position * freq[i], &sine, &cosine);
        row[i] = (float) cosine * factor;
        row[half + i] = (float) sine * factor;
    }
}

/* The frequencies of a sequence of this length. */
static void fill_dynamic(const slm_hparams *hp, int64_t length, double *freq)
{
    double grown = (double) hp->rope_dynamic * (double) length / (double) hp->n_ctx_original - ((double) hp->rope_dynamic - 1);
    double base = (double) hp->rope_base * slm_pow(grown, (double) hp->n_rot / ((double) hp->n_rot - 2));
    for (uint32_t i = 0; i < hp->n_rot / 2; i++)
        freq[i] = slm_pow(base, -2.0 * (double) i / (double) hp->n_rot);
}

static float *table_row(const slm_run *run, uint32_t table, uint32_t i)
{
    return (float *) run->ws->angles.p + ((size_t) table * run->n + i) * 2 * (run->hp->n_rot / 2);
}

void slm_rope_fill(slm_run *run, uint32_t begin, uint32_t end)
{
    const slm_hparams *hp = run->hp;
    uint32_t half = hp->n_rot / 2, local = hp->head_dim_local > 0 ? hp->n_rot_local : hp->n_rot;
    double dynamic[SLM_MAX_ROT / 2];
    int64_t dynamic_length = 0; /* that they are for */
    if (half == 0)
        return;
    for (uint32_t i = begin; i < end; i++) {
        int32_t position = run->positions[i];
        int64_t length = run->batch != NULL && run->batch->lengths != NULL ? run->batch->lengths[i] : (int64_t) position + 1;
        bool is_long = length > (int64_t) hp->n_ctx_original;
        const double *freq = run->model->rope_freq + (is_long && hp->has_rope_factors >= 2 ? TABLE_LONG : TABLE_SHORT) * half;
        if (is_long && hp->rope_dynamic > 0) {
            if (length != dynamic_length)
                fill_dynamic(hp, length, dynamic);
            dynamic_length = length;
            freq = dynamic;
        }
        fill_row(table_row(run, 0, i), freq, half, position, hp->rope_attn_factor);
        if (hp->rope_base_local > 0)
            fill_row(table_row(run, 1, i), run->model->rope_freq + TABLE_LOCAL * half, local / 2, position, 1.0f);
    }
}

bool slm_layer_turns(const slm_hparams *hp, uint32_t layer)
{
    return hp->n_rot >= 2 && !slm_layer_decides(hp, layer) && !(hp->nope_pattern > 0 && (layer + 1) % hp->nope_pattern == 0) &&
        !(hp->nope_full && !slm_layer_slides(hp, layer));
}

const float *slm_rope_row(const slm_run *run, uint32_t layer, uint32_t i)
{
    const slm_hparams *hp = run->hp;
    if (!slm_layer_turns(hp, layer))
        return NULL;
    return table_row(run, hp->rope_base_local > 0 && slm_layer_slides(hp, layer) ? 1 : 0, i);
}
