/* Generic kernels over the lanes of plain C: norms, activations, softmax and quantization. */
#include "engine/kernels/ref/lanes.h"

#include "engine/kernels/generic/rows.inc"
