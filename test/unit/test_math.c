/*
 * base/math.c against libm in long double, within the errors that math.h promises; half precision against every 16-bit pattern.
 */
#include "slm_test.h"

#include <math.h>
#include <string.h>

#include "engine/base/math.h"

static double relative(double got, long double expected)
{
    return (double) fabsl((got - expected) / expected);
}

static void test_sincos(void)
{
    double worst = 0;
    for (int i = -200000; i < 200000; i++) {
        double x = i * 0.37 + i * (double) i * 1e-7 * (i % 3 - 1), s, c;
        slm_sincos(x, &s, &c);
        worst = fmax(worst, (double) fabsl(s - sinl(x)));
        worst = fmax(worst, (double) fabsl(c - cosl(x)));
    }
    for (int i = 0; i < 1000; i++) {
        double x = 2147483647.0 - i * 1234567.891, s, c;
        slm_sincos(x, &s, &c);
        worst = fmax(worst, (double) fabsl(s - sinl(x)));
        worst = fmax(worst, (double) fabsl(c - cosl(x)));
    }
    CHECK(worst < 1e-12, "sincos: error %g", worst);
    double s, c;
    slm_sincos(0.0, &s, &c);
    CHECK(s == 0.0 && c == 1.0, "at zero");
}

static void test_exp_log_pow(void)
{
    double exp_error = 0, log_error = 0, pow_error = 0;
    for (int i = -70000; i <= 70000; i++) {
        double x = i * 0.01 + 0.00371;
        exp_error = fmax(exp_error, relative(slm_exp(x), expl(x)));
        double y = exp2(i * 0.0145) * (1.0 + (i % 11) * 0.07);
        if (fabs(y - 1.0) > 1e-12)
            log_error = fmax(log_error, relative(slm_log(y), logl(y)));
        y = 1.0 + i * 1e-9;
        if (i)
            log_error = fmax(log_error, relative(slm_log(y), logl(y)));
    }
    CHECK(exp_error < 1e-14, "exp: error %g", exp_error);
    CHECK(log_error < 1e-14, "log: error %g", log_error);
    static const double bases[] = {10000.0, 500000.0, 1000000.0, 2.0, 0.3, 1e-300, 1e300, 1.0000001};
    for (int b = 0; b < 8; b++)
        for (int i = -1000; i <= 1000; i++) {
            double y = i / 512.0;
            long double expected = powl(bases[b], y);
            if (expected > 1e-300L && expected < 1e300L)
                pow_error = fmax(pow_error, relative(slm_pow(bases[b], y), expected));
        }
    CHECK(pow_error < 1e-13, "pow: error %g", pow_error);
    CHECK(slm_exp(1000) == INFINITY && slm_exp(-1000) == 0 && slm_exp(0) == 1 && isnan(slm_exp(NAN)), "ends of exp");
    CHECK(slm_exp(-740) > 0 && slm_exp(-740) < 1e-320, "exp of subnormal results");
    CHECK(slm_log(0) == -INFINITY && slm_log(INFINITY) == INFINITY && slm_log(1) == 0, "ends of log");
    CHECK(isnan(slm_log(-1)) && isnan(slm_log(NAN)), "no log");
    CHECK(relative(slm_log(4e-320), logl(4e-320)) < 1e-14, "log of a subnormal");
    CHECK(slm_pow(10.0, 400) == INFINITY && slm_pow(10.0, -400) == 0 && slm_pow(10.0, 0) == 1, "ends of pow");
}

static void test_half(void)
{
    int wrong = 0, wrong_b = 0;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = slm_f16_to_f32((uint16_t) h);
        int exponent = (int) (h >> 10 & 31), fraction = (int) (h & 1023);
        double expected = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
        if (exponent < 31) {
            wrong += f != (float) (h & 0x8000 ? -expected : expected) || (signbit(f) != 0) != (h >> 15 != 0);
            wrong += slm_f32_to_f16(f) != h;
        } else if (fraction == 0) {
            wrong += !isinf(f) || slm_f32_to_f16(f) != h;
        } else {
            wrong += !isnan(f) || slm_f32_to_f16(f) != (h | 0x200);
        }
        float g = slm_bf16_to_f32((uint16_t) h);
        wrong_b += isnan(g) ? slm_f32_to_bf16(g) != (h | 0x40) : slm_f32_to_bf16(g) != h;
    }
    CHECK(wrong == 0, "%d F16 patterns", wrong);
    CHECK(wrong_b == 0, "%d BF16 patterns", wrong_b);
    /* ties to even between every two neighbours, and just beside them */
    for (uint32_t h = 0; h < 0x7C00; h++) {
        float a = slm_f16_to_f32((uint16_t) h), b = h == 0x7BFF ? 65536.0f : slm_f16_to_f32((uint16_t) (h + 1));
        float middle = a + (b - a) * 0.5f;
        wrong += slm_f32_to_f16(middle) != h + (h & 1);
        wrong += slm_f32_to_f16(nextafterf(middle, 0)) != h;
        wrong += slm_f32_to_f16(nextafterf(middle, INFINITY)) != h + 1;
    }
    CHECK(wrong == 0, "%d roundings", wrong);
    CHECK(slm_f32_to_f16(1e30f) == 0x7C00 && slm_f32_to_f16(-1e30f) == 0xFC00 && slm_f32_to_f16(1e-30f) == 0, "F16 out of range");
    CHECK(slm_f32_to_bf16(1.00390625f) == 0x3F80 && slm_f32_to_bf16(1.01171875f) == 0x3F82, "BF16 ties to even");
}

static void test_normalize(void)
{
    float x[5] = {3.0f, 4.0f, 5e-33f, -9e-18f, 1e-16f}, zero[2] = {0}, tiny[2] = {3e-20f, 4e-20f}, again[5];

    slm_normalize(x, 5);
    CHECK(x[0] == 0.6f && x[1] == 0.8f, "length 1: %g, %g", (double) x[0], (double) x[1]);
    CHECK(x[2] == 0 && x[3] != 0 && x[4] != 0, "only what is below 1e-18 becomes 0");
    memcpy(again, x, sizeof x);
    slm_normalize(again, 5);
    CHECK(memcmp(again, x, sizeof x) == 0, "a normalized vector stays as it is");
    slm_normalize(zero, 2);
    CHECK(zero[0] == 0 && zero[1] == 0, "zero stays zero");
    slm_normalize(tiny, 2); /* no vector of a model is so short: not stretched without bound */
    CHECK(tiny[0] < 1e-6f, "a vector of almost nothing");
}

int main(void)
{
    test_normalize();
    test_sincos();
    test_exp_log_pow();
    test_half();
    TEST_MAIN_END("test_math");
}
