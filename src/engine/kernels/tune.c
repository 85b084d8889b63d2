/*
 * The measurement behind slm_tune: products of one row with Q4_0 panels that stream from memory, for each way of reading them.
 *
 * The buffer is larger than a last-level cache usually is and on pages like those of a mapped image; each way reads its own part of it, so
 * that none finds what another has fetched.  Fetching ahead where it does not help costs up to a third of the speed, so a way other than
 * the simplest must have been a twelfth faster in every round: what else the machine does at one moment decides nothing.
 */
#include "engine/kernels/tune.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "engine/kernels/kernels.h"

#define COLS 2048
#define PART_PANELS 650 /* of 18 KiB each: all parts together are 48 MiB */
#define ROUNDS 6
#define CLEARLY 0.92 /* of the simplest way's time */

slm_tuning slm_tuning_in_use;

/* Bytes ahead, the simplest first. */
static const uint32_t ways[] = {0, 4096, 8192, 16384};
enum { N_WAYS = sizeof ways / sizeof ways[0] };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

void slm_tuning_set(const slm_tuning *tuning)
{
    if (tuning->ahead <= 65536)
        slm_tuning_in_use = *tuning;
}

slm_tuning slm_tuning_get(void)
{
    return slm_tuning_in_use;
}

slm_status slm_tune(slm_tuning *out, slm_error *err)
{
    static slm_qblock a[COLS / 32];
    static float y[16 * PART_PANELS];
    const slm_kernels *kernels = slm_kernels_get();
    slm_weight w = {.panel_bytes = slm_panel_bytes(SLM_TYPE_Q4_0, COLS), .rows = 16 * PART_PANELS, .cols = COLS, .n_panels = PART_PANELS,
                    .type = SLM_TYPE_Q4_0};
    slm_tuning before = slm_tuning_in_use;
    double best[N_WAYS] = {0}, worst[N_WAYS] = {0}; /* seconds; of a round's simplest way */
    size_t part = w.panel_bytes * PART_PANELS, bytes = part * N_WAYS + 65536, chosen = 0;
    char *buffer = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buffer == MAP_FAILED)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    (void) madvise(buffer, bytes, MADV_HUGEPAGE);
    memset(buffer, 0x11, bytes);
    for (int round = 0; round < ROUNDS; round++) {
        double simplest = 0;
        for (size_t i = 0; i < N_WAYS; i++) {
            double start;
            w.data = buffer + part * ((i + (size_t) round) % N_WAYS);
            slm_tuning_in_use.ahead = ways[i];
            start = now();
            kernels->gemm(&w, 0, PART_PANELS, a, NULL, 0, 1, y, 16 * PART_PANELS, NULL);
            double seconds = now() - start;
            simplest = i == 0 ? seconds : simplest;
            best[i] = round == 0 || seconds < best[i] ? seconds : best[i];
            worst[i] = seconds > worst[i] * simplest ? seconds / simplest : worst[i];
        }
    }
    munmap(buffer, bytes);
    for (size_t i = 1; i < N_WAYS; i++)
        if (worst[i] < CLEARLY && worst[i] < worst[chosen])
            chosen = i;
    slm_tuning_in_use = before;
    *out = (slm_tuning){ways[chosen], (float) ((double) part / best[chosen] / 1e9)};
    return SLM_OK;
}

void slm_cpu_name(char *out, size_t bytes)
{
#if defined(__x86_64__)
    unsigned brand[13] = {0}, a, b, c, d;
    const char *name = (const char *) brand;
    for (unsigned i = 0; i < 3; i++)
        if (!__get_cpuid(0x80000002 + i, &brand[4 * i], &brand[4 * i + 1], &brand[4 * i + 2], &brand[4 * i + 3]))
            brand[0] = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d))
        a = 0;
    while (*name == ' ')
        name++;
    unsigned family = a >> 8 & 15, model = a >> 4 & 15;
    if (family == 15) {
        family += a >> 20 & 255;
        model += a >> 12 & 240;
    } else if (family == 6) {
        model += a >> 12 & 240;
    }
    snprintf(out, bytes, "%s, family %u model %u", *name == '\0' ? "x86-64" : name, family, model);
#else
    char midr[32] = "?";
    FILE *f = fopen("/sys/devices/system/cpu/cpu0/regs/identification/midr_el1", "re");
    if (f != NULL) {
        if (fscanf(f, "%31s", midr) != 1)
            strcpy(midr, "?");
        fclose(f);
    }
    snprintf(out, bytes, "%s", midr);
#endif
    for (char *p = out; *p != '\0'; p++)
        if (*p < ' ' || *p > '~')
            *p = '?';
}
