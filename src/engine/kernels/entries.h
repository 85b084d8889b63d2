/*
 * Inside the kernels only: the prototypes of every kernel of one instruction set, by name.
 *
 * generic/ holds each kernel once, written over the 16-lane operations of <isa>/lanes.h; <isa>/ compiles it with that ISA's flags under
 * the name slm_<kernel>_<isa>.  So every ISA performs the same operations in the same order: that is how their bits are equal (D4).
 */
#ifndef SLM_KERNELS_ENTRIES_H
#define SLM_KERNELS_ENTRIES_H

#include "engine/kernels/kernels.h"
#include "engine/kernels/tune.h"

/* After lanes.h, whose SLM_NAME(kernel) is the name in that instruction set. */
#ifdef SLM_NAME
#define KERNEL(result, name, parameters) result SLM_NAME(name) parameters;
#define PART(result, name, parameters) result SLM_NAME(name) parameters;
#include "engine/kernels/kernels.def"
#undef KERNEL
#undef PART
#endif

/* Queries that attend handles together; part of slm_attend_scratch. */
#define SLM_ATTEND_TILE 6
/* gemm works on chunks of at most so many blocks of 32 columns: two unpacked panels of a chunk stay in the first-level cache. */
#define SLM_GEMM_CHUNK 20
/* Bytes of one unpacked block at most: levels 512, scales and minima of both halves. */
#define SLM_GEMM_BLOCK 768
/* Rows of a block: their sums wait in scratch between chunks. A block's panels are unpacked anew, which 128 rows outweigh. */
#define SLM_GEMM_ROWS 128

#endif
