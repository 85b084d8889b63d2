/* Generic kernels over the lanes of plain C: attention. */
#include "engine/kernels/ref/lanes.h"

#include "engine/kernels/generic/attend.inc"
