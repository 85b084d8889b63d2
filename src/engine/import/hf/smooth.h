/*
 * Scales that make an encoder's activations easy to quantize, found when it is imported.
 *
 * A BERT has a few channels whose values are far larger than their neighbours'; in a block of 32 activations they cost the others their
 * precision.  Each channel c of the input of q, k, v and of the feed-forward is therefore divided by s[c] and the matrices' column c
 * multiplied by it, which changes nothing but the rounding (SmoothQuant, Xiao et al. 2023, arXiv 2211.10438, with exponent 1/2).
 * s is the root of the channel's size over some fixed sequences of tokens, run through the model in plain float.
 * Measured on all-MiniLM-L6-v2 at Q8_0, 16 texts: smallest cosine to float 0.9985 without, 0.9991 with.
 */
#ifndef SLM_HF_SMOOTH_H
#define SLM_HF_SMOOTH_H

#include "engine/image/image.h"

/* Has this model the layers that slm_hf_smooth knows? */
bool slm_hf_can_smooth(const slm_hparams *hp);
/* scales: [n_layers][2][n_embd] of attention and feed-forward inputs, malloc'ed, each a power of 2^(1/4). cls, sep: ids around a sequence.
 * The source's matrices must be unscaled while this runs.  CANCELLED when *stop is seen. */
slm_status slm_hf_smooth(slm_source *source, int32_t cls, int32_t sep, const volatile int *stop, float **scales, slm_error *err);

#endif
