/*
 * Which products in bfloat16 this machine has: those of AVX512-BF16, or none.
 */
#include "engine/kernels/bf16.h"

#include "engine/kernels/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <string.h>

extern const slm_bf16 slm_bf16_avx512;

const slm_bf16 *slm_bf16_get(void)
{
    unsigned a, b, c, d;
    if (strcmp(slm_kernels_get()->isa, "avx512") != 0 || !__get_cpuid_count(7, 1, &a, &b, &c, &d))
        return NULL;
    return (a & 1u << 5) != 0 ? &slm_bf16_avx512 : NULL;
}
#else
const slm_bf16 *slm_bf16_get(void)
{
    return NULL;
}
#endif
