/* Generic kernels over the lanes of AVX2 with FMA and F16C: the quantized matrix product. */
#include "engine/kernels/avx2/lanes.h"

#include "engine/kernels/generic/gemm.inc"
