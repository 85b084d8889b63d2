/*
 * One run of a model over a batch: the state that all stages share, inside src/engine/model only.
 *
 *   forward.c / encoder.c / head.c   allocate (workspace.c), then one slm_parallel_stages region: every thread runs the same code
 *     stage ── slm_lane_end ── stage ── slm_lane_end ── ...      a stage hands out units of work by slm_lane_next
 *   linear.c     products by panels: plain, added to the residual stream, gated feed-forward
 *   attention.c  rotation, KV store, attention by (KV head, tile of tokens)
 *   convolve.c   convolutions in place of attention
 *   experts.c    mixtures: which experts work on which rows, and what they give together
 *   rope.c       the cosines and sines of each position
 *   spans.c      a head that finds spans, of one sequence at a time
 *
 * A stage ends when its units are done, so what a thread does outside of units (norms of small batches) may come too late; then it gets no
 * unit, and nobody sees what it computed.
 *
 * Cancellation: whoever sees *stop aborts the stages; from then on slm_lane_next hands out nothing and slm_lane_end waits for nobody: all
 * threads walk through the rest without work.
 *
 * Fine rows (slm_batch.fine) carry two int8 terms: the blocks, and the blocks of what they lost by rounding, at `n` rows further in
 * the same buffer.  A product of a fine row is the sum of both products.  A row's bits depend on its own flag only.
 *
 * Where the batch is small (n <= SOLO_ROWS) each thread repeats the norm and quantization of the few rows in its own scratch, which is
 * cheaper than a stage.  The same functions on the same rows: bits do not depend on it.
 */
#ifndef SLM_MODEL_RUN_H
#define SLM_MODEL_RUN_H

#include <stdatomic.h>

#include "engine/base/threads.h"
#include "engine/model/model.h"

#define SLM_SOLO_ROWS 2   /* batches up to this size: norms are repeated by every thread */
#define SLM_TILE_ROWS 256 /* rows of one unit of a product, at most */
#define SLM_TILE_COLS 32  /* columns of one tile of the fused stages at that height; more when there are fewer rows */
#define SLM_QUERIES 48    /* queries of one attention unit, at least one token's group: whole tiles of the kernel (6) */

/* Grows on demand, 64-byte aligned, contents are not kept. */
typedef struct slm_buffer {
    void *p;
    size_t bytes;
} slm_buffer;

/* What one thread needs for itself. */
typedef struct slm_scratch {
    slm_buffer gemm;             /* of the gemm kernels */
    slm_buffer attend;           /* of the attend kernel */
    slm_buffer tile;             /* [2, SLM_TILE_ROWS, SLM_TILE_COLS] floats */
    slm_buffer blocks;           /* quantized tile */
    slm_buffer norm, normq;      /* [SLM_SOLO_ROWS, n_embd] floats, blocks (and theirs of fine rows) */
    slm_buffer rest, fine;       /* a row's rounding errors; a tile of the product with them */
    slm_buffer queries;          /* arrays of one slm_attend call */
    slm_buffer kv, table;        /* encoders: keys and values of one head of one sequence, and its block table */
    slm_buffer pool, poolq;      /* encoders: a pooled row and what modules make of it; rows of a head that finds spans, and quantized */
    slm_buffer distance;         /* DeBERTa: products of one head's keys and queries with distances, biases of a tile */
    slm_buffer state;            /* Qwen 3.5: a head's state, and what goes into it; Gemma 4: a row of embeddings of the layers */
} slm_scratch;

struct slm_workspace {
    slm_buffer x;          /* [n, ld_embd] residual stream */
    slm_buffer norm, normq;/* [n, ld_embd] normalized rows, and quantized */
    slm_buffer q, k, v;    /* [n, ld_q], [n, ld_kv] */
    slm_buffer att, attq;  /* [n, ld_q] attention output, and quantized */
    slm_buffer ff, ffq;    /* [n, ld_ff] gated feed-forward, and quantized */
    slm_buffer out;        /* [n, ld_embd] output of a block, where a norm follows */
    slm_buffer compact;    /* [n_out, ld_embd] residual rows that go on after the last attention */
    slm_buffer angles;     /* [tables, 2, n, n_rot / 2] cos and sin */
    slm_buffer hidden;     /* [n_out, n_embd] */
    slm_buffer logits;     /* slm_head_some */
    slm_buffer conv;       /* [n, ld_conv] rows that go into a convolution; LFM2: three side by side */
    slm_buffer open;       /* Qwen 3.5: [n, ld_gate] what gates the output of attention or of the delta rule */
    slm_buffer decay;      /* Qwen 3.5: [2, n, delta_values up to whole panels] */
    slm_buffer embd;       /* Gemma 4: [n, ld_beside] each layer's embedding of each row */
    slm_buffer routes;     /* mixtures: experts.c */
    slm_buffer chosen, chosenq; /* [n * n_experts_used, ld_embd] rows as the experts take them, and quantized */
    slm_buffer low, gate;  /* batches with adapters: [3, n, ld_low] A x of each product; [n, ld_ff] */
    slm_buffer adapters;   /* encoders: [n] that of each row */
    size_t ld_low;
    slm_buffer rows, fine; /* index lists, flags */
    slm_scratch *scratch;  /* [n_scratch] */
    int n_scratch;
    struct slm_workspace **parts; /* [n_parts] encoders: of each thread that computes sequences alone */
    int n_parts;
};

/* Row strides in floats, multiples of 16. */
typedef struct slm_strides {
    size_t embd, q, kv, ff, conv, gate, beside;
} slm_strides;

/* Rows of activations as the products take them: q for quantized weights, x for float ones; either may be NULL when nobody wants it. */
typedef struct slm_act {
    const slm_qblock *q; /* [n, ldq] blocks */
    const float *x;      /* [n, ldx] */
    size_t ldq, ldx;
    const slm_qblock *lo; /* [n, ldq] what q lost by rounding, for fine rows; NULL: none is fine */
    const uint8_t *fine;  /* [n] which rows are fine */
} slm_act;

typedef struct slm_run {
    const slm_model *model;
    const slm_hparams *hp;
    const slm_kernels *kn;
    slm_workspace *ws;
    const slm_batch *batch;  /* decoders; encoders: adapters of rows, or NULL */
    const int32_t *positions; /* [n] */
    const uint8_t *fine;     /* [n] rows with 16-bit activations, NULL: none */
    const uint8_t *fine_out; /* [n_out] the same of the wanted rows */
    const volatile int *stop;
    atomic_int cancelled;
    slm_strides ld;
    uint32_t n;            /* rows of the batch */
    int n_threads;         /* asked for: stages are cut for so many */
    bool solo;             /* small batch: repeat the norms */
    bool own_kv;           /* no position of the batch sees another one's new keys: attention needs no stage for the KV store */
} slm_run;

static inline size_t slm_round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* ---- workspace.c ---- */
slm_status slm_buffer_need(slm_buffer *b, size_t count, size_t size, slm_error *err);
/* At least n workspaces in ws->parts. */
slm_status slm_workspace_parts(slm_workspace *ws, int n, slm_error *err);
/* Fills the run (fine: NULL or with a row set), and sizes all buffers for n rows of the model.  n_positions: the longest row of keys
 * that a query sees. */
slm_status slm_run_init(slm_run *run, const slm_model *model, slm_workspace *ws, const uint8_t *fine, uint32_t n, uint32_t n_out,
                        uint32_t n_positions, int n_threads, const volatile int *stop, slm_error *err);

/* One thread of a run. */
typedef struct slm_lane {
    slm_run *run;
    slm_team *team;
    slm_scratch *s;
    slm_stage stage;
} slm_lane;

static inline slm_lane slm_lane_of(slm_run *run, slm_team *team, int thread)
{
    return (slm_lane) {.run = run, .team = team, .s = &run->ws->scratch[thread], .stage = {.thread = thread}};
}

/* The next of a stage's n units. Polls: none once the run is cancelled, for any thread. */
static inline bool slm_lane_next(slm_lane *t, uint32_t n, uint32_t grain, uint32_t *begin, uint32_t *end)
{
    if (t->run->stop != NULL && *t->run->stop != 0) {
        atomic_store_explicit(&t->run->cancelled, 1, memory_order_relaxed);
        slm_stage_abort(t->team);
        return false;
    }
    return slm_stage_take(t->team, &t->stage, n, grain, begin, end);
}

/* Waits for the units of this stage; what follows is the next stage. */
static inline void slm_lane_end(slm_lane *t)
{
    slm_stage_end(t->team, &t->stage);
}

static inline bool slm_run_cancelled(slm_run *run)
{
    return atomic_load(&run->cancelled) != 0;
}

/* ---- linear.c ---- */

/* cols floats to blocks, and their rounding errors to blocks lo unless NULL. */
void slm_quantize_row(const slm_run *run, slm_scratch *s, const float *x, uint32_t cols, slm_qblock *q, slm_qblock *lo);

/* A norm's weight (NULL: there is none) and bias (NULL: none). */
typedef struct slm_norm_of {
    const float *w, *b;
} slm_norm_of;
/* x [width] normed to y, which may be x, as the norms of the model are. */
void slm_norm_row(const slm_run *run, slm_norm_of n, const float *x, float *y, uint32_t width);
/* x += a row of w; scratch: [w->cols]. */
void slm_add_row(const slm_run *run, const slm_weight *w, uint32_t row, float *x, float *scratch);

/* ---- stages of linear.c: each is one stage without its end ---- */

/* Small batches: asks for the first of the weights that this thread will take in a later stage, so that they are there when it begins. */
void slm_stage_fetch(const slm_lane *t, const slm_weight *w, uint32_t align, uint32_t n);

/* Rows times panels side by side: at most SLM_TILE_ROWS rows, and SLM_TILE_ROWS * SLM_TILE_COLS outputs. */
typedef struct slm_unit {
    uint32_t row, rows, panel, panels;
} slm_unit;

typedef struct slm_product {
    const slm_weight *w;
    const float *bias; /* [rows] or NULL */
    float *y;          /* [n, ldy], ldy >= 16 * n_panels */
    size_t ldy;
} slm_product;

/* y = a . w' + bias of up to three products of the same activations. */
void slm_stage_project(slm_lane *t, const slm_product *products, int n_products,
                       const slm_act *a, uint32_t n);
/* x += scale * (a . w' + bias). */
void slm_stage_residual(slm_lane *t, const slm_product *product, const slm_act *a,
                        float scale, uint32_t n);
/* The inside of a feed-forward: its matrices, and where its rows go. */
typedef struct slm_feed {
    const slm_weight *gate, *up, *down; /* gate NULL: none; down: whose type says in which form the rows are wanted */
    const float *up_bias;               /* or NULL */
    bool relu;                          /* in place of the model's activation */
    float *ff;                          /* [n, ldff] where down is float */
    slm_qblock *q, *lo;                 /* [n, ldq] where it is quantized; lo: second terms of fine rows */
    size_t ldff, ldq;
} slm_feed;

/* ff = act(a . gate') * (a . up' + bias), or act(a . up' + bias) without gate, of a layer; to ws->ff and ws->ffq. */
void slm_stage_feed(slm_lane *t, const slm_layer *layer, const slm_act *a, uint32_t n);
/* One unit of such a stage, and of a product without bias, for stages that cut their work themselves; units of a feed-forward are whole
 * blocks of 32 columns, and it has a gate. */
void slm_feed_unit(slm_run *run, slm_scratch *s, const slm_feed *feed, const slm_act *a, const slm_unit *u);
void slm_product_unit(slm_run *run, slm_scratch *s, const slm_product *p, const slm_act *a, const slm_unit *u);
/* The feed-forward activations for `down`, which has cols columns; fine: flags of their rows. */
slm_act slm_feed_act(const slm_run *run, uint32_t cols, const uint8_t *fine);
/* logits = softcap(scale * (a . w')). */
void slm_stage_logits(slm_lane *t, const slm_weight *w, const slm_act *a, uint32_t n,
                      float *logits, size_t ld);

/* ---- convolve.c ---- */
/* What later positions need of all batch rows (ws->conv), into their KV blocks. One stage, without its end. */
void slm_stage_remember(slm_lane *t, uint32_t layer);
/* The convolution of m rows, row i being batch row rows[i] (rows NULL: i), to ws->att and ws->attq. One stage, without its end. */
void slm_stage_convolve(slm_lane *t, uint32_t layer, const uint32_t *rows, uint32_t m);

/* ---- delta.c ---- */
/* The same two of a layer with a delta rule: what its convolution and its rule need of all rows; and what the rule gives for m rows. */
void slm_stage_note(slm_lane *t, uint32_t layer);
void slm_stage_delta(slm_lane *t, uint32_t layer, const uint32_t *rows, uint32_t m);
/* x *= sigmoid(gate), over n. */
void slm_gate_by_sigmoid(float *x, const float *gate, uint32_t n);
/* Floats of a thread's scratch for it. */
size_t slm_delta_floats(const slm_hparams *hp);

/* ---- layer_embd.c ---- */
/* The embeddings of all layers for all batch rows, which ws->x holds as they were embedded, to ws->embd.  Ends all of its stages. */
void slm_stages_layer_embd(slm_lane *t);
/* ws->ff holds what opens a layer's embedding for m rows, row i being batch row rows[i] (rows NULL: i): the embedding times the GELU of it,
 * to ws->ff and ws->ffq.  One stage, without its end. */
void slm_stage_open_embd(slm_lane *t, uint32_t layer, const uint32_t *rows, const uint8_t *fine, uint32_t m);

/* ---- experts.c ---- */
/* x += residual_scale * what the experts of a layer make of a, which must not be a thread's own.  Ends all of its stages. */
void slm_stages_experts(slm_lane *t, const slm_layer *layer, const slm_act *a, float *x, uint32_t n);
/* Sizes the buffers for n rows. */
slm_status slm_experts_need(slm_run *run, uint32_t n, slm_error *err);

/* ---- rope.c ---- */
/* Frequencies of all tables of a model; NULL on lack of memory. */
double *slm_rope_frequencies(const slm_hparams *hp);
/* Does this layer rotate queries and keys? */
bool slm_layer_turns(const slm_hparams *hp, uint32_t layer);
/* Fills the tables of batch rows [begin, end). */
void slm_rope_fill(slm_run *run, uint32_t begin, uint32_t end);
/* cos of batch row i for this layer, sin = cos + n_rot / 2; NULL where the layer does not rotate. */
const float *slm_rope_row(const slm_run *run, uint32_t layer, uint32_t i);

/* ---- pool.c ---- */
/* The vector or the outputs of a sequence whose rows are x[length, ld.embd], with their marks where the head reads labels; s->pool has
 * slm_pool_floats. */
void slm_pool(const slm_run *run, slm_scratch *s, const float *x, const uint8_t *marks, uint32_t length, float *out);
/* One row out of x[length, ld.embd], by SLM_POOL_*; a function of a head over a row. */
void slm_pool_rows(const slm_run *run, uint32_t pool, const float *x, uint32_t length, float *out);
void slm_squash_row(const slm_run *run, uint32_t function, float *x, uint32_t n);
size_t slm_pool_floats(const slm_hparams *hp);
/* ---- joint.c */
/* Scores of labels: out[row] of each that is marked SLM_MARK_LABEL, 0 at the others; s->pool has slm_joint_floats. */
void slm_joint_scores(const slm_run *run, slm_scratch *s, const float *x, const uint8_t *marks, uint32_t length, float *out);
size_t slm_joint_floats(const slm_hparams *hp);
/* ---- decide.c */
/* The same of a decision head. */
void slm_decide_scores(const slm_run *run, slm_scratch *s, const float *x, const uint8_t *marks, uint32_t length, float *out);
/* One row through a small dense layer: y [16 * n_panels], blocks in s->normq. */
void slm_dense_row(const slm_run *run, slm_scratch *s, const slm_weight *w, const float *bias, const float *x, float *y);

/* ---- spans.c ---- */
/* Has the caller asked to stop?  For long work inside of a unit; the run is cancelled then. */
bool slm_run_stopping(slm_run *run);
/* y [n, ldy] = x . w' + bias; ldy >= 16 * n_panels.  Blocks in s->poolq. */
void slm_affine_rows(slm_run *run, slm_scratch *s, const slm_affine *of, const float *x, size_t ldx, uint32_t n, float *y, size_t ldy);
/* Scratch for sequences of up to `longest` rows and so many labels. */
slm_status slm_spans_need(slm_run *run, slm_scratch *s, uint32_t longest, uint32_t n_labels, slm_error *err);
/* Are all rows of a sequence of this length? */
bool slm_span_marks_good(const slm_span_marks *m, uint32_t length);
/* A sequence whose rows are x[length, ld.embd], to m->out. */
void slm_spans_score(slm_run *run, slm_scratch *s, const float *x, const slm_span_marks *m);

/* ---- lstm.c ---- */
/* One direction over n words: gates [n, ldg] are the products of the words and become scratch; the states go to out [n, ldo], the first
 * width columns.  scratch: 8 widths. */
void slm_lstm_run(slm_run *run, slm_scratch *s, const slm_affine *state_of, uint32_t n, bool back, float *gates, size_t ldg, float *scratch,
                  float *out, size_t ldo);

/* ---- relative.c ---- */
/* Floats of a head's row of biases by distance, and the rows themselves from the table [buckets, ld] (T5's buckets, as MPNet has them): the
 * bias of key j for query i is row[n_context - 1 + j - i]. */
size_t slm_relative_stride(uint32_t n_context);
void slm_relative_fill(const float *table, size_t ld, uint32_t buckets, uint32_t n_heads, uint32_t n_context, float *rows);

/* The same of slopes (ALiBi). */
void slm_alibi_fill(uint32_t n_heads, uint32_t n_context, float *rows);

/* ---- distance.c ---- */
/* Floats of s->distance for sequences of up to this length. */
size_t slm_distance_floats(const slm_hparams *hp, uint32_t length);
/* The table of slm_model.places, malloc'ed; NULL on lack of memory. */
uint16_t *slm_distance_places(const slm_hparams *hp);
/* One head of one sequence, rows [begin, begin + length) of ws->k: what its keys say about distances. */
void slm_distance_keys(slm_run *run, slm_scratch *s, uint32_t layer, uint32_t head, uint32_t begin, uint32_t length);
/* Biases of its queries i to i + n - 1, n <= SLM_QUERIES, after slm_distance_keys. */
void slm_distance_bias(slm_run *run, slm_scratch *s, uint32_t layer, uint32_t head, uint32_t begin, uint32_t length, uint32_t i,
                       uint32_t n, const float **bias);

/* ---- attention.c ---- */
/* Norm (per head; NULL: none) and rotation of n_heads heads of a batch row at x. */
void slm_turn_heads(const slm_run *run, const float *norm, uint32_t layer, uint32_t row, uint32_t n_heads, float *x);
/* Keys and values of all batch rows (ws->k, ws->v) into their KV blocks: norm, rotation, store. One stage. */
void slm_stage_keys(slm_lane *t, uint32_t layer);
/* Attention of the m rows of ws->q, row i being batch row rows[i] (rows NULL: i), to ws->att and ws->attq.  with_keys: also does what
 * slm_stage_keys does (run->own_kv only). One stage, or several; the last one is not ended. */
void slm_stage_attend(slm_lane *t, uint32_t layer, const uint32_t *rows, uint32_t m, bool with_keys);
/* Quantizes columns [col, col + cols) of one row of ws->att, whose rows are `width` wide. */
void slm_quantize_attention(const slm_run *run, slm_scratch *s, uint32_t row, uint32_t width, uint32_t col, uint32_t cols,
                            const uint8_t *fine);
/* Quantizes m rows of ws->att whole, `width` wide, for heads that are no multiple of 32 wide. Ends the stage before; one stage. */
void slm_stage_quantize_attention(slm_lane *t, uint32_t width, uint32_t m, const uint8_t *fine);
/* The attention output for `o`, which has cols columns; fine: flags of its rows. */
slm_act slm_attention_act(const slm_run *run, uint32_t cols, const uint8_t *fine);

#endif
