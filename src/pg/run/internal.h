/*
 * internal.h: what the files of this room know of each other's objects, and no other room.
 */
#ifndef SLM_PG_RUN_INTERNAL_H
#define SLM_PG_RUN_INTERNAL_H

#include "postgres.h"

#include <sys/types.h>

#include "datatype/timestamp.h"
#include "lib/ilist.h"

#include "engine/slm.h"
#include "pg/models/catalog.h"
#include "pg/run/accounts.h"
#include "pg/run/backend.h"
#include "pg/run/opened.h"

struct SlmRun {
    dlist_node node;         /* of its session's runs, or of those in the engine process */
    SlmOpenModel *opened;    /* the one that the caller named, maybe with an adapter, pinned; NULL once the run has ended */
    struct SlmLocal *local;  /* its session in this backend; NULL: it is in the engine process */
    struct SlmSent *sent;    /* shared.c: then what was sent */
    slm_kv_type kv_type;     /* of the session that it is for */
    uint64 id;               /* 0: released, who computed it knows it no more */
    bool stream;
    bool done;               /* the result is there */
    slm_result result;       /* what it points to is in `data` */
    void *data;              /* in the run's context */
    const void *node_of;     /* the batch node's statement that it was made for, or NULL */
    SlmAccount *account;
    SubTransactionId subid;
    MemoryContextCallback callback;
};

struct SlmOpenModel {
    dlist_node node;
    char key[SLM_WHOLE_KEY_SIZE];
    char name[SLM_NAME_MAX + 1]; /* when it was opened */
    slm_model *model;
    struct SlmOpenModel *base; /* of a model with an adapter: the model, whose session runs its requests; else NULL */
    slm_adapter *adapter;      /* then */
    int n_pins;                /* of slm_pg_pin() and of runs, and those of the models with it as base */
    struct SlmLocal *locals[SLM_KV_TYPES]; /* local.c: its sessions in this backend; NULL until the first request */
    TimestampTz last_use;
    dev_t device;              /* of the image's file when it was mapped: another one may be put in its place, to repair it */
    ino_t inode;
    TimestampTz looked;        /* start of the statement that compared them last */
};

/* ---- opened.c */
void slm_pg_count_pin(SlmOpenModel *opened, int n);
/* The i-th model without an adapter, NULL after the last. */
SlmOpenModel *slm_pg_nth_opened(int i);

/* ---- runs.c */
/* Hands a result to its run, which takes a copy.  Raises no error. */
void slm_pg_run_answered(SlmRun *run, const slm_result *result);
/* It is nowhere any more. */
void slm_pg_run_leave(SlmRun *run);
/* Runs of this backend, wherever they are. */
int slm_pg_n_runs(void);

/* ---- local.c */
/* Submits a request to this backend's session; false where the row's text is too long and if_it_fits. */
bool slm_pg_local_start(SlmRun *run, SlmOpenModel *opened, const slm_request *request, bool if_it_fits);
/* What slm_pg_local_start would say of it, without starting anything: where it is to run elsewhere. */
bool slm_pg_local_check(SlmOpenModel *opened, const slm_request *request, bool if_it_fits);
bool slm_pg_local_piece(const SlmRun *run, const char **text, size_t *length);
void slm_pg_local_step(struct SlmLocal *local);
/* Steps every session with a request under way; false: there is none. */
bool slm_pg_local_step_all(void);
void slm_pg_local_release(SlmRun *run);
/* The transaction has ended; failed: so have all runs. */
void slm_pg_local_end_all(bool failed);
void slm_pg_local_end_sub(SubTransactionId subid);
/* What its sessions have done in this backend. */
typedef struct SlmLocalFigures {
    bool any;                /* there is one */
    size_t kv_bytes, scratch_bytes, prefixes;
    uint64 n_requests;       /* submitted so far */
    int n_running;           /* without a result */
} SlmLocalFigures;
void slm_pg_local_figures(const SlmOpenModel *opened, SlmLocalFigures *out);
/* The model is being closed: so are its sessions. */
void slm_pg_local_close(SlmOpenModel *opened);

/* ---- fits.c */
/* Is the request so short that no tokenizer could make it too long for the model, or for this session's budget of keys and values?  Then
 * whoever computes it tells what else may be wrong with it. */
bool slm_pg_surely_fits(const SlmOpenModel *opened, const slm_request *request);

/* ---- shared.c */
/* Are requests to go to the engine process now?  Connects. */
bool slm_pg_shared_wanted(void);
/* Sends it; false: it is too large for a frame. */
bool slm_pg_shared_start(SlmRun *run, SlmOpenModel *opened, const slm_request *request);
bool slm_pg_shared_piece(const SlmRun *run, const char **text, size_t *length);
/* Waits until something has come from the engine process, or looks only; answers interrupts. */
void slm_pg_shared_step(bool wait);
bool slm_pg_shared_busy(void);
void slm_pg_shared_release(SlmRun *run);
void slm_pg_shared_end_all(void);
void slm_pg_shared_end_sub(SubTransactionId subid);

#endif
