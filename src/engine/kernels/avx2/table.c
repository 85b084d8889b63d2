/* Generic kernels over the lanes of AVX2: the table. */
#include "engine/kernels/avx2/lanes.h"

#include "engine/kernels/generic/table.inc"
