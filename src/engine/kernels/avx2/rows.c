/* Generic kernels over the lanes of AVX2 with FMA and F16C: norms, activations, softmax and quantization. */
#include "engine/kernels/avx2/lanes.h"

#include "engine/kernels/generic/rows.inc"
