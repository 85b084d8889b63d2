/*
 * The flat form of a trained classifier.
 *
 *   | header 64 bytes | label offsets u32 [n_labels + 1] | label bytes, padded to 4 | W f32 [n_labels, n_dims] | bias f32 [n_labels]
 *   | with n-grams: bucket u32 [n_ngrams] | rarity f32 [n_ngrams] | scale f32 [n_ngrams] | S i8 [n_ngrams, n_labels] |
 *
 * Little-endian; the header holds the total length and an XXH3 checksum of all but itself.
 */
#ifndef SLM_TRAIN_CLASSIFIER_H
#define SLM_TRAIN_CLASSIFIER_H

#include "engine/slm.h"
#include "engine/train/ngram.h"

/* What the trainer hands over. */
typedef struct slm_classifier_parts {
    uint32_t n_labels, n_dims;
    const char *const *label_names; /* [n_labels] */
    const float *w;                 /* [n_labels, n_dims + 1], the last column is the bias */
    float temperature;
    const slm_ngram_space *space;   /* NULL without n-grams */
    const float *s;                 /* [space->n, stride] */
    uint32_t stride;
} slm_classifier_parts;

/* Makes the blob (malloc'ed). */
slm_status slm_classifier_pack(const slm_classifier_parts *parts, void **blob, size_t *bytes, slm_error *err);
/* Gives a blob of slm_classifier_pack another temperature. */
void slm_classifier_set_temperature(void *blob, float temperature);

#endif
