/*
 * A model ready to compute: hyper-parameters and weights of a mapped image, and the forward pass over a batch of positions.
 *
 * The batch is a flat list of positions of many sequences; nothing is padded.  Within one call all positions of a sequence
 * must be in ascending order and its earlier positions must already be in its KV blocks.  Results of a position depend on its own sequence
 * alone, to the last bit (DESIGN D4).
 */
#ifndef SLM_MODEL_MODEL_H
#define SLM_MODEL_MODEL_H

#include "engine/image/image.h"
#include "engine/kernels/kernels.h"
#include "engine/slm.h"
#include "engine/text/marked.h"
#include "engine/text/tokenizer.h"
#include "engine/text/words.h"

typedef struct slm_layer {
    slm_weight q, k, v, o, gate, up, down; /* data NULL = absent */
    const float *attn_norm, *ffn_norm, *attn_post_norm, *ffn_post_norm; /* [n_embd] or NULL */
    const float *attn_norm_bias, *ffn_norm_bias;                        /* of those norms; BERT: of the norms behind the sums */
    const float *q_norm, *k_norm;                                       /* [head_dim], or whole rows for OLMo 2 */
    const float *attn_in_scale, *ffn_in_scale;                          /* [n_embd] or NULL: encoders, before quantization */
    const float *q_bias, *k_bias, *v_bias, *o_bias, *up_bias, *down_bias;
    slm_weight conv_in;                     /* LFM2, in place of q, k, v: [3 n_embd, n_embd] */
    const float *conv_kernel;               /* [slm_conv_width, conv_length], the oldest position first */
    slm_weight attn_gate;                   /* Qwen 3.5: [q, n_embd] */
    slm_weight delta_gate, delta_decay, delta_share;              /* [slm_conv_out, n_embd], [delta_values, n_embd] twice */
    slm_weight embd_gate, embd_out;         /* Gemma 4: [n_embd_layer, n_embd], [n_embd, n_embd_layer] */
    const float *embd_post_norm, *out_scale; /* [n_embd] of what embd_out gives; [1], or NULL: what the layer's result is multiplied by */
    const float *delta_decay_log, *delta_decay_bias, *delta_norm; /* [delta_values] twice, [delta_value_dim] */
    slm_weight router, expert_gate, expert_up, expert_down; /* mixtures, in place of gate, up, down: [n_experts * rows of one, cols] */
    bool relu;                     /* of a decision head: in place of the model's activation */
    slm_weight rel_key, rel_query; /* DeBERTa: [n_heads * slm_relative_rows, head_dim] */
} slm_layer;

/* A product with a bias. */
typedef struct slm_affine {
    slm_weight w; /* data NULL = absent */
    const float *bias; /* [w.rows] or NULL */
} slm_affine;

/* Products of a head that finds spans, in the order of their roles. */
enum { SLM_SPAN_PROJ, SLM_LSTM_IN, SLM_LSTM_STATE, SLM_LSTM_BACK_IN, SLM_LSTM_BACK_STATE, SLM_FIRST_UP, SLM_FIRST_DOWN, SLM_LAST_UP,
       SLM_LAST_DOWN, SLM_BOTH_UP, SLM_BOTH_DOWN, SLM_ASKED_UP, SLM_ASKED_DOWN, SLM_WORD, SLM_LABEL, SLM_SCORE_UP, SLM_SCORE_DOWN,
       SLM_SPAN_PRODUCTS };

/* The opaque slm_model of slm.h. */
struct slm_model {
    slm_image *image;
    slm_hparams hp;
    slm_tokenizer *tokenizer; /* NULL without vocabulary */
    slm_weight token_embd, head, position_embd, type_embd, embd_proj;
    slm_weight layer_embd, layer_embd_proj; /* Gemma 4: [n_vocab, n_layers * n_embd_layer] (none: EmbeddingGemma 2),
                                             * [n_layers * n_embd_layer, n_embd] */
    const float *layer_embd_norm;           /* [n_embd_layer] */
    const float *output_norm, *output_norm_bias, *head_bias, *embd_norm, *embd_norm_bias, *embd_proj_bias;
    slm_weight cls_dense, cls_out;
    const float *cls_dense_bias, *cls_norm, *cls_norm_bias, *cls_out_bias;
    slm_weight dense[SLM_MAX_DENSE];
    const float *dense_bias[SLM_MAX_DENSE], *after_norm, *after_norm_bias;
    slm_weight joint[SLM_JOINT_ROLES];           /* heads that read labels, by role: the matrices, and the others */
    const float *joint_vectors[SLM_JOINT_ROLES];
    slm_affine spans[SLM_SPAN_PRODUCTS];
    float *relative;  /* [n_heads, relative_ld] MPNet's biases by distance; NULL without */
    uint16_t *places; /* [2 n_context] DeBERTa's row of a key by how far it is ahead, from n_context - 1 behind on; NULL without */
    float *zeros;     /* [n_embd] biases of norms that have none */
    float *ones;      /* [head_dim] weights of a norm that has none */
    slm_layer *layers; /* [slm_layer_slots] */
    bool quantized, floats; /* which forms of activations the layers' matrices take */
    bool qk_norm_rows;  /* q_norm and k_norm span all heads (OLMo 2) instead of one */
    double *rope_freq;  /* [3, n_rot / 2] radians per position: short factors, long factors, local base; NULL without RoPE */
    int references;
};

/* FORMAT once a page of the image was missing: what was computed since then is worth nothing. */
slm_status slm_model_check(const slm_model *model, slm_error *err);

/* The type of keys and values that a session of the model has where this one is asked for. */
slm_kv_type slm_kv_type_of(const slm_model *model, slm_kv_type asked);
/* Bytes of one KV block (16 positions, all layers and KV heads), of F16 or of a type, and where a head lies in it (F16 elements). */
size_t slm_kv_block_bytes(const slm_hparams *hp);
size_t slm_kv_block_bytes_of(const slm_hparams *hp, slm_kv_type type);
void slm_kv_offsets(const slm_hparams *hp, slm_kv_type type, uint32_t layer, uint32_t kv_head, size_t *k_offset, size_t *v_offset);
/* Where a layer with a convolution has what it keeps (slm_conv_block elements). */
size_t slm_conv_offset(const slm_hparams *hp, slm_kv_type type, uint32_t layer);

/* The first positions of a sequence always have 16-bit activations.  SmolLM2 Q4_1, perplexity: 13.861 without, 13.840 so, 13.822 with all
 * (test_logprobs). */
#define SLM_SINK_POSITIONS 4

/* A batch of positions. Arrays are [n]. */
typedef struct slm_batch {
    uint32_t n;
    const int32_t *tokens;
    const int32_t *positions;                 /* in the sequence, from 0 */
    const uint16_t *const *const *blocks;     /* per position: its sequence's table of KV blocks, reaching to this position (written) */
    const int32_t *lengths;                   /* the sequence's final length where known, for longrope's choice of factors; may be NULL */
    const uint8_t *fine;                      /* 1: the row's activations are rounded to 16 bits (two int8 terms), not 8; NULL: none */
    const slm_adapter *const *adapters;       /* per position, NULL entries: the model alone; NULL: no position has one */
    slm_kv_type kv_type;                      /* of all blocks */
    uint32_t n_out;                           /* positions whose hidden state is wanted */
    const uint32_t *out;                      /* [n_out] indices into the batch, ascending */
} slm_batch;

typedef struct slm_workspace slm_workspace; /* activations of one batch, grown as needed; one per session */
slm_workspace *slm_workspace_new(void);
void slm_workspace_free(slm_workspace *ws);
size_t slm_workspace_bytes(const slm_workspace *ws);
/* Frees the buffers; the next run makes them anew. Nothing that a run has returned is valid any more. */
void slm_workspace_clear(slm_workspace *ws);

/* Runs all layers. *hidden: [n_out, n_embd] after the final norm, owned by ws, valid until the next call.  CANCELLED when *stop became
 * set: KV of the batch's positions is then undefined and must be computed again. */
slm_status slm_forward(const slm_model *model, slm_workspace *ws, const slm_batch *batch, int n_threads, const volatile int *stop,
                       float **hidden, slm_error *err);

/* Logits of hidden rows: logits[n, ld], ld >= n_vocab rounded up to 16; softcap and scale applied. fine: [n] as in slm_batch, or NULL. */
slm_status slm_head_logits(const slm_model *model, slm_workspace *ws, const float *hidden, const uint8_t *fine, uint32_t n, int n_threads,
                           const volatile int *stop, float *logits, size_t ld, slm_error *err);
/* Logits of some tokens only: out[i] for ids[i] of one hidden row; the panels that hold them are computed and no others.  The same
 * bits as slm_head_logits. */
slm_status slm_head_some(const slm_model *model, slm_workspace *ws, const float *hidden, const int32_t *ids, uint32_t n_ids, float *out,
                         slm_error *err);

/* Words and labels in a sequence whose spans are to be found, and where their scores go. */
typedef struct slm_span_marks {
    uint32_t n_words, n_labels;
    const uint32_t *words;  /* [n_words, 2] the row of a word's first token, and how many tokens it has */
    const uint32_t *labels; /* [n_labels] */
    float *out;             /* [slm_spans_outputs()]: [n_words, span_width, n_labels] logits of the spans that begin at a word, -INFINITY
                               beyond the last; or [n_words, n_labels, 3]: of a word as first, last, inside */
} slm_span_marks;
/* How the model reads labels and words. */
slm_wording slm_span_wording(const slm_hparams *hp);
size_t slm_spans_outputs(const slm_hparams *hp, uint32_t n_words, uint32_t n_labels);

/* Packed sequences of an encoder, one after the other without padding. */
typedef struct slm_encode_batch {
    uint32_t n_sequences;
    const uint32_t *lengths; /* [n_sequences] 1..n_context */
    const int32_t *tokens;   /* [sum of lengths] */
    const int32_t *types;    /* [sum of lengths] token types, or NULL: all 0 */
    const slm_adapter *const *adapters; /* [n_sequences], NULL entries: the model alone; NULL: no sequence has one */
    const uint8_t *marks;    /* [sum of lengths] SLM_MARK_*, for heads that read labels; else NULL */
    const slm_span_marks *const *spans;      /* [n_sequences] of a head that finds spans, which writes to each one's out; else NULL */
} slm_encode_batch;

/* Runs an encoder over whole sequences.  *vectors: [n_sequences, slm_hparams_outputs()] pooled and taken through the modules behind, or the
 * outputs of a head (hp.pooling RANK; logits, not squashed; of each row where hp.tags); owned by ws, valid until the next call.
 * Status: INVALID (no encoder, a length or id out of range), NOMEM, LIMIT, CANCELLED. */
slm_status slm_encode(const slm_model *model, slm_workspace *ws, const slm_encode_batch *batch, int n_threads, const volatile int *stop,
                      float **vectors, slm_error *err);

#endif
