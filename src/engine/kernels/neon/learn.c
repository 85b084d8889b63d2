/* Generic kernels over the lanes of NEON with dot products: products and gradients of training. */
#include "engine/kernels/neon/lanes.h"

#include "engine/kernels/generic/learn.inc"
