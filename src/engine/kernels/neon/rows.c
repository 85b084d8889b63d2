/* Generic kernels over the lanes of NEON with dot products: norms, activations, softmax and quantization. */
#include "engine/kernels/neon/lanes.h"

#include "engine/kernels/generic/rows.inc"
