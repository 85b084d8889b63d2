/* Generic kernels over the lanes of plain C: products and distances of two vectors. */
#include "engine/kernels/ref/lanes.h"

#include "engine/kernels/generic/pairs.inc"
