/*
 * The modes of a session as one table: what a request of a mode does at each point of a job's life (session.h).
 *
 *   submit   prepare ─► enlist                 the request becomes a job; whatever is wrong with it is found here
 *   step     plan ─► (ask ─► read) ─► commit   positions beyond the prompt; rows of the head and what becomes of them; the job moves on
 *   end      settle ─► clear                   jobs whose answer does not come with a token; what a job holds is given back
 *
 * Nothing outside this folder asks which mode a job has.  Whatever can fail for the whole step, or be stopped, is in plan, ask and
 * read, which leave the job as it was and may be called again: only commit and settle change it (step.c).
 */
#ifndef SLM_SESSION_MODES_MODE_H
#define SLM_SESSION_MODES_MODE_H

#include "engine/decode/constraint.h"
#include "engine/decode/draft.h"
#include "engine/decode/pieces.h"
#include "engine/model/model.h"
#include "engine/session/kv.h"
#include "engine/slm.h"
#include "engine/text/chat.h"

typedef struct slm_job slm_job;
typedef struct slm_span slm_span;
typedef struct slm_want slm_want;

typedef struct slm_mode_ops {
    const char *name;
    bool encoder;  /* runs on a model without keys and values: whole texts, in order of arrival (embed.c); else on a decoder */
    bool in_order; /* queued as it comes, not behind one that begins alike */
    /* Makes the prompt of a request, which it checks, whatever the model; NULL: slm_prompt_build. */
    slm_status (*build)(slm_session *s, const slm_request *request, slm_prompt *out, slm_error *err);
    /* Checks what of the request the mode uses, reads the prompt (slm_job_read_prompt) and says how far the job feeds itself: end,
     * branch_end, prompt_end, first_out.  A job that has nothing to compute is marked trivial and has its result. */
    slm_status (*prepare)(slm_session *s, const slm_request *request, slm_job *job, slm_error *err);
    /* The job is sound: queues what it needs beside itself (a prior). NULL: nothing. */
    slm_status (*enlist)(slm_session *s, const slm_request *request, slm_job *job, slm_error *err);
    /* The job is past its prompt: adds its next positions to the batch. NULL: it has no more. */
    void (*plan)(slm_session *s, slm_job *job);
    /* A row of hidden numbers is at hand: which tokens' logits it is for (want->ids). NULL: all. */
    slm_status (*ask)(slm_session *s, slm_want *want, slm_error *err);
    /* Logits, [n_vocab] or [want->n_ids], become a token or a number in the want; they may be changed.  NULL: they stay in step.some. */
    void (*read)(slm_session *s, slm_want *want, float *logits);
    /* All of the step has been computed: the job moves on by a span.  A job's own error ends that job alone. */
    slm_status (*commit)(slm_session *s, slm_job *job, const slm_span *span, bool *done, slm_error *err);
    /* Finishes the job, or lets it wait, when all that it needs is known. NULL: commit does. */
    void (*settle)(slm_session *s, slm_job *job);
    /* The job ends with an error: tells those who wait for it. NULL: nobody. */
    void (*fail)(slm_session *s, slm_job *job, const slm_error *error);
    /* Gives back what the mode holds, KV included; finished: the result is still to be taken. NULL: nothing; may be called twice. */
    void (*clear)(slm_session *s, slm_job *job, bool finished);
} slm_mode_ops;

/* NULL: there is no such mode. */
const slm_mode_ops *slm_mode_find(slm_mode mode);

extern const slm_mode_ops slm_mode_generate, slm_mode_labels, slm_mode_logprobs, slm_mode_embed, slm_mode_joint, slm_mode_spans;

/* One step of a session with an encoder (embed.c). */
slm_status slm_embed_step(slm_session *s, slm_error *err);

/* Spans (spans.c): what the encoder is told of a job's words and labels, with room for its logits; NULL: NOMEM. */
const slm_span_marks *slm_spans_ready(slm_session *s, slm_job *job, slm_error *err);
/* The logits become the job's result. */
slm_status slm_spans_answer(slm_session *s, slm_job *job, slm_error *err);

/* ---- what a job of each mode knows */

typedef struct slm_generate_state {
    slm_sampling sampling;
    uint32_t max_tokens;
    slm_pieces pieces;
    bool speculate;
    bool skip_space; /* the first token's space belongs to the encoding, not to the answer */
    slm_draft draft; /* how guessing has gone */
    slm_constraint *constraint; /* a reference, or NULL */
    void *state;  /* of the constraint, behind the last known token */
    void *ahead;  /* the same behind guesses, while a step is read; or NULL */
    slm_error error; /* why nothing may come next: found while a step is read, the job's own */
} slm_generate_state;

typedef struct slm_logprobs_state {
    uint32_t begin; /* of the scored tokens */
} slm_logprobs_state;

typedef struct slm_span_state slm_span_state;

typedef struct slm_embed_state {
    slm_span_state *spans; /* of a request for spans, else NULL */
    uint32_t sequence, row; /* of the step that computes it, and its first row */
    bool shares;       /* an earlier job's */
} slm_embed_state;

typedef struct slm_label_set slm_label_set;
typedef struct slm_label_item slm_label_item;
typedef struct slm_prior slm_prior;

typedef struct slm_labels_state {
    slm_label_set *set;
    slm_prior *prior;       /* subtracted, or NULL */
    slm_prior *computes;    /* this job fills it, or NULL */
    bool best_only;
    bool decided; /* the first stage is done */
    bool prune;   /* best_only, and all that is needed to rule labels out is known */
    double *scores;         /* [n_labels] log probability, NaN = not computed */
    double best;            /* best_only: best score of a whole label so far */
    slm_label_item *items;  /* stack [n_items] */
    uint32_t n_items, item_room, in_step; /* the last in_step items are in the current batch */
    uint32_t borrowed;      /* KV blocks taken beyond the promise */
    uint32_t lane_blocks;   /* KV blocks of one branch */
} slm_labels_state;

/* ---- what a session keeps of labels from request to request (labelset.c) */

#define SLM_PRIOR_BUCKETS 256

typedef struct slm_label_cache {
    slm_label_set *sets;
    slm_prior *priors;
    slm_prior *prior_buckets[SLM_PRIOR_BUCKETS]; /* by hash */
    uint32_t n_priors, n_priors_swept; /* now, and after the last look at what can go */
} slm_label_cache;

/* Forgets priors that nobody computes any more; all: every prior and label set. No job may be left. */
void slm_labels_forget(slm_session *s, bool all);
/* Adds what priors took that no answer has counted yet. */
void slm_labels_owed(const slm_session *s, slm_usage *out);

#endif
