/* Generic kernels over the lanes of AVX-512 with VNNI: products and distances of two vectors. */
#include "engine/kernels/avx512/lanes.h"

#include "engine/kernels/generic/pairs.inc"
