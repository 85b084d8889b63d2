/*
 * internal.h: a model that is served: its image, its sessions, and what goes with them (images.c, models.c).
 */
#ifndef SLM_SERVER_INTERNAL_H
#define SLM_SERVER_INTERNAL_H

#include <sys/types.h>

#include "server/server.h"

typedef struct adapter {
    struct adapter *next;
    char name[SLM_STATE_NAME];
    slm_adapter *adapter;
    dev_t device;
    ino_t inode;
} adapter;

/* A constraint that somebody's request named; found again for the same role only. */
typedef struct kept {
    struct kept *next;
    uint64_t realm;
    slm_constraint *constraint;
    char words[];
} kept;

/* A session and what runs in it. */
typedef struct lane {
    slm_session *session; /* NULL: none yet */
    slm_limits limits;    /* as it has them */
    uint64_t last_use_ns;
    request_list running; /* submitted, without a result */
} lane;

struct served {
    served *next;
    char name[SLM_STATE_NAME];
    slm_model *model;
    const slm_model_info *info;
    dev_t device;
    ino_t inode;
    bool stale;            /* its file is another one now, or damaged: no new request finds it */
    lane main[SLM_KV_TYPES], alone; /* alone: one suspect at a time */
    request_list suspects; /* that wait */
    size_t n_here;         /* requests that point here */
    size_t by_class[SLM_CLASSES]; /* of main's running */
    adapter *adapters;
    kept *constraints;
    uint64_t last_use_ns, n_requests;
    double ns_per_position; /* of a step, as measured */
    double interactive_ns;  /* what an interactive request takes alone, as measured */
    uint64_t last_interactive_ns;
};

/* ---- images.c */
void slm_images_init(const char *directory);
/* The model of an image, opened when it is not. */
slm_status slm_images_find(const char *name, served **out, slm_error *err);
/* A reference. */
slm_status slm_images_adapter(served *m, const char *name, slm_adapter **out, slm_error *err);
/* words: "0:...", the kind and the text. Good until the next call: slm_submit takes a reference. */
slm_status slm_images_constraint(served *m, uint64_t realm, const char *words, slm_constraint **out, slm_error *err);
/* Closes those that are stale and unused. */
void slm_images_sweep(void);
/* Those whose files are not there any more are stale. */
void slm_images_idle(void);
served *slm_images_first(void);

#endif
