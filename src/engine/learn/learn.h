/*
 * Learning of LoRA adapters on a model as it is served: inside src/engine/learn only (slm.h has the door).
 *
 *   examples ──► steps of packed sequences ──pass──► loss, gradients of A and B ──params──► AdamW ──► adapter image
 *
 *   params.c     A and B of every projection: values, gradients, moments; first values, step, image
 *   linear.c     products with the packed weights, forward and backward, with what adapters add; gradients of A and B
 *   attention.c  attention of whole sequences, forward and backward
 *   layer.c      one layer, forward and backward
 *   head.c       output head and loss at the positions that answer
 *   lesson.c     the loss against a teacher's logits; teacher.c: a pass of the teacher that gives them
 *   encoder.c    the same of encoders: embedding, one layer, pooling
 *   contrast.c   losses of texts' vectors
 *   pass.c       memory; one parallel region a micro-batch
 *   fit.c        order of the rows, rate, validation, stopping, the best state
 *
 * The base's weights are read as they lie in its image and never changed; nothing of them is copied but the tile that is being multiplied.
 * Every value is made by one unit of work, sums run in the order of tokens and of micro-batches: the same bits for any number of threads.
 *
 * Two paths.  exact: everything in float.  Otherwise products with quantized weights go forward with int8 activations, as they are served
 * (the adapter learns against the rounding that it will meet), and gradients of activations in bfloat16 where the CPU multiplies it
 * (bf16.h).
 *
 * Sources: LoRA (arXiv 2106.09685), AdamW (1711.05101); attention backward as in FlashAttention (2205.14135), from kept log-sums.
 */
#ifndef SLM_LEARN_TUNE_H
#define SLM_LEARN_TUNE_H

#include <stdatomic.h>

#include "engine/base/threads.h"
#include "engine/image/adapter_image.h"
#include "engine/kernels/bf16.h"
#include "engine/model/model.h"
#include "engine/model/run.h"

#define SLM_LEARN_COLS 64    /* columns of one unit of a backward product */
#define SLM_LEARN_CHUNK 512  /* rows of a weight that it unpacks at once */
#define SLM_LEARN_ROWS 16    /* rows of one unit of a stage that goes row by row */
#define SLM_LEARN_QUERIES 64 /* queries of one tile of attention */

/* One adapted projection: y += scale * (x A') B'.  In the arrays of all values: A [rank, cols] at `at`, then B' [rank, rows]; in
 * slm_learn.turned at the same places A' [cols, rank] and B [rows, rank].  rank 0: it is not adapted. */
typedef struct slm_learn_pair {
    uint32_t rank, rows, cols;
    size_t at;
} slm_learn_pair;

/* Row strides in floats, multiples of 64. */
typedef struct slm_learn_strides {
    size_t embd, q, kv, ff, head;
} slm_learn_strides;

/* What a layer keeps of its forward pass, each [capacity, stride]. */
typedef struct slm_learn_kept {
    float *q, *k, *v;     /* as attention takes them: normed, rotated */
    float *q_raw, *k_raw; /* before their norm; the same as q and k without one */
    float *att, *mid;     /* attention's output; the stream between attention and feed-forward */
    float *gate, *up;
    float *o_out, *down_out; /* products before their norm; NULL without one */
    float *lse;              /* [capacity, n_heads] log-sums of attention */
    float *low;              /* [targets, capacity, rank] scale * x A' */
} slm_learn_kept;

typedef struct slm_learn_scratch {
    float *block;  /* an unpacked block */
    void *chunk;   /* a chunk of weights, as the product wants it */
    float *attend; /* keys, values turned, tiles of scores */
    float *drop;   /* with dropout: rows of a product's input without what is dropped; NULL */
    void *gemm;
} slm_learn_scratch;

/* What the vectors of an encoder's texts are to be to each other (contrast.c). */
typedef struct slm_learn_aim {
    slm_contrast kind;
    float scale;           /* of cosines in a cross-entropy */
    const int32_t *labels; /* LABELS: [n_sequences]; PAIRS: [n_sequences - n_queries] whose answer each document is, -1: nobody's */
    uint32_t n_queries;    /* PAIRS: sequences before it ask, the others are asked for; SCORES: i and n_queries + i are a pair */
    const float *scores;   /* SCORES: [n_queries] their cosine */
} slm_learn_aim;

/* Sequences side by side; positions of each from 0. */
typedef struct slm_learn_batch {
    uint32_t n, n_sequences, longest;
    const int32_t *ids; /* [n] */
    uint32_t *first;    /* [n_sequences + 1] */
    uint32_t n_out;
    const uint32_t *out;   /* [n_out] rows whose next token is to be told */
    const int32_t *target; /* [n_out] that token */
    const slm_guess *const *guesses; /* [n_out] each [lesson.k]; without a lesson not read */
    const slm_learn_aim *aim; /* encoders; NULL: the vectors are wanted alone */
} slm_learn_batch;

typedef struct slm_learn {
    const slm_model *model;
    const slm_hparams *hp;
    const slm_kernels *kn;
    bool exact;
    const slm_bf16 *bf16; /* NULL: gradients of activations in float */
    int n_threads;
    const volatile int *stop;
    const volatile uint32_t *others; /* slm_finetune_options */

    slm_lesson lesson;

    uint32_t rank, n_pairs, first_layer; /* first_layer: the first that has an adapted projection */
    float scale;
    uint32_t dropped;   /* of 65,536 inputs of an adapter, when it learns */
    uint64_t drop_seed; /* of the micro-batch */
    slm_learn_pair (*pairs)[SLM_TARGETS]; /* [n_layers] */
    size_t n_values;
    float *values, *turned, *grads, *part, *moment, *square; /* [n_values] each; part: of the running micro-batch */
    uint64_t steps;                                          /* that the optimizer has made */

    uint32_t capacity, longest, head_rows; /* positions of a micro-batch, of a sequence; rows of logits at once */
    uint32_t n_kept;                       /* n_layers, or 1: each layer is computed again before its backward step */
    slm_learn_strides ld;
    float *x;             /* [n_layers + 1, capacity, ld.embd] the residual stream before each layer and behind the last */
    slm_learn_kept *kept; /* [n_kept] */
    float *h, *out, *ff;  /* [capacity, ld]: input of products, output, feed-forward's inner row */
    float *dx, *dy, *dh, *dq, *dk, *dv, *datt, *dff;
    float *dlow;        /* [3, capacity, rank] */
    slm_qblock *blocks; /* [capacity, widest / 32] */
    uint16_t *half[3];  /* [capacity, widest] gradients in bfloat16 */
    size_t ld_half;
    float *hidden, *dhidden, *logits; /* [head_rows, ld.embd], the same, [head_rows, ld.head] */
    uint16_t *half_logits;
    uint32_t n_texts;           /* encoders: texts of a micro-batch at most; 0: a decoder */
    size_t ld_texts;
    float *pooled, *unit, *dpooled; /* [n_texts, ld.embd] vectors, at length 1, their gradients */
    float *turned_units, *sims;     /* [ld.embd, ld_texts], [n_texts, ld_texts]: cosines, then their gradients */
    float *lengths;                 /* [n_texts] */
    double *losses;             /* [capacity] by wanted row, or by text */
    uint8_t *hits;              /* [capacity] is its token the most probable one? Without gradients only */
    float *angles;              /* [3, longest, 2, n_rot / 2] cos, sin: short, long, local */
    slm_learn_scratch *scratch; /* [n_threads] */
    void *arena;
    size_t arena_bytes;
} slm_learn;

/* A pass over one micro-batch: the state that its stages share, and one thread of it. */
typedef struct slm_learn_run {
    slm_learn *t;
    const slm_learn_batch *batch;
    float weight; /* of each wanted row's loss in the gradient */
    bool backward;
    atomic_int cancelled;
} slm_learn_run;

typedef struct slm_learn_lane {
    slm_learn_run *run;
    slm_learn *t;
    const slm_learn_batch *batch;
    slm_team *team;
    slm_learn_scratch *s;
    slm_stage stage;
    uint64_t since; /* when it has last given way, in ns */
} slm_learn_lane;

/* Lets others compute, for nine times as long as it has itself since it did so last. */
void slm_learn_give_way(slm_learn_lane *l);

static inline bool slm_learn_next(slm_learn_lane *l, uint32_t n, uint32_t grain, uint32_t *begin, uint32_t *end)
{
    if (l->t->others != NULL && *l->t->others != 0)
        slm_learn_give_way(l);
    if (l->t->stop != NULL && *l->t->stop != 0) {
        atomic_store_explicit(&l->run->cancelled, 1, memory_order_relaxed);
        slm_stage_abort(l->team);
        return false;
    }
    return slm_stage_take(l->team, &l->stage, n, grain, begin, end);
}

static inline void slm_learn_end(slm_learn_lane *l)
{
    slm_stage_end(l->team, &l->stage);
}

/* Rows of a stage that goes row by row: for (each unit) rows [b, e). */
#define SLM_LEARN_EACH_ROWS(l, n, b, e)                                                                                    \
    for (uint32_t unit_, last_, b, e; slm_learn_next(l, ((n) + SLM_LEARN_ROWS - 1) / SLM_LEARN_ROWS, 1, &unit_, &last_) && \
                                      (b = unit_ * SLM_LEARN_ROWS, e = (n) -b < SLM_LEARN_ROWS ? (n) : b + SLM_LEARN_ROWS, true);)

/* ---- params.c ---- */
typedef struct slm_learn_shape {
    uint32_t rank, targets; /* bits by slm_target */
    float alpha, dropout;
    uint32_t layers; /* of the last so many layers; 0: of all */
    uint64_t seed;
} slm_learn_shape;
/* Values of A as PEFT begins them, B zero.  slm_learn_free frees what was made, also on failure. */
slm_status slm_learn_params(slm_learn *t, const slm_learn_shape *shape, slm_error *err);
/* Keeps a share of what the adapter adds (arXiv 2109.01903: between a model and what it was tuned to lies what does best on new texts). */
void slm_learn_shrink(slm_learn *t, float share);
/* Takes the values of an open adapter of the same shape. INVALID when it has another. */
slm_status slm_learn_take(slm_learn *t, const slm_adapter *adapter, slm_error *err);
void slm_learn_turn(slm_learn *t);
/* Norm of the gradients; scales them down to `clip` (0: not), and makes one step of AdamW. */
double slm_learn_step(slm_learn *t, double rate, double decay, double clip);
/* Writes an adapter's image of these values [n_values]. */
slm_status slm_learn_write(const slm_learn *t, const float *values, const char *path, const char *name, slm_adapter_info *info,
                           slm_error *err);
static inline float *slm_learn_a(const slm_learn *t, float *array, uint32_t layer, slm_target target)
{
    return array + t->pairs[layer][target].at;
}
static inline float *slm_learn_b(const slm_learn *t, float *array, uint32_t layer, slm_target target)
{
    return array + t->pairs[layer][target].at + (size_t) t->rank * t->pairs[layer][target].cols;
}

/* ---- linear.c ---- */
typedef struct slm_learn_product {
    const slm_weight *w;
    const float *bias;
    slm_target target; /* SLM_TARGETS: the output head */
    bool adapted;
    float *y; /* forward: [n, ldy], written.  backward: its gradient */
    size_t ldy;
} slm_learn_product;
slm_learn_product slm_learn_product_of(const slm_learn *t, uint32_t layer, slm_target target, float *y, size_t ldy);
/* In a row stage: blocks of x for the products, and scale * x A' of each. */
void slm_learn_enter(slm_learn_lane *l, uint32_t layer, slm_learn_kept *kept, const slm_learn_product *p, int n_products, const float *x,
                     size_t ldx, uint32_t b, uint32_t e);
/* y = x W' + bias + what the adapter adds. One stage, ended. */
void slm_learn_forward(slm_learn_lane *l, uint32_t layer, const slm_learn_kept *kept, const slm_learn_product *p, int n_products,
                       const float *x, size_t ldx, uint32_t n);
/* In a row stage: bfloat16 of the gradients, and scale * dy B of each into dlow. */
void slm_learn_leave(slm_learn_lane *l, uint32_t layer, const slm_learn_product *p, int n_products, uint32_t b, uint32_t e);
/* dx = sum of dy W + dlow A (dx NULL: not wanted), and the gradients of A and B. x: the products' input. One stage, ended. */
void slm_learn_backward(slm_learn_lane *l, uint32_t layer, const slm_learn_kept *kept, const slm_learn_product *p, int n_products,
                        const float *x, size_t ldx, float *dx, size_t lddx, uint32_t n);

/* ---- attention.c ---- */
/* Floats of scratch for sequences of so many positions. */
size_t slm_learn_attend_floats(const slm_hparams *hp, uint32_t longest);
void slm_learn_angles(slm_learn *t);
/* Norms and rotates rows [b, e) of q and k. */
void slm_learn_turn_rows(slm_learn_lane *l, uint32_t layer, const slm_learn_kept *kept, uint32_t b, uint32_t e);
/* Back: the gradients of q and k before that, in place. */
void slm_learn_turn_back(slm_learn_lane *l, uint32_t layer, const slm_learn_kept *kept, uint32_t b, uint32_t e);
void slm_learn_attend(slm_learn_lane *l, uint32_t layer, const slm_learn_kept *kept);      /* one stage, ended */
void slm_learn_attend_back(slm_learn_lane *l, uint32_t layer, const slm_learn_kept *kept); /* datt to dq, dk, dv */
uint32_t slm_learn_position(const slm_learn_batch *batch, uint32_t row, uint32_t *length);

/* ---- layer.c, head.c ---- */
void slm_learn_layer(slm_learn_lane *l, uint32_t layer, slm_learn_kept *kept);
void slm_learn_layer_back(slm_learn_lane *l, uint32_t layer, slm_learn_kept *kept);
/* Losses of the wanted rows; with run->backward also dx behind the last layer. */
void slm_learn_head(slm_learn_lane *l);

/* ---- lesson.c */
/* Probabilities of the guesses at the lesson's temperature: the teacher's, and the student's. */
typedef struct slm_learn_soft {
    float teacher[SLM_MOST_GUESSES], student[SLM_MOST_GUESSES];
    double lse; /* of the student's logits at that temperature */
} slm_learn_soft;
/* Loss of a row of logits z [n] against the guesses, and what its gradient needs. */
double slm_learn_soft_loss(const slm_learn *t, const float *z, uint32_t n, const slm_guess *guesses, slm_learn_soft *soft);
/* z to the gradient of the whole loss; lse: of z, target: the answer's own token. */
void slm_learn_soft_gradient(const slm_learn *t, float *z, uint32_t n, const slm_guess *guesses, const slm_learn_soft *soft, float lse,
                             int32_t target);

/* ---- encoder.c, contrast.c ---- */
/* Can adapters of this encoder be trained? UNSUPPORTED, and why. */
slm_status slm_learn_check_encoder(const slm_model *model, slm_error *err);
void slm_learn_look_up(slm_learn_lane *l);
void slm_learn_encoder_layer(slm_learn_lane *l, uint32_t layer, slm_learn_kept *kept);
void slm_learn_encoder_back(slm_learn_lane *l, uint32_t layer, slm_learn_kept *kept);
void slm_learn_pool(slm_learn_lane *l);      /* rows behind the last layer to t->pooled */
void slm_learn_pool_back(slm_learn_lane *l); /* t->dpooled to dx */
/* t->pooled and t->unit of all texts; with an aim their losses, with run->backward also dx behind the last layer. */
void slm_learn_contrast(slm_learn_lane *l);

/* ---- pass.c ---- */
/* Memory of a micro-batch (of t->n_texts texts, encoders); keep_all: every layer keeps its forward pass. 0 on overflow. */
size_t slm_learn_bytes(const slm_learn *t, uint32_t capacity, uint32_t longest, bool keep_all);
slm_status slm_learn_room(slm_learn *t, uint32_t capacity, uint32_t longest, bool keep_all, slm_error *err);
/* Adds the sum of the losses to *loss and, unless weight is 0, weight * its gradient to t->grads. CANCELLED: neither. */
slm_status slm_learn_pass(slm_learn *t, const slm_learn_batch *batch, double weight, double *loss, slm_error *err);
/* Can adapters of this model be trained? UNSUPPORTED, and why. */
slm_status slm_learn_check(const slm_model *model, slm_error *err);
slm_status slm_learn_open(const slm_model *model, const slm_learn_shape *shape, bool exact, int n_threads, const volatile int *stop,
                          slm_learn *t, slm_error *err);
void slm_learn_free(slm_learn *t);

#endif
