/*
 * Speed of the kernels on one core: GMAC/s of the matrix products per type, shape and batch, beside the machine's own peaks measured
 * in the same run, and the GB/s of the matrix-vector product over a weight set that does not fit the caches.
 *
 *   bench_kernels [--csv FILE] [--quick] [--type NAME] [--isa NAME] [--mb MEGABYTES]
 *
 * Each figure is the best of several runs in CPU time of the thread: the machine may be shared, and the best run was disturbed least.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/kernels/kernels.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

static void *buffer(size_t bytes)
{
    void *p = aligned_alloc(4096, (bytes + 8191) / 4096 * 4096);
    if (!p) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    memset(p, 0x3B, bytes + 64); /* scales of normal size in every format */
    return p;
}

#if defined(__x86_64__)
#include <immintrin.h>

#define TWELVE(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define SET(i) __m512i c##i = _mm512_set1_epi32(i);
#define DOT(i) __asm__ volatile("vpdpbusd %1, %2, %0" : "+v"(c##i) : "v"(x), "v"(w));
#define FMA(i) __asm__ volatile("vfmadd231ps %1, %2, %0" : "+v"(c##i) : "v"(x), "v"(w));

enum { PEAK_STEPS = 100000 };

__attribute__((target("avx512f,avx512vnni"))) static double time_dots(void)
{
    TWELVE(SET)
    __m512i x = _mm512_set1_epi8(3), w = x;
    double begin = now();
    for (int n = 0; n < PEAK_STEPS; n++) {
        TWELVE(DOT)
    }
    return now() - begin;
}

__attribute__((target("avx512f"))) static double time_fmas(void)
{
    TWELVE(SET)
    __m512i x = _mm512_set1_epi32(0), w = x;
    double begin = now();
    for (int n = 0; n < PEAK_STEPS; n++) {
        TWELVE(FMA)
    }
    return now() - begin;
}
#endif

/* GMAC/s of vpdpbusd and of float FMA on registers; 0 where this machine has no AVX-512 VNNI. */
static void measure_peaks(double *int8, double *fp32)
{
    *int8 = *fp32 = 0;
#if defined(__x86_64__)
    if (!slm_kernels_of("avx512"))
        return;
    double dots = 1e9, fmas = 1e9;
    for (int run = 0; run < 40; run++) {
        double t = time_dots();
        dots = t < dots ? t : dots;
        t = time_fmas();
        fmas = t < fmas ? t : fmas;
    }
    *int8 = PEAK_STEPS * 12.0 * 64 / dots * 1e-9;
    *fp32 = PEAK_STEPS * 12.0 * 16 / fmas * 1e-9;
#endif
}

static volatile uint64_t sink; /* keeps sums that nobody reads */

/* GB/s of summing a buffer larger than the caches. */
static double measure_memory(const uint8_t *p, size_t bytes)
{
    double best = 1e9;
    for (int run = 0; run < 5; run++) {
        uint64_t sum[8] = {0};
        double begin = now();
        for (size_t i = 0; i + 64 <= bytes; i += 64) {
            const uint64_t *q = (const uint64_t *) (const void *) (p + i);
            __builtin_prefetch(p + i + 4096);
            for (int j = 0; j < 8; j++)
                sum[j] += q[j];
        }
        double t = now() - begin;
        for (int j = 0; j < 8; j++)
            sink += sum[j];
        best = t < best ? t : best;
    }
    return (double) bytes / best * 1e-9;
}

static FILE *csv;

static double bench_gemm(const slm_kernels *k, const slm_weight *w, uint32_t n, double budget)
{
    uint32_t nb = w->cols / 32;
    size_t ldy = (size_t) w->n_panels * 16;
    float *x = buffer((size_t) n * w->cols * 4), *y = buffer(n * ldy * 4);
    slm_qblock *a = buffer((size_t) n * nb * sizeof *a);
    void *scratch = buffer(slm_gemm_scratch_bytes(w->cols));
    double best = 1e9, begin = now();
    for (size_t i = 0; i < (size_t) n * w->cols; i++)
        x[i] = (float) ((i * 7919) % 2001) * 1e-3f - 1.0f;
    k->quantize(x, w->cols, n, w->cols, a);
    for (int run = 0; run < 3 || (now() - begin < budget && run < 2000); run++) {
        double t = now();
        k->gemm(w, 0, w->n_panels, a, x, w->cols, n, y, ldy, scratch);
        t = now() - t;
        best = t < best ? t : best;
    }
    free(x), free(y), free(a), free(scratch);
    return (double) w->rows * w->cols * n / best * 1e-9;
}

/* One row after another through a weight set of `bytes`: memory speed. */
static double bench_vector(const slm_kernels *k, slm_weight w, size_t bytes)
{
    uint32_t copies = (uint32_t) (bytes / ((size_t) w.n_panels * w.panel_bytes)) + 1;
    w.n_panels *= copies;
    w.rows = w.n_panels * 16;
    uint8_t *data = buffer((size_t) w.n_panels * w.panel_bytes + 8192);
    w.data = data;
    double gmacs = bench_gemm(k, &w, 1, 0.5);
    free(data);
    return gmacs / ((double) w.rows * w.cols) * (double) w.n_panels * (double) w.panel_bytes;
}

static void bench_type(const slm_kernels *k, slm_type type, double int8, double fp32, size_t bytes, int quick)
{
    static const uint32_t shapes[][2] = {{576, 576}, {1536, 576}, {576, 1536}, {2048, 2048}, {8192, 2048}, {2048, 8192}};
    static const uint32_t batches[] = {1, 4, 16, 128, 512};
    const slm_type_info *info = slm_type_get(type);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        uint32_t rows = shapes[s][0], cols = shapes[s][1];
        size_t panel_bytes = slm_panel_bytes(type, cols);
        if (panel_bytes == 0 || (quick && s != 1 && s != 3 && s != 5))
            continue;
        slm_weight w = {NULL, panel_bytes, rows, cols, (rows + 15) / 16, type};
        void *data = buffer(w.n_panels * panel_bytes + 8192);
        w.data = data;
        printf("%-7s %5ux%-5u", info->name, rows, cols);
        for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
            double gmacs = bench_gemm(k, &w, batches[b], quick ? 0.05 : 0.2), peak = info->is_float ? fp32 : int8;
            printf("  %6.1f", gmacs);
            if (batches[b] >= 128 && peak > 0)
                printf(" (%2.0f%%)", 100 * gmacs / peak);
            if (csv)
                fprintf(csv, "%s,%s,%u,%u,%u,%.2f,%.1f,\n", k->isa, info->name, rows, cols, batches[b], gmacs,
                        peak > 0 ? 100 * gmacs / peak : 0.0);
        }
        free(data);
        if (s == 3) {
            double gb = bench_vector(k, w, bytes);
            printf("  %5.1f GB/s", gb);
            if (csv)
                fprintf(csv, "%s,%s,%u,%u,1,,,%.2f\n", k->isa, info->name, rows, cols, gb);
        }
        printf("\n");
        fflush(stdout);
    }
}

int main(int argc, char **argv)
{
    const char *isa = NULL, *only = NULL;
    size_t megabytes = 256;
    int quick = 0;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--quick") == 0)
            quick = 1;
        else if (strcmp(argv[i], "--csv") == 0 && *value)
            csv = fopen(argv[++i], "w");
        else if (strcmp(argv[i], "--type") == 0)
            only = argv[++i];
        else if (strcmp(argv[i], "--isa") == 0)
            isa = argv[++i];
        else if (strcmp(argv[i], "--mb") == 0)
            megabytes = (size_t) atoi(argv[++i]);
        else {
            fprintf(stderr, "usage: bench_kernels [--csv FILE] [--quick] [--type NAME] [--isa NAME] [--mb MEGABYTES]\n");
            return 1;
        }
    }
    const slm_kernels *k = isa ? slm_kernels_of(isa) : slm_kernels_get();
    if (!k) {
        fprintf(stderr, "no such instruction set here: %s\n", isa);
        return 1;
    }
    double int8, fp32;
    measure_peaks(&int8, &fp32);
    uint8_t *memory = buffer(megabytes << 20);
    printf("isa %s; peaks of one core: int8 %.0f GMAC/s, float %.0f GMAC/s, memory %.1f GB/s\n", k->isa, int8, fp32,
           measure_memory(memory, megabytes << 20));
    free(memory);
    printf("GMAC/s     rows x cols batch 1       4      16     128           512\n");
    if (csv)
        fprintf(csv, "isa,type,rows,cols,batch,gmacs,percent_of_peak,gb_per_s\n");
    for (uint32_t type = 0; type < SLM_TYPE_COUNT; type++)
        if (slm_type_get(type) && (!only || slm_type_by_name(only) == (int) type))
            bench_type(k, (slm_type) type, int8, fp32, megabytes << 20, quick);
    if (csv)
        fclose(csv);
    return 0;
}
