/* Generic kernels over the lanes of NEON with dot products: attention. */
#include "engine/kernels/neon/lanes.h"

#include "engine/kernels/generic/attend.inc"
