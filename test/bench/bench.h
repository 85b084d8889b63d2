/*
 * Shared by the benchmarks of forward passes: the clock, the machine's int8 peak, what a model's matrices take, a file or an image opened.
 */
#ifndef SLM_BENCH_H
#define SLM_BENCH_H

#include <time.h>

#include "engine/base/threads.h"
#include "model_test.h"

static clockid_t clock_used = CLOCK_MONOTONIC;

static inline double now(void)
{
    struct timespec t;
    clock_gettime(clock_used, &t);
    return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

#define INT8_LOOPS 3000000
static inline void int8_region(void *arg, slm_team *team, int thread, int n_threads)
{
    (void) arg, (void) team, (void) thread, (void) n_threads;
#if defined(__x86_64__)
    uint64_t n = INT8_LOOPS;
    __asm__ volatile("1:\n\t"
                     "vpdpbusd %%zmm12, %%zmm13, %%zmm0\n\tvpdpbusd %%zmm12, %%zmm13, %%zmm1\n\t"
                     "vpdpbusd %%zmm12, %%zmm13, %%zmm2\n\tvpdpbusd %%zmm12, %%zmm13, %%zmm3\n\t"
                     "vpdpbusd %%zmm12, %%zmm13, %%zmm4\n\tvpdpbusd %%zmm12, %%zmm13, %%zmm5\n\t"
                     "vpdpbusd %%zmm12, %%zmm13, %%zmm6\n\tvpdpbusd %%zmm12, %%zmm13, %%zmm7\n\t"
                     "vpdpbusd %%zmm12, %%zmm13, %%zmm8\n\tvpdpbusd %%zmm12, %%zmm13, %%zmm9\n\t"
                     "dec %0\n\tjnz 1b\n\tvzeroupper\n\t"
                     : "+r"(n)
                     :
                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm12", "xmm13", "cc");
#endif
}

/* MAC/s of n threads together, 0 when this CPU has no such instruction. */
static inline double peak_int8(int n_threads)
{
    double best = 0;
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("avx512vnni"))
        return 0;
    for (int i = 0; i < 8; i++) {
        double t = now();
        slm_parallel(n_threads, int8_region, NULL);
        t = now() - t;
        if (n_threads * 640.0 * INT8_LOOPS / t > best)
            best = n_threads * 640.0 * INT8_LOOPS / t;
    }
#else
    (void) n_threads, (void) int8_region;
#endif
    return best;
}

/* Per token: multiply-adds of the matrices of all layers and of the output head, bytes of both. */
typedef struct bench_cost {
    double layer_macs, head_macs, bytes;
} bench_cost;

static inline void count_weight(const slm_weight *w, double *macs, double *bytes)
{
    if (w->data == NULL)
        return;
    *macs += (double) w->rows * w->cols;
    *bytes += (double) w->panel_bytes * w->n_panels;
}

static inline bench_cost count_model(const slm_model *model)
{
    bench_cost cost = {0};
    for (uint32_t i = 0; i < model->hp.n_layers; i++) {
        const slm_layer *l = &model->layers[i];
        const slm_weight *all[] = {&l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down};
        for (int k = 0; k < 7; k++)
            count_weight(all[k], &cost.layer_macs, &cost.bytes);
    }
    count_weight(&model->head, &cost.head_macs, &cost.bytes);
    return cost;
}

/* An image by its name .slm, anything else imported. NULL with the reason on stderr. */
static inline slm_model *open_any(const char *path)
{
    slm_model *model = NULL;
    size_t length = strlen(path);
    slm_error err = {0};
    if (length < 4 || strcmp(path + length - 4, ".slm") != 0)
        return test_import(path, NULL);
    if (slm_model_open(path, &model, &err) != SLM_OK)
        fprintf(stderr, "%s: %s\n", path, err.message);
    return model;
}

#endif
