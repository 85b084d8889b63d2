/* Generic kernels over the lanes of NEON with dot products: the float matrix product. */
#include "engine/kernels/neon/lanes.h"

#include "engine/kernels/generic/gemm_float.inc"
