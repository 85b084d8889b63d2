/*
 * The worker threads of the process: the only file that includes pthread.h is threads.c.
 *
 * A parallel region runs one function on n threads (the caller is thread 0).  Inside it, slm_take hands out chunks of work and
 * slm_barrier separates stages; or, where stages are short and many, slm_stage_take and slm_stage_end.  Workers spin for some
 * microseconds after their work, then sleep; they block all signals but SIGBUS and never touch PostgreSQL.  They are created lazily and
 * gone after slm_threads_release or fork.
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

/*
 * Regions of many short stages (a forward pass has some 200): a stage ends when all of its items are done, not when all threads
 * have arrived.  A thread that the system does not run holds nobody up unless it is inside an item; when it comes back it finds
 * the stages that it missed complete and passes through them without work.  Threads may join late or not at all.
 *
 * So every thread runs the same sequence of stages, keeps its own slm_stage (at first all zero but for its number), and what it does
 * outside of items must be harmless when it is late: it may read what others are changing, if it then uses it in items of this
 * stage only.
 */
typedef struct slm_stage {
    int thread;
    uint32_t id;   /* the stage that this thread is in */
    uint32_t held; /* items taken and not yet reported done */
} slm_stage;

void slm_parallel_stages(int n_threads, slm_region_fn fn, void *arg);

/* The next chunk of this stage's n items (the same n > 0 for all threads), at most `grain`; reports the previous chunk done. false: none
 * is left.  A thread gets the items from slm_stage_share(n, thread, n_threads) on in order, then what others have left of theirs. */
bool slm_stage_take(slm_team *team, slm_stage *stage, uint32_t n, uint32_t grain, uint32_t *begin, uint32_t *end);
/* The first item of a thread's own range. */
uint32_t slm_stage_share(uint32_t n, int thread, int n_threads);
/* Waits until all items of the stage are done, and enters the next one.  slm_stage_take must have returned false before. */
void slm_stage_end(slm_team *team, slm_stage *stage);
/* Has this stage ended already? */
bool slm_stage_passed(slm_team *team, const slm_stage *stage);
/* Ends this and all later stages at once for all threads: nobody gets an item any more, nobody waits. */
void slm_stage_abort(slm_team *team);

/* Closes a descriptor on a thread of its own that ends by itself: the last close of a removed file frees its pages, 50 ms for
 * each GB, and a cancel must not wait for that.  Closes at once when no thread can be made. */
void slm_close_later(int fd);

#endif
