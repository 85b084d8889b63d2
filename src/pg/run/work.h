/*
 * A work: one call of an slm_* function with its argument values, as requests to the engine.
 *
 * Every function that runs a model is written as a kind: `begin` reads the arguments and submits requests, `finish` makes the result
 * Datum from the answers.  A scalar call is a work that is waited for; the batch node keeps many under way.  Requests of all works of
 * a session run together in its continuous batch.
 *
 *   begin ──submit──► engine session (slm_step advances all) ──► results ──► finish
 *              ▲                                                    │
 *              └──────────── go_on, where begin asked for it ◄──────┘
 *
 * A work whose requests depend on answers, or are too many to be under way at once, goes on: each time all its requests have been answered
 * it takes the answers and submits the next.  What it submits depends on its arguments alone, so its result is the same in any company.
 *
 * Ownership: a work lives in a memory context of its own; resetting or deleting that context at any moment, in an error or
 * after a cancelled query, aborts the work's requests.  No other clean-up exists or is needed.
 */
#ifndef SLM_PG_WORK_H
#define SLM_PG_WORK_H

#include "postgres.h"

#include "fmgr.h"

#include "engine/slm.h"
#include "pg/base/row_count.h"
#include "pg/models/catalog.h"
#include "pg/run/accounts.h"
#include "pg/run/backend.h"

typedef struct SlmWork SlmWork;

/* How a function that reads with a model answers. */
typedef enum SlmAnswering {
    SLM_ANSWERS_ROW,    /* a row's value: the batch node can compute many together */
    SLM_ANSWERS_SET,    /* a set, which nobody batches */
    SLM_ANSWERS_NO_MODEL /* without a forward pass, or once for a whole query */
} SlmAnswering;

typedef struct SlmWorkKind {
    const char *symbol; /* the C function: pg_proc.prosrc; NULL for one in SQL */
    const char *name;   /* of a function in SQL */
    SlmTask task;       /* whose default model it runs when the call names none */
    SlmAnswering answers;
    /* ---- how it is called */
    bool details; /* it returns a row whose last column takes the error of the input */
    bool may_need_no_model; /* calls may run without one: that a default is set is not asked for before */
    bool decides; /* it weighs statements (functions/asking.h): what is computed of the text serves all such calls of a row */
    int n_inputs; /* arguments, the texts that the row brings; 0 = 1 */
    int first_input; /* where they begin */
    /* ---- what it does */
    /* Reads and checks arguments (ereport on bad ones), calls slm_pg_work_submit or slm_pg_work_decide. Runs in the work's context. */
    void (*begin)(SlmWork *work, FunctionCallInfo fcinfo);
    /* All requests have succeeded. Makes the result in CurrentMemoryContext. */
    Datum (*finish)(SlmWork *work, bool *isnull);
} SlmWorkKind;

/* Once from _PG_init: every kind there is, [n]. */
void slm_pg_work_init(const SlmWorkKind *const *all, size_t n);
/* The kind of a function, by OID; NULL when it is not one of ours that takes a model. Cached. */
const SlmWorkKind *slm_pg_work_kind(Oid function);

/* Starts a work in a new child of CurrentMemoryContext. Arguments are read before it returns. */
SlmWork *slm_pg_work_begin(const SlmWorkKind *kind, FunctionCallInfo fcinfo);
/* A work of no call, for what is read beside one, in a new child of CurrentMemoryContext: its requests are made for the function of a kind,
 * NULL: for the one that runs. */
SlmWork *slm_pg_work_new(const SlmWorkKind *kind);
/* For begin: the model that the call names, or its task's default. */
SlmOpenModel *slm_pg_work_model(const SlmWork *work, const text *name);
/* For begin: queues a request; its answer is slm_pg_work_result(work, n) in order of submission. */
SlmRun *slm_pg_work_submit(SlmWork *work, SlmOpenModel *entry, const slm_request *request);
/* The same, or NULL where the row's text is too long. */
SlmRun *slm_pg_work_submit_if_fits(SlmWork *work, SlmOpenModel *entry, const slm_request *request);
/* For begin: when all requests so far have succeeded, go_on is called, in the work's context: it takes the answers and submits more
 * requests, or returns false and is not called again. Several are called in the order in which they were given. */
typedef bool (*SlmGoOn)(SlmWork *work, void *arg);
void slm_pg_work_go_on(SlmWork *work, SlmGoOn go_on, void *arg);
/* For go_on: the answer has been taken, its memory is given back. */
void slm_pg_work_drop(SlmWork *work, SlmRun *run);
/* The same for all of them: the requests that follow are counted from 0. */
void slm_pg_work_drop_all(SlmWork *work);
/* For go_on: is a request under way that another go_on has submitted? */
bool slm_pg_work_waits(const SlmWork *work);
/* For begin: the result needs no model. The Datum is copied by the caller of finish as any other. */
void slm_pg_work_decide(SlmWork *work, Datum value, bool isnull);
/* Was it decided? Then there is no result of a request. */
bool slm_pg_work_decided(const SlmWork *work);
/* For begin: a NULL text is decided to be NULL; so is one that has nothing to work on, but as an error of the input where the caller wants
 * to hear of those.  false: there is a text. */
bool slm_pg_decide_blank(SlmWork *work, FunctionCallInfo fcinfo, int arg);
/* For finish of details: the row. */
Datum slm_pg_work_row(const SlmWork *work, const Datum *values, const bool *nulls);
MemoryContext slm_pg_work_context(const SlmWork *work);
void slm_pg_work_set_state(SlmWork *work, void *state);
void *slm_pg_work_state(const SlmWork *work);
const slm_result *slm_pg_work_result(const SlmWork *work, int n);

/* Lets the work go on where it can; true when no request is under way any more. Raises errors of go_on. */
bool slm_pg_work_done(SlmWork *work);
/* Done, and a request failed: finish will raise its error. */
bool slm_pg_work_failed(const SlmWork *work);
/* Advances the work until it is done, and raises the error of a request that failed. */
void slm_pg_work_wait(SlmWork *work);
/* The result, waited for where need be; raises the error of a failed work. */
Datum slm_pg_work_finish(SlmWork *work, bool *isnull);
/* The account of its requests, so far as it has made some; NULL: none. */
SlmAccount *slm_pg_work_account(const SlmWork *work);
/* Adds what its requests took. */
void slm_pg_work_count(const SlmWork *work, slm_usage *usage);
/* Deletes the work's context. */
void slm_pg_work_free(SlmWork *work);

/* What it says of its row; good until the work is freed. The caller counts it once for each row that comes to its result (row_count.h). */
const SlmRowNote *slm_pg_work_note(const SlmWork *work);
/* For go_on: how far the text went in a cascade; the name must live as long as the work. */
void slm_pg_work_went_up(SlmWork *work, const SlmCascadeNote *went);
/* For begin: the text is longer than the model reads. */
void slm_pg_work_longer(SlmWork *work);

/* A whole call: begin, wait, finish, count. The body of every scalar function. */
Datum slm_pg_work_call(const SlmWorkKind *kind, FunctionCallInfo fcinfo);
/* A call of a kind that answers with a set: put writes the rows of what finish gave, unless that is NULL. */
Datum slm_pg_work_set(const SlmWorkKind *kind, FunctionCallInfo fcinfo,
                      void (*put)(SlmWork *work, const void *answer, ReturnSetInfo *result));

#endif
