/*
 * Four float lanes, and exp on them, in the compiler's portable vector extension: the same operations in the same order everywhere, so
 * the same bits (no fused multiply-add: -ffp-contract=off).
 */
#ifndef SLM_TRAIN_LANES_H
#define SLM_TRAIN_LANES_H

#include <stdint.h>
#include <string.h>

typedef float slm_f4 __attribute__((vector_size(16)));
typedef int32_t slm_i4 __attribute__((vector_size(16)));

#define SLM_LANE_PAD 16 /* rows of scores are padded to a multiple of this */

static inline slm_f4 slm_f4_all(float x)
{
    return (slm_f4){x, x, x, x};
}

static inline slm_f4 slm_f4_load(const float *p)
{
    slm_f4 v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void slm_f4_store(float *p, slm_f4 v)
{
    memcpy(p, &v, sizeof v);
}

/* a where mask is all ones, else b. */
static inline slm_f4 slm_f4_choose(slm_i4 mask, slm_f4 a, slm_f4 b)
{
    return (slm_f4) (((slm_i4) a & mask) | ((slm_i4) b & ~mask));
}

/* exp(x) for x <= 0, 0 below -87: 2^n * p(r) with |r| <= ln 2 / 2, relative error below 2e-7. */
static inline slm_f4 slm_f4_exp(slm_f4 x)
{
    const slm_f4 magic = slm_f4_all(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    slm_f4 low = slm_f4_all(-87.0f), t, n, r, p;
    slm_i4 under = x < low;
    x = slm_f4_choose(under, low, x);
    t = x * slm_f4_all(1.44269504f) + magic;
    n = t - magic;
    r = x - n * slm_f4_all(0.693359375f);
    r = r - n * slm_f4_all(-2.12194440e-4f);
    p = slm_f4_all(1.9875691500e-4f);
    p = p * r + slm_f4_all(1.3981999507e-3f);
    p = p * r + slm_f4_all(8.3334519073e-3f);
    p = p * r + slm_f4_all(4.1665795894e-2f);
    p = p * r + slm_f4_all(1.6666665459e-1f);
    p = p * r + slm_f4_all(5.0000001201e-1f);
    p = p * (r * r) + r + slm_f4_all(1.0f);
    slm_i4 power = ((slm_i4) t - (slm_i4) magic + 127) << 23;
    return slm_f4_choose(under, slm_f4_all(0.0f), p * (slm_f4) power);
}

/* Softmax in place over n of n_padded lanes (a multiple of 4); what lies beyond n becomes 0. Returns log(sum(exp(z))) split as the largest
 * and the sum of exp(z - largest), both exact functions of the row. */
static inline void slm_softmax_lanes(float *z, uint32_t n, uint32_t n_padded, float *largest, float *sum)
{
    slm_f4 top = slm_f4_all(-3.0e38f), total = slm_f4_all(0.0f);
    for (uint32_t i = n; i < n_padded; i++)
        z[i] = -3.0e38f;
    for (uint32_t i = 0; i < n_padded; i += 4) {
        slm_f4 v = slm_f4_load(z + i);
        top = slm_f4_choose(v > top, v, top);
    }
    float m = top[0];
    for (int i = 1; i < 4; i++)
        m = top[i] > m ? top[i] : m;
    for (uint32_t i = 0; i < n_padded; i += 4) {
        slm_f4 e = slm_f4_exp(slm_f4_load(z + i) - slm_f4_all(m));
        slm_f4_store(z + i, e);
        total += e;
    }
    float s = (total[0] + total[2]) + (total[1] + total[3]), inverse = 1.0f / s;
    for (uint32_t i = 0; i < n_padded; i += 4)
        slm_f4_store(z + i, slm_f4_load(z + i) * slm_f4_all(inverse));
    *largest = m;
    *sum = s;
}

#endif
