/*
 * quantize_gguf IN OUT TYPE: the same model with other weight types (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K_M, Q5_K_M, Q6_K, F16,
 * BF16, F32).
 *
 * Metadata is copied as it stands but general.file_type; vectors stay as they are; matrices go through floats.  Reads by pread
 * and writes in order, a few MiB at a time; all CPUs quantize.  For tests and benchmarks; the engine quantizes on import by
 * itself.
 */
#include <stdatomic.h>

#include "engine/base/threads.h"
#include "engine/import/gguf/gguf.h"
#include "tools/gguf_writer.h"
#include "tools/type_mix.h"

typedef struct job {
    const unsigned char *in;
    unsigned char *out;
    slm_type from, to;
    uint64_t cols, in_bytes, out_bytes; /* of a row */
    uint32_t n_rows;
    atomic_int failed;
} job;

static uint64_t row_bytes(slm_type type, uint64_t cols)
{
    return cols / slm_type_get(type)->block_weights * slm_type_get(type)->block_bytes;
}

static void convert_region(void *arg, slm_team *team, int thread, int n_threads)
{
    job *j = arg;
    uint32_t begin, end;
    float *floats = malloc(j->cols * sizeof *floats);
    while (slm_take(team, j->n_rows, 4, &begin, &end))
        for (uint32_t r = begin; r < end; r++) {
            if (floats == NULL) {
                atomic_store(&j->failed, 1);
                continue;
            }
            slm_dequantize(j->from, j->in + r * j->in_bytes, floats, j->cols);
            if (slm_quantize(j->to, floats, j->out + r * j->out_bytes, j->cols, NULL) != SLM_OK)
                atomic_store(&j->failed, 1);
        }
    free(floats);
}

static int fail(const char *what)
{
    fprintf(stderr, "quantize_gguf: %s\n", what);
    return 1;
}

/* Copies a key with its value. */
static int copy_value(gw *w, const slm_gguf *g, const slm_gguf_value *v)
{
    unsigned char *bytes = malloc(v->bytes + 1);
    if (bytes == NULL || slm_gguf_read_value(g, v, bytes, NULL) != SLM_OK) {
        free(bytes);
        return -1;
    }
    if (v->is_array) {
        gw_kv_array(w, v->key, v->type, v->n);
    } else {
        gw_key(w, v->key, v->type);
        if (v->type == SLM_GGUF_STRING)
            gw_u64(w, v->bytes);
    }
    gw_raw(w, bytes, v->bytes);
    free(bytes);
    return 0;
}

static int convert_tensor(const slm_gguf *g, const slm_gguf_tensor *t, slm_type type, FILE *out)
{
    static const char zeros[32];
    uint64_t cols = t->dims[0], rows = t->dims[1] * t->dims[2] * t->dims[3];
    job j = {.from = t->type, .to = type, .cols = cols, .in_bytes = row_bytes(t->type, cols), .out_bytes = row_bytes(type, cols)};
    uint64_t step = (4u << 20) / j.in_bytes + 1, total = rows * j.out_bytes;
    unsigned char *in = malloc(step * j.in_bytes), *converted = malloc(step * j.out_bytes);
    int result = in == NULL || converted == NULL ? -1 : 0;
    for (uint64_t row = 0; result == 0 && row < rows; row += step) {
        j.n_rows = (uint32_t) (rows - row < step ? rows - row : step);
        j.in = in;
        j.out = converted;
        if (slm_gguf_read_tensor(g, t, row * j.in_bytes, in, j.n_rows * j.in_bytes, NULL) != SLM_OK)
            result = -1;
        else if (type == t->type)
            memcpy(converted, in, j.n_rows * j.in_bytes);
        else
            slm_parallel(slm_cpu_count(), convert_region, &j);
        if (atomic_load(&j.failed) || fwrite(converted, j.out_bytes, j.n_rows, out) != j.n_rows)
            result = -1;
    }
    if (result == 0 && total % 32 != 0 && fwrite(zeros, 1, 32 - total % 32, out) != 32 - total % 32)
        result = -1;
    free(in);
    free(converted);
    return result;
}

static unsigned count_layers(const slm_gguf *g)
{
    unsigned n = 0, layer;
    for (size_t i = 0; i < slm_gguf_n_tensors(g); i++)
        if (sscanf(slm_gguf_tensor_at(g, i)->name, "blk.%u.", &layer) == 1 && layer >= n)
            n = layer + 1;
    return n;
}

int main(int argc, char **argv)
{
    type_mix mix;
    slm_gguf *g = NULL;
    slm_error err;
    gw w = {0};
    uint64_t offset = 0;
    if (argc != 4 || mix_parse(argv[3], &mix) != 0)
        return fail("usage: quantize_gguf IN.gguf OUT.gguf TYPE (Q4_0, Q8_0, Q4_K_M, F16, ...)");
    if (slm_gguf_open(argv[1], &g, &err) != SLM_OK)
        return fail(err.message);
    size_t n = slm_gguf_n_tensors(g), n_values = slm_gguf_n_values(g);
    bool tied = slm_gguf_find_tensor(g, "output.weight") == NULL;
    unsigned n_layers = count_layers(g);
    slm_type *types = malloc((n + 1) * sizeof *types);
    bool has_file_type = slm_gguf_find(g, "general.file_type") != NULL;
    gw_begin(&w, 3, n, n_values + !has_file_type);
    for (size_t i = 0; i < n_values; i++) {
        const slm_gguf_value *v = slm_gguf_value_at(g, i);
        if (strcmp(v->key, "general.file_type") != 0 && strcmp(v->key, "general.alignment") != 0 && copy_value(&w, g, v) != 0)
            return fail("cannot copy the metadata");
        if (strcmp(v->key, "general.alignment") == 0)
            gw_kv_u32(&w, "general.alignment", 32);
    }
    gw_kv_u32(&w, "general.file_type", mix_file_type(&mix));
    for (size_t i = 0; i < n; i++) {
        const slm_gguf_tensor *t = slm_gguf_tensor_at(g, i);
        bool matrix = t->n_dims == 2;
        types[i] = matrix ? mix_choose(&mix, t->name, t->dims[0], n_layers, tied) : t->type;
        gw_tensor(&w, t->name, t->dims[0], matrix ? t->dims[1] : 0, types[i], offset);
        offset += (t->dims[1] * row_bytes(types[i], t->dims[0]) + 31) & ~(uint64_t) 31;
    }
    gw_align(&w, 32);
    FILE *out = fopen(argv[2], "wb");
    if (out == NULL || fwrite(w.bytes, 1, w.n, out) != w.n)
        return fail("cannot write");
    for (size_t i = 0; i < n; i++)
        if (convert_tensor(g, slm_gguf_tensor_at(g, i), types[i], out) != 0)
            return fail("cannot convert or write a tensor");
    if (fclose(out) != 0)
        return fail("cannot write");
    free(types);
    gw_free(&w);
    slm_gguf_close(g);
    return 0;
}
