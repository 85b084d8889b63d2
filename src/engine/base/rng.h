/*
 * A small deterministic random number generator: counter-based, so that the n-th number of a seed is the same whatever was
 * drawn before it, in which batch and in which order.  The mixing function is SplitMix64's finalizer (Steele, Lea, Flood: "Fast
 * splittable pseudorandom number generators", 2014).
 */
#ifndef SLM_BASE_RNG_H
#define SLM_BASE_RNG_H

#include <stdint.h>

static inline uint64_t slm_rng_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* The counter-th 64-bit number of a seed. */
static inline uint64_t slm_rng_at(uint64_t seed, uint64_t counter)
{
    return slm_rng_mix(slm_rng_mix(seed + 0x9e3779b97f4a7c15u) + (counter + 1) * 0x9e3779b97f4a7c15u);
}

/* The same as a double in [0, 1), 53 bits. */
static inline double slm_rng_uniform(uint64_t seed, uint64_t counter)
{
    return (double) (slm_rng_at(seed, counter) >> 11) * 0x1p-53;
}

#endif
