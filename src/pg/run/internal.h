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
#include "pg/run/backend.h"
#include "pg/run/opened.h"

struct SlmOpenModel {
    dlist_node node;
    char key[2 * SLM_KEY_SIZE];
    char name[SLM_NAME_MAX + 1]; /* when it was opened */
    slm_model *model;
    struct SlmOpenModel *base; /* of a model with an adapter: the model, whose session runs its requests; else NULL */
    slm_adapter *adapter;      /* then */
    int n_pins;                /* of slm_pg_pin() and of runs, and those of the models with it as base */
    struct SlmLocal *local;    /* local.c: its session in this backend; NULL until the first request */
    TimestampTz last_use;
    dev_t device;              /* of the image's file when it was mapped: another one may be put in its place, to repair it */
    ino_t inode;
    TimestampTz looked;        /* start of the statement that compared them last */
};

/* ---- opened.c */
void slm_pg_count_pin(SlmOpenModel *opened, int n);
/* The i-th model without an adapter, NULL after the last. */
SlmOpenModel *slm_pg_nth_opened(int i);

/* ---- local.c */
/* What its session has done in this backend. */
typedef struct SlmLocalFigures {
    slm_session_stats stats; /* zeroed while it has none */
    uint64 n_requests;       /* submitted so far */
    int n_running;           /* without a result */
} SlmLocalFigures;
void slm_pg_local_figures(const SlmOpenModel *opened, SlmLocalFigures *out);
/* The model is being closed: so is its session. */
void slm_pg_local_close(SlmOpenModel *opened);

#endif
