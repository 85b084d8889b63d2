/* Generic kernels over the lanes of AVX2 with FMA and F16C: products and distances of two vectors. */
#include "engine/kernels/avx2/lanes.h"

#include "engine/kernels/generic/pairs.inc"
