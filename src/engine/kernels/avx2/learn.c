/* Generic kernels over the lanes of AVX2 with FMA and F16C: products and gradients of training. */
#include "engine/kernels/avx2/lanes.h"

#include "engine/kernels/generic/learn.inc"
