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

#define ISA(name, runs) extern const slm_kernels slm_kernels_##name;
#include "engine/kernels/isa.def"
#undef ISA

#if defined(__x86_64__)
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
#endif

const slm_kernels *slm_kernels_nth(int i)
{
#define ISA(name, runs) \
    if ((runs) && i-- == 0) \
        return &slm_kernels_##name;
#include "engine/kernels/isa.def"
#undef ISA
    return NULL;
}

const slm_kernels *slm_kernels_of(const char *isa)
{
    const slm_kernels *table;
    for (int i = 0; (table = slm_kernels_nth(i)) != NULL; i++)
        if (strcmp(table->isa, isa) == 0)
            return table;
    return NULL;
}

/* The best one, or the one that SLM_FORCE_ISA names; NULL where this machine cannot run that. */
static const slm_kernels *automatic(void)
{
    const char *forced = getenv("SLM_FORCE_ISA");
    const slm_kernels *best = NULL, *table;
    if (forced != NULL)
        return slm_kernels_of(forced);
    for (int i = 0; (table = slm_kernels_nth(i)) != NULL; i++)
        best = table;
    return best;
}

static const slm_kernels *in_use;

const slm_kernels *slm_kernels_get(void)
{
    const slm_kernels *table = __atomic_load_n(&in_use, __ATOMIC_RELAXED);
    if (!table) {
        table = automatic();
        if (!table) /* SLM_FORCE_ISA is wrong: slm_kernels_select says so */
            table = slm_kernels_nth(0);
        __atomic_store_n(&in_use, table, __ATOMIC_RELAXED);
    }
    return table;
}

slm_status slm_kernels_select(const char *isa, slm_error *err)
{
    const slm_kernels *table = strcmp(isa, "auto") == 0 ? automatic() : slm_kernels_of(isa);
    if (!table)
        return slm_fail(err, SLM_UNSUPPORTED, "instruction set \"%s\" is unknown or not supported by this machine",
                        strcmp(isa, "auto") == 0 ? getenv("SLM_FORCE_ISA") : isa);
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
