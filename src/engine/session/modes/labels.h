/*
 * What the two files of LABELS share: label sets and priors (labelset.c), and the stages that wait on a job's stack (labels.c).
 */
#ifndef SLM_SESSION_MODES_LABELS_H
#define SLM_SESSION_MODES_LABELS_H

#include "engine/decode/trie.h"
#include "engine/session/session.h"

/* A set of labels made ready: shared by all jobs of a session and realm with equal labels. */
struct slm_label_set {
    slm_label_set *next;
    char *key; /* [key_bytes] realm, flags and labels, compared byte by byte */
    size_t key_bytes;
    uint64_t hash;
    uint32_t refs;
    slm_trie *trie;
};

typedef enum slm_prior_state { SLM_PRIOR_PENDING, SLM_PRIOR_READY, SLM_PRIOR_FAILED } slm_prior_state;

/* Log probabilities of labels after a prompt without the row: computed once by a job of its own, kept for later requests. */
struct slm_prior {
    slm_prior *next, *prev; /* most recently used first */
    slm_prior *next_same;   /* of its bucket */
    slm_label_set *set;
    char *key; /* [key_bytes] the prompt's segments */
    size_t key_bytes;
    uint64_t hash;
    uint32_t refs;
    slm_prior_state state;
    slm_error error;
    slm_usage cost;    /* until a request's result has counted it */
    double *scores;    /* [n_labels] */
    double *stage_min; /* [n_stages] smallest score of a label below the stage */
};

/* A stage of the trie that waits to be computed for one job, with the sequence it continues. */
struct slm_label_item {
    uint32_t stage;
    uint32_t base; /* positions before the stage's path */
    bool own;      /* seq is this item's alone */
    slm_seq *seq;
    double score;  /* log probability of the way to the stage */
};

/* Finds or makes the request's label set. */
slm_status slm_labels_find_set(slm_session *s, slm_job *job, const slm_request *request, slm_error *err);
/* The prior of a request: an existing one, or a new one whose job is queued. */
slm_status slm_labels_find_prior(slm_session *s, slm_job *job, const slm_request *request, slm_error *err);

#endif
