/*
 * What the product of few rows takes from the machine, measured rather than assumed: no result depends on it.
 */
#ifndef SLM_KERNELS_TUNE_H
#define SLM_KERNELS_TUNE_H

#include "engine/slm.h"

/* In use; slm_tuning_set changes it between regions. */
extern slm_tuning slm_tuning_in_use;

#endif
