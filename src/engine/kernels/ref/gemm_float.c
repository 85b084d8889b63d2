/* Generic kernels over the lanes of plain C: the float matrix product. */
#include "engine/kernels/ref/lanes.h"

#include "engine/kernels/generic/gemm_float.inc"
