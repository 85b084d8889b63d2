/* Generic kernels over the lanes of NEON with dot products: the quantized matrix product. */
#include "engine/kernels/neon/lanes.h"

#include "engine/kernels/generic/gemm.inc"
