/*
 * How good scores are: accuracy, macro F1, log loss, calibration.
 */
#ifndef SLM_TRAIN_METRICS_H
#define SLM_TRAIN_METRICS_H

#include "engine/slm.h"

/* The temperature (0.05..20) that minimizes the log loss of raw scores z [n, stride] of n_labels labels. */
float slm_fit_temperature(const float *z, size_t stride, const int32_t *labels, size_t n, uint32_t n_labels);
/* Log loss of softmax(z / temperature). */
double slm_log_loss(const float *z, size_t stride, const int32_t *labels, size_t n, uint32_t n_labels, float temperature);
/* Accuracy, macro F1, log loss, ECE and confusion of softmax(z / temperature) into out. */
slm_status slm_measure(const float *z, size_t stride, const int32_t *labels, size_t n, uint32_t n_labels, float temperature,
                       slm_train_report *out, slm_error *err);
/* Share of rows whose largest score is their label's. */
double slm_accuracy(const float *z, size_t stride, const int32_t *labels, size_t n, uint32_t n_labels);

#endif
