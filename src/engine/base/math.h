/*
 * Scalar mathematics with the same bits on every machine: no libm on the inference path but sqrt and fma, which IEEE 754 fixes.
 * Vector kernels repeat the same operations lane by lane.
 */
#ifndef SLM_BASE_MATH_H
#define SLM_BASE_MATH_H

#include <stddef.h>
#include <stdint.h>

/* sin and cos of an angle in radians, |x| < 2^31, error below 1e-12; own polynomials, double precision. */
void slm_sincos(double x, double *sine, double *cosine);
/* x^y for x > 0, relative error below 1e-13: for RoPE's frequencies. */
double slm_pow(double x, double y);
/* exp and log in double precision, relative error below 1e-14: sampling and statistics. */
double slm_exp(double x);
double slm_log(double x);

/* IEEE half and bfloat16, round to nearest even. */
float slm_f16_to_f32(uint16_t h);
uint16_t slm_f32_to_f16(float f);
static inline float slm_bf16_to_f32(uint16_t h)
{
    union { uint32_t u; float f; } v = {(uint32_t) h << 16};
    return v.f;
}
uint16_t slm_f32_to_bf16(float f);

/* Scales x [n] to length 1, in double precision in order.  Components below 1e-18 become 0: products of two of them would underflow where
 * PostgreSQL multiplies real by real, which it refuses; the direction changes by less than n * 1e-18. */
void slm_normalize(float *x, size_t n);

#endif
