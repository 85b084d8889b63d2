/*
 * A plain float forward pass of a BERT over a handful of fixed sequences, to see how large its channels are.  MPNet's biases by distance
 * are passed over: they move attention, hardly the sizes of channels.
 *
 * One matrix is in memory at a time.  No transcendental function of the C library takes part and the scales are rounded to a coarse grid,
 * so that an import gives the same image everywhere.
 */
#include "engine/import/hf/smooth.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/math.h"

#define N_SEQUENCES 5
#define ROWS_A_LOOK 64 /* output rows between two looks at the stop flag */

static const uint32_t lengths[N_SEQUENCES] = {3, 6, 10, 18, 26}; /* CLS and SEP included */

typedef float lanes __attribute__((vector_size(16)));

typedef struct smoothing {
    slm_source *source;
    const slm_hparams *hp;
    const volatile int *stop;
    uint32_t n;      /* rows of all sequences */
    float *x;        /* [n, n_embd] residual */
    float *q, *k, *v, *att; /* [n, n_embd] */
    float *ff;       /* [n, n_ff] */
    float *w;        /* one matrix */
    float *bias;     /* one vector */
    float *raw;      /* rows as the source stores them */
} smoothing;

static slm_status read_tensor(smoothing *m, slm_tensor_role role, uint32_t layer, uint32_t first, uint32_t n_rows, float *out,
                              slm_error *err)
{
    slm_status status = SLM_OK;
    for (size_t i = 0; i < m->source->n_tensors; i++) {
        const slm_source_tensor *t = &m->source->tensors[i];
        if (t->role != role || t->layer != layer)
            continue;
        uint32_t rows = n_rows != 0 ? n_rows : t->rows;
        size_t floats = (size_t) rows * (t->cols != 0 ? t->cols : 1);
        m->source->read_rows(m->source, t, first, rows, t->type == SLM_TYPE_F32 ? (void *) out : (void *) m->raw, &status, err);
        if (status == SLM_OK && t->type != SLM_TYPE_F32)
            slm_dequantize(t->type, m->raw, out, floats);
        return status;
    }
    return slm_fail(err, SLM_INTERNAL, "a tensor of the encoder is missing");
}

static bool has_tensor(const smoothing *m, slm_tensor_role role)
{
    for (size_t i = 0; i < m->source->n_tensors; i++)
        if (m->source->tensors[i].role == role)
            return true;
    return false;
}

static float dot(const float *a, const float *b, uint32_t n)
{
    lanes sum = {0, 0, 0, 0}, other = {0, 0, 0, 0};
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8) {
        lanes a0, a1, b0, b1;
        memcpy(&a0, a + i, sizeof a0);
        memcpy(&a1, a + i + 4, sizeof a1);
        memcpy(&b0, b + i, sizeof b0);
        memcpy(&b1, b + i + 4, sizeof b1);
        sum += a0 * b0;
        other += a1 * b1;
    }
    sum += other;
    float total = (sum[0] + sum[2]) + (sum[1] + sum[3]);
    for (; i < n; i++)
        total += a[i] * b[i];
    return total;
}

/* y[n, rows] (+)= x[n, cols] . W' + b */
static slm_status project(smoothing *m, slm_tensor_role role, slm_tensor_role bias, uint32_t layer, const float *x, uint32_t cols,
                          uint32_t rows, bool add, float *y, slm_error *err)
{
    SLM_TRY(read_tensor(m, role, layer, 0, 0, m->w, err));
    SLM_TRY(read_tensor(m, bias, layer, 0, 0, m->bias, err));
    for (uint32_t r = 0; r < rows; r++) {
        if (r % ROWS_A_LOOK == 0 && m->stop != NULL && *m->stop)
            return slm_fail(err, SLM_CANCELLED, "cancelled");
        for (uint32_t i = 0; i < m->n; i++) {
            float value = dot(x + (size_t) i * cols, m->w + (size_t) r * cols, cols) + m->bias[r];
            float *to = y + (size_t) i * rows + r;
            *to = add ? *to + value : value;
        }
    }
    return SLM_OK;
}

static slm_status layer_norm(smoothing *m, slm_tensor_role weight, slm_tensor_role bias, uint32_t layer, slm_error *err)
{
    uint32_t n = m->hp->n_embd;
    SLM_TRY(read_tensor(m, weight, layer, 0, 0, m->w, err));
    SLM_TRY(read_tensor(m, bias, layer, 0, 0, m->bias, err));
    for (uint32_t i = 0; i < m->n; i++) {
        float *x = m->x + (size_t) i * n;
        double mean = 0, square = 0;
        for (uint32_t c = 0; c < n; c++)
            mean += x[c];
        mean /= n;
        for (uint32_t c = 0; c < n; c++)
            square += (x[c] - mean) * (x[c] - mean);
        double scale = 1 / sqrt(square / n + (double) m->hp->norm_eps);
        for (uint32_t c = 0; c < n; c++)
            x[c] = (float) ((x[c] - mean) * scale) * m->w[c] + m->bias[c];
    }
    return SLM_OK;
}

/* Fixed pseudo-random tokens between CLS and SEP. */
static slm_status embed(smoothing *m, int32_t cls, int32_t sep, slm_error *err)
{
    uint32_t n = m->hp->n_embd, row = 0, random = 12345;
    for (int s = 0; s < N_SEQUENCES; s++)
        for (uint32_t i = 0; i < lengths[s]; i++, row++) {
            float *x = m->x + (size_t) row * n;
            random = random * 1664525u + 1013904223u;
            uint32_t token = (uint32_t) ((uint64_t) random * m->hp->n_vocab >> 32);
            if (i == 0 && cls >= 0)
                token = (uint32_t) cls;
            if (i + 1 == lengths[s] && sep >= 0)
                token = (uint32_t) sep;
            SLM_TRY(read_tensor(m, SLM_TENSOR_TOKEN_EMBD, 0, token, 1, x, err));
            SLM_TRY(read_tensor(m, SLM_TENSOR_POSITION_EMBD, 0, i < m->hp->n_context ? i : 0, 1, m->w, err));
            memset(m->bias, 0, n * sizeof *m->bias);
            if (m->hp->n_token_types > 0 && has_tensor(m, SLM_TENSOR_TYPE_EMBD))
                SLM_TRY(read_tensor(m, SLM_TENSOR_TYPE_EMBD, 0, 0, 1, m->bias, err));
            for (uint32_t c = 0; c < n; c++)
                x[c] += m->w[c] + m->bias[c];
        }
    return layer_norm(m, SLM_TENSOR_EMBD_NORM, SLM_TENSOR_EMBD_NORM_BIAS, 0, err);
}

/* One head of one sequence: rows first..first + n of q, k, v to att. */
static void attend(smoothing *m, uint32_t head, uint32_t first, uint32_t n)
{
    uint32_t width = m->hp->n_embd, d = m->hp->head_dim;
    float score[64];
    for (uint32_t i = first; i < first + n; i++) {
        const float *q = m->q + (size_t) i * width + (size_t) head * d;
        float *out = m->att + (size_t) i * width + (size_t) head * d, largest = -3e38f, sum = 0;
        for (uint32_t j = 0; j < n; j++) {
            score[j] = dot(q, m->k + (size_t) (first + j) * width + (size_t) head * d, d) * m->hp->attn_scale;
            largest = score[j] > largest ? score[j] : largest;
        }
        memset(out, 0, d * sizeof *out);
        for (uint32_t j = 0; j < n; j++) {
            const float *v = m->v + (size_t) (first + j) * width + (size_t) head * d;
            float p = (float) slm_exp((double) score[j] - largest);
            sum += p;
            for (uint32_t c = 0; c < d; c++)
                out[c] += p * v[c];
        }
        for (uint32_t c = 0; c < d; c++)
            out[c] /= sum;
    }
}

/* The square root of each channel's root mean square, on a grid of 2^(1/4). */
static void measure(const smoothing *m, float *scale)
{
    static const float steps[4] = {1.0f, 1.189207115f, 1.414213562f, 1.681792831f};
    for (uint32_t c = 0; c < m->hp->n_embd; c++) {
        double square = 0;
        for (uint32_t i = 0; i < m->n; i++)
            square += (double) m->x[(size_t) i * m->hp->n_embd + c] * m->x[(size_t) i * m->hp->n_embd + c];
        double quarters = rint(slm_log(square / m->n + 1e-8) / 0.6931471805599453); /* log2(rms ^ 1/2) * 4 */
        int whole = (int) floor(quarters / 4);
        whole = whole < -6 ? -6 : whole > 6 ? 6 : whole;
        scale[c] = ldexpf(steps[((int) quarters % 4 + 4) % 4], whole);
    }
}

static slm_status run_layer(smoothing *m, uint32_t layer, float *scales, slm_error *err)
{
    uint32_t width = m->hp->n_embd, first = 0;
    measure(m, scales);
    SLM_TRY(project(m, SLM_TENSOR_ATTN_Q, SLM_TENSOR_ATTN_Q_BIAS, layer, m->x, width, width, false, m->q, err));
    SLM_TRY(project(m, SLM_TENSOR_ATTN_K, SLM_TENSOR_ATTN_K_BIAS, layer, m->x, width, width, false, m->k, err));
    SLM_TRY(project(m, SLM_TENSOR_ATTN_V, SLM_TENSOR_ATTN_V_BIAS, layer, m->x, width, width, false, m->v, err));
    for (int s = 0; s < N_SEQUENCES; first += lengths[s++])
        for (uint32_t head = 0; head < m->hp->n_heads; head++)
            attend(m, head, first, lengths[s]);
    SLM_TRY(project(m, SLM_TENSOR_ATTN_OUT, SLM_TENSOR_ATTN_OUT_BIAS, layer, m->att, width, width, true, m->x, err));
    SLM_TRY(layer_norm(m, SLM_TENSOR_ATTN_OUT_NORM, SLM_TENSOR_ATTN_OUT_NORM_BIAS, layer, err));
    measure(m, scales + width);
    SLM_TRY(project(m, SLM_TENSOR_FFN_UP, SLM_TENSOR_FFN_UP_BIAS, layer, m->x, width, m->hp->n_ff, false, m->ff, err));
    for (size_t i = 0; i < (size_t) m->n * m->hp->n_ff; i++) { /* GELU in its tanh form: near enough to see sizes */
        double u = m->ff[i], inner = 1.5957691216057308 * (u + 0.044715 * u * u * u);
        m->ff[i] = (float) (u / (1 + slm_exp(inner > 700 ? -700 : inner < -700 ? 700 : -inner)));
    }
    SLM_TRY(project(m, SLM_TENSOR_FFN_DOWN, SLM_TENSOR_FFN_DOWN_BIAS, layer, m->ff, m->hp->n_ff, width, true, m->x, err));
    return layer_norm(m, SLM_TENSOR_LAYER_OUT_NORM, SLM_TENSOR_LAYER_OUT_NORM_BIAS, layer, err);
}

static slm_status run(smoothing *m, int32_t cls, int32_t sep, float *scales, slm_error *err)
{
    size_t width = m->hp->n_embd, widest = m->hp->n_ff > width ? m->hp->n_ff : width, rows = (size_t) m->n * width;
    m->x = malloc(5 * rows * sizeof *m->x);
    m->ff = malloc(m->n * (size_t) m->hp->n_ff * sizeof *m->ff);
    m->w = malloc(widest * width * sizeof *m->w);
    m->raw = malloc(widest * width * sizeof *m->raw);
    m->bias = malloc(widest * sizeof *m->bias);
    if (m->x == NULL || m->ff == NULL || m->w == NULL || m->raw == NULL || m->bias == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    m->q = m->x + rows;
    m->k = m->q + rows;
    m->v = m->k + rows;
    m->att = m->v + rows;
    SLM_TRY(embed(m, cls, sep, err));
    for (uint32_t layer = 0; layer < m->hp->n_layers; layer++)
        SLM_TRY(run_layer(m, layer, scales + 2 * layer * width, err));
    return SLM_OK;
}

bool slm_hf_can_smooth(const slm_hparams *hp)
{
    return hp->norm_after_sum && hp->activation == SLM_ACT_GELU_ERF && hp->n_rot == 0 &&
           hp->relative_span == 0 && hp->n_lookup == 0 && !hp->shared_layers;
}

slm_status slm_hf_smooth(slm_source *source, int32_t cls, int32_t sep, const volatile int *stop, float **scales, slm_error *err)
{
    smoothing m = {.source = source, .hp = &source->hparams, .stop = stop};
    float *out = malloc(2 * (size_t) source->hparams.n_layers * source->hparams.n_embd * sizeof *out);
    if (out == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (int s = 0; s < N_SEQUENCES; s++)
        m.n += lengths[s];
    slm_status status = run(&m, cls, sep, out, err);
    free(m.x);
    free(m.ff);
    free(m.w);
    free(m.raw);
    free(m.bias);
    if (status != SLM_OK) {
        free(out);
        return status;
    }
    *scales = out;
    return SLM_OK;
}
