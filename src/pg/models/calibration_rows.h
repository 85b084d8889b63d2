/*
 * calibration_rows.h: how probabilities of a model are corrected, as rows of slm.calibration_registry (calibration_rows.c).
 *
 * A calibration belongs to a model: whoever owns the model makes and drops it, whoever may use the model gets it.  It is for one kind of
 * question, one method and one number of options, and for the image that it was measured with.
 */
#ifndef SLM_PG_CALIBRATION_ROWS_H
#define SLM_PG_CALIBRATION_ROWS_H

#include "postgres.h"

/* What a row says; nothing of it is trusted before slm_pg_find_calibration has looked at it. */
typedef struct SlmCalibrationRow {
    double temperature; /* 0: by the knots */
    int n;              /* knots */
    const double *from, *to;
} SlmCalibrationRow;

/* The newest one that fits, in CurrentMemoryContext; NULL: none, or slm.enable_calibration is off. key: of the opened model. */
const SlmCalibrationRow *slm_pg_find_calibration(const char *key, const char *kind, const char *method, int options);

/* A new version, of a model that the current user owns; returns its number. figures: rows, accuracy, ECE before and after, log loss
 * before and after. */
typedef struct SlmNewCalibration {
    const char *model, *key, *kind, *method, *query;
    int options;
    SlmCalibrationRow row;
    int64 rows;
    double figures[5];
} SlmNewCalibration;
int slm_pg_store_calibration(const SlmNewCalibration *new);

/* With the model: its rows go, or get its new name. */
void slm_pg_calibrations_dropped(const char *model);
void slm_pg_calibrations_renamed(const char *model, const char *to);

#endif
