/*
 * supervisor.c: the background worker that starts slm_engine, looks after it, and learns from its deaths.
 *
 *   wanted ──► start ──► starting ──ready──► running ──┬─ dies, stands still (killed) ──► start: at once, later if it dies at once again
 *                                                      └─ the server stops: told to stop, then killed
 *
 * The process gets four things: standard error, whose lines come to the server's log; the shared state (wire/state.h), which stays when it
 * dies; the postmaster's pipe, which ends with the postmaster; and a signal of the kernel when this worker dies.  It has no other file of
 * the server's open and none of its memory mapped.
 *
 * A death is blamed on what was being computed when it was a fault of the process itself, when the kernel took it for want of memory, and
 * when it hung.  One that was killed or stopped from outside is nobody's fault.
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "postmaster/postmaster.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "engine/slm.h"
#include "pg/base/compat.h"
#include "pg/base/guc.h"
#include "pg/models/store.h"
#include "pg/models/tuning.h"
#include "pg/run/engine.h"

#define START_MS 5       /* between looks while it starts */
#define LOOK_MS 200      /* while it runs */
#define IDLE_MS 10000
#define STOPPED_LOOKS 3  /* so often found stopped: it is killed */
#define QUICK_MS 1000    /* a death so soon after the start is a failure to start */
#define MOST_WAIT_MS 30000
#define STOP_MS 500      /* from being told to stop until it is killed */

enum { FD_STATE = 3, FD_ALIVE = 4, FD_FIRST_FREE = 5 };

PGDLLEXPORT void slm_pg_engine_supervisor_main(Datum arg);

static slm_engine_state *state;
static int state_fd = -1, log_fd = -1;
static pid_t engine;              /* 0: none */
static TimestampTz started, not_before;
static bool killed_hung, killed_stopped;
static uint64 last_beats, last_faults, ooms_before, last_tokens;
static TimestampTz last_moved, last_looked;
static int stopped_looks;
static char log_line[1024];
static size_t log_used;
static uint32 wait_event;

/* ---- what the system says */

/* The number behind a name in a file of lines "name number"; 0: there is none. */
static uint64 number_in(const char *path, const char *name)
{
    FILE *file = fopen(path, "r");
    char line[256];
    uint64 value = 0;
    size_t n = strlen(name);

    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, name, n) == 0 && line[n] == ' ')
            value = strtou64(line + n + 1, NULL, 10);
    if (file != NULL)
        fclose(file);
    return value;
}

/* State letter and major faults of the process. */
static char look_at(pid_t pid, uint64 *faults)
{
    char path[64], text[512], *end, letter = '?';
    unsigned long major = 0;
    int fd;
    ssize_t n;

    snprintf(path, sizeof path, "/proc/%d/stat", (int) pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[Max(n, 0)] = '\0';
    end = strrchr(text, ')');
    if (end != NULL && sscanf(end + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %lu", &letter, &major) == 2)
        *faults = major;
    return letter;
}

/* ---- shared memory */

static void publish(bool ready)
{
    SlmEngineShared *e = slm_pg_engine;

    LWLockAcquire(e->lock, LW_EXCLUSIVE);
    e->pid = engine;
    e->ready = ready;
    e->started = started;
    LWLockRelease(e->lock);
    ConditionVariableBroadcast(&e->changed);
}

static void copy_figures(void)
{
    slm_state_figures *figures = palloc(sizeof *figures);
    uint32 before = atomic_load(&state->figures_changes);
    TimestampTz now = GetCurrentTimestamp();
    uint64 tokens;

    *figures = state->figures;
    pg_read_barrier();
    if (before % 2 == 0 && atomic_load(&state->figures_changes) == before) {
        double seconds = 1e-6 * (double) (now - last_looked);

        tokens = figures->prompt_tokens - figures->reused_tokens + figures->output_tokens;
        LWLockAcquire(slm_pg_engine->lock, LW_EXCLUSIVE);
        slm_pg_engine->figures = *figures;
        if (seconds > 0.9) {
            slm_pg_engine->tokens_per_second = tokens < last_tokens ? 0 : (double) (tokens - last_tokens) / seconds;
            last_tokens = tokens;
            last_looked = now;
        }
        LWLockRelease(slm_pg_engine->lock);
    }
    pfree(figures);
}

/* ---- its log */

static void put_line(void)
{
    for (size_t i = 0; i < log_used; i++)
        if (log_line[i] < ' ' || log_line[i] > '~')
            log_line[i] = '?';
    log_line[log_used] = '\0';
    if (log_used > 0)
        ereport(LOG, (errmsg("slm_engine: %s", log_line)));
    log_used = 0;
}

static void read_log(void)
{
    char bytes[1024];
    ssize_t n;

    while (log_fd >= 0 && (n = read(log_fd, bytes, sizeof bytes)) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            if (bytes[i] == '\n' || log_used == sizeof log_line - 1)
                put_line();
            if (bytes[i] != '\n')
                log_line[log_used++] = bytes[i];
        }
    }
}

/* ---- start */

static void make_directory(void)
{
    struct stat st;

    if (mkdir(SLM_ENGINE_DIRECTORY, S_IRWXU) != 0 && errno != EEXIST)
        ereport(ERROR, (errcode_for_file_access(), errmsg("could not create directory \"%s\": %m", SLM_ENGINE_DIRECTORY)));
    if (lstat(SLM_ENGINE_DIRECTORY, &st) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() ||
        chmod(SLM_ENGINE_DIRECTORY, S_IRWXU) != 0)
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("\"%s\" in the data directory is not a directory of the server's user", SLM_ENGINE_DIRECTORY)));
}

static void make_state(void)
{
    state_fd = memfd_create("slm_engine", MFD_CLOEXEC);
    if (state_fd < 0 || ftruncate(state_fd, sizeof *state) != 0)
        ereport(ERROR, (errcode_for_file_access(), errmsg("could not make the memory of the engine process: %m")));
    state = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, state_fd, 0);
    if (state == MAP_FAILED)
        ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not map the memory of the engine process: %m")));
    state->version = SLM_STATE_VERSION;
}

static void set_limits(void)
{
    atomic_store(&state->memory_bytes, (uint64) slm_guc_engine_memory_kb * 1024);
    atomic_store(&state->n_threads, (uint32) Max(slm_guc_max_threads, 0));
}

/* The new process, on its way to being another program: nothing but system calls. */
static pg_noreturn void become(char *const *argv, int log_to, int alive);

static void become(char *const *argv, int log_to, int alive)
{
    static char *const environment[] = {"LANG=C", "PATH=/usr/bin:/bin", NULL};
    int none = open("/dev/null", O_RDWR), adj;
    sigset_t nothing;

    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() == 1)
        _exit(1);
    setpgid(0, 0);
    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_DFL);
    sigemptyset(&nothing);
    sigprocmask(SIG_SETMASK, &nothing, NULL);
    /* above those that are wanted first, so that none is overwritten before it is copied */
    none = fcntl(none, F_DUPFD, 20);
    log_to = fcntl(log_to, F_DUPFD, 20);
    alive = fcntl(alive, F_DUPFD, 20);
    state_fd = fcntl(state_fd, F_DUPFD, 20);
    if (dup2(none, 0) < 0 || dup2(none, 1) < 0 || dup2(log_to, 2) < 0 || dup2(state_fd, FD_STATE) < 0 || dup2(alive, FD_ALIVE) < 0)
        _exit(1);
#ifdef SYS_close_range
    if (syscall(SYS_close_range, FD_FIRST_FREE, ~0U, 0) != 0)
#endif
        for (int fd = FD_FIRST_FREE; fd < 65536; fd++)
            close(fd);
    adj = open("/proc/self/oom_score_adj", O_WRONLY); /* if somebody must go, then it */
    if (adj >= 0) {
        (void) !write(adj, "500", 3);
        close(adj);
    }
    execve(argv[0], argv, environment);
    _exit(127);
}

static char *program(void)
{
    return slm_guc_engine_program[0] != '\0' ? slm_guc_engine_program : psprintf("%s/slm_engine", pkglib_path);
}

static void forget_life(void)
{
    atomic_store(&state->ready, 0);
    atomic_store(&state->beats, 0);
    atomic_store(&state->at_work, 0);
    atomic_store(&state->fault, 0);
    atomic_store(&state->n_flight, 0);
    atomic_store(&state->figures_changes, 0);
    memset(&state->figures, 0, sizeof state->figures);
    last_beats = last_faults = last_tokens = 0;
    stopped_looks = 0;
    killed_hung = killed_stopped = false;
}

static void start_engine(void)
{
    char *argv[] = {program(), "--images", slm_pg_store_directory(), "--socket", SLM_ENGINE_SOCKET, "--state", psprintf("%d", FD_STATE),
                    "--alive", psprintf("%d", FD_ALIVE), "--isa", pstrdup(GetConfigOption("slm.isa", false, false)), "--huge-pages",
                    pstrdup(GetConfigOption("slm.huge_pages", false, false)), "--ahead", NULL, NULL};
    int ends[2];

    slm_pg_tune();
    argv[14] = psprintf("%u", slm_tuning_get().ahead);
    forget_life();
    set_limits();
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        ereport(ERROR, (errcode_for_file_access(), errmsg("could not make a pipe: %m")));
    ooms_before = number_in("/proc/vmstat", "oom_kill");
    started = last_moved = last_looked = GetCurrentTimestamp();
    engine = fork();
    if (engine == 0)
        become(argv, ends[1], postmaster_alive_fds[POSTMASTER_FD_WATCH]);
    close(ends[1]);
    if (engine < 0) {
        close(ends[0]);
        engine = 0;
        ereport(ERROR, (errmsg("could not start the engine process: %m")));
    }
    log_fd = ends[0];
    LWLockAcquire(slm_pg_engine->lock, LW_EXCLUSIVE);
    slm_pg_engine->life++;
    LWLockRelease(slm_pg_engine->lock);
    publish(false);
}

/* ---- death */

static bool known(const slm_digest *list, uint32 n, slm_digest d)
{
    for (uint32 i = 0; i < n; i++)
        if (list[i].low == d.low && list[i].high == d.high)
            return true;
    return false;
}

/* What was being computed is suspect; a suspect that was alone is guilty. */
static void learn(void)
{
    uint32 n = Min(atomic_load(&state->n_flight), SLM_FLIGHT_MOST);

    state->n_suspects = Min(state->n_suspects, SLM_FLIGHT_MOST);
    state->n_poison = Min(state->n_poison, SLM_POISON_MOST);
    state->flight_model[SLM_STATE_NAME - 1] = '\0';
    if (n == 1 && known(state->suspects, state->n_suspects, state->flight[0])) {
        if (state->n_poison == SLM_POISON_MOST)
            memmove(state->poison, state->poison + 1, --state->n_poison * sizeof *state->poison);
        state->poison[state->n_poison++] = state->flight[0];
        ereport(LOG, (errmsg("slm_engine has died of a request twice, which is refused from now on"),
                      errdetail("Request %016llx%016llx, image \"%s\".", (unsigned long long) state->flight[0].high,
                                (unsigned long long) state->flight[0].low, state->flight_model)));
        return;
    }
    for (uint32 i = 0; i < n && state->n_suspects < SLM_FLIGHT_MOST; i++)
        if (!known(state->suspects, state->n_suspects, state->flight[i]))
            state->suspects[state->n_suspects++] = state->flight[i];
}

static bool is_blamed(int status)
{
    if (killed_hung || (!killed_stopped && atomic_load(&state->fault) != 0))
        return true;
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && number_in("/proc/vmstat", "oom_kill") > ooms_before;
}

static const char *end_in_words(int status)
{
    if (killed_hung)
        return "stood still and was killed";
    if (killed_stopped)
        return "was stopped by a signal and then killed";
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return psprintf("could not be started: there is no program \"%s\"", program());
    if (WIFEXITED(status))
        return psprintf("ended with status %d", WEXITSTATUS(status));
    return psprintf("was ended by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
}

static void has_died(int status)
{
    bool blamed = is_blamed(status), quick = !atomic_load(&state->ready) || (blamed && GetCurrentTimestamp() - started < QUICK_MS * 1000L);
    const char *words = end_in_words(status);
    SlmEngineShared *e = slm_pg_engine;
    uint32 failures;

    read_log();
    put_line();
    close(log_fd);
    log_fd = -1;
    engine = 0;
    ereport(LOG, (errmsg("slm_engine %s", words),
                  errdetail("%u requests were being computed.", Min(atomic_load(&state->n_flight), SLM_FLIGHT_MOST))));
    if (blamed)
        learn();
    LWLockAcquire(e->lock, LW_EXCLUSIVE);
    e->restarts++;
    e->blamed += blamed;
    e->hangs += killed_hung || killed_stopped;
    e->failures = failures = quick ? e->failures + 1 : 0;
    strlcpy(e->last_end, words, sizeof e->last_end);
    memset(&e->figures, 0, sizeof e->figures);
    e->tokens_per_second = 0;
    LWLockRelease(e->lock);
    not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), failures <= 2 ? 0 : Min(100 << Min(failures, 9), MOST_WAIT_MS));
    publish(false);
}

static void kill_engine(int signal_number)
{
    if (engine > 0)
        (void) kill(engine, signal_number);
}

/* ---- looking after it */

static void look_for_hang(void)
{
    uint64 beats = atomic_load(&state->beats), faults = last_faults;
    static TimestampTz looked;
    TimestampTz now = GetCurrentTimestamp();
    bool away = now - looked > 20 * LOOK_MS * 1000; /* the machine, or this process, stood still itself */
    char letter = 'R';

    looked = now;
    if (beats == last_beats)
        letter = look_at(engine, &faults);
    stopped_looks = letter == 'T' ? stopped_looks + 1 : 0;
    if (beats != last_beats || faults != last_faults || letter == 't' || away || !atomic_load(&state->at_work))
        last_moved = now;
    last_beats = beats;
    last_faults = faults;
    if (stopped_looks >= STOPPED_LOOKS) {
        killed_stopped = true;
        kill_engine(SIGKILL);
    } else if (slm_guc_engine_timeout_ms > 0 && now - last_moved > (int64) slm_guc_engine_timeout_ms * 1000) {
        killed_hung = true;
        kill_engine(SIGKILL);
    }
}

static void look_after(void)
{
    int status;

    read_log();
    if (waitpid(engine, &status, WNOHANG) == engine) {
        has_died(status);
        return;
    }
    if (atomic_load(&state->ready) && !slm_pg_engine->ready)
        publish(true);
    if (slm_pg_engine->ready) {
        look_for_hang();
        copy_figures();
    }
}

/* What the process was started with has another value now. */
static void reload(void)
{
    char *images = slm_pg_store_directory(), *isa = pstrdup(GetConfigOption("slm.isa", false, false));
    char *pages = pstrdup(GetConfigOption("slm.huge_pages", false, false));

    ProcessConfigFile(PGC_SIGHUP);
    set_limits();
    if (strcmp(images, slm_pg_store_directory()) != 0 || strcmp(isa, GetConfigOption("slm.isa", false, false)) != 0 ||
        strcmp(pages, GetConfigOption("slm.huge_pages", false, false)) != 0)
        kill_engine(SIGTERM);
}

static void stop(int code, Datum arg)
{
    int status;

    kill_engine(SIGTERM);
    for (int ms = 0; engine > 0 && waitpid(engine, &status, WNOHANG) == 0; ms += 5) {
        if (ms == STOP_MS)
            kill_engine(SIGKILL);
        pg_usleep(5000);
    }
    engine = 0;
    (void) unlink(SLM_ENGINE_SOCKET);
    LWLockAcquire(slm_pg_engine->lock, LW_EXCLUSIVE);
    slm_pg_engine->supervisor = 0;
    LWLockRelease(slm_pg_engine->lock);
    publish(false);
}

static void on_child(SIGNAL_ARGS)
{
    int saved = errno;

    SetLatch(MyLatch);
    errno = saved;
}

static void begin(void)
{
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
    pqsignal(SIGCHLD, on_child);
    BackgroundWorkerUnblockSignals();
    wait_event = SLM_WAIT_EVENT("SlmEngineSupervisor");
    make_directory();
    make_state();
    before_shmem_exit(stop, (Datum) 0);
    LWLockAcquire(slm_pg_engine->lock, LW_EXCLUSIVE);
    slm_pg_engine->supervisor = MyProcPid;
    slm_pg_engine->latch = MyLatch;
    slm_pg_engine->ready = false;
    slm_pg_engine->pid = 0;
    LWLockRelease(slm_pg_engine->lock);
    ConditionVariableBroadcast(&slm_pg_engine->changed);
}

/* How long there is nothing to do. */
static long pause_ms(void)
{
    if (engine > 0)
        return slm_pg_engine->ready ? LOOK_MS : START_MS;
    if (!slm_pg_engine->wanted)
        return IDLE_MS;
    return Max(1, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), not_before));
}

void slm_pg_engine_supervisor_main(Datum arg)
{
    MemoryContext context = AllocSetContextCreate(TopMemoryContext, "slm_pg supervisor", ALLOCSET_SMALL_SIZES);

    begin();
    MemoryContextSwitchTo(context);
    while (!ShutdownRequestPending) {
        MemoryContextReset(context);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
        if (ConfigReloadPending) {
            ConfigReloadPending = false;
            reload();
        }
        if (engine > 0)
            look_after();
        if (engine == 0 && slm_pg_engine->wanted && GetCurrentTimestamp() >= not_before)
            start_engine();
        (void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, pause_ms(), wait_event);
    }
    proc_exit(0);
}
