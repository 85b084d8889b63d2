/* Generic kernels over the lanes of plain C: products and gradients of training. */
#include "engine/kernels/ref/lanes.h"

#include "engine/kernels/generic/learn.inc"
