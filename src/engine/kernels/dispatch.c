/*
 * Which table of kernels is in use (DESIGN D5).
 *
 * A table per instruction set; "auto" takes the best one that both the CPU (CPUID) and the operating system (XGETBV: it saves the
 * registers) support; on ARM the operating system tells both (AT_HWCAP).  SLM_FORCE_ISA overrides "auto".  The choice is one pointer,
 * written at the first use and by slm_kernels_select, never while a region runs; two threads that make the first choice make the same
 * one.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/kernels/entries.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#define KERNEL(name) .name = slm_##name##_ref,
static const slm_kernels table_ref = {.isa = "ref",
#include "engine/kernels/kernels.def"
};
#undef KERNEL

#if defined(__x86_64__)
#define KERNEL(name) .name = slm_##name##_avx2,
static const slm_kernels table_avx2 = {.isa = "avx2",
#include "engine/kernels/kernels.def"
};
#undef KERNEL
#define KERNEL(name) .name = slm_##name##_avx512,
static const slm_kernels table_avx512 = {.isa = "avx512",
#include "engine/kernels/kernels.def"
};
#undef KERNEL

static uint32_t saved_registers(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

/* 0: neither; 1: AVX2 with FMA and F16C; 2: AVX-512 F, BW, VL, DQ and VNNI as well. */
static int x86_level(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d))
        return 0;
    unsigned needed = 1u << 27 | 1u << 28 | 1u << 12 | 1u << 29; /* OSXSAVE, AVX, FMA, F16C */
    if ((c & needed) != needed || (saved_registers() & 6) != 6)
        return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & 1u << 5))
        return 0;
    needed = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* F, DQ, BW, VL */
    if ((b & needed) != needed || !(c & 1u << 11) || (saved_registers() & 0xE6) != 0xE6)
        return 1;
    return 2;
}
#elif defined(__aarch64__)
#define KERNEL(name) .name = slm_##name##_neon,
static const slm_kernels table_neon = {.isa = "neon",
#include "engine/kernels/kernels.def"
};
#undef KERNEL
#endif

const slm_kernels *slm_kernels_of(const char *isa)
{
    if (strcmp(isa, "ref") == 0)
        return &table_ref;
#if defined(__x86_64__)
    if (strcmp(isa, "avx2") == 0 && x86_level() >= 1)
        return &table_avx2;
    if (strcmp(isa, "avx512") == 0 && x86_level() >= 2)
        return &table_avx512;
#elif defined(__aarch64__)
    if (strcmp(isa, "neon") == 0 && (getauxval(AT_HWCAP) & HWCAP_ASIMDDP))
        return &table_neon;
#endif
    return NULL;
}

static const slm_kernels *automatic(void)
{
    static const char *const best_first[] = {"avx512", "avx2", "neon", "ref"};
    const char *forced = getenv("SLM_FORCE_ISA");
    const slm_kernels *table = forced ? slm_kernels_of(forced) : NULL;
    for (int i = 0; !table; i++)
        table = slm_kernels_of(best_first[i]);
    return table;
}

static const slm_kernels *in_use;

const slm_kernels *slm_kernels_get(void)
{
    const slm_kernels *table = __atomic_load_n(&in_use, __ATOMIC_RELAXED);
    if (!table) {
        table = automatic();
        __atomic_store_n(&in_use, table, __ATOMIC_RELAXED);
    }
    return table;
}

slm_status slm_kernels_select(const char *isa, slm_error *err)
{
    const slm_kernels *table = strcmp(isa, "auto") == 0 ? automatic() : slm_kernels_of(isa);
    if (!table)
        return slm_fail(err, SLM_UNSUPPORTED, "instruction set \"%s\" is unknown or not supported by this machine", isa);
    __atomic_store_n(&in_use, table, __ATOMIC_RELAXED);
    return SLM_OK;
}

size_t slm_gemm_scratch_bytes(uint32_t max_cols)
{
    (void) max_cols; /* a chunk of two panels and the sums of a block of rows, whatever the width */
    return 2 * SLM_GEMM_CHUNK * SLM_GEMM_BLOCK + 2 * SLM_GEMM_ROWS * 16 * sizeof(float);
}

size_t slm_attend_scratch(uint32_t n_positions)
{
    return (size_t) SLM_ATTEND_TILE * ((size_t) n_positions / SLM_KV_BLOCK + 2) * SLM_KV_BLOCK;
}
