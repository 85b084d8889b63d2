/*
 * cues.h: which words of a text speak for a candidate of a field (cues.c).
 */
#ifndef SLM_EXTRACT_CUES_H
#define SLM_EXTRACT_CUES_H

#include "engine/extract/words.h"

#define SLM_MOST_OWN 8

/* The words that name a field. */
typedef struct slm_cues {
    slm_extract_kind kind;
    slm_groups specific;                    /* groups that its words belong to, without what its kind says already */
    slm_groups rivals;                      /* groups whose words are labels of something else of the kind */
    slm_groups generic;                     /* groups that speak for any value of the kind */
    char own[SLM_MOST_OWN][SLM_WORD_BYTES]; /* words of no group */
    size_t n_own;
} slm_cues;

void slm_cues_of(const slm_extract_field *field, slm_cues *out);
/* 0..1; negative: it is something else. */
float slm_cues_score(const slm_cues *cues, const slm_words *words, const slm_extract_candidate *c);

#endif
