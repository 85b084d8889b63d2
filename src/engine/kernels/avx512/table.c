/* Generic kernels over the lanes of AVX-512 with VNNI: the table. */
#include "engine/kernels/avx512/lanes.h"

#include "engine/kernels/generic/table.inc"
