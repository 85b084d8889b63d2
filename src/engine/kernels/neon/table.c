/* Generic kernels over the lanes of NEON with dot products: the table. */
#include "engine/kernels/neon/lanes.h"

#include "engine/kernels/generic/table.inc"
