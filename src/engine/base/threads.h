/*
 * The worker threads of the process: the only file that includes pthread.h is threads.c.
 *
 * A parallel region runs one function on n threads (the caller is thread 0).  Inside it, slm_barrier separates stages, and
 * slm_take hands out chunks of a stage's work.  Workers spin for some microseconds after their work, then sleep on a futex or
 * condition; they block all signals and never touch PostgreSQL.  They are created lazily and gone after slm_threads_release or fork.
 */
#ifndef SLM_BASE_THREADS_H
#define SLM_BASE_THREADS_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/status.h"

typedef struct slm_team slm_team; /* the threads of one running region */

typedef void (*slm_region_fn)(void *arg, slm_team *team, int thread, int n_threads);

/* Runs fn(arg, team, thread, n_threads) on up to n_threads threads (fewer when they cannot be created; one when another region
 * runs already: nested or concurrent calls) and returns when all are done. */
void slm_parallel(int n_threads, slm_region_fn fn, void *arg);

/* Ends the workers; they are made again when needed. Also declared in slm.h. */
void slm_threads_release(void);

/* All threads of the team wait for each other; also resets the counter of slm_take. */
void slm_barrier(slm_team *team);

/* The next chunk [*begin, *end) of a stage of n items, handed out in pieces of `grain`; false when none is left.
 * Each stage between two barriers has one counter. */
bool slm_take(slm_team *team, uint32_t n, uint32_t grain, uint32_t *begin, uint32_t *end);

#endif
