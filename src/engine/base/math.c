/*
 * Scalar mathematics by IEEE operations only (+ - * / fma sqrt): the same bits on every machine.
 *
 * Each function reduces its argument to a small interval with fused multiply-add, so that the reduction is exact to the last
 * place, and sums a Taylor series there; the number of terms makes the first one left out smaller than half a unit in the last place.
 *
 *   sin, cos: x = n * pi/2 + r, |r| <= pi/4        exp: x = n * ln2 + r, |r| <= ln2/2
 *   log: x = 2^e * m, m in [sqrt(1/2), sqrt(2)), log m = 2 atanh((m - 1) / (m + 1))
 *
 * The half precision conversions round to nearest even and quiet NaNs as the hardware instructions do.
 */
#include "engine/base/math.h"

#include <math.h>
#include <string.h>

/* Adding and subtracting 1.5 * 2^52 rounds a double below 2^51 to the nearest integer, ties to even. */
#define ROUNDER 6755399441055744.0

static double from_bits(uint64_t bits)
{
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

static uint64_t to_bits(double d)
{
    uint64_t bits;
    memcpy(&bits, &d, sizeof bits);
    return bits;
}

void slm_sincos(double x, double *sine, double *cosine)
{
    static const double sin_terms[] = {-1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800.0,
                                       -1.0 / 1307674368000.0, 1.0 / 355687428096000.0};
    static const double cos_terms[] = {-0.5, 1.0 / 24, -1.0 / 720, 1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600.0,
                                       -1.0 / 87178291200.0, 1.0 / 20922789888000.0, -1.0 / 6402373705728000.0};
    double n = (x * 0.63661977236758134308 + ROUNDER) - ROUNDER;
    double r = fma(-n, 1.57079632679489655800, x);
    r = fma(-n, 6.12323399573676603587e-17, r);
    double z = r * r, s = sin_terms[7], c = cos_terms[8];
    for (int i = 6; i >= 0; i--)
        s = fma(s, z, sin_terms[i]);
    for (int i = 7; i >= 0; i--)
        c = fma(c, z, cos_terms[i]);
    s = fma(s * z, r, r);
    c = fma(c, z, 1.0);
    switch (((int64_t) n) & 3) {
    case 0: *sine = s; *cosine = c; break;
    case 1: *sine = c; *cosine = -s; break;
    case 2: *sine = -s; *cosine = -c; break;
    default: *sine = -c; *cosine = s; break;
    }
}

/* exp(x) for finite |x| < 800 as fraction in about [0.7, 1.42] and power of two. */
static double exp_parts(double x, int *power)
{
    static const double terms[] = {1.0, 1.0, 0.5, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320, 1.0 / 362880,
                                   1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600.0, 1.0 / 6227020800.0};
    double n = (x * 1.44269504088896340736 + ROUNDER) - ROUNDER;
    double r = fma(-n, 6.93147180559945286227e-01, x);
    r = fma(-n, 2.31904681384629955842e-17, r);
    double p = terms[13];
    for (int i = 12; i >= 0; i--)
        p = fma(p, r, terms[i]);
    *power = (int) n;
    return p;
}

static double scale_by_power(double p, int power)
{
    int half = power / 2;
    return p * from_bits((uint64_t) (1023 + half) << 52) * from_bits((uint64_t) (1023 + power - half) << 52);
}

double slm_exp(double x)
{
    int power;
    if (!(x == x))
        return x;
    if (x > 709.8)
        return INFINITY;
    if (x < -746.0)
        return 0.0;
    double p = exp_parts(x, &power);
    return scale_by_power(p, power);
}

double slm_log(double x)
{
    int exponent = 0;
    if (!(x > 0.0))
        return x == 0.0 ? -INFINITY : NAN;
    if (x == INFINITY)
        return x;
    if (x < 2.2250738585072014e-308) {
        x *= 18014398509481984.0;
        exponent = -54;
    }
    uint64_t bits = to_bits(x);
    exponent += (int) (bits >> 52) - 1023;
    double m = from_bits((bits & 0xFFFFFFFFFFFFFull) | (1023ull << 52));
    if (m > 1.4142135623730951) {
        m *= 0.5;
        exponent++;
    }
    double f = (m - 1.0) / (m + 1.0), z = f * f, p = 1.0 / 25;
    for (int k = 23; k >= 3; k -= 2)
        p = fma(p, z, 1.0 / k);
    /* 2 atanh f = 2f + 2f z p; m - 1 is exact, so 2f's own error is put right by the remainder of the division. */
    double lost = fma(-f, m + 1.0, m - 1.0) / (m + 1.0);
    double low = 2.0 * (fma(f * z, p, lost));
    double e = exponent;
    double high = fma(e, 6.93147180559945286227e-01, 2.0 * f);
    return high + (fma(e, 2.31904681384629955842e-17, low) + (fma(e, 6.93147180559945286227e-01, -high) + 2.0 * f));
}

double slm_pow(double x, double y)
{
    int power;
    double l = slm_log(x), p = y * l;
    if (!(p == p))
        return p;
    if (p > 709.8)
        return INFINITY;
    if (p < -746.0)
        return 0.0;
    double e = exp_parts(p, &power);
    e = fma(e, fma(y, l, -p), e);
    return scale_by_power(e, power);
}

static float float_of_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

float slm_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t) (h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 0x3FF;
    if (exponent == 31)
        return float_of_bits(sign | 0x7F800000u | (fraction << 13) | (fraction ? 0x400000u : 0));
    if (exponent == 0) {
        float f = (float) fraction * 5.9604644775390625e-8f; /* 2^-24 */
        return sign ? -f : f;
    }
    return float_of_bits(sign | ((exponent + 112) << 23) | (fraction << 13));
}

uint16_t slm_f32_to_f16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    uint16_t sign = (uint16_t) ((bits >> 16) & 0x8000);
    bits &= 0x7FFFFFFF;
    if (bits > 0x7F800000)
        return (uint16_t) (sign | 0x7E00 | ((bits >> 13) & 0x3FF));
    if (bits >= 0x477FF000) /* 65520 rounds to infinity */
        return (uint16_t) (sign | 0x7C00);
    if (bits < 0x38800000) { /* below 2^-14: a multiple of 2^-24; adding 0.5 = 2^-1 leaves exactly those bits */
        float magic = float_of_bits(bits) + 0.5f;
        memcpy(&bits, &magic, sizeof bits);
        return (uint16_t) (sign | (bits - 0x3F000000));
    }
    bits += 0xFFF + ((bits >> 13) & 1);
    return (uint16_t) (sign | ((bits - 0x38000000) >> 13));
}

uint16_t slm_f32_to_bf16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if ((bits & 0x7FFFFFFF) > 0x7F800000)
        return (uint16_t) ((bits >> 16) | 0x40);
    return (uint16_t) ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

void slm_normalize(float *x, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += (double) x[i] * (double) x[i];
    double norm = sqrt(sum);
    float scale = (float) (1.0 / (norm > 1e-12 ? norm : 1e-12));
    for (size_t i = 0; i < n; i++) {
        x[i] *= scale;
        if (fabsf(x[i]) < 1e-18f)
            x[i] = 0;
    }
}
