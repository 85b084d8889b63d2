/*
 * backend.h: the models that this backend has opened, and requests under way in them (local.c).
 */
#ifndef SLM_PG_BACKEND_H
#define SLM_PG_BACKEND_H

#include "postgres.h"

#include <sys/types.h>

#include "datatype/timestamp.h"
#include "lib/ilist.h"

#include "engine/slm.h"
#include "pg/models/catalog.h"

typedef struct SlmEntry SlmEntry;

struct SlmEntry {
    dlist_node node;
    char key[2 * SLM_KEY_SIZE]; /* of the image; 'model+adapter' of both */
    char name[SLM_NAME_MAX + 1]; /* when it was opened */
    slm_model *model;
    slm_session *session; /* NULL until the first request */
    slm_limits limits;    /* as the session has them */
    dlist_head runs;      /* of SlmRun */
    int n_pins;           /* of slm_pg_pin(), and those of the entries with it as base */
    struct SlmEntry *base; /* of a model with an adapter: the model's entry, whose session runs its requests; else NULL */
    slm_adapter *adapter;  /* then */
    TimestampTz last_use;
    dev_t device;          /* of the image's file when it was mapped: another one may be put in its place, to repair it */
    ino_t inode;
    TimestampTz looked;    /* start of the statement that compared them last */
    int n_running;         /* runs without a result */
    uint64 n_requests;     /* submitted so far */
};

/* A request that has been submitted; freed with the memory context in which it was started. */
typedef struct SlmRun {
    dlist_node node;
    SlmEntry *entry;          /* NULL once finished */
    uint64 id;
    const slm_result *result; /* NULL while it runs; owned by the engine's session */
    const void *batch;        /* the batch node's statement that it was made for, or NULL */
    SubTransactionId subid;
    MemoryContextCallback callback;
} SlmRun;

SlmEntry *slm_pg_find_entry(const char *key);
SlmEntry *slm_pg_open_entry(const SlmModelRow *row);
/* Keeps the entry, and its base, open until CurrentMemoryContext is reset or deleted. */
void slm_pg_pin(SlmEntry *entry);
/* The entry of a model with an adapter: shares the model and its session. */
SlmEntry *slm_pg_adapted_entry(SlmEntry *base, const SlmModelRow *adapter);
const slm_model_info *slm_pg_info(const SlmEntry *entry);
/* Submits a request; raises its errors. */
SlmRun *slm_pg_start(SlmEntry *entry, const slm_request *request);
/* The same in two steps: a run can be started again when it is finished, which takes no more memory.  if_it_fits: false where the row's
 * text is too long, instead of an error. */
SlmRun *slm_pg_new_run(void);
bool slm_pg_start_run(SlmRun *run, SlmEntry *entry, const slm_request *request, bool if_it_fits);
/* Tokens of a request's prompt, which is not run. */
size_t slm_pg_prompt_tokens(SlmEntry *entry, const slm_request *request);
/* Runs until the request is finished and returns its result; raises its error. */
const slm_result *slm_pg_wait(SlmRun *run);
/* Advances all requests of the run's session by one pass. */
void slm_pg_advance(SlmRun *run);
void slm_pg_step_entry(SlmEntry *entry);
/* Advances every session that has a request under way. */
void slm_pg_step_all(void);
void slm_pg_finish(SlmRun *run);
/* Closes models whose image is used by no row any more. */
void slm_pg_close_unused(void);
/* Closes models and adapters whose image could not be read whole, or was replaced, so that they are opened, and checked, anew. */
void slm_pg_close_damaged(void);
void slm_pg_sessions_init(void);
/* The i-th opened model, NULL after the last. */
const SlmEntry *slm_pg_nth_entry(int i);
/* Gives back what the sessions hold and do not need, but about keep_bytes of each kind and session; returns the bytes. */
size_t slm_pg_trim_sessions(size_t keep_bytes);
/* Frees the sessions without requests, whose next call makes them anew; returns how many are left. */
int slm_pg_free_sessions(void);
/* Brings the sessions' limits down to what is set now. */
void slm_pg_lower_limits(void);

#endif
