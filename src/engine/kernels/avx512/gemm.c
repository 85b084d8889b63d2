/* Generic kernels over the lanes of AVX-512 with VNNI: the quantized matrix product. */
#include "engine/kernels/avx512/lanes.h"

#include "engine/kernels/generic/gemm.inc"
