/*
 * Every kernel: against plain double arithmetic (so that ref is right), and on every instruction set against ref, bit for bit.
 *
 * Sizes are odd on purpose: rows that do not fill a panel, panel ranges of one, batches around the tile heights, columns around the
 * chunk.  Batches are also compared with the same rows computed one by one: a row's bits may not depend on its neighbours.
 */
#include "slm_test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/math.h"
#include "engine/kernels/bf16.h"
#include "engine/kernels/kernels.h"

static const char *const isas[] = {
#define ISA(name, runs) #name,
#include "engine/kernels/isa.def"
#undef ISA
};
enum { N_ISAS = sizeof isas / sizeof *isas };

static uint64_t state = 88172645463325252ull;

static uint32_t random_bits(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t) (state >> 16);
}

static float random_float(void) /* about normal, -3..3 */
{
    float sum = 0;
    for (int i = 0; i < 6; i++)
        sum += (float) (random_bits() & 0xFFFF) / 65536.0f - 0.5f;
    return sum;
}

static void *buffer(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
    if (!p)
        exit(2);
    memset(p, 0, (bytes + 63) / 64 * 64 + 64);
    return p;
}

static void put_scale(uint8_t *block, int at, float value)
{
    uint16_t h = slm_f32_to_f16(value);
    memcpy(block + at, &h, 2);
}

/* Random blocks with scales of sane size. */
static void random_source(slm_type type, uint8_t *out, size_t n_weights)
{
    const slm_type_info *info = slm_type_get(type);
    for (size_t i = 0; i < n_weights / info->block_weights; i++, out += info->block_bytes) {
        for (uint32_t j = 0; j < info->block_bytes; j++)
            out[j] = (uint8_t) random_bits();
        switch (type) {
        case SLM_TYPE_F32: { float f = random_float(); memcpy(out, &f, 4); break; }
        case SLM_TYPE_F16: put_scale(out, 0, random_float()); break;
        case SLM_TYPE_BF16: { uint16_t h = slm_f32_to_bf16(random_float()); memcpy(out, &h, 2); break; }
        case SLM_TYPE_MXFP4: out[0] = (uint8_t) (out[0] % 4 == 0 ? out[0] % 3 : 120 + out[0] % 10); break;
        case SLM_TYPE_Q2_K: put_scale(out, 80, random_float() * 0.1f); put_scale(out, 82, random_float() * 0.1f); break;
        case SLM_TYPE_Q3_K: put_scale(out, 108, random_float() * 0.1f); break;
        case SLM_TYPE_Q6_K: put_scale(out, 208, random_float() * 0.1f); break;
        case SLM_TYPE_TQ1_0: put_scale(out, 52, random_float()); break;
        case SLM_TYPE_TQ2_0:
            put_scale(out, 64, random_float());
            break;
        case SLM_TYPE_Q4_1: case SLM_TYPE_Q5_1: case SLM_TYPE_Q4_K: case SLM_TYPE_Q5_K:
            put_scale(out, 2, random_float() * 0.1f); /* fall through */
        default: put_scale(out, 0, random_float() * 0.1f);
        }
    }
}

typedef struct matrix {
    slm_weight w;
    float *values; /* [rows, cols] dequantized */
    uint8_t *source;
    void *data;
} matrix;

static matrix make_matrix(slm_type type, uint32_t rows, uint32_t cols)
{
    const slm_type_info *info = slm_type_get(type);
    size_t row_bytes = (size_t) cols / info->block_weights * info->block_bytes;
    uint32_t panels = (rows + 15) / 16;
    size_t panel_bytes = slm_panel_bytes(type, cols);
    matrix m = {{NULL, panel_bytes, rows, cols, panels, type}, buffer((size_t) rows * cols * 4), buffer(rows * row_bytes),
                buffer(panels * panel_bytes + 8192)};
    random_source(type, m.source, (size_t) rows * cols);
    slm_dequantize(type, m.source, m.values, (size_t) rows * cols);
    for (uint32_t p = 0; p < panels; p++)
        slm_pack_panel(type, m.source + 16 * p * row_bytes, row_bytes, rows - 16 * p < 16 ? rows - 16 * p : 16, cols,
                       (uint8_t *) m.data + p * panel_bytes);
    m.w.data = m.data;
    return m;
}

static void free_matrix(matrix *m)
{
    free(m->values);
    free(m->source);
    free(m->data);
}

static void check_packed_rows(const matrix *m, const slm_kernels *k)
{
    float *row = buffer(m->w.cols * 4);
    for (uint32_t r = 0; r < m->w.rows; r += 1 + r % 5) {
        k->unpack_row(&m->w, r, row);
        CHECK(memcmp(row, m->values + (size_t) r * m->w.cols, m->w.cols * 4) == 0, "%s %s row %u",
              slm_type_get(m->w.type)->name, k->isa, r);
    }
    free(row);
}

static void check_packed_blocks(const matrix *m, const slm_kernels *k)
{
    float *block = buffer(32 * 16 * sizeof *block);
    for (uint32_t panel = 0; panel < m->w.n_panels; panel++)
        for (uint32_t first = 0; first < m->w.cols; first += 32) {
            uint32_t cols = m->w.cols - first < 32 ? m->w.cols - first : 32, rows = m->w.rows - 16 * panel;
            bool same = true;
            k->unpack_block(&m->w, panel, first / 32, block);
            for (uint32_t i = 0; i < cols * 16; i++) {
                uint32_t r = i % 16, c = first + i / 16;
                float expected = r < rows ? m->values[(size_t) (16 * panel + r) * m->w.cols + c] : 0.0f;
                same = same && (memcmp(&block[i], &expected, sizeof expected) == 0 || (block[i] == 0 && expected == 0));
            }
            CHECK(same, "%s %s panel %u column %u", slm_type_get(m->w.type)->name, k->isa, panel, first);
        }
    free(block);
}

/* Largest error relative to the sum of magnitudes. */
static double gemm_error(const matrix *m, const slm_qblock *a, const float *x, uint32_t n, const float *y, size_t ldy)
{
    double worst = 0;
    for (uint32_t r = 0; r < n; r++)
        for (uint32_t o = 0; o < m->w.rows; o++) {
            double sum = 0, size = 1e-30;
            for (uint32_t k = 0; k < m->w.cols; k++) {
                const slm_qblock *q = a + (size_t) r * (m->w.cols / 32) + k / 32;
                double activation = slm_type_get(m->w.type)->is_float ? x[(size_t) r * m->w.cols + k] : (double) q->d * q->q[k % 32];
                double term = activation * m->values[(size_t) o * m->w.cols + k];
                sum += term;
                size += fabs(term);
            }
            double error = fabs(sum - y[r * ldy + o]) / size;
            worst = error > worst ? error : worst;
        }
    return worst;
}

static void check_gemm(slm_type type, uint32_t rows, uint32_t cols, uint32_t n)
{
    matrix m = make_matrix(type, rows, cols);
    const char *name = slm_type_get(type)->name;
    size_t ldy = m.w.n_panels * 16 + 16, nb = cols / 32, bytes = n * ldy * 4;
    float *x = buffer((size_t) n * cols * 4), *expected = buffer(bytes), *y = buffer(bytes);
    slm_qblock *a = buffer(n * nb * sizeof *a);
    void *scratch = buffer(slm_gemm_scratch_bytes(cols));
    for (size_t i = 0; i < (size_t) n * cols; i++)
        x[i] = random_float() * (i % 97 == 0 ? 20.0f : 1.0f);
    slm_kernels_of("ref")->quantize(x, cols, n, cols, a);
    slm_kernels_of("ref")->gemm(&m.w, 0, m.w.n_panels, a, x, cols, n, expected, ldy, scratch);
    double error = gemm_error(&m, a, x, n, expected, ldy);
    CHECK(error < 2e-6, "%s %ux%u batch %u: error %g", name, rows, cols, n, error);
    for (int i = 0; i < N_ISAS; i++) {
        const slm_kernels *k = slm_kernels_of(isas[i]);
        if (!k)
            continue;
        check_packed_rows(&m, k);
        check_packed_blocks(&m, k);
        memset(y, 0, bytes);
        k->gemm(&m.w, 0, m.w.n_panels, a, x, cols, n, y, ldy, scratch);
        CHECK(memcmp(y, expected, bytes) == 0, "%s %ux%u batch %u: %s differs from ref", name, rows, cols, n, isas[i]);
        memset(y, 0, bytes);
        for (uint32_t r = 0, step; r < n; r += step) { /* uneven pieces of the batch, panel by panel */
            step = 1 + r % 3 < n - r ? 1 + r % 3 : n - r;
            for (uint32_t p = 0; p < m.w.n_panels; p += 3)
                k->gemm(&m.w, p, p + 3 < m.w.n_panels ? p + 3 : m.w.n_panels, a + r * nb, x + (size_t) r * cols, cols, step, y + r * ldy,
                        ldy, scratch);
        }
        CHECK(memcmp(y, expected, bytes) == 0, "%s %ux%u batch %u: %s in pieces", name, rows, cols, n, isas[i]);
    }
    free_matrix(&m);
    free(x), free(expected), free(y), free(a), free(scratch);
}

static void test_gemm(void)
{
    static const uint32_t batches[] = {1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 25};
    for (uint32_t type = 0; type < SLM_TYPE_COUNT; type++) {
        if (!slm_type_get(type))
            continue;
        uint32_t unit = slm_type_get(type)->block_weights == 256 ? 256 : 32;
        for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
            check_gemm((slm_type) type, 16 * (uint32_t) (i % 3) + 9, unit * (1 + (uint32_t) i % 4), batches[i]);
            check_gemm((slm_type) type, 80 + (uint32_t) i, unit == 256 ? 768 : 576, batches[i]);
        }
        check_gemm((slm_type) type, 33, unit == 256 ? 1280 : 1056, 9);
    }
    CHECK(slm_panel_bytes(SLM_TYPE_Q4_K, 576) == 0, "cols not a multiple of 256");
    CHECK(slm_panel_bytes(SLM_TYPE_Q4_0, 0) == 0, "no cols");
    CHECK(slm_panel_bytes((slm_type) 7777, 256) == 0, "unknown type");
}

/* ------------------------------------------------------------------ quantizers */

static void test_quantizers(void)
{
    static const struct { slm_type type; double limit; } expected[] = {
        {SLM_TYPE_F32, 0}, {SLM_TYPE_F16, 4e-4}, {SLM_TYPE_BF16, 3e-3}, {SLM_TYPE_Q8_0, 7e-3}, {SLM_TYPE_Q6_K, 0.025},
        {SLM_TYPE_Q5_0, 0.06}, {SLM_TYPE_Q5_1, 0.05}, {SLM_TYPE_Q5_K, 0.045}, {SLM_TYPE_Q4_0, 0.12}, {SLM_TYPE_Q4_1, 0.1},
        {SLM_TYPE_Q4_K, 0.09}};
    enum { N = 4096 };
    static float x[N], y[N];
    static uint8_t packed[N * 4];
    slm_error err;
    for (int i = 0; i < N; i++)
        x[i] = random_float() * 0.05f + (i / 256 % 3 == 0 ? 0.02f : 0.0f);
    for (size_t t = 0; t < sizeof expected / sizeof *expected; t++) {
        double error = 0, size = 0;
        CHECK(slm_quantize(expected[t].type, x, packed, N, &err) == SLM_OK, "quantize");
        slm_dequantize(expected[t].type, packed, y, N);
        for (int i = 0; i < N; i++) {
            error += (double) (x[i] - y[i]) * (x[i] - y[i]);
            size += (double) x[i] * x[i];
        }
        CHECK(sqrt(error / size) <= expected[t].limit, "%s: relative error %g", slm_type_get(expected[t].type)->name, sqrt(error / size));
    }
    memset(x, 0, sizeof x);
    for (size_t t = 0; t < sizeof expected / sizeof *expected; t++) {
        slm_quantize(expected[t].type, x, packed, N, &err);
        slm_dequantize(expected[t].type, packed, y, N);
        int zeros = 0;
        for (int i = 0; i < N; i++)
            zeros += y[i] == 0;
        CHECK(zeros == N, "%s: zeros", slm_type_get(expected[t].type)->name);
    }
    CHECK(slm_quantize(SLM_TYPE_TQ1_0, x, packed, 256, &err) == SLM_UNSUPPORTED, "read-only type");
    CHECK(slm_quantize(SLM_TYPE_Q4_K, x, packed, 128, &err) == SLM_INVALID, "half a block");
}

/* ------------------------------------------------------------------ rows */

enum { ROW_SIZES = 9, ROW_MAX = 1600, N_OUTPUTS = 13 };
static const uint32_t row_sizes[ROW_SIZES] = {1, 7, 16, 17, 31, 64, 576, 1543, 1600};

typedef struct row_inputs {
    float a[ROW_MAX], b[ROW_MAX], c[ROW_MAX];
} row_inputs;

static void row_outputs(const slm_kernels *k, const row_inputs *in, uint32_t n, float out[N_OUTPUTS][ROW_MAX])
{
    memset(out, 0, N_OUTPUTS * sizeof out[0]);
    k->rms_norm(in->a, in->b, out[0], n, 1e-5f);
    k->layer_norm(in->a, in->b, in->c, out[1], n, 1e-5f);
    k->quantize(in->a, n, 1, n, (slm_qblock *) (void *) out[2]);
    k->swiglu(in->a, in->b, out[3], n);
    k->geglu(in->a, in->b, out[4], n);
    k->gelu_erf(in->a, out[5], n);
    k->softcap(in->a, out[6], 5.0f, n);
    memcpy(out[7], in->a, n * 4);
    k->rope(out[7], in->b, in->c, n / 2 * 2, 0);
    memcpy(out[8], in->a, n * 4);
    k->rope(out[8], in->b, in->c, n / 2 * 2, 1);
    out[9][0] = k->logsumexp(in->a, n);
    out[10][0] = (float) k->argmax(in->a, n);
    memcpy(out[11], in->a, n * 4);
    k->add_bias(out[11], n / 2, in->b, 2, n / 2);
    memcpy(out[12], in->a, n * 4);
    k->add_scaled(out[12], n / 2, in->b, n - n / 2, 0.75f, 2, n / 2);
}

static double near(double got, double expected)
{
    return fabs(got - expected) / (1e-3 + fabs(expected));
}

static void check_rows_against_libm(const row_inputs *in, uint32_t n, float out[N_OUTPUTS][ROW_MAX])
{
    double square = 0, mean = 0, variance = 0, largest = in->a[0], sum = 0, worst[N_OUTPUTS] = {0};
    for (uint32_t i = 0; i < n; i++) {
        square += (double) in->a[i] * in->a[i];
        mean += in->a[i];
        largest = in->a[i] > largest ? in->a[i] : largest;
    }
    mean /= n;
    for (uint32_t i = 0; i < n; i++) {
        variance += (in->a[i] - mean) * (in->a[i] - mean);
        sum += exp(in->a[i] - largest);
    }
    for (uint32_t i = 0; i < n; i++) {
        double x = in->a[i], e[N_OUTPUTS] = {0};
        e[0] = near(out[0][i], x / sqrt(square / n + 1e-5) * in->b[i]);
        e[1] = near(out[1][i], (x - mean) / sqrt(variance / n + 1e-5) * in->b[i] + in->c[i]) * (n > 1) * 0.02;
        e[3] = near(out[3][i], x / (1 + exp(-x)) * in->b[i]);
        e[4] = near(out[4][i], 0.5 * x * (1 + tanh(0.7978845608 * (x + 0.044715 * x * x * x))) * in->b[i]);
        e[5] = near(out[5][i], 0.5 * x * (1 + erf(x / sqrt(2.0)))) * 0.01;
        e[6] = near(out[6][i], 5 * tanh(x / 5)) * 0.01;
        if (i < n / 2 * 2) {
            e[11] = near(out[11][i], x + in->b[i % (n / 2)]);
            e[12] = near(out[12][i], x + 0.75 * in->b[i < n / 2 ? i : i - n / 2 + (n - n / 2)]);
        }
        for (int j = 0; j < N_OUTPUTS; j++)
            worst[j] = e[j] > worst[j] ? e[j] : worst[j];
    }
    for (int j = 0; j < N_OUTPUTS; j++)
        CHECK(worst[j] < 3e-6, "row kernel %d, n %u: error %g", j, n, worst[j]);
    CHECK(fabs(out[9][0] - (largest + log(sum))) < 3e-6 * (1 + fabs(largest)), "logsumexp n %u", n);
    CHECK(in->a[(uint32_t) out[10][0]] == (float) largest, "argmax n %u", n);
}

static void test_rows(void)
{
    static row_inputs in;
    static float expected[N_OUTPUTS][ROW_MAX], got[N_OUTPUTS][ROW_MAX];
    for (int s = 0; s < ROW_SIZES; s++) {
        uint32_t n = row_sizes[s];
        for (uint32_t i = 0; i < ROW_MAX; i++) {
            in.a[i] = random_float() * 3;
            in.b[i] = random_float();
            in.c[i] = random_float();
        }
        row_outputs(slm_kernels_of("ref"), &in, n, expected);
        check_rows_against_libm(&in, n, expected);
        if (n > 1) {
            double r0 = (double) in.a[0] * in.b[0] - (double) in.a[n / 2] * in.c[0];
            CHECK(fabs(expected[7][0] - r0) < 1e-5, "rope halves");
            r0 = (double) in.a[0] * in.c[0] + (double) in.a[1] * in.b[0];
            CHECK(fabs(expected[8][1] - r0) < 1e-5, "rope pairs");
        }
        for (int i = 1; i < N_ISAS; i++) {
            const slm_kernels *k = slm_kernels_of(isas[i]);
            if (!k)
                continue;
            row_outputs(k, &in, n, got);
            for (int j = 0; j < N_OUTPUTS; j++)
                CHECK(memcmp(got[j], expected[j], sizeof got[j]) == 0, "row kernel %d, n %u: %s differs from ref", j, n, isas[i]);
        }
    }
}

/* ------------------------------------------------------------------ training */

/* Products with strides, from zero and added to, against double arithmetic. */
static void check_matmul(uint32_t m, uint32_t n, uint32_t k, bool turned)
{
    size_t row = turned ? 1 : k + 3, col = turned ? m + 1 : 1, ldb = n + 5, ldc = n + 2;
    float *a = buffer((m + 1) * (size_t) (k + 3) * 4), *b = buffer(k * ldb * 4), *expected = buffer(m * ldc * 4), *c = buffer(m * ldc * 4);
    for (size_t i = 0; i < (m + 1) * (size_t) (k + 3); i++)
        a[i] = random_float();
    for (size_t i = 0; i < k * ldb; i++)
        b[i] = random_float();
    for (size_t i = 0; i < m * ldc; i++)
        expected[i] = 1.5f;
    slm_kernels_of("ref")->matmul(a, row, col, b, ldb, m, n, k, expected, ldc, 1);
    double worst = 0;
    for (uint32_t i = 0; i < m; i++)
        for (uint32_t j = 0; j < n; j++) {
            double sum = 1.5;
            for (uint32_t l = 0; l < k; l++)
                sum += (double) a[i * row + l * col] * (double) b[l * ldb + j];
            double off = fabs(sum - (double) expected[i * ldc + j]);
            worst = off <= worst ? worst : off;
        }
    CHECK(worst < 1e-4 && expected[n] == 1.5f, "matmul %ux%ux%u: error %g", m, n, k, worst);
    for (int i = 0; i < N_ISAS; i++) {
        const slm_kernels *kn = slm_kernels_of(isas[i]);
        if (!kn)
            continue;
        for (size_t j = 0; j < m * ldc; j++)
            c[j] = 1.5f;
        kn->matmul(a, row, col, b, ldb, m, n, k / 2, c, ldc, 1); /* in two parts: the same chain */
        kn->matmul(a + k / 2 * col, row, col, b + k / 2 * ldb, ldb, m, n, k - k / 2, c, ldc, 1);
        CHECK(memcmp(c, expected, m * ldc * 4) == 0, "matmul %ux%ux%u: %s differs from ref", m, n, k, isas[i]);
        kn->matmul(a, row, col, b, ldb, m, n, 0, c, ldc, 0);
        CHECK(c[0] == 0.0f && c[n] == 1.5f, "matmul of nothing");
    }
    free(a);
    free(b);
    free(c);
    free(expected);
}

/* The gradients of y . dy by differences of the kernels whose slopes they are. */
static void check_slopes(const slm_kernels *k, const row_inputs *in, uint32_t n)
{
    static float up[ROW_MAX], y[2][ROW_MAX], dx[ROW_MAX], dgate[ROW_MAX], dup[ROW_MAX], x[ROW_MAX];
    for (int kind = 0; kind < 5; kind++) {
        const float step = 0.01f;
        double slope = 0, difference = 0, size = 0;
        memcpy(x, in->a, sizeof x);
        memcpy(up, in->b, sizeof up);
        if (kind == 0)
            k->rms_norm_grad(x, up, in->c, dx, n, 1e-5f);
        else if (kind == 1)
            k->swiglu_grad(x, up, in->c, dgate, dup, n);
        else if (kind == 2)
            k->geglu_grad(x, up, in->c, dgate, dup, n);
        else if (kind == 3)
            k->layer_norm_grad(x, up, in->c, dx, n, 1e-5f);
        else
            k->gelu_erf_grad(x, in->c, dx, n);
        bool row = kind == 0 || kind > 2; /* up does not move */
        for (int side = 0; side < 2; side++) {
            for (uint32_t i = 0; i < n; i++) {
                float move = (side ? step : -step) * (float) ((int) (i * 7 % 5) - 2);
                x[i] = in->a[i] + move;
                up[i] = in->b[i] + (row ? 0 : move);
            }
            if (kind == 0)
                k->rms_norm(x, up, y[side], n, 1e-5f);
            else if (kind == 1)
                k->swiglu(x, up, y[side], n);
            else if (kind == 2)
                k->geglu(x, up, y[side], n);
            else if (kind == 3)
                k->layer_norm(x, up, in->c, y[side], n, 1e-5f);
            else
                k->gelu_erf(x, y[side], n);
        }
        for (uint32_t i = 0; i < n; i++) {
            double move = (double) ((int) (i * 7 % 5) - 2), d = row ? dx[i] : (double) dgate[i] + (double) dup[i];
            slope += d * move;
            size += fabs(d * move);
            difference += ((double) y[1][i] - (double) y[0][i]) * (double) in->c[i] / (2 * (double) step);
        }
        CHECK(fabs(slope - difference) <= 2e-3 * size + 1e-3, "slope %d, n %u: %g, by differences %g", kind, n, slope, difference);
    }
}

static void training_outputs(const slm_kernels *k, const row_inputs *in, uint32_t n, float out[8][ROW_MAX])
{
    memset(out, 0, 8 * sizeof out[0]);
    k->rms_norm_grad(in->a, in->b, in->c, out[0], n, 1e-5f);
    k->swiglu_grad(in->a, in->b, in->c, out[1], out[2], n);
    k->geglu_grad(in->a, in->b, in->c, out[3], out[4], n);
    k->exp_below(in->a, 1.25f, out[5], n);
    k->layer_norm_grad(in->a, in->b, in->c, out[6], n, 1e-5f);
    k->gelu_erf_grad(in->a, in->c, out[7], n);
}

static void test_training(void)
{
    static row_inputs in;
    static float expected[8][ROW_MAX], got[8][ROW_MAX];
    static const uint32_t shapes[][3] = {{1, 1, 1}, {3, 8, 5}, {6, 16, 64}, {7, 33, 17}, {13, 64, 100}, {8, 47, 3}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int turned = 0; turned < 2; turned++)
            check_matmul(shapes[i][0], shapes[i][1], shapes[i][2], turned != 0);
    for (int s = 1; s < ROW_SIZES; s++) {
        uint32_t n = row_sizes[s];
        for (uint32_t i = 0; i < ROW_MAX; i++) {
            in.a[i] = random_float() * 2;
            in.b[i] = random_float();
            in.c[i] = random_float();
        }
        training_outputs(slm_kernels_of("ref"), &in, n, expected);
        check_slopes(slm_kernels_of("ref"), &in, n);
        for (uint32_t i = 0; i < n; i++)
            CHECK(fabs((double) expected[5][i] - exp((double) in.a[i] - 1.25)) <= 1e-6 * exp((double) in.a[i] - 1.25), "exp_below");
        for (int i = 1; i < N_ISAS; i++) {
            if (!slm_kernels_of(isas[i]))
                continue;
            training_outputs(slm_kernels_of(isas[i]), &in, n, got);
            for (int j = 0; j < 8; j++)
                CHECK(memcmp(got[j], expected[j], sizeof got[j]) == 0, "training kernel %d, n %u: %s differs from ref", j, n, isas[i]);
        }
    }
}

/* Products in bfloat16, of numbers that it holds exactly. */
static void test_bf16(void)
{
    enum { M = 13, K = 64 };
    static float a[M][K], w[K][64], block[32 * 16], c[M][64];
    static uint16_t half[M][K], pairs[K / 2][64][2];
    const slm_bf16 *b = slm_bf16_get();
    if (b == NULL) {
        printf("skip products in bfloat16: this machine has none\n");
        return;
    }
    for (int i = 0; i < M * K; i++)
        a[i / K][i % K] = (float) ((int) (random_bits() % 64) - 32) / 4;
    for (int i = 0; i < K * 64; i++)
        w[i / 64][i % 64] = (float) ((int) (random_bits() % 64) - 32) / 8;
    b->from_floats(a[0], half[0], M * K);
    for (uint32_t panel = 0; panel < K / 16; panel++)
        for (uint32_t part = 0; part < 64; part += 32) {
            for (uint32_t i = 0; i < 32 * 16; i++)
                block[i] = w[16 * panel + i % 16][part + i / 16];
            b->pair_rows(block, 32, pairs[8 * panel][part], 64);
        }
    for (uint32_t m = 1; m <= M; m++) {
        double worst = 0;
        b->matmul(half[0], K, pairs[0][0], m, K / 2, c[0], 64, 0);
        b->matmul(half[0] + K / 2, K, pairs[K / 4][0], m, K / 2, c[0], 64, 1);
        for (uint32_t i = 0; i < m; i++)
            for (uint32_t j = 0; j < 64; j++) {
                double sum = 0;
                for (uint32_t l = 0; l < K; l++)
                    sum += (double) a[i][l] * (double) w[l][j];
                worst = fabs(sum - (double) c[i][j]) > worst ? fabs(sum - (double) c[i][j]) : worst;
            }
        CHECK(worst < 1e-4, "bfloat16, %u rows: error %g", m, worst);
    }
}

/* ------------------------------------------------------------------ pairs */

typedef struct pair_inputs {
    float a[ROW_MAX], b[ROW_MAX];
    double x[ROW_MAX], y[ROW_MAX];
} pair_inputs;

static void pair_outputs(const slm_kernels *k, const pair_inputs *in, size_t n, double out[8])
{
    k->products(in->a, in->b, n, out);
    k->products_double(in->x, in->y, n, out + 3);
    out[6] = k->squares(in->a, in->b, n);
    out[7] = k->squares_double(in->x, in->y, n);
}

static void check_pairs_against_loops(const pair_inputs *in, size_t n, const double out[8])
{
    long double e[8] = {0};
    for (size_t i = 0; i < n; i++) {
        long double a = in->a[i], b = in->b[i], x = in->x[i], y = in->y[i];
        e[0] += a * b, e[1] += a * a, e[2] += b * b;
        e[3] += x * y, e[4] += x * x, e[5] += y * y;
        e[6] += (a - b) * (a - b), e[7] += (x - y) * (x - y);
    }
    for (int j = 0; j < 8; j++)
        CHECK(fabs(out[j] - (double) e[j]) <= 1e-13 * (1 + fabs((double) e[j])), "pair kernel %d, n %zu: %.17g, not %.17g", j, n, out[j],
              (double) e[j]);
}

static void test_pairs(void)
{
    static pair_inputs in;
    double expected[8], got[8];
    for (size_t n = 0; n <= 70; n++) { /* and some long ones */
        size_t length = n < 64 ? n : n == 64 ? 384 : n == 65 ? 383 : n == 66 ? 385 : ROW_MAX - n % 4;
        for (size_t i = 0; i < ROW_MAX; i++) {
            in.a[i] = random_float() * 3;
            in.b[i] = random_float();
            in.x[i] = (double) random_float() + 1e-9 * (double) random_float();
            in.y[i] = (double) random_float() * 1e3;
        }
        pair_outputs(slm_kernels_of("ref"), &in, length, expected);
        check_pairs_against_loops(&in, length, expected);
        for (int i = 1; i < N_ISAS; i++) {
            const slm_kernels *k = slm_kernels_of(isas[i]);
            if (!k)
                continue;
            pair_outputs(k, &in, length, got);
            CHECK(memcmp(got, expected, sizeof got) == 0, "pair kernels, n %zu: %s differs from ref", length, isas[i]);
        }
    }
}

static void test_quantize_values(void)
{
    static float x[3 * 64];
    slm_qblock q[6];
    for (int i = 0; i < 3 * 64; i++)
        x[i] = i < 64 ? 0.0f : random_float();
    x[70] = 1e30f, x[100] = -1e-30f;
    for (int s = 0; s < N_ISAS; s++) {
        const slm_kernels *k = slm_kernels_of(isas[s]);
        if (!k)
            continue;
        k->quantize(x, 64, 3, 64, q);
        for (int b = 0; b < 6; b++) {
            int sum = 0, first = 0;
            for (int i = 0; i < 32; i++) {
                sum += q[b].q[i];
                first += i < 16 ? q[b].q[i] : 0;
                CHECK(fabs(x[32 * b + i] - (double) q[b].d * q[b].q[i]) <= 0.5001 * q[b].d + 1e-30, "%s block %d", isas[s], b);
            }
            CHECK(q[b].nsum[0] == -128 * sum && q[b].nsum[1] == -128 * first, "%s sums", isas[s]);
            CHECK(q[b].s == q[b].d * (float) sum, "%s s", isas[s]);
        }
    }
    /* infinities and NaNs of a broken model, and numbers too small to divide by: any values, but the same everywhere */
    slm_qblock expected[6];
    x[3] = INFINITY, x[40] = NAN, x[41] = 2.0f, x[64 + 13] = NAN, x[64 + 31] = -INFINITY, x[150] = NAN;
    for (int i = 96; i < 128; i++)
        x[i] = i == 96 ? NAN : 0.0f;
    for (int i = 160; i < 192; i++)
        x[i] = (float) (i - 170) * 1e-41f;
    memset(expected, 0, sizeof expected);
    slm_kernels_of("ref")->quantize(x, 32, 6, 32, expected);
    for (int s = 1; s < N_ISAS; s++)
        if (slm_kernels_of(isas[s])) {
            memset(q, 0, sizeof q);
            slm_kernels_of(isas[s])->quantize(x, 64, 3, 64, q);
            for (int b = 0; b < 6; b++)
                CHECK(memcmp(q[b].q, expected[b].q, 32) == 0 && memcmp(q[b].nsum, expected[b].nsum, sizeof q[b].nsum) == 0,
                      "%s: not finite, block %d", isas[s], b);
            CHECK(memcmp(&q[5], &expected[5], sizeof q[5]) == 0, "%s: small numbers", isas[s]);
        }
}

/* ------------------------------------------------------------------ attention */

enum { SEQUENCES = 5, POSITIONS = 163, BLOCKS = (POSITIONS + 15) / 16, QUERIES = 23 };

typedef struct attention {
    uint32_t head_dim;
    size_t block_elements, k_offset, v_offset;
    uint16_t *memory[SEQUENCES][BLOCKS];
    const uint16_t *tables[SEQUENCES][BLOCKS];
    float keys[SEQUENCES][POSITIONS][512], values[SEQUENCES][POSITIONS][512]; /* as stored: rounded to F16 */
    const uint16_t *const *query_tables[QUERIES];
    int sequence[QUERIES];
    int32_t first[QUERIES], last[QUERIES];
    size_t q_offset[QUERIES];
    float q[QUERIES * 512];
} attention;

/* Sequences 0 and 1 share their first two blocks; memory that no position wrote holds NaN. */
static void fill_attention(attention *t, const slm_kernels *k, uint32_t head_dim)
{
    t->head_dim = head_dim;
    t->k_offset = 24;
    t->v_offset = 24 + 16 * (size_t) head_dim;
    t->block_elements = t->v_offset + 16 * (size_t) head_dim;
    for (int s = 0; s < SEQUENCES; s++)
        for (int b = 0; b < BLOCKS; b++) {
            t->memory[s][b] = buffer(t->block_elements * 2);
            memset(t->memory[s][b], 0xFF, t->block_elements * 2);
            t->tables[s][b] = s == 1 && b < 2 ? t->memory[0][b] : t->memory[s][b];
        }
    for (int s = 0; s < SEQUENCES; s++)
        for (int p = 0; p < POSITIONS; p++) {
            float key[512], value[512];
            for (uint32_t d = 0; d < head_dim; d++) {
                key[d] = s == 1 && p < 32 ? t->keys[0][p][d] : random_float();
                value[d] = s == 1 && p < 32 ? t->values[0][p][d] : random_float();
                t->keys[s][p][d] = slm_f16_to_f32(slm_f32_to_f16(key[d]));
                t->values[s][p][d] = slm_f16_to_f32(slm_f32_to_f16(value[d]));
            }
            k->kv_store((uint16_t *) (uintptr_t) t->tables[s][p / 16], t->k_offset, t->v_offset, (uint32_t) p % 16, key, value, head_dim);
        }
    for (int i = 0; i < QUERIES; i++) {
        t->sequence[i] = i < 14 ? i / 7 : 2 + i % 3;
        t->query_tables[i] = t->tables[t->sequence[i]];
        t->last[i] = i % 4 == 3 ? (int32_t) (random_bits() % POSITIONS) : i < 14 ? 90 + i : POSITIONS - 1;
        t->first[i] = i % 5 == 4 ? t->last[i] - (int32_t) (random_bits() % (uint32_t) (t->last[i] + 1)) : 0;
        t->q_offset[i] = (size_t) (QUERIES - 1 - i) * head_dim;
    }
    for (size_t i = 0; i < QUERIES * (size_t) head_dim; i++)
        t->q[i] = random_float();
}

/* Added to the scores of every second shape of head. */
static float biases[POSITIONS + 2 * SLM_KV_BLOCK];

static double attention_error(const attention *t, const float *out, float scale, float softcap, bool biased)
{
    double worst = 0;
    for (int i = 0; i < QUERIES; i++) {
        int s = t->sequence[i];
        double weights[POSITIONS], total = 0, expected[512] = {0};
        for (int p = t->first[i]; p <= t->last[i]; p++) {
            double score = 0;
            for (uint32_t d = 0; d < t->head_dim; d++)
                score += (double) t->q[t->q_offset[i] + d] * t->keys[s][p][d];
            score *= scale;
            weights[p] = exp((softcap > 0 ? softcap * tanh(score / softcap) : score) + (biased ? (double) biases[p] : 0));
            total += weights[p];
        }
        for (int p = t->first[i]; p <= t->last[i]; p++)
            for (uint32_t d = 0; d < t->head_dim; d++)
                expected[d] += weights[p] / total * t->values[s][p][d];
        for (uint32_t d = 0; d < t->head_dim; d++) {
            double error = fabs(expected[d] - out[t->q_offset[i] + d]);
            worst = error > worst || error != error ? error : worst;
        }
    }
    return worst;
}

/* The same keys and values in F32, which F16 holds exactly, give the same bits. */
static void check_wide(const attention *t, slm_attend a, const float *expected)
{
    static const uint16_t *tables[SEQUENCES][BLOCKS];
    const uint16_t *const *query_tables[QUERIES];
    size_t values = (size_t) SLM_KV_BLOCK * t->head_dim, elements = 24 + 4 * values;
    for (int s = 0; s < SEQUENCES; s++)
        for (int b = 0; b < BLOCKS; b++) {
            uint16_t *memory = buffer(elements * 2);
            float *k = (float *) (void *) (memory + 24), *v = k + values;
            memset(memory, 0xFF, elements * 2);
            for (int p = 16 * b; p < POSITIONS && p < 16 * b + 16; p++)
                for (uint32_t d = 0; d < t->head_dim; d++) {
                    k[d * SLM_KV_BLOCK + (uint32_t) p % 16] = t->keys[s][p][d];
                    v[(uint32_t) p % 16 * t->head_dim + d] = t->values[s][p][d];
                }
            tables[s][b] = memory;
        }
    for (int i = 0; i < QUERIES; i++)
        query_tables[i] = tables[t->sequence[i]];
    a.blocks = query_tables;
    a.k_offset = 24;
    a.v_offset = 24 + 2 * values;
    a.kind = SLM_KV_KIND_F32;
    for (int i = 0; i < N_ISAS; i++) {
        const slm_kernels *k = slm_kernels_of(isas[i]);
        if (!k)
            continue;
        memset(a.out, 0, QUERIES * t->head_dim * sizeof *a.out);
        k->attend(&a);
        CHECK(memcmp(a.out, expected, QUERIES * t->head_dim * sizeof *a.out) == 0, "attend head_dim %u: %s in F32", t->head_dim, isas[i]);
    }
    for (int s = 0; s < SEQUENCES; s++)
        for (int b = 0; b < BLOCKS; b++)
            free((void *) (uintptr_t) tables[s][b]);
}

static void check_attention(uint32_t head_dim, float softcap, bool biased)
{
    static attention t;
    static const float *bias[QUERIES];
    static float expected[QUERIES * 512], out[QUERIES * 512];
    float scale = 1.0f / sqrtf((float) head_dim), *scratch = buffer(slm_attend_scratch(POSITIONS) * 4);
    fill_attention(&t, slm_kernels_of("ref"), head_dim);
    slm_attend a = {t.q, t.q_offset, expected, t.query_tables, t.first, t.last, t.k_offset, t.v_offset, QUERIES, head_dim, scale, softcap,
                    scratch, biased ? bias : NULL, SLM_KV_KIND_F16};
    for (int i = 0; i < QUERIES; i++)
        bias[i] = biases;
    for (size_t i = 0; biased && i < sizeof biases / sizeof *biases; i++)
        biases[i] = (float) (i * 37 % 101) / 50.0f - 1.0f;
    slm_kernels_of("ref")->attend(&a);
    double error = attention_error(&t, expected, scale, softcap, biased);
    CHECK(error < 1e-5, "head_dim %u softcap %g: error %g", head_dim, softcap, error);
    for (int i = 0; i < N_ISAS; i++) {
        const slm_kernels *k = slm_kernels_of(isas[i]);
        if (!k)
            continue;
        a.out = out;
        k->attend(&a);
        CHECK(memcmp(out, expected, QUERIES * head_dim * 4) == 0, "attend head_dim %u: %s differs from ref", head_dim, isas[i]);
        memset(out, 0, sizeof out);
        for (uint32_t q = 0; q < QUERIES; q++) { /* one by one: no neighbour may matter */
            slm_attend one = a;
            one.n_q = 1;
            one.q_offset += q, one.blocks += q, one.first += q, one.last += q, one.bias += biased ? q : 0;
            k->attend(&one);
        }
        CHECK(memcmp(out, expected, QUERIES * head_dim * 4) == 0, "attend head_dim %u: %s one by one", head_dim, isas[i]);
        uint16_t *block = buffer(t.block_elements * 2), *again = buffer(t.block_elements * 2);
        slm_kernels_of("ref")->kv_store(block, t.k_offset, t.v_offset, 5, t.q, t.q + head_dim, head_dim);
        k->kv_store(again, t.k_offset, t.v_offset, 5, t.q, t.q + head_dim, head_dim);
        CHECK(memcmp(block, again, t.block_elements * 2) == 0, "kv_store head_dim %u: %s", head_dim, isas[i]);
        free(block), free(again);
    }
    a.out = out;
    check_wide(&t, a, expected);
    for (int s = 0; s < SEQUENCES; s++)
        for (int b = 0; b < BLOCKS; b++)
            free(t.memory[s][b]);
    free(scratch);
}

static void test_dispatch(void)
{
    slm_error err;
    CHECK(slm_kernels_get() != NULL, "table");
    CHECK(slm_kernels_select("ref", &err) == SLM_OK && strcmp(slm_kernels_get()->isa, "ref") == 0, "select ref");
    CHECK(slm_kernels_select("mmx", &err) == SLM_UNSUPPORTED, "unknown set");
    CHECK(strcmp(slm_kernels_get()->isa, "ref") == 0, "unchanged after a refusal");
    CHECK(slm_kernels_select("auto", &err) == SLM_OK, "auto");
}

int main(void)
{
    static const uint32_t head_dims[] = {8, 24, 32, 64, 72, 80, 96, 128, 256, 296, 512};
    test_dispatch();
    test_quantizers();
    test_quantize_values();
    test_rows();
    test_pairs();
    test_training();
    test_bf16();
    for (size_t i = 0; i < sizeof head_dims / sizeof *head_dims; i++)
        check_attention(head_dims[i], i % 3 == 1 ? 20.0f : 0.0f, i % 2 == 1);
    test_gemm();
    TEST_MAIN_END("test_kernels");
}
