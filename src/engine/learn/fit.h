/*
 * fit.h: a fine-tuning between its steps, for fit.c, which runs it, and fit_texts.c, which knows the texts of encoders.
 */
#ifndef SLM_LEARN_FIT_H
#define SLM_LEARN_FIT_H

#include "engine/learn/learn.h"

typedef struct slm_texts slm_texts;

typedef enum stage { STAGE_JUDGE_BASE, STAGE_EPOCH, STAGE_STEPS, STAGE_JUDGE, STAGE_ENDED } stage;

struct slm_finetune {
    slm_learn t;
    slm_finetune_options options;
    const slm_example *examples, *held_out; /* a decoder's */
    slm_texts *texts;                       /* an encoder's; NULL: it is a decoder */
    size_t n_examples, n_held_out;
    uint32_t *order; /* [n_order] of the epoch */
    size_t n_order;  /* n_examples; with labels and texts twice as many at most */
    uint32_t epoch, n_all; /* epochs begun; steps of all epochs */
    size_t next;           /* place in the order that the next step begins with */
    stage stage;
    /* of the step or the judgement that is running */
    size_t at, step_end;
    uint64_t step_answers; /* how many losses it has */
    double loss;
    size_t exact;
    double running, first; /* mean of losses, where it began; NaN at first */
    uint32_t worse;        /* epochs since the best */
    float *best;           /* [n_values]; NULL without held-out examples */
    float *aside;          /* [n_values] the values while another adapter is judged; NULL: none is */
    slm_finetune_report report;
    slm_finetune_point *points; /* [n_all] */
    /* a micro-batch */
    int32_t *ids, *target;
    uint32_t *first_row, *out;
    const slm_guess **guesses;
    slm_learn_batch batch;
    const char *saying;
    double said;
    bool pausing; /* before the next pass */
};

/* One pass over f->batch; one that was given up for an interrupt which the caller has settled is made again. */
slm_status slm_fit_pass(slm_finetune *f, double weight, slm_error *err);
/* The j < i that a swap of the shuffle takes: uniform, the same for a seed, an epoch and a place. */
size_t slm_fit_draw(const slm_finetune *f, uint32_t epoch, size_t i);

/* The examples in the order of an epoch. */
void slm_fit_order(slm_finetune *f, uint32_t epoch);
/* Where the step ends that begins at `from` of the epoch's order; *n: its tokens. */
size_t slm_fit_step_end(const slm_finetune *f, size_t from, uint64_t *n);
/* Steps of the first `epochs`; *largest: the tokens of one at most.  Leaves the order of the last of them. */
uint64_t slm_fit_steps(slm_finetune *f, uint32_t epochs, uint64_t *largest);
/* Nothing of the step at f->next is done yet; its tokens. */
uint64_t slm_fit_step(slm_finetune *f);

/* ---- fit_texts.c ---- */
/* Takes the lists of examples: f->n_examples, f->n_held_out, checked against the model.  *longest: of their texts. */
slm_status slm_texts_new(slm_finetune *f, const slm_model *model, slm_contrast kind, const slm_text_example *examples,
                         const slm_text_example *held_out, uint32_t *longest, slm_error *err);
void slm_texts_free(slm_texts *texts);
/* The order of an epoch: f->order, f->n_order. */
void slm_texts_order(slm_finetune *f, uint32_t epoch);
/* Where the step ends that begins at `from`; *n: its tokens. */
size_t slm_texts_step(const slm_finetune *f, size_t from, uint64_t *n);
/* The whole step as one micro-batch; f->step_answers. */
void slm_texts_fill(slm_finetune *f);
/* Goes on judging the present values; *out is set at the end. */
slm_status slm_texts_judge(slm_finetune *f, slm_finetune_score *out, slm_error *err);
/* Bytes beside the training's own. */
size_t slm_texts_bytes(const slm_finetune *f);
/* What a judgement has made of the first n texts of its list: [n, n_embd]; *most: how many there are. */
float *slm_texts_judged(const slm_finetune *f, size_t *most);

#endif
