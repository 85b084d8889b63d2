/*
 * Biases of attention by distance (MPNet, after T5): near distances have a bucket each, far ones share buckets that widen by the logarithm,
 * those ahead and those behind have halves of their own.
 *
 * Since a bias depends on the distance alone, one row a head serves all queries: query i begins to read at n_context - 1 - i.
 *
 * ALiBi: minus the distance times a slope, which falls from head to head as a geometric series: 2^-8 in the last one where their number is
 * a power of two; else the heads beyond the last such power take every other slope of the next one.
 *
 * Sources: Raffel et al. 2020 (arXiv 1910.10683), the arithmetic is that of transformers' MPNetEncoder, in float; Press et al. 2021
 * (arXiv 2108.12409).
 */
#include "engine/base/math.h"
#include "engine/model/run.h"

#define MAX_DISTANCE 128

static uint32_t bucket_of(int32_t ahead, uint32_t buckets)
{
    uint32_t half = buckets / 2, exact = half / 2, n = (uint32_t) (ahead < 0 ? -ahead : ahead), base = ahead > 0 ? half : 0;
    if (n < exact)
        return base + n;
    float share = (float) slm_log((double) ((float) n / (float) exact)) / (float) slm_log((double) MAX_DISTANCE / exact);
    uint32_t far = exact + (uint32_t) (share * (float) (half - exact));
    return base + (far < half ? far : half - 1);
}

size_t slm_relative_stride(uint32_t n_context)
{
    return slm_round_up(2 * (size_t) n_context + 2 * SLM_KV_BLOCK, 16);
}

void slm_relative_fill(const float *table, size_t ld, uint32_t buckets, uint32_t n_heads, uint32_t n_context, float *rows)
{
    size_t stride = slm_relative_stride(n_context);
    for (uint32_t h = 0; h < n_heads; h++)
        for (size_t i = 0; i < stride; i++) {
            int32_t ahead = (int32_t) i - (int32_t) (n_context - 1);
            rows[h * stride + i] = table[bucket_of(ahead, buckets) * ld + h];
        }
}

static double slope_of(uint32_t head, uint32_t n_heads)
{
    uint32_t whole = 1;
    while (2 * whole <= n_heads)
        whole *= 2;
    double power = head < whole ? 8.0 * (head + 1) / whole : 4.0 * (2 * (head - whole) + 1) / whole;
    return slm_pow(2, -power);
}

void slm_alibi_fill(uint32_t n_heads, uint32_t n_context, float *rows)
{
    size_t stride = slm_relative_stride(n_context);
    for (uint32_t h = 0; h < n_heads; h++) {
        double slope = slope_of(h, n_heads);
        for (size_t i = 0; i < stride; i++) {
            int32_t ahead = (int32_t) i - (int32_t) (n_context - 1);
            rows[h * stride + i] = (float) -(slope * (ahead < 0 ? -ahead : ahead));
        }
    }
}
