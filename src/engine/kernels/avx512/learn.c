/* Generic kernels over the lanes of AVX-512 with VNNI: products and gradients of training. */
#include "engine/kernels/avx512/lanes.h"

#include "engine/kernels/generic/learn.inc"
