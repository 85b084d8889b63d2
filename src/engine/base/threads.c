/*
 * The worker threads of the process.  This is the only file that includes pthread.h.
 *
 *   slm_parallel(n, fn)        caller = thread 0            worker i (1..n-1), each with its own ticket
 *     post a ticket to n-1 workers ───────────────────────► wakes, runs fn(i)
 *     fn(0) ... slm_barrier ◄──── one word per team ──────► slm_barrier ... fn ends
 *     last barrier: all are done                            waits for the next ticket: spins SPIN_NS, then sleeps on a futex
 *
 * Waiting is always "spin a while with pause, then sleep": a decode step has some 150 barriers in two milliseconds and cannot
 * afford a system call at each, while an oversubscribed machine must not burn its cores.  A waker pays for a system call only when the
 * word's sleeper count says that somebody sleeps; the count and the word are accessed with sequential consistency on both sides, so
 * either the waker sees the sleeper or the sleeper's futex call sees the new word.
 *
 * Invariants: one region runs at a time in a process (a nested or concurrent call runs on its caller alone); workers are created by
 * the first call that needs them, with all signals blocked, and never before a fork of the server: a child that finds a pool of another
 * pid forgets it, for its threads do not exist there.  Results never depend on how many threads there are.
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
#define SPIN_NS 40000    /* longer than any wait between two equally fast threads, shorter than a time slice */
#define SPINS_A_LOOK 16  /* pauses between two looks at the clock */

typedef _Atomic uint32_t word;

/* A word that is waited for, alone on its cache line. */
typedef struct signal_line {
    _Alignas(64) word value;
    word sleepers;
} signal_line;

struct slm_team {
    signal_line generation; /* counts completed barriers */
    _Alignas(64) word arrived;
    _Alignas(64) _Atomic uint64_t next; /* slm_take: first item not handed out */
    int n;
};

typedef struct worker {
    signal_line ticket; /* changed by the caller: there is work, or an end */
    pthread_t thread;
    int index;
    bool quit;
} worker;

static struct {
    atomic_int busy; /* a region runs, or the pool changes */
    pid_t pid;
    int n_workers;
    worker *workers[MAX_THREADS];
    slm_region_fn fn;
    void *arg;
    slm_team team;
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

static void line_change(signal_line *line)
{
    atomic_fetch_add(&line->value, 1);
    if (atomic_load(&line->sleepers) != 0)
        syscall(SYS_futex, &line->value, FUTEX_WAKE_PRIVATE, MAX_THREADS, NULL, NULL, 0);
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
        line_change(&team->generation);
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

/* ---- the pool ---- */

static void *worker_main(void *arg)
{
    worker *w = arg;
    for (uint32_t seen = 0;; seen++) {
        line_wait(&w->ticket, seen);
        if (w->quit)
            return NULL;
        pool.fn(pool.arg, &pool.team, w->index, pool.team.n);
        slm_barrier(&pool.team);
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
    memset(&team, 0, sizeof team);
    team.n = 1;
    fn(arg, &team, 0, 1);
}

void slm_parallel(int n_threads, slm_region_fn fn, void *arg)
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
    atomic_store_explicit(&pool.team.next, 0, memory_order_relaxed);
    for (int i = 0; i < n_threads - 1; i++)
        line_change(&pool.workers[i]->ticket);
    fn(arg, &pool.team, 0, n_threads);
    slm_barrier(&pool.team);
    atomic_store(&pool.busy, 0);
}

void slm_threads_release(void)
{
    int expected = 0;
    forget_after_fork();
    if (!atomic_compare_exchange_strong(&pool.busy, &expected, 1))
        return;
    for (int i = 0; i < pool.n_workers; i++) {
        worker *w = pool.workers[i];
        w->quit = true;
        line_change(&w->ticket);
        pthread_join(w->thread, NULL);
        free(w);
        pool.workers[i] = NULL;
    }
    pool.n_workers = 0;
    atomic_store(&pool.busy, 0);
}
