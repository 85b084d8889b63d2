/*
 * sample.h: by which order aggregates choose the texts that they keep: a hash that is the same on every machine.
 */
#ifndef SLM_PG_SAMPLE_H
#define SLM_PG_SAMPLE_H

#include "postgres.h"

/* FNV-1a with a last mix, so that the smallest are spread evenly. */
static inline uint64 slm_pg_sample_hash(const char *s, size_t length)
{
    uint64 h = UINT64CONST(14695981039346656037);

    for (size_t i = 0; i < length; i++)
        h = (h ^ (unsigned char) s[i]) * UINT64CONST(1099511628211);
    h = (h ^ h >> 33) * UINT64CONST(0xff51afd7ed558ccd);
    h = (h ^ h >> 33) * UINT64CONST(0xc4ceb9fe1a85ec53);
    return h ^ h >> 33;
}

#endif
