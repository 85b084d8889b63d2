/*
 * What a model is, in numbers: filled by its family from the source's metadata, checked, and stored in the image as it stands.
 *
 * Fixed-width fields only, no pointers: the struct is the image's section.  A new field goes to
 * the end, raises SLM_IMAGE_LAYOUT, and is 0 in images that are older (image/format.h).
 */
#ifndef SLM_ARCH_HPARAMS_H
#define SLM_ARCH_HPARAMS_H

#include <stdint.h>

#define SLM_MAX_LAYERS 512
#define SLM_MAX_ROT 512 /* rotated dimensions of a head, at most */

typedef enum slm_norm { SLM_NORM_RMS = 0, SLM_NORM_LAYER = 1 } slm_norm;
typedef enum slm_activation { SLM_ACT_SWIGLU = 0, SLM_ACT_GEGLU = 1, SLM_ACT_GELU_ERF = 2 } slm_activation;
typedef enum slm_pooling { SLM_POOL_NONE = 0, SLM_POOL_MEAN = 1, SLM_POOL_CLS = 2, SLM_POOL_RANK = 3 } slm_pooling;

typedef struct slm_hparams {
    char family[32];
    uint32_t n_vocab, n_context, n_embd, n_layers, n_ff;
    uint32_t n_heads, n_kv_heads, head_dim; /* q is n_heads * head_dim wide, k and v n_kv_heads * head_dim */
    uint32_t n_rot;              /* rotated dimensions of a head; 0 = no RoPE */
    uint32_t rope_interleaved;   /* pairs (2i, 2i+1), as GGUF permutes the llama family; else split halves */
    uint32_t norm, activation, pooling, causal;
    uint32_t window;             /* sliding window in positions, 0 = none */
    uint32_t window_pattern;     /* n: every n-th layer is full, the others slide; 0 or 1: all layers slide when window > 0 */
    uint32_t nope_pattern;       /* n: every n-th layer has no RoPE (SmolLM3); 0 = none */
    uint32_t n_ctx_original;     /* longrope, llama3 scaling: the context before extension */
    uint32_t n_token_types;      /* encoders */
    uint32_t tied_head;          /* the output head is the token embedding */
    uint32_t post_norm_only;     /* OLMo 2: norms after attention and FFN instead of before; BERT likewise with residual */
    uint32_t qk_norm_whole;      /* query and key norms run over the whole projection (OLMo 2); else over each head */
    uint32_t embed_normalize;    /* encoders: L2 normalization */
    float norm_eps;
    float rope_base, rope_base_local; /* local: sliding layers of Gemma 3 (unscaled); 0 = no difference */
    float rope_scale;            /* linear: positions are divided by it; 1 = none */
    float rope_attn_factor;      /* multiplies cos and sin (longrope, yarn); 1 = none */
    float attn_scale;            /* multiplies q.k; already 1/sqrt(head_dim) where nothing else is said */
    float attn_softcap, final_softcap; /* 0 = none */
    float embed_scale, residual_scale, logit_scale; /* Gemma, Granite: multiply; 1 = none */
    /* Divisors of each rotated pair's frequency (Llama 3 scaling, longrope): 1 = none. Long is used for whole sequences beyond
     * n_ctx_original. */
    uint32_t has_rope_factors;   /* 0 none, 1 one set (short), 2 short and long */
    float rope_factors_short[SLM_MAX_ROT / 2], rope_factors_long[SLM_MAX_ROT / 2];
} slm_hparams;

#endif
