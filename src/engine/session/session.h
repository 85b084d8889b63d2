/*
 * Inside of a session: jobs, and the batch of one step. What a job does at each point is its mode's (modes/mode.h).
 *
 *   submit ─► queued ─► running ─► finished ─poll─► taken ─release─►
 *                          └─► waiting (only for a prior that another job computes) ─► finished
 *
 * One step (step.c): admit queued jobs, let every running one add spans of positions to the batch (plan), one forward pass, turn the wanted
 * hidden rows into tokens and numbers kept in the wants (evaluate), and only then change any job (commit).  Everything that can fail or be
 * cancelled comes before the commit, so a cancelled step can simply be made again.
 *
 * A job reads only its own tokens, KV and seed, never the batch it is in: that is what makes answers independent of neighbours.
 */
#ifndef SLM_SESSION_SESSION_H
#define SLM_SESSION_SESSION_H

#include "engine/decode/sampler.h"
#include "engine/model/adapter.h"
#include "engine/session/kv.h"
#include "engine/session/modes/mode.h"
#include "engine/session/prefix.h"
#include "engine/slm.h"
#include "engine/text/chat.h"

struct slm_job {
    slm_job *next, *prev; /* of its list */
    struct slm_job_list *list; /* that it is in; NULL: none */
    slm_job *next_same;   /* of its bucket in by_id */
    uint64_t id;          /* 0: internal, never polled */
    const slm_mode_ops *mode;
    bool urgent;          /* before others, where it has to wait */
    bool held;            /* left out of steps */
    uint64_t last_step;   /* that it had a part in; steps are counted from 1 */
    uint32_t last_n;      /* its positions there */
    bool stream;          /* pieces of the answer are taken while it grows */
    bool trivial;         /* nothing is to be computed: the result is there */
    slm_adapter *adapter; /* a reference, or NULL */
    int32_t *ids;         /* [n_ids] prompt, then the answer so far (or the labels' common beginning) */
    uint32_t n_ids, id_room, n_prompt;
    uint32_t prompt_end;  /* positions before this one are fed as they fit, behind everybody's decoding */
    uint32_t n_prefix;    /* positions worth keeping for others: declared by the request */
    uint32_t n_public;    /* of them, those that serve other realms too */
    uint32_t n_keep;      /* positions that it will keep if it leads: n_prefix, or more that another job begins with too */
    uint32_t n_kept;      /* of them, those that are in the prefix cache already */
    uint8_t *marks;       /* [n_ids] where labels stand (text/marked.h), or NULL */
    uint32_t n_labels;    /* of them */
    uint32_t question;    /* decision heads: of which kind it is, SLM_DECIDE_* */
    uint32_t row_begin, row_end; /* taggers: of the prompt, the tokens of the text itself */
    uint32_t first_out;   /* first position whose hidden row is wanted: reuse ends here */
    uint32_t end;         /* positions that the job feeds itself at most (labels' branches not counted) */
    uint32_t branch_end;  /* the same with labels' branches */
    uint64_t realm, public_realm; /* of the request */
    uint64_t regime;      /* SLM_REGIME_*, and the adapter's serial number above them: what keys and values depend on beside the tokens */
    slm_seq *seq;
    uint32_t promise;     /* KV blocks that it may still take */
    uint32_t branch_blocks; /* KV blocks for branches, beyond the job's own positions */
    bool leads;           /* computes a prefix that others wait for */
    bool gives;           /* keeps its public positions for all realms, once they are computed */
    union {               /* the mode's own */
        slm_generate_state gen;
        slm_labels_state labels;
        slm_logprobs_state scored;
        slm_embed_state embed;
    };
    slm_result result;
};

typedef struct slm_job_list {
    slm_job *head, *tail;
    size_t n;
} slm_job_list;

/* Positions [begin, begin + n) of the batch: one job's next tokens. */
struct slm_span {
    slm_job *job;
    slm_seq *seq;
    uint32_t begin, n;
    int32_t position;               /* of the first */
    uint32_t first_want, n_wants;
    bool prompt;                    /* of the positions before prompt_end */
    uint32_t stage;                 /* labels: the stage whose path this is */
};

/* Long rope factors; 16-bit activations; an adapter; the length, where the base follows it. */
enum { SLM_REGIME_LONG = 1, SLM_REGIME_FINE = 2, SLM_REGIME_ADAPTER_SHIFT = 8, SLM_REGIME_LENGTH_SHIFT = 40 };

/* A hidden row of the batch and what becomes of it. */
struct slm_want {
    slm_job *job;
    uint32_t position; /* in the job's sequence */
    uint32_t stage;    /* of the span */
    const int32_t *ids; /* [n_ids] asked: the tokens whose logits are needed; NULL: all, of the whole head */
    uint32_t n_ids;
    size_t logits;     /* ids: where in step.some their logits are */
    const uint64_t *mask; /* asked: of the whole head only these tokens count; NULL: all */
    int32_t token;     /* read: generate */
    float logprob;     /* read: logprobs */
};

/* The batch of one step; arrays have room for max_batch positions. */
typedef struct slm_step_state {
    int32_t *tokens, *positions, *lengths;
    const uint16_t *const **blocks;
    const slm_adapter **adapters; /* NULL entries: none */
    const slm_span_marks **span_marks; /* encoders that find spans */
    uint8_t *fine; /* positions of precise requests */
    uint8_t *marks; /* encoders that read labels: of each position */
    uint32_t *out;
    slm_span *spans;
    slm_want *wants;
    uint32_t n, n_out, n_spans, room;
    uint32_t cap; /* while it is planned: it has no more positions */
    bool held;    /* somebody was left out */
    uint32_t n_first; /* tokens of answers that the ends of prompts bring */
    uint32_t limit; /* positions of the next step: room, or fewer after a step that was stopped */
    float *some; /* logits of wants that need some only, see slm_want.logits */
    size_t n_some, some_room;
    uint64_t **masks; /* [n_masks] copies, each of a word per 64 tokens; those beyond n_masks are kept for the next step */
    uint32_t n_masks, masks_made; /* masks has room for as many as there are positions */
    float *rows;   /* hidden rows that need the whole head, [rows_room, n_embd] */
    uint8_t *rows_fine; /* [room] which of them are fine */
    float *logits; /* [logit_rows, logit_stride], 64-byte aligned */
    size_t rows_room, logit_rows, logit_stride;
} slm_step_state;

struct slm_session {
    slm_model *model;
    slm_limits limits;
    slm_kv_pool *pool; /* NULL for encoders */
    slm_prefix_cache *prefixes;
    slm_workspace *ws;
    slm_sampler *sampler;
    slm_step_state step;
    uint32_t slice;  /* a step has no more positions; 0: all of step.limit */
    uint32_t beside; /* of them, those of jobs that are not urgent; 0: what is left */
    slm_job_list queued, running, waiting, finished, taken;
    slm_job **by_id;        /* [n_buckets] jobs with an id, chained by next_same; bucket: id modulo n_buckets, a power of two */
    size_t n_buckets, n_ids;
    slm_label_cache labels;
    uint64_t next_id;
    uint64_t n_steps;
    uint64_t allowance; /* tokens that the next step may compute */
    bool allowance_used;
    slm_session_stats stats;
};

/* Has the caller asked to stop?  What has been planned by then is planned anew. */
static inline bool slm_session_stopped(const slm_session *s)
{
    return s->limits.stop != NULL && *s->limits.stop != 0;
}

/* ---- job.c: jobs and lists */
/* Gives the job the next id, by which slm_job_find finds it. */
slm_status slm_job_number(slm_session *s, slm_job *job, slm_error *err);
slm_job *slm_job_find(const slm_session *s, uint64_t id);
/* Frees what the job holds of the session (KV, label sets, its number) and the job; it must be in no list. */
void slm_job_free(slm_session *s, slm_job *job);
void slm_job_release_kv(slm_session *s, slm_job *job);
bool slm_job_push_id(slm_job *job, int32_t id);
/* Room for n ids. */
bool slm_job_id_room(slm_job *job, uint32_t n);
void slm_list_append(slm_job_list *list, slm_job *job);
/* Puts job behind another one of the list; NULL: at its head. */
void slm_list_insert(slm_job_list *list, slm_job *behind, slm_job *job);
void slm_list_remove(slm_job_list *list, slm_job *job);
/* Moves a running or queued job to finished (frees it when internal) with the status of *error, or OK when NULL. */
void slm_job_finish(slm_session *s, slm_job_list *from, slm_job *job, const slm_error *error);

/* What a forward pass takes: begun with the first, and its figures set by the second. */
typedef struct slm_stopwatch {
    uint64_t wall_ns, cpu_ns;
} slm_stopwatch;
slm_stopwatch slm_stopwatch_start(void);
void slm_stopwatch_stop(slm_stopwatch *watch);
/* A job's part of a pass over `of` positions: n of them, the first of which is number `begin`. */
void slm_usage_share(slm_session *s, slm_job *job, uint32_t begin, uint32_t n, uint32_t of, bool decode, const slm_stopwatch *watch);

/* ---- request.c: requests to jobs */
/* Makes the job of a request: tokenized, checked, in no list. */
slm_status slm_job_from_request(slm_session *s, const slm_request *request, slm_job **out, slm_error *err);
/* The request's prompt becomes the job's tokens; `answer` positions of the context are left for what follows.  end, branch_end and
 * prompt_end are its length then, first_out its last token.  *prompt has the rest, for slm_prompt_free. */
slm_status slm_job_read_prompt(slm_session *s, const slm_request *request, slm_job *job, uint32_t answer, slm_prompt *prompt,
                               slm_error *err);
/* The request's prompt, cut to max_tokens where the request allows it, else LIMIT. max_tokens 0: whatever its length. */
slm_status slm_job_prompt(slm_session *s, const slm_request *request, uint32_t max_tokens, slm_prompt *out, slm_error *err);
/* Blocks that a job needs at its worst when the first `reused` positions are shared. */
uint32_t slm_job_blocks(const slm_job *job, uint32_t reused);
slm_status slm_job_check_budget(const slm_session *s, const slm_job *job, slm_error *err);

/* ---- admit.c: the queue and shared prefixes */
/* Queues a job: behind one that begins like it, else at the end. */
void slm_admit_enqueue(slm_session *s, slm_job *job);
/* Lets queued jobs run while the limits last. */
void slm_admit_jobs(slm_session *s);
/* A leader that is past a prefix turns it into a cache entry. */
void slm_admit_keep(slm_session *s, slm_job *job);

/* ---- step.c: the batch */
/* Positions that the next step may have. */
uint32_t slm_step_limit(const slm_session *s);
/* n more positions of this step are the job's. */
void slm_step_count(const slm_session *s, slm_job *job, uint32_t n);
uint32_t slm_step_left(const slm_session *s);
/* Adds tokens [n] of a job at the end of seq's computed positions; want_from: first position whose hidden row is wanted. */
void slm_step_add(slm_session *s, slm_job *job, slm_seq *seq, const int32_t *tokens, uint32_t n, uint32_t want_from, uint32_t stage);
/* Keeps a copy of a mask for the step, in the want; false when memory is out. */
bool slm_step_mask(slm_session *s, slm_want *want, const uint64_t *mask);
/* How many of a span's positions are of the request's prompt. */
uint32_t slm_span_prompt(const slm_span *span);

#endif
