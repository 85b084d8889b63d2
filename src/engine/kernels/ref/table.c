/* Generic kernels over the lanes of plain C: the table. */
#include "engine/kernels/ref/lanes.h"

#include "engine/kernels/generic/table.inc"
