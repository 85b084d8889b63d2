/*
 * Stems of English words (stem.c).
 */
#ifndef SLM_METRICS_STEM_H
#define SLM_METRICS_STEM_H

#include <stddef.h>

/* Stems a word of a..z and 0..9 in place; returns its new length, which is not more. */
size_t slm_stem(char *word, size_t n);

#endif
