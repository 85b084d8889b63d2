/*
 * Vectors: sums, cosine and length of embeddings (slm.h), over the kernels of the instruction set in use.
 */
#include <math.h>

#include "engine/base/math.h"
#include "engine/kernels/kernels.h"
#include "engine/slm.h"

slm_pair_sums slm_vector_products(const float *a, const float *b, size_t n)
{
    double sums[3];

    slm_kernels_get()->products(a, b, n, sums);
    return (slm_pair_sums){sums[0], sums[1], sums[2]};
}

slm_pair_sums slm_vector_products_double(const double *a, const double *b, size_t n)
{
    double sums[3];

    slm_kernels_get()->products_double(a, b, n, sums);
    return (slm_pair_sums){sums[0], sums[1], sums[2]};
}

double slm_vector_squares(const float *a, const float *b, size_t n)
{
    return slm_kernels_get()->squares(a, b, n);
}

double slm_vector_squares_double(const double *a, const double *b, size_t n)
{
    return slm_kernels_get()->squares_double(a, b, n);
}

double slm_vector_cosine(const float *a, const float *b, size_t n)
{
    slm_pair_sums s = slm_vector_products(a, b, n);
    double length = sqrt(s.aa * s.bb), cosine = length > 0 ? s.ab / length : 0;

    return cosine > 1 ? 1 : cosine < -1 ? -1 : cosine;
}

void slm_vector_normalize(float *v, size_t n)
{
    slm_normalize(v, n);
}
