/*
 * base/threads: every item is taken once, barriers separate stages, the pool survives fork, release and nesting, and workers
 * block all signals but SIGBUS, which is for the thread that touches a page that is missing.
 */
#include "engine/base/threads.h"
#include "slm_test.h"

#include <dirent.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ITEMS 1000
#define STAGES 200

typedef struct job {
    atomic_int taken[ITEMS];
    atomic_int sum, wrong, most_threads;
    uint32_t grain;
    int order[STAGES];
} job;

static int count_threads(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/task");
    if (d == NULL)
        return -1;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void take_all(void *arg, slm_team *team, int thread, int n_threads)
{
    job *j = arg;
    uint32_t b, e;
    (void) thread;
    atomic_store(&j->most_threads, n_threads);
    for (int stage = 0; stage < STAGES; stage++) {
        while (slm_take(team, ITEMS, j->grain, &b, &e))
            for (uint32_t i = b; i < e; i++)
                atomic_fetch_add(&j->taken[i], 1);
        slm_barrier(team);
        /* every item of this stage is done, none of the next has begun before the second barrier */
        for (int i = 0; i < ITEMS; i += 97)
            if (atomic_load(&j->taken[i]) != stage + 1)
                atomic_fetch_add(&j->wrong, 1);
        slm_barrier(team);
    }
}

static void nested(void *arg, slm_team *team, int thread, int n_threads)
{
    (void) team, (void) thread, (void) n_threads;
    slm_parallel(4, take_all, arg);
}

static int run(int n_threads, uint32_t grain)
{
    job *j = calloc(1, sizeof *j);
    if (j == NULL)
        return -1;
    j->grain = grain;
    slm_parallel(n_threads, take_all, j);
    int wrong = atomic_load(&j->wrong);
    for (int i = 0; i < ITEMS; i++)
        wrong += atomic_load(&j->taken[i]) != STAGES;
    free(j);
    return wrong;
}

static void test_stages(void)
{
    for (int n = 1; n <= 5; n++)
        for (uint32_t grain = 1; grain <= ITEMS + 3; grain = grain * 7 + 1)
            CHECK(run(n, grain) == 0, "threads %d grain %u", n, grain);
    CHECK(run(0, 3) == 0, "no thread asked");
    CHECK(run(-5, 0) == 0, "negative threads, grain 0");
}

static void test_workers(void)
{
    slm_threads_release();
    CHECK(count_threads() == 1, "%d threads", count_threads());
    CHECK(run(3, 5) == 0, "run");
    CHECK(count_threads() == 3, "%d threads after a region on 3", count_threads());
    CHECK(run(2, 5) == 0 && run(3, 5) == 0, "smaller, then larger team");
    CHECK(count_threads() == 3, "workers are kept");
    slm_threads_release();
    CHECK(count_threads() == 1, "%d threads after release", count_threads());
    slm_threads_release();
    CHECK(run(2, 5) == 0, "again after release");
}

/* ---- stages ---- */

typedef struct staged {
    atomic_int done[STAGES][ITEMS];
    atomic_int wrong, began;
    uint32_t grain, n;
    int abort_at; /* stage whose first item aborts, -1 = none */
    bool late;    /* other threads dawdle between items and stages */
} staged;

static void dawdle(const staged *j, int thread, int stage)
{
    struct timespec pause = {0, 200000};
    if (j->late && thread > 0 && (stage + thread) % 5 == 0)
        nanosleep(&pause, NULL);
}

static void take_stages(void *arg, slm_team *team, int thread, int n_threads)
{
    staged *j = arg;
    slm_stage mine = {.thread = thread};
    (void) n_threads;
    atomic_fetch_add(&j->began, 1);
    for (int stage = 0; stage < STAGES; stage++) {
        uint32_t b, e;
        dawdle(j, thread, stage);
        while (slm_stage_take(team, &mine, j->n, j->grain, &b, &e))
            for (uint32_t i = b; i < e; i++) {
                /* an item may rely on all items of the stage before */
                if (stage > 0 && atomic_load(&j->done[stage - 1][(i + ITEMS / 2) % j->n]) != 1)
                    atomic_fetch_add(&j->wrong, 1);
                atomic_fetch_add(&j->done[stage][i], 1);
                if (stage == j->abort_at && i == 0)
                    slm_stage_abort(team);
            }
        slm_stage_end(team, &mine);
        if (j->abort_at < 0 && !slm_stage_passed(team, &mine) && atomic_load(&j->done[stage][j->n - 1]) != 1)
            atomic_fetch_add(&j->wrong, 1);
    }
}

static void test_elastic(void)
{
    staged *j = calloc(1, sizeof *j);
    if (j == NULL)
        return;
    for (int n_threads = 1; n_threads <= 4; n_threads++)
        for (int variant = 0; variant < 6; variant++) {
            int wrong = 0;
            memset(j, 0, sizeof *j);
            j->n = variant % 2 == 0 ? ITEMS : 1 + (uint32_t) variant;
            j->grain = variant < 4 ? 7 : 1;
            j->late = variant >= 2;
            j->abort_at = -1;
            slm_parallel_stages(n_threads, take_stages, j);
            for (int s = 0; s < STAGES; s++)
                for (uint32_t i = 0; i < j->n; i++)
                    wrong += atomic_load(&j->done[s][i]) != 1;
            CHECK(wrong == 0 && atomic_load(&j->wrong) == 0, "%d threads, variant %d: %d items, %d orders wrong", n_threads, variant, wrong,
                  atomic_load(&j->wrong));
            CHECK(atomic_load(&j->began) >= 1 && atomic_load(&j->began) <= n_threads, "%d threads began", atomic_load(&j->began));
        }
    for (int n_threads = 1; n_threads <= 4; n_threads++) {
        memset(j, 0, sizeof *j);
        j->n = ITEMS;
        j->grain = 3;
        j->abort_at = STAGES / 2;
        slm_parallel_stages(n_threads, take_stages, j);
        int after = 0;
        for (int s = STAGES / 2 + 1; s < STAGES; s++)
            for (uint32_t i = 0; i < j->n; i++)
                after += atomic_load(&j->done[s][i]);
        CHECK(after == 0, "%d threads: %d items after the abort", n_threads, after);
        CHECK(run(n_threads, 5) == 0, "the next region is sound");
    }
    free(j);
}

/* Signal masks of all threads but the first: SigBlk in /proc must hold every signal that can be blocked but SIGBUS. */
static void test_signals(void)
{
    CHECK(run(3, 5) == 0, "run");
    int workers = 0;
    DIR *d = opendir("/proc/self/task");
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        char path[300], line[200];
        unsigned long long blocked = 0;
        if (e->d_name[0] == '.' || atoi(e->d_name) == getpid())
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", e->d_name);
        FILE *f = fopen(path, "r");
        while (f != NULL && fgets(line, sizeof line, f) != NULL)
            if (strncmp(line, "SigBlk:", 7) == 0)
                blocked = strtoull(line + 7, NULL, 16);
        if (f != NULL)
            fclose(f);
        workers++;
        CHECK((blocked & 0x7ffbfeffULL) == 0x7ffbfebfULL, "worker's mask is %llx", blocked); /* all of 1..31 but BUS, KILL and STOP */
    }
    if (d != NULL)
        closedir(d);
    CHECK(workers == 2, "%d workers seen", workers);
}

static void test_fork(void)
{
    CHECK(run(3, 5) == 0, "before fork");
    pid_t pid = fork();
    if (pid == 0) {
        int bad = count_threads() != 1;
        bad |= run(3, 5) != 0;
        bad |= count_threads() != 3;
        slm_threads_release();
        bad |= count_threads() != 1;
        _exit(bad);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "child: %d", status);
    CHECK(run(3, 5) == 0, "the parent's pool still works");
}

static void test_nested(void)
{
    job *j = calloc(1, sizeof *j);
    if (j == NULL)
        return;
    j->grain = 10;
    slm_parallel(1, nested, j);
    CHECK(atomic_load(&j->wrong) == 0, "a region from a single-threaded one");
    memset(j, 0, sizeof *j);
    j->grain = 10;
    slm_parallel(1, nested, j);
    CHECK(atomic_load(&j->taken[5]) == STAGES, "ran once");
    free(j);
}

static void idle(void *arg, slm_team *team, int thread, int n_threads)
{
    atomic_int *ran = arg;
    (void) team, (void) thread;
    atomic_fetch_add(ran, n_threads == 1 ? 100 : 1);
}

static void in_region(void *arg, slm_team *team, int thread, int n_threads)
{
    (void) team, (void) n_threads;
    if (thread == 0)
        slm_parallel(2, idle, arg);
}

/* Parked workers sleep: two regions with a pause between them use hardly any CPU time while nothing runs. */
static void test_parked(void)
{
    CHECK(run(4, 5) == 0, "run");
    struct timespec a, b, pause = {0, 200000000};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    nanosleep(&pause, NULL);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    double used = (double) (b.tv_sec - a.tv_sec) + 1e-9 * (double) (b.tv_nsec - a.tv_nsec);
    CHECK(used < 0.05, "%.3f s of CPU in 0.2 s of rest", used);
    atomic_int ran = 0;
    slm_parallel(2, in_region, &ran);
    CHECK(atomic_load(&ran) == 100, "a nested region runs on its caller alone: %d", atomic_load(&ran));
}

int main(void)
{
    test_stages();
    test_workers();
    test_signals();
    slm_threads_release();
    test_fork();
    test_nested();
    test_elastic();
    test_parked();
    slm_threads_release();
    TEST_MAIN_END("threads");
}
