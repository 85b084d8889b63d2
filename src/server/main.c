/*
 * slm_engine: options, signals, the loop (server.h says what it is).
 *
 *   slm_engine --images DIRECTORY --socket PATH     serves whoever of the same user connects, until it is told to stop
 *   slm_engine --images DIRECTORY --connection FD   serves one connection, a socket that it was started with (0: standard input)
 *
 * The supervisor gives it besides: --state FD, the memory that they share (wire/state.h), and --alive FD, a pipe that ends with the server.
 * It never outlives either: the kernel kills it when its parent dies.  What it has to say goes to standard error, a line each.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "server/server.h"

#define DEFAULT_MEMORY ((uint64_t) 1 << 30)
#define LOOK_NS 200000000u /* between looks at figures and memory */

slm_engine_state *slm_server_state;
static volatile sig_atomic_t told_to_stop;

typedef struct options {
    const char *images, *socket, *isa, *huge_pages;
    int connection, state, alive;
    uint32_t ahead, threads;
    uint64_t memory;
} options;

void slm_server_log(const char *format, ...)
{
    char line[1024];
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(line, sizeof line - 1, format, args);
    va_end(args);
    if (n < 0)
        return;
    n = n < (int) sizeof line - 1 ? n : (int) sizeof line - 2;
    line[n] = '\n';
    if (write(STDERR_FILENO, line, (size_t) n + 1) < 0)
        return; /* nobody listens */
}

uint64_t slm_server_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000000000u + (uint64_t) t.tv_nsec;
}

/* ---- set-up */

static bool parse(int argc, char **argv, options *o)
{
    static const struct option known[] = {{"images", 1, NULL, 'i'}, {"socket", 1, NULL, 's'}, {"connection", 1, NULL, 'c'},
                                          {"state", 1, NULL, 'S'}, {"alive", 1, NULL, 'A'}, {"isa", 1, NULL, 'I'},
                                          {"huge-pages", 1, NULL, 'H'}, {"ahead", 1, NULL, 'a'}, {"threads", 1, NULL, 't'},
                                          {"memory", 1, NULL, 'm'}, {NULL, 0, NULL, 0}};
    int c;

    *o = (options){.connection = -1, .state = -1, .alive = -1, .memory = DEFAULT_MEMORY};
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (c) {
        case 'i': o->images = optarg; break;
        case 's': o->socket = optarg; break;
        case 'c': o->connection = atoi(optarg); break;
        case 'S': o->state = atoi(optarg); break;
        case 'A': o->alive = atoi(optarg); break;
        case 'I': o->isa = optarg; break;
        case 'H': o->huge_pages = optarg; break;
        case 'a': o->ahead = (uint32_t) strtoul(optarg, NULL, 10); break;
        case 't': o->threads = (uint32_t) strtoul(optarg, NULL, 10); break;
        case 'm': o->memory = strtoull(optarg, NULL, 10); break;
        default: return false;
        }
    }
    return o->images != NULL && (o->socket != NULL) != (o->connection >= 0) && optind == argc;
}

static bool share_state(const options *o)
{
    int flags = o->state >= 0 ? MAP_SHARED : MAP_SHARED | MAP_ANONYMOUS;
    struct stat st;

    if (o->state >= 0 && (fstat(o->state, &st) != 0 || st.st_size < (off_t) sizeof *slm_server_state))
        return false;
    slm_server_state = mmap(NULL, sizeof *slm_server_state, PROT_READ | PROT_WRITE, flags, o->state, 0);
    if (slm_server_state == MAP_FAILED)
        return false;
    if (o->state >= 0)
        return slm_server_state->version == SLM_STATE_VERSION;
    slm_server_state->version = SLM_STATE_VERSION;
    atomic_store(&slm_server_state->memory_bytes, o->memory);
    atomic_store(&slm_server_state->n_threads, o->threads);
    return true;
}

/* A socket of our own user's; one that an engine before has left is taken away. */
static int listen_on(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t mask = umask(0177);
    bool bound;

    if (fd < 0 || strlen(path) >= sizeof address.sun_path)
        return -1;
    strcpy(address.sun_path, path);
    (void) unlink(path);
    bound = bind(fd, (struct sockaddr *) &address, sizeof address) == 0 && listen(fd, 512) == 0;
    umask(mask);
    return bound ? fd : -1;
}

static void on_stop(int number)
{
    (void) number;
    told_to_stop = 1;
}

static void watch_signals(void)
{
    struct sigaction stop = {.sa_handler = on_stop}, ignore = {.sa_handler = SIG_IGN};

    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGHUP, &ignore, NULL);
    slm_flight_watch_faults();
}

static bool tune(const options *o)
{
    slm_tuning tuning = {.ahead = o->ahead};
    slm_error err;

    if ((o->isa != NULL && slm_set_isa(o->isa, &err) != SLM_OK) ||
        (o->huge_pages != NULL && slm_set_huge_pages(o->huge_pages, &err) != SLM_OK)) {
        slm_server_log("%s", err.message);
        return false;
    }
    if (o->ahead > 0)
        slm_tuning_set(&tuning);
    return true;
}

/* ---- the loop */

static void look_around(bool idle)
{
    static uint64_t last;
    slm_state_figures figures;
    uint64_t now = slm_server_now_ns();

    if (!idle && now - last < LOOK_NS)
        return;
    last = now;
    slm_models_idle();
    slm_models_progress();
    slm_models_figures(&figures);
    slm_flight_publish(&figures);
}

static void serve(int listener, int alive)
{
    int ms = -1;

    while (!told_to_stop && slm_clients_poll(listener, alive, ms < 0 ? 1000 : ms)) {
        atomic_store(&slm_server_state->at_work, 1);
        ms = slm_models_step();
        slm_clients_flush();
        atomic_fetch_add(&slm_server_state->beats, 1);
        atomic_store(&slm_server_state->at_work, 0);
        look_around(ms < 0);
    }
}

int main(int argc, char **argv)
{
    options o;
    int listener = -1;

    if (!parse(argc, argv, &o)) {
        slm_server_log("usage: slm_engine --images DIRECTORY {--socket PATH | --connection FD} [--memory BYTES] [--threads N] [--isa NAME] "
                       "[--huge-pages try|on|off]");
        return 2;
    }
    if (o.state >= 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!share_state(&o)) {
        slm_server_log("could not map the state: %s", strerror(errno));
        return 1;
    }
    watch_signals();
    if (!tune(&o))
        return 1;
    slm_models_init(o.images);
    if (o.socket != NULL && (listener = listen_on(o.socket)) < 0) {
        slm_server_log("could not listen on \"%s\": %s", o.socket, strerror(errno));
        return 1;
    }
    if (o.connection >= 0)
        slm_clients_add(o.connection);
    atomic_store(&slm_server_state->ready, 1);
    serve(listener, o.alive);
    if (o.socket != NULL)
        (void) unlink(o.socket);
    return 0;
}
