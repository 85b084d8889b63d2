/*
 * calibration.h: probabilities of a model's answers, corrected as slm_calibrate has learned (calibration.c).
 */
#ifndef SLM_PG_CALIBRATION_H
#define SLM_PG_CALIBRATION_H

#include "postgres.h"

#include "pg/models/calibration_rows.h"

/* Corrects p [n], which sum to 1, in place; NULL: leaves them. yes_no: the first of two is what is corrected, so that another of them may
 * win; else the likeliest one, which stays the likeliest. The order of p decides how they are summed, and nothing else. */
void slm_pg_calibrate_probabilities(const SlmCalibrationRow *calibration, bool yes_no, double *p, int n);
/* Log probabilities become probabilities that sum to 1, in their own order. */
void slm_pg_softmax(double *scores, int n);

#endif
