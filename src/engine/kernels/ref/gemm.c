/* Generic kernels over the lanes of plain C: the quantized matrix product. */
#include "engine/kernels/ref/lanes.h"

#include "engine/kernels/generic/gemm.inc"
