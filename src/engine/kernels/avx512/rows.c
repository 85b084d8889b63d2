/* Generic kernels over the lanes of AVX-512 with VNNI: norms, activations, softmax and quantization. */
#include "engine/kernels/avx512/lanes.h"

#include "engine/kernels/generic/rows.inc"
