/*
 * The worker threads of the process.  This is the only file that includes pthread.h.
 *
 *   slm_parallel(n, fn)            caller = thread 0        worker 1..n-1, each with one word: IDLE, POSTED, RUNNING, QUIT
 *     IDLE -> POSTED, n-1 times ───────────────────────────► POSTED -> RUNNING, runs fn
 *     fn(0)                        stages, barriers          fn(i)
 *     waits for IDLE of all  ◄────────────────────────────── RUNNING -> IDLE, spins SPIN_NS, then sleeps on a futex
 *
 * Waiting is always "spin a while with pause, then sleep": a decode step has some 150 stages in two milliseconds and cannot
 * afford a system call at each, while an oversubscribed machine must not burn its cores.  A waker pays for a system call only
 * when the word's sleeper count says that somebody sleeps; the count and the word are accessed with sequential consistency on
 * both sides, so either the waker sees the sleeper or the sleeper's futex call sees the new word.
 *
 * slm_parallel_stages: a stage's items are cut into one range for each thread, which takes its own from the front (memory in order,
 * for the prefetchers) and then those of others from the back.  The stage and what is gone of a range are one 64-bit word, changed by
 * compare-and-swap only, so that a late thread can neither take nor disturb items of a stage that it is not in; a word that still
 * names an earlier stage stands for a range that nobody has touched.  Whoever reports the last item done opens the next stage.
 * At the end the caller takes back (POSTED -> IDLE) the call to workers that have not yet begun.
 *
 * Invariants: one region runs at a time in a process (a nested or concurrent call runs on its caller alone); workers are
 * created by the first call that needs them, with all signals but SIGBUS blocked, and never before a fork of the server: a child that
 * finds a pool of another pid forgets it, for its threads do not exist there.  Results never depend on how many threads there
 * are.
 */
#include "engine/base/threads.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MAX_THREADS 256
#define STACK_BYTES (512 * 1024)
#define SPIN_NS 40000    /* longer than most waits between two equally fast threads, shorter than a time slice */
#define SPINS_A_LOOK 16  /* pauses between two looks at the clock */

typedef _Atomic uint32_t word;

/* A word that is waited for, alone on its cache line. */
typedef struct signal_line {
    _Alignas(64) word value;
    word sleepers;
} signal_line;

typedef struct range_line {
    _Alignas(64) _Atomic uint64_t gone;
} range_line;

struct slm_team {
    signal_line generation; /* barriers completed; or the stage in work, ABORTED at the end */
    _Alignas(64) word arrived; /* threads at the barrier; or items done of this stage */
    _Alignas(64) _Atomic uint64_t next; /* slm_take: first item not handed out */
    range_line *ranges; /* [n] of the stage in work */
    int n;
};

#define ABORTED UINT32_MAX

/* A word of a range: stage << 44 | portions gone at its back << 22 | portions gone at its front.  A portion is one item, or as many as
 * make a stage's portions fit. */
#define STAGE_SHIFT 44
#define BACK_SHIFT 22
#define PORTIONS_MAX ((1u << BACK_SHIFT) - 1)
#define STAGE_ABORTED ((1u << 20) - 1)

enum { IDLE, POSTED, RUNNING, QUIT };

typedef struct worker {
    signal_line state;
    pthread_t thread;
    int index;
} worker;

static struct {
    atomic_int busy; /* a region runs, or the pool changes */
    pid_t pid;
    int n_workers;
    worker *workers[MAX_THREADS];
    slm_region_fn fn;
    void *arg;
    slm_team team;
    range_line ranges[MAX_THREADS];
} pool;

/* ---- waiting ---- */

static inline void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000000000u + (uint64_t) t.tv_nsec;
}

/* Returns when the word is no longer `old`. */
static void line_wait(signal_line *line, uint32_t old)
{
    for (int i = 0; i < SPINS_A_LOOK; i++) {
        if (atomic_load_explicit(&line->value, memory_order_acquire) != old)
            return;
        pause_cpu();
    }
    uint64_t end = now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < SPINS_A_LOOK; i++) {
            if (atomic_load_explicit(&line->value, memory_order_acquire) != old)
                return;
            pause_cpu();
        }
    } while (now_ns() < end);
    atomic_fetch_add(&line->sleepers, 1);
    while (atomic_load(&line->value) == old)
        syscall(SYS_futex, &line->value, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
    atomic_fetch_sub(&line->sleepers, 1);
}

static void line_wake(signal_line *line)
{
    if (atomic_load(&line->sleepers) != 0)
        syscall(SYS_futex, &line->value, FUTEX_WAKE_PRIVATE, MAX_THREADS, NULL, NULL, 0);
}

static void line_set(signal_line *line, uint32_t value)
{
    atomic_store(&line->value, value);
    line_wake(line);
}

/* from -> to if it is still `from`. */
static bool line_swap(signal_line *line, uint32_t from, uint32_t to)
{
    if (!atomic_compare_exchange_strong(&line->value, &from, to))
        return false;
    line_wake(line);
    return true;
}

/* ---- inside a region ---- */

void slm_barrier(slm_team *team)
{
    if (team->n == 1) {
        atomic_store_explicit(&team->next, 0, memory_order_relaxed);
        return;
    }
    uint32_t generation = atomic_load_explicit(&team->generation.value, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) + 1 == (uint32_t) team->n) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&team->next, 0, memory_order_relaxed);
        line_set(&team->generation, generation + 1);
    } else {
        line_wait(&team->generation, generation);
    }
}

bool slm_take(slm_team *team, uint32_t n, uint32_t grain, uint32_t *begin, uint32_t *end)
{
    uint64_t first;
    if (grain == 0)
        grain = 1;
    if (team->n == 1) {
        first = atomic_load_explicit(&team->next, memory_order_relaxed);
        atomic_store_explicit(&team->next, first + grain, memory_order_relaxed);
    } else {
        first = atomic_fetch_add_explicit(&team->next, grain, memory_order_relaxed);
    }
    if (first >= n)
        return false;
    *begin = (uint32_t) first;
    *end = n - first < grain ? n : (uint32_t) first + grain;
    return true;
}

/* ---- stages ---- */

bool slm_stage_passed(slm_team *team, const slm_stage *stage)
{
    return atomic_load_explicit(&team->generation.value, memory_order_acquire) != stage->id;
}

/* Reports held items; the last of n opens the next stage. */
static void report_done(slm_team *team, slm_stage *stage, uint32_t n)
{
    uint32_t done = stage->held;
    stage->held = 0;
    if (atomic_fetch_add_explicit(&team->arrived, done, memory_order_acq_rel) + done < n)
        return;
    atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
    line_swap(&team->generation, stage->id, stage->id + 1);
}

/* Up to `most` portions of a range of `size`, from its front or its back; how many, the first of them in *first. */
static uint32_t range_take(slm_team *team, range_line *range, uint32_t stage, uint32_t size, uint32_t most, bool back, uint32_t *first)
{
    uint64_t gone = atomic_load_explicit(&range->gone, memory_order_acquire);
    for (;;) {
        uint32_t at = (uint32_t) (gone >> STAGE_SHIFT);
        uint32_t front = at == stage ? (uint32_t) gone & PORTIONS_MAX : 0;
        uint32_t rear = at == stage ? (uint32_t) (gone >> BACK_SHIFT) & PORTIONS_MAX : 0;
        uint32_t left = size - front - rear, count = left < most ? left : most;
        if (at > stage || count == 0)
            return 0;
        *first = back ? front + left - count : front;
        uint64_t at_back = rear + (back ? count : 0), at_front = front + (back ? 0 : count);
        uint64_t next = (uint64_t) stage << STAGE_SHIFT | at_back << BACK_SHIFT | at_front;
        if (team->n == 1)
            atomic_store_explicit(&range->gone, next, memory_order_relaxed);
        else if (!atomic_compare_exchange_weak(&range->gone, &gone, next))
            continue;
        return count;
    }
}

uint32_t slm_stage_share(uint32_t n, int thread, int n_threads)
{
    return (uint32_t) ((uint64_t) n * (uint32_t) thread / (uint32_t) n_threads);
}

bool slm_stage_take(slm_team *team, slm_stage *stage, uint32_t n, uint32_t grain, uint32_t *begin, uint32_t *end)
{
    uint32_t portion = 1 + n / PORTIONS_MAX, portions = (n + portion - 1) / portion, most = grain <= portion ? 1 : grain / portion;
    if (stage->held != 0)
        report_done(team, stage, n);
    for (int i = 0; i < team->n; i++) {
        int whose = stage->thread + i < team->n ? stage->thread + i : stage->thread + i - team->n;
        uint32_t start = slm_stage_share(portions, whose, team->n), size = slm_stage_share(portions, whose + 1, team->n) - start, first;
        uint32_t count = range_take(team, &team->ranges[whose], stage->id, size, most, i > 0, &first);
        if (count == 0)
            continue;
        *begin = (start + first) * portion;
        *end = n - *begin < count * portion ? n : *begin + count * portion;
        stage->held = *end - *begin;
        return true;
    }
    return false;
}

void slm_stage_end(slm_team *team, slm_stage *stage)
{
    line_wait(&team->generation, stage->id);
    stage->id++;
}

void slm_stage_abort(slm_team *team)
{
    for (int i = 0; i < team->n; i++)
        atomic_store(&team->ranges[i].gone, (uint64_t) STAGE_ABORTED << STAGE_SHIFT);
    line_set(&team->generation, ABORTED);
}

/* ---- the pool ---- */

static void *worker_main(void *arg)
{
    worker *w = arg;
    for (;;) {
        uint32_t posted = POSTED;
        line_wait(&w->state, IDLE);
        if (atomic_load(&w->state.value) == QUIT)
            return NULL;
        if (!atomic_compare_exchange_strong(&w->state.value, &posted, RUNNING))
            continue; /* taken back */
        pool.fn(pool.arg, &pool.team, w->index, pool.team.n);
        line_set(&w->state, IDLE);
    }
}

/* Adds one worker; false when the system has no room for it. */
static bool worker_add(void)
{
    worker *w = aligned_alloc(64, (sizeof *w + 63) / 64 * 64);
    if (w == NULL)
        return false;
    memset(w, 0, sizeof *w);
    w->index = pool.n_workers + 1;

    pthread_attr_t attr;
    if (pthread_attr_init(&attr) != 0) {
        free(w);
        return false;
    }
    sigset_t all, before;
    sigfillset(&all);
    sigdelset(&all, SIGBUS); /* of a mapping, on the thread that touches it: base/map.h */
    bool ok = pthread_attr_setstacksize(&attr, STACK_BYTES) == 0 && pthread_sigmask(SIG_SETMASK, &all, &before) == 0;
    if (ok) {
        ok = pthread_create(&w->thread, &attr, worker_main, w) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    pthread_attr_destroy(&attr);
    if (!ok) {
        free(w);
        return false;
    }
    pool.workers[pool.n_workers++] = w;
    return true;
}

/* After a fork the workers exist in the parent only; their memory is left where it is. */
static void forget_after_fork(void)
{
    pid_t pid = getpid();
    if (pool.pid == pid)
        return;
    memset(&pool, 0, sizeof pool);
    pool.pid = pid;
}

static void run_alone(slm_region_fn fn, void *arg)
{
    slm_team team;
    range_line range = {0};
    memset(&team, 0, sizeof team);
    team.ranges = &range;
    team.n = 1;
    fn(arg, &team, 0, 1);
}

/* Returns when worker i is out of the region; take_back: without it, if it has not begun. */
static void worker_finish(worker *w, bool take_back)
{
    if (take_back && line_swap(&w->state, POSTED, IDLE))
        return;
    for (uint32_t state; (state = atomic_load(&w->state.value)) != IDLE;)
        line_wait(&w->state, state);
}

static void run_region(int n_threads, slm_region_fn fn, void *arg, bool take_back)
{
    int expected = 0;
    if (n_threads > MAX_THREADS)
        n_threads = MAX_THREADS;
    if (n_threads > 1)
        forget_after_fork();
    if (n_threads <= 1 || !atomic_compare_exchange_strong(&pool.busy, &expected, 1)) {
        run_alone(fn, arg);
        return;
    }
    while (pool.n_workers < n_threads - 1 && worker_add())
        continue;
    if (n_threads > pool.n_workers + 1)
        n_threads = pool.n_workers + 1;
    pool.fn = fn;
    pool.arg = arg;
    pool.team.n = n_threads;
    pool.team.ranges = pool.ranges;
    for (int i = 0; i < n_threads; i++)
        atomic_store_explicit(&pool.ranges[i].gone, 0, memory_order_relaxed);
    atomic_store(&pool.team.next, 0);
    atomic_store(&pool.team.arrived, 0);
    atomic_store(&pool.team.generation.value, 0);
    for (int i = 0; i < n_threads - 1; i++)
        line_set(&pool.workers[i]->state, POSTED);
    fn(arg, &pool.team, 0, n_threads);
    for (int i = 0; i < n_threads - 1; i++)
        worker_finish(pool.workers[i], take_back);
    atomic_store(&pool.busy, 0);
}

void slm_parallel(int n_threads, slm_region_fn fn, void *arg)
{
    run_region(n_threads, fn, arg, false);
}

void slm_parallel_stages(int n_threads, slm_region_fn fn, void *arg)
{
    run_region(n_threads, fn, arg, true);
}

void slm_threads_release(void)
{
    int expected = 0;
    forget_after_fork();
    if (!atomic_compare_exchange_strong(&pool.busy, &expected, 1))
        return;
    for (int i = 0; i < pool.n_workers; i++) {
        worker *w = pool.workers[i];
        line_set(&w->state, QUIT);
        pthread_join(w->thread, NULL);
        free(w);
        pool.workers[i] = NULL;
    }
    pool.n_workers = 0;
    atomic_store(&pool.busy, 0);
}

/* ---- closing what takes long ---- */

static void *close_main(void *fd)
{
    close((int) (intptr_t) fd);
    return NULL;
}

void slm_close_later(int fd)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, before;
    bool ok = false;
    sigfillset(&all);
    if (pthread_attr_init(&attr) == 0) {
        if (pthread_attr_setstacksize(&attr, STACK_BYTES) == 0 && pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED) == 0 &&
            pthread_sigmask(SIG_SETMASK, &all, &before) == 0) {
            ok = pthread_create(&thread, &attr, close_main, (void *) (intptr_t) fd) == 0;
            pthread_sigmask(SIG_SETMASK, &before, NULL);
        }
        pthread_attr_destroy(&attr);
    }
    if (!ok)
        close(fd);
}
