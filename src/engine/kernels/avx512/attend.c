/* Generic kernels over the lanes of AVX-512 with VNNI: attention. */
#include "engine/kernels/avx512/lanes.h"

#include "engine/kernels/generic/attend.inc"
