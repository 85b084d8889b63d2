/*
 * The next token from a row of logits: greedy, or sampled with temperature, top-k, top-p, min-p and a repetition penalty.
 *
 * Order: repetition penalty, temperature, top-k, top-p, min-p, then one draw.  Tokens of equal logit are taken in order of id.
 * Arithmetic is double precision with the engine's own exp, and the draw is a function of (seed, number of the token in the
 * answer), so the same request gives the same text on every machine, in any batch (DESIGN D4).
 */
#ifndef SLM_DECODE_SAMPLER_H
#define SLM_DECODE_SAMPLER_H

#include "engine/slm.h"

/* Tokens that the repetition penalty looks back on. */
#define SLM_REPEAT_WINDOW 64

/* INVALID names the parameter that is out of range. */
slm_status slm_sampling_check(const slm_sampling *sampling, slm_error *err);

/* Scratch for n_vocab candidates; NULL when memory is out. One per session. */
typedef struct slm_sampler slm_sampler;
slm_sampler *slm_sampler_new(uint32_t n_vocab);
void slm_sampler_free(slm_sampler *sampler);

/* The token after recent [n_recent, at most the window counts]; logits [n_vocab] are changed.  counter: number of the token in the
 * answer. */
int32_t slm_sampler_pick(slm_sampler *sampler, const slm_sampling *sampling, float *logits, const int32_t *recent, size_t n_recent,
                         uint64_t counter);

/* The same among some tokens: ids [n] ascending, n > 0, and their logits [n].  What they weigh is renormalized; never another token. */
int32_t slm_sampler_pick_some(slm_sampler *sampler, const slm_sampling *sampling, const int32_t *ids, float *logits, uint32_t n,
                              const int32_t *recent, size_t n_recent, uint64_t counter);
/* The same among those of a mask (constraint.h), with the logits of all: the same token as from their ids. */
int32_t slm_sampler_pick_masked(slm_sampler *sampler, const slm_sampling *sampling, const uint64_t *mask, float *logits,
                                const int32_t *recent, size_t n_recent, uint64_t counter);

#endif
