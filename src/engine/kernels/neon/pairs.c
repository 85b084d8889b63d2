/* Generic kernels over the lanes of NEON with dot products: products and distances of two vectors. */
#include "engine/kernels/neon/lanes.h"

#include "engine/kernels/generic/pairs.inc"
