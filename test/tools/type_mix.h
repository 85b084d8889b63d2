/*
 * Which type each tensor of a "mix" gets, as users of GGUF files know the names: Q4_0, Q8_0, F16 ..., and Q4_K_M, Q5_K_M.
 *
 * The _M mixes put Q6_K into the output head (or the embedding that serves as one) and into half of the value and down
 * projections: the first and last eighth of the layers and every third between.  Widths that are no multiple of 256 fall back:
 * Q4_K to Q5_0, Q5_K to Q5_1, Q6_K to Q8_0.
 */
#ifndef TYPE_MIX_H
#define TYPE_MIX_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "engine/kernels/types.h"

typedef struct type_mix {
    slm_type base;
    bool medium; /* _M: some tensors at 6 bits */
} type_mix;

/* general.file_type of the GGUF specification, for a mix. */
static inline uint32_t mix_file_type(const type_mix *mix)
{
    switch (mix->base) {
    case SLM_TYPE_F32: return 0;
    case SLM_TYPE_F16: return 1;
    case SLM_TYPE_Q4_0: return 2;
    case SLM_TYPE_Q4_1: return 3;
    case SLM_TYPE_Q8_0: return 7;
    case SLM_TYPE_Q5_0: return 8;
    case SLM_TYPE_Q5_1: return 9;
    case SLM_TYPE_Q2_K: return 10;
    case SLM_TYPE_Q3_K: return 12;
    case SLM_TYPE_Q4_K: return 15;
    case SLM_TYPE_Q5_K: return 17;
    case SLM_TYPE_Q6_K: return 18;
    case SLM_TYPE_BF16: return 32;
    default: return 1024; /* "guessed" */
    }
}

static inline int mix_parse(const char *name, type_mix *out)
{
    char text[32];
    snprintf(text, sizeof text, "%s", name);
    size_t n = strlen(text);
    out->medium = n > 2 && strcasecmp(text + n - 2, "_M") == 0;
    if (out->medium)
        text[n - 2] = '\0';
    int type = slm_type_by_name(text);
    out->base = (slm_type) type;
    return type < 0 || (out->medium && type != SLM_TYPE_Q4_K && type != SLM_TYPE_Q5_K) ? -1 : 0;
}

static inline slm_type mix_fit(slm_type type, uint64_t cols)
{
    if (slm_type_get(type)->block_weights == 256 && cols % 256 != 0)
        type = type == SLM_TYPE_Q6_K ? SLM_TYPE_Q8_0 : type == SLM_TYPE_Q5_K ? SLM_TYPE_Q5_1 : type == SLM_TYPE_Q4_K ? SLM_TYPE_Q5_0
                                                                                                                  : SLM_TYPE_Q4_0;
    return cols % slm_type_get(type)->block_weights != 0 ? SLM_TYPE_F16 : type;
}

/* The type of a matrix by its GGUF name. tied: the embedding is the head. */
static inline slm_type mix_choose(const type_mix *mix, const char *name, uint64_t cols, unsigned n_layers, bool tied)
{
    unsigned layer = 0;
    bool head = strcmp(name, "output.weight") == 0 || (tied && strcmp(name, "token_embd.weight") == 0);
    slm_type type = mix->base;
    const slm_type_info *info = slm_type_get(type);
    bool small = !info->is_float && info->block_bytes * 8 < 6.5 * info->block_weights;
    if (head && small) {
        type = SLM_TYPE_Q6_K;
    } else if (mix->medium && sscanf(name, "blk.%u.", &layer) == 1 && (strstr(name, "attn_v.") || strstr(name, "ffn_down."))) {
        unsigned eighth = n_layers / 8;
        if (layer < eighth || layer >= 7 * n_layers / 8 || (layer - eighth) % 3 == 2)
            type = SLM_TYPE_Q6_K;
    }
    return mix_fit(type, cols);
}

#endif
