/*
 * Where the reference values are: $SLM_GOLDEN, else build/golden, which `make golden` fills from test/golden.
 */
#ifndef SLM_TEST_GOLDEN_H
#define SLM_TEST_GOLDEN_H

#include <stdlib.h>

static inline const char *golden_root(void)
{
    const char *folder = getenv("SLM_GOLDEN");
    return folder != NULL ? folder : "build/golden";
}

#endif
