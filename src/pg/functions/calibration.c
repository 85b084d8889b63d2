/*
 * calibration.c: applying a calibration (calibration.h).
 */
#include "pg/functions/calibration.h"

#include "engine/metrics/metrics.h"
#include "engine/slm.h"

static void rise(const SlmCalibrationRow *c, bool yes_no, double *p, int n)
{
    slm_isotonic line = {.n = c->n};
    int best = 0;
    double second = 0, said, most;

    memcpy(line.from, c->from, sizeof(double) * (Size) c->n);
    memcpy(line.to, c->to, sizeof(double) * (Size) c->n);
    if (yes_no) {
        p[0] = slm_calibration_rise(&line, p[0]);
        p[1] = 1 - p[0];
        return;
    }
    for (int i = 1; i < n; i++)
        if (p[i] > p[best])
            best = i;
    for (int i = 0; i < n; i++)
        if (i != best)
            second = Max(second, p[i]);
    said = p[best];
    most = Max(slm_calibration_rise(&line, said), second / (1 - said + second)); /* not below what the next one is scaled to */
    for (int i = 0; i < n && said < 1; i++)
        p[i] *= (1 - most) / (1 - said);
    p[best] = said < 1 ? most : said;
}

void slm_pg_calibrate_probabilities(const SlmCalibrationRow *calibration, bool yes_no, double *p, int n)
{
    if (calibration == NULL || n < 2)
        return;
    if (calibration->temperature != 0)
        slm_calibration_temper(calibration->temperature, p, p, (size_t) n);
    else
        rise(calibration, yes_no, p, n);
}

void slm_pg_softmax(double *scores, int n)
{
    double max = scores[0], sum = 0;

    for (int i = 1; i < n; i++)
        max = Max(max, scores[i]);
    for (int i = 0; i < n; i++)
        sum += scores[i] = slm_exp(scores[i] - max);
    for (int i = 0; i < n; i++)
        scores[i] /= sum;
}
