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
#define SLM_MAX_EXPERTS 512
#define SLM_MAX_ROT 512 /* rotated dimensions of a head, at most */

typedef enum slm_norm { SLM_NORM_RMS = 0, SLM_NORM_LAYER = 1 } slm_norm;
/* SWIGLU and GEGLU (GEGLU_ERF) have a gate. */
typedef enum slm_activation {
    SLM_ACT_SWIGLU = 0, SLM_ACT_GEGLU = 1, SLM_ACT_GELU_ERF = 2, SLM_ACT_GEGLU_ERF = 3, SLM_ACT_GELU_TANH = 4
} slm_activation;

/* How an encoder's rows become one: MEAN, CLS (the first), MAX, SQRT (sum by the root of their number), WEIGHTED (row i counts i + 1
 * times),
 * LAST; or a head on top of one of these (RANK: its logits are the result); SPANS: labels stand before the text, and a head finds their
 * spans. */
typedef enum slm_pooling {
    SLM_POOL_NONE = 0, SLM_POOL_MEAN = 1, SLM_POOL_CLS = 2, SLM_POOL_RANK = 3, SLM_POOL_MAX = 4, SLM_POOL_SQRT = 5, SLM_POOL_WEIGHTED = 6,
    SLM_POOL_LAST = 7, SLM_POOL_SPANS = 8
} slm_pooling;
#define SLM_MAX_POOLS 6

/* Functions of a head or a dense module. */
typedef enum slm_squash { SLM_SQUASH_NONE = 0, SLM_SQUASH_TANH = 1, SLM_SQUASH_RELU = 2, SLM_SQUASH_GELU_ERF = 3 } slm_squash;

/* What is done to a pooled vector, in order: a dense module (the next of those there are), a layer norm, or scaling to length 1. */
typedef enum slm_after { SLM_AFTER_NONE = 0, SLM_AFTER_DENSE = 1, SLM_AFTER_NORM = 2, SLM_AFTER_NORMALIZE = 3 } slm_after;
/* How options without a description are written: LAYA, "true: yes, the statement holds"; BARE, "true". */
typedef enum slm_decide_words { SLM_DECIDE_LAYA = 0, SLM_DECIDE_BARE = 1 } slm_decide_words;
#define SLM_DECIDE_SIZES 4 /* up to 2 options, 5, 10, more */
/* Questions, as token types: which option; on which level; is it so. */
enum { SLM_DECIDE_CHOICE = 0, SLM_DECIDE_LEVEL = 1, SLM_DECIDE_YES_NO = 2, SLM_DECIDE_KINDS = 3 };
#define SLM_MAX_AFTER 8
#define SLM_MAX_DENSE 3
#define SLM_MAX_LABELS 1024

/* Heads that read labels beside a text, of which each gives a score for every label (model/joint.c). */
typedef enum slm_joint { SLM_JOINT_NONE = 0, SLM_JOINT_GLICLASS = 1, SLM_JOINT_LAYA = 2, SLM_JOINT_D1 = 3 } slm_joint;
/* GLiClass: how a text's row and a label's make a score. */
typedef enum slm_scorer { SLM_SCORER_DOT = 0, SLM_SCORER_MLP = 1, SLM_SCORER_WEIGHTED = 2, SLM_SCORER_HOPFIELD = 3 } slm_scorer;
/* GLiClass: the text stands before the labels; its rows alone are pooled; a label's row is the mean of its tokens', or that behind its
 * mark; rows have length 1 and scores a scale. */
enum {
    SLM_JOINT_TEXT_FIRST = 1, SLM_JOINT_TEXT_ALONE = 2, SLM_JOINT_LABEL_MEAN = 4, SLM_JOINT_BEHIND_MARK = 8, SLM_JOINT_UNIT = 16,
    SLM_JOINT_FLAGS = 31
};
/* How a head finds spans: each first and last word weighed together (GLiNER's markerV0), or each word labelled as first, last and inside
 * (its token_level). */
typedef enum slm_span_kind { SLM_SPANS_NONE = 0, SLM_SPANS_PAIRS = 1, SLM_SPANS_WORDS = 2 } slm_span_kind;
/* Which of a word's tokens stand for it. */
typedef enum slm_word_pool { SLM_WORD_FIRST = 0, SLM_WORD_LAST = 1, SLM_WORD_MEAN = 2, SLM_WORD_MAX = 3 } slm_word_pool;
#define SLM_MAX_SPAN_WIDTH 100

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
    /* since layout 2 */
    uint32_t window_phase;       /* 1: the first of each n is the full one (ModernBERT), 0: the last */
    uint32_t layered;            /* the pattern is none: slides tells */
    uint32_t slides[SLM_MAX_LAYERS / 32]; /* bits by layer */
    uint32_t norm_after_sum;     /* BERT: norms of the sum of residual and branch; else of the branch's input (or output) */
    uint32_t skip_first_norm;    /* the first layer's input is normed already (ModernBERT) */
    uint32_t mask_causal;        /* encoders that look back only (decoders that embed) */
    uint32_t relative_buckets;   /* MPNet: rows of the table of biases by distance; 0 = none */
    uint32_t n_pools, pools[SLM_MAX_POOLS];    /* encoders: how rows become one; several are put side by side */
    uint32_t n_after, after[SLM_MAX_AFTER];    /* slm_after */
    uint32_t n_dense, dense_rows[SLM_MAX_DENSE], dense_squash[SLM_MAX_DENSE]; /* dense modules: width and function */
    uint32_t after_norm_dim;     /* width of the layer norm among them */
    uint32_t n_labels, head_pool, head_squash; /* heads: outputs, the row or mean they are put on, the function behind their dense layer */
    uint32_t tags;               /* the head is put on every row */
    uint32_t n_lookup;           /* width of the tables of embeddings, which are projected to n_embd; 0: it is n_embd (ALBERT) */
    uint32_t shared_layers;      /* all layers have the weights of the first (ALBERT) */
    uint32_t relative_span;      /* DeBERTa: distances -span to span - 1 have keys and queries of their own; 0 = none */
    uint32_t relative_far;       /* DeBERTa: distances beyond span / 2 share buckets up to this one; 0: each has its own */
    uint32_t nope_full;          /* of a model with a window, the layers that see everything have no RoPE (EXAONE 4) */
    float rope_dynamic;          /* sequences longer than n_ctx_original stretch the base by this factor (dynamic NTK); 0 = none */
    uint32_t n_experts;          /* mixtures: feed-forwards of which each position takes n_experts_used; 0 = none */
    uint32_t n_experts_used, n_ff_expert; /* n_ff_expert: inner width of one */
    uint32_t experts_scaled;     /* what the chosen ones weigh adds up to 1; else they weigh what they do among all */
    uint32_t dense_layers[SLM_MAX_LAYERS / 32]; /* of a mixture, by bits: layers with one feed-forward instead */
    uint32_t conv_length;        /* LFM2: layers with a convolution over so many positions in place of attention; 0 = none */
    uint32_t conv_layers[SLM_MAX_LAYERS / 32]; /* by bits, which */
    uint32_t parallel;           /* attention and feed-forward read the same row, and both are added to it (Phi, GPT-NeoX) */
    float query_growth;          /* queries at p are multiplied by 1 + this * ln(1 + floor(p / n_ctx_original)) (Ministral 3); 0 = none */
    uint32_t attn_gate;          /* what attention gives is multiplied by the sigmoid of a product of its own (Qwen 3.5) */
    /* Qwen 3.5: the layers with a convolution have a gated delta rule behind it: heads of queries and keys, of values, and their widths;
     * 0 = none. */
    uint32_t delta_keys, delta_values, delta_key_dim, delta_value_dim;
    uint32_t cut;                /* encoders: vectors are cut to so many dimensions, and have length 1 again; 0: all */
    /* Gemma 4 */
    uint32_t head_dim_local, n_rot_local; /* heads of sliding layers, and how much of them turns; 0 = as in the others */
    uint32_t rope_turns;         /* of the n_rot / 2 pairs of the other layers, only the first so many turn; 0 = all */
    uint32_t kv_shared;          /* the last so many layers have no keys: they read those of the last one of their kind before them */
    uint32_t n_ff_shared;        /* inner width of these layers; 0 = n_ff */
    uint32_t value_norm;         /* values are normed by head, without a weight */
    uint32_t n_embd_layer;       /* each layer adds an embedding of its own, of this width inside; 0 = none */
    uint32_t alibi;              /* encoders: scores fall with the distance, by a slope for each head (ALiBi) */
    uint32_t joint;              /* slm_joint; then tags and n_labels are 1: the score of a label is an output of one of its rows */
    uint32_t joint_flags, joint_scorer, joint_width; /* GLiClass; joint_width: inner width of the projections */
    uint32_t joint_label, joint_text; /* tokens that mark a label, and the end of all of them */
    uint32_t joint_most;         /* labels at most; 0: as many as there is room for */
    /* Decision heads (Laya): the last so many layers have layer norms and biases, no positions and a ReLU; 0 = none. */
    uint32_t n_decide, n_ff_decide; /* n_ff_decide: their inner width */
    float decide_eps;            /* of their norms */
    uint32_t decide_tokens;      /* Laya: question and options together take at most so many tokens */
    uint32_t decide_words;       /* slm_decide_words */
    float decide_temperature[SLM_DECIDE_KINDS][SLM_DECIDE_SIZES]; /* divides scores, by kind of question and number of options */
    /* Heads that find spans */
    uint32_t spans;              /* slm_span_kind */
    uint32_t span_embd;          /* width of the head */
    uint32_t span_width;         /* words of a span, at most; 0: any number */
    uint32_t span_words;         /* words of a text that it reads at most */
    uint32_t span_lstm;          /* words go through an LSTM */
    uint32_t word_pool;          /* slm_word_pool */
    uint32_t label_behind;       /* a label's row is the one behind its mark, else that of the mark */
    uint32_t label_mark, text_mark; /* tokens before each label, and behind the last */
    uint32_t n_kv_heads_local;   /* encoders: of sliding layers (EmbeddingGemma 2); 0 = as in the others */
} slm_hparams;

#endif
